"""Search all pairs of images for near duplicates: candidates by their low frequencies, confirmed by their pixels.

Time grows with the square of the number of images, memory only with the number: pairs are compared in blocks, and of
each image only the nearest others are kept.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from medmnist_hf.array_types import Int64Array, UInt8Array
from medmnist_hf.conversion.near.filters import Float32Array, frequencies, local_contrast, symmetries

THRESHOLD: Final = 0.85
"""Smallest correlation of local contrast of a near duplicate; ``docs/verifying.md`` has the figures behind it."""

UNTURNED: Final = 24
"""Candidates per image as it is: many, because a shift changes the frequencies."""

TURNED: Final = 8
"""Further candidates per image, flipped or turned."""

SHIFTS: Final = {2: 2, 3: 1}
"""Dimensions -> largest shift that is tried along each axis, in pixels of the small copies."""

_WHITENING: Final = 0.5
"""Power of a frequency's standard deviation by which it is divided: 0 for plain low frequencies, 1 for equal ones."""

_NO_STRUCTURE: Final = 1e-3
"""Length up to which low frequencies are rounding errors of a blank image."""

_ROWS: Final = 1024
_COLUMNS: Final = 4096
"""Block of pairs that are compared at once; its float32 similarities take 16 MB."""

COARSE: Final = 0.25
"""Smallest correlation at half the resolution of pairs that are compared at the full one."""

_PIECE: Final = 1 << 18
"""Pixels of candidates that are compared at once."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of rows, by descending similarity.

    Attributes:
        first: Row of one image, int64 ``(p,)``.
        second: Row of the other one, greater.
        similarity: Correlation of local contrast, float32 ``(p,)``, -1 to 1.
        symmetry: Position in `symmetries` of the one that brings the second image onto the first.
    """

    first: Int64Array
    second: Int64Array
    similarity: Float32Array
    symmetry: Int64Array


def find_pairs(
    copies: UInt8Array, *, threshold: float = THRESHOLD, on_progress: Callable[[int], object] = lambda rows: None
) -> Pairs:
    """Find the pairs of images that are near duplicates.

    Args:
        copies: Small copies from `small_copies`, uint8 ``(n, s, s)`` or ``(n, s, s, s)``.
        threshold: Smallest similarity of a pair.
        on_progress: Called with the number of images just compared with all others.
    """
    nearest, symmetry = _candidates(_descriptors(copies), on_progress)
    first, place = np.nonzero(nearest >= 0)
    second, turned = nearest[first, place].astype(np.int64), symmetry[first, place].astype(np.int64)
    similarity = _similarities(copies, first, second, turned)
    order = np.argsort(-similarity, kind="stable")
    order = order[similarity[order] >= threshold]
    _, kept = np.unique(np.stack([first[order], second[order]]), axis=1, return_index=True)
    order = order[np.sort(kept)]  # the best symmetry of each pair
    return Pairs(first[order], second[order], similarity[order], turned[order])


def _descriptors(copies: UInt8Array) -> Float32Array:
    """Low frequencies without the mean, equalized over the images, of length 1; 0 for images without structure."""
    parts = [frequencies(copies[start : start + _COLUMNS]) for start in range(0, len(copies), _COLUMNS)]
    values = np.concatenate(parts)
    values.reshape(len(values), -1)[:, 0] = 0
    variance = (values.astype(np.float64) ** 2).mean(0) - values.mean(0, dtype=np.float64) ** 2
    turned = [variance.transpose(axes) for axes in permutations(range(variance.ndim))]  # the same after any symmetry
    scale = np.mean(turned, axis=0) ** (_WHITENING / 2)
    values /= np.where(scale > 0, scale, 1).astype(np.float32)
    lengths = np.sqrt((values**2).sum(tuple(range(1, values.ndim)), keepdims=True))
    return np.asarray(values / np.where(lengths > _NO_STRUCTURE, lengths, np.inf), np.float32)


