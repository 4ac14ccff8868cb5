"""Networks that others trained on photographs (ImageNet), put in front of a new answer for X-rays."""

import os
import socket
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from . import augment
from .backend import keras
from .paths import Problem, display_path, resolve

layers = keras.layers
# weights were made for a few sizes, and serve others as well
warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square", UserWarning)


class Backbone(NamedTuple):
    """A network of ``keras.applications``, its arguments, the range of its input, and patterns of its weights' file."""

    kind: str
    arguments: dict
    range: tuple[float, float]
    files: str


UNIT = 0.5, 0.0  # scale and offset for a film of mean 0 and spread 1: -1 to 1
BYTE = 64.0, 127.5  # 0 to 255
CENTRED = 64.0, 0.0  # 0 to 255, less the mean
V2 = "mobilenet_v2_{0}*_*.h5 mobilenet_v2_*_{0}_*_no_top.h5"  # of this project, and of Keras
BACKBONES = {
    "MobileNetV2": Backbone("MobileNetV2", {"alpha": 1.0}, UNIT, V2.format("1.0")),
    "MobileNetV2 0.35": Backbone("MobileNetV2", {"alpha": 0.35}, UNIT, V2.format("0.35")),
    "MobileNet 0.75": Backbone("MobileNet", {"alpha": 0.75}, UNIT, "mobilenet_v1_0.75_*.h5 mobilenet_7_5_*_no_top.h5"),
    "EfficientNetB0": Backbone("EfficientNetB0", {}, BYTE, "efficientnetb0_notop.h5"),
    "ResNet50": Backbone("ResNet50", {}, CENTRED, "resnet50_*_notop.h5"),
    "VGG16": Backbone("VGG16", {}, CENTRED, "vgg16_*_notop.h5"),
}
SMALL = ["MobileNetV2", "MobileNetV2 0.35", "MobileNet 0.75"]


def _backbone(name: str) -> Backbone:
    if name not in BACKBONES:
        choices = ", ".join(BACKBONES)
        raise Problem(f"{name} is no backbone here: choose from {choices} in the parameters of the notebook.")
    return BACKBONES[name]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def choose(wanted: str) -> list[str]:
    """Names of `BACKBONES`: "small", "all", or some of them with commas between."""
    names = {"small": SMALL, "all": list(BACKBONES)}.get(wanted.strip()) or map(str.strip, wanted.split(","))
    return list(dict.fromkeys(name for name in names if _backbone(name)))


def local_weights(name: str) -> Path | None:
    """The file of a backbone's ImageNet weights in the folder ``KERAS_WEIGHTS_DIR``; None where there is none."""
    wanted, files = os.environ.get("KERAS_WEIGHTS_DIR"), _backbone(name).files.split()
    if not wanted:
        return None
    if not (folder := resolve(wanted)).is_dir():
        raise Problem(
            f"KERAS_WEIGHTS_DIR names {display_path(folder)}, which is no folder: set it to the folder that holds "
            f"files such as {files[-1]}, or unset it and the weights are downloaded."
        )
    return next((path for pattern in files for path in sorted(folder.glob(pattern))), None)


def pretrained(name: str, size: int) -> tuple[keras.Model | None, str]:
    """A backbone with its ImageNet weights, from ``KERAS_WEIGHTS_DIR`` or downloaded, and where they come from.

    Where they can't be had there is None, and the reason. `size` is the side of the pictures in pixels.
    """
    path = local_weights(name)
    if path:
        try:
            return _with_imagenet(name, size, path), f"ImageNet, {path.name}"
        except Exception as error:  # h5py and Keras raise nearly anything on a damaged or foreign file
            why = f"{display_path(path)} does not fit {name} ({_first_line(error)[:120]})"
            raise Problem(f"{why}: replace it, or unset KERAS_WEIGHTS_DIR and the weights are downloaded.") from None
    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(30)
        return _with_imagenet(name, size, "imagenet"), "ImageNet, downloaded"
    except Exception as error:  # Keras wraps whatever the network says into a bare Exception
        return None, f"can't be downloaded ({_first_line(error)[:80]})"
    finally:
        socket.setdefaulttimeout(before)


def gather(wanted: list[str], size: int) -> tuple[dict[str, keras.Model | None], dict[str, str]]:
    """Those of the `wanted` backbones whose ImageNet weights are there (`pretrained`), and a word on each.

    Where there are none, it is the smallest one as None, with ``RANDOM`` weights: enough to see the steps.
    """
    found = {name: pretrained(name, size) for name in wanted}
    bases = {name: base for name, (base, _) in found.items() if base is not None}
    weights = {name: said for name, (_, said) in found.items()}
    if bases:
        return {**bases}, weights
    print("ImageNet's weights are not to be had: set KERAS_WEIGHTS_DIR to a folder that holds them.")
    print("What follows starts from RANDOM weights and says nothing of transfer learning.")
    smallest = min(wanted, key=lambda name: raw(name, size).count_params())
    return {smallest: None}, weights | {smallest: "RANDOM"}


