"""What was said of each picture: figures of 09 and 10."""

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .style import GRAY


def verdicts(pictures, titles: Sequence[str], notes: Sequence[str], colors=(), credit="") -> Figure:
    """Films, three in a row, with title, note and a frame of these `colors`; `credit` stands below all."""
    high = -(-len(pictures) // 3)
    figure, axes = plt.subplots(high, 3, figsize=(5.8, 2.85 * high), squeeze=False)
    for axis in axes.flat[len(pictures) :]:
        axis.remove()
    for i, (axis, film, title, note) in enumerate(zip(axes.flat, pictures, titles, notes)):
        color = colors[i] if len(colors) else GRAY
        axis.imshow(film, cmap="gray", vmin=0, vmax=255)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set(visible=True, color=color, linewidth=0.8 if color == GRAY else 2.5)
        axis.set_title(title, color="black" if color == GRAY else color, fontsize=12)
        axis.set_xlabel(textwrap.fill(note, 22), fontsize=11, loc="left")
    if credit:
        figure.supxlabel(credit, fontsize=10, x=0.01, ha="left", color=GRAY)
    return figure
