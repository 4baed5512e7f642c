"""`medmnist_hf.automl.search`: a search in a real process that ends well, badly, late or not at all."""

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

from medmnist_hf.automl.search import LOG_NAME, SPENT_NAME, Found, cores, search
from medmnist_hf.errors import TrainingError
from tests.fixtures.engines import problem, tiny_engine
from tests.fixtures.paths import ROOT

PYTHON = Path(sys.executable)
FOREVER = "while True: time.sleep(0.05)"


def run(folder: Path, body: str, *, resumes: bool = False, seconds: float = 60.0, grace: float = 60.0) -> Found:
    engine = tiny_engine(folder, body, resumes=resumes)
    wanted = problem(seconds=seconds)
    return search(engine, PYTHON, folder / "search", wanted, grace=(grace, 0.0), patience=10)


def test_a_search_gives_scores_and_facts_and_leaves_no_arrays(tmp_path: Path) -> None:
    told: list[str] = []
    engine = tiny_engine(
        tmp_path, "print('half way')\npublish(job, seed=job.seed, labels=sorted(set(job.y('train'))))"
    )
    found = search(engine, PYTHON, tmp_path / "search", problem(), told.append)
    assert found.scores["validation"].shape == (30, 3) and found.scores["test"].shape == (20, 3)
    assert np.allclose(found.scores["test"].sum(1), 1) and found.scores["test"].dtype == np.float64
    assert (found.facts["trials"], found.facts["configuration"]) == (3, {"depth": 2})
    assert (found.facts["seed"], found.facts["labels"]) == (0, [0, 1, 2])
    assert 0 < found.facts["search_seconds"] < 60 and (found.partial, found.stopped) == ("", False)
    assert told == ["half way"] and (tmp_path / "search" / LOG_NAME).read_text() == "half way\n"
    assert not list((tmp_path / "search").glob("*.npy"))


def test_labels_of_test_are_not_given(tmp_path: Path) -> None:
    body = "publish(job, files=sorted(path.name for path in job.folder.iterdir()))"
    files = run(tmp_path, body).facts["files"]
    assert files[-5:] == ["x_test.npy", "x_train.npy", "x_validation.npy", "y_train.npy", "y_validation.npy"]


