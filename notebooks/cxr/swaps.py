"""Does the answer go with the lungs or with the body? The lungs of many films, each in the bodies of many others.

A crossed design: every pair of lungs and body has one answer, as log-odds, in an array of shape (lungs, bodies). The
label is that of the lungs. Masks are those of `cxr.lungs`.
"""

import numpy as np
import pandas as pd

from . import calibration, corruptions, data, lungs, metrics

FIGURES = "lungs body both changed changed_own_class changed_other_class auc_by_lungs auc_by_body".split()
WORDS = {  # what `FIGURES` are called in a table
    "lungs": "answer goes with the lungs",
    "body": "... with the body",
    "both": "... with both together",
    "changed": "decisions that change in another body",
    "changed_own_class": "... of their own class",
    "changed_other_class": "... of the other class",
    "auc_by_lungs": "AUC, by the label of the lungs",
    "auc_by_body": "AUC, by the label of the body",
}


def choose_bodies(table: pd.DataFrame, found, each: int, seed: int = 0) -> np.ndarray:
    """Films that lend their body: `each` of label 0, then `each` of label 1, at random, one a patient.

    `table` has the columns ``label`` and ``patient``; `found`, bool, says whose lungs are known: others are taken only
    where all lack them. No more than half of the patients of a class, so that lungs are left to put in, but one at
    least. Returns rows of `table`, numbered from 0.
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
    """Which films (bool) have lungs that were `found`, and are of patients that lend no body.

    Where one class would have none, all that were found; and all films, where that does not help either.
    """
    found = np.asarray(found, bool)
    apart = found & ~table.patient.isin(table.patient.iloc[bodies]).to_numpy()
    both = (films for films in (apart, found) if table.label[films].nunique() == 2)
    return next(both, np.ones(len(table), bool))


def or_usual_place(masks: np.ndarray) -> np.ndarray:
    """The masks, and for a film without lungs what is lung in half of the others, or the middle of the film."""
    seen, side = np.asarray((masks > 127).any(axis=(1, 2))), masks.shape[1]
    usual = (masks > 127).sum(axis=0) >= max(1, seen.sum() / 2)
    if not usual.any():
        usual[side // 5 : side - side // 5, side // 6 : side - side // 6] = True
    return np.where(seen[:, None, None], masks, np.where(usual, 255, 0)).astype(np.uint8)


def bodies_alone(small: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Films with the box of their lungs painted black: all that a network is shown which must do without lungs.

    `small` is uint8 of shape (images, side, side); `masks` may be larger. Where no lungs are known, see
    `or_usual_place`.
    """
    return lungs.painted_black(small, or_usual_place(lungs.resized(masks, small.shape[1])))


def answers(networks: list, pictures: np.ndarray, masks: np.ndarray, bodies: np.ndarray) -> np.ndarray:
    """What `networks` say of the lungs of every film in each of the `bodies`: (images, networks x bodies).

    Probabilities, the bodies of the first network first. `pictures` and `masks` are uint8 of shape (images, size,
    size), `bodies` rows of them. A film whose lungs are not known stays as it is (`augment.transplant`).
    """
    lungs, said = np.arange(len(pictures)), []
    for body in bodies:
        swapped = corruptions.transplant(pictures, masks, lungs, np.full(len(lungs), body))
        said.append([metrics.predict(network, swapped) for network in networks])
    return np.array(said).transpose(2, 1, 0).reshape(len(pictures), -1)


