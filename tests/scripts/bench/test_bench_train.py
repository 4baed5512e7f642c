"""``scripts/bench/bench_train.py``: both ways train the same steps, and the table has their ratio."""

import torch
from typer.testing import CliRunner

from scripts.bench.bench_train import app, case_of, ours, per_step, plain


def test_a_step_lasts_until_the_next_begins() -> None:
    assert per_step([(1.0, 10.0), (2.0, 10.5), (5.0, 11.0)]) == (2.0, 0.5)


def test_both_ways_are_measured() -> None:
    case = case_of("timm/test_resnet:28", 4, 3, torch.device("cpu"))
    first, second = ours(case), plain(case)
    assert first.step > 0 and second.step > 0 and first.outside > 0, "evaluation and a checkpoint take time"


def test_the_table_ends_with_the_ratio() -> None:
    arguments = ["--case", "timm/test_resnet:28", "--batch-size", "4", "--steps", "2", "--repeats", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert [line.split()[2:4] for line in result.stdout.splitlines()[-3:]][-1] == ["finetune", "/"]
