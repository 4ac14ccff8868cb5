"""The X-rays arrive whole or not at all, and every failure says in one sentence what to do.

kagglehub and kaggle are really called; `kaggle_server` answers in Kaggle's place.
"""

import contextlib
import errno
import io
import json
import os
import random
import re
import shutil
import stat
import threading
import zipfile
from pathlib import Path

import pytest
import requests
from kagglesdk import kaggle_env

from cxr import download, paths
from cxr.paths import Problem
from kaggle_server import KaggleServer

PLACEHOLDER = json.dumps({"username": "your-kaggle-username", "key": "your-kaggle-api-key"})
SECRET = "5ecret-0f-the-reader"
LOGIN = json.dumps({"username": "reader", "key": SECRET}).encode()
README = "About these X-rays.\n"
SITE = """
import kagglesdk.kaggle_env as env, os
env._env_to_endpoint[env.KaggleEnv.PROD] = os.environ["CXR_STAND_IN"]
"""  # sends the command line of kaggle to the stand-in
IMAGES = {
    f"{split}/{kind}/{kind[0]}{i}.jpeg": random.Random(f"{split}{kind}{i}").randbytes(size)
    for split, count, size in (("train", 4, 400_000), ("test", 1, 20_000), ("val", 1, 20_000))
    for kind in ("NORMAL", "PNEUMONIA")
    for i in range(count)
}


