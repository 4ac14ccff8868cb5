"""What readers may bring to 09: pictures that are no frontal chest X-ray of a child, and true films in many formats.

On the first the gate is tried (`gallery`); `write_examples` puts some of both into a folder, as files.
"""

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import skimage
import sklearn
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import gaussian_filter

from .images import squeezed
from .project import cache_dir


def photographs(size: int, rng: np.random.Generator, crops: int = 5) -> np.ndarray:
    """The pictures that come with scikit-image and scikit-learn in gray, each whole and in part: cats, coins, cells.

    A drawn head in a scanner, a retina, tissue, the moon and printed pages are among them. Gray, since colour would
    give them away.

    Parameters
    ----------
    size : int
        Side of the square, pixels.
    rng : numpy.random.Generator
    crops : int
        Parts of each, the whole one of them.

    Returns
    -------
    ndarray of uint8, shape (pictures, size, size)
    """
    places = [Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"]
    found = []
    for path in sorted(path for place in places for path in place.iterdir() if path.suffix in (".png", ".jpg")):
        picture = Image.open(path).convert("L")
        for k in range(crops):
            share = 1 if k == 0 else rng.uniform(0.4, 0.9)
            wide, high = (int(side * share) for side in picture.size)
            x, y = rng.integers(0, picture.width - wide + 1), rng.integers(0, picture.height - high + 1)
            found.append(squeezed(picture.crop((x, y, x + wide, y + high)), size))
    return np.stack(found)


def faces(size: int) -> np.ndarray:
    """A hundred small photographs of faces (scikit-image's part of Labeled Faces in the Wild)."""
    found = np.load(Path(skimage.__file__).parent / "data" / "lfw_subset.npy")[:100]
    return np.stack([squeezed(Image.fromarray((255 * face / face.max()).astype(np.uint8)), size) for face in found])


def noise(size: int, rng: np.random.Generator, count: int = 60) -> np.ndarray:
    """Noise from a single pixel's grain to large clouds."""
    found = []
    for width in rng.uniform(0, 25, count):
        cloud = gaussian_filter(rng.normal(size=(size, size)), width * size / 128)
        found.append((255 * (cloud - cloud.min()) / np.ptp(cloud)).astype(np.uint8))
    return np.stack(found)


def drawings(size: int, rng: np.random.Generator, count: int = 60) -> np.ndarray:
    """Lines, discs, boxes and words, as in a scanned letter or a slide."""
    found = []
    for _ in range(count):
        ground = int(rng.integers(0, 256))
        picture = Image.new("L", (256, 256), ground)
        pen = ImageDraw.Draw(picture)
        for _ in range(rng.integers(3, 14)):
            x, y = rng.integers(-20, 240, 2).tolist()
            wide, high = rng.integers(10, 140, 2).tolist()
            ink = int((ground + rng.integers(60, 196)) % 256)
            kind = rng.integers(4)
            if kind == 3:
                pen.text((x, y), "Report of " * 3, fill=ink, font=ImageFont.load_default(8 + wide / 6))
            else:
                (pen.ellipse, pen.rectangle, pen.line)[kind]([x, y, x + wide, y + high], fill=ink)
        found.append(squeezed(picture, size))
    return np.stack(found)


def limbs(size: int, rng: np.random.Generator, count: int = 60) -> np.ndarray:
    """Drawn radiographs of other parts of the body: long bones with a joint, hands, skulls, on black."""
    y, x = np.mgrid[-1:1:size * 1j, -1:1:size * 1j]
    found = []

    def rod(at, angle, length, radius):
        along = (x - at[0]) * np.sin(angle) + (y - at[1]) * np.cos(angle)
        across = (x - at[0]) * np.cos(angle) - (y - at[1]) * np.sin(angle)
        width = radius * (1 + 0.5 * np.abs(along / length) ** 4)  # thicker at its ends
        return np.sqrt(np.clip(1 - (across / width) ** 2, 0, None)) * (np.abs(along) < length)

    for k in range(count):
        tilt, bone, soft = rng.normal(0, 0.25), np.zeros_like(x), np.zeros_like(x)
        if k % 3 == 0:  # a leg or an arm
            for part, sign in ((rod, -1), (rod, 1)):
                at = (0.52 * sign * np.sin(tilt), 0.52 * sign * np.cos(tilt))
                bone += part(at, tilt, 0.48, rng.uniform(0.1, 0.18))
                soft += 0.7 * part(at, tilt, 0.6, rng.uniform(0.35, 0.55))
        elif k % 3 == 1:  # a hand
            for finger in np.linspace(-0.6, 0.6, 5) + rng.normal(0, 0.04, 5):
                for joint in (-0.1, 0.3, 0.6):
                    at = (joint * np.sin(finger) + 0.25 * finger, 0.4 - joint * np.cos(finger))
                    bone += rod(at, -finger, 0.14, 0.05)
                    soft += 0.5 * rod(at, -finger, 0.2, 0.11)
            soft += 0.6 * np.sqrt(np.clip(1 - (x / 0.45) ** 2 - ((y - 0.5) / 0.45) ** 2, 0, None))
        else:  # a skull
            wide, high = rng.uniform(0.6, 0.8), rng.uniform(0.75, 0.9)
            inside = (x / wide) ** 2 + (y / high) ** 2
            bone += 1.2 * ((inside < 1) & (inside > 0.85)) + 0.3 * (inside < 1)
            for side in (-0.28, 0.28):
                bone -= 0.35 * (((x - side) / 0.16) ** 2 + ((y - 0.15) / 0.13) ** 2 < 1)
            soft += 0.5 * (inside < 1.15)
        film = gaussian_filter(0.35 * soft + 0.5 * bone, 1) + rng.normal(0, 0.015, x.shape)
        found.append((255 * film.clip(0, 1)).astype(np.uint8))
    return np.stack(found)


def halves(films: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One half or one quarter of each film, filling the picture."""
    size, found = films.shape[1], []
    for film in films:
        wide, high = ((1, 2), (2, 1), (2, 2))[rng.integers(3)]
        x, y = rng.integers(0, wide) * size // wide, rng.integers(0, high) * size // high
        part = Image.fromarray(film).crop((x, y, x + size // wide, y + size // high))
        found.append(squeezed(part, size))
    return np.stack(found)


def screens(films: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each film as on a monitor that somebody photographs: in perspective, with the room around it, and moire."""
    size, found = films.shape[1], []
    stripes = 12 * np.sin(np.arange(size) * rng.uniform(0.8, 1.4)).astype(float)
    for film in films:
        corner = rng.uniform(0.08, 0.3, 8) * size * np.array([-1, -1, -1, 1, 1, 1, 1, -1])
        quad = np.array([0, 0, 0, size, size, size, size, 0]) + corner
        room = int(rng.integers(40, 200))
        shot = Image.fromarray(film).transform((size, size), Image.Transform.QUAD, quad.tolist(), fillcolor=room)
        lit = np.asarray(ImageEnhance.Contrast(shot).enhance(0.7)).astype(float)
        found.append((lit + stripes + rng.normal(0, 3, lit.shape)).clip(0, 255).astype(np.uint8))
    return np.stack(found)


ALTERED = "films"  # names of `gallery` that begin so are true films, changed


def gallery(films: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """All kinds of pictures that should get no answer, by name.

    Parameters
    ----------
    films : ndarray of uint8, shape (images, size, size)
        True films, of which odd ones are made: inverted, turned, in part, photographed from a screen.
    seed : int

    Returns
    -------
    dict of name to ndarray of uint8, shape (pictures, size, size)
    """
    rng, size = np.random.default_rng(seed), films.shape[1]
    return {"photographs": photographs(size, rng), "faces": faces(size), "noise": noise(size, rng),
            "drawings": drawings(size, rng), "drawn limbs and skulls": limbs(size, rng),
            "films, inverted": 255 - films, "films on their side": np.rot90(films, 1, (1, 2)).copy(),
            "films upside down": films[:, ::-1, ::-1].copy(), "films in part": halves(films, rng),
            "films on a screen": screens(films, rng)}


def write_dicom(path: Path, pixels: np.ndarray, **header: str) -> None:
    """A twelve-bit radiograph as DICOM, without compression.

    Parameters
    ----------
    path : Path
    pixels : ndarray of uint16, shape (height, width), 0 to 4095
    **header : str
        More of the header, or other values: ``PhotometricInterpretation="MONOCHROME1"``, ``PatientAge="003Y"``.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    film.Modality, film.BodyPartExamined, film.ViewPosition = "DX", "CHEST", "AP"
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
    film.Rows, film.Columns = pixels.shape
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
    film.PixelData = pixels.astype(np.uint16).tobytes()
    for name, value in header.items():
        setattr(film, name, value)
    film.save_as(path, enforce_file_format=True)


def write_examples(folder: Path, films: pd.DataFrame) -> Path:
    """Put twelve examples into the cache folder.

    Parameters
    ----------
    folder : Path
        Data folder.
    films : DataFrame with the columns ``path`` and ``label``
        Those that may be used: never test films.

    Returns
    -------
    Path
        Their folder.
    """
    target = cache_dir() / "examples"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    of_class = [films.path[films.label == label].tolist() for label in (0, 1)]
    chosen = [folder / own[at] for own in of_class for at in (0, len(own) // 2, len(own) - 1)]
    for number, (path, word) in enumerate(zip(chosen, ["normal"] * 3 + ["pneumonia"] * 3), 1):
        with Image.open(path) as picture:
            gray = picture.convert("L")
        if number == 2:
            block = Image.Exif()
            block[0x0112] = 6  # held upright by a camera that lay on its side
            gray.transpose(Image.Transpose.ROTATE_90).save(target / f"{number} {word}, turned by EXIF.jpeg", exif=block)
        elif number == 3:
            Image.fromarray(np.asarray(gray).astype(np.uint16) * 200 + 5000).save(
                target / f"{number} {word}, 16 bits.png")
        elif number == 5:
            write_dicom(target / f"{number} {word}, MONOCHROME1.dcm", 4095 - 16 * np.asarray(gray).astype(np.uint16),
                        PhotometricInterpretation="MONOCHROME1", PatientAge="003Y")
        else:
            shutil.copyfile(path, target / f"{number} {word}{path.suffix}")
    with Image.open(chosen[0]) as picture:
        gray = picture.convert("L")
    ImageOps.invert(gray).save(target / "7 inverted.png")
    gray.rotate(180).save(target / "8 upside down.png")
    write_dicom(target / "9 adult, by its header.dcm", 16 * np.asarray(gray).astype(np.uint16), PatientAge="045Y")
    stream = io.BytesIO()
    gray.save(stream, "JPEG")
    (target / "10 cut short.jpeg").write_bytes(stream.getvalue()[:len(stream.getvalue()) // 2])
    shutil.copyfile(Path(skimage.__file__).parent / "data" / "chelsea.png", target / "11 cat.png")
    with Image.open(target / "11 cat.png") as picture:
        picture.convert("L").save(target / "12 gray cat.png")
    return target
