import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_gpu import cells

from cxr import augment, paths, training
from cxr.backend import keras, tf
from cxr.paths import ROOT, Problem

RECIPE = [
    {"layer": "RandomCornerSwap", "settings": {}, "kept": True},
    {"layer": "RandomFraming", "settings": {}, "kept": True},
    {"layer": "RandomContrast", "settings": {"factor": 0.3, "value_range": [0, 255]}, "kept": True},
    {"layer": "RandomFlip", "settings": {"mode": "vertical"}, "kept": False},
    {"layer": "RandomSharpness", "settings": {}, "kept": True},
]


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (8, 40, 40, 1)).astype("float32")


def small_network(size=24):
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.layers.Input((size, size, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1, activation="sigmoid", dtype="float32"),
        ]
    )


def small_batches(images=64, size=24, batch=16):
    """Bright squares are label 1."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, images)
    pixels = (rng.integers(0, 120, (images, size, size)) + 100 * labels[:, None, None]).astype("uint8")
    return training.Batches(pixels, labels, training.class_weights(labels), batch, seed=1)


def test_class_weights_make_both_classes_count_the_same():
    labels = np.array([0, 1, 1, 1, 1])
    weights = training.class_weights(labels)
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum())
    assert weights.mean() == pytest.approx(1)


def epoch_of(batches, number):
    """One epoch as `fit` receives it: pictures, labels, weights, each of shape (images, ...)."""
    return [np.concatenate(part) for part in zip(*batches.epochs(number, number + 1).as_numpy_iterator())]


def test_batches_shuffle_by_epoch_and_repeat_by_seed():
    first, second = (epoch_of(small_batches(), number) for number in (0, 1))
    assert not np.array_equal(first[0], second[0])
    both = list(small_batches().epochs(0, 2).as_numpy_iterator())  # an epoch is the same, wherever one begins
    for i, part in enumerate(("pictures", "labels", "weights")):
        together = np.concatenate([batch[i] for batch in both])
        np.testing.assert_array_equal(together, np.concatenate([first[i], second[i]]), part)


def test_an_epoch_holds_every_image_once_as_bytes_with_its_own_label():
    batches = small_batches()
    pictures, labels, weights = epoch_of(batches, 3)
    assert pictures.dtype == np.uint8 and pictures.shape == (64, 24, 24, 1)
    seen = [int(np.flatnonzero((batches.pictures == picture[..., 0]).all(axis=(1, 2)))[0]) for picture in pictures]
    assert sorted(seen) == list(range(64)) and seen != sorted(seen)
    np.testing.assert_array_equal(labels, batches.labels[seen])
    np.testing.assert_array_equal(weights, batches.weights[seen])


def test_fewer_images_than_a_batch_still_train():
    assert len(small_batches(images=5, batch=32)) == 1


@pytest.mark.parametrize("row", RECIPE, ids=lambda row: row["layer"])
def test_augmentation_changes_training_only_and_stays_in_range(row, pictures):
    layer, given = augment.layer(row["layer"], row["settings"], seed=1), pictures
    if row["layer"] == "RandomTransplant":
        lungs = np.zeros_like(pictures)
        lungs[:, 8:24, 6:30] = 255
        given = np.concatenate([pictures, lungs], -1)
    np.testing.assert_array_equal(layer(given, training=False), pictures)
    changed = np.asarray(layer(given, training=True))
    assert changed.shape == pictures.shape and not np.allclose(changed, pictures)
    assert changed.min() >= -1e-3 and changed.max() <= 255.001


def test_corner_swap_takes_edges_from_another_image_and_leaves_the_middle():
    flat = np.stack([np.full((40, 40, 1), value, "float32") for value in (0, 50, 100, 150, 200, 250)])
    changed = np.asarray(augment.RandomCornerSwap(size=0.3, frame=0.1, rate=1.0, seed=0)(flat, training=True))
    np.testing.assert_array_equal(changed[:, 13:27, 13:27], flat[:, 13:27, 13:27])
    np.testing.assert_array_equal(changed[:, 0, 0], np.roll(flat, 1, axis=0)[:, 0, 0])


def test_the_corner_swap_in_sight_of_03_is_that_of_the_package(pictures, monkeypatch):
    monkeypatch.setattr(augment, "OWN", dict(augment.OWN))
    cell = {"augment": augment, "ops": keras.ops, "np": np, "train": SimpleNamespace(pictures=pictures[..., 0])}
    cell["candidates"] = []
    source = cells("03", "class RandomCornerSwap")[0]
    exec(source, cell)
    layer = augment.layer(*cell["candidates"][0][:2], seed=4)
    assert type(layer) is cell["RandomCornerSwap"] is not augment.RandomCornerSwap
    theirs = augment.RandomCornerSwap(**cell["candidates"][0][1], seed=4)
    for films in (pictures, pictures[:5, :30]):
        np.testing.assert_array_equal(*(tf.function(one)(films, training=True) for one in (layer, theirs)))
    with pytest.raises(AssertionError):
        exec(source.replace("self.size / 3", "self.size / 2"), cell)


def test_the_transplant_in_sight_of_03_is_that_of_the_package(pictures, monkeypatch):
    monkeypatch.setattr(augment, "OWN", dict(augment.OWN))
    lungs = np.zeros(pictures.shape[:3], "uint8")
    lungs[:, 8:24, 6:30] = 255
    train = SimpleNamespace(pictures=pictures[..., 0])
    cell = {"augment": augment, "ops": keras.ops, "np": np, "train": train, "train_lungs": lungs}
    source = cells("03", "class RandomTransplant")[0]
    exec(source, cell)
    assert type(augment.layer(*cell["candidates"][0][:2], seed=4)) is cell["RandomTransplant"]
    with pytest.raises(AssertionError):
        exec(source.replace("ops.roll(films, 1", "ops.roll(films, 2"), cell)


def test_framing_zooms_out_to_black_and_in_to_nothing_new():
    white = np.full((64, 40, 40, 1), 255, "float32")
    framed = np.asarray(augment.RandomFraming(aspect=1.0, shift=0.0, turn=0.0, rate=1.0, seed=0)(white, training=True))
    black = (framed < 128).mean(axis=(1, 2, 3))
    assert 0.3 < (black > 0.02).mean() < 0.7, "half of them are zoomed out"
    np.testing.assert_allclose(framed[:, 15:25, 15:25], 255, atol=0.01)
    largest = 1 - 1 / 1.3**2
    assert black.max() == pytest.approx(largest, abs=0.05)


@pytest.mark.parametrize("compiled", [True, False])
def test_framing_reads_between_pixels_as_affine_transform_does(compiled):
    rng = np.random.default_rng(0)
    rough = keras.ops.image.resize(rng.uniform(0, 255, (16, 9, 7, 1)), (60, 50), interpolation="bicubic")
    images = np.clip(rough + rng.normal(0, 10, (16, 60, 50, 1)), 0, 255).astype("float32")
    transform = np.tile([1, 0, 0, 0, 1, 0], (16, 1)) + rng.uniform(-1, 1, (16, 6)) * [0.4, 0.2, 30, 0.2, 0.4, 30]
    transform[0], transform[1] = [1, 0, 0, 0, 1, 0], [1, 0, 500, 0, 1, 0]  # as it is, and nothing of it
    transform = transform.astype("float32")
    expected = np.asarray(
        keras.ops.image.affine_transform(images, np.pad(transform, ((0, 0), (0, 2))), fill_mode="constant")
    )
    plain = getattr(augment.resample, "python_function", augment.resample)
    found = np.asarray((augment.resample if compiled else plain)(images, transform))
    np.testing.assert_array_equal(found[0], images[0])
    assert found[1].max() == 0 and 20 < found[2:].mean() < 200
    assert np.abs(found - expected).mean() < 0.01 and np.abs(found - expected).max() < 0.5


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
    model = keras.Sequential(
        [
            keras.layers.Input((40, 40, 1)),
            augment.RandomCornerSwap(size=0.2, seed=1),
            augment.RandomSharpness(noise=3.0, seed=2),
        ]
    )
    model.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    assert loaded.layers[0].size == 0.2 and loaded.layers[1].noise == 3.0
    np.testing.assert_array_equal(model(pictures, training=True), loaded(pictures, training=True))


# --- a training that a crash can't lose ----------------------------------------------------------------------


def measures():
    return ["accuracy", keras.metrics.AUC(name="auc")]


def train_small(folder, epochs=6, patience=6, rate=0.02, callbacks=(), monitor="val_loss"):
    """Train the small network, augmentation and dropout included; returns the run and a hash over the weights."""
    network = small_network()
    learner = keras.Sequential(
        [keras.layers.Input((24, 24, 1)), augment.build(RECIPE, 1), keras.layers.Dropout(0.1, seed=2), network]
    )
    learner.compile(keras.optimizers.AdamW(rate), "binary_crossentropy", metrics=measures())
    batches = small_batches()
    with training.Run(learner, batches, {"rate": rate, "seed": 1}, folder, epochs, patience, False, monitor) as run:
        learner.fit(
            batches.epochs(run.start, epochs),
            steps_per_epoch=len(batches),
            shuffle=False,
            initial_epoch=run.start,
            epochs=epochs,
            verbose=0,
            callbacks=[run, *callbacks],
            validation_data=(batches.pictures[..., None], batches.labels),
        )
    return run, hashlib.sha256(b"".join(weight.tobytes() for weight in learner.get_weights())).hexdigest()


@pytest.mark.parametrize("monitor", ["val_auc", "val_accuracy"])
def test_the_best_epoch_is_the_first_with_the_highest_figure_that_is_watched(tmp_path, monitor):
    run, weights = train_small(tmp_path, epochs=5, monitor=monitor)
    figures = [row[monitor] for row in run.rows]
    assert run.best_epoch == 1 + int(np.argmax(figures)) and run.settings["monitor"] == monitor
    again, same = train_small(tmp_path, epochs=5, monitor=monitor)
    assert (again.best_epoch, same) == (run.best_epoch, weights) and again.start == 5
    other, _ = train_small(tmp_path, epochs=5)
    assert other.folder != run.folder and "monitor" not in other.settings, "another rule is another training"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return train_small(tmp_path_factory.mktemp("uninterrupted"))


def test_training_learns_and_prints_one_line_an_epoch(tmp_path, capsys):
    run, _ = train_small(tmp_path)
    log = run.table()
    assert capsys.readouterr().out.count("epoch ") == 6 and list(log.epoch) == [1, 2, 3, 4, 5, 6]
    assert log.loss.iloc[-1] < log.loss.iloc[0] and log.val_auc.max() > 0.9
    assert run.best_epoch == log.val_loss.idxmin() + 1 and 0.1 < run.memory < 100


def test_same_seed_gives_the_same_weights_bit_for_bit(tmp_path, uninterrupted):
    run, digest = train_small(tmp_path)
    assert digest == uninterrupted[1] and run.rows == uninterrupted[0].rows


def test_the_best_weights_are_kept(tmp_path):
    network = small_network()
    network.compile(keras.optimizers.SGD(5.0), "binary_crossentropy", metrics=measures())
    batches = small_batches()
    data = (batches.pictures[..., None], batches.labels)
    with training.Run(network, batches, {}, tmp_path, 5, 5) as run:  # so large a rate that it does not settle
        network.fit(
            batches.epochs(0, 5),
            steps_per_epoch=len(batches),
            validation_data=data,
            epochs=5,
            verbose=0,
            shuffle=False,
            callbacks=[run],
        )
    assert network.evaluate(*data, verbose=0)[0] == pytest.approx(run.table().val_loss.min(), rel=1e-4)
    assert run.best_epoch < 5, "the last epoch must not be the best one, or this test shows nothing"


KILLED = """
import os, signal, sys, threading, time
sys.path[:0] = ["notebooks", "tests"]
import numpy as np
where, moment, folder = sys.argv[1], float(sys.argv[2]), sys.argv[3]
import test_train
from cxr import training
from cxr import paths
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
class Dies(training.keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if where == "batch" and self.epoch + batch / 4 >= moment: die()
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
if where in ("fsync", "replace"):  # inside the checkpoint write: the bytes are there, the name is not
    real, calls = getattr(os, where), []
    def patched(*args):
        calls.append(1)
        if len(calls) > moment: die()
        return real(*args)
    setattr(paths.os, where, patched)
if where == "savez":  # half of the bytes are there
    real, calls = np.savez, []
    def patched(path, **arrays):
        calls.append(1)
        if len(calls) > moment:
            path.write_bytes(b"PK" + bytes(1000)); die()
        return real(path, **arrays)
    training.np.savez = patched
test_train.train_small(folder, callbacks=[Dies()])
"""


@pytest.mark.parametrize("where, moment", [("batch", 0.0), ("batch", 2.25), ("savez", 2), ("fsync", 3), ("replace", 1)])
def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_weights(where, moment, tmp_path, uninterrupted, capsys):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, where, str(moment), str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = len(list(tmp_path.glob("*/.unfinished_*")))
    assert left == (where != "batch"), "the bytes of the write it was killed in"
    run, digest = train_small(tmp_path)
    said = capsys.readouterr().out
    again = re.search(r"goes on after epoch (\d)", said)
    whole, expected = uninterrupted
    assert digest == expected and run.rows == whole.rows and run.best_epoch == whole.best_epoch
    assert int(again[1] if again else 0) >= int(moment) - (where != "batch"), "it lost more than one epoch"
    assert said.count("epoch  ") == 6
    assert sorted(path.name for path in run.folder.iterdir()) == ["even.npz", "odd.npz", "settings.json"]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, uninterrupted, capsys):
    run, _ = train_small(tmp_path)
    newest = max(run.files, key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:5000])
    _, digest = train_small(tmp_path)
    assert "goes on after epoch 5" in capsys.readouterr().out and digest == uninterrupted[1]


def test_a_finished_training_started_again_does_nothing(tmp_path, capsys):
    first, digest = train_small(tmp_path)
    capsys.readouterr()
    again, same = train_small(tmp_path)
    said = capsys.readouterr().out
    assert "is finished" in said and said.count("epoch  ") == 6
    assert same == digest and again.rows == first.rows and again.seconds == first.seconds


def test_another_recipe_does_not_use_the_checkpoint_and_says_which_setting_differs(tmp_path, capsys):
    first, _ = train_small(tmp_path, epochs=2)
    before = {path: path.read_bytes() for path in first.folder.iterdir()}
    capsys.readouterr()
    other, _ = train_small(tmp_path, epochs=2, rate=0.01)
    said = capsys.readouterr().out
    assert "Not used" in said and "another rate" in said and len(other.rows) == 2
    assert {path: path.read_bytes() for path in first.folder.iterdir()} == before


def test_patience_ends_the_training_and_stays_ended(tmp_path):
    run, _ = train_small(tmp_path, epochs=30, patience=2, rate=0.3)
    assert run.stopped and len(run.rows) == run.best_epoch + 2 < 30
    again, _ = train_small(tmp_path, epochs=30, patience=2, rate=0.3)
    assert again.rows == run.rows


class Breaks(keras.callbacks.Callback):
    """Turns the weights into NaN at the start of an epoch."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at:
            self.model.set_weights([weight * np.nan for weight in self.model.get_weights()])


def test_a_loss_that_is_no_number_stops_with_the_last_finite_weights(tmp_path, capsys):
    run, _ = train_small(tmp_path, callbacks=[Breaks(3)])
    assert len(run.rows) == 3 and all(np.isfinite(value).all() for value in run.best)
    assert all(np.isfinite(weight).all() for weight in run.learner.get_weights())
    assert f"the weights of epoch {run.best_epoch} are kept" in capsys.readouterr().out


def test_a_loss_that_never_was_a_number_names_the_setting(tmp_path):
    with pytest.raises(Problem, match="learning rate.*notebook to a tenth"):
        train_small(tmp_path, callbacks=[Breaks(0)])


def test_out_of_memory_names_a_smaller_batch(tmp_path):
    batches = small_batches(batch=16)
    network = small_network()
    network.compile("adam", "binary_crossentropy")
    with pytest.raises(Problem, match="BATCH_SIZE to 8"):
        with training.Run(network, batches, {}, tmp_path, 2, 2):
            raise tf.errors.ResourceExhaustedError(None, None, "OOM")


def test_a_full_disk_costs_the_checkpoint_but_not_the_training(tmp_path, monkeypatch, capsys, uninterrupted):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paths.os, "fsync", full)
    _, digest = train_small(tmp_path)
    assert "No space left" in capsys.readouterr().out and digest == uninterrupted[1]


