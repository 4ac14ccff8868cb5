"""Find the chest X-rays, or fetch them once from Kaggle.

The data set is public, so the first route needs no account. Each transfer runs in a child
process: it can be ended when it stalls, whatever a client library prints (help texts, widgets,
headers) goes nowhere, and no call to ``exit()`` in it can end the kernel.

Everything on its way lies in hidden folders of the data folder, hence on the same disk:

==============  ===============================================================================
``.download/``  the archive as far as it has come, kept so that a broken transfer goes on
``.incoming/``  what is being extracted; a file ``READY`` in it says that all of it was checked
``.lock``       held by the one notebook that fetches; others wait, then use the same folder
==============  ===============================================================================
"""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from . import project
from .archive import HANDLE, SPLITS, BadArchive, by_hand, explained, extract, need_room, readable, remove, tidy
from .login import TOKENS, VARIABLES, Login, credentials
from .project import Problem, shown

VERSION = 2
MOUNTS = ("/kaggle/input/chest-xray-pneumonia", f"/kaggle/input/datasets/{HANDLE}")

ARCHIVE = HANDLE.split("/")[1] + ".zip"  # the name under which both client libraries resume

STALL_SECONDS = 60  # without a new byte; the libraries themselves would wait for ever
LOCK_SECONDS = 3 * 3600
TRIES = 3  # starts in a row that bring nothing new
PAUSE_SECONDS = 5  # before the next one


# ------------------------------------------------------------------------------------- finding


def find() -> Path | None:
    """Find the X-rays that are already on this machine, never downloading.

    Returns
    -------
    pathlib.Path or None
        The folder that directly holds ``train/`` and ``test/``: below ``CHEST_XRAY_DIR`` where
        that is set, else ``chest_xray/``, a mounted Kaggle input, or kagglehub's own cache.

    Raises
    ------
    Problem
        If ``CHEST_XRAY_DIR`` is set to a folder without the X-rays, or if ``chest_xray/`` holds
        half a data set or another one.
    """
    data = project.data_dir()
    with explained(data):
        if found := _holding(data):
            return found
        if os.environ.get("CHEST_XRAY_DIR"):
            lack = "holds no train/ and test/ with a folder per class" if data.is_dir() else "is not a folder"
            raise Problem(f"CHEST_XRAY_DIR is set to {shown(data)}, which {lack}: correct it, or unset it to use "
                          "chest_xray/ in the project.")
        _refuse_strangers(data)
        for folder in (*map(Path, MOUNTS), *_cached()):
            if found := _holding(folder):
                return found
    return None


def ensure() -> Path:
    """Find the X-rays or fetch them, and print in one line where they are.

    Returns
    -------
    pathlib.Path
        The folder that directly holds ``train/`` and ``test/``.

    Raises
    ------
    Problem
        As `find` and `fetch` do.
    """
    folder = find() or fetch()
    print(f"Using the X-rays in {shown(folder)}/")
    return folder


def _holding(folder: Path) -> Path | None:
    """The folder in or below `folder` that holds train/ and test/; Kaggle's archive nests it twice."""
    for candidate in (folder, folder / "chest_xray", folder / "chest_xray" / "chest_xray"):
        if _classes(candidate / "train") and _classes(candidate / "test"):
            return candidate
    return None


def _classes(split: Path) -> list[Path]:
    if not split.is_dir():
        return []
    return [path for path in split.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))]


def _cached() -> list[Path]:
    """Complete downloads in kagglehub's cache; without its marker a folder there may be half."""
    cache = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub")
    base = cache / "datasets" / HANDLE
    return [base / "versions" / marker.stem for marker in sorted(base.glob("*.complete"), reverse=True)]


