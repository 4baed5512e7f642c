"""`medmnist_hf.training.methods.finetune`: the checkpoints of a training, and its start from a probe."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import Phantoms
from tests.fixtures.methods import fit
from tests.fixtures.runs import build_all


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "pneumoniamnist", "bloodmnist", "chestmnist")


def test_a_training_leaves_checkpoints_to_resume_from(root: Path, tmp_path: Path) -> None:
    fit(root, tmp_path, "pneumoniamnist", epochs=2)
    (last, *_) = sorted(tmp_path.glob("checkpoints/checkpoint-*"), reverse=True)
    assert load_file(last / "model.safetensors")


@pytest.mark.parametrize("method", ["finetune", "lora"])
@pytest.mark.parametrize("dataset", ["chestmnist", "bloodmnist"])
def test_training_can_start_from_a_probe(root: Path, tmp_path: Path, dataset: str, method: str) -> None:
    """With a tiny learning rate, training does not change the probe."""
    options: dict[str, Any] = {"model": "timm/test_vit", "image_size": 32}
    torch.manual_seed(3)
    _, probe = fit(root, tmp_path / "probe", dataset, method="linear-probe", **options)
    torch.manual_seed(3)
    options |= {"method": method, "probe_first": True, "epochs": 1, "learning_rate": 1e-12}
    _, fitted = fit(root, tmp_path / "trained", dataset, **options)
    assert fitted.facts["image_size"] == probe.facts["image_size"] == 32
    for split, scores in probe.scores.items():
        assert np.allclose(fitted.scores[split], scores, atol=1e-4)
