"""Augmentation layers, the transplant, corruptions, and what validation is made of."""

import json

import numpy as np
import pytest
from scipy import ndimage

from cxr import augment, corruptions
from cxr.backend import keras, tf
from cxr.paths import ROOT, Problem

RECIPE = json.loads((ROOT / "results/03_augmentation.json").read_text(encoding="utf-8"))["layers"]
SIZE = 64


def film(top, left, high, wide, lung, body):
    """A body of one gray level with two lungs of another in the box given; and the mask of the lungs."""
    picture, mask = np.full((SIZE, SIZE), float(body)), np.zeros((SIZE, SIZE))
    for column in (left, left + wide - wide // 3):
        mask[top : top + high, column : column + wide // 3] = 1
    picture[mask > 0] = lung
    return picture, mask


def stacked(*films):
    return [np.stack(part)[..., None].astype("float32") for part in zip(*films)]


@pytest.fixture
def pair():
    """Two films: dark lungs, small and to the upper left, in a light body; and pale ones, large, in a dark body."""
    return stacked(film(8, 6, 24, 30, 40, 150), film(20, 12, 36, 42, 120, 90))


@pytest.fixture
def films():
    """Six rough pictures, uint8."""
    rng = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(rng.uniform(0, 255, (6, 96, 96)), (0, 6, 6))
    smooth = (smooth - smooth.min()) / np.ptp(smooth) * 200 + 20
    return (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype("uint8")


def many(count=24):
    """Films of two classes that differ in the body, with masks and labels."""
    rng = np.random.default_rng(0)
    label = (np.arange(count) % 3 > 0).astype(int)
    made = [film(*rng.integers(4, 14, 2), *rng.integers(24, 40, 2), 60, 100 + 90 * ill) for ill in label]
    pictures, masks = (part[..., 0] for part in stacked(*made))
    return pictures.astype("uint8"), (masks * 255).astype("uint8"), label


# --- layers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", RECIPE, ids=lambda row: row["layer"])
def test_a_layer_changes_training_only_stays_in_range_and_compiles(row, pair):
    both = np.concatenate([pair[0], pair[1] * 255], -1)[[0, 1] * 4]
    given = both if row["layer"] == "RandomTransplant" else both[..., :1]
    layer = augment.make_layer(row["layer"], row["settings"], seed=1)
    np.testing.assert_array_equal(layer(given, training=False), both[..., :1])
    for compiled in (False, True) if row["kept"] else (False,):  # by XLA, as where there is one GPU
        run = tf.function(layer, jit_compile=True) if compiled else layer
        changed = np.asarray(run(given, training=True))
        assert changed.shape == (8, SIZE, SIZE, 1) and not np.allclose(changed, both[..., :1])
        assert changed.min() >= -1e-3 and changed.max() <= 255.001


def test_a_recipe_keeps_what_is_kept_and_repeats_by_seed(pair):
    both = np.concatenate([pair[0], pair[1] * 255], -1)
    first, again, other = (augment.build(RECIPE, seed) for seed in (4, 4, 5))
    assert [type(layer).__name__ for layer in first.layers] == [row["layer"] for row in RECIPE if row["kept"]]
    np.testing.assert_array_equal(first(both, training=True), again(both, training=True))
    assert not np.allclose(first(both, training=True), other(both, training=True))
    assert augment.needs_masks(RECIPE) and not augment.needs_masks(RECIPE[1:])


@pytest.mark.parametrize(
    "recipe", [["RandomHeart", {}], ["RandomZoom", {"zoom": 3}], ["RandomFlip", {}, "RandomTransplant", {}]], ids=str
)
def test_a_recipe_that_cannot_be_built_names_the_layer_and_the_notebook(recipe):
    rows = [{"layer": name, "settings": dict(own), "kept": True} for name, own in zip(recipe[::2], recipe[1::2])]
    with pytest.raises(Problem, match=f"{recipe[-2]}.*03_augment.ipynb"):
        augment.build(rows)


def test_layers_survive_saving(tmp_path, films):
    layers = [augment.RandomCornerSwap(size=0.2, seed=1), augment.RandomSharpness(noise=3.0, seed=2)]
    model = keras.Sequential([keras.layers.Input((96, 96, 1)), *layers, augment.RandomFraming(zoom=1.1, seed=3)])
    model.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    given = films[..., None].astype("float32")
    np.testing.assert_array_equal(model(given, training=True), loaded(given, training=True))


def test_corner_swap_takes_edges_from_another_image_and_leaves_the_middle():
    flat = np.stack([np.full((40, 40, 1), value, "float32") for value in (0, 50, 100, 150, 200, 250)])
    changed = np.asarray(augment.RandomCornerSwap(size=0.3, frame=0.1, rate=1.0, seed=0)(flat, training=True))
    np.testing.assert_array_equal(changed[:, 13:27, 13:27], flat[:, 13:27, 13:27])
    np.testing.assert_array_equal(changed[:, 0, 0], np.roll(flat, 1, axis=0)[:, 0, 0])


def test_framing_zooms_out_to_black_and_changes_its_share():
    white = np.full((300, 40, 40, 1), 255, "float32")
    framed = np.asarray(augment.RandomFraming(aspect=1.0, shift=0.0, turn=0.0, rate=0.8, seed=2)(white, training=True))
    black = (framed < 128).mean(axis=(1, 2, 3))
    assert 0.3 < (black > 0.02).mean() < 0.5, "half of the changed ones are zoomed out"
    assert black.max() == pytest.approx(1 - 1 / 1.3**2, abs=0.05)
    np.testing.assert_allclose(framed[:, 15:25, 15:25], 255, atol=0.01)


@pytest.mark.parametrize("compiled", [True, False])
def test_resampling_is_that_of_scipy(compiled):
    rng = np.random.default_rng(0)
    images = ndimage.gaussian_filter(rng.uniform(0, 255, (16, 60, 50)), (0, 2, 2)).astype("float32")
    transform = np.tile([1, 0, 0, 0, 1, 0], (16, 1)) + rng.uniform(-1, 1, (16, 6)) * [0.4, 0.2, 30, 0.2, 0.4, 30]
    transform[0], transform[1] = [1, 0, 0, 0, 1, 0], [1, 0, 500, 0, 1, 0]  # as it is, and nothing of it
    plain = getattr(augment.resample, "python_function", augment.resample)
    work = tf.function(plain, jit_compile=True) if compiled else plain
    found = np.asarray(work(images[..., None], transform.astype("float32")))[..., 0]
    np.testing.assert_array_equal(found[0], images[0])
    assert found[1].max() == 0
    for image, (a, b, x, c, d, y), own in zip(images, transform, found):
        matrix, offset = [[d, c], [b, a]], [y, x]  # rows first
        expected = ndimage.affine_transform(image, matrix, offset, order=1, mode="grid-constant")
        assert np.abs(own - expected).max() < 0.05


# --- the transplant -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_the_lungs_go_box_onto_box_into_the_other_body(pair, compiled):
    films, masks = pair
    plain = getattr(augment.transplant, "python_function", augment.transplant)
    work = tf.function(plain, jit_compile=True) if compiled else plain
    result = np.asarray(work(films, masks, films[::-1], masks[::-1]))[..., 0]
    far = np.asarray(keras.ops.max_pool(masks[::-1], 9, 1, "same"))[..., 0] == 0
    assert np.allclose(result[far], films[::-1, ..., 0][far]), "far from the lungs nothing changes"
    inside = np.asarray(keras.ops.max_pool(1 - masks[::-1], 5, 1, "same"))[..., 0] == 0
    darker, paler = (one[field].mean() for one, field in zip(result, inside))
    assert darker < 60 and paler > 160, "as much darker or paler than the new body as they were than their own"
    assert np.allclose(work(films, masks, films, masks), films, atol=1e-3), "in its own body a film is itself"
    masks[0] = 0
    assert np.array_equal(work(films, masks, films[::-1], masks[::-1]), films), "without lungs a film stays as it is"


def test_the_box_of_a_mask_has_its_first_and_last_rows_and_columns():
    _, masks = stacked(film(8, 6, 24, 30, 0, 0))
    assert [float(side[0]) for side in augment.bounding_box(masks)] == [8, 31, 6, 35]


def test_the_layer_transplants_its_share_in_training_and_takes_the_film_alone_in_use(pair):
    both = np.concatenate([pair[0], pair[1] * 255], -1)[[0, 1] * 40]
    layer = augment.RandomTransplant(rate=0.5, seed=3)
    assert np.array_equal(layer(both), both[..., :1]) and np.array_equal(layer(both[..., :1]), both[..., :1])
    changed = (np.asarray(layer(both, training=True)) != both[..., :1]).any(axis=(1, 2, 3))
    assert 0.3 < changed.mean() < 0.7


# --- corruptions, and validation ------------------------------------------------------------------------------


def test_bodies_are_of_the_class_that_is_asked_for():
    pictures, masks, label = many()
    body = corruptions.choose_bodies(label, seed=1)
    assert sorted(body) == list(range(len(label))) and (body != np.arange(len(label))).all()
    other = corruptions.choose_bodies(label, 1, other_class=True)
    assert (label[other] != label).all() and len(set(other[label == 0])) == 8, "each body as often as can be"
    assert np.array_equal(other, corruptions.choose_bodies(label, 1, other_class=True))
    assert np.array_equal(corruptions.choose_bodies(label[label == 1], 0, True), np.arange(16)), "one class alone"
    code = np.arange(24) % 3
    third = corruptions.choose_bodies(code, 0, True)
    assert {*zip(code.tolist(), code[third].tolist())} >= {(1, 2), (2, 1)} and (code[third] != code).all()
    conflict = corruptions.transplant(pictures, masks, np.arange(24), other)
    assert conflict.dtype == np.uint8 and np.array_equal(conflict[:, 0, 0], pictures[other, 0, 0])


def test_validation_has_four_kinds_of_variants():
    pictures, masks, label = many()
    made, kinds = corruptions.validation_variants(pictures, masks, label, stressed=2, swapped=1)
    assert kinds == ["plain", "stress", "stress", "swap", "conflict"]
    parts = made.reshape(5, len(label), SIZE, SIZE)
    np.testing.assert_array_equal(parts[0], pictures)
    np.testing.assert_array_equal(parts[2], corruptions.stress(pictures, 1))
    one, _ = corruptions.validation_variants(pictures, masks, label)
    np.testing.assert_array_equal(one, np.concatenate(parts[[0, 1, 3, 4]]))
    assert corruptions.validation_variants(pictures[:0], masks[:0], label[:0])[0].shape == (0, SIZE, SIZE)


def test_stress_repeats_by_seed_and_takes_corners_from_each_other_film(films, monkeypatch):
    before, first = films.copy(), corruptions.stress(films, 4)
    np.testing.assert_array_equal(first, corruptions.stress(films, 4))
    np.testing.assert_array_equal(films, before)
    assert all((one != other).any() for one, other in zip(first, corruptions.stress(films, 5)))
    assert corruptions.stress(films[:1], 0).shape == (1, 96, 96)
    given = []
    monkeypatch.setattr(corruptions, "swap_corners", lambda own, other, rng: given.append((own, other)) or own)
    corruptions.stress(films, 0)
    rows = [[int((films == one).all((1, 2)).argmax()) for one in both] for both in given]
    assert [own for own, _ in rows] == list(range(6)) == sorted(other for _, other in rows)
    assert all(own != other for own, other in rows)


def test_only_the_corners_are_swapped(films):
    changed = corruptions.swap_corners(films[0], 255 - films[0], np.random.default_rng(0)) != films[0]
    high, wide = changed[:, 0].argmin(), changed[0].argmin()
    expected = np.zeros_like(changed)
    for rows in (slice(high), slice(96 - high, None)):
        for columns in (slice(wide), slice(96 - wide, None)):
            expected[rows, columns] = True
    assert 9 <= high <= 24 and 9 <= wide <= 24 and np.array_equal(changed, expected)


@pytest.mark.parametrize("make", [corruptions.changes, corruptions.held_out])
def test_named_changes_change_every_picture_and_repeat(films, make):
    found, again = dict(make(films)), dict(make(films))
    assert len(found) == (14 if make is corruptions.changes else 7)
    for name, changed in found.items():
        assert changed.shape == films.shape and changed.dtype == np.uint8, name
        assert all((own != old).mean() > 0.01 for own, old in zip(changed, films)), name
        np.testing.assert_array_equal(changed, again[name])


def test_named_changes_do_what_their_names_say(films):
    gray = np.full((2, 50, 50), 100, np.uint8)
    gray[:, 20:30, 20:30] = 200
    found, rough = dict(corruptions.changes(gray)), corruptions.held_out(films)
    assert found["darkened by 30%"].max() == 140 and (found["padded by 8%"][0, 0] == 0).all()
    assert (found["cropped by 8%"] > 150).sum() > (gray > 150).sum() > (found["padded by 8%"] > 150).sum()
    grain = {name: np.abs(np.diff(own.astype(float), axis=2)).mean() for name, own in ({"": films} | rough).items()}
    assert grain["veiled"] < grain[""] and grain["coarse"] < grain[""] < grain["sharpened"]
