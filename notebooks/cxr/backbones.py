"""MobileNetV2 as it learned from photographs (ImageNet): where its weights are."""

import os
import socket
import warnings

from .backend import keras
from .paths import Problem, display_path, resolve

FILES = "mobilenet_v2_{0}*_*.h5", "mobilenet_v2_*_{0}_*_no_top.h5"  # of this project, and of Keras, by width
# weights were made for a few sizes, and serve others as well
warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square", UserWarning)


def weights(width: float = 1.0) -> str:
    """What ``keras.applications.MobileNetV2(weights=...)`` takes for a network of this `width` (its ``alpha``).

    A file in the folder ``KERAS_WEIGHTS_DIR``; else "imagenet", which Keras downloads once. Both are tried here.
    """
    folder, given = os.environ.get("KERAS_WEIGHTS_DIR"), "imagenet"
    remedy = "unset KERAS_WEIGHTS_DIR and Keras downloads the weights"
    if folder:
        folder = resolve(folder)
        if not folder.is_dir():
            raise Problem(f"KERAS_WEIGHTS_DIR names {display_path(folder)}, which is no folder: set it, or {remedy}.")
        found = (path for name in FILES for path in sorted(folder.glob(name.format(width))))
        given = str(next(found, given))
    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(30)
        keras.applications.MobileNetV2(include_top=False, alpha=width, weights=given)
    except Exception as error:  # h5py and Keras raise nearly anything on a damaged file, or without a network
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        if given != "imagenet":
            raise Problem(f"{display_path(given)} does not fit MobileNetV2 ({why}): replace it, or {remedy}.") from None
        name = FILES[1].format(width).replace("*", "...")
        raise Problem(
            f"MobileNetV2's weights can't be downloaded ({why}): go online, or set KERAS_WEIGHTS_DIR to a folder that "
            f"holds {name}."
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return given
