"""Rows are grouped anew without loss, and views are not copied."""

import numpy as np
import pytest

from medmnist_hf.data.blocks import regroup


@pytest.mark.parametrize("lengths", [[10], [1] * 10, [3, 3, 4], [9, 1]])
@pytest.mark.parametrize("counts", [[10], [1] * 10, [4, 4, 2], [2, 7]])
def test_groups_have_the_rows_in_order(lengths: list[int], counts: list[int]) -> None:
    rows = np.arange(20).reshape(10, 2)
    blocks = np.split(rows, np.cumsum(lengths)[:-1])
    groups = list(regroup(blocks, counts))
    assert [len(group) for group in groups] == counts
    assert np.array_equal(np.concatenate(groups), rows[: sum(counts)])


def test_a_group_within_a_block_is_a_view() -> None:
    rows = np.arange(10)
    assert all(np.shares_memory(group, rows) for group in regroup([rows], [4, 6]))


def test_blocks_are_read_only_as_far_as_needed() -> None:
    blocks = iter([np.arange(3), np.arange(3), np.arange(3)])
    assert len(next(regroup(blocks, [4, 5]))) == 4
    assert len(list(blocks)) == 1


def test_missing_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="1 rows are left where 2 are needed"):
        list(regroup([np.arange(3)], [2, 2]))
