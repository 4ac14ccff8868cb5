import numpy as np
import pytest

from cxr import augment, train
from cxr.backend import keras, tf
from cxr.project import Problem

RECIPE = [{"layer": "RandomCornerSwap", "settings": {}, "kept": True},
          {"layer": "RandomFraming", "settings": {}, "kept": True},
          {"layer": "RandomContrast", "settings": {"factor": 0.3, "value_range": [0, 255]}, "kept": True},
          {"layer": "RandomFlip", "settings": {"mode": "vertical"}, "kept": False},
          {"layer": "RandomSharpness", "settings": {}, "kept": True}]


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (8, 40, 40, 1)).astype("float32")


def small_network(size=24):
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.layers.Input((size, size, 1)), keras.layers.Rescaling(1 / 255),
                             keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.GlobalAveragePooling2D(),
                             keras.layers.Dense(1, activation="sigmoid", dtype="float32")])


def small_batches(images=64, size=24, batch=16):
    """Bright squares are label 1."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, images)
    pixels = (rng.integers(0, 120, (images, size, size)) + 100 * labels[:, None, None]).astype("uint8")
    return train.Batches(pixels, labels, train.class_weights(labels), batch, seed=1)


def test_class_weights_make_both_classes_count_the_same():
    labels = np.array([0, 1, 1, 1, 1])
    weights = train.class_weights(labels)
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum())
    assert weights.mean() == pytest.approx(1)


def test_batches_shuffle_by_epoch_and_repeat_by_seed():
    first, again = small_batches(), small_batches()
    np.testing.assert_array_equal(first[0][0], again[0][0])
    before = first[0][0].copy()
    first.on_epoch_begin()
    assert not np.array_equal(before, first[0][0])
    again.on_epoch_begin()
    np.testing.assert_array_equal(first[0][0], again[0][0])


def test_an_epoch_holds_every_image_once():
    batches = small_batches()
    seen = np.concatenate([batches[i][0] for i in range(len(batches))])
    assert len(np.unique(seen.reshape(len(seen), -1), axis=0)) == 64


def test_fewer_images_than_a_batch_still_train():
    assert len(small_batches(images=5, batch=32)) == 1


@pytest.mark.parametrize("row", RECIPE, ids=lambda row: row["layer"])
def test_augmentation_changes_training_only_and_stays_in_range(row, pictures):
    layer = augment.layer(row["layer"], row["settings"], seed=1)
    np.testing.assert_array_equal(layer(pictures, training=False), pictures)
    changed = np.asarray(layer(pictures, training=True))
    assert changed.shape == pictures.shape and not np.allclose(changed, pictures)
    assert changed.min() >= -1e-3 and changed.max() <= 255.001


def test_corner_swap_takes_edges_from_another_image_and_leaves_the_middle():
    flat = np.stack([np.full((40, 40, 1), value, "float32") for value in (0, 50, 100, 150, 200, 250)])
    changed = np.asarray(augment.RandomCornerSwap(size=0.3, frame=0.1, rate=1.0, seed=0)(flat, training=True))
    np.testing.assert_array_equal(changed[:, 13:27, 13:27], flat[:, 13:27, 13:27])
    np.testing.assert_array_equal(changed[:, 0, 0], np.roll(flat, 1, axis=0)[:, 0, 0])


def test_framing_zooms_out_to_black_and_in_to_nothing_new():
    white = np.full((64, 40, 40, 1), 255, "float32")
    framed = np.asarray(augment.RandomFraming(aspect=1.0, shift=0.0, turn=0.0, rate=1.0, seed=0)(white, training=True))
    black = (framed < 128).mean(axis=(1, 2, 3))
    assert 0.3 < (black > 0.02).mean() < 0.7, "half of them are zoomed out"
    np.testing.assert_allclose(framed[:, 15:25, 15:25], 255, atol=0.01)
    largest = 1 - 1 / 1.3 ** 2
    assert black.max() == pytest.approx(largest, abs=0.05)


def test_framing_leaves_a_share_as_it_is(pictures):
    many = np.repeat(pictures, 50, axis=0)
    framed = np.asarray(augment.RandomFraming(rate=0.8, seed=2)(many, training=True))
    same = np.isclose(framed, many, atol=0.01).all(axis=(1, 2, 3)).mean()
    assert 0.13 < same < 0.27


def test_recipe_keeps_what_is_kept_and_repeats_by_seed(pictures):
    first, again, other = (augment.build(RECIPE, seed) for seed in (4, 4, 5))
    kept = [row["layer"] for row in RECIPE if row["kept"]]
    assert [layer.__class__.__name__ for layer in first.layers] == kept and "RandomFlip" not in kept
    np.testing.assert_array_equal(first(pictures, training=True), again(pictures, training=True))
    assert not np.allclose(first(pictures, training=True), other(pictures, training=True))


@pytest.mark.parametrize("name, settings", [("RandomHeart", {}), ("RandomZoom", {"zoom": 3})])
def test_unknown_layer_or_setting_is_named(name, settings):
    with pytest.raises(Problem, match=f"{name}.*03_augment.ipynb"):
        augment.layer(name, settings)


def test_augmentation_layers_survive_saving(tmp_path, pictures):
    model = keras.Sequential([keras.layers.Input((40, 40, 1)), augment.RandomCornerSwap(size=0.2, seed=1),
                              augment.RandomSharpness(noise=3.0, seed=2)])
    model.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    assert loaded.layers[0].size == 0.2 and loaded.layers[1].noise == 3.0
    np.testing.assert_array_equal(model(pictures, training=True), loaded(pictures, training=True))


def test_training_learns_prints_a_line_an_epoch_and_repeats_by_seed(capsys):
    def run():
        network = small_network()
        network.compile(keras.optimizers.AdamW(0.02), "binary_crossentropy",
                        metrics=["accuracy", keras.metrics.AUC(name="auc")])
        batches = small_batches()
        data = (batches.pictures[..., None], batches.labels)
        return network.fit(batches, validation_data=data, epochs=6, verbose=0, callbacks=[train.OneLine()])

    log, again = train.table(run()), train.table(run())
    assert capsys.readouterr().out.count("epoch ") == 12
    assert list(log.epoch) == [1, 2, 3, 4, 5, 6] and log.seconds.ge(0).all()
    assert log.loss.iloc[-1] < log.loss.iloc[0] and log.val_auc.iloc[-1] > 0.95
    np.testing.assert_allclose(log.loss, again.loss, rtol=1e-5)


def test_model_is_checked_before_it_takes_its_name(tmp_path, monkeypatch):
    network, pixels = small_network(), np.zeros((2, 24, 24, 1))
    train.save_checked(network, pixels)(tmp_path / "good.keras")
    assert keras.models.load_model(tmp_path / "good.keras").count_params() == network.count_params()
    other = small_network()
    other.set_weights([w + 1 for w in other.get_weights()])
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: other)
    with pytest.raises(ValueError, match="bad.keras"):
        train.save_checked(network, pixels)(tmp_path / "bad.keras")


def test_devices_without_a_gpu_say_so():
    strategy, said = train.devices()
    if not tf.config.list_physical_devices("GPU"):
        assert "CPU" in said and strategy.num_replicas_in_sync == 1
        assert keras.mixed_precision.global_policy().name == "float32"
