"""Supported shapes of references and scores, and a one-line error for each unsupported one."""

from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.predictions import as_task, check, check_paired, multi_hot

THREE = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.5, 0.0]]
IDS = [0, 1, 2, 1]
FINDINGS = [[0, 2], [], [1], [2]]
HOT = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 1]])


def table() -> datasets.Dataset:
    names = ["a", "b", "c"]
    return datasets.Dataset.from_dict(
        {"label": IDS, "findings": FINDINGS, "scores": THREE},
        features=datasets.Features(
            {
                "label": datasets.ClassLabel(names=names),
                "findings": datasets.List(datasets.ClassLabel(names=names)),
                "scores": datasets.List(datasets.Value("float64")),
            }
        ),
    )


@pytest.mark.parametrize(
    "references",
    [
        IDS,
        tuple(IDS),
        np.array(IDS, np.uint8),
        np.array(IDS, np.float32),
        np.array(IDS)[:, None],
        [[0], [1], [2], [1]],
        np.array(IDS)[None, :],
        np.eye(3)[IDS],
        np.eye(3, dtype=bool)[IDS].tolist(),
        np.array([0, 1, 2, 1], object),
        pa.array(IDS),
        pa.chunked_array([[0, 1], [2, 1]]),
        table()["label"],
        table().with_format("numpy")["label"],
        table().with_format("arrow")["label"],
        table().select([0, 1, 2, 3])["label"],
        table().to_pandas()["label"],
    ],
    ids=lambda value: type(value).__name__,
)
def test_class_ids_in_any_shape(references: object) -> None:
    found = check(references, THREE, Task.MULTI_CLASS)
    assert found.ids is not None and found.ids.tolist() == IDS
    assert found.chosen.tolist() == [0, 1, 2, 0], "the first of equal scores"
    assert [found.positive(label).tolist() for label in range(3)] == (np.array(IDS) == np.arange(3)[:, None]).tolist()


@pytest.mark.parametrize(
    "references",
    [
        FINDINGS,
        [np.array(row, int) for row in FINDINGS],
        tuple(map(tuple, FINDINGS)),
        HOT,
        HOT.astype(bool),
        HOT.astype(float),
        HOT.tolist(),
        HOT.astype(float).tolist(),
        list(HOT),
        HOT[:, None, :],
        HOT[:, None, :].tolist(),
        pa.array(FINDINGS),
        table()["findings"],
        table().with_format("numpy")["findings"],
        table().to_pandas()["findings"],
    ],
    ids=lambda value: type(value).__name__,
)
def test_findings_in_any_shape(references: object) -> None:
    found = check(references, THREE, Task.MULTI_LABEL)
    assert found.hot is not None and found.hot.T.tolist() == HOT.astype(bool).tolist()
    assert found.ids is None and found.classes == (0, 1, 2)


@pytest.mark.parametrize("scores", [THREE, np.array(THREE), table()["scores"], pa.array(THREE)])
def test_scores_in_any_shape(scores: object) -> None:
    assert check(IDS, scores, Task.ORDINAL).columns.T.tolist() == THREE


def test_a_column_formatted_as_float32_is_scored_as_float32() -> None:
    found = check(IDS, table().with_format("numpy")["scores"], Task.ORDINAL).columns
    assert found.dtype == np.float32 and found.T.tolist() == np.array(THREE, np.float32).tolist()


def test_binary_scores_are_the_last_column() -> None:
    for scores in ([0.1, 0.9], [[0.1], [0.9]], [[0.9, 0.1], [0.1, 0.9]], np.array([[0.1, 0.9]])):
        found = check([0, 1], scores, Task.BINARY)
        assert found.columns.tolist() == [[0.1, 0.9]] and found.classes == (1,)
    assert check([[1, 0], [0, 1]], [0.1, 0.9], Task.BINARY).chosen.tolist() == [0, 1]
    one = check([[0, 1]], [[0.2, 0.8]], Task.BINARY)
    assert one.rows == 1 and one.ids is not None and one.ids.tolist() == [1]


def test_float_types_are_kept() -> None:
    for dtype, kept in ((np.float32, "f4"), (np.float16, "f4"), (np.int8, "f8"), (">f4", "f8"), (bool, "f8")):
        assert check([0, 1], np.array([0, 1], dtype), Task.BINARY).columns.dtype == np.dtype(kept)


