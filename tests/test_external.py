"""Films from elsewhere: surveyed by class folder, held against home, recalibrated without looking at themselves."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import external, metrics, shortcuts
from cxr.ood_pictures import write_dicom
from cxr.project.paths import Problem
from cxr.project.practice import draw_chest


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """Twelve drawn films: larger, inverted, under other class names, one of them not a picture."""
    folder = tmp_path_factory.mktemp("hospital")
    rng = np.random.default_rng(5)
    for name, kind in (("Normal", "normal"), ("sick", "bacteria")):
        (folder / name / "sub").mkdir(parents=True)
        for i in range(6):
            film = 255 - draw_chest(rng, kind, (240, 300))
            Image.fromarray(film).save(folder / name / ("sub" if i % 2 else "") / f"{i}.png")
    (folder / "sick/broken.png").write_bytes(b"<html>")
    (folder / ".cache").mkdir()
    return folder


def test_survey_reads_class_folders(hospital):
    table = external.survey(hospital)
    assert len(table) == 13 and table.groupby("class_name").label.first().to_dict() == {"Normal": 0, "sick": 1}
    assert table.patient.is_unique and table.path.str.contains("sub/").sum() == 6


def test_patients_are_known_by_kaggles_names(tmp_path):
    for name in (
        "normal/IM-0001-0001",
        "normal/IM-0001-0002",
        "normal/IM-0002-0001",
        "ill/person1_virus_1",
        "ill/person1_virus_2",
        "ill/person2_virus_3",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (40, 40)).save(tmp_path / f"{name}.png")
    assert set(external.survey(tmp_path).patient) == {"IM-0001", "IM-0002", "person1_virus", "person2_virus"}


def test_what_can_not_be_read_is_set_aside_with_its_reason(hospital):
    read, pixels, broken = external.load(external.survey(hospital), hospital, 64)
    assert pixels.shape == (12, 64, 64) and list(read.index) == list(range(12)) and (read.reason == "").all()
    assert list(broken.path) == ["sick/broken.png"] and "not a picture" in broken.reason[0]
    assert (pixels.std(axis=(1, 2)) > 5).all()


def test_films_that_the_header_speaks_against_are_read(tmp_path):
    for name in ("normal", "ill"):
        (tmp_path / name).mkdir()
        for i in range(2):
            write_dicom(tmp_path / name / f"IM000{i}", 16 * np.full((64, 64), 90, np.uint16), PatientAge="044Y")
    read, pixels, broken = external.load(external.survey(tmp_path), tmp_path, 64)
    assert len(read) == 4 and read.patient.is_unique and not len(broken)
    assert read.reason.str.contains("another age").all()


def test_a_folder_of_broken_files_is_named(tmp_path):
    for name in ("normal", "ill"):
        (tmp_path / name).mkdir()
        for i in range(3):
            (tmp_path / name / f"{i}.png").write_bytes(b"<html>")
    with pytest.raises(Problem, match="patients of a class that can be read .6 files can't.*not a picture"):
        external.load(external.survey(tmp_path), tmp_path, 64)


BAD = {
    "not there": (lambda f: f.rmdir(), "is not there: set FOLDER"),
    "nothing in it": (lambda f: None, "(none)"),
    "no normal": (lambda f: [(f / n).mkdir() for n in ("a", "b")], "a, b.*one of them called normal"),
    "normal alone": (lambda f: (f / "normal").mkdir(), "normal.*two at least"),
    "an empty class": (lambda f: [(f / n).mkdir() for n in ("ill", "normal")], "holds no picture"),
}


@pytest.mark.parametrize("make, said", BAD.values(), ids=BAD)
def test_a_folder_that_is_no_hospital_is_named(tmp_path, make, said):
    folder = tmp_path / "films"
    folder.mkdir()
    make(folder)
    with pytest.raises(Problem, match=said.replace("(", r"\(").replace(")", r"\)")):
        external.survey(folder)


def test_one_patient_a_class_is_too_few(tmp_path):
    for name in ("normal", "ill"):
        (tmp_path / name).mkdir()
        Image.new("L", (40, 40)).save(tmp_path / name / "a.png")
    with pytest.raises(Problem, match="fewer than two patients of a class"):
        external.survey(tmp_path)


def test_places_are_told_apart_by_what_differs(hospital):
    rng, home = np.random.default_rng(0), []
    for kind in ("normal", "bacteria") * 10:
        film = Image.fromarray(draw_chest(rng, kind, (240, 300))).resize((128, 128))
        home.append(np.asarray(film))
    home_table = pd.DataFrame(
        {
            "path": [f"{i}" for i in range(20)],
            "label": [0, 1] * 10,
            "patient": range(20),
            "class_name": ["NORMAL", "PNEUMONIA"] * 10,
        }
    ).astype({"patient": str})
    table = external.survey(hospital)
    away, pixels, _ = external.load(table, hospital, 128)
    facts = shortcuts.picture_facts(np.stack(home))
    shifted, together = external.apart(facts, shortcuts.picture_facts(pixels), home_table, away)
    most = (shifted[["normal", "other"]].astype(float) - 0.5).abs().max().max()
    assert most > 0.45, "inverted films are told at a glance"
    assert set(together) == {"normal", "other"} and set(shifted.fact) <= set(facts) and len(shifted) >= 4


def test_a_fact_that_few_films_have_is_left_out():
    rng = np.random.default_rng(0)
    tables = [
        pd.DataFrame(
            {
                "path": [f"{place}{i}" for i in range(12)],
                "patient": [f"{place}{i}" for i in range(12)],
                "label": [0, 1] * 6,
                "class_name": ["normal", "ill"] * 6,
            }
        )
        for place in "ab"
    ]
    facts = [pd.DataFrame({"mean": rng.normal(shift, 1, 12), "letter_size": np.nan, "edge": 0.5}) for shift in (0, 5)]
    facts[0].loc[0, "letter_size"] = 0.1
    shifted, together = external.apart(*facts, *tables)
    assert list(shifted.fact) == ["mean"] and together["normal"] > 0.9 and shifted.normal[0] > 0.95


@pytest.fixture
def shifted():
    """300 films whose probabilities are good and far too high."""
    rng = np.random.default_rng(2)
    label = rng.integers(0, 2, 300)
    odds = 2.5 * label + rng.normal(0, 1, 300) + 2.5
    return pd.DataFrame({"label": label, "patient": [str(i // 2) for i in range(300)]}), 1 / (1 + np.exp(-odds))


def test_recalibration_mends_threshold_and_calibration(shifted):
    table, probability = shifted
    fitted, called = external.recalibrated(table, probability)
    before = metrics.measure(table.label, probability, 0.5)
    assert (called == table.label).mean() > before["accuracy"] + 0.2
    assert abs(fitted.mean() - table.label.mean()) < 0.03 < abs(probability.mean() - table.label.mean())
    assert metrics.auc(table.label, fitted) > before["auc"] - 0.02


def test_a_film_has_no_say_in_its_own_answer(shifted):
    """With labels that mean nothing, a fit that saw its own films would do better than chance."""
    table, probability = shifted
    accuracies = []
    for seed in range(8):
        meaningless = table.assign(label=np.random.default_rng(100 + seed).integers(0, 2, len(table)))
        accuracies.append((external.recalibrated(meaningless, probability)[1] == meaningless.label).mean())
    assert np.mean(accuracies) < 0.53


def test_recalibration_needs_two_patients_a_class():
    table = pd.DataFrame({"label": [0, 1, 1], "patient": ["a", "b", "c"]})
    with pytest.raises(Problem, match="fewer than two patients"):
        external.recalibrated(table, [0.1, 0.8, 0.9])


def test_the_what_if_is_another_rendering_of_the_same_films(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"path": [f"{i}.jpeg" for i in range(12)], "label": [0, 1] * 6, "class_name": ["NORMAL", "PNEUMONIA"] * 6}
    )
    for path in table.path:
        Image.fromarray(draw_chest(rng, "normal", (200, 240))).save(tmp_path / path)
    place = external.simulate(tmp_path, table)
    first = {path.name: path.read_bytes() for path in sorted(place.rglob("*.png"))}
    assert len(first) == 12 and {path.name for path in place.iterdir()} == {"normal", "pneumonia"}
    again = {path.name: path.read_bytes() for path in sorted(external.simulate(tmp_path, table).rglob("*.png"))}
    assert again == first, "the same seed, the same films"