def test_model_is_checked_before_it_takes_its_name(tmp_path, monkeypatch):
    network, pixels = small_network(), np.zeros((2, 24, 24, 1))
    training.save_checked(network, pixels)(tmp_path / "good.keras")
    assert keras.models.load_model(tmp_path / "good.keras").count_params() == network.count_params()
    other = small_network()
    other.set_weights([w + 1 for w in other.get_weights()])
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: other)
    with pytest.raises(ValueError, match="bad.keras"):
        training.save_checked(network, pixels)(tmp_path / "bad.keras")


def test_devices_without_a_gpu_say_so():
    strategy, said = training.devices()
    if not tf.config.list_physical_devices("GPU"):
        assert "CPU" in said and strategy.num_replicas_in_sync == 1
        assert keras.mixed_precision.global_policy().name == "float32"


MIRRORED = """
import json, sys
from cxr import training
from cxr.backend import keras, tf
from test_train import measures, small_batches, small_network

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
two = sys.argv[1] == "two"
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if two else tf.distribute.get_strategy()
training.devices = lambda: (strategy, "")
batches = small_batches()

def compiled(learner, steps):
    learner.compile(keras.optimizers.AdamW(0.02), "binary_crossentropy", metrics=measures())

for _ in range(2):  # the second time it is finished
    validation = (batches.pictures[..., None], batches.labels)
    _, run = training.train(small_network, compiled, batches, validation, [], 5, 5, "")
print(json.dumps([strategy.num_replicas_in_sync, run.rows]))
"""


