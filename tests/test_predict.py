"""`make predict`: what it leaves, what it keeps of an earlier run, and what a file may be called."""

import csv
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import predict
from cxr.backend import keras
from cxr.paths import Problem

SIZE = 32
BRIGHT = "is too bright"
NAMES = ["a.png", "b.png", "c.png", "d.png", "e.jpeg", "sub/f.png"]


class Gate:
    """Declines bright pictures, and calls dark ones typical."""

    lung_network = None

    def predict(self, pictures):
        return [BRIGHT if bright else "" for bright in pictures.mean(axis=(1, 2)) > 200]

    def typicality(self, pictures):
        return 1 - pictures.mean(axis=(1, 2)) / 255


class Reader(predict.Reader):
    """Writes down which files it has looked at; its lungs lie in the middle, its heat on the left."""

    def __call__(self, paths, *others):
        self.seen = [*getattr(self, "seen", []), *(path.name for path in paths)]
        return super().__call__(paths, *others)

    def explain(self, pixels, table):
        fields, maps = np.zeros(pixels.shape, bool), np.zeros(pixels.shape, np.float32)
        fields[:, 8:24, 8:24] = True
        maps[:, :, :8] = table.probability.notna().to_numpy()[:, None, None]
        return fields, maps


@pytest.fixture(scope="module")
def ensemble():
    """Three seeds: two that call films lighter than 0.4 ill, one that never does."""
    entry = keras.layers.Input((SIZE, SIZE, 1))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(entry))
    answer = keras.layers.Dense(3, activation="sigmoid")
    network = keras.Model(entry, answer(mean))
    answer.set_weights([np.array([[20.0, 20.0, 0.0]]), np.array([-8.0, -8.0, -3.0])])
    return network


@pytest.fixture
def reader(ensemble, tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(predict, "CHUNK", 2)
    return Reader(ensemble, None, Gate(), [0.5] * 3, 0, 2.0, made_of={"09_gate.keras": "9" * 64})


def film(path, level=60):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(level).integers(0, 20, (64, 64), np.uint8)
    Image.fromarray(noise + np.uint8(level)).save(path)


@pytest.fixture
def place(tmp_path):
    """Six films in a folder, one of them in a folder below, one declined and one that can't be read."""
    for name, level in {"a.png": 20, "b.png": 60, "c.png": 140, "d.png": 220, "sub/f.png": 90}.items():
        film(tmp_path / "films" / name, level)
    (tmp_path / "films/e.jpeg").write_bytes(b"<html>")
    return tmp_path / "films"


@pytest.fixture
def look(place, tmp_path, reader):
    """Looks at the films two at a time; returns the files that were looked at, and the table."""

    def call(*where, anyway=False, to=tmp_path / "films_answers.csv"):
        reader.seen = []
        table, _ = predict.run(where or [place], to, reader, anyway)
        return [*reader.seen], table

    return call


def read(path):
    return pd.read_csv(path, keep_default_na=False, dtype=str)


def cards(path):
    text = path.with_suffix(".html").read_text(encoding="utf-8")
    return {re.search("<h2>(.*?)</h2>", card)[1]: card for card in re.findall("<article .*?</article>", text, re.S)}


def test_three_files_say_the_same(place, tmp_path, look):
    (place / "note.txt").write_text("x")
    seen, path = look()
    assert seen == [name.removeprefix("sub/") for name in NAMES]
    table, found, shown = read(path), json.loads(path.with_suffix(".json").read_text()), cards(path)
    assert list(table) == predict.COLUMNS and list(table.file) == NAMES == [*shown]
    assert list(table.answer) == ["normal", "normal", "pneumonia", "cannot tell", "cannot tell", "normal"]
    assert [*table.reason[[0, 3]]] == ["", BRIGHT] and "not a picture" in table.reason[4]
    for row, line in zip(found["rows"], table.to_dict("records")):
        for name in predict.COLUMNS:
            same = line[name] == ("" if row[name] is None else row[name])
            assert same or float(line[name]) == row[name], (row["file"], name)
    odds = 20 * np.asarray(Image.open(place / "c.png")).mean() / 255 - 8
    assert float(table.probability[2]) == pytest.approx(1 / (1 + np.exp(-odds / 2)), abs=0.01), "by the temperature"
    assert found["counts"] == {"files": 6, "answered": 4, "declined": 2}
    assert found["passed_over"] == {"count": 1, "first": ["note.txt"]} and found["threshold"] == 0.5
    assert "3 of 3 networks agree" in shown["b.png"] and "2 of 3 networks agree" in shown["c.png"]
    assert f"It {BRIGHT}." in shown["d.png"] and "no picture" in shown["e.jpeg"] and "<img" not in shown["e.jpeg"]
    assert shown["a.png"].count("data:image/webp") == 2
    text = path.with_suffix(".html").read_text()
    assert text.index("Not a diagnostic device: trained on films of children") < text.index("<h1>")
    assert str(tmp_path) not in text + path.read_text() + path.with_suffix(".json").read_text()


def test_too_few_seeds_that_agree_are_no_answer(reader, look):
    reader.least_agreement, reader.trained_on = 0.8, predict.OTHERS
    path = look()[1]
    assert read(path).reason[2] == "divides the networks: 2 of 3 agree" and read(path).answer[1] == "normal"
    assert "children" not in path.with_suffix(".html").read_text(), "other data, neutral words"


def test_anyway_answers_are_marked_and_keep_their_reason(look):
    _, path = look(anyway=True)
    table = read(path)
    assert table.answer[3] == "despite the gate: pneumonia" and table.reason[3] == BRIGHT and table.probability[3]
    assert table.answer[4] == predict.CANNOT and table.probability[4] == "", "nothing was seen of it"
    assert f"The gate says: it {BRIGHT}." in cards(path)["d.png"]


def test_a_second_run_looks_at_new_and_changed_files_only(place, look):
    _, path = look()
    before = path.read_text()
    assert look() == ([], path) and path.read_text() == before
    film(place / "aa.png")
    film(place / "b.png", 150)
    assert look() == (["aa.png", "b.png"], path)
    assert list(read(path).file) == ["a.png", "aa.png", *NAMES[1:]] and read(path).answer[2] == "pneumonia"


def test_killed_in_the_middle_it_goes_on(tmp_path, look, monkeypatch):
    explain, chunks, table = Reader.explain, iter([1, 2]), tmp_path / "films_answers.csv"
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "explain", lambda *given: explain(*given) if next(chunks, None) else sys.exit(9))
        with pytest.raises(SystemExit):
            look()
    assert list(read(table).file) == NAMES[:4] and not table.with_suffix(".html").exists()
    (kept,) = (tmp_path / "cache/answers").glob("*.jsonl")
    kept.write_text(kept.read_text() + '\n{"stamp": "e')  # a line that was cut short
    assert look() == (["e.jpeg", "f.png"], table)
    assert list(read(table).file) == NAMES == [*cards(table)]


