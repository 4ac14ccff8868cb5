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
SIZE, BATCH = 128, 32  # of every picture, pixels, and images a batch: the same for both of a pair
WARM, STEPS = 4, 40  # training steps before the clock runs, and while it does


def _folder(wanted: str) -> Path:
    folder = Path(wanted)
    if not any(folder.glob("*/*.jpeg")):
        sys.exit(
            f"Stopped: {folder} has no <class>/*.jpeg: give the train folder of the full-size X-rays, "
            "as in make benchmark FILES=chest_xray/train."
        )
    return folder


def _table(folder: Path):
    import hashlib

    import pandas as pd

    files = sorted(folder.glob("*/*.jpeg"))
    return pd.DataFrame(
        {
            "path": [path.relative_to(folder).as_posix() for path in files],
            "sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
        }
    )


def _dataset(folder: Path):
    from cxr.project.backend import keras

    return keras.utils.image_dataset_from_directory(
        folder,
        label_mode=None,
        color_mode="grayscale",
        shuffle=False,
        image_size=(SIZE, SIZE),
        batch_size=BATCH,
        verbose=False,
    )


# --- the ways; each returns seconds: of a pass, for an image, or for a batch ----------------------------------


def decode_usual(folder: Path) -> float:
    """One pass of ``image_dataset_from_directory``, after a pass over the first batch that starts TensorFlow."""
    dataset = _dataset(folder)
    for _ in dataset.take(1):
        pass
    started = time.perf_counter()
    for _ in dataset:
        pass
    return time.perf_counter() - started


def _load(folder: Path):
    """The images as `images.load` gives them without a cache, and the seconds it took."""
    from cxr import images

    table = _table(folder)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["CXR_CACHE_DIR"] = scratch
        started = time.perf_counter()
        pictures = images.load(table, folder, SIZE)
        return pictures, time.perf_counter() - started


def decode_ours(folder: Path) -> float:
    """`images.load` without a cache: read, check the fingerprint, decode, write the cache."""
    return _load(folder)[1]


def _many(folder: Path):
    """The images over and over, as many as the train folder has, and labels."""
    import numpy as np

    pictures = _load(folder)[0]
    pictures = pictures[np.arange(4096) % len(pictures)]
    return pictures, (np.arange(len(pictures)) % 2).astype("float32")


def _seconds_of_input(dataset) -> float:
    """For one image, over an epoch; the one before it warms up, and fills a cache."""
    for _ in dataset:
        pass
    started, images = time.perf_counter(), 0
    for batch in dataset:
        images += len(batch[1])
    return (time.perf_counter() - started) / images


def epoch_usual(folder: Path) -> float:
    """The same images from memory as one usually would: ``cache``, ``shuffle``, ``batch``, ``prefetch`` of tf.data."""
    from cxr.project.backend import tf

    pictures, labels = _many(folder)
    dataset = tf.data.Dataset.from_tensor_slices((pictures[..., None], labels, labels)).cache()
    return _seconds_of_input(dataset.shuffle(len(labels)).batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE))


def epoch_ours(folder: Path) -> float:
    """`training.Batches`, as ``fit`` receives them."""
    from cxr import training

    pictures, labels = _many(folder)
    return _seconds_of_input(training.Batches(pictures, labels, labels, BATCH, seed=0).epochs(0, 1))


def _network():
    """The network of 04 with new random weights, from its file, and the recipe of 03."""
    from cxr.project.backend import keras

    kept = ROOT / "results" / "04_xray_classification_model.keras"
    if not kept.exists():
        sys.exit(f"Stopped: {kept} is missing: run 04_train.ipynb, or git checkout results.")
    recipe = json.loads((ROOT / "results" / "03_augmentation.json").read_text(encoding="utf-8"))
    return keras.models.clone_model(keras.models.load_model(kept, compile=False)), recipe


def _keras_io():
    """The network of keras.io's example on these X-rays (pneumonia classification on TPU), for gray pictures of 128."""
    from cxr.project.backend import keras

    layers = keras.layers
    entry = x = layers.Input((SIZE, SIZE, 1))
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


def _compiled(learner):
    from cxr.project.backend import keras

    learner.compile(
        keras.optimizers.AdamW(1e-3), "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(1000, name="auc")]
    )
    return learner


def _noise(images: int):
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (images, SIZE, SIZE)).astype("uint8"), rng.integers(0, 2, images).astype("float32")


