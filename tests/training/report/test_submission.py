"""Entries of finished runs: their protocol, their scores and their prediction files."""

import math
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.errors import TrainingError
from medmnist_hf.manifest import Provenance
from medmnist_hf.submissions.check import check_entry
from medmnist_hf.submissions.entry import entry_text, parse_entry
from medmnist_hf.submissions.start import write_start
from medmnist_hf.training import run as run_recipe
from medmnist_hf.training.report.submission import start_of_runs
from tests.fixtures.benchmarks import leave_run
from tests.fixtures.commands import invoke
from tests.fixtures.runs import tiny


def leave(folder: Path, flag: str = "breastmnist", **options: Any) -> Path:
    leave_run(folder, test=[0.9, 0.8], validation=[0.5, 0.7], dataset=flag, **options)
    for seed in (0, 1):
        (folder / f"seed-{seed}").mkdir()
        for split in ("test", "val"):
            (folder / f"seed-{seed}" / f"{flag}_{split}_[AUC]0.500_[ACC]0.500@run.csv").touch()
    return folder


def test_all_that_a_run_knows_is_filled_in(tmp_path: Path) -> None:
    runs = [leave(tmp_path / flag, flag, pretrained=False) for flag in ("breastmnist", "retinamnist")]
    start = start_of_runs(runs)
    entry = parse_entry(entry_text(start.values))
    assert (entry.method, entry.pretraining, entry.adaptation, entry.labels) == ("resnet18", "none", "scratch", "all")
    assert (entry.size, entry.image_size, entry.resize, entry.seeds) == (28, 28, "none", 2)
    assert (entry.selected_on, entry.release) == ("validation", "3.0.0")
    claim = entry.results["breastmnist"]
    assert math.isclose(claim.auc, 0.85) and math.isclose(claim.acc, 0.75) and claim.auc_std == 0.0707
    assert claim.md5 == subset("breastmnist").file(28).md5
    assert list(start.files) == [
        f"seed-{seed}/{flag}_test_[AUC]0.500_[ACC]0.500@run.csv"
        for flag in ("breastmnist", "retinamnist")
        for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"model": "timm/test_vit"}, ("timm/test_vit", "timm/test_vit", "full", "all", "")),
        ({"model": "timm/test_vit", "method": "lora"}, ("timm/test_vit, lora", "timm/test_vit", "lora", "all", "")),
        ({"pretrained": False, "shots": 5}, ("resnet18", "none", "scratch", "few", "trained on 5 rows per class")),
        (
            {"pretrained": False, "fraction": 0.1},
            ("resnet18", "none", "scratch", "few", "trained on a fraction of 0.1 of the train split"),
        ),
    ],
)
def test_the_protocol_is_that_of_the_run(options: dict[str, Any], expected: tuple[str, ...], tmp_path: Path) -> None:
    entry = parse_entry(entry_text(start_of_runs([leave(tmp_path / "run", **options)]).values))
    assert (entry.method, entry.pretraining, entry.adaptation, entry.labels, entry.note) == expected


def test_a_larger_input_says_how_images_were_resized(tmp_path: Path) -> None:
    run = leave(tmp_path / "run", facts={"image_size": 64}, image_size=64, resize="bicubic")
    entry = parse_entry(entry_text(start_of_runs([run]).values))
    assert (entry.image_size, entry.resize) == (64, "bicubic")


def test_runs_that_do_not_make_an_entry(tmp_path: Path) -> None:
    run = leave(tmp_path / "run")
    again, few = leave(tmp_path / "again"), leave(tmp_path / "few", "retinamnist", shots=5)
    fake = leave(tmp_path / "fake", provenance=Provenance.SYNTHETIC)
    for runs, fault in (
        ([run, again], "again: a second run on breastmnist"),
        ([run, few], "few: differs from .*run in labels, note: an entry has one protocol"),
        ([fake], "fake: made on synthetic data, and an entry needs the official files"),
        ([tmp_path / "none"], "none: this run is not finished"),
    ):
        with pytest.raises(TrainingError, match=fault):
            start_of_runs(runs)
    next((run / "seed-0").glob("*_test_*")).unlink()
    with pytest.raises(TrainingError, match="run: seed-0 has 0 prediction files of test"):
        start_of_runs([run])


@pytest.mark.slow
def test_an_entry_of_a_run_has_no_faults(real_data: Path, tmp_path: Path) -> None:
    invoke("build", "breastmnist", "--source", real_data, "--root", tmp_path / "dist")
    recipe = tiny(tmp_path / "dist", "breastmnist", method="knn", seeds=(0,))
    run_recipe(recipe, tmp_path / "run", quiet=True)
    write_start(tmp_path / "mine", start_of_runs([tmp_path / "run"]))
    checked = check_entry(tmp_path / "mine", root=tmp_path / "dist")
    assert checked.faults == () and checked.rows[0].method == "timm/test_efficientnet, knn"
