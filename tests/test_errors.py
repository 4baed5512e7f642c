"""`medmnist_hf.errors`: every message is one short, printable line."""

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
    counted,
    first_line,
    is_full,
    one_line,
    shorten,
)
from tests.fixtures.paths import ROOT


def test_an_error_is_quoted_by_its_first_line_or_its_class() -> None:
    assert first_line(ValueError("\n first.\nsecond")) == "first"
    assert first_line("sent\nby a server") == "sent"
    assert first_line(AssertionError()) == "AssertionError"


def test_a_system_error_is_quoted_without_number_and_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "missing").read_text()
    assert first_line(caught.value) == os.strerror(errno.ENOENT)
    assert first_line(OSError("without a number\nand more")) == "without a number"


@pytest.mark.parametrize(
    ("message", "line"),
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
def test_a_message_is_one_printable_line_whatever_it_quotes(message: str, line: str) -> None:
    assert one_line(message) == line
    for error in (MedMNISTError(message), BuildError(message), HubError(message, 403)):
        assert str(error) == line
        assert str(pickle.loads(pickle.dumps(error))) == line  # noqa: S301  as a process pool does
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
    assert shorten(1 << 99_999) == "an integer of 100,000 bits"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_overrides_the_remedy(number: int) -> None:
    line = cannot_write("out", OSError(number, "any"), "check the folder")
    assert line == f"no space left for out ({os.strerror(number)}): make room, then run the same command again"
    assert is_full(OSError(number, "any")) and not is_full(OSError(errno.EACCES, "any")) and not is_full(ValueError())
    other = cannot_write("out", PermissionError(errno.EACCES, "any"), "check the folder")
    assert other == "cannot write out (Permission denied): check the folder"


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "any"), OSError(errno.ENOMEM, "any"), MemoryError()])
def test_a_lack_of_resources_overrides_the_remedy(error: Exception) -> None:
    line = cannot_read("28/manifest.json", error, "build it again")
    assert line == (
        f"cannot read 28/manifest.json ({first_line(error)}): "
        "close other programs or raise the limit (ulimit), then run again"
    )
    assert cannot_read("x", OSError("cut"), "build it again") == "cannot read x (cut): build it again"
    assert "check its permissions" in cannot_read("x", PermissionError(errno.EACCES, "any"), "build it again")


def test_a_count_has_the_noun_of_its_number() -> None:
    texts = [counted(number, "row") for number in (0, 1, 1000)] + [counted(2, "repository", "repositories")]
    assert texts == ["0 rows", "1 row", "1,000 rows", "2 repositories"]


def test_only_cannot_read_words_a_read_error() -> None:
    """Only it distinguishes a lack of memory or permission from a damaged file."""
    pattern = re.compile(r"cannot read \{[^}]*\} \(\{(first_line\(error\)|error\.strerror)")
    files = (ROOT / "medmnist_hf").rglob("*.py")
    assert [path.name for path in files if pattern.search(path.read_text(encoding="utf-8"))] == ["errors.py"]
