"""`medmnist_hf.training.tracking`: logged events, their continuation after a resume, and checks before training."""

import contextlib
import importlib.util
import json
import os
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.training import tracking
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.results import SeedResult, read_results
from medmnist_hf.training.running import run
from medmnist_hf.training.tracking import ID_NAME, TENSORBOARD, check_tracker
from tests.conftest import Phantoms
from tests.fixtures.methods import fit
from tests.fixtures.runs import build_all, tiny


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "pneumoniamnist")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, value) of all events in a folder, read by TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_events_are_kept_in_the_seeds_folder(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (seed,) = run(tiny(root, "pneumoniamnist", report_to="tensorboard", epochs=2), out, quiet=True).seeds
    events = scalars(out / "seed-0" / TENSORBOARD)
    logged = [entry for entry in seed.facts.history if "eval_auc" in entry]
    assert [step for step, _ in events["eval/auc"]] == [entry["step"] for entry in logged] == [3, 6]
    for name in ("auc", "loss"):
        assert [value for _, value in events[f"eval/{name}"]] == pytest.approx([e[f"eval_{name}"] for e in logged])
    assert len(events["train/loss"]) == 2
    assert not [name for name in events if "test" in name], "test scores are not logged"


def test_a_resumed_training_continues_the_same_events(root: Path, tmp_path: Path) -> None:
    fit(root, tmp_path, "pneumoniamnist", report_to="tensorboard", epochs=2)
    with tracking.tracking(
        make_recipe({"dataset": "pneumoniamnist", "report_to": "tensorboard"}), tmp_path, 0, 6
    ) as log:
        log({"eval/auc": 0.123}, 9)  # as a process that is killed before its checkpoint is complete
    fit(root, tmp_path, "pneumoniamnist", report_to="tensorboard", epochs=3)
    events = scalars(tmp_path / TENSORBOARD)
    assert [step for step, _ in events["eval/auc"]] == [3, 6, 9]
    assert events["eval/auc"][-1][1] != pytest.approx(0.123)


def test_a_restarted_training_removes_earlier_events(tmp_path: Path) -> None:
    recipe = make_recipe({"dataset": "pneumoniamnist", "report_to": "tensorboard"})
    for value in (0.25, 0.5):
        with tracking.tracking(recipe, tmp_path, 0, 0) as log:
            log({"eval/auc": value, "eval/loss": float("nan")}, 1)
    assert scalars(tmp_path / TENSORBOARD) == {"eval/auc": [(1, 0.5)]}


@pytest.mark.slow
def test_wandb_offline_continues_the_run_in_the_seeds_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    recipe = make_recipe(
        {"dataset": "pneumoniamnist", "report_to": "wandb", "root": "/home/me/dist", "checkpoint": "/home/me/a.pt"}
    )
    check_tracker(recipe)
    ids = []
    for step in (0, 3):
        with tracking.tracking(recipe, tmp_path, 0, step) as log:
            log({"eval/auc": 0.5 + step, "eval/loss": float("nan")}, step + 3)
        ids.append((tmp_path / ID_NAME).read_text().strip())
        time.sleep(1.1)  # W&B names its folders by the second
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert ids[0] == ids[1] and [path.name for path in files] == [f"run-{ids[0]}.wandb"] * 2
    entries = [entry for path in files for entry in histories(path)]
    assert [(entry["step"], entry["eval/auc"]) for entry in entries] == [(3, 0.5), (6, 3.5)]
    assert all("eval/loss" not in entry for entry in entries)
    assert b"/home/me" not in b"".join(path.read_bytes() for path in files), "local folders are not logged"


@pytest.mark.slow
def test_wandb_offline_holds_what_a_run_reports(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "run"
    (seed,) = run(tiny(root, "pneumoniamnist", report_to="wandb", epochs=2), out, quiet=True).seeds
    (path,) = out.glob("seed-0/wandb/offline-run-*/*.wandb")
    assert [(entry["step"], entry["eval/auc"]) for entry in histories(path) if "eval/auc" in entry] == reported(seed)


def reported(seed: SeedResult) -> list[tuple[float, float]]:
    """Step and validation AUC of each epoch in the results."""
    logged = [(entry["step"], entry["eval_auc"]) for entry in seed.facts.history if "eval_auc" in entry]
    assert len(logged) == 2 and max(auc for _, auc in logged) == pytest.approx(seed.validation.auc, abs=1e-6)
    return logged


TRACKIO = """
import sys
from pathlib import Path
from medmnist_hf.training import tracking
from medmnist_hf.training.recipe import make_recipe

options = {"dataset": "pneumoniamnist", "report_to": "trackio", "root": "/home/me/dist", "checkpoint": "/home/me/a.pt"}
recipe, folder = make_recipe(options), Path(sys.argv[1])
tracking.check_tracker(recipe)
for step in (0, 3):
    with tracking.tracking(recipe, folder, 0, step) as log:
        log({"eval/auc": 0.5 + step, "eval/loss": float("nan")}, step + 3)
"""


@pytest.mark.slow
def test_trackio_continues_the_run_of_a_resumed_training(tmp_path: Path) -> None:
    folder, database = tmp_path / "run" / "seed-0", tmp_path / "database"
    folder.mkdir(parents=True)
    environment = os.environ | {"TRACKIO_DIR": str(database)}  # read once, when Trackio is imported
    subprocess.run([sys.executable, "-c", TRACKIO, folder], env=environment, capture_output=True, check=True)
    identity = (folder / ID_NAME).read_text().strip()
    (path,) = database.glob("*.db")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        logged = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
        (config, *_) = connection.execute("SELECT config FROM configs").fetchone()
    assert [(name, step, json.loads(values)) for name, step, values in logged] == [
        (f"run seed 0 {identity}", 3, {"eval/auc": 0.5}),
        (f"run seed 0 {identity}", 6, {"eval/auc": 3.5}),
    ]
    assert "/home/me" not in str(config) and json.loads(config)["dataset"] == "pneumoniamnist"


@pytest.mark.slow
def test_trackio_holds_what_a_run_reports(root: Path, tmp_path: Path) -> None:
    out, database = tmp_path / "run", tmp_path / "database"
    (tmp_path / "recipe.yaml").write_text(tiny(root, "pneumoniamnist", report_to="trackio", epochs=2).to_yaml())
    recipe = str(tmp_path / "recipe.yaml")
    command = [sys.executable, "-m", "medmnist_hf", "finetune", "--config", recipe, "--out", str(out)]
    environment = os.environ | {"TRACKIO_DIR": str(database)}
    subprocess.run(command, env=environment, capture_output=True, check=True)
    (path,) = database.glob("*.db")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT step, metrics FROM metrics ORDER BY step").fetchall()
    logged = [(step, values["eval/auc"]) for step, text in rows if "eval/auc" in (values := json.loads(text))]
    assert logged == reported(read_results(out / "results.json").seeds[0])


def histories(path: Path) -> Iterator[dict[str, Any]]:
    """The logged values of a W&B file, which has LevelDB's log format with protobuf records."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    content, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (rest := (1 << 15) - at % (1 << 15)) < 7:
            at += rest
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:  # full, last
            record = Record.FromString(parts)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                yield {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            parts = b""


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_package_is_a_one_line_error_before_anything_is_written(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == name else find_spec(module))
    with pytest.raises(TrainingError, match=f"^report_to {name}: {name} is not installed: pip install {name}$"):
        run(tiny(tmp_path, "pneumoniamnist", report_to=name), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_wandb_without_a_login_is_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    wandb.teardown()  # settings are read only once
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(TrainingError, match="not logged in: run `wandb login`, or set WANDB_MODE=offline"):
        check_tracker(make_recipe({"dataset": "pneumoniamnist", "report_to": "wandb"}))


def test_a_damaged_installation_is_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trackio.py").write_text("raise RuntimeError('first\\nsecond')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TrainingError, match=r"^report_to trackio: cannot be used \(first\): fix that"):
        check_tracker(make_recipe({"dataset": "pneumoniamnist", "report_to": "trackio"}))
