"""``medmnist-hf finetune`` as a user runs it: a run, its options, its push, and mistakes in one line."""

import json
import re
import shutil
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
from medmnist_hf.training.results import read_results
from tests.conftest import Phantoms
from tests.fixtures.commands import invoke, replaced
from tests.fixtures.hub.server import HubServer
from tests.fixtures.own_code import TEXT, write_code
from tests.fixtures.paths import ROOT
from tests.fixtures.runs import build_all

SCRIPT = ROOT / "scripts" / "finetune.py"
NETWORK = ["--model", "timm/test_efficientnet", "--no-pretrained", "--batch-size", "16"]
TINY = [*NETWORK, "--epochs", "1"]
PUSHED = ["bloodmnist", "--method", "linear-probe", *NETWORK]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "bloodmnist")


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)


def test_help_names_every_field_and_an_example_without_torch() -> None:
    process = command("--help")
    assert process.returncode == 0 and "Example: medmnist-hf finetune breastmnist" in process.stdout
    options = [f"--{name.replace('_', '-')}" for name in FIELDS if name not in {"dataset", "repository"}]
    for option in [*options, "--lr", "--device", "--workers", "--force", "--repo-id", "--out"]:
        assert option in process.stdout
    assert "[OPTIONS] [DATA]" in process.stdout
    assert "--dataset" not in process.stdout and "--repository" not in process.stdout
    check = f"import sys, runpy; sys.argv = ['x', '--help']\ntry: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    code = f"{check}\nexcept SystemExit: sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_run_from_a_preset_and_options(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["bloodmnist", "--root", str(root), "--preset", "rethinking", *TINY]
    options += ["--image-size", "32", "--seeds", "2", "--out", str(tmp_path / "run")]
    invoke("finetune", *options)
    output = capsys.readouterr()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [run["seed"] for run in results["runs"]] == [0, 1]
    assert output.out.startswith("SYNTHETIC: ") and "SYNTHETIC: bloodmnist 28, timm/test_efficientnet" in output.out
    assert "ResNet-18 (28)" not in output.out, "a phantom is not ranked among published rows"
    lines = output.err.splitlines()
    assert lines[0] == "bloodmnist 28, timm/test_efficientnet, finetune, 2 seeds"
    assert lines[1].split() == ["folder", str(tmp_path / "run")] and "loading" in lines[2]
    (data,) = (line for line in lines if line.startswith("  data "))
    assert f"{root}/bloodmnist/28 (synthetic): train 48, validation " in data
    assert any(line.startswith("  device   cpu (") for line in lines)
    seeds = [at for at, line in enumerate(lines) if line in {"seed 0 (1 of 2)", "seed 1 (2 of 2)"}]
    assert len(seeds) == 2
    total = results["runs"][0]["facts"]["parameters"]
    for at in seeds:
        model = f"  model    {total:,} parameters, {total:,} trained; random initialization; reads 32 pixels"
        assert lines[at + 1] == model
    assert lines.count("  begins   epoch 1 of 1") == 2, "the first epoch may take long"
    (first, *_) = (line for line in lines if line.startswith("epoch "))
    assert re.fullmatch(r"epoch   1/1  train loss [\d.]+, validation loss [\d.]+, AUC ([\d.]+|nan), ACC [\d.]+", first)
    best = (tmp_path / "run" / "best").readlink()
    written = output.out[output.out.index("written to ") :].splitlines()
    assert written[0] == f"written to {tmp_path / 'run'}:"
    assert [line.split()[0] for line in written[1:]] == [
        *("results.json", "recipe.yaml", "best/", "seed-0/", "seed-1/", "*.csv")
    ]
    assert f"from seed {best.parts[0][-1]}" in written[3]
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert recipe["select"] == "loss" and recipe["learning_rate"] == 1e-4 and recipe["epochs"] == 1


def test_an_option_accepts_words_and_numbers(root: Path, tmp_path: Path) -> None:
    for text, value in (("images", "images"), ("3", 3)):
        options = ["bloodmnist", "--root", str(root), "--channels", text, "--method", "knn", *NETWORK]
        invoke("finetune", *options, "--quiet", "--out", str(tmp_path / text))
        assert yaml.safe_load((tmp_path / text / "recipe.yaml").read_text())["channels"] == value


def checkpoint(folder: Path) -> str:
    save_file({"conv_stem.weight": torch.zeros(3, 3)}, folder / "other.safetensors")
    return str(folder / "other.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["blodmnist"], "bloodmnist"),
        (["bloodmnist", "--size", "32"], "32"),
        (["bloodmnist", "--model", "timm/resnet1"], "resnet"),
        (["bloodmnist", "--model", "no/such-model"], "no/such-model"),
        (["bloodmnist", "--preset", "other"], "choose from"),
        (["bloodmnist", "--method", "svm"], "linear-probe"),
        (["bloodmnist", "--epochs", "0"], "epochs is 0"),
        (["bloodmnist", "--seeds", "0"], "seeds"),
        (["bloodmnist", "--checkpoint", "CHECKPOINT"], "conv_stem.weight"),
        (["bloodmnist", "--checkpoint", "nowhere.safetensors"], "nowhere.safetensors"),
        (["bloodmnist", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["pathmnist"], "pathmnist"),
        (["bloodmnist", "--seeds", "2", "--seed", "5"], "give only one of them"),
        (["bloodmnist", "--preset", "medmnist_v2_3d"], "is for volumes, but bloodmnist has images"),
        (["bloodmnist", "--device", "cuda:7"], "device cuda:7 is not available: choose auto, cpu"),
        (["bloodmnist", "--device", "gpu"], "device gpu is not available: choose auto, cpu"),
        ([], "no data set given"),
    ],
)
def test_every_mistake_is_one_line(
    root: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
) -> None:
    arguments = [checkpoint(tmp_path) if word == "CHECKPOINT" else word for word in options]
    before = [] if "--epochs" in arguments else ["--epochs", "1"]
    model = [] if "--model" in arguments else TINY[:3]
    with pytest.raises(MedMNISTError, match=message) as caught:
        invoke("finetune", "--root", str(root), "--quiet", "--out", str(tmp_path / "run"), *before, *model, *arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists(), "the folder is created after all checks"


def test_a_run_of_another_recipe_is_replaced_only_by_force(root: Path, tmp_path: Path) -> None:
    arguments = [
        "bloodmnist",
        "--root",
        str(root),
        "--method",
        "knn",
        *NETWORK,
        "--quiet",
        "--out",
        str(tmp_path / "run"),
    ]
    invoke("finetune", *arguments, "--neighbors", "3", "--device", "cpu", "--workers", "1")
    results = tmp_path / "run" / "results.json"
    before = results.read_bytes()
    with pytest.raises(MedMNISTError, match=r"another recipe \(neighbors 3 -> 5\): give --force to replace it"):
        invoke("finetune", *arguments, "--neighbors", "5")
    other = [word if word != NETWORK[1] else "timm/resnet1" for word in arguments]
    with pytest.raises(MedMNISTError, match="resnet1"):
        invoke("finetune", *other, "--force")
    assert results.read_bytes() == before, "the existing run is deleted after all checks"
    invoke("finetune", *arguments, "--neighbors", "5", "--force")
    assert json.loads(results.read_bytes())["recipe"]["neighbors"] == 5


def test_the_first_lines_are_printed_before_torch_is_imported(root: Path, tmp_path: Path) -> None:
    """Importing torch takes seconds."""
    program = (
        "import sys\n"
        "from medmnist_hf import console\n"
        "from medmnist_hf.cli.main import app\n"
        "lines = []\n"
        "def echo(text, *, err=False): lines.append((text, err)) or 'loading' not in text or sys.exit(0)\n"
        "console.echo = echo\n"
        "try: app(sys.argv[1:], standalone_mode=False)\n"
        "finally: print(len(lines), all(err for _, err in lines), 'torch' in sys.modules)\n"
    )
    arguments = ["finetune", "bloodmnist", "--root", str(root), *TINY, "--out", str(tmp_path / "run")]
    process = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert process.stdout == "2 True False\n"


def test_the_folder_and_the_model_name_are_checked_before_torch_is_imported(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of a completed run are shown again; another recipe and an invalid model name are errors."""
    out = tmp_path / "run"
    arguments = ["bloodmnist", "--root", str(root), "--method", "knn", *NETWORK, "--out", str(out)]
    invoke("finetune", *arguments, "--seed", "3")
    first = capsys.readouterr().out
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    monkeypatch.setitem(sys.modules, "medmnist_hf.training.running", None)  # importing it fails
    invoke("finetune", *arguments, "--seed", "3")
    output = capsys.readouterr()
    assert (output.out, output.err) == (first, f"{out} holds this run, and it is complete: --force runs it again\n")
    invoke("finetune", *arguments, "--seed", "3", "--quiet")
    assert capsys.readouterr() == (first, "")
    for options, message in (
        (["--neighbors", "5"], r"holds a run of another recipe \(neighbors 11 -> 5\): give --force"),
        (["--model", "resnet34"], "another recipe"),
        (["--model", "resnet34", "--force"], r"^unknown model 'resnet34': .*timm/NAME \(perhaps timm/resnet34\)"),
        (
            ["--size", "64", "--force"],
            "no build of bloodmnist at size 64 .*: take size 28, or run medmnist-hf build",
        ),
        (["--checkpoint", "nowhere.pth", "--force"], r"^cannot read nowhere\.pth \(No such file or directory\)"),
        (
            ["--checkpoint", "~nobody-here/x.pth", "--force"],
            "^cannot find the home folder in ~nobody-here/x",
        ),
    ):
        with pytest.raises(MedMNISTError, match=message):
            invoke("finetune", *replaced(arguments, options))
    for options in (["--seed", "4"], ["--seed", "3", "--force"]):
        with pytest.raises(ModuleNotFoundError, match=r"training\.running"):
            invoke("finetune", *arguments, *options, "--quiet")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == files
    shutil.rmtree(out / "seed-3")
    with pytest.raises(ModuleNotFoundError, match=r"training\.running"):
        invoke("finetune", *arguments, "--seed", "3", "--quiet")


def test_a_mistake_ends_with_exit_code_1_and_no_traceback(root: Path, tmp_path: Path) -> None:
    process = command("blodmnist", "--root", str(root), "--out", str(tmp_path))
    assert process.returncode == 1 and process.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in process.stderr


Finetune = Callable[..., list[str]]
"""Runs the command with options in this process and returns the lines that it printed."""

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
        output = capsys.readouterr()
        assert "hf_" not in output.out + output.err
        return output.out.splitlines()

    return call


def test_a_model_is_pushed_after_its_run(hub: HubServer, finetune: Finetune, tmp_path: Path) -> None:
    lines = finetune("--repo-id", "org/tiny")
    repo = hub.store.repos["model", "org/tiny"]
    assert lines[-1] == f"org/tiny: commit {repo.resolve('main').sha[:12]}, all files checked"
    files = hub.store.files("model", "org/tiny")
    assert files["model.safetensors"] == (tmp_path / "run" / "seed-0" / "best" / "model.safetensors").read_bytes()
    card = ModelCard(files["README.md"].decode())
    assert "@article{bloodmnist" in card.text and "Not for clinical use" in card.text
    hub.log.clear()
    lines = finetune("--repo-id", "org/tiny")
    assert lines[-1] == f"org/tiny: unchanged, no commit made; at {repo.resolve('main').sha[:12]}, all files checked"
    assert not hub.log.find("POST|PUT|DELETE")


def test_a_completed_run_is_pushed_by_the_same_command(hub: HubServer, finetune: Finetune, tmp_path: Path) -> None:
    lines = finetune()
    assert any(line.startswith("written to ") for line in lines) and not hub.log.find()
    outcome = tmp_path / "run" / "seed-0" / "result.json"
    before = outcome.stat().st_mtime_ns
    finetune("--repo-id", "org/hidden", "--private")
    assert hub.store.repos["model", "org/hidden"].private and outcome.stat().st_mtime_ns == before
    finetune("--repo-id", "org/hidden", "--private", "--branch", "other")
    assert hub.store.files("model", "org/hidden", "other") == hub.store.files("model", "org/hidden")
    assert finetune("--repo-id", "org")[-1].startswith("org/run: commit"), "the name of the folder"


def test_a_push_that_would_fail_is_an_error_before_training(
    hub: HubServer, finetune: Finetune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.api().create_repo("org/theirs")
    hub.store.write("model", "org/theirs", {"config.json": b"{}"})

    def refused(match: str, *options: str) -> None:
        with pytest.raises(MedMNISTError, match=match) as caught:
            finetune(*options)
        assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()

    refused("add --repo-id USER", "--private")
    refused("add --repo-id USER", "--branch", "other")
    refused("'-/run' is not a valid repository: name it NAMESPACE/NAME", "--repo-id", "-")
    refused("method knn leaves no model to push", "--repo-id", "org/tiny", "--method", "knn")
    refused("org/theirs holds files that were not pushed from a run", "--repo-id", "org/theirs")
    monkeypatch.setenv("HF_TOKEN", hub.read_token.secret)
    refused("the token is read-only", "--repo-id", "org/tiny")
    monkeypatch.delenv("HF_TOKEN")
    refused("no token for the Hub", "--repo-id", "org/tiny")
    assert list(hub.store.repos) == [("model", "org/theirs")]


@pytest.mark.slow
def test_only_the_first_of_two_processes_pushes(
    hub: HubServer, finetune: Finetune, root: Path, tmp_path: Path
) -> None:
    finetune()
    hub.log.clear()
    arguments = [*PUSHED, "--root", str(root), "--quiet", "--out", str(tmp_path / "run"), "--repo-id", "org/tiny"]
    process = subprocess.run(
        [*LAUNCH, SCRIPT, *arguments],
        env=hub.env(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert len([line for line in process.stdout.splitlines() if line.startswith("org/tiny: commit")]) == 1
    assert len(hub.log.find("POST", COMMIT)) == 1 == len(hub.log.find("POST", "/repos/create"))


def test_a_users_network_and_augmentation_run_and_a_changed_file_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write_code(tmp_path), tmp_path / "run"
    own = ["--model-file", f"{file}:build", "--augmentation-file", f"{file}:augment"]
    options = ["bloodmnist", "--root", str(root), "--epochs", "1", "--batch-size", "16", *own, "--out", str(out)]
    invoke("finetune", *options)
    output = capsys.readouterr()
    assert re.search(r"weights with SHA-256 \w{64} in my\.py:build#\w{16}; reads 28 pixels", output.err)
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    assert re.fullmatch(rf"{file}:build#\w{{16}}", recipe["model"])
    assert re.fullmatch(rf"{file}:augment#\w{{16}}", recipe["augmentation_file"])
    card = (out / "best" / "README.md").read_text()
    assert "--model-file my.py:build" in card and str(tmp_path) not in card
    invoke("finetune", *options, "--quiet")  # finished
    write_code(tmp_path, f"{TEXT}\n# changed")
    for arguments, expected in (
        (options, r"holds a run of another recipe \(model my\.py:build#\w{16} -> my\.py:build#\w{16}, augmentation"),
        (["--config", str(out)], r"my\.py has changed: its SHA-256 begins with"),
        ([*options, "--model", "resnet18"], "model_file is another name of model: give only one of them"),
        (
            [*options, "--no-pretrained"],
            r"--pretrained would change nothing \(my\.py:build#\w{16} makes the n",
        ),
        (
            [*options, "--method", "zero-shot"],
            r"zero-shot needs a CLIP-like model of transformers, not my\.py:build",
        ),
    ):
        with pytest.raises(MedMNISTError, match=expected):
            invoke("finetune", *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["partial", "lora", "linear-probe", "knn"])
def test_every_method_reads_a_users_network(root: Path, tmp_path: Path, method: str) -> None:
    options = ["bloodmnist", "--root", str(root), "--quiet", "--method", method, "--batch-size", "16"]
    options += ["--epochs", "1"] if method in {"partial", "lora"} else []
    invoke("finetune", *options, "--model-file", f"{write_code(tmp_path)}:features", "--out", str(tmp_path / "run"))
    (seed,) = read_results(tmp_path / "run" / "results.json").seeds
    assert " in my.py:features#" in seed.facts.origin
