"""The build command on a terminal: progress bars, and errors in one line."""

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medmnist_hf.manifest import read_manifest
from tests.conftest import Phantoms
from tests.fixtures.paths import ROOT
from tests.fixtures.zenodo import Reply, zenodo_server

COMMAND = [sys.executable, str(ROOT / "scripts/build.py"), "breastmnist", "--size", "28"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_download_has_a_bar(tmp_path: Path) -> None:
    import pty
    import termios

    with zenodo_server() as server:
        server.then = Reply(body=bytes(600_000), stall_after=300_000)
        local = {"MEDMNIST_ENDPOINT": server.url, "MEDMNIST_ROOT": str(tmp_path), "NO_PROXY": "127.0.0.1"}
        reader, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (24, 120))
        child = subprocess.Popen(
            [*COMMAND, "--out", str(tmp_path / "out")],
            stdout=subprocess.DEVNULL,
            stderr=terminal,
            env=os.environ | local | {"TERM": "xterm"},
        )
        try:
            output, deadline = b"", time.monotonic() + 60
            while b"300.0/600.0 kB" not in output:
                assert time.monotonic() < deadline, output
                if select.select([reader], [], [], 1)[0]:
                    output += os.read(reader, 65536)
        finally:
            child.kill()
            child.wait()
            os.close(terminal)
            os.close(reader)
    assert b"downloading breastmnist.npz" in output
    assert b"breastmnist 28" in output


def test_an_unsuitable_codec_is_a_one_line_error(tmp_path: Path) -> None:
    command = [*COMMAND, "--codec", "webp", "--out", str(tmp_path / "out")]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith("error: breastmnist: --codec webp is for RGB subsets")
    assert process.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_summary_counts_the_rows_that_were_built(phantoms: Phantoms, tmp_path: Path) -> None:
    """An unverified file may have fewer rows than the catalog."""
    file = phantoms("breastmnist", 28, 16)
    assert file.counts is not None
    (tmp_path / "breastmnist.npz").write_bytes(file.path.read_bytes())
    command = [*COMMAND, "--source", str(tmp_path), "--allow-unverified", "--out", str(tmp_path / "out")]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    _, outcome = (line.split() for line in process.stdout.splitlines() if line.startswith("breastmnist"))
    stored = sum(shard.bytes for shard in read_manifest(tmp_path / "out/breastmnist/28").shards)
    raw = file.counts.total * 28 * 28
    assert outcome[2:6] == [str(file.counts.total), "3", f"{stored / 1e6:.2f}", f"{stored / raw:.3f}"]
    seconds, speed = float(outcome[6]), float(outcome[7])
    assert speed <= raw / 1e6 / max(seconds - 0.05, 1e-9) + 0.5


def test_the_folder_of_a_file_that_is_not_downloaded_is_named(real_data: Path, tmp_path: Path) -> None:
    """In a table for a terminal of 80 columns, each config is one line."""
    local = {"MEDMNIST_ROOT": str(real_data), "COLUMNS": "80"}
    command = [*COMMAND, "--out", str(tmp_path / "a long name" / "of a folder")]
    process = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | local)
    assert f"MB of raw pixels from {real_data} to" in " ".join(process.stdout.split())
    assert " built" in process.stdout and "built in" not in process.stdout
