"""The X-rays arrive whole or not at all, and every failure says in one sentence what to do.

kagglehub and kaggle are really called; `kaggle_server` answers in Kaggle's place.
"""

import errno
import io
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import types
import zipfile
from pathlib import Path

import pytest

from cxr import archive, download, paths
from cxr.paths import Problem
from kaggle_server import PORT, KaggleServer

NOTEBOOKS = Path(download.__file__).resolve().parents[3]
SECRET = "5ecret-0f-the-reader"
README = "About these X-rays.\n"

# Sends the children to the stand-in. Not KAGGLE_API_ENVIRONMENT=TEST: with it kagglesdk prints, and
# so reads, every answer whole before kagglehub may store a byte, and the package kaggle ignores it.
SITE = """
import os, sys
if "_child" in " ".join(sys.orig_argv) and os.environ.get("CXR_STAND_IN"):
    import kagglesdk.kaggle_env as env
    env._env_to_endpoint[env.KaggleEnv.PROD] = os.environ["CXR_STAND_IN"]
if "_child" in " ".join(sys.orig_argv) and os.environ.get("CXR_DIES"):
    os._exit(9)
for name in os.environ.get("CXR_NOT_INSTALLED", "").split():
    sys.modules[name] = None
"""


def pixels(seed, size=20_000):
    return random.Random(seed).randbytes(size)


IMAGES = {
    f"{split}/{kind}/{kind[0]}{i}.jpeg": pixels(f"{split}{kind}{i}", 400_000 if split == "train" else 20_000)
    for split in ("train", "test", "val")
    for kind in ("NORMAL", "PNEUMONIA")
    for i in range(4 if split == "train" else 1)
}


def zipped(members, **changes):
    """A zip file of `members`, names to bytes; `changes` are attributes of every ZipInfo."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as bundle:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            for attribute, value in changes.items():
                setattr(info, attribute, value)
            bundle.writestr(info, data)
    return file.getvalue()


def kaggle_like(images=IMAGES):
    """The members of Kaggle's archive: the images, the nested copy, and what macOS left."""
    members = {"chest_xray/chest_xray/.DS_Store": b"x", "chest_xray/__MACOSX/chest_xray/._train": b"x"}
    for name, data in images.items():
        folder, file = name.rsplit("/", 1)
        members[f"chest_xray/{name}"] = data
        if not name.startswith("train"):
            members[f"chest_xray/chest_xray/{name}"] = data
        members[f"chest_xray/__MACOSX/{folder}/._{file}"] = b"x"
        members[f"chest_xray/{folder}/.DS_Store"] = b"x"
    return members


