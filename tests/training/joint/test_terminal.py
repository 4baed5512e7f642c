"""`medmnist_hf.training.joint.terminal`: each subset and the mean on the terminal."""

from pathlib import Path

import pytest

from medmnist_hf.training.joint.terminal import print_joint_results
from tests.training.joint.test_results import joint_result


def test_each_subset_and_the_mean_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_joint_results(joint_result(0, 1), Path("runs/mine"))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["1", "retinamnist", "0.750", "0.500", "-", "0.500"] in lines
    assert ["0", "mean", "0.625", "0.500", "-", "0.375"] in lines
    assert ["written", "to", "runs/mine:"] in lines


def test_validation_is_reported_if_test_was_not_scored(capsys: pytest.CaptureFixture[str]) -> None:
    print_joint_results(joint_result(0, test=False), Path("runs/mine"))
    assert "1 seed: mean validation AUC 0.625, ACC 0.500" in capsys.readouterr().out
