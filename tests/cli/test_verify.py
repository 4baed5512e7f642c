"""``medmnist-hf verify`` on several builds."""

import shutil
from pathlib import Path

import pytest

from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import subset
from medmnist_hf.conversion.build import build_config
from medmnist_hf.manifest import MANIFEST_NAME
from tests.conftest import Phantoms
from tests.fixtures.commands import Command, command


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command("verify", capsys, monkeypatch)


def test_it_takes_configs_and_goes_on_after_a_bad_folder(phantoms: Phantoms, tmp_path: Path, verify: Command) -> None:
    good = build_config(subset("breastmnist"), 28, phantoms("breastmnist"), tmp_path / "good").config_dir
    write_card(good.parent)
    bad = tmp_path / "bad" / "breastmnist" / "28"
    shutil.copytree(good, bad)
    (bad / MANIFEST_NAME).write_text("no manifest")
    done = verify(bad.parent, tmp_path / "nothing", bad, good, good.parent)
    assert done.returncode == 1
    assert done.stdout.count("ok: breastmnist 28: ") == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    assert (
        "is not a valid build manifest" in lines[0]
        and "no build in" in lines[1]
        and "is not a valid build manifest" in lines[2]
    )
