"""Draw the sample of real films that comes with the project: ``python tools/sample.py``.

The films are those of Kaggle's train folder alone: the official test folder stays sealed. Patients are drawn at random
with a fixed seed, with two films at most each; some of them play the test folder. A film is gray, 160 x 160 pixels,
JPEG of quality 80, under its own name.
"""

import json
import shutil

import numpy as np
import pandas as pd
from PIL import Image

from cxr import images
from cxr.paths import ROOT, Problem, command, data_dir

SEED, SIDE, QUALITY, MOST_FILMS = 0, 160, 80, 2
PARTS = {"train": 800, "test": 250}  # films; validation is cut from train, as in the full set
NAME = "sample of Kermany's train folder, 160x160 pixels"


def draw(manifest: pd.DataFrame, drawn_lungs: list[str]) -> pd.DataFrame:
    """The films of the sample, a row each: where it lies (`source`), where it goes (`path`), patient and subtype."""
    films = manifest[(manifest.folder == "train") & manifest.path.isin(drawn_lungs)].drop_duplicates("sha256")
    films = films.sample(frac=1, random_state=SEED).groupby("patient").head(MOST_FILMS)
    patients = np.random.default_rng(SEED).permutation(np.sort(films.patient.unique()))
    films = films.set_index("patient").loc[patients].reset_index()  # whole patients, in the order drawn
    last = films.patient.map(films.groupby("patient").size().reindex(patients).cumsum())  # films drawn so far
    test = last <= PARTS["test"]
    films = films[last <= sum(PARTS.values())]
    part = np.where(test[films.index], "test/", "train/")
    films = films.assign(source=films.path, path=part + films.path.str.removeprefix("train/"))
    return films[["path", "patient", "subtype", "source"]].sort_values("path", ignore_index=True)


def main() -> None:
    source, target = data_dir(), ROOT / "chest_xray" / "sample"
    manifest = pd.read_csv(ROOT / "results" / "01_manifest.csv", dtype={"patient": str})
    with np.load(ROOT / "chest_xray" / "lung_masks.npz") as masks:
        names, bits, side = masks["path"].tolist(), masks["bits"], int(masks["side"])
    films = draw(manifest, names)
    if not (source / films.source[0]).is_file():
        raise Problem("The full set is not there: set CHEST_XRAY_DIR to it, or run 01_download.ipynb.")
    for part in PARTS:
        shutil.rmtree(target / part, ignore_errors=True)
    for film in films.itertuples():
        (target / film.path).parent.mkdir(parents=True, exist_ok=True)
        pixels = images.decode((source / film.source).read_bytes(), SIDE)
        Image.fromarray(pixels).save(target / film.path, quality=QUALITY, optimize=True)
    rows = [names.index(name) for name in films.source]
    np.savez_compressed(target / "lung_masks.npz", path=films.path.to_numpy("str"), bits=bits[rows], side=side)
    films[["path", "patient", "subtype"]].to_csv(target / "metadata.csv", index=False, lineterminator="\n")
    (target / "sample.json").write_text(json.dumps({"name": NAME}) + "\n", encoding="utf-8")
    print(f"{len(films):,} films of {films.patient.nunique():,} patients in {target.relative_to(ROOT)}/.")


if __name__ == "__main__":
    command(main)
