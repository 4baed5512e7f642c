import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.bench.bench_jobs import Figure
from tests.fixtures.paths import ROOT

SCRIPT = ROOT / "scripts" / "bench" / "bench_jobs.py"


def test_the_overhead_is_that_of_one_task_on_one_worker() -> None:
    figure = Figure("local", tasks=10, workers=2, tasks_per_job=1, seconds=3.0, serial_seconds=1.0)
    assert figure.overhead == pytest.approx(0.4)


def test_tasks_are_measured_on_this_machine() -> None:
    command: list[str | Path] = [
        sys.executable,
        SCRIPT,
        "--engine",
        "local",
        "--tasks",
        "3",
        "--seconds",
        "0.01",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (figure,) = json.loads(done.stdout)
    assert (figure["engine"], figure["tasks"], figure["workers"]) == ("local", 3, 2)
    assert figure["serial_seconds"] > 0 and figure["seconds"] > 0


def test_an_unknown_engine_is_one_line() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--engine", "nosuch"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "nosuch" in done.stderr and "local" in done.stderr
