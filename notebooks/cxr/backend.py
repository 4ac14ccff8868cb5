"""Keras on TensorFlow, whatever ``~/.keras/keras.json`` says, without TensorFlow's start-up notes."""

import os
import sys
import tempfile
from contextlib import contextmanager

from .paths import Problem

NOTES = ("I0000", "WARNING: All log messages before absl", "To enable the following instructions")
NO_GPU = "failed call to cuInit"  # said as an error on every machine without an NVIDIA GPU


@contextmanager
def without_notes():
    """Hold back what compiled code writes to the error stream, then pass on all but the notes."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines():
                if line.strip() and not (line.startswith(NOTES) or NO_GPU in line):
                    print(line, file=sys.stderr)


loaded = sys.modules.get("keras")
backend = loaded.config.backend() if loaded else os.environ.get("KERAS_BACKEND") or "tensorflow"
if backend != "tensorflow":
    raise Problem(f"KERAS_BACKEND is {backend}, and this project takes TensorFlow: unset it, and restart the kernel.")
os.environ["KERAS_BACKEND"] = backend
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # no notes later on; warnings and errors stay
with without_notes():
    import keras
    import tensorflow as tf

    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    # five networks in one notebook are traced five times, as they must be
    tf.get_logger().addFilter(lambda record: "retracing" not in record.getMessage())
    tf.config.list_physical_devices()  # looks for GPUs, and complains where there is none
