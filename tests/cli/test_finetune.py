"""``medmnist-hf finetune`` as a person runs it: a run, its options, its push, and every mistake in one line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import save_file

from medmnist_hf.errors import MedMNISTError
from medmnist_hf.training.recipe import FIELDS
from tests.conftest import Phantoms
from tests.fixtures.commands import invoke, replaced
from tests.fixtures.hub.server import HubServer
from tests.fixtures.paths import ROOT
from tests.fixtures.runs import build_all

SCRIPT = ROOT / "scripts" / "finetune.py"
NETWORK = ["--model", "timm/test_efficientnet", "--no-pretrained", "--batch-size", "16"]
TINY = [*NETWORK, "--epochs", "1"]
PUSHED = ["--dataset", "bloodmnist", "--method", "linear-probe", *NETWORK]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "bloodmnist")


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)


def test_help_names_every_field_and_an_example_without_torch() -> None:
    done = command("--help")
    assert done.returncode == 0 and "Example: medmnist-hf finetune --dataset pathmnist" in done.stdout
    for name in FIELDS:
        assert f"--{name.replace('_', '-')}" in done.stdout
    check = f"import sys, runpy; sys.argv = ['x', '--help']\ntry: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    code = f"{check}\nexcept SystemExit: sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_run_from_a_preset_and_options(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--dataset", "bloodmnist", "--root", str(root), "--preset", "rethinking", *TINY]
    options += ["--image-size", "32", "--seeds", "2", "--out", str(tmp_path / "run")]
    invoke("finetune", *options)
    told = capsys.readouterr()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [run["seed"] for run in results["runs"]] == [0, 1]
    assert told.out.startswith("SYNTHETIC: ") and "SYNTHETIC: bloodmnist 28, timm/test_efficientnet" in told.out
    assert "ResNet-18 (28)" not in told.out, "a phantom is not ranked among published rows"
    assert "epoch   1  validation AUC" in told.err
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert recipe["select"] == "loss" and recipe["learning_rate"] == 1e-4 and recipe["epochs"] == 1


def test_words_and_numbers_of_one_option(root: Path, tmp_path: Path) -> None:
    for given, kept in (("images", "images"), ("3", 3)):
        options = ["--dataset", "bloodmnist", "--root", str(root), "--channels", given, "--method", "knn", *NETWORK]
        invoke("finetune", *options, "--quiet", "--out", str(tmp_path / given))
        assert yaml.safe_load((tmp_path / given / "recipe.yaml").read_text())["channels"] == kept


def checkpoint(folder: Path) -> str:
    save_file({"conv_stem.weight": torch.zeros(3, 3)}, folder / "other.safetensors")
    return str(folder / "other.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "blodmnist"], "bloodmnist"),
        (["--dataset", "bloodmnist", "--size", "32"], "32"),
        (["--dataset", "bloodmnist", "--model", "timm/resnet1"], "resnet"),
        (["--dataset", "bloodmnist", "--model", "no/such-model"], "no/such-model"),
        (["--dataset", "bloodmnist", "--preset", "other"], "choose from"),
        (["--dataset", "bloodmnist", "--method", "svm"], "linear-probe"),
        (["--dataset", "bloodmnist", "--epochs", "0"], "epochs is 0"),
        (["--dataset", "bloodmnist", "--seeds", "0"], "seeds"),
        (["--dataset", "bloodmnist", "--checkpoint", "CHECKPOINT"], "conv_stem.weight"),
        (["--dataset", "bloodmnist", "--checkpoint", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--dataset", "bloodmnist", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--dataset", "pathmnist"], "pathmnist"),
        ([], "no dataset named"),
    ],
)
def test_every_mistake_is_one_line(
    root: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
) -> None:
    given = [checkpoint(tmp_path) if one == "CHECKPOINT" else one for one in options]
    before = [] if "--epochs" in given else ["--epochs", "1"]
    model = [] if "--model" in given else TINY[:3]
    with pytest.raises(MedMNISTError, match=message) as caught:
        invoke("finetune", "--root", str(root), "--quiet", "--out", str(tmp_path / "run"), *before, *model, *given)
    assert "\n" not in str(caught.value)


def test_a_mistake_ends_with_exit_code_1_and_no_traceback(root: Path, tmp_path: Path) -> None:
    done = command("--dataset", "blodmnist", "--root", str(root), "--out", str(tmp_path))
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


Finetune = Callable[..., list[str]]
"""Called with options, runs the command in this process; gives the lines that it printed."""

COMMIT = "/commit/"


@pytest.fixture
def finetune(
    hub: HubServer,
    *,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Finetune:
    monkeypatch.setenv("HF_TOKEN", hub.token.secret)

    def call(*options: str) -> list[str]:
        capsys.readouterr()
        usual = [*PUSHED, "--root", str(root), "--quiet", "--out", str(tmp_path / "run")]
        invoke("finetune", *replaced(usual, options))
        told = capsys.readouterr()
        assert "hf_" not in told.out + told.err
        return told.out.splitlines()

    return call


def test_a_model_is_pushed_once_its_run_is_done(hub: HubServer, finetune: Finetune, tmp_path: Path) -> None:
    told = finetune("--push-to-hub", "org/tiny")
    repo = hub.store.repos["model", "org/tiny"]
    assert told[-1] == f"org/tiny: commit {repo.resolve('main').sha[:12]}, all files checked"
    files = hub.store.files("model", "org/tiny")
    assert files["model.safetensors"] == (tmp_path / "run" / "seed-0" / "best" / "model.safetensors").read_bytes()
    card = ModelCard(files["README.md"].decode())
    assert "@article{bloodmnist" in card.text and "Not for clinical use" in card.text
    hub.log.clear()
    told = finetune("--push-to-hub", "org/tiny")
    assert told[-1] == f"org/tiny: unchanged, no commit made; at {repo.resolve('main').sha[:12]}, all files checked"
    assert not hub.log.find("POST|PUT|DELETE")


def test_a_run_that_was_done_before_is_pushed_by_the_same_command(
    hub: HubServer, finetune: Finetune, tmp_path: Path
) -> None:
    told = finetune()
    assert told[-1].startswith("written to ") and not hub.log.find()
    outcome = tmp_path / "run" / "seed-0" / "result.json"
    before = outcome.stat().st_mtime_ns
    finetune("--push-to-hub", "org/hidden", "--private")
    assert hub.store.repos["model", "org/hidden"].private and outcome.stat().st_mtime_ns == before
    finetune("--push-to-hub", "org/hidden", "--private", "--branch", "other")
    assert hub.store.files("model", "org/hidden", "other") == hub.store.files("model", "org/hidden")


def test_a_push_that_would_fail_is_refused_before_the_training(
    hub: HubServer, finetune: Finetune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.api().create_repo("org/theirs")
    hub.store.write("model", "org/theirs", {"config.json": b"{}"})

    def refused(match: str, *options: str) -> None:
        with pytest.raises(MedMNISTError, match=match) as caught:
            finetune(*options)
        assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()

    refused("add --push-to-hub NAMESPACE/NAME", "--private")
    refused("add --push-to-hub NAMESPACE/NAME", "--branch", "other")
    refused("'tiny' is not a valid repository: name it NAMESPACE/NAME", "--push-to-hub", "tiny")
    refused("method knn leaves no model to push", "--push-to-hub", "org/tiny", "--method", "knn")
    refused("org/theirs holds files that no run here has pushed", "--push-to-hub", "org/theirs")
    monkeypatch.setenv("HF_TOKEN", hub.read_token.secret)
    refused("the token may only read", "--push-to-hub", "org/tiny")
    monkeypatch.delenv("HF_TOKEN")
    refused("no token for the Hub", "--push-to-hub", "org/tiny")
    assert list(hub.store.repos) == [("model", "org/theirs")]


@pytest.mark.slow
def test_of_two_processes_the_first_pushes(hub: HubServer, finetune: Finetune, root: Path, tmp_path: Path) -> None:
    finetune()
    hub.log.clear()
    given = [*PUSHED, "--root", str(root), "--quiet", "--out", str(tmp_path / "run"), "--push-to-hub", "org/tiny"]
    done = subprocess.run(
        [*LAUNCH, SCRIPT, *given],
        env=hub.env(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("org/tiny: commit")]) == 1
    assert len(hub.log.find("POST", COMMIT)) == 1 == len(hub.log.find("POST", "/repos/create"))
