"""Training: the devices there are, batches from memory, and a run that a crash can't lose."""

import hashlib
import json
import os
import platform
import sys
import time
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from . import evaluate
from .backend import keras, tf
from .project import Problem, checkpoint_dir, shown


def versions() -> dict:
    """Versions of the software that a result depends on."""
    return {"python": platform.python_version(),
            **{name: version(name) for name in ("tensorflow", "keras", "numpy", "pillow", "scikit-learn")}}


def devices():
    """Use what the machine has: one strategy over all GPUs, or the CPU as it is; 32 bits a number on both.

    Returns
    -------
    strategy : tf.distribute.Strategy
        Build and compile the model in its ``scope()``.
    said : str
        What is used, for the reader.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return tf.distribute.get_strategy(), f"{os.cpu_count()} CPU cores, float32"
    strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return strategy, f"{len(gpus)} x {name}, float32"


def peak_memory() -> float:
    """The most memory that this process has held so far, GB; NaN where the system does not count it (Windows)."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)  # macOS counts bytes, Linux kilobytes


def class_weights(labels: np.ndarray) -> np.ndarray:
    """One weight an image, so that all classes weigh the same in the loss; their mean is 1.

    Parameters
    ----------
    labels : ndarray of int, shape (images,)
        The class, from 0; each has at least one image.

    Returns
    -------
    ndarray of float32, shape (images,)
    """
    labels = np.asarray(labels, int)
    counts = np.bincount(labels)
    return (len(labels) / len(counts) / counts)[labels].astype("float32")


class Batches(keras.utils.PyDataset):
    """Shuffled batches from an array in memory: ``(images, labels, weights)``. Give ``fit`` ``shuffle=False`` with it.

    The order depends on the seed and the epoch's number alone, so a training that is taken up again sees the same
    order. Images that do not fill a batch sit out an epoch.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (images, size, size)
    labels : ndarray, shape (images,) or (images, classes)
    weights : ndarray, shape (images,)
    size : int
        Images a batch.
    seed : int
    """

    def __init__(self, pictures, labels, weights, size, seed):
        super().__init__()
        self.pictures, self.labels, self.weights = pictures, np.asarray(labels, "float32"), weights
        self.size, self.seed = min(size, len(pictures)), seed
        self.shuffle(0)

    def shuffle(self, epoch: int) -> None:
        """Put the images into the order of this epoch."""
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pictures))

    def __len__(self):
        return len(self.pictures) // self.size

    def __getitem__(self, index):
        chosen = self.order[index * self.size:(index + 1) * self.size]
        return self.pictures[chosen][..., None], self.labels[chosen], self.weights[chosen]


