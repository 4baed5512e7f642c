"""Files of errors in the published form: written and read back, and those of others checked."""

import json
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.corruptions.measures import balanced_errors, baseline
from medmnist_hf.corruptions.published_json import published_json, published_name, read_published
from medmnist_hf.errors import ScoreError

ERRORS = balanced_errors("breastmnist", 0.125, dict.fromkeys(baseline("breastmnist").corrupted, 0.25))


def save(folder: Path, change: dict[str, Any] | None = None, name: str = "breastmnist_resnet_50_seed0.json") -> Path:
    table = json.loads(published_json(ERRORS)) | (change or {})
    (folder / name).write_text(json.dumps(table))
    return folder / name


def test_a_file_is_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / published_name("breastmnist", "timm/resnet18.a1_in1k", "seed_0")
    assert path.name == "breastmnist_timm-resnet18.a1_in1k_seed-0.json"
    path.write_text(published_json(ERRORS))
    found = read_published(path)
    assert (found.architecture, found.suffix) == ("timm-resnet18.a1_in1k", "seed-0")
    assert found.errors == ERRORS and found.differences == ()
    assert list(json.loads(path.read_text())) == ["metrics", "be_scores", "rbe_scores", "raw_scores"]


def test_the_name_says_what_a_file_is_of(tmp_path: Path) -> None:
    assert read_published(save(tmp_path)).architecture == "resnet_50"
    found = read_published(save(tmp_path, name="breastmnist_vit_.json"))  # the suffix is optional there
    assert (found.architecture, found.suffix) == ("vit", "")
    with pytest.raises(ScoreError, match=r"does not say what it is of: name it SUBSET_ARCHITECTURE_SUFFIX\.json"):
        read_published(save(tmp_path, name="results.json"))


def test_what_is_not_comparable_says_so(tmp_path: Path) -> None:
    path = tmp_path / "breastmnist_vit_seed0-synthetic.json"
    path.write_text(published_json(ERRORS, ["SYNTHETIC: the data was generated."]))
    found = read_published(path)
    assert found.caveats == ("SYNTHETIC: the data was generated.",) and found.errors == ERRORS


def test_values_that_do_not_follow_from_the_raw_scores_are_named(tmp_path: Path) -> None:
    other = {"metrics": {"clean_score": 0.125, "be": 0.5, "rbe": ERRORS.rbe}}
    found = read_published(save(tmp_path, other))
    assert found.errors == ERRORS
    assert found.differences == (f"be is 0.5, but its raw_scores give {ERRORS.be:.6g}",)


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ({"metrics": {"be": 1}}, "breastmnist_a_b.json", r"\(metrics lacks clean_score\)"),
        ({"raw_scores": {"pixelate": "high"}}, "breastmnist_a_b.json", r"raw_scores.pixelate is 'high', must be"),
        ({"raw_scores": {"pixelate": 25.0}}, "breastmnist_a_b.json", r"raw_scores.pixelate is 25.0, must be"),
        ({"raw_scores": {"zoom_blur": 0.2}}, "breastmnist_a_b.json", r"breastmnist has no corruption 'zoom_blur'"),
        ({}, "nomnist_a_b.json", r"nomnist"),
        ({}, "adrenalmnist3d_a_b.json", r"adrenalmnist3d holds volumes, and MedMNIST-C has "),
    ],
)
def test_other_files_are_one_line_errors(change: dict[str, Any], name: str, message: str, tmp_path: Path) -> None:
    path = save(tmp_path, change, name)
    with pytest.raises(ScoreError, match=message) as error:
        read_published(path)
    assert str(error.value).startswith(f"{path} is not a file of medmnistc (")


def test_a_text_or_a_missing_file_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "breastmnist_a_b.json").write_text("no")
    with pytest.raises(ScoreError, match="is not a file of medmnistc"):
        read_published(tmp_path / "breastmnist_a_b.json")
    with pytest.raises(ScoreError, match="cannot read"):
        read_published(tmp_path / "breastmnist_a_c.json")
