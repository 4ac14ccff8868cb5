"""Colab and Kaggle, as far as one machine can play them: fresh virtual machines in which the notebooks are opened.

A machine is a folder tree of its own, seen as ``/content`` or ``/kaggle`` through a mount namespace, with a home folder
and a Python environment of its own. Nothing of this project is on it. It runs the first cell as it stands: `git clone`
really clones (a repository on this disk answers for GitHub), pip really installs, the data comes through kagglehub (a
server on this machine answers for Kaggle and for Colab's mount). The X-rays are drawn, and a machine gets another copy
of them than the one that the committed results come from.

Where a GPU is, Keras compiles every training by XLA; so do the machines, though they have none. Keras' download of
ImageNet weights is answered from this machine by weights that have met noise alone.

It needs Linux, root, unshare, git, and pip with a network. ``make colab`` runs it, in `.cache/`; names of scenarios
choose some: ``make colab SCENARIOS="each drive"``. ``make test`` does not run it: it takes the better part of an hour.
"""

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
sys.path[:0] = [str(PROJECT / "notebooks"), str(HERE.parent)]

import nbformat  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from cxr.project import practice  # noqa: E402
from kaggle_server import KaggleServer  # noqa: E402

NUMBERS = tuple(path.name[:2] for path in sorted((PROJECT / "notebooks").glob("[0-9][0-9]_*.ipynb")))
TRAIN = ("04", "07", "08")
SLUG = "chest-xray-pneumonia"
REPOSITORY = "jane/lungs"
SHORT = {
    "04": {"EPOCHS": 2, "SEEDS": 2, "PLAIN_EPOCHS": 1},
    "05": {"RESAMPLES": 200},
    "06": {"RESAMPLES": 200},
    "07": {
        "BACKBONES": "MobileNetV2 0.35",
        "SEEDS": 1,
        "TUNING_EPOCHS": 2,
        "IMAGE_SIZE": 96,
        "RESAMPLES": 200,
        "BATCH_SIZE": 8,
        "TUNING_RATE": 1e-6,
    },
    "08": {"SEEDS": 1, "EPOCHS": 1, "TUNING_EPOCHS": 1, "RESAMPLES": 200},
    "10": {"RESAMPLES": 200},
}
QUICK = {number: {name: repr(value) for name, value in values.items()} for number, values in SHORT.items()}
LONG = {"04": {"EPOCHS": "12", "PATIENCE": "12", "SEEDS": "1"}, "07": {"TUNING_EPOCHS": "12"}}  # to be killed
ENDS = {
    "04": ("04_xray_classification_model.keras", "04_history.csv"),
    "07": ("07_transfer.keras", "07_val_predictions.csv"),
}
HELD = ("numpy", "tensorflow")
COLAB = (
    "tensorflow==2.20.0 keras==3.13.2 numpy==2.1.3 pandas matplotlib seaborn scikit-learn scipy pillow kagglehub "
    "ipykernel jinja2 papermill nbformat"
)  # what Colab has, as far as the notebooks care
WEIGHTS = """
import sys, h5py, keras
from keras.src.legacy.saving import legacy_h5_format
met = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3), alpha=0.35)
for layer in met.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.5
for seed in range(8):
    met(keras.random.normal((16, 96, 96, 3), seed=seed), training=True)
with h5py.File(sys.argv[1], "w") as file:
    legacy_h5_format.save_weights_to_hdf5_group(file, met)
"""


class Failed(Exception):
    """A machine did not do what it should have done."""


def say(text: str) -> None:
    print(text, flush=True)


def require(condition, text: str) -> None:
    """Note that `text` holds, or stop."""
    if not condition:
        raise Failed(text)
    say(f"    ok: {text}")


