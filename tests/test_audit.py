"""Clues beside the lungs, and the pages that look for them: 02 and A1."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFont

from cxr import data, images, shortcuts
from cxr.paths import ROOT, Problem

PAGES = ROOT / "notebooks"


def cells(page, *starts):
    """The source of the code cells of a page that hold one of these texts, in order."""
    found = json.loads((PAGES / page).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]
    return [next(source for source in sources if start in source) for start in starts]


def film(letter=0.0, at=(0.04, 0.06), ground=20):
    """A bright body on dark ground, and perhaps an R of `letter` (share of the height)."""
    picture = Image.new("L", (512, 512), ground)
    pen = ImageDraw.Draw(picture)
    pen.ellipse((130, 60, 380, 640), fill=150)
    if letter:
        x, y, h = at[0] * 512, at[1] * 512, letter * 512
        bow = [(x, y), (x + h / 2, y), (x + h / 2, y + h / 2), (x, y + h / 2)]
        for line in [[(x, y), (x, y + h)], bow, [(x + h / 4, y + h / 2), (x + h / 2, y + h)]]:
            pen.line(line, fill=255, width=max(3, int(h / 6)))
    return np.asarray(picture.resize((128, 128), Image.Resampling.BOX))


# --- facts -----------------------------------------------------------------------------------------------------


def test_jpeg_quality_and_density_are_read_from_the_file(tmp_path):
    noise, qualities = np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8), [10, 25, 50, 75, 95, 100]
    for quality in qualities:
        Image.fromarray(noise).save(tmp_path / f"{quality}.jpeg", quality=quality)
    Image.fromarray(noise).convert("RGB").save(tmp_path / "0.png")
    names = [f"{quality}.jpeg" for quality in qualities] + ["0.png"]
    modes = ["L"] * len(qualities) + ["RGB"]
    manifest = pd.DataFrame({"path": names, "width": 60, "height": 40, "bytes": 4800, "mode": modes})
    facts = shortcuts.file_facts(tmp_path, manifest)
    assert np.abs(facts.jpeg_quality[:-1] - qualities).max() <= 3 and np.isnan(facts.jpeg_quality.iloc[-1])
    assert facts.color.tolist() == [0] * len(qualities) + [1]
    assert (facts.aspect == 1.5).all() and (facts.bytes_per_pixel == 2).all()
    with pytest.raises(Problem, match="gone.jpeg"):
        shortcuts.file_facts(tmp_path, manifest[:1].assign(path="gone.jpeg"))


def test_letters_are_found_and_measured():
    found = shortcuts.picture_facts(np.stack([film(), film(0.09), film(0.05, (0.10, 0.40)), film(0.09, (0.80, 0.06))]))
    assert found.letter_size.notna().tolist() == [False, True, True, False]  # the last one is on the right
    assert found.letter_top[1] == pytest.approx(0.06, abs=0.02) and found.letter_top[2] == pytest.approx(0.40, abs=0.02)
    assert found.letter_left[2] == pytest.approx(0.10, abs=0.02)
    assert found.letter_size[1] >= shortcuts.LARGE_LETTER > found.letter_size[2]


def test_picture_facts_see_what_was_changed(tiny):
    films = images.load(data.survey(tiny), tiny, 128)[:6] // 2
    wired = films.copy()
    wired[:, 20:100, 36] = 255
    turned = np.stack([np.asarray(Image.fromarray(film(ground=0)).rotate(angle)) for angle in (0, -15, 15)])
    plain, tilt = shortcuts.picture_facts(films), shortcuts.picture_facts(turned).tilt
    assert (shortcuts.picture_facts(films // 2).brightness < plain.brightness).all()
    assert (shortcuts.picture_facts(wired).lines >= 0.6).all() and (plain.lines < 0.6).all()
    tight = [np.asarray(Image.fromarray(film[32:96, 32:96]).resize((128, 128))) for film in films]
    assert shortcuts.picture_facts(np.stack(tight)).edge.median() > plain.edge.median()
    assert tilt[0] == 0 and abs(tilt[1] - 15) <= 3 and abs(tilt[2] + 15) <= 3


def test_a_device_print_is_found_at_the_lower_right_and_nowhere_else(size=224):
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
    found = shortcuts.device_print(np.stack(prints + others))
    assert found.tolist() == [True] * len(prints) + [False] * len(others)


# --- groups of films ------------------------------------------------------------------------------------------


def test_subgroups_of_the_test_folder():
    paths = ["train/a", "train/b", "test/NORMAL2-IM-0140-0001", "test/NORMAL2-IM-0900-0001", "test/c", "test/d"]
    manifest = pd.DataFrame({"path": paths, "folder": ["train"] * 2 + ["test"] * 4, "label": [0, 1, 0, 0, 1, 1]})
    manifest = manifest.assign(width=100, height=[100] * 5 + [50])
    sizes = [0, 0, 0.1, 0.03, np.nan, 0.1]
    facts = pd.DataFrame({"edge": [0, 1, 0.9, 0.1, 0.9, 0.2], "letter_size": sizes}, index=paths)
    test = manifest[2:].assign(subtype=["normal", "normal", "virus", "bacteria"]).reset_index(drop=True)
    groups = shortcuts.subgroups(test, manifest, facts, np.array([False, True, False, False]))
    assert {name: rows.astype(int).tolist() for name, rows in groups.items()} == {
        "all": [1, 1, 1, 1],
        "bacteria": [0, 0, 0, 1],
        "normal": [1, 1, 0, 0],
        "virus": [0, 0, 1, 0],
        "normal: the hard block": [1, 0, 0, 0],
        "normal: others": [0, 1, 0, 0],
        "body cut off at the edge": [1, 0, 1, 0],
        "ground beside the body": [0, 1, 0, 1],
        "large letter": [1, 0, 0, 1],
        "small letter": [0, 1, 0, 0],
        "no letter found": [0, 0, 1, 0],
        "normal: print of a device": [0, 1, 0, 0],
        "normal: no such print": [1, 0, 0, 0],
        "smaller picture": [1, 1, 1, 1],
        "larger picture": [0, 0, 0, 0],
        "normal: narrower film": [1, 1, 0, 0],
        "normal: wider film": [0, 0, 0, 0],
    }
    alike = shortcuts.subgroups(test, manifest.assign(height=100), facts, np.zeros(4, bool))
    assert not any(word in name for name in alike for word in ("picture", "film", "print"))


# --- the pages -------------------------------------------------------------------------------------------------


def changed(picture, how):
    stream, size = io.BytesIO(), len(picture)
    if how == "cropped":
        return np.asarray(Image.fromarray(picture).crop((2, 1, size - 1, size - 3)).resize((size, size)))
    if how == "lightened":
        return ((picture / 255) ** 0.8 * 255).astype(np.uint8)
    Image.fromarray(picture).save(stream, "JPEG", quality=50)
    return np.asarray(Image.open(stream))


def test_a1_finds_a_film_that_was_saved_again_and_takes_no_other_for_one(tiny):
    import imagehash
    from scipy import ndimage

    manifest = data.survey(tiny).drop_duplicates("patient").reset_index(drop=True)
    films = images.load(manifest, tiny, 128)
    copies = [changed(films[7], how) for how in ("saved again", "cropped", "lightened")]
    scope = {"films": np.concatenate([films, copies]), "PHASH_BITS": 16, "SAME_FILM": 0.85}
    rows = manifest.iloc[[7] * 3].assign(sha256=["a", "b", "c"])
    scope |= {"manifest": pd.concat([manifest, rows]), "np": np, "pd": pd, "Image": Image}
    scope |= {"imagehash": imagehash, "ndimage": ndimage}
    for source in cells("appendix/A1_audit.ipynb", "imagehash.phash", "def fine_detail"):
        exec(source, scope)
    pairs = scope["pairs"]
    ours = {7, *range(len(films), len(films) + 3)}
    same = pairs[pairs.correlation >= 0.85]
    assert len(pairs) > 20 and {*same.one, *same.two} == ours
    assert {(7, two) for two in ours - {7}} <= set(zip(same.one, same.two))


def test_02_and_a1_leave_what_later_pages_read(finished):
    paths = finished / "results/02_audit.json", ROOT / "results/A1_audit.json"
    found, audit = (json.loads(path.read_text()) for path in paths)
    assert 0 <= found["body_alone"]["fixed_box"]["val_auc"] <= 1
    assert all({"test folder", "train folder", "accuracy"} == set(row) for row in found["simple_facts"].values())
    assert set(audit["shift"]) >= {"contrast", "letter_size"} and audit["exact_duplicates"]["groups"] > 0
