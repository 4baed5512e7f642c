"""The build command on a terminal: the bars of the config whose turn it is, and faults in one line."""

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.paths import ROOT
from tests.fixtures.zenodo import Reply, zenodo_server

COMMAND = [sys.executable, str(ROOT / "scripts/build.py"), "breastmnist", "--size", "28"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_download_has_a_bar(tmp_path: Path) -> None:
    import pty
    import termios

    with zenodo_server() as server:
        server.then = Reply(body=bytes(3_000_000), stall_after=1_000_000)
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
            while b"1.0/3.0 MB" not in output:
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


def test_a_codec_that_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    command = [*COMMAND, "--codec", "webp", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: breastmnist: --codec webp is for RGB subsets")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
