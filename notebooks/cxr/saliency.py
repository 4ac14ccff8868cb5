"""Where does a network look? Grad-CAM, occlusion, and how much of it lies inside the lungs.

Maps explain the logit (the number before the sigmoid), for a probability near 0 or 1 hardly changes any more. Pictures
are uint8, maps float32 and fields bool, all of shape (images, size, size) where nothing else is said.
"""

import numpy as np
from scipy import ndimage, stats

from .backend import keras, tf
from .paths import Problem


def _parts(network: keras.Model) -> tuple[keras.Model, keras.layers.Dense]:
    """A model from X-rays to (last feature maps, input of the last layer), and that last layer."""
    pooling = keras.layers.GlobalAveragePooling2D | keras.layers.Flatten
    ends, head = [layer for layer in network.layers if isinstance(layer, pooling)], network.layers[-1]
    if not ends or not isinstance(head, keras.layers.Dense):
        raise Problem(
            f"{network.name} has no GlobalAveragePooling2D or Flatten before a last Dense layer: Grad-CAM "
            "needs feature maps, so give a network that ends like those of 04_train.ipynb."
        )
    return keras.Model(network.input, [ends[0].input, head.input]), head


def gradcam(network: keras.Model, pictures: np.ndarray, label, batch_size: int = 64, even: bool = False) -> np.ndarray:
    """Gradient-weighted class activation maps (Selvaraju et al. 2017, ICCV) of the last feature maps.

    Gradient and feature are multiplied place by place (HiResCAM, Draelos & Carin 2020). Before global average pooling
    that is the same as Grad-CAM; before flattening Grad-CAM's mean over the picture would mix up the places.

    `network` ends in global average pooling, or flattening, and dense layers; its one output is a probability. `label`
    (0 or 1 each) is the answer to be explained: 1, what speaks for pneumonia; 0, what speaks against it.
    Returns maps from 0 to 1, the largest value of each 1. A Problem where the network has no such layers, or a map is
    zero everywhere, since no place speaks for that answer; with `even` such a map is 1 everywhere instead. (That
    happens where the answer is cut at a threshold far from 0.5.)
    """
    inner, head = _parts(network)
    sign = np.where(np.asarray(label) == 1, 1.0, -1.0).astype("float32")
    size, maps = pictures.shape[1], []
    for start in range(0, len(pictures), batch_size):
        x = tf.constant(pictures[start : start + batch_size, ..., None], tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(x)
            features, last = inner(x, training=False)
            logit = tf.linalg.matmul(last, head.kernel)[:, 0] * sign[start : start + batch_size]
        heat = tf.nn.relu(tf.reduce_sum(tape.gradient(logit, features) * features, axis=-1, keepdims=True))
        maps.append(tf.image.resize(heat, (size, size), "bicubic")[..., 0].numpy().clip(0))
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


def occlusion(network: keras.Model, picture: np.ndarray, label: int, patch: int = 20, step: int = 6) -> np.ndarray:
    """How much the logit for `label` falls where a gray square covers the picture (Zeiler & Fergus 2014, ECCV).

    Returns a map: the mean fall over all squares that cover a pixel; below 0 where covering helps.
    """
    size = len(picture)
    starts = [*range(0, size - patch, step), size - patch]
    squares = [np.s_[y : y + patch, x : x + patch] for y in starts for x in starts]
    hidden = np.stack([picture] * (1 + len(squares)))
    for one, square in zip(hidden[1:], squares):
        one[square] = picture.mean()
    odds = logits(network, hidden) * (1 if label == 1 else -1)
    fall, times = np.zeros((2, size, size), "float32")
    for square, value in zip(squares, odds[0] - odds[1:]):
        fall[square] += value
        times[square] += 1
    return fall / times


def logits(network: keras.Model, pictures: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """Log-odds of pneumonia, shape (images,), without the rounding of a probability near 0 or 1."""
    inner, head = _parts(network)
    last = keras.Model(inner.input, inner.outputs[1]).predict(pictures[..., None], batch_size=batch_size, verbose=0)
    return (last @ head.kernel.numpy() + head.bias.numpy())[:, 0]


def share_inside(maps: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """Of each map (0 or more), the share that lies inside its field: shape (images,)."""
    return (maps * fields).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))


def covered(pictures: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """Each picture with its field filled by the picture's mean outside of it; the edge is softened over two pixels."""
    soft = ndimage.gaussian_filter(fields.astype(np.float32), (0, 1, 1))
    outside = np.maximum((~fields).sum(axis=(1, 2), keepdims=True), 1)
    mean = (pictures * ~fields).sum(axis=(1, 2), keepdims=True) / outside
    return (pictures * (1 - soft) + mean * soft).round().astype(np.uint8)


def corners(size: int, share: float = 0.22) -> np.ndarray:
    """The four corners, where markers and print stand, as a field of shape (size, size)."""
    place = np.arange(size)
    near = np.minimum(place, size - 1 - place) < round(share * size)
    return near[:, None] & near


def randomised(network: keras.Model, seed: int = 0) -> keras.Model:
    """The same network with fresh random weights: a map that does not care is no explanation (Adebayo et al. 2018)."""
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(network)


def likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each pair of maps, shape (images,): 1 where they rank all places alike.

    0 where one of the two is the same everywhere, and so ranks no place.
    """
    ranked = (np.ptp(one, axis=(1, 2)) > 0) & (np.ptp(other, axis=(1, 2)) > 0)
    pairs = zip(one, other, ranked)
    return np.array([stats.spearmanr(a, b, axis=None).statistic if differ else 0.0 for a, b, differ in pairs])
