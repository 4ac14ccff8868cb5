"""Training: the devices there are, batches from memory, and a run that a crash can't lose."""

import hashlib
import inspect
import json
import os
import platform
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight

from . import augment, corruptions, export, metrics
from .backend import keras, tf
from .keys import cache_key, code_hash
from .paths import Problem, atomic_write, checkpoint_dir, display_path

PARTS = ("now", "best", "optimizer")  # of a checkpoint: weights, the best ones, the state of the optimizer
KERAS = ("keras", "tensorflow", "builtins")  # whose code a version number stands for
HALF = 5e-4  # by which a stored model may answer otherwise than the trained one; on other films up to 1e-3


def versions() -> dict:
    """Versions of the software that a result depends on."""
    packages = ("tensorflow", "keras", "numpy", "pillow", "scikit-learn")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


@cache
def devices() -> tuple:
    """A strategy over all GPUs of the machine, else for its CPU, to build and compile in; and words for it."""
    gpus = tf.config.list_physical_devices("GPU")
    strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    what = f"{len(gpus)} x {details.get('device_name', 'GPU')}" if gpus else f"{os.cpu_count()} CPU cores"
    return strategy, f"{what}, float32"


def class_weights(labels: np.ndarray) -> np.ndarray:
    """One weight an image (float32), so that all classes of `labels` weigh the same in the loss; their mean is 1."""
    return compute_sample_weight("balanced", labels).astype("float32")


