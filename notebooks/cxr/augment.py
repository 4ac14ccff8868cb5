"""Augmentation from a recipe, and the three changes that Keras has no layer for.

Pure Keras 3 (``keras.ops``), so it runs on any backend. The layers take and return batches of shape
``(images, height, width, 1)`` with values from 0 to 255, and do nothing outside training.
"""

import functools
import math
import sys
from typing import Any

import numpy as np

from .backend import keras, tf
from .paths import Problem

ops = keras.ops


class RandomChange(keras.layers.Layer):
    """A change drawn anew for every image of a batch, in training only.

    Its random state is a Keras variable, so it can be saved with a checkpoint and goes on from there. A kind of change
    has the method ``change(images)``, and names its arguments in `settings`.
    """

    settings: tuple = ()

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def uniform(self, images, low, high):
        """One number for each image, shape (images, 1, 1, 1)."""
        return keras.random.uniform((ops.shape(images)[0], 1, 1, 1), low, high, images.dtype, seed=self.generator)

    def call(self, images, training=False):
        images = ops.cast(images, self.compute_dtype)
        return self.change(images) if training else images

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "seed": self.seed, **{name: getattr(self, name) for name in self.settings}}


def to_edge(images) -> tuple:
    """How far each pixel is from the nearest edge, 0 there to 0.5 in the middle: up or down, and to the sides."""

    def share(length):
        return 0.5 - ops.abs((ops.arange(length, dtype=images.dtype) + 0.5) / length - 0.5)

    height, width = images.shape[1:3]
    return ops.reshape(share(height), (1, -1, 1, 1)), ops.reshape(share(width), (1, 1, -1, 1))


@keras.saving.register_keras_serializable("cxr")
class RandomCornerSwap(RandomChange):
    """Take the corners, or a frame along the edge, from another X-ray of the batch, whatever its class.

    Markers, print, collimator edges and wires then say nothing about the label. The largest side of a corner is `size`,
    a share of the picture, the smallest a third of it; `frame` is the largest width of the frame, and half of the
    images get none; `rate` is the share of images that are changed.
    """

    settings = ("size", "frame", "rate")

    def __init__(self, size=0.35, frame=0.1, rate=0.9, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.size, self.frame, self.rate = size, frame, rate

    def change(self, images):
        y, x = to_edge(images)
        high, wide = (self.uniform(images, self.size / 3, self.size) for _ in range(2))
        corner = ops.logical_and(y < high, x < wide)
        frame = ops.minimum(y, x) < self.uniform(images, -self.frame, self.frame)
        chosen = self.uniform(images, 0.0, 1.0) < self.rate
        other = ops.roll(images, 1, axis=0)  # batches are shuffled, so the neighbour is any image
        return ops.where(ops.logical_and(ops.logical_or(corner, frame), chosen), other, images)


def resample(images, transform):
    """Read each picture at other places, in between pixels too (bilinear); beyond the edge is black.

    What ``keras.ops.image.affine_transform`` does, but in operations that XLA can compile: Keras compiles a training
    with XLA where there is a GPU, and TensorFlow's own operation has no kernel for it. `images` are float of shape
    (images, height, width, channels), all but the first known. `transform`, float32 of shape (images, 6), is a, b, x,
    c, d, y: the pixel in row i, column j is read at column a * j + b * i + x, row c * j + d * i + y.
    """
    height, width, channels = images.shape[1:]
    a, b, x, c, d, y = (ops.reshape(transform[:, i], (-1, 1, 1)) for i in range(6))
    i = ops.reshape(ops.arange(height, dtype="float32"), (1, -1, 1))
    j = ops.reshape(ops.arange(width, dtype="float32"), (1, 1, -1))
    # a frame of one black pixel, and places beyond it are on it
    pixels = ops.reshape(ops.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))), (-1, channels))
    column = ops.clip(a * j + b * i + x + 1, 0, width + 1)
    row = ops.clip(c * j + d * i + y + 1, 0, height + 1)
    left, top = ops.minimum(ops.floor(column), width), ops.minimum(ops.floor(row), height)
    across, down = (ops.expand_dims(ops.cast(part, images.dtype), -1) for part in (column - left, row - top))
    first = ops.reshape(ops.arange(ops.shape(images)[0], dtype="int32"), (-1, 1, 1)) * ((height + 2) * (width + 2))
    here = first + ops.cast(top, "int32") * (width + 2) + ops.cast(left, "int32")

    def between(start):  # two neighbours in a row
        one, next_one = ops.take(pixels, start, axis=0), ops.take(pixels, start + 1, axis=0)
        return one + across * (next_one - one)

    above, below = between(here), between(here + width + 2)
    return above + down * (below - above)


