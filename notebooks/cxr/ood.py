"""Out-of-distribution detection: is this a picture that the network can be asked about? A yes or no before any answer.

A film is described by what the middle layers of a network for photographs (MobileNetV2, ImageNet) say of it, averaged
over the picture, after a low-pass: what is left is anatomy and framing, and little of the scanner and the encoder. The
description is held against those of the training films: how far it lies from their middle along the directions in which
they vary (Mahalanobis' distance; Lee et al. 2018, arXiv:1807.03888), and how much of it these directions leave out
(Jackson & Mudholkar 1979, Technometrics 21:341-349). A line learned from films of adults says how much of an adult it
looks, another one, learned from parts of the training films, whether some of the chest is missing, and the network for
lungs whether there are two of them.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from . import backbones, lungs
from .backend import keras
from .paths import ROOT, Problem, results_dir
from .training import save_checked

layers = keras.layers
FILE = "09_gate.keras"
TRUNK, READ = "MobileNetV2", ("block_10_expand_relu", "block_13_expand_relu")  # the network, and its layers
BLUR = 1.0  # pixels: standard deviation of the low-pass
MENDED = {
    "is inverted: bone must be white": lambda p: 255 - p,
    "is turned clockwise": lambda p: np.rot90(p, 1, (1, 2)),
    "is turned counterclockwise": lambda p: np.rot90(p, 3, (1, 2)),
    "is upside down": lambda p: np.rot90(p, 2, (1, 2)),
}  # what is wrong with a picture, and what undoes it
# A distance so many times as far from the middle as its limit: adults' films stay below, other pictures don't.
FAR = 3.0
NO_CHEST = "is unlike a chest X-ray, or photographed from a screen"
NO_LUNGS, ONE_LUNG = "shows no lungs that can be found", "shows one lung only"
PART = "shows a part of the chest only: take the whole film"
ADULT = "looks like an adult's chest: the network knows children only"
STRANGE = "is not like the frontal chest X-rays that the network was trained on"


def _own() -> keras.Model | None:
    """The gate that is among the results, or else that of the project; None where there is none of this kind."""
    for path in filter(Path.is_file, (results_dir() / FILE, ROOT / "results" / FILE)):
        gate = keras.models.load_model(path, compile=False)
        if {"trunk", "adult"} <= {layer.name for layer in gate.layers}:
            return gate
    return None


def trunk(size: int) -> keras.Model:
    """What describes a picture: a model from (pictures, size, size, 3), from -1 to 1, to one number a channel.

    The weights are those of ImageNet, rounded to half precision: as the project's own ``09_gate.keras`` holds them, so
    that nothing has to be downloaded; else as `backbones.pretrained` finds them. A Problem where neither is there.
    """
    own, base = _own(), backbones.raw(TRUNK, size)
    found = [layers.GlobalAveragePooling2D()(base.get_layer(name).output) for name in READ]
    model = keras.Model(base.input, layers.Concatenate()(found), name="trunk")
    if own:
        weights = own.get_layer("trunk").get_weights()
    else:
        known, said = backbones.pretrained(TRUNK, size)
        if known is None:
            remedy = f"take results/{FILE} from the project again, or set KERAS_WEIGHTS_DIR"
            raise Problem(f"The gate needs {TRUNK} with weights of ImageNet, which {said}: {remedy}.")
        backbones.take_weights(base, known)
        weights = model.get_weights()
    model.set_weights([value.astype("float16").astype("float32") for value in weights])
    return model


def cropped(pictures: np.ndarray, most: float, seed: int = 0) -> np.ndarray:
    """Each side cut by up to `most` of the picture's length, at random, and the rest filling the square again."""
    rng, size = np.random.default_rng(seed), pictures.shape[1]
    cuts = rng.uniform(0, most, (len(pictures), 4)) * [1, 1, -1, -1] * size + [0, 0, size, size]
    parts = [Image.fromarray(p).crop(tuple(cut)) for p, cut in zip(pictures, cuts.round().astype(int).tolist())]
    whole = [np.asarray(part.resize((size, size), Image.Resampling.BICUBIC)) for part in parts]
    return np.stack(whole) if whole else pictures


