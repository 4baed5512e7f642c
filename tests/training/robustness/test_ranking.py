"""Models in the order of BE, those of others and of this project together."""

from pathlib import Path

import pytest

from medmnist_hf.corruptions.measures import balanced_errors, baseline
from medmnist_hf.corruptions.published_json import published_json
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.training.robustness.ranking import means, rank
from medmnist_hf.training.robustness.report import write_robustness
from tests.fixtures.robustness import robustness


def published(folder: Path, flag: str, factor: float, name: str = "vit_0") -> Path:
    """A file of a model whose errors are those of AlexNet times a factor."""
    path, alexnet = folder / f"{flag}_{name}.json", baseline(flag)
    errors = {corruption: factor * error for corruption, error in alexnet.corrupted.items()}
    path.write_text(published_json(balanced_errors(flag, factor * alexnet.clean, errors)))
    return path


def test_models_are_ranked_by_be_next_to_alexnet(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    quarter = {name: 0.25 * error for name, error in baseline("breastmnist").corrupted.items()}
    write_robustness(robustness(quarter), tmp_path / "ours", "resnet18")
    (tmp_path / "synthetic").mkdir()
    write_robustness(robustness(kind="phantom"), tmp_path / "synthetic", "resnet18")
    other = published(tmp_path, "breastmnist", 0.5)
    lines = rank([tmp_path / "synthetic", other, tmp_path / "ours"])
    assert [(line.rank, line.name) for line in lines] == [
        (1, "timm/resnet18 finetune seed0"),
        (2, "vit 0"),
        (3, "AlexNet"),
        (None, "timm/resnet18 finetune seed0"),
    ]
    assert [round(line.errors.be, 3) for line in lines] == [0.25, 0.5, 1, 1]
    assert lines[-1].notes[0].startswith("SYNTHETIC") and means(lines) == ()


def test_means_are_over_subsets_that_all_have(tmp_path: Path) -> None:
    paths = [published(tmp_path, flag, factor) for flag, factor in (("breastmnist", 0.5), ("octmnist", 0.7))]
    first, second = means(rank(paths))
    assert (first.name, round(first.be, 3), second.name, second.be) == ("vit 0", 0.6, "AlexNet", 1)
    paths.append(published(tmp_path, "breastmnist", 0.4, "cnn_0"))
    assert [each.name for each in means(rank(paths))] == ["vit 0", "AlexNet"]


def test_what_differs_in_a_file_is_noted(tmp_path: Path) -> None:
    path = published(tmp_path, "breastmnist", 0.5)
    path.write_text(path.read_text().replace('"be": 0.5', '"be": 0.25', 1))
    line = rank([path])[0]
    assert line.rank == 1 and line.notes == ("be is 0.25, but its raw_scores give 0.5",)


def test_other_files_are_one_line_errors(tmp_path: Path) -> None:
    with pytest.raises(MedMNISTError, match="no files to compare"):
        rank([])
    with pytest.raises(MedMNISTError, match=r"cannot read .*robustness\.json"):
        rank([tmp_path])
    report = tmp_path / "robustness" / "seed0"
    report.mkdir(parents=True)
    (report / "robustness.json").touch()
    with pytest.raises(MedMNISTError, match=r"is a run, not a report: give .*robustness/seed0"):
        rank([tmp_path])
