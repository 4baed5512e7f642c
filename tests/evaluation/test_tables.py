"""``medmnist_hf.evaluation.tables``: what a person reads of scored files, each kind of data apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.conversion.sources.phantom import phantom_counts, phantom_labels
from medmnist_hf.evaluation.evaluate import Evaluation, evaluate_file
from medmnist_hf.evaluation.prediction_files import write_predictions
from medmnist_hf.evaluation.tables import evaluation_facts, print_evaluations, print_standing, run_names


@pytest.fixture
def found(tmp_path: Path) -> Evaluation:
    entry = subset("breastmnist")
    labels = phantom_labels(entry, phantom_counts(entry, 60), "test")
    np.savez(tmp_path / "breastmnist.npz", test_labels=labels)
    scores = np.random.default_rng(0).random(len(labels))
    path = write_predictions(tmp_path, entry.flag, 28, "test", scores, labels.ravel(), run="mine")
    return evaluate_file(path, root=tmp_path, per_class=True, ci=True)


def test_each_kind_of_data_has_its_banner_and_both_classes(
    found: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    print_evaluations([found], per_class=True)
    shown = capsys.readouterr().out
    assert shown.startswith(found.provenance.warning) and "mine" in shown
    assert all(label in shown for label in found.entry.labels)
    assert f"{found.score.auc:.3f}" in shown


def test_other_data_has_no_place(found: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    print_standing(found, "mine", None)
    assert "data has no place" in capsys.readouterr().out


def test_facts_hold_all_digits(found: Evaluation) -> None:
    facts = evaluation_facts(found)
    assert facts["auc"] == found.score.auc and [facts["run"]] == run_names([found]) == ["mine"]
    assert [one["label"] for one in facts["classes"]] == list(found.entry.labels)


def test_runs_of_one_name_are_told_apart_by_their_folders(found: Evaluation, tmp_path: Path) -> None:
    other = replace(found, path=tmp_path / "other" / found.path.name)
    assert run_names([found, other]) == [f"mine ({tmp_path})", f"mine ({tmp_path / 'other'})"]
