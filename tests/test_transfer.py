"""Backbones: found or named as missing, built alike, frozen where they must be."""

import h5py
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from test_gpu import cells

from cxr import augment, backbones, training
from cxr.backend import keras
from cxr.paths import Problem

SIZE, SMALLEST = 96, "MobileNetV2 0.35"
NO_LUNGS = [{"layer": "RandomTransplant", "settings": {"rate": 1.0}, "kept": True}]  # without lungs a film stays


@pytest.fixture(scope="module")
def base():
    keras.utils.set_random_seed(0)
    return backbones.raw(SMALLEST, SIZE)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 120, (24, SIZE, SIZE)).astype(np.uint8)
    pictures[12:, 20:60, 20:60] += 120
    return pictures


def test_choice_by_word_or_by_name():
    assert backbones.choose("small") == backbones.SMALL and backbones.choose("all") == list(backbones.BACKBONES)
    assert backbones.choose("ResNet50, VGG16,ResNet50") == ["ResNet50", "VGG16"]
    for wanted in ("AlexNet", "VGG16; ResNet50", ""):
        with pytest.raises(Problem, match="choose from MobileNetV2, .*VGG16"):
            backbones.choose(wanted)


def test_files_are_known_by_the_names_that_keras_gives_them(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    kernels = "weights_tf_dim_ordering_tf_kernels"
    files = {
        **{"MobileNet 0.75": "mobilenet_7_5_224_tf_no_top.h5", "EfficientNetB0": "efficientnetb0_notop.h5"},
        **{"ResNet50": f"resnet50_{kernels}_notop.h5", "VGG16": f"vgg16_{kernels}_notop.h5"},
        **{"MobileNetV2": f"mobilenet_v2_{kernels}_1.0_160_no_top.h5", SMALLEST: "mobilenet_v2_0.35_96.weights.h5"},
    }
    for name, file in files.items():
        assert backbones.local_weights(name) is None
        (tmp_path / file).touch()
        assert backbones.local_weights(name) == tmp_path / file


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
def test_weights_come_from_the_folder_that_is_named_or_the_fault_is(base, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    path = tmp_path / "mobilenet_v2_0.35_96.weights.h5"
    base.save_weights(path)
    model, source = backbones.pretrained(SMALLEST, SIZE)
    assert source == f"ImageNet, {path.name}"
    for one, other in zip(model.get_weights(), base.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / "mobilenet_v2_1.00_224.weights.h5").write_bytes(path.read_bytes())
    path.write_bytes(b"not weights")
    for name, file in ((SMALLEST, path.name), ("MobileNetV2", "mobilenet_v2_1.00_224.weights.h5")):
        with pytest.raises(Problem, match=f"{file} does not fit {name} .*replace it"):
            backbones.pretrained(name, SIZE)
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(Problem, match="KERAS_WEIGHTS_DIR names .*nowhere.*unset it"):
        backbones.pretrained("VGG16", SIZE)


def test_without_a_network_the_smallest_has_random_weights_and_it_says_so(monkeypatch, capsys):
    monkeypatch.delenv("KERAS_WEIGHTS_DIR", raising=False)

    def refused(**given):
        if given["weights"] is None:
            return original(**given)
        raise Exception("URL fetch failure on https://example.org: None -- no route")  # what Keras raises

    original = keras.applications.MobileNetV2
    monkeypatch.setattr(keras.applications, "MobileNetV2", refused)
    bases, weights = backbones.gather(["MobileNetV2", SMALLEST], SIZE)
    assert bases == {SMALLEST: None} and weights[SMALLEST] == "RANDOM" and "RANDOM" in capsys.readouterr().out
    assert "can't be downloaded (URL fetch failure" in weights["MobileNetV2"]
    assert backbones.begin(SMALLEST, None, SIZE).input_shape == (None, SIZE, SIZE, 3)


@pytest.mark.parametrize("name", ["EfficientNetB0", "ResNet50", "VGG16", "MobileNet 0.75"])
def test_every_backbone_answers_with_random_weights(name, pictures):
    network = backbones.build(name, backbones.raw(name, SIZE))
    found = network.predict(pictures[:2, ..., None], verbose=0)
    assert found.shape == (2, 1) and np.isfinite(found).all() and network.name.isidentifier()


def test_a_downloaded_efficientnet_is_the_one_from_a_file(pictures, tmp_path, monkeypatch):
    """Keras gives the downloaded one a layer more; here both are the same network, and say what that of Keras says."""
    keras.utils.set_random_seed(2)
    source = backbones.raw("EfficientNetB0", SIZE)
    norm = next(layer for layer in source.layers if isinstance(layer, keras.layers.Normalization))
    norm.adapt_mean.assign([0.4, 0.5, 0.6])
    norm.adapt_variance.assign([0.04, 0.05, 0.06])
    path = tmp_path / "efficientnetb0_notop.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, source)
    monkeypatch.setattr("keras.src.applications.efficientnet.file_utils.get_file", lambda *_, **__: str(path))
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    from_file, _ = backbones.pretrained("EfficientNetB0", SIZE)
    monkeypatch.delenv("KERAS_WEIGHTS_DIR")
    downloaded, source = backbones.pretrained("EfficientNetB0", SIZE)
    assert source == "ImageNet, downloaded"
    theirs = keras.applications.EfficientNetB0(include_top=False, input_shape=(SIZE, SIZE, 3))
    films = np.repeat(pictures[:2, ..., None], 3, axis=-1).astype("float32")
    expected = theirs.predict(films, verbose=0)
    for own in (from_file, downloaded):
        assert len(theirs.layers) == len(own.layers) + 1
        np.testing.assert_allclose(own.predict(films, verbose=0), expected, rtol=1e-3, atol=1e-5 * expected.max())


@pytest.mark.parametrize("known", [True, False])
def test_the_network_in_sight_of_07_is_that_of_the_package(known, pictures):
    """08 builds with `backbones.build`; 07 shows the same steps, and trains what they make."""
    name, given = SMALLEST, backbones.raw(SMALLEST, SIZE)
    cell = {"keras": keras, "layers": keras.layers, "backbones": backbones, "IMAGE_SIZE": SIZE}
    exec(cells("07", "def with_answer")[0], cell)
    with training.fresh(3):
        own = cell["with_answer"](name, backbones.begin(name, given if known else None, SIZE))
    with training.fresh(3):
        base = backbones.copy(name, given) if known else backbones.raw(name, SIZE)
        expected = backbones.build(name, base, keep_statistics=known)
    assert own.to_json() == expected.to_json() and len(own.trainable_variables) == len(expected.trainable_variables)
    assert training.weights_sha256(own) == training.weights_sha256(expected)
    base = backbones.begin(name, given, SIZE)
    base.trainable = False  # as the demonstration of 07 does it
    frozen = cell["with_answer"](name, base)
    assert [len(one.trainable_variables) for one in frozen.layers if one.trainable_variables] == [2]  # the answer's


def test_statistics_of_imagenet_stay_while_all_else_is_tuned(pictures):
    base = backbones.raw(SMALLEST, SIZE)
    network = backbones.build(SMALLEST, base)
    learner = keras.Sequential([keras.layers.Input((SIZE, SIZE, 1)), network])
    learner.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")

    def weights(kind):
        return [w.copy() for layer in base.layers if isinstance(layer, kind) for w in layer.get_weights()]

    kinds = keras.layers.BatchNormalization, keras.layers.Conv2D
    before = [weights(kind) for kind in kinds]
    learner.fit(pictures[..., None], np.repeat([0.0, 1.0], 12), batch_size=8, epochs=1, verbose=0)
    same = [[np.array_equal(*pair) for pair in zip(old, weights(kind))] for old, kind in zip(before, kinds)]
    assert all(same[0]) and not all(same[1])


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_the_logistic_regression_of_scikit_learn(base, classes):
    network = backbones.build(SMALLEST, base, 1 if classes == 2 else classes)
    rng = np.random.default_rng(1)
    label = rng.integers(0, classes, 90)
    found = rng.normal(3, 2, (90, network.get_layer("features").output.shape[1])).astype("float32")
    found[:, 0] += 3 * label
    backbones.fit_head(network, found, label, np.ones(90), strength=0.1)
    scaler = StandardScaler().fit(found)
    line = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(found), label)
    expected = line.predict_proba(scaler.transform(found))
    answer = np.asarray(network.layers[-1](found))
    np.testing.assert_allclose(answer, expected[:, 1:] if classes == 2 else expected, atol=1e-3)


def test_features_ignore_exposure_follow_the_order_of_films_and_are_all_that_a_frozen_network_learns_by(base, pictures):
    network = backbones.build(SMALLEST, backbones.copy(SMALLEST, base))
    found = backbones.features(network, pictures)
    np.testing.assert_allclose(backbones.features(network, pictures, batch_size=5), found, rtol=1e-3, atol=1e-4)
    darker = backbones.features(network, (pictures * 0.5).astype(np.uint8))
    np.testing.assert_allclose(darker, found, atol=0.05 * np.abs(found).max())
    films = np.stack([pictures, np.zeros_like(pictures)], -1)
    same = backbones.features(network, films, augment.build(NO_LUNGS))
    np.testing.assert_allclose(same, found, rtol=1e-3, atol=1e-4)
    before = [value.copy() for value in network.get_weights()]
    backbones.fit_frozen(network, films, np.repeat([0.0, 1.0], 12), np.ones(24, "float32"), NO_LUNGS)
    changed = [not np.array_equal(*pair) for pair in zip(before, network.get_weights(), strict=True)]
    assert changed == [False] * (len(changed) - 2) + [True, True]
    y_score = network.predict(pictures[..., None], verbose=0)[:, 0]
    assert y_score[12:].mean() > y_score[:12].mean()
