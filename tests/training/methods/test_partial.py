"""Partial fine-tuning: which weights are trained, that all others stay bitwise the same, and its limits 0 and 1."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from transformers import SwinConfig, SwinForImageClassification
from transformers import set_seed as seed_all

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.base import Fitted
from medmnist_hf.training.methods.partial import block_positions, freeze
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.heads import classifiers_of
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe, make_recipe
from tests.conftest import Phantoms
from tests.fixtures.methods import fit
from tests.fixtures.runs import build_all, tiny
from tests.fixtures.tiny_models import IMAGE_MODELS, SIZE, network, timm_model


def swin() -> nn.Module:
    return SwinForImageClassification(
        SwinConfig(image_size=SIZE, patch_size=4, embed_dim=8, depths=[1, 2], num_heads=[1, 1], window_size=4)
    )


def trained_names(model: nn.Module, unfreeze: float, unfreeze_from: str) -> set[str]:
    recipe = make_recipe(
        {"dataset": "pathmnist", "method": "partial", "unfreeze": unfreeze, "unfreeze_from": unfreeze_from}
    )
    model.requires_grad_(True)
    assert freeze(recipe, Built(model, (), (), SIZE, "")) is model
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


class Ends(NamedTuple):
    """The number of blocks, and names of parameters in the stem, the first and last block, and behind the blocks."""

    blocks: int
    stem: str
    first: str
    last: str
    behind: str = ""


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Ends]] = {
    "CNN": (
        IMAGE_MODELS["timm CNN"],
        Ends(4, "timm_model.bn1.weight", "timm_model.layer1.0.bn1.bias", "timm_model.layer4.0.bn1.bias"),
    ),
    "ViT": (
        IMAGE_MODELS["timm ViT"],  # its final norm is in the group of the last block
        Ends(6, "timm_model.pos_embed", "timm_model.blocks.0.attn.qkv.bias", "timm_model.norm.bias"),
    ),
    "ConvNeXt": (
        lambda: timm_model("test_convnext"),
        Ends(
            *(9, "timm_model.stem.0.weight", "timm_model.stages.0.blocks.0.gamma"),
            *("timm_model.stages.3.blocks.1.gamma", "timm_model.head.norm.weight"),
        ),
    ),
    "PiT, without a group_matcher": (
        lambda: timm_model("pit_ti_224", img_size=SIZE, base_dims=[8] * 3, depth=[1] * 3, heads=[1] * 3),
        Ends(
            *(3, "timm_model.pos_embed", "timm_model.transformers.0.blocks.0.norm1.bias"),
            *("timm_model.transformers.2.blocks.0.norm1.bias", "timm_model.norm.weight"),
        ),
    ),
    "paper": (
        network,
        Ends(8, "network.conv1.weight", "network.layer1.0.conv1.weight", "network.layer4.1.conv1.weight"),
    ),
    "ViT of transformers": (
        IMAGE_MODELS["ViT"],
        Ends(
            *(2, "vit.embeddings.cls_token", "vit.layers.0.layernorm_after.bias"),
            *("vit.layers.1.layernorm_after.bias", "vit.layernorm.weight"),
        ),
    ),
    "ConvNeXt of transformers": (
        IMAGE_MODELS["ConvNeXt"],
        Ends(
            *(4, "convnext.embeddings.patch_embeddings.weight", "convnext.encoder.stages.0.layers.0.dwconv.bias"),
            *("convnext.encoder.stages.3.layers.0.dwconv.bias", "convnext.layernorm.weight"),
        ),
    ),
    "Swin of transformers": (
        swin,
        Ends(
            *(3, "swin.embeddings.norm.weight", "swin.encoder.layers.0.blocks.0.layernorm_before.bias"),
            *("swin.encoder.layers.1.blocks.1.layernorm_before.bias", "swin.layernorm.weight"),
        ),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_end_has_a_block_and_the_layers_next_to_it(name: str) -> None:
    make, ends = NETWORKS[name]
    model = make()
    positions, blocks = block_positions(model)
    assert blocks == ends.blocks
    assert (positions[ends.stem], positions[ends.first], positions[ends.last]) == (0, 1, blocks)
    assert not ends.behind or positions[ends.behind] == blocks + 1
    heads = {f"{name}.{part}" for name in classifiers_of(model) for part in ("weight", "bias")}
    assert positions.keys() == {name for name, _ in model.named_parameters()} - heads
    for unfreeze_from, trained in (("first", {0, 1}), ("last", {blocks, blocks + 1})):
        expected = {name for name, position in positions.items() if position in trained}
        assert trained_names(model, 1 / blocks, unfreeze_from) == expected | heads
        assert trained_names(model, 0, unfreeze_from) == heads
        assert trained_names(model, 1, unfreeze_from) == positions.keys() | heads


def test_parts_of_blocks_count_as_blocks() -> None:
    """As published: the number of blocks is rounded up. A fraction that is exact on paper is not."""
    model = network()
    for unfreeze, trained in ((0.5, 4), (0.51, 5), (0.01, 1), (0.625, 5), (0.875, 7)):
        names = trained_names(model, unfreeze, "last")
        blocks = {name.rsplit(".", 2)[0][:16] for name in names if ".layer" in name}
        assert len(blocks) == trained, unfreeze


def test_weights_that_were_frozen_before_stay_frozen() -> None:
    """As the fixed position embeddings of some networks."""
    model: Any = IMAGE_MODELS["ViT"]()
    model.vit.embeddings.position_embeddings.requires_grad_(False)
    freeze(make_recipe({"dataset": "pathmnist", "method": "partial", "unfreeze": 1}), Built(model, (), (), SIZE, ""))
    assert not model.vit.embeddings.position_embeddings.requires_grad


class Flat(nn.Module):
    """A network without a list of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        self.classifier = nn.Linear(2, 3)


