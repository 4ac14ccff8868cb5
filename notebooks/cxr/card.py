"""The model card: who may use the network for what, on whom it was tested, and where it fails, in its own figures."""

# ruff: noqa: E501 (prose)

from .archive import HANDLE


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def with_interval(value: float, interval: list[float]) -> str:
    """``0.931 (0.911 to 0.950)``."""
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def plus_minus(mean: float, deviation: float | None) -> str:
    """``0.931 ± 0.004``, or the mean alone where one seed has no deviation (None or NaN)."""
    return f"{mean:.3f}" if deviation is None or deviation != deviation else f"{mean:.3f} ± {deviation:.3f}"


def write(metrics: dict, run: dict, opened: int) -> str:
    """A model card after Mitchell et al. 2019 (FAT*, "Model cards for model reporting").

    Parameters
    ----------
    metrics : dict
        What 05 writes into ``05_metrics.json``; every figure of the card comes from it.
    run : dict
        ``04_run.json``.
    opened : int
        How often the test folder has been scored, by the ledger.

    Returns
    -------
    str
        Markdown.
    """
    test, flow = metrics["test"], metrics["flow"]
    own, interval, seeds = test["at_chosen_threshold"], test["intervals_95"], test["seeds"]
    rows = "\n".join(
        f"| {title} | {with_interval(own[name], interval[name])} | {plus_minus(seeds['mean'][name], seeds['sd'][name])} "
        f"| {test['ensemble'][name]:.3f} |"
        for name, title in (("accuracy", "accuracy"), ("auc", "AUC"), ("sensitivity", "sensitivity"),
                            ("specificity", "specificity"), ("ppv", "PPV"), ("npv", "NPV")))
    groups = "\n".join(f"- {row['group']}, {row['images']} films: " + ", ".join(
        f"{title} " + with_interval(row[name], [row[f"{name}_low"], row[f"{name}_high"]])
        for name, title in (("sensitivity", "sensitivity"), ("specificity", "specificity")) if row[name] is not None)
        for row in test["subgroups"][1:])
    bedside = "\n".join(f"| {row['use']} | {row['threshold']:.3f} | {_percent(row['prevalence'])} | {row['ppv']:.3f} "
                        f"| {row['npv']:.3f} |" for row in test["at_bedside"])
    minded = sorted(test["robustness"], key=lambda row: -row["flipped"])[:3]
    softened = list(test["calibration"].values())[-1]
    known = metrics["data_set"].startswith(HANDLE)
    source = " (Kermany, Zhang, Goldbaum 2018, doi 10.17632/rscbjbr9sj.2, CC BY 4.0)" if known else ""
    people = ("children of one to five years, Guangzhou Women and Children's Medical Center; two physicians graded the films, and a third one "
              "checked the test folder" if known else "of whom the file names tell nothing more")
    adults = ("An earlier network of this kind, trained on these films, had an AUC of .42 to .49 on 1,000 films of adults of another country: "
              "no better than guessing. " if known else "")
    opened_before = ("before it existed, an earlier network of this project was scored there five times, and clues without a lung are scored "
                     "there by 02" if known else "clues without a lung are scored there by 02 as well")
    seen = ("\nThe direction of the training (framing, corners, sharpness) follows an analysis that had looked at the test folder: which normal "
            "films models stumble over was known before. No recipe, epoch, threshold or seed of this project was chosen by a test figure, but "
            "the test folder is not unseen by its authors.\n" if known else "")
    warning = "\n**SYNTHETIC: the figures below come from drawn pictures and say nothing about X-rays.**\n"
    return f"""# Model card: pneumonia or normal, on children's chest X-rays
{warning if metrics["synthetic"] else ""}
Written by `05_evaluate.ipynb` from `05_metrics.json`; do not edit.

## What it is

A convolutional network of {run["parameters"]:,} parameters, trained from scratch at {run["image_size"]}x{run["image_size"]} pixels
(`04_xray_classification_model.keras`; seed {run["kept_seed"]}, the median of {run["seeds"]} by validation under stress). Input: one
frontal chest X-ray, gray, squeezed into the square, values 0 to 255, shape (images, {run["image_size"]}, {run["image_size"]}, 1).
Output: a number from 0 to 1; from {own["threshold"]:.3f} on it says pneumonia.

## What it is for, and what not

For learning how such a network is built, tested and doubted. **It is not a diagnostic device** and must not take part in the care of a
patient. It was never tested on other hospitals, on lateral films, on photographs of films, or on any other disease. {adults}

## Who is in the data

*{metrics["data_set"]}*{source}: {flow["all"]["images"]:,} films of
{flow["all"]["patients"]:,} patients: {people}. Patients are told apart by file name (number and kind). Trained on
{flow["train"]["images"]:,} films of {flow["train"]["patients"]:,} patients, validated on {flow["val"]["images"]:,} of {flow["val"]["patients"]:,},
tested on the official test folder, {flow["test"]["images"]:,} of {flow["test"]["patients"]:,}; no patient in two of them. Age, sex, date and device of a film are unknown,
so nothing can be said about fairness between such groups.

## How well it does

| test folder, {flow["test"]["images"]:,} films | kept network (95% interval) | mean ± SD of {seeds["count"]} seeds | ensemble |
|---|---|---|---|
{rows}

Intervals: {metrics["intervals_how"]}. Thresholds: {metrics["thresholds_how"]}. Networks were scored on the test folder {opened} time{"s" * (opened > 1)} by
`05_test_ledger.csv` ({opened_before}). A plain CNN (one seed, {run["plain"]["epochs"]} epochs, no augmentation): accuracy {test["plain"]["accuracy"]:.3f}, AUC {test["plain"]["auc"]:.3f}.

| use | threshold | prevalence | PPV | NPV |
|---|---|---|---|---|
{bedside}

Calibration after a temperature of {test["calibration"]["temperature"]:.2f} (fitted on validation): Brier {softened["brier"]:.3f},
ECE {softened["ece"]:.3f}, slope {softened["slope"]:.2f}, intercept {softened["intercept"]:.2f}.

## Where it fails

{groups}

Decisions flip most when the same film is {", ".join(f"{row['change']} ({_percent(row['flipped'])})" for row in minded)}.
{len(test["agreement"]["wrong_in_all_seeds"])} films are wrong with all {test["agreement"]["of_seeds"]} seeds: hard, wrongly labelled, or all follow the same wrong clue.
{seen}"""
