"""Hostile builds give a one-line error from every reader, without hanging or reading other files."""

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.conversion.checks.audit import audit_config
from medmnist_hf.conversion.checks.verify import verify_config
from medmnist_hf.data.rows import open_rows
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.evaluation.labels import read_labels
from medmnist_hf.exporting.export import export
from medmnist_hf.hub.local_build import read_local
from medmnist_hf.places.configs import find_configs
from tests.conftest import Phantoms
from tests.fixtures.builds import build

FLAG = "breastmnist"
SHARD = "train-00000-of-00001.parquet"

READERS: dict[str, Callable[[Path], object]] = {
    "load_arrays": lambda root: medmnist_hf.load_arrays(FLAG, 28, "train", root=root, cache=False),
    "load": lambda root: medmnist_hf.load(FLAG, 28, split="train", root=root),
    "audit": lambda root: audit_config(root / FLAG / "28"),
    "verify": lambda root: [verify_config(config.fetch()) for config in find_configs(root / FLAG)],
    "export": lambda root: export(open_rows(FLAG, 28, root=root), root / "out", "npz", force=True),
    "evaluate": lambda root: read_labels(FLAG, 28, "train", root),
    "card": lambda root: write_card(root / FLAG),
    "push": lambda root: read_local(root / FLAG, allow_synthetic=True),
}
"""Name -> reader of builds, called with the folder of builds."""


def edit_manifest(change: Callable[[dict[str, Any]], object], root: Path) -> None:
    path = root / FLAG / "28" / "manifest.json"
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


def train(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return partial(edit_manifest, lambda table: change(table["splits"]["train"]))


def shard_named(name: str) -> Callable[[Path], None]:
    return train(lambda record: record["shards"][0].update(name=name))


def replaced(name: str, put: Callable[[Path], object]) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        path = root / FLAG / "28" / name
        path.unlink(missing_ok=True)
        put(path)

    return act


def empty_device(root: Path) -> None:
    train(lambda record: record["shards"][0].update(bytes=0))(root)
    replaced(SHARD, lambda path: path.symlink_to("/dev/zero"))(root)


MANIFESTS: dict[str, Callable[[Path], None]] = {
    "rows null": train(lambda record: record.update(rows=None)),
    "no shards, no rows": train(lambda record: record.update(rows=0, shards=[])),
    "no histogram": train(lambda record: record.update(label_histogram={})),
    "subset null": partial(edit_manifest, lambda table: table.update(subset=None)),
    "subset of two lines": partial(edit_manifest, lambda table: table.update(subset="a\nerror: b\x1b[31m")),
    "releases null": partial(edit_manifest, lambda table: table.update(releases=None)),
    "verified, another MD5": partial(
        edit_manifest, lambda table: table["source"].update(verified=True, kind="zenodo")
    ),
    "shard NUL": shard_named("\0"),
    "shard half a character": shard_named("\ud800"),
    "shard outside": shard_named("../../outside.parquet"),
    "shard by its path": shard_named("/etc/passwd"),
    "nested": replaced("manifest.json", lambda path: path.write_text("[" * 100_000)),
    "not UTF-8": replaced("manifest.json", lambda path: path.write_bytes(b"\xff")),
    "a FIFO": replaced("manifest.json", os.mkfifo),
    "a device": replaced("manifest.json", lambda path: path.symlink_to("/dev/zero")),
    "a folder": replaced("manifest.json", Path.mkdir),
    "without end": replaced("manifest.json", lambda path: path.open("wb").truncate(1 << 40)),
}
SHARDS: dict[str, Callable[[Path], None]] = {
    "a FIFO": replaced(SHARD, os.mkfifo),
    "a device of no bytes": empty_device,
    "a folder": replaced(SHARD, Path.mkdir),
}
AUDITS: dict[str, Callable[[Path], None]] = {
    "a FIFO": replaced("audit.json", os.mkfifo),
    "a device": replaced("audit.json", lambda path: path.symlink_to("/dev/zero")),
    "nested": replaced("audit.json", lambda path: path.write_text("[" * 100_000)),
    "two lines": replaced("audit.json", lambda path: path.write_text('{"findings": ["a\\n# b"]}')),
}


@pytest.fixture(scope="module")
def built(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    write_card(build(phantoms, root, FLAG, 28, rows_per_shard=99))
    shutil.copy(root / FLAG / "28" / SHARD, root / "outside.parquet")
    return root


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "dist"))


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail if a reader takes longer, which means that it would wait forever."""

    def ring(*_: object) -> None:
        raise AssertionError(f"not finished within {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused(read: Callable[[Path], object], root: Path) -> None:
    with within(30), pytest.raises(MedMNISTError) as caught:
        read(root)
    assert len(str(caught.value)) < 1_000 and str(caught.value).isprintable()


@pytest.mark.parametrize("case", MANIFESTS)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_rejects_the_manifest(reader: str, case: str, root: Path) -> None:
    MANIFESTS[case](root)
    refused(READERS[reader], root)


@pytest.mark.parametrize("case", SHARDS)
@pytest.mark.parametrize("reader", READERS)
def test_a_shard_that_is_not_a_file_is_rejected(reader: str, case: str, root: Path) -> None:
    SHARDS[case](root)
    refused(READERS[reader], root)


@pytest.mark.parametrize("case", AUDITS)
@pytest.mark.parametrize("reader", ["card", "push"])
def test_an_invalid_audit_is_rejected_by_its_readers(reader: str, case: str, root: Path) -> None:
    AUDITS[case](root)
    refused(READERS[reader], root)


@pytest.mark.parametrize("reader", READERS)
def test_the_unchanged_build_is_accepted(reader: str, root: Path) -> None:
    READERS[reader](root)
