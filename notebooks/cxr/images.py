"""From files to arrays: the one reader of films, for training, prediction and folders of other hospitals.

A batch is ``uint8`` of shape ``(images, size, size)``, 0 black to 255 white. A Problem of `decode` and `opened` begins
after the file's name: who knows it puts it in front.
"""

import hashlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError
from PIL.Image import Transpose

from .keys import cache_key
from .paths import Problem, atomic_write, cache_dir, display_path, resolve

FORMATS = dict.fromkeys((".jpeg", ".jpg", ".jfif"), "JPEG") | dict.fromkeys((".tif", ".tiff"), "TIFF")
FORMATS |= {".png": "PNG", ".bmp": "BMP", ".webp": "WEBP", ".dcm": "DICOM", ".dicom": "DICOM"}
SMALLEST = 32  # pixels; below this no rib can be seen
COLOURED = 0.05  # mean distance of the strongest and the weakest channel, of their range: more is no radiograph
MASKS = re.compile(r"(?<![a-z])(masks?|segmentations?)(?![a-z])|masks?$", re.IGNORECASE)  # names of drawn outlines
RADIOGRAPHS = ("CR", "DX", "RG", "RF", "")
AGES = (1, 5)  # years of Kermany's children
CHEST = re.compile(r"CHEST|THORA|T.?RAX|LUNG|PULM|PECHO|BRUST|TORSO")
OTHER_PARTS = re.compile(  # in English, German, French and Spanish
    r"HAND|FOOT|FEET|FINGER|KNEE|ANKLE|WRIST|ELBOW|\bHIPS?\b|PELVIS|SKULL|\bHEAD|[CTLS]SPINE|SPINE|ABDOMEN|\bARM\b|\bLEG\b"
    r"|SHOULDER|FEMUR|TIBIA|HUMERUS|FOREARM|FU(SS|ß)|KNIE|SCH(AE|Ä)DEL|BECKEN|WIRBEL|SCHULTER|\bMAIN\b|\bPIED|GENOU|CRANE"
    r"|CR[AÁ]NEO|BASSIN|\bMANO\b|\bPIE\b|RODILLA|CADERA|COLUMNA|NECK|BREAST|MAMMA|EXTREMIT|\bJAW\b"
)
TURNS = {number: Transpose(turn) for number, turn in zip(range(2, 9), (0, 3, 1, 5, 4, 6, 2))}  # by EXIF orientation


class Film(NamedTuple):
    """``pixels`` (uint8, (size, size)), and ``reason``: why the network must not be asked, else empty."""

    pixels: np.ndarray
    reason: str


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what Pillow and pydicom remark on odd metadata; a picture too large is an error. Not inside a thread."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|pydicom)\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def find(place: str | Path, or_none: bool = False) -> tuple[list[Path], list[Path]]:
    """The films in a folder and below it (or the one file), and all else that is there; both by name.

    All else: other and hidden files, links to nothing; folders that are hidden, linked, unreadable or of lung masks.
    """

    def is_dicom(path: Path) -> bool:
        with suppress(OSError), path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
        return False

    place = resolve(place)
    if place.is_file():
        return [place], []
    if not place.is_dir():
        raise Problem(f"{display_path(place)} is not there: name a film, or a folder of films.")
    films, others = list[Path](), list[Path]()
    closed_to_us = others.append
    for folder, below, files in os.walk(place, onerror=lambda error: closed_to_us(Path(error.filename))):
        here = Path(folder)
        closed = {one for one in below if one.startswith((".", "__")) or (here / one).is_symlink() or MASKS.search(one)}
        below[:] = [one for one in below if one not in closed]
        others += [here / one for one in closed]
        for path in (here / one for one in files):
            wanted = path.name[0] != "." and not MASKS.search(path.stem) and path.is_file()
            (films if wanted and (path.suffix.lower() in FORMATS or is_dicom(path)) else others).append(path)
    if not films and not or_none:
        raise Problem(f"{display_path(place)} holds no film: put files there that end in {', '.join(FORMATS)}.")
    return sorted(films), sorted(others)


def stretch(pixels: np.ndarray) -> np.ndarray:
    """From the darkest half percent to the brightest: 0 to 255, not rounded."""
    if not np.isfinite(pixels).all():
        raise Problem("holds pixels that are not numbers: export it again.")
    low, high = np.percentile(pixels, [0.5, 99.5])
    return ((pixels - low) / max(high - low, 1e-9)).clip(0, 1) * 255


