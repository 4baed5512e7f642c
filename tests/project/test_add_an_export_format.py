"""The steps of ``docs/contributing/add-an-export-format.md``: a function and an entry add a format to the command."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from medmnist_hf.catalog import NPZ_SPLITS, SPLITS
from medmnist_hf.cli.main import app
from medmnist_hf.data.rows import Rows, open_rows
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.exporting.export import FORMATS, Format
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.exports import arrays_of
from tests.fixtures.pages import blocks
from tests.fixtures.paths import ROOT

PAGE = ROOT / "docs/contributing/add-an-export-format.md"


def write_table(
    rows: Rows, splits: Sequence[str], stage: Path, name: str, on_progress: Callable[[int], object]
) -> None:
    """Write one line per row: its split, its labels, its pixels."""
    with (stage / f"{name}.pixels.csv").open("x", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        for split in splits:
            labels = iter(rows.labels(split).tolist())
            for block in rows.images(split):
                table.writerows([split, *next(labels), *pixels] for pixels in block.reshape(len(block), -1).tolist())
                on_progress(len(block))


@pytest.mark.parametrize(("flag", "columns"), [("chestmnist", 14), ("organmnist3d", 1)])
def test_an_entry_and_a_function_suffice(
    phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, columns: int
) -> None:
    monkeypatch.setitem(FORMATS, "table", Format((2, 3), (".pixels.csv",), write_table))
    build(phantoms, tmp_path / "dist", flag, 28)
    command = ["export", flag, "--root", f"{tmp_path}/dist", "--out", f"{tmp_path}/out", "--format", "table"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    path = tmp_path / "out" / f"{flag}.pixels.csv"
    source = arrays_of(phantoms(flag).path)
    lines = list(csv.reader(path.read_text().splitlines()))
    assert result.stdout == f"{len(lines):,} rows in {path}\n"
    for split in SPLITS:
        numbers = np.array([list(map(int, line[1:])) for line in lines if line[0] == split], np.uint8)
        prefix = NPZ_SPLITS[split]
        assert np.array_equal(numbers[:, :columns], source[f"{prefix}_labels"])
        assert np.array_equal(numbers[:, columns:], source[f"{prefix}_images"].reshape(len(numbers), -1))

    with pytest.raises(MedMNISTError, match=r"pixels\.csv already exists"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("flag", ["chestmnist", "organmnist3d"])
def test_the_function_on_the_page_reads_every_row(phantoms: Phantoms, tmp_path: Path, flag: str) -> None:
    (block,) = (block for block in blocks(PAGE) if block.language == "python")
    names: dict[str, Any] = {"Rows": Rows, "Sequence": Sequence, "Path": Path, "Callable": Callable}
    exec(block.text, names)
    build(phantoms, tmp_path / "dist", flag, 28)
    rows, counts = open_rows(flag, 28, root=tmp_path / "dist"), list[int]()
    names["write_NAME"](rows, SPLITS, tmp_path, flag, counts.append)
    assert sum(counts) == sum(rows.count(split) for split in SPLITS)