class Run(keras.callbacks.Callback):
    """A training that a crash can't lose: early stopping, the best weights, one line and one checkpoint an epoch.

    After each epoch *everything* goes into one file: weights, optimizer, the random state of every layer, the history,
    the best weights so far, and how long they have been the best. The file is written under another name, flushed to
    the disk and renamed, and the one before it stays. So a training that is killed at any moment goes on from its last
    whole epoch, and ends with the same weights, bit for bit, as if nothing had happened. (``BackupAndRestore`` and
    ``EarlyStopping`` of Keras forget the best weights and the patience in between.)

    Use it as a context and as a callback::

        with Run(learner, batches, ...) as run:
            learner.fit(batches, shuffle=False, initial_epoch=run.start, epochs=EPOCHS, callbacks=[run], ...)

    When the context ends, `learner` has its best weights.

    Parameters
    ----------
    learner : keras.Model
        Compiled, with the metrics ``accuracy`` and ``auc``.
    batches : Batches
    settings : dict
        All that the result depends on. Another value of any of them is another training, with a folder of its own.
    folder : Path
        Where checkpoints are kept; on Colab it can lie on Drive.
    epochs : int
    patience : int
        Epochs without a lower validation loss before it stops.
    brief : bool
        One line in all, a mark an epoch, instead of one line an epoch.

    Attributes
    ----------
    start : int
        Epochs that are done; equal to `epochs` when there is nothing left to do.
    rows : list of dict
        The history, one row an epoch.
    best_epoch : int
        The epoch whose weights are kept, from 1.
    seconds : list of float
        Duration of each epoch.
    memory : float
        The most memory that the process has held after an epoch, GB.
    """

    def __init__(self, learner, batches, settings: dict, folder: Path, epochs: int, patience: int,
                 brief: bool = False):
        super().__init__()
        self.learner, self.batches, self.epochs, self.patience = learner, batches, epochs, patience
        self.brief = brief
        self.settings = json.loads(json.dumps({**settings, "epochs": epochs, "patience": patience}))
        self.folder = Path(folder) / hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]
        self.rows, self.seconds, self.best, self.best_epoch, self.stopped, self.memory = [], [], None, 0, False, 0.0
        with learner.distribute_strategy.scope():
            learner.optimizer.build(learner.trainable_variables)

    @property
    def start(self) -> int:
        return self.epochs if self.stopped else len(self.rows)

    def __enter__(self):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "settings.json").write_text(json.dumps(self.settings, indent=1), encoding="utf-8")
        except OSError as error:
            raise Problem(f"Checkpoints can't be written to {shown(self.folder)} ({error.strerror}): free the disk, or "
                          "set CXR_CHECKPOINT_DIR to another folder.") from None
        self._say_what_is_not_used()
        found = [state for state in map(self._read, self._files()) if state]
        if found:
            self._take(max(found, key=lambda state: len(state[0]["rows"])))
            done = "is finished" if self.start == self.epochs else f"goes on after epoch {len(self.rows)}"
            if not self.brief:
                print(f"This training {done}: its checkpoint is in {shown(self.folder)}/. So far:")
            for row, lowest in zip(self.rows, np.minimum.accumulate([row["val_loss"] for row in self.rows])):
                self._say(row, better=row["val_loss"] == lowest)
        self.batches.shuffle(self.start)  # `fit` looks at the first batch before the first epoch begins
        return self

    def __exit__(self, kind, error, trace):
        if kind and issubclass(kind, tf.errors.ResourceExhaustedError):
            raise Problem(f"The memory does not hold {self.batches.size} images a step: set BATCH_SIZE to "
                          f"{max(1, self.batches.size // 2)} in the parameters of the notebook.") from None
        if kind is None:
            if self.best is None:
                raise Problem("The loss is not a number from the first epoch on: set the learning rate in the "
                              "parameters of the notebook to a tenth.")
            self._assign(self.learner.variables, self.best)
            if self.brief:
                kept = self.rows[self.best_epoch - 1]
                print(f"  epoch {self.best_epoch} of {len(self.rows)} kept, validation loss {kept['val_loss']:.4f}",
                      flush=True)

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.shuffle(epoch)
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if not np.isfinite(logs["loss"]):
            self.learner.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}}
        if not np.isfinite(row["loss"]) or not np.isfinite(row["val_loss"]):
            self.learner.stop_training = self.stopped = True
            print(f"epoch {epoch + 1}: the loss is not a number any more; "
                  f"training stops, and the weights of epoch {self.best_epoch} are kept.")
            return
        if self.best is None or row["val_loss"] < self.rows[self.best_epoch - 1]["val_loss"]:
            self.best, self.best_epoch = self._values(self.learner.variables), epoch + 1
        self.rows.append(row)
        self.seconds.append(round(time.perf_counter() - self.began, 2))
        self.memory = round(max(self.memory, peak_memory()), 2)
        self.stopped = epoch + 1 - self.best_epoch >= self.patience
        self.learner.stop_training = self.stopped
        self._say(row, better=self.best_epoch == epoch + 1)
        self._write()

    def _say(self, row: dict, better: bool) -> None:
        if self.brief:
            print("*" if better else ".", end="", flush=True)
            return
        print(f"epoch {row['epoch']:3}/{self.epochs}{'*' if better else ' '} loss {row['loss']:.4f}  "
              f"accuracy {row['accuracy']:.4f}  AUC {row['auc']:.4f}   validation: loss {row['val_loss']:.4f}  "
              f"accuracy {row['val_accuracy']:.4f}  AUC {row['val_auc']:.4f}", flush=True)

    def table(self) -> pd.DataFrame:
        """The history: ``epoch`` from 1, then loss, accuracy and AUC of training and of validation."""
        return pd.DataFrame(self.rows)

    # --- the checkpoint: two files in turn, each whole or absent ---

    def _files(self) -> list[Path]:
        return [self.folder / "even.npz", self.folder / "odd.npz"]

    @staticmethod
    def _values(variables) -> list[np.ndarray]:
        return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]

    @staticmethod
    def _assign(variables, values) -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _write(self) -> None:
        facts = {"settings": self.settings, "rows": self.rows, "seconds": self.seconds, "best_epoch": self.best_epoch,
                 "stopped": self.stopped, "memory": self.memory}
        arrays = {"facts": np.array(json.dumps(facts))}
        for name, values in (("now", self._values(self.learner.variables)), ("best", self.best),
                             ("optimizer", self._values(self.learner.optimizer.variables))):
            arrays |= {f"{name}_{i:04}": value for i, value in enumerate(values)}
        target = self._files()[len(self.rows) % 2]
        unfinished = target.with_name(f".unfinished_{target.name}")
        try:
            with open(unfinished, "wb") as stream:
                np.savez(stream, **arrays)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(unfinished, target)
        except OSError as error:
            print(f"No checkpoint of epoch {len(self.rows)}: {shown(self.folder)} can't be written ({error.strerror}); "
                  "the training goes on without it.")

    def _read(self, path: Path):
        try:
            with np.load(path, allow_pickle=False) as saved:
                facts = json.loads(str(saved["facts"]))
                groups = {name: [saved[key] for key in sorted(saved.files) if key.startswith(name)]
                          for name in ("now", "best", "optimizer")}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # not there, or not whole: the other one is
        return (facts, groups) if facts["settings"] == self.settings else None

    def _take(self, state) -> None:
        facts, groups = state
        self.rows, self.seconds, self.stopped = facts["rows"], facts["seconds"], facts["stopped"]
        self.best, self.best_epoch, self.memory = groups["best"], facts["best_epoch"], facts.get("memory", 0.0)
        self._assign(self.learner.variables, groups["now"])
        self._assign(self.learner.optimizer.variables, groups["optimizer"])

    def _say_what_is_not_used(self) -> None:
        """Name what differs in checkpoints of other trainings, which stay as they are."""
        for path in sorted(self.folder.parent.glob("*/settings.json")):
            if path.parent != self.folder:
                other = json.loads(path.read_text(encoding="utf-8"))
                if self.brief or other.get("name") != self.settings.get("name"):
                    continue
                differing = sorted(key for key in {*other, *self.settings} if other.get(key) != self.settings.get(key))
                print(f"Not used: the checkpoint in {shown(path.parent)}/ (another {', '.join(differing)}).")


