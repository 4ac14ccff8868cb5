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
SIZE, IMAGES = 64, 12


def cells(notebook, *starts):
    """The code cells of a notebook that begin so, as committed."""
    path = next((ROOT / "notebooks").glob(f"{notebook}_*.ipynb"))
    found = [
        "".join(cell["source"])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    return [next(source for source in found if source.startswith(start)) for start in starts]


@pytest.fixture
def as_with_a_gpu(monkeypatch, tmp_path):
    """Keras decides on XLA as it does where there is one GPU; checkpoints go to a folder of their own."""
    monkeypatch.setattr(keras.Model, "_resolve_auto_jit_compile", model_supports_jit)
    monkeypatch.setenv("CXR_CHECKPOINT_DIR", str(tmp_path))
    yield
    keras.utils.clear_session()


def names(notebook, size, **more):
    """What the cells of a notebook know when they train: twelve drawn pictures, two thirds of them to train on."""
    rng = np.random.default_rng(0)
    in_train = np.arange(IMAGES) < IMAGES * 2 // 3
    labels = (np.arange(IMAGES) % 2).astype("float32")
    pictures = rng.integers(0, 256, (IMAGES, size, size)).astype("uint8")
    train, val = (data.Part(pd.DataFrame({"label": labels[part]}), pictures[part]) for part in (in_train, ~in_train))
    known = {
        "keras": keras,
        "layers": keras.layers,
        "np": np,
        "augment": augment,
        "training": training,
        "backbones": backbones,
        "metrics": metrics,
        "recipe": RECIPE,
        "kept_changes": [row for row in RECIPE["layers"] if row["kept"]],
        "with_lungs": np.stack([train.pictures, 255 * (train.pictures > 127).astype("uint8")], -1),
        "changes": RECIPE["layers"],
        "kinds": ["plain"],
        "draws": 1,
        "train": train,
        "val": val,
        "checkpoint_dir": checkpoint_dir,
        "weights": training.class_weights(train.label),
        "validation": (val.pictures[..., None], val.label),
        "plain_validation": (val.pictures[..., None], val.label),
        **more,
    }
    exec(cells(notebook, "SEEDS" if notebook != "07" else "BACKBONES")[0], known)
    return known | {"BATCH_SIZE": 4, "IMAGE_SIZE": size}


def ready(known, notebook, *starts):
    for source in cells(notebook, *starts):
        exec(source, known)
    return known


def check(trained):
    network, run = trained
    assert run.learner.jit_compile is True, "Keras would not compile it with XLA"
    assert len(run.rows) == 1 and all(np.isfinite(value) for value in run.rows[0].values()), run.rows
    assert network.output.dtype == "float32"


@pytest.fixture
def four():
    """The cells of 04 that build and train, and the rows of its ablation."""
    return ready(
        names("04", SIZE),
        "04",
        "def build_plain",
        "def convolve",
        "def build_network",
        "def compile",
        "def fit",
        "def build_without",
        "transplants, others = ",
        "erasing = ",
    )


@pytest.mark.parametrize("row", ["all + Erasing"])
def test_every_row_of_04_trains_under_xla(row, as_with_a_gpu, four):
    name, build, changes = next(one for one in four["rows"] if one[0] == row)
    if row.startswith("all"):
        assert {"RandomFraming", "RandomTransplant"} < {change["layer"] for change in changes if change["kept"]}
    check(four["fit"](build, changes, 0, 1, name))


def test_the_steps_in_sight_of_04_train_under_xla(as_with_a_gpu, four):
    four["EPOCHS"] = 1
    ready(four, "04", "batches = training.Batches", "settings = training.settings")
    check((four["plain_network"], four["plain_run"]))


def test_the_rows_of_04_hold_nothing_else(four):
    """The rows between are parts of the last one, and no layer of theirs is without XLA."""
    every = {change["layer"] for _, _, changes in four["rows"] for change in changes}
    everything = {change["layer"] for change in next(own for name, _, own in four["rows"] if name == "all + Erasing")}
    assert every == everything
    assert all(layer.supports_jit for _, _, changes in four["rows"] for layer in augment.build(changes).layers)


@pytest.mark.parametrize("backbone", ["MobileNetV2 0.35"])
def test_fine_tuning_of_07_trains_under_xla(backbone, as_with_a_gpu):
    seven = ready(names("07", SIZE), "07", "def with_answer", "def tune")
    seven["TUNING_EPOCHS"] = 1
    seven["bases"] = {backbone: None}
    network = seven["with_answer"](backbone, backbones.begin(backbone, None, SIZE))
    seven["heads"] = {backbone: network.layers[-1].get_weights()}
    check(seven["tune"](backbone, 0))


@pytest.mark.parametrize("which", ["small", "backbone"])
def test_the_networks_of_08_train_under_xla(which, as_with_a_gpu, four):
    code, kinds = np.arange(IMAGES * 2 // 3) % 3, ["normal", "bacteria", "virus"]
    eight = names(
        "08",
        SIZE,
        binary=four["build_network"]("binary"),
        names=kinds,
        one_hot=np.eye(3, dtype="float32"),
        backbone="MobileNet 0.75",
        bases={"MobileNet 0.75": None},
        size_of_07=SIZE,
        code=code,
        val_code=np.arange(IMAGES // 3) % 3,
        sizes={"small": SIZE, "backbone": SIZE},
    )
    films, masks = eight["val"].pictures, np.zeros_like(eight["val"].pictures)
    judged = training.Validation(films, masks, eight["val_code"], {"stress_draws": 1, "swap_draws": 1})
    eight |= {"EPOCHS": 1, "TUNING_EPOCHS": 1, "train_films": {SIZE: eight["with_lungs"]}, "judged": {SIZE: judged}}
    ready(eight, "08", "def small_network", "def tuned_network", "plans = ", "def fit")
    check(eight["fit"](which, 0))


def test_04_trains_with_16_bits_too(as_with_a_gpu, four):
    """Mixed precision is not used; who sets it gets finite losses, and answers in 32 bits."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network, run = trained = four["fit"](four["build_network"], RECIPE["layers"], 0, 1, "16 bits")
        check(trained)
        assert "float16" in {layer.compute_dtype for layer in network.layers}
        assert {layer.compute_dtype for layer in run.learner.layers[0].layers} == {"float32"}
    finally:
        keras.config.set_dtype_policy(before)
