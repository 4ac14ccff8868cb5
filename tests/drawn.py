"""Drawn films for the tests: X-ray-like pictures from a small physical model.

No number measured on them says anything about medicine. A film shows what is left of the beam behind the body,
exp(-sum of mu * path length), bright where little arrived. Path lengths are centimetres; places are complex numbers
x + iy in half chest widths from mid-chest, right and down positive: one product and one sum turn, zoom and shift.
"""

import json
import shutil
from collections import Counter, namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy.ndimage import gaussian_filter, map_coordinates

CARD = "sample.json"  # in a set's folder: marks it as the project's sample is marked, and says what was drawn there
QUICK: dict[str, dict] = {  # parameters of a run on a tiny drawn set, to see that the chain holds
    "01": {"EPOCHS": 1},
    "02": {"BODY_EPOCHS": 1},
    "03": {"LUNG_EPOCHS": 1, "STRESS_DRAWS": 2, "SWAP_DRAWS": 1},
    "04": {"EPOCHS": 2, "SEEDS": 2},
    "05": {"RESAMPLES": 200},
    "06": {"RESAMPLES": 200},
    "07": {"WIDTH": 0.35, "SEEDS": 2, "TUNING_EPOCHS": 2, "IMAGE_SIZE": 96, "RESAMPLES": 200},
    "08": {"SEEDS": 2, "EPOCHS": 1, "RESAMPLES": 200},
    "10": {"RESAMPLES": 200},
    "A2": {"SEEDS": 1, "EPOCHS": 1, "GROUP_EPOCHS": 1, "LEFT_OUT": 1, "RESAMPLES": 200},
    "A3": {"RESAMPLES": 200, "BODIES": 2},
    "A4": {"RESAMPLES": 200, "LABELLED": [8], "DRAWS": 2},
}
QUICK["07"] |= {"BATCH_SIZE": 4, "TUNING_RATE": 1e-6}
MASKS = "lung_masks.npz"  # beside it: where the lungs are, as for the real films
SIDE = 160  # of a mask, pixels
VERSION = 2  # raise it whenever the same seed gives other pictures or masks
FEWEST = 40  # images; below it, train and test cannot both hold two patients of each kind
Film = namedtuple("Film", "path kind patient copy")  # a copy is byte for byte the film before it
SHOTS = dict.fromkeys(("bacteria", "virus"), [1] * 6 + [2] * 3 + [3, 3, 5])  # films of one patient, by frequency
SHOTS["normal"] = [1] * 9 + [2]
COPIES = {("train", "normal"): 1, ("train", "bacteria"): 2, ("train", "virus"): 1, ("test", "bacteria"): 1}
MU_SOFT, MU_BONE = 0.20, 0.55  # 1/cm at about 60 keV; bone is what it adds to the tissue it displaces
LUNG_AIR = 0.72  # share of an inflated lung that is air
LUNG = 1.2  # centimetres of air in the beam from which a pixel counts as lung
CM = 10.0  # centimetres in one half chest width, a child of about four
RIB, RIB_BONE = 0.031, 0.62  # radius of a rib, and how much of it is bone and not marrow
DRAWN_WIDTH = 256  # pixels; the model is computed no wider, larger films are scaled up before the noise


def _anatomy(rng, kind):
    """Proportions and disease of one patient, all from `rng` in a fixed order."""
    u, n = rng.uniform, rng.normal
    b = SimpleNamespace(depth=n(13, 1), streaks=0.0, lobes=[])
    b.wall, b.top, b.dome, b.arms = u(1.05, 1.15), u(-0.92, -0.80), u(0.34, 0.50), u(-1.0, 1.25, 2)
    b.heart, b.heart_size, b.column = u(0.10, 0.17) + 1j * u(0.24, 0.32), u(0.38, 0.48), u(0.18, 0.25)
    b.thymus, b.windpipe, b.rib_gap, b.rib_drop = max(0, n(0.03, 0.07)), n(0, 0.03), u(0.165, 0.19), u(0.34, 0.56)
    b.collar, b.bubble, b.vessels, b.haze = u(0.0, 0.18), u(-4, 4), u(0.8, 1.6), abs(n(0, 0.04))
    b.texture, b.tree = n(size=(2, 96, 96)), _tree(rng)
    severity = max(rng.beta(2.4, 1.6), 0.05)  # the low end is a subtle case
    for k in range(1 + (u() < 0.25) if kind == "bacteria" else 0):
        lobe = SimpleNamespace(at=rng.choice([-1, 1]) * u(0.40, 0.70) + 1j * u(-0.45, 0.45))
        lobe.radius, lobe.tall, lobe.density = u(0.28, 0.46), u(0.75, 1.3), (0.60 + 0.37 * severity) * (1, 0.6)[k]
        lobe.open_airways, lobe.fissure = u() < 0.4, u(0.0, 0.25) if u() < 0.4 else 9
        b.lobes.append(lobe)
    if kind == "virus":
        b.streaks, b.haze = 0.9 + 1.3 * severity, b.haze + (0.09 + 0.20 * severity)
        b.vessels *= 1.1 + 0.4 * severity
    return b


