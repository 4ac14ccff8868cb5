"""What a machine with one GPU does to the trainings of 04, 07 and 08: Keras compiles them with XLA.

XLA's compiler for the CPU takes the same operations, so all of it is tried here. Nothing of this is a run on a GPU.
"""

import json

import numpy as np
import pandas as pd
import pytest
from keras.src.trainers.trainer import model_supports_jit

from cxr import augment, backbones, data, metrics, training
from cxr.backend import keras
from cxr.paths import ROOT, checkpoint_dir

RECIPE = json.loads((ROOT / "results" / "03_augmentation.json").read_text(encoding="utf-8"))
SIZE, IMAGES, SMALLEST = 64, 12, "MobileNetV2 0.35"


def cells(notebook, *starts):
    """The code cells of a notebook that begin so, as committed."""
    path = next((ROOT / "notebooks").glob(f"{notebook}_*.ipynb"))
    page = json.loads(path.read_text(encoding="utf-8"))["cells"]
    found = ["".join(cell["source"]) for cell in page if cell["cell_type"] == "code"]
    return [next(source for source in found if source.startswith(start)) for start in starts]


@pytest.fixture(autouse=True)
def as_with_a_gpu(monkeypatch, tmp_path):
    """Keras decides on XLA as it does where there is one GPU; checkpoints go to a folder of their own."""
    monkeypatch.setattr(keras.Model, "_resolve_auto_jit_compile", model_supports_jit)
    monkeypatch.setenv("CXR_CHECKPOINT_DIR", str(tmp_path))
    yield
    keras.utils.clear_session()


def ready(notebook, *starts, **more):
    """What a page knows when it trains, on twelve drawn pictures, two thirds of them to train on, after these cells."""
    rng, in_train = np.random.default_rng(0), np.arange(IMAGES) < IMAGES * 2 // 3
    labels = (np.arange(IMAGES) % 2).astype("float32")
    pictures = rng.integers(0, 256, (IMAGES, SIZE, SIZE)).astype("uint8")
    train, val = (data.Part(pd.DataFrame({"label": labels[part]}), pictures[part]) for part in (in_train, ~in_train))
    checks, lungs = (val.pictures[..., None], val.label), 255 * (train.pictures > 127).astype("uint8")
    known = {
        **{"keras": keras, "layers": keras.layers, "np": np, "augment": augment, "metrics": metrics},
        **{"training": training, "backbones": backbones, "checkpoint_dir": checkpoint_dir},
        **{"recipe": RECIPE, "kept_changes": [row for row in RECIPE["layers"] if row["kept"]]},
        **{"changes": RECIPE["layers"], "kinds": ["plain"], "draws": 1, "train": train, "val": val},
        **{"with_lungs": np.stack([train.pictures, lungs], -1), "weights": training.class_weights(train.label)},
        **{"validation": checks, "plain_validation": checks},
    }
    for source in cells(notebook, "SEEDS" if notebook != "07" else "BACKBONES"):
        exec(source, known)
    known |= {"BATCH_SIZE": 4, "IMAGE_SIZE": SIZE, "EPOCHS": 1, "TUNING_EPOCHS": 1, **more}
    for source in cells(notebook, *starts):
        exec(source, known)
    return known


def check(trained):
    network, run = trained
    assert run.learner.jit_compile is True, "Keras would not compile it with XLA"
    assert len(run.rows) == 1 and all(np.isfinite(value) for value in run.rows[0].values()), run.rows
    assert network.output.dtype == "float32"


def four(*more):
    """The cells of 04 that build and train."""
    return ready("04", "def build_plain", "def convolve", "def build_network", "def compile", "def fit", *more)


def test_04_trains_under_xla_with_every_layer_of_its_ablation():
    page = four("def build_without", "transplants, others = ", "erasing = ")
    name, build, changes = next(row for row in page["rows"] if row[0] == "all + Erasing")
    assert {"RandomFraming", "RandomTransplant"} < {change["layer"] for change in changes if change["kept"]}
    check(page["fit"](build, changes, 0, 1, name))
    every = {change["layer"] for _, _, changes in page["rows"] for change in changes}
    assert every == {change["layer"] for change in changes}
    assert all(layer.supports_jit for _, _, changes in page["rows"] for layer in augment.build(changes).layers)


def test_the_steps_in_sight_of_04_train_under_xla():
    page = four("batches = training.Batches", "settings = training.settings")
    check((page["plain_network"], page["plain_run"]))


def test_fine_tuning_of_07_trains_under_xla():
    page = ready("07", "def with_answer", "def tune", bases={SMALLEST: None})
    network = page["with_answer"](SMALLEST, backbones.begin(SMALLEST, None, SIZE))
    page["heads"] = {SMALLEST: network.layers[-1].get_weights()}
    check(page["tune"](SMALLEST, 0))


@pytest.mark.parametrize("which", ["small", "backbone"])
def test_the_networks_of_08_train_under_xla(which):
    code, val_code = np.arange(IMAGES * 2 // 3) % 3, np.arange(IMAGES // 3) % 3
    page = four()
    films, masks = page["val"].pictures, np.zeros_like(page["val"].pictures)
    judged = training.Validation(films, masks, val_code, {"stress_draws": 1, "swap_draws": 1})
    eight = ready(
        "08",
        *("def small_network", "def tuned_network", "plans = ", "def fit"),
        **{"binary": page["build_network"]("binary"), "names": ["normal", "bacteria", "virus"], "size_of_07": SIZE},
        **{"one_hot": np.eye(3, dtype="float32"), "code": code, "val_code": val_code, "backbone": "MobileNet 0.75"},
        **{"bases": {"MobileNet 0.75": None}, "sizes": {"small": SIZE, "backbone": SIZE}, "judged": {SIZE: judged}},
        train_films={SIZE: page["with_lungs"]},
    )
    check(eight["fit"](which, 0))


def test_04_trains_with_16_bits_too():
    """Mixed precision is not used; who sets it gets finite losses, and answers in 32 bits."""
    before, page = keras.config.dtype_policy(), four()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network, run = trained = page["fit"](page["build_network"], RECIPE["layers"], 0, 1, "16 bits")
        check(trained)
        assert "float16" in {layer.compute_dtype for layer in network.layers}
        assert {layer.compute_dtype for layer in run.learner.layers[0].layers} == {"float32"}
    finally:
        keras.config.set_dtype_policy(before)
