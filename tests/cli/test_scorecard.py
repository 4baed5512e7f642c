"""``medmnist-hf scorecard`` as a user runs it: its cost, a card, what is left after a kill, a comparison, mistakes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medmnist_hf.jobs import submit
from tests.conftest import Phantoms
from tests.fixtures.commands import command
from tests.fixtures.scorecards import MODEL, make_home, weights

FLAGS = ("breastmnist", "retinamnist")


@pytest.fixture(scope="module")
def home(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_home(phantoms, tmp_path_factory.mktemp("home"), *FLAGS)
    weights(folder)
    weights(folder, "timm/test_efficientnet")
    return folder


def usual(model: str = MODEL) -> list[str]:
    name = model.partition("/")[2]
    return [
        *("--root", "dist", "--model", model, "--no-pretrained", "--checkpoint", f"{name}.safetensors"),
        *("--image-size", "28"),
    ]


def test_a_card_is_made_shown_and_compared(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setitem(submit.ENGINES, "here", ("tests.fixtures.scorecards", "HereEngine", None))
    run = command("scorecard", capsys, monkeypatch)
    few = ("--protocol", "knn", "--protocol", "shots-1", "--engine", "here")
    shown = run(*FLAGS, *usual(), *few, "--dry-run")
    assert shown.returncode == 0 and shown.stderr.startswith("loading torch, and measuring the network ")
    assert not (home / "scorecards").exists() and not (home / "features").exists()
    lines = shown.stdout.splitlines()
    assert lines[0] == f"score card of {MODEL}, preset quick: 2 subsets, 4 runs, in scorecards/timm-test_resnet"
    assert lines[1] == "to do: 4 runs with 12 seeds; 224 images to extract for 2 stores"
    assert re.fullmatch(
        r"estimate: about \d.* with 1 at a time; 224 passes of \d.* ms per image on cpu here", lines[2]
    )
    assert lines[-1].startswith("waiting     retinamnist shots-1: method linear-probe, shots 1, few_validation")
    made = run(*FLAGS, *usual(), *few)
    assert (
        made.returncode == 0
        and "mean over subsets" in made.stdout
        and "wrote scorecards/timm-test_resnet" in made.stdout
    )
    again = run(*FLAGS, *usual(), *few)
    assert again.returncode == 0 and "all runs are done" in again.stdout
    other = usual("timm/test_efficientnet")
    assert run(*FLAGS, *other, "--protocol", "knn", "--engine", "here", "--out", "other").returncode == 0
    both = run("compare", "scorecards/timm-test_resnet", "other", "--out", "both")
    assert both.returncode == 0 and (home / "both/comparison.html").is_file()
    assert both.stdout.startswith(f"{MODEL} minus timm/test_efficientnet; shared protocols: knn\n")
    assert "not compared: only one of them has shots-1 on breastmnist" in both.stdout
    (home / "other/scorecard.html").unlink()
    assert run("--report-only", "--out", "other").returncode == 0 and (home / "other/scorecard.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name data and a model"),
        (["breastmnist"], "name data and a model"),
        (["compare", "one"], "a comparison needs two score cards"),
        (["compare", "one", "two"], "cannot read one/scorecard.json"),
        (["compare", "one", "two", "--dry-run"], "a comparison runs nothing"),
        (["compare", "one", "two", "--protocol", "knn"], "a comparison runs nothing"),
        (["--report-only", "--out", "nowhere", "--preset", "full"], "--report-only writes the card of a folder"),
        (["--report-only"], "--report-only writes the card of a folder"),
        (["--report-only", "--out", "nowhere"], "nowhere holds no score card"),
        (["breastmnist", *usual(), "--preset", "huge"], "unknown preset 'huge'"),
        (["breastmnist", *usual(), "--size", "64"], "no build of breastmnist"),
        (["breastmnist", *usual(), "--engine", "hf-jobs"], "which hf-jobs keeps elsewhere"),
        (["breastmnist", "--model", "resnet"], "unknown model 'resnet'"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str],
    message: str,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(home)
    before = sorted(home.rglob("*"))
    ended = command("scorecard", capsys, monkeypatch)(*arguments)
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert ended.returncode == 1 and len(errors) == 1 and message in errors[0], ended.stderr
    assert sorted(home.rglob("*")) == before


@pytest.mark.slow
def test_a_killed_card_resumes_and_is_the_same(home: Path) -> None:
    """Preset quick on two subsets, in real processes: killed after the first runs, then the same command."""
    program = [sys.executable, "-m", "medmnist_hf", "scorecard", *FLAGS, *usual(), "--workers", "2"]
    process = subprocess.Popen([*program, "--out", "killed"], cwd=home, start_new_session=True)
    until = time.monotonic() + 300
    while len(list(home.glob("killed/*/results.json"))) < 2:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in home.glob("killed/*/results.json")}
    subprocess.run([*program, "--out", "killed"], cwd=home, check=True)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    subprocess.run([*program, "--out", "whole"], cwd=home, check=True)

    def card(name: str) -> str:
        text = (home / name / "scorecard.json").read_text()
        assert len(json.loads(text)["subsets"][1]["results"]) == 7
        return re.sub(r'"seconds": [\d.]+', "", text)

    assert card("killed") == card("whole")
