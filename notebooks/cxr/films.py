"""A reader's own picture as the network wants it: JPEG, PNG, TIFF, 8 or 16 bits, or DICOM."""

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from . import images
from .data import SMALLEST
from .dicom import stretched
from .paths import Problem, display_path, resolve

SUFFIXES = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
COLOURED = 0.05  # mean distance of the strongest and the weakest channel, of their range: more is no radiograph
RADIOGRAPHS = ("CR", "DX", "RG", "RF", "")
AGES = (1, 5)  # years of the patients that the network was trained on


class Film(NamedTuple):
    """``pixels`` (uint8, (size, size)), and ``reason``: why the network must not be asked, else empty."""

    pixels: np.ndarray
    reason: str


def collect(place: str | Path) -> list[Path]:
    """The pictures in a folder and the folders below it, by name; or the one file.

    A Problem where there is no such place, or no picture in it.
    """
    place = resolve(place)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise Problem(f"{display_path(place)} is not there: name a picture, or a folder of pictures.")
    found = [path for path in images.listed(place, SUFFIXES) if path.is_file()]
    if not found:
        raise Problem(f"{display_path(place)} holds no picture: put files there that end in {', '.join(SUFFIXES)}.")
    return found


def passed_over(place: str | Path, taken: Sequence[Path]) -> list[Path]:
    """What lies in a folder and below it and is not among the files `taken` from it, by name.

    Files of other kinds, hidden ones, links to nowhere or to folders, folders that can't be opened; of a hidden folder
    only its own name. Empty where `place` is a file.
    """
    found: list[Path] = []
    place, known, closed_to_us = resolve(place), set(taken), found.append
    if place.is_file():
        return []
    for folder, below, files in os.walk(place, onerror=lambda error: closed_to_us(Path(error.filename))):
        here = Path(folder)
        closed = {name for name in below if name.startswith(".") or (here / name).is_symlink()}
        below[:] = [name for name in below if name not in closed]
        found += [here / name for name in (*closed, *files) if here / name not in known]
    return sorted(found)


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Silence what pydicom and Pillow remark on each odd value of a header; a picture too large is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_all(paths: Sequence[Path], size: int, ages: tuple[float, float] = AGES) -> list[Film | Problem]:
    """What `read` says of each file, decoded in threads; its Problem in the place of one that can't be read."""

    def one(path: Path) -> Film | Problem:
        try:
            return _read(path, size, ages)
        except Problem as problem:
            return problem

    with _without_remarks(), ThreadPoolExecutor(os.cpu_count()) as pool:  # Python keeps one list of filters for all
        return list(pool.map(one, paths))


def read(path: Path, size: int, ages: tuple[float, float] = AGES) -> Film:
    """One picture, upright and gray, squeezed into a square of side `size`.

    Eight-bit pictures and DICOM come exactly as those of the data set (`images.decode`). Other pictures of more bits
    are stretched from the darkest half percent to the brightest. A DICOM file of a patient who is not of these `ages`
    (youngest and oldest, years) gets a reason. A Problem where the file can't be read, is damaged, or is no picture.
    """
    with _without_remarks():
        return _read(path, size, ages)


def _read(path: Path, size: int, ages: tuple[float, float]) -> Film:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise Problem(f"{display_path(path)} can't be read ({error.strerror}): make it readable.") from None
    if not content:
        raise Problem(f"{display_path(path)} is empty (0 bytes): copy it again.")
    try:
        return _film(content, size, ages)
    except Problem as problem:
        raise Problem(f"{display_path(path)} {problem}") from None
    except UnidentifiedImageError:
        raise Problem(f"{display_path(path)} is not a picture that can be read: save it as JPEG, PNG or DICOM.") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Problem(f"{display_path(path)} has more than {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller.") from None
    except Exception as error:  # Pillow raises nearly anything on a file that is not in order
        state = f"damaged or of an unknown kind ({(str(error) or type(error).__name__).splitlines()[0][:100]})"
        raise Problem(f"{display_path(path)} is {state}: export it again, as JPEG, PNG or uncompressed DICOM.") from None


def _film(content: bytes, size: int, ages: tuple[float, float]) -> Film:
    with Image.open(io.BytesIO(content)) as picture:
        if (frames := getattr(picture, "n_frames", 1)) > 1:
            raise Problem(f"holds {frames} pictures: save the one that is meant.")
        if min(picture.size) < SMALLEST:
            raise Problem(f"is only {picture.width}x{picture.height} pixels: take the original.")
        if picture.format == "DICOM":
            return Film(images.squeezed(picture, size), _said_by(picture.header, ages))  # type: ignore[attr-defined]
        if picture.mode.startswith(("I", "F")):
            pixels = stretched(np.asarray(images.upright(picture)).astype(float)).round()
            return Film(images.squeezed(Image.fromarray(pixels.astype(np.uint8)), size), "")
        channels = np.asarray(picture.convert("RGB").resize((64, 64), Image.Resampling.BOX)).astype(float)
    colour = np.ptp(channels, axis=2).mean() / 255
    return Film(images.decode(content, size), "is in colour" if colour > COLOURED else "")


def _said_by(header, ages: tuple[float, float]) -> str:
    """What the header of a DICOM file says against asking the network."""
    modality, view = str(header.get("Modality", "") or ""), str(header.get("ViewPosition", "") or "").upper()
    part, age = str(header.get("BodyPartExamined", "") or "").upper(), str(header.get("PatientAge", "") or "")
    years = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365, "D": 1 / 365}.get(age[-1:], np.nan)
    years *= float(age[:-1]) if age[:-1].isdigit() else np.nan
    if int(header.get("SamplesPerPixel", 1)) > 1:
        return "is in colour"
    if modality not in RADIOGRAPHS:
        return f"is no radiograph (DICOM modality {modality})"
    if part and not any(word in part for word in ("CHEST", "THORAX", "LUNG")):
        return f"shows another part of the body (DICOM says {part.lower()})"
    if view and view not in ("AP", "PA"):
        return f"is no frontal view (DICOM says {view.lower()})"
    if not ages[0] <= years < ages[1] + 1 and not np.isnan(years):
        return f"is of a patient of another age than {ages[0]} to {ages[1]} years (DICOM says {age})"
    return ""
