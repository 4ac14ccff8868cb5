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
    """The film, or the Problem, that a file of this name and content is."""
    return images.read_all([put(tmp_path, {name: content}) / name], SIZE, **options)[0]


@pytest.mark.parametrize("size", [64, 1000])
@pytest.mark.parametrize("options", [{"quality": 90, "progressive": True}, {"mode": "CMYK", "quality": 75}], ids=str)
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


@pytest.mark.parametrize(
    "bits_used, brightest, white",
    [(0, 255, 255), (0, 900, 1023), (0, 3900, 4095), (0, 16383, 16383), (0, 20000, 65535)]  # the smallest that holds it
    + [(12, 900, 4095), (16, 3900, 65535), (10, 4000, 4095)],  # said, if it fits
)
def test_fewer_bits_than_the_file_has_room_for_are_not_black(bits_used, brightest, white):
    pixels = (DEEP * brightest).round().astype(np.uint16)
    for content in [png(pixels, bits_used)] if bits_used else [png(pixels), encoded(pixels.astype(">u2"), "TIFF")]:
        assert np.abs(images.decode(content, 200).astype(int) - pixels * 255.0 / white).max() <= 1.5


@pytest.mark.parametrize("pixels", [GRAY.astype(np.float32) / 1000, GRAY.astype(np.int32) * 1000 - 9])
def test_other_numbers_are_stretched(tmp_path, pixels):
    found = read(tmp_path, encoded(pixels, "TIFF"), "a.tiff").pixels
    assert np.ptp(found) > 200 and difference(found, squeezed(images.stretch(GRAY).astype(np.uint8))) < 1.5
    nan = read(tmp_path, encoded(np.full((64, 64), np.nan, np.float32), "TIFF"), "nan.tiff")
    assert "nan.tiff holds pixels that are not numbers" in str(nan)


@pytest.mark.parametrize("colour", [2, 6])
def test_colour_of_which_hardly_a_level_is_left_is_named(tmp_path, colour):
    lost = read(tmp_path, png((DEEP * 4095).astype(np.uint16), 0, colour), "a.png")
    assert "a.png has 16 bits a channel and uses 6.2% of their range: save it" in str(lost)
    assert np.ptp(read(tmp_path, png((DEEP * 65535).astype(np.uint16), 0, colour), "a.png").pixels) > 235


COLOUR = Image.fromarray(GRAY).convert("RGB")
DECODED = {  # every ending, every kind: training and prediction read the same, and what they should
    ".jpeg": encoded(COLOUR, quality=95),
    ".jfif": encoded(COLOUR.convert("CMYK"), quality=95),
    ".png": encoded(GRAY, "PNG"),
    ".tiff": encoded(GRAY.astype(np.uint16) * 257, "TIFF"),
    ".bmp": encoded(GRAY, "BMP"),
    ".webp": encoded(COLOUR, "WEBP", lossless=True),
    " 12 bits.png": encoded(GRAY.astype(np.uint16) * 16, "PNG"),
    " alpha.png": encoded(COLOUR.convert("RGBA"), "PNG"),
    " palette.png": encoded(COLOUR.quantize(256), "PNG"),
    " transparent.png": encoded(Image.fromarray(GRAY).convert("P"), "PNG", transparency=bytes(9)),
}


@pytest.mark.parametrize("ending", DECODED)
def test_training_and_prediction_read_alike(world, ending):
    name, content = f"a{ending}", DECODED[ending]
    folder = put(world / "xrays", {name: content})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (trained,) = images.load(table_of({name: content}), folder, SIZE)
        pixels, reason = read(folder, content, name)
    assert np.array_equal(trained, pixels) and reason == "" and difference(pixels, squeezed(GRAY)) < 1.5


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_picture_is_decoded_upright(orientation):
    """As the camera stored it: the upright picture, turned by the inverse of what its EXIF asks for."""
    turns = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_90 TRANSVERSE ROTATE_270".split()
    stored = Image.fromarray(GRAY).transpose(Transpose[turns[orientation - 2]])
    for kind in ("JPEG", "PNG"):
        content = encoded(stored, kind, exif=exif(orientation))
        assert difference(images.decode(content, 100), images.decode(encoded(GRAY, kind), 100)) < 1.5


