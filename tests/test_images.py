"""One reader of films: every kind of file comes out right or is refused in a sentence, and the cache never lies."""

import errno
import hashlib
import io
import os
import re
import shutil
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from PIL.Image import Transpose
from test_data import dicom, encoded, exif, noise, put, refused

from cxr import images, keys
from cxr.paths import Problem
from drawn import draw_chest

FILM = draw_chest(np.random.default_rng(3), "bacteria", (900, 1200))
GRAY = FILM[::4, ::4]  # 225 x 300
DEEP = np.tile(np.linspace(0, 1, 200), (200, 1))  # black to white
SIZE = 32


def difference(one, other):
    return np.abs(np.asarray(one, float) - np.asarray(other, float)).mean()


def squeezed(pixels, size=SIZE):
    return np.asarray(Image.fromarray(pixels).convert("L").resize((size, size), Image.Resampling.BICUBIC))


def read(tmp_path, content, name="a.dcm", **options):
    return images.read(put(tmp_path, {name: content}) / name, SIZE, **options)


# --- decode --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 150, 1000])
@pytest.mark.parametrize(
    "options",
    [
        {"quality": 40},
        {"quality": 90, "progressive": True},
        {"mode": "RGB", "quality": 75},
        {"mode": "CMYK", "quality": 90},
        {"mode": "RGB", "keep_rgb": True, "quality": 90},
    ],
    ids=str,
)
def test_the_quick_way_is_close_to_the_long_one(size, options):
    content = encoded(Image.fromarray(FILM).convert(options.get("mode", "L")), **options)
    quick, slow = images.decode(content, size), squeezed(np.asarray(Image.open(io.BytesIO(content)).convert("L")), size)
    assert quick.shape == (size, size) and quick.dtype == np.uint8
    assert difference(quick, slow) < 1.5 < 10 < difference(quick, slow[:, ::-1])