ARCHIVE = zipped(kaggle_like())


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A project of its own with an empty chest_xray/, no login, no cache and no network."""
    root = tmp_path / "project"
    data = root / "chest_xray"
    data.mkdir(parents=True)
    (data / "README.md").write_text(README)
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    for name in list(os.environ):
        if name.startswith(("KAGGLE", "CHEST_XRAY", "CXR_", "COLAB", "TBE_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {
        "HOME": home,
        "USERPROFILE": home,
        "XDG_CONFIG_HOME": home / ".config",
        "KAGGLEHUB_CACHE": tmp_path / "cache",
        "PYTHONPATH": site,
        "CXR_STAND_IN": "http://127.0.0.1:9",  # nobody listens there
        "NO_PROXY": "*",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(download, "MOUNTS", ())
    monkeypatch.setattr(download, "TRIES", 1)
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0)
    return data


@pytest.fixture
def serve(monkeypatch):
    """Starts the stand-in and sends the children there."""
    running = []

    def start(archive=ARCHIVE, fault="", **options):
        server = KaggleServer(archive, fault, **options)
        running.append(server.__enter__())
        monkeypatch.setenv("CXR_STAND_IN", server.url)
        return server

    yield start
    for server in running:
        server.__exit__()


def says(problem, *words):
    """The error is one sentence that holds `words`."""
    text = str(problem.value if hasattr(problem, "value") else problem)
    assert "\n" not in text and text.endswith("."), text
    assert not re.search(r"[.!?]\s+[A-Z]", text), text
    for word in words:
        assert word in text, f"{word!r} is missing: {text}"


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_complete(data):
    there = files(data)
    assert there.pop("README.md").decode() == README
    there.pop(".lock", None)
    assert there == IMAGES


def assert_untouched(data):
    """No part of the X-rays is there, nothing is being extracted, and what was there is whole."""
    assert (data / "README.md").read_text() == README
    assert {path.name for path in data.iterdir()} <= {"README.md", ".lock", ".download", "archive.zip"}


def put(folder, images=IMAGES):
    for name, content in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def kept(data, package="kagglehub"):
    """Where `package` keeps the archive as far as it has come."""
    archive = data / ".download" / download.ARCHIVES[package]
    archive.parent.mkdir(parents=True, exist_ok=True)
    return archive


def put_zip(data, content):
    (data / "archive.zip").write_bytes(content)
    return data / "archive.zip"


# ------------------------------------------------------------------------------------- finding


@pytest.mark.parametrize("below", ["", "chest_xray", "chest_xray/chest_xray"])
def test_finds_the_folder_that_directly_holds_train_and_test(data, below, capsys):
    put(data / below)
    assert download.find() == data / below
    assert download.ensure() == data / below
    assert capsys.readouterr().out == f"Using the X-rays in {Path('chest_xray', below).as_posix()}/\n"


@pytest.mark.parametrize("extra", [[], ["archive.zip"], [".ipynb_checkpoints/x"], ["__MACOSX/x"], ["notes.txt"]])
def test_nothing_there_is_none_and_not_a_problem(data, extra):
    for name in extra:
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_text("x")
    assert download.find() is None


def test_the_masks_that_come_with_the_project_are_no_data_set(data):
    (data / "lung_masks.npz").write_bytes(b"masks")
    assert download.find() is None
    put(data)
    assert download.find() == data and (data / "lung_masks.npz").exists()


def test_no_data_folder_at_all_is_none(data):
    shutil.rmtree(data)
    assert download.find() is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["train/NORMAL/a.jpeg"], ["chest_xray/", "test/", "move what is there away"]),
        (["test/NORMAL/a.jpeg"], ["chest_xray/", "train/", "move what is there away"]),
        (["train/a.jpeg", "test/a.jpeg"], ["train/ and test/", "folder per class"]),
        (["chest_xray/train/NORMAL/a.jpeg"], ["chest_xray/chest_xray/", "test/"]),
        (["images/a.png", "labels.csv"], ["images", "labels.csv", "CHEST_XRAY_DIR"]),
    ],
)
@pytest.mark.parametrize("entry", [download.find, download.fetch])
def test_half_a_data_set_or_another_one_is_a_problem(data, names, words, entry):
    for name in names:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("mine")
    with pytest.raises(Problem) as problem:
        entry()
    says(problem, *words)
    assert all((data / name).read_text() == "mine" for name in names)


@pytest.mark.parametrize("exists", [False, True])
def test_chest_xray_dir_without_the_x_rays_is_never_skipped(data, tmp_path, monkeypatch, exists):
    put(data)  # would be found if the setting were skipped
    other = tmp_path / "elsewhere" / "x-rays"
    if exists:
        other.mkdir(parents=True)
    monkeypatch.setenv("CHEST_XRAY_DIR", str(other))
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, "CHEST_XRAY_DIR", ".../x-rays", "unset it", "holds no" if exists else "not a folder")
    assert str(tmp_path) not in str(problem.value)


def test_chest_xray_dir_is_used(tmp_path, monkeypatch, capsys):
    other = put(tmp_path / "Röntgen bilder" / "chest")
    monkeypatch.setenv("CHEST_XRAY_DIR", str(other))
    assert download.ensure() == other
    assert capsys.readouterr().out == "Using the X-rays in .../chest/\n"


def test_a_mount_is_used_in_place(tmp_path, monkeypatch):
    mount = put(tmp_path / "input" / "chest_xray").parent
    monkeypatch.setattr(download, "MOUNTS", (str(tmp_path / "absent"), str(mount)))
    assert download.find() == mount / "chest_xray"


def test_offline_with_cache(data, tmp_path, capsys):
    base = tmp_path / "cache" / "datasets" / download.HANDLE
    folder = put(base / "versions" / "2" / "chest_xray")
    assert download.find() is None  # without its marker it may be half
    (base / "2.complete").touch()
    assert download.ensure() == folder
    assert list(data.iterdir()) == [data / "README.md"]


def test_a_link_to_a_folder_that_is_gone(data, tmp_path):
    shutil.rmtree(data)
    data.symlink_to(tmp_path / "unplugged")
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, "chest_xray is a link", "delete the link")


# ------------------------------------------------------------------------------------- Kaggle


def test_fetches_without_an_account_and_cleans_up(data, serve, monkeypatch, capsys):
    (Path.home() / ".kaggle").mkdir()
    (Path.home() / ".kaggle" / "kaggle.json").write_text(json.dumps({"username": "old", "key": SECRET}))
    (Path.home() / ".kaggle" / "access_token").write_text(SECRET)
    monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)  # perhaps stale, and not needed
    server = serve()
    assert download.ensure() == data
    assert_complete(data)
    assert server.transfers == 1 and not any("Authorization" in call["headers"] for call in server.calls)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Downloading the X-rays from Kaggle ({len(ARCHIVE) / 1e6:.1f} MB)."
    assert lines[-3:] == ["  100 %", f"Extracting {len(IMAGES)} images.", "Using the X-rays in chest_xray/"]
    assert not (Path.home() / ".cache").exists() and not (Path.home() / ".config").exists()


def test_the_stand_in_answers_where_the_test_environment_looks(data, serve, monkeypatch, capsys):
    try:
        server = serve(port=PORT)
    except OSError:
        pytest.skip(f"port {PORT} is in use")
    monkeypatch.delenv("CXR_STAND_IN")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    download.fetch()
    assert_complete(data)
    assert server.transfers == 1
    assert "Request" not in capsys.readouterr().out  # the library prints its headers there


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("403", ["HTTP 403", "kaggle.json", "archive.zip"]),
        ("404", ["HTTP 404", download.HANDLE, "archive.zip"]),
        ("429", ["HTTP 429", "wait ten minutes", "archive.zip"]),
        ("503", ["503", "run 01_download.ipynb again", "archive.zip"]),
        ("page", ["login page", "kaggle.json", "archive.zip"]),
        ("page-as-zip", ["login page", "kaggle.json", "archive.zip"]),
        ("corrupt", ["damaged", "twice in a row", "another network"]),
        ("hash", ["checksum", "twice in a row", "another network"]),
        ("cut-always", ["check the network", "goes on from what has arrived"]),
    ],
)
def test_what_kaggle_refuses_or_spoils(data, serve, fault, words):
    server = serve(fault=fault)
    arrived = kept(data)
    if fault.isdigit() or fault == "page":
        arrived.write_bytes(ARCHIVE[:1000])
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, *words)
    if fault.isdigit() or fault == "page":
        assert arrived.read_bytes() == ARCHIVE[:1000]  # what an earlier run had brought
    if fault in ("corrupt", "hash"):
        assert server.transfers == 2  # fetched again once, not for ever
        assert not arrived.exists()
    assert_untouched(data)
    if fault in ("page-as-zip", "corrupt", "cut-always"):
        server.fault = ""
        download.fetch()  # nothing of the failure stands in the way
        assert_complete(data)


def test_offline_without_cache(data):
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, "could not be reached", "check the network", archive.PAGE, "chest_xray/archive.zip")
    assert_untouched(data)


def test_a_kaggle_that_is_down_for_a_moment(data, serve, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 2)
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.01)
    server, sleep = serve(fault="503"), time.sleep

    def pause(seconds):
        if seconds == 0.01:
            server.fault = ""
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", pause)
    download.fetch()
    assert_complete(data)


def test_a_broken_transfer_goes_on(data, serve, capsys):
    server = serve(fault="cut")
    download.fetch()
    assert_complete(data)
    assert [call["headers"].get("Range") for call in server.asked("/storage/")][-1] == "bytes=1048576-"
    assert "going on from what has arrived" in capsys.readouterr().out


def test_a_transfer_goes_on_in_the_next_run(data, serve, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 0)  # one start, whatever it brings
    server = serve(fault="cut")
    with pytest.raises(Problem):
        download.fetch()
    assert kept(data).stat().st_size == 1 << 20
    download.fetch()
    assert_complete(data)
    assert "Range" in server.asked("/storage/")[-1]["headers"]


def test_a_stalled_transfer_ends_and_goes_on(data, serve, monkeypatch):
    monkeypatch.setattr(download, "STALL_SECONDS", 3)
    server = serve(fault="stall")
    download.fetch()
    assert_complete(data)
    assert "Range" in server.asked("/storage/")[-1]["headers"]


def test_a_promised_range_that_is_ignored(data, serve):
    serve(fault="no-range")
    download.fetch()
    assert_complete(data)


def test_a_kaggle_that_never_answers(data, serve, monkeypatch):
    started = time.monotonic()
    monkeypatch.setattr(download, "STALL_SECONDS", 2)
    serve(fault="silent")
    with pytest.raises(Problem) as problem:
        download.fetch()
    says(problem, "sent nothing for 2 seconds", "check the network")
    assert time.monotonic() - started < 20
    assert_untouched(data)


def test_a_corrupt_archive_is_fetched_again(data, serve, capsys):
    server = serve(fault="corrupt-once")
    download.fetch()
    assert_complete(data)
    assert server.transfers == 2
    assert "The archive is damaged or cut short; fetching it once more.\n" in capsys.readouterr().out


def test_a_corrupt_archive_of_an_earlier_run_does_not_stay_for_ever(data, serve):
    kept(data).write_bytes(bytes(len(ARCHIVE)))  # the right size, so the library keeps it
    serve()
    download.fetch()
    assert_complete(data)


@pytest.mark.parametrize("package", ["kagglehub", "kaggle"])
def test_a_complete_archive_of_an_earlier_run_needs_no_network(data, package):
    kept(data, package).write_bytes(ARCHIVE)
    download.fetch()
    assert_complete(data)


@pytest.mark.parametrize(
    ("service", "setting"), [("kaggle", "DISABLE_KAGGLE_CACHE=1"), ("colab", "DISABLE_COLAB_CACHE=1")]
)
def test_a_mount_that_never_appears(data, serve, monkeypatch, service, setting):
    monkeypatch.setattr(download, "STALL_SECONDS", 2)
    server = serve(fault="mount")
    if service == "kaggle":
        for name in ("KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_USER_SECRETS_TOKEN", "KAGGLE_DATA_PROXY_TOKEN"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("KAGGLE_DATA_PROXY_URL", server.url)
    else:
        monkeypatch.setenv("TBE_RUNTIME_ADDR", server.url.removeprefix("http://"))
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, "Add Input", setting, "/kaggle/input")
    assert server.asked("AttachDatasource" if service == "kaggle" else "datasets/mount")
    assert_untouched(data)


def test_a_mount_that_kaggle_makes_is_used_in_place(data, serve, monkeypatch, tmp_path):
    server = serve(fault="mount")
    monkeypatch.setenv("TBE_RUNTIME_ADDR", server.url.removeprefix("http://"))
    monkeypatch.setenv("COLAB_CACHE_MOUNT_FOLDER", str(tmp_path / "input"))
    mount = put(tmp_path / "input" / "never-there" / "chest_xray")
    assert download.ensure() == mount
    assert server.transfers == 0
    assert_untouched(data)


@pytest.mark.parametrize("service", ["kaggle", "colab"])
def test_a_mount_service_that_fails_is_done_without(data, serve, monkeypatch, service):
    server, nobody = serve(), "127.0.0.1:9"
    for name in ("KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_USER_SECRETS_TOKEN", "KAGGLE_DATA_PROXY_TOKEN"):
        monkeypatch.setenv(name, "x") if service == "kaggle" else None
    monkeypatch.setenv("KAGGLE_DATA_PROXY_URL", f"http://{nobody}")
    monkeypatch.setenv("TBE_RUNTIME_ADDR", nobody)
    assert download.ensure() == data
    assert_complete(data)
    assert server.transfers == 1


def test_a_child_that_dies_without_a_word(data, serve, monkeypatch):
    server = serve()
    monkeypatch.setenv("CXR_DIES", "1")
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, "download from Kaggle failed", "run 01_download.ipynb again", "archive.zip")
    assert not server.calls
    assert_untouched(data)


def test_two_at_once(data, serve, tmp_path):
    server = serve(delay=1.5)
    script = (
        "import sys; from pathlib import Path; from cxr import paths; from cxr import download\n"
        "paths.ROOT = Path(sys.argv[1]); download.MOUNTS = (); download.ensure()"
    )
    env = os.environ | {"PYTHONPATH": f"{NOTEBOOKS}{os.pathsep}{os.environ['PYTHONPATH']}"}
    command = [sys.executable, "-c", script, str(paths.ROOT)]
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = sorted((process.communicate(timeout=40)[0] for process in both), key=len)
    assert [process.returncode for process in both] == [0, 0]
    assert server.transfers == 1
    assert outputs[0] == ("Another notebook is fetching the X-rays; waiting for it.\nUsing the X-rays in chest_xray/\n")
    assert_complete(data)


def test_a_lock_that_is_never_released(data, monkeypatch):
    monkeypatch.setattr(download, "LOCK_SECONDS", 0.1)
    with download._one_at_a_time(data), pytest.raises(Problem) as problem:
        download.fetch()
    says(problem, "chest_xray/.lock", "stop that one")


# --------------------------------------------------------------------------------------- login


def write_login(path, **values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    path.chmod(0o600)


def all_text(capfd, folder):
    out, err = capfd.readouterr()
    return out + err + "".join(content.decode("latin-1") for content in files(folder).values())


@pytest.mark.parametrize("without", ["", "kagglehub"])
@pytest.mark.parametrize("kind", ["key", "token"])
def test_a_login_helps_where_one_is_asked_for(data, serve, monkeypatch, capfd, kind, without):
    monkeypatch.setenv("CXR_NOT_INSTALLED", without)
    if kind == "key":
        write_login(paths.ROOT / "kaggle.json", username="reader", key=SECRET)
    else:
        monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
    server = serve(fault="login")
    download.ensure()
    assert_complete(data)
    scheme = "Basic " if kind == "key" else "Bearer "
    assert server.asked("DownloadDataset")[-1]["headers"]["Authorization"].startswith(scheme)
    assert ("Authorization" in server.asked("DownloadDataset")[0]["headers"]) is bool(without)
    assert SECRET not in all_text(capfd, data)


@pytest.mark.parametrize(
    ("fault", "words", "without"), [("401", "HTTP 401", ""), ("page-as-zip", "login page", "kaggle")]
)
def test_a_login_that_kaggle_refuses(data, serve, monkeypatch, capfd, fault, words, without):
    monkeypatch.setenv("CXR_NOT_INSTALLED", without)  # which is not what to say
    write_login(paths.ROOT / "kaggle.json", username="reader", key=SECRET)
    server = serve(fault=fault)
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, words, "login in kaggle.json", "make a new token", "archive.zip")
    assert len(server.asked("DownloadDataset")) == 2  # without the login, and with it
    assert SECRET not in str(problem.value) + all_text(capfd, data)
    assert_untouched(data)


def test_no_package_and_no_login(data, monkeypatch, capfd):
    monkeypatch.setenv("CXR_NOT_INSTALLED", "kagglehub kaggle")
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, "kagglehub is not installed", "requirements.txt", "archive.zip")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "text", ["{", "", "[]", "null", '{"username": "reader"}', '{"username": "reader", "key": 5}', "\xff"]
)
def test_a_malformed_login(data, serve, text):
    (paths.ROOT / "kaggle.json").write_bytes(text.encode("latin-1"))
    (paths.ROOT / "kaggle.json").chmod(0o600)
    serve(fault="login")
    with pytest.raises(Problem) as problem:
        download.ensure() if text == "{" else download.credentials()
    says(problem, "kaggle.json is not a Kaggle login", "replace it", "delete it")
    assert_untouched(data)


def test_a_login_saved_by_notepad(capsys):
    write_login(paths.ROOT / "kaggle.json", username=" reader ", key=SECRET)
    file = paths.ROOT / "kaggle.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert download.credentials().variables == {"KAGGLE_USERNAME": "reader", "KAGGLE_KEY": SECRET}


def test_an_unedited_example_is_no_login(data, serve, capsys):
    example = Path(download.__file__).resolve().parents[4] / "kaggle.json.example"
    shutil.copy(example, paths.ROOT / "kaggle.json")
    (paths.ROOT / "kaggle.json").chmod(0o600)
    assert download.credentials() is None
    says(capsys.readouterr().out.strip(), "kaggle.json still holds", "kaggle.json.example")
    server = serve(fault="login")
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, "HTTP 403", "save a token")
    assert not any("Authorization" in call["headers"] for call in server.calls)


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604])
def test_a_login_that_others_can_read(mode, capsys):
    write_login(paths.ROOT / "kaggle.json", username="reader", key=SECRET)
    (paths.ROOT / "kaggle.json").chmod(mode)
    assert download.credentials().source == "kaggle.json"
    out = capsys.readouterr().out
    if mode == 0o600:
        assert out == ""
    else:
        says(out.strip(), "kaggle.json can be read by other users", "chmod 600")
    assert SECRET not in out


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("kaggle.json", "kaggle.json"),
        ("~/.kaggle/kaggle.json", "~/.kaggle/kaggle.json"),
        ("~/.config/kaggle/kaggle.json", "~/.config/kaggle/kaggle.json"),
        ("~/.kaggle/access_token", "~/.kaggle/access_token"),
        ("~/.kaggle/access_token.txt", "access_token.txt"),
        ("KAGGLE_CONFIG_DIR", "KAGGLE_CONFIG_DIR/kaggle.json"),
        ("KAGGLE_API_TOKEN", "KAGGLE_API_TOKEN"),
        ("KAGGLE_USERNAME", "KAGGLE_USERNAME"),
        ("Colab", "Colab"),
        ("Colab token", "Colab"),
    ],
)
def test_where_a_login_is_looked_for(tmp_path, monkeypatch, capsys, place, source):
    if place == "KAGGLE_USERNAME":
        monkeypatch.setenv("KAGGLE_USERNAME", "reader")
        assert download.credentials() is None  # half a login is none
        monkeypatch.setenv("KAGGLE_KEY", SECRET)
    elif place == "KAGGLE_API_TOKEN":
        monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
    elif place == "KAGGLE_CONFIG_DIR":
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "settings"))
        write_login(tmp_path / "settings" / "kaggle.json", username="reader", key=SECRET)
    elif place.startswith("Colab"):
        secrets = {"KAGGLE_USERNAME": "reader", "KAGGLE_KEY": SECRET}
        if place == "Colab token":
            secrets = {"KAGGLE_API_TOKEN": SECRET}
        colab = types.ModuleType("google.colab")
        colab.userdata = types.SimpleNamespace(get=secrets.__getitem__)  # a missing one raises
        monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
        monkeypatch.setitem(sys.modules, "google.colab", colab)
    elif "access_token" in place:
        path = Path(place).expanduser()
        path.parent.mkdir(parents=True)
        path.write_text(SECRET + "\n")
        path.chmod(0o600)
    else:
        path = paths.ROOT / place if place == "kaggle.json" else Path(place).expanduser()
        write_login(path, username="reader", key=SECRET)
    login = download.credentials()
    assert source in login.source
    assert SECRET in login.variables.values()
    assert SECRET not in repr(login) + str(login) + capsys.readouterr().out


# ---------------------------------------------------------------------------------- extracting


def test_a_zip_put_there_by_hand(data, capsys):
    archive = put_zip(data, ARCHIVE)
    assert download.ensure() == data
    assert archive.read_bytes() == ARCHIVE  # it is the reader's, so it stays
    archive.unlink()
    assert_complete(data)
    assert "chest_xray/archive.zip is no longer needed" in capsys.readouterr().out


@pytest.mark.parametrize("prefix", ["", "chest_xray/", "any/thing/"])
def test_keeps_one_copy_of_each_image_and_nothing_else(data, tmp_path, prefix):
    members = {prefix + name.removeprefix("chest_xray/"): content for name, content in kaggle_like().items()}
    members[prefix + "train/notes.csv"] = members[prefix + "train/NORMAL/notes.csv"] = b"x"
    members[prefix + "loose.jpeg"] = members[prefix + "train/NORMAL/._N0.jpeg"] = b"x"
    mac = {f"__MACOSX/{split}/NORMAL/N0.jpeg": b"x" for split in ("train", "test")}
    members = mac | members | {prefix + "train/__MACOSX/N0.jpeg": b"x"}
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(members))
    download.extract(archive, data)
    assert_complete(data)


def bad_crc():
    return ARCHIVE[:500] + bytes(byte ^ 0xFF for byte in ARCHIVE[500:600]) + ARCHIVE[600:]


def bad_stream():
    name = "chest_xray/val/NORMAL/z.jpeg"
    archive = with_member(name, pixels(1), compress_type=zipfile.ZIP_DEFLATED)
    start = archive.index(name.encode()) + len(name)
    return archive[:start] + bytes(100) + archive[start + 100 :]


def with_member(name, content=b"x", **changes):
    """The X-rays, and one more member that must spoil all of them."""
    file = io.BytesIO(ARCHIVE)
    with zipfile.ZipFile(file, "a") as bundle:
        info = zipfile.ZipInfo("x")
        info.filename = name
        for attribute, value in changes.items():
            setattr(info, attribute, value)
        bundle.writestr(info, content)
    return file.getvalue()


BAD = {
    "cut short": (lambda: ARCHIVE[: len(ARCHIVE) // 2], "damaged or cut short"),
    "empty": (lambda: b"", "damaged or cut short"),
    "wrong CRC": (bad_crc, "damaged or cut short"),
    "wrong compressed bytes": (lambda: bad_stream(), "damaged or cut short"),
    "parent": (lambda: with_member("chest_xray/train/NORMAL/../../../../out.jpeg"), "leaves its folder"),
    "parent in junk": (lambda: with_member("__MACOSX/../../._out.jpeg"), "leaves its folder"),
    "absolute": (lambda: with_member("/tmp/train/NORMAL/out.jpeg"), "leaves its folder"),
    "drive": (lambda: with_member("C:/train/NORMAL/out.jpeg"), "leaves its folder"),
    "backslashes": (lambda: with_member("..\\..\\train\\NORMAL\\out.jpeg"), "leaves its folder"),
    "link": (
        lambda: with_member("train/NORMAL/a.jpeg", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16),
        "link or device",
    ),
    "bomb": (
        lambda: zipped(
            {"train/A/a.jpeg": bytes(20_000_000), "test/A/a.jpeg": b"x"}, compress_type=zipfile.ZIP_DEFLATED
        ),
        "would unpack to 20.0 MB",
    ),
    "cases": (
        lambda: zipped({"train/A/a.jpeg": b"1", "train/a/A.JPEG": b"2", "test/A/a.jpeg": b"3"}),
        "twice, apart from upper and lower case",
    ),
    "accents": (
        lambda: zipped({"train/A/\xe9.jpeg": b"1", "train/A/e\u0301.jpeg": b"2", "test/A/a.jpeg": b"3"}),
        "twice, apart from upper and lower case",
    ),
    "another": (lambda: zipped({"images/a.jpeg": b"1", "labels.csv": b"2"}), "another data set"),
    "no test": (lambda: zipped({"train/A/a.jpeg": b"1"}), "another data set"),
    "name too long": (lambda: with_member("val/NORMAL/" + "x" * 260 + ".jpeg"), "too long"),
    "password": (lambda: ARCHIVE.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1"), "cannot read"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive_leaves_nothing_behind(data, tmp_path, name):
    make, words = BAD[name]
    archive = put_zip(data, make())
    before = files(tmp_path)
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, "chest_xray/archive.zip", words, "delete it and download it again")
    after = files(tmp_path)
    after.pop("project/chest_xray/.lock", None)
    assert after == before and archive.exists()
    assert_untouched(data)


def test_an_archive_that_is_too_big_altogether(data, monkeypatch):
    put_zip(data, ARCHIVE)
    monkeypatch.setattr(archive, "MAX_BYTES", 10**6)
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, "chest_xray/archive.zip", "would unpack to", "delete it")
    assert_untouched(data)


def test_a_missing_archive(data, tmp_path):
    with pytest.raises(Problem) as problem:
        download.extract(data / "gone.zip", data)
    says(problem, "chest_xray/gone.zip is not there", archive.PAGE)


def test_a_split_that_is_already_there_is_not_overwritten(data, tmp_path):
    mine = data / "val" / "NORMAL" / "mine.jpeg"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    archive = tmp_path / "a.zip"
    archive.write_bytes(ARCHIVE)
    with pytest.raises(Problem) as problem:
        download.extract(archive, data)
    says(problem, "chest_xray/val is already there", "move it away")
    assert files(data) == {"README.md": README.encode(), "val/NORMAL/mine.jpeg": b"mine"}


@pytest.mark.parametrize("route", ["by hand", "Kaggle"])
def test_a_disk_too_small(data, serve, monkeypatch, capsys, route):
    server = serve()
    if route == "by hand":
        put_zip(data, ARCHIVE)
    usage = shutil.disk_usage(data)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, "chest_xray/ needs", "1.0 MB free", "free some space", "CHEST_XRAY_DIR")
    assert capsys.readouterr().out == ""  # before the transfer, not after it
    assert_untouched(data)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert download.fetch() == data
    assert bool(server.transfers) == (route == "Kaggle")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_full_while_downloading(data, serve, monkeypatch):
    """/dev/full answers every write as a full disk does."""
    kept(data).symlink_to("/dev/full")
    monkeypatch.setattr(zipfile, "is_zipfile", lambda path: False)  # it would read /dev/full, which has no end
    serve()
    with pytest.raises(Problem) as problem:
        download.fetch()
    says(problem, "disk of chest_xray/ is full", "free some space")
    assert {path.name for path in data.iterdir()} == {"README.md", ".lock", ".download"}


def fail_at(number, failure):
    """A copyfileobj that calls `failure` on the given file."""
    count, real = [0], shutil.copyfileobj

    def copy(source, file, *rest):
        count[0] += 1
        if count[0] == number:
            file.write(source.read(100))
            failure()
        real(source, file, *rest)

    return copy


def raising(error):
    def failure():
        raise error

    return failure


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ["disk of chest_xray/ is full", "free some space"]),
        (OSError(errno.EIO, "I/O error"), ["chest_xray/", "cannot be used"]),
        (KeyboardInterrupt(), []),
    ],
)
def test_a_failure_while_extracting(data, serve, monkeypatch, error, words):
    server = serve()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", fail_at(5, raising(error)))
        with pytest.raises((Problem, KeyboardInterrupt)) as problem:
            download.fetch()
    if words:
        says(problem, *words)
    assert_untouched(data)
    download.fetch()
    assert_complete(data)
    assert server.transfers == 1  # what had arrived was kept


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from cxr import paths
from cxr import download
paths.ROOT = Path(sys.argv[1])
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
count, module, name = 0, shutil if sys.argv[2] == "copyfileobj" else os, sys.argv[2]
real = getattr(module, name)
def deadly(*args, **rest):
    global count
    count += 1
    die() if count == int(sys.argv[3]) else real(*args, **rest)
setattr(module, name, deadly)
download.fetch()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize(("where", "number"), [("copyfileobj", 5), ("rename", 1), ("rename", 2), ("rename", 3)])
def test_killed_while_extracting(data, where, number):
    put_zip(data, ARCHIVE)
    env = os.environ | {"PYTHONPATH": f"{NOTEBOOKS}{os.pathsep}{os.environ['PYTHONPATH']}"}
    command = [sys.executable, "-c", KILLED, str(paths.ROOT), where, str(number)]
    assert subprocess.run(command, env=env, capture_output=True).returncode == -signal.SIGKILL
    assert (data / ".incoming").exists()
    assert download.find() is None  # neither half a data set nor a Problem
    download.ensure()
    (data / "archive.zip").unlink()
    assert_complete(data)


def test_leftovers_that_are_links_are_not_followed(data, tmp_path, serve):
    outside = put(tmp_path / "outside")
    (outside / "READY").touch()
    (data / ".incoming").symlink_to(outside)
    (data / ".download").symlink_to(outside)
    before = files(outside)
    serve()
    download.fetch()
    assert files(outside) == before
    assert_complete(data)


def test_a_linked_data_folder_is_filled_where_it_points(data, tmp_path):
    disk = tmp_path / "big disk" / "x"
    disk.parent.mkdir()
    shutil.move(data, disk)
    data.symlink_to(disk)
    put_zip(disk, ARCHIVE)
    download.ensure()
    (disk / "archive.zip").unlink()
    assert data.is_symlink()
    assert_complete(disk)


@pytest.mark.parametrize("name", ["Röntgen 胸部 ☢", "with spaces", "deep/" * 20 + "x" * 200])
def test_unusual_paths(tmp_path, monkeypatch, serve, name):
    root = tmp_path / name
    root.mkdir(parents=True)
    monkeypatch.setattr(paths, "ROOT", root)
    images = {name.replace("P0", "Pé 胸"): content for name, content in IMAGES.items()}
    serve(zipped(kaggle_like(images)))
    assert download.ensure() == root / "chest_xray"
    there = files(root / "chest_xray")
    there.pop(".lock", None)
    assert there == images


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
@pytest.mark.parametrize("entry", ["fetch", "extract", "find"])
def test_a_data_folder_without_permission(monkeypatch, entry):
    with tempfile.TemporaryDirectory() as root:  # others may not look into pytest's own folders
        data = Path(root, "chest_xray")
        data.mkdir()
        (data / "README.md").write_text(README)
        put_zip(data, ARCHIVE)
        monkeypatch.setattr(paths, "ROOT", Path(root))
        os.chmod(root, 0o755)
        data.chmod(0o000 if entry == "find" else 0o555)
        as_root = os.geteuid() == 0  # for whom permission bits mean nothing
        if as_root:
            os.seteuid(65534)
        try:
            with pytest.raises(Problem) as problem:
                download.extract(data / "archive.zip", data) if entry == "extract" else getattr(download, entry)()
        finally:
            if as_root:
                os.seteuid(0)
            data.chmod(0o755)
        says(problem, "chest_xray/ may not be read or written", "CHEST_XRAY_DIR")
        assert {path.name for path in data.iterdir()} == {"README.md", "archive.zip"}


def test_a_file_in_place_of_the_data_folder(data):
    shutil.rmtree(data)
    data.write_text("mine")
    with pytest.raises(Problem) as problem:
        download.ensure()
    says(problem, "chest_xray/ cannot be used")
    assert data.read_text() == "mine"


def test_the_child_ends_with_its_notebook(data, serve, monkeypatch):
    """A killed kernel must not leave a download behind that writes into the next one's file."""
    server = serve(fault="stall")
    script = (
        "import sys; from pathlib import Path; from cxr import paths; from cxr import download\n"
        "paths.ROOT = Path(sys.argv[1]); download.MOUNTS = ()\n"
        "real = download.subprocess.Popen\n"
        "def popen(*args, **rest):\n"
        "    child = real(*args, **rest); print(child.pid, flush=True); return child\n"
        "download.subprocess.Popen = popen; download.fetch()"
    )
    env = os.environ | {"PYTHONPATH": f"{NOTEBOOKS}{os.pathsep}{os.environ['PYTHONPATH']}"}
    kernel = subprocess.Popen([sys.executable, "-c", script, str(paths.ROOT)], env=env, stdout=subprocess.PIPE)
    child = int(kernel.stdout.readline())
    kernel.kill()
    kernel.communicate()
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            break
        if state == "Z":
            break
        server.stopping.wait(0.1)
    else:
        pytest.fail("the child is still running")
