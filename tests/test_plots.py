"""Figures: each is drawn once, without error, on data that lack something."""

import base64
import json
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import calibration, plots
from cxr.paths import ROOT

FILMS, FIELDS, MAPS = np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8), bool), np.ones((2, 8, 8))
SCORES = pd.DataFrame({"accuracy": [0.9, 0.92], "auc": [0.95, 0.97]})
OTHERS = pd.DataFrame({"answer": ["a", "b"], "accuracy": [0.81, 0.92], "auc": [np.nan, 0.97]})
ROW = {"mean": 0.5, "low": 0.4, "high": 0.6}
SHARES = {part: {"value": value} for part, value in (("lungs", 0.7), ("body", 0.25), ("both", 0.05))}
TRUE, SCORE = np.tile([0, 1], 50), np.tile([0.2, 0.9, 0.4, 0.6], 25)
NETWORK = {"parameters": 1e5, "auc": 0.9, "auc_low": 0.88, "auc_high": 0.92}
CASES = {
    "flow": lambda: plots.flow(json.loads((ROOT / "results/05_metrics.json").read_text())["flow"]),
    "confusion": lambda: plots.confusion(np.array([[8, 2], [1, 9]]), ["normal", "pneumonia"]),
    "reliability": lambda: plots.reliability(
        {"raw": calibration.reliability(TRUE, SCORE)}, {"raw": calibration.measure(TRUE, SCORE)}
    ),
    "swap": lambda: plots.swap({"a": np.eye(2) - 0.5}, np.array([1, 0]), np.array([1, 0]), {"a": SHARES}),
    "same_lungs": lambda: plots.same_lungs(FILMS, FIELDS, ["own", "other"], {"a": [(0.9, True), (0.2, False)]}),
    "outlines": lambda: plots.outlines(FILMS, FIELDS),
    "heat": lambda: plots.heat(FILMS, {"one": MAPS}, FIELDS, ["a", "b"]),
    "attention": lambda: plots.attention({"spread evenly": ROW, "ours": ROW}, {"ratio": {"ours": ROW}}),
    "curves": lambda: plots.curves(pd.read_csv(ROOT / "results/04_history.csv").query("seed == 1"), 20, "seed 1"),
    "ablation": lambda: plots.ablation(pd.read_csv(ROOT / "results/04_ablation.csv")),
    "seed_points": lambda: plots.seed_points(SCORES, OTHERS, plain=SCORES),
    "sizes_and_scores": lambda: plots.sizes_and_scores(pd.DataFrame([NETWORK | {"backbone": "tiny"}]), NETWORK),
    "by_class": lambda: plots.by_class(pd.DataFrame({"network": ["a"], "kind": ["normal"], "auc": 0.9, "f1": 0.8})),
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
<<<<<<< HEAD


def words(figure):
    """All that is written on a figure, once it is drawn."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_visible() and text.get_text()]


def test_the_style_is_set_by_hand_and_by_file():
    assert plt.rcParams["axes.titlelocation"] == "left" and not plt.rcParams["axes.spines.right"]
    assert to_hex(plt.rcParams["axes.prop_cycle"].by_key()["color"][0]).upper() == plots.BLUE


def test_a_figure_on_the_page_is_small_and_one_of_many_colours_keeps_them():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64))
    film = plots.grid([noise], ["normal"], colors=[plots.BLUE])
    heat, colorful = plots.grid([noise], columns=1), plots.grid([noise], columns=1)
    heat.axes[0].imshow(np.add.outer(np.arange(64), np.arange(64)), cmap="inferno", alpha=0.55, aspect="auto")
    colorful.axes[0].imshow(np.random.default_rng(1).random((64, 64, 3)), aspect="auto")
    found = []
    for figure in (film, heat, colorful):
        with Image.open(BytesIO(base64.b64decode(plots.style.on_page(figure)))) as page:
            found.append((page.mode, len(page.getcolors(10**6)) > 128))
    assert found == [("P", False), ("P", True), ("RGB", True)]


def test_a_grid_names_its_rows_and_colours_its_titles():
    figure = plots.grid(np.zeros((3, 4, 4)), ["a", "b", "c"], columns=2, rows=["one", "two"], colors=["red"] * 3)
    assert words(figure) == ["one", "a", "b", "two", "c"] and len(figure.axes) == 4
    assert {axis.title.get_color() for axis in figure.axes[:3]} == {"red"}


def test_a_copy_of_one_size_says_so():
    manifest = pd.read_csv(RESULTS / "01_manifest.csv").groupby(["folder", "label"]).head(20)
    files, _ = originals.files(manifest, {"name": "folder mine"})
    resized, mixed = plots.sizes(files), plots.sizes(files.assign(width=np.arange(len(files)) + 100))
    assert any("every image has the same size" in text for text in words(resized))
    assert not any("every image" in text for text in words(mixed)) and mixed.axes[1].get_legend()


@pytest.mark.parametrize("unseen", [1, 6])
def test_a_clue_that_can_not_be_seen_is_said_so(unseen):
    rows = [{"clue": f"clue {i}", "auc": 0.32, "train_auc": 0.9, "accuracy": 0.5} for i in range(6)]
    for row in rows[:unseen]:
        row |= dict.fromkeys(("auc", "train_auc", "accuracy"))
    figure = plots.baselines({"from the file": {"rows": rows}})
    assert words(figure).count("  can't be seen in this copy") == unseen and words(figure).count("50.0%") == 6 - unseen
    assert figure.axes[0].get_xlim()[0] == (0.3 if unseen < 6 else 0.4)


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
    assert names == ["tiny\n0.10 M parameters", "small net of 04\n0.40 M parameters", "big\n2.00 M parameters"]
    own = figure.axes[0].collections[-1].get_facecolors()
    assert [to_hex(color).upper() for color in own] == [plots.GREEN, plots.VERMILION, plots.GREEN]
    assert any("from scratch" in text for text in words(figure)), "colours are explained"


def test_films_of_a_heat_map_go_on_below_and_the_last_row_may_have_gaps():
    pictures, fields = np.zeros((5, 8, 8), np.uint8), np.zeros((5, 8, 8), bool)
    maps = {"one": np.ones((5, 8, 8)), "two": np.ones((5, 8, 8))}
    figure = plots.heat(pictures, maps, fields, list("abcde"))
    assert len(figure.axes) == 24 and [text for text in words(figure) if len(text) == 1] == list("abcde")
    laid_over = [len(axis.images) == 2 for axis in figure.axes]
    assert laid_over == 4 * [False] + 8 * [True] + 4 * [False] + 2 * ([True] + 3 * [False])
    assert len(plots.heat(pictures[:1], maps, fields[:1], ["a"]).axes) == 3


def test_attention_has_a_line_where_both_places_count_the_same():
    row = {"mean": 0.5, "low": 0.4, "high": 0.6}
    rows = {"plain CNN": row, "this network": row | {"mean": 1.22, "high": 1.3}}
    figure = plots.attention({"spread evenly": row} | rows, {"ratio": rows})
    numbers = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert numbers == [["50%", "50%", "122%"], ["0.50", "1.22"]]
    assert [len(axis.lines) for axis in figure.axes] == [0, 1]


def test_a_class_has_each_networks_mean_beside_its_seeds():
    rows = [("a", "normal", 0.9), ("a", "normal", 0.8), ("b", "normal", 0.7), ("a", "ill", 0.6), ("b", "ill", 0.5)]
    table = pd.DataFrame(rows, columns=["network", "kind", "auc"]).assign(f1=0.5)
    first, second = plots.by_class(table).axes
    assert [text.get_text() for text in first.texts] == ["0.850", "a", "0.600", "0.700", "b", "0.500"]
    assert {text.get_text() for text in second.texts} == {"0.500"}


def test_the_way_of_a_film_shows_as_many_maps_as_it_is_given():
    rng = np.random.default_rng(0)
    maps = rng.random((8, 8, 4)), rng.random((2, 2, 4))
    said = words(plots.passage(rng.random((32, 32, 3)), *maps, rng.random(9), 0.87, [24, 9]))
    assert {"4 of 24, each 8 x 8 pixels", "4 of 9, each 2 x 2 pixels", "0.87"} <= set(said)


def test_the_plain_cnn_has_its_seeds_beside_ours():
    others = pd.DataFrame({"answer": ["a"], "accuracy": [0.81], "auc": [np.nan]})
    ours, plain = (pd.DataFrame({"accuracy": [x, x + 0.02], "auc": [x, x + 0.02]}) for x in (0.9, 0.86))
    figure = plots.seed_points(ours, others, plain=plain)
    numbers = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert numbers == [["0.910", "0.870", "0.810"], ["0.910", "0.870"]]
    assert {"this network, 2 seeds", "plain CNN, 2 seeds", "a"} <= set(words(figure))


def test_every_seed_and_answer_lies_on_the_axis_beside_its_value():
    others = pd.DataFrame({"answer": ["a", "b"], "accuracy": [0.5, 0.9], "auc": [0.5, 1.0]})
    for axis in plots.seed_points(pd.DataFrame({"accuracy": [0.9, 0.92], "auc": [0.95, 0.99]}), others).axes:
        low, high = axis.get_xlim()
        at = np.concatenate([np.ma.getdata(dots.get_offsets())[:, 0] for dots in axis.collections])
        assert (low < at).all() and (at < high).all() and all(text.get_position()[0] > 1 for text in axis.texts)


def test_the_rows_of_the_ablation_have_the_same_words_in_the_figure_and_in_the_docs():
    table = pd.read_csv(RESULTS / "04_ablation.csv")
    said, docs = words(plots.ablation(table)), report.ablation()
    for row in table.row.unique():
        assert ROWS[row] in said and f"| {ROWS[row]} |" in docs
    assert "another" in words(plots.ablation(table.assign(row="another"))), "a row of another recipe keeps its name"


def test_the_curves_say_whose_they_are():
    history = pd.read_csv(RESULTS / "04_history.csv")
    figure = plots.curves(history[history.seed == 1], 20, "seed 1")
    assert {"Loss, seed 1", "Accuracy, seed 1", "AUC, seed 1", "epoch 20 is kept"} <= set(words(figure))


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


def test_an_answer_has_its_map_and_a_refusal_its_reason():
    table = pd.DataFrame(
        {
            "answer": ["pneumonia", "cannot tell"],
            "probability": [0.9, np.nan],
            "typicality": [0.4, 0.0],
            "reason": ["", "looks like an adult's chest: the network knows children only"],
        }
    )
    films, fields = np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8), bool)
    maps = np.stack([np.ones((8, 8)), np.zeros((8, 8))])
    figure = plots.verdicts(films, table, fields, maps, ["normal", "pneumonia"], "note")
    said = words(figure)
    assert {"pneumonia 0.90", "typicality 0.40", "cannot tell", "note"} <= set(said) and len(figure.axes) == 2
    assert "looks like an adult's\nchest" in said
    assert [len(axis.images) for axis in figure.axes] == [2, 1]
    (title,) = (text for text in figure.findobj(plt.Text) if text.get_text() == "pneumonia 0.90")
    assert title.get_color() == plots.VERMILION


def test_a_declined_film_shows_what_would_have_been_said():
    table = pd.DataFrame({"probability": [0.2, 0.4], "reason": ["", "is upside down"]}, index=[5, 7])
    said = words(plots.would_say(np.zeros((2, 8, 8), np.uint8), table, 0.3, "note"))
    assert {"healthy (0.20)", "ill (0.40)", "passes the gate", "is upside down", "note"} <= set(said)


def test_the_gates_mistakes_are_of_two_kinds():
    rows = [("validation films", 10, 0.1), ("faces", 20, 1.0), ("films in part", 30, 0.8)]
    figure = plots.refusals(pd.DataFrame(rows, columns=["pictures", "count", "refused"]), ["validation films"])
    assert [len(axis.patches) for axis in figure.axes] == [1, 2]
    assert {" 1 of 10", " none of 20", " 6 of 30", "validation films", "faces"} <= set(words(figure))


def test_a_curve_has_the_point_at_which_it_is_used():
    band = pd.DataFrame({"at": [0, 0.5, 1], "sensitivity": [0.2, 0.95, 1]})
    band = band.assign(sensitivity_low=band.sensitivity - 0.1, sensitivity_high=band.sensitivity)
    own = {"auc": 0.9, "sensitivity": 0.9, "specificity": 0.8}
    figure = plots.operating({"home": band, "there": band}, {"home": own, "there": own | {"auc": 0.8}})
    assert {"home: AUC 0.900", "there: AUC 0.800"} <= set(words(figure)) and len(figure.axes[0].lines) == 5


def test_places_are_shown_by_class_or_all_films_where_none_is_known():
    table = pd.DataFrame({"fact": ["edge", "tilt"], "all": [0.9, 0.2], "normal": [0.8, 0.3], "other": [0.7, 0.1]})
    both = words(plots.apart(table))
    assert "normal films" in both and "the others" in both and "all films" not in both
    unknown = words(plots.apart(table.assign(normal=np.nan, other=np.nan)))
    assert not {"all films", "normal films"} & set(unknown), "one kind of mark needs no legend"
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
=======
>>>>>>> 63f2073 (WIP)
