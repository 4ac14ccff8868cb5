"""Networks that others trained on photographs (ImageNet), put in front of a new answer for X-rays."""

import os
import socket
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from .backend import keras
from .project import Problem, located, shown
from .train import weights_sha256

layers = keras.layers


class Backbone(NamedTuple):
    """A network of ``keras.applications``: its name there, its arguments, the range of its input, its weights' file."""

    kind: str
    arguments: dict
    range: str
    files: str


BACKBONES = {
    "MobileNetV2": Backbone("MobileNetV2", {"alpha": 1.0}, "-1 to 1",
                            "mobilenet_v2_1.00_*.h5 mobilenet_v2_*_1.0_*_no_top.h5"),
    "MobileNetV2 0.35": Backbone("MobileNetV2", {"alpha": 0.35}, "-1 to 1",
                                 "mobilenet_v2_0.35_*.h5 mobilenet_v2_*_0.35_*_no_top.h5"),
    "MobileNet 0.75": Backbone("MobileNet", {"alpha": 0.75}, "-1 to 1",
                               "mobilenet_v1_0.75_*.h5 mobilenet_7_5_*_no_top.h5"),
    "EfficientNetB0": Backbone("EfficientNetB0", {}, "0 to 255", "efficientnetb0_notop.h5"),
    "ResNet50": Backbone("ResNet50", {}, "less the mean", "resnet50_*_notop.h5"),
    "VGG16": Backbone("VGG16", {}, "less the mean", "vgg16_*_notop.h5")}


RANGES = {"-1 to 1": (0.5, 0.0), "0 to 255": (64.0, 127.5),  # scale and offset for a film of mean 0 and spread 1
          "less the mean": (64.0, 0.0)}
SMALL = ["MobileNetV2", "MobileNetV2 0.35", "MobileNet 0.75"]
COLUMNS = ["backbone", "weights", "parameters", "megabytes", "frozen_val_auc", "frozen_stress_auc", "val_auc",
           "stress_auc", "misled_auc", "threshold", "seconds_an_epoch", "ms_an_image", "accuracy", "accuracy_low",
           "accuracy_high", "auc", "auc_low", "auc_high"]  # of 07_backbones.csv


def _backbone(name: str) -> Backbone:
    if name not in BACKBONES:
        raise Problem(f"{name} is no backbone here: choose from {', '.join(BACKBONES)} in the parameters of the "
                      "notebook.")
    return BACKBONES[name]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def choose(wanted: str) -> list[str]:
    """Names of `BACKBONES`: "small", "all", or some of them apart by commas.

    Raises
    ------
    Problem
        A name is not there, or there is none.
    """
    if wanted.strip() in ("small", "all"):
        return SMALL if wanted.strip() == "small" else list(BACKBONES)
    names = [name.strip() for name in wanted.split(",")]
    for name in names:
        _backbone(name)
    return list(dict.fromkeys(names))


def local_weights(name: str) -> Path | None:
    """The file of a backbone's ImageNet weights in the folder ``KERAS_WEIGHTS_DIR``; None where there is none.

    Raises
    ------
    Problem
        `name` is not in `BACKBONES`, or the variable names a folder that does not exist.
    """
    wanted = os.environ.get("KERAS_WEIGHTS_DIR")
    files = _backbone(name).files.split()
    if not wanted:
        return None
    folder = located(wanted)
    if not folder.is_dir():
        raise Problem(f"KERAS_WEIGHTS_DIR names {shown(folder)}, which is no folder: set it to the folder that holds "
                      f"files such as {files[-1]}, or unset it and the weights are downloaded.")
    return next((path for pattern in files for path in sorted(folder.glob(pattern))), None)


def pretrained(name: str, size: int) -> tuple[keras.Model, str] | tuple[None, str]:
    """A backbone with its ImageNet weights, from ``KERAS_WEIGHTS_DIR`` or else downloaded.

    Parameters
    ----------
    name : str
        One of `BACKBONES`.
    size : int
        Side of the pictures, pixels.

    Returns
    -------
    model : keras.Model, or None where the weights can't be had
    said : str
        Where they come from, or why there are none, for the reader.

    Raises
    ------
    Problem
        As `local_weights`; or a file of weights does not fit the network.
    """
    path = local_weights(name)
    if path:
        try:
            model = raw(name, size, path)
            if name.startswith("EfficientNet"):  # Keras puts this into its network for weights="imagenet" alone
                norm = next(layer for layer in model.layers if isinstance(layer, layers.Normalization))
                norm.adapt_variance.assign(norm.adapt_variance * np.array([0.229, 0.224, 0.225], "float32"))
                _settle(model)
            return model, f"ImageNet, {path.name}"
        except Exception as error:  # h5py and Keras raise nearly anything on a damaged or foreign file
            raise Problem(f"{shown(path)} does not fit {name} ({_first_line(error)[:120]}): replace "
                          "it, or unset KERAS_WEIGHTS_DIR and the weights are downloaded.") from None
    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(30)
        return raw(name, size, "imagenet"), "ImageNet, downloaded"
    except Exception as error:  # Keras wraps whatever the network says into a bare Exception
        return None, f"can't be downloaded ({_first_line(error)[:80]})"
    finally:
        socket.setdefaulttimeout(before)


