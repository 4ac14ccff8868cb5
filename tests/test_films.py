"""A reader's own picture, of whatever kind: read as the data set's are, or refused in a sentence."""

import io
import re

import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin

from cxr import films, images
from cxr.gallery import write_dicom
from cxr.paths import Problem
from drawn import draw_chest

CHEST = draw_chest(np.random.default_rng(4), "normal", (300, 360))
GRAY = Image.fromarray(CHEST)
SIZE = 128


def saved(path, picture=GRAY, **options):
    picture.save(path, **options)
    return path


def apart(one, other):
    return np.abs(one.astype(float) - other.astype(float)).mean()


@pytest.mark.parametrize("name", ["a.jpeg", "a.JPG", "a.png", "a.bmp", "a.tif"])
def test_eight_bits_come_as_those_of_the_data_set(tmp_path, name):
    path = saved(tmp_path / name)
    pixels, reason = films.read(path, SIZE)
    np.testing.assert_array_equal(pixels, images.decode(path, SIZE))
    assert reason == "" and pixels.dtype == np.uint8


@pytest.mark.parametrize("scale, offset", [(257, 0), (16, 0), (40, 3000)])
def test_sixteen_bits_are_stretched(tmp_path, scale, offset):
    path = saved(tmp_path / "deep.png", Image.fromarray(CHEST.astype(np.uint16) * scale + offset))
    pixels, reason = films.read(path, SIZE)
    expected = np.asarray(GRAY.resize((SIZE, SIZE), Image.Resampling.BICUBIC)).astype(float)
    assert reason == "" and np.corrcoef(pixels.ravel(), expected.ravel())[0, 1] > 0.99 and np.ptp(pixels) > 200


def test_floating_point_tiff_is_stretched(tmp_path):
    path = saved(tmp_path / "deep.tiff", Image.fromarray(CHEST.astype(np.float32) / 1000))
    assert np.ptp(films.read(path, SIZE).pixels) > 200
    broken = saved(tmp_path / "nan.tiff", Image.fromarray(np.full((64, 64), np.nan, np.float32)))
    with pytest.raises(Problem, match="nan.tiff holds pixels that are not numbers"):
        films.read(broken, SIZE)


def test_a_camera_that_lay_on_its_side_is_turned_back(tmp_path):
    block = Image.Exif()
    block[0x0112] = 6
    path = saved(tmp_path / "side.jpeg", GRAY.transpose(Image.Transpose.ROTATE_90), exif=block, quality=95)
    assert apart(films.read(path, SIZE).pixels, images.decode(saved(tmp_path / "up.png"), SIZE)) < 3


def test_colour_is_told_from_gray_saved_in_colour(tmp_path):
    assert films.read(saved(tmp_path / "rgb.jpeg", GRAY.convert("RGB")), SIZE).reason == ""
    assert films.read(saved(tmp_path / "palette.png", GRAY.convert("P")), SIZE).reason == ""
    tinted = Image.merge("RGB", [GRAY, GRAY.point(lambda v: 0.6 * v), GRAY.point(lambda v: 0.4 * v)])
    assert films.read(saved(tmp_path / "photo.png", tinted), SIZE).reason == "is in colour"


# --- DICOM ----------------------------------------------------------------------------------------------------

DEEP = CHEST.astype(np.uint16) * 16


def write_raw(path, pixels, **header):
    """As they are, also above and below the stored bits, and beyond what these can hold."""
    write_dicom(path, pixels & 0x0FFF, PixelData=pixels.tobytes(), **header)


def test_dicom_of_both_polarities_is_the_same_film(tmp_path):
    write_dicom(tmp_path / "two.dcm", DEEP)
    write_dicom(tmp_path / "one.dcm", 4095 - DEEP, PhotometricInterpretation="MONOCHROME1")
    two, one = (films.read(tmp_path / name, SIZE) for name in ("two.dcm", "one.dcm"))
    assert two.reason == one.reason == "" and apart(two.pixels, one.pixels) < 2
    flat = np.asarray(GRAY.resize((SIZE, SIZE), Image.Resampling.BICUBIC)).ravel()
    assert np.corrcoef(two.pixels.ravel(), flat)[0, 1] > 0.99
    for name, film in (("two.dcm", two), ("one.dcm", one)):  # by whatever way it is opened
        np.testing.assert_array_equal(images.decode(tmp_path / name, SIZE), film.pixels)
        with Image.open(tmp_path / name) as picture:
            assert (picture.format, picture.mode, picture.size) == ("DICOM", "L", (360, 300))
            np.testing.assert_array_equal(images.squeezed(picture, SIZE), film.pixels)


