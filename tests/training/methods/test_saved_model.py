"""A saved model must reproduce the scores of the run, otherwise the run fails."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.saved_model import check_saved
from medmnist_hf.training.models.saving import save_model
from tests.conftest import Phantoms
from tests.fixtures.methods import fit
from tests.fixtures.runs import build_all


@pytest.fixture(scope="module")
def probed(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("probed")
    root = build_all(phantoms, folder / "dist", "breastmnist")
    options = {"method": "linear-probe", "model": "timm/test_resnet", "channels": 1, "pretrained": False}
    return fit(root, folder / "seed", "breastmnist", **options)


def test_a_saved_model_reproduces_the_scores_of_the_run(probed: Any, tmp_path: Path) -> None:
    run, fitted = probed
    save_model(fitted.built, tmp_path)
    check_saved(run, fitted.built, fitted.scores["validation"], tmp_path)


def test_other_scores_and_models_that_cannot_be_loaded_are_refused(probed: Any, tmp_path: Path) -> None:
    run, fitted = probed
    scores = fitted.scores["validation"]
    save_model(fitted.built, tmp_path)
    with pytest.raises(TrainingError, match=r"differ by 0\.01 from those of the run"):
        check_saved(run, fitted.built, scores + 0.01, tmp_path)
    with pytest.raises(TrainingError, match="differ by nan from"):
        check_saved(run, fitted.built, np.full_like(scores, np.nan), tmp_path)
    half = replace(run, recipe=replace(run.recipe, precision="bf16"))
    check_saved(half, fitted.built, scores + 0.01, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(TrainingError, match="cannot be loaded") as caught:
        check_saved(run, fitted.built, scores, tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_that_changed_after_scoring_are_detected(probed: Any, tmp_path: Path) -> None:
    run, fitted = probed
    with torch.no_grad():
        fitted.built.model.timm_model.fc.weight.neg_()
    save_model(fitted.built, tmp_path)
    with pytest.raises(TrainingError, match="from those of the run"):
        check_saved(run, fitted.built, fitted.scores["validation"], tmp_path)
