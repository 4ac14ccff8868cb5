"""Masks of the lungs: where they come from, what is measured of them, what they hide; and 02 on what is left."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from contract import code_cells
from cxr import data, lungs, training
from cxr.paths import ROOT, Problem


def squares(*boxes, size=64):
    """One mask a box (top, bottom, left, right): 255 inside."""
    masks = np.zeros((len(boxes), size, size), np.uint8)
    for mask, (top, bottom, left, right) in zip(masks, boxes):
        mask[top:bottom, left:right] = 255
    return masks


def pack(masks):
    """Masks as ``lung_masks.npz`` keeps them: a pixel a bit."""
    return np.packbits((masks > 127).reshape(len(masks), -1), axis=1)


def save(folder, names, masks):
    np.savez_compressed(folder / lungs.FILE, path=np.array(names), bits=pack(masks), side=masks.shape[1])
    return folder


@pytest.fixture
def no_project(tmp_path, monkeypatch):
    """A project without masks and without a network."""
    monkeypatch.setattr(lungs, "ROOT", tmp_path / "project")
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path / "results"))
    return tmp_path


# --- the files ------------------------------------------------------------------------------------------------


def test_the_committed_masks_are_of_the_films_of_the_manifest():
    path, table = ROOT / "chest_xray" / lungs.FILE, pd.read_csv(ROOT / "results/01_manifest.csv")
    assert path.stat().st_size < 2_000_000
    some = table.groupby(["folder", "class_name"]).head(20)
    masks, known = lungs.drawn(some, ROOT / "nowhere", 64)
    assert known.mean() > 0.95 and set(some.folder) == {"train", "test"}
    assert 0.2 < masks[known].mean() / 255 < 0.5
    rows, _, side = lungs._archive(path)
    assert side == 160 and (~table.path.isin(list(rows))).sum() == 5
    page = (ROOT / "chest_xray/README.md").read_text(encoding="utf-8")
    for word in (lungs.FILE, "V7 Labs", "CC BY 4.0", "Kermany"):
        assert word in page


def test_masks_are_found_by_path_in_the_order_of_the_table(no_project):
    masks = squares((8, 40, 8, 24), (0, 64, 0, 32), (0, 0, 0, 0))
    folder = save(no_project, ["train/a.jpeg", "test/b.jpeg", "train/empty.jpeg"], masks)
    table = pd.DataFrame({"path": ["test/b.jpeg", "train/new.jpeg", "train/a.jpeg", "train/empty.jpeg"]})
    found, known = lungs.drawn(table, folder, 64)
    assert known.tolist() == [True, False, True, False] and found.dtype == np.uint8
    assert (found[0] == masks[1]).all() and (found[2] == masks[0]).all() and not found[[1, 3]].any()
    small, _ = lungs.drawn(table, folder, 32)
    assert small.shape == (4, 32, 32) and small[0].mean() == pytest.approx(masks[1].mean(), abs=1)


def test_masks_of_the_data_folder_come_first_and_drawn_films_take_no_others(no_project):
    mine, project = no_project / "mine", no_project / "project" / "chest_xray"
    mine.mkdir()
    project.mkdir(parents=True)
    table = pd.DataFrame({"path": ["train/a.jpeg"]})
    save(project, ["train/a.jpeg"], squares((0, 32, 0, 32)))
    assert lungs.drawn(table, mine, 64)[1].all() and not lungs.drawn(table, mine, 64, synthetic=True)[1].any()
    save(mine, ["train/a.jpeg"], squares((32, 64, 32, 64)))
    assert lungs.drawn(table, mine, 64)[0][0, 40, 40] == 255


@pytest.mark.parametrize("wrong", ["no archive", "another side", "no bits", "floats"])
def test_a_file_that_is_no_masks_is_named_with_the_remedy(no_project, wrong):
    masks, path = squares((8, 40, 8, 24)), no_project / lungs.FILE
    parts = {"path": np.array(["a"]), "bits": pack(masks), "side": 64}
    if wrong == "no archive":
        path.write_bytes(b"masks")
    else:
        changed = {"another side": {"side": 65}, "no bits": {"bits": None}, "floats": {"bits": parts["bits"] * 1.0}}
        np.savez(path, **{name: part for name, part in (parts | changed[wrong]).items() if part is not None})
    with pytest.raises(Problem, match=f"{lungs.FILE}.*or delete it"):
        lungs.drawn(pd.DataFrame({"path": ["a"]}), no_project, 64)


def test_the_survey_does_not_see_the_masks(tiny):
    manifest = data.survey(tiny)
    assert (tiny / lungs.FILE).is_file() and not manifest.path.str.contains("npz").any()
    masks, known = lungs.drawn(manifest, tiny, 64, synthetic=True)
    assert known.all() and masks.any(axis=(1, 2)).all()
    assert not lungs.drawn(manifest, tiny.parent, 64, synthetic=True)[1].any()


# --- where nobody drew ----------------------------------------------------------------------------------------


def dark(pictures):
    """In place of the network: lung where a film is dark."""
    return (pictures < 100).astype("float32")


FINDER = SimpleNamespace(predict=lambda pictures, **_: dark(pictures))


def test_a_network_finds_what_most_films_lack(no_project, monkeypatch):
    films = np.full((4, 64, 64), 200, np.uint8)
    films[:, 16:48, 8:24] = films[:, 16:48, 40:56] = 50
    films[3] = 200  # nothing to find
    table = pd.DataFrame({"path": list("abcd")})
    masks, known, said = lungs.located(table, no_project, films, False)
    assert not masks.any() and not known.any()
    assert said == "People drew the lungs of 0 of the 4 films; the other 4 are left out where lungs matter."
    monkeypatch.setattr(lungs, "network", lambda: FINDER)
    masks, known, said = lungs.located(table, no_project, films, False)
    assert masks.any(axis=(1, 2)).tolist() == [True] * 3 + [False] and not known.any()
    assert said == "People drew the lungs of 0 of the 4 films; a network found those of 3 more."
    assert lungs.dice(masks[:3], (films[:3] < 100) * np.uint8(255)).min() > 0.9
    save(no_project, list("abc"), squares(*[(16, 48, 8, 24)] * 3))
    masks, known, said = lungs.located(table, no_project, films, False)
    assert known.sum() == 3 and not masks[3].any() and "the other 1 are left out" in said


def test_the_network_of_the_results_comes_before_that_of_the_project(no_project):
    assert lungs.network() is None
    for folder, bias in (("project/results", -9.0), ("results", 9.0)):
        layers = lungs.keras.layers
        model = lungs.keras.Sequential([layers.Input((lungs.SIZE, lungs.SIZE, 1)), layers.Conv2D(1, 1)])
        model.layers[0].set_weights([np.zeros((1, 1, 1, 1)), np.array([bias])])
        (no_project / folder).mkdir(parents=True)
        model.save(no_project / folder / lungs.NETWORK)
        assert lungs.network().layers[-1].get_weights()[1] == bias


# --- what is measured, and hidden -----------------------------------------------------------------------------


def test_facts_are_shares_of_the_side_and_missing_without_lungs():
    table = lungs.facts(squares((16, 48, 8, 56), (0, 0, 0, 0)))
    row = table.iloc[0]
    assert row[["lungs_top", "lungs_bottom", "lungs_left", "lungs_right"]].tolist() == [0.25, 0.75, 0.125, 0.875]
    assert (row.lungs_width, row.lungs_height, row.lungs_aspect, row.lungs_area) == (0.75, 0.5, 1.5, 0.375)
    assert table.iloc[1].isna().all()


def test_the_box_of_the_lungs_is_painted_black_and_nothing_else():
    films, masks = np.full((2, 100, 100), 90, np.uint8), squares((20, 60, 30, 40), (0, 100, 0, 100), size=100)
    masks[0, 50:70, 60:80] = 255  # the other lung
    bodies = lungs.painted_black(films, masks)
    black = np.zeros((100, 100), bool)
    black[18:72, 28:82] = True
    assert ((bodies[0] == 0) == black).all() and not bodies[1].any() and (films == 90).all()
    with pytest.raises(Problem, match="Film 0 of 1 has no lungs"):
        lungs.painted_black(films[:1], masks[:1] * 0)


# --- the chain, on drawn films --------------------------------------------------------------------------------


def test_02_measures_the_body_and_leaves_a_network_for_05(finished, tiny):
    results = finished / "results"
    found = json.loads((results / "02_audit.json").read_text())
    body, network = found["body_alone"], training.keras.models.load_model(results / "02_body.keras", compile=False)
    assert set(body) == {"val_auc", "val_films", "threshold", "parameters", "epochs", "size", "masks"}
    assert network.input_shape == (None, 64, 64, 1) and network.layers[-1].name == "pneumonia"
    assert network.count_params() == body["parameters"] and body["size"] == 64 and 0 <= body["val_auc"] <= 1
    assert body["masks"] == {"drawn": practice_films(tiny), "films": practice_films(tiny)}
    assert (results / "02_body.keras").stat().st_size < 150_000
    assert 0 <= found["outline_alone"]["val_auc"] <= 1 and len(found["device_print"]["paths"]) <= 4
    assert set(found["lungs"]) == set(found["device_print"]["groups"])


def practice_films(folder):
    return len(list(folder.rglob("*.jpeg")))


def test_02_does_without_lungs_where_nobody_knows_them(tiny, tmp_path):
    """The cells of the last sections of 02, on films without any mask: no network, None in the findings."""
    import nbformat

    notebook = nbformat.read(ROOT / "notebooks/02_explore.ipynb", as_version=4)
    cells = {cell.id: cell.source for cell in code_cells(notebook)}
    manifest = data.survey(tiny)
    split, _ = data.split(manifest)
    part = manifest.path.map(split.set_index("path").split)
    blank, written = np.zeros((len(manifest), 64, 64), np.uint8), []
    stand_in = SimpleNamespace(**vars(lungs) | {"located": lambda *_: (blank, blank.any(axis=(1, 2)), "nobody")})
    step = SimpleNamespace(dataset={"synthetic": True}, write=lambda name, _: written.append(name))
    scope = {"lungs": stand_in, "step": step, "manifest": manifest, "folder": tiny, "small": blank, "films": blank}
    scope |= {"part": part, "found": {}, "masks": blank, "drawn": blank.any(axis=(1, 2))}
    for name in ("02-54", "02-55", "02-56", "02-58"):
        exec(cells[name], scope)
    assert scope["found"] == {"body_alone": None} and not written
