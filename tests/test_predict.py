"""`make predict`: what it leaves, what it keeps of an earlier run, and what a file may be called."""

import csv
import json
import os
import re
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import answers, films, page, predict
from cxr.backend import keras
from cxr.paths import Problem

SIZE = 32
BRIGHT = "is too bright"


class Gate:
    """Refuses bright pictures, and calls dark ones typical."""

    def predict(self, pictures):
        return [BRIGHT if bright else "" for bright in pictures.mean(axis=(1, 2)) > 200]

    def typicality(self, pictures):
        return 1 - pictures.mean(axis=(1, 2)) / 255


class Reader(predict.Reader):
    """Writes down which files it has looked at."""

    def __call__(self, paths, *others):
        self.seen = [*getattr(self, "seen", []), *(path.name for path in paths)]
        return super().__call__(paths, *others)


def explain(pixels, table, ill):
    """Lungs in the middle, and heat on the left of films that have an answer."""
    fields, maps = np.zeros(pixels.shape, bool), np.zeros(pixels.shape, np.float32)
    fields[:, 8:24, 8:24] = True
    maps[:, :, :8] = table.probability.notna().to_numpy()[:, None, None]
    return fields, maps


explain.made_of = {"03_lungs.keras": "3" * 64}


@pytest.fixture(scope="module")
def ensemble():
    """Three "seeds": two that call films lighter than 0.4 ill, one that never does."""
    entry = keras.layers.Input((SIZE, SIZE, 1))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(entry))
    answer = keras.layers.Dense(3, activation="sigmoid")
    network = keras.Model(entry, answer(mean))
    answer.set_weights([np.array([[20.0, 20.0, 0.0]]), np.array([-8.0, -8.0, -3.0])])
    return network


@pytest.fixture
def reader(ensemble):
    return Reader(ensemble, Gate(), [0.5, 0.5, 0.5], kept_seed=0, temperature=2.0, made_of={"09_gate.keras": "9" * 64})


def film(path, level=60):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(level).integers(0, 20, (64, 64), np.uint8)
    Image.fromarray(noise + np.uint8(level)).save(path)


@pytest.fixture
def place(tmp_path):
    """Six films in a folder, one of them in a folder below, one refused and one that can't be read."""
    levels = {"a.png": 20, "b.png": 60, "c.png": 140, "d.png": 220, "sub/f.png": 90}
    for name, level in levels.items():
        film(tmp_path / "films" / name, level)
    (tmp_path / "films/e.jpeg").write_bytes(b"<html>")
    return tmp_path / "films"


NAMES = ["a.png", "b.png", "c.png", "d.png", "e.jpeg", "sub/f.png"]


@pytest.fixture
def look(place, tmp_path, reader, monkeypatch):
    """Looks at the films two at a time; returns the files that were looked at."""
    monkeypatch.setattr(predict, "CHUNK", 2)

    def call(where=place, reader=reader, explain=explain, anyway=False, to=tmp_path / "predictions.csv"):
        reader.seen = []
        predict.run(where, to, reader, explain, anyway)
        return reader.seen

    return call


def read(path):
    return pd.read_csv(path, keep_default_na=False, dtype=str)


def data(path):
    return json.loads(path.read_text(encoding="utf-8"))


def cards(folder, name="predictions.html"):
    text = (folder / name).read_text(encoding="utf-8")
    return {re.search("<h2>(.*?)</h2>", card)[1]: card for card in re.findall("<article .*</article>", text)}


def everything(folder):
    """What three files say, but for the time."""
    found = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("predictions*"))}
    return {name: re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "", text) for name, text in found.items()}


def test_three_files_say_the_same(place, tmp_path, look):
    (place / "note.txt").write_text("x")
    assert look() == [name.removeprefix("sub/") for name in NAMES]
    table, found = read(tmp_path / "predictions.csv"), data(tmp_path / "predictions.json")
    assert list(table) == predict.COLUMNS and list(table.file) == NAMES
    assert list(table.answer) == ["normal", "normal", "pneumonia", "cannot tell", "cannot tell", "normal"]
    assert [*table.reason[[0, 3]], table.reason[4][:16]] == ["", BRIGHT, "is not a picture"]
    for row, line in zip(found["rows"], table.to_dict("records")):
        for name in predict.COLUMNS:
            same = line[name] == ("" if row[name] is None else row[name])
            assert same or float(line[name]) == row[name], (row["file"], name)
    assert table.typicality[4] == "" and float(table.typicality[3]) == pytest.approx(0.1, abs=0.05)
    assert (table.probability == "").tolist() == [False, False, False, True, True, False]
    counts = {name: found["counts"][name] for name in ("files", "looked_at", "answered", "declined", "by_answer")}
    by_answer = {"normal": 3, "pneumonia": 1}
    assert counts == {"files": 6, "looked_at": 6, "answered": 4, "declined": 2, "by_answer": by_answer}
    assert found["finished"] and found["passed_over"] == {"count": 1, "first": ["note.txt"]}
    assert (
        found["temperature"] == 2
        and found["threshold"] == 0.5
        and set(found["networks"]) == {"09_gate.keras", "03_lungs.keras"}
    )
    assert [*cards(tmp_path)] == NAMES
    assert str(tmp_path) not in "".join(everything(tmp_path).values())
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        f"predictions.{ending}" for ending in ("csv", "html", "json")
    ]


