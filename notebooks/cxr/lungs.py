"""Where the lungs are: masks that people drew, a network that finds them where nobody has, and what is not lung.

Masks are uint8 of shape (images, size, size): 255 in a lung, 0 elsewhere, in between where a pixel is in part lung.
"""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from . import augment
from .backend import keras
from .paths import ROOT, Problem, display_path

FILE = "lung_masks.npz"  # beside train/ and test/, or in the project's chest_xray/
SIZE = 128  # side of the square that the network for lungs sees, pixels


def _read_masks(path: Path) -> tuple[dict[str, int], np.ndarray, int]:
    """Row of each film by its path, packed bits (a row a film), and side of the masks in a ``lung_masks.npz``."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            names, bits, side = saved["path"].tolist(), saved["bits"], int(saved["side"])
        if bits.dtype == np.uint8 and bits.shape == (len(names), -(-(side**2) // 8)):
            return {name: row for row, name in enumerate(names)}, bits, side
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        pass
    remedy = "take it from the project again, or delete it, and the lungs are found by a network"
    raise Problem(f"{display_path(path)} does not hold path, bits (uint8, a row a film) and side: {remedy}.")


def masks(part, folder: Path, network: keras.Model | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the lungs of a `data.Part`, of the size of its pictures, and for which of them people drew one (bool).

    Drawn masks come from ``lung_masks.npz`` in the data `folder`, else in the project's ``chest_xray/``, by the column
    ``path`` of ``part.table``. The others are what `network` finds (a Problem if there is none at all), or empty.
    """
    size = part.pictures.shape[1]
    found, drawn = np.zeros((len(part.table), size, size), np.uint8), np.zeros(len(part.table), bool)
    path = next(filter(Path.is_file, (folder / FILE, ROOT / "chest_xray" / FILE)), None)
    rows, bits, side = _read_masks(path) if path else ({}, None, 0)
    for i, name in enumerate(part.table.path):
        if name in rows:
            mask = np.unpackbits(bits[rows[name]])[: side**2].reshape(side, side) * np.uint8(255)
            found[i] = np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.BOX))
            drawn[i] = mask.any()
    if network is not None and not drawn.all():
        found[~drawn] = find(network, part.pictures[~drawn])
        if not found.any():
            why = f"No lungs were found in any of {len(found)} films"
            raise Problem(f"{why}: give frontal chest X-rays, upright and not inverted, or a lung_masks.npz.")
    return found, drawn


def load_network(path: Path | None) -> keras.Model:
    """The network for lungs at `path` (``step.earlier("03_lungs.keras")``); a Problem if it is gone."""
    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError):
        what = display_path(path or ROOT / "results/03_lungs.keras")
        remedy = "take it from the project again (git checkout), or put lung_masks.npz beside train/ and test/"
        raise Problem(f"{what}, the network that finds lungs, can't be loaded: {remedy}.") from None


def earlier(step, part, folder: Path) -> keras.Model | None:
    """The network of an earlier run, where people drew the lungs of fewer than half of the films of `part`; else None.

    Films of your own have no drawings, and those of the project's network are better than a network of a few films.
    """
    return load_network(step.earlier("03_lungs.keras")) if masks(part, folder)[1].mean() < 0.5 else None


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

    `network` gives films of `SIZE` x `SIZE` the probability of lung at each pixel. `pictures` are uint8, of any size,
    and so are the masks; a film without lungs has an empty one.
    """
    small = resized(pictures, SIZE)
    found = network.predict(small[..., None], batch_size=128, verbose=0)[..., 0] if len(small) else small
    largest = np.array([_two_largest(mask) for mask in found > 0.5]).reshape(small.shape)
    return resized(largest.astype(np.uint8) * 255, pictures.shape[1])


def change_pairs(pictures: np.ndarray, masks: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Films (0 to 255) and masks (0 to 1) for one pass of training at `SIZE`: both are mirrored, turned and zoomed
    alike, and the films alone get another contrast, brightness and sharpness.
    """
    kind, gray = keras.layers, {"value_range": [0, 255], "seed": seed, "dtype": "float32"}
    move = keras.Sequential([kind.RandomFlip("horizontal", seed=seed), augment.RandomFraming(seed=seed)])
    light = [kind.RandomContrast(0.4, **gray), kind.RandomBrightness(0.15, **gray), augment.RandomSharpness(seed=seed)]
    light, films, moved = keras.Sequential(light), [], []
    pairs = np.stack([resized(pictures, SIZE), resized(masks, SIZE)], -1)
    for start in range(0, len(pairs), 256):
        both = move(pairs[start : start + 256].astype("float32"), training=True)
        films.append(light(both[..., :1], training=True))
        moved.append(both[..., 1:] / 255)
    return np.concatenate(films), np.concatenate(moved)


def dice(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How well two sets of masks agree: twice the shared area over the sum of both areas (Dice 1945), one a film."""
    one, other = one > 127, other > 127
    both = one.sum((1, 2)) + other.sum((1, 2))
    return np.where(both > 0, 2 * (one & other).sum((1, 2)) / np.maximum(both, 1), 1.0)


def summary(values: np.ndarray) -> dict:
    """Number, mean, median and minimum of `dice` values; NaN (nobody drew these lungs) is left out."""
    known = values[~np.isnan(values)]
    figures = (known.mean(), np.median(known), known.min()) if len(known) else (None, None, None)
    rounded = [None if value is None else round(float(value), 4) for value in figures]
    return {"films": len(known)} | dict(zip(("mean", "median", "min"), rounded))


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero((mask > 127).any(axis)) for axis in (1, 0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else (slice(0), slice(0))


def facts(masks: np.ndarray) -> pd.DataFrame:
    """Where the lungs lie and how large they are, as shares of the side of the square; NaN where there are none.

    Columns ``lungs_top``, ``_bottom``, ``_left``, ``_right``, ``_width``, ``_height`` of the box around both,
    ``lungs_area`` (share of the picture) and ``lungs_aspect`` (width / height).
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
