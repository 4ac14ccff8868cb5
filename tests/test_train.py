"""A training that a crash can't lose, whose checkpoint knows the code it came from."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from cxr import augment, metrics, paths, training
from cxr.backend import keras, tf
from cxr.keys import cache_key
from cxr.paths import ROOT, Problem

RECIPE = [
    {"layer": "RandomCornerSwap", "settings": {}, "kept": True},
    {"layer": "RandomFraming", "settings": {}, "kept": True},
    {"layer": "RandomContrast", "settings": {"factor": 0.3, "value_range": [0, 255]}, "kept": True},
]


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


def compiled(learner, rate):
    learner.compile(
        keras.optimizers.AdamW(rate), "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")]
    )
    return learner


def small_learner(rate):
    keras.utils.clear_session()  # as `training.fresh` does: else the names of layers go on counting
    dropout = keras.layers.Dropout(0.1, seed=2)
    parts = [keras.layers.Input((24, 24, 1)), augment.build(RECIPE, 1), dropout, small_network()]
    return compiled(keras.Sequential(parts), rate)


def digest(network):
    return hashlib.sha256(b"".join(weight.tobytes() for weight in network.get_weights())).hexdigest()


def by_resume(folder, epochs=6, patience=6, rate=0.02, callbacks=(), monitor="val_loss"):
    """Train the small network, augmentation and dropout included; its `Resume`, and a hash over the weights."""
    learner, batches, mode = small_learner(rate), small_batches(), "min" if monitor == "val_loss" else "max"
    validation = (batches.pictures[..., None], batches.labels)
    stop = keras.callbacks.EarlyStopping(monitor, mode=mode, patience=patience, restore_best_weights=True)
    key = cache_key(training.settings("small", learner, batches, validation), epochs, patience, monitor)
    resume = training.Resume(folder / key, stop)
    learner.fit(
        batches.epochs(resume.start, epochs),
        steps_per_epoch=len(batches),
        initial_epoch=resume.start,
        epochs=epochs,
        validation_data=validation,
        callbacks=[stop, resume, *callbacks],
        shuffle=False,
        verbose=0,
    )
    return resume, digest(learner)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return by_resume(tmp_path_factory.mktemp("uninterrupted"))


def test_classes_weigh_the_same_and_batches_shuffle_by_seed_and_epoch():
    labels = np.array([0, 1, 1, 1, 1])
    weights = training.class_weights(labels)
    assert weights[0] == pytest.approx(weights[1:].sum()) and weights.mean() == pytest.approx(1)
    batches = small_batches()
    assert len(small_batches(images=5, batch=32)) == 1, "fewer images than a batch"

    def epochs(first, end):
        return [np.concatenate(part) for part in zip(*batches.epochs(first, end).as_numpy_iterator())]

    one, two, both = epochs(0, 1), epochs(1, 2), epochs(0, 2)
    assert not np.array_equal(one[0], two[0]) and one[0].dtype == np.uint8 and one[0].shape == (64, 24, 24, 1)
    for parts in zip(one, two, both):
        np.testing.assert_array_equal(np.concatenate(parts[:2]), parts[2])
    seen = [int(np.flatnonzero((batches.pictures == picture[..., 0]).all(axis=(1, 2)))[0]) for picture in one[0]]
    assert sorted(seen) == list(range(64)) and seen != sorted(seen)
    np.testing.assert_array_equal(one[1], batches.labels[seen])
    np.testing.assert_array_equal(one[2], batches.weights[seen])


@pytest.mark.parametrize("monitor", ["val_loss", "val_auc"])
def test_the_best_weights_are_kept_and_a_finished_training_does_nothing(tmp_path, monitor):
    run, weights = by_resume(tmp_path, rate=0.1, monitor=monitor)
    figures = [row[monitor] * (-1 if monitor == "val_loss" else 1) for row in run.rows]
    assert run.best_epoch == 1 + int(np.argmax(figures)) and len(run.rows) == 6
    films = small_batches()
    measured = run.model.evaluate(films.pictures[..., None], films.labels, verbose=0, return_dict=True)
    assert measured[monitor[4:]] == pytest.approx(run.rows[run.best_epoch - 1][monitor], rel=1e-4)
    again, same = by_resume(tmp_path, rate=0.1, monitor=monitor)
    assert same == weights and (again.rows, again.seconds, again.start) == (run.rows, run.seconds, 6)
    for change in ({"rate": 0.01}, {"epochs": 2}, {"patience": 2}):
        assert by_resume(tmp_path, **{"epochs": 1, "monitor": monitor, **change})[0].folder != run.folder
    assert len(list(tmp_path.iterdir())) == 4, "another setting has another checkpoint"


KILLED = """
import os, pathlib, signal, sys
sys.path[:0] = ["notebooks", "tests"]
import numpy as np
where, moment, folder = sys.argv[1], float(sys.argv[2]), pathlib.Path(sys.argv[3])
import test_train
from cxr import paths, training
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
class Dies(training.keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if where == "batch" and self.epoch + batch / 4 >= moment: die()
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
calls = []
if where == "replace":  # inside the checkpoint write: the bytes are there, the name is not
    real = os.replace
    def patched(*args):
        calls.append(1)
        return die() if len(calls) > moment else real(*args)
    paths.os.replace = patched
if where == "savez":  # half of the bytes are there
    real = np.savez
    def patched(path, **arrays):
        calls.append(1)
        if len(calls) > moment:
            path.write_bytes(b"PK" + bytes(1000)); die()
        return real(path, **arrays)
    training.np.savez = patched
test_train.by_resume(folder, callbacks=[Dies()])
"""


@pytest.mark.parametrize("where, moment", [("batch", 2.25), ("savez", 2), ("replace", 1)])
def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_weights(where, moment, tmp_path, uninterrupted):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, where, str(moment), str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(tmp_path.glob("*/.unfinished_*"))) == (where != "batch"), "the bytes it was writing"
    starts = []
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: starts.append(epoch))
    run, weights = by_resume(tmp_path, callbacks=[begin])
    assert starts[0] == int(moment), "it lost a finished epoch"
    assert weights == uninterrupted[1] and run.rows == uninterrupted[0].rows
    assert sorted(path.name for path in run.folder.iterdir()) == ["even.npz", "odd.npz"]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, uninterrupted):
    run, _ = by_resume(tmp_path)
    newest = max(run.files, key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:5000])
    again, weights = by_resume(tmp_path)
    assert weights == uninterrupted[1] and again.rows == run.rows and again.seconds != run.seconds


def test_patience_ends_the_training_and_stays_ended(tmp_path):
    (first, weights), (again, same) = (by_resume(tmp_path, epochs=30, patience=2, rate=0.3) for _ in range(2))
    assert len(first.rows) == first.stop.best_epoch + 3 < 30 and first.stop.stopped_epoch
    assert again.rows == first.rows and same == weights


CODE = """
import pathlib, sys
top, folder = map(pathlib.Path, sys.argv[1:])
sys.path[:0] = [str(top), "tests"]
import test_train
def trainings(name="", old="", new=""):
    if name:
        path = top / "cxr" / name
        text = path.read_text(encoding="utf-8")
        assert old in text, old
        path.write_text(text.replace(old, new), encoding="utf-8")
    test_train.by_resume(folder, epochs=1)
    return len(list(folder.iterdir()))
found = [trainings(), trainings()]
found.append(trainings("augment.py", "self.size / 3, self.size", "self.size / 3,  self.size"))
found.append(trainings("training.py", "def order(self, epoch: int)", "def order(self,  epoch: int)"))
found.append(trainings("augment.py", "self.size / 3,", "self.size / 4,"))
found.append(trainings("training.py", "order[: len(self)", "order[::-1][: len(self)"))
found.append(trainings("augment.py", "ops.floor(column)", "ops.round(column)"))
print("trainings:", found)
"""


def test_a_checkpoint_knows_the_code_it_came_from(tmp_path):
    """Layout and comments change nothing; a layer's change, a function it calls, or the order of batches does."""
    shutil.copytree(ROOT / "notebooks" / "cxr", tmp_path / "top" / "cxr")
    (tmp_path / "checkpoints").mkdir()
    places = [str(tmp_path / "top"), str(tmp_path / "checkpoints")]
    done = subprocess.run([sys.executable, "-c", CODE, *places], cwd=ROOT, capture_output=True, text=True)
    assert "trainings: [1, 1, 1, 1, 2, 3, 4]" in done.stdout, done.stdout + done.stderr[-2000:]


class Breaks(keras.callbacks.Callback):
    """Turns the weights into NaN at the start of an epoch."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at:
            self.model.set_weights([weight * np.nan for weight in self.model.get_weights()])


def test_a_loss_that_is_no_number_stops_with_the_best_weights_or_names_the_setting(tmp_path, capsys):
    run, _ = by_resume(tmp_path / "3", callbacks=[Breaks(3)])
    assert len(run.rows) == 3 and all(np.isfinite(weight).all() for weight in run.model.get_weights())
    assert "the best weights are kept" in capsys.readouterr().out
    with pytest.raises(Problem, match="learning rate.*notebook to a tenth"):
        by_resume(tmp_path / "0", callbacks=[Breaks(0)])


def test_train_says_which_epoch_is_kept_and_names_a_smaller_batch_where_memory_ends(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXR_CHECKPOINT_DIR", str(tmp_path))
    batches = small_batches()
    validation = (batches.pictures[..., None], batches.labels)
    fixed = (lambda learner, steps: compiled(learner, 0.02)), batches, validation, []
    network, run = training.train(small_network, *fixed, 3, 3, "small")
    assert capsys.readouterr().out == f"small: epoch {run.best_epoch} of 3 kept, val_auc {run.stop.best:.4f}\n"
    again, _ = training.train(small_network, *fixed, 3, 3, "small")
    assert digest(again) == digest(network)

    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(keras.Sequential, "fit", full)
    with pytest.raises(Problem, match="BATCH_SIZE to 8"):
        training.train(small_network, *fixed, 4, 3, "small")


def test_a_full_disk_costs_the_checkpoint_but_not_the_training(tmp_path, monkeypatch, capsys, uninterrupted):
    monkeypatch.setattr(paths.os, "fsync", lambda _: open(tmp_path / "nowhere" / "file"))
    _, weights = by_resume(tmp_path)
    assert "can't be written (No such file" in capsys.readouterr().out and weights == uninterrupted[1]
    (tmp_path / "file").touch()
    with pytest.raises(Problem, match="CXR_CHECKPOINT_DIR"):
        training.Resume(tmp_path / "file" / "folder")


MIRRORED = """
import json
from cxr import training
from cxr.backend import keras, tf
from test_train import compiled, small_batches, small_network

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
batches, curves = small_batches(), []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    training.devices = lambda: (strategy, "")
    validation, name = (batches.pictures[..., None], batches.labels), str(strategy.num_replicas_in_sync)
    for _ in range(2):  # the second time it is finished
        _, run = training.train(
            small_network, lambda learner, steps: compiled(learner, 0.02), batches, validation, [], 5, 5, name)
    curves.append([[row["loss"], row["val_loss"]] for row in run.rows])
print(json.dumps(curves))
"""


def test_two_devices_give_the_loss_curve_of_one(tmp_path):
    places = {"PYTHONPATH": f"{ROOT / 'notebooks'}:{ROOT / 'tests'}", "CXR_CHECKPOINT_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED], capture_output=True, text=True, env={**os.environ, **places}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(one) == 5 and len(list(tmp_path.iterdir())) == 2
    np.testing.assert_allclose(two, one, rtol=0.02)


def test_seed_facts_are_those_of_scikit_learn_by_kind_of_version(tmp_path):
    run, _ = by_resume(tmp_path, epochs=2)
    pictures, y_true = np.zeros((4, 24, 24), np.uint8), np.array([0, 0, 1, 1])
    judged = training.Validation(pictures, pictures, y_true, {"stress_draws": 2, "swap_draws": 1})
    judged.kinds = ["plain", "stress", "stress", "conflict"]
    y_score = np.array([[0.1, 0.2, 0.8, 0.9], [0.1, 0.7, 0.6, 0.9], [0.3, 0.2, 0.1, 0.9], [0.9, 0.1, 0.8, 0.2]])
    facts = training.seed_facts(3, (small_network(), run), judged, y_score)
    assert facts["conflict_auc"] == 0.5 and "swap_auc" not in facts and facts["seed"] == 3
    assert facts["val_auc"] == 1 and facts["val_accuracy"] == 1 and facts["epochs"] == 2
    stressed = metrics.measure(np.tile(y_true, 2), y_score[1:3].ravel(), facts["threshold"])
    assert facts["stress_auc"] == stressed["auc"] and facts["stress_specificity"] == stressed["specificity"]


def test_validation_has_its_films_first_and_judges_an_epoch_by_one_of_each_kind():
    pictures, label = (
        np.random.default_rng(0).integers(0, 120, (24, 64, 64)).astype(np.uint8),
        np.repeat([0.0, 1.0], 12),
    )
    masks = np.zeros_like(pictures)
    masks[:, 10:40, 10:40] = 255
    judged = training.Validation(pictures, masks, label, {"stress_draws": 2, "swap_draws": 1})
    assert judged.kinds == ["plain", "stress", "stress", "swap", "conflict"]
    films, target = judged.each_epoch(np.eye(2)[label.astype(int)])
    parts = np.split(judged.pictures, 5)
    np.testing.assert_array_equal(films[..., 0], np.concatenate([pictures, parts[1], *parts[3:]]))
    np.testing.assert_array_equal(target.argmax(1), np.tile(label, 4))
    assert judged.answers(small_network(64)).shape == (5, 24)


@pytest.mark.parametrize(
    "variables, file, backend",
    [({"KERAS_BACKEND": "jax"}, {}, "jax"), ({}, {"image_data_format": "channels_first", "backend": "jax"}, "")],
)
def test_keras_is_set_as_the_project_needs_it_or_says_so(tmp_path, variables, file, backend):
    (tmp_path / "keras.json").write_text(json.dumps({"floatx": "float32", "epsilon": 1e-7, **file}))
    code = "from cxr.backend import keras; print(keras.config.image_data_format(), keras.config.backend())"
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment |= {"KERAS_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "notebooks"), **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if backend:
        assert done.stderr.strip().splitlines()[-1].startswith(f"cxr.paths.Problem: KERAS_BACKEND is {backend}")
    else:
        assert done.stdout.strip() == "channels_last tensorflow", done.stderr