def _tree(rng):
    """Vessels of both lungs as random walks outwards from the hila: (places, radii)."""
    places, radii = [], []
    for angle in rng.uniform(-1.35, 1.35, 68):
        steps, side = rng.integers(25, 75), rng.choice([-1, 1])
        start = 0.14 + 0.20 * rng.uniform() * np.cos(angle) + 1j * (0.02 + 0.30 * rng.uniform() * np.sin(angle))
        walk = start + 0.0125 * np.cumsum(np.exp(1j * (angle + np.cumsum(rng.normal(0, 0.07, steps)))))
        places.append(side * walk.real + 1j * walk.imag)
        radii.append(rng.uniform(0.006, 0.016) * np.linspace(1, 0.35, steps))
    return np.concatenate(places), np.concatenate(radii)


def _long_bones(b):
    """Ribs (half ellipses from the spine round the flank to the front), clavicles, shoulder blades, arms."""
    curves, t, a = [], np.linspace(0, 1, 300), np.linspace(0.12, 2.45, 420)
    for k in range(10):
        y = b.top - 0.03 + k * b.rib_gap
        half, drop = 0.99 * _chest(y + b.rib_drop / 2, b) + 0.015, b.rib_drop * (0.65 + 0.07 * k)
        curves.append(half * np.sin(a) + 1j * (y + drop * (1 - np.cos(a)) / 2 - 0.05 * np.sin(2 * a)))
    collar = 0.13 + 0.72 * t + 1j * (b.top + b.collar - 0.20 * t + 0.05 * np.sin(2 * np.pi * t))
    curves += [collar, collar + 0.02j, 0.98 - 0.12 * t + 1j * (b.top + 0.08 + 0.55 * t)]
    curves += [-c.conj() for c in curves]
    for side, lift in zip((-1, 1), b.arms):
        arm = 1.02 + 1j * (b.top + 0.02) + 0.9 * t * np.exp(1j * lift) + np.array([[-0.03], [0], [0.03]])
        curves += list(side * arm.real + 1j * arm.imag)  # two edges and the marrow
    return curves


def _chord(q):
    """Relative path through an ellipsoid at squared radius `q`: 1 in the centre, 0 outside."""
    return np.sqrt(np.clip(1 - q, 0, None))


def _ellipse(z, at, width, height, turn=0.0):
    w = (z - at) * np.exp(-1j * turn)
    return (w.real / width) ** 2 + (w.imag / height) ** 2


def _chest(y, b):
    """Half width of the inside of the chest at height `y`."""
    return 0.97 * np.clip((y - b.top) / 1.5, 1e-4, 1.15) ** 0.34


def _body(z, b):
    """Path through the body: the thickest of trunk, neck, head and arms."""
    x, y = z.real, z.imag
    wall = b.wall * (1 - 0.10 * np.clip(-y - 0.1, 0, 1))
    trunk = b.depth * _chord(np.abs(x / wall) ** 3 + np.clip((-0.45 - y) / 0.62, 0, None) ** 3)
    parts = [trunk, 8 * _chord((x / 0.40) ** 2) * (y < 0), 14 * _chord(_ellipse(z, 1j * (b.top - 0.83), 0.52, 0.58))]
    for side, lift in zip((-1, 1), b.arms):
        arm = (side * x + 1j * y - 0.98 - 1j * (b.top + 0.06)) * np.exp(-1j * lift)  # along the real axis
        parts.append(6 * _chord(np.abs(arm - np.clip(arm.real, 0, 1)) ** 2 / 0.27**2))
    return gaussian_filter(np.max(parts, axis=0), 1.5, truncate=2)


