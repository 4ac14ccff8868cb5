"""Where the lungs are: masks that people drew, a network that finds them where nobody has, and what is not lung.

Masks are uint8 of shape (images, size, size): 255 in a lung, 0 elsewhere, in between where a pixel is in part lung.
Like the pictures they show the whole film squeezed into the square.
"""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from . import augment
from .backend import keras
from .data import Dataset, Part
from .paths import ROOT, Problem, display_path, results_dir

FILE = "lung_masks.npz"  # beside train/ and test/, or in the project's chest_xray/
NETWORK = "03_lungs.keras"  # among the results: where nobody has drawn the lungs, it finds them
SIZE = 128  # side of the square that the network for lungs sees, pixels


def _archive(path: Path) -> tuple[dict[str, int], np.ndarray, int]:
    """Rows by path, packed bits and side of a file of masks; a Problem where it is no such file."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            names, bits, side = saved["path"].tolist(), saved["bits"], int(saved["side"])
        if bits.dtype == np.uint8 and bits.shape == (len(names), -(-(side**2) // 8)):
            return {name: row for row, name in enumerate(names)}, bits, side
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        pass
    remedy = "take it from the project again, or delete it, and the lungs are found by a network"
    raise Problem(f"{display_path(path)} does not hold path, bits (uint8, a row a film) and side: {remedy}.")


def drawn(table: pd.DataFrame, folder: Path, size: int, synthetic: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The masks that people drew, found by the column ``path`` of `table`.

    They are in ``lung_masks.npz`` in the data `folder`, else, for X-rays that are not drawn, in the project's
    ``chest_xray/``: ``path``, ``bits`` (``numpy.packbits`` of each mask, row by row) and ``side``.

    Returns the masks, `size` x `size`, in the order of `table`, and which films have one (bool); all 0 where none is
    drawn. A Problem where the file is not in order.
    """
    masks, known = np.zeros((len(table), size, size), np.uint8), np.zeros(len(table), bool)
    places = [folder / FILE] if synthetic else [folder / FILE, ROOT / "chest_xray" / FILE]
    path = next(filter(Path.is_file, places), None)
    if path is None:
        return masks, known
    rows, bits, side = _archive(path)
    for i, name in enumerate(table.path):
        if name in rows:
            mask = np.unpackbits(bits[rows[name]])[: side**2].reshape(side, side) * np.uint8(255)
            masks[i] = np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.BOX))
            known[i] = mask.any()
    return masks, known