def parted(pictures: np.ndarray, seed: int = 0) -> np.ndarray:
    """Of each picture, 40 to 65% of the height or of the width, filling the square again: what is left when a film is
    cut from below, from above, from the left, from the right, or from both above and below.
    """
    rng, size, left = np.random.default_rng(seed), pictures.shape[1], []
    for picture in pictures:
        keep = round(rng.uniform(0.4, 0.65) * size)
        away = size - keep
        boxes = [(0, 0, size, keep), (0, away, size, size), (0, 0, keep, size), (away, 0, size, size)]
        boxes.append((0, away // 2, size, away // 2 + keep))
        part = Image.fromarray(picture).crop(boxes[rng.integers(5)])
        left.append(np.asarray(part.resize((size, size), Image.Resampling.BICUBIC)))
    return np.stack(left) if left else pictures


def anatomy(masks: np.ndarray) -> np.ndarray:
    """What the masks of lungs say of a picture, (pictures, 3): area of both lungs (share of the picture), area of the
    smaller over that of the larger, and how far their middles lie apart from side to side (share of the side); 0 where
    there is no such lung.

    `masks` are uint8 of shape (pictures, size, size), as of `lungs.find`.
    """
    rows = []
    for mask in masks > 127:
        spots, count = ndimage.label(mask)
        if count < 2:
            rows.append((mask.mean(), 0.0, 0.0))
            continue
        area = ndimage.sum_labels(mask, spots, np.arange(1, count + 1))
        first, second = np.argsort(area)[::-1][:2]
        (_, one), (_, other) = ndimage.center_of_mass(mask, spots, [first + 1, second + 1])
        both = area[first] + area[second]
        rows.append((both / mask.size, area[second] / area[first], abs(one - other) / len(mask)))
    return np.array(rows, float).reshape(-1, 3)


def _line(known: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, float]:
    """Slope and shift of the log-odds that a row is of the `others` (logistic regression), both (rows, length)."""
    both, label = np.concatenate([known, others]), np.repeat([0, 1], [len(known), len(others)])
    model = LogisticRegression(C=0.001, class_weight="balanced", max_iter=500).fit(both, label)
    return model.coef_[0], float(model.intercept_[0])


class OODDetector:
    """Tells pictures that are like the training films from those that are not (out of distribution).

    `lung_network` is that of 03 (`lungs.find`); without it, lungs are not looked for. `components` directions count as
    usual, fewer where there are fewer films.

    Fitted, it has ``network_`` (a keras.Model from (images, size, size, 1) to (images, 4): squared distance along the
    usual directions, squared distance left out, each 1 on average for training films, log-odds of an adult, and of a
    part of a film), ``limits_`` and ``middle_`` (shape (4,): scores that are not to be passed, and the median of
    validation films),
    ``least_`` (shape (3,): what `anatomy` must reach), ``reference_`` (how odd validation films are, 201 quantiles),
    and where adults were given ``adult_scores_`` (versions, films): the third score of each, by a line that was learned
    without any film of that patient.
    """

    def __init__(self, lung_network: keras.Model | None = None, components: int = 150):
        self.lung_network, self.components = lung_network, components

    def fit(
        self,
        train_pictures: np.ndarray,
        validation_pictures: np.ndarray,
        adults: np.ndarray | None = None,
        patients: np.ndarray | None = None,
        quantile: float = 0.995,
    ) -> "OODDetector":
        """Fit the distances on films of the training split; each limit is a `quantile` of that of validation films.

        Parameters
        ----------
        train_pictures, validation_pictures : ndarray of uint8, shape (films, size, size)
        adults : ndarray of uint8, shape (versions, films, size, size), optional
            Films of adults, each in several versions. Without any, the line that tells adults stays that of the
            project's own gate, and none is told where there is no such gate.
        patients : ndarray, shape (films,)
            Whose the films of `adults` are.
        """
        size = train_pictures.shape[1]
        entry = layers.Input((size, size, 1), name="xray")
        kernel = np.exp(-(np.arange(-3, 4) ** 2) / (2 * BLUR**2))
        kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
        smooth = layers.DepthwiseConv2D(7, padding="same", use_bias=False, trainable=False, name="low_pass")
        x = layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False)(smooth(entry))
        smooth.set_weights([kernel.astype("float32")[..., None, None]])
        x = layers.Concatenate()([layers.Rescaling(0.5)(x)] * 3)
        found = trunk(size)(x)
        describe = keras.Model(entry, found)

        def described(pictures):
            return describe.predict(pictures[..., None], batch_size=128, verbose=0).astype(float)

        known = np.concatenate([described(train_pictures), described(cropped(train_pictures, 0.07))])
        mean, scale = known.mean(axis=0), known.std(axis=0) + 1e-3
        _, spread, directions = np.linalg.svd((known - mean) / scale, full_matrices=False)
        count = min(self.components, len(train_pictures) // 4)
        variance, principal = spread**2 / len(known), directions[:count].T
        rest = max(variance[count:].sum(), 1e-6)
        whiten = principal / np.sqrt(variance[:count])

        def code_of(pictures):
            return (described(pictures) - mean) / scale @ whiten

        def in_features(slope, shift):  # the line, of what `describe` returns
            kernel = (whiten @ slope) / scale
            return kernel, shift - mean @ kernel

        whole = (known - mean) / scale @ whiten
        lines = {"part": in_features(*_line(whole, code_of(parted(train_pictures))))}
        if adults is None:
            lines["adult"] = self._of_project(found.shape[-1])
        else:
            lines["adult"] = in_features(*self._learn(whole, np.stack([*map(code_of, adults)]), np.asarray(patients)))
        # |z|^2 less |code|^2 is what the directions leave out
        z = layers.Normalization(mean=mean, variance=scale**2)(found)
        code = layers.Dense(count, use_bias=False, name="code")
        usual = layers.Rescaling(1 / np.sqrt(variance[:count] * count))(code(z))
        inside = layers.Dot(1)([usual, usual])
        left_out = layers.Subtract()([layers.Dot(1)([z, z]), layers.Dot(1)([code(z), code(z)])])
        told = {name: layers.Dense(1, name=name) for name in ("adult", "part")}
        outputs = [inside, layers.Rescaling(1 / rest)(left_out), *(line(found) for line in told.values())]
        self.network_ = keras.Model(entry, layers.Concatenate()(outputs), name="gate")
        code.set_weights([principal])
        for name, (kernel, bias) in lines.items():
            told[name].set_weights([kernel[:, None], np.atleast_1d(bias)])
        self._films, scores = validation_pictures[:64], self.score(validation_pictures)
        self.limits_, self.middle_ = np.quantile(scores, quantile, axis=0), np.median(scores, axis=0)
        self.least_ = 0.7 * np.quantile(self._anatomy(validation_pictures), 1 - quantile, axis=0)
        self.reference_ = np.quantile(self._oddness(scores).max(axis=1), np.linspace(0, 1, 201))
        return self

    def _of_project(self, length: int) -> tuple[np.ndarray, float]:
        """The line of the project's own gate; one that tells nothing where there is none."""
        if own := _own():
            kernel, bias = own.get_layer("adult").get_weights()
            return kernel[:, 0].astype(float), float(bias[0])
        return np.zeros(length), 0.0

    def _learn(self, known: np.ndarray, adults: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, float]:
        """A line between children and adults (logistic regression), and the scores by lines without that patient."""

        def fitted(films):
            return _line(known, adults[:, films].reshape(-1, adults.shape[-1]))

        self.adult_scores_ = np.zeros(adults.shape[:2])
        for others, own in GroupKFold(min(5, len(set(patients)))).split(patients, groups=patients):
            kernel, bias = fitted(others)
            self.adult_scores_[:, own] = adults[:, own] @ kernel + bias
        return fitted(np.arange(len(patients)))

    def score(self, pictures: np.ndarray) -> np.ndarray:
        """Two log-distances and the log-odds of an adult, and of a part, of each picture: shape (images, 4).

        `pictures` are uint8 of shape (images, size, size).
        """
        if not len(pictures):
            return np.empty((0, 4))
        found = self.network_.predict(pictures[..., None], batch_size=128, verbose=0).astype(float)
        return np.column_stack([np.log(found[:, :2].clip(1e-9)), found[:, 2:]])

    def _anatomy(self, pictures: np.ndarray) -> np.ndarray:
        if self.lung_network is None:
            return np.full((len(pictures), 3), 1.0)
        return anatomy(lungs.find(self.lung_network, pictures))

    def _oddness(self, scores: np.ndarray) -> np.ndarray:
        """How far a picture is on the way from the middle of the validation films (0) to a limit (1), by each score."""
        return (scores - self.middle_) / np.maximum(self.limits_ - self.middle_, 1e-9)

    def typicality(self, pictures: np.ndarray) -> np.ndarray:
        """Share of validation films that are less typical than each picture, (images,): 0.5 is in the middle.

        `pictures` are uint8 of shape (images, size, size).
        """
        return 1 - np.searchsorted(self.reference_, self._oddness(self.score(pictures)).max(axis=1)) / len(
            self.reference_
        )

    def predict(self, pictures: np.ndarray, adult_scores: np.ndarray | None = None) -> list[str]:
        """Why each picture (uint8, shape (images, size, size)) can't be judged; empty where it is in distribution.

        A key of `MENDED` where the picture passes when that is undone; else `NO_CHEST`, `NO_LUNGS`, `ONE_LUNG`,
        `ADULT`, `PART` or `STRANGE`. With `adult_scores`, shape (images,), these stand for the third score.
        """
        scores = self.score(pictures)
        if adult_scores is not None:
            scores[:, 2] = adult_scores
        there = self._anatomy(pictures)
        beyond, lacking, odd = scores > self.limits_, there < self.least_, self._oddness(scores)
        reasons = [
            (odd[:, :2].max(axis=1) >= FAR, NO_CHEST),
            (lacking[:, 0], NO_LUNGS),
            (lacking[:, 1:].any(axis=1), ONE_LUNG),
            (beyond[:, 2] & (odd[:, 2] >= odd[:, 3]), ADULT),
            (beyond[:, 3], PART),
            (beyond.any(axis=1), STRANGE),
        ]
        said = np.select([where for where, _ in reasons], [words for _, words in reasons], "").astype(object)
        declined = np.flatnonzero(said != "")
        best = np.full(len(declined), np.inf)
        for words, mend in MENDED.items() if len(declined) else ():
            upright = np.ascontiguousarray(mend(pictures[declined]))
            scores = self.score(upright)
            fits = (scores <= self.limits_).all(axis=1)
            fits[fits] = (self._anatomy(upright[fits]) >= self.least_).all(axis=1)
            far = np.where(fits, self._oddness(scores).max(axis=1), np.inf)
            said[declined[far < best]] = words
            best = np.minimum(best, far)
        return said.tolist()

    def facts(self) -> dict:
        """All that `load` wants beside the network, fit for JSON."""
        return {
            "limits": self.limits_.tolist(),
            "middle": self.middle_.tolist(),
            "least": self.least_.tolist(),
            "reference": self.reference_.round(4).tolist(),
        }

    def save(self, path: Path) -> None:
        """Write the fitted network as a .keras file, read back and compared; `facts` have to be kept beside it."""
        save_checked(self.network_, self._films[..., None])(path)

    @classmethod
    def load(cls, path: Path, facts: dict, lung_network: keras.Model | None = None) -> "OODDetector":
        """From the file that `save` wrote, and the `facts` that belong to it."""
        detector = cls(lung_network)
        detector.network_ = keras.models.load_model(path, compile=False)
        for name in ("limits", "middle", "least", "reference"):
            setattr(detector, f"{name}_", np.asarray(facts[name], float))
        return detector