def raw(name: str, size: int, weights: str | Path | None = None) -> keras.Model:
    """A backbone without its top, for pictures of shape (size, size, 3); random weights where `weights` is None."""
    found = _backbone(name)
    with warnings.catch_warnings():  # weights were made for a few sizes, and serve others as well
        warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square", UserWarning)
        return getattr(keras.applications, found.kind)(
            include_top=False, input_shape=(size, size, 3), weights=str(weights) if weights else None,
            **found.arguments)


def copy(name: str, base: keras.Model) -> keras.Model:
    """A backbone of its own with the weights of `base`, so that one can be tuned many times."""
    size = base.input_shape[1]
    own = keras.models.clone_model(base) if name.startswith("EfficientNet") else raw(name, size)
    own.set_weights(base.get_weights())
    _settle(own)
    return own


def _settle(model: keras.Model) -> None:
    """Let layers of normalisation take over the statistics they were given (Keras does so when it loads a file)."""
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()


def start(said: str, base: keras.Model | None) -> str:
    """What a tuning starts from, for its checkpoint: what `pretrained` said, and a fingerprint of the weights."""
    return f"{said}, {weights_sha256(base)[:12]}" if base is not None else said


def build(name: str, base: keras.Model, outputs: int = 1, dropout: float = 0.3, keep_statistics: bool = True
          ) -> keras.Model:
    """The backbone behind a gray input of 0 to 255, averaged over the picture, with a new answer.

    Each film is brought to mean 0 and spread 1 first, then to the range that the backbone was trained on.

    Parameters
    ----------
    name : str
        One of `BACKBONES`.
    base : keras.Model
        From `pretrained` or `raw`; its layers of batch normalisation are frozen here.
    outputs : int
        1 for the probability of pneumonia, 3 or more for one probability a class.
    dropout : float
    keep_statistics : bool
        Batch normalisation keeps what it learned on ImageNet, statistics, scale and offset, while the convolutions are
        tuned. False for random weights, which have no statistics. (The layers are frozen one by one:
        ``base(x, training=False)``, the usual way, has no effect in Keras 3 while ``fit`` runs;
        github.com/keras-team/keras/issues/20285.)

    Returns
    -------
    keras.Model
        Its layer ``features`` is what the answer is made of; its last layer is the answer.
    """
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = not keep_statistics
            layer.momentum = layer.momentum if keep_statistics else 0.9  # theirs wants more steps than a few thousand
    entry = layers.Input((*base.input_shape[1:3], 1), name="xray")
    x = layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False)(entry)
    x = layers.Concatenate()([x] * 3)
    x = layers.Rescaling(*RANGES[_backbone(name).range])(x)
    x = layers.GlobalAveragePooling2D(name="features")(base(x))
    activation, answer = ("sigmoid", "pneumonia") if outputs == 1 else ("softmax", "kind")
    x = layers.Dense(outputs, activation, dtype="float32", name=answer)(layers.Dropout(dropout)(x))
    return keras.Model(entry, x, name=name.lower().replace(" ", "_").replace(".", "_"))


def features(network: keras.Model, pictures: np.ndarray, augmentation=None, batch_size: int = 64) -> np.ndarray:
    """What the frozen backbone says of each picture.

    Parameters
    ----------
    network : keras.Model
        From `build`.
    pictures : ndarray of uint8, shape (images, size, size)
    augmentation : keras.Model, optional
        Each picture is changed by it first.
    batch_size : int

    Returns
    -------
    ndarray of float32, shape (images, features)
    """
    reader = keras.Model(network.input, network.get_layer("features").output)
    found = []
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start:start + batch_size, ..., None]
        batch = batch if augmentation is None else augmentation(batch, training=True)
        found.append(keras.ops.convert_to_numpy(reader(batch, training=False)))
    return np.concatenate(found)


def fit_head(network: keras.Model, found: np.ndarray, label: np.ndarray, weight: np.ndarray, strength: float = 0.01
             ) -> None:
    """Fit the last layer alone on frozen features, as a logistic regression, and put it into the network.

    Parameters
    ----------
    network : keras.Model
        From `build`.
    found : ndarray, shape (images, features)
        From `features`.
    label : ndarray of int, shape (images,)
        The class, from 0.
    weight : ndarray, shape (images,)
        Of each image in the loss.
    strength : float
        Inverse of the penalty on the coefficients (scikit-learn's C), on standardised features.
    """
    scaler = StandardScaler().fit(found)
    line = LogisticRegression(C=strength, max_iter=1000).fit(scaler.transform(found), label, sample_weight=weight)
    kernel = (line.coef_ / scaler.scale_).T
    network.layers[-1].set_weights([kernel.astype("float32"),
                                    (line.intercept_ - scaler.mean_ @ kernel).astype("float32")])
