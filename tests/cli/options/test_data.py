"""Every verb that reads data has the same argument and options for it."""

import re

import pytest

from tests.fixtures.commands import command

READERS = ("export", "montage")
CHECKS = ("verify", "audit")


@pytest.mark.parametrize("verb", [*READERS, *CHECKS, "push", "build"])
def test_the_help_has_the_shared_options(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = command(verb, capsys, monkeypatch)("--help").stdout
    assert "--namespace" not in text and "--root" in text
    if verb == "build":
        return
    assert re.search(r"Usage: .*\bDATA\b\W*\n" if verb in READERS else r"Usage: .*\bDATA\W*\.\.\.", text)
    assert re.search(r"--root.*Folder of builds", text) and "MEDMNIST_DATA" in text
    assert ("--size" in text) == (verb != "push")
    assert ("--revision" in text) == (verb != "push")
