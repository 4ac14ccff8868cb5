"""Films from elsewhere: surveyed by class folder, held against home, recalibrated without looking at themselves."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import calibration, external, metrics, shortcuts
from cxr.backend import keras
from cxr.gallery import write_dicom
from cxr.paths import Problem
from drawn import draw_chest


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
    with pytest.raises(Problem, match="no film that can be read .6 files can't.*not a picture"):
        external.load(external.survey(tmp_path), tmp_path, 64)


def draw(folder, *names):
    """Small gray pictures under these names."""
    rng = np.random.default_rng(len(names))
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40), np.uint8)).save(folder / name)


@pytest.mark.parametrize(
    "names, labels",
    [
        (["normal/a.png", "normal/b.png"], {"normal": 0}),
        (["tuberculosis/a.png", "tuberculosis/b.png"], {"tuberculosis": 1}),
        (["Normal/a.png", "virus/a.png", "covid/a.png"], {"Normal": 0, "covid": 1, "virus": 1}),
        (["virus/a.png", "covid/a.png"], {"covid": 1, "virus": 1}),
        (["a.png", "b.png", "c.png"], {}),
        (["a.png", "b.png", "more/c.png"], {}),
    ],
    ids=["normal alone", "ill alone", "many", "many ill", "no classes", "no classes, a folder in it"],
)
def test_one_class_many_or_none(tmp_path, names, labels):
    draw(tmp_path, *names)
    table = external.survey(tmp_path)
    assert sorted(table.path) == sorted(names)
    assert table.dropna(subset="label").groupby("class_name").label.first().to_dict() == labels
    if not labels:
        assert table.label.isna().all() and set(table.class_name) == {""}
    read, pixels, _ = external.load(table, tmp_path, 32)
    assert len(read) == len(pixels) == len(names) and not external.enough(read)


CSVS = {
    "in it, by path": ("metadata.csv", "path,patient\nill/a.png,7\nill/b.png,7\nnormal/c.png,8\n", ["7", "7", "8"]),
    "by name, no ending": ("list.csv", "image_id,patient_id\na,x\nb,y\nc,x\n", ["x", "y", "x"]),
    "other columns too": ("metadata.csv", "File,Patient,view,age\nill/a.png,1,ap,44\nill/b.png,2,pa,3\n", ["1", "2"]),
    "beside it": ("../data.csv", "file,patient\nfilms/ill/a.png,1\nfilms/ill/b.png,1\nelsewhere/q.png,3\n", ["1", "1"]),
    "zeros kept": ("metadata.csv", "path,patient\nill/a.png,007\nill/b.png,7\n", ["007", "7"]),
    "a table of something else": ("notes.csv", "day,rain\n1,2\n", []),
    "beside it, of others": ("../data.csv", "file,patient\nother/ill/a.png,1\n", []),
}


@pytest.mark.parametrize("name, text, expected", CSVS.values(), ids=CSVS)
def test_a_csv_says_whose_the_films_are(tmp_path, name, text, expected):
    folder = tmp_path / "films"
    draw(folder, "ill/a.png", "ill/b.png", "normal/c.png")
    (folder / name).write_text(text, encoding="utf-8")
    table = external.survey(folder).set_index("path")
    bare = ["ill/a", "ill/b", "normal/c"]
    assert table.loc[["ill/a.png", "ill/b.png", "normal/c.png"]].patient.tolist() == expected + bare[len(expected) :]
    if "view" in text:
        assert table.view.tolist() == ["ap", "pa", ""] and table.age.tolist() == ["44", "3", ""]


def test_a_csv_names_source_and_licence(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    text = "path,patient,source,license\na.png,1,Hannover,CC BY 3.0\nb.png,2,Hannover,CC BY 3.0\n"
    (tmp_path / "metadata.csv").write_text(text)
    assert external.credit(external.survey(tmp_path)) == "Hannover, CC BY 3.0"
    (tmp_path / "metadata.csv").unlink()
    assert external.credit(external.survey(tmp_path)) == ""


BAD_CSVS = {
    "no patient column": ("path,who\na.png,1\n", "metadata.csv has the columns path, who: correct it"),
    "no patient": ("path,patient\na.png,\nb.png,2\n", "names no patient for a.png"),
    "two rows": ("path,patient\na.png,1\na.png,2\n", "two rows for a.png"),
    "other files": ("path,patient\nz.png,1\n", "no row for any film"),
    "no table": ('path,patient\n"a.png,1\n', "no table in UTF-8"),
}


@pytest.mark.parametrize("text, said", BAD_CSVS.values(), ids=BAD_CSVS)
def test_a_wrong_csv_is_named(tmp_path, text, said):
    draw(tmp_path, "a.png", "b.png")
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(Problem, match=said):
        external.survey(tmp_path)


BAD = {
    "not there": (lambda f: f.rmdir(), "is not there: set FOLDER"),
    "nothing in it": (lambda f: None, "holds no picture"),
    "an empty class": (lambda f: (draw(f, "ill/a.png"), (f / "normal").mkdir()), "normal holds no picture"),
    "films beside normal": (lambda f: draw(f, "a.png", "normal/b.png"), "films beside normal/, such as a.png"),
    "a folder a patient": (lambda f: draw(f, *(f"{i}/a.png" for i in range(21))), "21 folders, too many to be classes"),
    "one patient": (lambda f: draw(f, "a.png"), "one patient alone"),
}


@pytest.mark.parametrize("make, said", BAD.values(), ids=BAD)
def test_a_folder_that_is_no_hospital_is_named(tmp_path, make, said):
    folder = tmp_path / "films"
    folder.mkdir()
    make(folder)
    with pytest.raises(Problem, match=said):
        external.survey(folder)


def test_the_folder_is_the_parameters_or_the_environments_or_none(tmp_path, monkeypatch):
    monkeypatch.delenv("CXR_EXTERNAL_DIR", raising=False)
    assert external.place("") is None and external.place(str(tmp_path)) == tmp_path
    monkeypatch.setenv("CXR_EXTERNAL_DIR", str(tmp_path))
    (tmp_path / "own").mkdir()
    assert external.place("") == tmp_path and external.place(str(tmp_path / "own")) == tmp_path / "own"
    monkeypatch.setenv("CXR_EXTERNAL_DIR", str(tmp_path / "gone"))
    with pytest.raises(Problem, match="gone is not there: set CXR_EXTERNAL_DIR"):
        external.place("")
    with pytest.raises(Problem, match="lost is not there: set FOLDER"):
        external.place(str(tmp_path / "lost"))


def answered(label, **columns):
    """Twelve films of six patients, answered; every third one declined."""
    table = pd.DataFrame({"label": pd.array(label, "Int64"), "patient": [str(i // 2) for i in range(12)]})
    table["class_name"] = table.label.map({0: "Normal", 1: "ill"}).astype(object).fillna("")
    table["probability"] = np.linspace(0.05, 0.95, 12)
    table["reason"] = ["is upside down" if i % 3 == 0 else "" for i in range(12)]
    return table.assign(passes=table.reason == "", **columns)


def test_answers_with_both_classes_have_all_figures():
    table = answered([0] * 6 + [1] * 6, view=["ap", "pa"] * 6)
    found = external.answers(table, 0.4, 200).set_index("group")
    assert list(found.index) == [
        *("all", "passes the gate", "declined", "declined: is upside down"),
        *("class: ill", "class: normal", "view: ap", "view: pa"),
    ]
    whole = found.loc["all"]
    assert (whole.films, whole.patients, whole.auc) == (12, 6, 1) and whole.sensitivity == 1
    assert whole.specificity == pytest.approx(5 / 6) and whole.called_ill == pytest.approx(7 / 12)
    assert whole.specificity_low < 5 / 6 <= whole.specificity_high and whole.sensitivity_low < 0.5
    assert found.auc_low["all"] == 1 and np.isnan(found.specificity["class: ill"]) and np.isnan(found.auc["class: ill"])
    assert found.films[["passes the gate", "declined"]].tolist() == [8, 4]


def test_a_page_shows_only_figures_that_there_are():
    shown = external.readable(external.answers(answered([None] * 12), 0.4, 200))
    assert [*shown] == ["films", "patients", "called ill"] and shown.index[0] == "all"
    assert shown["called ill"].iloc[0].startswith("58% (")
    declined = external.readable(external.answers(answered([None] * 12).assign(passes=False), 0.4, 200))
    assert "all" in declined.index and not {"declined", "passes the gate"} & set(declined.index), "one row for one set"
    both = external.readable(external.answers(answered([0] * 6 + [1] * 6), 0.4, 200))
    assert [*both][2:] == ["called ill", "sensitivity", "specificity", "AUC"]
    assert both.AUC["all"] == "1.000 (1.000 to 1.000)" and both.specificity["class: ill"] == ""


def test_films_to_look_at_are_declined_ones_and_then_others():
    table = pd.DataFrame({"passes": [True, False] * 10 + [True]})
    assert external.sample(table, 3).tolist() == [1, 9, 19, 0, 10, 20]
    assert external.sample(table[~table.passes], 2).tolist() == [1, 19]


def test_a_folder_is_asked_and_introduced(hospital):
    detector = SimpleNamespace(predict=lambda pictures: ["is upside down"] + [""] * (len(pictures) - 1))
    network = keras.Sequential([keras.layers.Input((64, 64, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    films, pictures, broken = external.ask(hospital, 64, detector, network)
    assert films.passes.sum() == 11 and films.reason[0] == "is upside down" and pictures.shape == (12, 64, 64)
    assert films.probability.notna().all()
    found = external.summary(films, broken)
    assert (found["films"], found["unreadable"], found["classes"]) == (12, 1, ["Normal", "sick"])
    assert found["refused"] == pytest.approx(1 / 12) and found["reasons"] == {"is upside down": 1}
    assert external.reasons(films).loc["is upside down"].tolist() == [1, "8.3%"]
    said = external.introduced("Here", films, broken, False)
    assert "12 films of 12 patients, normal and ill ones; 1 files" in said and "rehearsal" not in said
    assert "is no result" in external.introduced("Here", films, broken, True)


@pytest.mark.parametrize("label, has", [(0, "specificity"), (1, "sensitivity"), (None, None)])
def test_answers_of_one_class_or_none_have_what_can_be_said(label, has):
    found = external.answers(answered([label] * 12), 0.4, 200).iloc[0]
    share = (np.linspace(0.05, 0.95, 12) >= 0.4).mean()
    assert found.called_ill == pytest.approx(share) and found.called_ill_low < share < found.called_ill_high
    for figure in ("sensitivity", "specificity", "auc"):
        assert np.isnan(found[figure]) == (figure != has)
    if has:
        assert found[has] == pytest.approx(share if label else 1 - share)


def test_a_gate_that_picks_by_class_is_seen():
    table = answered([0] * 6 + [1] * 6).assign(passes=[False] * 4 + [True] * 8)
    found = external.declined(table, 500)
    assert found["normal"][0] == pytest.approx(4 / 6) and found["ill"][0] == 0
    assert found["ill"][2] < 1 and found["normal"][1] < 4 / 6 <= found["normal"][2]


def test_no_group_of_foretold_probabilities_is_nearly_empty():
    rng = np.random.default_rng(0)
    probability = np.concatenate([rng.beta(0.2, 4, 150), rng.beta(8, 0.3, 300), rng.uniform(0, 1, 12)])
    label = rng.uniform(size=len(probability)) < probability
    found = calibration.reliability(label, probability, least=20)
    assert found.images.sum() == len(label) and found.images.min() >= 20 and found.foretold.is_monotonic_increasing
    assert len(calibration.reliability([0, 1, 1], [0.1, 0.5, 0.9], least=20)) == 1


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
    assert set(together) == {"all", "normal", "other"} and set(shifted.fact) <= set(facts) and len(shifted) >= 4
    unknown = away.assign(label=pd.array([None] * len(away), "Int64"))
    shifted, together = external.apart(facts, shortcuts.picture_facts(pixels), home_table, unknown)
    assert shifted[["normal", "other"]].isna().all(axis=None) and together["normal"] is together["other"] is None
    assert (shifted["all"] - 0.5).abs().max() > 0.45 and together["all"] > 0.9
    ill = away.label == 1
    seen = shortcuts.picture_facts(pixels[ill])
    shifted, together = external.apart(facts, seen, home_table, away[ill].reset_index(drop=True))
    assert shifted.normal.isna().all() and shifted.other.notna().any() and together["normal"] is None


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
    said = external.said_apart(shifted, together)
    assert f"**{together['normal']:.3f}** (normal films)" in said and "The most telling one alone: mean, 1.00." in said
    assert "too few patients" in external.said_apart(shifted, dict.fromkeys(together))


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


def test_the_rehearsal_is_another_rendering_of_the_same_films(tmp_path, monkeypatch):
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
