"""Does the answer go with the lungs or with the body? The lungs of many films, each in the bodies of many others.

A crossed design: every pair has one answer, as log-odds, in an array of shape (lungs, bodies). Masks as in `cxr.lungs`.
"""

import numpy as np
import pandas as pd
from scipy import fft

from . import augment, calibration, corruptions, metrics

FIGURES = "lungs body both changed changed_own_class changed_other_class auc_by_lungs auc_by_body".split()


def choose_bodies(table: pd.DataFrame, found, each: int, seed: int = 0) -> np.ndarray:
    """Rows of films that lend their body: `each` of label 0, then `each` of label 1, at random, one a patient.

    Only films whose lungs were `found`, where there are any, and at most half of the patients of a class.
    """
    rng, chosen = np.random.default_rng(seed), []
    label, found, patient = table.label.to_numpy(), np.asarray(found, bool), table.patient.to_numpy()
    most = max(1, min(each, *(len(set(patient[label == one])) // 2 for one in (0, 1))))
    for one in (0, 1):
        rows = np.flatnonzero((label == one) & found)
        rows = rng.permutation(rows if len(rows) else np.flatnonzero(label == one))
        chosen.append(rows[np.sort(np.unique(patient[rows], return_index=True)[1])][:most])
    fewest = min(map(len, chosen))
    return np.concatenate([rows[:fewest] for rows in chosen])


def other_lungs(table: pd.DataFrame, bodies: np.ndarray, found) -> np.ndarray:
    """Films (bool) whose lungs were `found`, of patients that lend no body; more where a class would have none."""
    found = np.asarray(found, bool)
    others = found & ~table.patient.isin(table.patient.iloc[bodies]).to_numpy()
    both = (films for films in (others, found) if table.label[films].nunique() == 2)
    return next(both, np.ones(len(table), bool))


def by_gradients(pictures: np.ndarray, masks: np.ndarray, lungs: np.ndarray, bodies: np.ndarray) -> np.ndarray:
    """As `corruptions.transplant`, by gradient-domain blending (Perez et al. 2003), which no network here practises.

    Inside the lungs the result has the gradients of their film, outside those of the body: a Poisson equation, solved
    by cosine transforms, with the mean gray level of the body.
    """
    size, changed = pictures.shape[1], np.empty((len(lungs), *pictures.shape[1:]), np.uint8)
    wave = 2 * np.cos(np.pi * np.arange(size) / size) - 2
    wave = wave[:, None] + wave
    wave[0, 0] = 1
    for start in range(0, len(lungs), 128):
        own, other = lungs[start : start + 128], bodies[start : start + 128]
        film, mask, body, place = (
            part[..., None].astype("float32")
            for part in (pictures[own], masks[own] / 255, pictures[other], masks[other] / 255)
        )
        (top, bottom, left, right), (to_top, to_bottom, to_left, to_right) = (
            np.array(augment.bounding_box(part)) for part in (mask, place)
        )
        across, down = (right - left + 1) / (to_right - to_left + 1), (bottom - top + 1) / (to_bottom - to_top + 1)
        nothing = np.zeros_like(across)
        transform = [across, nothing, left - across * to_left, nothing, down, top - down * to_top]
        moved = np.asarray(augment.resample(np.concatenate([film, mask], -1), np.stack(transform, 1).astype("float32")))
        inside = np.maximum(moved[..., 1], place[..., 0]) > 0.5
        divergence = np.zeros(body.shape[:3])
        for axis in (1, 2):
            both = np.delete(inside, 0, axis) & np.delete(inside, -1, axis)
            step = np.where(both, np.diff(moved[..., 0], axis=axis), np.diff(body[..., 0], axis=axis))
            divergence += np.diff(step, axis=axis, prepend=0, append=0)
        found = fft.idctn(fft.dctn(divergence, axes=(1, 2)) / wave, axes=(1, 2))
        found += (body[..., 0] - found).mean((1, 2), keepdims=True)
        known = mask.any((1, 2)) & place.any((1, 2))
        changed[start : start + 128] = np.where(known[..., None], found, film[..., 0]).clip(0, 255).round()
    return changed


def answers(networks: list, pictures, masks, bodies, exchange=corruptions.transplant) -> np.ndarray:
    """Probabilities by `networks` for the lungs of every film in each of the `bodies` (rows of `pictures`).

    Shape (images, networks x bodies), the bodies of the first network first. `exchange` takes pictures, masks, and
    rows of both kinds; a film whose lungs are not known stays as it is.
    """
    rows, scores = np.arange(len(pictures)), []
    for body in bodies:
        swapped = exchange(pictures, masks, rows, np.full(len(rows), body))
        scores.append([metrics.predict(network, swapped) for network in networks])
    return np.array(scores).transpose(2, 1, 0).reshape(len(pictures), -1)


def log_odds(opened, name: str, exchange, networks: dict, masks, owners, bodies) -> dict[str, np.ndarray]:
    """Log-odds by each of the `networks` for the lungs of `owners` in each of the `bodies`, shape (lungs, bodies).

    `opened` is the test folder (`data.Dataset.test`), which keeps the answers under `name`.
    """
    asked = [*networks.values()], opened.pictures, masks, bodies, exchange
    said = opened.answers(name, lambda: answers(*asked), *asked, answers)
    said = said[owners.index].reshape(len(owners), len(networks), -1)
    return dict(zip(networks, calibration.logit(said).swapaxes(0, 1)))


def _even(times: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Weights that add up to 1, half for each label."""
    return 0.5 * times / np.bincount(label, times)[label]


def measure(odds, own, lungs_label, body_label, cut: float, lungs_times, body_times) -> dict[str, dict]:
    """How far an answer goes with the lungs, and how far with the body; sick and normal weigh the same.

    Of each of `FIGURES` the ``value`` and its 95% interval, ``low`` to ``high``, over resampled lungs and bodies:
    ``lungs``, ``body``, ``both``: shares of the variance (two-way analysis of variance without repetition; 1, 0, 0 for
    a network that sees nothing but the lungs); ``changed``: decisions that are another one than for the film as it is,
    in any body, one of the own class, one of the other class; ``auc_by_lungs``, ``auc_by_body``: AUC over all pairs, by
    the label of either.

    Parameters
    ----------
    odds, own : log-odds of each pair, shape (lungs, bodies), and of each film as it is, shape (lungs,)
    cut : the threshold, as log-odds
    lungs_times, body_times : from `metrics.resample`, shapes (resamples, lungs) and (resamples, bodies)
    """
    odds, own = np.asarray(odds, float), np.asarray(own, float)
    (lungs_label, own), (body_label, _) = metrics.checked(lungs_label, own), metrics.checked(body_label, odds[0])
    moved = (odds >= cut) != (own >= cut)[:, None]
    alike = lungs_label[:, None] == body_label
    order = np.argsort(odds, axis=None, kind="stable")
    ties = np.flatnonzero(np.diff(odds.ravel()[order], prepend=-np.inf))
    labels = {"auc_by_lungs": lungs_label[:, None], "auc_by_body": body_label}
    truths = {name: np.broadcast_to(label == 1, odds.shape).ravel()[order] for name, label in labels.items()}

    def figures(lungs: np.ndarray, bodies: np.ndarray) -> dict:
        w, v = _even(lungs, lungs_label), _even(bodies, body_label)
        rows, columns, pairs = odds @ v, w @ odds, w[:, None] * v
        mean = w @ rows
        total = max((pairs * (odds - mean) ** 2).sum(), 1e-12)
        by_lungs, by_body = (w @ (rows - mean) ** 2) / total, (v @ (columns - mean) ** 2) / total
        found = {"lungs": by_lungs, "body": by_body, "both": 1 - by_lungs - by_body}
        for name, where in (("changed", 1), ("changed_own_class", alike), ("changed_other_class", ~alike)):
            weight = pairs * where
            found[name] = (weight * moved).sum() / weight.sum()
        weight = pairs.ravel()[order]
        for name, truth in truths.items():  # AUC as a rank statistic, ties counting half
            ill, healthy = (np.add.reduceat(weight * is_so, ties) for is_so in (truth, ~truth))
            found[name] = (ill * (healthy.cumsum() - healthy / 2)).sum() / (ill.sum() * healthy.sum())
        return found

    found = figures(np.ones(len(lungs_label)), np.ones(len(body_label)))
    drawn = pd.DataFrame([figures(*weights) for weights in zip(lungs_times, body_times)])
    bounds = {name: metrics.interval(drawn[name]) for name in FIGURES}
    return {name: dict(zip(("value", "low", "high"), (float(found[name]), *bounds[name]))) for name in FIGURES}


def typical_pair(label, own, other, usable) -> list[int]:
    """A film of label 1 and one of label 0: of the `usable` ones, that whose score moves by the median.

    `own` and `other` are its scores in its own body and in another one.
    """
    moved = np.abs(calibration.logit(np.asarray(other)) - calibration.logit(np.asarray(own)))
    chosen, label = [], np.asarray(label)
    for one in (1, 0):
        rows = np.flatnonzero(np.asarray(usable) & (label == one))
        rows = rows if len(rows) else np.flatnonzero(label == one)
        chosen.append(int(rows[np.argsort(moved[rows], kind="stable")[(len(rows) - 1) // 2]]))
    return chosen


def placed(masks: np.ndarray, other_masks: np.ndarray) -> np.ndarray:
    """Where `corruptions.transplant` puts lungs with these `masks` in bodies whose lungs have the `other_masks`."""
    n = np.arange(len(masks))
    films, fields = np.concatenate([masks, np.zeros_like(masks)]), np.concatenate([masks, other_masks])
    return corruptions.transplant(films, fields, n, n + len(n))
