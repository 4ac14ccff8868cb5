"""Where a network looks, and what it makes of a film: figures of 06 and 07, and of the answers in 09."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from .style import BARE, BY_LABEL, outline


def heat(pictures, maps: dict[str, np.ndarray], fields, titles: list[str], columns: int = 4) -> Figure:
    """X-rays in a row, and below each a row of heat maps laid over them, by name, with the field as a line."""
    high, wide, side = 1 + len(maps), min(columns, len(pictures)), 1.72
    blocks = -(-len(pictures) // wide)
    title = 0.1 + 0.2 * max(1 + text.count("\n") for text in titles)  # inches
    size = 0.4 + side * wide, blocks * (side * high + title)
    figure, axes = plt.subplots(blocks * high, wide, figsize=size, squeeze=False, subplot_kw=BARE)
    for i, (picture, field) in enumerate(zip(pictures, fields)):
        column = axes[i // wide * high :, i % wide]
        column[0].set_title(titles[i], fontsize=11, loc="center", fontweight="normal")
        for axis, (name, own) in zip(column, {"film": None, **maps}.items()):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
            if own is not None:
                axis.imshow(own[i] / max(own[i].max(), 1e-9), cmap="inferno", alpha=0.55, vmin=0, vmax=1)
                outline(axis, field)
            if i % wide == 0:
                axis.set_ylabel(name, fontsize=11)
    return figure


def passage(
    channels: np.ndarray, early: np.ndarray, late: np.ndarray, features: np.ndarray, answer: float, counts: list[int]
) -> Figure:
    """One film in a network: its channels, some of its maps (of so many as `counts` says), features, answer."""
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