def _air(z, b, body, breath):
    """Path through the air of healthy lungs (chest less heart, mediastinum, diaphragm), and of other air."""
    x, y = z.real, z.imag
    chest = 0.82 * b.depth * _chord((x / _chest(y, b)) ** 2) * (y > b.top)
    ventricle = _ellipse(z, b.heart + 0.07 + 0.06j, b.heart_size, 1.12 * b.heart_size, -0.55)
    atrium = _ellipse(z, b.heart - 0.08 - 0.10j, 0.72 * b.heart_size, 1.25 * b.heart_size, -0.1)
    middle = b.column + b.thymus * np.exp(-(((y + 0.35) / 0.18) ** 2)) + 0.05 * np.clip(-0.4 - y, 0, 1)
    dome = b.dome + 0.07 * (x > 0) + 0.42 * (np.abs(np.abs(x) - 0.40) / 0.55) ** 2.2
    heart, mediastinum = 0.80 * _chord(np.minimum(ventricle, atrium)), 0.75 * _chord(np.abs(x / middle) ** 3)
    solid = np.max([heart, mediastinum, 0.90 * np.sqrt(np.clip((y - dome) / 0.20, 0, 1))], axis=0)
    inside = np.clip(np.minimum(chest, 0.9 * body) - b.depth * solid, 0, None)
    stomach = max(0, b.bubble) * _chord(_ellipse(z, 0.42 + 1j * (b.dome + 0.42), 0.25, 0.11, 0.2))
    return LUNG_AIR * gaussian_filter(inside, 0.7) * breath, stomach + 1.1 * _chord(((x - b.windpipe) / 0.065) ** 2) * (
        y < -0.32
    )


def _spine(z):
    """Path through the bone of the vertebrae: blocks with thinner discs between them, and their pedicles."""
    x, block = np.abs(z.real), np.clip(np.cos(2 * np.pi * z.imag / 0.152) * 2.2 + 1.5, 0, 1)
    return (0.35 + 0.35 * block) * _chord((x / 0.13) ** 4) + 0.35 * block * np.exp(-(((x - 0.085) / 0.028) ** 2))


def _disease(z, b, tree):
    """Share of the lungs' air that fluid has replaced: dense lobes (bacteria), haze and streaks (virus)."""
    grid = np.clip([(z.imag + 1.2) * 40, (z.real + 1.2) * 40], 0, 95)
    smooth = [gaussian_filter(noise, s) * s * 3.5 for noise, s in zip(b.texture, (1.6, 6.0))]
    fine, coarse = (map_coordinates(noise, grid, order=1) for noise in smooth)
    left = 1 - b.haze
    for o in b.lobes:
        r = np.sqrt(_ellipse(z, o.at, o.radius, o.radius * o.tall)) + 0.13 * coarse + 0.05 * fine
        below = np.clip((z.imag - o.at.imag - o.fissure * o.radius) / 0.02, -50, 50)  # the lobe ends in a sharp line
        bronchogram = 1 - 0.6 * np.clip(2 * tree, 0, 1) if o.open_airways else 1  # air that shows dark in the lobe
        left = left * (1 - o.density / (1 + np.exp((r - 1) / 0.13)) / (1 + np.exp(below)) * bronchogram)
    perihilar = 0.35 + np.exp(-(((np.abs(z.real) - 0.28) / 0.36) ** 2) - ((z.imag - 0.05) / 0.6) ** 2)
    patches = np.clip(0.10 * fine + 0.10 * coarse + 0.16 * tree, 0, 0.6)
    return 1 - np.clip(left * (1 - b.streaks * perihilar * patches), 0.05, 1)


def _swept(places, volumes, pose, shape, radius):
    """Path through thin curved things, whose `volumes` lie round `places` within `radius` pixels."""
    p = (places - pose.shift) / pose.scale + shape[1] / 2 + 0.5j * shape[0]
    edges = [np.arange(n + 1) - 0.5 for n in shape]
    return gaussian_filter(np.histogram2d(p.imag, p.real, bins=edges, weights=volumes)[0], radius / 2)


def _attenuation(b, pose, shape):
    """Sum of mu * path length for every pixel (Beer and Lambert), and the path through the air of healthy lungs."""
    h, w = shape
    z = (np.arange(w) - w / 2 + 1j * (np.arange(h)[:, None] - h / 2)) * pose.scale + pose.shift
    pixel, curves = abs(pose.scale), _long_bones(b)
    steps = np.concatenate([np.full(len(c), np.abs(np.diff(c)).mean()) for c in curves])
    volumes = RIB_BONE * np.pi * RIB**2 * steps * CM / pixel**2
    bones = _swept(np.concatenate(curves), volumes, pose, shape, RIB / pixel) + _spine(z)
    tree = _swept(b.tree[0], np.pi * b.tree[1] ** 2 * 0.0125 * CM / pixel**2, pose, shape, 1.6)
    body = _body(z, b)
    lungs, other_air = _air(z, b, body, pose.breath)
    air = lungs * (1 - _disease(z, b, tree)) - 1.3 * b.vessels * tree * np.clip(lungs / 2, 0, 1)
    soft = np.clip(body - np.clip(air, 0, None) - other_air, 0, None)
    return MU_SOFT * soft + MU_BONE * bones * np.clip(body / 4, 0, 1), lungs