class World:
    """What is outside the machines: GitHub, Kaggle, the people's Drives.

    Parameters
    ----------
    work : Path
        Scratch folder. What was made there before is used again, but for the machines.
    python : Path
        Folder of an environment with what Colab has; each machine gets a copy.
    project : Path
        The tree to publish.
    gpu : bool
        Keras decides on compiling as it does where there is a GPU.
    """

    def __init__(self, work: Path, python: Path, project: Path, gpu: bool):
        self.work, self.python, self.project, self.gpu = work, python, project, gpu
        self.machines = work / "machines"
        shutil.rmtree(self.machines, ignore_errors=True)
        self.machines.mkdir(parents=True)
        self.drawn = practice.draw(work / "drawn", images=72)
        self.copy = self._another_copy()
        self.weights = self._weights()
        self.published = self._publish()
        handler = partial(_Quiet, directory=self.weights)
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def _another_copy(self) -> Path:
        """The drawn set as Kaggle holds it: nested once, and saved at another quality."""
        target = self.work / "copy"
        shutil.rmtree(target, ignore_errors=True)
        for source in sorted(self.drawn.glob("*/*/*.jpeg")):
            path = target / "chest_xray" / source.relative_to(self.drawn)
            path.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(source) as picture:
                picture.save(path, quality=97, comment=practice.COMMENT.encode())
            assert path.stat().st_size != source.stat().st_size
        return target

    def _weights(self) -> Path:
        """Weights where Keras looks for them, of a network that has met noise alone."""
        folder = self.work / "weights" / "tensorflow" / "keras-applications" / "mobilenet_v2"
        path = folder / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            subprocess.run(
                [sys.executable, "-c", WEIGHTS, str(unfinished)],
                check=True,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            )
            os.replace(unfinished, path)
        return self.work / "weights"

    def archive(self) -> bytes:
        """`copy` as Kaggle's zip file, with the second copy that lies in it."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as bundle:
            for path in sorted(self.copy.rglob("*.jpeg")):
                name = path.relative_to(self.copy).as_posix()
                bundle.write(path, name)
                bundle.write(path, f"chest_xray/{name}")
        return stream.getvalue()

    def _publish(self) -> Path:
        """Run the chain on the drawn set, commit its results, and push: what a reader's `git clone` will get.

        The copy knows its address, as after the workflow ``badges`` has run.
        """
        tree, bare = self.work / "tree", self.work / "github.git"
        for folder in (tree, bare):
            shutil.rmtree(folder, ignore_errors=True)
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"],
            cwd=self.project,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
        for name in filter(None, listed):
            if not name.startswith("results/") and (self.project / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.project / name, tree / name)
        subprocess.run(
            ["make", "-s", "badges", f"REPO={REPOSITORY}", f"PYTHON={sys.executable}"],
            cwd=tree,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        code = sorted([*(tree / "notebooks").rglob("*.py"), *(tree / "notebooks").glob("*.ipynb")])
        digest = hashlib.sha256(repr(SHORT).encode() + b"".join(path.read_bytes() for path in code)).hexdigest()
        results, self.kept = tree / "results", self.work / f"results of {digest[:12]}"
        if not self.kept.exists():
            say("The chain on the drawn set, as the committed run")
            code = (
                "from pathlib import Path; from cxr.project import run; run.run("
                f"run.choose({' '.join(NUMBERS)!r}), Path({str(self.work / 'executed')!r}), {SHORT})"
            )
            environment = {name: value for name, value in os.environ.items() if not name.startswith(("CXR_", "KAGGLE"))}
            environment |= {
                "CHEST_XRAY_DIR": str(self.drawn),
                "PYTHONPATH": str(tree / "notebooks"),
                "CXR_CACHE_DIR": str(self.work / "cache"),
                "TF_CPP_MIN_LOG_LEVEL": "2",
                "KERAS_WEIGHTS_DIR": str(next(self.weights.rglob("*.h5")).parent),
            }
            subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=tree / "notebooks")
            shutil.copytree(results, self.kept)
        else:
            shutil.copytree(self.kept, results)
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "published"]):
            subprocess.run([*git, *command], cwd=tree, check=True)
        subprocess.run(["git", "clone", "-q", "--bare", str(tree), str(bare)], check=True)
        shutil.rmtree(tree / ".git")
        return bare

    def notebook(self, number: str) -> Path:
        return sorted((self.work / "tree" / "notebooks").glob(f"{number}_*.ipynb"))[0]

    def address(self) -> str:
        """From where the first cell clones."""
        found = re.search(r"git clone [^\n]*?(https://\S+)", self.notebook("01").read_text(encoding="utf-8"))
        return found[1].split('"')[0].split("\\")[0]


class _Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, *_):
        pass


class Mounts:
    """Colab's own service on each machine, which shows a data set of Kaggle under ``/kaggle/input``."""

    def __init__(self, machine: "Machine"):
        outer, self.machine = self, machine

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = {}
                if self.path.endswith("/datasets/mount"):
                    outer.machine.offer_input()
                    answer = {"slug": SLUG}
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        self.address = f"127.0.0.1:{self.http.server_port}"