def png(pixels, bits_used=0, colour=0):
    """A PNG of 16 bits a channel, gray or, with `colour` 2, 4 or 6, more; with the chunk sBIT where `bits_used`."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    wide = np.repeat(pixels[..., None], channels, axis=2)
    if colour in (4, 6):
        wide[..., -1] = 65535  # opaque
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"gAMA", struct.pack(">I", 45455))
    chunks += chunk(b"sBIT", bytes([bits_used] * channels)) if bits_used else b""
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bits_keep_their_gradation():
    ramp = np.tile(np.linspace(0, 65535, 512).astype(np.uint16), (512, 1))
    decoded = images.decode(encoded(ramp, "PNG"), 256).astype(int)
    assert decoded.min() <= 1 and decoded.max() >= 254
    assert len(np.unique(decoded)) > 250 and (np.diff(decoded[0]) >= 0).all() and np.diff(decoded[0]).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF, big end"])
@pytest.mark.parametrize(
    "bits_used, brightest, white",
    [(0, 255, 255), (0, 900, 1023), (0, 3900, 4095), (0, 16383, 16383), (0, 20000, 65535)]  # the smallest that holds it
    + [(12, 900, 4095), (14, 4095, 16383), (16, 3900, 65535), (12, 65520, 65535), (10, 4000, 4095)],  # said, if it fits
)
def test_fewer_bits_than_the_file_has_room_for_are_not_black(kind, bits_used, brightest, white):
    pixels = (DEEP * brightest).round().astype(np.uint16)
    if kind != "PNG" and bits_used:
        pytest.skip("only a PNG says so")
    order = "<" if kind == "TIFF" else ">"
    content = png(pixels, bits_used) if kind == "PNG" else encoded(Image.fromarray(pixels.astype(f"{order}u2")), "TIFF")
    assert np.abs(images.decode(content, 200).astype(int) - pixels * 255.0 / white).max() <= 1.5


@pytest.mark.parametrize("pixels", [GRAY.astype(np.float32) / 1000, GRAY.astype(np.int32) * 1000 - 9])
def test_other_numbers_are_stretched(tmp_path, pixels):
    found = read(tmp_path, encoded(pixels, "TIFF"), "a.tiff").pixels
    assert np.ptp(found) > 200 and difference(found, squeezed(images.stretch(GRAY).astype(np.uint8))) < 1.5
    with pytest.raises(Problem, match="nan.tiff holds pixels that are not numbers"):
        read(tmp_path, encoded(np.full((64, 64), np.nan, np.float32), "TIFF"), "nan.tiff")


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_colour_of_which_hardly_a_level_is_left_is_named(tmp_path, colour):
    with pytest.raises(Problem, match="a.png has 16 bits a channel and uses 6.2% of their range: save it"):
        read(tmp_path, png((DEEP * 4095).astype(np.uint16), 0, colour), "a.png")
    assert np.ptp(read(tmp_path, png((DEEP * 65535).astype(np.uint16), 0, colour), "a.png").pixels) > 235


DECODED = {  # every ending, every kind: training and prediction read the same, and what they should
    ".jpeg": encoded(GRAY, quality=95),
    ".JPG": encoded(Image.fromarray(GRAY).convert("RGB"), quality=95),
    ".jfif": encoded(Image.fromarray(GRAY).convert("CMYK"), quality=95),
    ".png": encoded(GRAY, "PNG"),
    ".tif": encoded(GRAY, "TIFF"),
    ".tiff": encoded(GRAY.astype(np.uint16) * 257, "TIFF"),
    ".bmp": encoded(GRAY, "BMP"),
    ".webp": encoded(Image.fromarray(GRAY).convert("RGB"), "WEBP", lossless=True),
    " 16 bits.png": encoded(GRAY.astype(np.uint16) * 257, "PNG"),
    " 12 bits.png": encoded(GRAY.astype(np.uint16) * 16, "PNG"),
    " alpha.png": encoded(Image.fromarray(GRAY).convert("LA"), "PNG"),
    " colour, alpha.png": encoded(Image.fromarray(GRAY).convert("RGBA"), "PNG"),
    " palette.png": encoded(Image.fromarray(GRAY).convert("RGB").quantize(256), "PNG"),
    " transparent.png": encoded(Image.fromarray(GRAY).convert("P"), "PNG", transparency=bytes(9)),
}


@pytest.mark.parametrize("ending", DECODED)
def test_training_and_prediction_read_alike(world, ending):
    name, content = f"a{ending}", DECODED[ending]
    folder = put(world / "xrays", {name: content})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (trained,) = images.load(table_of({name: content}), folder, SIZE)
        pixels, reason = images.read(folder / name, SIZE)
    assert np.array_equal(trained, pixels) and reason == "" and difference(pixels, squeezed(GRAY)) < 1.5


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_decoded_upright(kind, orientation):
    """As the camera stored it: the upright picture, turned by the inverse of what its EXIF asks for."""
    turns = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_90 TRANSVERSE ROTATE_270".split()
    stored = Image.fromarray(GRAY)
    stored = stored.transpose(Transpose[turns[orientation - 2]]) if orientation > 1 else stored
    content = encoded(stored, kind, exif=exif(orientation))
    assert difference(images.decode(content, 100), images.decode(encoded(GRAY, kind), 100)) < 1.5


def test_colour_is_declined_and_gray_saved_in_colour_is_not(tmp_path):
    gray = Image.fromarray(GRAY)
    tinted = Image.merge("RGB", [gray, gray.point(lambda v: 0.6 * v), gray.point(lambda v: 0.4 * v)])
    assert read(tmp_path, encoded(tinted, "PNG"), "photo.png").reason == "is in colour"


# --- DICOM ---------------------------------------------------------------------------------------------------


def raw(pixels, **header):
    """DICOM with pixels as they are, also above and below the stored bits, and beyond what these can hold."""
    return dicom(GRAY, PixelData=pixels.tobytes(), **header)


def test_dicom_of_both_polarities_is_the_same_film(tmp_path):
    two, one = read(tmp_path, dicom(GRAY)), read(tmp_path, dicom(255 - GRAY, PhotometricInterpretation="MONOCHROME1"))
    assert two.reason == one.reason == "" and difference(two.pixels, one.pixels) < 2
    assert np.corrcoef(two.pixels.ravel(), squeezed(GRAY).ravel())[0, 1] > 0.99
    assert np.array_equal(images.decode(dicom(GRAY), SIZE), two.pixels)


def test_dicom_is_rescaled_and_windowed(tmp_path):
    window = dict(RescaleSlope="2", RescaleIntercept="-1000", WindowCenter="3000", WindowWidth="2000")
    expected = ((GRAY * 32.0 - 1000 - (3000 - 0.5)) / (2000 - 1) + 0.5).clip(0, 1) * 255
    found = read(tmp_path, dicom(GRAY, **window)).pixels
    assert difference(found, squeezed(expected.round().astype(np.uint8))) < 1.5


def test_dicom_in_colour_is_declined_and_its_gray_is_the_mean_of_its_channels(tmp_path):
    film, stream = pydicom.dcmread(io.BytesIO(dicom(GRAY))), io.BytesIO()
    colour = np.stack([GRAY, GRAY // 2, GRAY // 3], axis=2)
    film.set_pixel_data(colour, "RGB", bits_stored=8)
    film.save_as(stream)
    pixels, reason = read(tmp_path, stream.getvalue())
    assert np.array_equal(pixels, squeezed(colour.mean(axis=2).round().astype(np.uint8))) and reason == "is in colour"


DRAWING = np.zeros(GRAY.shape, np.uint16)
DRAWING[50:90, 50:90] = 5
TWELVE = GRAY.astype(np.uint16) * 16
SIGNED = (TWELVE.astype(np.int32) - 2048 & 0x0FFF).astype(np.uint16)
SAME = {  # films of which the picture is TWELVE
    "a drawing above the bits": raw(TWELVE | DRAWING << 12),
    "noise below the bits": raw(TWELVE << 4 | DRAWING, HighBit=15),
    "with a sign": raw(SIGNED, PixelRepresentation=1),
    "with a sign and junk above it": raw(SIGNED | 0xF000, PixelRepresentation=1),
    "of ten bits": raw(GRAY.astype(np.uint16) * 4, BitsStored=10, HighBit=9),
    "of sixteen bits": raw(GRAY.astype(np.uint16) * 256, BitsStored=16, HighBit=15),
}


@pytest.mark.parametrize("case", SAME)
def test_only_the_bits_of_the_picture_count(tmp_path, case):
    assert difference(read(tmp_path, SAME[case]).pixels, read(tmp_path, dicom(GRAY)).pixels) < 0.1


@pytest.mark.parametrize(
    "header, reason",
    [
        ({"PatientAge": "045Y"}, "another age.*045Y"),
        ({"PatientAge": "002M"}, "another age"),
        ({"ViewPosition": "LL"}, "no frontal view.*ll"),
        ({"Modality": "CT"}, "no radiograph.*CT"),
        ({"BodyPartExamined": "HAND"}, "another part of the body.*hand"),
        ({"BodyPartExamined": "LSPINE"}, "another part"),
        ({"BodyPartExamined": "RODILLA DERECHA"}, "another part"),
    ]
    + [({"BodyPartExamined": part}, "^$") for part in ("TORAX", "T?RAX", "Pecho", "CHEST PORTABLE", "THX")]
    + [({"PatientAge": age, "ViewPosition": "PA"}, "^$") for age in ("003Y", "odd")],
)
def test_the_header_may_speak_against_it(tmp_path, header, reason):
    assert re.search(reason, read(tmp_path, dicom(GRAY, **header), ages=(1, 5)).reason)
    assert "age" not in read(tmp_path, dicom(GRAY, **header)).reason


# --- bad files -----------------------------------------------------------------------------------------------


def compressed():
    from pydicom.encaps import encapsulate

    film, stream = pydicom.dcmread(io.BytesIO(dicom(GRAY))), io.BytesIO()
    film.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    film.PixelData = encapsulate([b"\xff\xd8 not really \xff\xd9"])
    film["PixelData"].VR = "OB"
    film.save_as(stream)
    return stream.getvalue()


def cut(content):
    return content[: len(content) // 2]


HUGE = encoded(Image.new("1", (15000, 15000)), "PNG")
BAD = {
    "no bytes": ("a.png", b"", "is empty"),
    "cut JPEG": ("a.jpeg", cut(encoded(GRAY)), "is damaged .*: export it again"),
    "cut PNG": ("a.png", cut(encoded(GRAY, "PNG")), "damaged"),
    "a web page": ("a.jpeg", b"<html>", "not a picture"),
    "words": ("a.dcm", b"hello", "not a picture"),
    "cut DICOM": ("a.dcm", cut(dicom(GRAY)), "damaged|without"),
    "torn DICOM": ("a.dcm", dicom(GRAY)[:132] + b"\xff" * 68 + dicom(GRAY)[200:], "damaged|without|not a"),
    "DICOM without a picture": ("a.dcm", dicom(GRAY, ["PixelData"]), "is a DICOM file without a picture"),
    "DICOM of four pictures": ("a.dcm", dicom(GRAY, NumberOfFrames="4"), "holds 4 pictures"),
    "DICOM of bits that can't be": ("a.dcm", dicom(GRAY, HighBit=9), "bit 9 of 16 is the highest of 12"),
    "compressed DICOM": ("a.dcm", compressed(), "is compressed as JPEG Lossless.*: decompress it"),
    "several pictures": (
        "a.tiff",
        encoded(GRAY, "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))]),
        "2 pic",
    ),
    "a bomb": ("a.png", HUGE, "pixels: make it smaller"),
    "one pixel": ("a.png", encoded(GRAY[:1, :1], "PNG"), "only 1x1 pixels"),
    "a folder": ("a.png/b.txt", b"", "can't be read"),
}


@pytest.mark.parametrize("name, content, what", BAD.values(), ids=BAD)
def test_a_file_that_is_no_film_is_named_with_the_remedy(tmp_path, name, content, what):
    put(tmp_path, {name: content})
    with pytest.raises(Problem, match=rf"{name[:5]}.* .*({what})") as problem:
        images.read(tmp_path / name.partition("/")[0], SIZE)
    assert "\n" not in str(problem.value) and ":" in str(problem.value)


def test_every_cut_of_a_file_is_a_sentence_or_a_film(tmp_path):
    for content, name in ((dicom(GRAY[:64, :64]), "b.dcm"), (encoded(GRAY[:64, :64], "PNG"), "b.png")):
        parts = [content[:length] for length in np.linspace(1, len(content) - 1, 30).astype(int)]
        put(tmp_path, {f"{i}{name}": part for i, part in enumerate(parts)})
        for film in images.read_all([tmp_path / f"{i}{name}" for i in range(30)], SIZE):
            assert name in str(film) if isinstance(film, Problem) else film.pixels.shape == (SIZE, SIZE)


def test_films_are_found_and_all_else_is_passed_over_by_name(tmp_path):
    films = ["1.2.840.113", "IM0001", "b.PNG", "c.dcm", "d.webp", "sub/a.jfif"]
    others = [".hidden.png", "a_mask.png", "gone.png", "linked", "masks", "no suffix", "notes.txt", "sub/.git"]
    put(tmp_path, {name: dicom(GRAY[:40, :40]) for name in films[:2]} | dict.fromkeys(films[2:], b""))
    put(tmp_path, dict.fromkeys([*others[:2], "masks/a.png", *others[5:7], "sub/.git/a.png"], b""))
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    (tmp_path / "gone.png").symlink_to("nothing")
    found = [[path.relative_to(tmp_path).as_posix() for path in paths] for paths in images.find(tmp_path)]
    assert found == [films, others]
    assert images.find(tmp_path / "b.PNG") == ([tmp_path / "b.PNG"], [])
    for place, what in (("nowhere", "is not there: name a film"), ("sub/.git", "holds no film: put files")):
        shutil.rmtree(tmp_path / place, ignore_errors=True)
        (tmp_path / "sub/.git").mkdir(exist_ok=True)
        with pytest.raises(Problem, match=what):
            images.find(tmp_path / place)


# --- load and its cache --------------------------------------------------------------------------------------


def table_of(files):
    return pd.DataFrame({"path": list(files), "sha256": [hashlib.sha256(c).hexdigest() for c in files.values()]})


@pytest.fixture
def files():
    return {f"train/NORMAL/{i}.jpeg": encoded(noise(str(i), (60, 80))) for i in range(5)}


@pytest.fixture
def world(tmp_path, monkeypatch, files):
    """A data folder with five X-rays, results with one artifact, and a cache with what another run left there."""
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CXR_RESULTS_DIR", str(put(tmp_path / "results", {"01_manifest.csv": b"path\nearlier\n"})))
    put(tmp_path, {"cache/checkpoint.keras": b"earlier"})
    put(tmp_path / "xrays", files)
    return tmp_path


def kept(world):
    """What no failure may touch."""
    return [world / "xrays", world / "results", world / "cache"]


def test_pictures_come_in_the_order_of_the_table_and_a_second_time_without_the_files(world, files):
    for names in (list(files), list(files)[::-1], list(files)[2:4], []):
        pictures = images.load(table_of({name: files[name] for name in names}), world / "xrays", SIZE)
        assert pictures.shape == (len(names), SIZE, SIZE) and pictures.dtype == np.uint8
        assert all(np.array_equal(one, images.decode(files[name], SIZE)) for one, name in zip(pictures, names))
    first = images.load(table_of(files), world / "xrays", SIZE)
    shutil.rmtree(world / "xrays")
    assert np.array_equal(images.load(table_of(files), world / "xrays", SIZE), first)


@pytest.mark.parametrize("change", ["size", "content", "name", "order", "decoder"])
def test_the_cache_is_keyed_by_all_that_matters(world, files, monkeypatch, change):
    first, size, folder = images.load(table_of(files), world / "xrays", SIZE), SIZE, world / "xrays"
    if change == "size":
        size = SIZE + 1
    elif change == "content":
        files["train/NORMAL/2.jpeg"] = encoded(noise("new", (60, 80)))
    elif change == "name":
        files["train/NORMAL/9.jpeg"] = files.pop("train/NORMAL/4.jpeg")
    elif change == "order":
        files = dict(reversed(files.items()))
    else:  # images.py was edited
        monkeypatch.setattr(keys, "code_hash", lambda *code: f"edited {images in code}")
        monkeypatch.setattr(images, "decode", lambda content, size: np.full((size, size), 7, np.uint8))
    put(folder, files)
    again = images.load(table_of(files), folder, size)
    assert np.array_equal(again, [images.decode(content, size) for content in files.values()])
    assert np.array_equal(again, first) == (change == "name")
    assert len(list((world / "cache").glob("images_*.npy"))) == 2


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


DAMAGED = {
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "of fewer pictures": lambda content: saved(np.zeros((3, SIZE, SIZE), np.uint8)),
    "of objects": lambda content: saved(np.array([{}] * 5)),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_cache_file_is_made_again(world, files, case):
    first = images.load(table_of(files), world / "xrays", SIZE)
    (cached,) = (world / "cache").glob("images_*.npy")
    content = cached.read_bytes()
    cached.write_bytes(DAMAGED[case](content))
    assert np.array_equal(images.load(table_of(files), world / "xrays", SIZE), first)
    assert cached.read_bytes() == content


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


SPOILT = {
    "deleted": (lambda path: path.unlink(), "can't be read", "put it back"),
    "emptied": (lambda path: path.write_bytes(b""), "not the file that 01_manifest.csv describes", "put the right"),
    "one bit flipped": (flip, "not the file that 01_manifest.csv describes", "put the right one back"),
    "a folder now": (lambda path: (path.unlink(), path.mkdir()), "can't be read", "put it back"),
    "a link to nothing now": (lambda path: (path.unlink(), path.symlink_to("x")), "can't be read", "put it back"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_file_spoilt_after_01_is_named(world, files, case):
    spoil, *named = SPOILT[case]
    spoil(world / "xrays/train/NORMAL/3.jpeg")
    with refused("train/NORMAL/3.jpeg", "01_manifest.csv", "01_download.ipynb", *named, keeping=kept(world)):
        images.load(table_of(files), world / "xrays", SIZE)


FAILURES = {  # where a write can fail, with what, and what the sentence says
    "disk full": ("numpy.save", OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    "renaming refused": ("os.replace", PermissionError(13, "Permission denied"), "Permission denied"),
    "folder refused": ("pathlib.Path.mkdir", OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
    "interrupt": ("numpy.save", KeyboardInterrupt(), None),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_cache_that_cannot_be_written_is_a_problem_and_leaves_nothing(world, files, monkeypatch, case):
    where, error, what = FAILURES[case]

    def fail(target, *_, **__):
        if where == "numpy.save":  # the first bytes are written
            (open(target, "wb") if isinstance(target, (str, os.PathLike)) else target).write(b"half")
        raise error

    images.load(table_of(files), world / "xrays", SIZE)  # an earlier cache stays
    before = sorted(os.listdir(world / "cache"))
    with monkeypatch.context() as patched:
        patched.setattr(where, fail)
        with pytest.raises(Problem if what else KeyboardInterrupt) as caught:
            images.load(table_of(files), world / "xrays", SIZE + 1)
    assert what is None or re.search(f"cache.*{what}.*free the disk.*CXR_CACHE_DIR", str(caught.value))
    assert sorted(os.listdir(world / "cache")) == before and not Path("half").exists()
    images.load(table_of(files), world / "xrays", SIZE + 1)
