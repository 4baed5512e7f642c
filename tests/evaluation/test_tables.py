"""``medmnist_hf.evaluation.tables``: tables and JSON values of scored files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.conversion.sources.phantom import phantom_counts, phantom_labels
from medmnist_hf.evaluation.evaluate import Evaluation, evaluate_file
from medmnist_hf.evaluation.prediction_files import write_predictions
from medmnist_hf.evaluation.tables import evaluation_facts, print_comparisons, print_evaluations, run_names
from medmnist_hf.scoring.published import compare_with_published


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    entry = subset("breastmnist")
    labels = phantom_labels(entry, phantom_counts(entry, 60), "test")
    np.savez(tmp_path / "breastmnist.npz", test_labels=labels)
    scores = np.random.default_rng(0).random(len(labels))
    path = write_predictions(tmp_path, entry.flag, 28, "test", scores, labels.ravel(), run="mine")
    return evaluate_file(path, root=tmp_path, per_class=True, ci=True)


def test_tables_have_a_banner_and_both_classes(evaluation: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluations([evaluation], per_class=True)
    text = capsys.readouterr().out
    assert text.startswith(evaluation.provenance.warning) and "mine" in text
    assert all(label in text for label in evaluation.entry.labels)
    assert f"{evaluation.score.auc:.3f}" in text


def test_differences_from_published_results(evaluation: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    published = compare_with_published("breastmnist", evaluation.intervals["auc"], evaluation.intervals["acc"])
    print_comparisons(evaluation, "mine", "place 8", published)
    text = capsys.readouterr().out
    assert f"{published[0].auc_difference:+.3f}" in text and "ResNet-18 (28)" in text
    print_comparisons(evaluation, "mine", "not ranked", ())
    assert capsys.readouterr().out.rstrip().endswith(": not ranked")


def test_facts_have_all_digits(evaluation: Evaluation) -> None:
    facts = evaluation_facts(evaluation)
    assert facts["auc"] == evaluation.score.auc and [facts["run"]] == run_names([evaluation]) == ["mine"]
    assert [entry["label"] for entry in facts["classes"]] == list(evaluation.entry.labels)


def test_runs_with_equal_names_are_listed_with_their_folders(evaluation: Evaluation, tmp_path: Path) -> None:
    other = replace(evaluation, path=tmp_path / "other" / evaluation.path.name)
    assert run_names([evaluation, other]) == [f"mine ({tmp_path})", f"mine ({tmp_path / 'other'})"]