OTHER = {
    "thresholds": lambda reader, patch: setattr(reader, "thresholds", np.full(3, 0.9)),
    "gate": lambda reader, patch: reader.made_of.update({"09_gate.keras": "8" * 64}),
    "code": lambda reader, patch: patch.setattr(predict, "DESPITE", "even so: "),
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_answers_of_another_gate_are_not_kept(look, reader, monkeypatch, change):
    first = look()[1].read_text()
    change(reader, monkeypatch)
    seen, path = look()
    assert len(seen) == 6 and path.name == "films_answers (1).csv"
    assert path.with_stem("films_answers").read_text() == first


@pytest.mark.parametrize("ending, text", [(".csv", "file,answer\nmine,1\n"), (".json", "{}")])
def test_a_file_of_the_users_is_never_written_over(tmp_path, look, ending, text):
    mine = tmp_path / f"films_answers{ending}"
    mine.write_text(text)
    assert look()[1].name == "films_answers (1).csv" and mine.read_text() == text


def test_a_table_that_was_edited_is_kept(look):
    _, path = look()
    path.write_text(path.read_text().replace("normal", "I think: ill"))
    seen, again = look()
    assert seen == [] and again.name == "films_answers (1).csv" and "I think: ill" in path.read_text()


ODD = ["=1+1.png", "+a.png", "-b.png", "@c.png", "\td.png", "'e.png", "<b>.png", '"q",.png', "a\nb.png", "é & $x.png"]


def test_a_name_is_no_formula_no_tag_and_still_the_name(tmp_path, look):
    names = sorted(ODD)
    for name in names:
        film(tmp_path / "odd" / name)
    _, path = look(tmp_path / "odd")
    cells = [row[0] for row in csv.reader(path.read_text().splitlines(keepends=True))][1:]
    assert not any(cell.startswith(predict.FORMULA[:-1]) for cell in cells)
    assert [cell.removeprefix("'") for cell in cells] == names
    text = path.with_suffix(".html").read_text(encoding="utf-8")
    assert "<b>.png" not in text and "<h2>&lt;b&gt;.png</h2>" in text and r"<h2>a\nb.png</h2>" in text
    assert look(tmp_path / "odd") == ([], path)


@pytest.fixture
def command(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(predict.Reader, "load", lambda: reader)
    monkeypatch.setattr(predict, "ROOT", tmp_path)
    return lambda *arguments: predict.main([str(one) for one in arguments])


def test_the_table_is_named_after_the_folder_or_as_asked(place, tmp_path, command, capsys):
    (place / ".hidden.png").write_text("x")
    command(place)
    command(place / "c.png", place / "sub/f.png", "--to", tmp_path / "two.csv")
    assert list(read(tmp_path / "films_answers.csv").file) == NAMES
    assert list(read(tmp_path / "two.csv").file) == ["c.png", "sub/f.png"]
    assert "Passed over: 1 file (.hidden.png)." in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [(["nowhere"], "is not there: name a"), (["films", "--to", "out.json"], "out.json is no name of a table")],
)
def test_what_cannot_be_done_is_a_problem_before_anything_is_loaded(place, tmp_path, command, arguments, message):
    with pytest.raises(Problem, match=message):
        command(*(one if one == "--to" else tmp_path / one for one in arguments))


def test_a_cache_that_cannot_be_written_is_named(place, command, monkeypatch):
    monkeypatch.setenv("CXR_CACHE_DIR", str(place / "a.png"))
    with pytest.raises(Problem, match="can't be written .*CXR_CACHE_DIR"):
        command(place)


def test_a_map_that_cannot_be_made_leaves_the_others(ensemble, monkeypatch):
    """Of four films, nothing speaks for the answer to the third, and the last leans to the other answer."""
    heat = np.linspace(0, 1, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)
    maps = np.stack([heat, heat, np.ones_like(heat)])
    monkeypatch.setattr(predict.saliency, "gradcam", lambda *given, **options: maps)
    table = pd.DataFrame({"answer": ["pneumonia", "normal", "pneumonia", "pneumonia", "cannot tell"]})
    table["probability"] = [0.9, 0.1, 0.9, 0.4, np.nan]
    reader = predict.Reader(ensemble, ensemble, Gate(), [0.5] * 3, 0, 1.0)
    _, maps = reader.explain(np.zeros((5, SIZE, SIZE), np.uint8), table)
    assert maps.any(axis=(1, 2)).tolist() == [True, True, False, False, False]
