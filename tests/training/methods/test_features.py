"""Features: extraction does not change the network, and frozen features exclude the ordinal loss."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.features import extract
from tests.conftest import Phantoms
from tests.fixtures.methods import fit
from tests.fixtures.runs import build_all
from tests.fixtures.tiny_models import IMAGE_MODELS, batches, timm_model

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", IMAGE_MODELS)
def test_extraction_changes_no_weight_or_statistic(kind: str) -> None:
    model = IMAGE_MODELS[kind]().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    features = extract(model, batches(7, 3), CPU)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items()) and before.keys() == after.keys()
    assert features.values.dtype == np.float32 and features.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    one_batch = extract(model, batches(7, 7), CPU)
    assert np.allclose(features.values, one_batch.values, atol=1e-5)


def test_extraction_disables_dropout() -> None:
    model = timm_model("test_resnet", drop_rate=0.9).train()
    assert np.array_equal(extract(model, batches(4, 4), CPU).values, extract(model, batches(4, 4), CPU).values)


def test_the_ordinal_loss_is_refused_for_frozen_features(phantoms: Phantoms, tmp_path: Path) -> None:
    root = build_all(phantoms, tmp_path / "dist", "retinamnist")
    with pytest.raises(TrainingError, match="loss ordinal is not for frozen features: use finetune or partial or "):
        fit(root, tmp_path / "seed", "retinamnist", method="knn", loss="ordinal")
