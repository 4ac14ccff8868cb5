"""Where a network looks: figures of 06, and of the answers in 09."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import DOTTED, GRAY, VERMILION, grid, intervals, name_rows, say


def _outline(axis: Axes, field: np.ndarray) -> None:
    if field.any() and not field.all():
        axis.contour(field, [0.5], colors="#E69F00", linewidths=1.2)


def outlines(pictures, fields, columns: int = 6, titles=()) -> Figure:
    """X-rays, each with the edge of its field drawn as a line, and its title if there are any.

    `pictures` and `fields` (bool) are arrays of the same shape, (images, size, size).
    """
    figure = grid(pictures, titles, columns=columns, side=1.5)
    for axis, field in zip(figure.axes, fields):
        _outline(axis, field)
    return figure


def heat(pictures, maps: dict[str, np.ndarray], fields, titles: list[str]) -> Figure:
    """X-rays in the first row, and below each a row of heat maps laid over them, with the field as a line.

    `pictures`, `fields` (bool) and each of the `maps` (by name of the row, 0 or more) are arrays of the same shape,
    (images, size, size); `titles` has one a picture.
    """
    count, high = len(pictures), 1 + len(maps)
    titles = [*titles, *[""] * (count * len(maps))]
    figure = grid([*pictures] * high, titles, columns=count, rows=["film", *maps], side=7.2 / max(count, 4))
    axes = np.array(figure.axes).reshape(high, count)
    for line, own in zip(axes[1:], maps.values()):
        for axis, one, field in zip(line, own, fields):
            axis.imshow(one / max(one.max(), 1e-9), cmap="inferno", alpha=0.55, vmin=0, vmax=1, aspect="auto")
            _outline(axis, field)
    for axis in axes[0]:
        axis.title.set_fontsize(8)
    return figure


def attention(inside: dict[str, dict], ratio: dict[str, dict]) -> Figure:
    """Share of attention inside the lungs, and how much more the lungs matter than the corners, with 95% intervals.

    Both map a name to ``{"mean", "low", "high"}``.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 0.5 * max(len(inside), len(ratio)) + 1.2))
    titles = ("attention inside the lungs", "lungs covered / corners covered")
    for axis, rows, title in zip(axes, (inside, ratio), titles):
        table = pd.DataFrame(rows).T
        colors = [VERMILION if name.startswith("this") else GRAY for name in rows]
        intervals(axis, table["mean"], table.low, table.high, colors, colors, 2.5, 55)
        for y, mean in enumerate(table["mean"]):
            say(axis, f"{mean:.2f}", mean, y, (0, 8), fontsize=10, ha="center")
        axis.set(title=title, xlim=(0, 1.2 * table.high.max()))
        name_rows(axis, list(rows), 0.7)
    axes[1].axvline(1, **DOTTED)
    return figure
