"""How a film was taken, which travels with its lungs into any body: a second exam for a network on validation films.

The first one, by lungs in other bodies, is `training.Validation`. Masks as in `cxr.lungs`.
"""

import numpy as np
import pandas as pd
from scipy import ndimage

from . import corruptions, metrics, shortcuts, training


def sharpness(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """How much of the contrast beside the lungs is fine detail: a number a film."""
    films, beside = pictures.astype("float32"), masks < 30
    fine = films - ndimage.gaussian_filter(films, (0, 1.5, 1.5))
    parts = zip(fine, films, beside)
    return np.array([detail[place].std() / (film[place].std() + 1) for detail, film, place in parts])


def blurred_lungs(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The films with their lungs alone blurred by 2 pixels; whole numbers, as floats."""
    films, soft = pictures.astype("float32"), ndimage.gaussian_filter(masks / 255, (0, 1, 1))
    return (films + soft * (ndimage.gaussian_filter(films, (0, 2, 2)) - films)).round()


class Exam:
    """Validation films by how they were taken (`strata`), and as they might have been taken (`versions`, by name).

    `strata` has for each way the quarter of each film, 0 to 3, cut where quarters of the normal films end: by sharpness
    beside the lungs, by size of the letter (0: none), and by width (of `manifest`) where films have their own size.
    `part` is a `chain.Part`. Prints of a device are no stratum: films of one class alone carry them.
    """

    def __init__(self, part, masks: np.ndarray, manifest: pd.DataFrame):
        self.label = part.label
        letter = shortcuts.picture_facts(part.pictures).letter_size.fillna(0).to_numpy()
        ways = {"sharpness": sharpness(part.pictures, masks), "letter": letter}
        width = part.table[["path"]].merge(manifest, on="path").width
        if width.nunique() > 4:  # the full-size films, not a copy of one size
            ways["width"] = width.to_numpy()
        self.strata = {name: self._quarters(values) for name, values in ways.items()}
        self.blurred, self.held_out = blurred_lungs(part.pictures, masks), corruptions.held_out(part.pictures)
        self.versions = {"as it is": part.pictures, "lungs blurred": self.blurred, **self.held_out}

    def _quarters(self, values: np.ndarray) -> np.ndarray:
        return np.digitize(values, np.quantile(values[self.label == 0], [0.25, 0.5, 0.75]))

    def facts(self, seed: int, trained: tuple, judged: training.Validation, y_score: np.ndarray) -> dict:
        """A row of ``04_seeds.csv``: `training.seed_facts`, of these parameters, and what the network reaches here."""
        network, label, normal = trained[0], self.label, self.label == 0
        facts = training.seed_facts(seed, trained, judged, y_score)
        strata = [values == one for values in self.strata.values() for one in np.unique(values)]
        within = [
            metrics.auc(np.tile(label[own], len(y_score)), y_score[:, own].ravel())
            for own in strata
            if len(set(label[own])) == 2
        ]
        unseen = [metrics.auc(label, metrics.predict(network, changed)) for changed in self.held_out.values()]
        softest = (self.strata["sharpness"] == 0) & normal
        return facts | {
            "worst_stratum_auc": min(within),
            "mean_stratum_auc": np.mean(within),
            "soft_specificity": (y_score[:, softest] < facts["threshold"]).mean(),
            "blurred_specificity": (metrics.predict(network, self.blurred[normal]) < facts["threshold"]).mean(),
            "heldout_auc": np.mean(unseen),
            "worst_heldout_auc": min(unseen),
        }
