"""Where does a network look? Grad-CAM, for any network that ends in pooling (or flattening) and dense layers."""

import numpy as np

from .backend import keras, tf
from .paths import Problem

LAST_MAPS = keras.layers.GlobalAveragePooling2D, keras.layers.Flatten  # what the last feature maps go into


def _inner(network: keras.Model, shape: tuple) -> keras.Model:
    """A model from pictures, of such a shape, to (last feature maps, input of the last layer)."""
    inputs, entering = network.inputs if network.built else None, {}
    if isinstance(network, keras.Sequential):  # called one by one, its layers need not have been called before
        x = inputs = keras.layers.Input(shape)
        for layer in network.layers:
            entering[layer] = x
            x = layer(x)
    else:
        entering = {layer: getattr(layer, "input", None) for layer in network.layers}
    ends = [layer for layer in network.layers if isinstance(layer, LAST_MAPS)]
    if not ends or not isinstance(network.layers[-1], keras.layers.Dense):
        raise Problem(
            f"{network.name} has no GlobalAveragePooling2D or Flatten before a last Dense layer: Grad-CAM "
            "needs feature maps, so give a network that ends like those of 04_train.ipynb."
        )
    return keras.Model(inputs, [entering[ends[0]], entering[network.layers[-1]]])


def gradcam(network: keras.Model, pictures: np.ndarray, label, batch_size: int = 64, even: bool = False) -> np.ndarray:
    """Gradient-weighted class activation maps (Selvaraju et al. 2017, ICCV), from 0 to 1, float32, as `pictures`.

    Gradient and feature are multiplied place by place (HiResCAM, Draelos & Carin 2020): before global average pooling
    that is Grad-CAM; before flattening Grad-CAM's mean over the picture would mix up the places. What is explained is
    the logit, since a probability near 0 or 1 hardly changes, of the answer `label`: 1 what speaks for pneumonia, 0
    what speaks against it. `pictures` are uint8 of shape (images, size, size). Where no place speaks for an answer
    (one cut at a threshold far from 0.5) a Problem says so; with `even` such a map is 1 everywhere.
    """
    inner, head, maps = _inner(network, (*pictures.shape[1:], 1)), network.layers[-1], []
    sign = np.where(np.asarray(label) == 1, 1.0, -1.0).astype("float32")
    for start in range(0, len(pictures), batch_size):
        x = tf.constant(pictures[start : start + batch_size, ..., None], tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(x)
            features, last = inner(x, training=False)
            logit = tf.linalg.matmul(last, head.kernel)[:, 0] * sign[start : start + batch_size]
        heat = tf.nn.relu(tf.reduce_sum(tape.gradient(logit, features) * features, axis=-1, keepdims=True))
        maps.append(tf.image.resize(heat, pictures.shape[1:], "bicubic")[..., 0].numpy().clip(0))
    maps = np.concatenate(maps)
    top = maps.max(axis=(1, 2), keepdims=True)
    if even:
        maps, top = np.where(top > 0, maps, 1), np.where(top > 0, top, 1)
    if not (top > 0).all():
        raise Problem(
            f"The Grad-CAM of image {int(np.argmin(top))} is zero everywhere: nothing in the feature maps "
            "speaks for the answer that was asked for, so explain the answer that the network gives."
        )
    return maps / top
