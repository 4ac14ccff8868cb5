"""The project as committed: README and docs/ against results, settings against each other, no leftovers."""

import ast
import functools
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

import report
from cxr import chain, fingerprint, paths
from cxr.paths import ROOT, Problem

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture
def committed(monkeypatch):
    monkeypatch.delenv("CXR_RESULTS_DIR", raising=False)
    return ROOT / "results"


def tracked():
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("name", report.FILES)
def test_pages_quote_the_results_exactly(committed, name):
    page = (ROOT / report.FILES[name][0]).read_text(encoding="utf-8")
    assert page.count(report.MARKS[name]) == 1
    assert f"{report.MARKS[name]}\n{report.WRITERS[name]()}<!-- end of {name} -->" in page, "run `make figures`"


def test_figures_replace_what_stands_between_the_marks_of_each_page(committed, tmp_path, monkeypatch):
    pages = {file: (ROOT / file).read_text(encoding="utf-8") for file, _ in report.FILES.values()}
    for file in ("benchmarks/speed.csv", *report.STRIP):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    for name, (file, _) in report.FILES.items():
        block = re.compile(f"({re.escape(report.MARKS[name])}).*(<!-- end of {name} -->)", re.DOTALL)
        pages[file] = block.sub(r"\1\nold\n\2", pages[file])
    for file, text in pages.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    narrow = tmp_path / report.STRIP[1]
    narrow.unlink()
    (tmp_path / "notebooks").mkdir()
    for number, change in (("01", lambda text: f"{text}\n- 7 of nothing"), ("05", lambda text: "## No mark")):
        notebook = json.loads(fingerprint.notebooks()[number].read_text(encoding="utf-8"))
        last = notebook["cells"][-1]
        last["source"] = change("".join(last["source"])).splitlines(keepends=True)
        (tmp_path / "notebooks" / fingerprint.notebooks()[number].name).write_text(json.dumps(notebook))
    monkeypatch.setattr(report, "ROOT", tmp_path)
    report.write_figures()
    first, unmarked = (json.loads(path.read_text()) for path in fingerprint.notebooks(tmp_path / "notebooks").values())
    assert first == json.loads(fingerprint.notebooks()["01"].read_text(encoding="utf-8"))
    assert unmarked["cells"][-1]["source"] == ["## No mark"]
    for file in pages:
        assert (tmp_path / file).read_text(encoding="utf-8") == (ROOT / file).read_text(encoding="utf-8")
    assert narrow.read_bytes()
    for name, (file, _) in report.FILES.items():
        text = (tmp_path / file).read_text(encoding="utf-8")
        (tmp_path / file).write_text(text.replace(f"<!-- end of {name} -->", ""), encoding="utf-8")
        with pytest.raises(Problem, match=f"{file} lacks a mark of its block {name}"):
            report.write_figures()
        (tmp_path / file).write_text(text, encoding="utf-8")


def test_the_model_card_follows_from_the_results(committed):
    metrics, run = (json.loads((committed / name).read_text()) for name in ("05_metrics.json", "04_run.json"))
    opened = len((committed / "05_test_ledger.csv").read_text().strip().splitlines()) - 1
    assert (committed / "MODEL_CARD.md").read_text(encoding="utf-8") == report.model_card(metrics, run, opened)
    metrics |= {"synthetic": True, "data_set": "drawn"}
    text = report.model_card(metrics, run, 1)
    assert text.startswith("# Model card: pneumonia or normal, on children's chest X-rays\n\n**SYNTHETIC: ")
    assert "scored on the test folder 1 time by" in text and "Kermany" not in text and text.endswith("wrong clue.\n")


def test_the_model_card_says_what_had_been_seen(committed):
    text = " ".join((committed / "MODEL_CARD.md").read_text(encoding="utf-8").split())
    assert "The test folder is not unseen by its authors." in text and "early stopping was relaxed" in text
    assert "No recipe, epoch, threshold or seed of this project was chosen by a test figure" not in text


@pytest.mark.parametrize(
    "place",
    [("test", "plain_seeds", "mean"), ("test", "seeds", "sd"), ("test", "swap"), ("flow", "val"), ("data_set",)],
)
def test_a_missing_figure_stops_the_model_card(committed, place):
    metrics, run = (json.loads((committed / name).read_text()) for name in ("05_metrics.json", "04_run.json"))
    *way, last = place
    del functools.reduce(dict.get, way, metrics)[last]
    with pytest.raises(Problem, match=rf"templates/model_card\.md\.j2 asks for .* '{last}'.*: run the notebook"):
        report.model_card(metrics, run, 1)


def test_the_committed_results_are_of_five_seeds_and_the_real_thing(committed):
    metrics = json.loads((committed / "05_metrics.json").read_text())
    assert metrics["synthetic"] is False and metrics["test"]["seeds"]["count"] >= 5
    assert metrics["images"]["test"] == 624 and metrics["parameters"] < 1_000_000


def test_committed_results_are_one_unbroken_chain_of_the_real_x_rays(committed):
    for path in sorted(committed.iterdir()):
        if re.match(r"\d\d_", path.name) and not path.name.endswith("_lineage.json"):
            lineage = chain.check(path.name)
            assert lineage["dataset"]["synthetic"] is False, path.name


