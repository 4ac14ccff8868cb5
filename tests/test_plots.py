"""Figures: what they say of data that lack something."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from cxr import plots
from cxr.project.paths import ROOT

RESULTS = ROOT / "results"


@pytest.fixture(autouse=True)
def figures():
    """In the project's style, and closed afterwards."""
    with plt.rc_context():
        plots.use_style()
        yield
        plt.close("all")


def words(figure):
    """All that is written on a figure, once it is drawn."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_visible() and text.get_text()]


def test_the_style_is_set_by_hand_and_by_file():
    assert plt.rcParams["axes.titlelocation"] == "left" and not plt.rcParams["axes.spines.right"]
    assert to_hex(plt.rcParams["axes.prop_cycle"].by_key()["color"][0]).upper() == plots.BLUE


def test_a_grid_names_its_rows_and_colours_its_titles():
    figure = plots.grid(np.zeros((3, 4, 4)), ["a", "b", "c"], columns=2, rows=["one", "two"], colors=["red"] * 3)
    assert words(figure) == ["one", "a", "b", "two", "c"] and len(figure.axes) == 4
    assert {axis.title.get_color() for axis in figure.axes[:3]} == {"red"}


def test_a_copy_of_one_size_has_no_legend_of_sizes():
    manifest = pd.read_csv(RESULTS / "01_manifest.csv").groupby(["folder", "label"]).head(20)
    resized, mixed = plots.sizes(manifest), plots.sizes(manifest.assign(width=np.arange(len(manifest)) + 100))
    assert any("every image has the same size" in text for text in words(resized)) and not resized.axes[0].get_legend()
    assert not any("every image" in text for text in words(mixed)) and mixed.axes[0].get_legend()


@pytest.mark.parametrize("unseen", [1, 6])
def test_a_clue_that_can_not_be_seen_is_said_so(unseen):
    rows = [{"clue": f"clue {i}", "auc": 0.32, "train_auc": 0.9, "accuracy": 0.5} for i in range(6)]
    for row in rows[:unseen]:
        row |= dict.fromkeys(("auc", "train_auc", "accuracy"))
    figure = plots.baselines({"from the file": {"rows": rows}})
    assert words(figure).count("  can't be seen in this copy") == unseen and words(figure).count("50.0%") == 6 - unseen
    assert figure.axes[0].get_xlim()[0] == (0.3 if unseen < 6 else 0.4)


def test_a_group_of_one_class_has_a_dot_only_where_it_has_a_figure():
    table = pd.read_csv(RESULTS / "05_subgroups.csv")
    for axis, name in zip(plots.subgroups(table).axes, ("sensitivity", "specificity", "auc")):
        dots = axis.collections[-1].get_offsets()
        assert np.ma.compress_rows(dots)[:, 0].tolist() == table[name].dropna().tolist() and len(dots) == len(table)


def test_an_auc_that_nobody_published_has_no_number():
    others = pd.DataFrame({"answer": ["a", "b"], "accuracy": [0.81, 0.92], "auc": [np.nan, 0.97]})
    figure = plots.seed_points(pd.DataFrame({"accuracy": [0.9, 0.92], "auc": [0.95, 0.97]}), others)
    numbers = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert numbers == [["0.910", "0.810", "0.920"], ["0.960", "0.970"]]
    assert "this network, 2 seeds" in words(figure)


def test_the_flow_leaves_out_a_folder_that_is_not_there():
    flow = json.loads((RESULTS / "05_metrics.json").read_text())["flow"]
    (axis,) = plots.flow(flow).axes
    assert "val folder" not in flow and len(axis.texts) == len(flow) + 5  # boxes, and an arrow to all but the first
    assert any("left out: 26" in text.get_text() for text in axis.texts)


def test_the_smallest_network_is_on_top_and_keeps_its_own_colour():
    table = pd.DataFrame([["big", 2e6, 0.97, 0.96, 0.98], ["tiny", 1e5, 0.9, 0.88, 0.92]])
    table.columns = ["backbone", "parameters", "auc", "auc_low", "auc_high"]
    figure = plots.sizes_and_scores(table, {"parameters": 4e5, "auc": 0.95, "auc_low": 0.94, "auc_high": 0.96})
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["tiny, 0.10 M", "small network of 04, 0.40 M", "big, 2.00 M"]
    own = figure.axes[0].collections[-1].get_facecolors()
    assert [to_hex(color).upper() for color in own] == [plots.BLUE, plots.VERMILION, plots.BLUE]


def test_the_plain_cnn_has_its_seeds_beside_ours():
    others = pd.DataFrame({"answer": ["a"], "accuracy": [0.81], "auc": [np.nan]})
    ours, plain = (pd.DataFrame({"accuracy": [x, x + 0.02], "auc": [x, x + 0.02]}) for x in (0.9, 0.86))
    figure = plots.seed_points(ours, others, plain=plain)
    numbers = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert numbers == [["0.910", "0.870", "0.810"], ["0.910", "0.870"]]
    assert {"this network, 2 seeds", "plain CNN, 2 seeds", "a"} <= set(words(figure))


def test_the_matrix_of_lungs_and_bodies_has_normal_first():
    odds = np.array([[4.0, 4.0], [-4.0, -4.0], [4.0, 4.0]])
    shares = {part: {"value": value} for part, value in (("lungs", 0.7), ("body", 0.25), ("both", 0.05))}
    cells = {"this network": odds, "plain CNN": -odds}
    figure = plots.swap(cells, np.array([1, 0, 1]), np.array([1, 0]), dict.fromkeys(cells, shares))
    assert (figure.axes[0].images[0].get_array() == [[-4, -4], [4, 4], [4, 4]]).all()
    said = words(figure)
    assert said.count("70%") == said.count("25%") == 2 and "5%" not in said, "too narrow for a number"


def test_the_same_lungs_are_shown_with_what_each_network_says():
    pictures, fields = np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8), bool)
    said = {"plain CNN": [(0.9, True), (0.2, False)], "this network": [(0.8, True), (0.7, True)]}
    found = words(plots.same_lungs(pictures, fields, ["own body", "other body"], said))
    assert "plain CNN: normal (0.20)" in found and "this network: pneumonia (0.70)" in found and "other body" in found


def test_places_are_shown_by_class_or_all_films_where_none_is_known():
    table = pd.DataFrame({"fact": ["edge", "tilt"], "all": [0.9, 0.2], "normal": [0.8, 0.3], "other": [0.7, 0.1]})
    both = words(plots.apart(table))
    assert "normal films" in both and "the others" in both and "all films" not in both
    unknown = words(plots.apart(table.assign(normal=np.nan, other=np.nan)))
    assert "all films" in unknown and "normal films" not in unknown
    assert {"the others", "all films"} <= set(words(plots.apart(table.assign(normal=np.nan))))


def test_answers_add_up_and_an_empty_group_is_left_out():
    figure = plots.answers({"one": np.array([0.01, 0.2, 0.5, 0.99]), "none": [], "two": np.full(3, 0.9)}, 0.3)
    said = words(figure)
    assert "one\n(4 films)" in said and "two\n(3 films)" in said and not any("none" in text for text in said)
    assert said.count("25%") >= 4 and said.count("100%") >= 1


def test_a_learning_curve_has_a_line_a_way_and_starts_at_none():
    row = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9, "auc": 0.9, "auc_low": 0.9, "auc_high": 0.9}
    table = pd.DataFrame([{"way": way, "films": count} | row for count in (0, 20) for way in ("as it is", "b", "c")])
    figure = plots.learning(table)
    assert {"as it is", "b", "c", "0", "20"} <= set(words(figure)) and len(figure.axes[0].containers) == 3
    assert plots.learning(table[table.films == 0]).axes[1].containers
