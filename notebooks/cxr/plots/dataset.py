"""What is in the data set, and what of it could mislead a network: figures of 02 and the flow of images in 05."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ..data import class_names
from ..shortcuts import WORDS
from .style import BLUE, BY_LABEL, DOTTED, GRAY, GREEN, VERMILION, name_rows

FLOW = {  # middle of the box, its name and colour, and the box before it
    "all": (0.42, 0.9, "downloaded", "black", None),
    "val folder": (0.1, 0.52, "val folder", "black", "all"),
    "train folder": (0.42, 0.52, "train folder", "black", "all"),
    "test folder": (0.82, 0.52, "test folder", "black", "all"),
    "train": (0.27, 0.1, "training", GRAY, "train folder"),
    "val": (0.57, 0.1, "validation", GREEN, "train folder"),
    "test": (0.82, 0.1, "test", VERMILION, "test folder"),
}


def class_balance(table: pd.DataFrame, group: str = "folder") -> Figure:
    """Images of each class in each part: one bar a class, the count at its end.

    `table` has the columns ``label``, ``class_name`` and `group`, which tells the parts.
    """
    counts = table.groupby([group, "label", "class_name"]).size().reset_index(name="images")
    parts = [part for part in ("train", "val", "test") if part in set(counts[group])]
    size = (7.5, 1.1 * len(parts) + 0.4)
    figure, axes = plt.subplots(len(parts), 1, figsize=size, sharex=True, squeeze=False)
    for axis, part in zip(axes.flat, parts):
        rows = counts[counts[group] == part].sort_values("label", ascending=False)
        total = rows.images.sum()
        bars = axis.barh(rows.class_name, rows.images, color=rows.label.map(BY_LABEL))
        axis.bar_label(bars, [f" {n:,}  ({n / total:.1%})" for n in rows.images], fontsize=10)
        axis.set(title=f"{part}: {total:,} images", xticks=[], xlim=(0, counts.images.max() * 1.2))
        axis.spines["bottom"].set_visible(False)
    return figure


def sizes(manifest: pd.DataFrame) -> Figure:
    """Width against height, and bytes a pixel, by class: what a file tells without its picture."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.8))
    names = class_names(manifest)
    for label, color in ((1, VERMILION), (0, BLUE)):  # the smaller class on top
        own = manifest[manifest.label == label]
        left.scatter(own.width, own.height, s=8, alpha=0.4, color=color, label=names[label], linewidths=0)
    for (label, folder), own in manifest[manifest.folder != "val"].groupby(["label", "folder"]):
        style = {"color": BY_LABEL[label], "linestyle": "-" if folder == "train" else "--"}
        per_pixel = own.bytes / (own.width * own.height)
        sns.kdeplot(per_pixel, ax=right, label=f"{names[label]}, {folder}", warn_singular=False, **style)
    left.set(xlabel="width (pixels)", ylabel="height (pixels)", title="Size of the picture")
    right.set(xlabel="bytes in the file for each pixel", yticks=[], ylabel="", title="How the file was compressed")
    right.legend(frameon=False, fontsize=9)
    if len(manifest[["width", "height"]].drop_duplicates()) > 1:
        left.legend(frameon=False, markerscale=3)
    else:
        text = "every image has the same size:\nthis copy of the data was resized,\nand says nothing of the originals"
        left.text(0.5, 0.6, text, transform=left.transAxes, ha="center", fontsize=10, color=GRAY)
    return figure


