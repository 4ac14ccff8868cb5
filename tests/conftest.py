"""A tiny data set, drawn on the fly, and the five notebooks run on it once for all tests."""

import shutil

import pytest

from cxr import headless, practice

QUICK = {"04": {"EPOCHS": 2, "SEEDS": 2, "PLAIN_EPOCHS": 1, "ABLATION_SEEDS": 1, "ABLATION_EPOCHS": 1},
         "05": {"RESAMPLES": 200}}
BEYOND = {"06": {"RESAMPLES": 200},
          "07": {"BACKBONES": "MobileNetV2 0.35", "SEEDS": 2, "TUNING_EPOCHS": 2, "IMAGE_SIZE": 96, "RESAMPLES": 200,
                 "BATCH_SIZE": 4, "TUNING_RATE": 1e-6},
          "08": {"SEEDS": 2, "EPOCHS": 1, "TUNING_EPOCHS": 1, "RESAMPLES": 200},
          "10": {"RESAMPLES": 200}}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """72 drawn X-rays with real-style names: train, val and test, patients with several images, duplicates."""
    return practice.draw(tmp_path_factory.mktemp("tiny data") / "chest_xray", images=72)


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory):
    """A folder with ``results`` and the executed ``notebooks``, after all five have run in order on `tiny`."""
    folder = tmp_path_factory.mktemp("finished run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHEST_XRAY_DIR", str(tiny))
        patch.setenv("CXR_RESULTS_DIR", str(folder / "results"))
        patch.setenv("CXR_CACHE_DIR", str(folder / "cache"))
        headless.run(headless.choose(""), folder / "notebooks", QUICK)
    return folder


@pytest.fixture
def chain_copy(finished, tiny, tmp_path, monkeypatch):
    """The finished results in a folder of the test's own, with the environment set to it."""
    shutil.copytree(finished / "results", tmp_path / "results")
    monkeypatch.setenv("CHEST_XRAY_DIR", str(tiny))
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("CXR_CACHE_DIR", str(finished / "cache"))
    return tmp_path
