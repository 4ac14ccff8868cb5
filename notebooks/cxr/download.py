"""Find the chest X-rays, or fetch them once from Kaggle; the data set is public and needs no account.

`kagglehub` goes on with half an archive in its own cache, and marks a folder there as complete once all is extracted.
Where it is refused, the command line of `kaggle` is tried. A zip file in ``chest_xray/`` comes before both.
"""

import os
import shutil
import stat
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from unittest.mock import patch

from filelock import FileLock

from . import paths
from .paths import Problem, display_path

HANDLE, VERSION = "paultimothymooney/chest-xray-pneumonia", 2
PAGE = f"https://www.kaggle.com/datasets/{HANDLE}"
MOUNTS = ("/kaggle/input/chest-xray-pneumonia", f"/kaggle/input/datasets/{HANDLE}")
AGAIN = "run 01_download.ipynb again"
SORTED = "make train/ and test/ there, each with normal/ and a folder for every other class (see docs/chain.md)"
BY_HAND = f"download the zip from {PAGE} to chest_xray/archive.zip and {AGAIN}, or set SAMPLE = True there"
SECONDS = 60  # without an answer; the libraries would wait for ever
NEEDED = 3.7e9  # bytes: the archive, and the films in it, each of which it holds twice
LARGEST, RATIO = 8e9, 100  # bytes that an archive may unpack to, and times its own size: JPEG hardly compresses
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
OURS = (".md", ".txt", ".zip", ".npz", ".part", ".crdownload", ".ini", ".db", "sample")  # no other data set


def find() -> Path | None:
    """The folder on this machine that directly holds ``train/`` and ``test/``, or None; nothing is fetched.

    It is ``CHEST_XRAY_DIR`` or the sample where one was chosen, else ``chest_xray/``, a Kaggle input or kagglehub's.
    """
    data = paths.data_dir()
    with _explained(data):
        if found := _films_in(data):
            return found
        if os.environ.get("CHEST_XRAY_DIR"):
            remedy = f"{SORTED}, or unset it"
            if "train" in _parts(data):
                remedy = "move all films of every fifth patient into test/, with the same folders as in train/"
            raise Problem(f"CHEST_XRAY_DIR is {display_path(data)}, which holds no train/ and test/: {remedy}.")
        names = sorted(path.name for path in data.iterdir()) if data.is_dir() else []
        if others := [name for name in names if name[0] not in "._" and not name.lower().endswith(OURS)]:
            lack = f"{display_path(data)}/ holds {', '.join(others[:3])} but no train/ and test/ with class folders"
            raise Problem(f"{lack}: {SORTED}, or move that away and {AGAIN}, or set CHEST_XRAY_DIR to the X-rays.")
        complete = sorted(_cache().parent.glob("*.complete"))  # without this mark a download may be half
        places = [*map(Path, MOUNTS), *(mark.parent / "versions" / mark.stem for mark in complete)]
        return next(filter(None, map(_films_in, places)), None)


def ensure(sample: bool | None = None) -> Path:
    """Find the X-rays or fetch them, and print where they are; `sample` chooses the sample or the full set."""
    if sample is not None:
        paths.use_sample(sample)
    folder = find() or fetch()
    print(f"Using the X-rays in {display_path(folder)}/")
    return folder


def fetch() -> Path:
    """Take a zip file from the data folder, or fetch the X-rays from Kaggle."""
    data = paths.data_dir()
    with _explained(data):
        data.mkdir(parents=True, exist_ok=True)
        with FileLock(data / ".lock"):  # another notebook that fetches them is waited for
            if found := find():
                return found
            return extract(archive, data) if (archive := next(data.glob("*.zip"), None)) else _from_kaggle(data)


