"""The benchmark measures what it says; how fast it is, is for README and not for a test."""

import json
import subprocess
import sys

import pytest

from cxr.project.paths import ROOT

SCRIPT = ROOT / "benchmarks" / "speed.py"


def one(way, folder):
    return subprocess.run([sys.executable, SCRIPT, "--files", folder, "--one", way], capture_output=True, text=True)


@pytest.mark.parametrize("way", ["decode_usual", "epoch_ours"])
def test_a_way_of_reading_is_timed(way, tiny):
    done = one(way, tiny / "train")
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout.strip().splitlines()[-1]) < 60


def test_our_decoding_is_nearer_to_the_full_one(tiny):
    done = one("errors", tiny / "train")
    off = json.loads(done.stdout.strip().splitlines()[-1])
    assert off["ours"] < off["usual"]


def test_the_network_that_is_timed_is_that_of_the_notebook():
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import speed
    finally:
        sys.path.remove(str(SCRIPT.parent))
    network, recipe = speed._network()
    committed = json.loads((ROOT / "results" / "04_run.json").read_text())
    assert network.count_params() == committed["parameters"]
    assert network.input_shape == (None, recipe["image_size"], recipe["image_size"], 1)
    assert speed._keras_io().input_shape == network.input_shape, "both networks are timed on the same pictures"


def test_framing_and_the_loop_are_timed(tiny):
    usual, ours = (
        json.loads(one(way, tiny / "train").stdout.strip().splitlines()[-1])
        for way in ("framing_128_usual", "framing_128_ours")
    )
    assert 0 < usual < 60 and 0 < ours < 60
    done = one("loop", tiny / "train")
    assert done.returncode == 0, done.stderr
    alone, inside = json.loads(done.stdout.strip().splitlines()[-1])
    assert 0 < alone < 1 and 0 < inside < 1


def test_a_folder_without_x_rays_is_named(tmp_path):
    done = one("decode_ours", tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "make benchmark FILES=" in done.stderr
