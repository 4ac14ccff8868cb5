"""The gate passes what is like the films it was fitted on and names what is not; an answer needs it open."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import gate, own, strangers
from cxr.backend import keras
from cxr.practice import draw_chest

SIZE = 64


def chests(seed, count):
    rng = np.random.default_rng(seed)
    drawn = (draw_chest(rng, kind, (160, 200)) for _, kind in zip(range(count), ("normal", "virus") * count))
    return np.stack([np.asarray(Image.fromarray(film).resize((SIZE, SIZE))) for film in drawn])


@pytest.fixture(scope="module")
def fitted():
    """A gate, its limits, and films that it has not seen."""
    model = gate.fit(chests(0, 160))
    limits = np.quantile(gate.distances(model, chests(1, 80)), 0.99, axis=0)
    return model, limits, chests(2, 80)


def test_distances_are_those_of_the_textbook():
    pictures = chests(3, 60)
    model = gate.fit(pictures, components=8)
    k = SIZE // gate.SIDE
    small = pictures.reshape(60, gate.SIDE, k, gate.SIDE, k).mean(axis=(2, 4)).reshape(60, -1)
    small = (small - small.mean(1, keepdims=True)) / np.sqrt(small.var(1, keepdims=True) + 1e-3)
    centred = small - small.mean(axis=0)
    variance, directions = np.linalg.eigh(centred.T @ centred / 60)
    code = centred @ directions[:, -8:]
    usual = (code ** 2 / variance[-8:]).sum(axis=1) / 8
    left = ((centred - code @ directions[:, -8:].T) ** 2).sum(axis=1)
    expected = np.log(np.stack([usual, left / left.mean()], axis=1))
    np.testing.assert_allclose(gate.distances(model, pictures), expected, atol=0.02)


def test_most_films_pass_and_strangers_do_not(fitted):
    model, limits, fresh = fitted
    assert np.mean([said == "" for said in gate.reasons(model, fresh, limits)]) >= 0.9
    for name, odd in strangers.gallery(fresh[:40]).items():
        assert odd.shape[1:] == (SIZE, SIZE) and odd.dtype == np.uint8
        refused = np.mean([said != "" for said in gate.reasons(model, odd, limits)])
        assert refused >= (0.6 if name == "films in part" else 0.9), name


@pytest.mark.parametrize("change, said", [
    (lambda p: 255 - p, "is inverted"), (lambda p: p[:, ::-1, ::-1], "is upside down"),
    (lambda p: np.rot90(p, 1, (1, 2)), "is turned counterclockwise"),
    (lambda p: np.rot90(p, 3, (1, 2)), "is turned clockwise")])
def test_a_film_held_the_wrong_way_is_told_so(fitted, change, said):
    model, limits, fresh = fitted
    found = gate.reasons(model, change(fresh).copy(), limits)
    assert np.mean([one.startswith(said) for one in found]) > 0.7


def test_a_flat_picture_is_refused(fitted):
    model, limits, _ = fitted
    flat = np.stack([np.full((SIZE, SIZE), value, np.uint8) for value in (0, 128, 255)])
    assert all(gate.reasons(model, flat, limits))


def test_a_saved_gate_says_the_same(fitted, tmp_path):
    model, limits, fresh = fitted
    model.save(tmp_path / "gate.keras")
    again = keras.models.load_model(tmp_path / "gate.keras", compile=False)
    np.testing.assert_allclose(gate.distances(again, fresh), gate.distances(model, fresh), atol=1e-4)
    assert (tmp_path / "gate.keras").stat().st_size < 1_000_000


# --- answers --------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def reader(fitted):
    """Three "seeds": two that call bright films ill, one that never does."""
    model, limits, _ = fitted
    entry = keras.layers.Input((SIZE, SIZE, 1))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(entry))
    answer = keras.layers.Dense(3, activation="sigmoid")
    ensemble = keras.Model(entry, answer(mean))
    answer.set_weights([np.array([[20.0, 20.0, 0.0]]), np.array([-8.0, -8.0, -3.0])])
    return own.Reader(ensemble, model, limits, [0.5, 0.5, 0.5], kept=0, temperature=2.0)


def test_answers_are_calibrated_counted_and_refused(fitted, reader, tmp_path):
    film = fitted[2][[not said for said in gate.reasons(fitted[0], fitted[2], fitted[1])]][0]
    Image.fromarray(film).save(tmp_path / "film.png")
    Image.fromarray(255 - film).save(tmp_path / "inverted.png")
    (tmp_path / "page.jpeg").write_bytes(b"<html>")
    paths = sorted(tmp_path.iterdir())
    table, pixels = reader(paths)
    rows = table.set_index("file")
    assert list(table.columns) == own.COLUMNS and list(table.file) == ["film.png", "inverted.png", "page.jpeg"]
    np.testing.assert_array_equal(pixels[0], film)
    assert not pixels[2].any()
    odds = 20 * film.mean() / 255 - 8
    assert rows.probability["film.png"] == pytest.approx(1 / (1 + np.exp(-odds / 2)), abs=1e-3), "tempered"
    assert rows.answer["film.png"] == ("pneumonia" if odds >= 0 else "normal")
    assert rows.agreement["film.png"] == pytest.approx(2 / 3 if odds >= 0 else 1)
    assert (rows.answer[["inverted.png", "page.jpeg"]] == own.CANNOT).all() and rows.probability[1:].isna().all()
    assert reader.cut == pytest.approx(0.5)
    assert "not a picture" in rows.reason["page.jpeg"] and rows.reason["film.png"] == ""
    assert str(tmp_path) not in table.to_csv()


def test_no_file_no_answer(reader):
    table, pixels = reader([])
    assert len(table) == 0 and list(table.columns) == own.COLUMNS and len(pixels) == 0


def test_examples_are_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    films = pd.DataFrame({"path": [f"{i}.jpeg" for i in range(8)], "label": [0, 1] * 4})
    for name in films.path:
        Image.fromarray(chests(len(name), 1)[0]).save(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.jpeg")}
    place = strangers.write_examples(tmp_path, films)
    assert len(list(place.iterdir())) == 12
    again = strangers.write_examples(tmp_path, films)
    assert again == place and len(list(place.iterdir())) == 12
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.jpeg")} == before
