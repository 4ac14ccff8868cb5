"""Clues to the label that need no lung, measured on files and films.

`facts` have one row a film and one column a fact, NaN where there is none; `pictures` are uint8, (images, size, size).
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from .images import quiet
from .paths import Problem, display_path

PRINTS = ("KV59", "KV70", "KV68", "KV55")  # tube voltages as a device prints them; others look much like these
ALIKE = 0.55  # correlation from which a device print is one: no normal film of train reaches it
HARD_BLOCK = (r"NORMAL2-IM-(\d+)", 139, 275)  # normal films of the test folder that models take for pneumonia
LARGE_LETTER = 0.07  # of the picture's height
WORDS = {
    "aspect": "width / height",
    "bytes_per_pixel": "bytes per pixel",
    "jpeg_quality": "JPEG quality",
    "color": "gray or color",
    "edge": "body at the edge",
    "tilt": "tilt of the body",
    "lines": "longest bright line",
    "letter": "place and size of the letter",
    "letter_top": "letter: from the top",
    "letter_left": "letter: from the left",
    "letter_size": "letter: size",
    "all": "all of these",
}


# --- groups of films -------------------------------------------------------------------------------------------


def in_block(manifest: pd.DataFrame) -> pd.Series:
    """Which films are of the block of normal test films that models take for pneumonia; none in another data set.

    The block was found by scoring models on the test folder: it may explain an error, and must not steer a training.
    """
    pattern, first, last = HARD_BLOCK
    number = manifest.path.str.extract(pattern)[0].astype(float)
    return (manifest.folder == "test") & (manifest.label == 0) & number.between(first, last)


def subgroups(test: pd.DataFrame, manifest: pd.DataFrame, facts: pd.DataFrame, printed) -> dict[str, pd.Series]:
    """Groups of test films (bool) that a network may do less well on; those that this copy can't show are left out.

    `facts` are the `picture_facts` of train and test, by path; `printed` is `device_print` of the test films.
    """
    of_test, rows = facts.loc[test.path].reset_index(drop=True), manifest.set_index("path")
    normal, block = test.label == 0, test.path.isin(manifest.path[in_block(manifest)])
    middle = facts.loc[manifest.path[manifest.folder == "train"], "edge"].median()
    groups = {"all": test.label >= 0}
    groups |= {kind: test.subtype == kind for kind in sorted(set(test.subtype))}
    groups |= {"normal: the hard block": block, "normal: others": normal & ~block}
    groups |= {"body cut off at the edge": of_test.edge > middle, "ground beside the body": of_test.edge <= middle}
    groups |= {"large letter": of_test.letter_size >= LARGE_LETTER, "small letter": of_test.letter_size < LARGE_LETTER}
    groups["no letter found"] = of_test.letter_size.isna()
    if np.any(printed):
        groups |= {"normal: print of a device": normal & printed, "normal: no such print": normal & ~printed}
    sides = rows.loc[test.path, ["width", "height"]].reset_index(drop=True)
    area, aspect = sides.width * sides.height, sides.width / sides.height
    if area.nunique() > 1:
        groups |= {"smaller picture": area <= area.median(), "larger picture": area > area.median()}
    if aspect.nunique() > 1:
        narrow = aspect <= aspect[normal].median()
        groups |= {"normal: narrower film": normal & narrow, "normal: wider film": normal & ~narrow}
    return groups


# --- facts of files --------------------------------------------------------------------------------------------


def _jpeg_quality(path: Path) -> float:
    """The quality, 1 to 100, at which libjpeg would have saved the file, within 3; NaN where it is no JPEG."""
    try:
        with Image.open(path) as picture:
            tables = getattr(picture, "quantization", None)
    except OSError:
        raise Problem(f"{display_path(path)} can't be read: put it back, or run 01_download.ipynb again.") from None
    if not tables:
        return np.nan
    scale = np.percentile(tables[0], 25) / 0.24  # of libjpeg's own table the lower quartile is 24
    return float(np.clip(100 - scale / 2 if scale < 100 else 5000 / scale, 1, 100).round())


def file_facts(folder: Path, manifest: pd.DataFrame) -> pd.DataFrame:
    """What a file tells before one pixel of it is decoded, with the index of `manifest`."""
    with quiet(), ThreadPoolExecutor() as pool:
        qualities = list(pool.map(_jpeg_quality, [folder / path for path in manifest.path]))
    facts = manifest[["width", "height"]].assign(aspect=manifest.width / manifest.height)
    facts["bytes_per_pixel"] = manifest.bytes / (manifest.width * manifest.height)
    gray = manifest["mode"].isin(["1", "L", "I", "I;16", "F", "MONOCHROME1", "MONOCHROME2"])
    return facts.assign(jpeg_quality=qualities, color=(~gray).astype(int))


# --- facts of films --------------------------------------------------------------------------------------------


def _letters(pictures: np.ndarray) -> pd.DataFrame:
    """The clearest letter-sized bright spot at the left, where an R stands; NaN where there is none."""
    n, size = pictures.shape[:2]
    strip, window = pictures[:, : int(0.65 * size), : int(0.3 * size)], size // 10 | 1
    clear = ndimage.white_tophat(strip, size=(1, window, window))
    within = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])  # spots don't cross to the next picture
    spots, count = ndimage.label(clear > 45, structure=within)
    found = ndimage.find_objects(spots)
    box = [[i.start, *(e / size for e in (y.start, y.stop, x.start, x.stop))] for i, y, x in found]
    spot = pd.DataFrame(box, columns=["image", "letter_top", "bottom", "letter_left", "right"], dtype=float)
    spot["letter_size"], wide = spot.bottom - spot.letter_top, spot.right - spot.letter_left
    spot["clear"] = ndimage.mean(clear, spots, np.arange(1, count + 1)) if count else 0.0
    fill = np.bincount(spots.ravel(), minlength=count + 1)[1:] / size**2 / (spot.letter_size * wide)
    shaped = spot.letter_size.between(0.03, 0.14) & (wide / spot.letter_size).between(0.3, 1.1) & (wide > 2.5 / size)
    spot = spot[shaped & fill.between(0.3, 0.9) & (spot.clear > 60)]
    spot = spot.sort_values("clear").drop_duplicates("image", keep="last").set_index("image")
    return spot[["letter_top", "letter_left", "letter_size"]].reindex(np.arange(n))


def _tilt(pictures: np.ndarray, most: int = 24, step: int = 3, gain: float = 0.2) -> np.ndarray:
    """The turn after which a picture best mirrors itself, in degrees; 0 where none gains `gain` in correlation."""
    n, k = len(pictures), pictures.shape[1] // 4
    small = pictures[:, : 4 * k, : 4 * k].reshape(n, k, 4, k, 4).mean((2, 4), dtype=np.float32)
    y, x = np.mgrid[k // 8 : k - k // 8, k // 8 : k - k // 8] - (k - 1) / 2
    angles, scores = np.arange(-most, most + 1, step), []
    for turn in np.radians(angles):
        down, right = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
        turned = small[:, *(np.rint(np.clip(at + (k - 1) / 2, 0, k - 1)).astype(int) for at in (down, right))]
        turned -= turned.mean((1, 2), keepdims=True)
        m = turned.shape[2]
        waves = np.fft.rfft(turned, 2 * m, axis=2)
        mirrored = np.fft.irfft((waves**2).sum(1), 2 * m, axis=1)[:, m - 1 - m // 4 : m + m // 4]
        scores.append(mirrored.max(1) / np.maximum((turned**2).sum((1, 2)), 1))
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
    """What can be measured of a film without knowing what a lung is: one row a picture, made for 128 pixels.

    ``sharpness`` is the variance of the Laplacian over the picture's (Pech-Pacheco 2000), ``edge`` 0 where dark ground
    is left beside the body, near 1 where it is cut off, ``lines`` the length of the longest thin bright line; `_tilt`
    and `_letters` say more. Lengths are shares of the side.
    """
    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(_measure, pictures))
    facts = pd.DataFrame(rows, columns=["brightness", "contrast", "sharpness", "edge", "lines"], dtype=float)
    return facts.assign(tilt=_tilt(pictures)).join(_letters(pictures))


@cache
def _print_templates(size: int) -> np.ndarray:
    """`PRINTS` in four heights and four widths, each with mean 0 and norm 1: (templates, rows, columns)."""
    font, fine, made = ImageFont.load_default(64), 8, []
    rows, columns = round(0.067 * size), round(0.125 * size)
    for text in PRINTS:
        left, top, right, bottom = (round(side) for side in font.getbbox(text))
        word = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(word).text((-left, -top), text, fill=255, font=font)
        for high in (0.024, 0.029, 0.034, 0.040):  # of the picture's side
            for wide in (1.5, 1.8, 2.15, 2.5):  # of the height: the film is squeezed
                shape = round(high * wide * size * fine), round(high * size * fine)
                ground = Image.new("L", (columns * fine, rows * fine))
                ground.paste(word.resize(shape), ((ground.width - shape[0]) // 2, (ground.height - shape[1]) // 2))
                made.append(np.asarray(ground.resize((columns, rows), Image.Resampling.BOX), np.float32))
    templates = np.stack(made)
    templates -= templates.mean(axis=(1, 2), keepdims=True)
    return templates / np.linalg.norm(templates, axis=(1, 2), keepdims=True)


@threadpool_limits.wrap(limits=1)
def device_print(pictures: np.ndarray) -> np.ndarray:
    """Whether (bool) a device has printed its tube voltage (``KV59``) at the lower right; very small prints are missed.

    By normalised cross-correlation with templates, after a white top-hat. Made for 224 pixels; no use below 160.
    """
    size = pictures.shape[1]
    templates = _print_templates(size)
    shape, rows, columns = templates.shape[1:], round(0.1 * size), round(0.18 * size)
    corner = ndimage.white_tophat(pictures[:, -2 * rows :, -2 * columns :], size=(1, 1, size // 32 | 1))
    room = (0, round(0.013 * size)), (0, round(0.027 * size))  # the margin of a template beyond the edge
    best = np.empty(len(pictures))
    for i, film in enumerate(corner[:, -rows:, -columns:]):
        places = np.lib.stride_tricks.sliding_window_view(np.pad(film, room, "edge").astype(np.float32), shape)
        places = places.reshape(-1, shape[0] * shape[1])
        strength = np.maximum(places.std(axis=1), 20) * shape[0] ** 0.5 * shape[1] ** 0.5
        best[i] = (places @ templates.reshape(len(templates), -1).T / strength[:, None]).max()
    return best >= ALIKE
