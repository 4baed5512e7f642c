"""Rows added through `evaluate`: the same bits out as in, and what a batch may not be."""

from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import numpy.typing as npt
import pytest
from datasets import Dataset, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from medmnist_hf.catalog import subset
from medmnist_hf.errors import ScoreError
from medmnist_hf.evaluate_module import metric
from medmnist_hf.evaluate_module.arrow_metric import canonical, features_of
from medmnist_hf.evaluate_module.report import resolve
from medmnist_hf.scoring.inputs import plain

Array = npt.NDArray[Any]
doubles = st.floats(allow_nan=False, allow_infinity=False, width=64)


def test_features_are_64_bits_wide() -> None:
    assert features_of(resolve("pathmnist")) == Features(
        {"references": Value("int64"), "prediction_scores": List(Value("float64"))}
    )
    assert features_of(resolve("chestmnist"))["references"] == List(Value("uint8"))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2), doubles, doubles, doubles), min_size=1, max_size=12),
    cut=st.integers(0, 12),
    in_memory=st.booleans(),
)
def test_the_bits_that_go_in_come_out(rows: list[tuple[int, float, float, float]], cut: int, in_memory: bool) -> None:
    """What `evaluate` joins, whatever the batches, is what was added."""
    references, scores = np.array([row[0] for row in rows]), np.array([row[1:] for row in rows])
    ours = metric("multi-class", keep_in_memory=in_memory)
    for part in (slice(None, cut), slice(cut, None)):
        ours.add_batch(references=references[part], prediction_scores=scores[part])
    joined = [np.asarray(column) for column in evaluate.Metric.compute(ours)]
    assert [array.dtype for array in joined] == [np.int64, np.float64]
    assert np.array_equal(joined[0], references)
    assert joined[1].tobytes() == scores.tobytes()


def test_canonical_keeps_both_columns_of_logits() -> None:
    truth, scores = canonical([1, 0], [[3, -4], [0.5, 9]], resolve("binary-class"))
    assert truth.dtype == np.int64 and scores.dtype == np.float64
    assert scores.tolist() == [[3, -4], [0.5, 9]]
    truth, scores = canonical([[0, 2], []], [[0.1, 0.2, 0.3]] * 2, resolve("multi-label"))
    assert truth.tolist() == [[1, 0, 1], [0, 0, 0]] and truth.dtype == np.uint8
    wrapped = np.empty(2, object)
    wrapped[:] = [np.array([0.1, 0.9]), np.array([0.2, 0.8])]
    assert canonical([1, 0], wrapped, resolve("binary-class"))[1].tolist() == [[0.1, 0.9], [0.2, 0.8]]


def test_columns_of_datasets_are_read() -> None:
    data = Dataset.from_dict(
        {"label": [[0, 2], [], [1]], "scores": [[0.9, 0.1, 0.8], [0.1, 0.2, 0.3], [0.2, 0.7, 0.1]]}
    )
    assert plain(data["label"]) == [[0, 2], [], [1]]
    found = metric("multi-label").compute(references=data["label"], prediction_scores=data["scores"])
    assert found == {"auc": 1.0, "acc": 1.0}


def test_batches_must_have_the_same_columns() -> None:
    ours = metric("binary-class")
    ours.add_batch(references=[0, 1], prediction_scores=[0.2, 0.7])
    with pytest.raises(ScoreError, match="scores have 2 columns but those before 1: add the same"):
        ours.add_batch(references=[0, 1], prediction_scores=[[0.8, 0.2], [0.3, 0.7]])
    assert len(ours) == 2
    assert ours.compute() == {"auc": 1.0, "acc": 1.0}
    assert ours.compute(references=[0, 1], prediction_scores=[[0.8, 0.2], [0.3, 0.7]]) == {"auc": 1.0, "acc": 1.0}


def test_a_batch_that_is_refused_leaves_the_others() -> None:
    ours = metric("breastmnist")
    ours.add(reference=0, prediction_scores=0.2)
    for bad, message in (
        ({"references": [2], "prediction_scores": [0.5]}, "class id 2 at row 0"),
        ({"references": [1], "prediction_scores": [float("nan")]}, "scores hold nan"),
        ({"references": [1]}, "prediction_scores are missing"),
        ({"references": [1], "scores": [0.5]}, "unknown input 'scores'"),
        ({"references": [1], "predictions": [1]}, "predictions cannot be added"),
        ({"references": 1, "prediction_scores": []}, "are empty"),
    ):
        with pytest.raises(ScoreError, match=message) as caught:
            ours.add_batch(**bad)
        assert "\n" not in str(caught.value)
    with pytest.raises(ScoreError, match="references are missing"):
        ours.add(prediction_scores=0.5)
    with pytest.raises(ScoreError, match="unknown input 'score'"):
        ours.add(reference=1, score=0.5)
    ours.add(references=1, prediction_scores=0.7)
    assert ours.compute() == {"auc": 1.0, "acc": 1.0}


