"""``medmnist-hf automl`` and ``medmnist-hf automl-env`` as a user runs them: a search, Ctrl-C, and mistakes."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from medmnist_hf.automl.engines import engines
from medmnist_hf.automl.environments import VARIABLE
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.results import RunResult
from tests.conftest import Phantoms
from tests.fixtures.commands import invoke
from tests.fixtures.paths import ROOT
from tests.fixtures.runs import build_all

SCRIPTS = ROOT / "scripts"


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "breastmnist")


def command(script: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPTS / script, *options], capture_output=True, text=True, check=False)


def test_help_names_every_engine_and_an_example() -> None:
    process = command("automl.py", "--help")
    assert process.returncode == 0 and "Example: medmnist-hf automl breastmnist" in process.stdout
    assert all(f"{each.name}:" in process.stdout for each in engines())


@pytest.mark.slow
def test_a_search_is_not_repeated(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["breastmnist", "--root", str(root), "--engine", "flaml", "--time-budget", "2m", "--trials", "2"]
    invoke("automl", *options, "--seed", "3", "--out", str(tmp_path / "run"))
    output = capsys.readouterr()
    assert "SYNTHETIC: breastmnist 28, FLAML, flattened pixels (28), 1 seed" in output.out
    assert "AutoKeras" not in output.out, "a phantom is not ranked among published rows"
    assert "seed 3: FLAML 2." in output.out and "trial 1: LGBMEstimator" in output.err
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert (recipe["model"], recipe["method"], recipe["time_budget"], recipe["seeds"]) == ("pixels", "flaml", 120, [3])
    again = ["--config", str(tmp_path / "run" / "recipe.yaml"), "--out", str(tmp_path / "run"), "--quiet"]
    invoke("automl", *again)
    assert capsys.readouterr() == (output.out, "")


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_model_and_the_same_command_resumes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    options = ["breastmnist", "--root", str(root), "--engine", "flaml", "--out", str(out)]
    options += ["--time-budget", "1h"]
    program = subprocess.Popen(
        [sys.executable, SCRIPTS / "automl.py", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert program.stderr is not None
    trial = next(line for line in program.stderr if line.startswith("trial"))
    program.send_signal(signal.SIGINT)
    rest = program.stderr.read()
    assert trial and program.wait(60) == 130, rest
    assert rest.splitlines()[-1] == "stopped: run the same command again to resume" and "Traceback" not in rest
    (run,) = json.loads((out / "results.json").read_text())["runs"]
    assert run["facts"]["partial"].startswith("stopped after") and run["test"]["auc"] is not None

    (out / "seed-0" / "checkpoints" / "seconds.txt").write_text("3597.0\n")  # as if it had been stopped near the end
    invoke("automl", *options)
    assert "partial" not in capsys.readouterr().out
    (run,) = json.loads((out / "results.json").read_text())["runs"]
    assert "partial" not in run["facts"] and 3597 < run["facts"]["search_seconds"] < 3650


@pytest.mark.slow
def test_a_killed_search_is_a_one_line_error_with_partial_results(root: Path, tmp_path: Path) -> None:
    options = ["breastmnist", "--root", str(root), "--engine", "flaml", "--out", str(tmp_path / "run")]
    program = subprocess.Popen(
        [sys.executable, SCRIPTS / "automl.py", *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stderr is not None and program.stdout is not None
    assert next(line for line in program.stderr if line.startswith("trial"))
    children = psutil.Process(program.pid).children()
    (child,) = (child for child in children if "flaml_search.py" in " ".join(child.cmdline()))
    child.kill()
    errors, output = program.stderr.read(), program.stdout.read()
    assert program.wait(60) == 1 and "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("error: results are partial (seed 0 killed by SIGKILL after")
    assert "breastmnist 28, FLAML, flattened pixels (28), partial, 1 seed" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "tpot"], "unknown engine 'tpot': choose from flaml"),
        ([], "no engine given: add --engine, one of flaml"),
        (["--preset", "medmnist_v2"], "unknown engine 'finetune'"),
        (["--engine", "autokeras", "--model", "resnet18"], "use model pixels"),
        (["--engine", "flaml", "--time-budget", "soon"], "time_budget is 'soon': must be a duration"),
        (["--engine", "flaml", "--time-budget", "0s"], "time_budget is 0.0: must be above 0"),
        (["--engine", "flaml", "--time-budget", "10ms"], "time_budget is '10ms'"),
        pytest.param(
            ["--engine", "flaml", "--time-budget", "0.01"],
            "FLAML: a time budget of 0.01 s is too small for one trial",
            marks=pytest.mark.slow,
        ),
        (["--engine", "flaml", "--seeds", "0"], "seeds are"),
        (["--engine", "flaml", "--size", "32"], "32"),
        (["--engine", "flaml", "blodmnist"], "bloodmnist"),
        (
            ["--engine", "flaml", "--python", "/nowhere/python"],
            "FLAML cannot run in /nowhere/python .*medmnist-hf.flaml",
        ),
        (
            ["--engine", "auto-sklearn", "--python", sys.executable],
            "auto-sklearn is not installed .*automl-env auto-",
        ),
    ],
)
def test_every_mistake_is_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.setenv(VARIABLE, "")  # --python sets it, so restore it after the test
    before = [] if "blodmnist" in options else ["breastmnist"]
    with pytest.raises(MedMNISTError, match=message) as caught:
        invoke("automl", *before, "--root", str(root), "--quiet", "--out", str(tmp_path / "run"), *options)
    assert "\n" not in str(caught.value) and not list(tmp_path.rglob("results.json"))


def test_an_engine_uses_its_published_settings_unless_options_override_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medmnist_hf.training import running

    monkeypatch.setenv(VARIABLE, "")
    recipes: list[Recipe] = []
    original_run = running.run

    def recording_run(recipe: Recipe, *arguments: Any, **options: Any) -> RunResult:
        recipes.append(recipe)
        return original_run(recipe, *arguments, **options)

    monkeypatch.setattr(running, "run", recording_run)
    for options, epochs in {(): 20, ("--epochs", "3"): 3}.items():
        arguments = ["--engine", "autokeras", "--python", "/nowhere", "--out", str(tmp_path / "run"), *options]
        with pytest.raises(MedMNISTError, match="AutoKeras cannot run in /nowhere"):
            invoke("automl", "breastmnist", "--root", str(root), *arguments)
        assert (recipes[-1].trials, recipes[-1].epochs, recipes[-1].model) == (20, epochs, "pixels")
        assert not (tmp_path / "run").exists(), "the folder is created after the engine was found"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["tpot"], "unknown engine 'tpot'"),
        (
            ["auto-sklearn", "--python", "/nowhere/python"],
            "/nowhere/python .* auto-sklearn",
        ),
        (["auto-sklearn", "--python", sys.executable], "is Python 3.*: auto-sklearn needs Python 3.9 or 3.8"),
    ],
)
def test_an_environment_needs_a_valid_engine_and_python(options: list[str], message: str) -> None:
    with pytest.raises(MedMNISTError, match=message) as caught:
        invoke("automl-env", *options)
    assert "\n" not in str(caught.value)


def test_automl_env_ends_like_other_commands() -> None:
    process = command("automl_env.py", "tpot")
    assert process.returncode == 1 and process.stderr.startswith("error: unknown engine 'tpot'")
    assert "auto-sklearn" in command("automl_env.py", "--help").stdout