def _expose(rng, attenuation, size):
    """What a digital detector shows: scatter, quantum noise, sharpened edges, a tone curve, 0 to 255."""
    beam, u = np.exp(-attenuation), rng.uniform
    scatter = u(0.05, 0.35) * gaussian_filter(beam, attenuation.shape[1] / 14, truncate=2)
    beam = (gaussian_filter(beam, u(0.3, 0.8)) + scatter).astype(np.float32)
    beam = np.clip(np.array(Image.fromarray(beam).resize(size[::-1], Image.Resampling.BICUBIC)), 1e-3, None)
    beam = beam + rng.normal(size=size) * np.sqrt(beam / 10 ** u(3.8, 4.7))
    density = -np.log(np.clip(beam, 1e-3, None))
    density += 0.7 * (density - gaussian_filter(density, size[1] / 30, truncate=2))
    low, high = np.percentile(density[density > 0.6], [8, 92])  # automatic exposure, set on the patient
    middle = low + (high - low) * u(0.25, 0.65)
    tone = 1 / (1 + np.exp(-(density - middle) / (high - low) * u(2.6, 4.2)))
    black = 1 / (1 + np.exp(3 * middle / (high - low)))
    return (255 * np.clip((tone - black) / u(0.86, 1.0), 0, 1)).astype(np.uint8)


