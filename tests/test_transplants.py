"""Lungs in other bodies: the transplant, the layer that trains with it, and what is validated on."""

import numpy as np
import pandas as pd
import pytest

from cxr import augment, corruptions, lungs, metrics, training
from cxr.backend import keras, tf
from cxr.paths import Problem

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


@pytest.mark.parametrize("compiled", [False, True])
def test_the_lungs_go_box_onto_box_into_the_other_body(pair, compiled):
    films, masks = pair
    work = tf.function(augment.transplant, jit_compile=True) if compiled else augment.transplant
    result = np.asarray(work(films, masks, films[::-1], masks[::-1]))[..., 0]
    far = keras.ops.max_pool(masks[::-1], 9, 1, "same")[..., 0] == 0
    body = films[::-1, ..., 0]
    assert np.allclose(result[far], body[far]), "far from the lungs nothing changes"
    inside = keras.ops.max_pool(1 - masks[::-1], 5, 1, "same")[..., 0] == 0
    darker, paler = (one[np.asarray(field)].mean() for one, field in zip(result, inside))
    assert darker < 60 and paler > 160, "as much darker or paler than the new body as they were than their own"


def test_a_film_in_its_own_body_is_itself(pair):
    films, masks = pair
    assert np.allclose(augment.transplant(films, masks, films, masks), films, atol=1e-3)


def test_without_lungs_a_film_stays_as_it_is(pair):
    films, masks = pair
    masks[0] = 0
    result = np.asarray(augment.transplant(films, masks, films[::-1], masks[::-1]))
    assert np.array_equal(result, films), "neither gives lungs nor takes them"


def test_the_box_of_a_mask_has_its_first_and_last_rows_and_columns():
    _, masks = stacked(film(8, 6, 24, 30, 0, 0))
    assert [float(side[0]) for side in augment.box(masks)] == [8, 31, 6, 35]


def test_the_layer_changes_its_share_of_the_films_in_training_only(pair):
    films, masks = pair
    both = np.concatenate([films, masks * 255], -1)[[0, 1] * 200]
    layer = augment.RandomTransplant(rate=0.5, seed=3)
    assert np.array_equal(layer(both), both[..., :1]) and layer(both).shape == (400, SIZE, SIZE, 1)
    assert np.array_equal(layer(both[..., :1]), both[..., :1]), "the film alone, in use"
    changed = (np.asarray(layer(both, training=True)) != both[..., :1]).any(axis=(1, 2, 3))
    assert 0.4 < changed.mean() < 0.6
    assert layer.get_config()["rate"] == 0.5 and layer.compute_output_shape((None, 9, 9, 2)) == (None, 9, 9, 1)


def test_the_transplant_comes_first():
    row = {"layer": "RandomTransplant", "settings": {"rate": 0.5}, "kept": True}
    flip = {"layer": "RandomFlip", "settings": {}, "kept": True}
    assert len(augment.build([row, flip]).layers) == 2
    with pytest.raises(Problem, match="RandomTransplant is not the first layer .* 03_augment.ipynb"):
        augment.build([flip, row])


def test_a_training_sees_lungs_and_its_validation_the_film_alone(tmp_path, monkeypatch, pair):
    monkeypatch.setenv("CXR_CHECKPOINT_DIR", str(tmp_path))
    films, masks = pair
    both = np.concatenate([films, masks * 255], -1).astype("uint8")[[0, 1] * 8]
    labels = np.tile([0.0, 1.0], 8)
    batches = training.Batches(both, labels, np.ones(16, "float32"), 4, seed=0)

    def build():
        entry = keras.layers.Input((SIZE, SIZE, 1))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(entry))
        return keras.Model(entry, keras.layers.Dense(1, activation="sigmoid")(x))

    def compile(learner, steps):
        learner.compile("adam", "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")])

    recipe = [{"layer": "RandomTransplant", "settings": {"rate": 1.0}, "kept": True}]
    validation = both[:4, ..., :1], labels[:4]
    network, run = training.train(build, compile, batches, validation, recipe, 2, 2, "lungs")
    assert len(run.rows) == 2 and network.input_shape == (None, SIZE, SIZE, 1)


def many(count=24):
    rng = np.random.default_rng(0)
    label = (np.arange(count) % 3 > 0).astype(int)
    made = [film(*rng.integers(4, 14, 2), *rng.integers(24, 40, 2), 60, 100 + 90 * ill) for ill in label]
    pictures, masks = (part[..., 0] for part in stacked(*made))
    return pictures.astype("uint8"), (masks * 255).astype("uint8"), label


def test_other_bodies_are_of_the_class_that_is_asked_for():
    pictures, masks, label = many()
    swapped, body = corruptions.in_other_bodies(pictures, masks, label, seed=1)
    assert sorted(body) == list(range(len(label))) and (body != np.arange(len(label))).all()
    conflict, other = corruptions.in_other_bodies(pictures, masks, label, 1, other_class=True)
    assert (label[other] != label).all() and len(set(other[label == 0])) == 8, "each body as often as can be"
    assert swapped.dtype == conflict.dtype == np.uint8 and swapped.shape == pictures.shape
    corner = conflict[:, 0, 0]
    assert np.array_equal(corner, pictures[other, 0, 0]), "the body is the other film's"
    again, _ = corruptions.in_other_bodies(pictures, masks, label, 1, other_class=True)
    assert np.array_equal(again, conflict)
    assert corruptions.in_other_bodies(pictures[:0], masks[:0], label[:0], 0)[0].shape == (0, SIZE, SIZE)


def test_one_class_alone_stays_in_its_own_bodies():
    pictures, masks, label = many()
    alone = label == 1
    _, body = corruptions.in_other_bodies(pictures[alone], masks[alone], label[alone], 0, other_class=True)
    assert np.array_equal(body, np.arange(alone.sum()))


