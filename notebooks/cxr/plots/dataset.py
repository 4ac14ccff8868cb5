"""The flow of images from the download to each split."""

import textwrap

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .style import GRAY, GREEN, VERMILION

FLOW = {  # middle of the box, its name and colour, and the box before it
    "all": (0.4, 0.89, "downloaded", "black", None),
    "val folder": (0.09, 0.53, "val folder", "black", "all"),
    "train folder": (0.4, 0.53, "train folder", "black", "all"),
    "test folder": (0.84, 0.53, "test folder", "black", "all"),
    "train": (0.22, 0.11, "training", GRAY, "train folder"),
    "val": (0.54, 0.11, "validation", GREEN, "train folder"),
    "test": (0.84, 0.11, "test", VERMILION, "test folder"),
}


def flow(places: dict[str, dict]) -> Figure:
    """Flow of images from the download to each split (`data.flow`), with exclusions, as STARD and CLAIM ask for."""
    figure, axis = plt.subplots(figsize=(6.6, 4.6))
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.axis("off")
    boxes = {}
    for place, count in places.items():
        x, y, name, color, before = FLOW[place]
        lines = [f"{count['images']:,} images", f"{count['patients']:,} patients"]
        lines += [f"{count['normal']:,} normal", f"{count['pneumonia']:,} pneumonia"]
        lines += [f"left out: {n:,} ({why})" for why, n in count.get("left_out", {}).items()]
        text = "\n".join([name.upper(), *(textwrap.fill(line, 24) for line in lines)])
        width = 1 if color == "black" else 2
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": color, "linewidth": width}
        boxes[place] = axis.text(x, y, text, ha="center", va="center", fontsize=10, linespacing=1.3, bbox=box)
    for place in places:  # after all boxes, so that each arrow ends where they do
        x, y, *_, before = FLOW[place]
        if before in places:
            ends = {"patchA": boxes[before].get_bbox_patch(), "patchB": boxes[place].get_bbox_patch()}
            style = {"arrowstyle": "-|>", "color": GRAY, "shrinkA": 0, "shrinkB": 2, "mutation_scale": 14}
            axis.annotate("", (x, y), FLOW[before][:2], arrowprops=style | ends)
    return figure