def _dress(rng, film, lungs):
    """What lies on the film beside the patient: ECG lead or tube, side marker, the collimator's edge.

    Returns the film, and the part of the mask `lungs`, of its shape, that the edge leaves.
    """
    (h, w), u, image = film.shape, rng.uniform, Image.fromarray(film)
    pen, thing = ImageDraw.Draw(image), u()
    x, y, slant, down = (u((0.25, 0.2, -0.6, 0.4), (0.75, 0.8, 0.6, 0.9)) * (w, h, w, h)).tolist()
    if thing < 0.15:
        pen.line([(x, y), (x + slant / 3, y / 2), (x + slant, -9)], fill=215, width=max(1, w // 180))
        pen.ellipse([x - w / 60, y - w / 60, x + w / 60, y + w / 60], fill=235)
    elif thing < 0.25:
        pen.line([(w * 0.49, 0), (w * 0.5, h * 0.3), (w * 0.5 + slant / 20, down)], fill=215, width=max(1, w // 150))
    if u() < 0.75:
        letter, at = ("R", u(0.02, 0.1)) if u() < 0.9 else ("L", u(0.88, 0.93))
        pen.text((at * w, u(0.03, 0.4) * h), letter, fill=250, font=ImageFont.load_default(w * u(0.04, 0.07)))
    edge = tuple((u(0, 0.06, 4) * (w, h, w, h) * (u() < 0.25)).astype(int).tolist())
    film, lungs = (ImageOps.expand(ImageOps.crop(one, edge), edge) for one in (image, Image.fromarray(lungs)))
    return np.array(film), np.array(lungs)


def draw_chest(rng, kind, size, patient=None):
    return draw_chest_and_lungs(rng, kind, size, patient)[0]


def draw_chest_and_lungs(rng, kind, size, patient=None):
    """Draw one film, and the mask of its lungs (255 in a lung, else 0): both uint8 of shape `size`.

    `kind` is "normal", "bacteria" or "virus", `size` is (height, width) in pixels. `rng` decides positioning, exposure
    and what lies on the film; `patient`, an int or several, is the seed of anatomy and disease, which the films of one
    patient share (default: drawn from `rng`).
    """
    body = _anatomy(np.random.default_rng(rng.integers(2**32) if patient is None else patient), kind)
    shape, n = tuple(round(side * min(1, DRAWN_WIDTH / size[1])) for side in size), rng.normal
    pose = SimpleNamespace(scale=2 * np.clip(n(1.28, 0.09), 1.12, 1.55) / shape[1] * np.exp(1j * n(0, 0.035)))
    pose.shift, pose.breath = n(0, 0.05) + 1j * n(-0.11, 0.07), np.clip(n(1, 0.09), 0.72, 1.15)
    attenuation, air = _attenuation(body, pose, shape)
    lungs = Image.fromarray(((air > LUNG) * 255).astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)
    return _dress(rng, _expose(rng, attenuation, tuple(size)), np.array(lungs))


def plan(images=600, seed=0):
    """List the films of a set in the order drawn: names, patients and copies as in the real set."""
    if images < FEWEST:
        raise ValueError(f"a drawn set needs at least {FEWEST} images, not {images}")
    rng, films, number, shot = np.random.default_rng([seed, 0]), [], Counter(), Counter()
    val, test = 16 if images >= 200 else 4, max(8, round(0.18 * images))
    for split, total, ratio in ("test", test, 1.67), ("train", images - test - val, 2.9), ("val", val, 1):
        normal = round(total / (1 + ratio))
        virus = 0 if split == "val" else round(0.36 * (total - normal))  # the real val has no viral case
        for kind, left in ("normal", normal), ("virus", virus), ("bacteria", total - normal - virus):
            if (split, kind) == ("test", "bacteria"):  # gives viral patients of train the same bare numbers
                number[kind] = number["virus"]
            copies = COPIES.get((split, kind), 0)
            while left:
                number[kind] += 1
                shots = max(int(rng.choice(SHOTS[kind])), 1 + (copies > 0))
                shots = min(shots, max(left - 1, 1))  # two patients at least
                prefix = rng.choice(["", "NORMAL2-"])
                for k in range(shots):
                    shot[kind] += 1
                    name = f"PNEUMONIA/person{number[kind]}_{kind}_{shot[kind]}"
                    if kind == "normal":
                        name = f"NORMAL/{prefix}IM-{number[kind]:04d}-0001" + f"-{k:04d}" * (k > 0)
                    films.append(Film(f"{split}/{name}.jpeg", kind, number[kind], copies > 0 and k == shots - 1))
                left, copies = left - shots, copies - 1
    return films


def _write(path, film, key, seed):
    """Draw one file; in the real set too, normal films are the larger ones and only pneumonia has RGB.

    Returns the mask of its lungs, squeezed into a square of side `SIDE` and packed, a bit a pixel.
    """
    rng, normal = np.random.default_rng([seed, 1, key]), film.kind == "normal"
    width = np.clip(rng.normal(304 if normal else 294, 50), 180, 420)
    height = width / np.clip(rng.normal(1.28 if normal else 1.34, 0.15), 1, 1.9)
    patient = [seed, 2, "nbv".index(film.kind[0]), film.patient]
    film_drawn, lungs = draw_chest_and_lungs(rng, film.kind, (int(height), int(width)), patient)
    image = Image.fromarray(film_drawn)
    if key % 16 == 0 and film.path.startswith("train/PNEUMONIA"):
        image = image.convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=int(rng.integers(75, 96)))
    squeezed = Image.fromarray(lungs).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.packbits(np.asarray(squeezed) > 127)


def draw(folder, images=600, seed=0):
    """Draw `images` films, at least 40, into a new or empty folder, or return at once where it holds this set already.

    Returned with ``{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg`` in it, and ``lung_masks.npz``, as it comes with the
    real films: ``path``, ``bits`` (packed masks) and ``side``. The same seed and number give the same bytes.
    """
    folder, films = Path(folder).resolve(), plan(images, seed)
    card = json.dumps({"name": "drawn films", "images": images, "seed": seed, "version": VERSION})
    if (folder / CARD).is_file() and (folder / CARD).read_text() == card:
        return folder
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty")
    bits = []
    for key, film in enumerate(films):
        if film.copy:
            shutil.copyfile(folder / films[key - 1].path, folder / film.path)
            bits.append(bits[-1])
        else:
            bits.append(_write(folder / film.path, film, key, seed))
    names = np.array([film.path for film in films])
    np.savez_compressed(folder / MASKS, path=names, bits=np.stack(bits), side=np.array(SIDE))
    (folder / CARD).write_text(card)
    return folder


def noise_weights(folder):
    """Weights for 07 on drawn films, in place of ImageNet's: of a network that has met noise alone."""
    from cxr.backend import keras

    path = folder / "mobilenet_v2_0.35_96.weights.h5"
    if not path.exists():
        keras.utils.set_random_seed(0)
        network = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, include_top=False, weights=None)
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.5
        for seed in range(8):
            network(keras.random.normal((16, 96, 96, 3), seed=seed), training=True)
        folder.mkdir(parents=True, exist_ok=True)
        network.save_weights(path)
    return folder
