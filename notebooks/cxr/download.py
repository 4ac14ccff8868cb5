"""Find the chest X-rays, or fetch them once from Kaggle.

The data set is public, so the first route needs no account. The transfer is `kagglehub.dataset_download`, or the
package `kaggle` where that one fails, in a child process: it can be ended when it stalls, whatever a library prints
goes nowhere, and no ``exit()`` in it ends the kernel. On its way everything lies in hidden parts of the data folder:
``.download/`` has the archive as far as it has come, so that a broken transfer goes on; ``.incoming/`` what is being
extracted, with a file ``READY`` once all of it was checked; ``.lock`` is held by the one notebook that fetches.
"""

import errno
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from . import paths
from .archive import AGAIN, HANDLE, SPLITS, BadArchive, by_hand, explained, extract, need_room, readable, remove, tidy
from .login import TOKENS, VARIABLES, Login, credentials
from .paths import Problem, display_path

VERSION = 2
MOUNTS = ("/kaggle/input/chest-xray-pneumonia", f"/kaggle/input/datasets/{HANDLE}")
# Where in .download/ each package keeps the archive, and goes on with it.
ARCHIVES = {"kagglehub": f"datasets/{HANDLE}/{VERSION}.archive", "kaggle": f"{HANDLE.split('/')[1]}.zip"}

STALL_SECONDS = 60  # without a new byte; the libraries themselves would wait for ever
LOCK_SECONDS = 3 * 3600
TRIES = 3  # starts in a row that bring nothing new
PAUSE_SECONDS = 5  # before the next one
PASSING = ("network", "stalled", "500", "502", "503", "504")  # troubles after which a new start may help
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from cxr.download import _child; _child()"


def find() -> Path | None:
    """The folder on this machine that directly holds ``train/`` and ``test/``, or None; it never downloads.
    It is looked for below ``CHEST_XRAY_DIR`` where that is set, else in ``chest_xray/``, a mounted Kaggle input and
    kagglehub's own cache. A `Problem` where the one is without the X-rays, or the other holds half of them, or others.
    """
    data = paths.data_dir()
    with explained(data):
        if found := _holding(data):
            return found
        if os.environ.get("CHEST_XRAY_DIR"):
            lack = "holds no train/ and test/ with a folder per class" if data.is_dir() else "is not a folder"
            remedy = "correct it, or unset it to use chest_xray/ in the project"
            raise Problem(f"CHEST_XRAY_DIR is set to {display_path(data)}, which {lack}: {remedy}.")
        _refuse_strangers(data)
        cache = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache/kagglehub") / "datasets" / HANDLE
        marks = sorted(cache.glob("*.complete"), reverse=True)  # without its mark a download there may be half
        elsewhere = [*map(Path, MOUNTS), *(cache / "versions" / mark.stem for mark in marks)]
        return next(filter(None, map(_holding, elsewhere)), None)


def ensure() -> Path:
    """Find the X-rays or fetch them, and print in one line where they are; a `Problem` as of `find` and `fetch`."""
    folder = find() or fetch()
    print(f"Using the X-rays in {display_path(folder)}/")
    return folder


def _holding(folder: Path) -> Path | None:
    """The folder in or below `folder` that holds train/ and test/; Kaggle's archive nests it twice."""
    places = (folder, folder / "chest_xray", folder / "chest_xray" / "chest_xray")
    return next((place for place in places if _classes(place / "train") and _classes(place / "test")), None)


def _classes(split: Path) -> list[Path]:
    inside = split.iterdir() if split.is_dir() else ()
    return [path for path in inside if path.is_dir() and not path.name.startswith((".", "_"))]


