"""Out-of-distribution detection: is this a picture that the network can be asked about? A yes or no before any answer.

A small picture of the film (32 by 32 or a little more, brought to mean 0 and spread 1) is held against those of the
training films: how far it lies from their middle along the directions in which they vary (Mahalanobis' distance), and
how much of it these directions leave out. Principal components for what is usual, the rest for what is not: Jackson &
Mudholkar 1979, Technometrics 21:341-349.
"""

from pathlib import Path

import numpy as np

from .project.backend import keras
from .training import save_checked

layers = keras.layers
SIDE = 32
MARGIN = 0.3  # of the log-distance, by which another way to hold the picture must fit better
MENDED = {
    "is inverted: bone must be white": lambda p: 255 - p,
    "is turned clockwise": lambda p: np.rot90(p, 1, (1, 2)),
    "is turned counterclockwise": lambda p: np.rot90(p, 3, (1, 2)),
    "is upside down": lambda p: np.rot90(p, 2, (1, 2)),
}  # what is wrong with a picture, and what undoes it
STRANGE = "is not like the frontal chest X-rays that the network was trained on"


class OODDetector:
    """Tells pictures that are like the training films from those that are not (out of distribution).

    `components` directions count as usual, fewer where there are fewer films. Fitted, it has ``network_`` (a
    keras.Model from (images, size, size, 1) to (images, 2): the squared distances, each 1 on average for training
    films) and ``limits_`` (shape (2,): log-distances that are not to be passed).
    """

    def __init__(self, components: int = 40):
        self.components = components

    def fit(self, train_pictures: np.ndarray, validation_pictures: np.ndarray, quantile=0.998) -> "OODDetector":
        """Fit the distances on films of the training split; the limits are a `quantile` of those of validation films.

        Both are uint8, shape (images, size, size), with a size of at least 32.
        """
        size = train_pictures.shape[1]
        entry = layers.Input((size, size, 1), name="xray")
        x = layers.AveragePooling2D(size // SIDE)(entry)
        x = layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False)(x)
        small = layers.Flatten()(x)
        known = keras.Model(entry, small).predict(train_pictures[..., None], batch_size=256, verbose=0).astype(float)
        middle, count = known.mean(axis=0), min(self.components, len(known) // 4)
        _, spread, directions = np.linalg.svd(known - middle, full_matrices=False)
        variance, principal = spread**2 / len(known), directions[:count].T
        whiten = principal / np.sqrt(variance[:count] * count)
        usual = layers.Dense(count, name="usual")
        code, back = layers.Dense(count, name="code"), layers.Dense(len(middle), name="back")
        left_out = layers.Subtract()([small, back(code(small))])
        left_out = layers.Rescaling(1 / np.sqrt(max(variance[count:].sum(), 1e-6)))(left_out)
        squared = [layers.Dot(1)([part, part]) for part in (usual(small), left_out)]
        self.network_ = keras.Model(entry, layers.Concatenate()(squared), name="gate")
        usual.set_weights([whiten, -middle @ whiten])
        code.set_weights([principal, -middle @ principal])
        back.set_weights([principal.T, middle])
        self.limits_ = np.quantile(self.score(validation_pictures), quantile, axis=0)
        return self

    def score(self, pictures: np.ndarray) -> np.ndarray:
        """The two log-distances of each picture (uint8, shape (images, size, size)): shape (images, 2)."""
        squared = self.network_.predict(pictures[..., None], batch_size=256, verbose=0)
        return np.log(squared.astype(float) + 1e-9)

    def predict(self, pictures: np.ndarray) -> list[str]:
        """Why each picture (uint8, shape (images, size, size)) can't be judged; empty where it is in distribution.

        A key of `MENDED`, if the picture passes when that is undone and fits better by `MARGIN`; else `STRANGE`.
        """
        held = [pictures, *(mend(pictures) for mend in MENDED.values())]
        as_is, *mended = ((self.score(one) - self.limits_).max(axis=1) for one in held)
        best, names = np.min(mended, axis=0), np.array([*MENDED])[np.argmin(mended, axis=0)]
        wrong_way = (best < 0) & (best < as_is - MARGIN)
        return np.where(wrong_way, names, np.where(as_is > 0, STRANGE, "")).tolist()

    def save(self, path: Path) -> None:
        """Write the network as a .keras file, read back and compared; `limits_` has to be kept beside it."""
        noise = np.random.default_rng(0).integers(0, 256, (8, *self.network_.input_shape[1:]), np.uint8)
        save_checked(self.network_, noise)(path)

    @classmethod
    def load(cls, path: Path, limits) -> "OODDetector":
        """From the file that `save` wrote, and the two limits that belong to it."""
        detector = cls()
        detector.network_, detector.limits_ = keras.models.load_model(path, compile=False), np.asarray(limits, float)
        return detector
