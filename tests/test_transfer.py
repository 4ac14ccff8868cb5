"""Backbones: found or named as missing, built alike, frozen where they must be."""

import h5py
import numpy as np
import pandas as pd
import pytest
from keras.src.legacy.saving import legacy_h5_format
from test_gpu import cells

from cxr import augment, backbones, metrics, training
from cxr.backend import keras
from cxr.paths import Problem

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
    "name, known", [("MobileNetV2 0.35", True), ("MobileNetV2 0.35", False), ("EfficientNetB0", True)]
)
def test_the_network_in_sight_of_07_is_that_of_the_package(name, known, pictures):
    """08 builds with `backbones.build`; 07 shows the same steps, and trains what they make."""
    given = backbones.raw(name, SIZE)
    cell = {"keras": keras, "layers": keras.layers, "backbones": backbones, "IMAGE_SIZE": SIZE}
    exec(cells("07", "def with_answer")[0], cell)
    with training.fresh(3):
        own = cell["with_answer"](name, backbones.begin(name, given if known else None, SIZE))
    with training.fresh(3):
        base = backbones.copy(name, given) if known else backbones.raw(name, SIZE)
        expected = backbones.build(name, base, keep_statistics=known)
    assert own.to_json() == expected.to_json() and len(own.trainable_variables) == len(expected.trainable_variables)
    assert training.weights_sha256(own) == training.weights_sha256(expected)
    films = pictures[:2, ..., None]
    np.testing.assert_array_equal(own.predict(films, verbose=0), expected.predict(films, verbose=0))
    base = backbones.begin(name, given, SIZE)
    base.trainable = False  # as the demonstration of 07 does it
    frozen = cell["with_answer"](name, base)
    assert [len(one.trainable_variables) for one in frozen.layers if one.trainable_variables] == [2]  # the answer's
    base.trainable = True
    backbones.freeze_statistics(base)
    assert len(frozen.trainable_variables) == len(backbones.build(name, given).trainable_variables)


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


def test_where_no_weights_are_to_be_had_the_smallest_network_is_random_and_said_so(monkeypatch, capsys):
    monkeypatch.setattr(backbones, "pretrained", lambda *_: (None, "can't be downloaded"))
    bases, weights = backbones.gather(["MobileNetV2", "MobileNetV2 0.35"], SIZE)
    assert bases == {"MobileNetV2 0.35": None} and "RANDOM" in capsys.readouterr().out
    assert weights == {"MobileNetV2": "can't be downloaded", "MobileNetV2 0.35": "RANDOM"}
    assert backbones.begin("MobileNetV2 0.35", None, SIZE).input_shape == (None, SIZE, SIZE, 3)


