"""From files to arrays: decode each X-ray once, keep the result, and stress it for validation.

Everything here is NumPy and Pillow; a batch is ``uint8`` of shape ``(images, size, size)``, 0 black to 255 white.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import ExifTags, Image, ImageDraw, ImageFilter, ImageFont
from PIL.Image import Transpose
from skimage import exposure

from .project import Problem, cache_dir, shown, whole

DECODER = 1  # raise it when `decode` changes, so that old caches are not read


TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
         6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}  # by EXIF orientation


@contextmanager
def quiet():
    """Silence what Pillow remarks on odd metadata: it says nothing of the picture, and names folders of the machine."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        yield


def _turn(picture: Image.Image) -> Transpose | None:
    """What makes `picture` upright, as its EXIF block says; None where there is none, or none that can be read."""
    try:
        return TURNS.get(picture.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow's EXIF reader raises nearly anything; the picture beside the block is whole
        return None


def lies_on_its_side(picture: Image.Image) -> bool:
    """Whether `decode` swaps width and height of `picture`, as its EXIF orientation asks."""
    return _turn(picture) in [TURNS[orientation] for orientation in (5, 6, 7, 8)]


def upright(picture: Image.Image) -> Image.Image:
    """`picture` turned as its EXIF orientation asks."""
    turn = _turn(picture)
    return picture.transpose(turn) if turn is not None else picture


def squeezed(picture: Image.Image, size: int) -> np.ndarray:
    """The whole picture in gray, squeezed into a square: uint8, shape (size, size)."""
    return np.asarray(picture.convert("L").resize((size, size), Image.Resampling.BICUBIC))


def decode(source: bytes | Path, size: int) -> np.ndarray:
    """Decode one picture to gray, `size` x `size` pixels, the whole picture squeezed into the square.

    A JPEG is decoded at a fraction of its size, no smaller than twice what is asked for (the format keeps
    each 8x8 block as frequencies, so 1/2, 1/4 and 1/8 cost a fraction of the work), then averaged down.

    Returns
    -------
    ndarray of uint8, shape (size, size)
    """
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
        picture.draft("L", (2 * size, 2 * size))
        picture = upright(picture)
        if picture.mode.startswith("I"):  # 16 bits a pixel, which convert("L") would clip
            picture = Image.fromarray((np.asarray(picture) // 257).clip(0, 255).astype(np.uint8))
        return squeezed(picture, size)


def load(table: pd.DataFrame, folder: Path, size: int) -> np.ndarray:
    """Decode every file of `table` once; a second call with the same files reads the cache.

    Parameters
    ----------
    table : DataFrame with the columns ``path`` (below `folder`) and ``sha256``
        The cache is keyed by both columns and by `size`, so other data never meets an old cache.
    folder : Path
        Data folder.
    size : int
        Side of the square, pixels.

    Returns
    -------
    ndarray of uint8, shape (len(table), size, size), in the order of `table`

    Raises
    ------
    Problem
        A file is gone, or is not the one that the manifest describes, or the cache can't be written.
    """
    key = hashlib.sha256(f"{DECODER} {size} {table[['path', 'sha256']].to_csv(index=False)}".encode())
    cached = cache_dir() / f"images_{size}px_{key.hexdigest()[:16]}.npy"
    pictures = _read_cache(cached, (len(table), size, size))
    if pictures is not None:
        return pictures

    def one(path: str, sha256: str) -> np.ndarray:
        try:
            content = (folder / path).read_bytes()
        except OSError:
            raise Problem(f"{path} stands in 01_manifest.csv but can't be read in {shown(folder)}: "
                          "put it back, or run 01_download.ipynb again.") from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Problem(f"{path} is not the file that 01_manifest.csv describes: "
                          "put the right one back, or run 01_download.ipynb and all after it again.")
        try:
            return decode(content, size)
        except Exception as error:
            raise Problem(f"{path} can't be decoded ({type(error).__name__}), though 01_manifest.csv describes it: "
                          "replace it, and run 01_download.ipynb and all after it again.") from error

    with quiet(), ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
        pictures = list(pool.map(one, table.path, table.sha256))
    pictures = np.stack(pictures) if pictures else np.empty((0, size, size), np.uint8)
    _write_cache(cached, pictures)
    return pictures


def _read_cache(cached: Path, shape: tuple[int, int, int]) -> np.ndarray | None:
    """What an earlier run kept; None where there is nothing, or nothing whole."""
    try:
        pictures = np.load(cached)
        return pictures if pictures.shape == shape and pictures.dtype == np.uint8 else None
    except Exception:  # NumPy takes what is damaged for a zip file, a pickle, ...; whatever it is, it is made again
        return None


def _write_cache(cached: Path, pictures: np.ndarray) -> None:
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with whole(cached) as unfinished:
            np.save(unfinished, pictures)
    except OSError as error:
        raise Problem(f"The image cache in {shown(cached.parent)} can't be written ({error.strerror or error}): free "
                      "the disk or make the folder writable, or set CXR_CACHE_DIR to another folder.") from error


# --- stress: the same X-ray as another scanner, technician or archive might have delivered it -----------------

def reframe(picture: np.ndarray, rng: np.random.Generator, most: float = 0.15) -> np.ndarray:
    """Crop or pad each side by up to `most` of the picture's length, then fill the same square again."""
    size = len(picture)
    left, top, right, bottom = (rng.uniform(-most, most, 4) * size).round().astype(int)
    box = (left, top, size + right, size + bottom)  # beyond the edge: black
    return np.asarray(Image.fromarray(picture).crop(box).resize((size, size), Image.Resampling.BILINEAR))


def swap_corners(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace the four corners, where markers and print stand, by those of `other`."""
    size, result = len(picture), picture.copy()
    high, wide = (rng.uniform(0.10, 0.25, 2) * size).astype(int)
    for rows in (slice(high), slice(size - high, None)):
        for columns in (slice(wide), slice(size - wide, None)):
            result[rows, columns] = other[rows, columns]
    return result


def _others(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another picture for each, whatever its class."""
    order, others = rng.permutation(len(pictures)), np.empty_like(pictures)
    others[order] = pictures[np.roll(order, 1)]  # in a ring, so that none meets itself
    return others


def blur(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur of up to 1.2 pixels."""
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 1.2))))


def recode(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Save as JPEG at a quality of 30 to 95 and read again."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=int(rng.integers(30, 96)))
    return np.asarray(Image.open(stream))


def expose(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma of 0.7 to 1.4, contrast of 0.75 to 1.25, brightness of +-10% of the range."""
    x = (picture / 255.0) ** np.exp(rng.uniform(np.log(0.7), np.log(1.4)))
    x = (x - x.mean()) * rng.uniform(0.75, 1.25) + x.mean() + rng.uniform(-0.1, 0.1)
    return (x.clip(0, 1) * 255).round().astype(np.uint8)


def stress(pictures: np.ndarray, seed: int) -> np.ndarray:
    """All changes together, each X-ray with its own draw: re-framed, other corners, blurred, re-encoded, re-exposed.

    Corners come from another picture of `pictures`, whatever its class.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (images, size, size)
    seed : int
        The same seed gives the same pictures.

    Returns
    -------
    ndarray of uint8, the shape of `pictures`
    """
    rng = np.random.default_rng(seed)
    changed = (recode(expose(blur(reframe(swap_corners(own, other, rng), rng), rng), rng), rng)
               for own, other in zip(pictures, _others(pictures, rng)))
    return np.stack(list(changed)) if len(pictures) else pictures


def with_stressed(pictures: np.ndarray, draws: int) -> np.ndarray:
    """The X-rays as they are, then `draws` stressed copies of all, with the seeds 0, 1, ...

    Parameters
    ----------
    pictures : ndarray of uint8, shape (images, size, size)
    draws : int

    Returns
    -------
    ndarray of uint8, shape ((1 + draws) * images, size, size)
    """
    return np.concatenate([pictures, *(stress(pictures, seed) for seed in range(draws))])


# --- what nothing is trained on: neither in the augmentation of 03 nor in `stress` ---

def _equalised(picture, rng):
    return 255 * exposure.equalize_hist(picture)


def _locally_equalised(picture, rng):
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994), as many viewers apply it."""
    tile = len(picture) // int(rng.integers(3, 8))
    return 255 * exposure.equalize_adapthist(picture, tile, clip_limit=rng.uniform(0.005, 0.03))


def _veiled(picture, rng):
    """Scatter: a bright veil, and less contrast in what is smaller than a twelfth of the picture."""
    smooth = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(len(picture) / 12)), float)
    veil, left = rng.uniform(20, 60), rng.uniform(0.4, 0.7)
    return smooth * (1 - veil / 255) + veil + (picture - smooth) * left


def _narrowed(picture, rng):
    """One side shorter by a fifth to a third, black beside it: a narrow film that was not squeezed."""
    size = len(picture)
    short = round(size / rng.uniform(1.25, 1.45))
    box = [(short, size), (size, short)][rng.integers(2)]
    ground = Image.new("L", (size, size))
    ground.paste(Image.fromarray(picture).resize(box), ((size - box[0]) // 2, (size - box[1]) // 2))
    return np.asarray(ground)


def _lettered(picture, rng):
    """A large bold R at the upper left, as far in as the lung, and print in three corners."""
    size, film = len(picture), Image.fromarray(picture)
    pen, at = ImageDraw.Draw(film), tuple(rng.uniform(0.02, 0.18, 2) * size)
    bold = rng.uniform(0.11, 0.2) * size
    pen.text(at, "R", fill=int(rng.integers(200, 256)), font=ImageFont.load_default(bold), stroke_width=bold // 12)
    for corner in ((0.75, 0.02), (0.02, 0.92), (0.75, 0.92)):
        pen.text((corner[0] * size, corner[1] * size), "1234", fill=230, font=ImageFont.load_default(size / 18))
    return np.asarray(film)


def _coarse(picture, rng):
    size = len(picture)
    small = Image.fromarray(picture).resize([round(size * rng.uniform(0.4, 0.6))] * 2, Image.Resampling.BOX)
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))


def _sharpened(picture, rng):
    """Unsharp masking with a halo, as an old viewer does it."""
    mask = ImageFilter.UnsharpMask(int(rng.integers(2, 6)), int(rng.integers(80, 200)), 0)
    return np.asarray(Image.fromarray(picture).filter(mask))


UNPRACTISED = {"equalised": _equalised, "locally equalised": _locally_equalised, "veiled": _veiled,
               "narrowed": _narrowed, "lettered": _lettered, "coarse": _coarse, "sharpened": _sharpened}


def unpractised(pictures: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """The same X-rays under seven changes that nothing is trained on: neither in `stress`, nor in augmentation.

    What a network gains under `stress` may be what its augmentation practised; what it gains here is not.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (images, size, size)
    seed : int
        The same seed gives the same pictures.

    Returns
    -------
    dict of name to ndarray of uint8, the shape of `pictures`
    """
    rng = np.random.default_rng(seed)
    return {name: np.stack([change(picture, rng) for picture in pictures]).round().clip(0, 255).astype(np.uint8)
            for name, change in UNPRACTISED.items()}


def changes(pictures: np.ndarray, seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """The same X-rays under one change at a time, each by a fixed amount: to see which one a network minds.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (images, size, size)
    seed : int
        Decides whose corners an X-ray gets.

    Yields
    ------
    name : str
    changed : ndarray of uint8, the shape of `pictures`
    """
    size = len(pictures[0])

    def framed(picture: Image.Image, share: float) -> Image.Image:
        edge = round(share * size)
        return picture.crop((edge, edge, size - edge, size - edge)).resize((size, size), Image.Resampling.BICUBIC)

    def jpeg(picture: Image.Image, quality: int) -> Image.Image:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        return Image.open(stream)

    single = {"cropped by 8%": lambda p: framed(p, 0.08), "cropped by 4%": lambda p: framed(p, 0.04),
              "padded by 8%": lambda p: framed(p, -0.08), "JPEG quality 90": lambda p: jpeg(p, 90),
              "JPEG quality 50": lambda p: jpeg(p, 50), "JPEG quality 20": lambda p: jpeg(p, 20),
              "blurred, 1 pixel": lambda p: p.filter(ImageFilter.GaussianBlur(1)),
              "blurred, 2 pixels": lambda p: p.filter(ImageFilter.GaussianBlur(2)),
              "darkened by 30%": lambda p: p.point(lambda gray: 0.7 * gray),
              "gamma 1.4": lambda p: p.point(lambda gray: 255 * (gray / 255) ** 1.4),
              "turned by 5 degrees": lambda p: p.rotate(5, Image.Resampling.BICUBIC),
              "turned by 10 degrees": lambda p: p.rotate(10, Image.Resampling.BICUBIC),
              "mirrored": lambda p: p.transpose(Transpose.FLIP_LEFT_RIGHT)}
    for name, change in single.items():
        yield name, np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pictures])
    rng = np.random.default_rng(seed)
    yield "corners of another", np.stack([swap_corners(own, other, rng)
                                          for own, other in zip(pictures, _others(pictures, rng))])
