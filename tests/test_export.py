"""A stored network is half as large and says what the trained one says."""

import io
import zipfile

import h5py
import numpy as np
import pytest

from cxr import export, training
from cxr.backend import keras
from cxr.paths import ROOT

layers = keras.layers
PICTURES = np.random.default_rng(1).integers(0, 256, (300, 24, 24, 1)).astype("float32")


@pytest.fixture(scope="module")
def network():
    """With arrays on both sides of `export.SMALL`, statistics of a normalisation, and the counter of a dropout."""
    keras.utils.set_random_seed(3)
    convolutions = layers.Conv2D(64, 3, strides=2), layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(64, 3)
    head = layers.GlobalAveragePooling2D(), layers.Dropout(0.3), layers.Dense(300, "relu"), layers.Dense(1, "sigmoid")
    built = keras.Sequential([layers.Input((24, 24, 1)), layers.Rescaling(1 / 255), *convolutions, *head])
    built.compile("adam", "binary_crossentropy")
    built.fit(PICTURES[:64], np.arange(64) % 2, epochs=1, verbose=0)
    return built


def stored(content):
    """The arrays in a .keras file, by name."""
    found = {}
    with zipfile.ZipFile(io.BytesIO(content)) as bundle, h5py.File(io.BytesIO(bundle.read(export.WEIGHTS))) as weights:
        weights.visititems(lambda name, part: found.update({name: part[()]} if isinstance(part, h5py.Dataset) else {}))
    return found


def test_large_arrays_have_16_bits_and_small_ones_are_exact(network, tmp_path):
    network.save(tmp_path / "a.keras")
    content = (tmp_path / "a.keras").read_bytes()
    before = stored(content)
    for least, bits, most in ((export.SMALL, np.float16, 2**-11), (np.inf, np.float32, 2**-16)):
        after = stored(export.in_half(content, least))
        assert after.keys() == before.keys() and max(v.size for v in before.values()) > export.SMALL
        for name, values in before.items():
            if values.size < export.SMALL:
                assert after[name].dtype == values.dtype and np.array_equal(after[name], values)
            else:
                assert after[name].dtype == bits
                np.testing.assert_allclose(after[name].astype(float), values, rtol=most, atol=1e-7)
    constant = keras.initializers.Constant(1e5)  # more than half precision can hold
    keras.Sequential([layers.Input((200,)), layers.Dense(200, kernel_initializer=constant)]).save(tmp_path / "b.keras")
    after = stored(export.in_half((tmp_path / "b.keras").read_bytes(), export.SMALL))
    assert max(v.max() for v in after.values() if v.size) == pytest.approx(1e5, rel=1e-4)


def test_as_few_arrays_are_rounded_as_leave_the_answers(network, tmp_path, monkeypatch):
    network.save(tmp_path / "all.keras")
    write = training.save_checked(network, PICTURES)
    write(tmp_path / "half.keras")
    sizes = [(tmp_path / name).stat().st_size for name in ("half.keras", "all.keras")]
    assert sizes[0] < 0.4 * sizes[1], "half precision, and no state of the optimizer"
    half = keras.models.load_model(tmp_path / "half.keras", compile=False)
    assert {value.dtype for value in half.weights} <= {"float32", "int64"}
    difference = np.abs(half.predict(PICTURES, verbose=0) - network.predict(PICTURES, verbose=0)).max()
    assert 0 < difference < training.HALF
    monkeypatch.setattr(training, "HALF", difference / 4)
    write(tmp_path / "exact.keras")
    kinds = [
        {v.dtype.name for v in stored((tmp_path / f"{name}.keras").read_bytes()).values()} for name in ("half", "exact")
    ]
    assert "float16" in kinds[0] and "float16" not in kinds[1]
    monkeypatch.setattr(training, "HALF", -1)
    with pytest.raises(ValueError, match="no.keras"):
        write(tmp_path / "no.keras")


def test_the_committed_models_are_light():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "results").glob("*.keras")}
    assert len(sizes) >= 6 and max(sizes.values()) <= 5e6 and sum(sizes.values()) <= 15e6, sizes
    assert not [path.name for path in (ROOT / "results").iterdir() if path.suffix in (".tflite", ".zip")]
