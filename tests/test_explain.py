import numpy as np
import pandas as pd
import pytest

from cxr import metrics, saliency, training
from cxr.backend import keras
from cxr.paths import Problem

SIZE = 64


@pytest.fixture(scope="module")
def pictures():
    """Dark pictures, each with one square: label 1 where it is solid, 0 where it is striped."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 40, (64, SIZE, SIZE)).astype(np.uint8)
    label = np.tile([0, 1], 32)
    for picture, one in zip(pictures, label):
        y, x = rng.integers(4, 48, 2)
        picture[y : y + 10, x : x + 10] = 230
        if one == 0:
            picture[y : y + 10 : 2, x : x + 10] = 30
    return pictures, label


def network(kind):
    layers = keras.layers
    keras.utils.set_random_seed(1)
    entry = x = layers.Input((SIZE, SIZE, 1))
    x = layers.Rescaling(1 / 255)(x)
    for filters in (8, 16):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
    if kind == "flat":
        x = layers.Dense(8, activation="relu")(layers.Flatten()(x))
    else:
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(entry, layers.Dense(1, activation="sigmoid")(x))


@pytest.fixture(scope="module")
def trained(pictures):
    found, label = pictures
    model = network("pooled")
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy")
    model.fit(found[..., None], label, epochs=40, batch_size=16, verbose=0)
    assert ((model.predict(found[..., None], verbose=0)[:, 0] > 0.5) == label).mean() > 0.95
    return model


def test_logits_are_the_log_odds_of_the_probabilities(pictures, trained):
    probability = trained.predict(pictures[0][..., None], verbose=0)[:, 0].astype(float).clip(1e-7, 1 - 1e-7)
    inner = (probability > 1e-4) & (probability < 1 - 1e-4)
    np.testing.assert_allclose(
        saliency.logits(trained, pictures[0])[inner], np.log(probability / (1 - probability))[inner], atol=0.02
    )


def test_gradcam_lights_up_where_the_answer_is(pictures, trained):
    found, label = (part[pictures[1] == 1] for part in pictures)
    maps = saliency.gradcam(trained, found, label, batch_size=16)
    assert maps.shape == found.shape and maps.min() >= 0
    np.testing.assert_allclose(maps.max(axis=(1, 2)), 1, rtol=1e-5)
    bright = saliency.share_inside(maps, found > 200)
    assert np.median(bright) > 3 * (found > 200).mean()
    np.testing.assert_allclose(maps, saliency.gradcam(trained, found, label, batch_size=64), atol=1e-4)


def test_occlusion_finds_the_square_too(pictures, trained):
    found, label = pictures
    fall = saliency.occlusion(trained, found[1], label[1], patch=12, step=4)
    y, x = np.unravel_index(fall.argmax(), fall.shape)
    rows, columns = np.nonzero(found[1] > 200)
    assert abs(y - rows.mean()) < 10 and abs(x - columns.mean()) < 10


def test_random_weights_give_another_map(pictures, trained):
    found, label = (part[pictures[1] == 1] for part in pictures)
    maps = saliency.gradcam(trained, found, label)
    blank = saliency.randomised(trained, seed=3)
    assert blank.count_params() == trained.count_params()
    other = saliency.gradcam(blank, found, saliency.logits(blank, found) > 0)
    assert np.median(saliency.likeness(maps, other)) < 0.8 and np.allclose(saliency.likeness(maps, maps), 1)


def test_a_map_of_nothing_is_an_error_and_no_picture(pictures):
    model = network("pooled")
    model.layers[-1].set_weights([np.zeros((16, 1)), np.zeros(1)])
    with pytest.raises(Problem, match="Grad-CAM of image 0 is zero everywhere"):
        saliency.gradcam(model, pictures[0][:4], np.ones(4))
    even = saliency.gradcam(model, pictures[0][:4], np.ones(4), even=True)
    assert (even == 1).all() and (saliency.likeness(even, pictures[0][:4]) == 0).all()


def test_a_network_without_feature_maps_is_an_error():
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    with pytest.raises(Problem, match="GlobalAveragePooling2D or Flatten"):
        saliency.gradcam(model, np.zeros((1, 4, 4)), [1])


def test_covering_takes_away_what_is_inside_and_nothing_else(pictures):
    found, _ = pictures
    fields = found > 200
    covered = saliency.covered(found, fields)
    assert covered.dtype == np.uint8 and covered[fields].mean() < 80
    far = np.ones_like(found, bool)
    for shift in range(-5, 6):
        for axis in (1, 2):
            far &= ~np.roll(fields, shift, axis)
    assert (covered[far] == found[far]).mean() > 0.9
    everything = saliency.covered(found[:2], np.ones_like(fields[:2]))
    assert everything.max() == 0, "with nothing left outside there is no mean"


def test_corners_are_four_squares():
    field = saliency.corners(100, 0.2)
    assert field.sum() == 4 * 20 * 20 and field[0, 0] and field[99, 99] and not field[50, 0]


def test_a_mean_has_its_interval_by_patient():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"label": np.tile([0, 1], 100), "patient": np.arange(200)})
    times = metrics.resample(table, 500)
    values = rng.normal(3, 1, 200)
    found = metrics.mean_with(values, times)
    assert found["mean"] == pytest.approx(values.mean()) and found["low"] < values.mean() < found["high"]
    assert found["high"] - found["low"] == pytest.approx(4 * 1 / np.sqrt(200), rel=0.3)
    assert metrics.mean_with(2 * values, times, over=values) == pytest.approx({"mean": 2, "low": 2, "high": 2})


@pytest.mark.parametrize("count", [1, 2, 12])
def test_the_members_of_an_ensemble_come_in_the_order_of_its_outputs(pictures, tmp_path, count):
    layers, some = keras.layers, pictures[0][:3, ..., None]
    entry = layers.Input((SIZE, SIZE, 1))
    networks = [keras.Model(entry, layers.Dense(1)(layers.Flatten()(entry)), name=f"n_{i}") for i in range(count)]
    xray = layers.Input((SIZE, SIZE, 1))
    ensemble = keras.Model(xray, layers.Concatenate()([network(xray) for network in networks]))
    ensemble.save(tmp_path / "ensemble.keras")
    for whole in (ensemble, keras.models.load_model(tmp_path / "ensemble.keras", compile=False)):
        said, found = whole.predict(some, verbose=0), training.members(whole)
        assert len(found) == count
        for i, member in enumerate(found):
            np.testing.assert_allclose(member.predict(some, verbose=0)[:, 0], said[:, i], rtol=1e-5)


def test_a_member_of_an_ensemble_can_be_explained(pictures, trained):
    entry = keras.layers.Input((SIZE, SIZE, 1))
    ensemble = keras.Model(entry, keras.layers.Concatenate()([trained(entry), network("flat")(entry)]))
    for member, kind in zip(training.members(ensemble), ("pooled", "flat")):
        maps = saliency.gradcam(member, pictures[0][:2], saliency.logits(member, pictures[0][:2]) > 0)
        assert maps.shape == (2, SIZE, SIZE), kind
