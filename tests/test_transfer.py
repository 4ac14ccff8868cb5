"""Backbones: found or named as missing, built alike, frozen where they must be."""

import numpy as np
import pytest

from cxr import transfer
from cxr.backend import keras
from cxr.project import Problem

SIZE = 96


@pytest.fixture(scope="module")
def base():
    keras.utils.set_random_seed(0)
    return transfer.raw("MobileNetV2 0.35", SIZE)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 120, (24, SIZE, SIZE)).astype(np.uint8)
    pictures[12:, 20:60, 20:60] += 120
    return pictures


@pytest.mark.parametrize("wanted, found", [
    ("small", transfer.SMALL), ("all", list(transfer.BACKBONES)), ("VGG16", ["VGG16"]),
    ("ResNet50, VGG16,ResNet50", ["ResNet50", "VGG16"])])
def test_choice_by_word_or_by_name(wanted, found):
    assert transfer.choose(wanted) == found


@pytest.mark.parametrize("wanted", ["AlexNet", "VGG16; ResNet50", ""])
def test_an_unknown_backbone_is_named_with_the_choices(wanted):
    with pytest.raises(Problem, match="choose from MobileNetV2, .*VGG16"):
        transfer.choose(wanted)


def test_weights_come_from_the_folder_that_is_named(base, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    assert transfer.local_weights("MobileNetV2 0.35") is None
    base.save_weights(tmp_path / "mobilenet_v2_0.35_96.weights.h5")
    model, said = transfer.pretrained("MobileNetV2 0.35", SIZE)
    assert said == "ImageNet, mobilenet_v2_0.35_96.weights.h5"
    for one, other in zip(model.get_weights(), base.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name, file", [
    ("MobileNetV2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_160_no_top.h5"),
    ("MobileNet 0.75", "mobilenet_7_5_224_tf_no_top.h5"), ("EfficientNetB0", "efficientnetb0_notop.h5"),
    ("ResNet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    ("VGG16", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5")])
def test_files_are_known_by_the_names_that_keras_gives_them(name, file, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / file).touch()
    assert transfer.local_weights(name) == tmp_path / file


def test_a_folder_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(Problem, match="KERAS_WEIGHTS_DIR names .*nowhere.*unset it"):
        transfer.pretrained("VGG16", SIZE)


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x89HDF\r\n\x1a\n" + b"\0" * 50])
def test_a_file_that_holds_no_weights_is_named(monkeypatch, tmp_path, content):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "mobilenet_v2_0.35_224.weights.h5").write_bytes(content)
    with pytest.raises(Problem, match="mobilenet_v2_0.35_224.weights.h5 does not fit MobileNetV2 0.35 .*replace it"):
        transfer.pretrained("MobileNetV2 0.35", SIZE)


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
def test_weights_of_another_network_are_named(monkeypatch, tmp_path, base):
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(tmp_path))
    base.save_weights(tmp_path / "mobilenet_v2_1.00_224.weights.h5")
    with pytest.raises(Problem, match="mobilenet_v2_1.00_224.weights.h5 does not fit MobileNetV2 "):
        transfer.pretrained("MobileNetV2", SIZE)


def test_without_a_network_there_are_no_weights_and_it_says_so(monkeypatch):
    monkeypatch.delenv("KERAS_WEIGHTS_DIR", raising=False)

    def refused(**_):
        raise Exception("URL fetch failure on https://example.org: None -- no route")  # what Keras raises

    monkeypatch.setattr(keras.applications, "MobileNetV2", refused)
    model, said = transfer.pretrained("MobileNetV2 0.35", SIZE)
    assert model is None and "can't be downloaded (URL fetch failure" in said


@pytest.mark.parametrize("name", ["EfficientNetB0", "ResNet50", "VGG16", "MobileNet 0.75"])
def test_every_backbone_answers_with_random_weights(name, pictures):
    network = transfer.build(name, transfer.raw(name, SIZE))
    found = network.predict(pictures[:2, ..., None], verbose=0)
    assert found.shape == (2, 1) and np.isfinite(found).all() and network.name.isidentifier()


def test_a_copy_takes_over_statistics_and_keeps_them_when_saved(pictures, tmp_path):
    """EfficientNet begins with a layer whose statistics are no ordinary weights."""
    base = transfer.raw("EfficientNetB0", SIZE)
    norm = next(layer for layer in base.layers if isinstance(layer, keras.layers.Normalization))
    norm.adapt_mean.assign([0.4, 0.5, 0.6])
    norm.adapt_variance.assign([0.04, 0.05, 0.06])
    norm.finalize_state()
    one, other = (transfer.build("EfficientNetB0", own) for own in (base, transfer.copy("EfficientNetB0", base)))
    found = [transfer.features(own, pictures[:4]) for own in (one, other)]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)
    other.save(tmp_path / "a.keras")
    again = keras.models.load_model(tmp_path / "a.keras", compile=False)
    np.testing.assert_allclose(transfer.features(again, pictures[:4]), found[1], rtol=1e-4, atol=1e-6)


def test_what_a_tuning_starts_from_is_told_by_its_weights(base):
    other = transfer.copy("MobileNetV2 0.35", base)
    assert transfer.start("ImageNet", base) == transfer.start("ImageNet", other)
    other.set_weights([w + 1 for w in other.get_weights()])
    assert transfer.start("ImageNet", base) != transfer.start("ImageNet", other)
    assert transfer.start("RANDOM", None) == "RANDOM"


def test_exposure_is_no_clue(base, pictures):
    network = transfer.build("MobileNetV2 0.35", base)
    darker = (pictures * 0.5).astype(np.uint8)
    one, other = (transfer.features(network, own) for own in (pictures, darker))
    np.testing.assert_allclose(one, other, atol=0.05 * np.abs(one).max())


def test_statistics_of_imagenet_stay_while_all_else_is_tuned(pictures):
    base = transfer.raw("MobileNetV2 0.35", SIZE)
    network = transfer.build("MobileNetV2 0.35", base)
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
    loose = transfer.build("MobileNetV2 0.35", transfer.raw("MobileNetV2 0.35", SIZE), keep_statistics=False)
    assert len(loose.trainable_variables) > len(network.trainable_variables)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_the_logistic_regression_it_was_fitted_as(base, classes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    network = transfer.build("MobileNetV2 0.35", base, 1 if classes == 2 else classes)
    rng = np.random.default_rng(1)
    label = rng.integers(0, classes, 90)
    found = rng.normal(3, 2, (90, network.get_layer("features").output.shape[1])).astype("float32")
    found[:, 0] += 3 * label
    weight = np.ones(90)
    transfer.fit_head(network, found, label, weight, strength=0.1)
    scaler = StandardScaler().fit(found)
    line = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(found), label)
    expected = line.predict_proba(scaler.transform(found))
    kernel, bias = network.layers[-1].get_weights()
    odds = found @ kernel + bias
    answer = 1 / (1 + np.exp(-odds[:, 0])) if classes == 2 else np.exp(odds) / np.exp(odds).sum(1, keepdims=True)
    np.testing.assert_allclose(answer, expected[:, 1] if classes == 2 else expected, atol=1e-3)


def test_features_follow_the_order_of_the_pictures(base, pictures):
    network = transfer.build("MobileNetV2 0.35", base)
    whole = transfer.features(network, pictures)
    np.testing.assert_allclose(transfer.features(network, pictures, batch_size=5), whole, rtol=1e-3, atol=1e-4)
    changed = transfer.features(network, pictures, keras.Sequential([keras.layers.RandomContrast(0.9, seed=1)]))
    assert changed.shape == whole.shape and np.isfinite(changed).all()
