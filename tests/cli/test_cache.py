"""``medmnist-hf cache``: it lists and removes decoded splits, all or those of a subset."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medmnist_hf import cache_info, load_arrays
from medmnist_hf.cli.main import app
from medmnist_hf.errors import CatalogError
from tests.conftest import Phantoms
from tests.fixtures.builds import build

runner = CliRunner()


@pytest.fixture
def kept(phantoms: Phantoms, tmp_path: Path) -> Path:
    for flag in ("breastmnist", "organmnist3d"):
        build(phantoms, tmp_path / "dist", flag, 28)
        for split in ("train", "test"):
            load_arrays(flag, 28, split, tmp_path / "dist", cache_dir=tmp_path / "cache")
    return tmp_path / "cache"


def run(*arguments: str | Path) -> str:
    result = runner.invoke(app, ["cache", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list(kept: Path) -> None:
    lines = run("--dir", kept).splitlines()
    entries = cache_info(kept)
    assert len(lines) == 1 + 4 + 1
    for entry, line in zip(entries, lines[1:], strict=False):
        shape = " x ".join(map(str, entry.shape))
        megabytes = f"{entry.bytes / 1e6:,.1f}"
        expected = f"{entry.name} {entry.size} {entry.split} {shape} {megabytes} {entry.created}"
        assert line.split() == expected.split()
    assert lines[-1] == f"{sum(entry.bytes for entry in entries) / 1e6:,.1f} MB in {kept}"
    assert len(run("OrganMNIST3D", "--dir", kept).splitlines()) == 4


def test_list_as_json(kept: Path) -> None:
    facts = json.loads(run("breastmnist", "--dir", kept, "--json"))
    assert [(each["name"], each["split"], each["size"]) for each in facts] == [
        ("breastmnist", "test", 28),
        ("breastmnist", "train", 28),
    ]
    assert Path(facts[0]["path"]).is_dir() and facts[1]["shape"] == [16, 28, 28]


def test_clear(kept: Path) -> None:
    sizes = {entry.name: entry.bytes for entry in cache_info(kept)}
    assert sizes["breastmnist"] < sizes["organmnist3d"]
    assert run("--clear", "breastmnist", "--dir", kept).endswith(" MB freed\n")
    left = cache_info(kept)
    assert [entry.name for entry in left] == ["organmnist3d"] * 2
    assert json.loads(run("--clear", "--dir", kept, "--json")) == {"freed": sum(entry.bytes for entry in left)}
    assert cache_info(kept) == [] and json.loads(run("--dir", kept, "--json")) == []
    assert run("--dir", kept) == f"0.0 MB in {kept}\n"


def test_listing_does_not_create_the_default_folder(tmp_path: Path) -> None:
    code = "from medmnist_hf.cli.main import main; main()"
    process = subprocess.run(
        [sys.executable, "-c", code, "cache"],
        capture_output=True,
        text=True,
        check=True,
        env={"HF_HOME": str(tmp_path / "hf")},
    )
    assert process.stdout == f"0.0 MB in {tmp_path}/hf/medmnist-hf/arrays\n" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("clear", [[], ["--clear"]])
def test_a_typo_gets_a_suggestion(kept: Path, clear: list[str]) -> None:
    result = runner.invoke(app, ["cache", "brestmnist", "--dir", str(kept), *clear])
    assert isinstance(result.exception, CatalogError) and "did you mean 'breastmnist'?" in str(result.exception)
    assert len(cache_info(kept)) == 4


def test_other_commands_do_not_wait_for_numpy() -> None:
    code = (
        "import sys, medmnist_hf.cli.cache; sys.exit(str({'datasets', 'pyarrow', 'numpy'} & set(sys.modules) or ''))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).stderr in {b"", b"\n"}


def test_help() -> None:
    output = run("--help")
    assert "Example: medmnist-hf cache --clear pathmnist" in output
    for option in ("--clear", "--dir", "--json"):
        assert option in output
