"""The compiled part of the PNG encoder: filters and run-length deflate of many images in one call.

An image library encodes for any image and any decoder; here all images are small, 8 bits deep and alike, and what
counts is the whole data set. The filter of a scanline is chosen by the least sum of absolute differences, as the PNG
specification suggests. The deflate stream (RFC 1951) holds literals and runs of one byte under Huffman codes made for
each block: filtered medical images have hardly any other repeats, so a search for them costs most of the time of an
encoder and finds about nothing. ``scripts/bench/bench_encode.py`` prints what that gives against Pillow.

numba compiles the functions at their first use, which takes some 20 seconds, and keeps the result on disk. They stand
in one file, since it looks for changes in the file of the outermost function alone. They run without the GIL.
"""

from collections.abc import Callable
from math import prod
from typing import Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from medmnist_hf.array_types import Int64Array, UInt8Array

_Function = TypeVar("_Function", bound=Callable[..., object])


def _inner(function: _Function) -> _Function:
    """Compile a function that only compiled ones call: it needs no way in from Python, and no place on disk."""
    compiler = njit(nogil=True, no_cpython_wrapper=True, error_model="numpy")  # type: ignore[call-overload]
    return cast(_Function, compiler(function))


def _outermost(function: _Function) -> _Function:
    """Compile the function that Python calls, with all that it calls, and keep the result on disk."""
    return cast(_Function, njit(nogil=True, cache=True, error_model="numpy")(function))


_BLOCK: Final = 1 << 15
"""Bytes of scanlines under one Huffman code: few enough to follow the image, enough to pay for its header."""
_LITERALS: Final = 286
_END: Final = 256
_MAX_BITS: Final = 15
_MAX_HEADER_BITS: Final = 7
_SHORTEST_RUN: Final = 3
_LONGEST_RUN: Final = 258
_FRAME: Final = 8 + 25 + 12 + 6 + 12
"""Bytes of a file that hold no scanlines: signature, IHDR, frame of IDAT, zlib header and checksum, IEND."""