def extract(archive: Path, data: Path) -> Path:
    """Extract the films of a zip file to ``chest_xray/`` in the folder `data`: all of them, checked, or none."""
    unfinished, target = data / ".unfinished", data / "chest_xray"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with _explained(data), zipfile.ZipFile(archive) as bundle:
            members = _members(bundle, archive.stat().st_size)
            _need_room(data, sum(info.file_size for info, _ in members))
            print(f"Extracting {len(members):,} films.", flush=True)
            for info, place in members:
                (unfinished / place).parent.mkdir(parents=True, exist_ok=True)
                with bundle.open(info) as source, open(unfinished / place, "xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)  # reading to the end checks the CRC
            os.rename(unfinished, target)
    except DAMAGED as error:
        lack = f"{display_path(archive)} is damaged, or no archive of the X-rays ({error})"
        raise Problem(f"{lack}: delete it and download it again from {PAGE}.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _members(bundle: zipfile.ZipFile, size: int) -> list[tuple[zipfile.ZipInfo, str]]:
    """The films of an archive of `size` bytes and their places, without the nested second copy and what macOS adds."""
    total, found = sum(info.file_size for info in bundle.infolist()), dict[tuple, dict]()
    if total > LARGEST or total > RATIO * size:
        raise zipfile.BadZipFile(f"it would unpack to {total / 1e9:.1f} GB, which the X-rays never do")
    for info in bundle.infolist():
        name = info.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        unsafe = name.startswith("/") or ".." in parts or ":" in name or not name.isprintable()
        if unsafe or stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise zipfile.BadZipFile(f"it holds a link or a name that leaves its folder ({name[:80]!r})")
        start = next((i for i, part in enumerate(parts) if part.lower() in ("train", "val", "test")), len(parts))
        junk = "__MACOSX" in parts or parts[-1:] == () or parts[-1].startswith(".")
        if not junk and len(parts) >= start + 3 and name.lower().endswith((".jpeg", ".jpg", ".png")):
            films, place = found.setdefault(parts[:start], {}), "/".join(parts[start:])
            if films.setdefault(place.casefold(), (info, place))[0] is not info:
                raise zipfile.BadZipFile(f"it holds {place[:80]!r} twice, apart from upper and lower case")
    for outer in sorted(found, key=len):
        if {"train", "test"} <= {place.split("/")[0].lower() for _, place in found[outer].values()}:
            return list(found[outer].values())
    lack = f"{Path(str(bundle.filename)).name} holds no images under train/ and test/"
    raise Problem(f"{lack}: unpack it in another folder, {SORTED}, and name that in CHEST_XRAY_DIR.")


def _from_kaggle(data: Path) -> Path:
    """By kagglehub, then by the command line of `kaggle`; what arrives damaged is fetched once more."""
    _cache().parent.mkdir(parents=True, exist_ok=True)
    _need_room(_cache().parent, NEEDED)
    if (paths.ROOT / "kaggle.json").exists():
        os.environ.setdefault("KAGGLE_CONFIG_DIR", str(paths.ROOT))
    login = Path(os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle", "kaggle.json")
    if login.exists() and login.stat().st_mode & 0o044:
        print("kaggle.json can be read by other users of this machine: run chmod 600 on it.")
    for _ in range(2):
        try:
            if folder := _films_in(_by_kagglehub()):
                return folder
        except ImportError:
            raise Problem(f"kagglehub is not installed here: install requirements.txt, or {BY_HAND}.") from None
        except OSError as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in (401, 403, 404):
                command = [sys.executable, "-m", "kaggle", "datasets", "download", HANDLE, "-p", str(data)]
                if subprocess.run(command).returncode == 0:
                    return extract(data / f"{HANDLE.split('/')[1]}.zip", data)
            raise Problem(f"{_sentence(status, f'{type(error).__name__} {error}')}, or {BY_HAND}.") from None
        except Exception as error:  # a wrong checksum, a wrong CRC, no zip file, ...
            if "credentials" in str(error):
                raise Problem(f"kaggle.json is no Kaggle login: delete it, none is needed, and {AGAIN}.") from None
        for leftover in (_cache(), _cache().with_suffix(".complete")):  # or they would be taken for good ones
            leftover.unlink(missing_ok=True)
        print("The archive is damaged.", flush=True)
    raise Problem(f"What Kaggle sends is damaged, or a login page, twice in a row: {BY_HAND}.")


def _sentence(status: int | None, text: str) -> str:
    """What to do about an error of the transfer; its own text is not printed, since it may quote a header."""
    if status == 407 or "ProxyError" in text:
        lack = "The proxy in HTTPS_PROXY can't be reached, or asks for a login (HTTP 407)"
        return f"{lack}: correct it, perhaps with user:password@, and {AGAIN}"
    if "CERTIFICATE" in text.upper() or "SSLError" in text:
        lack = "The certificate shown for Kaggle is not trusted here, perhaps that of a proxy"
        return f"{lack}: set REQUESTS_CA_BUNDLE to the file of its authority and {AGAIN}"
    if status in (401, 403):
        login = "make a new token at https://www.kaggle.com/settings, save it as kaggle.json in the project"
        return f"Kaggle asks for a login, or refuses yours (HTTP {status}): {login} and {AGAIN}"
    lack = f"Kaggle answered HTTP {status}" if status else "Kaggle can't be reached or broke off"
    return f"{lack}: check the network, wait ten minutes and {AGAIN}, which goes on"


def _cache() -> Path:
    """Where kagglehub keeps the archive while it arrives."""
    folder = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache/kagglehub")
    return folder / "datasets" / HANDLE / f"{VERSION}.archive"


def _by_kagglehub() -> Path:
    """Fetch for as long as each start brings something new."""
    from kagglehub import dataset_download
    from requests.adapters import HTTPAdapter

    def send_in_time(self, request, stream=False, timeout=None, **options):
        return send(self, request, stream=stream, timeout=timeout or SECONDS, **options)

    os.environ |= {"DISABLE_KAGGLE_CACHE": "1", "DISABLE_COLAB_CACHE": "1"}  # what they promise to mount may never come
    send, arrived = HTTPAdapter.send, 0
    with patch.object(HTTPAdapter, "send", send_in_time):
        while True:
            try:
                return Path(dataset_download(f"{HANDLE}/versions/{VERSION}"))
            except OSError:
                before, arrived = arrived, _cache().stat().st_size if _cache().exists() else 0
                if arrived <= before:
                    raise
                print("The connection broke; going on from what has arrived.", flush=True)


def _films_in(folder: Path) -> Path | None:
    """The folder in or below `folder` that holds train/ and test/; Kaggle's archive nests it twice."""
    places = (folder, folder / "chest_xray", folder / "chest_xray" / "chest_xray")
    return next((place for place in places if {"train", "test"} <= _parts(place)), None)


def _parts(folder: Path) -> set[str]:
    """Lower-case names of the sub-folders that have a folder per class in them."""
    inside = [part for part in folder.iterdir() if part.is_dir()] if folder.is_dir() else []
    return {part.name.lower() for part in inside if any(x.is_dir() and x.name[0] not in "._" for x in part.iterdir())}


def _need_room(folder: Path, count: float) -> None:
    if (free := shutil.disk_usage(folder).free) < count * 1.05:
        lack = f"{count / 1e9:.1f} GB are needed and the disk has {free / 1e9:.1f} GB free"
        raise Problem(f"{display_path(folder)}/: {lack}: free some space and {AGAIN}, or set SAMPLE = True there.")


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn an error of the file system into a sentence about `folder`."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else type(error).__name__
        remedy = "make room, or change its permissions, or set CHEST_XRAY_DIR to a folder that holds the X-rays"
        raise Problem(f"{display_path(folder)}/ can't be used ({why}): {remedy}.") from None
