"""Generate phantoms: seeded, class-dependent synthetic NPZ files with the exact schema of any subset and size.

A picture is a sum of separable terms (a profile along one axis times profiles along the others). It is computed with
integers from fixed tables, so pixels do not depend on the processor, the NumPy version or the batch size. The class
determines the height of structures, their distance from the vertical midline, their width and hue, and the pitch of a
grating, so mirroring left to right keeps the class. A row has the same label and geometry at every size.
"""

import contextlib
import math
import secrets
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, SplitCounts, Subset, Task
from medmnist_hf.errors import SourceError

GENERATOR_VERSION: Final = 1
"""Increased whenever the pixels or labels of a given seed change; part of the name of every cached file."""

DEFAULT_ROWS: Final = 64
"""Default number of rows of the train split."""

Ints = NDArray[np.int32]
Bytes = NDArray[np.uint8]

_BATCH_BYTES: Final = 1 << 19
_DRAWS: Final = 32
_FULL_TURN: Final = 1024
_WAVE: Final = np.array([round(127 * math.cos(2 * math.pi * i / _FULL_TURN)) for i in range(_FULL_TURN)], np.int32)
_BELL: Final = np.array([round(255 * math.exp(-((i / 64) ** 2) / 2)) for i in range(256)], np.int32)


def minimum_rows(subset: Subset) -> int:
    """Number of rows in which every class occurs; multi-label adds a row without and a row with several findings."""
    return len(subset.labels) + (2 if subset.task is Task.MULTI_LABEL else 0)


