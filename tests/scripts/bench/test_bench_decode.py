"""``scripts/bench/bench_decode.py``: all decoders give the same pixels, and each has its line."""

import pytest
from typer.testing import CliRunner

from scripts.bench.bench_decode import app


@pytest.mark.slow
def test_every_decoder_is_measured() -> None:
    result = CliRunner().invoke(app, ["--rows", "10", "--rounds", "1"])
    assert result.exit_code == 0, result.output
    for name in ("libdeflate (ours)", "libpng", "libspng", "Pillow", "OpenCV"):
        assert result.stdout.count(f" {name} ") == 3
    for name in ("Arrow (ours)", "DuckDB", "Polars"):
        assert result.stdout.count(f" {name} ") == 2
    assert result.stdout.count("%") == 5