def test_what_can_be_had_is_gathered_and_the_rest_left_out(monkeypatch, base):
    there = {"MobileNetV2 0.35": (base, "ImageNet, a.h5"), "VGG16": (None, "not there")}
    monkeypatch.setattr(backbones, "pretrained", lambda name, size: there[name])
    bases, weights = backbones.gather(list(there), SIZE)
    assert bases == {"MobileNetV2 0.35": base} and list(weights) == list(there)
    own = backbones.begin("MobileNetV2 0.35", base, SIZE)
    for one, other in zip(own.get_weights(), base.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_frozen_network_learns_by_its_last_layer_alone(base, pictures):
    network = backbones.build("MobileNetV2 0.35", backbones.copy("MobileNetV2 0.35", base))
    before = [value.copy() for value in network.get_weights()]
    films = np.stack([pictures, np.zeros_like(pictures)], -1)
    label = np.repeat([0.0, 1.0], 12)
    recipe = [{"layer": "RandomTransplant", "settings": {"rate": 1.0}, "kept": True}]  # without lungs no change
    backbones.fit_frozen(network, films, label, np.ones(24, "float32"), recipe)
    changed = [not np.array_equal(*pair) for pair in zip(before, network.get_weights(), strict=True)]
    assert changed == [False] * (len(changed) - 2) + [True, True]
    said = network.predict(pictures[..., None], verbose=0)[:, 0]
    assert said[12:].mean() > said[:12].mean()


@pytest.mark.parametrize("name", ["MobileNetV2 0.35", "EfficientNetB0", "ResNet50", "VGG16"])
def test_the_way_of_a_film_through_every_backbone(name, pictures):
    network = backbones.build(name, backbones.raw(name, SIZE))
    way = backbones.passage(network, pictures[20])
    channels = way["channels"]
    assert channels.shape == (SIZE, SIZE, 3) and np.ptp(channels, axis=-1).max() == 0
    assert way["early"].shape == (SIZE // 4, SIZE // 4, 4) and way["late"].shape == (SIZE // 32, SIZE // 32, 4)
    assert way["features"].shape == (way["counts"][1],)
    assert way["answer"] == pytest.approx(float(network.predict(pictures[20:21, ..., None], verbose=0)[0, 0]), abs=1e-5)


def test_the_table_has_every_backbone_and_leaves_blank_what_was_not_run(monkeypatch):
    monkeypatch.setattr(backbones, "BACKBONES", {name: backbones.BACKBONES[name] for name in backbones.SMALL[:2]})
    parts = {"MobileNetV2 0.35": {"auc": 0.9, "epochs": 3}}, {"MobileNetV2 0.35": {"ms_an_image": 2.0}}
    table = backbones.compared({"MobileNetV2 0.35": "RANDOM"}, SIZE, *parts)
    assert list(table.columns) == backbones.COLUMNS and list(table.backbone) == ["MobileNetV2 0.35", "MobileNetV2"]
    assert list(table.weights) == ["RANDOM", "not run here"] and table.parameters[0] == 411489
    assert table.auc[0] == 0.9 and table.ms_an_image[0] == 2 and np.isnan(table.auc[1])


def test_an_answer_is_timed_when_the_network_is_warm(monkeypatch, pictures):
    clock, asked = iter([0, 9, 10, 10.3, 20, 20.1, 30, 30.2]), []
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(metrics, "predict", lambda network, some, size: asked.append(len(some)))
    assert training.ms_an_image(None, pictures) == pytest.approx(1000 * 0.1 / 24, abs=0.05) and asked == [24] * 4


def test_validation_has_its_films_first_and_judges_an_epoch_by_one_of_each_kind(pictures):
    label, masks = np.repeat([0.0, 1.0], 12).astype("float32"), np.zeros_like(pictures)
    masks[:, 20:60, 20:60] = 255
    judged = training.Validation(pictures, masks, label, {"stress_draws": 2, "swap_draws": 1})
    assert judged.kinds == ["plain", "stress", "stress", "swap", "conflict"]
    np.testing.assert_array_equal(judged.pictures[:24], pictures)
    films, target = judged.each_epoch()
    assert films.shape == (96, SIZE, SIZE, 1) and (target == np.tile(label, 4)).all()
    np.testing.assert_array_equal(films[24:48, ..., 0], judged.pictures[24:48])
    np.testing.assert_array_equal(films[48:72, ..., 0], judged.pictures[72:96])
    hot = np.eye(2, dtype="float32")[label.astype(int)]
    np.testing.assert_array_equal(judged.each_epoch(hot)[1], np.tile(hot, (4, 1)))

    class Mean:
        def predict(self, films, **_):
            return films.mean(axis=(1, 2)) / 255

    answers = judged.answers(Mean())
    assert answers.shape == (5, 24) and judged.of_kind(answers, "stress").shape == (2, 24)
    table = judged.table([f"{i}.jpeg" for i in range(24)], {0: answers})
    assert len(table) == 120 and list(table.columns) == ["path", "draw", "kind", "label", "seed_0"]
    row = table[(table.path == "5.jpeg") & (table.draw == 3)].iloc[0]
    assert row.kind == "swap" and row.seed_0 == answers[3, 5]


def test_answers_of_seeds_are_found_again_with_their_thresholds():
    rng = np.random.default_rng(0)
    films = pd.DataFrame({"path": list("abcdef"), "label": [0, 0, 0, 1, 1, 1]})
    answers, limits = [rng.random(6), rng.random(6)], [0.4, 0.6]
    seeds = pd.DataFrame({"seed": [0, 1], "threshold": limits})
    table = metrics.stacked(films, answers)
    again = metrics.unstacked(table.sample(frac=1, random_state=0), films.path, seeds)
    assert [limit for _, limit in again] == limits
    np.testing.assert_array_equal([said for said, _ in again], answers)
    by_seed = metrics.measure_seeds(films.label, answers, seeds.threshold)
    assert by_seed.iloc[1].to_dict() == metrics.measure(films.label, answers[1], 0.6)
    summary = metrics.over_seeds(by_seed)
    assert summary["count"] == 2 and summary["mean"]["auc"] == by_seed.auc.mean() and len(summary["each"]) == 2
    times = metrics.resample(films.assign(patient=films.path), 50)
    one = metrics.with_bounds(films.label, answers[0], 0.4, times)
    assert list(one) == ["accuracy", "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high"]
    assert one["auc_low"] <= one["auc"] <= one["auc_high"]
