"""The synthetic practice set: its files, its design, and that its anatomy is one."""

import hashlib
import json
import re
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import drawn as practice
from cxr.paths import Problem

NAMES = {
    "NORMAL": re.compile(r"(NORMAL2-)?IM-\d{4}-\d{4}(-\d{4})?\.jpeg"),
    "PNEUMONIA": re.compile(r"person\d+_(bacteria|virus)_\d+\.jpeg"),
}
SMALL = 40  # the smallest set: what holds for it must hold for larger ones


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return practice.draw(tmp_path_factory.mktemp("practice") / "set", images=SMALL)


def files_of(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def blank(rng, kind, size, patient):
    """In place of `draw_chest_and_lungs`: a black film without lungs."""
    return np.zeros(size, np.uint8), np.zeros(size, np.uint8)


def twins(films):
    """Counter of how many copies the plan has in each split and kind."""
    return Counter((film.path.split("/")[0], film.kind) for film in films if film.copy)


def patient(path):
    name = path.rsplit("/", 1)[1]
    match = re.match(r"((?:NORMAL2-)?IM-\d+)|person(\d+)_(bacteria|virus)", name)
    return match.group(1) or match.group(2, 3)


# ---------------------------------------------------------------- the plan


def test_600_images_are_shared_out_as_in_the_real_set():
    count = Counter(film.path.rsplit("/", 1)[0] for film in practice.plan(600))
    assert sum(count.values()) == 600
    assert count["val/NORMAL"] == count["val/PNEUMONIA"] == 8
    assert count["train/PNEUMONIA"] / count["train/NORMAL"] == pytest.approx(2.9, abs=0.1)
    assert count["test/PNEUMONIA"] / count["test/NORMAL"] == pytest.approx(1.67, abs=0.1)
    assert count["test/NORMAL"] + count["test/PNEUMONIA"] == pytest.approx(0.18 * 600, abs=1)


@pytest.mark.parametrize("images", [40, 47, 72, 199, 200, 600])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_plan_keeps_the_rules(images, seed):
    films = practice.plan(images, seed)
    assert len(films) == images == len({film.path for film in films})
    for film in films:
        _, folder, name = film.path.split("/")
        assert NAMES[folder].fullmatch(name)
        assert folder == "NORMAL" if film.kind == "normal" else folder == "PNEUMONIA" and film.kind in name

    # The copies are those that COPIES promises, each of the same patient as the film before it.
    assert twins(films) == practice.COPIES
    for before, film in zip(films, films[1:]):
        if film.copy:
            assert not before.copy
            assert patient(before.path) == patient(film.path)
            assert before.path.split("/")[:2] == film.path.split("/")[:2]

    # No patient is in two splits, though bare person numbers are: the subtypes are numbered apart.
    people = {
        split: {patient(film.path) for film in films if film.path.startswith(split)}
        for split in ("train", "val", "test")
    }
    assert not people["train"] & people["test"] and not people["val"] & (people["train"] | people["test"])
    numbers = {split: {who[0] for who in whos if isinstance(who, tuple)} for split, whos in people.items()}
    assert numbers["train"] & numbers["test"]

    # Train and test hold two patients of each kind, and some patient of train has several films.
    for split in ("train", "test"):
        for kind in ("normal", "bacteria", "virus"):
            assert len({film.patient for film in films if film.path.startswith(split) and film.kind == kind}) >= 2
    assert len(people["train"]) < sum(film.path.startswith("train") for film in films)


def test_plan_refuses_too_few_images():
    with pytest.raises(Problem, match="at least 40 images, not 39"):
        practice.plan(39)


# ---------------------------------------------------------------- the files


def test_files_are_those_planned_and_say_what_they_are(drawn):
    planned = {film.path for film in practice.plan(SMALL)}
    assert set(files_of(drawn)) == planned | {practice.CARD, practice.MASKS}
    modes, sizes = Counter(), set()
    for path in planned:
        with Image.open(drawn / path) as image:
            image.load()
            assert image.format == "JPEG"
            assert image.info["comment"] == practice.COMMENT.encode()
            modes[image.mode] += 1
            sizes.add(image.size)
            assert 180 <= image.width <= 420 and image.height <= image.width
    assert set(modes) == {"L", "RGB"} and modes["L"] > 3 * modes["RGB"]
    assert len(sizes) > SMALL / 2


def test_lungs_are_where_the_film_is_dark_and_inside_the_collimated_field(drawn):
    with np.load(drawn / practice.MASKS, allow_pickle=False) as saved:
        names, bits, side = saved["path"].tolist(), saved["bits"], int(saved["side"])
    assert names == [film.path for film in practice.plan(SMALL)] and side == practice.SIDE
    assert bits.dtype == np.uint8 and bits.shape == (SMALL, side * side // 8)
    masks = np.unpackbits(bits, axis=1).reshape(-1, side, side).astype(bool)
    assert all((masks[k] == masks[k - 1]).all() for k, film in enumerate(practice.plan(SMALL)) if film.copy)
    assert ((0.1 < masks.mean((1, 2))) & (masks.mean((1, 2)) < 0.5)).all()
    for path, mask in zip(names, masks):
        with Image.open(drawn / path) as image:
            film = np.asarray(image.convert("L").resize((side, side)))
        spots, count = ndimage.label(mask)
        sizes = np.sort(ndimage.sum_labels(mask, spots, range(1, count + 1)))
        assert sizes[-2:].sum() > 0.9 * mask.sum() and (count == 1 or sizes[-2] > 0.25 * sizes[-1])
        middle = slice(side // 3, 2 * side // 3)  # of the chest, where nothing but body surrounds the lungs
        gray, lung = film[middle, middle], mask[middle, middle]
        assert "NORMAL" not in path or gray[lung].mean() < gray[~lung].mean()


def test_the_collimator_hides_film_and_lungs_alike():
    film, lungs = np.full((100, 120), 200, np.uint8), np.full((100, 120), 255, np.uint8)
    for seed in range(40):
        dressed, left = practice._dress(np.random.default_rng(seed), film, lungs)
        assert ((dressed == 0) == (left == 0)).mean() > 0.99
    assert any((practice._dress(np.random.default_rng(seed), film, lungs)[1] == 0).any() for seed in range(40))


def test_the_only_identical_files_are_the_copies(drawn):
    films, digests = practice.plan(SMALL), files_of(drawn)
    same = [(films[k - 1].path, film.path) for k, film in enumerate(films) if film.copy]
    assert same and all(digests[a] == digests[b] for a, b in same)
    assert len(set(digests.values())) == len(digests) - len(same)


def test_same_seed_same_bytes_other_seed_other_bytes(drawn, tmp_path):
    assert files_of(practice.draw(tmp_path / "again", images=SMALL)) == files_of(drawn)
    other = files_of(practice.draw(tmp_path / "other", images=SMALL, seed=1))
    assert not set(other.values()) & set(files_of(drawn).values())


def test_each_patient_is_drawn_with_a_body_of_its_own(tmp_path, monkeypatch):
    drawn_with = []
    monkeypatch.setattr(
        practice,
        "draw_chest_and_lungs",
        lambda rng, kind, size, patient: drawn_with.append(tuple(patient)) or blank(rng, kind, size, patient),
    )
    people = {}
    for seed in (0, 1):
        drawn_with.clear()
        practice.draw(tmp_path / str(seed), images=SMALL, seed=seed)
        films = [film for film in practice.plan(SMALL, seed) if not film.copy]
        pairs = set(zip(drawn_with, (patient(film.path) for film in films), strict=True))
        people[seed] = {body for body, _ in pairs}
        assert len(pairs) == len(people[seed]) == len({who for _, who in pairs}) < len(films)
    assert not people[0] & people[1]


def test_complete_set_is_left_alone_and_a_damaged_one_redrawn(tmp_path, monkeypatch):
    monkeypatch.setattr(practice, "draw_chest_and_lungs", blank)
    folder = practice.draw(tmp_path / "set", images=SMALL)
    marked = folder / practice.plan(SMALL)[0].path
    marked.write_bytes(b"mark")
    assert practice.draw(folder, images=SMALL) == folder
    assert marked.read_bytes() == b"mark"
    (folder / practice.plan(SMALL)[1].path).unlink()
    practice.draw(folder, images=SMALL)
    assert marked.read_bytes() != b"mark" and len(files_of(folder)) == SMALL + 2
    marked.write_bytes(b"mark")
    (folder / practice.MASKS).unlink()
    practice.draw(folder, images=SMALL)
    assert marked.read_bytes() != b"mark" and len(files_of(folder)) == SMALL + 2
    practice.draw(folder, images=SMALL + 2)
    assert len(files_of(folder)) == SMALL + 4
    assert json.loads((folder / practice.CARD).read_text())["images"] == SMALL + 2
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("before", ["nothing", "an older set"])
def test_interrupted_drawing_leaves_nothing_half_written(tmp_path, monkeypatch, before):
    drawing = SimpleNamespace(left=10**6)

    def draw_chest(rng, kind, size, patient):
        drawing.left -= 1
        if drawing.left < 0:
            raise KeyboardInterrupt
        return blank(rng, kind, size, patient)

    monkeypatch.setattr(practice, "draw_chest_and_lungs", draw_chest)
    if before == "an older set":
        practice.draw(tmp_path / "set", images=SMALL, seed=5)
    files = files_of(tmp_path)
    drawing.left = 7
    with pytest.raises(KeyboardInterrupt):
        practice.draw(tmp_path / "set", images=SMALL)
    assert drawing.left < 0
    assert files_of(tmp_path) == files
    assert sorted(p.name for p in tmp_path.iterdir()) == (["set"] if files else [])


def test_other_peoples_files_are_never_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(practice, "draw_chest_and_lungs", blank)
    real = tmp_path / "real" / "train" / "NORMAL" / "IM-0115-0001.jpeg"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a real X-ray")
    with pytest.raises(Problem, match="no practice set"):
        practice.draw(tmp_path / "real", images=SMALL)
    assert files_of(tmp_path / "real") == {
        "train/NORMAL/IM-0115-0001.jpeg": hashlib.sha256(b"a real X-ray").hexdigest()
    }

    folder = practice.draw(tmp_path / "set", images=SMALL)
    (folder / practice.MASKS).unlink()  # one file less does not make room for another
    (folder / "train" / "NORMAL" / "mine.jpeg").write_bytes(b"a real X-ray")
    with pytest.raises(Problem, match="no practice set"):
        practice.draw(folder, images=SMALL, seed=1)
    assert (folder / "train" / "NORMAL" / "mine.jpeg").exists()


# ---------------------------------------------------------------- the physics


def straight(kind="normal", seed=0, **changes):
    """Attenuation of one patient lying straight, and the places of its pixels."""
    body = practice._anatomy(np.random.default_rng(seed), kind)
    vars(body).update(changes)
    pose = SimpleNamespace(scale=2.6 / 200, shift=-0.1j, breath=1.0)
    shape = (180, 200)
    z = (np.arange(200) - 100 + 1j * (np.arange(180)[:, None] - 90)) * pose.scale + pose.shift
    return practice._attenuation(body, pose, shape)[0], z, body


@pytest.mark.parametrize("seed", range(5))
def test_lungs_let_more_through_than_the_mediastinum_and_air_more_than_lungs(seed):
    attenuation, z, _ = straight(seed=seed)

    def at(x, y):
        return attenuation[(abs(z.real - x) < 0.06) & (abs(z.imag - y) < 0.1)].mean()

    for y in (-0.4, 0.0):
        for side in (-1, 1):
            assert at(side * 0.55, y) + 0.5 < at(0, y)
    assert at(0.35, 0.30) > at(-0.75, 0.30) + 0.4  # the heart is on the image's right
    assert at(-0.4, 0.70) > at(-0.4, 0.10) + 0.5  # the liver is below the lung
    assert attenuation.min() >= 0 and at(1.28, 0.6) < 0.2 < at(-0.55, 0)


@pytest.mark.parametrize("side", [-1, 1])
def test_consolidation_is_dense_where_it_lies_and_nowhere_else(side):
    lobe = SimpleNamespace(at=side * 0.55 - 0.1j, radius=0.25, tall=1.0, density=0.8, open_airways=False, fissure=9)
    sick, z, _ = straight(lobes=[lobe])
    well, _, _ = straight()
    change, distance = sick - well, abs(z - lobe.at)
    assert change[distance < 0.1].min() > 0.3
    assert abs(change[distance > 0.7]).max() < 0.02
    fissure, _, _ = straight(lobes=[SimpleNamespace(**{**vars(lobe), "fissure": 0.0})])
    below = (distance < 0.2) & (z.imag > -0.02)
    assert abs((fissure - well)[below]).max() < 0.02 < change[below].min()


@pytest.mark.parametrize("kind, lobes", [("normal", {0}), ("bacteria", {1, 2}), ("virus", {0})])
def test_each_kind_has_its_own_disease(kind, lobes):
    bodies = [practice._anatomy(np.random.default_rng(seed), kind) for seed in range(40)]
    assert {len(body.lobes) for body in bodies} == lobes
    assert all((body.streaks > 0) == (kind == "virus") for body in bodies)


def test_viral_disease_is_in_both_lungs():
    sick, z, _ = straight("virus", 3)
    well, _, _ = straight("virus", 3, streaks=0.0, haze=0.0)
    change = sick - well
    lung = (abs(abs(z.real) - 0.5) < 0.2) & (abs(z.imag) < 0.3)
    for side in (-1, 1):
        assert change[lung & (z.real * side > 0)].mean() > 0.08


def test_films_of_one_patient_share_the_anatomy_and_differ_in_the_rest():
    def film(seed, who):
        return practice.draw_chest(np.random.default_rng(seed), "normal", (200, 240), who)

    first = film(1, 7)
    assert first.shape == (200, 240) and first.dtype == np.uint8
    assert np.ptp(first) > 150
    assert np.array_equal(first, film(1, 7))
    assert not np.array_equal(first, film(2, 7))
    assert not np.array_equal(first, film(1, 8))
    one, two = (practice._anatomy(np.random.default_rng(7), "normal") for _ in range(2))
    assert one.heart == two.heart and np.array_equal(one.tree[0], two.tree[0])
