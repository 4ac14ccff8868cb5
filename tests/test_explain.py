"""Grad-CAM, in sight of 06 and of the package, and what 06 covers."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cxr import chain, saliency, training
from cxr.backend import keras
from cxr.paths import Problem

SIZE = 64
layers = keras.layers


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


def parts(kind):
    keras.utils.set_random_seed(1)
    found = [layers.Rescaling(1 / 255)]
    for filters in (8, 16):
        found += [layers.Conv2D(filters, 3, padding="same", activation="relu"), layers.MaxPooling2D()]
    flat = [layers.Flatten(), layers.Dense(8, activation="relu")]
    return found + (flat if kind == "flat" else [layers.GlobalAveragePooling2D()]) + [layers.Dense(1, "sigmoid")]


def network(kind):
    entry = x = layers.Input((SIZE, SIZE, 1))
    for layer in parts(kind):
        x = layer(x)
    return keras.Model(entry, x)


@pytest.fixture(scope="module")
def trained(pictures):
    found, label = pictures
    model = network("pooled")
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy")
    model.fit(found[..., None], label, epochs=40, batch_size=16, verbose=0)
    assert ((model.predict(found[..., None], verbose=0)[:, 0] > 0.5) == label).mean() > 0.95
    return model


@pytest.fixture(scope="module")
def page():
    """The functions that 06 writes out."""
    known = {"keras": keras, "tf": tf, "np": np, "ndimage": ndimage}
    for source in chain.code_cells(chain.notebooks()["06"]):
        if source.startswith(("def gradcam", "def cover")):
            exec(source.split("\n\n")[0], known)
    return known


def test_gradcam_lights_up_where_the_answer_is_and_06_draws_the_same(pictures, trained, page):
    found, label = (part[pictures[1] == 1] for part in pictures)
    maps = saliency.gradcam(trained, found, label, batch_size=16)
    assert maps.shape == found.shape and maps.min() >= 0
    np.testing.assert_allclose(maps.max(axis=(1, 2)), 1, rtol=1e-5)
    inside = (maps * (found > 200)).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
    assert np.median(inside) > 3 * (found > 200).mean()
    stored = keras.Sequential([layers.Input((SIZE, SIZE, 1)), *parts("flat")])
    stored = keras.Sequential.from_config(stored.get_config())  # as the plain CNN comes out of its file
    for model, of in ((trained, found), (network("flat"), found), (stored, found)):
        own = page["gradcam"](model, of, label)
        top = own.max(axis=(1, 2), keepdims=True)
        expected = saliency.gradcam(model, of, label, even=True)
        np.testing.assert_allclose(np.where(top > 0, own / np.maximum(top, 1e-9), 1), expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["pooled", "flat"])
def test_a_sequential_can_be_explained_fresh_called_and_loaded(kind, pictures, tmp_path):
    found, label = (part[:4] for part in pictures)
    expected = saliency.gradcam(network(kind), found, label, even=True)
    with_input = keras.Sequential([layers.Input((SIZE, SIZE, 1)), *parts(kind)])
    with_input.save(tmp_path / "a.keras")
    called = keras.Sequential(parts(kind))
    called(found[..., None].astype("float32"))
    for model in (with_input, keras.models.load_model(tmp_path / "a.keras", compile=False), called):
        np.testing.assert_allclose(saliency.gradcam(model, found, label, even=True), expected, atol=1e-3)
    assert saliency.gradcam(keras.Sequential(parts(kind)), found, label, even=True).shape == found.shape, "never called"


def test_a_member_of_an_ensemble_can_be_explained_in_the_order_of_its_outputs(pictures, trained, tmp_path):
    some, entry = pictures[0][:3], layers.Input((SIZE, SIZE, 1))
    ensemble = keras.Model(
        entry, layers.Concatenate()([trained(entry), network("flat")(entry), network("pooled")(entry)])
    )
    ensemble.save(tmp_path / "ensemble.keras")
    for model in (ensemble, keras.models.load_model(tmp_path / "ensemble.keras", compile=False)):
        y_score, found = model.predict(some[..., None], verbose=0), training.members(model)
        assert len(found) == 3
        for i, member in enumerate(found):
            np.testing.assert_allclose(member.predict(some[..., None], verbose=0)[:, 0], y_score[:, i], rtol=1e-4)
            assert saliency.gradcam(member, some, y_score[:, i] > 0.5, even=True).shape == some.shape


def test_what_has_no_map_is_an_error(pictures):
    model = network("pooled")
    model.layers[-1].set_weights([np.zeros((16, 1)), np.zeros(1)])
    with pytest.raises(Problem, match="Grad-CAM of image 0 is zero everywhere"):
        saliency.gradcam(model, pictures[0][:4], np.ones(4))
    assert (saliency.gradcam(model, pictures[0][:4], np.ones(4), even=True) == 1).all()
    with pytest.raises(Problem, match="GlobalAveragePooling2D or Flatten"):
        saliency.gradcam(keras.Sequential([layers.Input((4, 4, 1)), layers.Dense(1)]), np.zeros((1, 4, 4)), [1])


def test_06_covers_what_is_inside_and_nothing_else(pictures, page):
    found, _ = pictures
    fields = found > 200
    covered = page["cover"](found, fields)
    far = ~ndimage.binary_dilation(fields, np.ones((1, 11, 11)))
    assert covered.dtype == np.uint8 and covered[fields].mean() < 80 and (covered[far] == found[far]).mean() > 0.9
