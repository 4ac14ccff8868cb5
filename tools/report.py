"""Write what README, docs/honesty.md and the model card quote from ``results/``: ``make figures``."""

import json
import re
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from PIL import Image

from cxr.chain import Step, ledger, notebooks
from cxr.download import HANDLE
from cxr.metrics import plus_minus, with_interval
from cxr.paths import ROOT, Problem, atomic_write, command, display_path, results_dir

PAGES = {"README.md": "readme.md.j2", "docs/honesty.md": "honesty.md.j2"}  # and the template that has their blocks
CARD = "MODEL_CARD.md"
BLOCK = re.compile(r"(<!-- (\w+): written by `make figures` from \S+ -->\n)(.*?)(<!-- end of \2 -->)", re.S)
STRIP = ("results/05_same_lungs.png", "docs/same_lungs_narrow.png")  # a strip of films, and how a phone shows it
NAMES = {"accuracy": "accuracy", "auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity"}
NAMES |= {"average_precision": "average precision", "ppv": "PPV", "npv": "NPV", "f1": "F1"}
RESULTS = {"metrics": "05_metrics", "run": "04_run", "audit": "02_audit", "explained": "06_explain"}
RESULTS |= {"moved": "07_metrics", "subtypes": "08_metrics", "gate": "09_gate", "away": "10_external"}
RESULTS |= {"augmentation": "03_augmentation", "first": "01_first_cnn", "ablation": "A2_ablation"}


class Missing(StrictUndefined):
    """A figure that the results lack stops the template, in a format too."""

    def __format__(self, form: str) -> str:
        return str(self)


JINJA = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=Missing)
JINJA.loader = FileSystemLoader(Path(__file__).with_name("templates"))
JINJA.filters["number"] = lambda value, form=".3f": format(value, form)
JINJA.globals |= {"names": NAMES, "plus_minus": plus_minus, "with_interval": with_interval}


def titles() -> dict[str, dict[str, str]]:
    """Name, file and question of each notebook, from its first cell: ``# 01 · Download: where ...?``."""
    found = {}
    for number, path in notebooks().items():
        header = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).splitlines()[0]
        name, _, question = header.partition(" · ")[2].partition(": ")
        found[number] = {"name": name, "file": path.relative_to(ROOT / "notebooks").as_posix(), "question": question}
    return found


def figures() -> dict:
    """What the templates quote; a Problem where a result is missing, stale, or of the sample."""
    step = Step("00_report")
    found = {name: step.read(f"{file}.json") for name, file in RESULTS.items()}
    if step.dataset.get("sample"):
        raise Problem(f"{display_path(results_dir())}/ is of the sample: run the notebooks on all X-rays first.")
    own, plain = (step.read(f"04_{name}.csv") for name in ("seeds", "plain_seeds"))
    seed, data_set = found["run"]["kept_seed"], found["metrics"]["data_set"]
    found |= {"own_seeds": own, "plain_seeds": plain, "notebooks": titles()}
    found["robustness"] = step.read("A3_robustness.csv").to_dict("records")
    shares = step.read("A3_swaps.csv").groupby(["network", "way", "whose"])[["lungs", "body"]]
    found |= {"ways": shares.mean().to_dict("index"), "ways_sd": shares.std().to_dict("index")}
    found |= {name: seeds.set_index("seed").loc[seed] for name, seeds in (("kept", own), ("plain_kept", plain))}
    run, resamples = found["run"], f"{found['metrics']['resamples']:,} resamples"
    found["thresholds_how"] = (
        f"on validation, as it is, under {run['stress_draws']} draws of stress and with the lungs in "
        f"{2 * run['swap_draws']} other bodies, before the test split was scored"
    )
    found["intervals_how"] = (
        f"patient-level bootstrap, {resamples} within each class, percentiles, network and threshold as they are"
    )
    return found | {"kermany": data_set.startswith(HANDLE), "opened": len(ledger("05", data_set))}


def fill(template: str, block: str = "", **values) -> str:
    """A template, or one block of it, filled; a Problem where it asks for a figure that is not there."""
    source = JINJA.get_template(template)
    try:
        text = "".join(source.blocks[block](source.new_context(values))) if block else source.render(values)
    except UndefinedError as error:
        lack = f"tools/templates/{template} asks for what is not in results/ ({error.message})"
        raise Problem(f"{lack}: run the notebook that writes it again.") from None
    return text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def filled(page: str, values: dict) -> str:
    """The text of a page with all its blocks written again; a Problem where it lost a mark."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if lost := set(JINJA.get_template(PAGES[page]).blocks) - {match[2] for match in BLOCK.finditer(text)}:
        marks = "<!-- {0}: written by `make figures` from results/ --> and <!-- end of {0} -->".format(min(lost))
        raise Problem(f"{page} lacks a mark of its block {min(lost)}: put {marks} around it.")
    return BLOCK.sub(lambda match: match[1] + fill(PAGES[page], match[2], **values) + match[4], text)


def stacked(strip: Image.Image) -> Image.Image:
    """The right half of a strip of films under its left one, parted at the white column nearest to the middle."""
    pixels = np.asarray(strip.convert("RGB"))
    white = np.flatnonzero((pixels == 255).all((0, 2)))
    cut = int(white[np.abs(white - pixels.shape[1] / 2).argmin()])
    page = np.full((2 * pixels.shape[0], max(cut, pixels.shape[1] - cut), 3), 255, np.uint8)
    for row, half in enumerate((pixels[:, :cut], pixels[:, cut:])):
        page[row * pixels.shape[0] :][: pixels.shape[0], : half.shape[1]] = half
    return Image.fromarray(page)


def main() -> None:
    """The command behind ``make figures``."""
    values = figures()
    texts = {ROOT / page: filled(page, values) for page in PAGES}
    texts[results_dir() / CARD] = fill("model_card.md.j2", **values)
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            with atomic_write(path) as unfinished:
                unfinished.write_text(text, encoding="utf-8")
            print(f"{display_path(path)} rewritten")
    strip, narrow = (ROOT / file for file in STRIP)
    with Image.open(strip) as wide:
        page = stacked(wide)
    if not narrow.exists() or not np.array_equal(np.asarray(Image.open(narrow).convert("RGB")), np.asarray(page)):
        with atomic_write(narrow) as unfinished:
            page.save(unfinished, format="PNG", optimize=True)
        print(f"{display_path(narrow)} rewritten")


if __name__ == "__main__":
    command(main)
