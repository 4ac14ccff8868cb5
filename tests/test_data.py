"""The survey names whatever is wrong with a data folder, and the split never lets a patient or a picture leak."""

import hashlib
import io
import os
import re
import struct
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image, PngImagePlugin

from contract import MANIFEST
from cxr import chain, data, films, images, shortcuts
from cxr.gallery import write_dicom
from cxr.paths import Problem
from drawn import COMMENT, draw_chest

WIDE, HIGH = 48, 40
FILM = draw_chest(np.random.default_rng(0), "virus", (300, 400))


def noise(name, shape=(HIGH, WIDE)):
    """Gray levels that depend on `name` only."""
    return np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, shape, np.uint8)


def encoded(picture, kind="JPEG", **options):
    """The bytes of a file that holds `picture`, an array or a Pillow image."""
    stream = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(stream, kind, **options)
    return stream.getvalue()


def dicom(pixels=FILM, without=(), **header):
    """The bytes of a DICOM file of twelve bits, with `header`, and `without` these elements."""
    stream, shortened = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom remarks on an odd header
        write_dicom(stream, pixels.astype(np.uint16) * 16, **header)
        film = pydicom.dcmread(io.BytesIO(stream.getvalue()))
        for name in without:
            delattr(film, name)
        film.save_as(shortened)
    return shortened.getvalue()


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block


WHOLE = encoded(FILM)
NAMES = [
    f"train/NORMAL/{'NORMAL2-' * (i > 4)}IM-{i:04d}-0001{end}.jpeg"
    for i in range(8)
    for end in ("", "-0001")[: 1 + i % 2]
]
NAMES += [
    f"train/PNEUMONIA/person{i}_{('bacteria', 'virus')[i % 2]}_{i * 3 + k}.jpeg"
    for i in range(12)
    for k in range(1 + i % 3)
]
NAMES += [f"test/NORMAL/IM-{i:04d}-0001.jpeg" for i in range(100, 104)]
NAMES += [f"test/PNEUMONIA/person{i}_virus_{i}.jpeg" for i in range(101, 106, 2)]
NAMES += ["val/NORMAL/IM-0900-0001.jpeg", "val/PNEUMONIA/person900_bacteria_1.jpeg"]
SET = {name: encoded(noise(name)) for name in NAMES}
SOME, OTHER = "train/NORMAL/IM-0002-0001.jpeg", "train/PNEUMONIA/person3_virus_9.jpeg"
assert {SOME, OTHER} <= set(SET)