def test_a_network_without_blocks_is_a_one_line_error() -> None:
    with pytest.raises(TrainingError, match=r"^resnet18 has no list of blocks, of which .*: use finetune$"):
        trained_names(Flat(), 0.5, "last")


def weights_of(fitted: Fitted) -> dict[str, Tensor]:
    assert fitted.built is not None
    return dict(fitted.built.model.state_dict())


CASES: dict[str, dict[str, Any]] = {
    "images": {"dataset": "bloodmnist", "optimizer": "sgd", "weight_decay": 0.1},
    "2.5d": {"dataset": "adrenalmnist3d", "volumetric": "2.5d", "model": "timm/test_resnet"},
    "3d": {"dataset": "adrenalmnist3d", "volumetric": "3d", "model": "timm/test_resnet"},
    "acs": {"dataset": "adrenalmnist3d", "volumetric": "acs", "model": "timm/test_resnet"},
    "ema, layer decay": {"dataset": "pneumoniamnist", "ema": 0.9, "layer_decay": 0.7, "weight_decay": 0.1},
    "probe first": {"dataset": "pneumoniamnist", "probe_first": True},
    "first": {"dataset": "chestmnist", "unfreeze_from": "first"},
    "classifier": {"dataset": "retinamnist", "unfreeze": 0, "layer_decay": 0.5},
}


SLOW = ("2.5d", "acs", "probe first")


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case in SLOW)) for case in CASES])
def test_frozen_weights_and_statistics_are_bitwise_unchanged(case: str, phantoms: Phantoms, tmp_path: Path) -> None:
    options = {"unfreeze": 0.3, **CASES[case]}
    root = build_all(phantoms, tmp_path / "dist", dataset := options.pop("dataset"))
    recipe = tiny(root, dataset, method="partial", **options)
    seed_all(0)
    start = {name: value.clone() for name, value in build_model(recipe).model.state_dict().items()}
    seed_all(0)
    _, fitted = fit(root, tmp_path / "seed", dataset, method="partial", **options)
    after = weights_of(fitted)
    names = trained_names_of(recipe)
    norms = {name.rpartition(".")[0] for name in names}
    changed = {name for name, value in after.items() if not torch.equal(value, start[name])}
    assert changed & names and {name.rpartition(".")[0] for name in changed} <= norms
    assert after.keys() - changed >= {name for name in after if name.rpartition(".")[0] not in norms}
    trained = sum(value.numel() for name, value in after.items() if name in names)
    assert fitted.facts["trained_parameters"] == trained < fitted.facts["parameters"]


def trained_names_of(recipe: Recipe) -> set[str]:
    model = freeze(recipe, build_model(recipe))
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_all_blocks_are_fine_tuning(phantoms: Phantoms, tmp_path: Path) -> None:
    root = build_all(phantoms, tmp_path / "dist", "bloodmnist")
    weights = []
    for name, options in (("all", {"method": "partial", "unfreeze": 1}), ("finetune", {"method": "finetune"})):
        seed_all(3)
        _, fitted = fit(root, tmp_path / name, "bloodmnist", flip_horizontal=0.5, **options)
        weights.append(weights_of(fitted))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_frozen_weights_have_no_state_in_the_optimizer(phantoms: Phantoms, tmp_path: Path) -> None:
    """Its last checkpoint, which an interrupted training resumes from, holds states of the trained weights only."""
    root = build_all(phantoms, tmp_path / "dist", "bloodmnist")
    _, fitted = fit(root, tmp_path / "seed", "bloodmnist", method="partial", unfreeze=0.3)
    (path,) = (tmp_path / "seed" / "checkpoints").glob("checkpoint-*/optimizer.pt")
    states = torch.load(path, weights_only=True)["state"]
    trained = sum(state["exp_avg"].numel() for state in states.values())
    assert 0 < trained == fitted.facts["trained_parameters"]


def test_an_interrupted_training_resumes_to_the_same_weights(phantoms: Phantoms, tmp_path: Path) -> None:
    root = build_all(phantoms, tmp_path / "dist", "bloodmnist")
    options = {"method": "partial", "unfreeze": 0.3, "epochs": 2, "ema": 0.5, "select": "loss"}
    seed_all(1)
    _, whole = fit(root, tmp_path / "seed", "bloodmnist", **options)
    *_, last = sorted((tmp_path / "seed" / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(last)
    seed_all(1)
    _, resumed = fit(root, tmp_path / "seed", "bloodmnist", **options)
    assert resumed.earlier_seconds > 0
    assert all(torch.equal(value, weights_of(resumed)[name]) for name, value in weights_of(whole).items())
