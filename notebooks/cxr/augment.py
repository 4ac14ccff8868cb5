"""Augmentation from a recipe, and the four layers that Keras lacks.

Layers take and return float batches, (images, height, width, 1), 0 to 255, and change nothing outside training.
"""

import functools
import math
import sys

from .backend import keras, tf
from .paths import Problem

ops = keras.ops


class RandomChange(keras.layers.Layer):
    """Base of the layers below: subclasses write ``change(images)`` and list their arguments in `settings`.

    The random state is a Keras variable, so a checkpoint holds it and a resumed training draws the same numbers.
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


def edge_distance(images) -> tuple:
    """Distance of each row and each column from the nearest edge: 0 there to 0.5 in the middle."""

    def distance(length):
        return 0.5 - ops.abs((ops.arange(length, dtype=images.dtype) + 0.5) / length - 0.5)

    height, width = images.shape[1:3]
    return ops.reshape(distance(height), (1, -1, 1, 1)), ops.reshape(distance(width), (1, 1, -1, 1))


@keras.saving.register_keras_serializable("cxr")
class RandomCornerSwap(RandomChange):
    """Take the corners, and for half of the images a frame along the edge, from another X-ray of the batch.

    `size` is the largest side of a corner, `frame` the largest width of the frame, `rate` the share of images changed.
    """

    settings = ("size", "frame", "rate")

    def __init__(self, size=0.35, frame=0.1, rate=0.9, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.size, self.frame, self.rate = size, frame, rate

    def change(self, images):
        y, x = edge_distance(images)
        high, wide = (self.uniform(images, self.size / 3, self.size) for _ in range(2))
        corner = ops.logical_and(y < high, x < wide)
        frame = ops.minimum(y, x) < self.uniform(images, -self.frame, self.frame)
        chosen = self.uniform(images, 0.0, 1.0) < self.rate
        other = ops.roll(images, 1, axis=0)  # batches are shuffled, so the neighbour is any image
        return ops.where(ops.logical_and(ops.logical_or(corner, frame), chosen), other, images)


def resample(images, transform):
    """Affine resampling, bilinear, black beyond the edge: ``keras.ops.image.affine_transform``, but compiled by XLA.

    `transform`, float32 of shape (images, 6), is a, b, x, c, d, y: the pixel in row i, column j is read at column
    a * j + b * i + x, row c * j + d * i + y.
    """
    height, width, channels = images.shape[1:]
    a, b, x, c, d, y = (ops.reshape(transform[:, i], (-1, 1, 1)) for i in range(6))
    i = ops.reshape(ops.arange(height, dtype="float32"), (1, -1, 1))
    j = ops.reshape(ops.arange(width, dtype="float32"), (1, 1, -1))
    # a border of one black pixel; what lies beyond it is read from it
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


if tf and sys.platform == "linux":  # half the time of `affine_transform`; other systems were not measured
    resample = tf.function(resample, jit_compile=True)


@keras.saving.register_keras_serializable("cxr")
class RandomFraming(RandomChange):
    """Zoom, stretch, turn (degrees) and shift (share of the picture) in one resampling, black beyond the edge.

    Keras' RandomZoom, RandomRotation and RandomTranslation resample once each, and so blur every image three times.
    """

    settings = ("zoom", "aspect", "shift", "turn", "rate")

    def __init__(self, zoom=1.3, aspect=1.2, shift=0.08, turn=9.0, rate=0.8, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.zoom, self.aspect, self.shift, self.turn, self.rate = zoom, aspect, shift, turn, rate

    def change(self, images):
        height, width = images.shape[1:3]
        chosen = ops.cast(self.uniform(images, 0.0, 1.0) < self.rate, images.dtype)

        def draw(most):  # shape (images,); 0 for images that are not chosen
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
    """Mix with a 5x5 binomial low-pass by up to `blur` (a negative share sharpens), add grain up to `noise` levels."""

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


def bounding_box(masks) -> tuple:
    """First and last row, first and last column of each mask: four float tensors of shape (images,)."""
    found = []
    for along in (2, 1):
        line = ops.any(masks[..., 0] > 0.5, axis=along)
        first = ops.argmax(ops.cast(line, "int32"), axis=1)
        last = line.shape[1] - 1 - ops.argmax(ops.cast(ops.flip(line, axis=1), "int32"), axis=1)
        found += [ops.cast(first, "float32"), ops.cast(last, "float32")]
    return tuple(found)


def _window(masks, reach: int, combine):
    """Combine each pixel with all within `reach` to each side, up and down."""
    for axis in (1, 2):
        edge = [(0, 0)] * 4
        edge[axis] = (reach, reach)
        padded, length = ops.pad(masks, edge, mode="symmetric"), masks.shape[axis]
        parts = [padded[:, k : k + length] if axis == 1 else padded[:, :, k : k + length] for k in range(2 * reach + 1)]
        masks = functools.reduce(combine, parts)
    return masks


def transplant(films, masks, bodies, body_masks):
    """The lungs of each film in the body of another: float, (images, size, size, 1), like each argument; masks 0 to 1.

    The lungs' box is resampled onto that of the others, gray levels are matched in a ring around it, the edge is soft.
    """
    size = films.shape[1]
    top, bottom, left, right = bounding_box(masks)
    new_top, new_bottom, new_left, new_right = bounding_box(body_masks)
    across, down = (right - left + 1) / (new_right - new_left + 1), (bottom - top + 1) / (new_bottom - new_top + 1)
    nothing = ops.zeros_like(across)
    transform = [across, nothing, left - across * new_left, nothing, down, top - down * new_top]
    transform = ops.cast(ops.stack(transform, axis=1), "float32")
    moved = resample(ops.concatenate([films, masks, ops.ones_like(films)], -1), transform)
    moved, moved_masks, inside = moved[..., :1], moved[..., 1:2], moved[..., 2:]
    width = size // 48  # half of the soft edge
    under = _window(ops.maximum(moved_masks, body_masks), width, ops.maximum)
    ring = (_window(under, 2 * width + 1, ops.maximum) - under) * inside
    soft = _window(under, width, ops.add) / (2 * width + 1) ** 2
    soft = soft * ops.clip(2 * _window(inside, width, ops.minimum) - 1, 0, 1)  # no film there, nothing to exchange

    def mean_and_spread(pictures):
        weight = ops.sum(ring, (1, 2, 3), keepdims=True) + 1
        mean = ops.sum(ring * pictures, (1, 2, 3), keepdims=True) / weight
        return mean, ops.sqrt(ops.sum(ring * ops.square(pictures - mean), (1, 2, 3), keepdims=True) / weight + 1)

    mean, spread = mean_and_spread(moved)
    new_mean, new_spread = mean_and_spread(bodies)
    gain = ops.clip(new_spread / spread, 2 / 3, 3 / 2)
    matched = ops.clip((moved - mean) * gain + new_mean, 0, 255)
    has_lungs, body_has_lungs = (ops.any(one > 0.5, (1, 2, 3), keepdims=True) for one in (masks, body_masks))
    return ops.where(ops.logical_and(has_lungs, body_has_lungs), bodies + soft * (matched - bodies), films)


if tf and sys.platform == "linux":  # a quarter of the time
    transplant = tf.function(transplant, jit_compile=True)


@keras.saving.register_keras_serializable("cxr")
class RandomTransplant(RandomChange):
    """`transplant` lungs into the body of the film before; film and mask (0 to 255) are channels; returns films."""

    settings = ("rate",)

    def __init__(self, rate=0.5, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.rate = rate

    def call(self, images, training=False):
        images = ops.cast(images, self.compute_dtype)
        return self.change(images) if training else images[..., :1]

    def change(self, images):
        films, masks = images[..., :1], images[..., 1:] / 255
        chosen = self.uniform(films, 0.0, 1.0) < self.rate
        moved = transplant(films, masks, ops.roll(films, 1, axis=0), ops.roll(masks, 1, axis=0))
        return ops.where(chosen, moved, films)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], 1)


CUSTOM_LAYERS = {kind.__name__: kind for kind in (RandomCornerSwap, RandomFraming, RandomSharpness, RandomTransplant)}
REMEDY = "correct it in the candidates of 03_augment.ipynb and run that again"


def make_layer(name: str, settings: dict, seed: int | None = None) -> keras.layers.Layer:
    """An augmentation layer by name, of `CUSTOM_LAYERS` or ``keras.layers``, such as ``"RandomFlip"``."""
    kind = CUSTOM_LAYERS.get(name) or getattr(keras.layers, name, None)
    try:
        return kind(**settings, seed=seed, dtype="float32")  # gray levels up to 255 are too coarse in float16
    except (TypeError, ValueError) as error:
        raise Problem(f"{name} with {settings} is no augmentation layer ({error}): {REMEDY}.") from None


def needs_masks(recipe: list[dict]) -> bool:
    """Whether a recipe transplants lungs, and so needs their masks."""
    return any(row["layer"] == "RandomTransplant" and row["kept"] for row in recipe)


def build(recipe: list[dict], seed: int = 0) -> keras.Sequential:
    """The kept layers of a recipe (``layers`` of ``03_augmentation.json``); layer i draws from 1000 * `seed` + i."""
    kept = [row for row in recipe if row["kept"]]
    if needs_masks(kept[1:]):
        raise Problem(f"RandomTransplant takes the film and its lungs, but is not the first layer kept: {REMEDY}.")
    chosen = [make_layer(row["layer"], row["settings"], 1000 * seed + i) for i, row in enumerate(kept)]
    return keras.Sequential(chosen or [keras.layers.Identity()], name="augmentation")
