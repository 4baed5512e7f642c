"""The files of a report and what is printed."""

from pathlib import Path

import pytest

from medmnist_hf.corruptions.measures import baseline
from medmnist_hf.corruptions.published_json import read_published
from medmnist_hf.training.robustness.ranking import rank
from medmnist_hf.training.robustness.report import print_robustness, write_robustness
from medmnist_hf.training.robustness.results import read_robustness
from tests.fixtures.robustness import robustness


def test_the_files_of_a_report(tmp_path: Path) -> None:
    partial, result = robustness({"pixelate": 0.25}), robustness()
    write_robustness(partial, tmp_path, "resnet18")
    assert (tmp_path / "breastmnist_resnet18_seed0-incomplete.json").is_file()
    names = {path.name for path in write_robustness(result, tmp_path, "resnet18")}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert names == {"robustness.json", "robustness.csv", "robustness.png", "breastmnist_resnet18_seed0.json"}
    assert read_robustness(tmp_path / "robustness.json") == result
    found = read_published(tmp_path / "breastmnist_resnet18_seed0.json")
    assert found.errors == result.errors and found.differences == () == found.caveats


def test_a_report_on_synthetic_data_is_marked_in_every_file(tmp_path: Path) -> None:
    write_robustness(robustness(kind="phantom"), tmp_path, "resnet18")
    (published,) = tmp_path.glob("*_*_*.json")
    assert published.name == "breastmnist_resnet18_seed0-synthetic.json"
    assert read_published(published).caveats[0].startswith("SYNTHETIC")
    published.unlink()
    write_robustness(robustness(kind="phantom", suffix=""), tmp_path, "resnet18")
    assert (tmp_path / "breastmnist_resnet18_synthetic.json").is_file()


def test_a_model_that_was_trained_on_the_corruptions_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = robustness(augmented=True)
    write_robustness(result, tmp_path, "resnet18")
    assert (tmp_path / "breastmnist_resnet18_seed0-augmented.json").is_file() and result.caveats == ()
    print_robustness(result)
    assert capsys.readouterr().out.startswith("Trained on images with these corruptions.")
    (line, _) = sorted(rank([tmp_path]), key=lambda line: line.name == "AlexNet")
    assert line.rank == 1 and line.notes == result.notes


def test_be_is_printed_first_and_notes_name_small_denominators(capsys: pytest.CaptureFixture[str]) -> None:
    print_robustness(robustness(flag="pneumoniamnist", clean=baseline("pneumoniamnist").clean))
    out = capsys.readouterr().out
    assert "BE 1.000   rBE 1.000   clean error 0.101" in out
    lines = {line.split()[0]: line for line in out.splitlines() if line[:1].islower()}
    assert lines["contrast_up"].rstrip().endswith("AlexNet's error falls by 0.0056")
    assert lines["corruption"].split() == ["corruption", "BE", "rBE", "error", *"12345", "mean", "AlexNet", "note"]
    assert "says little" in out and "pixelate" in lines


def test_caveats_are_printed_before_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    print_robustness(robustness(size=28, kind="phantom"))
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("SYNTHETIC: ") and second.startswith("Size 28: MedMNIST-C is defined for size 224")