def test_a_card_says_what_the_table_says(tmp_path, look):
    look()
    found = cards(tmp_path)
    assert "Pneumonia is about as likely as not: 0.4" in found["sub/f.png"] and ">normal</p>" in found["sub/f.png"]
    assert "3 of 3 networks agree" in found["b.png"] and "2 of 3 networks agree" in found["c.png"]
    assert re.search(r"More typical than \d+% of", found["b.png"])
    assert f"It {BRIGHT}." in found["d.png"] and "networks agree" not in found["d.png"]
    assert "no picture" in found["e.jpeg"] and "<img" not in found["e.jpeg"]
    assert 'data-said="1"' in found["a.png"] and 'data-said="0"' in found["d.png"]
    assert found["a.png"].count("data:image/webp") == 2 and found["a.png"].count(" alt=") == 2
    text = (tmp_path / "predictions.html").read_text(encoding="utf-8")
    assert text.index("Not a diagnostic device") < text.index("<h1>") and "6 files: 4 with an answer" in text
    assert "09_gate.keras (999999999999)" in text


# --- again ----------------------------------------------------------------------------------------------------


def test_a_second_run_looks_at_nothing_and_changes_nothing(tmp_path, look, capsys):
    look()
    before = everything(tmp_path)
    assert look() == [] and everything(tmp_path) == before
    assert "6 of 6 files were answered before" in capsys.readouterr().out


TORN = {
    "between two chunks": None,
    "in the table": ("predictions.csv", "normal", 3),
    "in the JSON": ("predictions.json", '"c.png"', 20),
    "in the page": ("predictions.html", "<h2>c.png", 20),
}


@pytest.mark.parametrize("cut", TORN.values(), ids=TORN)
def test_killed_in_the_middle_it_goes_on(tmp_path, look, monkeypatch, cut):
    look()
    whole = everything(tmp_path)
    for path in tmp_path.glob("predictions*"):
        path.unlink()
    chunks = iter([explain, explain])
    with monkeypatch.context() as patch:
        patch.setattr(answers.Answers, "close", lambda self: None)  # a killed program does not close
        with pytest.raises(StopIteration):
            look(explain=type("Dies", (), {"__call__": lambda self, *a: next(chunks)(*a), **vars(explain)})())
    assert list(read(tmp_path / "predictions.csv").file) == NAMES[:4]
    half = data(tmp_path / "predictions.json")
    assert half["finished"] is False and half["counts"]["looked_at"] == 4 and [*cards(tmp_path)] == NAMES[:4]
    assert "Not finished" in (tmp_path / "predictions.html").read_text()
    if cut:
        name, at, more = cut
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text[: text.rindex(at) + more])
    torn = cut and cut[0] != "predictions.csv"
    assert look() == (["c.png", "d.png"] if torn else []) + ["e.jpeg", "f.png"]
    after = everything(tmp_path)
    assert {name: after[name] for name in whole} == whole


def test_ctrl_c_leaves_whole_files_and_says_how_to_go_on(place, tmp_path, look, reader, monkeypatch, capsys):
    chunks = iter([explain])

    class Interrupted:
        made_of = explain.made_of

        def __call__(self, *given):
            for chunk in chunks:
                return chunk(*given)
            raise KeyboardInterrupt

    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(predict.Reader, "load", lambda: reader)
    monkeypatch.setattr(predict.Explainer, "load", lambda _: Interrupted())
    with pytest.raises(SystemExit) as stopped:
        predict.main([str(place), "--to", str(tmp_path / "predictions.csv")])
    assert stopped.value.code == 130 and "the same command goes on" in capsys.readouterr().err
    assert list(read(tmp_path / "predictions.csv").file) == NAMES[:2]
    assert look() == ["c.png", "d.png", "e.jpeg", "f.png"]