@pytest.mark.parametrize(
    ("end", "partial"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            r"killed by SIGKILL after \d+ s, as a system does that has no memory",
        ),
        ("raise MemoryError('all is full')", r"ended with exit code 1 after \d+ s \(MemoryError: all is full\)"),
        ("raise SearchError('no time for more')", r"ended with exit code 1 after \d+ s \(no time for more\)"),
        ("os._exit(7)", r"ended with exit code 7 after \d+ s$"),
    ],
)
def test_a_search_that_ends_badly_keeps_its_best_as_partial(tmp_path: Path, end: str, partial: str) -> None:
    found = run(tmp_path, f"publish(job)\n{end}")
    assert found.scores["test"].shape == (20, 3) and not found.stopped
    assert re.match(partial, found.partial), found.partial


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "Tiny: killed by SIGKILL after .* and left no model: see .*log.txt"),
        ("print('so far')\n1 / 0", r"Tiny: ended with exit code 1 after 0?.* s \(ZeroDivisionError: .*\) and left no"),
        ("raise SearchError('a budget of 1 s is\\n too small')", "^Tiny: a budget of 1 s is too small$"),
        ("pass", "Tiny: ended with exit code 0 after .* and left no model"),
        ("(job.folder / 'best.npz').write_bytes(b'PK' + bytes(99))", "left a damaged .*best.npz"),
        ("(job.folder / 'best.npz').write_bytes(b'')", "left a damaged .*best.npz"),
        ("np.savez(job.folder / 'best.npz', found=np.array('{}'))", "left a damaged .*validation"),
        ("np.savez(job.folder / 'best.npz', found=np.array('{'))", "left a damaged "),
        ("np.savez(job.folder / 'best.npz', found=np.array({1: 2}, object))", "left a damaged .*pickle"),
        (
            "job.publish({s: v[:, :2] for s, v in scores(job).items()}, {})",
            r"validation of shape \(30, 2\): \(30, 3\)",
        ),
        ("job.publish({s: v[:5] for s, v in scores(job).items()}, {})", r"of shape \(5, 3\): \(30, 3\) was due"),
        ("job.publish(scores(job, by=np.nan), {})", "scores of validation are not finite"),
        ("job.publish(scores(job, by=-1), {})", "validation that are no probabilities"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        run(tmp_path, body)
    assert "\n" not in str(caught.value)


def test_an_interpreter_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        search(tiny_engine(tmp_path, "pass"), Path("nowhere"), tmp_path / "search", problem())


def test_a_late_search_is_told_to_end_and_may_publish_then(tmp_path: Path) -> None:
    body = f"try:\n    {FOREVER}\nexcept KeyboardInterrupt:\n    publish(job, late=True)\n    raise"
    found = run(tmp_path, body, seconds=0.5, grace=1.5)
    assert found.facts["late"] and found.partial.endswith("long past its budget") and not found.stopped
    assert 2 <= found.facts["search_seconds"] < 12


def test_one_that_does_not_listen_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    body = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
publish(job, other=other.pid)
{FOREVER}
"""
    engine = tiny_engine(tmp_path, body)
    found = search(engine, PYTHON, tmp_path / "search", problem(seconds=0.5), grace=(2.0, 0.0), patience=0.5)
    assert "long past its budget" in found.partial
    wait_until_gone(found.facts["other"])


def wait_until_gone(pid: int) -> None:
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and " Z " not in (Path(f"/proc/{pid}") / "stat").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_best_so_far(tmp_path: Path, by: signal.Signals) -> None:
    ready = f"publish(job)\nprint('ready')\ntry:\n    {FOREVER}\n"
    engine = tiny_engine(tmp_path, f"{ready}except KeyboardInterrupt:\n    publish(job, last=True)\n    raise")
    handler = signal.getsignal(signal.SIGTERM)
    found = search(engine, PYTHON, tmp_path / "search", problem(), lambda line: os.kill(os.getpid(), by))
    assert found.stopped and found.partial.startswith("stopped after") and found.facts["last"]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_in_a_thread_a_search_runs_too(tmp_path: Path) -> None:
    engine, found = tiny_engine(tmp_path, "publish(job)"), list[Found]()
    thread = threading.Thread(target=lambda: found.append(search(engine, PYTHON, tmp_path / "search", problem())))
    thread.start()
    thread.join()
    assert not found[0].partial


def test_ctrl_c_before_there_was_a_model_is_just_that(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path, f"print('ready')\n{FOREVER}")
    with pytest.raises(KeyboardInterrupt):
        search(engine, PYTHON, tmp_path / "search", problem(), lambda line: os.kill(os.getpid(), signal.SIGINT))


PROGRAM = """
import sys
from pathlib import Path
from medmnist_hf.automl.search import search
from tests.fixtures.engines import problem, tiny_engine
folder = Path(sys.argv[1])
body = "(job.folder / 'pid').write_text(str(os.getpid()))\\n" + sys.argv[2]
search(tiny_engine(folder, body), Path(sys.executable), folder / "search", problem())
"""


def test_a_search_ends_soon_after_the_process_that_waits_for_it_was_killed(tmp_path: Path) -> None:
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path, FOREVER], cwd=ROOT)
    pid = tmp_path / "search" / "pid"
    until = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()):
        assert time.monotonic() < until and program.poll() is None
        time.sleep(0.05)
    program.kill()
    program.wait()
    wait_until_gone(int(pid.read_text()))


GOING_ON = """
tried = job.state / "tried"
tried.write_text(tried.read_text() + "x" if tried.exists() else "x")
publish(job, budget=job.seconds, tried=len(tried.read_text()), before=(job.found() or {}).get("tried"))
time.sleep(0.3)
os._exit(0 if len(tried.read_text()) > 1 else 9)
"""


def test_an_engine_that_can_goes_on_with_what_is_left_of_its_budget(tmp_path: Path) -> None:
    first = run(tmp_path, GOING_ON, resumes=True)
    assert first.partial and first.facts["tried"] == 1 and first.facts["budget"] == 60
    second = run(tmp_path, GOING_ON, resumes=True)
    assert not second.partial and (second.facts["tried"], second.facts["before"]) == (2, 1)
    assert second.facts["budget"] == pytest.approx(60 - first.facts["search_seconds"])
    assert second.facts["search_seconds"] > first.facts["search_seconds"] + 0.3


def test_the_best_before_stays_where_going_on_finds_no_better_one(tmp_path: Path) -> None:
    run(tmp_path, "job.state\npublish(job)\nos._exit(9)", resumes=True)
    found = run(tmp_path, "pass", resumes=True)
    assert found.facts["trials"] == 3 and not found.partial


def test_an_engine_that_cannot_starts_anew(tmp_path: Path) -> None:
    run(tmp_path, GOING_ON)
    second = run(tmp_path, GOING_ON)
    assert second.partial and (second.facts["tried"], second.facts["before"], second.facts["budget"]) == (1, None, 60)


def test_one_that_left_no_model_starts_anew(tmp_path: Path) -> None:
    for _ in "ab":
        with pytest.raises(TrainingError, match=r"^Tiny: 60$"):
            run(tmp_path, "job.state\ntime.sleep(0.2)\nraise SearchError(f'{job.seconds:g}')", resumes=True)


def test_a_damaged_best_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"left a damaged .*: run the same command again"):
        run(tmp_path, "job.state\n(job.folder / 'best.npz').write_bytes(b'')", resumes=True)
    assert not run(tmp_path, "publish(job)", resumes=True).partial


def test_a_budget_that_is_used_up_is_not_exceeded_by_going_on(tmp_path: Path) -> None:
    run(tmp_path, GOING_ON, resumes=True)
    (tmp_path / "search" / SPENT_NAME).write_text("60.5\n")
    again = run(tmp_path, "raise SearchError('this must not run')", resumes=True)
    assert (again.partial, again.facts["search_seconds"], again.facts["tried"]) == ("", 60.5, 1)


def test_cores_are_those_of_this_process_or_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    whole = cores()
    assert whole == len(os.sched_getaffinity(0))
    for value, expected in {"1": 1, "1000": whole, "0": whole, "many": whole}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert cores() == expected


def test_the_job_of_a_search_is_plain_json(tmp_path: Path) -> None:
    wanted = replace(problem(), options={"trials": 4, "epochs": None})
    search(tiny_engine(tmp_path, "publish(job)"), PYTHON, tmp_path / "search", wanted)
    told = json.loads((tmp_path / "search" / "job.json").read_text())
    assert told["options"] == {"trials": 4, "epochs": None} and told["parent"] == os.getpid()
    assert (told["task"], told["classes"], told["inputs"], told["cores"]) == ("multi-class", 3, "pixels", cores())
