"""Out-of-distribution detection: may the network be asked about this picture? A yes or no before any answer.

A film is described by the middle layers of MobileNetV2 (ImageNet), averaged over the picture. Two distances tell how
far it lies from the training films: Mahalanobis' along their principal components (Lee et al. 2018, arXiv:1807.03888),
and what these leave out (Jackson & Mudholkar 1979). Logistic regressions on the same features look for adults and for
films in part, the network of 03 for two lungs.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from . import backbones, data, external, gallery, lungs
from .backend import keras
from .paths import adults_dir
from .training import save_checked, weights_sha256

layers = keras.layers
READ = "block_10_expand_relu", "block_13_expand_relu"  # layers of MobileNetV2
BLUR = 1.0  # pixels: standard deviation of the low-pass, so that scanner and file format count less
REMEDIES = {
    "is inverted: bone must be white": lambda p: 255 - p,
    "is turned clockwise": lambda p: np.rot90(p, 1, (1, 2)),
    "is turned counterclockwise": lambda p: np.rot90(p, 3, (1, 2)),
    "is upside down": lambda p: np.rot90(p, 2, (1, 2)),
}  # what is wrong with a picture, and what undoes it
FAR = 3.0  # as many times beyond the limit lies no film of a chest, not even an adult's
NO_CHEST = "is unlike a chest X-ray, or photographed from a screen"
NO_LUNGS, ONE_LUNG = "shows no lungs that can be found", "shows one lung only"
PART = "shows a part of the chest only: take the whole film"
ADULT = "looks like an adult's chest: the network knows children only"
STRANGE = "is not like the frontal chest X-rays that the network was trained on"


def describer(size: int, earlier: Path | None = None) -> keras.Model:
    """What describes a film: from (films, size, size, 1), 0 to 255, to (films, features).

    The weights are ImageNet's in half precision: those of an `earlier` gate, else what `backbones.weights` finds.
    """
    known = None if earlier else backbones.weights()
    base = keras.applications.MobileNetV2((size, size, 3), include_top=False, weights=known)
    found = [layers.GlobalAveragePooling2D()(base.get_layer(name).output) for name in READ]
    trunk = keras.Model(base.input, layers.Concatenate()(found), name="trunk")
    if earlier:
        trunk.set_weights(keras.models.load_model(earlier, compile=False).get_layer("trunk").get_weights())
    weights = trunk.get_weights()
    trunk.set_weights([value.astype("float16").astype("float32") for value in weights])
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / (2 * BLUR**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    entry = layers.Input((size, size, 1), name="xray")
    smooth = layers.DepthwiseConv2D(7, padding="same", use_bias=False, trainable=False, name="low_pass")
    x = layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False)(smooth(entry))
    smooth.set_weights([kernel.astype("float32")[..., None, None]])
    return keras.Model(entry, trunk(layers.Concatenate()([layers.Rescaling(0.5)(x)] * 3)))


def _cut(pictures: np.ndarray, boxes) -> np.ndarray:
    """The box (left, top, right, bottom) of each picture, filling the square again."""
    parts = (Image.fromarray(p).crop(tuple(map(int, box))) for p, box in zip(pictures, boxes))
    return np.stack([np.asarray(part.resize(pictures.shape[1:], Image.Resampling.BICUBIC)) for part in parts])


def cropped(pictures: np.ndarray, most: float) -> np.ndarray:
    """Each side cut by up to `most` of the picture's length, at random."""
    rng, size = np.random.default_rng(0), pictures.shape[1]
    cuts = rng.uniform(0, most, (len(pictures), 4)) * [1, 1, -1, -1] * size + [0, 0, size, size]
    return _cut(pictures, cuts.round())


