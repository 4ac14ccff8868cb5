"""What README and the model card quote: the figures in ``results/``, put into templates; ``make figures``."""

from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError

from .artifacts import Step
from .badges import rewrite
from .kaggle.archive import HANDLE
from .paths import ROOT, Problem, command, shown

MARKS = {  # before a block of README; after it stands <!-- end of NAME -->
    "figures": "<!-- figures: written by `make figures` from results/05_metrics.json -->",
    "beyond": "<!-- beyond: written by `make figures` from results/ -->",
    "speed": "<!-- speed: written by `make figures` from benchmarks/speed.csv -->",
}
NAMES = {"accuracy": "accuracy", "auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity"}
NAMES |= {"average_precision": "average precision", "ppv": "PPV", "npv": "NPV", "f1": "F1"}


def with_interval(value: float, interval: list[float]) -> str:
    """``0.931 (0.911 to 0.950)``."""
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def plus_minus(mean: float, deviation: float | None) -> str:
    """``0.931 ± 0.004``, or the mean alone where one seed has no deviation (None or NaN)."""
    return f"{mean:.3f}" if deviation is None or deviation != deviation else f"{mean:.3f} ± {deviation:.3f}"


class _Missing(StrictUndefined):
    """A figure that the results lack: it stops the template wherever it is used, in a format too."""

    def __format__(self, form: str) -> str:
        return str(self)


TEMPLATES = Path(__file__).with_name("templates")
JINJA = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=_Missing)
JINJA.loader = FileSystemLoader(TEMPLATES)
JINJA.filters["number"] = lambda value, form=".3f": format(value, form)
JINJA.globals |= {"names": NAMES, "plus_minus": plus_minus, "with_interval": with_interval}


def _fill(name: str, **figures) -> str:
    try:
        return JINJA.get_template(name).render(figures)
    except UndefinedError as error:
        lack = f"{shown(TEMPLATES / name)} asks for a figure that is not in results/ ({error.message})"
        raise Problem(f"{lack}: run the notebook that writes it again, or correct the template.") from None


def model_card(metrics: dict, run: dict, opened: int) -> str:
    """The model card in Markdown, after Mitchell et al. 2019 (FAT*, "Model cards for model reporting").

    Its figures come from `metrics` (``05_metrics.json``), `run` (``04_run.json``) and `opened`: how often the test
    folder has been scored, by the ledger. A `Problem` where one is missing.
    """
    return _fill("model_card.md.j2", metrics=metrics, run=run, opened=opened, kaggle=HANDLE)


def figures() -> str:
    """README's table of results; a Problem where they are missing, stale, or come from the practice set."""
    step = Step("00_readme")
    metrics, run = step.read("05_metrics.json"), step.read("04_run.json")
    kept, plain_kept = (
        step.read(f"04_{name}.csv").set_index("seed").loc[run["kept_seed"]] for name in ("seeds", "plain_seeds")
    )
    if metrics["synthetic"]:
        remedy = "run the notebooks on the real X-rays before README quotes it"
        raise Problem(f"results/05_metrics.json comes from the SYNTHETIC practice set: {remedy}.")
    return _fill("readme_figures.md.j2", metrics=metrics, run=run, kept=kept, plain_kept=plain_kept)


def beyond() -> str:
    """README's table of the notebooks beyond the first five; a Problem where one's results are missing or stale."""
    step = Step("00_publish")
    files = {"metrics": "05_metrics", "explained": "06_explain", "moved": "07_metrics", "subtypes": "08_metrics"}
    files |= {"gate": "09_gate", "away": "10_external"}
    return _fill("readme_beyond.md.j2", **{name: step.read(f"{file}.json") for name, file in files.items()})


def speed() -> str:
    """README's table of speeds, from ``benchmarks/speed.csv``; a Problem where the benchmark was not run."""
    path = ROOT / "benchmarks" / "speed.csv"
    if not path.exists():
        raise Problem("benchmarks/speed.csv is missing: run make benchmark FILES=folder-of-full-size-X-rays.")
    return _fill("readme_speed.md.j2", rows=pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records"))


def write_figures() -> None:
    """Put `figures`, `beyond` and `speed` into README, each between its two marks; a Problem where it lost a mark."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, write in (("figures", figures), ("beyond", beyond), ("speed", speed)):
        start, end = MARKS[name], f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        _, ended, after = rest.partition(end)
        if not ended:
            raise Problem(f"README.md lacks a mark of its block {name}: put {start} before it and {end} after it.")
        text = f"{before}{start}\n{write()}{end}{after}"
    rewrite(path, text)


if __name__ == "__main__":
    command(write_figures)
