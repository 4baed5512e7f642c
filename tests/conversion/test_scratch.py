"""Scratch folders: private, emptied at the end, and cleared of what killed processes left."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from medmnist_hf.conversion.scratch import private_folder, scratch_folder
from medmnist_hf.errors import SourceError


def test_a_private_folder_is_emptied_at_the_end(tmp_path: Path) -> None:
    for error in (None, OSError("of the build"), KeyboardInterrupt()):
        try:
            with private_folder(tmp_path) as folder:
                assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
                (folder / "below").mkdir()
                (folder / "below" / "shard").write_text("rows")
                if error:
                    raise error
        except (OSError, KeyboardInterrupt) as raised:
            assert raised is error
        assert list(tmp_path.iterdir()) == []


def _hold(scratch: Path, pipe: Connection) -> None:
    with private_folder(scratch) as folder:
        (folder / "shard").write_text("rows")
        pipe.send(folder)
        pipe.recv()


def test_only_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / "medmnist-hf-scratch-notes").mkdir()
    fork = multiprocessing.get_context("fork")
    held = []
    for _ in range(2):
        ours, theirs = fork.Pipe()
        child = fork.Process(target=_hold, args=(tmp_path, theirs))
        child.start()
        assert ours.poll(30)
        held.append((child, ours.recv(), ours))
    (dead, left, _), (alive, kept, pipe) = held
    assert dead.pid is not None
    os.kill(dead.pid, signal.SIGKILL)
    dead.join()
    assert left.exists()
    with private_folder(tmp_path):
        assert not left.exists() and (kept / "shard").exists()
    pipe.send("end")
    alive.join()
    assert [path.name for path in tmp_path.iterdir()] == ["medmnist-hf-scratch-notes"]


def test_names_of_a_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEDMNIST_SCRATCH", "SLURM_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    folders = {name: tmp_path / name for name in ("given", "variable", "job", "temporary")}
    for folder in folders.values():
        folder.mkdir()
    assert scratch_folder(None) is None
    with pytest.raises(SourceError, match=r"^--scratch auto needs SLURM_TMPDIR or TMPDIR, which are not set: name a"):
        scratch_folder("auto")
    monkeypatch.setenv("TMPDIR", str(folders["temporary"]))
    assert scratch_folder("auto") == folders["temporary"]
    monkeypatch.setenv("SLURM_TMPDIR", str(folders["job"]))
    assert scratch_folder("auto") == folders["job"]
    monkeypatch.setenv("MEDMNIST_SCRATCH", str(folders["variable"]))
    assert (scratch_folder(None), scratch_folder(str(folders["given"]))) == (folders["variable"], folders["given"])
    with pytest.raises(SourceError, match=r"^no folder .*nowhere for --scratch: create it, or name another one$"):
        scratch_folder(str(tmp_path / "nowhere"))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SourceError, match=r"^cannot write .*file \(.*\): name another folder with --scratch$"),
        private_folder(tmp_path / "file"),
    ):
        pass
