"""Keras, on TensorFlow unless ``KERAS_BACKEND`` says otherwise, without TensorFlow's start-up notes.

What else it has to say is passed on.
"""

import importlib
import os
import re
import sys
import tempfile
from contextlib import contextmanager
from typing import Any

NOTES = (
    "I0000",
    "WARNING: All log messages before absl",
    "To enable the following instructions",
    "INFO: Created TensorFlow Lite XNNPACK delegate",
)
IGNORED = ("Ignored output_format", "Ignored drop_control_dependency")  # of TensorFlow's own call of its converter
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
                if line.strip() and not (line.startswith(NOTES) or any(what in line for what in (NO_GPU, *IGNORED))):
                    print(line, file=sys.stderr)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # no notes later on; warnings and errors stay
with without_notes():
    import keras

    tf: Any = None  # KERAS_BACKEND names another: the layers and the network run on it, `training.devices` does not
    if keras.backend.backend() == "tensorflow":
        tf = importlib.import_module("tensorflow")
        # five networks in one notebook are traced five times, as they must be; where an export lies while it is made
        # is nobody's business
        tf.get_logger().addFilter(lambda record: not re.search("retracing|Assets written", record.getMessage()))
        tf.config.list_physical_devices()  # looks for GPUs, and complains where there is none

__all__ = ["keras", "tf"]
