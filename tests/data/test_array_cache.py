"""The cache of decoded splits never returns a wrong pixel: after kills, full disks, damage and foreign files."""

import errno
import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from numpy.lib import format as npy
from numpy.typing import NDArray

from medmnist_hf.data.array_cache import VARIABLE, Spec, cache_info, cache_root, clear_cache, fetch
from medmnist_hf.errors import CatalogError, MedMNISTError
from tests.fixtures.paths import ROOT

SHAPE = (60, 7, 5)


def spec(key: str = "a", name: str = "breastmnist", shape: tuple[int, ...] = SHAPE, *, multi: bool = False) -> Spec:
    return Spec(key * 64, name, "train", shape, (shape[0], 14) if multi else (shape[0],))


def pixels(shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


class Decoding:
    """Decodes `pixels` and counts the calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> tuple[Iterator[NDArray[np.uint8]], NDArray[Any]]:
        self.calls += 1
        return (pixels()[row : row + 7] for row in range(0, 60, 7)), np.arange(60)


def check(arrays: tuple[NDArray[np.uint8], NDArray[Any]]) -> None:
    assert np.array_equal(arrays[0], pixels())
    assert np.array_equal(arrays[1], np.arange(60))


def hidden(root: Path) -> list[str]:
    """Names of hidden files in the cache other than locks."""
    return [path.name for path in root.iterdir() if path.name.startswith(".") and path.suffix != ".lock"]


def test_decoded_once_and_mapped(tmp_path: Path) -> None:
    decoding = Decoding()
    for _ in range(3):
        images, labels = fetch(spec(), decoding, tmp_path / "new" / "cache")
        check((images, labels))
        assert isinstance(images, np.memmap) and images.dtype == np.uint8
        assert labels.dtype == np.int64 and not isinstance(labels, np.memmap)
        images[0, 0, 0] += 1  # copy-on-write: the next reader does not see it
    assert decoding.calls == 1
    assert hidden(tmp_path / "new" / "cache") == []
    folder = tmp_path / "new" / "cache" / ("a" * 64)
    assert np.array_equal(np.load(folder / "images.npy"), pixels())


def test_multi_hot_labels_have_the_dtype_of_a_loss(tmp_path: Path) -> None:
    hot = np.eye(60, 14, dtype=np.uint8)
    _, labels = fetch(spec(multi=True), lambda: (iter([pixels()]), hot), tmp_path)
    assert labels.dtype == np.float32 and np.array_equal(labels, hot)


def test_the_default_folder_is_that_of_the_variable_or_in_hf_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert cache_root() == Path(constants.HF_HOME) / "medmnist-hf" / "arrays"
    monkeypatch.setenv(VARIABLE, "")
    assert cache_root() == Path(constants.HF_HOME) / "medmnist-hf" / "arrays"
    monkeypatch.setenv(VARIABLE, "~/arrays")
    assert cache_root() == Path.home() / "arrays"
    assert cache_root("~/x") == Path.home() / "x"
    assert cache_info(tmp_path / "none") == [] and clear_cache(tmp_path / "none") == 0
    assert not (tmp_path / "none").exists()


def rewrite(name: str, array: NDArray[Any]) -> Callable[[Path], object]:
    return lambda folder: np.save(folder / name, array)


def pad(folder: Path) -> None:
    """Change the header without changing the size of the file."""
    array, path = pixels().reshape(7, 60, 5), folder / "images.npy"
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": array.shape})
        file.write(array.tobytes())


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def edited(folder: Path) -> None:
        info = json.loads((folder / "info.json").read_text())
        change(info)
        (folder / "info.json").write_text(json.dumps(info))

    return edited


def unpickled(folder: Path) -> None:
    """A file of the stated size that would run code if it were unpickled."""
    path = folder / "labels.npy"
    size = path.stat().st_size
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (60,)})
        file.write(pickle.dumps(np.arange(60)).ljust(size - file.tell(), b"\0"))


def flip_last(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut images": lambda folder: os.truncate(folder / "images.npy", 999),
    "empty images": lambda folder: os.truncate(folder / "images.npy", 0),
    "long images": lambda folder: os.truncate(folder / "images.npy", 99_999),
    "cut labels": lambda folder: os.truncate(folder / "labels.npy", 99),
    "no images": lambda folder: (folder / "images.npy").unlink(),
    "no labels": lambda folder: (folder / "labels.npy").unlink(),
    "no info": lambda folder: (folder / "info.json").unlink(),
    "cut info": lambda folder: os.truncate(folder / "info.json", 20),
    "info of a list": lambda folder: (folder / "info.json").write_text("[]"),
    "binary info": lambda folder: (folder / "info.json").write_bytes(b"\xff\xfe"),
    "another layout": edit(lambda info: info.update(layout=0)),
    "another key": edit(lambda info: info["spec"].update(key="b" * 64)),
    "another split": edit(lambda info: info["spec"].update(split="test")),
    "no files": edit(lambda info: info.pop("files")),
    "wrong header": pad,
    "another dtype": rewrite("images.npy", pixels().view(np.int8)),
    "Fortran order": rewrite("images.npy", np.asfortranarray(pixels())),
    "labels of another dtype": rewrite("labels.npy", np.arange(60).view(np.uint64)),
    "pickled labels": unpickled,
    "a flipped label": lambda folder: flip_last(folder / "labels.npy"),
    "an infinite shape": edit(lambda info: info["spec"].update(shape=[float("inf")])),
    "a shape of text": edit(lambda info: info["spec"].update(shape="60")),
    "nested info": lambda folder: (folder / "info.json").write_text("[" * 100_000),
    "no digest of labels": edit(lambda info: info.pop("labels_sha256")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_an_unfit_entry_is_rebuilt(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    decoding = Decoding()
    fetch(spec(), decoding, tmp_path)
    DAMAGE[name](tmp_path / ("a" * 64))
    check(fetch(spec(), decoding, tmp_path))
    assert decoding.calls == 2
    assert len(caplog.messages) == 1 and "decoding breastmnist train at size 7 again" in caplog.text
    check(fetch(spec(), decoding, tmp_path))
    assert decoding.calls == 2 and hidden(tmp_path) == []


def test_an_entry_of_other_shapes_is_rejected(tmp_path: Path) -> None:
    """The shapes are compared even if two specs have the same key."""
    fetch(spec(), Decoding(), tmp_path)
    images, _ = fetch(spec(shape=(2, 3, 3)), lambda: (iter([np.ones((2, 3, 3), np.uint8)]), np.zeros(2)), tmp_path)
    assert images.shape == (2, 3, 3)


def test_a_failing_decoder_leaves_nothing(tmp_path: Path) -> None:
    def blocks() -> Iterator[NDArray[np.uint8]]:
        yield pixels()[:30]
        raise LookupError("row 30 holds a horse")

    with pytest.raises(LookupError, match="row 30"):
        fetch(spec(), lambda: (blocks(), np.arange(60)), tmp_path)
    assert hidden(tmp_path) == [] and cache_info(tmp_path) == []
    check(fetch(spec(), Decoding(), tmp_path))


CHILD = """
import itertools, os, resource, signal, sys, time
import numpy as np
from medmnist_hf.data.array_cache import Spec, fetch
from medmnist_hf.errors import MedMNISTError

root, kill_at, limit, block_seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
pixels = np.random.default_rng(0).integers(0, 256, (60, 7, 5), np.uint8)
changes = itertools.count(1)

def change():
    if next(changes) == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

def hook(event, args):
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if (writes or event in {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}) and str(args[0]).startswith(root):
        change()

def blocks():
    for row in range(0, 60, 7):
        time.sleep(block_seconds)
        change()
        yield pixels[row:row + 7]

def decode():
    print("decoding", flush=True)
    return blocks(), np.arange(60)

if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.addaudithook(hook)
try:
    images, labels = fetch(Spec("a" * 64, "breastmnist", "train", (60, 7, 5), (60,)), decode, root)
except MedMNISTError as error:
    sys.exit(str(error))
assert np.array_equal(images, pixels) and labels.tolist() == list(range(60))
print("right", next(changes) - 1, flush=True)
"""


def child(root: Path, *, kill_at: int = 0, limit: int = 0, seconds: float = 0.0) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CHILD, str(root), str(kill_at), str(limit), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_writers(roots: list[Path]) -> int:
    """Kill a writer in each folder, each one change later; return how many folders hold leftovers."""
    writers = [child(root, kill_at=moment) for moment, root in enumerate(roots, start=1)]
    for writer in writers:
        _, err = writer.communicate(timeout=60)
        assert writer.returncode == -signal.SIGKILL, err
    return sum(bool(root.exists() and hidden(root)) for root in roots)


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Kill before each file system change and each block: the next run returns the right pixels and cleans up."""
    process = child(tmp_path / "whole")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    moments = int(out.split()[-1])
    assert moments >= 9 + 6  # blocks; the folder, the lock, three files and a rename
    roots = [tmp_path / str(moment) for moment in range(moments)]
    assert kill_writers(roots) >= 9
    for root in roots:
        assert cache_info(root) == []
        check(fetch(spec(), Decoding(), root))
        assert hidden(root) == []


@pytest.mark.slow
def test_killed_while_a_bad_entry_is_replaced(tmp_path: Path) -> None:
    roots = [tmp_path / str(moment) for moment in range(10)]
    for root in roots:
        fetch(spec(), Decoding(), root)
        os.truncate(root / ("a" * 64) / "images.npy", 2000)
    assert kill_writers(roots) >= 3
    for root in roots:
        check(fetch(spec(), Decoding(), root))
        assert hidden(root) == []


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    process = child(tmp_path, kill_at=8)
    process.communicate(timeout=60)
    assert len(hidden(tmp_path)) == 1
    fetch(spec("b"), Decoding(), tmp_path)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("limit", [1, 100, 1500, 2227])
def test_a_full_disk_gives_a_one_line_error_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    """A write beyond the limit fails as on a full disk; the images have 2,100 bytes and a header of 128."""
    process = child(tmp_path, limit=limit)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 1, message
    assert message.startswith(
        f"cannot cache breastmnist train at size 7 in {tmp_path}, which takes 0.0 MB (File too large"
    )
    assert message.endswith(": pass as cache_dir a writable folder with enough space\n") and message.count("\n") == 1
    assert hidden(tmp_path) == [] and cache_info(tmp_path) == []
    check(fetch(spec(), Decoding(), tmp_path))


def test_an_error_of_the_disk_is_reported_even_if_it_happens_while_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed write to the disk is reported once, to whichever call waits for it; the next call succeeds."""
    calls = iter([OSError(errno.EIO, os.strerror(errno.EIO))])

    def fail_once(descriptor: int) -> None:
        if error := next(calls, None):
            raise error

    monkeypatch.setattr("medmnist_hf.data.array_cache.os.fsync", fail_once)
    with pytest.raises(MedMNISTError, match=r"cannot cache .*\(Input/output error"):
        fetch(spec(), Decoding(), tmp_path)
    assert hidden(tmp_path) == [] and cache_info(tmp_path) == []


def test_files_are_on_the_disk_before_they_get_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure after the rename would otherwise leave an entry of the right size with other content."""
    synced: dict[int, int] = {}
    rename = Path.rename

    def note(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size

    def check_and_rename(self: Path, target: Path) -> None:
        statuses = [path.stat() for path in self.iterdir()]
        assert len(statuses) == 3 and {each.st_ino: each.st_size for each in statuses} == synced
        rename(self, target)

    monkeypatch.setattr("medmnist_hf.data.array_cache.os.fsync", note)
    monkeypatch.setattr(Path, "rename", check_and_rename)
    check(fetch(spec(), Decoding(), tmp_path))


def test_an_error_of_the_last_sync_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_on_info(descriptor: int) -> None:
        if any(path.stat().st_ino == os.fstat(descriptor).st_ino for path in tmp_path.rglob("info.json")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("medmnist_hf.data.array_cache.os.fsync", fail_on_info)
    with pytest.raises(MedMNISTError, match=r"cannot cache .*\(Input/output error"):
        fetch(spec(), Decoding(), tmp_path)
    assert hidden(tmp_path) == [] and cache_info(tmp_path) == []


def test_too_little_space_is_reported_before_decoding(tmp_path: Path) -> None:
    decoding = Decoding()
    with pytest.raises(MedMNISTError, match=r"which takes 150,536,000.0 MB \(too little space; .* MB are free\)"):
        fetch(spec(shape=(10**9, 224, 224, 3)), decoding, tmp_path)
    assert decoding.calls == 0 and hidden(tmp_path) == []


def test_without_a_named_folder_the_hint_is_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that read arrays have no option for the folder of the cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    with pytest.raises(MedMNISTError, match=f"in {tmp_path}.*: set MEDMNIST_ARRAYS to a writable folder with"):
        fetch(spec(shape=(10**9, 224, 224, 3)), Decoding())


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(MedMNISTError, match=r"cannot cache .*\(File exists") as caught:
        fetch(spec(), Decoding(), tmp_path / "cache")
    assert "\n" not in str(caught.value)
    for call in (cache_info, clear_cache):
        with pytest.raises(MedMNISTError, match=f"cannot read {tmp_path}/cache .{os.strerror(errno.ENOTDIR)}"):
            call(tmp_path / "cache")


def test_two_processes_decode_once(tmp_path: Path) -> None:
    first = child(tmp_path, seconds=0.3)
    assert first.stdout and first.stdout.readline() == "decoding\n"
    second = child(tmp_path)
    (out, err), (other, waited) = (process.communicate(timeout=60) for process in (first, second))
    assert (first.returncode, second.returncode) == (0, 0), (err, waited)
    assert "right" in out and "right" in other and "decoding" not in other
    assert (err, waited) == ("", "another process is decoding breastmnist train at size 7: waiting for it\n")


def test_a_waiting_process_takes_over_when_the_writer_is_killed(tmp_path: Path) -> None:
    first = child(tmp_path, seconds=60)
    assert first.stdout and first.stdout.readline() == "decoding\n"
    second = child(tmp_path)
    assert second.stderr and "waiting" in second.stderr.readline()
    first.kill()
    first.communicate(timeout=60)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0 and "decoding" in out and "right" in out, err
    assert hidden(tmp_path) == []


def test_an_entry_being_written_is_left_alone(tmp_path: Path) -> None:
    writer = child(tmp_path, seconds=0.2)
    assert writer.stdout and writer.stdout.readline() == "decoding\n"
    assert clear_cache(tmp_path) == 0
    fetch(spec("b"), Decoding(), tmp_path)
    assert len(hidden(tmp_path)) == 1
    out, err = writer.communicate(timeout=60)
    assert writer.returncode == 0 and "right" in out, err


def test_cache_info_lists_the_entries(tmp_path: Path) -> None:
    before = time.time()
    fetch(spec("b", "pathmnist", (60, 7, 5)), Decoding(), tmp_path)
    fetch(spec("a"), Decoding(), tmp_path)
    first, second = cache_info(tmp_path)
    assert (first.name, first.split, first.size, first.shape) == ("breastmnist", "train", 7, SHAPE)
    assert first.bytes == sum(path.stat().st_size for path in first.path.iterdir())
    assert first.path == tmp_path / ("a" * 64) and second.name == "pathmnist"
    stamp = time.mktime(time.strptime(first.created.replace("+00:00", "UTC"), "%Y-%m-%dT%H:%M:%S%Z")) - time.timezone
    assert before - 1 <= stamp <= time.time()
    assert [entry.name for entry in cache_info(tmp_path, "PathMNIST")] == ["pathmnist"]
    assert cache_info(tmp_path, "retinamnist") == []
    with pytest.raises(CatalogError, match="did you mean 'pathmnist'"):
        cache_info(tmp_path, "pathmnits")


def test_clearing_returns_the_bytes_freed_and_keeps_foreign_files(tmp_path: Path) -> None:
    fetch(spec("b", "pathmnist"), Decoding(), tmp_path)
    images, labels = fetch(spec("a"), Decoding(), tmp_path)
    foreign = [tmp_path / "notes.txt", tmp_path / ("c" * 64) / "mine.txt", tmp_path / "d" / "images.npy"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (tmp_path / ("e" * 64)).symlink_to(tmp_path / ("b" * 64))
    sizes = {entry.name: entry.bytes for entry in cache_info(tmp_path)}
    assert set(sizes) == {"breastmnist", "pathmnist"}
    with pytest.raises(CatalogError, match="unknown subset"):
        clear_cache(tmp_path, "brst")
    assert clear_cache(tmp_path, "retinamnist") == 0
    assert clear_cache(tmp_path, "BreastMNIST") == sizes["breastmnist"]
    assert [entry.name for entry in cache_info(tmp_path)] == ["pathmnist"]
    check((images, labels))  # still mapped
    os.truncate(tmp_path / ("b" * 64) / "images.npy", 0)
    (tmp_path / ("b" * 64) / "info.json").unlink()
    assert clear_cache(tmp_path) == 128 + 60 * 8  # the labels
    assert all(path.read_text() == "mine" for path in foreign)
    assert hidden(tmp_path) == [] and not (tmp_path / ("b" * 64)).exists()


def test_a_foreign_file_in_an_entry_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    fetch(spec(), Decoding(), tmp_path)
    (tmp_path / ("a" * 64) / "mine.txt").write_text("mine")
    assert clear_cache(tmp_path) == 0
    check(fetch(spec(), Decoding(), tmp_path))


SCARCE = """
import os, resource, sys
import numpy as np
from pathlib import Path
from medmnist_hf.data.array_cache import Spec, fetch
from medmnist_hf.errors import MedMNISTError
import imagecodecs, filelock, huggingface_hub.utils

what, root = sys.argv[1], Path(sys.argv[2])
spec = Spec("a" * 64, "breastmnist", "train", (60_000, 28, 28), (60_000,))

def decode():
    print("decoded")
    return (np.zeros((1000, 28, 28), np.uint8) for _ in range(60)), np.zeros(60_000, np.int64)

fetch(spec, decode, root)
if what == "memory":
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (12 << 20), resource.RLIM_INFINITY))
elif what == "descriptors":
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 1, 4096))
    handles = []
    try:
        while True:
            handles.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
try:
    fetch(spec, decode, root)
except MedMNISTError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("what", "says"), [("memory", "(Cannot allocate memory|MemoryError)"), ("descriptors", "Too many open files")]
)
def test_a_valid_entry_that_cannot_be_opened_is_kept(tmp_path: Path, what: str, says: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCARCE, what, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    first, second = run.stdout.splitlines()
    assert first == "decoded"
    assert re.match(rf"cannot open {tmp_path / ('a' * 64)} \({says}\): ", second)
    assert len(cache_info(tmp_path)) == 1


def test_a_new_entry_is_returned_even_if_it_is_cleared_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def rename_and_clear(self: Path, target: Path) -> None:
        rename(self, target)
        monkeypatch.setattr(Path, "rename", rename)
        assert clear_cache(tmp_path) > 0

    monkeypatch.setattr(Path, "rename", rename_and_clear)
    check(fetch(spec(), Decoding(), tmp_path))
    assert cache_info(tmp_path) == []


def test_an_entry_that_is_a_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    decoding = Decoding()
    fetch(spec(), decoding, tmp_path / "other")
    target = tmp_path / "other" / ("a" * 64)
    flip_last(target / "labels.npy")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ("a" * 64)).symlink_to(target)
    check(fetch(spec(), decoding, tmp_path / "cache"))
    assert sorted(path.name for path in target.iterdir()) == ["images.npy", "info.json", "labels.npy"]
    assert not (tmp_path / "cache" / ("a" * 64)).is_symlink()


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_entry_does_not_break_the_list(tmp_path: Path, name: str) -> None:
    fetch(spec(), Decoding(), tmp_path)
    fetch(spec("b"), Decoding(), tmp_path)
    DAMAGE[name](tmp_path / ("a" * 64))
    assert ("b" * 64) in [entry.path.name for entry in cache_info(tmp_path)]