def _refuse_strangers(data: Path) -> None:
    """Raise a Problem if `data` holds half of the X-rays, or something else."""
    if data.is_symlink() and not data.exists():
        raise Problem(f"{data.name} is a link to a folder that is not there: connect its disk, or delete the link.")
    if not data.is_dir() or (data / ".incoming" / "READY").exists():  # the latter: fetch() finishes it
        return
    aside = "move what is there away and run 01_download.ipynb again, or set CHEST_XRAY_DIR to the X-rays"
    for folder in (data, data / "chest_xray"):
        there = [split for split in SPLITS if (folder / split).exists()]
        if there:
            lack = " and ".join(f"{split}/" for split in ("train", "test") if not _classes(folder / split))
            raise Problem(f"{shown(folder)}/ lacks {lack} with a folder per class: {aside}.")
    harmless = (".md", ".txt", ".zip", ".part", ".crdownload", ".ini", ".db")
    others = sorted(path.name for path in data.iterdir() if not path.name.startswith((".", "_")))
    others = [name for name in others if not name.lower().endswith(harmless)]
    if others:
        raise Problem(f"{shown(data)}/ holds {', '.join(others[:3])} but no train/ and test/: {aside}.")


# ------------------------------------------------------------------------------------ fetching


def fetch() -> Path:
    """Fetch the X-rays: from a zip put there by hand, from Kaggle without an account, or with one.

    Returns
    -------
    pathlib.Path
        The folder that directly holds ``train/`` and ``test/``.

    Raises
    ------
    Problem
        If no route works; the sentence says what to do by hand.
    """
    data = project.data_dir()
    with explained(data), _one_at_a_time(data):
        tidy(data)
        if found := _holding(data):
            return found
        _refuse_strangers(data)
        zips = sorted(data.glob("*.zip"))
        if zips:
            extract(zips[0], data)
            print(f"{shown(zips[0])} is no longer needed.")
            return data
        return _fetch_from_kaggle(data)


def _fetch_from_kaggle(data: Path) -> Path:
    box = data / ".download"
    if box.is_symlink():
        box.unlink()
    box.mkdir(exist_ok=True)
    for last in (False, True):
        try:
            arrived = box / ARCHIVE
            if not zipfile.is_zipfile(arrived):  # else it was complete, and only the extraction failed
                arrived = _download(box)
            if arrived.is_dir():
                remove(box)
                if found := _holding(arrived):
                    return found
                raise Problem(f"{shown(arrived)}/, mounted by Kaggle, holds no train/ and test/: {by_hand()}.")
            extract(arrived, data)
            remove(box)
            return data
        except BadArchive as bad:
            # The libraries take an archive of the right size for a good one, so it must go.
            (box / ARCHIVE).unlink(missing_ok=True)
            if last:
                raise Problem(f"The archive from Kaggle {bad.reason}, twice in a row: try another network, or "
                              f"{by_hand()}.") from None
            print(f"The archive {bad.reason}; fetching it once more.")
    raise AssertionError("unreachable")


def _download(box: Path) -> Path:
    """Bring the archive into `box` by the first route that works; a folder if Kaggle mounts one."""
    login, report, progress = None, {}, _Progress(box)
    for package, needs_login in (("kagglehub", False), ("kagglehub", True), ("kaggle", True)):
        if needs_login and login is None:
            login = credentials()
            if login is None:
                break
        answer = _persist(package, login, box, progress)
        if "folder" in answer:
            return Path(answer["folder"])
        if "done" in answer:
            return box / ARCHIVE
        if not report or answer["trouble"] != "missing":  # a package not installed says least
            report = answer
        if report["trouble"] in ("network", "stalled", "disk", "mount", "damaged"):
            break  # a login would not help
        if login and report["trouble"].isdigit():
            break  # Kaggle's own answer to this login; another package would get the same
    if report["trouble"] == "damaged":
        raise BadArchive(box / ARCHIVE, "is damaged (its checksum is wrong)")
    raise Problem(_sentence(report["trouble"], login, box.parent))


def _persist(package: str, login: Login | None, box: Path, progress: "_Progress") -> dict:
    """Run one route, going on after a break for as long as each start brings something new."""
    idle = 0
    while True:
        before = progress.size()
        report = _attempt(package, login, box, progress)
        if report.get("trouble") not in ("network", "stalled", "500", "502", "503", "504"):
            return report
        idle = 0 if progress.size() > before else idle + 1
        if idle >= TRIES:
            return report
        time.sleep(PAUSE_SECONDS)
        if progress.size():
            print("The connection broke; going on from what has arrived.")


