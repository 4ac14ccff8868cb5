"""The detector passes what is like the films it was fitted on and names what is not; an answer needs its leave."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from cxr import gallery, ood, predict
from cxr.backend import keras
from cxr.paths import ROOT, Problem
from drawn import draw_chest

SIZE = 64


def chests(seed, count):
    rng = np.random.default_rng(seed)
    drawn = (draw_chest(rng, kind, (160, 200)) for _, kind in zip(range(count), ("normal", "virus") * count))
    return np.stack([np.asarray(Image.fromarray(film).resize((SIZE, SIZE))) for film in drawn])


def adults(seed, count):
    """Drawn films with longer lungs: the lower third is stretched, the rest squeezed."""
    films = chests(seed, count)
    return np.stack([np.vstack([film[:21], film[21:42].repeat(2, axis=0)[:40], film[61:]]) for film in films])[:, :SIZE]


@pytest.fixture(scope="module")
def fitted():
    """A detector, and films that it has not seen."""
    theirs, patients = np.stack([adults(5, 60), adults(5, 60)[:, :, ::-1]]), np.arange(60) // 2
    detector = ood.OODDetector().fit(chests(0, 160), chests(1, 80), theirs, patients, quantile=0.99)
    return detector, chests(2, 80)


def test_distances_are_those_of_the_textbook():
    pictures = chests(3, 60)
    detector = ood.OODDetector(components=8).fit(pictures, pictures[:40], quantile=0.5)
    smooth = np.stack([gaussian_filter(film.astype(float), ood.BLUR, mode="constant", radius=3) for film in pictures])
    normed = (smooth - smooth.mean((1, 2), keepdims=True)) / np.sqrt(smooth.var((1, 2), keepdims=True) + 1e-3)
    trunk = ood.trunk(SIZE)

    def described(films):
        return trunk.predict(np.repeat(0.5 * films[..., None], 3, -1), verbose=0).astype(float)

    both = ood.cropped(pictures, 0.07)
    smooth = np.stack([gaussian_filter(film.astype(float), ood.BLUR, mode="constant", radius=3) for film in both])
    cut = (smooth - smooth.mean((1, 2), keepdims=True)) / np.sqrt(smooth.var((1, 2), keepdims=True) + 1e-3)
    known = np.concatenate([described(normed), described(cut)])
    z = (known - known.mean(axis=0)) / (known.std(axis=0) + 1e-3)
    variance, directions = np.linalg.eigh(z.T @ z / len(z))
    code = z @ directions[:, -8:]
    usual = (code**2 / variance[-8:]).sum(axis=1) / 8
    left = ((z - code @ directions[:, -8:].T) ** 2).sum(axis=1)
    expected = np.log(np.stack([usual, left / left.mean()], axis=1))
    np.testing.assert_allclose(detector.score(pictures)[:, :2], expected[:60], atol=0.05)
    np.testing.assert_allclose(detector.limits_[:2], np.median(expected[:40], axis=0), atol=0.05)


def test_adults_are_known_by_lines_that_have_not_seen_the_patient(fitted):
    detector, fresh = fitted
    others = adults(6, 40)
    found = detector.predict(others)
    assert np.mean([said == ood.ADULT for said in found]) > 0.8, "adults that it has never seen"
    assert np.mean([said == ood.ADULT for said in detector.predict(fresh)]) < 0.1
    assert detector.adult_scores_.shape == (2, 60)
    seen = detector.score(adults(5, 60))[:, 2]
    assert (detector.adult_scores_[0] > detector.limits_[2]).mean() > 0.8
    assert seen.mean() > detector.adult_scores_[0].mean(), "what was learned from is easier"
    spared = detector.predict(others, np.full(40, -np.inf))
    assert ood.ADULT not in spared


def test_a_child_among_the_adults_is_judged_by_the_others(fitted):
    theirs, patients = adults(5, 60), np.arange(60) // 2
    theirs[:2] = chests(7, 2)  # patient 0 is a child
    detector = ood.OODDetector().fit(chests(0, 160), chests(1, 80), theirs[None], patients, quantile=0.99)
    scores = detector.adult_scores_[0]
    assert scores[:2].max() < np.median(scores[2:]) and scores[:2].mean() < detector.score(theirs[:2])[:, 2].mean()


def test_a_part_of_a_film_is_told_from_a_whole_one(fitted):
    detector, fresh = fitted
    for half in (fresh[:, : SIZE // 2], fresh[:, SIZE // 2 :], fresh[:, :, : SIZE // 2], fresh[:, :, SIZE // 2 :]):
        said = detector.predict(ood.lungs.resized(half, SIZE))
        assert np.mean([one != "" for one in said]) > 0.9 and ood.PART in said
    assert np.mean([said == ood.PART for said in detector.predict(fresh)]) < 0.1


def test_parts_are_cut_from_each_side():
    ramp = np.add.outer(np.arange(SIZE), 3 * np.arange(SIZE))[None].repeat(60, axis=0).astype(np.uint8)
    left = ood.parted(ramp).astype(int)
    assert left.shape == ramp.shape and ood.parted(ramp[:0]).shape == (0, SIZE, SIZE)
    top, leftmost = left[:, 0, SIZE // 2] - ramp[0, 0, SIZE // 2], left[:, SIZE // 2, 0] - ramp[0, SIZE // 2, 0]
    high = left[:, -1, SIZE // 2] - left[:, 0, SIZE // 2]
    assert {*np.sign(np.round(top, -1))} >= {0, 1} and {*np.sign(np.round(leftmost, -1))} >= {0, 1}
    assert high.min() < 0.7 * (SIZE - 1) <= high.max()


def test_without_films_of_adults_the_line_is_the_projects_own():
    pictures = chests(3, 60)
    detector = ood.OODDetector().fit(pictures, pictures[:40])
    own = keras.models.load_model(ROOT / "results" / ood.FILE, compile=False)
    for one, other in zip(detector.network_.get_layer("adult").get_weights(), own.get_layer("adult").get_weights()):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(ood.trunk(SIZE).get_weights(), own.get_layer("trunk").get_weights()):
        np.testing.assert_array_equal(one, other)


def test_lungs_are_counted():
    def mask(*boxes):
        one = np.zeros((SIZE, SIZE), np.uint8)
        for top, bottom, left, right in boxes:
            one[top:bottom, left:right] = 255
        return one

    two, alone, none = mask((10, 50, 8, 28), (10, 40, 36, 56)), mask((10, 50, 8, 28)), mask()
    found = ood.anatomy(np.stack([two, alone, none]))
    np.testing.assert_allclose(found[0], [1400 / SIZE**2, 600 / 800, 28 / SIZE])
    np.testing.assert_allclose(found[1], [800 / SIZE**2, 0, 0])
    assert not found[2].any() and ood.anatomy(np.zeros((0, SIZE, SIZE), np.uint8)).shape == (0, 3)


def test_a_picture_without_two_lungs_is_told_so(fitted, monkeypatch):
    detector, fresh = fitted
    passing = fresh[[said == "" for said in detector.predict(fresh)]][:3]
    masks = np.zeros_like(passing)
    masks[0, 10:50, 8:28] = masks[0, 10:40, 36:56] = masks[1, 10:50, 8:28] = 255
    monkeypatch.setattr(ood.lungs, "find", lambda network, pictures: masks[: len(pictures)])
    monkeypatch.setattr(detector, "lung_network", object())
    monkeypatch.setattr(detector, "least_", np.array([0.1, 0.4, 0.2]))
    monkeypatch.setattr(ood, "MENDED", {})
    assert detector.predict(passing) == ["", ood.ONE_LUNG, ood.NO_LUNGS]


def test_typicality_is_the_share_of_validation_films_that_are_odder(fitted):
    detector, fresh = fitted
    known = detector.typicality(chests(1, 80))
    assert abs(known.mean() - 0.5) < 0.05 and (detector.typicality(255 - fresh) == 0).mean() > 0.9
    order = np.argsort(detector._oddness(detector.score(chests(1, 80))).max(axis=1))
    assert (np.diff(known[order]) <= 0).all()


def test_most_films_pass_and_other_pictures_do_not(fitted):
    detector, fresh = fitted
    assert np.mean([said == "" for said in detector.predict(fresh)]) >= 0.9
    kinds = gallery.gallery(fresh[:40])
    assert sum(name.startswith(gallery.ALTERED) for name in kinds) == 5 and len(kinds) == 10
    for name, pictures in kinds.items():
        assert pictures.shape[1:] == (SIZE, SIZE) and pictures.dtype == np.uint8 and len(pictures) >= 40
        refused = np.mean([said != "" for said in detector.predict(pictures)])
        assert refused >= 0.9, name
    assert np.mean([said == ood.NO_CHEST for said in detector.predict(kinds["photographs"])]) > 0.5
    assert ood.NO_CHEST not in detector.predict(fresh) + detector.predict(adults(6, 40))


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda p: 255 - p, "is inverted"),
        (lambda p: p[:, ::-1, ::-1], "is upside down"),
        (lambda p: np.rot90(p, 1, (1, 2)), "is turned counterclockwise"),
        (lambda p: np.rot90(p, 3, (1, 2)), "is turned clockwise"),
    ],
)
def test_a_film_held_the_wrong_way_is_told_so(fitted, change, said):
    detector, fresh = fitted
    found = detector.predict(change(fresh).copy())
    assert np.mean([one.startswith(said) for one in found]) > 0.7 and set(found) <= {
        "",
        ood.STRANGE,
        ood.ADULT,
        ood.PART,
        ood.NO_CHEST,
        *ood.MENDED,
    }


def test_a_flat_picture_is_refused(fitted):
    flat = np.stack([np.full((SIZE, SIZE), value, np.uint8) for value in (0, 128, 255)])
    assert all(fitted[0].predict(flat))


def test_a_saved_detector_says_the_same(fitted, tmp_path):
    detector, fresh = fitted
    detector.save(tmp_path / "ood.keras")
    again = ood.OODDetector.load(tmp_path / "ood.keras", detector.facts())
    np.testing.assert_allclose(again.score(fresh), detector.score(fresh), atol=1e-3)
    np.testing.assert_array_equal(again.limits_, detector.limits_)
    np.testing.assert_allclose(again.typicality(fresh), detector.typicality(fresh), atol=0.01)
    assert again.predict(255 - fresh) == detector.predict(255 - fresh)
    assert (tmp_path / "ood.keras").stat().st_size < 3_000_000


def test_a_file_that_does_not_say_the_same_is_not_kept(fitted, tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE), np.uint8)
    other = ood.OODDetector().fit(noise, noise)
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: other.network_)
    with pytest.raises(ValueError, match="ood.keras read back from disk"):
        fitted[0].save(tmp_path / "ood.keras")


# --- answers --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader(fitted):
    """Three "seeds": two that call bright films ill, one that never does."""
    entry = keras.layers.Input((SIZE, SIZE, 1))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(entry))
    answer = keras.layers.Dense(3, activation="sigmoid")
    ensemble = keras.Model(entry, answer(mean))
    answer.set_weights([np.array([[20.0, 20.0, 0.0]]), np.array([-8.0, -8.0, -3.0])])
    return predict.Reader(ensemble, fitted[0], [0.5, 0.5, 0.5], kept_seed=0, temperature=2.0)


def test_answers_are_calibrated_counted_and_refused(fitted, reader, tmp_path):
    detector, fresh = fitted
    film = fresh[detector.predict(fresh).index("")]
    Image.fromarray(film).save(tmp_path / "film.png")
    Image.fromarray(255 - film).save(tmp_path / "inverted.png")
    (tmp_path / "page.jpeg").write_bytes(b"<html>")
    paths = sorted(tmp_path.iterdir())
    table, pixels = reader(paths)
    rows = table.set_index("file")
    assert list(table.columns) == predict.COLUMNS and list(table.file) == ["film.png", "inverted.png", "page.jpeg"]
    np.testing.assert_array_equal(pixels[0], film)
    assert not pixels[2].any()
    odds = 20 * film.mean() / 255 - 8
    assert rows.probability["film.png"] == pytest.approx(1 / (1 + np.exp(-odds / 2)), abs=1e-3), "tempered"
    assert rows.answer["film.png"] == ("pneumonia" if odds >= 0 else "normal")
    assert rows.agreement["film.png"] == pytest.approx(2 / 3 if odds >= 0 else 1)
    assert (rows.answer[["inverted.png", "page.jpeg"]] == predict.CANNOT).all() and rows.probability[1:].isna().all()
    assert reader.cut == pytest.approx(0.5)
    assert "not a picture" in rows.reason["page.jpeg"] and rows.reason["film.png"] == ""
    assert str(tmp_path) not in table.to_csv()


def test_no_file_no_answer(reader):
    table, pixels = reader([])
    assert len(table) == 0 and list(table.columns) == predict.COLUMNS and len(pixels) == 0


def test_examples_are_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    films = pd.DataFrame({"path": [f"{i}.jpeg" for i in range(8)], "label": [0, 1] * 4})
    for name in films.path:
        Image.fromarray(chests(len(name), 1)[0]).save(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.jpeg")}
    place = gallery.write_examples(tmp_path, films)
    assert len(list(place.iterdir())) == 14
    again = gallery.write_examples(tmp_path, films, tmp_path / "0.jpeg")
    assert again == place and len(list(place.iterdir())) == 15 and (place / "15 adult.jpeg").exists()
    gallery.write_examples(tmp_path, films, disputed="3.jpeg")
    assert (place / "16 seeds disagree.jpeg").exists() and not (place / "15 adult.jpeg").exists()
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.jpeg")} == before


def test_only_a_film_with_a_free_licence_is_shown(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/5.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (40, 40)).save(tmp_path / name)
    rows = pd.DataFrame({"file": ["a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/5.png"], "patient": [*"vwxyz"]})
    rows.to_csv(tmp_path / "films.csv", index=False)
    assert gallery.licensed(tmp_path) == (None, "") and gallery.largest_source(tmp_path) is None
    told = rows.assign(source=["one", "one", "two", "two", "two"], license=["", "CC BY 4.0", "own", "CC0", "CC0"])
    told.to_csv(tmp_path / "films.csv", index=False)
    assert gallery.licensed(tmp_path) == (tmp_path / "b/4.png", "two, CC0")
    assert gallery.largest_source(tmp_path) == 3
    told.assign(license="all rights reserved").to_csv(tmp_path / "films.csv", index=False)
    assert gallery.licensed(tmp_path) == (None, "")


def test_what_is_declined_is_counted_by_kind_and_by_reason():
    said = {
        "validation films": ["", "", "", "is upside down"],
        "validation films, half resolution": [""] * 4,
        "faces": ["no lungs: none"] * 2,
        "films upside down": ["is upside down"],
        "films in part": ["", "one lung"],
    }
    reasons = {name: pd.Series(own) for name, own in said.items()}
    table = gallery.tally(reasons).set_index("pictures")
    assert table.refused.tolist() == [0.25, 0, 1, 1, 0.5] and table["count"].tolist() == [4, 4, 2, 1, 2]
    assert table["most frequent reason"].tolist() == [
        "is upside down",
        "",
        "no lungs: none",
        "is upside down",
        "one lung",
    ]
    by_reason = gallery.by_reason(reasons)
    assert [*by_reason] == ["validation films", "strange", "turned", "in part"] and by_reason.index[0] == "(passes)"
    assert by_reason.loc["(passes)"].tolist() == ["75.0%", "", "", "50.0%"], "as they are, not at half resolution"
    assert by_reason.loc["is turned or inverted"].tolist() == ["25.0%", "", "100.0%", ""]
    assert by_reason.loc["no lungs", "strange"] == "100.0%" and by_reason.loc["pictures"].tolist() == [
        "4",
        "2",
        "1",
        "2",
    ]
    reasons["test films"] = pd.Series(["", "is upside down"])
    found = gallery.mistakes(gallery.tally(reasons), ["validation films", [*said][1], "test films"])
    assert "**Passes, and should not:** 1 of 2 films in part." in found
    assert "1 of 2 test films (50.0%), 2.0 times the share of validation films (25.0%)." in found


def test_a_gate_that_takes_one_class_only_is_told():
    said, label = pd.Series([""] * 8 + ["is upside down"] * 8), np.repeat([0, 1], 8)
    found = gallery.by_class(said, label)
    assert found["declined"] == {"normal": [0, 8], "ill": [8, 8]} and found["p"] < 0.001
    assert gallery.by_class(said[:8], label[:8]) == {"declined": {"normal": [0, 8], "ill": [0, 0]}, "p": 1.0}


def test_the_film_that_seeds_disagree_on_is_a_plain_one():
    scores = pd.DataFrame({"path": [*"abc"], "kind": ["plain", "swap", "plain"], "seed_0": [0.1, 0.1, 0.4]})
    scores = scores.assign(seed_1=[0.2, 0.9, 0.4], plain_0=0.9)
    assert gallery.torn(scores, [0.5, 0.3]) == "c" and gallery.torn(scores, [0.5, 0.5]) is None


def test_a_picture_of_answers_shows_each_reason_once_after_those_with_an_answer():
    reason = ["", "is in colour", "", "is upside down", "is in colour", "is damaged"]
    table = pd.DataFrame({"reason": reason, "probability": [0.1, np.nan, 0.9, np.nan, np.nan, np.nan]})
    table["typicality"] = [0.5] * 5 + [np.nan]
    assert gallery.telling(table).tolist() == [0, 2, 3, 4]
    assert gallery.telling(table, most=2, declined=1).tolist() == [0, 3]


def test_films_of_adults_are_read_with_their_patients(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("b/2.png", "a/1.png", "a/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (120, 100), np.uint8)).save(tmp_path / name)
    rows = pd.DataFrame({"file": ["a/1.png", "a/3.png", "b/2.png"], "patient": ["x", "y", "x"]})
    rows.to_csv(tmp_path / "films.csv", index=False)
    pictures, patients = gallery.adult_films(tmp_path, SIZE)
    assert pictures.shape == (3, SIZE, SIZE) and patients.tolist() == ["x", "y", "x"]
    with pytest.raises(Problem, match="nowhere is not there: set ADULTS.*CXR_ADULTS_DIR"):
        gallery.adult_films(tmp_path / "nowhere", SIZE)


def test_versions_of_a_film_are_altered_and_the_disguise_has_a_childs_gray_levels(monkeypatch):
    films, children = chests(8, 4).repeat(2, 1).repeat(2, 2), chests(9, 1)
    masks = np.zeros((4, SIZE, SIZE), np.uint8)
    masks[:, 16:48, 10:28] = masks[:, 16:48, 36:54] = 255
    monkeypatch.setattr(gallery.lungs, "find", lambda network, pictures: masks)
    versions = gallery.adult_versions(films, children, None, SIZE)
    assert len(versions) == 5 and all(own.shape == (4, SIZE, SIZE) for own in versions.values())
    as_they_are = versions.pop("as they are")
    np.testing.assert_array_equal(as_they_are, gallery.lungs.resized(films, SIZE))
    assert all((own != as_they_are).any((1, 2)).all() for own in versions.values())
    levels = [np.quantile(own, [0.1, 0.5, 0.9]) for own in (versions["disguised"], children)]
    np.testing.assert_allclose(*levels, atol=8)
    altered = gallery.mildly_altered(films)
    assert len(altered) == 5 and all(own.shape == films.shape and own.dtype == np.uint8 for own in altered.values())
