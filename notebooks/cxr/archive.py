"""Extract the archive of X-rays: every member judged first, and then all of them or nothing."""

import errno
import os
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from . import paths
from .paths import Problem, display_path

HANDLE = "paultimothymooney/chest-xray-pneumonia"
PAGE = f"https://www.kaggle.com/datasets/{HANDLE}"
AGAIN = "run 01_download.ipynb again"
SPLITS = ("train", "test", "val")
IMAGES = (".jpeg", ".jpg", ".png")
MAX_BYTES = 8 * 10**9  # the real archive unpacks to 2.4 GB
MAX_RATIO = 100  # JPEG hardly compresses


class BadArchive(Problem):
    """An archive that must not, or cannot, be extracted; `reason` is the middle of its sentence."""

    def __init__(self, archive: Path, reason: str):
        super().__init__(f"{display_path(archive)} {reason}: delete it and download it again from {PAGE}.")
        self.reason = reason


def extract(archive: Path, target: Path) -> None:
    """Extract the X-rays of the zip file `archive` into ``train/``, ``test/`` and ``val/`` of the folder `target`.

    All of them, checked, or nothing: the nested second copy and what macOS adds are left out, the archive and
    whatever else `target` holds stay. A `BadArchive` if it is damaged, unsafe or another data set; another `Problem`
    if the disk is too small, or `target` cannot be written or holds one of the three already.
    """
    archive, target = Path(archive), Path(target)
    incoming = target / ".incoming"
    with explained(target):
        target.mkdir(parents=True, exist_ok=True)
        tidy(target)
        for split in SPLITS:
            if (target / split).exists():
                raise Problem(f"{display_path(target / split)} is already there: move it away and {AGAIN}.")
        with _opened(archive) as bundle:
            members = _members(bundle, archive)
            need_room(target, sum(info.file_size for info, _ in members))
            print(f"Extracting {len(members):,} images.")
            try:
                for info, place in members:
                    path = incoming / place
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with bundle.open(info) as source, open(path, "xb") as file:
                        shutil.copyfileobj(source, file, 1 << 20)  # reading to the end checks the CRC
                (incoming / "READY").touch()
            except BaseException:
                remove(incoming)
                raise
        tidy(target)


def _members(bundle: zipfile.ZipFile, archive: Path) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Judge every member before anything is written; returns those to keep, with their places."""
    total = sum(info.file_size for info in bundle.infolist())
    if total > MAX_BYTES or total > MAX_RATIO * archive.stat().st_size:
        raise BadArchive(archive, f"would unpack to {readable(total)}, which the X-rays never do")
    copies: dict[tuple, dict] = {}
    for info in bundle.infolist():
        name = info.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BadArchive(archive, f"holds a link or device ({name[:80]!r})")
        if name.startswith("/") or ".." in parts or ":" in name or not name.isprintable():
            raise BadArchive(archive, f"holds a name that leaves its folder ({name[:80]!r})")
        if any(len(os.fsencode(part)) > 255 for part in parts):
            raise BadArchive(archive, f"holds a name that is too long ({name[:40]!r}...)")
        junk = "__MACOSX" in parts or parts[-1:] == () or parts[-1].startswith(".")
        depth = next((i for i, part in enumerate(parts) if part in SPLITS), len(parts))
        if junk or len(parts) < depth + 3 or not name.lower().endswith(IMAGES):
            continue
        place = PurePosixPath(*parts[depth:])
        copy = copies.setdefault(parts[:depth], {})
        folded = unicodedata.normalize("NFC", str(place)).casefold()
        if folded in copy:
            raise BadArchive(archive, f"holds {name[:80]!r} twice, apart from upper and lower case")
        copy[folded] = (info, place)
    for outer in sorted(copies, key=len):  # the outermost copy that is one
        if {"train", "test"} <= {place.parts[0] for _, place in copies[outer].values()}:
            return list(copies[outer].values())
    raise BadArchive(archive, "holds no images under train/ and test/, so it is another data set")


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as bundle:
            yield bundle
    except FileNotFoundError as error:
        if Path(error.filename or "") != archive:
            raise
        raise Problem(f"{display_path(archive)} is not there: {by_hand()}.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise BadArchive(archive, "is damaged or cut short") from None
    except (NotImplementedError, RuntimeError):  # how zipfile says: unknown method, password
        raise BadArchive(archive, "is packed in a way that Python cannot read") from None


def tidy(target: Path) -> None:
    """Move what is READY into place, and remove what else an earlier run has left behind."""
    incoming = target / ".incoming"
    if not incoming.is_symlink() and (incoming / "READY").exists():
        for split in reversed(SPLITS):  # train/ goes last, so a kill in between is seen and finished
            if (incoming / split).exists():
                os.rename(incoming / split, target / split)
    remove(incoming)


def remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()  # never what it points to
    elif folder.exists():
        shutil.rmtree(folder)


def by_hand() -> str:
    data = display_path(paths.data_dir())
    return (
        f"download the zip file from {PAGE} yourself, save it as {data}/archive.zip (or unzip it so that "
        f"{data}/train and {data}/test exist) and {AGAIN}"
    )


def readable(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def need_room(folder: Path, count: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < count * 1.05:
        lack = f"{display_path(folder)}/ needs {readable(count)} more and its disk has {readable(free)} free"
        other = "unzip the X-rays on another disk and set CHEST_XRAY_DIR to them"
        raise Problem(f"{lack}: free some space and {AGAIN}, or {other}.")


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn an error of the file system into a sentence about `folder`."""
    try:
        yield
    except OSError as error:
        what = os.strerror(error.errno) if error.errno else type(error).__name__
        text = f"cannot be used ({what}): see to that folder and {AGAIN}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Problem(f"The disk of {display_path(folder)}/ is full: free some space and {AGAIN}.") from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            text = "may not be read or written by this account: change its permissions, or set CHEST_XRAY_DIR to a "
            text += "folder that already holds the X-rays"
        raise Problem(f"{display_path(folder)}/ {text}.") from None