def test_one_array_filled_again_and_again_is_read_each_time() -> None:
    """Rows that wait to be written together are those that were added, not what the array holds later."""
    rng = np.random.default_rng(0)
    whole, truth = rng.dirichlet(np.ones(9), 2_300), rng.integers(0, 9, 2_300)
    for size in (1, 60, 1_150):
        ours, buffer = metric("pathmnist"), np.empty((size, 9))
        for start in range(0, 2_300 - size + 1, size):
            buffer[:] = whole[start : start + size]
            ours.add_batch(references=truth[start : start + size], prediction_scores=buffer)
            buffer[:] = np.nan
        rows = 2_300 // size * size
        assert len(ours) == rows
        found = ours.compute()
        assert found == metric("pathmnist").compute(references=truth[:rows], prediction_scores=whole[:rows])


def test_batches_without_rows_count_for_nothing() -> None:
    ours = metric("pathmnist")
    ours.add_batch(references=[], prediction_scores=[])
    with pytest.raises(ScoreError, match="are empty"):
        ours.compute()
    rng = np.random.default_rng(0)
    ours.add_batch(references=np.zeros((0, 1)), prediction_scores=np.zeros((0, 9)))
    scores = rng.dirichlet(np.ones(9), 40)
    ours.add_batch(references=np.arange(40) % 9, prediction_scores=scores)
    assert 0 < ours.compute()["auc"] < 1


@pytest.mark.parametrize("config", ["pathmnist", "breastmnist", "chestmnist"])
def test_a_table_of_floats_is_one_of_scores_whatever_it_is_called(config: str) -> None:
    rng = np.random.default_rng(0)
    classes = len(subset(config).labels)
    scores = rng.dirichlet(np.ones(classes), 60)
    truth = rng.integers(0, 2, (60, classes)) if config == "chestmnist" else np.arange(60) % classes
    ours = metric(config)
    expected = ours.compute(references=truth, prediction_scores=scores, ci=True, resamples=20)
    for table in (scores, scores.tolist()):
        assert ours.compute(references=truth, predictions=table, ci=True, resamples=20) == expected
    for sort in (scores, hot := np.eye(classes)[np.arange(60) % classes]):
        with pytest.raises(ScoreError, match=r"^predictions cannot be added: pass them as prediction_scores"):
            ours.add_batch(references=truth, predictions=sort)
    logits = np.log(scores)
    with pytest.raises(ScoreError, match="from_logits"):
        ours.compute(references=truth, predictions=logits)
    for decisions in (hot, [[0.1, 0.2], [0.3]]):
        with pytest.raises(ScoreError, match="call compute"):
            ours.compute(references=truth[: len(decisions)], predictions=decisions)


def test_decisions_have_an_accuracy_and_nothing_else() -> None:
    ours = metric("breastmnist")
    assert ours.compute(references=[0, 1, 1], predictions=[0, 1, 0]) == {"acc": 2 / 3}
    assert ours.compute(references=[0, 1], predictions=["malignant", "LABEL_1"]) == {"acc": 1.0}
    for given_too in ({"ci": True}, {"prediction_scores": [0.1, 0.2]}):
        with pytest.raises(ScoreError, match="give acc alone"):
            ours.compute(references=[0, 1], predictions=[0, 1], **given_too)
    with pytest.raises(ScoreError, match="references are missing"):
        ours.compute(predictions=[0, 1])


def test_a_home_that_cannot_be_written_is_not_needed(tmp_path: Path) -> None:
    """Below a file nothing can be made, by an administrator either."""
    (tmp_path / "home").write_text("")
    home = str(tmp_path / "home" / "metrics")
    for options in ({}, {"keep_in_memory": False}):
        found = metric("breastmnist", cache_dir=home, **options)
        assert found.compute(references=[0, 1], prediction_scores=[0.2, 0.7]) == {"auc": 1.0, "acc": 1.0}
        found.add_batch(references=[0, 1], prediction_scores=[0.2, 0.7])
        assert found.compute() == {"auc": 1.0, "acc": 1.0}
    with pytest.raises(ScoreError, match=r"cannot write .*: pass a cache_dir that all processes share"):
        metric("breastmnist", cache_dir=home, num_process=2, process_id=0, experiment_id="x")


def test_rows_of_tensors_are_taken() -> None:
    torch = pytest.importorskip("torch")
    scores = torch.tensor([[0.8, 0.2], [0.1, 0.9], [0.6, 0.4], [0.7, 0.3]])
    truth = torch.tensor([0, 1, 1, 0])
    for rows in (list(scores.bfloat16()), list(scores.clone().requires_grad_()), scores.bfloat16()):
        found = metric("breastmnist").compute(references=list(truth), prediction_scores=rows)
        assert found == {"auc": 1.0, "acc": 0.75}
