"""Backbones: found or named as missing, built alike, frozen where they must be."""

import h5py
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from test_gpu import cells

from cxr import augment, backbones, training
from cxr.project.backend import keras
from cxr.project.paths import Problem

SIZE = 96


@pytest.fixture(scope="module")
def base():
    keras.utils.set_random_seed(0)
    return backbones.raw("MobileNetV2 0.35", SIZE)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 120, (24, SIZE, SIZE)).astype(np.uint8)
    pictures[12:, 20:60, 20:60] += 120
    return pictures


@pytest.mark.parametrize(
    "wanted, found",
    [
        ("small", backbones.SMALL),
        ("all", list(backbones.BACKBONES)),
        ("VGG16", ["VGG16"]),
        ("ResNet50, VGG16,ResNet50", ["ResNet50", "VGG16"]),
    ],
)
def test_choice_by_word_or_by_name(wanted, found):
    assert backbones.choose(wanted) == found


@pytest.mark.parametrize("wanted", ["AlexNet", "VGG16; ResNet50", ""])
def test_an_unknown_backbone_is_named_with_the_choices(wanted):
    with pytest.raises(Problem, match="choose from MobileNetV2, .*VGG16"):
        backbones.choose(wanted)


def test_weights_come_from_the_folder_that_is_named(base, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    assert backbones.local_weights("MobileNetV2 0.35") is None
    base.save_weights(tmp_path / "mobilenet_v2_0.35_96.weights.h5")
    model, said = backbones.pretrained("MobileNetV2 0.35", SIZE)
    assert said == "ImageNet, mobilenet_v2_0.35_96.weights.h5"
    for one, other in zip(model.get_weights(), base.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "name, file",
    [
        ("MobileNetV2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_160_no_top.h5"),
        ("MobileNet 0.75", "mobilenet_7_5_224_tf_no_top.h5"),
        ("EfficientNetB0", "efficientnetb0_notop.h5"),
        ("ResNet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("VGG16", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    ],
)
def test_files_are_known_by_the_names_that_keras_gives_them(name, file, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / file).touch()
    assert backbones.local_weights(name) == tmp_path / file


def test_a_folder_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(Problem, match="KERAS_WEIGHTS_DIR names .*nowhere.*unset it"):
        backbones.pretrained("VGG16", SIZE)


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x89HDF\r\n\x1a\n" + b"\0" * 50])
def test_a_file_that_holds_no_weights_is_named(monkeypatch, tmp_path, content):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "mobilenet_v2_0.35_224.weights.h5").write_bytes(content)
    with pytest.raises(Problem, match="mobilenet_v2_0.35_224.weights.h5 does not fit MobileNetV2 0.35 .*replace it"):
        backbones.pretrained("MobileNetV2 0.35", SIZE)


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
def test_weights_of_another_network_are_named(monkeypatch, tmp_path, base):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    base.save_weights(tmp_path / "mobilenet_v2_1.00_224.weights.h5")
    with pytest.raises(Problem, match="mobilenet_v2_1.00_224.weights.h5 does not fit MobileNetV2 "):
        backbones.pretrained("MobileNetV2", SIZE)


def test_without_a_network_there_are_no_weights_and_it_says_so(monkeypatch):
    monkeypatch.delenv("KERAS_WEIGHTS_DIR", raising=False)

    def refused(**_):
        raise Exception("URL fetch failure on https://example.org: None -- no route")  # what Keras raises

    monkeypatch.setattr(keras.applications, "MobileNetV2", refused)
    model, said = backbones.pretrained("MobileNetV2 0.35", SIZE)
    assert model is None and "can't be downloaded (URL fetch failure" in said


@pytest.mark.parametrize("name", ["EfficientNetB0", "ResNet50", "VGG16", "MobileNet 0.75"])
def test_every_backbone_answers_with_random_weights(name, pictures):
    network = backbones.build(name, backbones.raw(name, SIZE))
    found = network.predict(pictures[:2, ..., None], verbose=0)
    assert found.shape == (2, 1) and np.isfinite(found).all() and network.name.isidentifier()


def test_a_copy_takes_over_statistics_and_keeps_them_when_saved(pictures, tmp_path):
    """EfficientNet begins with a layer whose statistics are no ordinary weights."""
    base = backbones.raw("EfficientNetB0", SIZE)
    norm = next(layer for layer in base.layers if isinstance(layer, keras.layers.Normalization))
    norm.adapt_mean.assign([0.4, 0.5, 0.6])
    norm.adapt_variance.assign([0.04, 0.05, 0.06])
    norm.finalize_state()
    one, other = (backbones.build("EfficientNetB0", own) for own in (base, backbones.copy("EfficientNetB0", base)))
    found = [backbones.features(own, pictures[:4]) for own in (one, other)]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)
    other.save(tmp_path / "a.keras")
    again = keras.models.load_model(tmp_path / "a.keras", compile=False)
    np.testing.assert_allclose(backbones.features(again, pictures[:4]), found[1], rtol=1e-4, atol=1e-6)


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
    from_file, said = backbones.pretrained("EfficientNetB0", SIZE)
    assert said == "ImageNet, efficientnetb0_notop.h5"
    monkeypatch.delenv("KERAS_WEIGHTS_DIR")
    downloaded, said = backbones.pretrained("EfficientNetB0", SIZE)
    assert said == "ImageNet, downloaded"
    theirs = keras.applications.EfficientNetB0(include_top=False, input_shape=(SIZE, SIZE, 3))
    assert len(theirs.layers) == len(downloaded.layers) + 1 == len(from_file.layers) + 1
    films = np.repeat(pictures[:2, ..., None], 3, axis=-1).astype("float32")
    expected = theirs.predict(films, verbose=0)
    for own in (from_file, downloaded, backbones.copy("EfficientNetB0", downloaded)):
        np.testing.assert_allclose(own.predict(films, verbose=0), expected, rtol=1e-3, atol=1e-5 * expected.max())


@pytest.mark.parametrize(
    "name, start",
    [("MobileNetV2 0.35", "ImageNet, a.h5"), ("MobileNetV2 0.35", "RANDOM"), ("EfficientNetB0", "ImageNet, a.h5")],
)
def test_the_network_in_sight_of_07_is_that_of_the_package(name, start, pictures):
    """08 builds with `backbones.build`; 07 shows the same steps, and trains what they make."""
    known = start != "RANDOM"
    given = backbones.raw(name, SIZE)
    cell = {
        "keras": keras,
        "layers": keras.layers,
        "backbones": backbones,
        "IMAGE_SIZE": SIZE,
        "bases": {name: (given, start)},
    }
    exec(cells("07", "def new_network")[0], cell)
    with training.fresh(3):
        own = cell["new_network"](name, start)
    with training.fresh(3):
        base = backbones.copy(name, given) if known else backbones.raw(name, SIZE)
        expected = backbones.build(name, base, keep_statistics=known)
    assert own.to_json() == expected.to_json() and len(own.trainable_variables) == len(expected.trainable_variables)
    assert training.weights_sha256(own) == training.weights_sha256(expected)
    films = pictures[:2, ..., None]
    np.testing.assert_array_equal(own.predict(films, verbose=0), expected.predict(films, verbose=0))
    frozen = cell["new_network"](name, start, frozen=True)
    assert [len(one.trainable_variables) for one in frozen.layers if one.trainable_variables] == [2]  # the answer's


def test_exposure_is_no_clue(base, pictures):
    network = backbones.build("MobileNetV2 0.35", base)
    darker = (pictures * 0.5).astype(np.uint8)
    one, other = (backbones.features(network, own) for own in (pictures, darker))
    np.testing.assert_allclose(one, other, atol=0.05 * np.abs(one).max())


def test_statistics_of_imagenet_stay_while_all_else_is_tuned(pictures):
    base = backbones.raw("MobileNetV2 0.35", SIZE)
    network = backbones.build("MobileNetV2 0.35", base)
    learner = keras.Sequential([keras.layers.Input((SIZE, SIZE, 1)), network])
    learner.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")

    def split():
        norms = [layer for layer in base.layers if isinstance(layer, keras.layers.BatchNormalization)]
        kernels = [layer for layer in base.layers if isinstance(layer, keras.layers.Conv2D)]
        return [[w.copy() for layer in part for w in layer.get_weights()] for part in (norms, kernels)]

    before = split()
    learner.fit(pictures[..., None], np.repeat([0.0, 1.0], 12), batch_size=8, epochs=1, verbose=0)
    after = split()
    assert before[0] and all(np.array_equal(a, b) for a, b in zip(before[0], after[0]))
    assert any(not np.array_equal(a, b) for a, b in zip(before[1], after[1]))
    loose = backbones.build("MobileNetV2 0.35", backbones.raw("MobileNetV2 0.35", SIZE), keep_statistics=False)
    assert len(loose.trainable_variables) > len(network.trainable_variables)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_the_logistic_regression_it_was_fitted_as(base, classes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    network = backbones.build("MobileNetV2 0.35", base, 1 if classes == 2 else classes)
    rng = np.random.default_rng(1)
    label = rng.integers(0, classes, 90)
    found = rng.normal(3, 2, (90, network.get_layer("features").output.shape[1])).astype("float32")
    found[:, 0] += 3 * label
    weight = np.ones(90)
    backbones.fit_head(network, found, label, weight, strength=0.1)
    scaler = StandardScaler().fit(found)
    line = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(found), label)
    expected = line.predict_proba(scaler.transform(found))
    kernel, bias = network.layers[-1].get_weights()
    odds = found @ kernel + bias
    answer = 1 / (1 + np.exp(-odds[:, 0])) if classes == 2 else np.exp(odds) / np.exp(odds).sum(1, keepdims=True)
    np.testing.assert_allclose(answer, expected[:, 1] if classes == 2 else expected, atol=1e-3)


def test_features_follow_the_order_of_the_pictures(base, pictures):
    network = backbones.build("MobileNetV2 0.35", base)
    whole = backbones.features(network, pictures)
    np.testing.assert_allclose(backbones.features(network, pictures, batch_size=5), whole, rtol=1e-3, atol=1e-4)
    changed = backbones.features(network, pictures, keras.Sequential([keras.layers.RandomContrast(0.9, seed=1)]))
    assert changed.shape == whole.shape and np.isfinite(changed).all()
    with_lungs = np.stack([pictures, np.zeros_like(pictures)], -1)  # without lungs a film stays as it is
    recipe = [{"layer": "RandomTransplant", "settings": {"rate": 1.0}, "kept": True}]
    same = backbones.features(network, with_lungs, augment.build(recipe))
    np.testing.assert_allclose(same, whole, rtol=1e-3, atol=1e-4)
