"""A stored network is half as large and says what the trained one says; other formats say it too."""

import io
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

from cxr import export, training
from cxr.backend import keras
from cxr.paths import ROOT, Problem

layers = keras.layers
PICTURES = np.random.default_rng(1).integers(0, 256, (300, 24, 24, 1)).astype("float32")


@pytest.fixture(scope="module")
def network():
    """With arrays on both sides of `export.SMALL`, statistics of a normalisation, and the counter of a dropout."""
    keras.utils.set_random_seed(3)
    built = keras.Sequential(
        [
            layers.Input((24, 24, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(64, 3, strides=2),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(64, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.3),
            layers.Dense(300, "relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    built.compile("adam", "binary_crossentropy")
    built.fit(PICTURES[:64], np.arange(64) % 2, epochs=1, verbose=0)
    return built


def stored(path):
    """The arrays in a .keras file, by name."""
    found = {}
    with zipfile.ZipFile(path) as bundle, h5py.File(io.BytesIO(bundle.read(export.WEIGHTS))) as weights:
        weights.visititems(
            lambda name, entry: found.update({name: entry[()]} if isinstance(entry, h5py.Dataset) else {})
        )
    return found


def test_a_reader_with_keras_alone_gets_the_same_answers_in_32_bits(network, tmp_path):
    network.save(tmp_path / "whole.keras")
    training.save_checked(network, PICTURES)(tmp_path / "half.keras")
    sizes = [(tmp_path / name).stat().st_size for name in ("half.keras", "whole.keras")]
    assert sizes[0] < 0.4 * sizes[1], "half precision, and no state of the optimizer"
    np.save(tmp_path / "pictures.npy", PICTURES)
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import keras, numpy\n"
            "network = keras.models.load_model('half.keras', compile=False)\n"
            "assert {v.dtype for v in network.weights} <= {'float32', 'int64'}\n"
            "numpy.save('said.npy', network.predict(numpy.load('pictures.npy'), verbose=0))",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    said = np.load(tmp_path / "said.npy")
    assert said.dtype == np.float32
    np.testing.assert_allclose(said, network.predict(PICTURES, verbose=0), rtol=0, atol=1e-3)


def test_large_arrays_have_16_bits_and_small_ones_are_exact(network, tmp_path):
    network.save(tmp_path / "a.keras")
    before = stored(tmp_path / "a.keras")
    content = (tmp_path / "a.keras").read_bytes()
    for least in (export.SMALL, np.inf):
        (tmp_path / "b.keras").write_bytes(export.in_half(content, least))
        after = stored(tmp_path / "b.keras")
        assert after.keys() == before.keys() and max(v.size for v in before.values()) > export.SMALL
        for name, values in before.items():
            if values.size < export.SMALL:
                assert after[name].dtype == values.dtype and np.array_equal(after[name], values)
            else:
                bits, most = (np.float16, 2**-11) if least == export.SMALL else (np.float32, 2**-16)
                assert after[name].dtype == bits
                np.testing.assert_allclose(after[name].astype(float), values, rtol=most, atol=1e-7)


def test_what_half_precision_cannot_hold_stays_in_single(tmp_path):
    constant = keras.initializers.Constant(1e5)
    big = keras.Sequential([layers.Input((200,)), layers.Dense(200, kernel_initializer=constant)])
    big.save(tmp_path / "a.keras")
    (tmp_path / "b.keras").write_bytes(export.in_half((tmp_path / "a.keras").read_bytes(), export.SMALL))
    assert keras.models.load_model(tmp_path / "b.keras").weights[0].numpy().max() == pytest.approx(1e5, rel=1e-4)


def test_as_few_bits_are_taken_as_leave_the_answers(network, tmp_path, monkeypatch):
    write = training.save_checked(network, PICTURES)
    write(tmp_path / "half.keras")
    half = keras.models.load_model(tmp_path / "half.keras", compile=False)
    apart = np.abs(half.predict(PICTURES, verbose=0) - network.predict(PICTURES, verbose=0)).max()
    assert 0 < apart < training.HALF
    monkeypatch.setattr(training, "HALF", apart / 4)
    write(tmp_path / "exact.keras")
    assert any(v.dtype == np.float16 for v in stored(tmp_path / "half.keras").values())
    assert not any(v.dtype == np.float16 for v in stored(tmp_path / "exact.keras").values())
    monkeypatch.setattr(training, "HALF", -1)
    with pytest.raises(ValueError, match="no.keras"):
        write(tmp_path / "no.keras")


def test_the_committed_models_are_light():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "results").glob("*.keras")}
    assert len(sizes) >= 6 and max(sizes.values()) <= 5e6 and sum(sizes.values()) <= 15e6, sizes
    assert not [path.name for path in (ROOT / "results").iterdir() if path.suffix in (".tflite", ".zip")]


def test_other_formats_say_the_same_and_are_made_anew(network, tmp_path):
    for _ in range(2):
        saved_model, litert = export.bundles(network, tmp_path / "exported")
    pictures = PICTURES[:4, ..., 0].astype(np.uint8)
    expected = network.predict(pictures[..., None], verbose=0)
    np.testing.assert_allclose(export.by_litert(litert, pictures), expected, atol=1e-4)
    np.testing.assert_allclose(export.by_saved_model(saved_model, pictures), expected, atol=1e-4)
    assert sorted(path.name for path in (tmp_path / "exported").iterdir()) == ["model.tflite", "saved_model"]


def test_a_place_that_cannot_be_written_is_named(network, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(Problem, match="taken can't be written.*CXR_CACHE_DIR"):
        export.bundles(network, tmp_path / "taken")
