"""Is this a picture that the network can be asked about? A yes or no before any answer, fitted on films that are.

A small picture of the film (32 by 32 or a little more, brought to mean 0 and spread 1) is held against those of the
training films: how far it lies from their middle along the directions in which they vary (Mahalanobis' distance), and
how much of it these directions leave out. Principal components for what is usual, the rest for what is not: Jackson &
Mudholkar 1979, Technometrics 21:341-349.
"""

import numpy as np

from .backend import keras

layers = keras.layers
SIDE = 32
COMPONENTS = 40
MARGIN = 0.3  # of the log-distance, by which another way to hold the picture must fit better
WAYS = {"is inverted: bone must be white": lambda p: 255 - p,
        "is turned clockwise": lambda p: np.rot90(p, 1, (1, 2)),
        "is turned counterclockwise": lambda p: np.rot90(p, 3, (1, 2)),
        "is upside down": lambda p: np.rot90(p, 2, (1, 2))}
STRANGE = "is not like the frontal chest X-rays that the network was trained on"


def fit(pictures: np.ndarray, components: int = COMPONENTS) -> keras.Model:
    """Fit the two distances on films of the training split.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (images, size, size)
        `size` is at least 32.
    components : int
        Directions that count as usual; fewer where there are fewer films.

    Returns
    -------
    keras.Model
        From (images, size, size, 1) to (images, 2): the two squared distances, each 1 on average for training films.
    """
    size = pictures.shape[1]
    entry = layers.Input((size, size, 1), name="xray")
    x = layers.AveragePooling2D(size // SIDE)(entry)
    x = layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False)(x)
    small = keras.Model(entry, layers.Flatten()(x))
    found = small.predict(pictures[..., None], batch_size=256, verbose=0).astype(float)
    middle = found.mean(axis=0)
    _, spread, directions = np.linalg.svd(found - middle, full_matrices=False)
    count = min(components, len(pictures) // 4)
    variance = spread ** 2 / len(found)
    way = directions[:count].T
    whiten = way / np.sqrt(variance[:count] * count)

    usual = layers.Dense(count, name="usual")
    code, back = layers.Dense(count, name="code"), layers.Dense(len(middle), name="back")
    left_out = layers.Subtract()([small.output, back(code(small.output))])
    left_out = layers.Rescaling(1 / np.sqrt(max(variance[count:].sum(), 1e-6)))(left_out)
    gate = keras.Model(entry, layers.Concatenate()([layers.Dot(1)([one, one])
                                                    for one in (usual(small.output), left_out)]), name="gate")
    usual.set_weights([whiten, -middle @ whiten])
    code.set_weights([way, -middle @ way])
    back.set_weights([way.T, middle])
    return gate


def distances(gate: keras.Model, pictures: np.ndarray) -> np.ndarray:
    """The two log-distances of each picture, shape (images, 2).

    Parameters
    ----------
    gate : keras.Model
        From `fit`.
    pictures : ndarray of uint8, shape (images, size, size)
    """
    return np.log(gate.predict(pictures[..., None], batch_size=256, verbose=0).astype(float) + 1e-9)


def reasons(gate: keras.Model, pictures: np.ndarray, limits) -> list[str]:
    """Why each picture can't be judged; empty where it can.

    Parameters
    ----------
    gate : keras.Model
        From `fit`.
    pictures : ndarray of uint8, shape (images, size, size)
    limits : array of float, shape (2,)
        Log-distances that are not to be passed; a quantile of those of validation.

    Returns
    -------
    list of str
        ``"is upside down"``, ``"is inverted: ..."``, or that it is like no film of the training split.
    """
    own = (distances(gate, pictures) - limits).max(axis=1)
    other = np.stack([(distances(gate, way(pictures)) - limits).max(axis=1) for way in WAYS.values()])
    best, names = other.argmin(axis=0), list(WAYS)
    fits = (other.min(axis=0) < 0) & (other.min(axis=0) < own - MARGIN)
    return [names[way] if turned else STRANGE if far > 0 else "" for way, turned, far in zip(best, fits, own)]
