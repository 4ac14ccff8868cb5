"""How fast is it? Each row of README's speed table, measured: ``make benchmark``.

Every pair of ways is timed one after the other, in a fresh process each, several times over, so that both meet the same
machine; what counts is the ratio of a pair. Absolute times belong to this machine alone.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))
WARM, STEPS = 4, 40  # training steps before the clock runs, and while it does


def _folder(wanted: str) -> Path:
    folder = Path(wanted)
    if not any(folder.glob("*/*.jpeg")):
        sys.exit(f"Stopped: {folder} has no <class>/*.jpeg: give the train folder of the full-size X-rays, "
                 "as in make benchmark FILES=chest_xray/train.")
    return folder


def _table(folder: Path):
    import hashlib

    import pandas as pd

    files = sorted(folder.glob("*/*.jpeg"))
    return pd.DataFrame({"path": [path.relative_to(folder).as_posix() for path in files],
                         "sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]})


def _dataset(folder: Path, size: int):
    from cxr.backend import keras

    return keras.utils.image_dataset_from_directory(folder, label_mode=None, color_mode="grayscale", shuffle=False,
                                                    image_size=(size, size), batch_size=32, verbose=False)


# --- the ways; each returns seconds ---------------------------------------------------------------------------

def decode_usual(folder: Path, size: int) -> float:
    """One pass of ``image_dataset_from_directory``."""
    dataset = _dataset(folder, size)
    started = time.perf_counter()
    for _ in dataset:
        pass
    return time.perf_counter() - started


def _load(folder: Path, size: int):
    """The images as `images.load` gives them without a cache, and the seconds it took."""
    from cxr import images

    table = _table(folder)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["CXR_CACHE_DIR"] = scratch
        started = time.perf_counter()
        pictures = images.load(table, folder, size)
        return pictures, time.perf_counter() - started


def decode_ours(folder: Path, size: int) -> float:
    """`images.load` without a cache: read, check the fingerprint, decode, write the cache."""
    return _load(folder, size)[1]


def epoch_ours(folder: Path, size: int) -> float:
    """One pass of `train.Batches` over the same images in memory, mean of twenty."""
    import numpy as np

    from cxr import train

    pictures, _ = _load(folder, size)
    labels = np.zeros(len(pictures), "float32")
    batches = train.Batches(pictures, labels, labels, 32, seed=0)
    started = time.perf_counter()
    for epoch in range(20):
        batches.shuffle(epoch)
        for i in range(len(batches)):
            batches[i]
    return (time.perf_counter() - started) / 20


def _network():
    """The network and the recipe of 04_train.ipynb: its own cell, run here."""
    import nbformat

    from cxr.backend import keras

    recipe = json.loads((ROOT / "results" / "03_augmentation.json").read_text(encoding="utf-8"))
    cells = nbformat.read(ROOT / "notebooks" / "04_train.ipynb", as_version=4).cells
    names = {"keras": keras, "layers": keras.layers, "IMAGE_SIZE": recipe["image_size"]}
    for cell in cells:
        if cell.source.startswith(("def convolve", "def build_network")):
            exec(cell.source, names)
    return names["build_network"]("network"), recipe


def _keras_io():
    """The network of keras.io's example on these X-rays (pneumonia classification on TPU), at its 180x180x3."""
    from cxr.backend import keras

    layers = keras.layers
    entry = x = layers.Input((180, 180, 3))
    x = layers.Rescaling(1 / 255)(x)
    for _ in range(2):
        x = layers.Conv2D(16, 3, activation="relu", padding="same")(x)
    x = layers.MaxPooling2D()(x)
    for filters, dropped in ((32, 0), (64, 0), (128, 0.2), (256, 0.2)):
        for _ in range(2):
            x = layers.SeparableConv2D(filters, 3, activation="relu", padding="same")(x)
        x = layers.MaxPooling2D()(layers.BatchNormalization()(x))
        x = layers.Dropout(dropped)(x)
    x = layers.Flatten()(x)
    for units, dropped in ((512, 0.7), (128, 0.5), (64, 0.3)):
        x = layers.Dropout(dropped)(layers.BatchNormalization()(layers.Dense(units, activation="relu")(x)))
    return keras.Model(entry, layers.Dense(1, activation="sigmoid")(x))


def _seconds_an_image(learner, batches) -> float:
    """Training steps over `batches`, a sequence that makes each when it is asked for; the first four warm up."""
    learner.compile("adam", "binary_crossentropy")
    for i in range(WARM):
        learner.train_on_batch(*batches[i])
    started, images = time.perf_counter(), 0
    for i in range(WARM, WARM + STEPS):
        batch = batches[i]
        learner.train_on_batch(*batch)
        images += len(batch[1])
    return (time.perf_counter() - started) / images