if tf and sys.platform == "linux":  # half the time of `affine_transform` there; elsewhere as it is, not measured
    resample = tf.function(resample, jit_compile=True)


@keras.saving.register_keras_serializable("cxr")
class RandomFraming(RandomChange):
    """Zoom in *and out*, each axis by its own factor, turn and shift, in one resampling; beyond the edge is black.

    Keras' RandomZoom, RandomRotation and RandomTranslation resample once each. Three in a row blur every training
    image, and the network then meets sharper ones in use than it has ever seen.

    Both axes are scaled by up to the factor `zoom`, up or down, evenly on a log scale, and differ by up to the factor
    `aspect`. `shift` is the largest shift, a share of the picture, and `turn` the largest turn in degrees. `rate` is
    the share of images that are changed; the others stay as sharp as they are.
    """

    settings = ("zoom", "aspect", "shift", "turn", "rate")

    def __init__(self, zoom=1.3, aspect=1.2, shift=0.08, turn=9.0, rate=0.8, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.zoom, self.aspect, self.shift, self.turn, self.rate = zoom, aspect, shift, turn, rate

    def change(self, images):
        height, width = images.shape[1:3]
        chosen = ops.cast(self.uniform(images, 0.0, 1.0) < self.rate, images.dtype)

        def draw(most):  # shape (images,); 0, which changes nothing, for those not chosen
            return ops.reshape(chosen * self.uniform(images, -most, most), (-1,))

        zoom, aspect, turn = draw(math.log(self.zoom)), draw(math.log(self.aspect) / 2), draw(math.radians(self.turn))
        x_scale, y_scale = ops.exp(zoom + aspect), ops.exp(zoom - aspect)
        # where each pixel of the result comes from: turned and scaled about the middle, then shifted
        a, b = ops.cos(turn) * x_scale, -ops.sin(turn) * y_scale
        c, d = ops.sin(turn) * x_scale, ops.cos(turn) * y_scale
        x, y = (width - 1) / 2, (height - 1) / 2
        across, down = (draw(self.shift) * length for length in (width, height))
        transform = [a, b, x - a * x - b * y + across, c, d, y - c * x - d * y + down]
        return resample(images, ops.cast(ops.stack(transform, axis=1), "float32"))


@keras.saving.register_keras_serializable("cxr")
class RandomSharpness(RandomChange):
    """Blur or sharpen by a random amount and add grain, as another scanner or another JPEG quality would.

    (``keras.layers.RandomSharpness`` sharpens only, and has no grain.) `blur` is the largest share of a 5x5 binomial
    low-pass (about 1 pixel) in the mixture; down to minus this, the low-pass is taken away instead, which sharpens.
    `noise` is the largest standard deviation of the Gaussian grain, gray levels out of 255.
    """

    settings = ("blur", "noise")

    def __init__(self, blur=1.0, noise=10.0, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.blur, self.noise = blur, noise

    def change(self, images):
        row = ops.convert_to_tensor([1.0, 4.0, 6.0, 4.0, 1.0], images.dtype) / 16
        low = ops.conv(images, ops.reshape(row, (5, 1, 1, 1)), padding="same")
        low = ops.conv(low, ops.reshape(row, (1, 5, 1, 1)), padding="same")
        images = images + self.uniform(images, -self.blur, self.blur) * (low - images)
        grain = keras.random.normal(ops.shape(images), dtype=images.dtype, seed=self.generator)
        return ops.clip(images + grain * self.uniform(images, 0.0, self.noise), 0, 255)


def box(masks) -> tuple:
    """First and last row, first and last column of each mask, float of shape (images,) each; as in `transplant`."""
    found = []
    for along in (2, 1):
        line = ops.any(masks[..., 0] > 0.5, axis=along)
        first = ops.argmax(ops.cast(line, "int32"), axis=1)
        last = line.shape[1] - 1 - ops.argmax(ops.cast(ops.flip(line, axis=1), "int32"), axis=1)
        found += [ops.cast(first, "float32"), ops.cast(last, "float32")]
    return tuple(found)


def _around(masks, reach: int, join):
    """Every pixel of a mask joined with all up to `reach` pixels to each side, up and down: a maximum, or a sum."""
    for axis in (1, 2):
        edge = [(0, 0)] * 4
        edge[axis] = (reach, reach)
        wide, length = ops.pad(masks, edge, mode="symmetric"), masks.shape[axis]
        parts = [wide[:, k : k + length] if axis == 1 else wide[:, :, k : k + length] for k in range(2 * reach + 1)]
        masks = functools.reduce(join, parts)
    return masks


def transplant(films, lungs, bodies, places):
    """The lungs of each film in the body of another: pictures, float of shape (images, size, size, 1).

    The box of the lungs is scaled and shifted onto the box of the lungs that it replaces. What lies under either of the
    two is exchanged, with a soft edge; in a ring around them, mean and spread of the gray levels are made equal first,
    so that no seam is left. Where the film that lends the lungs ends, the body stays as it is.

    `films` are 0 to 255, `lungs` their masks from 0 to 1; `bodies` and `places` the same of the films that lend the
    body. Where either mask is empty, the film stays as it is.
    """
    size = films.shape[1]
    top, bottom, left, right = box(lungs)
    new_top, new_bottom, new_left, new_right = box(places)
    across, down = (right - left + 1) / (new_right - new_left + 1), (bottom - top + 1) / (new_bottom - new_top + 1)
    nothing = ops.zeros_like(across)
    transform = [across, nothing, left - across * new_left, nothing, down, top - down * new_top]
    transform = ops.cast(ops.stack(transform, axis=1), "float32")
    moved = resample(ops.concatenate([films, lungs, ops.ones_like(films)], -1), transform)
    moved, moved_lungs, there = moved[..., :1], moved[..., 1:2], moved[..., 2:]
    width = size // 48  # half of the soft edge
    under = _around(ops.maximum(moved_lungs, places), width, ops.maximum)
    ring = (_around(under, 2 * width + 1, ops.maximum) - under) * there
    soft = _around(under, width, ops.add) / (2 * width + 1) ** 2
    soft = soft * ops.clip(2 * _around(there, width, ops.minimum) - 1, 0, 1)  # no film, nothing to exchange

    def tone(pictures):
        weight = ops.sum(ring, (1, 2, 3), keepdims=True) + 1
        mean = ops.sum(ring * pictures, (1, 2, 3), keepdims=True) / weight
        return mean, ops.sqrt(ops.sum(ring * ops.square(pictures - mean), (1, 2, 3), keepdims=True) / weight + 1)

    mean, spread = tone(moved)
    new_mean, new_spread = tone(bodies)
    gain = ops.clip(new_spread / spread, 2 / 3, 3 / 2)
    fitted = ops.clip((moved - mean) * gain + new_mean, 0, 255)
    both = ops.logical_and(
        ops.any(lungs > 0.5, (1, 2, 3), keepdims=True), ops.any(places > 0.5, (1, 2, 3), keepdims=True)
    )
    return ops.where(both, bodies + soft * (fitted - bodies), films)


if tf and sys.platform == "linux":  # a quarter of the time
    transplant = tf.function(transplant, jit_compile=True)


@keras.saving.register_keras_serializable("cxr")
class RandomTransplant(RandomChange):
    """Put the lungs of an X-ray into the body of another one of the batch, whatever its class (`transplant`).

    The label goes with the lungs, so nothing else in the picture tells it. Takes two channels, the film and the mask of
    its lungs (0 to 255), and returns the film alone. `rate` is the share of films that are changed.
    """

    settings = ("rate",)

    def __init__(self, rate=0.5, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.rate = rate

    def call(self, images, training=False):
        images = ops.cast(images, self.compute_dtype)
        return self.change(images) if training else images[..., :1]

    def change(self, images):
        films, lungs = images[..., :1], images[..., 1:] / 255
        chosen = self.uniform(films, 0.0, 1.0) < self.rate
        bodies, places = ops.roll(films, 1, axis=0), ops.roll(lungs, 1, axis=0)
        return ops.where(chosen, transplant(films, lungs, bodies, places), films)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], 1)


OWN = {kind.__name__: kind for kind in (RandomCornerSwap, RandomFraming, RandomSharpness, RandomTransplant)}


def layer(name: str, settings: dict, seed: int | None = None) -> keras.layers.Layer:
    """One augmentation layer by name, such as ``"RandomFlip"``: one of `OWN`, else one of ``keras.layers``.

    `settings` are the layer's arguments. Problem where there is no such layer, or it does not take these settings.
    """
    kind: Any = OWN.get(name) or getattr(keras.layers, name, None)
    try:
        return kind(**settings, seed=seed, dtype="float32")  # gray levels up to 255 are too coarse in float16
    except (TypeError, ValueError) as error:
        why = f"{name} with {settings} is no augmentation layer ({error})"
        raise Problem(f"{why}: correct it in the candidates of 03_augment.ipynb and run that again.") from None


def strongest(name: str, settings: dict, films: np.ndarray, versions: int = 16) -> np.ndarray:
    """The first film of a batch under a `layer` at its strongest: of so many versions the one that differs most.

    `films` are float of shape (images, size, size, 2), 0 to 255: each film and the mask of its lungs, which only
    RandomTransplant takes. Returns the changed film, of shape (size, size).
    """
    change, given = layer(name, settings, seed=0), films if name == "RandomTransplant" else films[..., :1]
    made = [ops.convert_to_numpy(change(given, training=True))[0, ..., 0] for _ in range(versions)]
    return max(made, key=lambda one: np.abs(one - films[0, ..., 0]).mean())


def takes_lungs(recipe: list[dict]) -> bool:
    """Whether a recipe transplants lungs, and so needs their masks beside the films in training."""
    return any(row["layer"] == "RandomTransplant" and row["kept"] for row in recipe)


def build(recipe: list[dict], seed: int = 0) -> keras.Sequential:
    """The kept layers of a recipe (the ``layers`` of ``03_augmentation.json``), in order, as one model.

    Each row has ``layer``, ``settings`` and ``kept``. Kept layer number i draws from the seed 1000 * `seed` + i.
    Problem as in `layer`.
    """
    kept = [row for row in recipe if row["kept"]]
    if any(row["layer"] == "RandomTransplant" for row in kept[1:]):
        why = "RandomTransplant is not the first layer that is kept, and takes the lungs as a second channel"
        raise Problem(f"{why}: put it first in the candidates of 03_augment.ipynb and run that again.")
    chosen = [layer(row["layer"], row["settings"], 1000 * seed + i) for i, row in enumerate(kept)]
    return keras.Sequential(chosen or [keras.layers.Identity()], name="augmentation")
