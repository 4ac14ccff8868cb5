"""The sample of real films is small, has whole patients, and no film of the official test folder."""

import numpy as np
import pandas as pd

from cxr import data
from cxr.paths import ROOT

FOLDER = ROOT / "chest_xray" / "sample"


def test_the_sample_has_no_film_of_the_test_folder_and_no_patient_on_both_sides():
    films, official = data.survey(FOLDER), pd.read_csv(ROOT / "results" / "01_manifest.csv", dtype={"patient": str})
    origin = official.assign(file=official.path.str.split("/").str[-1]).set_index("file")
    origin = origin.loc[films.path.str.split("/").str[-1]].reset_index()  # names are unique in the full set
    assert origin.file.is_unique and (origin.folder == "train").all()
    assert (origin.label == films.label).all() and (origin.patient == films.patient).all()
    assert not set(films.sha256) & set(official.sha256[official.folder == "test"])
    assert films.groupby("patient").folder.nunique().max() == 1 and films.patient.value_counts().max() == 2
    assert not set(films.patient) & set(official.patient[official.folder == "test"])
    assert set(films.subtype[films.folder == "train"]) == {"normal", "bacteria", "virus"}
    assert 600 <= len(films) and 500 <= (films.folder == "train").sum()


def test_the_sample_is_small_and_every_film_has_its_lungs():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 6e6
    with np.load(FOLDER / "lung_masks.npz") as masks:
        names = pd.read_csv(FOLDER / "metadata.csv").path
        assert sorted(masks["path"]) == sorted(names) and masks["bits"].any(axis=1).all()
