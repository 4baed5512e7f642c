"""Members of NPZ files: valid labels, and the memory that a file with exaggerated claims may cost."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.catalog import NPZ_SPLITS, subset, subsets
from medmnist_hf.data.npz_members import NpzMembers
from medmnist_hf.errors import ReadError
from tests.fixtures.npz import NpzFile, arrays_of, npy_with_header

BREAST = subset("breastmnist")


def test_labels_of_every_subset_without_images(tmp_path: Path) -> None:
    for entry in subsets():
        arrays = {name: array for name, array in arrays_of(entry).items() if name.endswith("labels")}
        NpzFile(arrays).write(tmp_path / "a.npz")
        members = NpzMembers(tmp_path / "a.npz", [f"{name}.npy" for name in arrays])
        for split, prefix in NPZ_SPLITS.items():
            assert np.array_equal(members.labels(split, entry), arrays[f"{prefix}_labels"])


@pytest.mark.parametrize("dtype", ["<i8", ">i8", "<u4", "|i1"])
def test_any_integer_type_becomes_uint8(tmp_path: Path, dtype: str) -> None:
    labels = np.array([[1], [0], [1]], dtype)
    NpzFile({"test_labels": labels}).write(tmp_path / "a.npz")
    read = NpzMembers(tmp_path / "a.npz", ["test_labels.npy"]).labels("test", BREAST)
    assert read.dtype == np.uint8
    assert read.tolist() == [[1], [0], [1]]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.zeros((0, 1), np.uint8), r"shape \(0, 1\) where \(N, 1\) is needed"),
        (np.uint8(1), r"shape \(\) where"),
        (np.zeros((3, 2), np.uint8), r"shape \(3, 2\)"),
        (np.full((70_000, 1), 256, np.uint16), "label 256 in row 0"),
        (np.array([0] * 70_000 + [-1], np.int16), "label -1 in row 70000"),
    ],
    ids=["none", "a number", "two columns", "256", "beyond the first block"],
)
def test_invalid_labels(tmp_path: Path, labels: np.ndarray, says: str) -> None:
    NpzFile({"test_labels": np.asarray(labels)}).write(tmp_path / "a.npz")
    with pytest.raises(ReadError, match=says):
        NpzMembers(tmp_path / "a.npz", ["test_labels.npy"]).labels("test", BREAST)


ROWS = 1_500_000
_GROWTH = """
import resource, sys
from pathlib import Path
from medmnist_hf.data.npz_members import NpzMembers
from medmnist_hf.catalog import subset

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

members = NpzMembers(Path(sys.argv[1]), ["test_labels.npy"])
if sys.argv[2] == "short":
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (12 << 20), resource.RLIM_INFINITY))
before = peak()
try:
    print(len(members.labels("test", subset("chestmnist"))), peak() - before)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_small_file_of_many_labels_costs_one_byte_per_label(tmp_path: Path) -> None:
    """A file of 200 kB encodes 168 MB of int64: it is read in blocks, and refused if memory is short."""
    path = tmp_path / "a.npz"
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (%d, 14), }" % ROWS
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("test_labels.npy", "w") as member,
    ):
        member.write(npy_with_header(header))
        for _ in range(ROWS // 100_000):
            member.write(bytes(100_000 * 14 * 8))
    assert path.stat().st_size < 200_000
    enough, short = (
        subprocess.run(
            [sys.executable, "-c", _GROWTH, str(path), memory],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for memory in ("enough", "short")
    )
    rows, growth = map(int, enough.split())
    assert rows == ROWS
    assert growth * 1024 < ROWS * 14 + (32 << 20)
    assert short.startswith("ReadError")
    assert "takes 21 MB of memory, more than is free" in short


PARSE_IN_THREADS = """
import gc, threading, time
from medmnist_hf.data.npz_members import _parse_header

HEADER = repr({"descr": "|u1", "fortran_order": False, "shape": (1,) * 3000}).encode()
parsed = []

class Cycle:  # its collection, in the middle of whatever runs, lets other threads run
    def __init__(self):
        self.itself = self

    def __del__(self):
        time.sleep(0.002)

def parse():
    for _ in range(40):
        cycles = [Cycle() for _ in range(3)]
        del cycles
        parsed.append(len(_parse_header(HEADER)[0]))

gc.set_threshold(20, 1000, 1000)
threads = [threading.Thread(target=parse) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(set(parsed), len(parsed))
"""


def test_headers_are_parsed_in_threads() -> None:
    """Before 3.11.8 and 3.12.2, Python fails if a collection lets another thread parse in the middle of parsing."""
    process = subprocess.run([sys.executable, "-c", PARSE_IN_THREADS], capture_output=True, text=True, check=False)
    assert process.stdout == "{3000} 120\n", process.stderr
