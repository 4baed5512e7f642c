"""`medmnist_hf.training.running`: the files of a run, how it resumes, what it does not repeat, and its errors."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from medmnist_hf import training
from medmnist_hf.catalog import SPLITS, subset
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.errors import DivergenceError, TrainingError
from medmnist_hf.evaluation.prediction_files import read_predictions
from medmnist_hf.extras import install_command
from medmnist_hf.files import BusyError
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check
from medmnist_hf.training import running as module
from medmnist_hf.training.methods import knn, linear_probe
from medmnist_hf.training.methods.base import Fitted, Run
from medmnist_hf.training.recipe import RECIPE_NAME, Recipe, make_recipe
from medmnist_hf.training.report.publishable import best_seed
from medmnist_hf.training.results import RESULTS_NAME, SEED_RESULT_NAME, read_results, read_seed
from medmnist_hf.training.run_folder import LOCK_NAME, run_name
from medmnist_hf.training.running import DEVICE, run
from medmnist_hf.typed_json import encode
from tests.conftest import Phantoms
from tests.fixtures.paths import ROOT
from tests.fixtures.runs import build_all, tiny

FIGURES = {"curves.png", "scores.png", "cases.png"}

PROGRAM = [sys.executable, "-m", "tests.fixtures.run_recipe"]


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "pneumoniamnist", "bloodmnist")


def figures_of(seed: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (seed / "figures").iterdir()}


def test_scores_only_leaves_neither_models_nor_figures(root: Path, tmp_path: Path) -> None:
    recipe = tiny(root, "bloodmnist", seeds=(0, 4), scores_only=True)
    run(recipe, tmp_path, quiet=True)
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".csv"} == {
        *("data.json", "recipe.yaml", "results.json", "run.lock", "seed-0", "seed-4")
    }
    left = [path.name for path in (tmp_path / "seed-0").iterdir() if path.suffix != ".csv"]
    assert left == ["result.json"]
    with pytest.raises(TrainingError, match="scores_only yes -> no"):
        run(replace(recipe, scores_only=False), tmp_path, quiet=True)


def test_a_run_writes_models_predictions_figures_a_card_and_results(root: Path, tmp_path: Path) -> None:
    recipe = tiny(root, "bloodmnist", seeds=(0, 4), epochs=2)
    result = run(recipe, tmp_path, quiet=True)
    assert read_results(tmp_path / RESULTS_NAME).to_json() == result.to_json()
    assert make_recipe({}, config=tmp_path / RECIPE_NAME) == recipe
    for seed, seed_result in zip((0, 4), result.seeds, strict=True):
        folder = tmp_path / f"seed-{seed}"
        assert {path.name for path in (folder / "last").iterdir()} >= {"config.json", "model.safetensors"}
        assert load_file(folder / "best" / "model.safetensors").keys()
        assert not (folder / "checkpoints").exists()
        assert figures_of(folder).keys() == FIGURES
        (path,) = (path for path in folder.iterdir() if "_test_" in path.name)
        predictions = read_predictions(path)
        assert predictions.run == f"timm-test_efficientnet_finetune_seed{seed}-synthetic"
        assert len(predictions.index) > 0
        assert seed_result.facts.epochs == 2 and (seed_result.facts.seconds or 0) > 0
    first, second = (seed_result.test for seed_result in result.seeds)
    assert result.test.auc.mean == pytest.approx((first.auc + second.auc) / 2)
    assert first["acc_low"] <= first.acc <= first["acc_high"]
    best = tmp_path / f"seed-{best_seed(result).seed}" / "best"
    assert list(tmp_path.rglob("README.md")) == [best / "README.md"]
    assert result.ensemble is not None and result.ensemble.test.auc > 0
    for name in FIGURES:
        assert f"(../figures/{name})" in (best / "README.md").read_text(encoding="utf-8")


def test_the_multi_label_subset_runs_from_build_to_figures(
    phantoms: Phantoms, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build_all(phantoms, tmp_path / "dist", "chestmnist", rows=300)  # enough for all findings in each split
    result = run(tiny(built, "chestmnist", batch_size=64), tmp_path / "run", quiet=True)
    assert result.seeds[0].per_class.keys() == set(subset("chestmnist").labels)
    assert figures_of(tmp_path / "run" / "seed-0").keys() == FIGURES
    assert not [record for record in caplog.records if record.name.startswith("medmnist_hf")]


@pytest.mark.parametrize("method", [pytest.param("finetune", marks=pytest.mark.slow), "linear-probe"])
def test_a_run_on_few_labels(root: Path, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each seed trains on its own rows, validation is reduced alike for all, and test is whole."""
    options = {"shots": 2, "few_validation": True, "test": False, "seeds": (0, 1)}
    recipe = tiny(root, "bloodmnist", method=method, **options)
    result = run(recipe, tmp_path / "run")
    assert read_results(tmp_path / "run" / RESULTS_NAME).to_json() == result.to_json()
    shown = capsys.readouterr().err
    assert shown.count("labels   16 of 48 rows of train") == 2
    first, second = (seed.data.chosen for seed in result.seeds)
    assert first["train"].sha256 != second["train"].sha256 and first["validation"] == second["validation"]
    count = first["validation"].count
    assert count < result.data.rows["validation"]
    for seed in (0, 1):
        folder = tmp_path / "run" / f"seed-{seed}"
        (path,) = (path for path in folder.iterdir() if path.suffix == ".csv")
        predictions = read_predictions(path)
        assert len(predictions.scores) == count
        assert predictions.run == f"timm-test_efficientnet_{method}_shots2_seed{seed}-synthetic"
        assert (folder / "figures" / "cases.png").is_file()
    assert result.ensemble is not None and 0 <= result.ensemble.validation.auc <= 1
    assert run_name(recipe) != run_name(replace(recipe, shots=3))
    fixed = run(tiny(root, "bloodmnist", method=method, **options | {"label_seed": 0}), tmp_path / "fixed", quiet=True)
    assert {seed.data.chosen["train"] for seed in fixed.seeds} == {first["train"]}
    with pytest.raises(TrainingError, match=r"holds a run of another recipe \(shots 2 -> 3\)"):
        run(replace(recipe, shots=3), tmp_path / "run", quiet=True)


