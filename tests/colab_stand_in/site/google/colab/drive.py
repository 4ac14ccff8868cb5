"""Google Drive: here, the folder in the environment variable ``COLAB_DRIVE``; without it, the reader refuses."""

import os
from pathlib import Path


def mount(mountpoint: str) -> None:
    """Show the Drive at `mountpoint`, which must be empty or not there, as Colab asks it too."""
    point = Path(mountpoint)
    if (point / "MyDrive").exists():
        print(
            f"Drive already mounted at {mountpoint}; to attempt to forcibly remount, call "
            f'drive.mount("{mountpoint}", force_remount=True).'
        )
        return
    if "COLAB_DRIVE" not in os.environ:
        raise ValueError("mount failed")
    if point.exists() and any(point.iterdir()):
        raise ValueError("Mountpoint must not already contain files")
    folder = Path(os.environ["COLAB_DRIVE"])
    (folder / "MyDrive").mkdir(parents=True, exist_ok=True)
    if point.exists():
        point.rmdir()
    point.symlink_to(folder)
    print(f"Mounted at {mountpoint}")