def of(dataset: Dataset, part: Part, network: keras.Model | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The masks of a split of `dataset`: those that people drew, and where there is none, what `find` sees.

    Returns what `drawn` returns; without a `network`, the masks of the others stay empty.
    """
    masks, known = drawn(part.table, dataset.folder, part.pictures.shape[1], dataset.synthetic)
    if network is not None and not known.all():
        masks[~known] = find(network, part.pictures[~known])
    return masks, known


def network() -> keras.Model | None:
    """The network for lungs that 03 has left among the results, or else that of the project; None where none is."""
    places = (results_dir() / NETWORK, ROOT / "results" / NETWORK)
    path = next(filter(Path.is_file, places), None)
    return keras.models.load_model(path, compile=False) if path else None


def resolve(
    table: pd.DataFrame, folder: Path, pictures: np.ndarray, synthetic: bool
) -> tuple[np.ndarray, np.ndarray, str]:
    """The masks for an audit, before 03 has run, which of them people drew (bool), and words for both.

    They are those that people drew, and only those, where that is most of the films: then the figures do not depend on
    what 03 has made before. Else the network that is among the results (`network`) finds the others. Arguments and
    masks as for `drawn`, of the size of the `pictures`; the mask of a film is empty where neither knows.
    """
    masks, known = drawn(table, folder, pictures.shape[1], synthetic)
    words = f"People drew the lungs of {known.sum():,} of the {len(table):,} films"
    finder = None if known.mean() > 0.5 else network()
    if finder is not None:
        masks[~known] = find(finder, pictures[~known])
        words += f"; a network found those of {masks[~known].any(axis=(1, 2)).sum():,} more"
    elif not known.all():
        words += f"; the other {(~known).sum():,} are left out where lungs matter"
    return masks, known, words + "."


def resized(pictures: np.ndarray, size: int) -> np.ndarray:
    """Pictures or masks at another size, uint8 of shape (images, size, size)."""
    if pictures.shape[1] == size:
        return pictures
    smaller = [Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR) for picture in pictures]
    return np.stack([np.asarray(picture) for picture in smaller]) if smaller else np.empty((0, size, size), np.uint8)


def _two_largest(mask: np.ndarray) -> np.ndarray:
    spots, count = ndimage.label(mask)
    if count > 2:
        area = ndimage.sum_labels(mask, spots, np.arange(1, count + 1))
        mask = np.isin(spots, 1 + np.argsort(area)[-2:])
    return ndimage.binary_fill_holes(mask)


def find(network: keras.Model, pictures: np.ndarray) -> np.ndarray:
    """Masks of the lungs as `network` sees them: the two largest spots of more than one half, their holes filled.

    `network` answers films of `SIZE` x `SIZE` with the probability of lung at each pixel. `pictures` are uint8 of
    shape (images, size, size), of any size, and so are the masks; a film without lungs has an empty one.
    """
    small = resized(pictures, SIZE)
    found = network.predict(small[..., None], batch_size=128, verbose=0)[..., 0] if len(small) else small
    masks = np.array([_two_largest(mask) for mask in found > 0.5]).reshape(small.shape)
    return resized(masks.astype(np.uint8) * 255, pictures.shape[1])


def committed() -> keras.Model:
    """The network for lungs that comes with the project, taught by the lungs of its films; a Problem if it is gone."""
    path = ROOT / "results" / "03_lungs.keras"
    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError):
        remedy = "take it from the project again (git checkout), or put lung_masks.npz beside train/ and test/"
        raise Problem(f"{display_path(path)}, the network that finds lungs, can't be loaded: {remedy}.") from None


def changed(pictures: np.ndarray, masks: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Films and their masks under the same flip, turn and zoom; the films exposed and sharpened anew, too.

    What the network for lungs is taught on: float32, (images, size, size, 1), films 0 to 255 and masks 0 to 1.
    """
    flip, framing = keras.layers.RandomFlip("horizontal", seed=seed), augment.RandomFraming(seed=seed)
    light = [augment.layer("RandomContrast", {"factor": 0.4, "value_range": [0, 255]}, seed)]
    light += [augment.layer("RandomBrightness", {"factor": 0.15, "value_range": [0, 255]}, seed)]
    light += [augment.RandomSharpness(seed=seed)]
    films, places = [], []
    for start in range(0, len(pictures), 256):
        part = slice(start, start + 256)
        both = np.stack([pictures[part], masks[part]], -1).astype("float32")
        both = framing(flip(both, training=True), training=True)
        film = both[..., :1]
        for layer in light:
            film = layer(film, training=True)
        films.append(np.asarray(film))
        places.append(np.asarray(both[..., 1:]) / 255)
    return np.concatenate(films), np.concatenate(places)


def dice(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How well two sets of masks agree: twice the shared area over the sum of both areas (Dice 1945), one a film."""
    one, other = one > 127, other > 127
    both = one.sum((1, 2)) + other.sum((1, 2))
    return np.where(both > 0, 2 * (one & other).sum((1, 2)) / np.maximum(both, 1), 1.0)


def summary(found: np.ndarray) -> dict:
    """What `dice` found, in numbers: ``films``, and ``mean``, ``median``, ``min``, None where no film has a figure.

    `found` is an array of shape (films,), NaN for a film whose lungs nobody has drawn.
    """
    known = found[~np.isnan(found)]
    figures = (known.mean(), np.median(known), known.min()) if len(known) else (None, None, None)
    rounded = [None if value is None else round(float(value), 4) for value in figures]
    return {"films": len(known)} | dict(zip(("mean", "median", "min"), rounded))


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero((mask > 127).any(axis)) for axis in (1, 0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else (slice(0), slice(0))


def facts(masks: np.ndarray) -> pd.DataFrame:
    """Where the lungs lie, how large and how wide: shares of the side of the square, NaN where no lung is.

    Columns ``lungs_top``, ``lungs_bottom``, ``lungs_left``, ``lungs_right`` (the box around both), ``lungs_width``,
    ``lungs_height``, ``lungs_area`` (share of the picture), ``lungs_aspect`` (width / height of the box).
    """
    size, rows = masks.shape[1], []
    for mask in masks:
        y, x = _box(mask)
        box = [y.start, y.stop, x.start, x.stop] if y.stop else [np.nan] * 4
        rows.append([value / size for value in box] + [(mask > 127).mean() if y.stop else np.nan])
    table = pd.DataFrame(rows, columns=["lungs_top", "lungs_bottom", "lungs_left", "lungs_right", "lungs_area"])
    table = table.assign(lungs_width=table.lungs_right - table.lungs_left)
    table = table.assign(lungs_height=table.lungs_bottom - table.lungs_top)
    return table.assign(lungs_aspect=table.lungs_width / table.lungs_height)


def painted_black(pictures: np.ndarray, masks: np.ndarray, margin: float = 0.02) -> np.ndarray:
    """The films with the whole box around the lungs painted black, and `margin` of the side around it: the body alone.

    A Problem where a film has no lungs, since nothing would be hidden there.
    """
    bodies, edge = pictures.copy(), round(margin * pictures.shape[1])
    for i, mask in enumerate(masks):
        y, x = _box(mask)
        if not y.stop:
            raise Problem(f"Film {i} of {len(masks)} has no lungs in its mask: leave it out, there is nothing to hide.")
        bodies[i, max(0, y.start - edge) : y.stop + edge, max(0, x.start - edge) : x.stop + edge] = 0
    return bodies