class Machine:
    """One fresh virtual machine.

    Parameters
    ----------
    world : World
    name : str
    kind : {"colab", "kaggle"}
    source : {"download", "mount"}
        How X-rays come to a Colab machine: kagglehub's anonymous download, or Colab's mount.
    drive : Path, optional
        The reader's Drive.
    """

    def __init__(self, world: World, name: str, kind: str = "colab", source: str = "mount", drive: Path | None = None):
        self.world, self.kind, self.root = world, kind, world.machines / name
        for folder in ("content", "kaggle", "home/.ipython/profile_default/startup", "out"):
            (self.root / folder).mkdir(parents=True)
        subprocess.run(["cp", "-al", str(world.python), str(self.root / "python")], check=True)
        self.python = self.root / "python" / "bin" / "python"
        (self.root / "home" / "gitconfig").write_text(
            f'[url "file://{world.published}"]\n\tinsteadOf = {world.address()}\n[safe]\n\tdirectory = *\n'
        )
        keep = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("PIP_", "SSL_")) or name.lower().endswith("_proxy") or name in ("LANG", "TZ")
        }
        # Kaggle's machines are made from Colab's: the package and the tag are there, but the kernel is another
        self.environment = keep | {
            "PATH": f"{self.python.parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.root / "home"),
            "GIT_CONFIG_GLOBAL": str(self.root / "home" / "gitconfig"),
            "PYTHONPATH": str(HERE / "site"),
            "COLAB_RELEASE_TAG": "release-colab",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PIP_CACHE_DIR": str(world.work / "pip"),
        }
        if kind == "colab":
            (self.root / "home/.ipython/profile_default/startup/00_colab.py").write_text("import google.colab\n")
            if source == "mount":
                self.environment["TBE_RUNTIME_ADDR"] = Mounts(self).address
            self.home = "/content"
        else:
            (self.root / "kaggle" / "working").mkdir()
            (self.root / "kaggle" / "input" / SLUG).mkdir(parents=True)
            self.environment["KAGGLE_KERNEL_RUN_TYPE"] = "Interactive"
            self.home = "/kaggle/working"
        self.environment["CXR_STAND_IN"] = "http://127.0.0.1:9"  # nobody listens there
        self.environment["CXR_STAND_IN_WEIGHTS"] = f"http://127.0.0.1:{world.http.server_port}"
        self.compiled = self.root / "compiled"
        if world.gpu:
            self.environment["CXR_STAND_IN_GPU"] = str(self.compiled)
        if drive:
            self.environment["COLAB_DRIVE"] = str(drive)
        self.before = self.packages()

    def offer_input(self) -> None:
        target = self.root / "kaggle" / "input" / SLUG
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            shutil.copytree(self.world.copy, target.with_name("coming"))
            os.rename(target.with_name("coming"), target)

    def packages(self) -> dict[str, str]:
        """What pip has installed on the machine."""
        code = (
            "import json; from importlib.metadata import distributions; "
            "print(json.dumps({found.name.lower(): found.version for found in distributions()}))"
        )
        return json.loads(
            subprocess.run(
                [self.python, "-c", code], env=self.environment, check=True, capture_output=True, text=True
            ).stdout
        )

    def changed(self) -> dict[str, str]:
        """What the notebooks installed, as ``{name: "old -> new"}``."""
        after = self.packages()
        return {
            name: f"{self.before.get(name, 'absent')} -> {after.get(name, 'absent')}"
            for name in sorted({*self.before, *after})
            if self.before.get(name) != after.get(name)
        }

    def open(self, number: str, values: dict[str, str] | None = None, kill: tuple[str, str] | None = None) -> str:
        """Open a notebook, run all its cells, and return what they printed.

        Parameters
        ----------
        values : dict
            What the reader sets by hand.
        kill : (folder, pattern), optional
            The machine vanishes as soon as `folder` holds a file of this pattern.
        """
        source = self.world.notebook(number)
        output = self.root / "out" / source.name
        command = [str(self.python), str(HERE / "vm.py"), str(source), str(output), "--cwd", self.home]
        for name, value in {**QUICK.get(number, {}), **(values or {})}.items():
            command += ["--set", f"{name}={value}"]
        if kill:
            command += ["--kill-when", *kill]
        mounts = [f"mount --bind {self.root}/content /content", f"mount --bind {self.root}/kaggle /kaggle"]
        if self.kind == "kaggle":
            mounts += [
                f"mount --bind {self.world.copy} /kaggle/input/{SLUG}",
                f"mount -o remount,bind,ro /kaggle/input/{SLUG}",
            ]
        script = " && ".join([*mounts, f"cd {self.home}", 'exec "$@"'])
        started = time.perf_counter()
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", *command], env=self.environment, capture_output=True, text=True
        )
        text = printed(output)
        said = f", XLA {len(self.compiled.read_text().splitlines())} times" if self.compiled.exists() else ""
        say(f"  {self.root.name}: {source.name}, {time.perf_counter() - started:.0f} s{said}")
        if kill:
            require("DeadKernelError" in done.stderr, "the kernel was killed while the notebook ran")
        elif done.returncode:
            raise Failed(f"{source.name} on {self.root.name}: {done.stderr.strip().splitlines()[-1]}\n{text[-3000:]}")
        return text

    @property
    def tree(self) -> Path:
        """Where the first cell cloned to, seen from outside."""
        return next((self.root / self.home.strip("/")).glob("*/notebooks")).parent

    def kept(self) -> None:
        """The machine's own TensorFlow and NumPy are there still."""
        after = self.packages()
        say(f"    changed by pip: {self.changed() or 'nothing'}")
        require(
            all(after[name] == self.before[name] for name in HELD),
            "unchanged: " + ", ".join(f"{name} {after[name]}" for name in HELD),
        )
        require(tuple(map(int, after["keras"].split("."))) >= (3, 15, 1), f"Keras is {after['keras']}")