def phantom_counts(subset: Subset, rows: int | None = None) -> SplitCounts:
    """Number of rows of each split of a phantom.

    Args:
        subset: A subset of the catalog.
        rows: Rows of the train split, 64 by default. Validation has a quarter of them, and test a half. A split that
            is too small for all classes is enlarged.

    Raises:
        SourceError: `rows` is not positive.
    """
    train = DEFAULT_ROWS if rows is None else rows
    if train < 1:
        raise SourceError(f"a phantom of {subset.flag} cannot have {train} rows: ask for at least 1")
    least = minimum_rows(subset)
    return SplitCounts(max(train, least), max(train // 4, least), max(train // 2, least))


def phantom_labels(subset: Subset, rows: SplitCounts, split: str, seed: int = 0) -> Bytes:
    """Generate the labels of one split, as stored in the NPZ file.

    Args:
        subset: A subset of the catalog.
        rows: Number of rows of each split.
        split: ``train``, ``validation`` or ``test``.
        seed: Seed of the phantom.

    Returns:
        uint8 of shape (rows, 1) with class ids, or (rows, labels) with 0 and 1 for the multi-label task. The first
        rows contain all classes in order; the others are random, with lower ids up to twice as frequent as higher.
    """
    count, classes = rows[split], len(subset.labels)
    bits = _bits(subset, split, seed, stream=0)
    if subset.task is Task.MULTI_LABEL:
        # A probability of 3/64 for each of 14 findings leaves about half of the rows without one, as in ChestMNIST.
        labels = (_draw(bits, count, -(-classes // 4) * 4)[:, :classes] < 3 * _FULL_TURN // 64).astype(np.uint8)
        fixed = np.vstack([np.zeros((2, classes), np.uint8), np.eye(classes, dtype=np.uint8)])
        fixed[1, [0, 1, -1]] = 1
    else:
        edges = np.cumsum(2 * classes - np.arange(classes))
        drawn = _draw(bits, count, 4)[:, 0] * int(edges[-1]) // _FULL_TURN
        labels = np.searchsorted(edges, drawn, side="right").astype(np.uint8)[:, np.newaxis]
        fixed = np.arange(classes, dtype=np.uint8)[:, np.newaxis]
    head = min(count, len(fixed))
    labels[:head] = fixed[:head]
    return labels


def phantom_batches(subset: Subset, size: int, rows: SplitCounts, split: str, seed: int = 0) -> Iterator[Bytes]:
    """Generate the images of one split in row order, about half a MiB at a time.

    Args:
        subset: A subset of the catalog.
        size: One of its sizes.
        rows: Number of rows of each split.
        split: ``train``, ``validation`` or ``test``.
        seed: Seed of the phantom.

    Yields:
        uint8 arrays of shape (n, *image_shape).

    Raises:
        CatalogError: The subset is not published in that size.
    """
    shape = subset.file(size).image_shape
    labels = phantom_labels(subset, rows, split, seed)
    geometry = _bits(subset, split, seed, stream=1)
    noise = _bits(subset, split, seed, stream=1 + size)
    row_bytes = math.prod(shape)
    step = max(1, _BATCH_BYTES // row_bytes)
    for start in range(0, len(labels), step):
        part = labels[start : start + step]
        field, cut = _field(subset, size, part, _draw(geometry, len(part), _DRAWS))
        if _is_mask(subset):
            pixels = (field >= cut).astype(np.uint8) * np.uint8(255)
        else:
            pixels = field + _sensor_noise(noise, field.size).reshape(field.shape)
            if _has_black(subset):
                pixels *= field >= cut
        yield pixels.reshape(len(part), *shape)


def write_phantom(
    path: Path, subset: Subset, size: int, rows: SplitCounts, seed: int = 0, *, compresslevel: int = 1
) -> None:
    """Write a phantom NPZ file, atomically and in bounded memory.

    Members, their order, dtypes and shapes are those of the official files. Pixels and labels depend only on the
    arguments; the bytes of the file also depend on the zlib version.

    Args:
        path: Path of the file, in an existing folder.
        subset: A subset of the catalog.
        size: One of its sizes.
        rows: Number of rows of each split. Every class occurs in a split of at least `minimum_rows` rows.
        seed: Any non-negative integer.
        compresslevel: Deflate level 1 to 9, or 0 for uncompressed members.

    Raises:
        CatalogError: The subset is not published in that size.
        SourceError: Rows, seed or level are out of range, or the file cannot be written.
    """
    if min(rows.train, rows.validation, rows.test) < 0 or seed < 0 or not 0 <= compresslevel <= 9:
        raise SourceError(
            f"no phantom for {rows}, seed {seed}, level {compresslevel}: choose rows and seed >= 0, level 0 to 9"
        )
    subset.file(size)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as stream:
            method = zipfile.ZIP_DEFLATED if compresslevel else zipfile.ZIP_STORED
            with zipfile.ZipFile(stream, "w", method, compresslevel=compresslevel or None) as archive:
                _write_members(archive, subset, size, rows, seed)
        temporary.replace(path)
    except OSError as error:
        raise SourceError(
            f"cannot write {path} ({error.strerror}): free some space or choose another folder"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _write_members(archive: zipfile.ZipFile, subset: Subset, size: int, rows: SplitCounts, seed: int) -> None:
    kinds = ("images", "labels")
    # Official 2D files store all images and then all labels; 3D files store images and labels split by split.
    order = [(s, k) for k in kinds for s in SPLITS] if subset.ndim == 2 else [(s, k) for s in SPLITS for k in kinds]
    shape = subset.file(size).image_shape
    for split, kind in order:
        # Members opened by name are dated 1980-01-01, like those of `numpy.savez`, so the bytes contain no clock time.
        with archive.open(f"{NPZ_SPLITS[split]}_{kind}.npy", "w", force_zip64=True) as member:
            if kind == "labels":
                labels = phantom_labels(subset, rows, split, seed)
                _write_header(member, labels.shape)
                member.write(labels.tobytes())
            else:
                _write_header(member, (rows[split], *shape))
                for batch in phantom_batches(subset, size, rows, split, seed):
                    member.write(batch.data)


def _write_header(member: IO[bytes], shape: tuple[int, ...]) -> None:
    npy.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _is_mask(subset: Subset) -> bool:
    """Whether the modality is a shape, so that volumes contain only 0 and 255."""
    return subset.modality.lower().startswith("shape")


def _has_black(subset: Subset) -> bool:
    """Whether the modality is computed tomography, where some rows have flat black surroundings."""
    return "CT" in subset.modality.split()


def _bits(subset: Subset, split: str, seed: int, stream: int) -> np.random.PCG64:
    """Create an independent generator. Only its raw output is used, which NumPy guarantees never to change."""
    return np.random.PCG64(
        np.random.SeedSequence([seed, zlib.crc32(subset.flag.encode()), SPLITS.index(split), stream])
    )


def _draw(bits: np.random.PCG64, rows: int, columns: int) -> Ints:
    """Draw integers from 0 to 1023, shape (rows, columns).

    `columns` is a multiple of 4, the draws per raw number, so results do not depend on the batch size.
    """
    raw = np.asarray(bits.random_raw(rows * columns // 4), dtype="<u8")
    return (raw.view("<u2") & (_FULL_TURN - 1)).astype(np.int32).reshape(rows, columns)


def _sensor_noise(bits: np.random.PCG64, count: int) -> Bytes:
    """Draw `count` bytes of triangular noise from 0 to 14, with standard deviation 3.2."""
    raw = np.asarray(bits.random_raw(-(-count // 8)), dtype="<u8").view(np.uint8)[:count]
    noise = raw & np.uint8(7)
    raw >>= np.uint8(3)
    raw &= np.uint8(7)
    noise += raw
    return noise


def _between(draw: Ints, low: int, high: int) -> Ints:
    """Scale draws from 0 to 1023 to [low, high), as a column that broadcasts along a profile."""
    return (low + (draw * (high - low) >> 10))[:, np.newaxis]


def _bell(axis: Ints, center: Ints, width: Ints) -> Ints:
    """Gaussian profile, 0 to 255; center and standard deviation in 1/1024 of the edge."""
    profile: Ints = np.take(_BELL, np.abs(axis - center) * ((1 << 16) // width) >> 10, mode="clip")
    return profile


def _wave(axis: Ints, pitch: Ints, phase: Ints) -> Ints:
    """Cosine profile, -127 to 127; pitch in 1/16 of a cycle per edge, phase in 1/1024 of a turn."""
    profile: Ints = np.take(_WAVE, ((axis * pitch >> 4) + phase) & (_FULL_TURN - 1))
    return profile


class _Canvas:
    """Sums separable terms, in 1/256 of a gray level.

    The sum is computed modulo 2**16. It is never negative in the end, although single terms may be.
    """

    def __init__(self, rows: int, size: int, rest: int) -> None:
        self._sum = np.zeros((rows, size, rest), np.uint16)
        self._term = np.empty_like(self._sum)

    def add(self, profiles: list[Ints], gain: Ints) -> None:
        """Add a term: one profile per spatial axis, each (n, size) within +-255, and a gain of shape (n, channels)."""
        right = profiles[1]
        for profile in profiles[2:]:
            right = (right[:, :, np.newaxis] * profile[:, np.newaxis, :] >> 8).reshape(len(right), -1)
        right = (right[:, :, np.newaxis] * gain[:, np.newaxis, :] >> 8).reshape(len(right), -1)
        left = profiles[0].astype(np.uint16)
        np.multiply(left[:, :, np.newaxis], right.astype(np.uint16)[:, np.newaxis, :], out=self._term)
        self._sum += self._term

    def gray(self) -> Bytes:
        """The sum in whole gray levels, shape (n, size, rest)."""
        self._sum >>= np.uint16(8)
        return self._sum.astype(np.uint8)


def _field(subset: Subset, size: int, labels: Bytes, draws: Ints) -> tuple[Bytes, Bytes]:
    """Noise-free brightness of a batch, (n, size, rest) from 0 to 240, and the level below which pixels are black."""
    rows, channels, classes = len(labels), subset.channels, len(subset.labels)
    axis = ((2 * np.arange(size) + 1) * 512 // size).astype(np.int32)[np.newaxis, :]
    column = [np.ascontiguousarray(draws[:, i]) for i in range(_DRAWS)]
    axes = range(subset.ndim)
    canvas = _Canvas(rows, size, size ** (subset.ndim - 1) * channels)
    present = labels if subset.task is Task.MULTI_LABEL else np.eye(classes, dtype=np.uint8)[labels[:, 0]]

    if _is_mask(subset):
        kind = labels[:, :1].astype(np.int32)
        for start, extra in ((0, 90 * kind // max(1, classes - 1)), (8, 0 * kind)):
            bells = [
                _bell(axis, _between(column[start + i], 400, 624), 40 + extra + _between(column[start + 4 + i], 0, 30))
                for i in axes
            ]
            canvas.add(bells, np.full((rows, 1), 120, np.int32))
        return canvas.gray(), np.full((rows, 1, 1), 64, np.uint8)

    tint = np.concatenate([_between(column[i], 176, 256) for i in range(channels)], axis=1)
    whole = np.full((rows, size), 255, np.int32)
    level = _between(column[3], 58, 78)
    canvas.add([whole] * subset.ndim, level * tint >> 8)
    glow = [_bell(axis, _between(column[4 + i], 400, 624), _between(column[7 + i], 240, 420)) for i in axes]
    canvas.add(glow, _between(column[10], 36, 52) * tint >> 8)
    for start in (11, 17):
        drift = [
            _wave(axis, _between(column[start + i], 4, 24), _between(column[start + 3 + i], 0, 1024)) for i in axes
        ]
        canvas.add(drift, np.full((rows, channels), 40 if subset.ndim == 2 else 80, np.int32))
    if subset.task is not Task.MULTI_LABEL:
        _add_grating(canvas, axis, subset, labels[:, :1].astype(np.int32), column[23:26])
    _add_spots(canvas, axis, subset, present, column[26:31])
    # In one row of four, pixels are black where the glow has faded; in the others, the level is below every value.
    shade = np.where(column[31] < _FULL_TURN // 4, (level[:, 0] + 6) * tint[:, 0] // 256, 0)
    return canvas.gray(), shade.astype(np.uint8)[:, np.newaxis, np.newaxis]


def _add_grating(canvas: _Canvas, axis: Ints, subset: Subset, kind: Ints, column: list[Ints]) -> None:
    """Add an oblique grating in the last two axes under a wide window; its pitch grows with the class id."""
    pitch = 32 + 96 * kind // len(subset.labels) + _between(column[0], 0, 6)
    phase, slant = _between(column[1], 0, 1024), _between(column[2], -24, 24)
    window = _bell(axis, np.full_like(kind, 512), np.full_like(kind, 300))
    gain = np.full((len(kind), subset.channels), 100, np.int32)
    quarter = _FULL_TURN // 4
    depth = [window] * (subset.ndim - 2)
    # cos(a + b) = cos a cos b - sin a sin b
    for shift, sign in ((0, 1), (quarter, -1)):
        down, across = _wave(axis, pitch, phase - shift), _wave(axis, slant, np.full_like(kind, -shift))
        canvas.add([*depth, window * down >> 8, window * across >> 8], sign * gain)


def _add_spots(canvas: _Canvas, axis: Ints, subset: Subset, present: Bytes, column: list[Ints]) -> None:
    """Add a bright spot for the class, or one per finding, at a position and with a width and hue specific to it."""
    classes, channels = len(subset.labels), subset.channels
    many = subset.task is Task.MULTI_LABEL
    levels = -(-classes // 2)
    jitter = [_between(draw, -28, 28) for draw in column[:3]]
    side = np.where(column[3][:, np.newaxis] < _FULL_TURN // 2, -1, 1).astype(np.int32)
    swell = _between(column[4], 0, 16)
    hue = np.array(
        [[_WAVE[(k * _FULL_TURN // classes + c * 341) % _FULL_TURN] for c in range(channels)] for k in range(classes)]
    )
    gain = np.where(channels == 1, 44, 24 + 20 * hue // 127).astype(np.int32)
    height = np.array([160 + (2 * (k // 2) + 1) * 352 // levels for k in range(classes)], np.int32)
    narrow = np.array([44 + 40 * k // classes for k in range(classes)], np.int32)

    x = [512 + jitter[1], 512 + 250 * side + jitter[1]]
    if many:
        # All findings of a row have the same width, so those of one column are summed along the height first.
        width = 44 + swell
        depth = [_bell(axis, 512 + jitter[2], width)] * (subset.ndim - 2)
        for parity, across in enumerate(reversed(x)):
            down = np.zeros((len(present), axis.shape[1]), np.int32)
            for k in range(parity, classes, 2):
                positive = np.flatnonzero(present[:, k])
                down[positive] += _bell(axis, height[k] + jitter[0][positive], width[positive])
            profiles = [*depth, down, _bell(axis, across, width)]
            canvas.add(profiles, np.broadcast_to(gain[parity], (len(present), channels)))
    else:
        kind = present.argmax(axis=1)
        width = narrow[kind, np.newaxis] + swell
        centers = [512 + jitter[2], height[kind, np.newaxis] + jitter[0], np.where(kind[:, np.newaxis] % 2, *x)]
        canvas.add([_bell(axis, center, width) for center in centers[-subset.ndim :]], gain[kind])
