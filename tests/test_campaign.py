"""The campaign of bad input: each case that was promised, and the test that tries it.

A case passes when its message names the file or setting and the remedy, or when the input is handled as it should be,
and when nothing that was there is lost; that is what each of these tests asserts.
"""

import re
from pathlib import Path

import pytest

DOWNLOAD, DATA, IMAGES, CHAIN = "test_download.py::", "test_data.py::", "test_images.py::", "test_chain.py::"
UNWRITABLE = CHAIN + "test_an_artifact_that_cannot_be_written_is_a_problem_and_the_old_one_stays"
SPOILT = IMAGES + "test_a_file_spoilt_after_01_is_named"
LEFT_OUT = DATA + "test_what_would_leak_is_left_out_with_its_reason"
BAD_ARCHIVE = DOWNLOAD + "test_a_bad_archive_leaves_nothing_behind"
NO_PICTURE = DATA + "test_a_file_that_is_no_whole_picture_is_named"
PICTURE = DATA + "test_a_whole_picture_of_any_kind_goes_through"
NO_DATA_SET = DATA + "test_a_folder_that_is_no_data_set_is_refused"

CASES = {
    "offline without cache": DOWNLOAD + "test_offline_without_cache",
    "offline with cache": DOWNLOAD + "test_offline_with_cache",
    "cut at 50%": DOWNLOAD + "test_a_broken_transfer_goes_on",
    "same-size corrupt archive": DOWNLOAD + "test_a_corrupt_archive_is_fetched_again",
    "login page as zip": DOWNLOAD + "test_what_kaggle_refuses_or_spoils[page-as-zip-",
    "disk too small": DOWNLOAD + "test_a_disk_too_small",
    "disk full while extracting": DOWNLOAD + "test_a_failure_while_extracting",
    "killed (SIGKILL) while extracting": DOWNLOAD + "test_killed_while_extracting",
    "truncated zip": BAD_ARCHIVE + "[cut short]",
    "bad CRC": BAD_ARCHIVE + "[wrong CRC]",
    "`..` member": BAD_ARCHIVE + "[parent]",
    "absolute member": BAD_ARCHIVE + "[absolute]",
    "symlink member": BAD_ARCHIVE + "[link]",
    "bomb": BAD_ARCHIVE + "[bomb]",
    "case-colliding names": BAD_ARCHIVE + "[cases]",
    "two at once": DOWNLOAD + "test_two_at_once",
    "another data set in the folder": DOWNLOAD + "test_half_a_data_set_or_another_one_is_a_problem",
    "nested copy": DOWNLOAD + "test_keeps_one_copy_of_each_image_and_nothing_else",
    "`__MACOSX`": DATA + "test_what_systems_leave_behind_is_no_image[__MACOSX/train/NORMAL/a.jpeg]",
    "`._*`": DATA + "test_what_systems_leave_behind_is_no_image[train/NORMAL/._IM-0001-0001.jpeg]",
    "malformed credentials": DOWNLOAD + "test_a_malformed_or_wrong_login_is_named[{",
    "placeholder credentials": DOWNLOAD + 'test_a_malformed_or_wrong_login_is_named[{"',
    "world-readable credentials": DOWNLOAD + "test_a_login_helps_where_one_is_asked_for[420]",
    "a mount that never appears": DOWNLOAD + "test_a_mount_that_never_appears",
    "zero-byte image": NO_PICTURE + "[zero bytes]",
    "truncated image": NO_PICTURE + "[JPEG cut at 50%]",
    "bit-flipped image": SPOILT + "[one bit flipped]",
    "HTML named .jpeg": NO_PICTURE + "[web page]",
    "GIF named .jpeg": NO_PICTURE + "[GIF named .jpeg]",
    "PNG named .jpeg": NO_PICTURE + "[PNG named .jpeg]",
    "CMYK": PICTURE + "[CMYK JPEG]",
    "16-bit": IMAGES + "test_16_bits_keep_their_gradation",
    "palette": PICTURE + "[palette PNG]",
    "alpha": PICTURE + "[PNG with alpha]",
    "EXIF-rotated": IMAGES + "test_a_turned_picture_is_decoded_upright",
    "animated": NO_PICTURE + "[animated PNG]",
    "1x1": NO_PICTURE + "[1 x 1]",
    "larger than Pillow's bomb limit": IMAGES + "test_a_file_that_is_no_film_is_named_with_the_remedy[a bomb]",
    "image deleted after 01": SPOILT + "[deleted]",
    "image replaced after 01": SPOILT + "[replaced by one of the same size]",
    "unicode and space in a path": DOWNLOAD + "test_unusual_paths",
    "very long paths": PICTURE + "[the longest name]",
    "symlink leaving the folder": DATA + "test_a_link_that_leaves_the_data_folder_is_named",
    "read-only data folder": DOWNLOAD + "test_a_data_folder_without_permission",
    "read-only results folder": UNWRITABLE + "[folder refused]",
    "single class": NO_DATA_SET + "[one class]",
    "empty class": NO_DATA_SET + "[empty class]",
    "three classes": DATA + "test_three_class_folders_are_normal_or_not_and_which",
    "lower-case class": DATA + "test_normal_is_0_whatever_the_other_class_is_called[normal-diseased]",
    "same patient in two splits (forced)": LEFT_OUT + "[a patient of test in train]",
    "duplicate across splits (forced)": LEFT_OUT + "[a test picture in train]",
    "same seed twice gives the same split": DATA + "test_the_same_seed_gives_the_same_split",
}


def test_there_are_as_many_cases_as_contributing_says():
    page = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"**{len(CASES)} of {len(CASES)}** named cases" in page


@pytest.mark.parametrize("case", CASES)
def test_the_case_is_tried(case, request):
    """Checked where the whole suite was collected, as `make test` does."""
    collected = [item.nodeid.removeprefix("tests/") for item in request.session.items]
    module, wanted = CASES[case].split("::")
    if not any(name.startswith(f"{module}::") for name in collected):
        pytest.skip(f"{module} was not collected")
    function = re.match(r"\w+", wanted)[0]
    assert any(name.startswith(CASES[case]) for name in collected), f"no test {function} tries: {case}"