def _bare(learner):
    """The compiled training step alone, on one batch that does not change: a function without arguments."""
    from cxr.project.backend import tf

    pictures, labels = _noise(BATCH)
    batch = tuple(map(tf.constant, (pictures[..., None], labels, labels + 1)))
    learner.train_on_batch(*batch)  # makes the variables of the optimizer and of the metrics
    step = tf.function(learner.train_step)
    return lambda: step(batch)["loss"].numpy()


def _seconds_an_image(learner) -> float:
    step = _bare(_compiled(learner))
    for _ in range(WARM):
        step()
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - started) / STEPS / BATCH


def train_keras_io(folder: Path) -> float:
    """Training steps of keras.io's network on constant data, pictures of 128x128, batches of 32."""
    return _seconds_an_image(_keras_io())


def train_ours(folder: Path) -> float:
    """Training steps of our network on the same, no augmentation."""
    return _seconds_an_image(_network()[0])


def _fit(learner, steps: int, epochs: int) -> float:
    """Seconds a step in ``fit`` with `training.Run`, validation of 32 images included; median of all epochs but one."""
    from cxr import training

    pictures, labels = _noise(steps * BATCH)
    batches = training.Batches(pictures, labels, labels + 1, BATCH, seed=0)
    with (
        tempfile.TemporaryDirectory() as scratch,
        training.Run(learner, batches, {}, Path(scratch), epochs, epochs, brief=True) as run,
    ):
        learner.fit(
            batches.epochs(0, epochs),
            steps_per_epoch=steps,
            shuffle=False,
            epochs=epochs,
            verbose=0,
            callbacks=[run],
            validation_data=(pictures[:BATCH, ..., None], labels[:BATCH]),
        )
    return statistics.median(run.seconds[1:]) / steps


def train_augmented(folder: Path) -> float:
    """The same network behind its augmentation, fed and trained as in 04."""
    from cxr import augment
    from cxr.project.backend import keras

    network, recipe = _network()
    learner = keras.Sequential([keras.layers.Input(network.input_shape[1:]), augment.build(recipe["layers"]), network])
    return _fit(_compiled(learner), STEPS, 3) / BATCH


