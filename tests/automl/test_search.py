"""`medmnist_hf.automl.search`: searches in real processes that end normally, with an error, late or never."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.automl.search import LOG_NAME, SPENT_NAME, SearchResult, cores, search
from medmnist_hf.errors import TrainingError
from tests.fixtures.automl_engine import problem, tiny_engine
from tests.fixtures.paths import ROOT

PYTHON = Path(sys.executable)
FOREVER = "while True: time.sleep(0.05)"


def run(folder: Path, body: str, *, resumes: bool = False, seconds: float = 60.0, grace: float = 60.0) -> SearchResult:
    engine = tiny_engine(folder, body, resumes=resumes)
    return search(engine, PYTHON, folder / "search", problem(seconds=seconds), grace=(grace, 0.0), patience=10)


def test_a_search_returns_scores_and_facts_and_deletes_its_arrays(tmp_path: Path) -> None:
    lines: list[str] = []
    engine = tiny_engine(
        tmp_path, "print('half way')\npublish(job, seed=job.seed, labels=sorted(set(job.y('train'))))"
    )
    result = search(engine, PYTHON, tmp_path / "search", problem(), lines.append)
    assert result.scores["validation"].shape == (30, 3) and result.scores["test"].shape == (20, 3)
    assert np.allclose(result.scores["test"].sum(1), 1) and result.scores["test"].dtype == np.float64
    assert (result.facts["trials"], result.facts["configuration"]) == (3, {"depth": 2})
    assert (result.facts["seed"], result.facts["labels"]) == (0, [0, 1, 2])
    assert 0 < result.facts["search_seconds"] < 60 and (result.partial, result.stopped) == ("", False)
    assert lines == ["half way"] and (tmp_path / "search" / LOG_NAME).read_text() == "half way\n"
    assert not list((tmp_path / "search").glob("*.npy"))


def test_a_search_has_no_test_labels(tmp_path: Path) -> None:
    body = "publish(job, files=sorted(path.name for path in job.folder.iterdir()))"
    files = run(tmp_path, body).facts["files"]
    assert files[-5:] == ["x_test.npy", "x_train.npy", "x_validation.npy", "y_train.npy", "y_validation.npy"]


@pytest.mark.parametrize(
    ("end", "partial"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            r"killed by SIGKILL after \d+ s, perhaps because the system ran out of memory",
        ),
        ("raise MemoryError('all is full')", r"ended with exit code 1 after \d+ s \(MemoryError: all is full\)"),
        ("raise SearchError('no time for more')", r"ended with exit code 1 after \d+ s \(no time for more\)"),
        ("os._exit(7)", r"ended with exit code 7 after \d+ s$"),
    ],
)
def test_a_search_that_fails_keeps_its_best_model_as_partial(tmp_path: Path, end: str, partial: str) -> None:
    result = run(tmp_path, f"publish(job)\n{end}")
    assert result.scores["test"].shape == (20, 3) and not result.stopped
    assert re.match(partial, result.partial), result.partial


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "Tiny: killed by SIGKILL after .* without a model: see .*log.txt"),
        ("print('so far')\n1 / 0", r"Tiny: ended with exit code 1 after 0?.* s \(ZeroDivisionError: .*\) without a"),
        ("raise SearchError('a budget of 1 s is\\n too small')", "^Tiny: a budget of 1 s is too small$"),
        ("pass", "Tiny: ended with exit code 0 after .* without a model"),
        ("(job.folder / 'best.npz').write_bytes(b'PK' + bytes(99))", "left a damaged .*best.npz"),
        ("(job.folder / 'best.npz').write_bytes(b'')", "left a damaged .*best.npz"),
        ("np.savez(job.folder / 'best.npz', found=np.array('{}'))", "left a damaged .*validation"),
        ("np.savez(job.folder / 'best.npz', found=np.array('{'))", "left a damaged "),
        ("np.savez(job.folder / 'best.npz', found=np.array({1: 2}, object))", "left a damaged .*pickle"),
        (
            "job.publish({s: v[:, :2] for s, v in scores(job).items()}, {})",
            r"gave validation scores of shape \(30, 2\), not \(30, 3\)",
        ),
        ("job.publish({s: v[:5] for s, v in scores(job).items()}, {})", r"of shape \(5, 3\), not \(30, 3\)"),
        ("job.publish(scores(job, by=np.nan), {})", "gave validation scores that are not finite"),
        ("job.publish(scores(job, by=-1), {})", "gave validation scores that are not probabilities"),
    ],
)
def test_an_unusable_result_is_reported_in_one_line(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        run(tmp_path, body)
    assert "\n" not in str(caught.value)


def test_a_missing_interpreter_is_a_system_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        search(tiny_engine(tmp_path, "pass"), Path("nowhere"), tmp_path / "search", problem())


def test_a_late_search_gets_a_signal_and_may_still_publish(tmp_path: Path) -> None:
    body = f"try:\n    {FOREVER}\nexcept KeyboardInterrupt:\n    publish(job, late=True)\n    raise"
    result = run(tmp_path, body, seconds=0.5, grace=1.5)
    assert result.facts["late"] and result.partial.endswith("long past its budget") and not result.stopped
    assert 2 <= result.facts["search_seconds"] < 12


def test_a_search_that_ignores_signals_is_killed_with_its_children(tmp_path: Path) -> None:
    body = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
publish(job, other=other.pid)
{FOREVER}
"""
    engine = tiny_engine(tmp_path, body)
    result = search(engine, PYTHON, tmp_path / "search", problem(seconds=0.5), grace=(2.0, 0.0), patience=0.5)
    assert "long past its budget" in result.partial
    wait_until_gone(result.facts["other"])


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and " Z " not in (Path(f"/proc/{pid}") / "stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_best_model_so_far(tmp_path: Path, signal_number: signal.Signals) -> None:
    ready = f"publish(job)\nprint('ready')\ntry:\n    {FOREVER}\n"
    engine = tiny_engine(tmp_path, f"{ready}except KeyboardInterrupt:\n    publish(job, last=True)\n    raise")
    handler = signal.getsignal(signal.SIGTERM)
    result = search(engine, PYTHON, tmp_path / "search", problem(), lambda line: os.kill(os.getpid(), signal_number))
    assert result.stopped and result.partial.startswith("stopped after") and result.facts["last"]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_search_runs_in_a_thread_too(tmp_path: Path) -> None:
    engine, results = tiny_engine(tmp_path, "publish(job)"), list[SearchResult]()
    thread = threading.Thread(target=lambda: results.append(search(engine, PYTHON, tmp_path / "search", problem())))
    thread.start()
    thread.join()
    assert not results[0].partial


def test_ctrl_c_before_the_first_model_is_a_keyboard_interrupt(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path, f"print('ready')\n{FOREVER}")
    with pytest.raises(KeyboardInterrupt):
        search(engine, PYTHON, tmp_path / "search", problem(), lambda line: os.kill(os.getpid(), signal.SIGINT))


PROGRAM = """
import sys
from pathlib import Path
from medmnist_hf.automl.search import search
from tests.fixtures.automl_engine import problem, tiny_engine
folder = Path(sys.argv[1])
body = "(job.folder / 'pid').write_text(str(os.getpid()))\\n" + sys.argv[2]
search(tiny_engine(folder, body), Path(sys.executable), folder / "search", problem())
"""


def test_a_search_ends_soon_after_its_parent_was_killed(tmp_path: Path) -> None:
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path, FOREVER], cwd=ROOT)
    pid = tmp_path / "search" / "pid"
    deadline = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()):
        assert time.monotonic() < deadline and program.poll() is None
        time.sleep(0.05)
    program.kill()
    program.wait()
    wait_until_gone(int(pid.read_text()))