def begin(name: str, base: keras.Model | None, size: int) -> keras.Model:
    """A copy of `base` to tune, its batch normalisation frozen; random weights, nothing frozen, where it is None."""
    own = raw(name, size) if base is None else copy(name, base)
    freeze_statistics(own, base is not None)
    return own


def _with_imagenet(name: str, size: int, weights: str | Path) -> keras.Model:
    model = raw(name, size, weights)
    if name.startswith("EfficientNet"):  # with "imagenet" alone Keras divides by this in a layer more; here never
        model = copy(name, model)
        norm = next(layer for layer in model.layers if isinstance(layer, layers.Normalization))
        norm.adapt_variance.assign(norm.adapt_variance * np.array([0.229, 0.224, 0.225], "float32"))
        norm.finalize_state()
    return model


def raw(name: str, size: int, weights: str | Path | None = None) -> keras.Model:
    """A backbone without its top, for pictures of shape (size, size, 3); random weights where `weights` is None."""
    kind, arguments, *_ = _backbone(name)
    file, shape = str(weights) if weights else None, (size, size, 3)
    return getattr(keras.applications, kind)(include_top=False, input_shape=shape, weights=file, **arguments)


def copy(name: str, base: keras.Model) -> keras.Model:
    """A backbone of its own with the weights of `base`, so that one can be tuned many times."""
    own = raw(name, base.input_shape[1])
    take_weights(own, base)
    return own


def take_weights(own: keras.Model, base: keras.Model) -> None:
    """Give `own` the weights of `base`, and its layers of normalisation the statistics."""
    own.set_weights(base.get_weights())
    for layer in own.layers:
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()


def freeze_statistics(base: keras.Model, frozen: bool = True) -> None:
    """Let batch normalisation keep what it learned while the convolutions are tuned; random weights learned nothing.

    (One by one: ``base(x, training=False)`` has no effect while ``fit`` runs; github.com/keras-team/keras/issues/20285)
    """
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = not frozen
            layer.momentum = layer.momentum if frozen else 0.9  # theirs wants more steps than a few thousand


def build(
    name: str, base: keras.Model, outputs: int = 1, dropout: float = 0.3, keep_statistics: bool = True
) -> keras.Model:
    """The backbone behind a gray input of 0 to 255, averaged over the picture, with a new answer.

    Each film is brought to mean 0 and spread 1, then to the range that the backbone was trained on. One output is the
    probability of pneumonia, 3 or more are one probability a class, made of what the layer ``features`` gives.
    """
    freeze_statistics(base, keep_statistics)
    xray = layers.Input((*base.input_shape[1:3], 1), name="xray")
    x = layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False)(xray)
    x = layers.Rescaling(*_backbone(name).range)(layers.Concatenate()([x] * 3))
    x = layers.GlobalAveragePooling2D(name="features")(base(x))
    activation, answer = ("sigmoid", "pneumonia") if outputs == 1 else ("softmax", "kind")
    head = layers.Dense(outputs, activation, dtype="float32", name=answer)
    return keras.Model(xray, head(layers.Dropout(dropout)(x)), name=network_name(name))


def network_name(name: str) -> str:
    return name.lower().replace(" ", "_").replace(".", "_")


def features(network: keras.Model, pictures: np.ndarray, augmentation=None, batch_size: int = 64) -> np.ndarray:
    """What the frozen backbone of a network from `build` makes of each picture: float32, shape (images, features).

    `pictures` are uint8 of shape (images, size, size), or with channels as an `augmentation`, a model, takes them.
    """
    pictures = pictures if pictures.ndim == 4 else pictures[..., None]
    reader = keras.Model(network.input, network.get_layer("features").output)
    found = []
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start : start + batch_size]
        batch = batch if augmentation is None else augmentation(batch, training=True)
        found.append(keras.ops.convert_to_numpy(reader(batch, training=False)))
    return np.concatenate(found)


def fit_head(network: keras.Model, found: np.ndarray, label, weight, strength: float = 0.01) -> None:
    """Fit the last layer alone to the features `found`, as a logistic regression; `strength` is scikit-learn's C."""
    scaler = StandardScaler().fit(found)
    line = LogisticRegression(C=strength, max_iter=1000).fit(scaler.transform(found), label, sample_weight=weight)
    kernel = (line.coef_ / scaler.scale_).T
    bias = line.intercept_ - scaler.mean_ @ kernel
    network.layers[-1].set_weights([kernel.astype("float32"), bias.astype("float32")])


def fit_frozen(network: keras.Model, films: np.ndarray, label, weight, recipe: list[dict]) -> None:
    """`fit_head` on each film as it is and once more as the augmentation of `recipe` changes it.

    `films` are uint8 of shape (images, size, size, 2), each with its lungs beside it.
    """
    order = np.random.default_rng(0).permutation(len(label))  # bodies of both classes in a batch
    films = films[order]
    found = [features(network, films[..., 0]), features(network, films, augment.build(recipe))]
    label, weight = (np.tile(np.asarray(values)[order], 2) for values in (label, weight))
    fit_head(network, np.concatenate(found), label.astype(int), weight)