def put(folder, files):
    """Write `files`, names to bytes, below `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def contents(folder):
    """Everything below `folder`, hidden files too: names to bytes, targets of links, None for folders."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def refused(*named, keeping):
    """The block raises a Problem: one sentence that holds all of `named`; the folders `keeping` stay as they were."""
    before = [contents(folder) for folder in keeping]
    with pytest.raises(Problem) as caught:
        yield
    message = str(caught.value)
    for part in named:
        assert part in message
    assert message.endswith(".") and not re.search(r"[.!?] +[A-Z]|\n|Traceback|Errno|object at 0x|\(None\)", message)
    assert not re.search(r"(?<![\w.])/\w", message), f"a path of this machine in: {message}"
    assert caught.value._render_traceback_() == [f"Problem: {message}"]
    message.encode()  # Jupyter can send nothing else
    assert [contents(folder) for folder in keeping] == before


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A data folder that is in order, its manifest as an earlier run left it in the results, and an empty cache."""
    place = SimpleNamespace(**{name: tmp_path / name for name in ("xrays", "results", "cache", "elsewhere")})
    for variable, folder in (
        ("CHEST_XRAY_DIR", place.xrays),
        ("CXR_RESULTS_DIR", place.results),
        ("CXR_CACHE_DIR", place.cache),
    ):
        monkeypatch.setenv(variable, str(folder))
    put(place.xrays, SET)
    for folder in (place.cache, place.elsewhere):
        folder.mkdir()
    step = chain.Step("01_download")
    step.write("01_manifest.csv", "path\nearlier\n")
    step.done()
    return place


# ------------------------------------------------------------------------------------ what a survey says


def test_the_manifest_describes_every_file(world):
    nested = dict.fromkeys(["train/NORMAL/a/1.jpeg", "train/NORMAL/a-b.jpeg"], WHOLE)  # as text, the second comes first
    table = data.survey(put(world.xrays, nested))
    assert list(table.columns) == MANIFEST
    files = {**SET, **nested}
    assert list(table.path) == sorted(files)
    row = table.set_index("path").loc[OTHER]
    assert row.drop("sha256").to_dict() == {
        "folder": "train",
        "class_name": "PNEUMONIA",
        "label": 1,
        "subtype": "virus",
        "patient": "person3_virus",
        "width": WIDE,
        "height": HIGH,
        "mode": "L",
        "bytes": len(SET[OTHER]),
    }
    assert all(hashlib.sha256(files[row.path]).hexdigest() == row.sha256 for row in table.itertuples())
    assert list(table.label) == [int("PNEUMONIA" in name) for name in sorted(files)]
    assert set(table.folder) == {"train", "val", "test"}


def test_the_manifest_comes_back_from_its_file_unchanged(world):
    """Also where every name is a number, where the other class names no subtype, and in a folder of odd names."""
    put(world.xrays, {f"train/NORMAL/00{i}.jpeg": encoded(noise(str(i))) for i in range(3)})
    for path in list(world.xrays.rglob("*/PNEUMONIA/*")):
        path.rename(path.with_name(f"0{zlib.crc32(path.name.encode())}.jpeg"))
    for path in list(world.xrays.rglob("*/NORMAL/I*")) + list(world.xrays.rglob("*/NORMAL/N*")):
        path.rename(path.with_name(f"{zlib.crc32(path.name.encode())}e5.jpeg"))
    put(world.xrays, {'train/PNEUMONIA/1, "2"; 3/04.jpeg': encoded(noise("4"))})
    table, step = data.survey(world.xrays), chain.Step("01_download")
    step.write("01_manifest.csv", table)
    step.done()
    again = chain.Step("02_explore").read("01_manifest.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    assert again.patient.map(type).eq(str).all()


@pytest.mark.parametrize(
    "stem, label, patient, subtype",
    [
        ("person12_virus_30", 1, "person12_virus", "virus"),
        ("person12_bacteria_30", 1, "person12_bacteria", "bacteria"),
        ("person120_virus_3", 1, "person120_virus", "virus"),
        ("IM-0115-0001", 0, "IM-0115", "normal"),
        ("IM-0115-0001-0002", 0, "IM-0115", "normal"),
        ("NORMAL2-IM-0115-0001", 0, "NORMAL2-IM-0115", "normal"),
        ("PERSON12_VIRUS_30", 1, "PERSON12_VIRUS", "virus"),
        ("im-0115-0002", 0, "im-0115", "normal"),
        ("00000013_005", 1, "00000013", ""),
        ("train/a/00000013_005", 1, "00000013", ""),
        ("20240613_005", 1, "20240613_005", ""),
        ("train/a/patient00001/study1/view1_frontal", 1, "patient00001", ""),
        ("patient00001_study1_view1_frontal", 1, "patient00001", ""),
        ("train/a/p10/p10000032/s50414267/02aa804e-bde0afdd", 1, "p10000032", ""),
        ("train/a/patient00001", 1, "train/a/patient00001", ""),
        ("train/IM-0115/0001", 1, "train/IM-0115/0001", ""),
        ("virus-person7", 0, "virus-person7", "normal"),
    ],
)
def test_patient_and_subtype_are_in_the_name(stem, label, patient, subtype):
    assert (data.patient_of(stem), data.subtype_of(stem, label)) == (patient, subtype)


@pytest.mark.parametrize(
    "normal, other",
    [
        ("NORMAL", "PNEUMONIA"),
        ("normal", "diseased"),
        ("Normal", "COVID-19"),
        ("normal", "abnormal"),
        ("normal", "a ill"),
        ("NORMAL", "肺炎"),
    ],
)
def test_normal_is_0_whatever_the_other_class_is_called(world, normal, other):
    for part in ("train", "val", "test"):
        (world.xrays / part / "NORMAL").rename(world.xrays / part / "1")
        (world.xrays / part / "PNEUMONIA").rename(world.xrays / part / other)
        (world.xrays / part / "1").rename(world.xrays / part / (normal if part != "test" else normal.upper()))
    table = data.survey(world.xrays)
    assert set(table.class_name[table.label == 1]) == {other}
    assert set(table.class_name[table.label == 0]) == {normal, normal.upper()}
    assert len(table) == len(SET) and (table.subtype[table.label == 0] == "normal").all()


# ------------------------------------------------------------------------------------ folders that are refused


def remove(path):
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            remove(child)
        path.rmdir()
    else:
        path.unlink()


def empty(path):
    for child in path.iterdir():
        remove(child)


def test_three_class_folders_are_normal_or_not_and_which(world):
    put(
        world.xrays,
        {f"{part}/COVID/{part}{i}.jpeg": encoded(noise(f"{part}{i}")) for part in ("train", "test") for i in range(4)},
    )
    table = data.survey(world.xrays)
    added = table[table.class_name == "COVID"]
    assert len(added) == 8 and (added.label == 1).all() and (added.subtype == "covid").all()
    assert set(table.subtype[table.class_name == "PNEUMONIA"]) == {"bacteria", "virus"}
    assert list(data.class_names(table)) == ["NORMAL", "COVID or PNEUMONIA"]


FOLDERS = {
    "no data folder": (lambda x: remove(x), "xrays", "CHEST_XRAY_DIR"),
    "a file in its place": (lambda x: (remove(x), x.write_text("")), "xrays", "CHEST_XRAY_DIR"),
    "nothing in it": (empty, "no train/", "CHEST_XRAY_DIR"),
    "no train folder": (lambda x: remove(x / "train"), "no train/", "01_download.ipynb"),
    "no test folder": (lambda x: remove(x / "test"), "no test/", "01_download.ipynb"),
    "one level too deep": (lambda x: (x / "test").rename(x / "train/test"), "no test/", "CHEST_XRAY_DIR"),
    "no classes": (lambda x: [empty(x / p) for p in ("train", "val", "test")], "(none)", "two at least"),
    "one class": (lambda x: [remove(x / p / "NORMAL") for p in ("train", "val", "test")], "pneumonia:", "two at least"),
    "normal only": (
        lambda x: [remove(x / p / "PNEUMONIA") for p in ("train", "val", "test")],
        "folders normal:",
        "two at least",
    ),
    "none called normal": (
        lambda x: [(x / p / "NORMAL").rename(x / p / "healthy") for p in ("train", "val", "test")],
        "healthy, pneumonia",
        "one of them called normal",
    ),
    "third class in train only": (
        lambda x: put(x, {"train/COVID/1.jpeg": WHOLE}),
        "test/covid",
        "put the images of this class there",
    ),
    "third class in test only": (
        lambda x: put(x, {"test/COVID/1.jpeg": WHOLE}),
        "train/covid",
        "put the images of this class there",
    ),
    "empty class": (lambda x: empty(x / "train/PNEUMONIA"), "train/PNEUMONIA", "put the images of this class there"),
    "empty test class": (lambda x: empty(x / "test/NORMAL"), "test/NORMAL", "put the images of this class there"),
    "class missing in test": (lambda x: remove(x / "test/NORMAL"), "test/normal", "put the images of this class there"),
    "class of other files": (
        lambda x: (empty(x / "test/NORMAL"), put(x, {"test/NORMAL/1.tiff": WHOLE})),
        "test/NORMAL",
        ".jpeg",
        "put the images of this class there",
    ),
    "class in two spellings": (
        lambda x: put(x, {"train/Normal/1.jpeg": WHOLE}),
        ".../train",
        "NORMAL/ and Normal/",
        "merge",
    ),
    "train in two spellings": (
        lambda x: put(x, {"Train/NORMAL/1.jpeg": WHOLE}),
        ".../xrays",
        "Train/ and train/",
        "merge",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_no_data_set_is_refused(world, case):
    spoil, *named = FOLDERS[case]
    spoil(world.xrays)
    with refused(*named, keeping=[world.results, world.cache]):
        data.survey(world.xrays)


def test_a_folder_that_may_not_be_listed_is_named(world, monkeypatch):
    listed = Path.iterdir

    def iterdir(path):
        if path.name == "train":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with refused("train", "Permission denied", "readable", keeping=[world.results]):
        data.survey(world.xrays)


# ------------------------------------------------------------------------------------ files that are refused


def flipped(content):
    """One bit inside the compressed picture of a PNG turned over; its checksum shows it."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


