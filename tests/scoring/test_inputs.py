"""`medmnist_hf.scoring.inputs`: tensors, and lists of them, are scored like the equivalent arrays."""

from typing import Any

import numpy as np
import pytest
import torch

from medmnist_hf.catalog import Task
from medmnist_hf.scoring import score
from medmnist_hf.scoring.inputs import plain

SCORES = torch.tensor([[0.75, 0.25], [0.125, 0.875], [0.625, 0.375], [0.5, 0.5]])
LABELS = torch.tensor([0, 1, 1, 0])


def rows_of(scores: torch.Tensor) -> list[Any]:
    """The scores as a loop may collect them: one tensor, a list of rows, nested lists, with and without gradients."""
    graph = scores.clone().requires_grad_()
    return [scores, list(scores), [list(row) for row in scores], graph, list(graph), tuple(graph), graph * 1]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_scores_in_tensors(kind: torch.dtype) -> None:
    expected = score(LABELS.numpy(), SCORES.numpy(), Task.BINARY)
    for scores in rows_of(SCORES.to(kind)):
        for labels in (LABELS, list(LABELS), LABELS.numpy(), LABELS[:, None]):
            assert score(labels, scores, Task.BINARY) == expected


def test_findings_in_tensors() -> None:
    hot = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0]])
    expected = score(hot.numpy(), SCORES.numpy(), Task.MULTI_LABEL)
    for truth in (hot, list(hot), hot.bool(), hot.bfloat16()):
        for scores in rows_of(SCORES.bfloat16()):
            assert score(truth, scores, Task.MULTI_LABEL) == expected


def test_types_that_numpy_supports_are_kept() -> None:
    assert plain(SCORES).dtype == np.float32 and plain(LABELS).dtype == np.int64
    assert plain(SCORES.bfloat16()).dtype == np.float32
    rows = [[0.1, 0.9]]
    assert plain(rows) is rows, "values that need no conversion are not copied"
