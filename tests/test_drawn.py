"""The drawn films: their files, names, patients and copies, and where their lungs are."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import drawn
from cxr import data

SMALL = 40  # the smallest set


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return drawn.draw(tmp_path_factory.mktemp("drawn") / "set", images=SMALL)


def hashes(folder):
    files = sorted(folder.rglob("*.jpeg"))
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize(("images", "seed"), [(40, 0), (47, 1), (199, 2), (600, 0)])
def test_every_plan_has_patients_and_copies_as_the_real_set(images, seed):
    films = drawn.plan(images, seed)
    assert len(films) == images == len({film.path for film in films})
    assert Counter((film.path.split("/")[0], film.kind) for film in films if film.copy) == drawn.COPIES
    for part in ("train", "test"):
        for kind in ("normal", "bacteria", "virus"):
            assert len({film.patient for film in films if film.path.startswith(part) and film.kind == kind}) > 1


def test_the_set_is_marked_and_its_only_identical_files_are_the_copies(folder):
    table = data.survey(folder)
    assert len(table) == SMALL and data.describe(table, folder)["sample"]
    assert table.groupby("patient").folder.nunique().max() == 1
    assert SMALL - table.sha256.nunique() == sum(drawn.COPIES.values())


def test_the_same_seed_gives_the_same_bytes_and_another_folder_is_not_touched(folder, tmp_path):
    assert hashes(drawn.draw(tmp_path / "again", SMALL)) == hashes(folder)
    assert not set(hashes(drawn.draw(tmp_path / "other", SMALL, seed=1)).values()) & set(hashes(folder).values())
    with pytest.raises(ValueError, match="not empty"):
        drawn.draw(tmp_path, SMALL)


def test_lungs_are_where_the_film_is_dark(folder):
    with np.load(folder / drawn.MASKS) as masks:
        names, bits = masks["path"], np.unpackbits(masks["bits"], axis=1).reshape(-1, drawn.SIDE, drawn.SIDE) > 0
    films = [np.asarray(Image.open(folder / name).convert("L").resize((drawn.SIDE, drawn.SIDE))) for name in names]
    assert all(0.08 < mask.mean() < 0.45 for mask in bits)
    darker = [film[mask].mean() < film[40:120, 40:120][~mask[40:120, 40:120]].mean() for film, mask in zip(films, bits)]
    assert np.mean(darker) > 0.9