def loop(folder: Path) -> list[float]:
    """Seconds a step: the compiled step alone, and the same in ``fit`` with our feed and our callback.

    The network is one small layer, so that the loop is most of it; median of five times 256 steps.
    """
    from cxr.project.backend import keras

    network = keras.Sequential(
        [
            keras.layers.Input((SIZE, SIZE, 1)),
            keras.layers.AveragePooling2D(32),
            keras.layers.Flatten(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    inside = _fit(_compiled(network), 256, 6)
    step, alone = _bare(network), []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(256):
            step()
        alone.append((time.perf_counter() - started) / 256)
    return [statistics.median(alone), inside]


def _framing(size: int, ours: bool) -> float:
    """Seconds for a batch of 32: `RandomFraming`'s resampling in a compiled function; noise, drawn changes."""
    import numpy as np

    from cxr import augment
    from cxr.project.backend import keras, tf

    rng = np.random.default_rng(0)
    images = tf.constant(rng.uniform(0, 255, (BATCH, size, size, 1)).astype("float32"))
    change = np.array([1, 0, 0, 0, 1, 0]) + rng.uniform(-1, 1, (BATCH, 6)) * [0.3, 0.15, 30, 0.15, 0.3, 30]
    change = tf.constant(np.pad(change, ((0, 0), (0, 2))).astype("float32"))

    @tf.function
    def framed():
        new = (
            augment.resample(images, change[:, :6])
            if ours
            else keras.ops.image.affine_transform(images, change, fill_mode="constant")
        )
        return tf.reduce_sum(new)

    for _ in range(20):
        framed()
    started = time.perf_counter()
    for _ in range(200):
        framed()
    return (time.perf_counter() - started) / 200


def framing_128_usual(folder: Path) -> float:
    return _framing(128, False)


def framing_128_ours(folder: Path) -> float:
    return _framing(128, True)


def framing_160_usual(folder: Path) -> float:
    return _framing(160, False)


def framing_160_ours(folder: Path) -> float:
    return _framing(160, True)


def errors(folder: Path) -> dict[str, float]:
    """Mean distance from a full decode, antialiased by Pillow's Lanczos filter, in gray levels of 255."""
    import numpy as np
    from PIL import Image

    from cxr import images

    usual = np.concatenate([batch.numpy() for batch in _dataset(folder)])[..., 0]
    files = sorted(folder.glob("*/*.jpeg"))
    ours = np.stack([images.decode(path, SIZE) for path in files]).astype(float)
    full = np.stack(
        [np.asarray(Image.open(path).convert("L").resize((SIZE, SIZE), Image.Resampling.LANCZOS)) for path in files]
    ).astype(float)
    return {"usual": float(np.abs(usual - full).mean()), "ours": float(np.abs(ours - full).mean())}


WAYS = {
    way.__name__: way
    for way in (
        decode_usual,
        decode_ours,
        epoch_usual,
        epoch_ours,
        train_keras_io,
        train_ours,
        train_augmented,
        framing_128_usual,
        framing_128_ours,
        framing_160_usual,
        framing_160_ours,
        loop,
        errors,
    )
}
PAIRS = [
    ("decode the full-size files to 128x128, one pass", "decode_usual", "decode_ours", "seconds"),
    (
        "an epoch of input from memory, shuffled: tf.data's `cache` against ours, as `fit` receives it",
        "epoch_usual",
        "epoch_ours",
        "rate",
    ),
    (
        "train: keras.io's network against ours, both on 128x128x1, batches of 32",
        "train_keras_io",
        "train_ours",
        "rate",
    ),
    (
        "our network on constant data, and trained as in 04: the share of input, augmentation and callback",
        "train_ours",
        "train_augmented",
        "share",
    ),
    (
        "framing of 32 pictures of 128x128: `affine_transform` against ours, which XLA compiles too",
        "framing_128_usual",
        "framing_128_ours",
        "seconds",
    ),
    ("the same, 160x160", "framing_160_usual", "framing_160_ours", "seconds"),
]


def _shown(values: list[float], form: str) -> dict[str, str]:
    return {
        "ratio": form.format(statistics.median(values)),
        "range": f"{form.format(min(values))} to {form.format(max(values))}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", default=str(ROOT / "chest_xray" / "train"), help="folder of full-size class folders")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", choices=WAYS, help="time one way, for this script's own use")
    options = parser.parse_args()
    folder = _folder(options.files)
    if options.one:
        print(json.dumps(WAYS[options.one](folder)))
        return

    def measured(way: str):
        done = subprocess.run(
            [sys.executable, __file__, "--files", str(folder), "--one", way],
            capture_output=True,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        if done.returncode:
            sys.exit(f"Stopped: {way} could not be measured:\n{done.stderr[-2000:]}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    rows = []
    for title, usual, ours, unit in PAIRS:
        pairs = [(measured(usual), measured(ours)) for _ in range(options.repeats)]
        left, right = (statistics.median(part) for part in zip(*pairs))
        ratios = [1 - a / b if unit == "share" else a / b for a, b in pairs]
        said = [f"{value:.3g} s" if unit == "seconds" else f"{1 / value:,.0f} images/s" for value in (left, right)]
        rows.append(
            {
                "what": title,
                "usual": said[0],
                "ours": said[1],
                **_shown(ratios, "{:.0%}" if unit == "share" else "{:.1f}x"),
            }
        )
        print(rows[-1], flush=True)
    steps = [[1000 * seconds for seconds in measured("loop")] for _ in range(options.repeats)]
    alone, inside = (statistics.median(part) for part in zip(*steps))
    rows.append(
        {
            "what": "a step of next to no network: compiled, alone, and in `fit` with our feed and callback",
            "usual": f"{alone:.2f} ms",
            "ours": f"{inside:.2f} ms",
            **_shown([b - a for a, b in steps], "{:+.2f} ms"),
        }
    )
    print(rows[-1], flush=True)
    off = measured("errors")
    rows.append(
        {
            "what": "distance from a full antialiased decode",
            "usual": f"{off['usual']:.2f} gray levels",
            "ours": f"{off['ours']:.2f} gray levels",
            "ratio": f"{off['usual'] / off['ours']:.1f}x",
            "range": "",
        }
    )
    print(rows[-1])
    target = Path(__file__).with_name("speed.csv")
    with open(target, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(
        f"{target.relative_to(ROOT).as_posix()} written ({os.cpu_count()} CPU cores, {options.repeats} pairs a row); "
        "`make figures` puts it into README."
    )


if __name__ == "__main__":
    main()