def densities(values: pd.Series, label: pd.Series, part: pd.Series, names: pd.Series, xlabel: str) -> Figure:
    """How a number is spread in each class, one panel for train and one for test.

    `values`, `label` and `part` have one row an image; `names` holds the class name by label.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 2.9), sharex=True)
    for axis, which in zip(axes, ("train", "test")):
        for number, color in BY_LABEL.items():
            own = values[(label == number) & (part == which)]
            sns.kdeplot(own, ax=axis, color=color, fill=True, alpha=0.25, label=names[number], warn_singular=False)
        axis.set(title=f"{which} folder", xlabel=xlabel, ylabel="", yticks=[])
    axes[0].legend(frameon=False)
    return figure


def flow(places: dict[str, dict]) -> Figure:
    """Flow of images from the download to each split (`data.flow`), with exclusions, as STARD and CLAIM ask for."""
    figure, axis = plt.subplots(figsize=(9.4, 4.8))
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.axis("off")
    for place, count in places.items():
        x, y, name, color, before = FLOW[place]
        if before in places:
            arrow = {"arrowstyle": "-|>", "color": GRAY, "shrinkA": 34, "shrinkB": 44 if before == "all" else 36}
            axis.annotate("", (x, y), FLOW[before][:2], zorder=1, arrowprops=arrow)
        lines = [name, f"{count['images']:,} images, {count['patients']:,} patients"]
        lines += [f"{count['normal']:,} normal, {count['pneumonia']:,} pneumonia"]
        lines += [f"left out: {n:,} ({why})" for why, n in count.get("left_out", {}).items()]
        text = "\n".join(textwrap.fill(line, 32) for line in lines)
        width = 1 if color == "black" else 2
        box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": color, "linewidth": width}
        axis.text(x, y, text, ha="center", va="center", fontsize=9.5, linespacing=1.4, zorder=2, bbox=box)
    return figure


def baselines(findings: dict[str, dict]) -> Figure:
    """AUC of every clue, on train (ring) and on test (dot), with the share of test that it gets right.

    `findings` maps a title to what `shortcuts.baselines` returned.
    """
    tables = {title: pd.DataFrame(finding["rows"]) for title, finding in findings.items()}
    low = min(0.4, *(np.floor(10 * table.auc.astype(float).min()) / 10 for table in tables.values()))
    high = [len(table) for table in tables.values()]
    shape: dict = {"figsize": (8.6, 0.3 * sum(high) + len(high)), "height_ratios": high}
    figure, axes = plt.subplots(len(high), 1, sharex=True, squeeze=False, **shape)
    for axis, (title, table) in zip(axes.flat, tables.items()):
        seen = table[table.auc.notna()]
        axis.hlines(seen.index, seen.train_auc, seen.auc, color=GRAY, linewidth=1, capstyle="round", zorder=1)
        axis.scatter(seen.train_auc, seen.index, s=55, facecolor="white", edgecolor=BLUE, linewidth=2)
        axis.scatter(seen.auc, seen.index, s=60, color=VERMILION)
        for y, share in seen.accuracy.items():
            axis.text(1.015, y, f"{share:.1%}", va="center", fontsize=10)
        for y in table.index.difference(seen.index):
            axis.text(0.5, y, "  can't be seen in this copy", va="center", fontsize=9, color=GRAY, style="italic")
        axis.set_title(title)
        axis.axvline(0.5, **DOTTED)
        name_rows(axis, table.clue.replace(WORDS), 0.6, 0.6)
    axes[0, 0].text(1.015, -0.9, "test right", fontsize=9, color=GRAY)
    axes[-1, 0].set(xlim=(low, 1.09), xticks=np.arange(low, 1.01, 0.1))
    axes[-1, 0].set_xlabel("AUC: ring on train, dot on test (0.5 is guessing)")
    return figure


def shift(finding: dict, other: str) -> Figure:
    """AUCs of `shortcuts.shift` as a table of colors: what tells the folders apart, what tells the classes apart.

    `other` is the name of class 1.
    """
    table = pd.DataFrame(finding["rows"]).set_index("fact").astype(float).rename(index=WORDS)
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 0.33 * len(table) + 1), sharey=True)
    films = {"normal": "normal films", "other": f"{other} films"}
    folders = {"train": "in train", "test": "in test"}
    style = {"vmin": 0.1, "vmax": 0.9, "cmap": "RdBu_r", "fmt": ".2f", "linewidths": 1.5, "annot_kws": {"fontsize": 10}}
    for axis, names, title in ((axes[0], films, "test against train"), (axes[1], folders, f"{other} against normal")):
        sns.heatmap(table[[*names]].rename(columns=names), annot=True, cbar=False, ax=axis, **style)
        axis.set(title=title, ylabel="")
        axis.tick_params(length=0)
    axes[0].tick_params(axis="y", rotation=0)
    return figure


def letters(facts: pd.DataFrame, manifest: pd.DataFrame, inside: pd.Series) -> Figure:
    """Where the letter stands, and how large it is, by class and folder; films `inside` the hard block in black."""
    figure, axes = plt.subplots(1, 4, figsize=(9.4, 3.0), sharex=True, sharey=True)
    names = class_names(manifest).str.lower()
    for axis, (part, label) in zip(axes, [("train", 0), ("train", 1), ("test", 0), ("test", 1)]):
        rows = (manifest.folder == part) & (manifest.label == label)
        for chosen, color in ((rows & ~inside, BY_LABEL[label]), (rows & inside, "black")):
            own, alpha = facts[chosen], min(0.7, 0.1 + 60 / rows.sum())
            size = 8e3 * own.letter_size**2
            axis.scatter(own.letter_left, own.letter_top, s=size, color=color, alpha=alpha, linewidths=0)
        axis.set(title=f"{names[label]}, {part}", xlabel="from the left", xlim=(-0.02, 0.32), ylim=(0.67, -0.02))
    axes[0].set_ylabel("from the top")
    return figure
