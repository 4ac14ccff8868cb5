"""Keras, on TensorFlow unless ``KERAS_BACKEND`` says otherwise, without TensorFlow's start-up notes.

What else it has to say is passed on.
"""

import os
import sys
import tempfile
from contextlib import contextmanager

NOTES = ("I0000", "WARNING: All log messages before absl", "To enable the following instructions")
NO_GPU = "failed call to cuInit"  # said as an error on every machine without an NVIDIA GPU


@contextmanager
def _without_notes():
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
                if line.strip() and not line.startswith(NOTES) and NO_GPU not in line:
                    print(line, file=sys.stderr)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # no notes later on; warnings and errors stay
with _without_notes():
    import keras

    tf = None  # KERAS_BACKEND names another backend: the layers and the network run on it, `train.devices` does not
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # five networks in one notebook are traced five times, as they must be
        tf.get_logger().addFilter(lambda record: "retracing" not in record.getMessage())
        tf.config.list_physical_devices()  # looks for GPUs, and complains where there is none

__all__ = ["keras", "tf"]
