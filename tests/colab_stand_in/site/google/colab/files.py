"""Files from the reader's own machine: here, those in the folder ``COLAB_UPLOAD``; without it, the reader cancels."""

import os
from pathlib import Path


def upload(target_dir: str = "") -> dict[str, bytes]:
    """Put the chosen files into `target_dir`, which is made, and return their contents by name."""
    chosen = os.environ.get("COLAB_UPLOAD")
    found = {path.name: path.read_bytes() for path in sorted(Path(chosen).iterdir())} if chosen else {}
    target = Path(target_dir)
    target.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        (target / name).write_bytes(content)
    return found
