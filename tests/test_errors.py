"""`medmnist_hf.errors`: what an error of another package says, cut to a line."""

import errno
import os
import pickle
import re
from pathlib import Path

import pytest

from medmnist_hf.errors import (
    BuildError,
    HubError,
    MedMNISTError,
    cannot_read,
    cannot_write,
    first_line,
    is_full,
    one_line,
    shorten,
)
from tests.fixtures.paths import ROOT


def test_an_error_is_cut_to_its_first_line_or_its_kind() -> None:
    assert first_line(ValueError("\n first.\nsecond")) == "first"
    assert first_line("told\nby a server") == "told"
    assert first_line(AssertionError()) == "AssertionError"


def test_an_error_of_the_system_is_without_its_number_and_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "missing").read_text()
    assert first_line(caught.value) == os.strerror(errno.ENOENT)
    assert first_line(OSError("without a number\nand more")) == "without a number"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("a\nerror: b", "a error: b"),
        ("a \r\n\t b", "a b"),
        ("a\u2028b\x85c", "a b c"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\u202eb\x9b", r"a\u202eb\x9b"),
        ("\udcff", r"\udcff"),
        ("0.73 ± 0.01, größer, 肺", "0.73 ± 0.01, größer, 肺"),
    ],
)
def test_a_message_is_one_printable_line_whatever_it_quotes(said: str, line: str) -> None:
    assert one_line(said) == line
    for error in (MedMNISTError(said), BuildError(said), HubError(said, 403)):
        assert str(error) == line
        assert str(pickle.loads(pickle.dumps(error))) == line  # noqa: S301  as a pool of processes hands it on
    line.encode()


def test_a_long_message_keeps_what_happened_and_what_to_do() -> None:
    text = str(MedMNISTError(f"cannot read x ({'y' * 50_000}): build it again"))
    assert len(text) < 2_100
    assert text.startswith("cannot read x (y") and text.endswith("y): build it again")


def test_a_quoted_value_is_short_and_printable() -> None:
    assert shorten("a") == "'a'" and shorten(12) == "12"
    for value in (
        "x" * 9_999,
        [["y" * 99] * 99] * 99,
        {"\x1b\udcff": {"a": {"b": {"c": 1}}}},
        1 << 99_999,
        b"\0" * 999,
    ):
        text = shorten(value)
        assert len(text) < 170 and text.isprintable()
    assert shorten(1 << 99_999) == "a whole number of 100,000 bits"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said_whatever_was_to_be_done_otherwise(number: int) -> None:
    line = cannot_write("out", OSError(number, "any"), "check the folder")
    assert line == f"no space left for out ({os.strerror(number)}): make room, then run the same command again"
    assert is_full(OSError(number, "any")) and not is_full(OSError(errno.EACCES, "any")) and not is_full(ValueError())
    other = cannot_write("out", PermissionError(errno.EACCES, "any"), "check the folder")
    assert other == "cannot write out (Permission denied): check the folder"


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "any"), OSError(errno.ENOMEM, "any"), MemoryError()])
def test_what_the_system_is_short_of_is_said_whatever_was_to_be_done_otherwise(error: Exception) -> None:
    line = cannot_read("28/manifest.json", error, "build it again")
    assert line == (
        f"cannot read 28/manifest.json ({first_line(error)}): "
        "the system is short of it, end other programs or raise the limit (ulimit), then run again"
    )
    assert cannot_read("x", OSError("cut"), "build it again") == "cannot read x (cut): build it again"
    assert "check its permissions" in cannot_read("x", PermissionError(errno.EACCES, "any"), "build it again")


def test_what_cannot_be_read_is_said_in_one_place() -> None:
    """`cannot_read` tells a system that is short of memory and a file without permission from one that is damaged."""
    own = re.compile(r"cannot read \{[^}]*\} \(\{(first_line\(error\)|error\.strerror)")
    files = (ROOT / "medmnist_hf").rglob("*.py")
    assert [path.name for path in files if own.search(path.read_text(encoding="utf-8"))] == ["errors.py"]
