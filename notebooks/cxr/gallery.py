"""Pictures on which the out-of-distribution detector is tried, and files of every kind that a reader may bring."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import skimage
import sklearn
from PIL import ExifTags, Image, ImageDraw, ImageEnhance, ImageFont, ImageOps
from pydicom import Dataset, uid
from scipy import stats
from scipy.ndimage import gaussian_filter
from skimage import exposure

from . import corruptions, external, lungs, ood
from .images import squeezed
from .paths import Problem, cache_dir, display_path, resolve

SKIMAGE = Path(skimage.__file__).parent / "data"
ALTERED = "films"  # names of `gallery` that begin so are true films, changed
TURNED = ("films, inverted", "films on their side", "films upside down")  # what the gate can name, and a user undo
CHANGED = ("films in part", "films on a screen")
Pictures = Iterator[np.ndarray]  # each uint8, shape (size, size)


def photographs(size: int, rng: np.random.Generator, crops: int = 5) -> Pictures:
    """The photographs of scikit-image and scikit-learn, each whole and in parts; in gray, as colour tells too much."""
    flowers_and_china = Path(sklearn.__file__).parent / "datasets/images"
    for path in sorted(path for place in (SKIMAGE, flowers_and_china) for path in place.glob("*.[jp][pn]g")):
        picture = Image.open(path).convert("L")
        for k in range(crops):
            share = 1 if k == 0 else rng.uniform(0.4, 0.9)
            wide, high = (int(side * share) for side in picture.size)
            x, y = (int(rng.integers(0, side - own + 1)) for side, own in zip(picture.size, (wide, high)))
            yield squeezed(picture.crop((x, y, x + wide, y + high)), size)


def faces(size: int) -> Pictures:
    """A hundred small photographs of faces (scikit-image's part of Labeled Faces in the Wild)."""
    for face in np.load(SKIMAGE / "lfw_subset.npy")[:100]:
        yield squeezed(Image.fromarray((255 * face / face.max()).astype(np.uint8)), size)


def noise(size: int, rng: np.random.Generator, count: int = 60) -> Pictures:
    """Noise from a single pixel's grain to large clouds."""
    for width in rng.uniform(0, 25, count):
        cloud = gaussian_filter(rng.normal(size=(size, size)), width * size / 128)
        yield (255 * (cloud - cloud.min()) / np.ptp(cloud)).astype(np.uint8)


def drawings(size: int, rng: np.random.Generator, count: int = 60) -> Pictures:
    """Lines, discs, boxes and words, as in a scanned letter or a slide."""
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
        yield squeezed(picture, size)


def limbs(size: int, rng: np.random.Generator, count: int = 60) -> Pictures:
    """Drawn radiographs of other parts of the body: long bones with a joint, hands, skulls, on black."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]

    def rod(at, angle, length, radius):
        along = (x - at[0]) * np.sin(angle) + (y - at[1]) * np.cos(angle)
        across = (x - at[0]) * np.cos(angle) - (y - at[1]) * np.sin(angle)
        width = radius * (1 + 0.5 * np.abs(along / length) ** 4)  # thicker at its ends
        return np.sqrt(np.clip(1 - (across / width) ** 2, 0, None)) * (np.abs(along) < length)

    for k in range(count):
        tilt, bone, soft = rng.normal(0, 0.25), np.zeros_like(x), np.zeros_like(x)
        if k % 3 == 0:  # a leg or an arm
            for sign in (-1, 1):
                at = (0.52 * sign * np.sin(tilt), 0.52 * sign * np.cos(tilt))
                bone += rod(at, tilt, 0.48, rng.uniform(0.1, 0.18))
                soft += 0.7 * rod(at, tilt, 0.6, rng.uniform(0.35, 0.55))
        elif k % 3 == 1:  # a hand
            for finger in np.linspace(-0.6, 0.6, 5) + rng.normal(0, 0.04, 5):
                for joint in (-0.1, 0.3, 0.6):
                    at = (joint * np.sin(finger) + 0.25 * finger, 0.4 - joint * np.cos(finger))
                    bone += rod(at, -finger, 0.14, 0.05)
                    soft += 0.5 * rod(at, -finger, 0.2, 0.11)
            soft += 0.6 * np.sqrt(np.clip(1 - (x / 0.45) ** 2 - ((y - 0.5) / 0.45) ** 2, 0, None))
        else:  # a skull
            skull = (x / rng.uniform(0.6, 0.8)) ** 2 + (y / rng.uniform(0.75, 0.9)) ** 2
            eyes = ((np.abs(x) - 0.28) / 0.16) ** 2 + ((y - 0.15) / 0.13) ** 2
            bone += 1.2 * ((skull < 1) & (skull > 0.85)) + 0.3 * (skull < 1) - 0.35 * (eyes < 1)
            soft += 0.5 * (skull < 1.15)
        film = gaussian_filter(0.35 * soft + 0.5 * bone, 1) + rng.normal(0, 0.015, x.shape)
        yield (255 * film.clip(0, 1)).astype(np.uint8)


def halves(films: np.ndarray, rng: np.random.Generator) -> Pictures:
    """One half or one quarter of each film, filling the picture."""
    size = films.shape[1]
    for film in films:
        wide, high = ((1, 2), (2, 1), (2, 2))[rng.integers(3)]
        x, y = rng.integers(0, wide) * size // wide, rng.integers(0, high) * size // high
        yield squeezed(Image.fromarray(film[y : y + size // high, x : x + size // wide]), size)


def screens(films: np.ndarray, rng: np.random.Generator) -> Pictures:
    """Each film as on a monitor that somebody photographs: in perspective, with the room around it, and moire."""
    size, corners = films.shape[1], np.array([0, 0, 0, 1, 1, 1, 1, 0])
    stripes = 12 * np.sin(np.arange(size) * rng.uniform(0.8, 1.4))
    for film in films:
        quad = size * corners + rng.uniform(0.08, 0.3, 8) * size * (2 * corners - 1)
        room = int(rng.integers(40, 200))
        shot = Image.fromarray(film).transform((size, size), Image.Transform.QUAD, quad.tolist(), fillcolor=room)
        lit = np.asarray(ImageEnhance.Contrast(shot).enhance(0.7)).astype(float)
        yield (lit + stripes + rng.normal(0, 3, lit.shape)).clip(0, 255).astype(np.uint8)


def disguised(adults: np.ndarray, children: np.ndarray, masks: np.ndarray, seed: int = 0) -> np.ndarray:
    """Films of adults made to look like those of this hospital, but for the anatomy.

    They are cut to the lungs, and each has the gray levels of a child's film (`skimage.exposure.match_histograms`).

    All are uint8 of shape (films, size, size); `masks` are those of the lungs of `adults`.
    """
    rng, size, made = np.random.default_rng(seed), adults.shape[1], []
    for film, place in zip(adults, lungs.facts(masks).itertuples()):
        left, top, right, bottom = rng.uniform(0.02, 0.12, 4)
        box = (place.lungs_left - left, place.lungs_top - top, place.lungs_right + right, place.lungs_bottom + bottom)
        if not np.isnan(place.lungs_left):
            box = tuple((np.clip(box, 0, 1) * size).round().astype(int).tolist())
            film = np.asarray(Image.fromarray(film).crop(box).resize((size, size), Image.Resampling.BICUBIC))
        made.append(exposure.match_histograms(film, children[rng.integers(len(children))]))
    return np.stack(made).round().clip(0, 255).astype(np.uint8)


def adult_films(place: str | Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Chest films of adults below a folder: uint8 of shape (films, size, size), and whose they are, (films,).

    Patients, and Problems, are those of `external.survey`; a file that can't be read is left out (`external.load`).
    """
    if not (top := resolve(place)).is_dir():
        remedy = "set ADULTS in 09_predict.ipynb, or CXR_ADULTS_DIR, to a folder of chest films of adults"
        raise Problem(f"{display_path(top)} is not there: {remedy}, or leave both empty.")
    table, pictures, _ = external.load(external.survey(top), top, size)
    return pictures, table.patient.to_numpy(str)


def adult_versions(adults: np.ndarray, children: np.ndarray, lung_network, size: int) -> dict[str, np.ndarray]:
    """Films of adults as they are, altered, and disguised as a child's, by name: each (films, size, size).

    `adults` are best larger than `size`; `children`, of that size, lend their gray levels.
    """
    altered = mildly_altered(adults)
    versions = {"as they are": adults, "cropped by 10%": np.stack([corruptions.cropped(a, 0.1) for a in adults])}
    versions |= {name: altered[name] for name in ("JPEG quality 50", "half resolution")}
    versions = {name: lungs.resized(version, size) for name, version in versions.items()}
    films_as_they_are = versions["as they are"]
    return versions | {"disguised": disguised(films_as_they_are, children, lungs.find(lung_network, films_as_they_are))}


def mildly_altered(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """The same films (uint8, shape (films, size, size)) as they may come in use, by name: these should pass.

    Best of a larger size than they are looked at in, for that is how films are saved and cut.
    """
    size = pictures.shape[1]

    def each(change):
        return np.stack([np.asarray(change(film)) for film in pictures])

    return {
        "JPEG quality 50": each(corruptions.SINGLE["JPEG quality 50"]),
        "half resolution": lungs.resized(lungs.resized(pictures, size // 2), size),
        "cropped by 5%": each(lambda film: corruptions.cropped(film, 0.05)),
        "gamma 0.7": each(lambda film: (255 * (film / 255) ** 0.7).round().astype(np.uint8)),
        "gamma 1.4": each(corruptions.SINGLE["gamma 1.4"]),
    }


def gallery(films: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """All kinds of pictures that should get no answer, by name, in arrays like `films`, of which some are made."""
    rng, size = np.random.default_rng(seed), films.shape[1]
    made: dict = {
        "photographs": photographs(size, rng),
        "faces": faces(size),
        "noise": noise(size, rng),
        "drawings": drawings(size, rng),
        "drawn limbs and skulls": limbs(size, rng),
        "films, inverted": 255 - films,
        "films on their side": np.rot90(films, 1, (1, 2)),
        "films upside down": films[:, ::-1, ::-1],
        "films in part": halves(films, rng),
        "films on a screen": screens(films, rng),
    }
    return {name: np.stack([*pictures]) for name, pictures in made.items()}


def write_dicom(path: Path, pixels: np.ndarray, **header: str) -> None:
    """Twelve-bit `pixels` (uint16, to 4095) as a radiograph in DICOM; `header` goes on top: ``PatientAge="003Y"``."""
    film = Dataset()
    film.SOPClassUID, film.Modality = uid.DigitalXRayImageStorageForPresentation, "DX"
    film.BodyPartExamined, film.ViewPosition = "CHEST", "AP"
    film.set_pixel_data(pixels.astype(np.uint16), "MONOCHROME2", bits_stored=12)
    for name, value in header.items():
        setattr(film, name, value)
    film.save_as(path, enforce_file_format=True)


def group_of(name: str) -> str:
    """Which group a kind of pictures (of `gallery` or 09's table) belongs to.

    ``turned`` (or inverted), ``altered`` (in part, or on a screen), ``strange`` (no film of a chest), ``adults``,
    ``validation films`` or ``test films``.
    """
    if name in TURNED or name in CHANGED:
        return "turned" if name in TURNED else "altered"
    return next((own for own in ("validation films", "test films", "adults") if name.startswith(own)), "strange")


def tally(reasons: dict[str, pd.Series]) -> pd.DataFrame:
    """How many pictures of each kind are declined, and why, for ``09_gate.csv``.

    `reasons` maps a kind to why each of its pictures is declined ("" for one that passes). One row a kind:
    ``pictures``, ``count``, ``refused`` (share) and ``most frequent reason``.
    """
    rows = []
    for name, said in reasons.items():
        declined = said[said != ""]
        row = {"pictures": name, "count": len(said), "refused": len(declined) / len(said)}
        rows.append(row | {"most frequent reason": declined.mode().get(0, "")})
    return pd.DataFrame(rows)


def mistakes(table: pd.DataFrame, welcome: Sequence[str]) -> str:
    """Two sentences in Markdown: what passes and should not, and what is declined and should pass, in numbers.

    `table` is that of `tally`, and `welcome` names the pictures that should pass, "validation films" and "test films"
    among them.
    """
    table = table.assign(declined=(table.refused * table["count"]).round().astype(int)).set_index("pictures")
    let_in = table[~table.index.isin(welcome) & (table.declined < table["count"])]
    let_in = let_in.rename(lambda name: name.replace("adults,", "films of adults,"))
    said = [f"{row['count'] - row.declined} of {row['count']} {name}" for name, row in let_in.iterrows()]
    test, known = table.loc["test films"], table.refused["validation films"]
    times = f", {test.refused / known:.1f} times the share of validation films ({known:.1%})" if known else ""
    return (
        f"**Passes, and should not:** {'; '.join(said) or 'nothing'}.\n\n**Is declined, and should pass:** "
        f"{test.declined} of {test['count']} test films ({test.refused:.1%}){times}."
    )


def by_reason(reasons: dict[str, pd.Series]) -> pd.DataFrame:
    """How often each reason is given to each group of pictures, in percent; films of chests as they are.

    One row a reason, one column a group; the last row has the number of pictures. `reasons` as in `tally`.
    """
    named = {"adults, as they are": "adults"} | {name: name.removeprefix("films ") for name in CHANGED}
    parts = []
    for name, said in reasons.items():
        group = group_of(name)
        if group in ("strange", "turned") or group == name or name in named:
            parts.append(pd.DataFrame({"kind": named.get(name, group), "reason": said}))
    long = pd.concat(parts)
    short = dict.fromkeys(ood.MENDED, "is turned or inverted") | {ood.STRANGE: "is unlike the training films"}
    long["reason"] = long.reason.replace(short).str.partition(":")[0].replace("", "(passes)")
    kinds = sorted(dict.fromkeys(long.kind), key=lambda kind: not kind.endswith(" films"))  # these should pass
    counts = pd.crosstab(long.reason, long.kind)[kinds]
    shares = (100 * counts / counts.sum()).round(1).map("{:.1f}%".format).replace("0.0%", "")
    shares = shares.loc[counts.sum(axis=1).sort_values(ascending=False).index]
    shares.loc["pictures"] = counts.sum().map("{:,}".format)
    return shares.rename_axis(index=None, columns=None)


def by_class(said: pd.Series, label) -> dict:
    """How many films of each class are declined, and whether that may be chance.

    `said` is why each film is declined ("" for one that passes), `label` its class, 0 for normal. Returns ``declined``,
    by name of the class [declined, films], and ``p`` of Fisher's exact test.
    """
    no, ill = np.asarray(said) != "", np.asarray(label) > 0
    counts = {name: [int((no & own).sum()), int(own.sum())] for name, own in (("normal", ~ill), ("ill", ill))}
    p = stats.fisher_exact([[declined, films - declined] for declined, films in counts.values()]).pvalue
    return {"declined": counts, "p": float(p)}


def largest_source(place: str | Path) -> int | None:
    """How many of the films below a folder are of the source that has most; None where its CSV names no source."""
    table = external.survey(place)
    return int(table.source.value_counts().iloc[0]) if "source" in table else None


def torn(scores: pd.DataFrame, thresholds) -> str | None:
    """The first validation film on which the seeds disagree, each at its own threshold: its path, None without one.

    `scores` is ``04_val_predictions.csv``, and `thresholds` has one number a seed.
    """
    films = scores[scores.kind == "plain"]
    share = (films.filter(regex=r"^seed_\d+$") >= np.asarray(thresholds)).mean(axis=1)
    return next(iter(films.path[share.between(0, 1, inclusive="neither")]), None)


def licensed(place: str | Path) -> tuple[Path | None, str]:
    """A film of an adult that may be shown to everybody, and whose it is: source and licence.

    It is the first film, by its path, of the source that has most of those with a Creative Commons licence, as the CSV
    of the folder says (`external.survey`); None and an empty text where there is none.
    """
    table = external.survey(place)
    if not {"source", "license"} <= set(table):
        return None, ""
    free = table[table.license.str.startswith("CC")]
    if free.empty:
        return None, ""
    film = free[free.source == free.source.mode()[0]].head(1)
    return resolve(place) / film.path.iloc[0], external.credit(film)


def write_examples(folder: Path, films: pd.DataFrame, adult: Path | None = None, disputed: str | None = None) -> Path:
    """Fourteen kinds of files in a cache folder, made of `films` (``path`` below `folder`, ``label``; no test films).

    With `adult`, a chest film of an adult, one more, and with `disputed`, a film below `folder` (`torn`), another one.
    """
    target, cat = cache_dir() / "examples", SKIMAGE / "chelsea.png"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    by_class = [films.path[films.label == label].tolist() for label in (0, 1)]
    chosen = [folder / paths[at] for paths in by_class for at in (0, len(paths) // 2, len(paths) - 1)]
    gray = [Image.open(path).convert("L") for path in chosen]
    deep = [np.asarray(picture).astype(np.uint16) for picture in gray]
    for number, word in ((1, "normal"), (4, "pneumonia"), (6, "pneumonia")):
        shutil.copyfile(chosen[number - 1], target / f"{number:02} {word}{chosen[number - 1].suffix}")
    exif, cut = Image.Exif(), target / "10 cut short.jpeg"
    exif[ExifTags.Base.Orientation] = 6  # held upright by a camera that lay on its side
    gray[1].transpose(Image.Transpose.ROTATE_90).save(target / "02 normal, turned by EXIF.jpeg", exif=exif)
    Image.fromarray(deep[2] * 200 + 5000).save(target / "03 normal, 16 bits.png")
    dark_bone = {"PhotometricInterpretation": "MONOCHROME1", "PatientAge": "003Y"}
    write_dicom(target / "05 pneumonia, MONOCHROME1.dcm", 4095 - 16 * deep[4], **dark_bone)
    ImageOps.invert(gray[0]).save(target / "07 inverted.png")
    gray[0].rotate(180).save(target / "08 upside down.png")
    write_dicom(target / "09 adult, by its header.dcm", 16 * deep[0], PatientAge="045Y")
    gray[0].save(cut)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    shutil.copyfile(cat, target / "11 cat.png")
    Image.open(cat).convert("L").save(target / "12 gray cat.png")
    gray[3].crop((0, 0, gray[3].width // 2, gray[3].height)).save(target / "13 half of a film.png")
    (shot,) = screens(np.asarray(gray[5].resize((224, 224)))[None], np.random.default_rng(0))
    Image.fromarray(shot).save(target / "14 on a screen.png")
    if adult is not None:
        shutil.copyfile(adult, target / f"15 adult{adult.suffix}")
    if disputed is not None:
        shutil.copyfile(folder / disputed, target / f"16 seeds disagree{Path(disputed).suffix}")
    return target


def telling(table: pd.DataFrame, most: int = 12, declined: int = 9) -> pd.Index:
    """Which rows of `table` (of `predict.Reader`) to show in a picture, at most so many, those with an answer first.

    Of films that were read and declined, the last one for each reason, `declined` at most.
    """
    read = table[table.typicality.notna()]
    without = read[read.probability.isna()].drop_duplicates("reason", keep="last").head(declined)
    return read[read.probability.notna()].head(most - len(without)).index.append(without.index)
