"""Real engines: all configs and a matrix, on Slurm and on Ray with a node lost, equal what one process makes."""

import csv
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.fixtures.engines.ray_cluster import RayCluster
from tests.fixtures.engines.slurm import SlurmCluster

pytestmark = pytest.mark.slow

BUILD = ("build", "all", "--size", "all", "--source", "phantom", "--phantom-rows", "4")
CONFIGS = 60
MATRIX = """
defaults: {root: ROOT, pretrained: false, epochs: 2, batch_size: 16, image_size: 32}
matrix:
  dataset: [breastmnist, bloodmnist]
  model: [timm/test_efficientnet, timm/test_vit]
  method: [finetune, linear-probe]
"""
CELLS = 8
TIMES = ("seconds", "hardware")
PATIENCE = 900.0


def run(
    *arguments: str | Path, environment: Mapping[str, str], folder: Path, meanwhile: Callable[[], None] = lambda: None
) -> tuple[int, str]:
    """Run a command to its end, doing something else in the meantime: exit code and all output."""
    log = folder / "output.txt"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "medmnist_hf", *arguments],
            env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            meanwhile()
            code = child.wait(PATIENCE)
        finally:
            child.kill()
            child.wait()
    return code, log.read_text()


def digests(root: Path) -> dict[str, str]:
    """The files of builds, without locks and the states of tasks."""
    paths = [path for path in root.rglob("*") if path.is_file() and not {".jobs", ".build"} & set(path.parts)]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def once_done(jobs: Path, count: int, action: Callable[[], object]) -> Callable[[], None]:
    """Return what waits until some tasks are done, and then acts."""

    def wait() -> None:
        until = time.monotonic() + PATIENCE
        while len(list(jobs.glob("completions/*"))) < count:
            assert time.monotonic() < until, f"no {count} tasks are done in {jobs}"
            time.sleep(0.05)
        action()

    return wait


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A cache of phantoms and arrays that all tests of this file share."""
    folder = tmp_path_factory.mktemp("home")
    return {"XDG_CACHE_HOME": str(folder / "cache"), "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory, home: dict[str, str]) -> Path:
    """All configs, built by one process."""
    folder = tmp_path_factory.mktemp("serial")
    code, output = run(*BUILD, "--root", folder / "dist", environment=home, folder=folder)
    assert code == 0, output
    return folder / "dist"


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory, home: dict[str, str]) -> tuple[Path, list[dict[str, str]]]:
    """A matrix, and its report after it ran on this machine."""
    folder = tmp_path_factory.mktemp("matrix")
    build = ("build", "breastmnist", "bloodmnist", "--source", "phantom", "--phantom-rows", "32")
    code, output = run(*build, "--root", folder / "data", environment=home, folder=folder)
    assert code == 0, output
    path = folder / "matrix.yaml"
    path.write_text(MATRIX.replace("ROOT", str(folder / "data")))
    code, output = run("benchmark", path, "--out", folder / "bench", environment=home, folder=folder)
    assert code == 0, output
    return path, report(folder / "bench")


def report(out: Path) -> list[dict[str, str]]:
    """All numbers of a report, without durations and the machine."""
    with (out / "report-synthetic.csv").open(newline="") as file:
        rows = [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]
    assert len(rows) == CELLS
    return rows


def test_all_configs_on_slurm_with_a_node_lost(
    serial: Path, home: dict[str, str], slurm: SlurmCluster, tmp_path: Path
) -> None:
    root = tmp_path / "dist"
    command = (*BUILD, "--root", root, "--engine", "slurm")
    environment = home | slurm.environment
    lose = once_done(root / ".jobs" / "build", 6, lambda: slurm.kill_node("n2"))
    code, output = run(*command, environment=environment, folder=tmp_path, meanwhile=lose)
    if code:
        slurm.restart_node("n2")
        code, output = run(*command, environment=environment, folder=tmp_path)
    assert code == 0, output
    assert digests(root) == digests(serial)
    assert len(list(root.glob("*/*/manifest.json"))) == CONFIGS


def test_all_configs_on_ray_with_a_node_lost(
    serial: Path, home: dict[str, str], ray_cluster: RayCluster, tmp_path: Path
) -> None:
    root, config = tmp_path / "dist", tmp_path / "ray.yaml"
    config.write_text(f"ray: {{address: '{ray_cluster.address}'}}\ntasks_per_job: 3\n")
    command = (*BUILD, "--root", root, "--engine", "ray", "--engine-config", config)
    environment = home | ray_cluster.environment
    lose = once_done(root / ".jobs" / "build", 6, lambda: ray_cluster.kill_node(ray_cluster.nodes[-1]))
    code, output = run(*command, environment=environment, folder=tmp_path, meanwhile=lose)
    if code:
        code, output = run(*command, environment=environment, folder=tmp_path)
    assert code == 0, output
    assert digests(root) == digests(serial)
    assert len(list(root.glob("*/*/manifest.json"))) == CONFIGS


def test_a_matrix_on_slurm_with_a_node_lost(
    matrix: tuple[Path, list[dict[str, str]]], home: dict[str, str], slurm: SlurmCluster, tmp_path: Path
) -> None:
    path, expected = matrix
    command = ("benchmark", path, "--out", tmp_path / "bench", "--engine", "slurm", "--workers", "2")
    environment = home | slurm.environment
    lose = once_done(tmp_path / "bench" / ".jobs" / "matrix", 1, lambda: slurm.kill_node("n1"))
    code, output = run(*command, environment=environment, folder=tmp_path, meanwhile=lose)
    if code:
        slurm.restart_node("n1")
        code, output = run(*command, environment=environment, folder=tmp_path)
    assert code == 0, output
    assert report(tmp_path / "bench") == expected


def test_a_matrix_on_ray_with_a_node_lost(
    matrix: tuple[Path, list[dict[str, str]]], home: dict[str, str], ray_cluster: RayCluster, tmp_path: Path
) -> None:
    path, expected = matrix
    config = tmp_path / "ray.yaml"
    config.write_text(f"ray: {{address: '{ray_cluster.address}'}}\n")
    command = ("benchmark", path, "--out", tmp_path / "bench", "--engine", "ray", "--engine-config", config)
    environment = home | ray_cluster.environment
    lose = once_done(tmp_path / "bench" / ".jobs" / "matrix", 1, lambda: ray_cluster.kill_node(ray_cluster.nodes[-1]))
    code, output = run(*command, "--workers", "2", environment=environment, folder=tmp_path, meanwhile=lose)
    if code:
        code, output = run(*command, environment=environment, folder=tmp_path)
    assert code == 0, output
    assert report(tmp_path / "bench") == expected
