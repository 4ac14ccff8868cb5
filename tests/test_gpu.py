"""What a machine with one GPU does to the trainings of 04: Keras compiles them with XLA.

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


def ours():
    network = keras.models.load_model(ROOT / "results/04_xray_classification_model.keras", compile=False)
    return keras.models.clone_model(network)


def trained(build, recipe):
    rng, label = np.random.default_rng(0), np.arange(IMAGES) % 2
    films = rng.integers(0, 256, (IMAGES, SIZE, SIZE)).astype("uint8")
    pictures = np.stack([films, 255 * (films > 127).astype("uint8")], -1) if augment.needs_masks(recipe) else films
    batches = training.Batches(pictures, label, training.class_weights(label), 4, seed=0)
    compiled = training.scheduled(1e-3, "binary_crossentropy")
    network, run = training.train(build, compiled, batches, (films[..., None], label), recipe, 1, 1, build.__name__)
    assert run.model.jit_compile is True, "Keras would not compile it with XLA"
    assert len(run.rows) == 1 and all(np.isfinite(value) for value in run.rows[0].values()), run.rows
    assert network.output.dtype == "float32"
    return network, run


def test_04_trains_under_xla():
    assert {"RandomFraming", "RandomTransplant"} < {row["layer"] for row in RECIPE if row["kept"]}
    trained(ours, RECIPE)


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
            ),
            [row for row in RECIPE if row["layer"] == "RandomContrast"],
        )
        assert "float16" in {layer.compute_dtype for layer in network.layers}
        assert {layer.compute_dtype for layer in run.model.layers[0].layers} == {"float32"}
    finally:
        keras.config.set_dtype_policy(before)
