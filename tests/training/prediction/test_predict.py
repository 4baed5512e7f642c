"""A run's model predicts the scores of the run's own prediction files, from every kind of input."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import medmnist_hf
from medmnist_hf.errors import TrainingError
from medmnist_hf.evaluation.prediction_files import files_of_split, read_predictions
from medmnist_hf.training.prediction.predict import RunModels
from medmnist_hf.training.results import read_results
from medmnist_hf.training.running import run
from tests.conftest import Phantoms
from tests.fixtures.benchmarks import leave_run
from tests.fixtures.own_code import write_code
from tests.fixtures.runs import build_all, tiny
from tests.fixtures.tiny_models import vit

CPU = torch.device("cpu")

BITWISE: dict[str, tuple[str, dict[str, Any]]] = {
    "timm": ("bloodmnist", {"image_size": 32, "normalize": "none"}),
    "transformers": ("pneumoniamnist", {"model": "vit", "image_size": "auto", "resize": "pad", "normalize": "half"}),
    "volumes": ("adrenalmnist3d", {"model": "timm/test_resnet", "volumetric": "2.5d", "intensity_scale": True}),
    "grades": ("retinamnist", {"loss": "ordinal", "method": "partial", "precision": "bf16"}),
    "findings": ("chestmnist", {"model": "timm/test_vit", "image_size": 32}),
}


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"))


def run_of(root: Path, folder: Path, dataset: str, **options: Any) -> Path:
    if options.get("model") == "vit":
        model: Any = vit()
        model.save_pretrained(folder.parent / "vit")
        options["model"] = str(folder.parent / "vit")
    run(tiny(root, dataset, **options), folder, quiet=True)
    return folder


SLOW = ("volumes", "grades", "findings")


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case in SLOW)) for case in BITWISE])
def test_the_scores_of_a_run_are_reproduced_bitwise(case: str, root: Path, tmp_path: Path) -> None:
    dataset, options = BITWISE[case]
    folder = run_of(root, tmp_path / "run", dataset, **options)
    models = RunModels.of(folder)
    for split in ("validation", "test"):
        (file,) = files_of_split(folder / "seed-0", split)
        scores = models.scores(models.inputs(dataset, split=split, root=root), CPU)
        assert np.array_equal(scores, read_predictions(file).scores)


@pytest.mark.slow
def test_gray_networks_of_timm_and_probes_are_reproduced_up_to_rounding(root: Path, tmp_path: Path) -> None:
    """The first were saved for RGB; the scores of the second were computed in double precision."""
    for name, options in (("gray", {"channels": 1}), ("probe", {"method": "linear-probe"})):
        folder = run_of(root, tmp_path / name, "pneumoniamnist", **options)
        models = RunModels.of(folder)
        (file,) = files_of_split(folder / "seed-0", "test")
        scores = models.scores(models.inputs("pneumoniamnist", root=root), CPU, batch_size=7)
        assert scores == pytest.approx(read_predictions(file).scores, abs=1e-4)


@pytest.fixture(scope="module")
def two_seeds(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(root, tmp_path_factory.mktemp("run") / "two", "bloodmnist", seeds=(3, 5))


@pytest.mark.slow
def test_a_seed_or_all_seeds_predict(two_seeds: Path, root: Path) -> None:
    choices: list[tuple[dict[str, Any], tuple[int, ...], str]]
    choices = [({"seed": 5}, (5,), "seed-5"), ({"ensemble": True}, (3, 5), "")]
    for options, seeds, place in choices:
        models = RunModels.of(two_seeds, **options)
        assert models.seeds == seeds
        (file,) = files_of_split(two_seeds / place, "test")
        counts: list[int] = []
        scores = models.scores(models.inputs("bloodmnist", root=root), CPU, on_progress=counts.append)
        assert np.array_equal(scores, read_predictions(file).scores)
        assert sum(counts) == len(seeds) * len(scores)
    (best,) = RunModels.of(two_seeds).seeds
    assert (two_seeds / "best").resolve().parent.name == f"seed-{best}"


def test_a_folder_and_an_npz_file_give_the_scores_of_the_data_set(two_seeds: Path, root: Path, tmp_path: Path) -> None:
    images, _ = medmnist_hf.load_arrays("bloodmnist", 28, "test", root=root)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    for at, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "images" / f"{at:03d}.png")
    np.savez_compressed(tmp_path / "own.npz", test_images=images, val_images=images[:3])
    models = RunModels.of(two_seeds)
    expected = models.scores(models.inputs("bloodmnist", root=root), CPU)
    for place in ("images", "own.npz"):
        inputs = models.inputs(str(tmp_path / place))
        assert np.array_equal(models.scores(inputs, CPU), expected)
    assert models.inputs(str(tmp_path / "own.npz"), split="val").count == 3
    inputs = models.inputs(str(tmp_path / "images"))
    header, first, *_ = models.table(inputs, expected).splitlines()
    labels = models.recipe.subset.labels
    assert header.startswith("image,label,") and header.count(",") >= len(labels) + 1
    assert first.startswith("000.png,") and labels[int(expected[0].argmax())] in first
    assert first.endswith(f",{float(expected[0, -1])!r}")


def test_findings_are_listed_in_the_table(two_seeds: Path) -> None:
    models = RunModels.of(two_seeds)
    object.__setattr__(models.result, "recipe", tiny(Path("dist"), "chestmnist"))
    scores = np.full((1, 14), 0.1)
    scores[0, [0, 2]] = 0.9
    inputs = type("Named", (), {"names": ()})()
    _, line = models.table(inputs, scores).splitlines()
    assert line.startswith("0,atelectasis; effusion,0.9,")


def test_what_cannot_predict_is_a_one_line_error(two_seeds: Path, root: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no finished run: give the folder"):
        RunModels.of(tmp_path)
    with pytest.raises(TrainingError, match=r"has no seed 4: choose from 3, 5$"):
        RunModels.of(two_seeds, seed=4)
    knn = run_of(root, tmp_path / "knn", "bloodmnist", method="knn")
    with pytest.raises(TrainingError, match="has no model to predict with: knn leaves none"):
        RunModels.of(knn)
    shutil.copytree(two_seeds, tmp_path / "damaged")
    (tmp_path / "damaged" / "seed-3" / "best" / "model.safetensors").write_bytes(b"damaged")
    models = RunModels.of(tmp_path / "damaged", seed=3)
    with pytest.raises(TrainingError, match=r"^cannot load the model in .*seed-3/best \(.*\): run it again$"):
        models.scores(models.inputs("bloodmnist", root=root), CPU)


def test_a_network_of_a_users_file_needs_that_version_of_the_file(root: Path, tmp_path: Path) -> None:
    file = write_code(tmp_path)
    folder = run_of(root, tmp_path / "run", "bloodmnist", model=f"{file}:features")
    assert read_results(folder / "results.json").recipe.model.startswith(f"{file}:features#")
    with pytest.raises(TrainingError, match=r"is from my\.py:features, which is not run without being asked: give"):
        RunModels.of(folder)
    with pytest.raises(TrainingError, match=r"trained with my\.py:features#\w{16}, but .*:build#\w{16} is another"):
        RunModels.of(folder, model_file=f"{file}:build")
    renamed = Path(file).rename(tmp_path / "renamed.py")
    models = RunModels.of(folder, model_file=f"{renamed}:features")
    scores = models.scores(models.inputs("bloodmnist", split="test", root=root), CPU)
    (path,) = files_of_split(folder / "seed-0", "test")
    assert np.array_equal(scores, read_predictions(path).scores)
    renamed.write_text(renamed.read_text() + "# changed")
    with pytest.raises(TrainingError, match="is another"):
        RunModels.of(folder, model_file=f"{renamed}:features")


def test_a_run_without_a_users_file_reads_none(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", test=[0.5], validation=[0.5], dataset="bloodmnist")
    (tmp_path / "run" / "seed-0" / "best").mkdir(parents=True)
    (tmp_path / "run" / "seed-0" / "best" / "config.json").touch()
    with pytest.raises(TrainingError, match="is resnet18, which is not from a file: leave out --model-file"):
        RunModels.of(tmp_path / "run", model_file="my.py:build")