def fit(network: keras.Model, learner: keras.Model, batches: Batches, validation: tuple[np.ndarray, np.ndarray],
        settings: dict, epochs: int, patience: int, brief: bool = True) -> Run:
    """Train `learner`, which holds `network`, as a `Run`; at the end `network` has its best weights.

    Parameters
    ----------
    network : keras.Model
    learner : keras.Model
        Compiled; augmentation and `network`.
    batches : Batches
    validation : (pictures, labels)
        uint8, shape (images, size, size), and what `learner` should say of them.
    settings : dict
        All that the result depends on beside the network, the precision and Keras' version, which are added.
    epochs, patience, brief
        As for `Run`.

    Returns
    -------
    Run
    """
    settings = settings | {"network": network.to_json(), "precision": keras.config.dtype_policy().name,
                           "keras": keras.__version__}
    run = Run(learner, batches, settings, checkpoint_dir(), epochs, patience, brief)
    with run:
        learner.fit(batches, initial_epoch=run.start, epochs=epochs, shuffle=False, verbose=0, callbacks=[run],
                    validation_data=(validation[0][..., None], validation[1]), validation_batch_size=128)
    return run


def fingerprint(*what) -> str:
    """Twelve hexadecimal digits that differ where any of `what` does; each must be fit for JSON."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def weights_sha256(network: keras.Model) -> str:
    """Fingerprint of a network's weights, in the order of its layers; the file they are saved in carries a date."""
    digest = hashlib.sha256()
    for variable in network.variables:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    return digest.hexdigest()


