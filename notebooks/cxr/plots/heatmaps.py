"""Where a network looks, and what it makes of a film: figures of 06 and 07, and of the answers in 09."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .style import BY_LABEL, DOTTED, GRAY, GREEN, grid, intervals, name_rows, outline, say


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


def heat(pictures, maps: dict[str, np.ndarray], fields, titles: list[str], columns: int = 4) -> Figure:
    """X-rays in the first row, and below each a row of heat maps laid over them, with the field as a line.

    `pictures`, `fields` (bool) and each of the `maps` (by name of the row, 0 or more) are arrays of the same shape,
    (images, size, size); `titles` has one a picture. More than `columns` pictures go on below, in rows of their own.
    """
    starts, wide, side = range(0, len(pictures), columns), min(columns, len(pictures)), 1.65
    blank = [np.full(np.shape(pictures)[1:], 255)] * (-len(pictures) % wide)
    shown, said = [], list[str]()
    for start in starts:
        rest = blank if start + columns > len(pictures) else []
        shown += [*pictures[start : start + columns], *rest] * (1 + len(maps))
        of_these = titles[start : start + columns]
        said += [*of_these, *[""] * (wide * (1 + len(maps)) - len(of_these))]
    figure = grid(shown, said, columns=wide, rows=["film", *maps] * len(starts), side=side)
    title = 0.1 + 0.2 * max(1 + text.count("\n") for text in titles)  # inches that the titles of a row take
    figure.set_size_inches(0.4 + (side + 0.07) * wide, len(starts) * ((side + 0.07) * (1 + len(maps)) + title))
    axes = np.array(figure.axes).reshape(len(starts), 1 + len(maps), wide)
    for axis in axes.flat:
        axis.set_aspect("equal")
        axis.title.set_fontsize(11)
    for i, field in enumerate(fields):
        for axis, own in zip(axes[i // columns, 1:, i % columns], maps.values()):
            axis.imshow(own[i] / max(own[i].max(), 1e-9), cmap="inferno", alpha=0.55, vmin=0, vmax=1)
            outline(axis, field)
    return figure


def attention(inside: dict[str, dict], ratios: dict[str, dict[str, dict]]) -> Figure:
    """Share of attention inside the lungs, and how much more the lungs matter than other places, with 95% intervals.

    `inside` maps a name to ``{"mean", "low", "high"}``, shares from 0 to 1; `ratios` has the same by title of a panel,
    1 being "as much". The panels stand one below the other, so that they can be read on a phone.
    """
    panels = {"Attention inside the lungs": inside, **ratios}
    lines = [len(rows) + 1.1 for rows in panels.values()]
    figure, axes = plt.subplots(len(panels), 1, figsize=(6.4, 0.46 * sum(lines)), height_ratios=lines)
    for axis, (title, rows) in zip(axes, panels.items()):
        table, share = pd.DataFrame(rows).T, rows is inside
        colors = [GREEN if name.startswith("this") else GRAY for name in rows]
        intervals(axis, table["mean"], table.low, table.high, colors, colors, 3, 55)
        for y, (mean, end) in enumerate(zip(table["mean"], table.high)):
            say(axis, f"{mean:.0%}" if share else f"{mean:.2f}", max(mean, end), y, (9, -4), fontsize=11)
        axis.set_title(title, fontsize=11)
        axis.set_xlim(0, 1 if share else 1.2 * table.high.max())
        if share:
            axis.xaxis.set_major_formatter(PercentFormatter(1))
        name_rows(axis, list(rows), 0.7, 0.6)
        axis.tick_params(axis="y", labelsize=11)
    for axis in axes[1:]:
        axis.axvline(1, **DOTTED, zorder=0)
        for text in axis.texts:  # a number that the line at 1 would run through
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    return figure


def passage(
    channels: np.ndarray, early: np.ndarray, late: np.ndarray, features: np.ndarray, answer: float, counts: list[int]
) -> Figure:
    """One film on its way through a network: its channels, some of its feature maps, its features, the answer.

    `channels` has shape (size, size, 3), `early` and `late` (side, side, maps) with as many maps as are to be seen, out
    of the `counts` that there are of each; `features` (features,) is what the `answer`, a probability, is made of.
    """
    rows = [("three\nchannels", channels), ("early\nmaps", early), ("last\nmaps", late)]
    columns = max(early.shape[-1], late.shape[-1])
    figure = plt.figure(figsize=(6.6, 6.9))
    places = figure.add_gridspec(4, columns, height_ratios=[1, 1, 1, 0.62])
    for line, (name, maps) in enumerate(rows):
        for column in range(maps.shape[-1]):
            axis = figure.add_subplot(places[line, column])
            axis.imshow(maps[..., column], cmap="gray" if line == 0 else "viridis", aspect="auto")
            axis.set(xticks=[], yticks=[])
            if column == 0:
                axis.set_ylabel(name, fontsize=11)
                side = f"{maps.shape[0]} x {maps.shape[1]} pixels"
                what = side if line == 0 else f"{maps.shape[-1]} of {counts[line - 1]:,}, each {side}"
                axis.set_title(what, fontsize=10, fontweight="normal")
    axis = figure.add_subplot(places[3, : columns - 1])
    axis.vlines(range(len(features)), 0, features, color="black", linewidth=0.7)
    axis.set(yticks=[], xlim=(0, len(features)), ylim=(0, None), ylabel="features")
    axis.set_title(f"{len(features):,} numbers: the mean of each last map", fontsize=10, fontweight="normal")
    axis = figure.add_subplot(places[3, columns - 1], frame_on=False, xticks=[], yticks=[])
    axis.text(0.5, 0.55, f"{answer:.2f}", fontsize=24, ha="center", va="center", color=BY_LABEL[int(answer >= 0.5)])
    axis.set_title("answer", fontsize=10, fontweight="normal", loc="center")
    return figure
