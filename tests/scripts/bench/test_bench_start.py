"""``scripts/bench/bench_start.py``: every command is measured, and prints output at once."""

from pathlib import Path

import pytest

from medmnist_hf.errors import MedMNISTError
from scripts.bench.bench_start import USES, first_output, rows, verbs


def test_example_uses_belong_to_existing_commands() -> None:
    assert {*USES} <= {*verbs()} and {"list", "automl-env", "push-metric", "leaderboard", "submit check"} <= {*verbs()}


def test_help_and_use_are_timed(tmp_path: Path) -> None:
    figures = list(rows(tmp_path, 1, "list"))
    assert [(verb, what) for verb, what, _, _ in figures] == [("list", "help"), ("list", "use")]
    assert all(0 < median <= largest < 60 for _, _, median, largest in figures)


def test_an_error_does_not_count_as_output(tmp_path: Path) -> None:
    with pytest.raises(MedMNISTError, match="unknown subset"):
        first_output(("-m", "medmnist_hf", "info", "pathmnits"), tmp_path)
