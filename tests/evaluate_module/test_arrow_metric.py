"""Rows added through `evaluate` are unchanged bit for bit, and invalid batches are rejected."""

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
def test_added_rows_are_unchanged(rows: list[tuple[int, float, float, float]], cut: int, in_memory: bool) -> None:
    """`evaluate` joins the rows exactly as added, for any batches."""
    references, scores = np.array([row[0] for row in rows]), np.array([row[1:] for row in rows])
    added = metric("multi-class", keep_in_memory=in_memory)
    for part in (slice(None, cut), slice(cut, None)):
        added.add_batch(references=references[part], prediction_scores=scores[part])
    joined = [np.asarray(column) for column in evaluate.Metric.compute(added)]
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
    result = metric("multi-label").compute(references=data["label"], prediction_scores=data["scores"])
    assert result == {"auc": 1.0, "acc": 1.0}


def test_batches_must_have_the_same_columns() -> None:
    added = metric("binary-class")
    added.add_batch(references=[0, 1], prediction_scores=[0.2, 0.7])
    with pytest.raises(ScoreError, match="scores have 2 columns but those added before 1: add the same number"):
        added.add_batch(references=[0, 1], prediction_scores=[[0.8, 0.2], [0.3, 0.7]])
    assert len(added) == 2
    assert added.compute() == {"auc": 1.0, "acc": 1.0}
    assert added.compute(references=[0, 1], prediction_scores=[[0.8, 0.2], [0.3, 0.7]]) == {"auc": 1.0, "acc": 1.0}


def test_a_rejected_batch_keeps_the_others() -> None:
    added = metric("breastmnist")
    added.add(reference=0, prediction_scores=0.2)
    for bad, message in (
        ({"references": [2], "prediction_scores": [0.5]}, "class id 2 at row 0"),
        ({"references": [1], "prediction_scores": [float("nan")]}, "scores hold nan"),
        ({"references": [1]}, "prediction_scores are missing"),
        ({"references": [1], "scores": [0.5]}, "unknown input 'scores'"),
        ({"references": [1], "predictions": [1]}, "predictions cannot be added"),
        ({"references": 1, "prediction_scores": []}, "are empty"),
    ):
        with pytest.raises(ScoreError, match=message) as caught:
            added.add_batch(**bad)
        assert "\n" not in str(caught.value)
    with pytest.raises(ScoreError, match="references are missing"):
        added.add(prediction_scores=0.5)
    with pytest.raises(ScoreError, match="unknown input 'score'"):
        added.add(reference=1, score=0.5)
    added.add(references=1, prediction_scores=0.7)
    assert added.compute() == {"auc": 1.0, "acc": 1.0}


def test_a_reused_buffer_is_copied_each_time() -> None:
    """Rows waiting to be written are not changed by writing to the array later."""
    rng = np.random.default_rng(0)
    whole, truth = rng.dirichlet(np.ones(9), 2_300), rng.integers(0, 9, 2_300)
    for size in (1, 60, 1_150):
        added, buffer = metric("pathmnist"), np.empty((size, 9))
        for start in range(0, 2_300 - size + 1, size):
            buffer[:] = whole[start : start + size]
            added.add_batch(references=truth[start : start + size], prediction_scores=buffer)
            buffer[:] = np.nan
        rows = 2_300 // size * size
        assert len(added) == rows
        result = added.compute()
        assert result == metric("pathmnist").compute(references=truth[:rows], prediction_scores=whole[:rows])


def test_batches_without_rows_have_no_effect() -> None:
    added = metric("pathmnist")
    added.add_batch(references=[], prediction_scores=[])
    with pytest.raises(ScoreError, match="are empty"):
        added.compute()
    rng = np.random.default_rng(0)
    added.add_batch(references=np.zeros((0, 1)), prediction_scores=np.zeros((0, 9)))
    scores = rng.dirichlet(np.ones(9), 40)
    added.add_batch(references=np.arange(40) % 9, prediction_scores=scores)
    assert 0 < added.compute()["auc"] < 1


@pytest.mark.parametrize("config", ["pathmnist", "breastmnist", "chestmnist"])
def test_predictions_as_a_table_of_floats_are_scores(config: str) -> None:
    rng = np.random.default_rng(0)
    classes = len(subset(config).labels)
    scores = rng.dirichlet(np.ones(classes), 60)
    truth = rng.integers(0, 2, (60, classes)) if config == "chestmnist" else np.arange(60) % classes
    added = metric(config)
    expected = added.compute(references=truth, prediction_scores=scores, ci=True, resamples=20)
    for table in (scores, scores.tolist()):
        assert added.compute(references=truth, predictions=table, ci=True, resamples=20) == expected
    for predictions in (scores, hot := np.eye(classes)[np.arange(60) % classes]):
        with pytest.raises(ScoreError, match=r"^predictions cannot be added: pass prediction_scores"):
            added.add_batch(references=truth, predictions=predictions)
    logits = np.log(scores)
    with pytest.raises(ScoreError, match="from_logits"):
        added.compute(references=truth, predictions=logits)
    for decisions in (hot, [[0.1, 0.2], [0.3]]):
        with pytest.raises(ScoreError, match="call compute"):
            added.compute(references=truth[: len(decisions)], predictions=decisions)


def test_decisions_have_only_an_accuracy() -> None:
    added = metric("breastmnist")
    assert added.compute(references=[0, 1, 1], predictions=[0, 1, 0]) == {"acc": 2 / 3}
    assert added.compute(references=[0, 1], predictions=["malignant", "LABEL_1"]) == {"acc": 1.0}
    for other_arguments in ({"ci": True}, {"prediction_scores": [0.1, 0.2]}):
        with pytest.raises(ScoreError, match="only give acc"):
            added.compute(references=[0, 1], predictions=[0, 1], **other_arguments)
    with pytest.raises(ScoreError, match="references are missing"):
        added.compute(predictions=[0, 1])


def test_an_unwritable_home_is_not_needed(tmp_path: Path) -> None:
    """Not even root can create a folder below a file."""
    (tmp_path / "home").write_text("")
    home = str(tmp_path / "home" / "metrics")
    for options in ({}, {"keep_in_memory": False}):
        added = metric("breastmnist", cache_dir=home, **options)
        assert added.compute(references=[0, 1], prediction_scores=[0.2, 0.7]) == {"auc": 1.0, "acc": 1.0}
        added.add_batch(references=[0, 1], prediction_scores=[0.2, 0.7])
        assert added.compute() == {"auc": 1.0, "acc": 1.0}
    with pytest.raises(ScoreError, match=r"cannot write .*: pass a cache_dir that all processes share"):
        metric("breastmnist", cache_dir=home, num_process=2, process_id=0, experiment_id="x")


def test_rows_of_tensors() -> None:
    torch = pytest.importorskip("torch")
    scores = torch.tensor([[0.8, 0.2], [0.1, 0.9], [0.6, 0.4], [0.7, 0.3]])
    truth = torch.tensor([0, 1, 1, 0])
    for rows in (list(scores.bfloat16()), list(scores.clone().requires_grad_()), scores.bfloat16()):
        result = metric("breastmnist").compute(references=list(truth), prediction_scores=rows)
        assert result == {"auc": 1.0, "acc": 0.75}
