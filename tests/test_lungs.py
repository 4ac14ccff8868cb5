"""Masks of the lungs: where they come from, what is measured of them, what they hide."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cxr import data, lungs
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
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / lungs.FILE, path=np.array(names), bits=pack(masks), side=masks.shape[1])


def part(names, pictures):
    return SimpleNamespace(table=pd.DataFrame({"path": names}), pictures=pictures)


@pytest.fixture
def no_project(tmp_path, monkeypatch):
    """A project without masks and without a network."""
    monkeypatch.setattr(lungs, "ROOT", tmp_path / "project")
    return tmp_path


class Answers:
    """A network for lungs that always sees the same."""

    def __init__(self, answer):
        self.answer = answer

    def predict(self, pictures, batch_size, verbose):
        assert pictures.shape[1:] == (lungs.SIZE, lungs.SIZE, 1)
        return np.repeat(self.answer[None, ..., None], len(pictures), 0)


def test_the_committed_masks_are_of_the_films_of_the_manifest():
    path, table = ROOT / "chest_xray" / lungs.FILE, pd.read_csv(ROOT / "results/01_manifest.csv")
    assert path.stat().st_size < 2_000_000
    some = table.groupby(["folder", "class_name"]).head(20)
    masks, drawn = lungs.masks(part(some.path, np.zeros((len(some), 64, 64), np.uint8)), ROOT / "nowhere")
    assert drawn.mean() > 0.95 and set(some.folder) == {"train", "test"} and 0.2 < masks[drawn].mean() / 255 < 0.5
    rows, _, side = lungs._read_masks(path)
    assert side == 160 and (~table.path.isin(list(rows))).sum() == 5


def test_drawn_masks_are_found_by_path_and_a_network_finds_the_others(no_project):
    mine, masks = no_project / "mine", squares((8, 40, 8, 24), (0, 64, 0, 32), (0, 0, 0, 0))
    names, pictures = ["test/b.jpeg", "new.jpeg", "train/a.jpeg", "empty.jpeg"], np.zeros((4, 64, 64), np.uint8)
    found, drawn = lungs.masks(part(names, pictures), mine)
    assert not found.any() and not drawn.any(), "nobody drew any"
    save(no_project / "project/chest_xray", names, squares(*[(0, 64, 0, 64)] * 4))
    assert lungs.masks(part(names, pictures), mine)[1].all(), "those of the project"
    save(mine, ["train/a.jpeg", "test/b.jpeg", "empty.jpeg"], masks)
    found, drawn = lungs.masks(part(names, pictures), mine)
    assert drawn.tolist() == [True, False, True, False] and found.dtype == np.uint8, "those of the data folder first"
    assert (found[0] == masks[1]).all() and (found[2] == masks[0]).all() and not found[[1, 3]].any()
    answer = np.zeros((lungs.SIZE, lungs.SIZE))
    answer[32:96, 64:96] = 0.9
    found, again = lungs.masks(part(names, pictures), mine, Answers(answer))
    assert (found[0] == masks[1]).all() and (again == drawn).all()
    assert lungs.dice(found[[1, 3]], squares(*[(16, 48, 32, 48)] * 2)).min() > 0.9
    with pytest.raises(Problem, match="No lungs were found in any of 1 films: give frontal"):
        lungs.masks(part(["new.jpeg"], pictures[:1]), mine, Answers(0 * answer))
    small, _ = lungs.masks(part(names, pictures[:, :32, :32]), mine)
    assert small.shape == (4, 32, 32) and small[0].mean() == pytest.approx(masks[1].mean(), abs=1)


@pytest.mark.parametrize("wrong", ["no archive", "another side", "no bits", "floats"])
def test_a_file_that_is_no_masks_is_named_with_the_remedy(no_project, wrong):
    masks, path = squares((8, 40, 8, 24)), no_project / lungs.FILE
    parts = {"path": np.array(["a"]), "bits": pack(masks), "side": 64}
    if wrong == "no archive":
        path.write_bytes(b"masks")
    else:
        changed = {"another side": {"side": 65}, "no bits": {"bits": None}, "floats": {"bits": parts["bits"] * 1.0}}
        np.savez(path, **{name: value for name, value in (parts | changed[wrong]).items() if value is not None})
    with pytest.raises(Problem, match=f"{lungs.FILE} does not hold path, bits .* or delete it"):
        lungs.masks(part(["a"], masks), no_project)


@pytest.mark.parametrize("left", [None, b"no network"])
def test_a_network_for_lungs_that_is_gone_or_spoilt_is_named_with_the_remedy(no_project, left):
    path = no_project / "03_lungs.keras" if left else None
    if left:
        path.write_bytes(left)
    with pytest.raises(Problem, match="03_lungs.keras, the network that finds lungs, .*git checkout"):
        lungs.load_network(path)


def test_an_earlier_network_is_taken_where_few_lungs_are_drawn(monkeypatch):
    monkeypatch.setattr(lungs, "load_network", lambda path: f"network at {path}")
    step = SimpleNamespace(earlier=lambda name: name)
    for drawn, taken in (([True, False], None), ([True, False, False], "network at 03_lungs.keras")):
        monkeypatch.setattr(lungs, "masks", lambda part, folder, drawn=drawn: (None, np.array(drawn)))
        assert lungs.earlier(step, "films", "folder") == taken


def test_films_and_masks_are_moved_together():
    masks = squares(*[(20, 100, 30, 60)] * 300, size=160)
    films, moved = lungs.change_pairs(masks // 2 + 60, masks, seed=1)
    assert films.shape == moved.shape == (300, lungs.SIZE, lungs.SIZE, 1) and moved.min() >= 0 and moved.max() <= 1
    assert np.median([np.corrcoef(film.ravel(), mask.ravel())[0, 1] for film, mask in zip(films, moved)]) > 0.8
    assert len({mask.tobytes() for mask in moved[:256]}) > 200


def test_the_survey_does_not_see_the_masks(tiny):
    manifest = data.survey(tiny)
    assert (tiny / lungs.FILE).is_file() and not manifest.path.str.contains("npz").any()
    masks, drawn = lungs.masks(part(manifest.path, np.zeros((len(manifest), 64, 64), np.uint8)), tiny)
    assert drawn.all() and masks.any(axis=(1, 2)).all()


def test_found_lungs_are_the_two_largest_spots_without_holes():
    answer = np.zeros((lungs.SIZE, lungs.SIZE))
    answer[20:90, 20:50] = answer[20:90, 70:100] = answer[110:114, 60:64] = 0.9
    answer[40:44, 30:34] = 0.1
    found = lungs.find(Answers(answer), np.zeros((2, 256, 256), "uint8"))
    assert found.shape == (2, 256, 256) and found.dtype == np.uint8
    assert found[0, 84, 64] == 255 and found[0, 224, 124] == 0, "a hole is filled, a third spot is none"
    assert not lungs.find(Answers(answer * 0), np.zeros((1, 128, 128), "uint8")).any()
    assert lungs.find(Answers(answer), np.zeros((0, 128, 128), "uint8")).shape == (0, 128, 128)


def test_dice_is_one_where_both_agree_and_is_summed_up_over_drawn_films():
    one, shifted, none = squares((8, 40, 8, 24), (8, 40, 8, 24), (0, 0, 0, 0))[:, None]
    assert lungs.dice(one, shifted)[0] == 1 and lungs.dice(none, none)[0] == 1 and lungs.dice(one, none)[0] == 0
    assert lungs.dice(one, np.roll(one, 8, axis=2))[0] == pytest.approx(0.5)
    assert lungs.summary(np.array([0.9, np.nan, 0.7])) == {"films": 2, "mean": 0.8, "median": 0.8, "min": 0.7}
    assert lungs.summary(np.array([np.nan])) == {"films": 0, "mean": None, "median": None, "min": None}


def test_facts_are_shares_of_the_side_and_missing_without_lungs():
    table = lungs.facts(squares((16, 48, 8, 56), (0, 0, 0, 0)))
    row = table.iloc[0]
    assert row[["lungs_top", "lungs_bottom", "lungs_left", "lungs_right"]].tolist() == [0.25, 0.75, 0.125, 0.875]
    assert (row.lungs_width, row.lungs_height, row.lungs_aspect, row.lungs_area) == (0.75, 0.5, 1.5, 0.375)
    assert table.iloc[1].isna().all()