def test_colour_is_declined_and_gray_saved_in_colour_is_not(tmp_path):
    gray = Image.fromarray(GRAY)
    tinted = Image.merge("RGB", [gray, gray.point(lambda v: 0.6 * v), gray.point(lambda v: 0.4 * v)])
    assert read(tmp_path, encoded(tinted, "PNG"), "photo.png").reason == "is in colour"


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
    "with a sign and junk above it": raw(SIGNED | 0xF000, PixelRepresentation=1),
    "of ten bits": raw(GRAY.astype(np.uint16) * 4, BitsStored=10, HighBit=9),
    "of sixteen bits": raw(GRAY.astype(np.uint16) * 256, BitsStored=16, HighBit=15),
}


@pytest.mark.parametrize("case", SAME)
def test_only_the_bits_of_the_picture_count(tmp_path, case):
    assert difference(read(tmp_path, SAME[case]).pixels, read(tmp_path, dicom(GRAY)).pixels) < 0.1


REASONS = {
    "another age.*045Y": {"PatientAge": "045Y"},
    "another age": {"PatientAge": "002M"},
    "no frontal view.*ll": {"ViewPosition": "LL"},
    "no radiograph.*CT": {"Modality": "CT"},
    "another part of the body.*hand": {"BodyPartExamined": "HAND"},
    "another part": {"BodyPartExamined": "RODILLA DERECHA"},
    "^$": {"BodyPartExamined": "T?RAX", "PatientAge": "003Y", "ViewPosition": "PA"},
    "^()$": {"BodyPartExamined": "CHEST PORTABLE", "PatientAge": "odd"},
}


@pytest.mark.parametrize("reason, header", REASONS.items())
def test_the_header_may_speak_against_it(tmp_path, reason, header):
    assert re.search(reason, read(tmp_path, dicom(GRAY, **header), ages=(1, 5)).reason)
    assert "age" not in read(tmp_path, dicom(GRAY, **header)).reason


def compressed():
    film, stream = pydicom.dcmread(io.BytesIO(dicom(GRAY))), io.BytesIO()
    film.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    film.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 not really \xff\xd9"])
    film["PixelData"].VR = "OB"
    film.save_as(stream)
    return stream.getvalue()


BAD = {
    "cut PNG": ("a.png", encoded(GRAY, "PNG")[:9000], "is damaged .*: export it again"),
    "words": ("a.dcm", b"hello", "not a picture"),
    "cut DICOM": ("a.dcm", dicom(GRAY)[:9000], "damaged|without"),
    "torn DICOM": ("a.dcm", dicom(GRAY)[:132] + b"\xff" * 68 + dicom(GRAY)[200:], "damaged|without|not a"),
    "DICOM without a picture": ("a.dcm", dicom(GRAY, ["PixelData"]), "is a DICOM file without a picture"),
    "DICOM of four pictures": ("a.dcm", dicom(GRAY, NumberOfFrames="4"), "holds 4 pictures"),
    "DICOM of bits that can't be": ("a.dcm", dicom(GRAY, HighBit=9), "bit 9 of 16 is the highest of 12"),
    "compressed DICOM": ("a.dcm", compressed(), "is compressed as JPEG Lossless.*decompress.*: save it"),
    "a bomb": ("a.png", encoded(Image.new("1", (15000, 15000)), "PNG"), "pixels: make it smaller"),
    "a folder": ("a.png/b.txt", b"", "can't be read"),
}


@pytest.mark.parametrize("name, content, what", BAD.values(), ids=BAD)
def test_a_file_that_is_no_film_is_named_with_the_remedy(tmp_path, name, content, what):
    found = images.read_all([put(tmp_path, {name: content}) / name.partition("/")[0]], SIZE)[0]
    assert re.search(rf"{name[:5]}.* .*({what})", str(found)) and "\n" not in str(found) and ":" in str(found)


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
    (tmp_path / "empty").mkdir()
    for place, what in (("nowhere", "is not there: name a film"), ("empty", "holds no film: put files")):
        with pytest.raises(Problem, match=what):
            images.find(tmp_path / place)


