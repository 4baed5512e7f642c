"""New entries: prediction files are copied and scored, and what is not known is left to be filled in."""

from pathlib import Path

import pytest

from medmnist_hf.errors import MedMNISTError, ScoreError
from medmnist_hf.submissions.check import check_entry
from medmnist_hf.submissions.start import Start, start_of_files, write_start
from tests.fixtures.entries import edit, predict

FILLED = {
    "method": "Net",
    "image_size": 28,
    "resize": "none",
    "pretraining": "none",
    "adaptation": "scratch",
    "labels": "all",
    "selected_on": "validation",
}


def test_an_entry_of_files_is_valid_once_it_is_filled_in(real_data: Path, tmp_path: Path) -> None:
    flags = ("breastmnist", "retinamnist")
    paths = [predict(tmp_path, real_data, flag, seed) for flag in flags for seed in (4, 5)]
    folder = tmp_path / "new" / "mine"
    missing = write_start(folder, start_of_files(paths, real_data))
    assert missing == list(FILLED)
    assert sorted(path.name for path in folder.iterdir()) == ["entry.yaml", "seed-0", "seed-1"]
    assert {path.name for path in folder.glob("seed-*/*")} == {path.name for path in paths}
    with pytest.raises(ScoreError, match="image_size is '', must be an integer"):
        edit(folder, "method: ''", "method: Net")
        check_entry(folder, root=real_data)
    for name, value in FILLED.items():
        if name != "method":
            edit(folder, f"{name}: ''", f"{name}: {value}")
    assert check_entry(folder, root=real_data).faults == ()


def test_an_empty_entry_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert write_start(tmp_path / "mine", start_of_files([])) == [*FILLED, "results"]


def test_files_of_one_protocol_only(real_data: Path, tmp_path: Path) -> None:
    one, two = (predict(tmp_path, real_data, "breastmnist", seed) for seed in (0, 1))
    retina, large = predict(tmp_path, real_data, "retinamnist"), predict(tmp_path, real_data, size=64)
    for paths in ([one, two, retina], [one, large]):
        with pytest.raises(ScoreError, match="an entry has one protocol"):
            start_of_files(paths, real_data)
    with pytest.raises(ScoreError, match="is a file of validation: an entry holds predictions for test"):
        start_of_files([one.with_name(one.name.replace("_test_", "_val_"))], real_data)


def test_nothing_is_overwritten_or_left_half_written(real_data: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").touch()
    with pytest.raises(ScoreError, match="exists and is not an empty folder: name another one"):
        write_start(full, Start({}, {}))
    with pytest.raises(ScoreError, match=r"cannot write .*/new \(No such file or directory\)"):
        write_start(tmp_path / "new", Start({}, {"seed-0/a.csv": tmp_path / "none.csv"}))
    with pytest.raises(MedMNISTError, match="cannot be the name of an entry"):
        write_start(tmp_path / "New Entry", Start({}, {}))
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
