"""The steps of ``docs/contributing/add-a-subset.md``, in a copy of the package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medmnist_hf.catalog import subsets
from tests.fixtures.paths import ROOT

ENTRY = """
[subsets.skinmnist]
python_class = "SkinMNIST"
ndim = 2
channels = 3
task = "multi-class"
labels = ["nevus", "melanoma", "keratosis"]
modality = "Dermatoscope"
counts = { train = 100, validation = 20, test = 40 }
license = "cc-by-4.0"
citations = ["skinmnist"]
annotations_creators = "expert-generated"
description = "Three kinds of skin lesions."
caveats = []
md5 = { 28 = "00000000000000000000000000000000" }
"""
REFERENCE = """
@article{skinmnist,
    title = {Skin},
    author = {Curie, Marie},
    journal = {Journal of Examples},
    year = {2024}
}
"""
USE = """
import json, sys
from pathlib import Path
import numpy as np
import medmnist_hf
from medmnist_hf.evaluation.prediction_files import write_predictions
from medmnist_hf.features import features_of

test = medmnist_hf.load("skinmnist", 28, split="test", root="dist")
assert test.features == features_of(medmnist_hf.subset("skinmnist"), 28)
images, labels = medmnist_hf.load_arrays("skinmnist", 28, "test", root="dist", cache_dir="cache")
assert images.shape == (32, 28, 28, 3) and labels.tolist() == list(test["label"])
scores = np.eye(3)[labels] * 0.5 + 1 / 6
write_predictions(Path("runs"), "skinmnist", 28, "test", scores, labels, run="mine")
metric = medmnist_hf.metric("skinmnist").compute(references=test["label"], prediction_scores=scores)
assert metric == {"auc": 1.0, "acc": 1.0}, metric
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that links to this package, except for the two files that a contributor edits."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "medmnist_hf").mkdir()
    for path in (ROOT / "medmnist_hf").iterdir():
        (folder / "medmnist_hf" / path.name).symlink_to(path)
    for name, addition in (("catalog.toml", ENTRY), ("references.bib", REFERENCE)):
        text = (ROOT / "medmnist_hf" / name).read_text(encoding="utf-8")
        (folder / "medmnist_hf" / name).unlink()
        (folder / "medmnist_hf" / name).write_text(text + addition, encoding="utf-8")
    (folder / "scripts").mkdir()
    for name in ("build.py", "verify.py", "render_cards.py"):  # they look for the README relative to themselves
        (folder / "scripts" / name).write_bytes((ROOT / "scripts" / name).read_bytes())
    (folder / "README.md").write_bytes((ROOT / "README.md").read_bytes())
    (folder / "cards").mkdir()
    (folder / "runs").mkdir()
    run(folder, "scripts/build.py", "skinmnist", "--source", "phantom")
    return folder


def run(folder: Path, *arguments: str) -> str:
    """Run a Python program with the copy of the package, and return its output."""
    local = {"PYTHONPATH": str(folder), "MEDMNIST_ROOT": str(folder / "files")}
    command = [sys.executable, *arguments]
    process = subprocess.run(command, cwd=folder, env=os.environ | local, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def command(folder: Path, *arguments: str) -> str:
    return run(folder, "-c", "from medmnist_hf.cli.main import main; main()", *arguments)


def test_the_build_is_verified_and_has_a_card(copy: Path) -> None:
    assert run(copy, "scripts/verify.py", "dist/skinmnist", "--source", "phantom").startswith("ok: skinmnist 28: ")
    card = (copy / "dist/skinmnist/README.md").read_text(encoding="utf-8")
    assert "| 1 | melanoma |" in card and "Journal of Examples" in card
    section = card.partition("## Published results\n\n")[2]
    assert section.startswith("None are known.\n") and "| method |" not in section


def test_cards_and_the_table_of_the_readme_are_rendered(copy: Path) -> None:
    run(copy, "scripts/render_cards.py")
    assert {path.stem for path in (copy / "cards").glob("*.md")} == {entry.flag for entry in subsets()} | {"skinmnist"}
    assert "| [skinmnist](cards/skinmnist.md) |" in (copy / "README.md").read_text(encoding="utf-8")
    assert "skinmnist" not in (ROOT / "README.md").read_text(encoding="utf-8")


def test_commands_list_the_subset(copy: Path) -> None:
    flags = [entry["flag"] for entry in json.loads(command(copy, "list", "--json"))]
    assert flags == [*(entry.flag for entry in subsets()), "skinmnist"]
    text = command(copy, "info", "skinmnist")
    assert text.startswith("SkinMNIST (skinmnist): Dermatoscope, RGB images, multi-class\n")
    assert "published results on test (AUC, ACC): none\n" in text


@pytest.mark.slow
def test_the_subset_is_loaded_scored_and_ranked_without_published_rows(copy: Path) -> None:
    run(copy, "-c", USE)
    (predictions,) = (copy / "runs").iterdir()
    text = command(copy, "leaderboard", "skinmnist", str(predictions), "--data", "dist", "--resamples", "20")
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert lines[0][0] == "SYNTHETIC:", "the phantom is marked as synthetic"
    assert lines[1:3] == [["AUC", "ACC", "method"], ["1.000", "1.000", "SYNTHETIC:", "mine", "(yours)"]]
    assert lines[3][0] == "mine:" and len(lines) == 4
    assert text.endswith(": synthetic data is not ranked\n")
    alone = command(copy, "leaderboard", "skinmnist")
    assert alone.endswith("no published results for skinmnist of this protocol: pass a prediction file\n")
