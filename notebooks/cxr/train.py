"""Training: the devices there are, batches from memory, and one line an epoch."""

import os
import platform
import time
from importlib.metadata import version

import numpy as np
import pandas as pd

from .backend import keras, tf


def versions() -> dict:
    """Versions of the software that a result depends on."""
    return {"python": platform.python_version(),
            **{name: version(name) for name in ("tensorflow", "keras", "numpy", "pillow", "scikit-learn")}}


def devices():
    """Use what the machine has: one strategy over all GPUs with mixed precision, or the CPU as it is.

    Returns
    -------
    strategy : tf.distribute.Strategy
        Build and compile the model in its ``scope()``.
    said : str
        What is used, for the reader.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        keras.mixed_precision.set_global_policy("float32")
        return tf.distribute.get_strategy(), f"{os.cpu_count()} CPU cores, float32"
    keras.mixed_precision.set_global_policy("mixed_float16")
    strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return strategy, f"{len(gpus)} x {name}, mixed float16"


def class_weights(labels: np.ndarray) -> np.ndarray:
    """One weight an image, so that both classes weigh the same in the loss; their mean is 1.

    Parameters
    ----------
    labels : ndarray of 0 and 1, shape (images,)

    Returns
    -------
    ndarray of float32, shape (images,)
    """
    labels = np.asarray(labels, int)
    return (len(labels) / 2 / np.bincount(labels, minlength=2))[labels].astype("float32")


class Batches(keras.utils.PyDataset):
    """Shuffled batches from an array in memory: ``(images, labels, weights)``.

    The order depends on the seed and the epoch's number alone. Images that do not fill a batch sit out an epoch.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (images, size, size)
    labels, weights : ndarray, shape (images,)
    size : int
        Images a batch.
    seed : int
    """

    def __init__(self, pictures, labels, weights, size, seed):
        super().__init__()
        self.pictures, self.labels, self.weights = pictures, np.asarray(labels, "float32"), weights
        self.size, self.seed = min(size, len(pictures)), seed
        self.epoch = -1
        self.on_epoch_begin()

    def on_epoch_begin(self):
        self.epoch += 1
        self.order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.pictures))

    def __len__(self):
        return len(self.pictures) // self.size

    def __getitem__(self, index):
        chosen = self.order[index * self.size:(index + 1) * self.size]
        return self.pictures[chosen][..., None], self.labels[chosen], self.weights[chosen]


class OneLine(keras.callbacks.Callback):
    """One line an epoch, in a notebook, a log and a terminal alike; the seconds go into the history only."""

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = round(time.perf_counter() - self.started, 1)
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        print(f"epoch {epoch + 1:3}/{self.params['epochs']}   loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.4f}"
              f"  AUC {logs['auc']:.4f}   validation: loss {logs['val_loss']:.4f}  accuracy {logs['val_accuracy']:.4f}"
              f"  AUC {logs['val_auc']:.4f}   rate {rate:.1e}", flush=True)


def table(history: keras.callbacks.History) -> pd.DataFrame:
    """What ``fit`` returns as a table: one row an epoch, ``epoch`` from 1, then the measures and the seconds."""
    return pd.DataFrame({"epoch": np.add(history.epoch, 1), **history.history})


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