def test_two_devices_give_the_loss_curve_of_one(tmp_path):
    def curve(number):
        done = subprocess.run(
            [sys.executable, "-c", MIRRORED, number],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT / 'notebooks'}:{ROOT / 'tests'}",
                "CXR_CHECKPOINT_DIR": str(tmp_path / number),
            },
        )
        assert done.returncode == 0, done.stderr[-2000:]
        replicas, rows = json.loads(done.stdout.strip().splitlines()[-1])
        return replicas, [[row["loss"], row["val_loss"]] for row in rows]

    (one, single), (two, double) = curve("one"), curve("two")
    assert (one, two) == (1, 2) and len(single) == 5
    np.testing.assert_allclose(double, single, rtol=0.02)


def test_a_brief_training_is_one_line(tmp_path, capsys):
    network = small_network()
    network.compile(keras.optimizers.AdamW(0.02), "binary_crossentropy", metrics=measures())
    batches = small_batches()
    for _ in range(2):  # the second time it is finished
        with training.Run(network, batches, {"name": "a"}, tmp_path, 3, 3, brief=True) as run:
            network.fit(
                batches.epochs(run.start, 3),
                steps_per_epoch=len(batches),
                initial_epoch=run.start,
                epochs=3,
                validation_data=(batches.pictures[..., None], batches.labels),
                verbose=0,
                shuffle=False,
                callbacks=[run],
            )
        said = capsys.readouterr().out
        assert re.fullmatch(r"\*[*.]{2}  epoch \d of 3 kept, validation loss \d\.\d{4}\n", said)


