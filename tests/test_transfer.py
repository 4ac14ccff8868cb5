"""Transfer: ImageNet's weights found or named as missing, and the cells of 07 that build, freeze and fit."""

import json

import numpy as np
import pytest

from cxr import backbones
from cxr.backend import keras
from cxr.paths import ROOT, Problem

SIZE, WIDTH = 96, 0.35


def cell(start):
    """The code cell of 07 that begins so, as committed."""
    page = json.loads((ROOT / "notebooks/07_transfer.ipynb").read_text(encoding="utf-8"))["cells"]
    return next(text for text in ("".join(one["source"]) for one in page) if text.startswith(start))


@pytest.fixture
def page():
    """What 07 knows after the cells that define its network and its last layer, with random weights."""
    known = {"keras": keras, "layers": keras.layers, "IMAGE_SIZE": SIZE, "WIDTH": WIDTH, "imagenet": None}
    keras.utils.set_random_seed(0)
    exec(cell("NAME = "), known)
    exec(cell("def thaw").partition("\n\n")[0], known)
    return known


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 120, (24, SIZE, SIZE)).astype(np.uint8)
    pictures[12:, 20:60, 20:60] += 120
    return pictures


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
def test_weights_come_from_the_folder_that_is_named_or_the_fault_is(page, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    base = page["backbone"]()
    path = tmp_path / "mobilenet_v2_0.35_96.weights.h5"
    base.save_weights(path)
    assert backbones.weights(WIDTH) == str(path)
    page["imagenet"] = str(path)
    for one, other in zip(page["backbone"]().get_weights(), base.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / "mobilenet_v2_1.00_224.weights.h5").write_bytes(path.read_bytes())
    path.write_bytes(b"not weights")
    for width, file in ((WIDTH, path.name), (1.0, "mobilenet_v2_1.00_224.weights.h5")):
        with pytest.raises(Problem, match=f"{file} does not fit MobileNetV2 .*replace it"):
            backbones.weights(width)
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(Problem, match="KERAS_WEIGHTS_DIR names .*nowhere.*unset"):
        backbones.weights()


def test_a_file_is_known_by_the_name_that_keras_gives_it(tmp_path, monkeypatch):
    path = tmp_path / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_160_no_top.h5"
    path.touch()
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    asked = []
    monkeypatch.setattr(keras.applications, "MobileNetV2", lambda **given: asked.append(given))
    assert backbones.weights() == str(path) == asked[0]["weights"]


def test_without_a_network_it_says_where_to_put_the_weights(tmp_path, monkeypatch):
    def refused(**given):
        assert given["weights"] == "imagenet"
        raise Exception("URL fetch failure on https://example.org: None -- no route")  # what Keras raises

    monkeypatch.setattr(keras.applications, "MobileNetV2", refused)
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))  # an empty folder
    with pytest.raises(Problem, match="can't be downloaded .URL fetch failure.*KERAS_WEIGHTS_DIR.*_1.0_.*_no_top.h5"):
        backbones.weights()


def test_frozen_the_last_layer_learns_and_tuned_all_but_the_statistics(page, pictures):
    base = page["backbone"]()
    network = page["with_answer"](base)
    base.trainable = False
    assert [len(one.trainable_variables) for one in network.layers if one.trainable_variables] == [2]
    page["last"] = network.layers[-1]
    exec(cell("def build").partition("\n\n")[0], page)
    network = page["build"]()
    base = next(one for one in network.layers if isinstance(one, keras.Model))
    for one, other in zip(network.layers[-1].get_weights(), page["last"].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    network.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")

    def values(kind):
        return [w.copy() for layer in base.layers if isinstance(layer, kind) for w in layer.get_weights()]

    kinds = keras.layers.BatchNormalization, keras.layers.Conv2D
    before = [values(kind) for kind in kinds]
    network.fit(pictures[..., None], np.repeat([0.0, 1.0], 12), batch_size=8, epochs=1, verbose=0)
    same = [[np.array_equal(*pair) for pair in zip(old, values(kind))] for old, kind in zip(before, kinds)]
    assert all(same[0]) and not all(same[1])


def test_exposure_does_not_count(page, pictures):
    network = page["with_answer"](page["backbone"]())
    reader = keras.Model(network.input, network.get_layer("features").output)
    found = reader.predict(pictures[..., None], verbose=0)
    darker = reader.predict((pictures * 0.5).astype(np.uint8)[..., None], verbose=0)
    np.testing.assert_allclose(darker, found, atol=0.05 * np.abs(found).max())
