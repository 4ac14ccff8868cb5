"""Files from the reader's own machine: here, those in the folder ``COLAB_UPLOAD``."""

import os
from pathlib import Path


def upload(target_dir: str = "") -> dict[str, bytes]:
    """Put the chosen files into `target_dir`, which is made, and return their contents by name.

    Colab waits for the reader. Without ``COLAB_UPLOAD`` nobody is there, and the notebook would wait for ever.
    """
    if "COLAB_UPLOAD" not in os.environ:
        raise RuntimeError("nobody is there to choose files: the notebook would wait for ever")
    found = {path.name: path.read_bytes() for path in sorted(Path(os.environ["COLAB_UPLOAD"]).iterdir())}
    target = Path(target_dir)
    target.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        (target / name).write_bytes(content)
    return found
