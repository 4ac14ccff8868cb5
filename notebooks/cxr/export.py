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
SMALL = 2**13  # numbers; smaller arrays stay exact: they stand early in a network, and errors grow on the way


def in_half(content: bytes, least: float) -> bytes:
    """A ``.keras`` file whose arrays of `least` numbers or more have 16 bits a number, others above `SMALL` 24.

    Keras reads it as any other, and computes in 32 bits. It has no date: the same weights give the same bytes.
    """
    packed, weights, seen = io.BytesIO(), io.BytesIO(), dict[bytes, int]()
    with zipfile.ZipFile(io.BytesIO(content)) as bundle, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        with h5py.File(io.BytesIO(bundle.read(WEIGHTS))) as old, h5py.File(weights, "w") as new:
            old.visititems(lambda name, entry: _copy(entry, new, name, least))
        for name in bundle.namelist():
            part = weights.getvalue() if name == WEIGHTS else bundle.read(name)
            if name == "metadata.json":
                part = json.dumps(json.loads(part) | {"date_saved": ""}).encode()
            if name == "config.json":  # shared objects are numbered in order, not by their place in memory
                number = rb'(?<="shared_object_id": )\d+'
                part = re.sub(number, lambda match: b"%d" % seen.setdefault(match[0], len(seen)), part)
            target.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), part, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _copy(entry: h5py.Group | h5py.Dataset, new: h5py.File, name: str, least: float) -> None:
    if isinstance(entry, h5py.Dataset):
        values = entry[()]
        if values.dtype == np.float32 and values.size >= SMALL:
            if values.size >= least and np.abs(values).max() <= np.finfo(np.float16).max:
                values = values.astype(np.float16)
            else:  # the last byte of four is 0
                values = ((values.view(np.uint32) + 0x80) & 0xFFFFFF00).astype(np.uint32).view(np.float32)
        packing = dict(chunks=values.shape, shuffle=True, compression="gzip") if values.size > 64 else {}
        copy = new.create_dataset(name, data=values, **packing)
    else:
        copy = new.require_group(name)
    copy.attrs.update(entry.attrs)


def bundles(network: keras.Model, folder: Path) -> tuple[Path, Path]:
    """Write the network as a TensorFlow SavedModel, a folder, and as a ``.tflite`` file, over those of an earlier call.

    Both take gray values of 0 to 255.
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
        raise Problem(f"{why}: free the disk, or set CXR_CACHE_DIR to another folder.") from error
    return saved_model, litert


def by_litert(path: Path, pictures: np.ndarray) -> np.ndarray:
    """Answers of the ``.tflite`` file to pictures, uint8 of shape (images, size, size): shape (images, outputs)."""
    with warnings.catch_warnings(), without_notes():
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        runner = tf.lite.Interpreter(model_path=str(path)).get_signature_runner()
        (entry,) = runner.get_input_details()
        (answer,) = runner(**{entry: pictures.astype(np.float32)[..., None]}).values()
    return answer


def by_saved_model(path: Path, pictures: np.ndarray) -> np.ndarray:
    """Answers of the SavedModel to such pictures."""
    with without_notes():
        served = tf.saved_model.load(str(path))  # its name keeps its variables alive
        return served.serve(tf.constant(pictures.astype(np.float32)[..., None])).numpy()
