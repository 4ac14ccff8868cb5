"""What README and the model card quote: the figures in ``results/``, put into templates; ``make figures``."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateNotFound, UndefinedError
from PIL import Image

from cxr import fingerprint
from cxr.download import HANDLE
from cxr.chain import Step
from cxr.metrics import plus_minus, with_interval
from cxr.paths import ROOT, Problem, atomic_write, command, display_path

FILES = {  # where the block of this name stands, and what it is written from
    "headline": ("README.md", "results/"),
    "notebooks": ("README.md", "results/"),
    "figures": ("docs/honesty.md", "results/05_metrics.json"),
    "ablation": ("docs/honesty.md", "results/04_ablation.csv"),
    "beyond": ("docs/honesty.md", "results/"),
    "speed": ("benchmarks/README.md", "benchmarks/speed.csv"),
}
# Before a block; after it stands <!-- end of NAME -->.
MARKS = {name: f"<!-- {name}: written by `make figures` from {source} -->" for name, (_, source) in FILES.items()}
LEARNED = "<!-- learned: written by `make figures` from results/ -->"  # the last cell of a notebook goes on after it
STRIP = ("results/05_same_lungs.png", "docs/same_lungs_narrow.png")  # a strip of films, and how a phone shows it
NAMES = {"accuracy": "accuracy", "auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity"}
NAMES |= {"average_precision": "average precision", "ppv": "PPV", "npv": "NPV", "f1": "F1"}


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
    except TemplateNotFound:
        what = f"{display_path(TEMPLATES / name)} is missing"
        raise Problem(f"{what}: put there what the text is to say, or take it from the project again.") from None
    except UndefinedError as error:
        lack = f"{display_path(TEMPLATES / name)} asks for a figure that is not in results/ ({error.message})"
        raise Problem(f"{lack}: run the notebook that writes it again, or correct the template.") from None


def model_card(metrics: dict, run: dict, opened: int) -> str:
    """The model card in Markdown, after Mitchell et al. 2019 (FAT*, "Model cards for model reporting").

    Its figures come from `metrics` (``05_metrics.json``), `run` (``04_run.json``) and `opened`: how often the test
    folder has been scored, by the ledger. A `Problem` where one is missing.
    """
    return _fill("model_card.md.j2", metrics=metrics, run=run, opened=opened, kaggle=HANDLE)


def _unbroken(text: str) -> str:
    """`text` with no line break around a ``±``."""
    return text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def _core(step: Step) -> dict:
    """What the blocks of README share; a Problem where it is missing, stale, or comes from the practice set."""
    metrics = step.read("05_metrics.json")
    if metrics["synthetic"]:
        remedy = "run the notebooks on the real X-rays before README quotes it"
        raise Problem(f"results/05_metrics.json comes from the SYNTHETIC practice set: {remedy}.")
    tables = {"own_seeds": step.read("04_seeds.csv"), "plain_seeds": step.read("04_plain_seeds.csv")}
    return {"metrics": metrics, "audit": step.read("02_audit.json"), **tables}


def _beyond(step: Step) -> dict:
    """The results of the notebooks beyond the first five; a Problem where one's are missing or stale."""
    files = {"explained": "06_explain", "moved": "07_metrics", "subtypes": "08_metrics"}
    files |= {"gate": "09_gate", "away": "10_external"}
    return {name: step.read(f"{file}.json") for name, file in files.items()}


def headline() -> str:
    """README's finding, and its table of four figures."""
    return _unbroken(_fill("readme_headline.md.j2", **_core(Step("00_readme"))))


def notebooks() -> str:
    """README's table of the notebooks: the question in the title of each, and its answer in a line."""
    step, titles = Step("00_readme"), dict[str, dict[str, str]]()
    for number, path in fingerprint.notebooks().items():
        header = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        title = header.splitlines()[0].partition(" · ")[2]  # of "# 01 · Download: where do the X-rays come from?"
        name, _, question = title.partition(": ")
        titles[number] = {"name": name, "file": path.name, "question": question}
    layers = step.read("03_augmentation.json")["layers"]
    return _unbroken(_fill("readme_notebooks.md.j2", notebooks=titles, layers=layers, **_core(step), **_beyond(step)))


