"""What a machine with one GPU does to the trainings of 04, 07 and 08: Keras compiles them with XLA.

XLA's compiler for the CPU takes the same operations, so all of it is tried here. Nothing of this is a run on a GPU.
"""

import json

import numpy as np
import pytest
from keras.src.trainers.trainer import model_supports_jit

from cxr import augment, training
from cxr.backend import keras
from cxr.paths import ROOT

RECIPE = json.loads((ROOT / "results" / "03_augmentation.json").read_text(encoding="utf-8"))["layers"]
SIZE, IMAGES = 128, 8
layers = keras.layers


@pytest.fixture(autouse=True)
def as_with_a_gpu(monkeypatch, tmp_path):
    """Keras decides on XLA as it does where there is one GPU; checkpoints go to a folder of their own."""
    monkeypatch.setattr(keras.Model, "_resolve_auto_jit_compile", model_supports_jit)
    monkeypatch.setenv("CXR_CHECKPOINT_DIR", str(tmp_path))
    yield
    keras.utils.clear_session()


def stored(file):
    return keras.models.load_model(ROOT / "results" / file, compile=False)


def ours():
    return keras.models.clone_model(stored("04_xray_classification_model.keras"))


def plain():
    return keras.models.clone_model(training.members(stored("04_plain.keras"))[0])


def backbone():
    entry = layers.Input((SIZE, SIZE, 1))
    base = keras.applications.MobileNetV2((SIZE, SIZE, 3), alpha=0.35, include_top=False, weights=None)
    x = layers.GlobalAveragePooling2D()(base(layers.Concatenate()([entry] * 3)))
    return keras.Model(entry, layers.Dense(1, "sigmoid", dtype="float32")(x))


def kinds():
    network = ours()
    return keras.Model(network.input, layers.Dense(3, "softmax", dtype="float32")(network.layers[-1].input))


def trained(build, recipe=RECIPE):
    rng, label = np.random.default_rng(0), np.arange(IMAGES) % 2
    films = rng.integers(0, 256, (IMAGES, SIZE, SIZE)).astype("uint8")
    pictures = np.stack([films, 255 * (films > 127).astype("uint8")], -1) if augment.needs_masks(recipe) else films
    target = np.eye(3, dtype="float32")[label] if build is kinds else label
    loss = "categorical_crossentropy" if build is kinds else "binary_crossentropy"
    batches = training.Batches(pictures, target, training.class_weights(label), 4, seed=0)
    compile = training.scheduled(1e-3, loss)
    network, run = training.train(build, compile, batches, (films[..., None], target), recipe, 1, 1, build.__name__)
    assert run.model.jit_compile is True, "Keras would not compile it with XLA"
    assert len(run.rows) == 1 and all(np.isfinite(value) for value in run.rows[0].values()), run.rows
    assert network.output.dtype == "float32"
    return network, run


@pytest.mark.parametrize("build, recipe", [(ours, RECIPE), (plain, []), (backbone, RECIPE), (kinds, RECIPE)])
def test_it_trains_under_xla(build, recipe):
    assert {"RandomFraming", "RandomTransplant"} < {row["layer"] for row in RECIPE if row["kept"]}
    trained(build, recipe)


def test_every_layer_of_03_supports_xla():
    every = [row | {"kept": True} for row in RECIPE]
    assert all(layer.supports_jit for layer in augment.build(every).layers)


def test_04_trains_with_16_bits_too():
    """Mixed precision is not used; who sets it gets finite losses, and answers in 32 bits."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network, run = trained(
            lambda: keras.Sequential(
                [
                    layers.Input((SIZE, SIZE, 1)),
                    layers.Rescaling(1 / 255),
                    layers.Conv2D(4, 3),
                    layers.GlobalAveragePooling2D(),
                    layers.Dense(1, "sigmoid", dtype="float32"),
                ]
            )
        )
        assert "float16" in {layer.compute_dtype for layer in network.layers}
        assert {layer.compute_dtype for layer in run.model.layers[0].layers} == {"float32"}
    finally:
        keras.config.set_dtype_policy(before)
