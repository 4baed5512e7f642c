"""`medmnist_hf.training.report.terminal`: scores of each seed, the place of their mean, and notes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.published import published_results
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.report.terminal import print_results
from medmnist_hf.training.results import EnsembleResult, Facts, Measures, RunResult, SeedResult
from medmnist_hf.training.scoring import summarize
from tests.fixtures.benchmarks import data_of


def result_of(*reports: dict[str, Any], provenance: Provenance = Provenance.VERIFIED, **options: Any) -> RunResult:
    """Results of two seeds, with these facts in addition to their times."""
    recipe = make_recipe({"dataset": "breastmnist", "seeds": (0, 1), **options})
    test = {"auc": 0.91, "acc": 0.85, "auc_low": 0.86, "auc_high": 0.96, "acc_low": 0.8, "acc_high": 0.9}
    seeds = [
        SeedResult(
            seed,
            Measures(auc=0.9, acc=0.8),
            Measures(test if recipe.test else {}),
            {},
            Facts.from_json_value({**report, "seconds": 1234.5}),
            data_of(recipe, provenance),
        )
        for seed, report in zip(recipe.seeds, reports or ({}, {}), strict=True)
    ]
    return summarize(recipe, seeds)


def test_a_run_is_ranked_among_the_published_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(result_of(), Path("runs/mine"))
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if line.strip()]
    expected = "0 0.900 0.800 0.910 0.860 to 0.960 0.850 0.800 to 0.900 1,234.5"
    assert " ".join(lines[1].split()) == expected
    assert "2 seeds: test AUC 0.910 ± 0.000, ACC 0.850 ± 0.000 on 156 samples" in text
    assert all(row.method in text for row in published_results("breastmnist"))
    (own,) = (line.split() for line in lines if "resnet18 finetune (28)  (yours)" in line)
    assert own[:6] == ["0.910", "0.026", "1", "0.850", "0.026", "1"], "within two standard errors of the best"
    assert "written to runs/mine" in text and 'note: "(224)"' in text


def test_one_seed_is_printed_without_a_deviation(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = make_recipe({"dataset": "breastmnist"})
    print_results(summarize(recipe, result_of().seeds[:1]), Path("x"))
    text = capsys.readouterr().out
    assert "1 seed: test AUC 0.910, ACC 0.850 on 156 samples\n" in text and "±" not in text


def test_the_ensemble_of_the_seeds_has_a_row_and_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    result = result_of()
    seed = result.seeds[0]
    ensemble = EnsembleResult(seed.validation, Measures(seed.test | {"auc": 0.925}), {})
    print_results(replace(result, ensemble=ensemble), Path("x"))
    text = " ".join(capsys.readouterr().out.split())
    assert "ensemble 0.900 0.800 0.925 0.860 to 0.960 0.850 0.800 to 0.900" in text
    assert "0.925 0.026 1 0.850 0.026 1 resnet18 finetune (28), ensemble of the seeds (yours)" in text


def test_a_run_of_another_protocol_is_ranked_in_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Of many published results, the first are shown, with the command that lists all."""
    print_results(result_of(size=64), Path("x"))
    assert "Google AutoML Vision" not in capsys.readouterr().out, "no results are published for this size"
    print_results(result_of(size=224, model="timm/vit_tiny_patch16_224"), Path("x"))
    text = capsys.readouterr().out
    assert "breastmnist, protocol 224-pretrained: " in text and "vit_tiny_patch16_224 finetune (224)  (yours)" in text
    assert "Google AutoML Vision" not in text and text.count("  validation  ") == 12
    assert "more published results and 1 selected on test: medmnist-hf leaderboard breastmnist --protocol 224" in text


def test_without_test_there_is_no_leaderboard(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(result_of(test=False), Path("x"))
    text = capsys.readouterr().out
    assert "validation AUC 0.900 ± 0.000" in text and "AutoKeras" not in text


@pytest.mark.parametrize("provenance", [Provenance.UNVERIFIED, Provenance.SYNTHETIC])
def test_results_on_unverified_data_are_marked_and_not_ranked(
    provenance: Provenance, capsys: pytest.CaptureFixture[str]
) -> None:
    print_results(result_of(provenance=provenance), Path("x"))
    text = capsys.readouterr().out
    assert text.startswith(f"{provenance.name}: the data was ") and "written to x" in text
    assert f"{provenance.name}: breastmnist 28, resnet18 finetune (28), 2 seeds: test AUC 0.910" in text
    assert not any(row.method in text for row in published_results("breastmnist")) and "place" not in text


def searched(**facts: Any) -> RunResult:
    """Results of an engine on volumes; the second seed has further facts."""
    report = {"inputs": "flattened voxels", "engine": "FLAML 2.7.0", "trials": 57, "search_seconds": 1234.56}
    return result_of(report, report | facts, dataset="adrenalmnist3d", model="pixels", method="flaml")


def test_an_engine_is_named_with_its_inputs_and_search(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(searched(), Path("x"))
    text = capsys.readouterr().out
    assert "FLAML, flattened voxels (28)  (yours)\n" in text
    assert "seed 0: FLAML 2.7.0, 57 trials in 1,235 s\n" in text and "partial" not in text


def test_an_interrupted_search_is_marked_and_has_no_place(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(searched(partial="killed by SIGKILL after 34 s"), Path("x"))
    text = capsys.readouterr().out
    assert "FLAML, flattened voxels (28), partial, 2 seeds" in text and "place" not in text
    assert "seed 1: FLAML 2.7.0, 57 trials in 1,235 s; partial: killed by SIGKILL after 34 s\n" in text


def test_an_unpublished_subset_has_no_leaderboard(unpublished: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_results(result_of(dataset=unpublished, size=64), Path("x"))
    text = capsys.readouterr().out
    assert "test AUC 0.910" in text and "place" not in text and "note:" not in text


def test_a_run_on_few_labels_says_so_and_has_no_place(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(result_of(shots=5), Path("x"))
    text = capsys.readouterr().out
    assert "breastmnist 28, resnet18 finetune (28, shots 5), 2 seeds: test AUC 0.910" in text
    assert "trained on 10 of 546 train rows (shots 5), so without a place among the published results" in text
    assert not any(row.method in text for row in published_results("breastmnist"))