def _candidates(
    descriptors: Float32Array, on_progress: Callable[[int], object]
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """The nearest later rows of each row, -1 where there are none, and the symmetry that brings each one nearest."""
    rows = len(descriptors)
    nearest = np.full((rows, UNTURNED + TURNED), -1, np.int32)
    turned = np.zeros(nearest.shape, np.int8)
    queries = descriptors.reshape(rows, -1)
    all_symmetries = symmetries(descriptors.ndim - 1)
    for start in range(0, rows, _ROWS):
        block = slice(start, min(rows, start + _ROWS))
        best = np.zeros((block.stop - start, UNTURNED + TURNED), np.float32)  # only positive ones are candidates
        places = slice(UNTURNED), slice(UNTURNED, None)
        plain, others = (_Best(best[:, part], nearest[block, part], turned[block, part]) for part in places)
        for begin in range(start, rows, _COLUMNS):
            columns = descriptors[begin : begin + _COLUMNS]
            earlier = np.arange(begin, begin + len(columns)) <= np.arange(start, block.stop)[:, None]
            for number, symmetry in enumerate(all_symmetries):
                keys = symmetry.of_frequencies(columns).reshape(len(columns), -1)
                similarity = queries[block] @ keys.T
                if begin < block.stop:
                    similarity[earlier] = -1
                (others if number else plain).update(similarity, begin, number)
        on_progress(block.stop - start)
    return nearest, turned


@dataclass(frozen=True, slots=True)
class _Best:
    """The best columns of each row of a block so far: similarity, column and symmetry, each ``(rows, places)``."""

    similarity: Float32Array
    column: NDArray[np.int32]
    symmetry: NDArray[np.int8]

    def update(self, similarity: Float32Array, begin: int, symmetry: int) -> None:
        """Insert columns, numbered from `begin`, that are better than the worst ones."""
        places = self.similarity.shape[1]
        if not self.similarity.any() and similarity.shape[1] > places:  # the first columns: nearly all are better
            columns = np.argpartition(similarity, -places, axis=1)[:, -places:]
            rows = np.repeat(np.arange(len(columns)), places)
            columns = columns.reshape(-1)
        else:
            rows, columns = np.divmod(
                np.flatnonzero(similarity > self.similarity.min(1, keepdims=True)), similarity.shape[1]
            )
        if not len(rows):
            return
        changed = np.unique(rows)
        values = np.concatenate([self.similarity[changed].reshape(-1), similarity[rows, columns]])
        owners = np.concatenate([np.repeat(changed, places), rows])
        order = np.lexsort((-values, owners))
        starts = np.searchsorted(owners[order], changed)
        kept = order[(starts[:, None] + np.arange(places)).reshape(-1)]
        numbers = np.concatenate([self.column[changed].reshape(-1), (begin + columns).astype(np.int32)])
        turned = np.concatenate([self.symmetry[changed].reshape(-1), np.full(len(rows), symmetry, np.int8)])
        shape = len(changed), places
        self.similarity[changed] = values[kept].reshape(shape)
        self.column[changed] = np.where(values[kept] > 0, numbers[kept], -1).reshape(shape)
        self.symmetry[changed] = turned[kept].reshape(shape)


def _similarities(copies: UInt8Array, first: Int64Array, second: Int64Array, turned: Int64Array) -> Float32Array:
    """Correlation of local contrast, without what all images share, at the best small shift.

    It is first computed at half the resolution; pairs that are far from similar there keep that value.
    """
    contrast = np.empty(copies.shape, np.float16)
    for start in range(0, len(copies), _COLUMNS):
        contrast[start : start + _COLUMNS] = local_contrast(copies[start : start + _COLUMNS])
    sides = [part for side in copies.shape[1:] for part in (side // 2, 2)]
    halved = contrast.reshape(len(copies), *sides).mean(tuple(range(2, 2 * copies.ndim - 1, 2)), dtype=np.float32)
    result = _correlations(halved.astype(np.float16), first, second, turned, 1)
    likely = np.flatnonzero(result >= COARSE)
    result[likely] = _correlations(contrast, first[likely], second[likely], turned[likely], SHIFTS[copies.ndim - 1])
    return result


def _correlations(
    contrast: NDArray[np.float16], first: Int64Array, second: Int64Array, turned: Int64Array, reach: int
) -> Float32Array:
    """Correlation of pairs of images after a symmetry, at the best shift of up to `reach` pixels along each axis."""
    ndim, side = contrast.ndim - 1, contrast.shape[1]
    shared = contrast.mean(0, dtype=np.float32)
    overlaps = list(_overlaps(side, ndim, reach))
    result = np.zeros(len(first), np.float32)
    step = max(1, _PIECE // side**ndim)
    for number, symmetry in enumerate(symmetries(ndim)):
        chosen = np.flatnonzero(turned == number)
        for start in range(0, len(chosen), step):
            pairs = chosen[start : start + step]
            fixed = contrast[first[pairs]].astype(np.float32) - shared
            moved = np.ascontiguousarray(symmetry.of_images(contrast[second[pairs]])).astype(np.float32)
            result[pairs] = _best_correlation(fixed, moved, shared, overlaps)
    return result


_Slices = tuple[slice, ...]


def _best_correlation(
    fixed: Float32Array, moved: Float32Array, shared: Float32Array, overlaps: list[tuple[_Slices, _Slices]]
) -> Float32Array:
    best = np.full(len(fixed), -1, np.float32)
    for own, other in overlaps:
        left = fixed[:, *own].reshape(len(fixed), -1)
        right = (moved[:, *other] - shared[own]).reshape(len(fixed), -1)
        product_ = np.einsum("ij,ij->i", left, right)
        norms = np.einsum("ij,ij->i", left, left) * np.einsum("ij,ij->i", right, right)
        np.maximum(best, product_ / np.sqrt(np.where(norms > 0, norms, np.inf)), out=best)
    return best


def _overlaps(side: int, ndim: int, reach: int) -> Iterator[tuple[_Slices, _Slices]]:
    """For each shift, the part of the fixed image and the part of the moved one that lie on each other."""
    for shift in product(range(-reach, reach + 1), repeat=ndim):
        yield (
            tuple(slice(max(0, step), side + min(0, step)) for step in shift),
            tuple(slice(max(0, -step), side + min(0, -step)) for step in shift),
        )