def test_a_new_file_takes_its_place_and_the_others_are_kept(place, tmp_path, look):
    look()
    film(place / "aa.png")
    assert look() == ["aa.png"] and list(read(tmp_path / "predictions.csv").file) == ["a.png", "aa.png", *NAMES[1:]]
    assert [row["file"] for row in data(tmp_path / "predictions.json")["rows"]] == ["a.png", "aa.png", *NAMES[1:]]
    assert [*cards(tmp_path)] == ["a.png", "aa.png", *NAMES[1:]] and len([*tmp_path.glob("predictions*")]) == 3


def test_a_changed_file_is_looked_at_anew_and_its_old_answer_is_kept_aside(place, tmp_path, look, capsys):
    look()
    before = everything(tmp_path)
    film(place / "b.png", 150)
    assert look() == ["b.png"]
    assert read(tmp_path / "predictions.csv").answer[1] == "pneumonia"
    after = everything(tmp_path)
    assert all(after[name.replace(".", " (1).")] == text for name, text in before.items())
    assert "predictions.csv had answers for files that were changed or are gone" in capsys.readouterr().out


def test_a_file_that_had_no_answer_may_change_without_ado(place, tmp_path, look):
    look()
    film(place / "e.jpeg")
    assert look() == ["e.jpeg"] and len([*tmp_path.glob("predictions*")]) == 3


OTHER = {
    "another folder": (lambda place, reader: {"where": place / "sub"}, "of another folder", 1),
    "other thresholds": (lambda place, reader: setattr(reader, "thresholds", np.full(3, 0.9)), "of other networks", 6),
    "another gate": (lambda place, reader: reader.made_of.update({"09_gate.keras": "8" * 64}), "of other networks", 6),
    "anyway": (lambda place, reader: {"anyway": True}, "that were asked for with another choice of --anyway", 6),
}


@pytest.mark.parametrize("change, said, looked_at", OTHER.values(), ids=OTHER)
def test_answers_of_another_run_are_kept_under_another_name(
    place, tmp_path, look, reader, capsys, change, said, looked_at
):
    look()
    before = everything(tmp_path)
    assert len(look(**(change(place, reader) or {}))) == looked_at
    out = capsys.readouterr().out
    assert f"predictions.csv had answers {said}" in out and "they are now in predictions (1).csv." in out
    after = everything(tmp_path)
    assert all(after[name.replace(".", " (1).")] == text for name, text in before.items()) and len(after) == 6


@pytest.mark.parametrize("kept", ["note of a reader", "", "file,answer\nmine,1\n"])
def test_a_table_that_is_not_from_here_is_kept(tmp_path, look, kept):
    (tmp_path / "predictions.csv").write_text(kept)
    (tmp_path / "predictions (1).json").write_text("{}")
    look()
    aside = tmp_path / "predictions (2).csv"
    assert (aside.read_text() == kept) if kept else not aside.exists()
    assert len(read(tmp_path / "predictions.csv")) == 6


def test_a_table_that_was_edited_is_kept_and_its_films_are_not_looked_at_again(tmp_path, look):
    look()
    path = tmp_path / "predictions.csv"
    path.write_text(path.read_text().replace("normal", "I think: ill"))
    assert look() == [] and "I think: ill" in (tmp_path / "predictions (1).csv").read_text()
    assert "I think" not in path.read_text()


# --- names ----------------------------------------------------------------------------------------------------

ODD = ["=1+1.png", "+a.png", "-b.png", "@c.png", "\td.png", "'e.png", "<b>.png", '"q",.png', "a\nb.png", "é & ü.png"]


def test_a_name_is_no_formula_no_tag_and_still_the_name(tmp_path, look):
    names = sorted(ODD)
    for name in names:
        film(tmp_path / "odd" / name)
    look(tmp_path / "odd")
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as stream:
        cells = [row[0] for row in csv.reader(stream)][1:]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in cells)
    assert [cell.removeprefix("'") for cell in cells] == names and "''e.png" in cells and "<b>.png" in cells
    assert [row["file"] for row in data(tmp_path / "predictions.json")["rows"]] == names
    text = (tmp_path / "predictions.html").read_text(encoding="utf-8")
    assert "<b>.png" not in text and "<h2>&lt;b&gt;.png</h2>" in text and "<h2>=1+1.png</h2>" in text
    assert 'alt="X-ray &#34;q&#34;,.png"' in text and r"<h2>a\nb.png</h2>" in text
    assert len(cards(tmp_path)) == len(names) and look(tmp_path / "odd") == []


