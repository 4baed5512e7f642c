"""``medmnist-hf verify`` on several builds."""

import re
import shutil
import time
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
        and "nothing: no such file or folder" in lines[1]
        and "is not a valid build manifest" in lines[2]
    )


class TestPlaces:
    """What is checked is named as everywhere: a flag, a folder of builds, a build, a config."""

    @pytest.fixture(autouse=True)
    def here(self, phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for flag, size in (("breastmnist", 28), ("breastmnist", 64), ("retinamnist", 28)):
            build_config(subset(flag), size, phantoms(flag, size), tmp_path / "dist")
            write_card(tmp_path / "dist" / flag)
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize("verb", ["verify", "audit"])
    @pytest.mark.parametrize(
        ("names", "configs"),
        [
            (("dist",), ["breastmnist 28", "breastmnist 64", "retinamnist 28"]),
            (("BreastMNIST",), ["breastmnist 28", "breastmnist 64"]),
            (("breastmnist-64",), ["breastmnist 64"]),
            (("dist", "--size", "28"), ["breastmnist 28", "retinamnist 28"]),
            (("dist/breastmnist", "--size", "all"), ["breastmnist 28", "breastmnist 64"]),
            (("retinamnist", "dist/breastmnist/64"), ["retinamnist 28", "breastmnist 64"]),
            (("retinamnist", "--root", "dist/retinamnist"), ["retinamnist 28"]),
        ],
    )
    def test_names(
        self,
        verb: str,
        names: tuple[str, ...],
        configs: list[str],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        done = command(verb, capsys, monkeypatch)(*names)
        assert done.returncode == 0 and done.stderr == ""
        pattern = r"^ok: (\w+ \d+): " if verb == "verify" else r"^(\w+ \d+), from phantom$"
        assert re.findall(pattern, done.stdout, re.MULTILINE) == configs
        if verb == "verify":
            where = [f" (dist/{config.replace(' ', '/')})" if len(configs) > 1 else "" for config in configs]
            assert re.findall(r"manifest(.*)$", done.stdout, re.MULTILINE) == where

    def test_one_damaged_build_hides_none_of_the_others(self, verify: Command) -> None:
        Path("dist/breastmnist/28", MANIFEST_NAME).write_text("no manifest")
        done = verify("dist")
        assert done.returncode == 1 and "retinamnist 28" in done.stdout
        assert len(done.stderr.splitlines()) == 1 and "is not a valid build manifest" in done.stderr

    def test_a_typo_is_found_at_once_and_not_looked_up_on_the_hub(self, verify: Command) -> None:
        """Once it said "Name or service not known", after 9 s."""
        start = time.monotonic()
        done = verify("dist/typo")
        assert time.monotonic() - start < 2 and done.returncode == 1
        assert done.stderr.startswith(
            "error: dist/typo: no such file or folder (dist has breastmnist, retinamnist): give a flag"
        )

    def test_an_audit_of_the_hub_is_not_saved(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done = command("audit", capsys, monkeypatch)("you/pathmnist", "--save")
        assert done.returncode == 1 and "a build on this machine is needed" in done.stderr