def test_a_run_without_matplotlib_logs_it_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    recipe = tiny(root, "pneumoniamnist", method="knn", seeds=(0, 1))
    run(recipe, tmp_path, quiet=True)
    run(recipe, tmp_path, quiet=True)  # the run is finished, so there is nothing to draw
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("medmnist_hf")]
    assert messages == [f"no figures without matplotlib: {install_command('plot')}"]
    assert (tmp_path / RESULTS_NAME).is_file() and not list(tmp_path.rglob("figures"))


def test_the_card_names_the_provenance_even_if_the_build_is_removed_during_training(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "dist"
    shutil.copytree(root / "pneumoniamnist", copy / "pneumoniamnist")

    fit = linear_probe.fit

    def fit_and_remove_build(*args: Any) -> Fitted:
        fitted: Fitted = fit(*args)
        shutil.rmtree(copy)
        return fitted

    monkeypatch.setattr(linear_probe, "fit", fit_and_remove_build)
    result = run(tiny(copy, "pneumoniamnist", method="linear-probe"), tmp_path / "run", quiet=True)
    assert result.provenance is Provenance.SYNTHETIC and result.rank is None
    (card,) = tmp_path.rglob("README.md")
    assert "> **SYNTHETIC: no real data.**" in card.read_text(encoding="utf-8")


def test_a_folder_of_a_run_on_other_data_is_refused(phantoms: Phantoms, root: Path, tmp_path: Path) -> None:
    """Seeds and checkpoints of different builds cannot be combined."""
    recipe = tiny(tmp_path / "dist", "pneumoniamnist", method="knn")
    shutil.copytree(root / "pneumoniamnist", tmp_path / "dist" / "pneumoniamnist")
    result = run(recipe, tmp_path / "run", quiet=True)
    data = json.loads((tmp_path / "run" / "data.json").read_text(encoding="utf-8"))
    assert data["provenance"] == "synthetic" and data["rows"] == result.data.rows
    shutil.rmtree(tmp_path / "dist")
    build_all(phantoms, tmp_path / "dist", "pneumoniamnist", rows=32)
    for seeds in ((0,), (0, 1)):
        with pytest.raises(
            TrainingError, match=r"run holds a run on other data than synthetic .*: give --force to replace it"
        ):
            run(replace(recipe, seeds=seeds), tmp_path / "run", quiet=True)
    assert read_results(tmp_path / "run" / RESULTS_NAME) == result
    (tmp_path / "run" / "data.json").write_bytes(b"\xff\xfe")
    with pytest.raises(TrainingError, match="holds a run on other data"):
        run(recipe, tmp_path / "run", quiet=True)


@pytest.mark.parametrize("interrupted", [False, True])
def test_equal_data_from_another_place_is_the_same_data(interrupted: bool, root: Path, tmp_path: Path) -> None:
    """A file has the same rows whether it was downloaded or copied to a folder: runs resume, and results mix."""
    recipe = tiny(tmp_path / "dist", "pneumoniamnist", method="knn")
    shutil.copytree(root / "pneumoniamnist", tmp_path / "dist" / "pneumoniamnist")
    path = tmp_path / "dist" / "pneumoniamnist" / "28" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for kind in ("zenodo", "folder"):
        manifest["source"]["kind"] = kind
        path.write_text(json.dumps(manifest), encoding="utf-8")
        result = run(recipe, tmp_path / "run", quiet=True)
        recipe = replace(recipe, seeds=(0, 1))
        if interrupted:
            (tmp_path / "run" / RESULTS_NAME).unlink()
    assert [seed.data.source.kind for seed in result.seeds] == ["zenodo", "folder"]


def test_a_run_on_the_official_file_is_ranked(real_data: Path, tmp_path: Path) -> None:
    entry = subset("breastmnist")
    build_config(entry, 28, Folder(real_data).fetch(entry, 28), tmp_path / "dist")
    result = run(tiny(tmp_path / "dist", "breastmnist", method="knn"), tmp_path / "run", quiet=True)
    assert result.provenance is Provenance.VERIFIED and result.data.rows == {
        split: entry.counts[split] for split in SPLITS
    }
    assert result.rank is not None and result.rank.of == 8
    assert result == read_results(tmp_path / "run" / RESULTS_NAME)


def test_prediction_files_hold_the_scores_that_were_scored(root: Path, tmp_path: Path) -> None:
    from medmnist_hf.catalog import Task
    from medmnist_hf.loading.load import load_arrays

    result = run(tiny(root, "pneumoniamnist", method="knn"), tmp_path, quiet=True)
    (path,) = (path for path in (tmp_path / "seed-0").iterdir() if "_test_" in path.name)
    labels = load_arrays("pneumoniamnist", 28, "test", root).labels
    test_score = score(check(labels, read_predictions(path).scores, Task.BINARY, from_logits=False))
    assert (test_score.auc, test_score.acc) == (result.test.auc.mean, result.test.acc.mean)


def test_finished_seeds_are_not_run_again_and_seeds_can_be_added(root: Path, tmp_path: Path) -> None:
    run(tiny(root, "pneumoniamnist"), tmp_path, quiet=True)
    modified = (tmp_path / "seed-0" / SEED_RESULT_NAME).stat().st_mtime_ns
    result = run(tiny(root, "pneumoniamnist", seeds=(0, 1)), tmp_path, quiet=True)
    assert [seed.seed for seed in result.seeds] == [0, 1]
    assert (tmp_path / "seed-0" / SEED_RESULT_NAME).stat().st_mtime_ns == modified
    with pytest.raises(
        TrainingError, match=r"another recipe \(epochs 1 -> 3, learning_rate 0.001 -> 0.5\): give --force to"
    ):
        run(tiny(root, "pneumoniamnist", epochs=3, learning_rate=0.5), tmp_path, quiet=True)


def test_the_same_seed_gives_the_same_run(root: Path, tmp_path: Path) -> None:
    recipe = tiny(root, "bloodmnist", flip_horizontal=0.5, mixup=0.2, rotation=10.0)
    first, second = (run(recipe, tmp_path / name, quiet=True) for name in ("first", "second"))
    assert encode((first.test, first.validation)) == encode((second.test, second.validation))  # encodes nan as null


def test_a_run_without_the_test_split_leaves_no_test_scores(root: Path, tmp_path: Path) -> None:
    result = run(tiny(root, "bloodmnist", test=False), tmp_path, quiet=True)
    assert result.test == {} and result.rank is None and result.validation.auc.mean > 0
    assert not [path for path in (tmp_path / "seed-0").iterdir() if "_test_" in path.name]


def start(recipe_file: Path, out: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, str(recipe_file), str(out)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(root: Path, tmp_path: Path) -> None:
    from_probe = {"probe_first": True, "freeze_batch_norm": True}
    recipe = tiny(root, "pneumoniamnist", epochs=12, ema=0.9, crop_padding=2, **from_probe)
    whole = run(recipe, tmp_path / "whole", quiet=True)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    child = start(tmp_path / "recipe.yaml", tmp_path / "killed")
    checkpoints = tmp_path / "killed" / "seed-0" / "checkpoints"
    deadline = time.monotonic() + 120
    while len(list(checkpoints.glob("checkpoint-*/trainer_state.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL and not (tmp_path / "killed" / RESULTS_NAME).exists()
    resumed = run(recipe, tmp_path / "killed", quiet=True)
    assert resumed.test == whole.test
    assert figures_of(tmp_path / "killed" / "seed-0") == figures_of(tmp_path / "whole" / "seed-0")
    ends = [load_file(tmp_path / name / "seed-0" / "best" / "model.safetensors") for name in ("whole", "killed")]
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


@pytest.mark.slow
def test_a_full_disk_is_a_one_line_error_and_the_run_can_be_resumed(root: Path, tmp_path: Path) -> None:
    recipe = tiny(root, "pneumoniamnist", epochs=2)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())

    def limit_file_size() -> None:  # Python ignores SIGXFSZ, so a longer write fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    child = start(tmp_path / "recipe.yaml", tmp_path / "run", preexec_fn=limit_file_size)
    text, _ = child.communicate(timeout=120)
    assert child.returncode == 1
    last = text.strip().splitlines()[-1]
    assert last.startswith("error: no space left for ") and "run the same command again" in last
    assert "Traceback" not in text
    assert not list((tmp_path / "run").rglob("checkpoint-*"))
    assert run(recipe, tmp_path / "run", quiet=True).seeds


def test_if_a_seed_diverges_the_others_still_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = knn.fit

    def fit_or_diverge(shared: Run, seed: int, folder: Path) -> Fitted:
        fitted: Fitted = fit(shared, seed, folder)
        if seed != 1:
            fitted.scores["test"][3] = np.nan
        return fitted

    monkeypatch.setattr(knn, "fit", fit_or_diverge)
    with pytest.raises(DivergenceError) as caught:
        run(tiny(root, "pneumoniamnist", method="knn", seeds=(0, 1, 2)), tmp_path, quiet=True)
    parts = str(caught.value).split("; ")
    assert [part[:8] for part in parts] == ["seed 0: ", "seed 2: "]
    assert "knn with timm/test_efficientnet gave scores that are not finite for 1 of " in parts[0]
    assert read_seed(tmp_path / "seed-1") and not read_seed(tmp_path / "seed-0")
    assert not (tmp_path / RESULTS_NAME).exists()


@pytest.mark.slow
def test_two_processes_with_one_folder_run_the_recipe_once(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = tiny(root, "pneumoniamnist", epochs=3)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    out = tmp_path / "run"
    child = start(tmp_path / "recipe.yaml", out)
    deadline = time.monotonic() + 120
    while not (out / RECIPE_NAME).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    result = run(recipe, out, quiet=True)
    assert f"another process is running in {out}: waiting for it" in caplog.messages
    text, _ = child.communicate(timeout=60)
    assert child.returncode == 0, text
    assert result == read_results(out / RESULTS_NAME) == run(recipe, out, quiet=True)


def test_a_lock_ends_with_its_process_and_launched_processes_do_not_wait(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import pathlib, sys, time; from medmnist_hf.files import sole_process\n"
    program += "with sole_process(pathlib.Path(sys.argv[1]), 'x'): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / LOCK_NAME)], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    recipe = tiny(root, "pneumoniamnist", method="knn")
    with monkeypatch.context() as patched:
        patched.setattr(module, "process_state", lambda _: SimpleNamespace(is_main_process=True, num_processes=2))
        with pytest.raises(BusyError, match=f"another process is running in {tmp_path}: wait until it ends"):
            run(recipe, tmp_path, quiet=True)
    assert not (tmp_path / RECIPE_NAME).exists()
    holder.kill()
    holder.communicate()
    assert run(recipe, tmp_path, quiet=True).seeds


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"method": "partial", "unfreeze": 0.4}], ids=["finetune", "partial"])
def test_two_processes_reach_the_scores_of_one(options: dict[str, Any], root: Path, tmp_path: Path) -> None:
    common: dict[str, Any] = {
        **options,
        "model": "timm/test_vit",  # without batch norms, whose statistics would cover one process's share only
        "image_size": 32,
        "epochs": 2,
        "optimizer": "sgd",
        "learning_rate": 0.05,
    }
    alone = run(tiny(root, "bloodmnist", batch_size=16, **common), tmp_path / "alone", quiet=True)
    recipe = tiny(root, "bloodmnist", batch_size=8, **common)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    # accelerate has no launcher for several processes on a CPU: use the one for GPUs, with ACCELERATE_USE_CPU.
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--main_process_port", str(free_port()), "--module", "tests.fixtures.run_recipe"]
    completed = subprocess.run(
        [*launcher, str(tmp_path / "recipe.yaml"), str(tmp_path / "two")],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=240,
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    together = read_results(tmp_path / "two" / RESULTS_NAME)
    assert figures_of(tmp_path / "two" / "seed-0").keys() == FIGURES
    assert (tmp_path / "two" / "seed-0" / "best" / "README.md").is_file()
    for means, expected in ((together.validation, alone.validation), (together.test, alone.test)):
        assert means.auc.mean == pytest.approx(expected.auc.mean, abs=1e-6)
        assert means.acc.mean == pytest.approx(expected.acc.mean, abs=1e-6)
    losses = [
        [entry["loss"] for entry in result.seeds[0].facts.history if "loss" in entry] for result in (alone, together)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_the_package_imports_torch_only_for_a_run(tmp_path: Path) -> None:
    program = "import sys, medmnist_hf.training as training; training.Recipe; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert training.run is run and training.Recipe is Recipe
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        training.nothing  # noqa: B018


def test_a_device_applies_to_one_run_or_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DEVICE, raising=False)
    recipe = tiny(root, "pneumoniamnist", method="knn")
    assert training.run(recipe, str(tmp_path / "cpu"), quiet=True, device="cpu", workers=2).seeds
    assert DEVICE not in os.environ
    for options, message in (
        ({"device": "tpu:9"}, "device tpu:9 is not available: choose auto"),
        ({"workers": -1}, "0 or"),
    ):
        with pytest.raises(TrainingError, match=message):
            run(recipe, tmp_path / "other", quiet=True, **options)
    assert DEVICE not in os.environ and not (tmp_path / "other").exists()


def test_no_folder_is_made_if_the_model_cannot_be_built(root: Path, tmp_path: Path) -> None:
    for options in ({"model": "timm/no_such"}, {"model": "timm/test_vit", "image_size": 30}, {"checkpoint": "no.pth"}):
        for name in ("finetune", "linear-probe", "knn"):
            with pytest.raises(TrainingError):
                run(tiny(root, "bloodmnist", method=name, **options), tmp_path / "run", quiet=True)
    with pytest.raises(TrainingError, match="cannot load"):
        run(tiny(root, "bloodmnist", method="zero-shot", model=str(tmp_path / "clip")), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_run_that_another_process_finished_meanwhile_is_not_repeated(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both processes start before there is a folder to lock."""
    recipe, out, fit = tiny(root, "pneumoniamnist", method="knn"), tmp_path / "run", knn.fit

    def fit_after_another_run(*args: Any) -> Fitted:
        monkeypatch.setattr(knn, "fit", fit)
        run(recipe, out, quiet=True)
        return fit(*args)

    monkeypatch.setattr(knn, "fit", fit_after_another_run)
    result = run(recipe, out, quiet=True)
    assert result == read_results(out / RESULTS_NAME)


@pytest.mark.slow
def test_the_folder_of_a_run_links_the_published_model(root: Path, tmp_path: Path) -> None:
    result = run(tiny(root, "bloodmnist", method="linear-probe", seeds=(0, 1)), tmp_path, quiet=True)
    assert (tmp_path / "best").readlink() == Path(f"seed-{best_seed(result).seed}", "best")
    assert (tmp_path / "best" / "README.md").is_file() and (tmp_path / "best" / "model.safetensors").is_file()