@pytest.mark.skipif(sys.platform != "linux", reason="only there a name may be no text")
def test_a_name_that_is_no_text(tmp_path, look):
    film(tmp_path / "odd/a.png")
    os.rename(tmp_path / "odd/a.png", os.fsencode(tmp_path / "odd") + b"/a\xff.png")
    look(tmp_path / "odd")
    assert read(tmp_path / "predictions.csv").file[0] == r"a\udcff.png" and look(tmp_path / "odd") == []


# --- what is there, and what is passed over -------------------------------------------------------------------


def test_what_is_passed_over_is_counted_and_named(place, tmp_path, look, reader, monkeypatch, capsys):
    for name in ("note.txt", ".hidden.png", ".folder/a.png", "sub/<i>.gif"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("x")
    (place / "gone.png").symlink_to("nowhere")
    passed = [path.relative_to(place).as_posix() for path in films.passed_over(place, films.collect(place))]
    assert passed == [".folder", ".hidden.png", "gone.png", "note.txt", "sub/<i>.gif"]
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(predict.Reader, "load", lambda: reader)
    monkeypatch.setattr(predict.Explainer, "load", lambda _: explain)
    monkeypatch.setattr(predict, "FEW", 2)
    predict.main([str(place), "--to", str(place / "predictions.csv")])
    predict.main([str(place), "--to", str(place / "predictions.csv")])  # its own files are not among them
    assert "Passed over: 5 files (.folder, .hidden.png, ...)." in capsys.readouterr().out.splitlines()[-2]
    assert data(place / "predictions.json")["passed_over"] == {"count": 5, "first": [".folder", ".hidden.png"]}
    text = (place / "predictions.html").read_text()
    assert "5 other files in the folder were passed over" in text and ".folder, .hidden.png, ...</p>" in text


def test_one_file(place, tmp_path, look):
    assert look(place / "c.png") == ["c.png"]
    assert list(read(tmp_path / "predictions.csv").file) == ["c.png"] and [*cards(tmp_path)] == ["c.png"]
    assert "1 file: 1 with an answer, 0 without." in (tmp_path / "predictions.html").read_text()
    assert data(tmp_path / "predictions.json")["passed_over"]["count"] == 0


def test_a_file_that_goes_away_meanwhile_is_a_row_and_asked_for_again(place, tmp_path, look, monkeypatch):
    stamp = answers.stamp
    monkeypatch.setattr(
        answers, "stamp", lambda path: (path.unlink(), stamp(path))[1] if path.name == "a.png" else stamp(path)
    )
    look()
    assert "can't be read" in read(tmp_path / "predictions.csv").reason[0]
    monkeypatch.undo()
    film(place / "a.png")
    assert "a.png" in look()


def test_no_picture_is_a_problem_and_the_old_files_stay(tmp_path, look):
    look()
    before = everything(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Problem, match="empty holds no picture: put files there"):
        look(tmp_path / "empty")
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    "to, said",
    [
        ("nowhere/out.csv", r"out.csv can't be written \(No such file or directory\): .*--to"),
        ("folder.csv", r"folder.csv is a folder: name another table with --to"),
        ("out.json", r"out.json is no name of a table: let --to end in .csv"),
    ],
)
def test_a_table_that_cannot_be_written_is_a_problem_before_anything_is_loaded(place, tmp_path, to, said):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(Problem, match=said):
        predict.main([str(place), "--to", str(tmp_path / to)])


def test_a_full_disk_is_a_problem_and_the_rows_before_it_stay(tmp_path, look, monkeypatch):
    add, calls = answers.Answers.add, iter([1])

    def fill(self, *given):
        if next(calls, None) is None:
            self.table = tmp_path / "gone" / "predictions.csv"
        return add(self, *given)

    monkeypatch.setattr(answers.Answers, "add", fill)
    with pytest.raises(Problem, match="predictions.csv can't be written .*start again, which goes on from here"):
        look()
    assert list(read(tmp_path / "predictions.csv").file) == NAMES[:2]


def test_two_at_once_are_not_let_in(place, tmp_path, monkeypatch):
    """The second one is told before it loads a network."""
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(predict.Reader, "load", lambda: predict.main(arguments))
    arguments = [str(place), "--to", str(tmp_path / "predictions.csv")]
    with pytest.raises(Problem, match="predictions.csv is being written by another make predict: wait"):
        predict.main(arguments)