def test_only_checkpoints_of_the_same_name_are_compared(tmp_path, capsys):
    for name, rate in (("seed 0", 0.1), ("seed 1", 0.1), ("seed 0", 0.2)):
        network = small_network()
        network.compile("adam", "binary_crossentropy", metrics=measures())
        with training.Run(network, small_batches(), {"name": name, "rate": rate}, tmp_path, 1, 1) as run:
            network.fit(
                run.batches.epochs(0, 1),
                steps_per_epoch=len(run.batches),
                epochs=1,
                verbose=0,
                shuffle=False,
                validation_data=(run.batches.pictures[..., None], run.batches.labels),
                callbacks=[run],
            )
    said = capsys.readouterr().out
    assert said.count("Not used") == 1 and "another rate" in said


def test_weights_have_a_fingerprint_of_their_own():
    one, same, other = small_network(), small_network(), small_network()
    other.layers[-1].bias.assign([1e-6])
    assert training.weights_sha256(one) == training.weights_sha256(same) != training.weights_sha256(other)


def test_peak_memory_is_in_gigabytes():
    assert 0.1 < training.peak_memory() < 100
    block = np.ones(60_000_000)  # 0.48 GB
    assert training.peak_memory() >= 0.48 and block.size


def test_seed_facts_part_the_draws(tmp_path):
    from cxr import metrics

    run, _ = train_small(tmp_path, epochs=2)
    label = np.array([0, 0, 1, 1])
    facts = training.seed_facts(
        small_network(),
        run,
        label,
        np.array([[0.1, 0.2, 0.8, 0.9], [0.1, 0.7, 0.6, 0.9], [0.3, 0.2, 0.1, 0.9], [0.9, 0.1, 0.8, 0.2]]),
        ["plain", "stress", "stress", "conflict"],
        np.array([False, True, True, False]),
    )
    assert facts["conflict_auc"] == 0.5 and "swap_auc" not in facts
    assert facts["bias_conflicting_auc"] == 0.25  # of 0.7 and 0.2 against 0.6 and 0.1, one pair of four is in order
    assert facts["val_auc"] == 1 and facts["val_accuracy"] == 1
    stressed = metrics.measure(np.tile(label, 2), [0.1, 0.7, 0.6, 0.9, 0.3, 0.2, 0.1, 0.9], facts["threshold"])
    assert facts["stress_auc"] == stressed["auc"] and facts["stress_specificity"] == stressed["specificity"]
    assert facts["epochs"] == 2 and len(facts["weights_sha256"]) == 64 and "heldout_auc" not in facts
    odd = training.seed_facts(
        small_network(),
        run,
        label,
        np.tile([0.1, 0.2, 0.8, 0.9], (2, 1)),
        ["plain", "stress"],
        np.array([False, True, True, False]),
        np.array([[0.1, 0.2, 0.8, 0.9], [0.9, 0.2, 0.8, 0.1]]),
    )
    assert odd["heldout_auc"] == (1 + 0.25) / 2


def test_the_seed_in_the_middle_is_the_one_to_show():
    table = pd.DataFrame({"seed": [0, 1, 2, 3], "stress_auc": [0.99, 0.95, 0.98, 0.97], "other": [1, 2, 3, 4]})
    assert training.median_seed(table, "stress_auc") == 3
    assert training.median_seed(table[table.seed != 0], "stress_auc") == 3
    assert training.median_seed(table, "other") == 1