def _noise(learner, images: int):
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (images, *learner.input_shape[1:])), rng.integers(0, 2, images).astype("float32")


def _on_constant_data(learner, batch: int) -> float:
    pictures, labels = _noise(learner, batch)
    return _seconds_an_image(learner, [(pictures.astype("float32"), labels)] * (WARM + STEPS))


def train_keras_io(folder: Path, size: int) -> float:
    """Training steps of keras.io's network, batches of 16, constant data."""
    return _on_constant_data(_keras_io(), 16)


def train_ours(folder: Path, size: int) -> float:
    """Training steps of our network, batches of 32, constant data, no augmentation."""
    return _on_constant_data(_network()[0], 32)


def train_augmented(folder: Path, size: int) -> float:
    """The same behind its augmentation, fed from memory as in 04."""
    import numpy as np

    from cxr import augment, train
    from cxr.backend import keras

    network, recipe = _network()
    learner = keras.Sequential([keras.layers.Input(network.input_shape[1:]), augment.build(recipe["layers"]), network])
    pictures, labels = _noise(network, (WARM + STEPS) * 32)
    return _seconds_an_image(learner, train.Batches(pictures[..., 0].astype("uint8"), labels, np.ones_like(labels), 32,
                                                    seed=0))


def errors(folder: Path, size: int) -> dict[str, float]:
    """Mean distance from a full decode, antialiased by Pillow's Lanczos filter, in gray levels of 255."""
    import numpy as np
    from PIL import Image

    from cxr import images

    usual = np.concatenate([batch.numpy() for batch in _dataset(folder, size)])[..., 0]
    files = sorted(folder.glob("*/*.jpeg"))
    ours = np.stack([images.decode(path, size) for path in files]).astype(float)
    full = np.stack([np.asarray(Image.open(path).convert("L").resize((size, size), Image.Resampling.LANCZOS))
                     for path in files]).astype(float)
    return {"usual": float(np.abs(usual - full).mean()), "ours": float(np.abs(ours - full).mean())}


WAYS = {way.__name__: way for way in (decode_usual, decode_ours, epoch_ours, train_keras_io, train_ours,
                                      train_augmented)}
PAIRS = [("decode the full-size files to 150x150, once: the whole process, start and imports included", "decode_usual",
          "decode_ours", "process"),
         ("the same, the pass over the files alone", "decode_usual", "decode_ours", "seconds"),
         ("an epoch of input, the same files", "decode_usual", "epoch_ours", "seconds"),
         ("train: keras.io's network against ours", "train_keras_io", "train_ours", "rate"),
         ("ours on constant data, and behind input and augmentation (their share)", "train_ours", "train_augmented",
          "share")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", default=str(ROOT / "chest_xray" / "train"), help="folder of full-size class folders")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", choices=[*WAYS, "errors"], help="time one way, for this script's own use")
    options = parser.parse_args()
    folder = _folder(options.files)
    if options.one:
        print(json.dumps({**WAYS, "errors": errors}[options.one](folder, 150)))
        return

    def measured(way: str, unit: str = ""):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, __file__, "--files", str(folder), "--one", way], capture_output=True,
                              text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
        if done.returncode:
            sys.exit(f"Stopped: {way} could not be measured:\n{done.stderr[-2000:]}")
        took = time.perf_counter() - started
        return took if unit == "process" else json.loads(done.stdout.strip().splitlines()[-1])

    rows = []
    for title, usual, ours, unit in PAIRS:
        pairs = [(measured(usual, unit), measured(ours, unit)) for _ in range(options.repeats)]
        left, right = (statistics.median(part) for part in zip(*pairs))
        ratios = [1 - a / b if unit == "share" else a / b for a, b in pairs]
        shown = "{:.0%}" if unit == "share" else "{:.1f}x" if max(ratios) < 20 else "{:.0f}x"
        said = [f"{value:.3g} s" if unit in ("seconds", "process") else f"{1 / value:.0f} images/s"
                for value in (left, right)]
        rows.append({"what": title, "usual": said[0], "ours": said[1], "ratio": shown.format(statistics.median(ratios)),
                     "range": f"{shown.format(min(ratios))} to {shown.format(max(ratios))}"})
        print(rows[-1], flush=True)
    off = measured("errors")
    rows.append({"what": "distance from a full antialiased decode", "usual": f"{off['usual']:.2f} gray levels",
                 "ours": f"{off['ours']:.2f} gray levels", "ratio": f"{off['usual'] / off['ours']:.1f}x", "range": ""})
    print(rows[-1])
    target = Path(__file__).with_name("speed.csv")
    with open(target, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{target.relative_to(ROOT).as_posix()} written ({os.cpu_count()} CPU cores, {options.repeats} pairs a row); "
          "`make figures` puts it into README.")


if __name__ == "__main__":
    main()