def _refuse_strangers(data: Path) -> None:
    """Raise a Problem if `data` holds half of the X-rays, or something else."""
    if data.is_symlink() and not data.exists():
        raise Problem(f"{data.name} is a link to a folder that is not there: connect its disk, or delete the link.")
    if not data.is_dir() or (data / ".incoming" / "READY").exists():  # the latter: fetch() finishes it
        return
    aside = f"move what is there away and {AGAIN}, or set CHEST_XRAY_DIR to the X-rays"
    for folder in (data, data / "chest_xray"):
        if any((folder / split).exists() for split in SPLITS):
            lack = " and ".join(f"{split}/" for split in ("train", "test") if not _classes(folder / split))
            raise Problem(f"{display_path(folder)}/ lacks {lack} with a folder per class: {aside}.")
    harmless = (".md", ".txt", ".zip", ".part", ".crdownload", ".ini", ".db", ".npz")
    names = sorted(path.name for path in data.iterdir() if not path.name.lower().endswith(harmless))
    if others := [name for name in names if not name.startswith((".", "_"))]:
        raise Problem(f"{display_path(data)}/ holds {', '.join(others[:3])} but no train/ and test/: {aside}.")


def fetch() -> Path:
    """Fetch the X-rays, from a zip put there by hand or from Kaggle; a `Problem` says what to do where no way works."""
    data = paths.data_dir()
    with explained(data), _one_at_a_time(data):
        tidy(data)
        if found := _holding(data):
            return found
        _refuse_strangers(data)
        if not (zips := sorted(data.glob("*.zip"))):
            return _fetch_from_kaggle(data)
        extract(zips[0], data)
        print(f"{display_path(zips[0])} is no longer needed.")
        return data


@contextmanager
def _one_at_a_time(data: Path) -> Iterator[None]:
    """Hold the lock of `data`; a second notebook waits here."""
    data.mkdir(parents=True, exist_ok=True)
    lock = FileLock(data / ".lock")
    for patience in (0, LOCK_SECONDS):
        with suppress(Timeout), lock.acquire(timeout=patience):
            yield
            return
        if not patience:
            print("Another notebook is fetching the X-rays; waiting for it.", flush=True)
    raise Problem(f"{display_path(data / '.lock')} is still held by another notebook: stop that one, or wait.")


def _fetch_from_kaggle(data: Path) -> Path:
    box, reason = data / ".download", ""
    for again in ("; fetching it once more.", ""):
        if box.is_symlink():
            box.unlink()
        box.mkdir(exist_ok=True)
        try:
            arrived = _Transfer(box).fetch()
            if arrived.is_file():
                extract(arrived, data)
            remove(box)
            if found := _holding(arrived if arrived.is_dir() else data):
                return found
            raise Problem(f"{display_path(arrived)}/, mounted by Kaggle, holds no train/ and test/: {by_hand()}.")
        except BadArchive as bad:
            remove(box)  # kagglehub takes an archive of the right size for a good one
            reason = bad.reason
        if again:
            print(f"The archive {reason}{again}")
    raise Problem(f"The archive from Kaggle {reason}, twice in a row: try another network, or {by_hand()}.")


