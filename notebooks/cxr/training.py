"""Training: the devices there are, batches from memory, and a run that a crash can't lose."""

import hashlib
import json
import os
import platform
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils.class_weight import compute_sample_weight

from . import augment, corruptions, export, metrics
from .backend import keras, tf
from .paths import Problem, atomic_write, checkpoint_dir, display_path

HALF = 5e-4  # by which a stored model may answer otherwise than the trained one; on other films up to 1e-3


def versions() -> dict:
    """Versions of the software that a result depends on."""
    packages = ("tensorflow", "keras", "numpy", "pillow", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


@cache
def devices() -> tuple:
    """What the machine has: a strategy over all its GPUs, else for its CPU, and words for it; both compute in 32 bits.

    Build and compile a model in the strategy's ``scope()``.
    """
    gpus = tf.config.list_physical_devices("GPU")
    strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    if not gpus:
        return strategy, f"{os.cpu_count()} CPU cores, float32"
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
    """One weight an image (float32), so that all classes of `labels` weigh the same in the loss; their mean is 1."""
    return compute_sample_weight("balanced", labels).astype("float32")


class Batches:
    """Shuffled batches from an array in memory, as ``fit`` takes them: ``(images, labels, weights)``.

    The order depends on the seed and the epoch's number alone, so a training that is taken up again sees the same
    order. Images that do not fill a batch sit out an epoch.

    `pictures` are uint8 of shape (images, size, size), or (images, size, size, 2) with the lungs beside each film
    (`augment.RandomTransplant`), `labels` of shape (images,) or (images, classes), `weights` of
    shape (images,); `size` is the number of images in a batch.
    """

    def __init__(self, pictures, labels, weights, size, seed):
        self.pictures, self.labels, self.weights = pictures, np.asarray(labels, "float32"), weights
        self.size, self.seed = min(size, len(pictures)), seed

    def __len__(self):
        return len(self.pictures) // self.size

    def order(self, epoch: int) -> np.ndarray:
        """The images of each batch of an epoch: int32, shape (batches, images a batch)."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pictures))
        return order[: len(self) * self.size].reshape(-1, self.size).astype("int32")

    def epochs(self, first: int, end: int):
        """The batches of the epochs from `first` to before `end`, one epoch after the other.

        A ``tf.data.Dataset``; give ``fit`` ``steps_per_epoch=len(batches), shuffle=False`` with it. The pictures stay
        uint8 and lie in memory once; a thread of TensorFlow has the next batches ready.
        """
        order = np.concatenate([np.empty((0, self.size), "int32"), *map(self.order, range(first, end))])
        pictures = self.pictures if self.pictures.ndim == 4 else self.pictures[..., None]
        with tf.device("CPU"):  # beside a GPU too: the pictures need not fit into its memory
            arrays = [tf.convert_to_tensor(part) for part in (pictures, self.labels, self.weights)]
            dataset = tf.data.Dataset.from_tensor_slices(order)
        return dataset.map(lambda chosen: tuple(tf.gather(part, chosen) for part in arrays)).prefetch(4)


class Run(keras.callbacks.Callback):
    """A training that a crash can't lose: early stopping, the best weights, one line and one checkpoint an epoch.

    No step waits for its loss; whether it is a number is looked at after each epoch. Then *everything* goes into one
    file: weights, optimizer, the random state of every layer, the history, the best weights so far, and how long they
    have been the best. The file is there whole or not at all, and the one before it stays. So a training that is killed
    at any moment goes on from its last whole epoch, and ends with the same weights, bit for bit, as if nothing had
    happened. (``BackupAndRestore`` and ``EarlyStopping`` of Keras forget the best weights and the patience in between.)

    Use it as a context and as a callback; when the context ends, `learner` has its best weights::

        with Run(learner, batches, ...) as run:
            learner.fit(batches.epochs(run.start, EPOCHS), steps_per_epoch=len(batches), shuffle=False,
                        initial_epoch=run.start, epochs=EPOCHS, callbacks=[run], ...)

    Parameters
    ----------
    learner : keras.Model
        Compiled, with the metrics ``accuracy`` and ``auc``.
    batches : Batches
    settings, folder : dict, Path
        All that the result depends on, and where checkpoints are kept (on Colab it can lie on Drive). Another value of
        any setting is another training, with a folder of its own in there.
    epochs, patience : int
        It stops after so many epochs, or so many without a better one.
    brief : bool
        One line in all, a mark an epoch, instead of one line an epoch.
    monitor : str
        What makes an epoch better than another: a lower ``val_loss``, or a higher ``val_auc`` or ``val_accuracy``.

    Attributes
    ----------
    start : int
        Epochs that are done; equal to `epochs` when there is nothing left to do.
    rows, seconds : list
        The history, a dict an epoch, and the duration of each epoch.
    best_epoch : int
        The epoch whose weights are kept, from 1.
    memory : float
        The most memory that the process has held after an epoch, GB.
    """

    def __init__(
        self,
        learner,
        batches,
        settings: dict,
        folder: Path,
        epochs: int,
        patience: int,
        brief: bool = False,
        monitor: str = "val_loss",
    ):
        super().__init__()
        self.learner, self.batches, self.epochs, self.patience, self.brief = learner, batches, epochs, patience, brief
        self.monitor = monitor
        watched = {} if monitor == "val_loss" else {"monitor": monitor}
        self.settings = json.loads(json.dumps({**settings, "epochs": epochs, "patience": patience, **watched}))
        self.folder = Path(folder) / hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]
        self.files = [self.folder / "even.npz", self.folder / "odd.npz"]  # written in turn
        self.rows: list[dict] = []
        self.seconds: list[float] = []
        self.best: list[np.ndarray] = []
        self.best_epoch, self.stopped, self.memory = 0, False, 0.0
        with learner.distribute_strategy.scope():
            learner.optimizer.build(learner.trainable_variables)

    @property
    def start(self) -> int:
        return self.epochs if self.stopped else len(self.rows)

    def __enter__(self):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob(".unfinished_*"):  # by a process that was killed while it wrote
                left.unlink(missing_ok=True)
            (self.folder / "settings.json").write_text(json.dumps(self.settings, indent=1), encoding="utf-8")
        except OSError as error:
            why = f"Checkpoints can't be written to {display_path(self.folder)} ({error.strerror})"
            raise Problem(f"{why}: free the disk, or set CXR_CHECKPOINT_DIR to another folder.") from None
        self._say_what_is_not_used()
        found = [state for state in map(self._read, self.files) if state]
        if found:
            self._take(*max(found, key=lambda state: len(state[0]["rows"])))
            done = "is finished" if self.start == self.epochs else f"goes on after epoch {len(self.rows)}"
            if not self.brief:
                print(f"This training {done}: its checkpoint is in {display_path(self.folder)}/. So far:")
            merits = [self._merit(row) for row in self.rows]
            for row, merit, highest in zip(self.rows, merits, np.maximum.accumulate(merits)):
                self._say(row, better=merit == highest)
        return self

    def __exit__(self, kind, error, trace):
        if kind and issubclass(kind, tf.errors.ResourceExhaustedError):
            why, half = f"The memory does not hold {self.batches.size} images a step", max(1, self.batches.size // 2)
            raise Problem(f"{why}: set BATCH_SIZE to {half} in the parameters of the notebook.") from None
        if kind:
            return
        if not self.best:
            why = "The loss is not a number from the first epoch on"
            raise Problem(f"{why}: set the learning rate in the parameters of the notebook to a tenth.")
        _assign(self.learner.variables, self.best)
        if self.brief:
            what, best = self.monitor.replace("val_", "validation "), self.rows[self.best_epoch - 1][self.monitor]
            print(f"  epoch {self.best_epoch} of {len(self.rows)} kept, {what} {best:.4f}", flush=True)

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}}
        if not np.isfinite([row["loss"], row["val_loss"]]).all():
            self.learner.stop_training = self.stopped = True
            kept = f"the weights of epoch {self.best_epoch} are kept"
            print(f"epoch {epoch + 1}: the loss is not a number any more; training stops, and {kept}.")
            return
        better = not self.best or self._merit(row) > self._merit(self.rows[self.best_epoch - 1])
        if better:
            self.best, self.best_epoch = _values(self.learner.variables), epoch + 1
        self.rows.append(row)
        self.seconds.append(round(time.perf_counter() - self.began, 2))
        self.memory = round(max(self.memory, peak_memory()), 2)
        self.learner.stop_training = self.stopped = epoch + 1 - self.best_epoch >= self.patience
        self._say(row, better)
        self._write()

    def _merit(self, row: dict) -> float:
        """What is higher in a better epoch."""
        return -row[self.monitor] if self.monitor == "val_loss" else row[self.monitor]

    def _say(self, row: dict, better: bool) -> None:
        if self.brief:
            print("*" if better else ".", end="", flush=True)
            return
        train, val = (
            f"loss {row[of + 'loss']:.4f}  accuracy {row[of + 'accuracy']:.4f}  AUC {row[of + 'auc']:.4f}"
            for of in ("", "val_")
        )
        mark = "*" if better else " "
        print(f"epoch {row['epoch']:3}/{self.epochs}{mark} {train}   validation: {val}", flush=True)

    def table(self) -> pd.DataFrame:
        """The history: ``epoch`` from 1, then loss, accuracy and AUC of training and of validation."""
        return pd.DataFrame(self.rows)

    def _write(self) -> None:
        facts = {name: getattr(self, name) for name in ("settings", *STATE)}
        parts = _values(self.learner.variables), self.best, _values(self.learner.optimizer.variables)
        arrays = {f"{name}_{i:04}": value for name, part in zip(PARTS, parts) for i, value in enumerate(part)}
        try:
            with atomic_write(self.files[len(self.rows) % 2], flush=True) as unfinished:
                np.savez(unfinished, facts=np.array(json.dumps(facts)), **arrays)  # type: ignore[arg-type]
        except OSError as error:
            why = f"{display_path(self.folder)} can't be written ({error.strerror})"
            print(f"No checkpoint of epoch {len(self.rows)}: {why}; the training goes on without it.")

    def _read(self, path: Path) -> tuple[dict, dict] | None:
        try:
            with np.load(path, allow_pickle=False) as saved:
                facts, keys = json.loads(str(saved["facts"])), sorted(saved.files)
                parts = {name: [saved[key] for key in keys if key.startswith(name)] for name in PARTS}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # not there, or not whole: the other one is
        return (facts, parts) if facts["settings"] == self.settings else None

    def _take(self, facts: dict, parts: dict) -> None:
        self.__dict__.update({name: facts[name] for name in STATE if name in facts}, best=parts["best"])
        _assign(self.learner.variables, parts["now"])
        _assign(self.learner.optimizer.variables, parts["optimizer"])

    def _say_what_is_not_used(self) -> None:
        """Name what differs in checkpoints of other trainings, which stay as they are."""
        mine = self.settings
        for path in [] if self.brief else sorted(self.folder.parent.glob("*/settings.json")):
            other = json.loads(path.read_text(encoding="utf-8"))
            if path.parent != self.folder and other.get("name") == mine.get("name"):
                differing = sorted(key for key in {*other, *mine} if other.get(key) != mine.get(key))
                print(f"Not used: the checkpoint in {display_path(path.parent)}/ (another {', '.join(differing)}).")


STATE = ("rows", "seconds", "best_epoch", "stopped", "memory")  # of a `Run`, in a checkpoint
PARTS = ("now", "best", "optimizer")  # its arrays: weights, the best ones, the state of the optimizer


def _values(variables) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def _assign(variables, values) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


@contextmanager
def fresh(seed: int) -> Iterator[None]:
    """Build and compile in here: no trace of networks before, all chance from `seed`, on every GPU there is."""
    policy = keras.config.dtype_policy()
    keras.utils.clear_session()
    keras.config.set_dtype_policy(policy)  # a reader's choice of mixed precision stays
    keras.utils.set_random_seed(seed)
    with devices()[0].scope():
        yield


def behind(recipe: list[dict], network: keras.Model, seed: int) -> keras.Sequential:
    """What is trained: the augmentation of a recipe in front of `network`, so that it runs where the network runs.

    Where the recipe transplants, it takes the film and its lungs in training, the film alone in validation.
    """
    entry = keras.layers.Input((*network.input_shape[1:3], None if augment.needs_masks(recipe) else 1))
    return keras.Sequential([entry, augment.build(recipe, seed), network], name="learner")


def settings(name: str, learner: keras.Model, batches: Batches, validation: tuple[np.ndarray, np.ndarray]) -> dict:
    """All that the result of training the compiled `learner` depends on, fit for JSON; `name` is for the reader."""
    images = hashlib.sha256()
    for part in (batches.pictures, batches.labels, batches.weights, *validation):
        images.update(np.ascontiguousarray(part).data)
    return {
        "name": name,
        "seed": batches.seed,
        "batch_size": batches.size,
        "images": images.hexdigest()[:12],
        "layers": fingerprint(learner.to_json()),
        "start": weights_sha256(learner)[:12],
        "loss": learner.loss,
        "optimizer": json.loads(json.dumps(learner.optimizer.get_config(), default=str)),
        "precision": keras.config.dtype_policy().name,
        "keras": keras.__version__,
    }


def train(
    build,
    compile,
    batches: Batches,
    validation,
    recipe: list[dict],
    epochs: int,
    patience: int,
    name: str,
    brief=True,
    monitor="val_loss",
) -> tuple[keras.Model, Run]:
    """One training from its first weights to its best ones: the network, and its `Run`.

    Parameters
    ----------
    build, compile : functions
        ``build()`` returns the network; ``compile(learner, steps)`` compiles what is trained, for so many steps in all.
    batches : Batches
        Their seed is that of the weights and of the augmentation as well.
    validation : (pictures, labels)
        uint8, shape (images, size, size, 1), and what the network should say of them.
    recipe : list of dict
        As `augment.build` takes it; empty for no augmentation.
    epochs, patience, name, brief, monitor
        As for `Run` and its settings.
    """
    with fresh(batches.seed):
        network = build()
        learner = behind(recipe, network, batches.seed)
        compile(learner, len(batches) * epochs)
    kept = settings(name, learner, batches, validation)
    with Run(learner, batches, kept, checkpoint_dir(), epochs, patience, brief, monitor) as run:
        if run.start < epochs:
            span = {"initial_epoch": run.start, "epochs": epochs, "steps_per_epoch": len(batches)}
            checks = {"validation_data": validation, "validation_batch_size": 128}
            learner.fit(batches.epochs(run.start, epochs), **span, **checks, shuffle=False, verbose=0, callbacks=[run])
    return network, run


def scheduled(peak: float, loss: str) -> Callable[[keras.Model, int], None]:
    """The ``compile(learner, steps)`` that `train` takes, as a cell of 04 shows it: AdamW and its learning rate.

    The rate climbs to `peak` over the first twentieth of the steps, and falls along a cosine to 0 at the last one.
    `loss` is as Keras names it.
    """

    def compile(learner, steps):
        rate = keras.optimizers.schedules.CosineDecay(
            peak / 20, steps - steps // 20, warmup_target=peak, warmup_steps=steps // 20
        )
        learner.compile(
            optimizer=keras.optimizers.AdamW(rate, weight_decay=0.01),
            loss=loss,
            metrics=["accuracy", keras.metrics.AUC(1000, name="auc")],
        )

    return compile


class Validation:
    """The films of validation in all versions (`corruptions.validation_variants`), and what networks say of them.

    Parameters
    ----------
    pictures, masks : uint8, shape (images, size, size)
        The films and their lungs.
    label : shape (images,)
        The class of each film, from 0.
    recipe : dict
        ``03_augmentation.json``: how many versions there are of a kind.

    Attributes
    ----------
    pictures : uint8, shape (versions x images, size, size)
        The films as they are first.
    kinds : list of str
        One a version: ``plain``, ``stress``, ``swap`` or ``conflict``.
    """

    def __init__(self, pictures: np.ndarray, masks: np.ndarray, label: np.ndarray, recipe: dict):
        draws = recipe["stress_draws"], recipe["swap_draws"]
        self.label = label
        self.pictures, self.kinds = corruptions.validation_variants(pictures, masks, label, *draws)

    def each_epoch(self, target: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """One version of each kind, and what a network should say of it, as ``fit`` takes them: it judges each epoch.

        `target` has a row a film; without it, it is the label.
        """
        target = self.label if target is None else target
        parts = np.split(self.pictures, len(self.kinds))
        pictures = np.concatenate([parts[self.kinds.index(kind)] for kind in dict.fromkeys(self.kinds)])
        return pictures[..., None], np.concatenate([target] * len(set(self.kinds)))

    def answers(self, network: keras.Model, batch_size: int = 64) -> np.ndarray:
        """What `network` says of every film in every version: shape (versions, images), or (..., outputs)."""
        found = metrics.predict(network, self.pictures, batch_size)
        return found.reshape(len(self.kinds), len(self.label), *found.shape[1:])

    def of_kind(self, answers: np.ndarray, kind: str) -> np.ndarray:
        """Of such `answers` those to one kind of versions: shape (versions of that kind, images)."""
        return answers[np.array(self.kinds) == kind]

    def table(self, path: pd.Series, answers: dict[int, np.ndarray]) -> pd.DataFrame:
        """`answers` of some seeds as ``NN_val_predictions.csv`` has them: a row for each version of each film."""
        films, versions = len(self.label), len(self.kinds)
        rows = {
            "path": np.tile(path, versions),
            "draw": np.repeat(np.arange(versions), films),
            "kind": np.repeat(self.kinds, films),
            "label": np.tile(self.label, versions).astype(int),
        }
        return pd.DataFrame(rows | {f"seed_{seed}": said.ravel() for seed, said in answers.items()})


def fingerprint(*what) -> str:
    """Twelve hexadecimal digits that differ where any of `what` does; each must be fit for JSON."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def weights_sha256(network: keras.Model) -> str:
    """Fingerprint of a network's weights, in the order of its layers; the file they are saved in carries a date."""
    weights = network.weights  # the random state of its layers is no weight
    return hashlib.sha256(b"".join(value.tobytes() for value in _values(weights))).hexdigest()


def seed_facts(
    network: keras.Model, run: Run, label, probability, kinds, conflicting, held_out=None, threshold_on=()
) -> dict:
    """One row of ``04_seeds.csv``: what a training reached on validation.

    Parameters
    ----------
    network : keras.Model
    run : Run
        That trained it.
    label : ndarray of 0 and 1, shape (images,)
    probability : ndarray of float, shape (draws, images)
    kinds : list of str, one a draw
        What was done to the images there, as `corruptions.validation_variants` says it; the first is ``plain``.
    conflicting : ndarray of bool, shape (images,)
        Those whose clues point to the wrong class (`shortcuts.bias_conflicting`).
    held_out : ndarray of float, shape (changes, images), optional
        Answers under changes that nothing is trained on (`corruptions.held_out`).
    threshold_on : sequence of str
        The kinds of draws that the threshold is chosen on; without it, all.

    Returns
    -------
    dict
        ``seed``; ``val_auc`` and ``val_accuracy`` on the first draw, ``stress_auc``, ``stress_accuracy``,
        ``stress_sensitivity`` and ``stress_specificity`` on the stressed ones; ``swap_auc`` and ``conflict_auc``, with
        the lungs in any other body and in one of the other class; ``bias_conflicting_auc``, of the conflicting images
        alone, stressed; ``heldout_auc``, the mean over these changes, where given; ``threshold`` (Youden's J);
        ``epochs``, ``best_epoch``, ``weights_sha256``.
    """
    resting = np.isin(kinds, list(threshold_on or kinds))
    threshold = metrics.youden_threshold(np.tile(label, resting.sum()), probability[resting].ravel())
    plain = metrics.measure(label, probability[0], threshold)
    stressed_ones = probability[np.array(kinds) == "stress"]
    stressed = metrics.measure(np.tile(label, len(stressed_ones)), stressed_ones.ravel(), threshold)
    misled = metrics.auc(np.tile(label[conflicting], len(stressed_ones)), stressed_ones[:, conflicting].ravel())
    by_kind = metrics.auc_by_kind(label, probability, kinds)
    other = {f"{kind}_auc": by_kind[kind] for kind in ("swap", "conflict") if kind in by_kind}
    unseen = {} if held_out is None else {"heldout_auc": float(np.mean([metrics.auc(label, own) for own in held_out]))}
    return {
        "seed": run.batches.seed,
        **{f"val_{name}": plain[name] for name in ("auc", "accuracy")},
        **{f"stress_{name}": stressed[name] for name in ("auc", "accuracy", "sensitivity", "specificity")},
        **{**other, "bias_conflicting_auc": misled, **unseen, "threshold": threshold},
        **{"epochs": len(run.rows), "best_epoch": run.best_epoch, "weights_sha256": weights_sha256(network)},
    }


def kind_facts(network: keras.Model, run: Run, judged: Validation, answers: np.ndarray, names: list[str]) -> dict:
    """What a training with several classes reached on validation: one row of ``08_seeds.csv``, but for its name.

    `answers` are what `judged` got from `network`, `names` those of the classes. The figures are ``val_accuracy``,
    those of `metrics.by_kind_multiclass`, ``parameters``, ``epochs``, ``best_epoch``, ``weights_sha256``.
    """
    return {
        "val_accuracy": metrics.measure_multiclass(judged.label, answers[0], names)["accuracy"],
        **metrics.by_kind_multiclass(judged.label, answers, judged.kinds, names),
        "parameters": network.count_params(),
        "epochs": len(run.rows),
        "best_epoch": run.best_epoch,
        "weights_sha256": weights_sha256(network),
    }


def ms_an_image(network: keras.Model, pictures: np.ndarray) -> float:
    """Milliseconds for an answer, from up to 256 `pictures` (uint8) in batches of 64: the best of three runs."""
    some, seconds = pictures[:256], []
    for _ in range(4):  # the first one also builds the graph
        started = time.perf_counter()
        metrics.predict(network, some, 64)
        seconds.append(time.perf_counter() - started)
    return round(1000 * min(seconds[1:]) / len(some), 1)


def cost(network: keras.Model, run: Run, pictures: np.ndarray) -> dict[str, float]:
    """``seconds_an_epoch`` of a training, and ``ms_an_image``, the time for an answer (see `ms_an_image`)."""
    return {"seconds_an_epoch": round(np.median(run.seconds)), "ms_an_image": ms_an_image(network, pictures)}


def timing(runs: dict[str, Run]) -> dict:
    """How long trainings took, and on what: for the reader alone, since no other notebook reads it."""
    return {
        "device": devices()[1],
        "seconds": {name: round(sum(run.seconds)) for name, run in runs.items()},
        "seconds_an_epoch": {name: round(float(np.median(run.seconds)), 1) for name, run in runs.items()},
        "peak_memory_gb": max(run.memory for run in runs.values()),
    }


def rests_on(run: dict, dataset: dict, splits: pd.Series, resamples: int) -> dict:
    """What the figures of ``05_metrics.json`` rest on, in numbers and in words.

    `run` is ``04_run.json``, `dataset` what a step knows of the data set, `splits` the split of each film that is used.
    """
    return {
        "data_set": dataset["name"],
        "synthetic": dataset["synthetic"],
        "images": {**splits.value_counts().to_dict(), "all": dataset["images"]},
        "versions": versions(),
        "seed": run["kept_seed"],
        "parameters": run["parameters"],
        "intervals_how": f"patient-level bootstrap, {resamples} resamples within each class, percentiles, network and "
        "threshold as they are",
        "thresholds_how": f"on validation, as it is, under {run['stress_draws']} draws of stress and with the lungs in "
        f"{2 * run['swap_draws']} other bodies, before the test split was scored",
    }


def median_seed(seeds: pd.DataFrame, figure: str) -> int:
    """The ``seed`` whose `figure` is in the middle; of an even number, the lower one of the two in the middle."""
    return int(seeds.sort_values(figure).seed.iloc[(len(seeds) - 1) // 2])


def noise_between(label, probability, times: np.ndarray) -> tuple[float, float]:
    """By how much the AUCs of some networks differ, and by how much the choice of patients alone makes them differ.

    `probability` has shape (networks, draws, images), and `times` comes from `metrics.resample`. Returns the standard
    deviation of the networks' AUCs, and the root mean square, over resamples, of how far their distances from the
    common mean move. Where the first is not well above the second, the networks can't be ranked by this figure.
    """
    draws = len(probability[0])
    truth, times = np.tile(label, draws), np.tile(times, draws)
    resampled = np.array([metrics.spread(truth, own.ravel(), 0.5, times)["auc"] for own in probability])
    found = np.array([metrics.auc(truth, own.ravel()) for own in probability])
    moved = resampled - resampled.mean(axis=0) - (found - found.mean())[:, None]
    more = len(found) / max(1, len(found) - 1)  # as for the deviation of a sample
    return float(np.sqrt(found.var() * more)), float(np.sqrt((moved**2).mean() * more))


def members(ensemble: keras.Model) -> list[keras.Model]:
    """The networks of ``04_ensemble.keras`` or ``04_plain.keras``, in the order of its outputs: one a seed."""
    return [layer for layer in ensemble.layers if isinstance(layer, keras.Model)]


def save_checked(model: keras.Model, pictures: np.ndarray):
    """A writer for `chain.Step.write`: save `model` in half precision, load it again, and compare what both say.

    The fewest arrays are kept more exact that leave each answer within `HALF`. `pictures`, of shape (images, size,
    size, 1), are of all kinds that it will meet; 256 at most are looked at, from the first to the last. The writer
    raises ValueError where what is read back says something else in any precision.
    """

    def write(path):
        some = pictures[:: max(1, len(pictures) // 256)]
        model.save(path, include_optimizer=False)
        content, before = path.read_bytes(), model.predict(some, verbose=0)
        for least in (export.SMALL, 2**15, 2**16, 2**17, np.inf):
            path.write_bytes(export.in_half(content, least))
            after = keras.models.load_model(path, compile=False).predict(some, verbose=0)
            if np.allclose(before, after, rtol=0, atol=HALF):
                return
        raise ValueError(f"{path.name} read back from disk does not predict what the trained model predicts")

    return write
