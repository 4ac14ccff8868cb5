"""Augmentation from a recipe, and the three changes that Keras has no layer for.

Pure Keras 3 (``keras.ops``), so it runs on any backend. The layers take and return batches of shape
``(images, height, width, 1)`` with values from 0 to 255, and do nothing outside training.
"""

import math

from .backend import keras
from .project import Problem

ops = keras.ops


class RandomChange(keras.layers.Layer):
    """A change drawn anew for every image of a batch, in training only.

    Its random state is a Keras variable, so it can be saved with a checkpoint and goes on from there.
    """

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
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("cxr")
class RandomCornerSwap(RandomChange):
    """Take the corners, or a frame along the edge, from another X-ray of the batch, whatever its class.

    Markers, print, collimator edges and wires then say nothing about the label.

    Parameters
    ----------
    size : float
        Largest side of a corner, as a share of the picture; the smallest is a third of it.
    frame : float
        Largest width of the frame, as a share of the picture; half of the images get none.
    rate : float
        Share of images that are changed.
    seed : int, optional
    """

    def __init__(self, size=0.35, frame=0.1, rate=0.9, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.size, self.frame, self.rate = size, frame, rate

    def change(self, images):
        def to_edge(length):  # of each pixel, 0 at the edge to 0.5 in the middle
            return 0.5 - ops.abs((ops.arange(length, dtype=images.dtype) + 0.5) / length - 0.5)

        y = ops.reshape(to_edge(images.shape[1]), (1, -1, 1, 1))
        x = ops.reshape(to_edge(images.shape[2]), (1, 1, -1, 1))
        high, wide = (self.uniform(images, self.size / 3, self.size) for _ in range(2))
        corner = ops.logical_and(y < high, x < wide)
        frame = ops.minimum(y, x) < self.uniform(images, -self.frame, self.frame)
        chosen = self.uniform(images, 0.0, 1.0) < self.rate
        other = ops.roll(images, 1, axis=0)  # batches are shuffled, so the neighbour is any image
        return ops.where(ops.logical_and(ops.logical_or(corner, frame), chosen), other, images)

    def get_config(self):
        return {**super().get_config(), "size": self.size, "frame": self.frame, "rate": self.rate}


@keras.saving.register_keras_serializable("cxr")
class RandomFraming(RandomChange):
    """Zoom in *and out*, each axis by its own factor, turn and shift, in one resampling; beyond the edge is black.

    Keras' RandomZoom, RandomRotation and RandomTranslation resample once each. Three in a row blur every training
    image, and the network then meets sharper ones in use than it has ever seen.

    Parameters
    ----------
    zoom : float
        Both axes are scaled by up to this factor, up or down, evenly on a log scale.
    aspect : float
        The two axes differ by up to this factor.
    shift : float
        Largest shift, as a share of the picture.
    turn : float
        Largest turn, degrees.
    rate : float
        Share of images that are changed; the others stay as sharp as they are.
    seed : int, optional
    """

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
        x, y, zero = (width - 1) / 2, (height - 1) / 2, ops.zeros_like(a)
        transform = ops.stack([a, b, x - a * x - b * y + draw(self.shift) * width,
                               c, d, y - c * x - d * y + draw(self.shift) * height, zero, zero], axis=1)
        return ops.image.affine_transform(images, transform, fill_mode="constant")

    def get_config(self):
        return {**super().get_config(), "zoom": self.zoom, "aspect": self.aspect, "shift": self.shift,
                "turn": self.turn, "rate": self.rate}


@keras.saving.register_keras_serializable("cxr")
class RandomSharpness(RandomChange):
    """Blur or sharpen by a random amount and add grain, as another scanner or another JPEG quality would.

    (``keras.layers.RandomSharpness`` sharpens only, and has no grain.)

    Parameters
    ----------
    blur : float
        Largest share of a 5x5 binomial low-pass (about 1 pixel) in the mixture. Down to minus this, the low-pass is
        taken away instead, which sharpens.
    noise : float
        Largest standard deviation of the Gaussian grain, gray levels out of 255.
    seed : int, optional
    """

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

    def get_config(self):
        return {**super().get_config(), "blur": self.blur, "noise": self.noise}


def layer(name: str, settings: dict, seed: int | None = None) -> keras.layers.Layer:
    """One augmentation layer by name: one of this module, else one of ``keras.layers``.

    Parameters
    ----------
    name : str
        Such as ``"RandomCornerSwap"`` or ``"RandomFlip"``.
    settings : dict
        The layer's arguments.
    seed : int, optional

    Raises
    ------
    Problem
        There is no such layer, or it does not take these settings.
    """
    own = {"RandomCornerSwap": RandomCornerSwap, "RandomFraming": RandomFraming, "RandomSharpness": RandomSharpness}
    kind = own.get(name) or getattr(keras.layers, name, None)
    try:
        return kind(**settings, seed=seed, dtype="float32")  # gray levels up to 255 are too coarse in float16
    except (TypeError, ValueError) as error:
        raise Problem(f"{name} with {settings} is no augmentation layer ({error}): correct it in the candidates of "
                      "03_augment.ipynb and run that again.") from None


def build(recipe: list[dict], seed: int = 0) -> keras.Sequential:
    """The kept layers of a recipe, in order, as one model.

    Parameters
    ----------
    recipe : list of dict with ``layer``, ``settings`` and ``kept``
        The ``layers`` of ``03_augmentation.json``.
    seed : int
        Layer number i draws from the seed 1000 * `seed` + i.

    Raises
    ------
    Problem
        A layer of the recipe does not exist, or does not take its settings.
    """
    kept = [row for row in recipe if row["kept"]]
    chosen = [layer(row["layer"], row["settings"], 1000 * seed + i) for i, row in enumerate(kept)]
    return keras.Sequential(chosen or [keras.layers.Identity()], name="augmentation")