def test_lists_of_all_findings_are_distinguished_from_multi_hot_rows() -> None:
    scores = np.full((2, 3), 0.5)
    found = check([[0, 1, 2], [2, 0, 1]], scores, Task.MULTI_LABEL)
    assert found.hot is not None and found.hot.all()
    with pytest.raises(ScoreError, match="multi-hot rows or lists of 2 finding"):
        check([[0, 1], [1, 0]], scores[:, :2], Task.MULTI_LABEL)
    clear = check(np.array([[0, 1], [1, 0]]), scores[:, :2], Task.MULTI_LABEL)
    assert clear.hot is not None and clear.hot.sum() == 2
    single = check([[], [0]], [0.2, 0.8], Task.MULTI_LABEL)
    assert single.hot is not None and single.hot.tolist() == [[False, True]]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=20))
def test_multi_hot_round_trip(findings: list[set[int]]) -> None:
    hot = multi_hot([list(row) for row in findings], 5)
    assert [set(np.flatnonzero(row).tolist()) for row in hot] == findings


def test_rounding_above_one_is_accepted() -> None:
    assert check([0, 1], np.array([0.0, 1.0000001], np.float32), Task.BINARY).rows == 2


def test_logits_become_probabilities() -> None:
    logits = np.array([[1.0, -2.0, 800.0], [-800.0, 0.0, 3.0]])
    softmax = check([0, 1], logits, Task.MULTI_CLASS, from_logits=True).columns
    assert softmax.sum(axis=0) == pytest.approx(1) and softmax.dtype == np.float64
    sigmoid = check(np.eye(3)[:2], logits, Task.MULTI_LABEL, from_logits=True).columns.T
    assert sigmoid[0].tolist() == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(2)), 1])
    assert sigmoid[1].tolist() == pytest.approx([0, 0.5, 1 / (1 + np.exp(-3))], abs=1e-300)