class Batches:
    """Shuffled batches from arrays in memory, as ``fit`` takes them: ``(pictures, labels, weights)``.

    The order depends on the seed and the epoch's number alone, so a training that goes on after a crash sees the same
    order. Images that do not fill a batch sit out an epoch. `pictures` are uint8 of shape (images, side, side), or
    (images, side, side, 2) with the lungs beside each film.
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
        """A ``tf.data.Dataset`` of the epochs `first` to `end` - 1, for ``fit(..., steps_per_epoch=len(batches))``."""
        order = np.concatenate([self.order(epoch) for epoch in range(min(first, end - 1), end)])  # never empty
        pictures = self.pictures if self.pictures.ndim == 4 else self.pictures[..., None]
        with tf.device("CPU"):  # even with a GPU: the pictures, uint8 and there once, need not fit into its memory
            arrays = [tf.convert_to_tensor(part) for part in (pictures, self.labels, self.weights)]
            dataset = tf.data.Dataset.from_tensor_slices(order)
        return dataset.map(lambda chosen: tuple(tf.gather(part, chosen) for part in arrays)).prefetch(4)


class Resume(keras.callbacks.Callback):
    """A ``fit`` that goes on after a crash, and ends with the same weights, bit for bit, as if nothing had happened.

    After each epoch all state goes into one file: weights, optimizer, chance, history, and what an ``EarlyStopping``
    knows, which ``BackupAndRestore`` of Keras forgets. It is there whole or not at all, and the one before it stays::

        stop = keras.callbacks.EarlyStopping("val_auc", mode="max", patience=12, restore_best_weights=True)
        resume = Resume(folder, stop)
        model.fit(batches.epochs(resume.start, EPOCHS), steps_per_epoch=len(batches), shuffle=False,
                  initial_epoch=resume.start, epochs=EPOCHS, callbacks=[stop, resume])

    Name `folder` by `keys.cache_key(settings(...))`: another training, or other code, then has another folder. `start`
    is the number of finished epochs, `rows` the history, a dict an epoch, `seconds` the time of each.
    """

    def __init__(self, folder: Path, stop=None):
        super().__init__()
        self.folder, self.stop = Path(folder), stop
        self.files = [self.folder / "even.npz", self.folder / "odd.npz"]  # written in turn
        self.rows, self.seconds = list[dict](), list[float]()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob(".unfinished_*"):  # by a process that was killed while it wrote
                left.unlink(missing_ok=True)
        except OSError as error:
            why = f"Checkpoints can't be written to {display_path(self.folder)} ({error.strerror})"
            raise Problem(f"{why}: free the disk, or set CXR_CHECKPOINT_DIR to another folder.") from None
        found = [state for state in map(_read, self.files) if state]
        self.state = max(found, key=lambda state: len(state[0]["rows"]), default=None)
        if self.state:
            self.rows, self.seconds = self.state[0]["rows"], self.state[0]["seconds"]

    @property
    def start(self) -> int:
        return len(self.rows)

    @property
    def best_epoch(self) -> int:
        return self.stop.best_epoch + 1  # epochs count from 1

    def restore(self, model) -> None:
        """Give `model`, its optimizer and `stop` the state they had after the last finished epoch."""
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        if self.state:
            facts, arrays = self.state
            for name, variables in (("now", model.variables), ("optimizer", model.optimizer.variables)):
                for variable, value in zip(variables, arrays[name], strict=True):
                    variable.assign(value)
            if self.stop:
                self.stop.__dict__.update(facts["stop"], best_weights=arrays["best"])
            self.state = None

    def on_train_begin(self, logs=None):
        self.restore(self.model)
        if self.stop and self.stop.stopped_epoch:  # it had stopped: no epoch is left to do
            self.model._initial_epoch = self.params["epochs"]

    def on_train_end(self, logs=None):
        self.model._initial_epoch = None  # for another `fit`

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if not np.isfinite([logs["loss"], logs.get("val_loss", 0.0)]).all():
            if not self.rows:
                why = "The loss is not a number from the first epoch on"
                raise Problem(f"{why}: set the learning rate in the settings of the notebook to a tenth.")
            self.model.stop_training = True
            print(f"Epoch {epoch + 1}: the loss is not a number any more; training stops, the best weights are kept.")
            return
        self.rows.append({"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}})
        self.seconds.append(round(time.perf_counter() - self.began, 2))
        seen = {name: getattr(self.stop, name, None) for name in ("wait", "stopped_epoch", "best", "best_epoch")}
        facts = json.dumps({"rows": self.rows, "seconds": self.seconds, "stop": seen})
        best = getattr(self.stop, "best_weights", None) or []
        parts = _values(self.model.variables), best, _values(self.model.optimizer.variables)
        arrays = {f"{name}_{i:04}": value for name, part in zip(PARTS, parts) for i, value in enumerate(part)}
        try:
            with atomic_write(self.files[len(self.rows) % 2], flush=True) as unfinished:
                np.savez(unfinished, facts=np.array(facts), **arrays)
        except OSError as error:
            why = f"{display_path(self.folder)} can't be written ({error.strerror})"
            print(f"No checkpoint of epoch {len(self.rows)}: {why}; the training goes on without it.")


def _read(path: Path) -> tuple[dict, dict] | None:
    try:
        with np.load(path, allow_pickle=False) as saved:
            facts, keys = json.loads(str(saved["facts"])), sorted(saved.files)
            return facts, {name: [saved[key] for key in keys if key.startswith(name)] for name in PARTS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # not there, or not whole: the other one is


def _values(variables) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


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
    """What is trained: augmentation, then `network`; it takes films, in training with lungs beside them if it must."""
    entry = keras.layers.Input((*network.input_shape[1:3], None if augment.needs_masks(recipe) else 1))
    return keras.Sequential([entry, augment.build(recipe, seed), network], name="learner")


def own_code(learner: keras.Model) -> list:
    """The code of this project, or of a page, that a training runs: `Batches`, and layers and losses not of Keras."""
    kinds = {kind for layer in learner._flatten_layers() for kind in type(layer).__mro__}
    parts = [learner.loss, *(part for kind in kinds for part in vars(kind).values())]
    own = {f for f in parts if inspect.isfunction(f) and f.__module__.split(".")[0] not in KERAS}
    return [Batches, *sorted(own, key=lambda f: f.__qualname__)]


def settings(name: str, learner: keras.Model, batches: Batches, validation: tuple[np.ndarray, np.ndarray]) -> dict:
    """All that the result of training the compiled `learner` depends on; `name` is for the reader.

    What a page's functions build and compile is in here by its effect: layers, first weights, loss and optimizer.
    """
    return {
        "name": name,
        "seed": batches.seed,
        "batch_size": batches.size,
        "images": cache_key(batches.pictures, batches.labels, batches.weights, *validation),
        "layers": cache_key(learner.to_json()),
        "start": weights_sha256(learner)[:12],
        "loss": getattr(learner.loss, "__name__", learner.loss),
        "optimizer": learner.optimizer.get_config(),
        "precision": keras.config.dtype_policy().name,
        "keras": keras.__version__,
        "code": code_hash(*own_code(learner)),
    }


def checkpoint_folder(name, learner, batches, validation, epochs: int, patience: int, monitor: str) -> Path:
    """Where `Resume` keeps the checkpoint of this training, and of no other: its name is made of `settings`."""
    key = cache_key(settings(name, learner, batches, validation), epochs, patience, monitor)
    return Path(checkpoint_dir()) / key


def train(build, compile, batches, validation, recipe, epochs, patience, name, monitor="val_auc") -> tuple:
    """One training from its first weights to its best ones: the network, and its `Resume`.

    ``build()`` returns the network; ``compile(learner, steps)`` compiles what is trained, for so many steps in all;
    `validation` is (pictures with a channel, targets); the seed of `batches` is that of weights and augmentation, too.
    The best epoch has the highest `monitor`, or the lowest where it is a loss; `patience` is as in ``EarlyStopping``.
    """
    with fresh(batches.seed):
        network = build()
        learner = behind(recipe, network, batches.seed)
        compile(learner, len(batches) * epochs)
    mode = "min" if monitor.endswith("loss") else "max"
    stop = keras.callbacks.EarlyStopping(monitor, mode=mode, patience=patience, restore_best_weights=True)
    resume = Resume(checkpoint_folder(name, learner, batches, validation, epochs, patience, monitor), stop)
    span = {"initial_epoch": resume.start, "epochs": epochs, "steps_per_epoch": len(batches), "shuffle": False}
    checks = {"validation_data": validation, "validation_batch_size": 128, "callbacks": [stop, resume]}
    try:
        learner.fit(batches.epochs(resume.start, epochs), **span, **checks, verbose=0)
    except tf.errors.ResourceExhaustedError:
        why, half = f"The memory does not hold {batches.size} images a step", max(1, batches.size // 2)
        raise Problem(f"{why}: set BATCH_SIZE to {half} in the settings of the notebook.") from None
    print(f"{name}: epoch {resume.best_epoch} of {resume.start} kept, {monitor} {stop.best:.4f}", flush=True)
    return network, resume


def scheduled(peak: float, loss: str) -> Callable[[keras.Model, int], None]:
    """The ``compile`` that `train` takes: AdamW with a rate that climbs to `peak`, then falls along a cosine to 0."""

    def compile(learner, steps):
        rate = keras.optimizers.schedules.CosineDecay(
            peak / 20, steps - steps // 20, warmup_target=peak, warmup_steps=steps // 20
        )
        measures = ["accuracy", keras.metrics.AUC(1000, name="auc")]
        learner.compile(keras.optimizers.AdamW(rate, weight_decay=0.01), loss, metrics=measures)

    return compile


class Validation:
    """Validation films in all versions that `recipe` asks for, first as they are (`pictures`), and their `kinds`."""

    def __init__(self, pictures: np.ndarray, masks: np.ndarray, label: np.ndarray, recipe: dict):
        self.label, draws = label, (recipe["stress_draws"], recipe["swap_draws"])
        self.pictures, self.kinds = corruptions.validation_variants(pictures, masks, label, *draws)

    def each_epoch(self, target: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """One version of each kind and the `target` of each film (or its label), for ``fit`` to judge each epoch by."""
        target = self.label if target is None else target
        parts = np.split(self.pictures, len(self.kinds))
        pictures = np.concatenate([parts[self.kinds.index(kind)] for kind in dict.fromkeys(self.kinds)])
        return pictures[..., None], np.concatenate([target] * len(set(self.kinds)))

    def answers(self, network: keras.Model, batch_size: int = 64) -> np.ndarray:
        """What `network` says of every film in every version: shape (versions, images), or (..., outputs)."""
        found = metrics.predict(network, self.pictures, batch_size)
        return found.reshape(len(self.kinds), len(self.label), *found.shape[1:])


def weights_sha256(network: keras.Model) -> str:
    """Fingerprint of a network's weights, in the order of its layers; the random state of layers is no weight."""
    return hashlib.sha256(b"".join(value.tobytes() for value in _values(network.weights))).hexdigest()


