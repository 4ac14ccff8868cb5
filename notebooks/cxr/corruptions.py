"""The same X-ray as another scanner, technician or archive might have delivered it: to validate on, and to doubt by.

A batch is ``uint8`` of shape ``(images, size, size)``, and so is what comes of it; the same seed gives the same
pictures. Early stopping and thresholds rest on `stress` and `in_other_bodies`; the corruptions of `held_out` are held
out, and only judge; `changes` are single ones of a fixed strength.
"""

import io
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from PIL.Image import Resampling
from skimage import exposure

from . import augment


def reframe(picture: np.ndarray, rng: np.random.Generator, most: float = 0.15) -> np.ndarray:
    """Crop or pad each side by up to `most` of the picture's length, then fill the same square again."""
    size = len(picture)
    left, top, right, bottom = (rng.uniform(-most, most, 4) * size).round().astype(int)
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


def _others(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another picture for each, whatever its class."""
    order, others = rng.permutation(len(pictures)), np.empty_like(pictures)
    others[order] = pictures[np.roll(order, 1)]  # in a ring, so that none meets itself
    return others


def _blurred(picture: np.ndarray, pixels: float) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(pixels)))


def _recoded(picture: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def blur(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur of up to 1.2 pixels."""
    return _blurred(picture, rng.uniform(0.0, 1.2))


def recode(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Save as JPEG at a quality of 30 to 95 and read again."""
    return _recoded(picture, int(rng.integers(30, 96)))


def expose(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma of 0.7 to 1.4, contrast of 0.75 to 1.25, brightness of +-10% of the range."""
    x = (picture / 255.0) ** np.exp(rng.uniform(np.log(0.7), np.log(1.4)))
    x = (x - x.mean()) * rng.uniform(0.75, 1.25) + x.mean() + rng.uniform(-0.1, 0.1)
    return (x.clip(0, 1) * 255).round().astype(np.uint8)


def stress(pictures: np.ndarray, seed: int) -> np.ndarray:
    """All together: corners of another picture, whatever its class; re-framed, blurred, re-exposed, re-encoded."""
    rng = np.random.default_rng(seed)
    pairs = zip(pictures, _others(pictures, rng))
    changed = [recode(expose(blur(reframe(swap_corners(own, other, rng), rng), rng), rng), rng) for own, other in pairs]
    return np.stack(changed) if len(pictures) else pictures


def with_stressed(pictures: np.ndarray, draws: int) -> np.ndarray:
    """The X-rays as they are, then `draws` stressed copies of all, with the seeds 0, 1, ...: (1 + draws) x images."""
    return np.concatenate([pictures, *(stress(pictures, seed) for seed in range(draws))])


def transplanted(pictures: np.ndarray, masks: np.ndarray, lungs: np.ndarray, bodies: np.ndarray) -> np.ndarray:
    """The lungs of some films in the bodies of others (`augment.transplant`): uint8 of shape (pairs, size, size).

    `lungs` and `bodies`, of shape (pairs,), are rows of `pictures` and of their `masks`.
    """
    changed = [np.empty((0, *pictures.shape[1:]), np.uint8)]
    for start in range(0, len(lungs), 128):
        own, other = lungs[start : start + 128], bodies[start : start + 128]
        parts = [pictures[own], masks[own] / 255, pictures[other], masks[other] / 255]
        found = augment.transplant(*(part[..., None].astype("float32") for part in parts))
        changed.append(np.asarray(found)[..., 0].round().astype(np.uint8))
    return np.concatenate(changed)


def in_other_bodies(
    pictures: np.ndarray, masks: np.ndarray, label: np.ndarray, seed: int, other_class: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The lungs of each film in the body of another one (`augment.transplant`): the answer should go with the lungs.

    `masks` are those of the lungs, as in `cxr.lungs`; `label`, of shape (images,), is the class from 0. The body is
    that of any other film, or, for `other_class`, of one of another class, each as often as the numbers allow.

    Returns the pictures, and the row of the film whose body each has.
    """
    rng, n, label = np.random.default_rng(seed), len(pictures), np.asarray(label)
    body = np.arange(n)
    if other_class:
        for value in np.unique(label):
            own, others = np.flatnonzero(label == value), np.flatnonzero(label != value)
            if len(others):
                body[own] = rng.permutation(np.resize(rng.permutation(others), len(own)))
    else:
        order = rng.permutation(n)
        body[order] = np.roll(order, 1)  # in a ring, so that none meets itself
    return transplanted(pictures, masks, np.arange(n), body), body


def validation_draws(
    pictures: np.ndarray, masks: np.ndarray, label: np.ndarray, stressed: int, swapped: int
) -> tuple[np.ndarray, list[str]]:
    """All that a network is validated on: films as they are, stressed, and with their lungs in other bodies.

    Returns uint8 of shape (draws x images, size, size), and the kind of each draw: ``plain`` once, ``stress``
    `stressed` times, ``swap`` (any other body) and ``conflict`` (a body of the other class) `swapped` times each.
    """
    draws = [with_stressed(pictures, stressed)]
    for other_class in (False, True):
        draws += [in_other_bodies(pictures, masks, label, seed, other_class)[0] for seed in range(swapped)]
    return np.concatenate(draws), ["plain"] + ["stress"] * stressed + ["swap"] * swapped + ["conflict"] * swapped


def one_of_each(drawn: np.ndarray, kinds: list[str]) -> np.ndarray:
    """The first draw of each kind, of what `validation_draws` returns: what each epoch of a training is judged by.

    Returns uint8 of shape (kinds x images, size, size): each kind weighs the same, however many draws it has.
    """
    parts = np.split(drawn, len(kinds))
    return np.concatenate([parts[kinds.index(kind)] for kind in dict.fromkeys(kinds)])


# held out: what nothing is trained on, neither in the augmentation of 03 nor in `stress`
def _equalised(picture, rng):
    return 255 * exposure.equalize_hist(picture)


def _locally_equalised(picture, rng):
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994), as many viewers apply it."""
    tile = len(picture) // int(rng.integers(3, 8))
    return 255 * exposure.equalize_adapthist(picture, tile, clip_limit=rng.uniform(0.005, 0.03))


def _veiled(picture, rng):
    """Scatter: a bright veil, and less contrast in what is smaller than a twelfth of the picture."""
    smooth = _blurred(picture, len(picture) / 12).astype(float)
    veil, left = rng.uniform(20, 60), rng.uniform(0.4, 0.7)
    return smooth * (1 - veil / 255) + veil + (picture - smooth) * left


def _narrowed(picture, rng):
    """One side shorter by a fifth to a third, black beside it: a narrow film that was not squeezed."""
    size = len(picture)
    short = round(size / rng.uniform(1.25, 1.45))
    box = [(short, size), (size, short)][rng.integers(2)]
    ground = Image.new("L", (size, size))
    ground.paste(Image.fromarray(picture).resize(box), ((size - box[0]) // 2, (size - box[1]) // 2))
    return np.asarray(ground)


def _lettered(picture, rng):
    """A large bold R at the upper left, as far in as the lung, and print in three corners."""
    size, film = len(picture), Image.fromarray(picture)
    pen, at = ImageDraw.Draw(film), tuple(rng.uniform(0.02, 0.18, 2) * size)
    bold = rng.uniform(0.11, 0.2) * size
    pen.text(at, "R", fill=int(rng.integers(200, 256)), font=ImageFont.load_default(bold), stroke_width=bold // 12)
    for corner in ((0.75, 0.02), (0.02, 0.92), (0.75, 0.92)):
        pen.text((corner[0] * size, corner[1] * size), "1234", fill=230, font=ImageFont.load_default(size / 18))
    return np.asarray(film)


def _coarse(picture, rng):
    size = len(picture)
    small = Image.fromarray(picture).resize([round(size * rng.uniform(0.4, 0.6))] * 2, Resampling.BOX)
    return np.asarray(small.resize((size, size), Resampling.BICUBIC))


def _sharpened(picture, rng):
    """Unsharp masking with a halo, as an old viewer does it."""
    mask = ImageFilter.UnsharpMask(int(rng.integers(2, 6)), int(rng.integers(80, 200)), 0)
    return np.asarray(Image.fromarray(picture).filter(mask))


_CORRUPTIONS = (_equalised, _locally_equalised, _veiled, _narrowed, _lettered, _coarse, _sharpened)
HELD_OUT = {change.__name__[1:].replace("_", " "): change for change in _CORRUPTIONS}


def held_out(pictures: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """The same X-rays under seven changes, by name, that nothing is trained on: neither in `stress` nor augmentation.

    What a network gains under `stress` may be what its augmentation practised; what it gains here is not.
    """
    rng = np.random.default_rng(seed)
    changed = {name: np.stack([change(own, rng) for own in pictures]) for name, change in HELD_OUT.items()}
    return {name: batch.round().clip(0, 255).astype(np.uint8) for name, batch in changed.items()}


def cropped(picture: np.ndarray, share: float) -> np.ndarray:
    """Without `share` of the length at each side, in the same square again; black is added where it is negative."""
    size, edge = len(picture), round(share * len(picture))
    inside = Image.fromarray(picture).crop((edge, edge, size - edge, size - edge))
    return np.asarray(inside.resize((size, size), Resampling.BICUBIC))


SINGLE: dict[str, Callable] = {
    "cropped by 8%": lambda p: cropped(p, 0.08),
    "cropped by 4%": lambda p: cropped(p, 0.04),
    "padded by 8%": lambda p: cropped(p, -0.08),
    **{f"JPEG quality {quality}": partial(_recoded, quality=quality) for quality in (90, 50, 20)},
    "blurred, 1 pixel": lambda p: _blurred(p, 1),
    "blurred, 2 pixels": lambda p: _blurred(p, 2),
    "darkened by 30%": lambda p: Image.fromarray(p).point(lambda gray: 0.7 * gray),
    "gamma 1.4": lambda p: Image.fromarray(p).point(lambda gray: 255 * (gray / 255) ** 1.4),
    **{f"turned by {d} degrees": lambda p, d=d: Image.fromarray(p).rotate(d, Resampling.BICUBIC) for d in (5, 10)},
    "mirrored": lambda p: p[:, ::-1],
}


def changes(pictures: np.ndarray, seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """One change at a time, each by a fixed amount, with its name; `seed` decides whose corners an X-ray gets."""
    for name, change in SINGLE.items():
        yield name, np.stack([np.asarray(change(picture)) for picture in pictures])
    rng = np.random.default_rng(seed)
    swapped = [swap_corners(own, other, rng) for own, other in zip(pictures, _others(pictures, rng))]
    yield "corners of another", np.stack(swapped)