def _even(times: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Weights that add up to 1, half for each label."""
    of_class = np.bincount(label, times)
    return 0.5 * times / of_class[label]


def measure(odds, own, lungs_label, body_label, cut: float, lungs_times, body_times) -> dict[str, dict]:
    """How far an answer goes with the lungs, and how far with the body.

    Sick and normal weigh the same, among lungs and among bodies. Of each figure of `FIGURES` the ``value`` and its 95%
    interval, ``low`` to ``high``, over patients whose lungs and films whose body is drawn anew:

    ``lungs``, ``body``, ``both``
        Shares of the variance of the log-odds, which add up to 1; a two-way analysis of variance without repetition.
        ``lungs`` is the weighted sum of squares of the means over bodies about the grand mean, ``body`` that of the
        means over lungs, ``both`` is what is left (the interaction), each over the total. A network that sees nothing
        but the lungs has 1, 0, 0. Probabilities are kept to six decimals, so log-odds end at 13.8.
    ``changed``, ``changed_own_class``, ``changed_other_class``
        Share of decisions (from `cut` on: pneumonia) that are another one than for the film as it is, when the lungs
        lie in another body: in any, in one of their own class, in one of the other class.
    ``auc_by_lungs``, ``auc_by_body``
        Area under the ROC curve over all pairs, by the label of the lungs and by that of the body: 1 and .5 where the
        lungs decide, .5 and 1 where the body does.

    Parameters
    ----------
    odds, own : ndarray, shapes (lungs, bodies) and (lungs,)
        Log-odds of each pair, and of each film as it is.
    lungs_label, body_label : ndarray of 0 and 1, shapes (lungs,) and (bodies,)
    cut : float
        The threshold, as log-odds.
    lungs_times, body_times : ndarray, shapes (resamples, lungs) and (resamples, bodies)
        From `metrics.resample`, as many of both.

    A Problem as of `metrics.checked`.
    """
    odds, own = np.asarray(odds, float), np.asarray(own, float)
    (lungs_label, own), (body_label, _) = metrics.checked(lungs_label, own), metrics.checked(body_label, odds[0])
    moved = (odds >= cut) != (own >= cut)[:, None]
    alike = lungs_label[:, None] == body_label
    order = np.argsort(odds, axis=None, kind="stable")
    ties = np.flatnonzero(np.diff(odds.ravel()[order], prepend=-np.inf))
    labels = {"auc_by_lungs": lungs_label[:, None], "auc_by_body": body_label}
    truths = {name: np.broadcast_to(own == 1, odds.shape).ravel()[order] for name, own in labels.items()}

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
        for name, truth in truths.items():
            ill, healthy = (np.add.reduceat(weight * is_so, ties) for is_so in (truth, ~truth))
            found[name] = (ill * (healthy.cumsum() - healthy / 2)).sum() / (ill.sum() * healthy.sum())
        return found

    found = figures(np.ones(len(lungs_label)), np.ones(len(body_label)))
    drawn = pd.DataFrame([figures(lungs, bodies) for lungs, bodies in zip(lungs_times, body_times)])
    bounds = {name: metrics.interval(drawn[name]) for name in FIGURES}
    return {name: dict(zip(("value", "low", "high"), (float(found[name]), *bounds[name]))) for name in FIGURES}


def called_ill(own, elsewhere: np.ndarray, groups: dict[str, np.ndarray]) -> dict[str, dict]:
    """How often films of some groups are called ill as they are, and how often their lungs are in other bodies.

    `own` (images,) and `elsewhere` (images, bodies) are bool, and so is each of the `groups` (images,). By name of a
    group: ``lungs`` (how many films), ``own_body`` and ``other_bodies`` (shares); a group without films is left out.
    """
    own, there = np.asarray(own, bool), {name: np.asarray(inside, bool) for name, inside in groups.items()}
    return {
        name: {
            "lungs": int(inside.sum()),
            "own_body": float(own[inside].mean()),
            "other_bodies": float(elsewhere[inside].mean()),
        }
        for name, inside in there.items()
        if inside.any()
    }


def to_show(
    films: data.Part, masks: np.ndarray, said: pd.DataFrame, columns: tuple[str, str], limits: dict
) -> tuple[np.ndarray, list[str]]:
    """The two films that `typical` chooses, each as it is and with its lungs in a body of the other class.

    Of the films that both networks get right as they are, by the change of the second one's answer.

    Parameters
    ----------
    films, masks : Part, uint8 of shape (images, size, size)
        Of validation, and their lungs.
    said : DataFrame
        ``04_val_predictions.csv``: ``path``, ``draw``, ``kind``, ``label`` and probabilities.
    columns : two names of columns of `said`
    limits : dict
        The threshold of each.

    Returns
    -------
    uint8 of shape (4, size, size), and the two paths
    """
    lenders = corruptions.choose_bodies(films.label, 0, other_class=True)
    exchanged = corruptions.transplant(films.pictures, masks, np.arange(len(lenders)), lenders)
    first, paths = said.draw[said.kind == "conflict"].min(), films.table.path  # that draw was made in the same way
    own, other = (said[said.draw == draw].set_index("path").loc[paths] for draw in (0, first))
    right = np.all([(own[column] >= limits[column]) == own.label for column in columns], axis=0)
    two = typical(own.label, own[columns[1]], other[columns[1]], right)
    return np.stack([part[row] for row in two for part in (films.pictures, exchanged)]), paths[two].tolist()


def by_network(answers: np.ndarray, lungs: pd.DataFrame, bodies: pd.DataFrame, networks: dict, resamples: int) -> tuple:
    """`measure` of each network, and the squares of `plots.swap`.

    Parameters
    ----------
    answers : ndarray, shape (films, networks, bodies)
        Probabilities, as from the function `answers`, in the order of `networks`.
    lungs, bodies : DataFrame
        The films whose lungs are looked at, by their row of `answers`, and those that lent a body; ``label``,
        ``patient``, and of the former a column of probabilities as they are for each network.
    networks : dict of name to (the network, name of that column, threshold)
    resamples : int
        Of patients, behind the intervals.

    Returns
    -------
    tuple of two dicts by name
        The log-odds less those of the threshold, shape (lungs, bodies), and what `measure` returns.
    """
    times = metrics.resample(lungs, resamples), metrics.resample(bodies, resamples, seed=1)
    squares, figures = {}, {}
    for i, (name, (_, column, threshold)) in enumerate(networks.items()):
        odds, cut = calibration.logit(answers[lungs.index, i]), float(calibration.logit(threshold))
        own, squares[name] = calibration.logit(lungs[column]), odds - cut
        figures[name] = measure(odds, own, lungs.label, bodies.label, cut, *times)
    return squares, figures


def typical(label, before, after, right) -> list[int]:
    """One film of label 1 and one of label 0 to show: those whose answer moves as far as is usual in their class.

    `before` and `after` are the probabilities of the film as it is and of its lungs in a body of the other class.
    Among the films that are `right` (bool) as they are, or among all where none is, the one with the median change of
    the log-odds towards the other class; of an even number, the lower one of the two in the middle.
    """
    label, right = np.asarray(label, int), np.asarray(right, bool)
    rise = calibration.logit(np.asarray(after, float)) - calibration.logit(np.asarray(before, float))
    chosen = []
    for one in (1, 0):
        rows = np.flatnonzero((label == one) & right)
        rows = rows if len(rows) else np.flatnonzero(label == one)
        moved = rise[rows] * (1 if one == 0 else -1)
        chosen.append(int(rows[np.argsort(moved, kind="stable")[(len(rows) - 1) // 2]]))
    return chosen