RESUMABLE = """
tried = job.state / "tried"
tried.write_text(tried.read_text() + "x" if tried.exists() else "x")
publish(job, budget=job.seconds, tried=len(tried.read_text()), before=(job.published_facts() or {}).get("tried"))
time.sleep(0.3)
os._exit(0 if len(tried.read_text()) > 1 else 9)
"""


def test_an_engine_that_can_resume_uses_the_rest_of_its_budget(tmp_path: Path) -> None:
    first = run(tmp_path, RESUMABLE, resumes=True)
    assert first.partial and first.facts["tried"] == 1 and first.facts["budget"] == 60
    second = run(tmp_path, RESUMABLE, resumes=True)
    assert not second.partial and (second.facts["tried"], second.facts["before"]) == (2, 1)
    assert second.facts["budget"] == pytest.approx(60 - first.facts["search_seconds"])
    assert second.facts["search_seconds"] > first.facts["search_seconds"] + 0.3


def test_the_earlier_best_model_stays_if_a_resumed_search_finds_no_better_one(tmp_path: Path) -> None:
    run(tmp_path, "job.state\npublish(job)\nos._exit(9)", resumes=True)
    result = run(tmp_path, "pass", resumes=True)
    assert result.facts["trials"] == 3 and not result.partial


def test_an_engine_that_cannot_resume_starts_anew(tmp_path: Path) -> None:
    run(tmp_path, RESUMABLE)
    second = run(tmp_path, RESUMABLE)
    assert second.partial and (second.facts["tried"], second.facts["before"], second.facts["budget"]) == (1, None, 60)


def test_a_search_without_a_model_starts_anew(tmp_path: Path) -> None:
    for _ in "ab":
        with pytest.raises(TrainingError, match=r"^Tiny: 60$"):
            run(tmp_path, "job.state\ntime.sleep(0.2)\nraise SearchError(f'{job.seconds:g}')", resumes=True)


def test_a_damaged_best_model_is_reported_once(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"left a damaged .*: run the same command again"):
        run(tmp_path, "job.state\n(job.folder / 'best.npz').write_bytes(b'')", resumes=True)
    assert not run(tmp_path, "publish(job)", resumes=True).partial


def test_a_used_up_budget_is_not_exceeded_by_resuming(tmp_path: Path) -> None:
    run(tmp_path, RESUMABLE, resumes=True)
    (tmp_path / "search" / SPENT_NAME).write_text("60.5\n")
    again = run(tmp_path, "raise SearchError('this must not run')", resumes=True)
    assert (again.partial, again.facts["search_seconds"], again.facts["tried"]) == ("", 60.5, 1)


def test_cores_are_those_of_this_process_or_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    available = cores()
    assert available == len(os.sched_getaffinity(0))
    for value, expected in {"1": 1, "1000": available, "0": available, "many": available}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert cores() == expected


def test_the_job_of_a_search_is_plain_json(tmp_path: Path) -> None:
    with_options = replace(problem(), options={"trials": 4, "epochs": None})
    search(tiny_engine(tmp_path, "publish(job)"), PYTHON, tmp_path / "search", with_options)
    job = json.loads((tmp_path / "search" / "job.json").read_text())
    assert job["options"] == {"trials": 4, "epochs": None} and job["parent"] == os.getpid()
    assert (job["task"], job["classes"], job["inputs"], job["cores"]) == ("multi-class", 3, "pixels", cores())
