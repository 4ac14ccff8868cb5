"""The network for other places than Keras: LiteRT for phones and small machines, SavedModel for servers."""

import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np

from .backend import keras, tf, without_notes


def bundles(network: keras.Model) -> tuple[bytes, bytes]:
    """The network as a TensorFlow SavedModel, its folder packed into one ``.zip``, and the same as a ``.tflite`` file.

    Both take gray values of 0 to 255.

    Returns
    -------
    saved_model, litert : bytes
        Contents of the two files.
    """
    with tempfile.TemporaryDirectory() as scratch, without_notes():
        model = Path(scratch) / "model"
        network.export(model, format="tf_saved_model", verbose=False)
        packed = shutil.make_archive(str(model), "zip", model)
        return Path(packed).read_bytes(), tf.lite.TFLiteConverter.from_saved_model(str(model)).convert()


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
    """What the packed SavedModel says of pictures, uint8 of shape (images, size, size); shape (images, outputs)."""
    with tempfile.TemporaryDirectory() as scratch, without_notes():
        with zipfile.ZipFile(path) as bundle:
            bundle.extractall(scratch)
        served = tf.saved_model.load(scratch)
        return served.serve(tf.constant(pictures.astype(np.float32)[..., None])).numpy()