def table_of(files):
    return pd.DataFrame({"path": list(files), "sha256": [hashlib.sha256(c).hexdigest() for c in files.values()]})


@pytest.fixture
def files():
    return {f"train/NORMAL/{i}.jpeg": encoded(noise(str(i), (60, 80))) for i in range(5)}


@pytest.fixture
def world(tmp_path, monkeypatch, files):
    """A data folder with five X-rays, and a cache with what another run left there."""
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    put(tmp_path, {"cache/checkpoint.keras": b"earlier"})
    put(tmp_path / "xrays", files)
    return tmp_path


def test_pictures_come_in_the_order_of_the_table_and_a_second_time_without_the_files(world, files):
    first = images.load(table_of(files), world / "xrays", SIZE)
    assert np.array_equal(first, [images.decode(content, SIZE) for content in files.values()])
    assert images.load(table_of({}), world / "xrays", SIZE).shape == (0, SIZE, SIZE)
    shutil.rmtree(world / "xrays")
    assert np.array_equal(images.load(table_of(files), world / "xrays", SIZE), first)


@pytest.mark.parametrize("change", ["content", "order", "decoder"])
def test_the_cache_is_keyed_by_all_that_matters(world, files, monkeypatch, change):
    first = images.load(table_of(files), world / "xrays", SIZE)
    if change == "content":
        files["train/NORMAL/2.jpeg"] = encoded(noise("new", (60, 80)))
    elif change == "order":
        files = dict(reversed(files.items()))
    else:  # images.py was edited
        monkeypatch.setattr(keys, "code_hash", lambda *code: f"edited {images in code}")
        monkeypatch.setattr(images, "decode", lambda content, size: np.full((size, size), 7, np.uint8))
    again = images.load(table_of(files), put(world / "xrays", files), SIZE)
    assert np.array_equal(again, [images.decode(content, SIZE) for content in files.values()])
    assert not np.array_equal(again, first) and len(list((world / "cache").glob("images_*.npy"))) == 2


@pytest.mark.parametrize("damaged", [np.zeros((3, SIZE, SIZE), np.uint8), np.array([{}] * 5), None], ids=range(3))
def test_a_damaged_cache_file_is_made_again(world, files, damaged):
    first = images.load(table_of(files), world / "xrays", SIZE)
    (cached,) = (world / "cache").glob("images_*.npy")
    content = cached.read_bytes()
    cached.write_bytes(bytes(5000)) if damaged is None else np.save(cached, damaged)
    assert np.array_equal(images.load(table_of(files), world / "xrays", SIZE), first)
    assert cached.read_bytes() == content


def flip(path):
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])


ANOTHER = "not the file that 01_manifest.csv describes"
SPOILT = {
    "deleted": (lambda path: path.unlink(), "can't be read"),
    "replaced by one of the same size": (lambda path: path.write_bytes(path.read_bytes()[::-1]), ANOTHER),
    "one bit flipped": (flip, ANOTHER),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_file_spoilt_after_01_is_named(world, files, case):
    spoil, what = SPOILT[case]
    spoil(world / "xrays/train/NORMAL/3.jpeg")
    named = ["train/NORMAL/3.jpeg", what, "01_manifest.csv", "put the right one back", "01_download.ipynb"]
    with refused(*named, keeping=[world / "xrays", world / "cache"]):
        images.load(table_of(files), world / "xrays", SIZE)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_cache_that_cannot_be_written_is_a_problem_and_leaves_nothing(world, files, monkeypatch, error):
    def fail(target, *_):
        target.write_bytes(b"half")
        raise error

    images.load(table_of(files), world / "xrays", SIZE)  # an earlier cache stays
    before = sorted(os.listdir(world / "cache"))
    with monkeypatch.context() as patched:
        patched.setattr(np, "save", fail)
        with pytest.raises((Problem, KeyboardInterrupt)) as caught:
            images.load(table_of(files), world / "xrays", SIZE + 1)
    what = str(caught.value)
    assert isinstance(error, KeyboardInterrupt) or re.search("No space left.*free the disk.*CXR_CACHE_DIR", what)
    assert sorted(os.listdir(world / "cache")) == before
    images.load(table_of(files), world / "xrays", SIZE + 1)
