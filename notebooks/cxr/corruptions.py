"""The same X-ray as another scanner, technician or archive might have delivered it.

Batches are uint8, (images, size, size). `stress` and transplants make the validation variants, on which training stops;
`held_out` has changes that nothing is trained on; `changes` are of a fixed strength.
"""

import io
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from PIL.Image import Resampling
from skimage import exposure

from . import augment


def reframe(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Crop or pad each side by up to 15% of the picture's length, then fill the same square again."""
    size = len(picture)
    left, top, right, bottom = (rng.uniform(-0.15, 0.15, 4) * size).round().astype(int)
    box = (left, top, size + right, size + bottom)  # beyond the edge: black
    return np.asarray(Image.fromarray(picture).crop(box).resize((size, size), Resampling.BILINEAR))


def swap_corners(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace the four corners, where markers and print stand, by those of `other`."""
    size, result = len(picture), picture.copy()
    high, wide = (rng.uniform(0.10, 0.25, 2) * size).astype(int)
    for rows in (slice(high), slice(size - high, None)):
        for columns in (slice(wide), slice(size - wide, None)):
            result[rows, columns] = other[rows, columns]
    return result


def blur(picture: np.ndarray, pixels: float) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(pixels)))


def recode(picture: np.ndarray, quality: int) -> np.ndarray:
    """Save as JPEG and read again."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def expose(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma of 0.7 to 1.4, contrast of 0.75 to 1.25, brightness of +-10% of the range."""
    x = (picture / 255.0) ** np.exp(rng.uniform(np.log(0.7), np.log(1.4)))
    x = (x - x.mean()) * rng.uniform(0.75, 1.25) + x.mean() + rng.uniform(-0.1, 0.1)
    return (x.clip(0, 1) * 255).round().astype(np.uint8)


def _ring(count: int, rng: np.random.Generator) -> np.ndarray:
    """Another row for each of so many, none twice: they stand in a random ring, and each takes the one before it."""
    order, other = rng.permutation(count), np.empty(count, int)
    other[order] = np.roll(order, 1)
    return other


def stress(pictures: np.ndarray, seed: int) -> np.ndarray:
    """All together: corners of any other picture; re-framed, blurred (up to 1.2 pixels), re-exposed, saved as JPEG."""
    rng, changed = np.random.default_rng(seed), pictures.copy()
    for i, other in enumerate(_ring(len(pictures), rng)):
        picture = reframe(swap_corners(pictures[i], pictures[other], rng), rng)
        picture = expose(blur(picture, rng.uniform(0.0, 1.2)), rng)
        changed[i] = recode(picture, int(rng.integers(30, 96)))
    return changed


def transplant(pictures: np.ndarray, masks: np.ndarray, lungs: np.ndarray, bodies: np.ndarray) -> np.ndarray:
    """`augment.transplant` for pairs of rows of `pictures`: `lungs` lend their lungs, `bodies` the rest."""
    changed = np.empty((len(lungs), *pictures.shape[1:]), np.uint8)
    for start in range(0, len(lungs), 128):
        own, other = lungs[start : start + 128], bodies[start : start + 128]
        parts = [pictures[own], masks[own] / 255, pictures[other], masks[other] / 255]
        found = augment.transplant(*(part[..., None].astype("float32") for part in parts))
        changed[start : start + 128] = np.asarray(found)[..., 0].round()
    return changed


def choose_bodies(label: np.ndarray, seed: int, other_class: bool = False) -> np.ndarray:
    """For each film the row of one that lends its body: any other, or one of another class, each equally often."""
    rng, label = np.random.default_rng(seed), np.asarray(label)
    if not other_class:
        return _ring(len(label), rng)
    body = np.arange(len(label))
    for value in np.unique(label):
        own, others = np.flatnonzero(label == value), np.flatnonzero(label != value)
        if len(others):
            body[own] = rng.permutation(np.resize(rng.permutation(others), len(own)))
    return body


def validation_variants(
    pictures: np.ndarray, masks: np.ndarray, label: np.ndarray, stressed: int = 1, swapped: int = 1
) -> tuple[np.ndarray, list[str]]:
    """All that a network is validated on, and the kind of each variant (``conflict``: a body of another class)."""
    variants, rows = [pictures, *(stress(pictures, seed) for seed in range(stressed))], np.arange(len(pictures))
    for other_class in (False, True):
        bodies = [choose_bodies(label, seed, other_class) for seed in range(swapped)]
        variants += [transplant(pictures, masks, rows, body) for body in bodies]
    return np.concatenate(variants), ["plain"] + ["stress"] * stressed + ["swap"] * swapped + ["conflict"] * swapped


# held out: what nothing is trained on, neither in the augmentation of 03 nor in `stress`
def _equalised(picture, rng):
    return 255 * exposure.equalize_hist(picture)


def _locally_equalised(picture, rng):  # CLAHE (Zuiderveld 1994), as many viewers apply it
    tile = len(picture) // int(rng.integers(3, 8))
    return 255 * exposure.equalize_adapthist(picture, tile, clip_limit=rng.uniform(0.005, 0.03))


def _veiled(picture, rng):  # scatter: a bright veil, and less contrast in all that is small
    smooth, veil = blur(picture, len(picture) / 12).astype(float), rng.uniform(20, 60)
    return smooth * (1 - veil / 255) + veil + (picture - smooth) * rng.uniform(0.4, 0.7)


def _narrowed(picture, rng):  # one side shorter by a fifth to a third, black beside it
    short = round(len(picture) / rng.uniform(1.25, 1.45))
    box = [(short, len(picture)), (len(picture), short)][rng.integers(2)]
    ground = Image.new("L", picture.shape)
    ground.paste(Image.fromarray(picture).resize(box), ((len(picture) - box[0]) // 2, (len(picture) - box[1]) // 2))
    return np.asarray(ground)


def _lettered(picture, rng):  # a large bold R at the upper left, as far in as the lung, and print in three corners
    size, film = len(picture), Image.fromarray(picture)
    pen, at, bold = ImageDraw.Draw(film), tuple(rng.uniform(0.02, 0.18, 2) * size), rng.uniform(0.11, 0.2) * size
    pen.text(at, "R", fill=int(rng.integers(200, 256)), font=ImageFont.load_default(bold), stroke_width=bold // 12)
    for corner in ((0.75, 0.02), (0.02, 0.92), (0.75, 0.92)):
        pen.text((corner[0] * size, corner[1] * size), "1234", fill=230, font=ImageFont.load_default(size / 18))
    return np.asarray(film)


def _coarse(picture, rng):
    small = Image.fromarray(picture).resize([round(len(picture) * rng.uniform(0.4, 0.6))] * 2, Resampling.BOX)
    return np.asarray(small.resize(picture.shape, Resampling.BICUBIC))


def _sharpened(picture, rng):  # unsharp masking with a halo, as an old viewer does it
    mask = ImageFilter.UnsharpMask(int(rng.integers(2, 6)), int(rng.integers(80, 200)), 0)
    return np.asarray(Image.fromarray(picture).filter(mask))


_CORRUPTIONS = (_equalised, _locally_equalised, _veiled, _narrowed, _lettered, _coarse, _sharpened)
HELD_OUT = {change.__name__[1:].replace("_", " "): change for change in _CORRUPTIONS}


def held_out(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """The same X-rays under seven changes, by name, that neither `stress` nor the augmentation makes."""
    rng = np.random.default_rng(0)
    changed = {name: np.stack([change(own, rng) for own in pictures]) for name, change in HELD_OUT.items()}
    return {name: batch.round().clip(0, 255).astype(np.uint8) for name, batch in changed.items()}


def cropped(picture: np.ndarray, share: float) -> np.ndarray:
    """Without `share` of the length at each side, in the same square again; black is added where it is negative."""
    size, edge = len(picture), round(share * len(picture))
    inside = Image.fromarray(picture).crop((edge, edge, size - edge, size - edge))
    return np.asarray(inside.resize((size, size), Resampling.BICUBIC))


SINGLE: dict[str, Callable] = {
    **{f"cropped by {share}%": partial(cropped, share=share / 100) for share in (8, 4)},
    "padded by 8%": partial(cropped, share=-0.08),
    **{f"JPEG quality {quality}": partial(recode, quality=quality) for quality in (90, 50, 20)},
    **{f"blurred, {n} pixel{'s' * (n > 1)}": partial(blur, pixels=n) for n in (1, 2)},
    "darkened by 30%": lambda p: Image.fromarray(p).point(lambda gray: 0.7 * gray),
    "gamma 1.4": lambda p: Image.fromarray(p).point(lambda gray: 255 * (gray / 255) ** 1.4),
    **{f"turned by {d} degrees": lambda p, d=d: Image.fromarray(p).rotate(d, Resampling.BICUBIC) for d in (5, 10)},
    "mirrored": lambda p: p[:, ::-1],
}


def changes(pictures: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """One change at a time, each by a fixed amount, with its name."""
    for name, change in SINGLE.items():
        yield name, np.stack([np.asarray(change(picture)) for picture in pictures])
    rng = np.random.default_rng(0)
    others = pictures[_ring(len(pictures), rng)]
    yield "corners of another", np.stack([swap_corners(own, other, rng) for own, other in zip(pictures, others)])
