"""Does the answer go with the lungs or with the body? The lungs of many films, each in the bodies of many others.

A crossed design: every pair has one answer, as log-odds, in an array of shape (lungs, bodies). Masks as in `cxr.lungs`.
"""

import numpy as np
import pandas as pd
from scipy import fft, ndimage

from . import augment, calibration, corruptions, lungs, metrics, training

FIGURES = "lungs body both changed_own_class changed_other_class auc_by_lungs auc_by_body".split()


def choose(table: pd.DataFrame, masks, each: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Films of `table` that lend lungs, and films that lend their body: `each` of label 0, then `each` of label 1.

    Bodies are drawn at random, one a patient, of at most half of the patients of a class; lungs are those of all other
    patients. Both are of films that have lungs in their `masks`, where there are any.
    """
    rng, chosen, found = np.random.default_rng(seed), [], masks.max(axis=(1, 2)) > 127
    label, patient = table.label.to_numpy(), table.patient.to_numpy()
    most = max(1, min(each, *(len(set(patient[label == one])) // 2 for one in (0, 1))))
    for one in (0, 1):
        rows = np.flatnonzero((label == one) & found)
        rows = rng.permutation(rows if len(rows) else np.flatnonzero(label == one))
        chosen.append(rows[np.sort(np.unique(patient[rows], return_index=True)[1])][:most])
    fewest = min(map(len, chosen))
    lenders = table.iloc[np.concatenate([rows[:fewest] for rows in chosen])]
    both = (films for films in (found & ~table.patient.isin(lenders.patient), found) if set(label[films]) == {0, 1})
    return table[next(both, label >= 0)], lenders


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


def eroded(pictures: np.ndarray, masks: np.ndarray, lungs: np.ndarray, bodies: np.ndarray) -> np.ndarray:
    """As `corruptions.transplant`, with outlines 3 pixels further in, so that a rim of the old lungs stays."""
    return corruptions.transplant(pictures, ndimage.grey_erosion(masks, (1, 7, 7)), lungs, bodies)


WAYS = {"as practised": corruptions.transplant, "eroded": eroded, "by gradients": by_gradients}


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


def log_odds(opened, way: str, networks: dict, masks, owners, lenders) -> dict[str, np.ndarray]:
    """Log-odds by each of the `networks` for the lungs of `owners` in the bodies of `lenders`, shape (lungs, bodies).

    `way` is one of `WAYS`; `opened` is the test folder (`data.Dataset.test`), which keeps the answers.
    """
    name = f"in {len(lenders)} bodies, {way}".removesuffix(", as practised")
    asked = [*networks.values()], opened.pictures, masks, lenders.index.to_numpy(), WAYS[way]
    said = opened.answers(name, lambda: answers(*asked), *asked, answers)
    said = said[owners.index].reshape(len(owners), len(networks), -1)
    return dict(zip(networks, calibration.logit(said).swapaxes(0, 1)))


def even(label: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Weights of films that were drawn so many `times`; they add up to 1, the same for each label that is there."""
    count = np.bincount(label, times)
    return times / count[label] / (count > 0).sum()


def variance_shares(odds: np.ndarray, lungs_weight: np.ndarray, body_weight: np.ndarray) -> tuple[float, float]:
    """Shares of the variance of log-odds, shape (lungs, bodies), that go with the lungs and with the body."""
    by_lungs, by_body = odds @ body_weight, lungs_weight @ odds
    mean = lungs_weight @ by_lungs
    total = max(lungs_weight @ (odds - mean) ** 2 @ body_weight, 1e-12)
    return lungs_weight @ (by_lungs - mean) ** 2 / total, (by_body - mean) ** 2 @ body_weight / total


def shares_of_seeds(ensembles: dict, pictures, masks, owners, lenders) -> pd.DataFrame:
    """`variance_shares` for every seed of the `ensembles`, each of `WAYS`, and all lungs or sick ones alone.

    A row each: ``network``, ``seed``, ``way``, ``whose``, ``lungs``, ``body``; sick and normal weigh the same.
    """
    every = [(name, seed, one) for name, whole in ensembles.items() for seed, one in enumerate(training.members(whole))]
    rows, bodies = [], even(lenders.label.to_numpy(), np.ones(len(lenders)))
    for way, exchange in WAYS.items():
        said = answers([one for *_, one in every], pictures, masks, lenders.index, exchange)[owners.index]
        odds = calibration.logit(said).reshape(len(owners), len(every), -1)
        for whose, own in (("all lungs", owners.label >= 0), ("sick lungs", owners.label == 1)):
            weights = even(owners.label[own].to_numpy(), np.ones(own.sum())), bodies
            rows += [
                [name, seed, way, whose, *variance_shares(odds[own, i], *weights)]
                for i, (name, seed, _) in enumerate(every)
            ]
    return pd.DataFrame(rows, columns="network seed way whose lungs body".split())


def stored(scores: pd.DataFrame, lenders: list[str], paths: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities by the kept network in ``05_test_scores.csv``, shape (films, bodies), and the rows of the bodies.

    `lenders` are those of ``05_metrics.json``; rows are those of `paths`, in the order of `scores`.
    """
    bodies = scores.filter(regex=r"^in \d+ bodies \d+ @").to_numpy()[:, : len(lenders)]
    return bodies, pd.Index(paths).get_indexer(lenders)


def measure(odds: dict, columns: dict, limits, owners, lenders, resamples: int) -> dict[str, dict]:
    """How far each network's answer goes with the lungs, and how far with the body; sick and normal weigh the same.

    Of each of `FIGURES` the ``value`` and its 95% interval, ``low`` to ``high``, over resampled lungs and bodies:
    ``lungs``, ``body``, ``both``: shares of the variance (two-way analysis of variance without repetition; 1, 0, 0 for
    a network that sees nothing but the lungs); ``changed_own_class``, ``changed_other_class``: decisions that are
    another one than for the film as it is, by the class of the body; ``auc_by_lungs``, ``auc_by_body``: AUC over all
    pairs, by the label of either. `odds` are from `log_odds`, films from `choose`; `columns` names the column with the
    network's scores of the films as they are, by which `limits` has its threshold.
    """
    times = metrics.resample(owners, resamples), metrics.resample(lenders, resamples, 1)
    return {
        name: _measure(odds[name], owners[column], limits[column], owners.label, lenders.label, times)
        for name, column in columns.items()
    }


def _measure(odds, own, limit: float, lungs_label, body_label, times) -> dict[str, dict]:
    odds, own, cut = np.asarray(odds, float), calibration.logit(own), calibration.logit(limit)
    (lungs_label, own), (body_label, _) = metrics.checked(lungs_label, own), metrics.checked(body_label, odds[0])
    moved = (odds >= cut) != (own >= cut)[:, None]
    alike = lungs_label[:, None] == body_label
    order = np.argsort(odds, axis=None, kind="stable")
    ties = np.flatnonzero(np.diff(odds.ravel()[order], prepend=-np.inf))
    labels = {"auc_by_lungs": lungs_label[:, None], "auc_by_body": body_label}
    truths = {name: np.broadcast_to(label == 1, odds.shape).ravel()[order] for name, label in labels.items()}

    def figures(lungs: np.ndarray, bodies: np.ndarray) -> dict:
        w, v = even(lungs_label, lungs), even(body_label, bodies)
        pairs, (by_lungs, by_body) = w[:, None] * v, variance_shares(odds, w, v)
        found = {"lungs": by_lungs, "body": by_body, "both": 1 - by_lungs - by_body}
        for name, where in (("changed_own_class", alike), ("changed_other_class", ~alike)):
            weight = pairs * where
            found[name] = (weight * moved).sum() / weight.sum()
        weight = pairs.ravel()[order]
        for name, truth in truths.items():  # AUC as a rank statistic, ties counting half
            ill, healthy = (np.add.reduceat(weight * is_so, ties) for is_so in (truth, ~truth))
            found[name] = (ill * (healthy.cumsum() - healthy / 2)).sum() / (ill.sum() * healthy.sum())
        return found

    found = figures(np.ones(len(lungs_label)), np.ones(len(body_label)))
    drawn = pd.DataFrame([figures(*weights) for weights in zip(*times)])
    bounds = {name: metrics.interval(drawn[name]) for name in FIGURES}
    return {name: dict(zip(("value", "low", "high"), (float(found[name]), *bounds[name]))) for name in FIGURES}


def facts(folder, opened, masks, owners, lenders) -> dict:
    """What was exchanged, for JSON, and how far `masks` agree with those that people drew, where there are any."""
    by_hand, known = lungs.masks(opened, folder)
    return {
        "lungs": len(owners),
        "lungs_found": int((masks.max(axis=(1, 2)) > 127).sum()),
        "dice": lungs.summary(lungs.dice(masks[known], by_hand[known])) if known.any() else None,
        "bodies": len(lenders),
        "lenders": lenders.path.tolist(),
    }


def typical_pair(own: pd.DataFrame, other: pd.DataFrame, limits: pd.Series) -> list[int]:
    """Rows of a film of label 1 and of one of label 0 whose lungs two networks answer in different ways elsewhere.

    `own` and `other` have the scores in the own body and in another one, by the columns of which `limits` has the
    thresholds. On the film as it is both are right; in the other body the first network keeps its answer, and the score
    of the second crosses its threshold and 0.5. Of such films (of all of the label, where there is none) it is the one
    on which the second score moves by the median.
    """
    kept, plain = limits.index
    before, after = own[limits.index] >= limits, other[limits.index] >= limits
    right, changes = before.eq(own.label == 1, axis=0).all(axis=1), before != after
    usable = right & ~changes[kept] & changes[plain] & ((own[plain] >= 0.5) != (other[plain] >= 0.5))
    moved = (calibration.logit(other[plain]) - calibration.logit(own[plain])).abs().to_numpy()
    chosen = []
    for of_label in (own.label == 1, own.label == 0):
        rows = np.flatnonzero(usable & of_label)
        rows = rows if len(rows) else np.flatnonzero(of_label)
        chosen.append(int(rows[np.argsort(moved[rows], kind="stable")[(len(rows) - 1) // 2]]))
    return chosen


def in_both_bodies(pictures, masks, films, bodies) -> tuple[np.ndarray, np.ndarray]:
    """Each of some `films` (rows) as it is, then with its lungs in one of the `bodies`; and where they lie (bool)."""
    rows, own = np.arange(len(films)), np.concatenate([masks[films], masks[bodies]])
    drawn = np.concatenate([masks[films], np.zeros_like(masks[bodies])])  # the outline goes with the lungs
    fields = masks[films], corruptions.transplant(drawn, own, rows, rows + len(rows))
    films = pictures[films], corruptions.transplant(pictures, masks, films, bodies)
    return tuple(np.stack(pair, axis=1).reshape(-1, *masks.shape[1:]) for pair in (films, np.array(fields) > 127))
