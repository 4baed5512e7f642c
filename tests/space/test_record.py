"""The record of the Space's pictures: read with every value checked."""

from pathlib import Path

import pytest

from medmnist_hf.errors import BuildError
from medmnist_hf.space.record import RECORD_NAME, Pictures, Record, read_record


def test_what_is_written_is_read(tmp_path: Path) -> None:
    files = {"pictures/pathmnist.png": "0" * 64, "pictures/pathmnist.json": "1" * 64}
    record = Record((Pictures("gallery", "pathmnist", 28, "", "verified", "pictures/pathmnist.json", "", files),))
    (tmp_path / "data").mkdir()
    (tmp_path / RECORD_NAME).write_text(record.to_json())
    assert read_record(tmp_path) == record


def test_files_that_it_does_not_name_are_refused(tmp_path: Path) -> None:
    files = {"pictures/pathmnist.json": "1" * 64}
    pictures = Pictures(
        "gallery", "pathmnist", 28, "", "verified", "pictures/pathmnist.json", "https://x.org/x.png", files
    )
    (tmp_path / "data").mkdir()
    (tmp_path / RECORD_NAME).write_text(Record((pictures,)).to_json())
    with pytest.raises(BuildError, match="the files of pathmnist lack"):
        read_record(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', '{"format": 1, "pictures": [{"files": {"../x": "0"}}]}'])
def test_a_damaged_record_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / RECORD_NAME).write_text(text)
    with pytest.raises(BuildError, match=r"site\.json is not valid") as caught:
        read_record(tmp_path)
    assert "\n" not in str(caught.value)