def test_a_cache_that_cannot_be_written_is_named(place, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(Problem, match="can't be written .*CXR_CACHE_DIR"):
        predict.main([str(place), "--to", str(tmp_path / "predictions.csv")])


def test_a_bad_file_among_threads_keeps_its_place(place):
    paths = films.collect(place)
    found = films.read_all(paths, SIZE)
    assert [isinstance(one, Problem) for one in found] == [path.suffix == ".jpeg" for path in paths]
    for path, one in zip(paths, found):
        if not isinstance(one, Problem):
            np.testing.assert_array_equal(one.pixels, films.read(path, SIZE).pixels)


# --- despite the gate -----------------------------------------------------------------------------------------


def test_anyway_answers_are_marked_and_keep_their_reason(tmp_path, look):
    look(anyway=True)
    table = read(tmp_path / "predictions.csv")
    assert table.answer[3] == "despite the gate: pneumonia" and table.reason[3] == BRIGHT and table.probability[3]
    assert table.answer[4] == predict.CANNOT and table.probability[4] == "", "nothing was seen of it"
    assert list(table.answer[:3]) == ["normal", "normal", "pneumonia"]
    assert data(tmp_path / "predictions.json")["anyway"] is True
    card = cards(tmp_path)["d.png"]
    assert ">despite the gate: pneumonia</p>" in card and f"The gate says: it {BRIGHT}." in card
    assert "even where the gate refuses" in (tmp_path / "predictions.html").read_text()


# --- the page -------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere(tmp_path, look):
    look()
    text = (tmp_path / "predictions.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!["']?data:)|url\(|@import|<link|<script\s|https?:""", text)
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>") and "prefers-color-scheme" in text


def test_a_card_is_small():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :128] / 128
    body = 120 + 80 * np.sin(25 * y) * np.cos(9 * x) + rng.normal(0, 6, (128, 128))
    field = (np.hypot(y - 0.5, x - 0.3) < 0.2) | (np.hypot(y - 0.5, x - 0.7) < 0.2)
    heat = np.exp(-((y - 0.5) ** 2 + (x - 0.4) ** 2) * 12).astype(np.float32)
    row = dict(zip(predict.COLUMNS, ["a" * 60, "pneumonia", 0.91, 1.0, 0.5, ""])) | {"bytes": 1, "modified": 1}
    facts = {"names": ["normal", "pneumonia"], "threshold": 0.4, "seeds": 5}
    card = page.card("f0", row, facts, body.clip(0, 255).astype(np.uint8), field, heat)
    assert len(card) < 8_000 and "\n" not in card and "very unlikely" not in card and "likely: 0.91" in card


def test_marks_show_the_edge_and_the_heat_and_nothing_else():
    field, heat = np.zeros((2, 16, 16))
    field[4:12, 4:12], heat[:, 14:] = 1, 1
    layer = page.marks(field.astype(bool), heat)
    assert (layer[4, 4:12] == page.EDGE).all() and (layer[5:11, 5:11, 3] == 0).all()
    assert (layer[:, 14:, 3] == 153).all() and (layer[:3, :14, 3] == 0).all()


@pytest.mark.parametrize(
    "value, said", [(0.0, "below 0.01"), (0.05, "0.05"), (0.994, "above 0.99"), (1.0, "above 0.99")]
)
def test_figures_and_words_at_the_ends(value, said):
    assert page.figure(value) == said and page.in_words(value).startswith(("very", "unlikely"))


def test_a_map_that_cannot_be_made_leaves_the_others(monkeypatch, ensemble):
    """Of four films, the third has a map that is zero everywhere, and the last leans to the other answer."""

    def gradcam(network, pictures, label):
        if (pictures[:, 0, 0] == 3).any():
            raise Problem("zero everywhere")
        return np.ones(pictures.shape, np.float32)

    monkeypatch.setattr(predict.saliency, "gradcam", gradcam)
    monkeypatch.setattr(predict.lungs, "find", lambda network, pictures: np.full(pictures.shape, 255, np.uint8))
    pictures = np.arange(1, 6, dtype=np.uint8)[:, None, None] * np.ones((SIZE, SIZE), np.uint8)
    table = pd.DataFrame({"answer": ["ill", "normal", "ill", "ill", "cannot tell"]})
    table["probability"] = [0.9, 0.1, 0.9, 0.4, np.nan]
    fields, maps = predict.Explainer(ensemble, ensemble)(pictures, table, "ill")
    assert maps.any(axis=(1, 2)).tolist() == [True, True, False, False, False]
    assert fields.all(axis=(1, 2)).tolist() == [True, True, True, True, False]
