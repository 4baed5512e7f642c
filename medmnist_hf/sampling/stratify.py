"""Put rows in an order whose beginnings are all stratified, from their labels and a seed alone.

Random choices are digests of the seed and the row, and all arithmetic is on integers, so that no release of a library
and no processor can change them.
"""

import hashlib
import heapq
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from medmnist_hf.array_types import BoolArray, IntArray
from medmnist_hf.errors import SourceError

PARTS: Final = 10
"""Number of parts into which rows of the multi-label task are divided, each of which is divided again."""

DEPTH: Final = 3
"""How often parts are divided: the smallest parts have a thousandth of the rows."""


def check_labels(labels: NDArray[Any]) -> None:
    """Check that labels are class ids, shape (N,), or zeros and ones, shape (N, L), of at least one row.

    Raises:
        SourceError: They are not.
    """
    if labels.dtype.kind not in "iubf" or labels.ndim not in {1, 2} or 0 in labels.shape:
        raise SourceError(
            f"labels are {labels.dtype} of shape {labels.shape}: give class ids (N,), or zeros and ones (N, L)"
        )
    if labels.ndim == 2 and not np.isin(labels, (0, 1)).all():
        raise SourceError(f"labels of shape {labels.shape} have values other than 0 and 1: give zeros and ones")
    if labels.ndim == 1 and labels.dtype.kind == "f" and not (labels == np.floor(labels)).all():
        raise SourceError("labels have values that are not whole numbers: give class ids")


def priorities(rows: int, seed: int) -> NDArray[np.uint64]:
    """A pseudorandom number for each row, uint64 of shape (N,): 8 bytes of the BLAKE2b digest of ``SEED:ROW``."""
    prefix = hashlib.blake2b(f"{seed}:".encode(), digest_size=8)

    def digest(row: int) -> bytes:
        one = prefix.copy()
        one.update(b"%d" % row)
        return one.digest()

    return np.frombuffer(b"".join(map(digest, range(rows))), "<u8").astype(np.uint64)


def first_rows(labels: NDArray[Any], keys: NDArray[np.uint64]) -> IntArray:
    """Select few rows with all classes, or all findings, that occur: the row of lowest key for each, rarest first.

    Args:
        labels: Class ids, shape (N,), or zeros and ones, shape (N, L).
        keys: Key of each row, shape (N,).
    """
    hot = one_hot(labels)
    counts = hot.sum(0)
    chosen: list[int] = []
    for label in np.argsort(counts, kind="stable"):
        if counts[label] and not hot[chosen, label].any():
            members = np.flatnonzero(hot[:, label])
            chosen.append(int(members[np.argmin(keys[members])]))
    return np.array(chosen, np.intp)


def one_hot(labels: NDArray[Any]) -> BoolArray:
    """A mask of the rows of each class that occurs, or of each finding: bool of shape (N, K)."""
    return labels.astype(bool) if labels.ndim == 2 else labels[:, None] == np.unique(labels)


def stratified_order(labels: NDArray[Any], seed: int) -> IntArray:
    """Order rows so that any number of them from the beginning has the class frequencies of all, up to rounding.

    The `first_rows` come first. In the multi-label task, rows are divided by iterative stratification into tenths,
    hundredths and thousandths (see `parts`), which follow each other.

    Args:
        labels: Class ids, shape (N,), or zeros and ones, shape (N, L).
        seed: Seed of the order within a class.

    Returns:
        A permutation of the rows, intp of shape (N,).
    """
    keys = priorities(len(labels), seed)
    first = first_rows(labels, keys)
    later = np.ones(len(labels), bool)
    later[first] = False
    if labels.ndim == 2:
        return np.lexsort((keys, *_parts_of_parts(labels, keys, first)[::-1], later))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members[np.argsort(keys[members], kind="stable")]] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((keys, place, later))


def _parts_of_parts(labels: NDArray[Any], keys: NDArray[np.uint64], first: IntArray) -> IntArray:
    """Divide rows into parts, and these again: the part of each row at each depth, shape (DEPTH, N)."""
    part = np.zeros((DEPTH, len(labels)), np.intp)

    def divide(rows: IntArray, depth: int, first: IntArray) -> None:
        if depth == DEPTH or len(rows) < PARTS:
            return
        part[depth, rows] = parts(labels[rows], PARTS, keys[rows], first=np.flatnonzero(np.isin(rows, first)))
        for at in range(PARTS):
            divide(rows[part[depth, rows] == at], depth + 1, first if at == 0 else first[:0])

    divide(np.arange(len(labels)), 0, first)
    return part


def parts(labels: NDArray[Any], count: int, keys: NDArray[np.uint64], *, first: Iterable[int] = ()) -> IntArray:
    """Divide rows into parts of equal size that have the same number of rows with each finding, as nearly as possible.

    This is the iterative stratification of Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label
    data", ECML PKDD 2011: rows with the finding that has the fewest rows left are placed first, each in the part that
    lacks most rows with it, then in the one that lacks most rows, then in the first. Rows without a finding fill the
    parts.

    Args:
        labels: Zeros and ones, shape (N, L).
        count: Number of parts.
        keys: Key of each row, shape (N,): rows are placed by rising key.
        first: Rows that belong to part 0.

    Returns:
        The part of each row, intp of shape (N,).
    """
    positive = labels.astype(bool)
    ranked = np.argsort(keys, kind="stable")
    part = np.full(len(labels), -1, np.intp)
    left = positive.sum(0).tolist()
    # Rows that a part lacks, multiplied by the number of parts to stay integers.
    room = [len(labels)] * count
    lacking = [[total] * count for total in left]

    def put(row: int, chosen: int) -> None:
        part[row] = chosen
        room[chosen] -= count
        for finding in np.flatnonzero(positive[row]).tolist():
            lacking[finding][chosen] -= count
            left[finding] -= 1

    for row in first:
        put(row, 0)
    while any(left):
        finding = min((number, at) for at, number in enumerate(left) if number)[1]
        needs = lacking[finding]
        for row in ranked[positive[ranked, finding] & (part[ranked] < 0)].tolist():
            put(row, max(range(count), key=lambda at: (needs[at], room[at])))
    heap = [(-room[at], at) for at in range(count)]
    heapq.heapify(heap)
    for row in ranked[part[ranked] < 0].tolist():
        filled, part[row] = heap[0]
        heapq.heapreplace(heap, (filled + count, int(part[row])))
    return part
