"""A card is a function of its folder: scores, intervals, means, ranks and what is missing."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from medmnist_hf.errors import TrainingError
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.official import score
from medmnist_hf.training.results import RESULTS_NAME, read_results
from medmnist_hf.training.scorecard.card_page import write_card
from medmnist_hf.training.scorecard.gather import OVER_SEEDS, _result, gather, groups_of, predictions_on_test
from medmnist_hf.training.scorecard.plan import PlannedRun
from tests.fixtures.benchmarks import leave_run
from tests.fixtures.scorecards import FLAGS


def test_the_folder_alone_decides(home: Path, tmp_path: Path) -> None:
    card = gather(home / "first")
    assert card.is_complete and [part.subset for part in card.subsets] == list(FLAGS)
    assert all([result.protocol for result in part.results] == list(card.protocols) for part in card.subsets)
    copy = tmp_path / "moved"
    shutil.copytree(home / "first", copy)
    write_card(gather(copy), copy)
    for name in ("scorecard.json", "scorecard.md", "scorecard.html"):
        assert (copy / name).read_bytes() == (home / "first" / name).read_bytes()


def test_scores_and_intervals_are_those_of_the_runs(home: Path) -> None:
    out = home / "first"
    for part in gather(out).subsets:
        assert part.model is not None and part.read is not None and len(part.model.weights_sha256) == 64
        assert part.read.volumetric == ("2.5d" if part.subset == "adrenalmnist3d" else "")
        knn, few = part.result("knn"), part.result("shots-5")
        assert knn and few
        test = read_results(out / knn.folder / RESULTS_NAME).seeds[0].test
        assert (knn.auc.value, knn.auc.low, knn.acc.high) == (test.auc, test["auc_low"], test["acc_high"])
        assert knn.ece == test["ece"] and knn.train_rows == (64,)
        aucs = [seed.test.auc for seed in read_results(out / few.folder / RESULTS_NAME).seeds]
        low, high = student.interval(0.95, 4, np.mean(aucs), np.std(aucs, ddof=1) / math.sqrt(5) or 1e-300)
        assert (few.auc.low, few.auc.high) == pytest.approx((max(0, low), min(1, high)), abs=1e-5)
        assert few.auc.interval == OVER_SEEDS and few.seeds == (0, 1, 2, 3, 4) and few.train_rows == (10,) * 5
        predictions = predictions_on_test(out, part, few)
        assert [score(each).auc for each in predictions.values()] == pytest.approx(aucs, abs=1e-9)


def test_means_are_over_subsets_with_a_result(home: Path) -> None:
    card = gather(home / "first")
    mean = next(mean for mean in card.means if mean.protocol == "linear-probe")
    values = [result.auc.value for part in card.subsets if (result := part.result("linear-probe"))]
    assert mean.subsets == FLAGS and mean.auc.value == pytest.approx(np.mean(values))
    assert mean.auc.low <= mean.auc.value <= mean.auc.high
    groups = groups_of(home / "first", "shots-1", card.subsets)
    assert {flag: len(each) for flag, each in groups.items()} == dict.fromkeys(FLAGS, 5)


def test_damaged_folders_are_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no score card: name the folder"):
        gather(tmp_path)
    out = tmp_path / "card"
    shutil.copytree(home / "second", out)
    knn = gather(out).subsets[0].results[0]
    (file,) = (out / knn.folder / "seed-0").glob("*_test_*.csv")
    file.unlink()
    with pytest.raises(TrainingError, match="has 0 prediction files of test instead of one"):
        gather(out)
    shutil.rmtree(out / knn.folder)
    part = gather(out).subsets[0]
    assert [(each.protocol, each.state) for each in part.missing] == [("knn", "waiting")]


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"size": 224}, "among 224-pretrained"),
        ({"size": 224, "method": "linear-probe"}, "among 224-frozen"),
        ({"size": 224, "provenance": Provenance.SYNTHETIC}, "the data is synthetic"),
        ({"size": 28, "method": "linear-probe"}, "no published rows of this protocol"),
        ({"size": 224, "shots": 5}, "no published rows of this protocol"),
    ],
)
def test_ranks_are_among_published_results_of_the_protocol(tmp_path: Path, options: dict[str, Any], note: str) -> None:
    options = {"dataset": "breastmnist", "model": "timm/resnet18"} | options
    leave_run(tmp_path / "run", test=[0.99], validation=[0.9], **options)
    run = PlannedRun("any", "method any", "breastmnist", 28, "run")
    result = _result(run, read_results(tmp_path / "run" / RESULTS_NAME))
    assert result.rank_note == note
    assert (result.rank.auc if result.rank else None) == (1 if note.startswith("among") else None)
    assert math.isnan(result.ece), "these runs have no calibration"
