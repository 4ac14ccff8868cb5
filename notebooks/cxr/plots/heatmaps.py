"""Where a network looks: figures of 06, and of the answers in 09."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .style import DOTTED, GRAY, VERMILION, grid, intervals, name_rows, outline, say


def outlines(pictures, fields, columns: int = 6, titles=(), others=()) -> Figure:
    """X-rays, each with the edge of its field drawn as a line, and its title if there are any.

    `pictures` and `fields` (bool) are arrays of the same shape, (images, size, size); `others`, if given, are a second
    field each, in blue.
    """
    figure = grid(pictures, titles, columns=columns, side=1.7 if len(others) else 1.5)
    for i, (axis, field) in enumerate(zip(figure.axes, fields)):
        if len(others):
            outline(axis, others[i], "#56B4E9")
        outline(axis, field)
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
            outline(axis, field)
    for axis in axes[0]:
        axis.title.set_fontsize(8)
    return figure


def attention(inside: dict[str, dict], ratios: dict[str, dict[str, dict]]) -> Figure:
    """Share of attention inside the lungs, and how much more the lungs matter than other places, with 95% intervals.

    `inside` maps a name to ``{"mean", "low", "high"}``; `ratios` has the same by title of a panel.
    """
    panels = {"attention inside the lungs": inside, **ratios}
    high = max(len(rows) for rows in panels.values())
    figure, axes = plt.subplots(1, len(panels), figsize=(9.4, 0.5 * high + 1.2))
    for axis, (title, rows) in zip(axes, panels.items()):
        table = pd.DataFrame(rows).T
        colors = [VERMILION if name.startswith("this") else GRAY for name in rows]
        intervals(axis, table["mean"], table.low, table.high, colors, colors, 2.5, 55)
        for y, mean in enumerate(table["mean"]):
            say(axis, f"{mean:.2f}", mean, y, (0, 8), fontsize=10, ha="center")
        axis.set(title=title, xlim=(0, 1.2 * table.high.max()))
        axis.title.set_fontsize(10)
        name_rows(axis, list(rows), 0.7)
    for axis in axes[1:]:
        axis.axvline(1, **DOTTED)
    return figure