class DicomFile(ImageFile.ImageFile):
    """One radiograph, gray with 8 bits: rescaled and windowed as its header asks, MONOCHROME1 turned over.

    Without a window it is stretched; a picture in colour is the mean of its channels. ``header`` is pydicom's.
    """

    format = "DICOM"
    fp: Any

    def _open(self) -> None:
        if self.fp.read(132)[128:] != b"DICM":
            raise SyntaxError("no DICOM file")  # Pillow then tries another format
        import pydicom  # nobody without DICOM files waits for it

        self.fp.seek(0)
        self.header = pydicom.dcmread(self.fp)
        if "PixelData" not in self.header:
            raise Problem("is a DICOM file without a picture: choose the one that holds it.")
        self.n_frames = int(self.header.get("NumberOfFrames", 1) or 1)
        self._mode, self._size = "L", (int(self.header.Columns), int(self.header.Rows))

    def load(self):
        if self._im is None:
            self.im = Image.fromarray(self._gray().round().astype(np.uint8)).im
        return super().load()

    def _gray(self) -> np.ndarray:
        from pydicom.pixels import apply_modality_lut, apply_voi_lut

        self.header.pixel_array_options(correct_unused_bits=False)  # pydicom takes HighBit for BitsStored - 1
        syntax = self.header.file_meta.TransferSyntaxUID
        try:
            pixels = self.header.pixel_array
        except Exception as error:
            if not syntax.is_compressed:
                raise
            lack = f"is compressed as {syntax.name} and can't be decoded here (gdcmconv --raw decompresses it)"
            raise Problem(f"{lack}: save it uncompressed.") from error
        # Above and below the bits of the picture old devices put drawings and dates. The shift keeps a sign.
        bits, width = int(self.header.BitsStored), 8 * pixels.dtype.itemsize
        top = bits - 1 if syntax.is_compressed else int(self.header.HighBit)
        if not bits - 1 <= top < width:
            claim = f"says that bit {top} of {width} is the highest of {bits} that are used (HighBit, BitsStored)"
            raise Problem(f"{claim}: export it again.")
        pixels = pixels << (width - 1 - top) >> (width - bits)
        if pixels.ndim == 3:
            return pixels[..., :3].mean(axis=2)
        values = apply_modality_lut(pixels, self.header)
        if "WindowCenter" in self.header or "VOILUTSequence" in self.header:
            values = apply_voi_lut(values, self.header)
            values = (values - values.min()) / max(np.ptp(values), 1e-9) * 255
        else:
            values = stretch(values.astype(float))
        return 255 - values if self.header.get("PhotometricInterpretation") == "MONOCHROME1" else values


Image.preinit()  # its usual formats are tried first
Image.register_open(DicomFile.format, DicomFile)


def _header_reason(header, ages: tuple[float, float] | None) -> str:
    """What the header of a DICOM file says against asking the network."""
    names = ("Modality", "ViewPosition", "BodyPartExamined", "PatientAge")
    modality, view, part, age = (str(header.get(name, "") or "").upper() for name in names)
    years = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365, "D": 1 / 365}.get(age[-1:], np.nan)
    years *= float(age[:-1]) if age[:-1].isdigit() else np.nan
    if int(header.get("SamplesPerPixel", 1)) > 1:
        return "is in colour"
    if modality not in RADIOGRAPHS:
        return f"is no radiograph (DICOM modality {modality})"
    if OTHER_PARTS.search(part) and not CHEST.search(part):
        return f"shows another part of the body (DICOM says {part.lower()})"
    if view not in ("AP", "PA", ""):
        return f"is no frontal view (DICOM says {view.lower()})"
    if ages and not ages[0] <= years < ages[1] + 1 and not np.isnan(years):
        return f"is of a patient of another age than {ages[0]} to {ages[1]} years (DICOM says {age})"
    return ""


