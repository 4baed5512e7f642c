"""The files of an entry: what belongs to it, and what is refused."""

from pathlib import Path

import pytest

from medmnist_hf.errors import ScoreError
from medmnist_hf.submissions import folder as folder_module
from medmnist_hf.submissions.folder import entry_name, files_in, largest, sort_files

FILE = "breastmnist_test_[AUC]0.913_[ACC]0.846@net.csv"


@pytest.mark.parametrize("name", ["resnet-18", "a.b_c", "0a"])
def test_names(name: str, tmp_path: Path) -> None:
    assert entry_name(tmp_path / name) == name


@pytest.mark.parametrize("name", ["a", "Net", "a b", "-a", "a..b", "a--b", "ä1", "a" * 81, "a\n"])
def test_names_that_no_address_can_hold(name: str, tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="cannot be the name of an entry"):
        entry_name(tmp_path / name)


def test_prediction_files_have_the_seed_of_their_folder() -> None:
    files, faults = sort_files(["entry.yaml", "results.jsonl", f"seed-7/{FILE}"])
    assert [(file.seed, file.name.flag, file.name.auc) for file in files] == [(7, "breastmnist", 0.913)]
    assert faults == []


@pytest.mark.parametrize(
    "path",
    [
        *("model.safetensors", "scores.npz", "seed-0/scores.npz", "seed-0/model.pkl", "README.md", FILE),
        *(f"seed-00/{FILE}", f"seed--1/{FILE}", f"other/{FILE}", f"seed-0/deeper/{FILE}", "seed-0"),
    ],
)
def test_other_files_do_not_belong_to_an_entry(path: str) -> None:
    files, (fault,) = sort_files([path])
    assert files == [] and fault.startswith(f"{path}: not part of an entry") and "pickles" in fault


@pytest.mark.parametrize("run", ["a\nb", "\x1b[31m", "a\u202eb", "\udcff"])
def test_names_with_characters_that_are_not_shown(run: str) -> None:
    """Such a name could not be read back from ``results.jsonl``, and would change what a terminal shows."""
    files, (fault,) = sort_files([f"seed-0/breastmnist_test_@{run}.csv"])
    assert files == [] and "characters that are not shown" in fault and fault.isprintable()


def test_files_of_other_names_are_named() -> None:
    _, faults = sort_files(["seed-0/scores.csv", "seed-1/brestmnist_test_x.csv"])
    assert faults[0].startswith("seed-0/scores.csv: not the name of a prediction file")
    assert faults[1].startswith("seed-1/brestmnist_test_x.csv: unknown subset 'brestmnist'")


def test_hidden_files_are_left_out_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    for name in (".git/config", "seed-0/.DS_Store", f"seed-0/{FILE}", "entry.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "seed-1").symlink_to(tmp_path / "seed-0")
    assert files_in(tmp_path) == ["entry.yaml", f"seed-0/{FILE}", "seed-1"]


def test_a_missing_or_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ScoreError, match="is not a folder: run medmnist-hf submit init"):
        files_in(tmp_path / "none")
    monkeypatch.setattr(folder_module, "MOST_FILES", 2)
    for name in "abc":
        (tmp_path / name).touch()
    with pytest.raises(ScoreError, match="holds more than 2 files"):
        files_in(tmp_path)


def test_prediction_files_may_be_larger_than_documents() -> None:
    assert largest(f"seed-0/{FILE}") > largest("entry.yaml") > 0
