"""`medmnist_hf.training.joint.results`: the files of a run on several subsets."""

import copy
import json
import math
from pathlib import Path

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.joint.results import JointResult, JointSeed, SubsetResult, mean_of, read_joint_results
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.results import RESULTS_NAME, Facts, Measures, SeedResult
from medmnist_hf.training.scoring import spreads
from tests.fixtures.benchmarks import data_of

FLAGS = ("breastmnist", "retinamnist")


def _validation(result: SeedResult) -> Measures[float]:
    return result.validation


def _test(result: SeedResult) -> Measures[float]:
    return result.test


def joint_result(*seeds: int, test: bool = True) -> JointResult:
    """Results of a run, of which one AUC is not defined."""
    recipe = make_recipe({"dataset": ",".join(FLAGS), "seeds": list(seeds), "test": test})
    results = []
    for seed in seeds:
        parts = {
            part.dataset: SeedResult(
                seed,
                Measures(auc=0.5 + 0.25 * at, acc=0.5),
                Measures(auc=math.nan if at else 0.75, acc=0.25 * (at + 1)) if test else Measures(),
                {},
                Facts(),
                data_of(part),
            )
            for at, part in enumerate(recipe.parts)
        }
        validation, test_means = (mean_of(list(parts.values()), get) for get in (_validation, _test))
        results.append(JointSeed(seed, validation, test_means, parts, Facts.from_json_value({"epochs": 3})))
    subsets = {
        flag: SubsetResult(
            spreads([result.subsets[flag].validation for result in results]),
            spreads([result.subsets[flag].test for result in results]),
            None,
        )
        for flag in FLAGS
    }
    mean = SubsetResult(
        spreads([result.validation for result in results]), spreads([result.test for result in results]), None
    )
    return JointResult(recipe, mean, subsets, tuple(results))


def test_results_survive_the_file_and_damage_is_named(tmp_path: Path) -> None:
    result = joint_result(0, 1)
    assert result.mean.validation.auc.mean == 0.625 and math.isnan(result.mean.test.auc.mean) and not result.partial
    path = tmp_path / RESULTS_NAME
    path.write_text(result.to_json())
    assert read_joint_results(path).to_json() == result.to_json()
    table = json.loads(result.to_json())
    assert list(table)[:4] == ["dataset", "size", "model", "method"] and table["dataset"] == "breastmnist,retinamnist"
    other = copy.deepcopy(table["runs"][1])
    other["subsets"]["retinamnist"]["data"]["source"]["md5"] = "0" * 32
    for damage, message in (
        ({"size": 64}, "do not match its recipe"),
        ({"runs": []}, "runs is empty"),
        ({"runs": [table["runs"][0], other]}, "its seeds were run on different data"),
        ({"subsets": {"breastmnist": table["subsets"]["breastmnist"]}}, "not of breastmnist, retinamnist"),
        ({"mean": 1}, "mean"),
        ({"recipe": table["recipe"] | {"dataset": "breastmnist"}}, "is of a run on one subset"),
    ):
        path.write_text(json.dumps(table | damage))
        with pytest.raises(TrainingError, match=message):
            read_joint_results(path)


def test_without_test_scores_there_is_no_mean() -> None:
    assert joint_result(0, test=False).mean.test == {}
