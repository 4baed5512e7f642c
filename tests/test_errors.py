"""`medmnist_hf.errors`: what an error of another package says, cut to a line."""

import errno
import os
from pathlib import Path

import pytest

from medmnist_hf.errors import first_line


def test_an_error_is_cut_to_its_first_line_or_its_kind() -> None:
    assert first_line(ValueError("\n first.\nsecond")) == "first"
    assert first_line("told\nby a server") == "told"
    assert first_line(AssertionError()) == "AssertionError"


def test_an_error_of_the_system_is_without_its_number_and_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "missing").read_text()
    assert first_line(caught.value) == os.strerror(errno.ENOENT)
    assert first_line(OSError("without a number\nand more")) == "without a number"