def seed_facts(seed: int, trained: tuple, judged: Validation, y_score: np.ndarray) -> dict:
    """What a training reached on validation: one row of ``04_seeds.csv``.

    `trained` comes from `train`; `y_score`, of shape (versions, images), is what its network says of the films of
    `judged`. The threshold is that of Youden's J on all versions.
    """
    (network, run), y_true, kinds = trained, judged.label, np.array(judged.kinds)
    threshold = metrics.youden_threshold(np.tile(y_true, len(kinds)), y_score.ravel())
    plain = metrics.measure(y_true, y_score[0], threshold)
    under_stress = y_score[kinds == "stress"]
    stressed = metrics.measure(np.tile(y_true, len(under_stress)), under_stress.ravel(), threshold)
    by_kind = metrics.auc_by_kind(y_true, y_score, judged.kinds)
    return {
        "seed": seed,
        **{f"val_{name}": plain[name] for name in ("auc", "accuracy", "sensitivity", "specificity")},
        **{f"stress_{name}": stressed[name] for name in ("auc", "accuracy", "sensitivity", "specificity")},
        **{f"{kind}_auc": by_kind[kind] for kind in ("swap", "conflict") if kind in by_kind},
        "threshold": threshold,
        **{"epochs": run.start, "best_epoch": run.best_epoch, "weights_sha256": weights_sha256(network)},
    }


def members(ensemble: keras.Model) -> list[keras.Model]:
    """The networks of ``04_ensemble.keras`` or ``04_plain.keras``, in the order of its outputs: one a seed."""
    return [layer for layer in ensemble.layers if isinstance(layer, keras.Model)]


def save_checked(model: keras.Model, pictures: np.ndarray):
    """A writer for `chain.Step.write`: save `model` in half precision, load it again, and compare what both say.

    Few enough arrays are rounded to leave the answers to up to 256 of the `pictures`, with a channel, within `HALF`.
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
