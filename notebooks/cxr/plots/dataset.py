"""What is in the data set, and what of it could mislead a network: figures of 02 and the flow of images in 05."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..data import class_names
from ..shortcuts import WORDS
from .style import BLUE, BY_LABEL, DOTTED, GRAY, GREEN, VERMILION, name_rows

FLOW = {  # middle of the box, its name and colour, and the box before it
    "all": (0.4, 0.89, "downloaded", "black", None),
    "val folder": (0.09, 0.53, "val folder", "black", "all"),
    "train folder": (0.4, 0.53, "train folder", "black", "all"),
    "test folder": (0.84, 0.53, "test folder", "black", "all"),
    "train": (0.22, 0.11, "training", GRAY, "train folder"),
    "val": (0.54, 0.11, "validation", GREEN, "train folder"),
    "test": (0.84, 0.11, "test", VERMILION, "test folder"),
}


def class_balance(table: pd.DataFrame, group: str = "folder") -> Figure:
    """Images of each class in each part: one bar a class, the count at its end.

    `table` has the columns ``label``, ``class_name`` and `group`, which tells the parts.
    """
    counts = table.groupby([group, "label", "class_name"]).size().reset_index(name="images")
    parts = [part for part in ("train", "val", "test") if part in set(counts[group])]
    size = (6.4, 1.1 * len(parts) + 0.4)
    figure, axes = plt.subplots(len(parts), 1, figsize=size, sharex=True, squeeze=False)
    for axis, part in zip(axes.flat, parts):
        rows = counts[counts[group] == part].sort_values("label", ascending=False)
        total = rows.images.sum()
        bars = axis.barh(rows.class_name.str.lower(), rows.images, color=rows.label.map(BY_LABEL))
        axis.bar_label(bars, [f" {n:,}  ({n / total:.1%})" for n in rows.images], fontsize=10)
        axis.set(title=f"{part}: {total:,} images", xticks=[], xlim=(0, counts.images.max() * 1.3))
        axis.spines["bottom"].set_visible(False)
    return figure


def sizes(files: pd.DataFrame, whose: str = "these files") -> Figure:
    """What files tell without their pictures: width against height, and bytes a pixel, by class, a row a folder.

    `files` and `whose` come from `originals.files`: ``folder``, ``class_name``, ``label``, ``width``, ``height``,
    ``bytes_per_pixel``, and in ``films`` how many there are of the kind.
    """
    figure, axes = plt.subplots(2, 2, figsize=(6.8, 5.4), sharex="col", sharey="col")
    names, resized = class_names(files).str.lower(), len(files[["width", "height"]].drop_duplicates()) == 1
    for (left, right), folder in zip(axes, ("train", "test")):
        inside = files[files.folder == folder]
        for label, color in ((1, VERMILION), (0, BLUE)):  # the smaller class on top
            own = inside[inside.label == label]
            area, style = 4 + 9 * own.films**0.7, {"color": color, "linewidths": 0, "alpha": 0.45}
            left.scatter(own.width, own.height, area, label=names[label], **style)
            sns.kdeplot(own, x="bytes_per_pixel", weights="films", ax=right, color=color, warn_singular=False)
        left.set(ylabel="height (pixels)", title=f"{folder}: size")
        right.set(yticks=[], ylabel="", title=f"{folder}: compression")
    axes[1, 0].set_xlabel("width (pixels)")
    axes[1, 1].set_xlabel("bytes in the file for each pixel")
    figure.suptitle(f"{whose[0].upper()}{whose[1:]}", fontsize=11)
    if resized:
        text = "every image has the same size:\nthis copy of the data was resized,\nand says nothing of the originals"
        axes[0, 0].text(0.5, 0.6, text, transform=axes[0, 0].transAxes, ha="center", fontsize=9, color=GRAY)
    handles = [Patch(color=color, label=names[label]) for label, color in BY_LABEL.items() if label in names]
    axes[0, 1].legend(handles=handles, frameon=False, loc="upper right")
    return figure


def densities(values: pd.Series, label: pd.Series, part: pd.Series, names: pd.Series, xlabel: str) -> Figure:
    """How a number is spread in each class, one panel for train and one for test below it.

    `values`, `label` and `part` have one row an image; `names` holds the class name by label.
    """
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 3.8), sharex=True)
    for axis, which in zip(axes, ("train", "test")):
        for number, color in BY_LABEL.items():
            own, name = values[(label == number) & (part == which)], names[number].lower()
            sns.kdeplot(own, ax=axis, color=color, fill=True, alpha=0.25, label=name, warn_singular=False)
        axis.set(title=f"{which} folder", xlabel=xlabel, ylabel="", yticks=[])
    axes[0].legend(frameon=False)
    return figure


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


def baselines(findings: dict[str, dict]) -> Figure:
    """AUC of every clue, on train (ring) and on test (dot), in numbers too, with the share of test that it gets right.

    `findings` maps a title to what `shortcuts.baselines` returned.
    """
    tables = {title: pd.DataFrame(finding["rows"]) for title, finding in findings.items()}
    low = min(0.4, *(np.floor(10 * table.auc.astype(float).min()) / 10 for table in tables.values()))
    high = [len(table) for table in tables.values()]
    shape: dict = {"figsize": (7.4, 0.3 * sum(high) + len(high)), "height_ratios": high}
    figure, axes = plt.subplots(len(high), 1, sharex=True, squeeze=False, **shape)
    columns = {"train_auc": ("train", 1.06, ".3f"), "auc": ("test", 1.17, ".3f")}
    columns |= {"accuracy": ("test right", 1.3, ".1%")}
    for axis, (title, table) in zip(axes.flat, tables.items()):
        seen = table[table.auc.notna()]
        axis.hlines(seen.index, seen.train_auc, seen.auc, color=GRAY, linewidth=1, capstyle="round", zorder=1)
        axis.scatter(seen.train_auc, seen.index, s=55, facecolor="white", edgecolor="black", linewidth=2)
        axis.scatter(seen.auc, seen.index, s=60, color="black")
        for column, (name, x, form) in columns.items():
            for y, value in seen[column].items():
                axis.text(x, y, format(value, form), ha="center", va="center", fontsize=9.5)
            axis.text(x, -0.9, name, ha="center", fontsize=9, color=GRAY)
        for y in table.index.difference(seen.index):
            axis.text(0.5, y, "  can't be seen in this copy", va="center", fontsize=9, color=GRAY, style="italic")
        axis.set_title(title)
        axis.axvline(0.5, **DOTTED)
        name_rows(axis, table.clue.replace(WORDS), 0.6, 0.6)
    axes[-1, 0].set(xlim=(low, 1.36), xticks=np.arange(low, 1.01, 0.1))
    axes[-1, 0].set_xlabel("AUC: ring on train, dot on test (0.5 is guessing)")
    return figure


def shift(finding: dict, other: str) -> Figure:
    """AUCs of `shortcuts.shift` as a table of colors: what tells the folders apart, what tells the classes apart.

    `other` is the name of class 1.
    """
    table = pd.DataFrame(finding["rows"]).set_index("fact").astype(float).rename(index=WORDS)
    figure, axes = plt.subplots(1, 2, figsize=(6.8, 0.33 * len(table) + 1), sharey=True)
    films = {"normal": "normal films", "other": f"{other} films"}
    folders = {"train": "in train", "test": "in test"}
    style = {"vmin": 0.1, "vmax": 0.9, "cmap": "PRGn_r", "fmt": ".2f", "linewidths": 1.5, "annot_kws": {"fontsize": 10}}
    for axis, names, title in ((axes[0], films, "test against train"), (axes[1], folders, f"{other} against normal")):
        sns.heatmap(table[[*names]].rename(columns=names), annot=True, cbar=False, ax=axis, **style)
        axis.set(title=title, ylabel="")
        axis.tick_params(length=0)
    axes[0].tick_params(axis="y", rotation=0)
    return figure


def letters(facts: pd.DataFrame, manifest: pd.DataFrame, inside: pd.Series) -> Figure:
    """Where the letter stands, and how large it is, by class and folder; films `inside` the hard block in black."""
    figure, axes = plt.subplots(2, 2, figsize=(6.4, 5.8), sharex=True, sharey=True)
    names = class_names(manifest).str.lower()
    for axis, (part, label) in zip(axes.flat, [("train", 0), ("train", 1), ("test", 0), ("test", 1)]):
        rows = (manifest.folder == part) & (manifest.label == label)
        for chosen, color in ((rows & ~inside, BY_LABEL[label]), (rows & inside, "black")):
            own, alpha = facts[chosen], min(0.7, 0.1 + 60 / rows.sum())
            size = 8e3 * own.letter_size**2
            axis.scatter(own.letter_left, own.letter_top, s=size, color=color, alpha=alpha, linewidths=0)
        if (rows & inside).any():
            words = (("black", f"the block ({(rows & inside).sum()} films)"), (BY_LABEL[label], "all others"))
            handles = [Line2D([], [], marker="o", linewidth=0, color=color, label=text) for color, text in words]
            axis.legend(handles=handles, fontsize=9, loc="lower right")
        axis.set(title=f"{names[label]}, {part}", xlim=(-0.02, 0.32), ylim=(0.67, -0.02))
    for axis in axes[-1]:
        axis.set_xlabel("from the left")
    for axis in axes[:, 0]:
        axis.set_ylabel("from the top")
    return figure
