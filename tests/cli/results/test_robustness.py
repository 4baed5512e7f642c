"""``medmnist-hf robustness``: from a run to a report, its errors, and the comparison of reports."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medmnist_hf.corruptions.published_json import read_published
from medmnist_hf.training.robustness.report import write_robustness
from medmnist_hf.training.robustness.results import read_robustness
from medmnist_hf.training.running import run
from tests.conftest import Phantoms
from tests.fixtures.commands import Command, command
from tests.fixtures.hub.server import HubServer
from tests.fixtures.robustness import robustness as result_of
from tests.fixtures.runs import build_all, tiny


@pytest.fixture
def robustness(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command("robustness", capsys, monkeypatch)


@pytest.fixture(scope="module")
def home(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with builds and a run."""
    path = tmp_path_factory.mktemp("home")
    root = build_all(phantoms, path / "dist", "breastmnist")
    run(tiny(root, "breastmnist"), path / "run", quiet=True)
    return path


def test_a_run_is_reported_and_the_report_is_continued(robustness: Command, home: Path, tmp_path: Path) -> None:
    usual = ["--run", home / "run", "--device", "cpu", "--out", tmp_path]
    first = robustness(*usual, "--corruptions", "clean", "--corruptions", "pixelate")
    assert first.returncode == 0, first.stderr
    assert "Incomplete: BE and rBE are without jpeg_compression" in first.stdout
    assert "timm/test_efficientnet finetune seed0 on " in first.stderr
    done = robustness(*usual, "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SYNTHETIC: ") and "Incomplete" not in done.stdout
    result = read_robustness(tmp_path / "robustness.json")
    assert len(result.corruptions) == 7 and result.marks == ("synthetic", "size28")
    published = tmp_path / "breastmnist_timm-test_efficientnet_seed0-synthetic-size28.json"
    assert read_published(published).errors == result.errors
    assert len((tmp_path / "robustness.csv").read_text().splitlines()) == 2 + 7 * 5
    assert {path.name for path in tmp_path.glob("*.*")} == {
        published.name,
        *("robustness.json", "robustness.csv", "robustness.png"),
    }


def test_the_report_is_in_the_folder_of_the_run_by_default(robustness: Command, home: Path) -> None:
    only = robustness("--run", home / "run", "--device", "cpu", "--corruptions", "clean", "--no-report", "--quiet")
    assert (only.returncode, only.stdout) == (0, ""), only.stderr
    assert (home / "run" / "robustness" / "seed0" / "measured" / "clean.json").is_file()
    shutil.rmtree(home / "run" / "robustness")


def test_a_model_folder_is_named_with_its_data(robustness: Command, home: Path, tmp_path: Path) -> None:
    model = home / "run" / "seed-0" / "best"
    usual = ["--model", model, "--root", home / "dist", "--device", "cpu", "--out", tmp_path]
    done = robustness(*usual, "--subset", "breastmnist", "--corruptions", "clean", "--corruptions", "contrast_down")
    assert done.returncode == 0, done.stderr
    assert read_robustness(tmp_path / "robustness.json").trained_on is None
    assert "add --subset" in robustness(*usual).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name one model: a run with --run, or another model with --model and --subset"),
        (["nonsense"], "'nonsense' is not known: name a model with --run or --model, or write compare"),
        (["compare"], "no files to compare"),
        (["--model", "x", "--subset", "breastmnist", "--seed", "0"], "--seed is for a run: leave it out"),
        (["--run", "RUN", "--seed", "0", "--ensemble"], "leave one of them out"),
        (["--run", "RUN", "--corruptions", "zoom_blur"], "breastmnist has no corruption 'zoom_blur': choose from"),
        (["--run", "RUN", "--subset", "bloodmnist"], "was trained on breastmnist at size 28, not on bloodmnist"),
        (["--run", "nowhere"], "holds no finished run"),
        (["--run", "RUN", "--workers", "2"], "--workers needs an engine"),
    ],
)
def test_other_arguments_are_one_line_errors(
    arguments: list[str], message: str, robustness: Command, home: Path, tmp_path: Path
) -> None:
    given = [str(home / "run") if word == "RUN" else word for word in arguments]
    out = ["--out", str(tmp_path / "out")] if given[:1] and given[0].startswith("--") else []
    ended = robustness(*given, *out)
    assert ended.returncode == 1 and message in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_reports_are_compared(robustness: Command, tmp_path: Path) -> None:
    for name, kind in (("ours", "zenodo"), ("other", "phantom")):
        (tmp_path / name).mkdir()
        write_robustness(result_of(kind=kind), tmp_path / name, "resnet18")
    done = robustness("compare", tmp_path / "ours", tmp_path / "other" / "robustness.json")
    lines = done.stdout.splitlines()
    assert lines[0] == "breastmnist, by BE (lower is better)" and lines[1].split()[:3] == ["rank", "model", "BE"]
    assert [line.split()[0] for line in lines[2:5]] == ["1", "1", "-"]
    assert lines[5].startswith("timm/resnet18 finetune seed0: SYNTHETIC: ")


@pytest.mark.slow
def test_a_repository_on_the_hub_is_a_model(robustness: Command, home: Path, tmp_path: Path, hub: HubServer) -> None:
    model = home / "run" / "seed-0" / "best"
    hub.store.create("model", "you/model")
    hub.store.write("model", "you/model", {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()})
    usual = ["--subset", "breastmnist", "--root", str(home / "dist"), "--device", "cpu", "--quiet"]
    usual += ["--corruptions", "clean", "--corruptions", "pixelate"]
    program = [sys.executable, "-m", "medmnist_hf", "robustness", "--model", "you/model", *usual]
    out = ["--out", str(tmp_path / "hub")]
    done = subprocess.run([*program, *out], env=hub.env(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert robustness("--model", model, *usual, "--out", tmp_path / "folder").returncode == 0
    first, second = (read_robustness(tmp_path / name / "robustness.json") for name in ("hub", "folder"))
    assert first.model == "you/model" and first.errors == second.errors


@pytest.mark.slow
def test_a_killed_command_resumes_and_an_engine_gives_the_same(
    robustness: Command, home: Path, tmp_path: Path
) -> None:
    usual = ["--run", str(home / "run"), "--device", "cpu", "--quiet"]
    killed = [sys.executable, "-m", "medmnist_hf", "robustness", *usual, "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    measured = tmp_path / "killed" / "measured"
    while process.poll() is None and not list(measured.glob("p*.json")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in measured.glob("*.json")}
    assert before
    assert robustness(*usual, "--out", tmp_path / "killed").returncode == 0
    assert {name: (measured / name).stat().st_mtime_ns for name in before} == before
    some = ["--corruptions", "clean", "--corruptions", "pixelate", "--out", tmp_path / "tasks", "--engine", "local"]
    tasks = robustness(*usual, *some, "--workers", "2")
    assert tasks.returncode == 0, tasks.stderr
    whole, part = (read_robustness(tmp_path / name / "robustness.json") for name in ("killed", "tasks"))
    assert part.errors.be_scores == {"pixelate": whole.errors.be_scores["pixelate"]}
    assert part.clean.scores == whole.clean.scores and not whole.errors.missing
    assert "2 of 2 are done already" in robustness(*usual, *some).stdout
