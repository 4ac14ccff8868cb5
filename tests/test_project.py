"""The project as committed: results that fit together, settings against each other, no leftovers."""

import ast
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from cxr import chain
from cxr.paths import ROOT


@pytest.fixture
def committed(monkeypatch):
    monkeypatch.delenv("CXR_RESULTS_DIR", raising=False)
    return ROOT / "results"


def tracked():
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_committed_results_are_one_unbroken_chain_of_the_real_x_rays(committed):
    for path in sorted(committed.iterdir()):
        if path.name != "MODEL_CARD.md" and not path.name.endswith("_lineage.json"):
            assert chain.check(path.name)["dataset"].get("sample") is False, path.name


def test_the_committed_results_are_of_five_seeds_and_beat_the_floor(committed):
    metrics = json.loads((committed / "05_metrics.json").read_text())
    seeds = metrics["test"]["seeds"]
    assert seeds["count"] >= 5 and metrics["flow"]["test"]["images"] == 624
    assert seeds["mean"]["accuracy"] >= 0.90 and seeds["mean"]["auc"] >= 0.96


def test_no_module_imports_one_of_a_higher_floor_or_in_a_circle():
    """Floors as docs/chain.md has them: what a module imports stands before it."""
    text = (ROOT / "docs/chain.md").read_text(encoding="utf-8")
    floors = {name: int(row[0]) for row in re.findall(r"^(\d)  +(.+)$", text, re.M) for name in row[1].split()}
    modules = {path.stem: path for path in (ROOT / "notebooks/cxr").glob("*.py") if path.stem != "__init__"}
    assert set(floors) == set(modules) | {"plots"}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                used = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
                assert all(floors[one] <= floors[name] for one in used), f"{name} imports {used}"


def test_requirements_are_pinned_with_a_reason_and_cover_every_import():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\d.]+ +# \S.{10,}", line), line
    assert "- -r requirements.txt" in (ROOT / "environment.yml").read_text()
    stated = {line.split("==")[0].lower() for line in lines} | {"google", "ipython", "matplotlib_inline"}
    package_of = {"sklearn": "scikit-learn", "pil": "pillow", "skimage": "scikit-image", "nbclient": "papermill"}
    ours = {path.stem for path in (ROOT / "tools").glob("*.py")} | {"cxr", "drawn"}
    for path in [*(ROOT / "notebooks/cxr").rglob("*.py"), *(ROOT / "tools").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - ours:
                assert package_of.get(name.lower(), name.lower()) in stated, f"{path.name} imports {name}"


def test_no_image_but_the_sample_no_login_and_nothing_opaque_is_committed():
    allowed = ("chest_xray/README.md", "chest_xray/lung_masks.npz", "chest_xray/sample/")
    for name in tracked():
        sample = name.startswith("chest_xray/sample/")
        assert not name.startswith("chest_xray/") or name.startswith(allowed), name
        assert not name.endswith((".pkl", ".pickle", ".h5", ".hdf5", "kaggle.json")), name
        assert sample or not name.endswith((".jpeg", ".jpg")), name
        assert not name.endswith((".npz", ".npy")) or name.endswith("/lung_masks.npz"), name
        assert (ROOT / name).stat().st_size <= 5e6, name


SECRETS = {
    '{"username": "jane", "key": "'
    + 32 * "a"
    + '"}': r'"key"\s*:\s*"[0-9a-f]{32}"|KAGGLE_KEY\s*=\s*[\'"]?[0-9a-f]{32}',
    "KGAT_" + 32 * "0": r"KGAT_[0-9a-f]{16,}",
    "ghp_" + 36 * "A": r"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}",
    "AIza" + 35 * "x": r"AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}",
    "hf_" + 34 * "a": r"hf_[A-Za-z0-9]{30,}",
    "-----BEGIN RSA PRIVATE " + "KEY-----": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}  # an example, and the pattern that finds it


def test_no_file_and_no_cell_or_output_holds_a_secret():
    assert all(re.search(pattern, example) for example, pattern in SECRETS.items())
    for name in tracked():
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".keras", ".jpeg", ".npz"}:
            text = path.read_text(encoding="utf-8")
            for pattern in SECRETS.values():
                assert not re.search(pattern, text) and not re.search(pattern, text.replace('\\"', '"')), name


def test_lines_end_the_same_way_on_every_system():
    """Records hold the sha256 of files: a checkout on Windows must not change them."""
    said = subprocess.run(
        ["git", "check-attr", "text", "eol", "--", "results/04_seeds.csv", "results/04_plain.keras", "a.jpeg"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    assert "04_seeds.csv: eol: lf" in said and "04_plain.keras: text: unset" in said and "a.jpeg: text: unset" in said


def test_style():
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_sample_can_be_read_by_hand(monkeypatch):
    """As its README says: shapes, both classes in each part, and no patient in two."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "chest_xray/sample/README.md").read_text(encoding="utf-8")
    found = {}
    exec(re.search(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[1], found)
    parts = [np.flatnonzero(found["test"]), found["train"], found["val"]]
    assert found["pictures"].shape == found["masks"].shape == (sum(map(len, parts)), 128, 128)
    assert [np.bincount(found["label"][rows]).min() > 20 for rows in parts] == [True] * 3
    people = [set(found["films"].patient[rows]) for rows in parts]
    assert sum(map(len, people)) == len(set.union(*people)) and found["masks"].mean() > 30