def figures() -> str:
    """All figures of the test folder; a Problem where they are missing, stale, or come from the practice set."""
    step = Step("00_readme")
    core, run = _core(step), step.read("04_run.json")
    kept, plain_kept = (core[name].set_index("seed").loc[run["kept_seed"]] for name in ("own_seeds", "plain_seeds"))
    filled = _fill("honesty_figures.md.j2", metrics=core["metrics"], run=run, kept=kept, plain_kept=plain_kept)
    return _unbroken(filled)


def ablation() -> str:
    """The table of what each idea buys: means over the seeds of a row."""
    table = Step("00_readme").read("04_ablation.csv")
    rows = table.groupby("row", sort=False).mean(numeric_only=True).assign(seeds=table.groupby("row").size())
    epochs = " or ".join(map(str, sorted(table.epochs.unique())))
    return _fill("honesty_ablation.md.j2", rows=rows.reset_index().to_dict("records"), epochs=epochs)


def beyond() -> str:
    """The table of the notebooks beyond the first five; a Problem where one's results are missing or stale."""
    step = Step("00_readme")
    return _unbroken(_fill("honesty_beyond.md.j2", metrics=step.read("05_metrics.json"), **_beyond(step)))


def speed() -> str:
    """The table of speeds, from ``benchmarks/speed.csv``; a Problem where the benchmark was not run."""
    path = ROOT / "benchmarks" / "speed.csv"
    if not path.exists():
        raise Problem("benchmarks/speed.csv is missing: run make benchmark FILES=folder-of-full-size-X-rays.")
    return _fill("benchmarks_speed.md.j2", rows=pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records"))


def learned(number: str) -> str:
    """What the notebook of this number taught, from its own results and earlier ones."""
    filled = _fill(f"learned_{number}.md.j2", read=Step("00_readme").read)
    return _unbroken(filled).rstrip("\n")


def conclude(notebook: Path) -> None:
    """Write `learned` into the last cell of an executed notebook, if that has the mark for it."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    cell = content["cells"][-1]
    source = "".join(cell["source"])
    before, mark, _ = source.partition(LEARNED)
    text = f"{before}{mark}\n{learned(notebook.name[:2])}" if mark else source
    if text != source:
        cell["source"] = text.splitlines(keepends=True)
        with atomic_write(notebook) as unfinished:
            unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


WRITERS = {
    "headline": headline,
    "notebooks": notebooks,
    "figures": figures,
    "ablation": ablation,
    "beyond": beyond,
    "speed": speed,
}


def stacked(strip: Image.Image) -> Image.Image:
    """The right half of a strip of films under its left one, parted at the white column nearest to the middle."""
    pixels = np.asarray(strip.convert("RGB"))
    white = np.flatnonzero((pixels == 255).all((0, 2)))
    cut = int(white[np.abs(white - pixels.shape[1] / 2).argmin()])
    page = np.full((2 * pixels.shape[0], max(cut, pixels.shape[1] - cut), 3), 255, np.uint8)
    for row, half in enumerate((pixels[:, :cut], pixels[:, cut:])):
        page[row * pixels.shape[0] :][: pixels.shape[0], : half.shape[1]] = half
    return Image.fromarray(page)


def write_figures() -> None:
    """Put each block between its two marks, what was learned into the notebooks, and README's strip into phone form.

    A Problem where a file lost a mark.
    """
    pages = {file: (ROOT / file).read_text(encoding="utf-8") for file, _ in FILES.values()}
    for name, (file, _) in FILES.items():
        start, end = MARKS[name], f"<!-- end of {name} -->"
        if end not in pages[file].partition(start)[2]:
            raise Problem(f"{file} lacks a mark of its block {name}: put {start} before it and {end} after it.")
    for name, (file, _) in FILES.items():
        before, start, rest = pages[file].partition(MARKS[name])
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        pages[file] = f"{before}{start}\n{WRITERS[name]()}{end}{after}"
    for file, text in pages.items():
        rewrite(ROOT / file, text)
    for notebook in fingerprint.notebooks(ROOT / "notebooks").values():
        conclude(notebook)
    strip, narrow = (ROOT / file for file in STRIP)
    with Image.open(strip) as wide:
        page = stacked(wide)
    if not narrow.exists() or not np.array_equal(np.asarray(Image.open(narrow).convert("RGB")), np.asarray(page)):
        with atomic_write(narrow) as unfinished:
            page.save(unfinished, format="PNG", optimize=True)
        print(f"{display_path(narrow)} rewritten")


if __name__ == "__main__":
    command(write_figures)
