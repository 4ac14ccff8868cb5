"""The network as a file: half as large for Keras, LiteRT for phones and small machines, SavedModel for servers."""

import io
import json
import re
import shutil
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np

from .backend import keras, tf, without_notes
from .paths import Problem, display_path

WEIGHTS = "model.weights.h5"  # of a .keras file
SMALL = 2**13  # numbers; smaller arrays stay exact


def in_half(content: bytes, least: float) -> bytes:
    """A ``.keras`` file with its large arrays of weights in half precision, and packed.

    Keras reads it as any other, and computes with 32 bits as before. It carries no date: the same weights give the same
    bytes. Arrays of `least` numbers or more are stored with 16 bits a number, smaller ones with 24 of their 32, and
    those below `SMALL` as they are: what is small stands early in a network, and its errors grow on the way.
    """
    packed, weights = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as bundle, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        with h5py.File(io.BytesIO(bundle.read(WEIGHTS))) as old, h5py.File(weights, "w") as new:
            old.visititems(lambda name, entry: _copy(entry, new, name, least))
        for name in bundle.namelist():
            part = weights.getvalue() if name == WEIGHTS else bundle.read(name)
            if name == "metadata.json":
                part = json.dumps(json.loads(part) | {"date_saved": ""}).encode()
            if name == "config.json":
                part = _numbered(part)
            target.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), part, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _numbered(config: bytes) -> bytes:
    """A network's description in which shared objects are numbered in order, not by their place in memory."""
    seen: dict[bytes, int] = {}
    return re.sub(rb'(?<="shared_object_id": )\d+', lambda m: b"%d" % seen.setdefault(m[0], len(seen)), config)


def _copy(entry: h5py.Group | h5py.Dataset, new: h5py.File, name: str, least: float) -> None:
    if isinstance(entry, h5py.Dataset):
        values = entry[()]
        if values.dtype == np.float32 and values.size >= SMALL:
            values = _rounded(values, least)
        packing = dict(chunks=values.shape, shuffle=True, compression="gzip") if values.size > 64 else {}
        copy = new.create_dataset(name, data=values, **packing)
    else:
        copy = new.require_group(name)
    copy.attrs.update(entry.attrs)


def _rounded(values: np.ndarray, least: float) -> np.ndarray:
    if values.size >= least and np.abs(values).max() <= np.finfo(np.float16).max:
        return values.astype(np.float16)
    return ((values.view(np.uint32) + 0x80) & 0xFFFFFF00).astype(np.uint32).view(np.float32)  # the last byte is 0


def bundles(network: keras.Model, folder: Path) -> tuple[Path, Path]:
    """Write the network as a TensorFlow SavedModel, which is a folder, and as a ``.tflite`` file; where they lie.

    Both take gray values of 0 to 255. Those of an earlier call are replaced; Problem where `folder` can't be written.
    """
    saved_model, litert = folder / "saved_model", folder / "model.tflite"
    try:
        shutil.rmtree(saved_model, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        with without_notes():
            network.export(saved_model, format="tf_saved_model", verbose=False)
            litert.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(saved_model)).convert())
    except OSError as error:
        why = f"{display_path(folder)} can't be written ({error.strerror or error})"
        remedy = "free the disk or make the folder writable, or set CXR_CACHE_DIR to another folder"
        raise Problem(f"{why}: {remedy}.") from error
    return saved_model, litert


def by_litert(path: Path, pictures: np.ndarray) -> np.ndarray:
    """What the ``.tflite`` file says of pictures, uint8 of shape (images, size, size); shape (images, outputs)."""
    with warnings.catch_warnings(), without_notes():
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        runner = tf.lite.Interpreter(model_path=str(path))
        runner.allocate_tensors()
        entry, answer = runner.get_input_details()[0]["index"], runner.get_output_details()[0]["index"]
        found = []
        for picture in pictures.astype(np.float32):
            runner.set_tensor(entry, picture[None, ..., None])
            runner.invoke()
            found.append(runner.get_tensor(answer)[0].copy())
    return np.stack(found)


def by_saved_model(path: Path, pictures: np.ndarray) -> np.ndarray:
    """What the SavedModel says of pictures, uint8 of shape (images, size, size); shape (images, outputs)."""
    with without_notes():
        served = tf.saved_model.load(str(path))
        return served.serve(tf.constant(pictures.astype(np.float32)[..., None])).numpy()