def test_dicom_in_colour_is_declined_and_its_gray_is_the_mean_of_its_channels(tmp_path):
    path, colour = tmp_path / "a.dcm", np.stack([CHEST, CHEST // 2, CHEST // 3], axis=2)
    write_dicom(path, DEEP)
    film = pydicom.dcmread(path)
    film.set_pixel_data(colour, "RGB", bits_stored=8)
    film.save_as(path)
    pixels, reason = films.read(path, SIZE)
    expected = Image.fromarray(colour.mean(axis=2).round().astype(np.uint8))
    np.testing.assert_array_equal(pixels, images.squeezed(expected, SIZE))
    assert reason == "is in colour"


def test_dicom_is_rescaled_and_windowed(tmp_path):
    write_dicom(
        tmp_path / "a.dcm", DEEP, RescaleSlope="2", RescaleIntercept="-1000", WindowCenter="3000", WindowWidth="2000"
    )
    expected = ((DEEP * 2.0 - 1000 - (3000 - 0.5)) / (2000 - 1) + 0.5).clip(0, 1) * 255
    expected = np.asarray(Image.fromarray(expected.round().astype(np.uint8)).resize((SIZE, SIZE), Image.BICUBIC))
    assert apart(films.read(tmp_path / "a.dcm", SIZE).pixels, expected) < 1.5


def test_drawings_above_and_below_the_stored_bits_are_left_out(tmp_path):
    """Twelve bits in sixteen: in the lower ones with a drawing above, in the upper ones with noise below."""
    write_dicom(tmp_path / "plain.dcm", DEEP)
    expected = films.read(tmp_path / "plain.dcm", SIZE).pixels
    drawing = np.zeros_like(DEEP)
    drawing[50:90, 50:90] = 5
    write_raw(tmp_path / "above.dcm", DEEP | drawing << 12)
    write_raw(tmp_path / "below.dcm", DEEP << 4 | drawing, HighBit=15)
    write_raw(tmp_path / "windowed.dcm", DEEP | drawing << 12, WindowCenter="2048", WindowWidth="4096")
    for name in ("above.dcm", "below.dcm"):
        np.testing.assert_array_equal(films.read(tmp_path / name, SIZE).pixels, expected)
    assert apart(films.read(tmp_path / "windowed.dcm", SIZE).pixels, expected) < 10


@pytest.mark.parametrize("junk", [0, 0xF000])
def test_numbers_with_a_sign_keep_it(tmp_path, junk):
    """-2048 to 2047 in twelve bits, whatever stands in the four above."""
    write_dicom(tmp_path / "plain.dcm", DEEP)
    pixels = (DEEP.astype(np.int32) - 2048 & 0x0FFF | junk).astype(np.uint16)
    write_raw(tmp_path / "signed.dcm", pixels, PixelRepresentation=1)
    np.testing.assert_array_equal(
        films.read(tmp_path / "signed.dcm", SIZE).pixels, films.read(tmp_path / "plain.dcm", SIZE).pixels
    )


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_dark_film_of_any_depth_is_as_light(tmp_path, bits):
    write_raw(tmp_path / "a.dcm", CHEST.astype(np.uint16) * 2 ** (bits - 8), BitsStored=bits, HighBit=bits - 1)
    saved(tmp_path / "a.png", Image.fromarray(CHEST.astype(np.uint16) * 2 ** (bits - 8)))
    one, two = (films.read(tmp_path / name, SIZE).pixels for name in ("a.dcm", "a.png"))
    assert np.ptp(one) > 200 and apart(one, two) < 1


def test_bits_that_cannot_be_are_named(tmp_path):
    write_dicom(tmp_path / "a.dcm", DEEP, HighBit=9)
    with pytest.raises(Problem, match="a.dcm says that bit 9 of 16 is the highest of 12 .*export it again"):
        films.read(tmp_path / "a.dcm", SIZE)


@pytest.mark.parametrize(
    "header, said",
    [
        ({"PatientAge": "045Y"}, "another age.*045Y"),
        ({"PatientAge": "002M"}, "another age"),
        ({"ViewPosition": "LL"}, "no frontal view.*ll"),
        ({"Modality": "CT"}, "no radiograph.*CT"),
        ({"BodyPartExamined": "HAND"}, "another part of the body.*hand"),
        ({"PatientAge": "003Y"}, "^$"),
        ({"PatientAge": "odd"}, "^$"),
        ({"ViewPosition": "PA", "BodyPartExamined": "CHEST PORTABLE"}, "^$"),
    ],
)
def test_the_header_may_speak_against_it(tmp_path, header, said):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom remarks on the odd age
        write_dicom(tmp_path / "a.dcm", DEEP, **header)
    assert re.search(said, films.read(tmp_path / "a.dcm", SIZE).reason)


def test_dicom_without_a_picture_or_with_many_is_refused(tmp_path):
    write_dicom(tmp_path / "a.dcm", DEEP)
    film = pydicom.dcmread(tmp_path / "a.dcm")
    del film.PixelData
    film.save_as(tmp_path / "empty.dcm")
    with pytest.raises(Problem, match="empty.dcm is a DICOM file without a picture"):
        films.read(tmp_path / "empty.dcm", SIZE)
    write_dicom(tmp_path / "many.dcm", DEEP, NumberOfFrames="4")
    with pytest.raises(Problem, match="many.dcm holds 4 pictures"):
        films.read(tmp_path / "many.dcm", SIZE)


# --- bad input ------------------------------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def animated(path):
    GRAY.save(path, save_all=True, append_images=[GRAY.point(lambda v: 255 - v)])
    return path


def bomb(path):
    def chunk(kind, body):
        import struct
        import zlib

        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    import struct
    import zlib

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )
    return path


def texted(path):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 1000)
    GRAY.save(path, pnginfo=info)
    return cut(path)


