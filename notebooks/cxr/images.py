"""From files to arrays: decode each X-ray once, and keep the result.

Everything here is NumPy and Pillow, which learns to open DICOM here. A batch is ``uint8`` of shape ``(images, size,
size)``, 0 black to 255 white.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import ExifTags, Image
from PIL.Image import Transpose

from .dicom import DicomFile, is_dicom
from .paths import Problem, atomic_write, cache_dir, display_path

DECODER = 1  # raise it when `decode` changes, so that old caches are not read
Image.preinit()  # its usual formats are tried first
Image.register_open(DicomFile.format, DicomFile)
SIDEWAYS = {5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}
TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM} | SIDEWAYS  # by EXIF


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what Pillow and pydicom remark on odd metadata: it says nothing of the picture, and names folders."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"(PIL|pydicom)\.")
        yield


def listed(folder: Path, endings: Collection[str]) -> list[Path]:
    """What lies in `folder` and below it with one of these endings or DICOM's mark, by name; nothing hidden."""
    inside = sorted(path for path in folder.rglob("*") if "/." not in f"/{path.relative_to(folder).as_posix()}")
    return [path for path in inside if path.suffix.lower() in endings or path.is_file() and is_dicom(path)]


def _turn(picture: Image.Image) -> Transpose | None:
    """What makes `picture` upright, as its EXIF block says; None where there is none, or none that can be read."""
    try:
        return TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow's EXIF reader raises nearly anything; the picture beside the block is whole
        return None


def lies_on_its_side(picture: Image.Image) -> bool:
    """Whether `decode` swaps width and height of `picture`, as its EXIF orientation asks."""
    return _turn(picture) in SIDEWAYS.values()


def upright(picture: Image.Image) -> Image.Image:
    """`picture` turned as its EXIF orientation asks."""
    turn = _turn(picture)
    return picture.transpose(turn) if turn is not None else picture


def squeezed(picture: Image.Image, size: int) -> np.ndarray:
    """The whole picture in gray, squeezed into a square: uint8, shape (size, size)."""
    return np.asarray(picture.convert("L").resize((size, size), Image.Resampling.BICUBIC))


def _significant(content: bytes) -> int:
    """Of how many bits a pixel a PNG says that its data are (the chunk sBIT); 0 where it does not say."""
    at = 8
    while content.startswith(b"\x89PNG") and content[at + 4 : at + 8] not in (b"IDAT", b""):
        if content[at + 4 : at + 8] == b"sBIT":
            return content[at + 8]
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    return 0


def to_eight_bits(pixels: np.ndarray, said: int = 0) -> np.ndarray:
    """Gray levels of up to 16 bits as 0 to 255.

    Films of 10, 12 or 14 bits are often stored in 16. Black is 0, and white is what the file says (`said`) if all
    levels fit into that, else the end of the smallest of 8, 10, 12, 14 and 16 bits that holds the brightest pixel. So a
    film of 16 bits that uses less than a quarter of them gets lighter: it can't be told from one of 14. `pixels` are
    whole numbers, not below 0; `said` is 0 where the file does not say. The result is uint8, of the same shape.
    """
    brightest = int(pixels.max())
    bits = next((bits for bits in (said, 8, 10, 12, 14) if brightest < 2**bits and bits), 16)
    return (pixels.astype(np.int64) * 255 // (2**bits - 1)).clip(0, 255).astype(np.uint8)


def lost_bits(picture: Image.Image, content: bytes) -> str:
    """In one clause, that `picture` has lost nearly all of its gray levels on opening; empty where it has not.

    Of a PNG in colour or with transparency, with 16 bits a channel, Pillow keeps the upper 8. Where the data are of
    fewer than 16 bits, hardly anything is left.
    """
    if not (content.startswith(b"\x89PNG") and content[24] == 16 and picture.mode in ("RGB", "RGBA", "LA")):
        return ""
    extrema: Any = picture.getextrema()
    levels = 1 + max(high for band, (_, high) in zip(picture.getbands(), extrema) if band != "A")
    lost = f"has 16 bits a channel and uses {levels / 2.56:.2g}% of their range"
    return f"{lost}: save it with one gray channel, or with 8 bits" if levels <= 64 else ""


def decode(source: bytes | Path, size: int) -> np.ndarray:
    """Decode one picture to gray, `size` x `size` pixels, the whole picture squeezed into the square: uint8.

    A JPEG is decoded at a fraction of its size, no smaller than twice what is asked for (the format keeps
    each 8x8 block as frequencies, so 1/2, 1/4 and 1/8 cost a fraction of the work), then averaged down. More than 8
    bits become 8 as `to_eight_bits` says, those of DICOM as its header says (`dicom.DicomFile`). A Problem, whose
    sentence begins after the file's name, where nearly all gray levels are lost on opening (`lost_bits`), or as of
    `DicomFile`.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        picture.draft("L", (2 * size, 2 * size))
        if said := lost_bits(picture, content):
            raise Problem(f"{said}.")
        picture = upright(picture)
        if picture.mode.startswith("I"):  # 16 bits a pixel, which convert("L") would clip
            picture = Image.fromarray(to_eight_bits(np.asarray(picture), _significant(content)))
        return squeezed(picture, size)


def load(table: pd.DataFrame, folder: Path, size: int) -> np.ndarray:
    """Decode every file of `table` once; a second call with the same files reads the cache.

    `table` has the columns ``path`` (below `folder`, the data folder) and ``sha256``: the cache is keyed by both and by
    `size`, the side of the square in pixels, so other data never meets an old cache. Returns uint8 of shape
    (len(table), size, size), in the order of `table`.

    A Problem where a file is gone, or is not the one that the manifest describes, or the cache can't be written.
    """
    decoder = DECODER + table.path.str.lower().str.endswith(".png").any()  # 1 made PNG of 10 to 14 bits black
    key = hashlib.sha256(f"{decoder} {size} {table[['path', 'sha256']].to_csv(index=False)}".encode())
    cached = cache_dir() / f"images_{size}px_{key.hexdigest()[:16]}.npy"
    with suppress(Exception):  # NumPy takes what is damaged for a zip file, a pickle, ...: it is made again
        pictures = np.load(cached)
        if pictures.shape == (len(table), size, size) and pictures.dtype == np.uint8:
            return pictures

    def one(path: str, sha256: str) -> np.ndarray:
        anew = "run 01_download.ipynb and all after it again"
        try:
            content = (folder / path).read_bytes()
        except OSError:
            lack = f"{path} stands in 01_manifest.csv but can't be read in {display_path(folder)}"
            raise Problem(f"{lack}: put it back, or run 01_download.ipynb again.") from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Problem(f"{path} is not the file that 01_manifest.csv describes: put the right one back, or {anew}.")
        try:
            return decode(content, size)
        except Problem as problem:
            raise Problem(f"{path} {problem}") from None
        except Exception as error:
            lack = f"{path} can't be decoded ({type(error).__name__}), though 01_manifest.csv describes it"
            raise Problem(f"{lack}: replace it, and {anew}.") from error

    with quiet(), ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
        pictures = list(pool.map(one, table.path, table.sha256))
    pictures = np.stack(pictures) if pictures else np.empty((0, size, size), np.uint8)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(cached) as unfinished:
            np.save(unfinished, pictures)
    except OSError as error:
        state = f"The image cache in {display_path(cached.parent)} can't be written ({error.strerror or error})"
        remedy = "free the disk or make the folder writable, or set CXR_CACHE_DIR to another folder"
        raise Problem(f"{state}: {remedy}.") from error
    return pictures
