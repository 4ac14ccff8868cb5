"""A reader's own picture as the network wants it: JPEG, PNG, TIFF, 8 or 16 bits, or DICOM."""

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from PIL import Image, UnidentifiedImageError
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from . import images
from .data import SMALLEST
from .project import Problem, located, shown

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

    Raises
    ------
    Problem
        There is no such place, or no picture in it.
    """
    place = located(place)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise Problem(f"{shown(place)} is not there: name a picture, or a folder of pictures.")
    found = [path for path in sorted(place.rglob("*"))
             if path.is_file() and not any(part.startswith(".") for part in path.relative_to(place).parts)
             and (path.suffix.lower() in SUFFIXES or _is_dicom(path))]
    if not found:
        raise Problem(f"{shown(place)} holds no picture: put files there that end in {', '.join(SUFFIXES)}.")
    return found


def _is_dicom(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read(path: Path, size: int, ages: tuple[float, float] = AGES) -> Film:
    """One picture, upright and gray, squeezed into a square.

    Eight-bit pictures come exactly as those of the data set (`images.decode`). More bits are stretched from the darkest
    half percent to the brightest; DICOM is rescaled and windowed as its header asks, and MONOCHROME1 is turned over.

    Parameters
    ----------
    path : Path
    size : int
        Side of the square, pixels.
    ages : (youngest, oldest)
        Years, both included; a DICOM file of another patient gets a reason.

    Returns
    -------
    Film

    Raises
    ------
    Problem
        The file can't be read, is damaged, or is no picture.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise Problem(f"{shown(path)} can't be read ({error.strerror}): make it readable.") from None
    if not content:
        raise Problem(f"{shown(path)} is empty (0 bytes): copy it again.")
    try:
        with images.quiet(), warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            dicom = content[128:132] == b"DICM" or Path(path).suffix.lower() in (".dcm", ".dicom")
            return _from_dicom(content, size, ages) if dicom else _from_picture(content, size)
    except Problem as problem:
        raise Problem(f"{shown(path)} {problem}") from None
    except (UnidentifiedImageError, InvalidDicomError):
        raise Problem(f"{shown(path)} is not a picture that can be read: save it as JPEG, PNG or DICOM.") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Problem(f"{shown(path)} has more than {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller.") from None
    except Exception as error:  # Pillow and pydicom raise nearly anything on a file that is not in order
        reason = (str(error) or type(error).__name__).splitlines()[0][:100]
        raise Problem(f"{shown(path)} is damaged or of an unknown kind ({reason}): export it again, as JPEG, PNG or "
                      "uncompressed DICOM.") from None


def _from_picture(content: bytes, size: int) -> Film:
    with Image.open(io.BytesIO(content)) as picture:
        if getattr(picture, "n_frames", 1) > 1:
            raise Problem(f"holds {picture.n_frames} pictures: save the one that is meant.")
        if min(picture.size) < SMALLEST:
            raise Problem(f"is only {picture.width}x{picture.height} pixels: take the original.")
        if picture.mode.startswith(("I", "F")):
            upright = images.upright(picture)
            return Film(_squeezed(_stretched(np.asarray(upright).astype(float)), size), "")
        channels = np.asarray(picture.convert("RGB").resize((64, 64), Image.Resampling.BOX)).astype(float)
    colour = np.ptp(channels, axis=2).mean() / 255
    return Film(images.decode(content, size), "is in colour" if colour > COLOURED else "")


def _stretched(pixels: np.ndarray) -> np.ndarray:
    if not np.isfinite(pixels).all():
        raise Problem("holds pixels that are not numbers: export it again.")
    low, high = np.percentile(pixels, [0.5, 99.5])
    return ((pixels - low) / max(high - low, 1e-9)).clip(0, 1) * 255


def _squeezed(pixels: np.ndarray, size: int) -> np.ndarray:
    return images.squeezed(Image.fromarray(pixels.round().astype(np.uint8)), size)


def _from_dicom(content: bytes, size: int, ages: tuple[float, float]) -> Film:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom remarks on each odd value of a header
        header = pydicom.dcmread(io.BytesIO(content))
        if "PixelData" not in header:
            raise Problem("is a DICOM file without a picture: choose the one that holds it.")
        if int(header.get("NumberOfFrames", 1) or 1) > 1:
            raise Problem(f"holds {header.NumberOfFrames} pictures: save the one that is meant.")
        pixels = header.pixel_array
        if pixels.ndim == 3:
            return Film(_squeezed(pixels[..., :3].mean(axis=2), size), "is in colour")
        if min(pixels.shape) < SMALLEST:
            raise Problem(f"is only {pixels.shape[1]}x{pixels.shape[0]} pixels: take the original.")
        values = apply_modality_lut(pixels, header)
        if "WindowCenter" in header or "VOILUTSequence" in header:
            values = apply_voi_lut(values, header)
            values = (values - values.min()) / max(np.ptp(values), 1e-9) * 255
        else:
            values = _stretched(values.astype(float))
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        values = 255 - values
    return Film(_squeezed(values, size), _said_by(header, ages))


def _said_by(header, ages: tuple[float, float]) -> str:
    """What the header of a DICOM file says against asking the network."""
    modality, view = str(header.get("Modality", "") or ""), str(header.get("ViewPosition", "") or "").upper()
    part, age = str(header.get("BodyPartExamined", "") or "").upper(), str(header.get("PatientAge", "") or "")
    years = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365, "D": 1 / 365}.get(age[-1:], np.nan)
    years *= float(age[:-1]) if age[:-1].isdigit() else np.nan
    if modality not in RADIOGRAPHS:
        return f"is no radiograph (DICOM modality {modality})"
    if part and not any(word in part for word in ("CHEST", "THORAX", "LUNG")):
        return f"shows another part of the body (DICOM says {part.lower()})"
    if view and view not in ("AP", "PA"):
        return f"is no frontal view (DICOM says {view.lower()})"
    if not ages[0] <= years < ages[1] + 1 and not np.isnan(years):
        return f"is of a patient of another age than {ages[0]} to {ages[1]} years (DICOM says {age})"
    return ""
