"""The page of answers that ``make predict`` leaves: one file that needs nothing else, a card a film."""

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import colormaps
from PIL import Image
from scipy import ndimage

SIDE = 128  # of the pictures on the page, pixels
WORDS = {0.05: "very unlikely", 0.2: "unlikely", 0.4: "rather unlikely", 0.6: "about as likely as not"}
WORDS |= {0.8: "rather likely", 0.95: "likely", 1.01: "very likely"}  # up to which probability each is said
EDGE = (0xE6, 0x9F, 0x00, 255)


def legible(name: str) -> str:
    """`name` with characters that do not print, or are no text, written out: a line break as ``\\n``."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)


def in_words(probability: float) -> str:
    """How likely a probability from 0 to 1 is, in words (`WORDS`)."""
    return next(words for limit, words in WORDS.items() if probability < limit)


def figure(probability: float) -> str:
    """A probability from 0 to 1 with two decimals; at the ends ``below 0.01`` or ``above 0.99``."""
    return "below 0.01" if probability < 0.01 else "above 0.99" if probability > 0.99 else f"{probability:.2f}"


def counted(number: int, what: str) -> str:
    """``1 file``, ``1,000 files``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


JINJA = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
JINJA.loader = FileSystemLoader(Path(__file__).with_name("templates"))
JINJA.filters |= {"legible": legible, "words": in_words, "figure": figure, "count": counted}


def _part(name: str):
    return getattr(JINJA.get_template("predictions.html.j2").module, name)


def _encoded(pixels: np.ndarray, **options) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(stream, "WEBP", **options)
    return base64.b64encode(stream.getvalue()).decode()


def marks(field: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The edge of a `field` (bool) and a `heat` map (0 to 1), to lay over a film of the same shape (size, size).

    Returns uint8 of shape (size, size, 4), transparent where there is nothing to show.
    """
    layer = np.asarray(colormaps["inferno"](heat) * 255).round().astype(np.uint8)
    layer[..., 3] = (heat.clip(0, 1) * 0.6 * 255).round()
    layer[field & ~ndimage.binary_erosion(field)] = EDGE
    return layer


def head(facts: dict, counts: dict | None = None) -> str:
    """What stands above the cards; `counts` are None as long as the run is not finished."""
    return str(_part("head")(facts, counts)).lstrip()


def card(key: str, row: dict, facts: dict, film: np.ndarray | None, field: np.ndarray, heat: np.ndarray) -> str:
    """The card of one film, on one line.

    `key` is its id; `row` has the columns of the table; `film` is uint8 of shape (size, size), None where the file
    can't be read; `field` (bool) and `heat` (0 to 1, 0 everywhere where nothing is explained) have its shape.
    """
    shown = "" if film is None else _encoded(film, quality=80)
    there = film is not None and bool(field.any() or heat.any())
    layer = _encoded(marks(field, heat), quality=40, alpha_quality=30) if there else ""
    return str(_part("card")(key, row, facts, shown, layer, bool(heat.any()))).replace("\n", " ").strip()


def tail(facts: dict, counts: dict) -> str:
    """What stands below the cards, with the few lines of script that sort and filter them."""
    return str(_part("tail")(facts, counts)).lstrip()