def _attempt(package: str, login: Login | None, box: Path, progress: "_Progress") -> dict:
    """Run `package` once in a child process and watch it; returns what the child reported."""
    status = box / "status"
    status.write_text("")
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    env |= login.variables if login else {}
    here = str(Path(__file__).resolve().parents[1])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-c", "from cxr.download import _child; _child()", package, str(box)]
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
    try:
        moved, before = time.monotonic(), None
        while True:
            ended = child.poll() is not None
            report = {}
            for line in status.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    report |= json.loads(line)
            progress.show(report.get("total"))
            if ended and report.keys() & {"done", "folder", "trouble"}:
                return report
            if ended:  # without a word, for which a full disk has no room either
                return {"trouble": "disk" if shutil.disk_usage(box).free < 10**6 else "died"}
            now = (progress.size(), len(report))
            if now != before:
                moved, before = time.monotonic(), now
            elif report and time.monotonic() - moved > STALL_SECONDS:  # slow imports are no stall
                return {"trouble": "mount" if report.get("mount") else "stalled"}
            time.sleep(0.1)
    finally:
        child.kill()
        child.wait()
        child.stdin.close()


class _Progress:
    """A line of text for every tenth of the archive."""

    def __init__(self, box: Path):
        self.archive, self.tenth = box / ARCHIVE, None

    def size(self) -> int:
        return self.archive.stat().st_size if self.archive.exists() else 0

    def show(self, total: int | None) -> None:
        if not total:
            return
        if self.tenth is None:
            # Half as much again for the extracted files: the archive holds every image twice.
            need_room(self.archive.parents[1], total - self.size() + total // 2)
            print(f"Downloading the X-rays from Kaggle ({readable(total)}).")
            self.tenth = 0
        tenth = 10 * min(self.size(), total) // total
        if tenth > self.tenth:
            print(f"  {10 * tenth:3d} %", flush=True)
            self.tenth = tenth


def _sentence(trouble: str, login: Login | None, data: Path) -> str:
    """The one sentence for what a child reported."""
    again, manually = "run 01_download.ipynb again", by_hand()
    if trouble in ("401", "403", "page"):
        said = "sent a login page instead of the archive" if trouble == "page" else f"answered HTTP {trouble}"
        if login:
            return f"Kaggle {said} to the login in {login.source}: make a new token at {TOKENS}, or {manually}."
        return (f"Kaggle {said}: save a token from {TOKENS} as kaggle.json in the project folder (kaggle.json.example "
                f"shows its form) and {again}, or {manually}.")
    return {
        "404": f"Kaggle has no version {VERSION} of {HANDLE} any more (HTTP 404): {manually}.",
        "429": f"Kaggle asks for fewer requests (HTTP 429): wait ten minutes and {again}, or {manually}.",
        "network": f"Kaggle could not be reached or broke off: check the network and {again}, "
        f"which goes on from what has arrived, or {manually}.",
        "stalled": f"Kaggle sent nothing for {STALL_SECONDS:g} seconds: check the network and {again}, "
        f"which goes on from what has arrived, or {manually}.",
        "disk": f"The disk of {shown(data)}/ is full: free some space and {again}, which goes on from there.",
        "mount": f"Kaggle promised to mount the X-rays under /kaggle/input but nothing came in {STALL_SECONDS:g} "
        f"seconds: add {HANDLE} with Add Input, or set DISABLE_KAGGLE_CACHE=1 (in Colab DISABLE_COLAB_CACHE=1) "
        f"to download it, and {again}.",
        "missing": f"kagglehub is not installed for this kernel: install requirements.txt and {again}, or {manually}.",
    }.get(trouble, f"The download from Kaggle failed ({trouble}): {again}, or {manually}.")


# --------------------------------------------------------------------------- in the child process


def _child() -> None:
    """Entry point of the child: fetch into the folder given, and report in its file ``status``."""
    package, box = sys.argv[1], Path(sys.argv[2])
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tell(**what):
        with open(box / "status", "a") as status:
            status.write(json.dumps(what) + "\n")

    try:
        if {"kagglehub": _by_kagglehub, "kaggle": _by_kaggle}[package](box, tell):
            with open(box / ARCHIVE, "rb") as file:
                page = file.read(512).lstrip().startswith(b"<")
            if page:  # a login page that called itself a zip file
                (box / ARCHIVE).unlink()
                raise _Reported("page")
            tell(done=True)
    except BaseException as error:  # also SystemExit: `kaggle` exits where it finds no login
        tell(trouble=_trouble(error))


def _end_with_parent() -> None:
    os.read(0, 1)  # returns when the parent ends, even by SIGKILL; a buffered read would abort a normal exit
    os._exit(1)


def _only_this_login(box: Path, tell) -> None:
    """Hide every login but the one in the environment, or a stale file would spoil a public download."""
    tell(started=True)
    (box / "home").mkdir(exist_ok=True)
    for name in ("HOME", "USERPROFILE", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        os.environ[name] = str(box / "home")


def _by_kagglehub(box: Path, tell) -> bool:
    """Use the mount that Kaggle or Colab offers, else bring the archive; True if it is an archive.

    Not ``kagglehub.dataset_download``: that would extract every file, the nested copies too,
    into a second place before they could be checked.
    """
    from kagglehub.clients import build_kaggle_client, download_file
    from kagglehub.colab_cache_resolver import DatasetColabCacheResolver
    from kagglehub.handle import parse_dataset_handle
    from kagglehub.kaggle_cache_resolver import DatasetKaggleCacheResolver
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    _only_this_login(box, tell)
    handle = parse_dataset_handle(f"{HANDLE}/versions/{VERSION}")
    for resolver in (DatasetKaggleCacheResolver(), DatasetColabCacheResolver()):
        try:
            if resolver.is_supported(handle):
                tell(mount=True)
                tell(folder=str(resolver(handle)[0]))
                return False
        except Exception:  # no mount after all; a plain download may still work
            tell(mount=False)
    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = HANDLE.split("/")
    request.dataset_version_number = VERSION
    with build_kaggle_client() as client:
        response = client.datasets.dataset_api_client.download_dataset(request)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _Reported("page")  # before it overwrites what had arrived
        tell(total=int(response.headers.get("Content-Length") or 0))
        download_file(response, str(box / ARCHIVE), handle)
    return True


def _by_kaggle(box: Path, tell) -> bool:
    """Bring the archive with the package `kaggle`, which needs a login."""
    _only_this_login(box, tell)
    import kaggle  # logs in, and prints a help text where it cannot

    kaggle.api.authenticate()
    kaggle.api.dataset_download_files(f"{HANDLE}/{VERSION}", path=str(box), force=False, quiet=True)
    return True


class _Reported(Exception):
    """Trouble that the child has a name for."""


def _trouble(error: BaseException) -> str:
    """Name `error` without its text, which may quote a header."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, _Reported):
        return str(error)
    if status >= 400:
        return str(status)
    if isinstance(error, ImportError):
        return "missing"
    if isinstance(error, SystemExit):
        return "401"
    if type(error).__name__ == "DataCorruptionError":
        return "damaged"
    if isinstance(error, OSError):  # what `requests` raises is an OSError too
        return "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "network"
    return type(error).__name__


@contextmanager
def _one_at_a_time(data: Path):
    """Hold the lock of `data`; a second notebook waits here."""
    data.mkdir(parents=True, exist_ok=True)
    lock = FileLock(data / ".lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print("Another notebook is fetching the X-rays; waiting for it.", flush=True)
            lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise Problem(f"{shown(data / '.lock')} is still held by another notebook: stop that one, or wait.") from None
    try:
        yield
    finally:
        lock.release()
