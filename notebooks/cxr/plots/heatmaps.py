"""Where a network looks: figures of 06, and of the answers in 09."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from .style import BARE, outline


def heat(pictures, maps: dict[str, np.ndarray], fields, titles: list[str], columns: int = 4) -> Figure:
    """X-rays in a row, and below each a row of heat maps laid over them, by name, with the field as a line."""
    high, wide, side = 1 + len(maps), min(columns, len(pictures)), 1.72
    blocks = -(-len(pictures) // wide)
    title = 0.1 + 0.2 * max(1 + text.count("\n") for text in titles)  # inches
    size = 0.4 + side * wide, blocks * (side * high + title)
    figure, axes = plt.subplots(blocks * high, wide, figsize=size, squeeze=False, subplot_kw=BARE)
    for i, (picture, field) in enumerate(zip(pictures, fields)):
        column = axes[i // wide * high :, i % wide]
        column[0].set_title(titles[i], fontsize=9.5, loc="center", fontweight="normal")
        for axis, (name, own) in zip(column, {"film": None, **maps}.items()):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
            if own is not None:
                axis.imshow(own[i] / max(own[i].max(), 1e-9), cmap="inferno", alpha=0.55, vmin=0, vmax=1)
                outline(axis, field, "white")
            if i % wide == 0:
                axis.set_ylabel(name, fontsize=11)
    return figure
