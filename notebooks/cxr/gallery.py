"""Pictures on which the gate is tried: some that it must decline, altered films, adults, and files of every kind."""

import shutil
from pathlib import Path

import numpy as np
import skimage
import sklearn
from PIL import ExifTags, Image, ImageDraw, ImageEnhance, ImageFont, ImageOps
from pydicom import Dataset, uid
from scipy.ndimage import gaussian_filter
from skimage import exposure

from . import corruptions, lungs
from .images import squeezed
from .paths import cache_dir

SKIMAGE = Path(skimage.__file__).parent / "data"
LFW = SKIMAGE / "lfw_subset.npy"  # small photographs of faces (part of Labeled Faces in the Wild)

GROUPS = {  # of the pictures below: without a chest; turned or inverted; in part or photographed
    "strange": ["photographs", "faces", "noise", "drawings"],
    "turned": ["films, inverted", "films on their side", "films upside down"],
    "altered": ["films in part", "films on a screen"],
}


def gallery(films: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Pictures that should get no answer, by name, of the side of the `films`, of which the last five are made."""
    rng, size = np.random.default_rng(seed), films.shape[1]
    photographs, noise, drawings, halves, screens = [], [], [], [], []
    files = [*SKIMAGE.glob("*.[jp][pn]g"), *Path(sklearn.__file__).parent.glob("datasets/images/*.jpg")]
    for path in sorted(files):
        picture = Image.open(path).convert("L")
        for share in (1, *rng.uniform(0.4, 0.9, 4)):
            wide, high = (int(side * share) for side in picture.size)
            x, y = (int(rng.integers(0, side - own + 1)) for side, own in zip(picture.size, (wide, high)))
            photographs.append(squeezed(picture.crop((x, y, x + wide, y + high)), size))
    for width in rng.uniform(0, 25, 60):  # from a single pixel's grain to large clouds
        cloud = gaussian_filter(rng.normal(size=(size, size)), width * size / 128)
        noise.append((255 * (cloud - cloud.min()) / np.ptp(cloud)).astype(np.uint8))
    for _ in range(60):  # discs, boxes and words, as in a scanned letter
        drawing = Image.new("L", (256, 256), int(rng.integers(0, 120)))
        pen = ImageDraw.Draw(drawing)
        for _ in range(rng.integers(3, 14)):
            (x, y), (wide, high), ink = rng.integers(-20, 200, 2), rng.integers(10, 140, 2), int(rng.integers(160, 256))
            (pen.ellipse, pen.rectangle)[rng.integers(2)]([x, y, x + wide, y + high], fill=ink)
            pen.text((y, x), "Report of", fill=255 - ink, font=ImageFont.load_default(8 + wide / 4))
        drawings.append(squeezed(drawing, size))
    for film in films:
        wide, high = ((1, 2), (2, 1), (2, 2))[rng.integers(3)]
        x, y = rng.integers(0, wide) * size // wide, rng.integers(0, high) * size // high
        halves.append(squeezed(Image.fromarray(film[y : y + size // high, x : x + size // wide]), size))
        screens.append(on_screen(film, rng))
    faces = (Image.fromarray((255 * face / face.max()).astype(np.uint8)) for face in np.load(LFW)[:100])
    made = {"photographs": photographs, "faces": [squeezed(face, size) for face in faces]}
    made |= {"noise": noise, "drawings": drawings}
    made |= {"films, inverted": 255 - films, "films on their side": np.rot90(films, 1, (1, 2))}
    made |= {"films upside down": films[:, ::-1, ::-1], "films in part": halves, "films on a screen": screens}
    return {name: np.stack([*pictures]) for name, pictures in made.items()}


def on_screen(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A film as on a monitor that somebody photographs: in perspective, with the room around it, and moire."""
    size, corners = len(film), np.array([0, 0, 0, 1, 1, 1, 1, 0])
    quad = size * corners + rng.uniform(0.08, 0.3, 8) * size * (2 * corners - 1)
    room = int(rng.integers(40, 200))
    shot = Image.fromarray(film).transform((size, size), Image.Transform.QUAD, quad.tolist(), fillcolor=room)
    lit = np.asarray(ImageEnhance.Contrast(shot).enhance(0.7)) + 12 * np.sin(np.arange(size) * rng.uniform(0.8, 1.4))
    return (lit + rng.normal(0, 3, lit.shape)).clip(0, 255).astype(np.uint8)


def mildly_altered(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """The same films as they may come, by name."""
    size = pictures.shape[1]
    changes = {
        "JPEG quality 50": corruptions.SINGLE["JPEG quality 50"],
        "half resolution": lambda film: lungs.resized(lungs.resized(film[None], size // 2), size)[0],
        "cropped by 5%": lambda film: corruptions.cropped(film, 0.05),
        "gamma 0.7": lambda film: (255 * (film / 255) ** 0.7).round().astype(np.uint8),
        "gamma 1.4": corruptions.SINGLE["gamma 1.4"],
    }
    return {name: np.stack([np.asarray(change(film)) for film in pictures]) for name, change in changes.items()}


def adult_versions(adults: np.ndarray, children: np.ndarray, lung_network, size: int) -> dict[str, np.ndarray]:
    """Films of adults as they are, altered, and disguised: cut to their lungs, with the gray levels of one of the
    `children`, so that anatomy alone gives them away.
    """
    altered, rng, disguised = mildly_altered(adults), np.random.default_rng(0), []
    made = {"as they are": adults, "cropped by 10%": np.stack([corruptions.cropped(a, 0.1) for a in adults])}
    made |= {name: altered[name] for name in ("JPEG quality 50", "half resolution")}
    made = {name: lungs.resized(version, size) for name, version in made.items()}
    places = lungs.facts(lungs.find(lung_network, made["as they are"])).itertuples()
    for film, place in zip(made["as they are"], places):
        margin = rng.uniform(0.02, 0.12, 4) * (-1, -1, 1, 1)
        box = margin + [place.lungs_left, place.lungs_top, place.lungs_right, place.lungs_bottom]
        if not np.isnan(box).any():
            box = tuple((box.clip(0, 1) * size).round().astype(int).tolist())
            film = np.asarray(Image.fromarray(film).crop(box).resize((size, size), Image.Resampling.BICUBIC))
        disguised.append(exposure.match_histograms(film, children[rng.integers(len(children))]))
    return made | {"disguised": np.stack(disguised).round().clip(0, 255).astype(np.uint8)}


def write_dicom(path: Path, pixels: np.ndarray, **header: str) -> None:
    """Twelve-bit `pixels` (to 4095) as a radiograph in DICOM; `header` goes on top: ``PatientAge="003Y"``."""
    film = Dataset()
    film.set_pixel_data(pixels.astype(np.uint16), "MONOCHROME2", bits_stored=12)
    facts = {"SOPClassUID": uid.DigitalXRayImageStorageForPresentation, "Modality": "DX"}
    for name, value in (facts | {"BodyPartExamined": "CHEST", "ViewPosition": "AP"} | header).items():
        setattr(film, name, value)
    film.save_as(path, enforce_file_format=True)


def write_examples(normal: Path, ill: Path, **films: Path | None) -> Path:
    """Twelve kinds of files in a cache folder, made of two films, and copies of `films` under their names."""
    target = cache_dir() / "examples"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    healthy, sick = (Image.open(path).convert("L") for path in (normal, ill))
    copies = {"01 normal": normal, "04 pneumonia": ill}
    copies |= {f"{number} {name.replace('_', ' ')}": path for number, (name, path) in enumerate(films.items(), 13)}
    for name, path in copies.items():
        if path is not None:
            shutil.copyfile(path, target / f"{name}{path.suffix}")
    exif, deep = Image.Exif(), np.asarray(healthy).astype(np.uint16)
    exif[ExifTags.Base.Orientation] = 6  # held upright by a camera that lay on its side
    healthy.transpose(Image.Transpose.ROTATE_90).save(target / "02 normal, turned by EXIF.jpeg", exif=exif)
    Image.fromarray(deep * 200 + 5000).save(target / "03 normal, 16 bits.png")
    dark_bone = {"PhotometricInterpretation": "MONOCHROME1", "PatientAge": "003Y"}
    write_dicom(target / "05 pneumonia, MONOCHROME1.dcm", 4095 - 16 * np.asarray(sick).astype(np.uint16), **dark_bone)
    ImageOps.invert(sick).save(target / "06 inverted.png")
    healthy.rotate(180).save(target / "07 upside down.png")
    write_dicom(target / "08 adult, by its header.dcm", 16 * deep, PatientAge="045Y")
    cut = target / "09 cut short.jpeg"
    healthy.save(cut)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    Image.open(SKIMAGE / "chelsea.png").convert("L").save(target / "10 cat.png")
    sick.crop((0, 0, sick.width // 2, sick.height)).save(target / "11 half of a film.png")
    shot = on_screen(np.asarray(sick.resize((224, 224))), np.random.default_rng(0))
    Image.fromarray(shot).save(target / "12 on a screen.png")
    return target