def test_committed_run_beats_the_floor(committed):
    found = json.loads((committed / "05_metrics.json").read_text())["test"]["seeds"]["mean"]
    assert found["accuracy"] >= 0.90 and found["auc"] >= 0.96


def test_the_changelog_names_modules_that_are_there_and_no_old_one_that_still_is():
    rows = re.findall(r"^\| (`.+`) \| (`.+) \|$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    modules = {
        path.relative_to(ROOT / "notebooks/cxr").with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in (ROOT / "notebooks/cxr").rglob("*.py")
    }
    old, new = ({name for row in rows for name in re.findall(r"`([a-z_.]+)`", row[side])} for side in (0, 1))
    assert len(rows) > 10 and new <= modules and not (old - new) & (modules - {"project"})


@pytest.mark.parametrize("page, to", [("README.md", ""), ("docs/chain.md", "../")])
def test_every_notebook_has_a_row_in_readme_and_in_the_chain(page, to):
    text = (ROOT / page).read_text(encoding="utf-8")
    for path in fingerprint.notebooks().values():
        row = rf"^\| \[{path.name[:2]}(?: |&nbsp;).+\]\({re.escape(to)}notebooks/{path.name}\) \|"
        assert re.search(row, text, re.MULTILINE), path.name


def test_every_make_target_that_a_page_names_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"`make ([a-z]+)", text)) | set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE))
        assert named and named <= targets, path.name


def test_plain_make_lists_the_commands():
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for command in ("make run", "make run DOWNLOAD=1", 'make run NOTEBOOKS="04 05"', "make test"):
        assert command in said


def test_requirements_are_pinned_with_a_reason_and_conda_reads_them():
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\d.]+ +# \S.{10,}", line), line
    assert "- -r requirements.txt" in (ROOT / "environment.yml").read_text()


def test_every_import_of_the_project_is_a_stated_requirement():
    stated = {
        re.split("==", line)[0].lower()
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    package_of = {"sklearn": "scikit-learn", "pil": "pillow", "skimage": "scikit-image"}
    for path in (ROOT / "notebooks/cxr").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"google"}:  # Colab's own
                assert package_of.get(name.lower(), name.lower()) in stated, f"{path.name} imports {name}"


def test_no_image_no_login_and_nothing_opaque_is_committed():
    for name in tracked():
        assert not name.startswith("chest_xray/") or name in ("chest_xray/README.md", "chest_xray/lung_masks.npz"), name
        assert not name.endswith((".pkl", ".pickle", ".h5", ".hdf5", ".jpeg", ".jpg", "kaggle.json")), name
        assert not name.endswith((".npz", ".npy")) or name == "chest_xray/lung_masks.npz", name
        assert (ROOT / name).stat().st_size <= 5e6, name


def test_badges_point_where_they_are_told(tmp_path, monkeypatch):
    docs = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
    names = ["README.md", *docs, "notebooks/01_download.ipynb"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(badges, "ROOT", tmp_path)
    badges.write("jane/lungs")
    pointed = set()
    for name in names:
        text = (tmp_path / name).read_text(encoding="utf-8")
        addresses = set(re.findall(r"(?:github\.com|/github)/([\w.-]+/[\w.-]+?)(?=[/)\s\"]|$)", text))
        addresses.discard("ml-workgroup/covid-19-image-repository")  # stays
        assert addresses <= {"jane/lungs"}, addresses
        assert "chest-xray-notebooks" not in text
        pointed |= {name} if addresses else set()
    assert pointed == {"README.md", "docs/chain.md", "notebooks/01_download.ipynb"}


@pytest.mark.parametrize("repository", ["", "jane", "https://github.com/jane/lungs"])
def test_badges_refuse_what_is_no_repository(repository):
    with pytest.raises(Problem, match="REPO.*owner/name"):
        badges.write(repository)


SECRETS = {
    "a Kaggle key": r'"key"\s*:\s*"[0-9a-f]{32}"|KAGGLE_KEY\s*=\s*[\'"]?[0-9a-f]{32}',
    "a Kaggle token": r"KGAT_[0-9a-f]{16,}",
    "a GitHub token": r"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}",
    "a Google key": r"AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}",
    "a Hugging Face token": r"hf_[A-Za-z0-9]{30,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}


def secrets(text):
    return [what for what, pattern in SECRETS.items() if re.search(pattern, text)]


def test_no_file_and_no_cell_or_output_holds_a_secret():
    for name in tracked():
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".keras", ".tflite", ".zip", ".npz"}:
            text = path.read_text(encoding="utf-8")
            assert not secrets(text) and not secrets(text.replace('\\"', '"')), name


@pytest.mark.parametrize(
    "text, what",
    [
        ('{"username": "jane", "key": "' + 32 * "a" + '"}', "a Kaggle key"),
        ("KGAT_" + 32 * "0", "a Kaggle token"),
        ("ghp_" + 36 * "A", "a GitHub token"),
        ("AIza" + 35 * "x", "a Google key"),
    ],
)
def test_the_search_for_secrets_finds_them(text, what):
    assert secrets(text) == [what]


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "table.csv"
    with paths.atomic_write(target) as unfinished:
        unfinished.write_text("new")
        assert not target.exists()
    with pytest.raises(OSError), paths.atomic_write(target) as unfinished:
        unfinished.write_text("half")
        raise OSError("the disk is full")
    assert target.read_text() == "new" and os.listdir(tmp_path) == ["table.csv"]


def test_style():
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