B, C, L = Task.BINARY, Task.MULTI_CLASS, Task.MULTI_LABEL
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("references", "scores", "task", "options", "line"),
    [
        ([0, 1], [0.1, NAN], B, {}, "scores hold nan at row 1, column 0: pass finite numbers"),
        ([0, 1], [[0.1, 0.2], [0.1, INF]], B, {}, "scores hold inf at row 1, column 1"),
        ([0, 1], [[0.1, -INF], [0.1, 0.2]], C, {"from_logits": True}, "scores hold -inf at row 0, column 1"),
        ([0, 1], [[0.1, 0.2, 0.7]] * 2, B, {}, "scores have 3 columns: the binary task needs 1, or 2"),
        (IDS, THREE, C, {"num_classes": 9}, "scores have 3 columns: 9 classes need one column each"),
        ([0, 1], [0.2, 0.3], C, {}, "scores have 1 column: the multi-class task needs one column per class"),
        (HOT, np.array(THREE)[:, :2], L, {}, "references have shape (4, 3) for 2 score columns"),
        (FINDINGS, THREE, L, {"num_classes": 14}, "scores have 3 columns: 14 classes need one column each"),
        ([0, 1, 1], [0.2, 0.3], B, {}, "3 references but 2 rows of scores"),
        (IDS[:3], THREE, C, {}, "3 references but 4 rows of scores"),
        (FINDINGS[:3], THREE, L, {}, "3 references but 4 rows of scores"),
        ([0, 2], [0.2, 0.3], B, {}, "references: class id 2 at row 1 is out of range; ids run from 0 to 1"),
        ([0, -1], [0.2, 0.3], B, {}, "references: class id -1 at row 1 is out of range"),
        ([0, 3, 1, 1], THREE, C, {}, "references: class id 3 at row 1 is out of range; ids run from 0 to 2"),
        ([[0], [3], [], []], THREE, L, {}, "references: finding 3 at row 1 is out of range; ids run from 0 to 2"),
        ([[0], [1, 1], [], []], THREE, L, {}, "references: row 1 lists a finding twice"),
        ([[0], ["b"], [], []], THREE, L, {}, "references: a finding has type <U"),
        ([[0], None, [], []], THREE, L, {}, "references are not a table of numbers"),
        ([[0], [None], [], []], THREE, L, {}, "references: a finding has type object"),
        ([0.5, 1], [0.2, 0.3], B, {}, "references: 0.5 is not a class id; pass ids counted from 0"),
        ([0, NAN], [0.2, 0.3], B, {}, "references: nan is not a class id"),
        ([0, 1e30], [0.2, 0.3], B, {}, "references: 1e+30 is not a class id"),
        ([[True, False], [False, True]], np.eye(3)[:2], L, {}, "references: rows of true and false need 3 columns"),
        ([0, None], [0.2, 0.3], B, {}, "references have type object: pass numbers"),
        (["a", "b"], [0.2, 0.3], B, {}, "references have type <U1: pass numbers"),
        ([0, 1], ["a", "b"], B, {}, "scores have type <U1: pass numbers"),
        ([0, 1], [[0.2], [0.2, 0.3]], B, {}, "scores are not a table of numbers"),
        ([0, 1], [0.2 + 1j, 0.3], B, {}, "scores have type complex128: pass numbers"),
        ([0, 1], object(), B, {}, "scores have type object: pass numbers"),
        ([], [], B, {}, "scores are empty: pass one row or more"),
        ([], THREE, C, {}, "references are empty"),
        ([], THREE, L, {}, "references are empty"),
        (np.zeros((0, 3)), THREE, L, {}, "references are empty"),
        (np.zeros((4, 2)), THREE, C, {}, "references have shape (4, 2): pass class ids (N,), or one-hot rows (N, 3)"),
        (np.ones((4, 3)), THREE, C, {}, "references: row 0 is not one-hot"),
        (np.ones((4, 3, 2)), THREE, C, {}, "references have shape (4, 3, 2): pass rows by columns"),
        (HOT * 2, THREE, L, {}, "references hold 2 at row 0, column 0: pass 0 or 1"),
        (np.where(HOT, NAN, 0), THREE, L, {}, "references hold nan at row 0, column 0"),
        (IDS, THREE, L, {}, "references have shape (4,) for 3 score columns"),
        ([0, 1], [-0.1, 0.3], B, {}, "scores run from -0.1 to 0.3, outside 0..1: pass from_logits=True"),
        (IDS, np.array(THREE) * 2, C, {}, "scores run from 0 to 1.6, outside 0..1"),
        (FINDINGS, np.array(THREE) * 2, L, {}, "scores run from 0 to 1.6, outside 0..1"),
    ],
)
def test_each_fault_gives_a_one_line_error(
    references: object, scores: object, task: Task, options: dict[str, Any], line: str
) -> None:
    with pytest.raises(ScoreError) as caught:
        check(references, scores, task, **options)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_every_name_of_a_task() -> None:
    for task in Task:
        assert as_task(task) is as_task(task.value) is as_task(task.official_name) is task
    with pytest.raises(ScoreError, match="unknown task 'regression'"):
        as_task("regression")


def test_pairs_need_the_same_task_and_rows() -> None:
    first = check(IDS, THREE, C)
    check_paired(first, check(np.array(IDS), np.flip(THREE, axis=1), C, from_logits=True))
    check_paired(check(HOT, THREE, L), check(FINDINGS, THREE, L))
    for other, message in (
        (check(IDS, np.full((4, 4), 0.25), C), "predictions of 3 and of 4 classes: compare predictions of one subset"),
        (check(IDS[::-1], THREE, C), "of different tasks or rows: check both against the same references"),
        (check([*IDS, 0], [*THREE, THREE[0]], C), "of different tasks or rows"),
        (check(IDS, THREE, Task.ORDINAL), "of different tasks or rows"),
        (check(HOT, THREE, L), "of different tasks or rows"),
    ):
        for pair in ((first, other), (other, first)):
            with pytest.raises(ScoreError, match=message if pair[0] is first else None):
                check_paired(*pair)


@pytest.mark.parametrize("order", ["C", "F"])
def test_changing_the_input_arrays_later_has_no_effect(order: Literal["C", "F"]) -> None:
    for truth, table, task in ((IDS, THREE, C), ([0, 1, 1, 0], [[0.1], [0.9], [0.2], [0.3]], B), (HOT, THREE, L)):
        references, scores = np.array(truth, order=order), np.array(table, order=order)
        predictions, fresh = check(references, scores, task), check(truth, table, task)
        references[:], scores[:] = 0, 0.5
        check_paired(predictions, fresh)
        assert np.array_equal(predictions.columns, fresh.columns)