def zipped(members, **changes):
    """A zip file of `members`, names to bytes; `changes` are attributes of every ZipInfo."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as bundle:
        for name, data in members.items():
            info = zipfile.ZipInfo("x")
            for attribute, value in ({"filename": name} | changes).items():
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
        members[f"chest_xray/__MACOSX/{folder}/._{file}"] = members[f"chest_xray/{folder}/.DS_Store"] = b"x"
    return members


ARCHIVE = zipped(kaggle_like())


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A project of its own with an empty chest_xray/, no login, no cache and no network."""
    root, site, home = tmp_path / "project", tmp_path / "site", tmp_path / "home"
    put(root, {"chest_xray/README.md": README.encode()})
    put(site, {"sitecustomize.py": SITE.encode()})
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(("KAGGLE", "CHEST_XRAY", "CXR_", "COLAB", "TBE_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    folders = {"HOME": home, "USERPROFILE": home, "KAGGLEHUB_CACHE": tmp_path / "cache", "PYTHONPATH": site}
    for name, value in (folders | {"XDG_CONFIG_HOME": home / ".config", "NO_PROXY": "*"}).items():
        monkeypatch.setenv(name, str(value))
    for name in ("DISABLE_KAGGLE_CACHE", "DISABLE_COLAB_CACHE", "KAGGLE_CONFIG_DIR"):
        monkeypatch.setenv(name, "1")  # what `download` sets is undone after the test
        monkeypatch.delenv(name)
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(download, "MOUNTS", ())
    monkeypatch.setattr(download, "NEEDED", 1e6)
    point_at("http://127.0.0.1:9", monkeypatch)  # nobody listens there
    return root / "chest_xray"


def point_at(url, monkeypatch):
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, url)
    monkeypatch.setenv("CXR_STAND_IN", url)


@pytest.fixture
def serve(monkeypatch):
    """Starts the stand-in, and sends the libraries there."""
    with contextlib.ExitStack() as running:

        def start(archive=ARCHIVE, fault="", **options):
            server = KaggleServer(archive, fault, **options)
            running.enter_context(server)
            point_at(server.url, monkeypatch)
            return server

        yield start


def refused(*words, call=download.ensure):
    """`call` ends with a Problem, one sentence that holds `words`."""
    with pytest.raises(Problem) as problem:
        call()
    text = str(problem.value)
    assert "\n" not in text and text.endswith(".") and not re.search(r"[.!?]\s+[A-Z]", text), text
    assert not [word for word in words if word not in text], text


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_films(folder):
    """All films are in `folder`, and it is the one that is found from now on."""
    assert download.find() == folder
    there = files(folder)
    assert {name: there[name] for name in IMAGES} == IMAGES


def assert_untouched(data):
    assert (data / "README.md").read_text() == README and download.find() is None
    assert {path.name for path in data.iterdir()} <= {"README.md", ".lock", "archive.zip"}


def cache(name="versions/2/chest_xray"):
    return Path(os.environ["KAGGLEHUB_CACHE"], "datasets", download.HANDLE, name)


def raising(error):
    def fail(*_):
        raise error

    return fail


def put(folder, images=IMAGES):
    for name, content in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("below", ["", "chest_xray/chest_xray"])
def test_finds_the_folder_that_directly_holds_train_and_test(data, below, capsys):
    put(data, {"lung_masks.npz": b"masks"})
    put(data / "sample")  # both come with the project, and are no data set
    assert download.find() is None
    put(data / below)
    assert download.find() == download.ensure() == data / below
    assert capsys.readouterr().out == f"Using the X-rays in {Path('chest_xray', below).as_posix()}/\n"


@pytest.mark.parametrize("names", [["train/NORMAL/a.jpeg"], ["images/a", "labels.csv"]])
def test_half_a_data_set_or_another_one_is_a_problem(data, names):
    put(data, {name: b"mine" for name in names})
    refused("chest_xray/ holds", names[-1].split("/")[0], "move that away", "CHEST_XRAY_DIR", call=download.fetch)
    assert all((data / name).read_text() == "mine" for name in names)


def test_chest_xray_dir_is_used_and_never_skipped(data, tmp_path, monkeypatch, capsys):
    put(data)  # would be found if the setting were skipped
    other = tmp_path / "Röntgen bilder" / "chest"
    monkeypatch.setenv("CHEST_XRAY_DIR", str(other))
    refused("CHEST_XRAY_DIR", ".../chest", "unset it")
    put(other, {"train/NORMAL/a.jpeg": b""})
    refused("CHEST_XRAY_DIR", "every fifth patient into test/")
    shutil.rmtree(other / "train")
    put(other, {name.replace("train/", "Train/"): content for name, content in IMAGES.items()})
    assert download.ensure() == other
    assert capsys.readouterr().out == "Using the X-rays in .../chest/\n"
    refused("SAMPLE is True", "unset it", call=lambda: download.ensure(sample=True))


def test_the_sample_is_used_until_it_is_given_up_and_its_results_lie_apart(data):
    put(put(data) / "sample", IMAGES | {"sample.json": b"{}"})
    assert download.ensure(sample=True) == download.find() == data / "sample"
    assert paths.results_dir() == paths.ROOT / ".cache" / "sample" / "results"
    assert download.ensure(sample=False) == data and paths.results_dir() == paths.ROOT / "results"


def test_offline_with_cache(data, tmp_path, monkeypatch):
    put(cache())
    assert download.find() is None  # without its marker it may be half
    cache("2.complete").touch()
    assert download.ensure() == cache()
    mount = put(tmp_path / "input" / "chest_xray")
    monkeypatch.setattr(download, "MOUNTS", (str(tmp_path / "absent"), str(mount.parent)))
    assert download.ensure() == mount


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("407", ["The proxy", "HTTP 407", "HTTPS_PROXY"]),
        ("429", ["HTTP 429", "wait ten minutes"]),
        ("page-as-zip", ["login page", "twice in a row"]),
        ("hash", ["damaged", "twice in a row"]),
        ("cut-always", ["check the network", "goes on"]),
        ("silent", ["can't be reached", "check the network"]),
    ],
)
def test_what_kaggle_refuses_or_spoils(data, serve, monkeypatch, fault, words):
    monkeypatch.setattr(download, "SECONDS", 1)
    server = serve(fault=fault)
    refused(*words, "archive.zip", "SAMPLE = True")
    assert_untouched(data)
    assert server.transfers <= 3
    server.fault = ""
    download.fetch()  # nothing of the failure stands in the way
    assert_films(cache())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED]"), ["certificate", "REQUESTS_CA_BUNDLE"]),
        (requests.exceptions.ProxyError("refused"), ["The proxy in HTTPS_PROXY"]),
        (requests.exceptions.ConnectTimeout("port=40731"), ["can't be reached", "check the network"]),
        (ImportError(), ["kagglehub is not installed", "requirements.txt"]),
    ],
)
def test_what_stands_between_here_and_kaggle_is_named(data, monkeypatch, error, words):
    monkeypatch.setattr(download, "_by_kagglehub", raising(error))
    refused(*words, "SAMPLE = True")