def seed_facts(network: keras.Model, run: Run, label: np.ndarray, probability: np.ndarray, misled: np.ndarray,
               unpractised: np.ndarray | None = None) -> dict:
    """One row of ``04_seeds.csv``: what a training reached on validation.

    Parameters
    ----------
    network : keras.Model
    run : Run
        That trained it.
    label : ndarray of 0 and 1, shape (images,)
    probability : ndarray of float, shape (draws, images)
        The first draw is of the images as they are, the others of stressed copies.
    misled : ndarray of bool, shape (images,)
        Those whose clues point to the wrong class (`audit.misled`).
    unpractised : ndarray of float, shape (changes, images), optional
        Answers under changes that nothing is trained on (`images.unpractised`).

    Returns
    -------
    dict
        ``seed``; ``val_auc`` and ``val_accuracy`` on the first draw, ``stress_auc``, ``stress_accuracy``,
        ``stress_sensitivity`` and ``stress_specificity`` on the others; ``misled_auc`` on the others, of the misled
        images alone; ``unpractised_auc``, the mean over these changes, where given; ``threshold`` (Youden's J on all
        draws); ``epochs``, ``best_epoch``, ``seconds``, ``weights_sha256``.
    """
    draws = len(probability)
    threshold = evaluate.youden_threshold(np.tile(label, draws), probability.ravel())
    plain = evaluate.measure(label, probability[0], threshold)
    stressed = evaluate.measure(np.tile(label, draws - 1), probability[1:].ravel(), threshold)
    return {"seed": run.settings["seed"], "val_auc": plain["auc"], "val_accuracy": plain["accuracy"],
            **{f"stress_{name}": stressed[name] for name in ("auc", "accuracy", "sensitivity", "specificity")},
            "misled_auc": evaluate.auc(np.tile(label[misled], draws - 1), probability[1:, misled].ravel()),
            **({} if unpractised is None else
               {"unpractised_auc": float(np.mean([evaluate.auc(label, own) for own in unpractised]))}),
            "threshold": threshold, "epochs": len(run.rows), "best_epoch": run.best_epoch,
            "seconds": round(sum(run.seconds)), "weights_sha256": weights_sha256(network)}


def median_seed(seeds: pd.DataFrame, figure: str = "stress_auc") -> int:
    """The ``seed`` whose `figure` is in the middle; of an even number, the lower one of the two in the middle.

    What is shown of it is then what a reader should expect, not the luckiest training.
    """
    return int(seeds.sort_values(figure).seed.iloc[(len(seeds) - 1) // 2])


def save_checked(model: keras.Model, pictures: np.ndarray):
    """A writer for `chain.Step.write`: save `model`, load it again, and compare what both say of `pictures`.

    Parameters
    ----------
    model : keras.Model
    pictures : ndarray, shape (images, size, size, 1)

    Returns
    -------
    function of a path
    """
    def write(path):
        model.save(path)
        before = model.predict(pictures, verbose=0)
        after = keras.models.load_model(path, compile=False).predict(pictures, verbose=0)
        if not np.allclose(before, after, atol=1e-5):
            raise ValueError(f"{path.name} read back from disk does not predict what the trained model predicts")
    return write
