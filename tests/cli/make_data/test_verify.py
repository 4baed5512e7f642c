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


def test_it_accepts_configs_and_continues_after_a_bad_folder(
    phantoms: Phantoms, tmp_path: Path, verify: Command
) -> None:
    good = build_config(subset("breastmnist"), 28, phantoms("breastmnist"), tmp_path / "good").config_dir
    write_card(good.parent)
    bad = tmp_path / "bad" / "breastmnist" / "28"
    shutil.copytree(good, bad)
    (bad / MANIFEST_NAME).write_text("no manifest")
    process = verify(bad.parent, tmp_path / "nothing", bad, good, good.parent)
    assert process.returncode == 1
    assert process.stdout.count("ok: breastmnist 28: ") == 2
    lines = [line for line in process.stderr.splitlines() if "verifying breastmnist" not in line]  # after 2 seconds
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    assert (
        "is not a valid build manifest" in lines[0]
        and "nothing: no such file or folder" in lines[1]
        and "is not a valid build manifest" in lines[2]
    )


class TestPlaces:
    """Builds are named as for other commands: by a flag, a folder of builds, a build or a config."""

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
        process = command(verb, capsys, monkeypatch)(*names)
        assert process.returncode == 0 and process.stderr == ""
        pattern = r"^ok: (\w+ \d+): " if verb == "verify" else r"^(\w+ \d+), from phantom$"
        assert re.findall(pattern, process.stdout, re.MULTILINE) == configs
        if verb == "verify":
            where = [f" (dist/{config.replace(' ', '/')})" if len(configs) > 1 else "" for config in configs]
            assert re.findall(r"manifest(.*)$", process.stdout, re.MULTILINE) == where

    def test_a_damaged_build_does_not_hide_the_others(self, verify: Command) -> None:
        Path("dist/breastmnist/28", MANIFEST_NAME).write_text("no manifest")
        process = verify("dist")
        assert process.returncode == 1 and "retinamnist 28" in process.stdout
        assert len(process.stderr.splitlines()) == 1 and "is not a valid build manifest" in process.stderr

    def test_a_typo_is_reported_at_once_without_contacting_the_hub(self, verify: Command) -> None:
        """It used to fail with "Name or service not known" after 9 s."""
        start = time.monotonic()
        process = verify("dist/typo")
        assert time.monotonic() - start < 2 and process.returncode == 1
        assert process.stderr.startswith(
            "error: dist/typo: no such file or folder (dist has breastmnist, retinamnist): give a subset"
        )

    def test_an_audit_of_the_hub_is_not_saved(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        process = command("audit", capsys, monkeypatch)("you/pathmnist", "--save")
        assert process.returncode == 1 and "a local build is needed" in process.stderr

    @pytest.mark.slow
    def test_tasks_print_the_same_lines(self, verify: Command) -> None:
        shard = next(Path("dist/breastmnist/64").glob("test-*"))
        shard.write_bytes(shard.read_bytes()[:-1] + b"?")
        names = ("retinamnist", "dist/breastmnist/64")
        serial = verify(*names)
        process = verify(*names, "--engine", "local", "--workers", "2")
        assert process.returncode == serial.returncode == 1
        assert process.stdout == serial.stdout
        (error,) = [line for line in serial.stderr.splitlines() if line.startswith("error: ")]
        message = error.removeprefix("error: ").replace("dist/", f"{Path.cwd()}/dist/")
        log = f"{Path.cwd()}/dist/.jobs/verify/logs/breastmnist-64.txt"
        assert [line for line in process.stderr.splitlines() if line.startswith("error: ")] == [
            f"error: failed: breastmnist-64: {message} (output: {log})",
            "error: not done: 1 of 2 tasks; fix what is named above, then run the same command again",
        ]