def dicom_cut(path):
    write_dicom(path, DEEP)
    return cut(path)


def dicom_torn(path):
    write_dicom(path, DEEP)
    content = bytearray(path.read_bytes())
    content[132:200] = b"\xff" * 68
    path.write_bytes(content)
    return path


def compressed(path):
    write_dicom(path, DEEP)
    from pydicom.encaps import encapsulate

    film = pydicom.dcmread(path)
    film.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    film.PixelData = encapsulate([b"\xff\xd8 not really \xff\xd9"])
    film["PixelData"].VR = "OB"
    film.save_as(path)
    return path


def written(content):
    def make(path):
        path.write_bytes(content)
        return path

    return make


BAD = {
    "no bytes": ("a.png", written(b""), "is empty"),
    "cut JPEG": ("a.jpeg", lambda p: cut(saved(p)), "damaged"),
    "cut PNG": ("a.png", texted, "damaged"),
    "a web page": ("a.jpeg", written(b"<html>"), "not a picture"),
    "words": ("a.dcm", written(b"hello"), "not a picture"),
    "cut DICOM": ("a.dcm", dicom_cut, "damaged|without"),
    "torn DICOM": ("a.dcm", dicom_torn, "damaged|without|not a picture"),
    "a compression that is not known": ("a.dcm", compressed, "damaged or of an unknown kind.*uncompressed DICOM"),
    "several pictures": ("a.tiff", animated, "holds 2 pictures"),
    "a bomb": ("a.png", bomb, "pixels: make it small"),
    "one pixel": ("a.png", lambda p: saved(p, Image.new("L", (1, 1))), "only 1x1 pixels"),
    "a folder": ("a.png", lambda p: p.mkdir() or p, "can't be read"),
}


@pytest.mark.parametrize("name, make, said", BAD.values(), ids=BAD)
def test_a_file_that_is_no_film_is_named_with_the_remedy(tmp_path, name, make, said):
    path = make(tmp_path / name)
    with pytest.raises(Problem, match=rf"{name} .*({said})") as problem:
        films.read(path, SIZE)
    assert "\n" not in str(problem.value) and ":" in str(problem.value)


def test_every_cut_of_a_file_is_a_sentence_or_a_film(tmp_path):
    write_dicom(tmp_path / "a.dcm", DEEP[:64, :64])
    stream = io.BytesIO()
    GRAY.resize((64, 64)).save(stream, "PNG")
    for content, name in (((tmp_path / "a.dcm").read_bytes(), "b.dcm"), (stream.getvalue(), "b.png")):
        for length in np.linspace(1, len(content) - 1, 40).astype(int):
            (tmp_path / name).write_bytes(content[:length])
            try:
                assert films.read(tmp_path / name, SIZE).pixels.shape == (SIZE, SIZE)
            except Problem as problem:
                assert name in str(problem)


def test_collect_takes_pictures_and_leaves_the_rest(tmp_path):
    for name in ("b.PNG", "sub/a.jpeg", "c.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    write_dicom(tmp_path / "IM0001", DEEP)
    write_dicom(tmp_path / "1.2.840.113", DEEP)
    for name in ("notes.txt", ".hidden.png", "no suffix"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in films.collect(tmp_path)] == ["1.2.840.113", "IM0001", "b.PNG", "c.dcm", "a.jpeg"]
    assert films.collect(tmp_path / "b.PNG") == [tmp_path / "b.PNG"]


@pytest.mark.parametrize(
    "place, said", [("nowhere", "is not there: name a picture"), (".", "holds no picture: put files")]
)
def test_a_place_without_pictures_is_named(tmp_path, place, said):
    with pytest.raises(Problem, match=said):
        films.collect(tmp_path / place)
