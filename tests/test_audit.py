import ast
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFont

from cxr import data, images, originals, plots, shortcuts
from cxr.paths import ROOT, Problem


@pytest.fixture(scope="module")
def drawn(tiny, tmp_path_factory):
    """Manifest and 128-pixel pictures of the practice set."""
    manifest = data.survey(tiny)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_CACHE_DIR", str(tmp_path_factory.mktemp("audit cache")))
        return manifest, images.load(manifest, tiny, 128)


def table(rows):
    """A manifest from (folder, class, file stem) triples, one file each, all of one size."""
    rows = [
        {
            "path": f"{folder}/{kind}/{stem}.jpeg",
            "folder": folder,
            "class_name": kind,
            "label": int(kind.lower() != "normal"),
        }
        | {"subtype": data.subtype_of(stem, int(kind.lower() != "normal")), "patient": data.patient_of(stem)}
        for folder, kind, stem in rows
    ]
    return pd.DataFrame(rows).assign(
        width=200, height=100, mode="L", bytes=5000, sha256=[f"{i:064x}" for i in range(len(rows))]
    )


def population(train=240, test=80, kind="PNEUMONIA"):
    """Half normal, half ill, one film a patient."""
    names = {"NORMAL": "IM-{:04d}-0001", "normal": "IM-{:04d}-0001"}
    return table(
        [
            (folder, group, names.get(group, "person{}_virus_1").format(i + 5000 * (folder == "test")))
            for folder, count in (("train", train), ("test", test))
            for group in ("NORMAL" if kind.isupper() else "normal", kind)
            for i in range(count // 2)
        ]
    )


def said_of_block(inside, finding, ill="covid"):
    """What the cell of 02 that shows the block says of it."""
    cells = json.loads((ROOT / "notebooks/02_explore.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (source,) = [text for text in texts if text.startswith('groups = pd.DataFrame(found["hard_block"]')]
    *body, last = ast.parse(source).body
    scope = {"pd": pd, "inside": inside, "found": {"hard_block": finding}, "ill": ill}
    exec(compile(ast.Module(body, []), "02_explore", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "02_explore", "eval"), scope)


def test_leakage_by_both_keys():
    manifest = table(
        [
            ("train", "PNEUMONIA", "person1_bacteria_1"),
            ("train", "PNEUMONIA", "person1_bacteria_2"),
            ("train", "PNEUMONIA", "person1_virus_3"),
            ("train", "NORMAL", "IM-0001-0001"),
            ("test", "PNEUMONIA", "person1_virus_4"),
            ("test", "PNEUMONIA", "person2_virus_5"),
            ("train", "PNEUMONIA", "person2_bacteria_6"),
            ("test", "NORMAL", "IM-0002-0001"),
        ]
    )
    found = shortcuts.leakage(manifest, share=0.5)
    strict, loose = found["with_subtype"], found["number_alone"]
    assert (strict["patients"], strict["several_films"], strict["in_train_and_test"]) == (6, 1, 1)
    assert (loose["patients"], loose["most_films"], loose["in_train_and_test"]) == (4, 3, 2)
    assert found["always_other_subtype"] == 1  # person 2; person 1 meets its own virus
    assert strict["leaked"] < loose["leaked"]
    said = shortcuts.said_of_leakage(shortcuts.leakage(manifest, 1 / 2))
    assert f"{strict['leaked']:.0%} of the validation images" in said and "train and test: 1." in said
    assert "in both: 2; 1 of them have another subtype there" in said


def test_one_film_a_patient_leaks_nothing():
    found = shortcuts.leakage(population())
    assert found["with_subtype"]["leaked"] == 0 == found["with_subtype"]["leaked_sd"]
    assert shortcuts.said_of_leakage(found).endswith("Bare person numbers in both: 0.")


def test_exact_duplicates_are_told_by_place_and_patient():
    manifest = population(20, 20)
    manifest.loc[[1, 2], "sha256"] = manifest.sha256[0]  # three files, all in train
    manifest.loc[30, "sha256"] = manifest.sha256[5]  # train and test
    found = shortcuts.exact_duplicates(manifest)
    assert (found["groups"], found["across_folders"], found["under_two_patients"]) == (2, 1, 2)
    assert found["spare_in_train"] == 2
    assert found["by_folder"] == {"train": 1, "test + train": 1}


def changed(picture, how):
    stream, size = io.BytesIO(), len(picture)
    if how == "cropped":
        return np.asarray(Image.fromarray(picture).crop((2, 1, size - 1, size - 3)).resize((size, size)))
    if how == "exposed":
        return ((picture / 255) ** 0.8 * 255).astype(np.uint8)
    Image.fromarray(picture).save(stream, "JPEG", quality=50)
    return np.asarray(Image.open(stream))


@pytest.mark.parametrize("how", ["saved again", "cropped", "exposed"])
def test_near_duplicates_are_found(drawn, how):
    manifest, films = drawn
    manifest, films = manifest.drop_duplicates("patient"), films[~manifest.duplicated("patient")]
    row = manifest.iloc[[7]].assign(path="test/NORMAL/copy.jpeg", folder="test", sha256="0" * 64, patient="copy")
    pairs, found = shortcuts.near_duplicates(
        np.concatenate([films, changed(films[7], how)[None]]), pd.concat([manifest, row])
    )
    assert found["confirmed"] == found["of_two_patients"] == 1 <= found["proposed"]
    assert pairs.confirmed[0] and (pairs.one[0], pairs.two[0], pairs.other[0]) == (7, len(films), row.path.iloc[0])


def test_other_patients_and_identical_files_are_no_near_duplicates(drawn):
    manifest, films = drawn
    pairs, found = shortcuts.near_duplicates(films, manifest, distance=24)
    assert found["proposed"] > 100 and not pairs[pairs.confirmed & ~pairs.same_patient].size
    sha256 = manifest.set_index("path").sha256
    assert manifest.sha256.duplicated().any() and (sha256[pairs.path].values != sha256[pairs.other].values).all()


@pytest.mark.parametrize("quality", [10, 50, 75, 95, 100])
def test_jpeg_quality_is_read_from_the_file(tmp_path, quality):
    noise = np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpeg", quality=quality)
    Image.fromarray(noise).convert("RGB").save(tmp_path / "b.jpeg", quality=quality)
    Image.fromarray(noise).save(tmp_path / "c.png")
    manifest = pd.DataFrame(
        {"path": ["a.jpeg", "b.jpeg", "c.png"], "width": 60, "height": 40, "bytes": 4800, "mode": ["L", "RGB", "L"]}
    )
    facts = shortcuts.file_facts(tmp_path, manifest)
    assert (facts.jpeg_quality[:2] - quality).abs().max() <= 3 and np.isnan(facts.jpeg_quality[2])
    assert facts.color.tolist() == [0, 1, 0] and (facts.aspect == 1.5).all() and (facts.bytes_per_pixel == 2).all()


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(Problem, match="a.jpeg"):
        shortcuts.file_facts(
            tmp_path, pd.DataFrame({"path": ["a.jpeg"], "width": 9, "height": 9, "bytes": 9, "mode": "L"})
        )


@pytest.mark.parametrize("kind", ["PNEUMONIA", "covid"])
def test_a_planted_size_is_found_and_an_equal_one_is_said_to_be_invisible(kind):
    manifest, rng = population(kind=kind), np.random.default_rng(0)
    facts = pd.DataFrame(
        {
            "width": rng.normal(1000, 60, len(manifest)) + 300 * manifest.label,
            "height": 224,
            "aspect": rng.random(len(manifest)),
        }
    )
    found = shortcuts.baselines(facts, manifest)
    rows = {row["clue"]: row for row in found["rows"]}
    assert rows["width"]["auc"] > 0.97 and rows["width"]["accuracy"] > 0.9 and abs(rows["aspect"]["auc"] - 0.5) < 0.2
    assert rows["height"]["auc"] is None and found["invisible"] == ["height"] and found["always_other"] == 0.5
    said = shortcuts.said_of_clues(found, kind.lower())
    for part in (
        f"Always answering {kind.lower()} gets 50.0%",
        f"width alone {rows['width']['accuracy']:.1%} (AUC {rows['width']['auc']:.3f}), all 2 clues",
        "can't show what height would tell",
    ):
        assert said.count(part) == 1
    only = shortcuts.baselines(facts[["height"]], manifest)
    file = shortcuts.said_of_clues(only, kind.lower())
    assert only["rows"][-1]["auc"] is None and "can't show" in file and "alone" not in file


def test_both_classes_weigh_the_same_however_many_are_ill():
    manifest, rng = population(1200, 400), np.random.default_rng(0)
    facts = pd.DataFrame({"width": rng.normal(size=1600) - 1.5 * manifest.label})
    few = (manifest.folder == "test") | (manifest.label == 1) | (manifest.index % 8 == 0)
    row = shortcuts.baselines(facts[few], manifest[few])["rows"][0]
    assert row["balanced_accuracy"] > 0.72


def test_a_clue_that_is_perfect_in_train_can_be_worthless_in_test():
    manifest, rng = population(), np.random.default_rng(0)
    train = manifest.folder == "train"
    facts = pd.DataFrame({"jpeg_quality": np.where(train & (manifest.label == 0), 95, 75), "width": rng.random(320)})
    row = shortcuts.baselines(facts, manifest)["rows"][0]
    assert row["train_auc"] == 1 and row["auc"] == 0.5 == row["accuracy"]


def test_one_class_in_test_is_named():
    manifest = population()
    manifest = manifest[(manifest.folder == "train") | (manifest.label == 1)]
    facts = pd.DataFrame({"width": np.arange(len(manifest))}, manifest.index)
    for ask in (shortcuts.baselines, shortcuts.shift):
        with pytest.raises(Problem, match="test folder has one class"):
            ask(facts, manifest)


def film(letter=0.0, at=(0.04, 0.06), ground=20):
    """A bright body on dark ground, and perhaps an R of `letter` (share of the height)."""
    picture = Image.new("L", (512, 512), ground)
    pen = ImageDraw.Draw(picture)
    pen.ellipse((130, 60, 380, 640), fill=150)
    if letter:
        x, y, h = at[0] * 512, at[1] * 512, letter * 512
        for line in [
            (x, y, x, y + h),
            (x, y, x + h / 2, y),
            (x + h / 2, y, x + h / 2, y + h / 2),
            (x, y + h / 2, x + h / 2, y + h / 2),
            (x + h / 4, y + h / 2, x + h / 2, y + h),
        ]:
            pen.line(line, fill=255, width=max(3, int(h / 6)))
    return np.asarray(picture.resize((128, 128), Image.Resampling.BOX))


def test_letters_are_found_and_measured():
    found = shortcuts.picture_facts(np.stack([film(), film(0.09), film(0.05, (0.10, 0.40)), film(0.09, (0.80, 0.06))]))
    assert found.letter_size.notna().tolist() == [False, True, True, False]  # the last one is on the right
    assert found.letter_top[1] == pytest.approx(0.06, abs=0.02) and found.letter_top[2] == pytest.approx(0.40, abs=0.02)
    assert found.letter_left[2] == pytest.approx(0.10, abs=0.02)
    assert found.letter_size[1] == pytest.approx(0.10, abs=0.02) and found.letter_size[2] < shortcuts.LARGE


def test_picture_facts_see_what_was_changed(drawn):
    films = drawn[1][:6] // 2
    wired = films.copy()
    wired[:, 20:100, 36] = 255
    turned = np.stack([np.asarray(Image.fromarray(film(ground=0)).rotate(angle)) for angle in (0, -15, 15)])
    plain, tilt = shortcuts.picture_facts(films), shortcuts.picture_facts(turned).tilt
    assert (shortcuts.picture_facts(films // 2).brightness < plain.brightness).all()
    assert (shortcuts.picture_facts(wired).lines >= 0.6).all() and (plain.lines < 0.6).all()
    tight = [np.asarray(Image.fromarray(film[32:96, 32:96]).resize((128, 128))) for film in films]
    assert shortcuts.picture_facts(np.stack(tight)).edge.median() > plain.edge.median()
    assert tilt[0] == 0 and abs(tilt[1] - 15) <= 3 and abs(tilt[2] + 15) <= 3


def test_what_facts_tell_on_validation_leaves_test_and_films_without_any_out():
    manifest, rng = population(), np.random.default_rng(0)
    part = manifest.folder.map({"train": "train", "test": None})
    part[(manifest.folder == "train") & (manifest.index % 4 == 0)] = "val"
    facts = pd.DataFrame({"lungs_width": rng.normal(size=320) + 3 * manifest.label, "lungs_top": 0.1})
    facts.loc[manifest.folder == "test", "lungs_width"] = -100.0  # would turn the model round
    found = shortcuts.told(facts, manifest.label, part)
    assert found["films"] == 60 and found["val_auc"] > 0.95
    facts.loc[:7] = np.nan
    assert shortcuts.told(facts, manifest.label, part)["films"] == 58
    for nothing in (facts[["lungs_top"]], facts * np.nan):
        assert shortcuts.told(nothing, manifest.label, part)["val_auc"] is None
    assert shortcuts.told(facts[manifest.label == 1], manifest.label[manifest.label == 1], part)["val_auc"] is None
    assert shortcuts.in_auc(found).startswith("validation AUC 0.9")
    assert shortcuts.in_auc({"val_auc": None}) == "not visible in this copy"


def test_facts_of_lungs_by_class_and_folder():
    manifest = population(8, 4)
    facts = pd.DataFrame({"lungs_width": [np.nan, *range(1, 12)]})
    found = shortcuts.by_group(facts, manifest)
    assert found["normal, train"] == {"films": 3, "lungs_width": 2.0}
    assert set(found) == {f"{kind}, {folder}" for kind in ("normal", "pneumonia") for folder in ("train", "test")}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert shortcuts.by_group(facts * np.nan, manifest) == {}


@pytest.mark.parametrize("size", [192, 224, 320])
def test_a_device_print_is_found_at_the_lower_right_and_nowhere_else(size):
    def with_text(text, at, share=0.045, body=True):
        wide = round(1.4 * size)  # as the real films, which are squeezed afterwards
        ground = Image.fromarray(film(ground=0)).resize((wide, size)) if body else Image.new("L", (wide, size))
        font = ImageFont.load_default(share * size)
        ImageDraw.Draw(ground).text((at[0] * wide, at[1] * size), text, fill=240, font=font, anchor="rs")
        return np.asarray(ground.resize((size, size), Image.Resampling.BICUBIC))

    corner = (0.985, 0.975)
    prints = [with_text(text, corner, share) for text in ("KV59", "KV65", "KV70") for share in (0.04, 0.045)]
    others = [with_text("", corner), with_text("", corner, body=False), with_text("R", corner, 0.08)]
    others += [with_text("KV59", at) for at in ((0.3, 0.975), (0.985, 0.2), (0.6, 0.6))]
    others += [np.random.default_rng(0).integers(0, 60, (size, size), np.uint8)]
    found = shortcuts.printed(np.stack(prints + others))
    assert found.tolist() == [True] * len(prints) + [False] * len(others)
    manifest = population(8, 6).head(len(found))
    counted = shortcuts.device_prints(np.stack(prints + others), manifest)
    assert counted["paths"] == manifest.path[found].tolist()
    assert counted["groups"]["normal, train"] == {"films": 4, "printed": 4}


def test_hardly_a_drawn_film_is_taken_for_printed(tiny, drawn):
    assert shortcuts.printed(images.load(drawn[0], tiny, 224)).mean() < 0.05


def test_shift_finds_the_class_that_changed():
    manifest, rng = population(), np.random.default_rng(0)
    changed = (manifest.folder == "test") & (manifest.label == 0)
    facts = pd.DataFrame({"contrast": rng.normal(size=320) - 3 * changed, "tilt": rng.normal(size=320)})
    found = shortcuts.shift(facts, manifest)
    rows = {row["fact"]: row for row in found["rows"]}
    assert rows["contrast"]["normal"] < 0.1 and abs(rows["contrast"]["other"] - 0.5) < 0.2
    assert found["folder_auc"]["normal"] > 0.9 > 0.7 > found["folder_auc"]["other"]
    _, _, normal, other, fact = shortcuts.said_of_shift(found, manifest, "covid").splitlines()
    assert normal == f"- normal: {found['folder_auc']['normal']:.2f}, two kinds of film." and "covid: 0." in other
    assert fact.endswith(f"contrast, in normal films: AUC {rows['contrast']['normal']:.2f}.")
    found = shortcuts.shift(facts[["tilt"]], manifest)
    assert "two kinds" not in shortcuts.said_of_shift(found, manifest, "covid")


def test_too_few_patients_to_tell_folders_apart_are_said():
    manifest = population(20, 20)
    manifest.loc[(manifest.folder == "test") & (manifest.label == 1), "patient"] = "one"
    found = shortcuts.shift(pd.DataFrame({"tilt": np.arange(40.0)}), manifest)
    assert found["folder_auc"]["other"] is None
    assert "covid: unknown (too few" in shortcuts.said_of_shift(found, manifest, "covid")


def test_the_block_is_measured_and_its_absence_is_said(capsys):
    manifest, rng = population(), np.random.default_rng(0)
    block = manifest.index[(manifest.folder == "test") & (manifest.label == 0)][:10]
    facts = pd.DataFrame(
        {
            "brightness": rng.random(320),
            "edge": rng.random(320),
            "lines": rng.random(320),
            "tilt": rng.integers(-3, 3, 320),
            "letter_top": 0.5,
            "letter_left": 0.1,
            "letter_size": np.where(manifest.label == 1, 0.08, 0.04),
        }
    )
    facts.loc[block, "letter_size"] = 0.08
    inside, found = shortcuts.hard_block(facts, manifest)
    assert not inside.any() and found["images"] == 0 and "block" not in found["groups"]
    said_of_block(inside, found)
    assert "not in this test folder" in capsys.readouterr().out
    manifest.loc[block, "path"] = [f"test/NORMAL/NORMAL2-IM-{139 + i:04d}-0001.jpeg" for i in range(10)]
    inside, found = shortcuts.hard_block(facts, manifest)
    assert inside.sum() == 10 == found["images"] and inside[block].all()
    assert found["groups"]["block"] == {
        "images": 10,
        "letter": 1,
        "large_letter": 1,
        "taken_by_letter": 1,
        "taken_by_all": 1,
    }
    rest = found["groups"]["other normal, test"]
    assert rest["letter"] == 1 and rest["large_letter"] == 0 == rest["taken_by_letter"]
    page = said_of_block(inside, found).to_html()
    assert not capsys.readouterr().out and "called covid by its letter" in page
    assert ">100%<" in page and ">10<" in page and ">block<" in page
    assert set(shortcuts.look_alikes(facts, manifest, inside).kind) == {"normal train", "hard test", "virus train"}


def test_the_best_clue_is_one_that_can_be_seen():
    rows = [{"clue": "a", "accuracy": 0.9, "auc": None}, {"clue": "b", "accuracy": 0.7, "auc": 0.8}]
    findings = {"no_pixel": {"rows": rows}, "no_lung": {"rows": [{"clue": "c", "accuracy": 0.6, "auc": 0.9}]}}
    assert shortcuts.best_clue(findings) == (rows[1], 2)


def test_the_groups_of_the_test_folder_are_told_by_film():
    paths = ["train/a", "train/b", "test/NORMAL2-IM-0140-0001", "test/NORMAL2-IM-0900-0001", "test/c", "test/d"]
    manifest = pd.DataFrame({"path": paths, "folder": ["train"] * 2 + ["test"] * 4, "label": [0, 1, 0, 0, 1, 1]})
    manifest = manifest.assign(width=100, height=[100] * 5 + [50], subtype=["normal", "virus"] * 3)
    facts = pd.DataFrame(
        {"edge": [0, 1, 0.9, 0.1, 0.9, 0.2], "letter_size": [0, 0, 0.1, 0.03, np.nan, 0.1]}, index=paths
    )
    test = manifest[2:].assign(subtype=["normal", "normal", "virus", "bacteria"]).reset_index(drop=True)
    groups = shortcuts.subgroups(test, manifest, facts, paths[3:4])
    assert {name: rows.tolist() for name, rows in groups.items()} == {
        "all": [True] * 4,
        "bacteria": [False, False, False, True],
        "normal": [True, True, False, False],
        "virus": [False, False, True, False],
        "normal: the hard block": [True, False, False, False],
        "normal: others": [False, True, False, False],
        "body cut off at the edge": [True, False, True, False],
        "ground beside the body": [False, True, False, True],
        "large letter": [True, False, False, True],
        "small letter": [False, True, False, False],
        "no letter found": [False, False, True, False],
        "normal: print of a device": [False, True, False, False],
        "normal: no such print": [True, False, False, False],
        "smaller picture": [True] * 4,
        "larger picture": [False] * 4,
        "normal: narrower film": [True, True, False, False],
        "normal: wider film": [False] * 4,
    }
    alike = shortcuts.subgroups(test, manifest.assign(height=100), facts, [])
    assert not any("picture" in name or "film" in name or "print" in name for name in alike)


@pytest.mark.parametrize("lower", [False, True])
def test_the_whole_audit_of_a_drawn_set(drawn, tiny, lower):
    """With names as they are, and with lower-case classes, no subtypes and no patients in the names."""
    manifest, films = drawn
    facts, file_facts = shortcuts.picture_facts(films), shortcuts.file_facts(tiny, manifest)
    if lower:
        manifest = manifest.assign(
            class_name=manifest.label.map({0: "normal", 1: "covid"}),
            patient=manifest.path,
            subtype=manifest.label.map({0: "normal", 1: ""}),
        )
    inside, block = shortcuts.hard_block(facts, manifest)
    odd, gallery = shortcuts.gallery(facts, manifest)
    found = {
        "leakage": shortcuts.leakage(manifest),
        "exact": shortcuts.exact_duplicates(manifest),
        "block": block,
        "near": shortcuts.near_duplicates(films, manifest)[1],
        "no_pixel": shortcuts.baselines(file_facts, manifest),
        "no_lung": shortcuts.baselines(facts, manifest),
        "shift": shortcuts.shift(facts, manifest),
        "gallery": gallery,
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    ill = "covid" if lower else "pneumonia"
    copies = shortcuts.said_of_copies(found["exact"], found["near"])
    assert (
        f"byte for byte: {found['exact']['groups']};" in copies and f"alike: {found['near']['proposed']:,}." in copies
    )
    for said in (
        shortcuts.said_of_leakage(found["leakage"]),
        copies,
        shortcuts.said_of_clues(found["no_pixel"], ill),
        shortcuts.said_of_clues(found["no_lung"], ill),
        shortcuts.said_of_shift(found["shift"], manifest, ill),
        shortcuts.said_of_odd_films(gallery, manifest.label[manifest.folder == "train"].mean(), ill),
    ):
        assert said.strip().endswith(".") and "nan" not in said and "None" not in said
    assert f"are {ill}, against" in said and f"{gallery['of_class_1'] / gallery['films']:.0%}" in said
    assert (manifest.folder[odd.index] == "train").all() and not odd.duplicated(["kind", "path"]).any()
    assert shortcuts.baselines(facts, manifest, seed=1) == shortcuts.baselines(facts, manifest, seed=1)
    plots.baselines({"file": found["no_pixel"], "picture": found["no_lung"]})
    plots.shift(found["shift"], "covid")
    plots.letters(facts, manifest, inside)
    assert len(shortcuts.look_alikes(facts, manifest, inside, each=2).kind.unique()) >= 1


def test_bias_conflicting_are_the_held_out_films_whose_clues_point_the_other_way():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 400)
    clue = label + rng.normal(0, 0.7, 400)
    train, facts = np.arange(400) < 300, pd.DataFrame({"clue": clue, "noise": rng.random(400)})
    found = shortcuts.bias_conflicting(facts[train], label[train], facts[~train], label[~train])
    held, own = clue[~train], label[~train]
    assert found.shape == (100,) and 0.4 < found.mean() < 0.75
    assert held[found & (own == 0)].mean() > held[~found & (own == 0)].mean() + 0.3
    assert held[found & (own == 1)].mean() < held[~found & (own == 1)].mean() - 0.3


def test_what_clues_alone_say_of_three_kinds():
    rng, code = np.random.default_rng(0), np.arange(600) % 3
    facts = pd.DataFrame({"clue": code + rng.normal(0, 0.4, 600), "noise": rng.random(600)})
    said = shortcuts.told_by_clues(facts[:450], code[:450], facts[450:])
    assert said.shape == (150, 3) and np.allclose(said.sum(axis=1), 1)
    assert (said.argmax(axis=1) == code[450:]).mean() > 0.7


# --- the original files, for copies that were resized ------------------------------------------------------------

RESIZED = {"name": "paultimothymooney/chest-xray-pneumonia, copy resized to 224x224 pixels"}


def headers(films=400):
    """Headers of files, of which the normal ones of train were saved at a higher quality, and all normal ones wider."""
    rng = np.random.default_rng(0)
    normal, train = rng.random(films) < 0.5, rng.random(films) < 0.7
    table = pd.DataFrame({"width": rng.normal(1100, 60, films) + 400 * normal, "height": rng.normal(900, 60, films)})
    table = table.round().astype(int).assign(mode="L", split=np.where(train, "train", "test"))
    table["class"] = np.where(normal, "NORMAL", "PNEUMONIA")
    table["estimated_quality"] = np.where(normal & train, 95, 75)
    return table.assign(file_size=(table.width * table.height * np.where(normal & train, 0.25, 0.08)).astype(int))


def test_what_the_originals_tell_is_measured_from_their_headers():
    table = headers()
    files, clues = originals.measured(table)
    assert files.films.sum() == len(table) and (files.width % 100 == 0).all() and set(files.label) == {0, 1}
    counted = files.groupby(["folder", "class_name"]).films.sum()
    assert counted.to_dict() == table.groupby(["split", "class"]).size().to_dict()
    rows = clues.set_index("clue")
    assert rows.train_auc["jpeg_quality"] == 1 and rows.auc["jpeg_quality"] == 0.5 and rows.auc["width"] > 0.95
    with pytest.raises(Problem, match="test folder has one class"):
        originals.measured(table[(table.split == "train") | (table["class"] == "NORMAL")])


def test_tables_are_written_with_their_source(tmp_path, monkeypatch):
    for name in ("FILES", "CLUES"):
        monkeypatch.setattr(originals, name, tmp_path / "tables" / getattr(originals, name).name)
    monkeypatch.setattr(originals, "TABLES", tmp_path / "tables")
    originals.write(headers())
    assert originals.FILES.read_text(encoding="utf-8").startswith(originals.SOURCE)
    assert originals.files(population(), RESIZED)[0].films.sum() == 400
    assert [row["clue"] for row in originals.clues({"always_other": 0.5}, RESIZED)[0]["rows"]][-1] == "all"


def test_the_committed_tables_speak_for_a_resized_copy_alone():
    manifest = population()
    files, whose = originals.files(manifest, RESIZED)
    assert whose == "the original files" and files.groupby("folder").films.sum()[["train", "test"]].tolist() == [
        5216,
        624,
    ]
    finding = {"always_other": 0.625, "rows": [], "invisible": ["width"]}
    clues, title = originals.clues(finding, RESIZED)
    said = shortcuts.said_of_clues(clues, "pneumonia")
    assert "width alone 87.5% (AUC 0.951), all 6 clues 61.9% (AUC 0.563)" in said and title == "from the original file"
    for other in ({"name": "paultimothymooney/chest-xray-pneumonia"}, {"name": "folder mine"}):
        own, whose = originals.files(manifest, other)
        assert whose == "these files" and own.films.sum() == len(manifest)
        assert own.bytes_per_pixel.unique().tolist() == [5000 / (200 * 100)]
        assert originals.clues(finding, other) == (finding, "from the file")
    plots.sizes(files, whose)