def test_validation_has_four_kinds_of_draws():
    pictures, masks, label = many()
    drawn, kinds = corruptions.validation_draws(pictures, masks, label, stressed=2, swapped=1)
    assert kinds == ["plain", "stress", "stress", "swap", "conflict"]
    assert drawn.shape == (5 * len(label), SIZE, SIZE) and np.array_equal(drawn[: len(label)], pictures)
    one, n = corruptions.one_of_each(drawn, kinds), len(label)
    assert np.array_equal(one, np.concatenate([drawn[: 2 * n], drawn[3 * n :]])), "the second stressed draw is left out"
    said = np.random.default_rng(0).random((5, n))
    found = metrics.auc_by_kind(label, said, kinds)
    assert list(found) == ["plain", "stress", "swap", "conflict"]
    assert found["stress"] == metrics.auc(np.tile(label, 2), said[1:3].ravel())
    assert found["swap"] == metrics.auc(label, said[3])


def test_of_three_kinds_a_conflict_has_the_body_of_another_kind():
    pictures, masks, _ = many()
    code = np.arange(len(pictures)) % 3
    _, body = corruptions.in_other_bodies(pictures, masks, code, 0, other_class=True)
    assert (code[body] != code).all() and {tuple(pair) for pair in np.stack([code, code[body]], 1)} >= {(1, 2), (2, 1)}


def test_seeds_that_differ_by_noise_alone_are_not_ranked():
    rng, label = np.random.default_rng(0), np.arange(200) % 2
    times = metrics.resample(pd.DataFrame({"label": label, "patient": np.arange(200)}), 100)

    def networks(*strengths):
        return [np.stack([1 / (1 + np.exp(-rng.normal(s * (label - 0.5), 1))) for _ in range(2)]) for s in strengths]

    alike, noise = training.noise_between(label, networks(2, 2, 2, 2), times)
    assert alike < 2 * noise
    apart, noise = training.noise_between(label, networks(0.2, 1, 2, 4), times)
    assert apart > 2 * noise
    assert training.noise_between(label, networks(2), times) == (0, 0), "one alone differs from nobody"


def test_films_and_masks_change_together():
    pictures, masks, _ = many()
    films, places = lungs.changed(pictures, masks, seed=0)
    assert films.shape == places.shape == (*pictures.shape, 1) and 0 <= places.min() and places.max() <= 1
    again, _ = lungs.changed(pictures, masks, seed=0)
    assert np.array_equal(films, again) and not np.array_equal(films, lungs.changed(pictures, masks, seed=1)[0])
    # a film that is its own mask moves with it, but for the change of light
    films, places = lungs.changed(masks, masks, seed=2)
    same = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(films, places)]
    assert np.median(same) > 0.9


class Sees:
    """A network for lungs that answers what it is told."""

    def __init__(self, answer):
        self.answer = answer

    def predict(self, pictures, batch_size, verbose):
        assert pictures.shape[1:] == (lungs.SIZE, lungs.SIZE, 1)
        return np.repeat(self.answer[None, ..., None], len(pictures), 0)


def test_found_lungs_are_the_two_largest_spots_without_holes():
    answer = np.zeros((lungs.SIZE, lungs.SIZE))
    answer[20:90, 20:50] = answer[20:90, 70:100] = answer[110:114, 60:64] = 0.9
    answer[40:44, 30:34] = 0.1
    found = lungs.find(Sees(answer), np.zeros((2, 256, 256), "uint8"))
    assert found.shape == (2, 256, 256) and found.dtype == np.uint8
    assert found[0, 84, 64] == 255 and found[0, 224, 124] == 0, "a hole is filled, a third spot is none"
    none = lungs.find(Sees(answer * 0), np.zeros((1, 128, 128), "uint8"))
    assert not none.any()
    assert lungs.find(Sees(answer), np.zeros((0, 128, 128), "uint8")).shape == (0, 128, 128)


def test_dice_is_one_where_both_agree():
    _, masks, _ = many(4)
    shifted = np.roll(masks, 3, axis=2)
    assert (lungs.dice(masks, masks) == 1).all() and (lungs.dice(masks, shifted) < 1).all()
    assert lungs.dice(masks[:1], masks[:1] * 0)[0] == 0 and lungs.dice(masks[:1] * 0, masks[:1] * 0)[0] == 1


def test_how_well_lungs_are_found_is_said_of_drawn_films_alone():
    found = lungs.summary(np.array([0.9, np.nan, 0.7, 0.95]))
    assert found == {"films": 3, "mean": 0.85, "median": 0.9, "min": 0.7}
    assert lungs.summary(np.array([np.nan])) == {"films": 0, "mean": None, "median": None, "min": None}


def test_the_strongest_version_of_a_change_differs_most(pair):
    films, masks = pair
    both = np.concatenate([films, masks * 255], -1)
    settings = {"factor": 0.3, "value_range": [0, 255]}
    one, many = (augment.strongest("RandomBrightness", settings, both, versions) for versions in (1, 12))
    change = [np.abs(film - films[0, ..., 0]).mean() for film in (one, many)]
    assert many.shape == films.shape[1:3] and change[1] > change[0] > 0
    moved = augment.strongest("RandomTransplant", {"rate": 0.5}, both)
    assert moved.shape == films.shape[1:3] and (moved != films[0, ..., 0]).any()


def test_the_network_for_lungs_that_is_gone_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(lungs, "ROOT", tmp_path)
    with pytest.raises(Problem, match="03_lungs.keras, the network that finds lungs, .*git checkout"):
        lungs.committed()