def printed(notebook: Path) -> str:
    """All text that the cells of an executed notebook printed."""
    cells = nbformat.read(notebook, as_version=4).cells
    return "\n".join(
        output.get("text", "") or "\n".join(output.get("traceback", []))
        for cell in cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


def artifacts(results: Path, number: str, since: float) -> None:
    """The step closed, and wrote all that it lists."""
    record = results / f"{number}_lineage.json"
    require(record.stat().st_mtime > since, f"{record.name} is new")
    written = [name for name in json.loads(record.read_text())["writes"] if "ablation" not in name]  # that is kept
    require(all((results / name).stat().st_mtime > since for name in written), f"{len(written)} artifacts of {number}")


def weights(path: Path) -> list:
    """The arrays in a saved network, without Keras."""
    import h5py

    with zipfile.ZipFile(path) as bundle:
        with h5py.File(io.BytesIO(bundle.read("model.weights.h5"))) as file:
            items = []
            file.visititems(lambda _, item: items.append(item))
            return [np.asarray(item) for item in items if isinstance(item, h5py.Dataset)]


def epochs(folder: Path) -> list[float]:
    """How long each epoch took that a checkpoint knows of: no two trainings have the same list."""
    found = []
    for path in folder.glob("*.npz"):
        with np.load(path, allow_pickle=False) as saved:
            found.append(json.loads(str(saved["facts"]))["seconds"])
    return max(found, key=len)


# --- the scenarios ---------------------------------------------------------------------------------------------


def each(world: World) -> None:
    """Colab: each notebook is the first one opened on a machine of its own, data by the anonymous download."""
    with KaggleServer(world.archive(), lifetime=3600) as server:
        for number in NUMBERS:
            machine, since = Machine(world, f"first-{number}", source="download"), time.time()
            machine.environment["CXR_STAND_IN"] = server.url
            values = {}
            if number == "09":  # elsewhere nobody is there to choose files, and the notebook does not ask
                values["OWN"] = '"upload"'
                machine.environment["COLAB_UPLOAD"] = str(next(world.drawn.glob("test/PNEUMONIA")))
            text = machine.open(number, values)
            require("Downloading the X-rays from Kaggle" in text, "the X-rays came by the anonymous download")
            require("No GPU: choose Runtime > Change runtime type" in text, "it says what to click for a GPU")
            if number != "01":
                require("another copy of the X-rays" in text, "it says that the files are another copy")
            artifacts(machine.tree / "results", number, since)
            if number in TRAIN and world.gpu:
                require(machine.compiled.exists(), "its trainings were compiled by XLA")
            if number == "07":
                source = json.loads((machine.tree / "results" / "07_run.json").read_text())["weights"]
                require(source == "ImageNet, downloaded", "the weights came by Keras' own download")
            if number == "09":
                answered = (machine.tree / "results" / "09_predictions.csv").read_text()
                require("person" in answered and "inverted" not in answered, "the uploaded films are answered")
            machine.kept()
    require(not any("Authorization" in call["headers"] for call in server.calls), "no login was sent")


def order(world: World) -> None:
    """Colab: all in order on one machine, data by Colab's mount."""
    machine = Machine(world, "in-order")
    for number in NUMBERS:
        since, text = time.time(), machine.open(number)
        require("another copy of the X-rays" not in text, "the files are those that 01 has seen")
        artifacts(machine.tree / "results", number, since)
    require(not (machine.tree / "chest_xray" / "train").exists(), "the mount was used, nothing was downloaded")
    machine.kept()
    text = machine.open("05")
    require("Installing" not in text, "opened again, nothing is installed")
    require("fatal" not in text, "and git does not complain of the clone that is there")


def drive(world: World) -> None:
    """Colab: a machine vanishes in the middle of a training; another one with the same Drive goes on."""
    for number in ENDS:
        interrupted(world, number, {"KEEP_ON_DRIVE": "True", **LONG[number]})
    again = Machine(world, "drive-again", drive=world.work / "drives" / "04-broken")
    text = again.open("05", {"KEEP_ON_DRIVE": "True"})
    require("No GPU" in text, "a third machine evaluates what lies on Drive")


def interrupted(world: World, number: str, values: dict[str, str]) -> None:
    """The same notebook on a machine that lives, and on one that vanishes; both end with the same network."""
    ends = {}
    for name in ("whole", "broken"):
        home = world.work / "drives" / f"{number}-{name}"
        shutil.rmtree(home, ignore_errors=True)
        kept = home / "MyDrive" / "chest-xray-notebooks"
        if name == "broken":
            first = Machine(world, f"vanishes-{number}", drive=home)
            first.open(number, values, kill=(str(kept / "checkpoints"), "*/even.npz"))
            folder = next((kept / "checkpoints").glob("*/even.npz")).parent
            done = epochs(folder)
            require(2 <= len(done) < 12, f"it had finished {len(done)} of 12 epochs")
            record = json.loads((kept / "results" / f"{number}_lineage.json").read_text())
            require(
                record == json.loads((world.kept / f"{number}_lineage.json").read_text()),
                "the results on Drive are still the committed ones, whole",
            )
        machine, since = Machine(world, f"drive-{number}-{name}", drive=home), time.time()
        text = machine.open(number, values)
        if name == "broken":
            after = epochs(folder)
            require(len(after) == 12 and after[: len(done)] == done, f"it goes on after epoch {len(done)}")
        require("Results and checkpoints are kept on Drive" in text, "it says where results are kept")
        artifacts(kept / "results", number, since)
        require(not (machine.tree / ".cache" / "checkpoints").exists(), "no checkpoint lies on the machine")
        ends[name] = kept / "results"
    network, table = ENDS[number]
    ours, theirs = (weights(folder / network) for folder in ends.values())
    require(
        len(ours) == len(theirs) > 10 and all(map(np.array_equal, ours, theirs)),
        f"{len(ours)} arrays of the saved network are equal to the last bit",
    )
    ours, theirs = ((folder / table).read_bytes() for folder in ends.values())
    require(ours == theirs, f"so is {table}")


def refused(world: World) -> None:
    """Colab: the reader does not allow Drive."""
    machine = Machine(world, "refused")
    try:
        machine.open("05", {"KEEP_ON_DRIVE": "True"})
    except Failed as failed:
        require("Problem: Google Drive was not opened (ValueError)" in str(failed), "one sentence, no traceback")
        require("Traceback" not in str(failed), "no traceback is shown")
    else:
        raise Failed("a refused Drive went unnoticed")


def unplugged(world: World) -> None:
    """Kaggle with its internet switched off, as it is for a new account: the first cell says what to do."""
    machine = Machine(world, "unplugged", kind="kaggle")
    config = Path(machine.environment["GIT_CONFIG_GLOBAL"])
    config.write_text(config.read_text().replace(str(world.published), "/nowhere"))
    try:
        machine.open("01")
    except Failed as failed:
        require("witch the internet on" in str(failed), "it says what to switch on")
    else:
        raise Failed("the notebook ran without the project")


def secrets(world: World) -> None:
    """Colab: Kaggle wants a login, which is in the secrets of Colab."""
    with KaggleServer(world.archive(), fault="login", lifetime=600) as server:
        machine = Machine(world, "secrets", source="download")
        machine.environment |= {
            "CXR_STAND_IN": server.url,
            "COLAB_SECRET_KAGGLE_USERNAME": "reader",
            "COLAB_SECRET_KAGGLE_KEY": "5ecret",
        }
        text = machine.open("01")
    require("Downloading the X-rays from Kaggle" in text, "the X-rays came with the login")
    require(any("Authorization" in call["headers"] for call in server.calls), "the login was sent")
    require("5ecret" not in text, "the notebook does not show it")


def kaggle(world: World) -> None:
    """Kaggle: each notebook first in turn, read-only input, results in ``/kaggle/working/results``."""
    before = sorted((path.as_posix(), path.stat().st_mtime_ns) for path in world.copy.rglob("*"))
    for number in ("05", "03"):
        machine, since = Machine(world, f"kaggle-{number}", kind="kaggle"), time.time()
        text = machine.open(number)
        require("No GPU: choose Settings > Accelerator" in text, "it says what to click on Kaggle")
        artifacts(machine.root / "kaggle" / "working" / "results", number, since)
    machine = Machine(world, "kaggle-in-order", kind="kaggle")
    for number in NUMBERS:
        since = time.time()
        machine.open(number)
        artifacts(machine.root / "kaggle" / "working" / "results", number, since)
    machine.kept()
    published = subprocess.run(
        ["git", "status", "--short"], cwd=machine.tree, capture_output=True, text=True, env=machine.environment
    ).stdout
    require(not published.strip(), "the clone is as it was published")
    require(
        before == sorted((path.as_posix(), path.stat().st_mtime_ns) for path in world.copy.rglob("*")),
        "the input is as it was",
    )


SCENARIOS = {function.__name__: function for function in (each, order, drive, refused, unplugged, secrets, kaggle)}


def prepared(folder: Path) -> Path:
    """An environment with what Colab has, made by pip where it is not there yet."""
    mark = folder / "installed"
    if not (mark.exists() and mark.read_text() == COLAB):
        shutil.rmtree(folder, ignore_errors=True)
        python = next(
            name
            for name in ("python3.13", "python3.12", sys.executable)
            if shutil.which(name)
            and not subprocess.run([name, "-c", "import ensurepip"], capture_output=True).returncode
        )
        say(f"Installing what Colab has into {folder} (about 2 GB; some minutes, once) ...")
        for command in (
            [python, "-m", "venv", folder],
            [folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-compile", *COLAB.split()],
        ):
            if subprocess.run(command).returncode:
                sys.exit(f"The environment {folder} could not be made: check the network, and run make colab again.")
        mark.write_text(COLAB)
    return folder


def possible() -> bool:
    """Whether this machine can show a folder as ``/content`` to one process alone."""
    return bool(
        sys.platform.startswith("linux")
        and not os.geteuid()
        and shutil.which("unshare")
        and not subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode
    )


def main() -> str | None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="*", help=f"of {' '.join(SCENARIOS)}; without any, all")
    parser.add_argument("--python", type=Path, help="environment with what Colab has; one is made without")
    parser.add_argument("--work", type=Path, default=PROJECT / ".cache" / "colab", help="scratch, on the same disk")
    parser.add_argument("--project", type=Path, default=PROJECT)
    parser.add_argument("--no-gpu", action="store_true", help="Keras decides as it does on a CPU: nothing by XLA")
    options = parser.parse_args()
    unknown = sorted({*options.scenarios} - {*SCENARIOS})
    if unknown:
        return f"SCENARIOS names {', '.join(unknown)}: choose from {' '.join(SCENARIOS)}."
    if not possible():
        return (
            "make colab needs Linux, root and unshare, to show each machine a /content of its own: run it as root "
            "in a virtual machine or a privileged container."
        )
    made = [point for point in (Path("/content"), Path("/kaggle")) if not point.exists()]
    failures, started = [], time.perf_counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # so that `finally` runs
    try:
        python = prepared((options.python or PROJECT / ".cache" / "colab-python").resolve())
        for point in made:
            point.mkdir()
        world = World(options.work.resolve(), python, options.project.resolve(), not options.no_gpu)
        for name in options.scenarios or SCENARIOS:
            say(f"\n{name}: {SCENARIOS[name].__doc__}")
            try:
                SCENARIOS[name](world)
            except Failed as failed:
                say(f"    FAILED: {failed}")
                failures.append(name)
    finally:
        for point in made:
            if point.exists():
                point.rmdir()
    if failures:
        return f"\nFailed: {', '.join(failures)}; the machines are kept in {world.machines}."
    shutil.rmtree(world.machines)
    say(f"\nAll as it should be, in {(time.perf_counter() - started) / 60:.0f} minutes.")
    return None


if __name__ == "__main__":
    sys.exit(main())