@contextmanager
def opened(content: bytes) -> Iterator[Image.Image]:
    """The picture in a file's `content`; whatever is wrong with it, found here or inside the block, is a Problem."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if (frames := getattr(picture, "n_frames", 1)) > 1:
                raise Problem(f"holds {frames} pictures: save the one that is meant.")
            if min(picture.size) < SMALLEST:
                raise Problem(f"is only {picture.width}x{picture.height} pixels: take the original.")
            # Of 16 bits a channel, in colour or with transparency, Pillow keeps the upper 8.
            if content.startswith(b"\x89PNG") and content[24] == 16 and picture.mode in ("RGB", "RGBA", "LA"):
                levels = 1 + int(np.asarray(picture)[..., : len(picture.mode.strip("A"))].max())
                if levels <= 64:
                    lost = f"has 16 bits a channel and uses {levels / 2.56:.2g}% of their range"
                    raise Problem(f"{lost}: save it with one gray channel, or with 8 bits.")
            yield picture
    except Problem:
        raise
    except UnidentifiedImageError:
        raise Problem(
            f"is not a picture that can be read ({len(content):,} bytes): save it as JPEG, PNG or DICOM."
        ) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Problem(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller.") from None
    except Exception as error:  # Pillow and pydicom raise nearly anything on a file that is not in order
        what = (str(error) or type(error).__name__).splitlines()[0][:100].replace(":", ",")
        raise Problem(f"is damaged ({what}): export it again, as JPEG, PNG or uncompressed DICOM.") from error


def upright(picture: Image.Image) -> Image.Image:
    """`picture` turned as its EXIF block asks; as it is where there is none, or none that can be read."""
    turn = None
    with suppress(Exception):  # Pillow's EXIF reader raises nearly anything; the picture beside the block is whole
        turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)


def squeezed(picture: Image.Image, size: int) -> np.ndarray:
    """The whole picture in gray, squeezed into a square: uint8, shape (size, size)."""
    return np.asarray(picture.convert("L").resize((size, size), Image.Resampling.BICUBIC))


def to_eight_bits(pixels: np.ndarray, bits_used: int = 0) -> np.ndarray:
    """Gray levels as 0 to 255. Whole numbers of up to 16 bits: black is 0, and white the end of their range.

    The range is what the file says (`bits_used`, 0: nothing) if all levels fit into that, else the smallest of 8, 10,
    12, 14 and 16 bits that holds the brightest pixel. Other numbers (fractions, below 0, more bits) are stretched.
    """
    if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() >= 2**16:
        return stretch(pixels.astype(float)).round().astype(np.uint8)
    bits = next((bits for bits in (bits_used, 8, 10, 12, 14) if pixels.max() < 2**bits and bits), 16)
    return (pixels.astype(np.int64) * 255 // (2**bits - 1)).clip(0, 255).astype(np.uint8)


def decode(content: bytes, size: int) -> np.ndarray:
    """A picture in gray and upright, all of it squeezed into a square: uint8, shape (size, size).

    A JPEG is decoded at a fraction of its size, no smaller than twice what is asked for, then averaged down.
    """
    with opened(content) as picture:
        picture.draft("L", (2 * size, 2 * size))
        turned = upright(picture)
        if turned.mode.startswith(("I", "F")):  # more than 8 bits a pixel, which convert("L") would clip
            said = content.partition(b"IDAT")[0].partition(b"sBIT")[2][:1] if picture.format == "PNG" else b""
            turned = Image.fromarray(to_eight_bits(np.asarray(turned), int.from_bytes(said)))
        return squeezed(turned, size)


def read_all(paths: Sequence[Path], size: int, ages: tuple[float, float] | None = None) -> list[Film | Problem]:
    """Each file as `decode` reads it, and what speaks against it: colour, or the header of a DICOM file.

    `ages` are the youngest and oldest years that it may name; None: any. A Problem in the place of what can't be read.
    """

    def one(path: Path) -> Film | Problem:
        try:
            content = path.read_bytes()
            with opened(content) as picture:
                if isinstance(picture, DicomFile):
                    return Film(squeezed(picture, size), _header_reason(picture.header, ages))
                small = picture.convert("RGB").resize((64, 64), Image.Resampling.BOX)
            gray = picture.mode.startswith(("1", "L", "I", "F"))
            colour = 0 if gray else np.ptp(np.asarray(small).astype(float), axis=2).mean() / 255
            return Film(decode(content, size), "is in colour" if colour > COLOURED else "")
        except OSError as error:
            return Problem(f"{display_path(path)} can't be read ({error.strerror}): make it readable.")
        except Problem as problem:
            return Problem(f"{display_path(path)} {problem}")

    with quiet(), ThreadPoolExecutor(os.cpu_count()) as pool:  # Python keeps one list of filters for all threads
        return list(pool.map(one, paths))


def load(table: pd.DataFrame, folder: Path, size: int) -> np.ndarray:
    """The pictures of `table` (``path``, ``sha256``) in `folder`, uint8 (len(table), size, size), decoded once.

    A Problem where a file is gone, or is not the one that the manifest describes, or the cache can't be written.
    """
    key = cache_key(size, table[["path", "sha256"]], code=[sys.modules[__name__]])
    cached = cache_dir() / f"images_{size}px_{key}.npy"
    with suppress(Exception):  # NumPy takes what is damaged for a zip file, a pickle, ...: it is made again
        pictures = np.load(cached)
        if pictures.shape == (len(table), size, size) and pictures.dtype == np.uint8:
            return pictures

    def one(path: str, sha256: str) -> np.ndarray:
        remedy = "put the right one back, or run 01_download.ipynb and all after it again"
        try:
            content = (folder / path).read_bytes()
            if hashlib.sha256(content).hexdigest() != sha256:
                raise Problem(f"is not the file that 01_manifest.csv describes: {remedy}.")
            return decode(content, size)
        except OSError:
            raise Problem(f"{path} of 01_manifest.csv can't be read in {display_path(folder)}: {remedy}.") from None
        except Problem as problem:
            raise Problem(f"{path} {problem}") from None

    with quiet(), ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
        films = list(pool.map(one, table.path, table.sha256))
    pictures = np.array(films, np.uint8).reshape(-1, size, size)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(cached) as unfinished:
            np.save(unfinished, pictures)
    except OSError as error:
        state = f"The image cache in {display_path(cached.parent)} can't be written ({error.strerror or error})"
        raise Problem(f"{state}: free the disk, or set CXR_CACHE_DIR to another folder.") from error
    return pictures
