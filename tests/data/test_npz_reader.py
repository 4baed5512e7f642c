"""The reader equals NumPy on every valid variant, gives a one-line error for every fault, and bounds its memory."""

import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, SplitCounts, Subset, Task, subset, subsets
from medmnist_hf.data.npz_reader import NpzReader
from medmnist_hf.errors import ReadError
from tests.fixtures.bad_npz import FAULTS, PLACES, Fault
from tests.fixtures.npz import COUNTS, Array, NpzFile, arrays_of, npy, npy_with_header

BREAST = subset("breastmnist")
REMEDIES = ("fetch", "save it", "check the path", "pass --", "is this", "is it")


def blocks_of(rows: int, block: int) -> list[int]:
    return [min(block, rows - start) for start in range(0, rows, block)]


def read_all(
    path: Path, entry: Subset, size: int = 28, counts: SplitCounts | None = None, block: int = 3
) -> dict[str, Array]:
    """Read all six arrays, by the names NumPy has for them."""
    reader = NpzReader(path, entry, size, counts)
    arrays: dict[str, Array] = {}
    for split, prefix in NPZ_SPLITS.items():
        parts = list(reader.images(split, blocks_of(reader.rows(split), block)))
        assert all(len(part) <= block for part in parts)
        arrays[f"{prefix}_images"] = np.concatenate(parts)
        arrays[f"{prefix}_labels"] = reader.labels(split)
    return arrays


def assert_equal(arrays: dict[str, Array], expected: dict[str, Array]) -> None:
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        if name.endswith("images"):
            assert arrays[name].dtype == np.uint8
            assert np.array_equal(arrays[name], array)
        else:
            assert arrays[name].dtype == np.uint8
            assert np.array_equal(arrays[name].reshape(array.shape), array)


def line(caught: pytest.ExceptionInfo[ReadError], path: Path) -> str:
    """Check that the message of an error is one line, begins with the file and ends with a remedy; return it."""
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(str(path))
    assert any(remedy in message.rpartition(": ")[2] for remedy in REMEDIES), message
    return message


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
@pytest.mark.parametrize("block", [1, 97, 10_000])
def test_official_files(real_data: Path, flag: str, block: int) -> None:
    path, entry = real_data / f"{flag}.npz", subset(flag)
    with np.load(path, allow_pickle=False) as npz:
        assert_equal(read_all(path, entry, counts=entry.counts, block=block), dict(npz))


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_every_subset(tmp_path: Path, entry: Subset) -> None:
    arrays = arrays_of(entry)
    NpzFile(arrays).write(tmp_path / "a.npz")
    read = read_all(tmp_path / "a.npz", entry, counts=COUNTS)
    assert_equal(read, arrays)
    width = (len(entry.labels),) if entry.task is Task.MULTI_LABEL else ()
    assert read["val_labels"].shape == (COUNTS.validation, *width)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("force_zip64", [False, True], ids=["zip32", "zip64"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)], ids=["npy1", "npy2", "npy3"])
def test_valid_variants(
    tmp_path: Path, method: int, force_zip64: bool, version: tuple[int, int], recwarn: pytest.WarningsRecorder
) -> None:
    arrays = arrays_of(BREAST)
    file = NpzFile({}, method)
    file.members = {f"{name}.npy": npy(array, version) for name, array in arrays.items()}
    file.write(tmp_path / "a.npz", force_zip64=force_zip64)
    assert_equal(read_all(tmp_path / "a.npz", BREAST, counts=COUNTS), arrays)
    assert not list(recwarn)


@pytest.mark.parametrize("order", list(permutations(range(6)))[::97], ids=str)
def test_any_order_of_members(tmp_path: Path, order: tuple[int, ...]) -> None:
    arrays = arrays_of(BREAST)
    names = list(arrays)
    NpzFile(arrays).write(tmp_path / "a.npz", order=[f"{names[i]}.npy" for i in order])
    assert_equal(read_all(tmp_path / "a.npz", BREAST, counts=COUNTS), arrays)