def parted(pictures: np.ndarray) -> np.ndarray:
    """40 to 65% of each picture: cut from below, above, the right, the left, or from both above and below."""
    rng, size, boxes = np.random.default_rng(0), pictures.shape[1], []
    for _ in pictures:
        keep = round(rng.uniform(0.4, 0.65) * size)
        away = size - keep
        ways = [(0, 0, size, keep), (0, away, size, size), (0, 0, keep, size), (away, 0, size, size)]
        boxes.append([*ways, (0, away // 2, size, away // 2 + keep)][rng.integers(5)])
    return _cut(pictures, boxes)


def anatomy(masks: np.ndarray) -> np.ndarray:
    """Of masks of lungs: area of both, area of the smaller over the larger, distance from side to side; 0 if none."""
    found = np.zeros((len(masks), 3))
    for row, mask in zip(found, masks > 127):
        spots, count = ndimage.label(mask)
        row[0] = mask.mean()
        if count > 1:
            area = ndimage.sum_labels(mask, spots, np.arange(1, count + 1))
            first, second = np.argsort(area)[::-1][:2]
            (_, one), (_, other) = ndimage.center_of_mass(mask, spots, [first + 1, second + 1])
            row[:] = (area[first] + area[second]) / mask.size, area[second] / area[first], abs(one - other) / len(mask)
    return found


def _line(known: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, float]:
    """Slope and shift of the log-odds that a row is of the `others` (logistic regression), both (rows, length)."""
    both, label = np.concatenate([known, others]), np.repeat([0, 1], [len(known), len(others)])
    model = LogisticRegression(C=0.001, class_weight="balanced", max_iter=500).fit(both, label)
    return model.coef_[0], float(model.intercept_[0])


class OODDetector:
    """Tells pictures that are like the training films from those that are not (out of distribution).

    Without `lung_network` (of 03) no lungs are looked for. Fitted are ``network_`` (film to both squared distances,
    log-odds of an adult and of a film in part), ``limits_`` and ``middle_`` of these four, ``least_`` (what `anatomy`
    must reach), ``reference_`` (quantiles of how odd validation films are), ``features_`` of the training films, as
    they are and cropped, and ``adult_scores_`` (versions, films), by lines that have not seen that patient.
    """

    def __init__(self, lung_network: keras.Model | None = None, components: int = 150):
        self.lung_network, self.components = lung_network, components

    def fit(self, train, validation, adults=(), patients=(), quantile=0.995, earlier=None, own_line=True):
        """Fit the distances on training films; each limit is a `quantile` of that of validation films.

        `adults` are (versions, films, size, size), of these `patients`; without them the line that tells adults is that
        of the `earlier` gate, and with neither, or if not `own_line`, there is none.
        """
        describe = describer(train.shape[1], earlier)
        entry, found = describe.input, describe.output

        def described(pictures):
            return describe.predict(pictures[..., None], batch_size=128, verbose=0).astype(float)

        self.features_ = known = np.concatenate([described(train), described(cropped(train, 0.07))])
        mean, scale = known.mean(axis=0), known.std(axis=0) + 1e-3
        _, spread, directions = np.linalg.svd((known - mean) / scale, full_matrices=False)
        count = min(self.components, len(train) // 4)
        variance, principal = spread**2 / len(known), directions[:count].T
        rest, whiten = max(variance[count:].sum(), 1e-6), principal / np.sqrt(variance[:count])

        def code_of(features):
            return (features - mean) / scale @ whiten

        def in_features(slope, shift):  # the line, of what `describe` returns
            kernel = (whiten @ slope) / scale
            return [kernel[:, None], np.atleast_1d(shift - mean @ kernel)]

        usual, lines = code_of(known), {"adult": [np.zeros((found.shape[-1], 1)), np.zeros(1)]}
        lines["part"] = in_features(*_line(usual, code_of(described(parted(train)))))
        self.adult_scores_ = np.zeros(np.shape(adults)[:2])
        if len(patients):
            theirs = np.stack([code_of(described(version)) for version in adults])
            lines["adult"] = in_features(*self._learn(usual, theirs, np.asarray(patients)))
        elif own_line and earlier:
            lines["adult"] = keras.models.load_model(earlier, compile=False).get_layer("adult").get_weights()
        # |z|^2 less |code|^2 is what the components leave out
        z = layers.Normalization(mean=mean, variance=scale**2)(found)
        code = layers.Dense(count, use_bias=False, name="code")
        scaled = layers.Rescaling(1 / np.sqrt(variance[:count] * count))(code(z))
        inside = layers.Dot(1)([scaled, scaled])
        left_out = layers.Subtract()([layers.Dot(1)([z, z]), layers.Dot(1)([code(z), code(z)])])
        dense = {name: layers.Dense(1, name=name) for name in ("adult", "part")}
        outputs = [inside, layers.Rescaling(1 / rest)(left_out), *(line(found) for line in dense.values())]
        self.network_ = keras.Model(entry, layers.Concatenate()(outputs), name="gate")
        code.set_weights([principal])
        for name, line in lines.items():
            dense[name].set_weights(line)
        self._films, scores = validation[:64], self.score(validation)
        self.limits_, self.middle_ = np.quantile(scores, quantile, axis=0), np.median(scores, axis=0)
        self.least_ = 0.7 * np.quantile(self._anatomy(validation), 1 - quantile, axis=0)
        self.reference_ = np.quantile(self._oddness(scores).max(axis=1), np.linspace(0, 1, 201))
        return self

    def adults(self, place, children: np.ndarray) -> tuple:
        """What `fit` learns adults from, in the folder `place` or that of CXR_ADULTS_DIR; empty without one.

        The versions of the films, as they are first; whose films; and what `external.licensed` returns.
        """
        size = children.shape[1]
        if not (place := place or adults_dir()):
            return np.empty((1, 0, size, size), np.uint8), np.empty(0, str), None, ""
        films, pictures, _ = data.read_films(data.list_folder(place), place, 4 * size)
        print(f"{len(films)} films of {films.patient.nunique()} adults")
        versions = gallery.adult_versions(pictures, children, self.lung_network, size).values()
        return np.stack([*versions]), films.patient.to_numpy(str), *external.licensed(films, place)

    def _learn(self, known: np.ndarray, adults: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, float]:
        for others, own in GroupKFold(min(5, len(set(patients)))).split(patients, groups=patients):
            kernel, bias = _line(known, adults[:, others].reshape(-1, adults.shape[-1]))
            self.adult_scores_[:, own] = adults[:, own] @ kernel + bias
        return _line(known, adults.reshape(-1, adults.shape[-1]))

    def score(self, pictures: np.ndarray) -> np.ndarray:
        """Two log-distances, log-odds of an adult, and of a film in part, of each picture."""
        if not len(pictures):
            return np.empty((0, 4))
        found = self.network_.predict(pictures[..., None], batch_size=128, verbose=0).astype(float)
        return np.column_stack([np.log(found[:, :2].clip(1e-9)), found[:, 2:]])

    def _anatomy(self, pictures: np.ndarray) -> np.ndarray:
        if self.lung_network is None:
            return np.ones((len(pictures), 3))
        return anatomy(lungs.find(self.lung_network, pictures))

    def _oddness(self, scores: np.ndarray) -> np.ndarray:
        """How far on the way from the middle of the validation films (0) to a limit (1), by each score."""
        return (scores - self.middle_) / np.maximum(self.limits_ - self.middle_, 1e-9)

    def typicality(self, pictures: np.ndarray) -> np.ndarray:
        """Share of validation films that are less typical than each picture."""
        oddness = self._oddness(self.score(pictures)).max(axis=1)
        return 1 - np.searchsorted(self.reference_, oddness) / len(self.reference_)

    def predict(self, pictures: np.ndarray, adult_scores: np.ndarray | None = None) -> list[str]:
        """Why each picture can't be judged, or ""; `adult_scores`, if any, stand for the log-odds of an adult."""
        scores, lung = self.score(pictures), self._anatomy(pictures)
        if adult_scores is not None:
            scores[:, 2] = adult_scores
        beyond, lacking, odd = scores > self.limits_, lung < self.least_, self._oddness(scores)
        reasons = {NO_CHEST: odd[:, :2].max(axis=1) >= FAR, NO_LUNGS: lacking[:, 0]}
        reasons |= {ONE_LUNG: lacking[:, 1:].any(axis=1), ADULT: beyond[:, 2] & (odd[:, 2] >= odd[:, 3])}
        reasons |= {PART: beyond[:, 3], STRANGE: beyond.any(axis=1)}
        found = np.select([*reasons.values()], [*reasons], "").astype(object)
        declined = np.flatnonzero(found != "")
        best = np.full(len(declined), np.inf)
        for reason, undo in REMEDIES.items() if len(declined) else ():
            upright = np.ascontiguousarray(undo(pictures[declined]))
            scores = self.score(upright)
            fits = (scores <= self.limits_).all(axis=1)
            fits[fits] = (self._anatomy(upright[fits]) >= self.least_).all(axis=1)
            oddness = np.where(fits, self._oddness(scores).max(axis=1), np.inf)
            found[declined[oddness < best]] = reason
            best = np.minimum(best, oddness)
        return found.tolist()

    def reasons(self, opened) -> np.ndarray:
        """What `predict` says of the test folder (`data.Dataset.test`), which keeps these answers."""
        depends = self.sha256_, self.lung_network, self.facts(), sys.modules[__name__]
        return opened.answers("reason", lambda: self.predict(opened.pictures), *depends)

    def facts(self) -> dict:
        """What `load` needs beside the network."""
        found = {name: getattr(self, f"{name}_").tolist() for name in ("limits", "middle", "least")}
        return found | {"reference": self.reference_.round(4).tolist()}

    def save(self, path: Path) -> None:
        save_checked(self.network_, self._films[..., None])(path)
        self.sha256_ = weights_sha256(keras.models.load_model(path, compile=False))  # in half precision

    @classmethod
    def load(cls, path: Path, facts: dict, lung_network: keras.Model | None = None) -> "OODDetector":
        detector = cls(lung_network)
        detector.network_ = keras.models.load_model(path, compile=False)
        for name in ("limits", "middle", "least", "reference"):
            setattr(detector, f"{name}_", np.asarray(facts[name], float))
        return detector
