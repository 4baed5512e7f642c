"""Models whose robustness is measured: of a run, pushed from a run, or other image classifiers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ViTImageProcessor

import medmnist_hf
from medmnist_hf.errors import TrainingError
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.prediction.predict import RunModels
from medmnist_hf.training.robustness.subject import Subject
from medmnist_hf.training.running import run
from tests.conftest import Phantoms
from tests.fixtures.runs import build_all, tiny
from tests.fixtures.tiny_models import vit

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "breastmnist")


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "two"
    run(tiny(root, "breastmnist", seeds=(3, 5)), out, quiet=True)
    return out


def test_a_run_is_tested_by_one_seed_or_all(folder: Path) -> None:
    (best,) = RunModels.of(folder).seeds
    assert Subject.of_run(folder).suffix == f"seed{best}"
    one, both = Subject.of_run(folder, seed=5), Subject.of_run(folder, ensemble=True)
    assert (one.title, one.method, one.suffix) == ("timm/test_efficientnet", "finetune", "seed5")
    assert one.trained_on is Provenance.SYNTHETIC and one.sizes == (28,)
    assert both.suffix == "ensemble" and len(both.load(CPU)) == 2
    assert len({one.digest, both.digest, Subject.of_run(folder, seed=3).digest}) == 3


def test_a_model_folder_gives_the_scores_of_its_run(folder: Path, root: Path, tmp_path: Path) -> None:
    images, _ = medmnist_hf.load_arrays("breastmnist", 28, "test", root=root)
    of_run = Subject.of_run(folder)
    model = shutil.copytree(of_run.folders[0], tmp_path / "model")
    plain = Subject.of_model(str(model), "breastmnist", 28)
    assert (plain.title, plain.suffix, plain.trained_on) == ("model", "", None)
    shutil.copy(folder / "results.json", model)  # as a pushed model has it
    pushed = Subject.of_model(str(model), "breastmnist", 28)
    assert (pushed.title, pushed.suffix) == ("timm/test_efficientnet", of_run.suffix)
    tables = [each.load(CPU)[0] for each in (of_run, plain, pushed)]
    scores = [model.scores(model.logits(images)) for model in tables]
    assert np.array_equal(scores[0], scores[2]) and scores[1] == pytest.approx(scores[0], abs=1e-5)
    with pytest.raises(TrainingError, match="was trained on breastmnist at size 28, not on pneumoniamnist at size 28"):
        Subject.of_model(str(model), "pneumoniamnist", 28)


def test_an_image_classifier_of_transformers_is_read_by_its_processor(tmp_path: Path) -> None:
    network: Any = vit(2)
    network.save_pretrained(tmp_path / "vit")
    with pytest.raises(TrainingError, match=r"cannot read .*vit"):  # it has no processor
        Subject.of_model(str(tmp_path / "vit"), "breastmnist", 28)
    ViTImageProcessor(size={"height": 32, "width": 32}, resample=3).save_pretrained(tmp_path / "vit")
    recipe = Subject.of_model(str(tmp_path / "vit"), "breastmnist", 28).recipe
    assert (recipe.image_size, recipe.resize, recipe.channels) == (32, "bicubic", 3)
    with pytest.raises(TrainingError, match="has 2 outputs, but retinamnist has 5 classes: name a model of this"):
        Subject.of_model(str(tmp_path / "vit"), "retinamnist", 28)


def test_what_is_not_a_model_is_a_one_line_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no model: name the folder of a model, or give that of a run"):
        Subject.of_model(str(folder), "breastmnist", 28)
    with pytest.raises(TrainingError, match=r"^cannot get nobody/nothing from the Hub"):
        Subject.of_model("nobody/nothing", "breastmnist", 28)
    model = shutil.copytree(Subject.of_run(folder).folders[0], tmp_path / "model")
    (model / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match="has no safetensors"):
        _ = Subject.of_model(str(model), "breastmnist", 28).digest