FRAMES = [Image.fromarray(noise(str(i))) for i in range(3)]
PNG, PROGRESSIVE = encoded(FILM, "PNG"), encoded(FILM, progressive=True)
FILES = {
    "zero bytes": ("a.jpeg", b"", "0 bytes"),
    "JPEG cut at 50%": ("a.jpeg", WHOLE[: len(WHOLE) // 2], "damaged (image file is truncated"),
    "JPEG cut at 95%": ("a.jpeg", WHOLE[: len(WHOLE) * 95 // 100], "damaged (image file is truncated"),
    "progressive JPEG cut at 95%": ("a.jpg", PROGRESSIVE[: len(PROGRESSIVE) * 95 // 100], "damaged (image file"),
    "JPEG cut in its header": ("a.jpeg", WHOLE[:30], "damaged"),
    "PNG cut at 50%": ("a.png", PNG[: len(PNG) // 2], "damaged (image file is truncated"),
    "PNG cut at 95%": ("a.png", PNG[: len(PNG) * 95 // 100], "damaged (image file is truncated"),
    "PNG with a flipped bit": ("a.png", flipped(PNG), "damaged (broken"),
    "web page": ("a.jpeg", b"<!DOCTYPE html><html><title>Login</title></html>" * 40, "not a picture"),
    "zeros of the right size": ("a.jpeg", bytes(len(WHOLE)), "not a picture"),
    "GIF named .jpeg": ("a.jpeg", encoded(FILM, "GIF"), "GIF picture under the name of a JPEG"),
    "PNG named .jpeg": ("a.jpeg", PNG, "PNG picture under the name of a JPEG"),
    "JPEG named .png": ("a.PNG", WHOLE, "JPEG picture under the name of a PNG"),
    "TIFF named .jpg": ("a.jpg", encoded(FILM, "TIFF"), "TIFF picture under the name of a JPEG"),
    "animated PNG": ("a.png", encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), "3 pictures"),
    "several JPEGs in one": ("a.jpeg", encoded(FRAMES[0], "MPO", save_all=True, append_images=FRAMES[1:]), "MPO"),
    "DICOM named .jpeg": ("a.jpeg", dicom(), "DICOM picture under the name of a JPEG"),
    "JPEG named .dcm": ("a.dcm", WHOLE, "JPEG picture under the name of a DICOM"),
    "words named .dcm": ("a.dcm", b"words", "not a picture"),
    "DICOM of four pictures": ("a.dcm", dicom(NumberOfFrames="4"), "holds 4 pictures, in"),
    "DICOM without a picture": ("a.dicom", dicom(without=["PixelData"]), "is a DICOM file without a picture, in"),
    "DICOM of bits that can't be": ("a.dcm", dicom(HighBit=9), "bit 9 of 16 is the highest of 12"),
    "DICOM cut at 50%": ("a.DCM", dicom()[: len(dicom()) // 2], "damaged ("),
    "DICOM cut in its header": ("a.dcm", dicom()[:200], "a.dcm is"),
    "a small DICOM": ("a.dcm", dicom(noise("", (30, 40))), "only 40x30 pixels"),
    "DICOM without an ending, cut": ("IM0001", dicom()[:-100], "IM0001 is damaged"),
    "1 x 1": ("a.jpeg", encoded(noise("", (1, 1))), "1x1 pixels"),
    "a line": ("a.png", encoded(noise("", (400, 2)), "PNG"), "2x400 pixels"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_whole_picture_is_named(world, case):
    name, content, what = FILES[case]
    put(world.xrays, {f"test/PNEUMONIA/{name}": content})
    with refused(
        f"test/PNEUMONIA/{name}",
        what,
        "xrays",
        "replace or delete it",
        "01_download.ipynb",
        keeping=[world.results, world.xrays, world.cache],
    ):
        data.survey(world.xrays)


def link(world, name, target):
    (world.xrays / name).symlink_to(target)


ODD_ENTRIES = {
    "link that leaves the data folder": (
        lambda w: (put(w.elsewhere, {"b.jpeg": WHOLE}), link(w, "test/NORMAL/a.jpeg", w.elsewhere / "b.jpeg")),
        "link to a file outside",
    ),
    "link by .. that leaves it": (
        lambda w: (put(w.elsewhere, {"b.jpeg": WHOLE}), link(w, "test/NORMAL/a.jpeg", "../../../elsewhere/b.jpeg")),
        "link to a file outside",
    ),
    "link to nothing": (lambda w: link(w, "test/NORMAL/a.jpeg", w.elsewhere / "b.jpeg"), "not there"),
    "link to itself": (lambda w: link(w, "test/NORMAL/a.jpeg", "a.jpeg"), "not there"),
    "folder named as a picture": (lambda w: (w.xrays / "test/NORMAL/a.jpeg").mkdir(), "Is a directory"),
}


@pytest.mark.parametrize("case", ODD_ENTRIES)
def test_an_entry_that_is_no_file_of_the_folder_is_named(world, case):
    make, what = ODD_ENTRIES[case]
    make(world)
    with refused(
        "test/NORMAL/a.jpeg", what, "replace or delete it", "01_download.ipynb", keeping=[world.results, world.xrays]
    ):
        data.survey(world.xrays)


def test_a_file_that_may_not_be_read_is_named(world, monkeypatch):
    read = Path.read_bytes

    def read_bytes(path):
        if path.name == Path(SOME).name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(Problem) as caught:
        data.survey(world.xrays)
    assert f"{SOME} can't be read (Permission denied)" in str(caught.value)
    assert str(world.xrays.parent) not in str(caught.value) and "Errno" not in str(caught.value)


def test_a_name_that_is_no_text_is_refused(world):
    """A name in an old encoding could be written into no CSV, and Jupyter could not even show the message."""
    try:
        (world.xrays / os.fsdecode(b"test/NORMAL/R\xf6ntgen.jpeg")).write_bytes(WHOLE)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    with refused(r"test/NORMAL/R\xf6ntgen.jpeg", "rename", keeping=[world.results]):
        data.survey(world.xrays)


@pytest.mark.parametrize("side", [64, 128])  # Pillow warns above its limit, and raises above twice that
def test_a_picture_beyond_pillows_limit_is_named(world, monkeypatch, side):
    put(world.xrays, {"train/NORMAL/huge.png": encoded(noise("", (side, side)), "PNG")})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with refused("train/NORMAL/huge.png", "more than 3,000 pixels", "replace or delete it", keeping=[world.results]):
        data.survey(world.xrays)


@pytest.mark.parametrize("bad", [1, 2, 3, 4, 9])
def test_many_broken_files_are_counted(world, bad):
    names = sorted(name for name in SET if name.startswith("train"))[:bad]
    put(world.xrays, dict.fromkeys(names, b""))
    with refused(
        *names[:3],
        f"{bad - 3} more" if bad > 3 else "0 bytes",
        f"delete {'it' if bad == 1 else 'them'}",
        keeping=[world.results, world.xrays],
    ):
        data.survey(world.xrays)


def test_a_survey_leaves_pythons_warnings_as_they_were(world):
    """Filters set inside threads get mixed up, and then a later cell raises what it should only warn of."""
    for _ in range(5):
        before = list(warnings.filters)
        data.survey(world.xrays)
        assert warnings.filters == before


# ------------------------------------------------------------------------------------ files that are in order


def with_raw_exif(content, tiff):
    """A JPEG with `tiff` as its EXIF block, however odd."""
    block = b"Exif\0\0" + tiff
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:]


TEXT = PngImagePlugin.PngInfo()
TEXT.add_text("comment", "portable film")
ODD_EXIF = {  # the picture is whole: a block beside it that Pillow can't read is no reason to stop
    "no TIFF header": with_raw_exif(encoded(FILM, dpi=(72, 72)), b"MM\xff*\0\0\0\x08\0\0\0\0\0\0"),
    "cut short": with_raw_exif(WHOLE, b"II*\0\x08\0\0\0\x05\0\x12\x01"),
    "resolution as text": with_raw_exif(
        WHOLE, b"II*\0\x08\0\0\0" + struct.pack("<H HHII HHI4s I", 2, 0x0112, 3, 1, 6, 0x011A, 2, 3, b"72\0\0", 0)
    ),
}
FINE = {
    "PNG": ("a.png", PNG, "L", (400, 300)),
    "PNG with a text chunk": ("a.png", encoded(FILM, "PNG", pnginfo=TEXT), "L", (400, 300)),
    "progressive JPEG": ("a.jpg", PROGRESSIVE, "L", (400, 300)),
    "capitals": ("A.JPG", WHOLE, "L", (400, 300)),
    "RGB JPEG": ("a.jpeg", encoded(Image.fromarray(FILM).convert("RGB")), "RGB", (400, 300)),
    "CMYK JPEG": ("a.jpeg", encoded(Image.fromarray(FILM).convert("CMYK")), "CMYK", (400, 300)),
    "16-bit PNG": ("a.png", encoded(FILM.astype(np.uint16) * 257, "PNG"), "I;16", (400, 300)),
    "palette PNG": ("a.png", encoded(Image.fromarray(FILM).convert("P"), "PNG"), "P", (400, 300)),
    "PNG with alpha": ("a.png", encoded(Image.fromarray(FILM).convert("LA"), "PNG"), "LA", (400, 300)),
    "turned JPEG": ("a.jpeg", encoded(FILM, exif=exif(6)), "L", (300, 400)),
    "turned PNG": ("a.png", encoded(FILM, "PNG", exif=exif(8)), "L", (300, 400)),
    "upside-down JPEG": ("a.jpeg", encoded(FILM, exif=exif(3)), "L", (400, 300)),
    "JPEG with more behind its end": ("a.jpeg", WHOLE + b"x" * 100, "L", (400, 300)),
    "spaces and letters of the world": ("Röntgen 胸部 (1) №2.jpeg", WHOLE, "L", (400, 300)),
    "underscores in front": ("__a.jpeg", WHOLE, "L", (400, 300)),
    "the longest name": ("n" * 250 + ".jpeg", WHOLE, "L", (400, 300)),
    "deep folders": ("/".join(["d" * 60] * 12) + "/a.jpeg", WHOLE, "L", (400, 300)),
    "DICOM": ("a.dcm", dicom(), "MONOCHROME2", (400, 300)),
    "DICOM, dark bones": (
        "a.DICOM",
        dicom(255 - FILM, PhotometricInterpretation="MONOCHROME1"),
        "MONOCHROME1",
        (400, 300),
    ),
    "DICOM with a window": ("a.dcm", dicom(WindowCenter="2047.5", WindowWidth="4096"), "MONOCHROME2", (400, 300)),
    "DICOM without an ending": ("IM0001", dicom(), "MONOCHROME2", (400, 300)),
    "DICOM with an odd header": (
        "1.2.840.113",
        dicom(PatientAge="odd", AcquisitionDate="?"),
        "MONOCHROME2",
        (400, 300),
    ),
    **{
        f"EXIF: {case}": ("a.jpeg", content, "L", (300, 400) if "text" in case else (400, 300))
        for case, content in ODD_EXIF.items()
    },
}


@pytest.mark.parametrize("case", FINE)
def test_a_whole_picture_of_any_kind_goes_through(world, case):
    """Surveyed with its upright width and height, written and read as a manifest, checked, decoded; no warning."""
    name, content, mode, size = FINE[case]
    put(world.xrays, {f"train/NORMAL/{name}": content})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table, step = data.survey(world.xrays), chain.Step("01_download")
        step.dataset = data.describe(table, world.xrays)
        step.write("01_manifest.csv", table)
        step.done()
        table = chain.Step("02_explore").read("01_manifest.csv")
        row = table[table.path == f"train/NORMAL/{name}"]
        assert (row["mode"].item(), (row.width.item(), row.height.item())) == (mode, size)
        data.check(table, world.xrays)
        decoded = images.load(row, world.xrays, 50)[0]
    upright = Image.fromarray(FILM)
    if size != upright.size:
        upright = upright.transpose(Image.Transpose.ROTATE_90 if name == "a.png" else Image.Transpose.ROTATE_270)
    if "upside-down" in case:
        upright = upright.transpose(Image.Transpose.ROTATE_180)
    expected = np.asarray(upright.resize((50, 50), Image.Resampling.BICUBIC)).astype(float)
    if "DICOM" in case and "window" not in case:  # stretched
        assert np.corrcoef(decoded.ravel(), expected.ravel())[0, 1] > 0.99
    else:
        assert np.abs(decoded - expected).mean() < 2.5


@pytest.mark.parametrize(
    "junk",
    [
        "train/NORMAL/Thumbs.db",
        "train/NORMAL/.DS_Store",
        "train/NORMAL/._IM-0001-0001.jpeg",
        "__MACOSX/train/NORMAL/a.jpeg",
        "train/__MACOSX/NORMAL/a.jpeg",
        "train/NORMAL/__MACOSX/a.jpeg",
        "train/.ipynb_checkpoints/a.jpeg",
        "train/NORMAL/.ipynb_checkpoints/a-checkpoint.jpeg",
        "test/NORMAL/.Trash-1000/files/a.jpeg",
        "train/NORMAL/desktop.ini",
        ".incoming/train/COVID/a.jpeg",
        "README.md",
        "train/NORMAL/notes.txt",
    ],
)
def test_what_systems_leave_behind_is_no_image(world, junk):
    clean = data.survey(world.xrays)
    put(world.xrays, {junk: b"not a picture"})
    pd.testing.assert_frame_equal(data.survey(world.xrays), clean)


def test_links_inside_the_data_folder_are_images(world):
    """A second copy, which the split leaves out."""
    (world.xrays / "train/NORMAL/link.jpeg").symlink_to(Path(SOME).name)
    world.elsewhere.rmdir()
    world.elsewhere.symlink_to(world.xrays)
    table = data.survey(world.xrays)
    pd.testing.assert_frame_equal(data.survey(world.elsewhere), table)  # the data folder itself a link as well
    assert table.path.eq("train/NORMAL/link.jpeg").sum() == 1
    assert data.split(table)[1].set_index("path").reason["train/NORMAL/link.jpeg"] == "second copy of an image in train"


@pytest.mark.parametrize("linked", [".", "train", "train/NORMAL"])
def test_whole_folders_may_lie_on_another_disk(world, linked):
    clean, there = data.survey(world.xrays), world.elsewhere / "there"
    (world.xrays / linked).rename(there)
    (world.xrays / linked).symlink_to(there)
    pd.testing.assert_frame_equal(data.survey(world.xrays), clean)


def test_the_order_of_the_file_system_does_not_matter(world, monkeypatch):
    expected = data.survey(world.xrays)
    for method in ("iterdir", "rglob", "glob"):
        real = getattr(Path, method)
        monkeypatch.setattr(Path, method, lambda *args, real=real: iter(sorted(real(*args), reverse=True)))
    pd.testing.assert_frame_equal(data.survey(world.xrays), expected)


# ------------------------------------------------------------------------------------ whose films


def test_training_folders_of_dicom_are_read_as_09_reads_them(world):
    """Whatever the ending; the patient is in the header, but the manifest does not say what he is called."""
    for path in list(world.xrays.rglob("*.jpeg")):
        patient = "" if "IM-0002" in path.name else f"Doe^{data.patient_of(path.stem)}"
        ending = ("", ".dcm", ".DICOM")[len(path.name) % 3]
        path.with_name(path.stem + ending).write_bytes(dicom(np.asarray(Image.open(path)), PatientID=patient))
        path.unlink()
    table = data.survey(world.xrays)
    assert len(table) == len(SET) and set(table["mode"]) == {"MONOCHROME2"}
    named = table.path.map(data._bare).map(data.patient_of)
    assert table.groupby(named).patient.nunique().eq(1).all() and table.groupby("patient").label.nunique().eq(1).all()
    hidden = table.patient != named
    assert (~hidden).sum() == named.eq("IM-0002").sum() and not table.to_csv().count("Doe")
    assert data.describe(table, world.xrays)["synthetic"] is False
    loaded = images.load(table, world.xrays, 24)
    assert all((films.read(world.xrays / path, 24).pixels == own).all() for path, own in zip(table.path, loaded))
    facts = shortcuts.file_facts(world.xrays, table)
    assert (facts.color == 0).all() and facts.jpeg_quality.isna().all()
    split, _ = data.split(table)
    assert leaks(table, split) == []


def renamed(folder):
    """Every file under a name that says nothing; returns the old paths by the new ones."""
    old = {}
    for number, path in enumerate(sorted(folder.rglob("*.jpeg"))):
        new = path.rename(path.with_name(f"{number}.jpeg"))
        old[new.relative_to(folder).as_posix()] = path.relative_to(folder).as_posix()
    return old


def test_files_that_do_not_say_whose_they_are_are_warned_of(world, capsys):
    data.split(data.survey(world.xrays))
    assert "WARNING" not in capsys.readouterr().out
    (world.xrays / OTHER).rename(world.xrays / "train/PNEUMONIA/a.jpeg")
    table, total = data.survey(world.xrays), sum(name.startswith("train") for name in SET)
    said = capsys.readouterr().out
    assert f"WARNING: 1 of the {total} files in train/ don't say whose they are" in said and "metadata.csv" in said
    data.split(table)
    assert capsys.readouterr().out == said
    renamed(world.xrays)
    data.survey(world.xrays)
    assert f"WARNING: {total} of the {total} files" in capsys.readouterr().out


def test_metadata_says_whose_films_they_are(world, capsys):
    """What it does not say, the names do; a patient stays text, and a normal film normal."""
    before = data.survey(world.xrays)
    old = renamed(world.xrays)
    known = before.set_index("path").loc[list(old.values()), ["patient", "subtype"]]
    known.index = pd.Index(old, name="path")
    rows = known.iloc[::-1].assign(age=3)
    rows.loc[rows.subtype == "bacteria", "subtype"] = " Bacteria "
    rows.loc[rows.subtype == "normal", "subtype"] = "healthy"
    rows.to_csv(world.xrays / "metadata.csv", encoding="utf-8-sig")
    capsys.readouterr()
    table = data.survey(world.xrays)
    assert list(table) == data.COLUMNS and "WARNING" not in capsys.readouterr().out
    assert table.set_index("path")[["patient", "subtype"]].to_dict() == known.to_dict()
    split, _ = data.split(table)
    assert leaks(table, split) == [] and split.patient.duplicated().any()
    one, two, three = table.path[table.folder == "train"].head(3)
    (world.xrays / "metadata.csv").write_text(f"patient,path\n007,{one}\n7,{two}\n")
    table = data.survey(world.xrays).set_index("path")
    assert table.patient[[one, two, three]].tolist() == ["007", "7", three.removesuffix(".jpeg")]
    assert (table.subtype[table.label == 1] == "").all()


BAD_METADATA = {
    "no column patient": (f"path,subject\n{SOME},1\n", "has the columns path, subject"),
    "semicolons": (f"path;patient\n{SOME};1\n", "has the columns path;patient"),
    "a column twice": (f"path,patient,patient\n{SOME},1,2\n", "has the columns path, patient, patient.1"),
    "one file twice": (f"path,patient\n{SOME},1\n{OTHER},2\n{SOME},1\n", f"has two rows for {SOME}"),
    "no patient": (f"path,patient\n{OTHER},2\n{SOME}, \n", f"names no patient for {SOME}"),
    "a row cut short": (f"path,patient\n{SOME}\n", f"names no patient for {SOME}"),
    "a file that is gone": ("path,patient\ntrain/NORMAL/gone.jpeg,1\n", "is not in train/", "train/NORMAL/gone.jpeg"),
    "a path without its ending": (f"path,patient\n{SOME[:-5]},1\n", "is not in train/", "ending"),
    "a row too long": (f"path,patient\n{SOME},1\n{OTHER},2,3,4\n", "is no table", "line 3"),
    "every row too long": (f"path,patient\n{SOME},1,x\n{OTHER},2,x\n", "is not in train/"),
    "empty": ("", "is no table"),
    "another encoding": (f"path,patient\n{SOME},J\u00f6rg\n".encode("latin-1"), "is no table in UTF-8"),
}


@pytest.mark.parametrize("case", BAD_METADATA)
def test_metadata_that_is_not_in_order_is_named(world, case):
    content, *named = BAD_METADATA[case]
    put(world.xrays, {"metadata.csv": content if isinstance(content, bytes) else content.encode()})
    with refused("metadata.csv", *named, "01_download.ipynb", keeping=[world.results, world.xrays, world.cache]):
        data.survey(world.xrays)


def test_metadata_that_may_not_be_read_is_named(world):
    (world.xrays / "metadata.csv").mkdir()
    with refused("metadata.csv can't be read (Is a directory)", "01_download.ipynb", keeping=[world.results]):
        data.survey(world.xrays)


# ------------------------------------------------------------------------------------ describe and check


def resized(size):
    return {name: encoded(noise(name, size)) for name in SET}


KAGGLE = "paultimothymooney/chest-xray-pneumonia"
DESCRIBED = {
    "Kaggle's names": ({**SET, SOME: WHOLE}, KAGGLE, False),
    "all of one size": (SET, f"{KAGGLE}, copy resized to {WIDE}x{HIGH} pixels", False),
    "other names": (
        {name.replace("IM-", "x").replace("person", "y"): c for name, c in SET.items()},
        "folder xrays",
        False,
    ),
    "one drawn picture": ({**SET, SOME: encoded(noise(""), comment=COMMENT.encode())}, COMMENT, True),
    "another comment": ({**SET, SOME: encoded(FILM, comment=b"Lavc58")}, KAGGLE, False),
    "a drawn picture as PNG": (
        {
            **SET,
            "train/NORMAL/a.png": encoded(
                noise(""),
                "PNG",
                pnginfo=(lambda text: (text.add_text("comment", COMMENT), text)[1])(PngImagePlugin.PngInfo()),
            ),
        },
        COMMENT,
        True,
    ),
}


@pytest.mark.parametrize("case", DESCRIBED)
def test_the_data_set_is_named(tmp_path, case):
    files, name, synthetic = DESCRIBED[case]
    folder = put(tmp_path / "xrays", files)
    assert data.describe(data.survey(folder), folder) == {"name": name, "synthetic": synthetic, "images": len(files)}


def replace(path, content):
    path.unlink()
    path.write_bytes(content)


AFTERWARDS = {
    "deleted": (lambda path: path.unlink(), "is not in"),
    "emptied": (lambda path: path.write_bytes(b""), "has another size (0 bytes, not"),
    "one byte longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "has another size"),
    "a link to nothing now": (lambda path: (path.unlink(), path.symlink_to("gone.jpeg")), "is not in"),
}


@pytest.mark.parametrize("case", AFTERWARDS)
def test_a_file_changed_after_01_is_named(world, case):
    change, what = AFTERWARDS[case]
    table = data.survey(world.xrays)
    data.check(table, world.xrays)
    change(world.xrays / OTHER)
    with refused(
        OTHER,
        what,
        "01_manifest.csv",
        "CHEST_XRAY_DIR",
        "01_download.ipynb",
        keeping=[world.results, world.xrays, world.cache],
    ):
        data.check(table, world.xrays)


@pytest.mark.parametrize("content", [SET[OTHER], b"x" * len(SET[SOME])], ids=["another X-ray", "no picture"])
def test_a_file_replaced_by_one_of_the_same_size_is_found_before_it_is_used(world, content):
    table = data.survey(world.xrays)
    content = (content + b"\0" * len(SET[SOME]))[: len(SET[SOME])]
    put(world.xrays, {SOME: content})
    data.check(table, world.xrays)  # looks at sizes only
    with refused(
        SOME, "not the file that 01_manifest.csv describes", "01_download.ipynb", keeping=[world.results, world.cache]
    ):
        images.load(table, world.xrays, 32)


# ------------------------------------------------------------------------------------ the split


def row(path, sha256="", patient=None):
    """One line of a manifest for a file of this name, without the file."""
    part, class_name, name = path.split("/")
    label = int(class_name != "NORMAL")
    return {
        "path": path,
        "folder": part,
        "class_name": class_name,
        "label": label,
        "bytes": 1,
        "subtype": data.subtype_of(name, label),
        "patient": patient or data.patient_of(name.rsplit(".", 1)[0]),
        "sha256": sha256 or hashlib.sha256(path.encode()).hexdigest(),
    }


def large(seed=0):
    """A manifest of about 1,300 images in the proportions of the real one."""
    rng, paths = np.random.default_rng(seed), []
    for part, counts in (("train", (220, 300, 160)), ("test", (60, 50, 40)), ("val", (3, 3, 0))):
        base = {"train": 0, "test": 2000, "val": 4000}[part]
        for kind, count in zip(("normal", "bacteria", "virus"), counts):
            for i in range(base, base + count):
                for k in range(1 + min(rng.geometric(0.6) - 1, 5)):
                    paths.append(
                        f"{part}/NORMAL/IM-{i:04d}-{k:04d}.jpeg"
                        if kind == "normal"
                        else f"{part}/PNEUMONIA/person{i}_{kind}_{k}.jpeg"
                    )
    return pd.DataFrame([row(path) for path in paths])


def leaks(manifest, split):
    """Patients and pictures that stand in more than one part of a split."""
    table = split.merge(manifest[["path", "sha256"]], on="path")
    return [
        key
        for column in ("patient", "sha256")
        for key, parts in table.groupby(column).split.nunique().items()
        if parts > 1
    ]


@pytest.mark.parametrize("seed", range(4))
def test_validation_is_cut_by_patient_and_in_the_same_mix(seed):
    manifest = large(seed)
    split, left_out = data.split(manifest, seed)
    assert list(split.columns) == ["path", "label", "subtype", "patient", "split"]
    assert list(split.path) == sorted(split.path) and split.path.is_unique
    assert leaks(manifest, split) == []
    assert set(split.path[split.split == "test"]) == set(manifest.path[manifest.folder == "test"])
    pool = split[split.split != "test"]
    assert set(pool.path) == set(manifest.path[manifest.folder == "train"])
    assert 0.13 < (pool.split == "val").mean() < 0.16
    for subtype, share in pool.groupby("subtype").split.agg(lambda part: (part == "val").mean()).items():
        assert 0.11 < share < 0.18, subtype
    assert set(left_out.path) == set(manifest.path[manifest.folder == "val"])
    assert set(left_out.reason) == {"official val folder, too small to use"}


def test_the_same_seed_gives_the_same_split_in_whatever_order_the_files_come():
    manifest = large()

    def fingerprint(table, seed):
        text = "".join(part.to_csv(index=False) for part in data.split(table, seed))
        return hashlib.sha256(text.encode()).hexdigest()

    orders = [manifest, manifest[::-1], *(manifest.sample(frac=1, random_state=state) for state in (1, 2))]
    assert len({fingerprint(order, 5) for order in orders}) == 1
    assert len({fingerprint(manifest, seed) for seed in range(4)}) == 4


@pytest.mark.parametrize("folds, low, high", [(2, 0.45, 0.55), (5, 0.17, 0.23), (10, 0.08, 0.12)])
def test_folds_say_how_large_validation_is(folds, low, high):
    split, _ = data.split(large(), folds=folds)
    assert low < (split.split[split.split != "test"] == "val").mean() < high


IN_TEST, SECOND = "patient is in test", "second copy of an image in train"
IN_VAL = "official val folder, too small to use"
TWIN = "same picture as one in test"
FORCED = {  # rows added to the large manifest: {path: reason it is left out, None where it stays}
    "a patient of test in train": (
        [row("train/NORMAL/IM-2001-0009.jpeg")],
        {"train/NORMAL/IM-2001-0009.jpeg": IN_TEST},
    ),
    "a test picture in train": (
        [row("train/NORMAL/IM-0000-0009.jpeg", "same"), row("test/NORMAL/IM-2000-0009.jpeg", "same")],
        {"train/NORMAL/IM-0000-0009.jpeg": TWIN, "test/NORMAL/IM-2000-0009.jpeg": None},
    ),
    "the same, twice in train": (
        [
            row("train/NORMAL/IM-0000-0009.jpeg", "same"),
            row("train/NORMAL/IM-0001-0009.jpeg", "same"),
            row("test/NORMAL/IM-2000-0009.jpeg", "same"),
        ],
        {"train/NORMAL/IM-0000-0009.jpeg": TWIN, "train/NORMAL/IM-0001-0009.jpeg": TWIN},
    ),
    "copies inside train": (
        [row(f"train/NORMAL/IM-000{i}-0009.jpeg", "same") for i in range(3)],
        {
            "train/NORMAL/IM-0000-0009.jpeg": None,
            "train/NORMAL/IM-0001-0009.jpeg": SECOND,
            "train/NORMAL/IM-0002-0009.jpeg": SECOND,
        },
    ),
    "copies inside test": (
        [row("test/NORMAL/IM-2000-0009.jpeg", "same"), row("test/NORMAL/IM-2001-0009.jpeg", "same")],
        {"test/NORMAL/IM-2000-0009.jpeg": None, "test/NORMAL/IM-2001-0009.jpeg": None},
    ),
    "a copy of train in val": (
        [row("train/NORMAL/IM-0000-0009.jpeg", "same"), row("val/NORMAL/IM-4000-0009.jpeg", "same")],
        {"train/NORMAL/IM-0000-0009.jpeg": None, "val/NORMAL/IM-4000-0009.jpeg": IN_VAL},
    ),
    "a film of a test patient, copied under another name": (
        [row("train/NORMAL/IM-0000-0009.jpeg", "same"), row("train/NORMAL/IM-2001-0009.jpeg", "same")],
        {"train/NORMAL/IM-0000-0009.jpeg": IN_TEST, "train/NORMAL/IM-2001-0009.jpeg": IN_TEST},
    ),
}


@pytest.mark.parametrize("case", FORCED)
def test_what_would_leak_is_left_out_with_its_reason(case):
    rows, expected = FORCED[case]
    manifest = pd.concat([large(), pd.DataFrame(rows)], ignore_index=True)
    split, left_out = data.split(manifest)
    reasons = left_out.set_index("path").reason
    assert {path: reasons.get(path) for path in expected} == expected
    assert leaks(manifest, split) == []
    assert sorted([*split.path, *left_out.path]) == sorted(manifest.path)
    assert set(split.path[split.split == "test"]) == set(manifest.path[manifest.folder == "test"])


@pytest.mark.parametrize(
    "paths, named",
    [
        (["train/NORMAL/a.jpeg", "train/PNEUMONIA/b.jpeg"], ["train/NORMAL/a.jpeg", "train/PNEUMONIA/b.jpeg"]),
        (["test/PNEUMONIA/b.jpeg", "train/NORMAL/a.jpeg"], ["test/PNEUMONIA/b.jpeg", "train/NORMAL/a.jpeg"]),
        (
            ["test/NORMAL/a.jpeg", "test/PNEUMONIA/b.jpeg", "train/NORMAL/c.jpeg"],
            ["test/NORMAL/a.jpeg", "test/PNEUMONIA/b.jpeg"],
        ),
        (["val/NORMAL/a.jpeg", "train/PNEUMONIA/b.jpeg"], ["val/NORMAL/a.jpeg", "train/PNEUMONIA/b.jpeg"]),
    ],
)
def test_one_picture_under_two_classes_is_refused_with_both_names(paths, named):
    manifest = pd.concat([large(), pd.DataFrame([row(path, "same") for path in paths])], ignore_index=True)
    with refused(*named, "two classes", "delete the wrong one", "01_download.ipynb", keeping=[]):
        data.split(manifest)


@pytest.mark.parametrize(
    "normal, other, folds, fine",
    [(1, 5, 7, False), (5, 1, 7, False), (0, 5, 7, False), (2, 2, 7, True), (2, 30, 7, True), (8, 8, 7, True)],
)
def test_two_patients_of_each_class_are_enough_and_one_is_not(normal, other, folds, fine):
    paths = [f"train/NORMAL/IM-{i:04d}-{k:04d}.jpeg" for i in range(normal) for k in range(3)]
    paths += [f"train/PNEUMONIA/person{i}_virus_{k}.jpeg" for i in range(other) for k in range(2)]
    paths += ["test/NORMAL/IM-0900-0001.jpeg", "test/PNEUMONIA/person900_virus_1.jpeg"]
    manifest = pd.DataFrame([row(path) for path in paths])
    if fine:
        split, _ = data.split(manifest, folds=folds)
        assert leaks(manifest, split) == []
        assert (split.groupby("split").label.nunique() == 2).all() and set(split.split) == {"train", "val", "test"}
    else:
        with refused("train folder", "fewer than 2 patients", "01", keeping=[]):
            data.split(manifest, folds=folds)


@pytest.mark.parametrize(
    "setting, value",
    [
        ("FOLDS", 1),
        ("FOLDS", 0),
        ("FOLDS", -3),
        ("FOLDS", 2.5),
        ("FOLDS", "7"),
        ("FOLDS", None),
        ("SPLIT_SEED", -1),
        ("SPLIT_SEED", 2**40),
        ("SPLIT_SEED", 1.5),
        ("SPLIT_SEED", "x"),
        ("SPLIT_SEED", None),
    ],
)
def test_a_setting_out_of_range_is_named(setting, value):
    """None as a seed would even be taken, and give another split every time."""
    arguments = {"FOLDS": "folds", "SPLIT_SEED": "seed"}
    with refused(f"{setting} in 02_explore.ipynb", "set it to a whole number", keeping=[]):
        data.split(large(), **{arguments[setting]: value})


# --- another copy of the same X-rays ---------------------------------------------------------------------------


def saved_again(folder, copy, quality=40):
    """The same X-rays in other bytes, as a resized copy of the data set would have them."""
    for path in folder.rglob("*.jpeg"):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(target, "JPEG", quality=quality)
    return copy


def test_another_copy_is_refused_on_a_machine_of_ones_own(world, tmp_path):
    manifest = data.survey(world.xrays)
    with pytest.raises(Problem, match="another size.*01_manifest.csv.*CHEST_XRAY_DIR"):
        data.check(manifest, saved_again(world.xrays, tmp_path / "copy"))


def test_another_copy_is_read_anew_where_that_is_allowed(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXR_ANY_COPY", "1")
    manifest, copy = data.survey(world.xrays), saved_again(world.xrays, tmp_path / "copy")
    there = data.check(manifest, copy)
    assert "another copy" in capsys.readouterr().out
    assert list(there.path) == list(manifest.path) and list(there.label) == list(manifest.label)
    assert not set(there.sha256) & set(manifest.sha256)
    pd.testing.assert_frame_equal(data.check(there, copy), there)


def test_another_copy_that_lacks_a_file_is_refused_all_the_same(world, tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_ANY_COPY", "1")
    manifest, copy = data.survey(world.xrays), saved_again(world.xrays, tmp_path / "copy")
    (copy / manifest.path[3]).unlink()
    with pytest.raises(Problem, match=f"{manifest.path[3]} is not in"):
        data.check(manifest, copy)


def test_files_numbered_anew_in_each_folder_are_patients_of_their_own(world):
    for part in ("train", "test"):
        for number, path in enumerate(sorted((world.xrays / part / "NORMAL").iterdir())):
            path.rename(path.with_name(f"{number}.jpeg"))
    manifest = data.survey(world.xrays)
    table, left_out = data.split(manifest)
    normal = manifest[manifest.label == 0]
    assert normal.patient.is_unique and "patient is in test" not in set(left_out.reason)


# --- neighbours and flow --------------------------------------------------------------------------------------


def test_neighbours_are_ten_numbers_of_one_kind():
    patient = pd.Series(
        [
            "IM-0120",
            "IM-0129",
            "IM-0130",
            "NORMAL2-IM-0120",
            "person12_virus",
            "person19_virus",
            "person12_bacteria",
            "no number",
        ]
    )
    block = data.neighbours(patient, 10)
    assert block[0] == block[1] and block[4] == block[5]
    assert block.nunique() == 6 and block[7] == "no number"
    assert (data.neighbours(patient, 1).nunique()) == len(patient)


def test_validation_is_made_of_whole_blocks_of_neighbours():
    rows = [
        row(
            f"train/{'NORMAL/IM' if label == 0 else 'PNEUMONIA/person'}{'-' * (label == 0)}{n:04}"
            f"{'-0001' if label == 0 else '_virus_1'}.jpeg"
        )
        for label in (0, 1)
        for n in range(800)
    ]
    rows += [row("test/NORMAL/IM-9000-0001.jpeg"), row("test/PNEUMONIA/person9000_virus_1.jpeg")]
    split, _ = data.split(pd.DataFrame(rows))
    inside = split[split.split != "test"]
    block = data.neighbours(inside.patient, 10)
    assert block.nunique() == 160 and inside.groupby(block).split.nunique().max() == 1
    share = (inside.split == "val").groupby(inside.label).mean()
    assert share.between(0.1, 0.2).all()


def test_flow_accounts_for_every_image(tiny):
    manifest = data.survey(tiny)
    table, left_out = data.split(manifest)
    flow = data.flow(manifest, table, left_out)
    assert (
        flow["all"]["images"]
        == len(manifest)
        == sum(flow[f"{folder} folder"]["images"] for folder in ("train", "val", "test"))
    )
    for folder, parts in (("train", ("train", "val")), ("test", ("test",)), ("val", ())):
        place = flow[f"{folder} folder"]
        assert place["images"] == sum(place["left_out"].values()) + sum(flow[part]["images"] for part in parts)
    for place in flow.values():
        assert place["normal"] + place["pneumonia"] == place["images"] >= place["patients"]
