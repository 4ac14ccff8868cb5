"""Decoding keeps the X-ray, the cache never lies, and stress changes what it says it changes."""

import errno
import hashlib
import io
import os
import shutil
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.Image import Transpose
from test_data import SET, encoded, exif, noise, put, refused

from cxr import corruptions, data, images
from cxr.paths import Problem
from drawn import draw_chest

FILM = draw_chest(np.random.default_rng(3), "bacteria", (900, 1200))
SIZE = 32


def reference(content, size):
    """All pixels decoded, then averaged down: what `decode` must come close to."""
    picture = Image.open(io.BytesIO(content)).convert("L")
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)).astype(float)


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
    put(tmp_path / "cache", {"checkpoint.keras": b"earlier"})
    put(tmp_path / "xrays", files)
    return tmp_path


def kept(world):
    """What no failure may touch."""
    return [world / "xrays", world / "results", world / "cache"]


# ------------------------------------------------------------------------------------ decode


@pytest.mark.parametrize("size", [64, 96, 150, 224, 300, 1000])
@pytest.mark.parametrize(
    "options",
    [
        {"quality": 90},
        {"quality": 40},
        {"quality": 90, "progressive": True},
        {"mode": "RGB", "quality": 75},
        {"mode": "CMYK", "quality": 90},
        {"mode": "RGB", "keep_rgb": True, "quality": 90},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_the_quick_way_is_close_to_the_long_one(size, options):
    options = dict(options)
    content = encoded(Image.fromarray(FILM).convert(options.pop("mode", "L")), **options)
    quick = images.decode(content, size)
    assert quick.shape == (size, size) and quick.dtype == np.uint8
    assert np.abs(quick - reference(content, size)).mean() < 1.5
    assert np.abs(quick - reference(content, size)[:, ::-1]).mean() > 10  # the measure can tell pictures apart


def test_a_path_gives_what_its_bytes_give(tmp_path):
    put(tmp_path, {"a.jpeg": encoded(FILM)})
    assert np.array_equal(images.decode(tmp_path / "a.jpeg", 150), images.decode(encoded(FILM), 150))


def test_16_bits_keep_their_gradation():
    ramp = np.tile(np.linspace(0, 65535, 512).astype(np.uint16), (512, 1))
    decoded = images.decode(encoded(ramp, "PNG"), 256).astype(int)
    assert decoded.min() <= 1 and decoded.max() >= 254
    assert len(np.unique(decoded)) > 250 and (np.diff(decoded[0]) >= 0).all() and np.diff(decoded[0]).max() <= 2


def png(pixels, said=0, colour=0):
    """A PNG of 16 bits a channel, gray or, with `colour` 2, 4 or 6, more; with the chunk sBIT where `said` is given."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    wide = np.repeat(pixels[..., None], channels, axis=2)
    if colour in (4, 6):
        wide[..., -1] = 65535  # opaque
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"gAMA", struct.pack(">I", 45455))
        + (chunk(b"sBIT", bytes([said] * channels)) if said else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(pixels, order="<"):
    return encoded(Image.fromarray(pixels.astype(f"{order}u2")), "TIFF")


DEEP = np.tile(np.linspace(0, 1, 200), (200, 1))  # black to white


@pytest.mark.parametrize("write", [png, tiff, lambda pixels: tiff(pixels, ">")], ids=["PNG", "TIFF", "TIFF, big end"])
@pytest.mark.parametrize(
    "bits, brightest", [(8, 255), (10, 1023), (10, 600), (12, 4095), (12, 3900), (14, 16383), (16, 65535), (16, 20000)]
)
def test_fewer_bits_than_the_file_has_room_for_are_not_black(write, bits, brightest):
    pixels = (DEEP * brightest).round().astype(np.uint16)
    found = images.decode(write(pixels), 100).astype(int)
    expected = images.decode(encoded((pixels * 255.0 / (2**bits - 1)).astype(np.uint8), "PNG"), 100)
    assert np.abs(found - expected).max() <= 1 and found.max() >= 64


@pytest.mark.parametrize(
    "said, brightest, white",
    [
        (12, 900, 4095),
        (12, 4095, 4095),
        (14, 4095, 16383),
        (16, 3900, 65535),  # all levels fit into what it says
        (12, 65520, 65535),
        (10, 4000, 4095),
        (0, 900, 1023),
    ],
)  # they do not: scaled up, or wrong
def test_a_png_may_say_how_many_of_its_bits_are_used(said, brightest, white):
    pixels = (DEEP * brightest).round().astype(np.uint16)
    found = images.decode(png(pixels, said), 200)
    assert np.abs(found.astype(int) - pixels * 255.0 / white).max() <= 1.5


def test_all_16_bits_are_read_as_ever():
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(images.to_eight_bits(pixels), pixels // 257)


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_colour_of_which_hardly_a_level_is_left_is_named(world, colour):
    dark, bright = png((DEEP * 4095).astype(np.uint16), 0, colour), png((DEEP * 65535).astype(np.uint16), 0, colour)
    put(world / "xrays", {"dark.png": dark, "bright.png": bright})
    with pytest.raises(Problem, match="^dark.png has 16 bits a channel and uses 6.2% of their range: save it"):
        images.load(table_of({"dark.png": dark}), world / "xrays", SIZE)
    put(world / "set", SET | {"train/NORMAL/dark.png": dark, "train/NORMAL/bright.png": bright})
    with pytest.raises(Problem, match="^train/NORMAL/dark.png has 16 bits .*8 bits, in .*: replace or delete it"):
        data.survey(world / "set")
    found = images.load(table_of({"bright.png": bright}), world / "xrays", SIZE)
    assert found.min() < 10 and found.max() > 245


def test_two_gray_levels_are_black_and_white():
    picture = Image.fromarray(DEEP > 0.5)
    assert picture.mode == "1"
    found = images.decode(encoded(picture, "PNG"), 100)
    assert found[:, :45].max() < 10 and found[:, 55:].min() > 245


GRAY = FILM[::4, ::4]
MODES = {
    "RGB": lambda picture: picture.convert("RGB"),
    "alpha": lambda picture: picture.convert("LA"),
    "colour and alpha": lambda picture: picture.convert("RGBA"),
    "palette": lambda picture: picture.convert("RGB").quantize(256),
    "16 bits": lambda picture: Image.fromarray(np.asarray(picture).astype(np.uint16) * 257),
}


@pytest.mark.parametrize("mode", MODES)
def test_the_same_gray_comes_out_of_every_kind_of_png(mode):
    plain = images.decode(encoded(GRAY, "PNG"), 100).astype(int)
    other = images.decode(encoded(MODES[mode](Image.fromarray(GRAY)), "PNG"), 100)
    assert np.abs(plain - other).mean() < 1


@pytest.mark.parametrize("options", [{"transparency": bytes(9)}, {}])
def test_a_palette_with_transparent_entries_prints_no_warning(world, options):
    content = encoded(Image.fromarray(GRAY).convert("P"), "PNG", **options)
    put(world / "xrays", {"a.png": content})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images.load(table_of({"a.png": content}), world / "xrays", SIZE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_decoded_upright(kind, orientation):
    """As the camera stored it: the upright picture, turned by the inverse of what its EXIF asks for."""
    inverse = {
        6: Transpose.ROTATE_90,
        8: Transpose.ROTATE_270,
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        7: Transpose.TRANSVERSE,
    }.get(orientation)
    stored = Image.fromarray(GRAY) if inverse is None else Image.fromarray(GRAY).transpose(inverse)
    content = encoded(stored, kind, exif=exif(orientation))
    upright = images.decode(encoded(GRAY, kind), 100).astype(int)
    assert np.abs(images.decode(content, 100) - upright).mean() < 1.5
    with Image.open(io.BytesIO(content)) as picture:
        assert images.lies_on_its_side(picture) == (picture.size != (300, 225)) == (orientation > 4)


# ------------------------------------------------------------------------------------ load and its cache


def test_pictures_come_in_the_order_of_the_table(world, files):
    for names in (list(files), list(files)[::-1], list(files)[2:4]):
        pictures = images.load(table_of({name: files[name] for name in names}), world / "xrays", SIZE)
        assert pictures.shape == (len(names), SIZE, SIZE) and pictures.dtype == np.uint8
        assert np.array_equal(pictures, [images.decode(files[name], SIZE) for name in names])


def test_a_second_call_opens_no_file(world, files):
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
    else:
        monkeypatch.setattr(images, "DECODER", images.DECODER + 1)
        monkeypatch.setattr(images, "decode", lambda content, size: np.full((size, size), 7, np.uint8))
    put(folder, files)
    again = images.load(table_of(files), folder, size)
    assert np.array_equal(again, [images.decode(content, size) for content in files.values()])
    assert np.array_equal(again, first) == (change == "name")
    assert len(list((world / "cache").glob("images_*.npy"))) == 2


def shape(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


DAMAGED = {
    "empty": lambda content: b"",
    "cut in the header": lambda content: content[:20],
    "cut at half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "zeros": lambda content: bytes(len(content)),
    "of fewer pictures": lambda content: shape(np.zeros((3, SIZE, SIZE), np.uint8)),
    "of another size": lambda content: shape(np.zeros((5, 9, 9), np.uint8)),
    "of another type": lambda content: shape(np.zeros((5, SIZE, SIZE))),
    "of objects": lambda content: shape(np.array([{}] * 5)),
    "a zip": lambda content: b"PK\x03\x04" + content,
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_cache_file_is_made_again(world, files, case):
    first = images.load(table_of(files), world / "xrays", SIZE)
    (cached,) = (world / "cache").glob("images_*.npy")
    whole = cached.read_bytes()
    cached.write_bytes(DAMAGED[case](whole))
    assert np.array_equal(images.load(table_of(files), world / "xrays", SIZE), first)
    assert cached.read_bytes() == whole


def test_no_rows_give_no_pictures(world, files):
    """A network without a single mistake has no worst mistakes to show."""
    pictures = images.load(table_of(files)[:0], world / "xrays", SIZE)
    assert pictures.shape == (0, SIZE, SIZE) and pictures.dtype == np.uint8


def flip(path):
    """Turn over one bit near the end of a file."""
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


SPOILT = {
    "deleted": (lambda path: path.unlink(), "can't be read", "put it back"),
    "emptied": (lambda path: path.write_bytes(b""), "not the file that 01_manifest.csv describes", "put the right"),
    "one bit flipped": (flip, "not the file that 01_manifest.csv describes", "put the right one back"),
    "another of the same size": (
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        "not the file",
        "put the right one back",
    ),
    "a folder now": (lambda path: (path.unlink(), path.mkdir()), "can't be read", "put it back"),
    "a link to nothing now": (lambda path: (path.unlink(), path.symlink_to("x")), "can't be read", "put it back"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_file_spoilt_after_01_is_named(world, files, case):
    spoil, *named = SPOILT[case]
    spoil(world / "xrays/train/NORMAL/3.jpeg")
    with refused("train/NORMAL/3.jpeg", "01_manifest.csv", "01_download.ipynb", *named, keeping=kept(world)):
        images.load(table_of(files), world / "xrays", SIZE)


def test_a_file_that_the_manifest_describes_but_nobody_can_decode_is_named(world):
    """Only by an edited manifest, or a Pillow that reads less than the one that 01 ran with."""
    content = encoded(FILM)[:5000]
    put(world / "xrays", {"train/NORMAL/9.jpeg": content})
    with refused("train/NORMAL/9.jpeg", "can't be decoded", "01_download.ipynb", keeping=kept(world)):
        images.load(table_of({"train/NORMAL/9.jpeg": content}), world / "xrays", SIZE)


def test_a_file_that_may_not_be_read_is_named(world, files, monkeypatch):
    def read_bytes(path):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched, pytest.raises(Problem) as caught:
        patched.setattr(Path, "read_bytes", read_bytes)
        images.load(table_of(files), world / "xrays", SIZE)
    assert "train/NORMAL/0.jpeg" in str(caught.value) and str(world) not in str(caught.value)


FAILURES = {  # where a write can fail, with what, and what the sentence says
    "disk full": ("numpy.save", OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    "disk full, as NumPy says it": ("numpy.save", OSError("4096 requested and 100 written"), "and 100 written"),
    "read-only folder": ("numpy.save", PermissionError(13, "Permission denied"), "Permission denied"),
    "renaming refused": ("os.replace", PermissionError(13, "Permission denied"), "Permission denied"),
    "folder refused": ("pathlib.Path.mkdir", OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
}


def failing(where, error):
    """A stand-in for the function `where` that raises `error`; a save has then written the first bytes."""

    def fail(target, *_, **__):
        if where == "numpy.save":
            (open(target, "wb") if isinstance(target, (str, os.PathLike)) else target).write(b"half")
        raise error

    return fail


@pytest.mark.parametrize("case", FAILURES)
def test_a_cache_that_cannot_be_written_is_a_problem_and_leaves_nothing(world, files, monkeypatch, case):
    where, error, said = FAILURES[case]
    images.load(table_of(files), world / "xrays", SIZE)  # an earlier cache stays
    with (
        refused("cache", said, "free the disk", "CXR_CACHE_DIR", keeping=kept(world)),
        monkeypatch.context() as patched,
    ):
        patched.setattr(where, failing(where, error))
        images.load(table_of(files), world / "xrays", SIZE + 1)
    images.load(table_of(files), world / "xrays", SIZE + 1)


@pytest.mark.parametrize("where", ["numpy.save", "os.replace"])
def test_an_interrupt_while_the_cache_is_written_leaves_nothing(world, files, monkeypatch, where):
    before = sorted(os.listdir(world / "cache"))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(where, failing(where, KeyboardInterrupt()))
        images.load(table_of(files), world / "xrays", SIZE)
    assert sorted(os.listdir(world / "cache")) == before
    assert len(images.load(table_of(files), world / "xrays", SIZE)) == 5


# ------------------------------------------------------------------------------------ stress


@pytest.fixture(scope="module")
def films():
    rng = np.random.default_rng(1)
    return np.stack([draw_chest(rng, ("normal", "bacteria", "virus")[i % 3], (96, 96)) for i in range(6)])


CHANGES = {
    "reframe": lambda film, rng: corruptions.reframe(film, rng),
    "swap_corners": lambda film, rng: corruptions.swap_corners(film, 255 - film, rng),
    "blur": lambda film, rng: corruptions.blur(film, rng),
    "recode": lambda film, rng: corruptions.recode(film, rng),
    "expose": lambda film, rng: corruptions.expose(film, rng),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_changes_the_picture_and_spares_the_given_one(films, name):
    original = films[1].copy()
    changed = [CHANGES[name](films[1], np.random.default_rng(seed)) for seed in range(8)]
    assert np.array_equal(films[1], original)
    assert all(picture.shape == original.shape and picture.dtype == np.uint8 for picture in changed)
    assert sum(not np.array_equal(picture, original) for picture in changed) >= (6 if name == "blur" else 8)
    assert len({picture.tobytes() for picture in changed}) >= 7  # each draw its own
    again = CHANGES[name](films[1], np.random.default_rng(0))
    assert np.array_equal(again, changed[0])


@pytest.mark.parametrize("name", CHANGES)
def test_stress_makes_each_of_the_five_changes(films, monkeypatch, name):
    """Without any one of them the result is another."""
    whole = corruptions.stress(films, 0)
    real, called = getattr(corruptions, name), []

    def idle(picture, *arguments):
        called.append(real(picture, *arguments))  # the random numbers are drawn all the same
        return picture

    monkeypatch.setattr(corruptions, name, idle)
    without = corruptions.stress(films, 0)
    assert len(called) == len(films)
    altered = sum(not np.array_equal(a, b) for a, b in zip(whole, without))
    assert altered >= (3 if name == "blur" else 6)  # blur may be next to none


def test_the_same_seed_stresses_alike_and_another_one_differently(films):
    original = films.copy()
    first = corruptions.stress(films, 4)
    assert first.shape == films.shape and first.dtype == np.uint8 and np.array_equal(films, original)
    assert np.array_equal(corruptions.stress(films, 4), first)
    assert all(not np.array_equal(a, b) for a, b in zip(first, corruptions.stress(films, 5)))
    assert all(not np.array_equal(a, b) for a, b in zip(first, films))


@pytest.mark.parametrize("count", [2, 3, 5, 6])
@pytest.mark.parametrize("seed", range(6))
def test_corners_come_from_another_picture(films, monkeypatch, count, seed):
    """Never from the picture itself, and each picture gives its corners once."""
    given = []
    monkeypatch.setattr(corruptions, "swap_corners", lambda own, other, rng: given.append((own, other)) or own)
    corruptions.stress(films[:count], seed)

    def index(picture):
        return next(i for i, film in enumerate(films) if np.array_equal(film, picture))

    assert [index(own) for own, _ in given] == list(range(count))
    others = [index(other) for _, other in given]
    assert sorted(others) == list(range(count)) and all(i != other for i, other in enumerate(others))


def test_only_the_corners_are_swapped(films):
    for seed in range(5):
        mixed = corruptions.swap_corners(films[0], 255 - films[0], np.random.default_rng(seed))
        changed = mixed != films[0]
        high, wide = changed[:, 0].argmin(), changed[0].argmin()
        assert 9 <= high <= 24 and 9 <= wide <= 24
        expected = np.zeros_like(changed)
        for rows in (slice(high), slice(96 - high, None)):
            for columns in (slice(wide), slice(96 - wide, None)):
                expected[rows, columns] = True
        assert np.array_equal(changed, expected)


def test_validation_is_the_films_as_they_are_then_stressed_copies(films):
    found = corruptions.with_stressed(films, 2)
    assert len(found) == 3 * len(films)
    expected = np.concatenate([films, corruptions.stress(films, 0), corruptions.stress(films, 1)])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [0, 1])
def test_few_pictures_can_be_stressed(films, count):
    assert corruptions.stress(films[:count], 0).shape == (count, 96, 96)


def test_every_named_change_changes_every_picture_and_repeats():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 48, 48), dtype=np.uint8)
    found, again = dict(corruptions.changes(pictures)), dict(corruptions.changes(pictures))
    assert len(found) >= 12
    for name, changed in found.items():
        assert changed.shape == pictures.shape and changed.dtype == np.uint8, name
        assert all((one != own).any() for one, own in zip(changed, pictures)), name
        np.testing.assert_array_equal(changed, again[name])


def test_changes_do_what_their_names_say():
    gray = np.full((2, 50, 50), 100, np.uint8)
    gray[:, 20:30, 20:30] = 200
    found = dict(corruptions.changes(gray))
    assert found["darkened by 30%"].max() == 140
    assert (found["padded by 8%"][0, 0] == 0).all() and (found["cropped by 8%"] >= 80).all()
    assert (found["cropped by 8%"] > 150).sum() > (gray > 150).sum() > (found["padded by 8%"] > 150).sum()
    one_sided = gray.copy()
    one_sided[:, :, :10] = 0
    np.testing.assert_array_equal(dict(corruptions.changes(one_sided))["mirrored"], one_sided[:, :, ::-1])


def test_held_out_changes_change_every_picture_and_repeat(films):
    before = films.copy()
    found = corruptions.held_out(films)
    np.testing.assert_array_equal(films, before)
    assert list(found) == list(corruptions.HELD_OUT) and len(found) == 7
    for name, changed in found.items():
        assert changed.shape == films.shape and changed.dtype == np.uint8
        assert all((own != old).mean() > 0.01 for own, old in zip(changed, films)), name
        np.testing.assert_array_equal(changed, corruptions.held_out(films)[name])
    assert not np.array_equal(corruptions.held_out(films, 1)["veiled"], found["veiled"])


def test_held_out_changes_do_what_their_names_say(films):
    found = corruptions.held_out(films)
    grain = {name: np.abs(np.diff(own.astype(float), axis=2)).mean() for name, own in found.items()}
    plain = np.abs(np.diff(films.astype(float), axis=2)).mean()
    assert grain["veiled"] < plain and grain["coarse"] < plain < grain["sharpened"]
    assert found["veiled"].min() > films.min()
    counts = np.bincount(found["equalised"].ravel() // 64, minlength=4) / found["equalised"].size
    assert np.abs(counts - 0.25).max() < np.abs(np.bincount(films.ravel() // 64, minlength=4) / films.size - 0.25).max()
    assert (found["lettered"] >= np.minimum(films, 190)).all() and found["lettered"].mean() > films.mean()
    for picture in found["narrowed"]:
        columns, rows = picture.max(axis=0) == 0, picture.max(axis=1) == 0
        assert columns[0] and columns[-1] or rows[0] and rows[-1]