def _run_symbols() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Symbol, number of extra bits and their value for each run length 0..258 (RFC 1951, section 3.2.5)."""
    symbol, bits, extra = (np.zeros(_LONGEST_RUN + 1, np.int32) for _ in range(3))
    length = _SHORTEST_RUN
    for code in range(257, 285):
        width = max(0, (code - 261) // 4)
        for value in range(1 << width):
            if length < _LONGEST_RUN:
                symbol[length], bits[length], extra[length] = code, width, value
            length += 1
    symbol[_LONGEST_RUN] = 285
    return symbol, bits, extra


_RUN_SYMBOL, _RUN_BITS, _RUN_EXTRA = _run_symbols()
_FIXED_LENGTHS = np.repeat(np.array([8, 9, 7, 8], np.int64), [144, 112, 24, 8])
_HEADER_ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15], np.int64)


@_inner
def _costs(above: UInt8Array, line: UInt8Array, pixel: int) -> tuple[int, int, int, int, int]:
    """Sums of absolute signed residuals of a scanline under the five filters; both lines begin with an empty pixel."""
    none, sub, up, average, paeth = 0, 0, 0, 0, 0
    for i in range(len(line) - pixel):
        x, a = np.int32(line[i + pixel]), np.int32(line[i])
        b, c = np.int32(above[i + pixel]), np.int32(above[i])
        none += int(abs(np.int32(np.int8(x))))
        sub += int(abs(np.int32(np.int8(x - a))))
        up += int(abs(np.int32(np.int8(x - b))))
        average += int(abs(np.int32(np.int8(x - ((a + b) >> 1)))))
        pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - c - c)
        nearest = a if pa <= pb and pa <= pc else (b if pb <= pc else c)
        paeth += int(abs(np.int32(np.int8(x - nearest))))
    return none, sub, up, average, paeth


@_inner
def _filter(image: UInt8Array, pixel: int, lines: UInt8Array) -> None:
    """Write the filtered scanlines of an image ``(H, row bytes)`` to `lines`, each behind the number of its filter."""
    height, width = image.shape
    above, line = np.zeros(width + pixel, np.uint8), np.zeros(width + pixel, np.uint8)
    at = 0
    for y in range(height):
        for i in range(width):
            line[i + pixel] = image[y, i]
        none, sub, up, average, paeth = _costs(above, line, pixel)
        # Readers undo Paeth slowest, in every epoch: it must be a tenth better than the others to be worth it.
        paeth += paeth // 10
        least = min(none, sub, up, average, paeth)
        out = lines[at + 1 : at + 1 + width]
        if least == none:
            lines[at] = 0
            for i in range(width):
                out[i] = line[i + pixel]
        elif least == sub:
            lines[at] = 1
            for i in range(width):
                out[i] = line[i + pixel] - line[i]
        elif least == up:
            lines[at] = 2
            for i in range(width):
                out[i] = line[i + pixel] - above[i + pixel]
        elif least == average:
            lines[at] = 3
            for i in range(width):
                out[i] = line[i + pixel] - ((np.int32(line[i]) + np.int32(above[i + pixel])) >> 1)
        else:
            lines[at] = 4
            for i in range(width):
                a, b, c = np.int32(line[i]), np.int32(above[i + pixel]), np.int32(above[i])
                pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - c - c)
                nearest = a if pa <= pb and pa <= pc else (b if pb <= pc else c)
                out[i] = line[i + pixel] - nearest
        above, line = line, above
        at += width + 1


@_inner
def _tokenize(data: UInt8Array, start: int, stop: int, tokens: npt.NDArray[np.uint16], counts: Int64Array) -> int:
    """Cut ``data[start:stop]`` into literals (the value) and runs of the byte before (256 + length); count symbols."""
    counts.fill(0)
    count, i = 0, start
    while i < stop:
        value = data[i]
        # One test that hardly ever holds is quicker than three that often do.
        if 0 < i < stop - 2 and (value == data[i - 1]) & (value == data[i + 1]) & (value == data[i + 2]):
            last = min(stop, i + _LONGEST_RUN)
            end = i + 3
            while end < last and data[end] == value:
                end += 1
            tokens[count] = 256 + end - i
            counts[_RUN_SYMBOL[end - i]] += 1
            i = end
        else:
            tokens[count] = value
            counts[value] += 1
            i += 1
        count += 1
    counts[_END] = 1
    return count


@_inner
def _sort(keys: Int64Array) -> None:
    """Sort a few hundred numbers in place (Shell sort; compiling the one of numpy takes longer than all else here)."""
    gap = len(keys) // 2
    while gap:
        for i in range(gap, len(keys)):
            key, j = keys[i], i
            while j >= gap and keys[j - gap] > key:
                keys[j] = keys[j - gap]
                j -= gap
            keys[j] = key
        gap //= 2


@_inner
def _code_lengths(counts: Int64Array, limit: int, lengths: Int64Array) -> None:
    """Lengths of a Huffman code for symbols that occur, none above `limit`; at least two symbols must occur."""
    lengths.fill(0)
    # Count and symbol in one key: ties are broken by symbol, so the code does not depend on how keys are sorted.
    keys = np.empty(len(counts), np.int64)
    found = 0
    for s in range(len(counts)):
        if counts[s]:
            keys[found] = counts[s] * 512 + s
            found += 1
    keys = keys[:found]
    _sort(keys)
    n = len(keys)
    weight, parent = np.empty(2 * n - 1, np.int64), np.empty(2 * n - 1, np.int64)
    for i in range(n):
        weight[i] = keys[i] // 512
    leaf, inner = 0, n
    for node in range(n, 2 * n - 1):
        total = 0
        for _ in range(2):
            if leaf < n and (inner >= node or weight[leaf] <= weight[inner]):
                child = leaf
                leaf += 1
            else:
                child = inner
                inner += 1
            total += weight[child]
            parent[child] = node
        weight[node] = total
    depth = np.zeros(2 * n - 1, np.int64)
    of_length = np.zeros(64, np.int64)
    for node in range(2 * n - 3, -1, -1):
        depth[node] = depth[parent[node]] + 1
        if node < n:
            of_length[min(depth[node], limit)] += 1
    # Codes that were cut to the limit take too much of the code space: lengthen shorter ones until all fit.
    space = 0
    for bits in range(1, limit + 1):
        space += of_length[bits] << (limit - bits)
    while space > 1 << limit:
        bits = limit - 1
        while not of_length[bits]:
            bits -= 1
        of_length[bits] -= 1
        of_length[bits + 1] += 2
        of_length[limit] -= 1
        space -= 1
    symbol = 0
    for bits in range(limit, 0, -1):
        for _ in range(of_length[bits]):
            lengths[keys[symbol] % 512] = bits
            symbol += 1


@_inner
def _codes(lengths: Int64Array, codes: Int64Array) -> None:
    """Canonical codes of given lengths (RFC 1951, section 3.2.2), first bit lowest as the stream wants them."""
    of_length, following = np.zeros(_MAX_BITS + 1, np.int64), np.zeros(_MAX_BITS + 2, np.int64)
    for length in lengths:
        of_length[length] += 1
    of_length[0] = 0
    for bits in range(1, _MAX_BITS + 1):
        following[bits + 1] = (following[bits] + of_length[bits]) << 1
    for symbol in range(len(lengths)):
        bits = lengths[symbol]
        if bits:
            code, reverse = following[bits], 0
            following[bits] += 1
            for _ in range(bits):
                reverse = reverse << 1 | code & 1
                code >>= 1
            codes[symbol] = reverse


@_inner
def _put(out: UInt8Array, state: Int64Array, value: int, bits: int) -> None:
    """Append up to 16 bits to a stream; `state` is the position in bytes, the bits not yet written, their number."""
    state[1] |= value << state[2]
    state[2] += bits
    while state[2] >= 8:
        out[state[0]] = state[1] & 255
        state[0] += 1
        state[1] >>= 8
        state[2] -= 8


@_inner
def _describe(lengths: Int64Array, used: int, items: Int64Array, counts: Int64Array) -> int:
    """The lengths of both codes as run-length symbols 0..18 (RFC 1951, section 3.2.7): symbol + 32 x extra value."""
    counts.fill(0)
    count, i = 0, 0
    while i < used:
        value, end = lengths[i], i + 1
        while end < used and lengths[end] == value:
            end += 1
        left = end - i
        if value and left:
            items[count], left, count = value, left - 1, count + 1
            counts[value] += 1
        while left:
            if value and left >= 3:
                step = min(left, 6)
                symbol, extra = 16, step - 3
            elif not value and left >= 11:
                step = min(left, 138)
                symbol, extra = 18, step - 11
            elif not value and left >= 3:
                step = min(left, 10)
                symbol, extra = 17, step - 3
            else:
                step, symbol, extra = 1, value, 0
            items[count] = symbol + 32 * extra
            counts[symbol] += 1
            count, left = count + 1, left - step
        i = end
    return count


@_inner
def _put_tokens(
    out: UInt8Array,
    state: Int64Array,
    tokens: npt.NDArray[np.uint16],
    codes: Int64Array,
    lengths: Int64Array,
    distance_bits: int,
) -> None:
    """Append tokens and the end of the block; the code of distance 1 is that many zeros."""
    at, pending, bits = state[0], np.uint64(state[1]), state[2]
    for token in tokens:
        if token < 256:
            pending |= np.uint64(codes[token]) << np.uint64(bits)
            bits += lengths[token]
        else:
            length = token - 256
            symbol = _RUN_SYMBOL[length]
            pending |= np.uint64(codes[symbol]) << np.uint64(bits)
            bits += lengths[symbol]
            pending |= np.uint64(_RUN_EXTRA[length]) << np.uint64(bits)
            bits += _RUN_BITS[length] + distance_bits
        while bits >= 32:
            for i in range(4):
                out[at + i] = (pending >> np.uint64(8 * i)) & np.uint64(255)
            at += 4
            pending >>= np.uint64(32)
            bits -= 32
    state[0], state[1], state[2] = at, np.int64(pending), bits
    _put(out, state, codes[_END], lengths[_END])


@_inner
def _put_stored(out: UInt8Array, state: Int64Array, data: UInt8Array, final: int) -> None:
    """Append a block of bytes as they are; blocks are far below the 65,535 bytes that the format allows."""
    _put(out, state, final, 3)
    if state[2]:
        _put(out, state, 0, 8 - state[2])
    for value in (len(data) & 255, len(data) >> 8, ~len(data) & 255, (~len(data) >> 8) & 255):
        _put(out, state, value, 8)
    for i in range(len(data)):
        out[state[0] + i] = data[i]
    state[0] += len(data)


@_inner
def _extra_bits(symbol: int) -> int:
    """Width of what follows a symbol of `_describe`."""
    return 2 if symbol == 16 else 3 if symbol == 17 else 7 if symbol == 18 else 0


@_inner
def _deflate(data: UInt8Array, out: UInt8Array, at: int) -> int:
    """Write a zlib stream (RFC 1950) of literals and runs to ``out[at:]``; where it ends."""
    out[at], out[at + 1] = 0x78, 0x01
    state = np.zeros(3, np.int64)
    state[0] = at + 2
    counts, codes = np.empty(_LITERALS, np.int64), np.zeros(len(_FIXED_LENGTHS), np.int64)
    lengths = np.empty(_LITERALS + 1, np.int64)
    items, item_counts = np.empty(_LITERALS + 1, np.int64), np.empty(19, np.int64)
    item_lengths, item_codes = np.empty(19, np.int64), np.zeros(19, np.int64)
    blocks = max(1, (len(data) + _BLOCK // 2) // _BLOCK)
    tokens = np.empty(len(data) // blocks + 1, np.uint16)
    for block in range(blocks):
        start, stop = len(data) * block // blocks, len(data) * (block + 1) // blocks
        final = 1 if block == blocks - 1 else 0
        count = _tokenize(data, start, stop, tokens, counts)
        _code_lengths(counts, _MAX_BITS, lengths[:_LITERALS])
        used = _LITERALS
        while not lengths[used - 1]:
            used -= 1
        lengths[used] = 1  # the code of distance 1
        item_count = _describe(lengths, used + 1, items, item_counts)
        lengths[used] = 0
        _code_lengths(item_counts, _MAX_HEADER_BITS, item_lengths)
        told = 19
        while not item_lengths[_HEADER_ORDER[told - 1]]:
            told -= 1
        own, fixed = 17 + 3 * told, 3
        for symbol in range(19):
            own += item_counts[symbol] * (item_lengths[symbol] + _extra_bits(symbol))
        for symbol in range(_LITERALS):
            own += counts[symbol] * lengths[symbol]
            fixed += counts[symbol] * _FIXED_LENGTHS[symbol]
        for i in range(count):
            if tokens[i] >= 256:
                own += _RUN_BITS[tokens[i] - 256] + 1
                fixed += _RUN_BITS[tokens[i] - 256] + 5
        if min(own, fixed) >= 8 * (stop - start) + 40:
            _put_stored(out, state, data[start:stop], final)
            continue
        if fixed <= own:
            _put(out, state, final | 1 << 1, 3)
            _codes(_FIXED_LENGTHS, codes)
            _put_tokens(out, state, tokens[:count], codes, _FIXED_LENGTHS, 5)
            continue
        _put(out, state, final | 2 << 1, 3)
        _put(out, state, used - 257, 5)
        _put(out, state, 0, 5)
        _put(out, state, told - 4, 4)
        for i in range(told):
            _put(out, state, item_lengths[_HEADER_ORDER[i]], 3)
        _codes(item_lengths, item_codes)
        for i in range(item_count):
            symbol = items[i] % 32
            _put(out, state, item_codes[symbol], item_lengths[symbol])
            _put(out, state, items[i] // 32, _extra_bits(symbol))
        _codes(lengths[:_LITERALS], codes)
        _put_tokens(out, state, tokens[:count], codes, lengths, 1)
    if state[2]:
        _put(out, state, 0, 8 - state[2])
    checksum, end = _adler(data), int(state[0])
    for i in range(4):
        out[end + i] = (checksum >> (24 - 8 * i)) & 255
    return end + 4


@_inner
def _adler(data: UInt8Array) -> int:
    """Adler-32 (RFC 1950, section 8.2)."""
    low, high = 1, 0
    for start in range(0, len(data), 4096):
        part = data[start : start + 4096]
        total, weighted = 0, 0
        for i in range(len(part)):
            total += int(part[i])
            weighted += int(part[i]) * i
        high = (high + len(part) * (low + total) - weighted) % 65521
        low = (low + total) % 65521
    return high << 16 | low


@_outermost
def _compress(images: UInt8Array, pixel: int, out: UInt8Array, ends: Int64Array) -> None:
    """Write the zlib streams of images ``(n, H, row bytes)`` one behind the other to `out`, and where each ends."""
    n, height, row_bytes = images.shape
    lines = np.empty(height * (row_bytes + 1), np.uint8)
    at = 0
    for k in range(n):
        _filter(images[k], pixel, lines)
        at = _deflate(lines, out, at)
        ends[k] = at


def scanline_streams(images: UInt8Array, pixel_bytes: int) -> tuple[UInt8Array, Int64Array]:
    """Filter and deflate images, losslessly and always to the same bytes.

    Args:
        images: uint8 scanlines ``(n, H, row bytes)``, C order.
        pixel_bytes: 1 for gray-scale, 3 for RGB.

    Returns:
        The zlib streams of the images one behind the other, and the offset at which each ends, ``(n,)``.
    """
    n, height, row_bytes = images.shape
    out = np.empty(n * (height * row_bytes + overhead((height, row_bytes))), np.uint8)
    ends = np.empty(n, np.int64)
    _compress(images, pixel_bytes, out, ends)
    return out, ends


def overhead(image_shape: tuple[int, ...]) -> int:
    """Bytes by which a PNG file exceeds its pixels when they cannot be compressed, and never more."""
    height, size = image_shape[0], prod(image_shape)
    blocks = max(1, (size + height + _BLOCK // 2) // _BLOCK)
    return _FRAME + height + 6 * blocks
