"""One style: blue is normal, vermilion is pneumonia (Okabe & Ito's colours, safe for colour-blind readers)."""

import base64
import sys
from io import BytesIO
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ..paths import data_dir

BLUE, VERMILION, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#767676"
BY_LABEL = {0: BLUE, 1: VERMILION}
BARE: dict = {"xticks": [], "yticks": [], "frame_on": False}  # axes of a picture
DOTTED: dict = {"color": GRAY, "linestyle": ":", "linewidth": 1}  # a line to compare with


def use_style() -> None:
    """Set the style of all figures of a notebook; they come onto its page as `on_page` makes them."""
    sns.set_theme(style="ticks", palette=[BLUE, VERMILION, GREEN, GRAY])
    plt.style.use(Path(__file__).with_name("figures.mplstyle"))
    ipython = sys.modules.get("IPython")
    if shell := ipython and ipython.get_ipython():
        plt.switch_backend(plt.get_backend())  # loads it now: later it would put its own way of drawing in place again
        shell.display_formatter.formatters["image/png"].for_type(Figure, on_page)


def on_page(figure: Figure, colors: int = 128) -> str:
    """A figure for a notebook's page: a PNG (base64) of few colours, or of 256 or all where few would be seen."""
    full, page = BytesIO(), BytesIO()
    style, sample = dict(fontsize=11, color="crimson", weight="bold", va="top"), (data_dir() / "sample.json").is_file()
    marks = [figure.text(0, 1, "SAMPLE", **style)] if sample else []
    figure.savefig(full, format="png", bbox_inches="tight")
    for mark in marks:
        mark.remove()
    drawn = chosen = Image.open(full).convert("RGB")
    for count, method, most in ((colors, Image.Quantize.MAXCOVERAGE, 1), (256, Image.Quantize.MEDIANCUT, 2)):
        few = drawn.quantize(count, method, kmeans=int(count == 256), dither=Image.Dither.NONE)
        if np.abs(np.asarray(few.convert("RGB")).astype(int) - np.asarray(drawn)).mean() <= most:
            chosen = few
            break
    chosen.save(page, format="PNG", optimize=True)
    return base64.b64encode(page.getvalue()).decode()


def grid(pictures, titles=(), columns: int = 6, rows=(), side: float = 1.7, colors=()) -> Figure:
    """X-rays side by side, each `side` inches, with `titles`, the `colors` of these, and names of `rows` (wrapped)."""
    high = -(-len(pictures) // columns)
    size = (side * columns, (side + 0.25 * (len(titles) > 0)) * high)
    figure, axes = plt.subplots(high, columns, figsize=size, squeeze=False, subplot_kw=BARE)
    for i, (axis, picture) in enumerate(zip(axes.flat, pictures)):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255, aspect="auto")
        if len(titles):
            color = colors[i] if len(colors) else "black"
            title = fill(titles[i], int(14 * side), replace_whitespace=False)
            axis.set_title(title, fontsize=9, loc="center", fontweight="normal", color=color)
    for axis, name in zip(axes[:, 0], rows):
        axis.set_ylabel(fill(name, int(11 * side)), fontsize=11)
    return figure


def outline(axis: Axes, field: np.ndarray, color: str = "#E69F00") -> None:
    """The edge of a field (bool, of a picture's shape) as a line; none where it is empty or the whole picture."""
    if field.any() and not field.all():
        axis.contour(field, [0.5], colors=color, linewidths=1.2)


def name_rows(axis: Axes, names, above: float = 0.5, below: float = 0.5) -> None:
    """Names down the y axis, the first on top, without ticks, and this much room above and below them."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 1 + below, -above)
    axis.tick_params(axis="y", length=0)


def summary(network) -> None:
    """Print ``network.summary()``: a row for each layer, no lines between them, and not what each is connected to."""

    def without_lines(text):
        print(*[row[:79] for row in text.splitlines() if "├" not in row], sep="\n")

    network.summary(88, [0.52, 0.77, 0.9, 1], print_fn=without_lines)