@pytest.mark.parametrize("dtype", ["|u1", "|i1", "<i8", ">i8", ">u2", "<u4", "<i2"])
@pytest.mark.parametrize("flat", [False, True], ids=["N1", "N"])
def test_labels_of_any_integer_type(tmp_path: Path, dtype: str, flat: bool) -> None:
    entry = subset("pathmnist")
    arrays = arrays_of(entry)
    file = NpzFile(arrays)
    for name in ("train_labels", "val_labels", "test_labels"):
        file.put(name, arrays[name].astype(dtype).reshape((-1,) if flat else (-1, 1)))
    file.write(tmp_path / "a.npz")
    assert_equal(read_all(tmp_path / "a.npz", entry, counts=COUNTS), arrays)


def test_other_members_are_ignored(tmp_path: Path) -> None:
    arrays = arrays_of(BREAST)
    file = NpzFile(arrays)
    file.put("notes", np.array([{"never": "loaded"}], object))
    file.members["../escape.txt"] = b"not extracted"
    file.methods["notes.npy"] = zipfile.ZIP_LZMA
    file.write(tmp_path / "a.npz")
    assert_equal(read_all(tmp_path / "a.npz", BREAST, counts=COUNTS), arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_files_written_by_numpy(tmp_path: Path) -> None:
    arrays = arrays_of(subset("chestmnist"))
    np.savez(tmp_path / "stored.npz", allow_pickle=False, **arrays)
    np.savez_compressed(tmp_path / "deflated.npz", allow_pickle=False, **arrays)
    for path in tmp_path.iterdir():
        assert_equal(read_all(path, subset("chestmnist"), counts=COUNTS), arrays)


def test_fortran_flag_of_one_dimension(tmp_path: Path) -> None:
    arrays = arrays_of(BREAST)
    file = NpzFile(arrays)
    labels = arrays["test_labels"].ravel()
    file.put("test_labels", npy(labels).replace(b"'fortran_order': False", b"'fortran_order': True "))
    file.write(tmp_path / "a.npz")
    assert_equal(read_all(tmp_path / "a.npz", BREAST, counts=COUNTS), arrays)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_faults(tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.npz"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name")
        fault.write(path)
    with pytest.raises(ReadError, match=fault.says) as caught:
        read_all(path, subset(fault.flag), counts=COUNTS)
    message = line(caught, path)
    assert not fault.member or message.startswith(f"{path}: member {fault.member} ")
    assert list(tmp_path.iterdir()) == [path]


def test_there_are_at_least_thirty_faults() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 30


@pytest.mark.parametrize(("name", "make", "says"), PLACES, ids=[place[0] for place in PLACES])
def test_a_path_that_is_not_a_file(tmp_path: Path, name: str, make: object, says: str) -> None:
    assert callable(make), name
    path = tmp_path / "a.npz"
    make(path)
    with pytest.raises(ReadError, match=says) as caught:
        NpzReader(path, BREAST, 28, None)
    line(caught, path)


def test_a_file_that_shrinks_or_vanishes_after_opening(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    NpzFile(arrays_of(BREAST), zipfile.ZIP_STORED).write(path)
    reader = NpzReader(path, BREAST, 28, COUNTS)
    images = reader.images("train", [1] * COUNTS.train)
    next(images)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ReadError, match="too early") as caught:
        list(images)
    line(caught, path)
    path.unlink()
    with pytest.raises(ReadError, match="cannot be opened") as caught:
        list(reader.images("train", [COUNTS.train]))
    line(caught, path)


def test_without_counts_any_number_of_rows_is_accepted(tmp_path: Path) -> None:
    counts = SplitCounts(2, 5, 1)
    arrays = arrays_of(BREAST, counts=counts)
    NpzFile(arrays).write(tmp_path / "a.npz")
    assert_equal(read_all(tmp_path / "a.npz", BREAST), arrays)
    with pytest.raises(ReadError, match=r"member train_images\.npy has 2 rows where the catalog has 546"):
        NpzReader(tmp_path / "a.npz", BREAST, 28, BREAST.counts)


def test_a_bad_crc_is_found_before_the_last_block_is_yielded(tmp_path: Path) -> None:
    file = NpzFile(arrays_of(BREAST))
    file.directory["train_images.npy"] = {"CRC": 1}
    file.write(tmp_path / "a.npz")
    images = NpzReader(tmp_path / "a.npz", BREAST, 28, COUNTS).images("train", [3, 4])
    assert len(next(images)) == 3
    with pytest.raises(ReadError, match="fails its CRC"):
        next(images)


def test_splits_can_be_streamed_concurrently(tmp_path: Path) -> None:
    """Streams are interleaved, then read in several threads: each keeps its own position in the file."""
    entry, counts = subset("pathmnist"), SplitCounts(300, 200, 100)
    arrays = arrays_of(entry, counts=counts)
    NpzFile(arrays).write(tmp_path / "a.npz")
    reader = NpzReader(tmp_path / "a.npz", entry, 28, counts)
    streams = [reader.images(split, [20] * (counts[split] // 20)) for split in SPLITS]
    for rows, (a, b, c) in enumerate(zip(*streams, strict=False)):
        part = slice(20 * rows, 20 * rows + 20)
        assert np.array_equal(a, arrays["train_images"][part])
        assert np.array_equal(b, arrays["val_images"][part])
        assert np.array_equal(c, arrays["test_images"][part])

    equal: list[bool] = []

    def drain(split: str) -> None:
        pixels = np.concatenate(list(reader.images(split, [1] * counts[split])))
        equal.append(np.array_equal(pixels, arrays[f"{NPZ_SPLITS[split]}_images"]))

    threads = [threading.Thread(target=drain, args=(split,)) for split in SPLITS * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert equal == [True] * 9


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_block_sizes_give_the_same_pixels(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.npz"
    counts = SplitCounts(23, 1, 2)
    arrays = arrays_of(BREAST, counts=counts)
    if not path.exists():
        NpzFile(arrays).write(path)
    blocks: list[int] = []
    while sum(blocks) < counts.train:
        blocks.append(data.draw(st.integers(1, counts.train - sum(blocks))))
    parts = list(NpzReader(path, BREAST, 28, counts).images("train", blocks))
    assert [len(part) for part in parts] == blocks
    assert np.array_equal(np.concatenate(parts), arrays["train_images"])
    assert all(part.flags.writeable and part.flags.c_contiguous for part in parts)


@pytest.fixture(scope="module", params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes]]:
    path = tmp_path_factory.mktemp("small") / "a.npz"
    NpzFile(arrays_of(BREAST, counts=SplitCounts(2, 1, 1)), request.param).write(path)
    yield path, path.read_bytes()


@given(data=st.data())
@settings(max_examples=250, deadline=None)
def test_changed_bytes_give_the_right_arrays_or_an_error(small: tuple[Path, bytes], data: st.DataObject) -> None:
    """If up to three bytes are changed, the reader returns the right arrays or raises a one-line error."""
    path, original = small
    content = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        # Most of the file is pixels, but headers and the directory are what can mislead a reader.
        position = data.draw(st.integers(0, len(original) - 1) | st.integers(len(original) - 450, len(original) - 1))
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        arrays = read_all(path, BREAST)
    except ReadError as error:
        assert len(str(error).splitlines()) == 1
        assert str(error).startswith(str(path))
    else:
        assert_equal(arrays, arrays_of(BREAST, counts=SplitCounts(2, 1, 1)))


# Reads a whole split in its own process and prints its rows and the growth of the peak memory in KiB.
_GROWTH = """
import resource, sys
from pathlib import Path
from medmnist_hf.data.npz_reader import NpzReader
from medmnist_hf.catalog import subset

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
reader = NpzReader(Path(sys.argv[1]), subset("pathmnist"), 224, None)
blocks = [7] * (reader.rows("train") // 7) + [reader.rows("train") % 7]
rows = sum(len(block) for block in reader.images("train", blocks))
print(rows, peak() - before)
"""


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_memory_is_bounded(tmp_path: Path, method: int) -> None:
    path, rows = tmp_path / "a.npz", 2_000
    arrays = arrays_of(subset("pathmnist"), 224, SplitCounts(1, 1, 1))
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 224, 224, 3), }" % rows
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                if name == "train_images":
                    member.write(npy_with_header(header))
                    for _ in range(rows // 50):
                        member.write(bytes(50 * 224 * 224 * 3))
                else:
                    member.write(npy(np.zeros((rows, 1), np.uint8) if name == "train_labels" else array))
    run = subprocess.run(
        [sys.executable, "-c", _GROWTH, str(path)], check=True, capture_output=True, text=True, timeout=60
    )
    count, growth = (int(word) for word in run.stdout.split())
    assert count == rows
    assert growth < 24_000, f"{rows * 224 * 224 * 3 / 1e6:.0f} MB of pixels took {growth / 1e3:.0f} MB"
