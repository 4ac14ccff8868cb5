"""What can be measured of a file and of a picture by someone who has never heard of lungs.

These are the clues that a network can use instead of the lungs; `audit` says how far they lead.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from .images import quiet
from .project import Problem, shown

LUMA = [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
        14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]  # JPEG (ITU-T T.81), table K.1
WORDS = {"aspect": "width / height", "bytes_per_pixel": "bytes per pixel", "jpeg_quality": "JPEG quality",
         "color": "gray or color", "edge": "body at the edge", "tilt": "tilt of the body",
         "lines": "longest bright line", "letter": "place and size of the letter", "letter_top": "letter: from the top",
         "letter_left": "letter: from the left", "letter_size": "letter: size", "all": "all of these"}


def _quality(table: list[int]) -> float:
    """The libjpeg quality, 1 to 100, whose luminance table is nearest to `table` (64 numbers, in any order)."""
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    tables = ((np.sort(LUMA) * scale[:, None] + 50) // 100).clip(1, 255)
    return float(quality[np.abs(np.log(tables / np.sort(table).clip(1))).sum(axis=1).argmin()])


def file_facts(folder: Path, manifest: pd.DataFrame) -> pd.DataFrame:
    """What a file tells before one pixel of it is decoded.

    Parameters
    ----------
    folder : Path
        Data folder.
    manifest : DataFrame as `data.survey` returns it

    Returns
    -------
    DataFrame, the index of `manifest`
        ``width``, ``height`` (pixels), ``aspect`` (width / height), ``bytes_per_pixel``, ``jpeg_quality`` (1 to 100,
        of the libjpeg table that is nearest to the file's; NaN for a PNG), ``color`` (1 unless the file is gray).

    Raises
    ------
    Problem
        A file is gone or is no picture.
    """
    def quality(path: str) -> float:
        try:
            with Image.open(folder / path) as picture:
                tables = getattr(picture, "quantization", None)
        except OSError:
            raise Problem(f"{path} stands in 01_manifest.csv but can't be read in {shown(folder)}: put it back, or run "
                          "01_download.ipynb again.") from None
        return _quality(tables[0]) if tables else np.nan

    with quiet(), ThreadPoolExecutor() as pool:
        qualities = list(pool.map(quality, manifest.path))
    pixels = manifest.width * manifest.height
    return pd.DataFrame({"width": manifest.width, "height": manifest.height, "aspect": manifest.width / manifest.height,
                         "bytes_per_pixel": manifest.bytes / pixels, "jpeg_quality": qualities,
                         "color": (~manifest["mode"].isin(["1", "L", "I", "I;16", "F"])).astype(int)}, manifest.index)


def _letters(pictures: np.ndarray) -> pd.DataFrame:
    """Side markers: the clearest letter-sized bright spot at the left, where an R stands; NaN where there is none.

    A white top-hat keeps what is bright and narrower than 1/10 of the picture; of its connected spots those may be
    letters that are 3 to 14% of the picture high, about as wide or narrower, neither solid nor thin.
    """
    n, size = pictures.shape[:2]
    strip, window = pictures[:, :int(0.65 * size), :int(0.3 * size)], size // 10 | 1
    clear = ndimage.white_tophat(strip, size=(1, window, window))
    within = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])  # spots don't cross to the next picture
    spots, count = ndimage.label(clear > 45, structure=within)
    box = [[part[0].start] + [edge / size for side in part[1:] for edge in (side.start, side.stop)]
           for part in ndimage.find_objects(spots)]
    spot = pd.DataFrame(box, columns=["image", "letter_top", "bottom", "letter_left", "right"], dtype=float)
    spot["letter_size"], wide = spot.bottom - spot.letter_top, spot.right - spot.letter_left
    spot["clear"] = ndimage.mean(clear, spots, np.arange(1, count + 1)) if count else 0.0
    fill = np.bincount(spots.ravel(), minlength=count + 1)[1:] / size ** 2 / (spot.letter_size * wide)
    spot = spot[spot.letter_size.between(0.03, 0.14) & (wide / spot.letter_size).between(0.3, 1.1)
                & (wide > 2.5 / size) & fill.between(0.3, 0.9) & (spot.clear > 60)]
    spot = spot.sort_values("clear").drop_duplicates("image", keep="last").set_index("image")
    return spot[["letter_top", "letter_left", "letter_size"]].reindex(np.arange(n))


def _tilt(pictures: np.ndarray, most: int = 24, step: int = 3, gain: float = 0.2) -> np.ndarray:
    """Degrees by which the body leans to the right: the turn after which the picture best mirrors itself.

    The mirror stands anywhere in the middle half; 0 where no turn makes the correlation better by `gain`.
    """
    n, k = len(pictures), pictures.shape[1] // 4
    small = pictures[:, :4 * k, :4 * k].reshape(n, k, 4, k, 4).mean((2, 4), dtype=np.float32)
    y, x = np.mgrid[k // 8:k - k // 8, k // 8:k - k // 8] - (k - 1) / 2
    angles, scores = np.arange(-most, most + 1, step), []
    for turn in np.radians(angles):
        down, right = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
        turned = small[:, *(np.rint(np.clip(at + (k - 1) / 2, 0, k - 1)).astype(int) for at in (down, right))]
        turned -= turned.mean((1, 2), keepdims=True)
        m = turned.shape[2]
        waves = np.fft.rfft(turned, 2 * m, axis=2)
        mirrored = np.fft.irfft((waves ** 2).sum(1), 2 * m, axis=1)[:, m - 1 - m // 4:m + m // 4]
        scores.append(mirrored.max(1) / np.maximum((turned ** 2).sum((1, 2)), 1))
    best = np.max(scores, axis=0)
    return np.where(best - scores[len(angles) // 2] >= gain, angles[np.argmax(scores, axis=0)], 0)


def _measure(picture: np.ndarray) -> tuple[float, ...]:
    """``brightness`` to ``lines`` of `picture_facts`, for one picture."""
    size = len(picture)
    gray, middle = picture.astype(np.float32), slice(size // 4, 3 * size // 4)
    low, median, high = np.percentile(gray[::2, ::2], [5, 50, 95])
    edge = min(np.percentile(gray[middle, part], 5) for part in (slice(size // 16), slice(-(size // 16), None)))
    bright = ndimage.white_tophat(picture, size=size // 25) > max(40, 0.3 * (high - low))
    lines, border = [0.0], 0.04 * size
    for box in ndimage.find_objects(ndimage.label(bright, np.ones((3, 3)))[0]):
        if all(side.stop > border and side.start < size - border for side in box):
            lines.append(np.hypot(*(side.stop - side.start for side in box)) / size)
    sharpness = ndimage.laplace(gray).var() / max(gray.var(), 1)
    return gray.mean(), high - low, sharpness, edge / max(median, 1), max(lines)


def picture_facts(pictures: np.ndarray) -> pd.DataFrame:
    """What can be measured of a film without knowing what a lung is; crude, so look at the films that it picks.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (images, size, size)
        The whole film squeezed into a square; made for 128 pixels.

    Returns
    -------
    DataFrame, one row a picture, numbered from 0
        ``brightness`` (mean gray level, 0 to 255), ``contrast`` (95th less 5th percentile), ``sharpness`` (variance of
        the Laplacian over the picture's; Pech-Pacheco 2000, "Diatom autofocusing in brightfield microscopy"),
        ``edge`` (gray level at the darker of the left and right edge over the median: 0 where dark ground is left
        beside the body, near 1 where the body is cut off), ``tilt`` (degrees in the square by which the head leans to
        the right, in steps of 3; 0 where that is not clear), ``lines`` (length of the longest thin bright line, share
        of the side: wires, tubes, sharp ribs); ``letter_top``, ``letter_left`` and ``letter_size`` (place and height of
        a letter at the left, shares of the side; NaN without one).
    """
    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(_measure, pictures))
    facts = pd.DataFrame(rows, columns=["brightness", "contrast", "sharpness", "edge", "lines"], dtype=float)
    return facts.assign(tilt=_tilt(pictures)).join(_letters(pictures))
