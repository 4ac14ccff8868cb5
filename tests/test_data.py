"""Folders of films: whatever is wrong is named, patients are known, and the split lets none of them leak."""

import hashlib
import io
import os
import re
import shutil
import struct
import warnings
import zlib
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from contract import MANIFEST
from cxr import chain, data, images
from cxr.gallery import write_dicom
from cxr.paths import Problem
from drawn import draw_chest

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
NAMES = [f"train/NORMAL/IM-{i:04d}-0001{end}.jpeg" for i in range(8) for end in ("", "-1")[: 1 + i % 2]]
KINDS = ("bacteria", "virus")
NAMES += [f"train/PNEUMONIA/person{i}_{KINDS[i % 2]}_{i * 3 + k}.jpeg" for i in range(12) for k in range(1 + i % 3)]
NAMES += [f"test/NORMAL/IM-{i:04d}-0001.jpeg" for i in range(100, 104)]
NAMES += [f"test/PNEUMONIA/person{i}_virus_{i}.jpeg" for i in range(101, 106, 2)]
NAMES += ["val/NORMAL/IM-0900-0001.jpeg", "val/PNEUMONIA/person900_bacteria_1.jpeg"]
SET = {name: encoded(noise(name)) for name in NAMES}
PARTS = ("train", "val", "test")
SOME, OTHER = "train/NORMAL/IM-0002-0001.jpeg", "train/PNEUMONIA/person3_virus_9.jpeg"


def put(folder, files):
    """Write `files`, names to bytes, below `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def contents(folder):
    """Everything below `folder`, hidden files too: names to bytes, targets of links, None for folders."""

    def what(path):
        return os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None

    return {path.relative_to(folder).as_posix(): what(path) for path in sorted(folder.rglob("*"))}


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
    message.encode()  # Jupyter can send nothing else
    assert [contents(folder) for folder in keeping] == before


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A data folder that is in order, no results, and an empty cache."""
    place = SimpleNamespace(**{name: tmp_path / name for name in ("xrays", "results", "cache", "elsewhere")})
    for variable, name in zip(("CHEST_XRAY_DIR", "CXR_RESULTS_DIR", "CXR_CACHE_DIR"), ("xrays", "results", "cache")):
        monkeypatch.setenv(variable, str(tmp_path / name))
    put(place.xrays, SET)
    for folder in (place.cache, place.elsewhere):
        folder.mkdir()
    return place


def test_the_manifest_describes_every_file(world):
    nested = dict.fromkeys(["train/NORMAL/a/1.jpeg", "train/NORMAL/a-b.jpeg"], WHOLE)  # as text, the second comes first
    table, files = data.survey(put(world.xrays, nested)), {**SET, **nested}
    assert list(table.columns) == MANIFEST and list(table.path) == sorted(files)
    row = table.set_index("path").loc[OTHER].to_dict()
    expected = dict(folder="train", class_name="PNEUMONIA", label=1, subtype="virus", patient="person3_virus")
    expected |= dict(width=WIDE, height=HIGH, mode="L", bytes=len(SET[OTHER]))
    assert row == expected | {"sha256": hashlib.sha256(SET[OTHER]).hexdigest()}
    assert list(table.label) == [int("PNEUMONIA" in name) for name in sorted(files)]


@pytest.mark.parametrize("normal, other", [("normal", "diseased"), ("Normal", "a 肺炎")])
def test_normal_is_0_whatever_the_other_class_is_called(world, normal, other):
    rename(world.xrays, "PNEUMONIA", other)
    rename(world.xrays, "NORMAL", "1")
    rename(world.xrays, "1", normal)
    (world.xrays / "test").rename(world.xrays / "Test")  # as other sets spell it
    table = data.survey(world.xrays)
    assert list(data.class_names(table)) == [normal, other] and len(table) == len(SET)
    assert (table.subtype[table.label == 0] == "normal").all() and set(table.folder) == {"train", "val", "test"}