class _Transfer:
    """The archive on its way into the folder `box`."""

    def __init__(self, box: Path):
        self.box, self.tenth, self.places = box, -1, [box / name for name in ARCHIVES.values()]

    def fetch(self) -> Path:
        """Bring the archive by the first route that works; returns it, or the folder that Kaggle mounts."""
        for archive in filter(zipfile.is_zipfile, self.places):
            return archive  # whole: an earlier run brought it, and only its extraction failed
        login, trouble = None, ""
        for package, needs_login in (("kagglehub", False), ("kagglehub", True), ("kaggle", True)):
            login = login or (credentials() if needs_login else None)
            if needs_login and not login:
                break
            idle = 0
            while True:  # goes on after a break for as long as each start brings something new
                before = self._size()
                report = self._attempt(package, login)
                idle = 0 if self._size() > before else idle + 1
                if report.get("trouble") not in PASSING or idle >= TRIES:
                    break
                time.sleep(PAUSE_SECONDS)
                if self._size():
                    print("The connection broke; going on from what has arrived.")
            if "arrived" in report:
                return Path(report["arrived"])
            if not trouble or report["trouble"] != "missing":  # a package not installed says least
                trouble = report["trouble"]
            # A login would not help; or this is Kaggle's own answer to it, and another package would get the same.
            if trouble in ("network", "stalled", "disk", "mount", "damaged") or (login and trouble.isdigit()):
                break
        if trouble == "damaged":
            raise BadArchive(self.box, "is damaged (its checksum is wrong)")
        raise Problem(_sentence(trouble, login))

    def _attempt(self, package: str, login: Login | None) -> dict:
        """Run `package` once in a child process and watch it; returns what the child reported."""
        env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        env |= login.variables if login else {}
        command = [sys.executable, "-c", START, str(Path(__file__).resolve().parents[1]), package, str(self.box)]
        pipe, report = subprocess.PIPE, dict[str, Any]()
        with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as child:
            try:
                lines = map(json.loads, child.stdout or ())
                listener = threading.Thread(target=lambda: [report.update(line) for line in lines], daemon=True)
                listener.start()
                moved, before = time.monotonic(), (-1, 0)
                while listener.is_alive():  # for as long as the child is
                    listener.join(0.1)
                    self._show(report.get("total"))
                    now = (self._size(), len(report))
                    if now != before:
                        moved, before = time.monotonic(), now
                    elif report and time.monotonic() - moved > STALL_SECONDS:  # slow imports are no stall
                        return {"trouble": "mount" if report.get("mount") else "stalled"}
                return report if report.keys() & {"arrived", "trouble"} else {"trouble": "died"}
            finally:
                child.kill()

    def _size(self) -> int:
        return max((place.stat().st_size for place in self.places if place.exists()), default=0)

    def _show(self, total: int | None) -> None:
        """Print a line for every tenth of the archive, once its size is known."""
        if total and self.tenth < 0:
            # Half as much again for the extracted files: the archive holds every image twice.
            need_room(self.box.parent, total - self._size() + total // 2)
            print(f"Downloading the X-rays from Kaggle ({readable(total)}).")
            self.tenth = 0
        if total and (tenth := 10 * min(self._size(), total) // total) > self.tenth:
            print(f"  {10 * tenth:3d} %", flush=True)
            self.tenth = tenth


def _sentence(trouble: str, login: Login | None) -> str:
    """The one sentence for what a child reported."""
    or_manually, data = f"{AGAIN}, or {by_hand()}.", display_path(paths.data_dir())
    if trouble in ("401", "403", "page"):
        said = "sent a login page instead of the archive" if trouble == "page" else f"answered HTTP {trouble}"
        if login:
            return f"Kaggle {said} to the login in {login.source}: make a new token at {TOKENS}, or {by_hand()}."
        form = "kaggle.json in the project folder (kaggle.json.example shows its form)"
        return f"Kaggle {said}: save a token from {TOKENS} as {form} and {or_manually}"
    goes_on = f"check the network and {AGAIN}, which goes on from what has arrived, or {by_hand()}."
    return {
        "404": f"Kaggle has no version {VERSION} of {HANDLE} any more (HTTP 404): {by_hand()}.",
        "429": f"Kaggle asks for fewer requests (HTTP 429): wait ten minutes and {or_manually}",
        "network": f"Kaggle could not be reached or broke off: {goes_on}",
        "stalled": f"Kaggle sent nothing for {STALL_SECONDS:g} seconds: {goes_on}",
        "disk": f"The disk of {data}/ is full: free some space and {AGAIN}, which goes on from there.",
        "mount": f"Kaggle promised to mount the X-rays under /kaggle/input but nothing came in {STALL_SECONDS:g} "
        f"seconds: add {HANDLE} with Add Input, or set DISABLE_KAGGLE_CACHE=1 (in Colab DISABLE_COLAB_CACHE=1) "
        f"to download it, and {AGAIN}.",
        "missing": f"kagglehub is not installed for this kernel: install requirements.txt and {or_manually}",
    }.get(trouble, f"The download from Kaggle failed ({trouble}): {or_manually}")


class _Told(BaseException):
    """In the child process: how a transfer ended, in a word; no library takes it for an error of its own."""


def _child() -> None:
    """Entry point of the child: fetch with a package into a folder, and report in lines of JSON on standard output."""
    package, box = sys.argv[1], Path(sys.argv[2])
    # It ends with its parent, even by SIGKILL: then this read returns. A buffered one would abort a normal exit.
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints goes nowhere

    def tell(**what) -> None:
        pipe.write(json.dumps(what) + "\n")

    # No login but the one in the environment: a stale file would spoil a public download.
    os.environ |= dict.fromkeys(("HOME", "USERPROFILE", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"), str(box / "home"))
    try:
        (box / "home").mkdir(exist_ok=True)
        _read_headers(tell)
        if package == "kagglehub":
            _by_kagglehub(box, tell)
        else:
            tell(started=True)
            import kaggle  # logs in, and prints a help text where it cannot

            kaggle.api.authenticate()
            kaggle.api.dataset_download_files(f"{HANDLE}/{VERSION}", path=str(box), force=False, quiet=True)
            _judge(box / ARCHIVES[package])
    except BaseException as error:  # also SystemExit: `kaggle` exits where it finds no login
        word = _trouble(error)
        tell(**({"arrived": str(box / ARCHIVES[package])} if word == "arrived" else {"trouble": word}))


def _judge(archive: str | Path) -> NoReturn:
    """Say what has arrived: the archive, or a login page that called itself a zip file."""
    page = Path(archive).open("rb").read(512).lstrip().startswith(b"<")
    if page:
        os.unlink(archive)
    raise _Told("page" if page else "arrived")


def _read_headers(tell: Callable[..., None]) -> None:
    """Look at each answer before a library does: neither of them tells the size, or stops at a login page."""
    import requests

    send = requests.Session.send

    def watched(session, request, **options):
        answer = send(session, request, **options)
        kind = answer.headers.get("Content-Type", "")
        if answer.status_code == 200 and kind.startswith("text/html"):
            raise _Told("page")  # before it overwrites what had arrived
        if answer.status_code == 200 and "json" not in kind:
            tell(total=int(answer.headers.get("Content-Length") or 0))
        if request.url.endswith(("/mount", "/AttachDatasourceUsingJwtRequest")):
            tell(mount=answer.ok)
        return answer

    requests.Session.send = watched  # type: ignore[method-assign, assignment]


def _by_kagglehub(box: Path, tell: Callable[..., None]) -> None:
    """Fetch with `kagglehub.dataset_download`, or tell the folder that Kaggle or Colab mounts.

    Its cache is in `box`, where it goes on with half an archive and checks the MD5 sum (in an ``output_dir`` it would
    not). It must stop before it extracts all files unjudged, the nested copies too, and deletes the archive.
    """
    import kagglehub

    tell(started=True)
    os.environ["KAGGLEHUB_CACHE"] = str(box)
    vars(tarfile)["is_tarfile"] = vars(zipfile)["is_zipfile"] = _judge  # what it asks before it extracts
    try:
        tell(arrived=kagglehub.dataset_download(f"{HANDLE}/versions/{VERSION}"))
    except Exception:
        if not {"KAGGLE_KERNEL_RUN_TYPE", "TBE_RUNTIME_ADDR"} & os.environ.keys():
            raise
        os.environ |= {"DISABLE_KAGGLE_CACHE": "1", "DISABLE_COLAB_CACHE": "1"}
        tell(mount=False)
        kagglehub.dataset_download(f"{HANDLE}/versions/{VERSION}")  # no mount after all; a plain download may work


def _trouble(error: BaseException) -> str:
    """Name `error` without its text, which may quote a header."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, _Told) or status >= 400:
        return str(status or error)
    if isinstance(error, OSError):  # what `requests` raises is an OSError too
        return "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "network"
    missing, name = isinstance(error, ImportError), type(error).__name__
    return "missing" if missing else {"SystemExit": "401", "DataCorruptionError": "damaged"}.get(name, name)
