"""Figures: each is drawn once, without error, on data that lack something."""

import base64
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import calibration, plots

FILMS, FIELDS, MAPS = np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8), bool), np.ones((2, 8, 8))
LENT = pd.DataFrame({"label": [1, 0], "p": [0.9, 0.2]})
SHARES = {part: {"value": value} for part, value in (("lungs", 0.7), ("body", 0.25), ("both", 0.05))}
TRUE, SCORE = np.tile([0, 1], 50), np.tile([0.2, 0.9, 0.4, 0.6], 25)
CASES = {
    "confusion": lambda: plots.confusion(np.array([[8, 2], [1, 9]]), ["normal", "pneumonia"]),
    "reliability": lambda: plots.reliability(
        {"raw": calibration.reliability(TRUE, SCORE)}, {"raw": calibration.measure(TRUE, SCORE)}
    ),
    "swap": lambda: plots.swap({"a": np.eye(2) - 0.5}, {"a": "p"}, {"p": 0.5}, LENT, LENT, {"a": SHARES}),
    "same_lungs": lambda: plots.same_lungs(FILMS, FIELDS, LENT, {"a": "p"}, {"p": 0.5}),
    "outlines": lambda: plots.outlines(FILMS, FIELDS),
    "heat": lambda: plots.heat(FILMS, {"one": MAPS}, FIELDS, ["a", "b"]),
    "verdicts": lambda: plots.verdicts(FILMS, ["ill 0.9", "cannot tell"], ["", "is upside down"]),
    "grid": lambda: plots.grid(FILMS, ["a", "b"], columns=2, rows=["one"], colors=["red", "black"]),
}


@pytest.mark.parametrize("name", CASES)
def test_each_figure_is_drawn(name):
    if not hasattr(plots, name):
        pytest.skip("gone")
    with plt.rc_context():
        plots.use_style()
        figure = CASES[name]()
        figure.canvas.draw()
        page = Image.open(BytesIO(base64.b64decode(plots.style.on_page(figure))))
        assert figure.axes and page.width > 100
        plt.close("all")
