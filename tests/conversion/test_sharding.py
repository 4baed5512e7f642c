"""Sharding: every division covers all rows, is balanced, has no empty part and stays below its limit."""

from itertools import pairwise
from math import ceil, prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmnist_hf.catalog import SPLITS, subsets
from medmnist_hf.conversion.sharding import (
    DEFAULT_SHARD_SIZE,
    RowRange,
    parse_size,
    row_groups,
    rows_per_group,
    shard_ranges,
)
from medmnist_hf.errors import BuildError

SHAPES = st.sampled_from(
    sorted({file.image_shape for entry in subsets() for file in entry.files}, key=lambda shape: (len(shape), shape))
)


def ndim_of(shape: tuple[int, ...]) -> int:
    return 3 if len(shape) == 3 and shape[2] > 3 else 2


def assert_cut(parts: list[RowRange], start: int, stop: int) -> None:
    """Parts join without gap or overlap; none is empty; lengths differ by at most one."""
    assert (parts[0].start, parts[-1].stop) == (start, stop)
    assert all(a.stop == b.start for a, b in pairwise(parts))
    lengths = [len(part) for part in parts]
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1


@given(rows=st.integers(1, 200_000), shape=SHAPES, limit=st.integers(1, 2 * DEFAULT_SHARD_SIZE))
def test_shards_cover_are_balanced_and_below_the_limit(rows: int, shape: tuple[int, ...], limit: int) -> None:
    limit = max(limit, rows * prod(shape) // 1_000)  # a split in thousands of files proves nothing more
    shards = shard_ranges(rows, shape, limit)
    assert_cut(shards, 0, rows)
    longest = max(map(len, shards))
    assert longest == 1 or longest * prod(shape) < limit
    # No more shards than the limit and the encoding overhead require.
    assert len(shards) <= ceil(rows / max(1, limit // (prod(shape) + 1024)))


@given(rows=st.integers(1, 40), limit=st.integers(1, 4_000_000))
def test_a_limit_below_one_row_gives_one_shard_per_row(rows: int, limit: int) -> None:
    shards = shard_ranges(rows, (224, 224, 3), limit)
    if limit <= 224 * 224 * 3:
        assert [len(shard) for shard in shards] == [1] * rows


@given(start=st.integers(0, 10**6), rows=st.integers(1, 50_000), shape=SHAPES)
def test_row_groups_cover_are_balanced_and_below_the_limit(start: int, rows: int, shape: tuple[int, ...]) -> None:
    groups = row_groups(RowRange(start, start + rows), shape, ndim_of(shape))
    assert_cut(groups, start, start + rows)
    most = rows_per_group(shape, ndim_of(shape))
    assert len(groups) == ceil(rows / most)
    assert most * prod(shape) <= 16 << 20


def test_groups_of_the_real_splits_are_neither_tiny_nor_huge() -> None:
    for entry in subsets():
        for file in entry.files:
            for split in SPLITS:
                for shard in shard_ranges(entry.counts[split], file.image_shape, DEFAULT_SHARD_SIZE):
                    groups = row_groups(shard, file.image_shape, entry.ndim)
                    raw = max(map(len, groups)) * prod(file.image_shape)
                    assert raw <= (4 if entry.ndim == 3 else 16) << 20
                    # If a shard has several groups, none is smaller than about half the limit.
                    assert len(groups) == 1 or raw > (1 if entry.ndim == 3 else 7) << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500MB", 500_000_000),
        ("500mb", 500_000_000),
        (" 64 MiB ", 64 << 20),
        ("1GiB", 1 << 30),
        ("2GB", 2_000_000_000),
        ("1.5kb", 1_500),
        ("10KiB", 10_240),
        ("1000000", 1_000_000),
        ("7B", 7),
        ("1e6", 1_000_000),
    ],
)
def test_valid_sizes_are_parsed(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "MB",
        "0",
        "0MB",
        "0.4B",
        "-5MB",
        "five",
        "5XB",
        "5MBMB",
        "nan",
        "inf",
        "infGB",
        "1e999",
        "0x10",
        "5,5MB",
    ],
)
def test_invalid_sizes_are_refused(text: str) -> None:
    with pytest.raises(BuildError, match="is not a valid size: give a size such as 500MB or 1GiB") as caught:
        parse_size(text)
    assert len(str(caught.value).splitlines()) == 1
    assert repr(text) in str(caught.value)


@given(st.text(max_size=12))
def test_any_text_is_parsed_or_refused_in_one_line(text: str) -> None:
    try:
        assert parse_size(text) > 0
    except BuildError as error:
        assert len(str(error).splitlines()) == 1


@given(st.integers(1, 10**15))
def test_numbers_of_bytes_are_parsed_exactly(size: int) -> None:
    assert parse_size(str(size)) == parse_size(f"{size}B") == size