def test_three_class_folders_are_normal_or_not_and_which(world):
    """Whatever the names of the files say of bacteria and virus; of Kaggle's class folders they still say whose."""
    known = data.survey(world.xrays)
    names = [f"{part}/COVID 19/{part}{i}_coronavirus.jpeg" for part in ("train", "test") for i in range(4)]
    table = data.survey(put(world.xrays, {name: encoded(noise(name)) for name in names}))
    assert list(data.class_names(table)) == ["NORMAL", "COVID 19 or PNEUMONIA"]
    assert table.merge(known, on=["path", "patient"]).shape[0] == len(known)
    assert set(table.class_name + table.subtype) == {"COVID 19covid 19", "NORMALnormal", "PNEUMONIApneumonia"}


def rename(folder, old, new):
    for part in PARTS:
        (folder / part / old).rename(folder / part / new)


FOLDERS = {
    "no data folder": (lambda x: shutil.rmtree(x), "xrays", "CHEST_XRAY_DIR"),
    "no test folder": (lambda x: shutil.rmtree(x / "test"), "no train/ and test/", "CHEST_XRAY_DIR"),
    "one class": (lambda x: [shutil.rmtree(x / part / "NORMAL") for part in PARTS], "pneumonia:", "two at least"),
    "none called normal": (lambda x: rename(x, "NORMAL", "healthy"), "healthy, pneumonia", "one of them called normal"),
    "third class in train only": (lambda x: put(x, {"train/COVID/1.jpeg": WHOLE}), "test/covid is not there", "put"),
    "empty class": (lambda x: [film.unlink() for film in x.glob("train/P*/*")], "PNEUMONIA holds no film", "put"),
    "class in two spellings": (lambda x: put(x, {"train/Normal/1.jpeg": WHOLE}), "NORMAL/ and Normal/", "merge"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_no_data_set_is_refused(world, case):
    spoil, *named = FOLDERS[case]
    spoil(world.xrays)
    with refused(*named, keeping=[world.results, world.cache]):
        data.survey(world.xrays)


FRAMES = [Image.fromarray(noise(str(i))) for i in range(3)]
FILES = {
    "zero bytes": ("a.jpeg", b"", "0 bytes"),
    "JPEG cut at 50%": ("a.jpeg", WHOLE[: len(WHOLE) // 2], "damaged (image file is truncated"),
    "web page": ("a.jpeg", b"<!DOCTYPE html><html><title>Login</title></html>" * 40, "not a picture"),
    "GIF named .jpeg": ("a.jpeg", encoded(FILM, "GIF"), "GIF picture under the name of a JPEG"),
    "PNG named .jpeg": ("a.jpeg", encoded(FILM, "PNG"), "PNG picture under the name of a JPEG"),
    "JPEG named .dcm": ("a.dcm", WHOLE, "JPEG picture under the name of a DICOM"),
    "animated PNG": ("a.png", encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), "3 pictures"),
    "DICOM without an ending, cut": ("IM0001", dicom()[:-100], "IM0001 is damaged"),
    "1 x 1": ("a.jpeg", encoded(noise("", (1, 1))), "1x1 pixels"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_whole_picture_is_named(world, case):
    name, content, what = FILES[case]
    put(world.xrays, {f"test/PNEUMONIA/{name}": content})
    kept = [world.results, world.xrays, world.cache]
    with refused(f"test/PNEUMONIA/{name}", what, "replace or delete it", "01_download.ipynb", keeping=kept):
        data.survey(world.xrays)


@pytest.mark.parametrize("target", ["{}/elsewhere/b.jpeg", "../../../elsewhere/b.jpeg"])
def test_a_link_that_leaves_the_data_folder_is_named(world, target):
    put(world.elsewhere, {"b.jpeg": WHOLE})
    (world.xrays / "test/NORMAL/a.jpeg").symlink_to(target.format(world.elsewhere.parent))
    with refused("test/NORMAL/a.jpeg is a link", "replace or delete it", keeping=[world.results, world.xrays]):
        data.survey(world.xrays)


def test_a_name_that_is_no_text_is_refused(world):
    try:
        (world.xrays / os.fsdecode(b"test/NORMAL/R\xf6ntgen.jpeg")).write_bytes(WHOLE)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    with refused(r"test/NORMAL/R\xf6ntgen.jpeg", "rename", keeping=[world.results]):
        data.survey(world.xrays)


ODD = b"Exif\0\0MM\xff*\0\0\0\x08\0\0\0\0\0\0"  # a block that Pillow can't read; the picture beside it is whole
ODD_EXIF = WHOLE[:2] + b"\xff\xe1" + struct.pack(">H", len(ODD) + 2) + ODD + WHOLE[2:]
FINE = {
    "CMYK JPEG": ("a.jfif", encoded(Image.fromarray(FILM).convert("CMYK")), "CMYK", (400, 300)),
    "palette PNG": ("a.png", encoded(Image.fromarray(FILM).convert("P"), "PNG"), "P", (400, 300)),
    "PNG with alpha": ("a.png", encoded(Image.fromarray(FILM).convert("LA"), "PNG"), "LA", (400, 300)),
    "turned JPEG": ("a.jpeg", encoded(FILM, exif=exif(6)), "L", (300, 400)),
    "JPEG with odd EXIF": ("a.jpeg", ODD_EXIF, "L", (400, 300)),
    "the longest name": ("Röntgen 胸部 (1)" + "n" * 225 + ".jpeg", WHOLE, "L", (400, 300)),
    "deep folders": ("/".join(["d" * 60] * 12) + "/a.jpeg", WHOLE, "L", (400, 300)),
    "odd DICOM": ("1.2.840.113", dicom(PatientAge="odd", AcquisitionDate="?"), "MONOCHROME2", (400, 300)),
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
        assert np.ptp(images.load(row, world.xrays, 50)) > 100


PASSED = {name: name for name in ("train/NORMAL/notes.txt", "train/a.jpeg")}
PASSED |= {"train/PNEUMONIA/masks/a.jpeg": "train/PNEUMONIA/masks"}
JUNK = ["train/NORMAL/Thumbs.db", "train/NORMAL/._IM-0001-0001.jpeg", "__MACOSX/train/NORMAL/a.jpeg", "README.md"]


@pytest.mark.parametrize("junk", [*PASSED, *JUNK])
def test_what_systems_leave_behind_is_no_image(world, capsys, junk):
    clean = data.survey(world.xrays)
    put(world.xrays, {junk: b"not a picture"})
    pd.testing.assert_frame_equal(data.survey(world.xrays), clean)
    printed = capsys.readouterr().out
    assert printed == (f"Passed over, since they are no films: {PASSED[junk]}\n" if junk in PASSED else "")


@pytest.mark.parametrize("linked", [".", "train/NORMAL", "train/NORMAL/more"])
def test_whole_folders_may_lie_on_another_disk_but_not_sub_folders_of_a_class(world, capsys, linked):
    put(world.xrays, {"train/NORMAL/more/x.txt": b""})
    clean, there = data.survey(world.xrays), world.elsewhere / "there"
    (world.xrays / linked).rename(there)
    (world.xrays / linked).symlink_to(there)
    pd.testing.assert_frame_equal(data.survey(world.xrays), clean)
    assert capsys.readouterr().out.endswith("train/NORMAL/more\n" if "more" in linked else "more/x.txt\n")


PATIENTS = {  # by layout: paths below the data folder, whose first two parts are no matter, and the patients
    "Kaggle": (
        ["person1_virus_3", "person1_virus_4", "person1_bacteria_5", "IM-0115-0001", "NORMAL2-IM-0115-0001"],
        ["person1_virus", "person1_virus", "person1_bacteria", "IM-0115", "NORMAL2-IM-0115"],
    ),
    "a folder a patient": (["A/IM-0003-1", "A/IM-0004-1", "B/IM-0003-1", "B/2/IM-0003-1"], ["A", "A", "B", "B"]),
    "the same below images": (["images/A/1", "images/A/2", "images/B/1"], ["A", "A", "B"]),
    "two large batches": ([f"batch{i % 2}/{i}" for i in range(60)], None),
    "exported without folders": (["IM-0003-0001", "IM-0003-0002"], None),
    "NIH": (["00000013_005", "00000013_006", "20240613_005"], ["13", "13", None]),
    "CheXpert": (["patient00001/study1/view1_frontal", "patient00001/study2/view1_frontal"], ["patient00001"] * 2),
    "MIMIC": (["p10/p10000032/s50414267/02aa", "p10/p10000032/s53189527/e084"], ["p10000032"] * 2),
}


@pytest.mark.parametrize("case", PATIENTS)
def test_whose_a_film_is(case):
    inside, expected = PATIENTS[case]
    own = "train/ill/" + pd.Series(inside)
    found = data.patients(own + ".png", pd.Series(inside) + ".png").tolist()
    assert found == [one or path for one, path in zip(expected or [None] * len(own), own)]


def test_training_folders_of_dicom_name_their_patients_and_the_manifest_does_not(world):
    for path in list(world.xrays.rglob("*.jpeg")):
        patient = "" if "IM-0002" in path.name else f"Doe^{re.sub('-000.*|_[0-9]*$', '', path.stem)}"
        ending = ("", ".dcm", ".DICOM")[len(path.name) % 3]
        path.with_name(path.stem + ending).write_bytes(dicom(np.asarray(Image.open(path)), PatientID=patient))
        path.unlink()
    table = data.survey(world.xrays)
    named = data.patients(table.path, table.path.str.split("/", n=2).str[2])
    assert len(table) == len(SET) and set(table["mode"]) == {"MONOCHROME2"}
    assert table.groupby(named).patient.nunique().eq(1).all() and table.groupby("patient").label.nunique().eq(1).all()
    assert (table.patient == named).sum() == named.eq("IM-0002").sum() and not table.to_csv().count("Doe")
    loaded = images.load(table, world.xrays, 24)
    films = images.read_all([world.xrays / path for path in table.path], 24)
    assert all((film.pixels == own).all() for film, own in zip(films, loaded))


def renamed(folder):
    """Every file under a name that says nothing; returns the old paths by the new ones."""
    old = {}
    for number, path in enumerate(sorted(folder.rglob("*.jpeg"))):
        new = path.rename(path.with_name(f"{number}.jpeg"))
        old[new.relative_to(folder).as_posix()] = path.relative_to(folder).as_posix()
    return old


def test_metadata_says_whose_films_they_are(world, capsys):
    """What it does not say, the names do; a patient stays text, and a normal film normal."""
    before = data.survey(world.xrays)
    assert "WARNING" not in capsys.readouterr().out
    old = renamed(world.xrays)
    data.split(data.survey(world.xrays))
    assert capsys.readouterr().out.count("WARNING: 36 of the 36 files") == 2  # by each of the two
    known = before.set_index("path").loc[list(old.values()), ["patient", "subtype"]]
    known.index = pd.Index(old, name="path")
    rows = known.iloc[::-1].assign(age=3)
    rows.loc[rows.subtype == "bacteria", "subtype"] = " Bacteria "
    rows.loc[rows.subtype == "normal", "subtype"] = "healthy"
    rows.to_csv(world.xrays / "metadata.csv", encoding="utf-8-sig")
    table = data.survey(world.xrays)
    assert list(table) == data.COLUMNS
    assert capsys.readouterr().out == ".../metadata.csv says whose 45 of 45 films are.\n"
    assert table.set_index("path")[["patient", "subtype"]].to_dict() == known.to_dict()
    one, two, three = table.path[table.folder == "train"].head(3)
    (world.xrays / "metadata.csv").write_text(f"patient,path\n007,{one}\n7,{two}\n")
    table = data.survey(world.xrays).set_index("path")
    assert table.patient[[one, two, three]].tolist() == ["7", "7", three.removesuffix(".jpeg")]
    assert (table.subtype[table.label == 1] == "").all()


def test_the_data_set_is_named(world):
    def named():
        found = data.describe(data.survey(world.xrays), world.xrays)
        return found["name"], found["sample"], found["kermany"]

    kaggle = "paultimothymooney/chest-xray-pneumonia"
    assert named() == (f"{kaggle}, copy resized to {WIDE}x{HIGH} pixels", False, True)
    put(world.xrays, {SOME: WHOLE})
    assert named() == (kaggle, False, True)
    renamed(world.xrays)
    assert named() == ("folder xrays", False, False)
    put(world.xrays, {data.SAMPLE: b"{}"})
    assert named() == (f"sample of {kaggle}", True, True)


def films(folder, *names):
    return put(folder, {name: encoded(noise(name), "PNG") for name in names})


LAYOUTS = {
    "many": (["Normal/a.png", "virus/a.png", "covid/a.png"], {"Normal": 0, "covid": 1, "virus": 1}),
    "ill alone": (["tuberculosis/a.png", "tuberculosis/b.png"], {"tuberculosis": 1}),
    "no classes, a folder in it": (["a.png", "b.png", "more/c.png"], {}),
    "images without classes": (["images_001/a.png", "images_002/a.png"], {}),
    "radiography set with masks": (["COVID/images/a.png", "Normal/images/a.png"], {"COVID": 1, "Normal": 0}),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_one_class_many_or_none(tmp_path, case):
    names, labels = LAYOUTS[case]
    films(tmp_path, *names, *(name.replace("images", "masks") for name in names if "images" in name))
    table = data.list_folder(tmp_path)
    assert sorted(table.path) == sorted(names) and table.patient.is_unique
    assert table.dropna(subset="label").groupby("class_name").label.first().to_dict() == labels
    assert labels or table.label.isna().all() and set(table.class_name) == {""}
    read, pixels, broken = data.read_films(table, tmp_path, 32)
    assert len(read) == len(pixels) == len(names) and broken.empty


def test_what_can_not_be_read_is_set_aside_with_its_reason(tmp_path):
    put(films(tmp_path, "normal/a.png", "ill/b.png"), {"ill/IM1": dicom(PatientAge="044Y"), "ill/no.png": b"<html>"})
    read, pixels, broken = data.read_films(data.list_folder(tmp_path), tmp_path, 64, ages=(1, 5))
    assert pixels.shape == (3, 64, 64) and (pixels.std(axis=(1, 2)) > 5).all() and list(read.index) == [0, 1, 2]
    assert list(broken.path) == ["ill/no.png"] and "not a picture" in broken.reason[0]
    assert read.path[read.reason.str.contains("another age")].tolist() == ["ill/IM1"]
    put(tmp_path / "bad", {"a.png": b"x", "b.png": b"y"})
    with pytest.raises(Problem, match="no film that can be read .2 files can't.*not a picture"):
        data.read_films(data.list_folder(tmp_path / "bad"), tmp_path / "bad", 64)


LONG = "\n".join(f"{i}.png,{i}" for i in range(150_000))
PATHS = ["ill/a.png", "ill/b.png", "normal/c.png"]
CSVS = {
    "in it, by path": ("metadata.csv", "path,patient\nill/a.png,7\nill/b.png,7\nnormal/c.png,8\n", ["7", "7", "8"]),
    "by name, no ending": ("list.csv", "image_id,patient_id\na,x\nb,y\nc,x\n", ["x", "y", "x"]),
    "as NIH writes it": ("Data.csv", "Image Index,Patient ID,View Position\na.png,1,PA\nz.png,2,AP\n", ["1"]),
    "other columns too": ("metadata.csv", "File,Patient,view,age\nill/a.png,1,ap,44\nill/b.png,2,pa,3\n", ["1", "2"]),
    "beside it": ("../data.csv", "file,patient\nfilms/ill/a.png,1\nfilms/ill/b.png,1\nelsewhere/q.png,3\n", ["1", "1"]),
    "a table of something else": ("notes.csv", "day,rain\n1,2\n", []),
    "beside it, of others": ("../data.csv", "file,patient\nother/ill/a.png,1\n", []),
    "very long": ("metadata.csv", f"path,patient\n{LONG}\na,9\n", ["9"]),
}


@pytest.mark.parametrize("name, text, expected", CSVS.values(), ids=CSVS)
def test_a_csv_says_whose_the_films_are(tmp_path, name, text, expected):
    folder = films(tmp_path / "films", *PATHS)
    (folder / name).write_text(text, encoding="utf-8")
    table = data.list_folder(folder).set_index("path")
    assert table.patient[PATHS].tolist() == expected + [path[:-4] for path in PATHS[len(expected) :]]
    if "view" in text:
        assert table.view.tolist() == ["ap", "pa", ""] and table.age.tolist() == ["44", "3", ""]


def with_csv(content):
    return lambda folder: put(films(folder, "a.png", "b.png"), {"metadata.csv": content.encode("latin-1")})


BAD = {
    "not there": (lambda f: f.rmdir(), "is not there: set FOLDER"),
    "an empty class": (lambda f: (films(f, "ill/a.png"), (f / "normal").mkdir()), "normal holds no film"),
    "films beside normal": (lambda f: films(f, "a.png", "normal/b.png"), "films beside normal/, such as a.png"),
    "a folder a patient": (lambda f: films(f, *(f"{i}/a.png" for i in range(21))), "21 folders, too many"),
    "a training set": (lambda f: films(f, "train/a.png", "test/a.png"), "holds train/ and test/, of which"),
    "one patient": (lambda f: films(f, "a.png"), "one patient alone"),
    "no column patient": (with_csv("path,who\na.png,1\n"), "metadata.csv has the columns path, who: correct it"),
    "no patient": (with_csv("path,patient\na.png,\nb.png,2\n"), "names no patient for a.png"),
    "two rows": (with_csv("path,patient\na.png,1\na.png,2\n"), "two rows for a.png"),
    "other films": (with_csv("path,patient\nz.png,1\n"), "no row for any film"),
    "no table": (with_csv('path,patient\n"a.png,1\n'), "no table in UTF-8"),
    "another encoding": (with_csv("path,patient\na.png,J\u00f6rg\n"), "no table in UTF-8"),
}


@pytest.mark.parametrize("make, what", BAD.values(), ids=BAD)
def test_a_folder_or_a_csv_that_is_wrong_is_named(tmp_path, make, what):
    (tmp_path / "films").mkdir()
    make(tmp_path / "films")
    with pytest.raises(Problem, match=what):
        data.list_folder(tmp_path / "films")


def test_another_copy_is_read_again_where_that_is_allowed(world, tmp_path, monkeypatch, capsys):
    manifest, copy = data.survey(world.xrays), tmp_path / "copy"
    for path in manifest.path:
        put(copy, {path: encoded(Image.open(world.xrays / path), quality=40)})
    with pytest.raises(Problem, match="another size.*01_manifest.csv.*CHEST_XRAY_DIR"):
        data.check(manifest, copy)
    monkeypatch.setenv("CXR_ANY_COPY", "1")
    there = data.check(manifest, copy)
    assert "another copy" in capsys.readouterr().out
    assert there[["path", "label"]].equals(manifest[["path", "label"]])
    assert not set(there.sha256) & set(manifest.sha256)
    (copy / manifest.path[3]).unlink()
    with pytest.raises(Problem, match=f"{manifest.path[3]} is not in"):
        data.check(manifest, copy)


def row(path, sha256=""):
    """One line of a manifest for a file of this name, without the file."""
    part, class_name, name = path.split("/")
    label = int(class_name != "NORMAL")
    subtype = re.search("bacteria|virus|$", name)[0] if label else "normal"
    facts = dict(path=path, folder=part, class_name=class_name, label=label, bytes=1, subtype=subtype)
    sha256 = sha256 or hashlib.sha256(path.encode()).hexdigest()
    return facts | {"patient": re.match(data.KAGGLE, name)[1], "sha256": sha256}


def large():
    """A manifest of about 1,300 images in the proportions of the real one."""
    rng, paths = np.random.default_rng(0), []
    for part, base, counts in (("train", 0, (220, 300, 160)), ("test", 2000, (60, 50, 40)), ("val", 4000, (3, 3, 0))):
        for kind, count in zip(("normal", "bacteria", "virus"), counts):
            name = "NORMAL/IM-{:04d}-{:04d}.jpeg" if kind == "normal" else f"PNEUMONIA/person{{}}_{kind}_{{}}.jpeg"
            shots = [(i, k) for i in range(base, base + count) for k in range(1 + min(rng.geometric(0.6) - 1, 5))]
            paths += [f"{part}/{name.format(*shot)}" for shot in shots]
    return pd.DataFrame([row(path) for path in paths])


def leaks(manifest, split):
    """Patients and pictures that stand in more than one part of a split."""
    table = split.merge(manifest[["path", "sha256"]], on="path")
    parts = [table.groupby(column).split.nunique() for column in ("patient", "sha256")]
    return [key for found in parts for key in found.index[found > 1]]


def test_validation_is_cut_by_patient_and_in_the_same_mix():
    manifest = large()
    split, left_out = data.split(manifest)
    assert list(split.columns) == ["path", "label", "subtype", "patient", "split"]
    assert list(split.path) == sorted(split.path) and leaks(manifest, split) == []
    pool = split[split.split != "test"]
    assert set(pool.path) == set(manifest.path[manifest.folder == "train"])
    assert 0.13 < (pool.split == "val").mean() < 0.16
    assert (pool.split == "val").groupby(pool.subtype).mean().between(0.11, 0.18).all()
    # as scikit-learn cuts it, in the lines of page 02
    train = manifest[manifest.folder == "train"].sort_values("path")
    cut = StratifiedGroupKFold(7, shuffle=True, random_state=0)
    _, chosen = next(cut.split(train, train.label.astype(str) + train.subtype, data.blocks(train, 7)))
    assert {*train.path.iloc[chosen]} == {*split.path[split.split == "val"]}


def test_the_same_seed_gives_the_same_split_in_whatever_order_the_files_come():
    manifest = large()

    def fingerprint(table, seed):
        text = "".join(part.to_csv(index=False) for part in data.split(table, seed))
        return hashlib.sha256(text.encode()).hexdigest()

    orders = [manifest, manifest[::-1], manifest.sample(frac=1, random_state=1)]
    assert len({fingerprint(order, 5) for order in orders}) == 1
    assert len({fingerprint(manifest, seed) for seed in range(3)}) == 3


IN_TEST, SECOND, TWIN = "patient is in test", "second copy of an image in train", "same picture as one in test"
ONE, TWO, TESTED = (
    f"{name}-0009.jpeg" for name in ("train/NORMAL/IM-0000", "train/NORMAL/IM-1", "test/NORMAL/IM-2000")
)
FORCED = {  # rows added to the large manifest that are one picture, and the reason why each is left out, None: it stays
    "a patient of test in train": {"train/NORMAL/IM-2001-0009.jpeg": IN_TEST},
    "a test picture in train": {ONE: TWIN, TWO: TWIN, TESTED: None},
    "copies inside train": {ONE: None, TWO: SECOND},
    "copies inside test": {TESTED: None, "test/NORMAL/IM-2001-0009.jpeg": None},
    "a copy of train in val": {ONE: None, "val/NORMAL/IM-4000-0009.jpeg": "val folder, not used"},
    "a film of a test patient, copied under another name": {ONE: IN_TEST, "train/NORMAL/IM-2001-0009.jpeg": IN_TEST},
}


@pytest.mark.parametrize("case", FORCED)
def test_what_would_leak_is_left_out_with_its_reason(case):
    expected = FORCED[case]
    manifest = pd.concat([large(), pd.DataFrame([row(path, "same") for path in expected])], ignore_index=True)
    split, left_out = data.split(manifest)
    reasons = left_out.set_index("path").reason
    assert {path: reasons.get(path) for path in expected} == expected
    assert leaks(manifest, split) == []
    assert sorted([*split.path, *left_out.path]) == sorted(manifest.path)
    assert set(split.path[split.split == "test"]) == set(manifest.path[manifest.folder == "test"])


def test_a_large_val_folder_is_not_left_out_without_a_word(capsys):
    rows = [row(f"val/NORMAL/IM-{i}-0001.jpeg") for i in range(5000, 5017)]
    data.split(pd.concat([large(), pd.DataFrame(rows)], ignore_index=True))
    assert "films in val/ are not used: move them into train/" in capsys.readouterr().out


def test_one_picture_under_two_classes_is_refused_with_both_names():
    pair = ["train/NORMAL/IM-1", "train/ILL/person1_virus"]
    manifest = pd.concat([large(), pd.DataFrame([row(path, "same") for path in pair])], ignore_index=True)
    with refused(*pair, "two classes", "delete the wrong one", "01_download.ipynb", keeping=[]):
        data.split(manifest)


@pytest.mark.parametrize("normal, fine", [(1, False), (2, True)])
def test_two_patients_of_each_class_are_enough_and_one_is_not(normal, fine):
    paths = [f"train/NORMAL/IM-{i:04d}-{k:04d}.jpeg" for i in range(normal) for k in range(3)]
    paths += [f"train/PNEUMONIA/person{i}_virus_{k}.jpeg" for i in range(2) for k in range(2)]
    paths += ["test/NORMAL/IM-0900-0001.jpeg", "test/PNEUMONIA/person900_virus_1.jpeg"]
    manifest = pd.DataFrame([row(path) for path in paths])
    with nullcontext() if fine else pytest.raises(Problem, match="train folder has fewer than 2 patients.*add"):
        assert (data.split(manifest)[0].groupby("split").label.nunique() == 2).all()


@pytest.mark.parametrize("name, value", [("folds", 1), ("seed", -1), ("seed", None)])
def test_a_setting_out_of_range_is_named(name, value):
    """None as a seed would even be taken, and give another split every time."""
    with refused("in 02_explore.ipynb", "set it to a whole number", keeping=[]):
        data.split(large(), **{name: value})


def test_validation_is_made_of_whole_blocks_of_neighbours():
    names = ["IM-0120", "IM-0129", "IM-0130", "NORMAL2-IM-0120", "person12_virus", "person19_virus", "no number"]
    block = data.neighbours(pd.Series(names), 10)
    assert block[0] == block[1] and block[4] == block[5] and block.nunique() == 5 and block[6] == "no number"
    names = [f"NORMAL/IM-{n:04}-0001.jpeg" for n in range(800)]
    names += [f"PNEUMONIA/person{n}_virus_1.jpeg" for n in range(800)]
    rows = [row(f"train/{name}") for name in names]
    rows += [row("test/NORMAL/IM-9000-0001.jpeg"), row("test/PNEUMONIA/person9000_virus_1.jpeg")]
    inside = data.split(pd.DataFrame(rows))[0].query("split != 'test'")
    block = data.neighbours(inside.patient, 10)
    assert block.nunique() == 160 and inside.groupby(block).split.nunique().max() == 1
    assert (inside.split == "val").groupby(inside.label).mean().between(0.1, 0.2).all()


def test_flow_accounts_for_every_image(tiny):
    manifest = data.survey(tiny)
    table, left_out = data.split(manifest)
    flow = data.flow(manifest, table, left_out)
    folders = [flow[f"{folder} folder"] for folder in ("train", "val", "test")]
    assert flow["all"]["images"] == len(manifest) == sum(folder["images"] for folder in folders)
    for folder, parts in zip(folders, (("train", "val"), (), ("test",))):
        assert folder["images"] == sum(folder["left_out"].values()) + sum(flow[part]["images"] for part in parts)
    for place in flow.values():
        assert place["normal"] + place["pneumonia"] == place["images"] >= place["patients"]