def test_offline_without_cache(data):
    refused("can't be reached", "check the network", download.PAGE, "chest_xray/archive.zip", "SAMPLE = True")
    assert_untouched(data)


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_broken_transfer_goes_on(data, serve, monkeypatch, capsys, fault):
    monkeypatch.setattr(download, "SECONDS", 2)
    server = serve(fault=fault)
    download.fetch()
    assert_films(cache())
    assert "bytes=1048576-" in [call["headers"].get("Range") for call in server.asked("/storage/")]
    assert "going on from what has arrived" in capsys.readouterr().out


def test_a_corrupt_archive_is_fetched_again(data, serve, capsys):
    put(cache("."), {"2.archive": bytes(len(ARCHIVE))})  # by an earlier run; of the right size, so kagglehub keeps it
    server = serve()
    download.fetch()
    assert_films(cache())
    assert server.transfers <= 2 and "The archive is damaged" in capsys.readouterr().out


def test_a_mount_that_never_appears(data, serve, monkeypatch):
    server = serve()
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    monkeypatch.setenv("TBE_RUNTIME_ADDR", server.url.removeprefix("http://"))
    assert download.fetch() == cache() and not server.asked("ount")  # it is not even asked for


def test_two_at_once(serve):
    server, found = serve(delay=0.5), []
    threads = [threading.Thread(target=lambda: found.append(download.ensure())) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == [cache()] * 2 and server.transfers == 1
    assert_films(cache())


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_login_helps_where_one_is_asked_for(data, serve, capfd, mode):
    put(paths.ROOT, {"kaggle.json": LOGIN})
    (paths.ROOT / "kaggle.json").chmod(mode)
    server = serve(fault="login")
    assert_films(download.fetch())
    said = "".join(capfd.readouterr())
    assert server.transfers == 1 and SECRET not in said
    assert ("chmod 600" in said) == (mode == 0o644)  # a login that others can read


@pytest.mark.parametrize(("text", "words"), [("{", "is no Kaggle login"), (PLACEHOLDER, "HTTP 403")])
def test_a_malformed_or_wrong_login_is_named(data, serve, monkeypatch, text, words):
    put(paths.ROOT, {"kaggle.json": text.encode()})
    serve(fault="403")
    refused(words, "kaggle.json")


def test_the_command_line_of_kaggle_is_tried_next(data, serve, monkeypatch):
    put(paths.ROOT, {"kaggle.json": LOGIN})
    serve()
    response = requests.Response()
    response.status_code = 404
    monkeypatch.setattr(download, "_by_kagglehub", raising(requests.HTTPError(response=response)))
    assert download.fetch() == data / "chest_xray"
    assert_films(data / "chest_xray")


@pytest.mark.parametrize("prefix", ["", "any/thing/"])
def test_keeps_one_copy_of_each_image_and_nothing_else(data, prefix):
    members = {prefix + name.removeprefix("chest_xray/"): content for name, content in kaggle_like().items()}
    members |= {prefix + "train/NORMAL/notes.csv": b"x", prefix + "loose.jpeg": b"x"}
    members = {"__MACOSX/train/NORMAL/N0.jpeg": b"x", "__MACOSX/test/NORMAL/N0.jpeg": b"x"} | members
    put(data, {"archive.zip": zipped(members)})
    assert download.ensure() == data / "chest_xray"
    assert files(data / "chest_xray") == IMAGES and (data / "archive.zip").exists()  # which is the reader's


def with_member(name, content=b"x", **changes):
    """The X-rays, and one more member that must spoil all of them."""
    file = io.BytesIO(ARCHIVE)
    info = zipfile.ZipFile(io.BytesIO(zipped({name: content}, **changes))).infolist()[0]
    with zipfile.ZipFile(file, "a") as bundle:
        bundle.writestr(info, content)
    return file.getvalue()


LINK = {"external_attr": (stat.S_IFLNK | 0o777) << 16}
ZEROS = {"train/A/a.jpeg": bytes(20_000_000), "test/A/a.jpeg": b"x"}
BAD = {
    "cut short": (ARCHIVE[: len(ARCHIVE) // 2], ""),
    "wrong CRC": (ARCHIVE[:500] + bytes(100) + ARCHIVE[600:], "CRC"),
    "parent": (with_member("chest_xray/train/NORMAL/../../../../out.jpeg"), "leaves its folder"),
    "absolute": (with_member("/tmp/train/NORMAL/out.jpeg"), "leaves its folder"),
    "link": (with_member("train/NORMAL/a.jpeg", b"/etc/passwd", **LINK), "holds a link"),
    "bomb": (zipped(ZEROS, compress_type=zipfile.ZIP_DEFLATED), "would unpack to 0.0 GB"),
    "cases": (zipped({"train/A/a.jpeg": b"1", "train/a/A.JPEG": b"2", "test/A/a.jpeg": b"3"}), "twice"),
    "another": (zipped({"images/a.jpeg": b"1", "labels.csv": b"2"}), "no images under train/ and test/: unpack it in"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive_leaves_nothing_behind(data, tmp_path, name):
    put(data, {"archive.zip": BAD[name][0]})
    before = files(tmp_path)
    known = ["chest_xray/archive.zip is damaged, or no archive", "delete it and download it again"]
    refused(BAD[name][1], *([] if name == "another" else known))
    assert {path: content for path, content in files(tmp_path).items() if not path.endswith(".lock")} == before
    assert_untouched(data)


@pytest.mark.parametrize("archives", [{}, {"archive.zip": ARCHIVE}], ids=["from Kaggle", "by hand"])
def test_a_disk_too_small(data, serve, monkeypatch, archives):
    server, usage = serve(), shutil.disk_usage(put(data, archives))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000))
    refused("GB are needed", "free some space", "SAMPLE = True")
    assert_untouched(data)
    assert not server.transfers  # before the transfer, not after it


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, ""), KeyboardInterrupt()], ids=repr)
def test_a_failure_while_extracting(data, monkeypatch, error):
    put(data, {"archive.zip": ARCHIVE})
    with monkeypatch.context() as patch, pytest.raises((Problem, KeyboardInterrupt)) as caught:
        patch.setattr(shutil, "copyfileobj", lambda source, file, size: raising(error)(file.write(b"half")))
        download.ensure()
    assert isinstance(error, KeyboardInterrupt) or re.search("No space left.*make room", str(caught.value))
    assert_untouched(data)
    download.ensure()
    assert_films(data / "chest_xray")


def test_killed_while_extracting(data):
    put(data / ".unfinished", dict(list(IMAGES.items())[:5]))
    put(data, {"archive.zip": ARCHIVE})
    assert download.find() is None  # neither half a data set nor a Problem
    download.ensure()
    assert_films(data / "chest_xray")


@pytest.mark.parametrize("name", ["Röntgen 胸部 ☢", "deep/" * 20 + "x" * 200])
def test_unusual_paths(tmp_path, monkeypatch, name):
    monkeypatch.setattr(paths, "ROOT", tmp_path / name)
    put(tmp_path / name / "chest_xray", {"Röntgen bilder.zip": ARCHIVE})
    download.ensure()
    assert_films(tmp_path / name / "chest_xray" / "chest_xray")


def test_a_data_folder_without_permission(data, tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    data.chmod(0o000)
    as_root = os.geteuid() == 0  # for whom permission bits mean nothing
    os.seteuid(65534 if as_root else os.geteuid())
    try:
        refused("chest_xray/ can't be used", "Permission denied", "change its permissions", "CHEST_XRAY_DIR")
    finally:
        os.seteuid(0 if as_root else os.geteuid())
        data.chmod(0o755)
