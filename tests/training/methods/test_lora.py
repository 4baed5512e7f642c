"""LoRA: which layers have it, what is trained, and that merging gives a plain model with the same logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import AutoModelForImageClassification

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.lora import add_lora, lora_config, merge_lora
from medmnist_hf.training.models.factory import parameter_counts
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe
from tests.conftest import Phantoms
from tests.fixtures.methods import fit
from tests.fixtures.runs import build_all
from tests.fixtures.tiny_models import IMAGE_MODELS, SIZE, network, pixels, timm_model

RECIPE = Recipe(dataset="pathmnist", model="tiny", method="lora", lora_rank=2, lora_alpha=3.0)
KINDS = ["timm CNN", "timm CNN with depthwise convolutions", "timm ViT", "paper", "ViT", "ConvNeXt", "DINOv2"]


def built_of(model: Any) -> Built:
    return Built(model, (), (), SIZE, "")


def lora_on(model: Any) -> PeftModel:
    return add_lora(RECIPE, built_of(model))


def targets_of(model: Any) -> set[str]:
    return set(lora_config(RECIPE, model, pixels(2)).target_modules or ())


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(pixel_values=pixels(4)).logits
    return logits


def train(model: Any, steps: int = 3) -> None:
    model.train()
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss: Any = nn.functional.cross_entropy(model(pixel_values=pixels(4)).logits, torch.tensor([0, 1, 2, 0]))
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learned_is_merged_into_a_plain_model(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain: Any = IMAGE_MODELS[kind]()
    names, before = list(plain.state_dict()), {name: one.clone() for name, one in plain.state_dict().items()}
    start = logits_of(plain)
    model = lora_on(plain)
    assert torch.allclose(logits_of(model), start, atol=1e-6)  # adapters start as no change
    train(model)
    trained = logits_of(model)
    assert (trained - start).abs().max() > 1e-3
    adapted = targets_of(IMAGE_MODELS[kind]())
    for name, one in model.named_parameters():  # the base is as it was
        if not one.requires_grad and ".original_module." not in name:
            old = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
            assert torch.equal(one, before[old]), name
    merged: Any = merge_lora(model)
    assert type(merged) is type(plain) and list(merged.state_dict()) == names
    assert torch.allclose(logits_of(merged), trained, atol=1e-4)
    assert all(one.requires_grad for one in merged.parameters())
    changed = {name for name, one in merged.state_dict().items() if not torch.equal(one, before[name])}
    assert adapted and {f"{name}.weight" for name in adapted} <= changed
    merged.save_pretrained(tmp_path)
    assert torch.allclose(logits_of(AutoModelForImageClassification.from_pretrained(tmp_path)), trained, atol=1e-4)


def test_convolutions_that_lora_does_not_fit_are_left_alone() -> None:
    model = timm_model("test_efficientnet")
    modules = dict(model.named_modules())
    targets = targets_of(model)
    convolutions = {name: one for name, one in modules.items() if isinstance(one, nn.Conv2d)}
    assert {one.groups == 1 for one in convolutions.values()} == {True, False}
    assert targets == {name for name, one in convolutions.items() if one.groups == 1}


@pytest.mark.parametrize("architecture", ["tf_mobilenetv3_small_minimal_100", "test_nfnet"])
def test_layers_with_a_forward_of_their_own_are_left_alone(architecture: str) -> None:
    """SAME padding and standardized weights: PEFT would change them into something else."""
    model = timm_model(architecture)
    own = {name for name, one in model.named_modules() if isinstance(one, nn.Conv2d) and type(one) is not nn.Conv2d}
    targets = targets_of(model)
    assert own and not own & targets
    adapted = lora_on(model)
    train(adapted)
    trained = logits_of(adapted)
    assert torch.allclose(logits_of(merge_lora(adapted)), trained, atol=1e-4)


def test_layers_are_known_by_their_type_and_not_by_a_name(tmp_path: Path) -> None:
    """DLA's stem is called ``base_layer``, as PEFT calls the layers that it has put matrices beside."""
    plain: Any = timm_model("dla46x_c")
    names = list(plain.state_dict())
    model = lora_on(plain)
    train(model)
    trained = logits_of(model)
    merged: Any = merge_lora(model)
    assert list(merged.state_dict()) == names
    assert torch.allclose(logits_of(merged), trained, atol=1e-4)


def test_both_of_two_classifiers_are_trained_whole() -> None:
    model = timm_model("deit_tiny_distilled_patch16_224", img_size=SIZE, depth=1)
    whole = {name for name, one in lora_on(model).named_modules() if isinstance(one, ModulesToSaveWrapper)}
    assert whole == {"base_model.model.timm_model.head", "base_model.model.timm_model.head_dist"}


def test_layers_whose_weights_are_read_without_a_call_are_left_alone() -> None:
    """Matrices beside them would never be asked: Swin V2 reads the weights of its projection."""
    model = timm_model("swinv2_tiny_window8_256", img_size=SIZE, depths=(1, 1, 1, 1), embed_dim=24)
    targets = targets_of(model)
    assert any(name.endswith("attn.proj") for name in targets)
    assert not any(name.endswith("attn.qkv") for name in targets)


class Twice(nn.Module):
    """One layer in two places, and one weight in two layers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.stem = self.again = nn.Conv2d(3, 3, 1)
        self.one, self.two, self.own = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.two.weight = self.one.weight
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> Any:
        for layer in (self.stem, self.again, self.one, self.two, self.own):
            pixel_values = layer(pixel_values)
        return self.model(pixel_values=pixel_values)


def test_layers_that_stand_in_several_places_are_left_alone() -> None:
    targets = targets_of(Twice(timm_model("test_resnet")))
    assert "own" in targets and not {"stem", "again", "one", "two"} & targets


class Aware(nn.Module):
    """A network whose own code finds the matrices."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> Any:
        outputs = self.model(pixel_values=pixel_values)
        outputs.logits = outputs.logits + any("lora" in name for name, _ in self.model.named_modules())
        return outputs


def test_a_network_that_a_merge_would_change_is_refused_before_training() -> None:
    with pytest.raises(TrainingError, match="tiny with LoRA merged into it would be another network: use finetune"):
        lora_on(Aware(timm_model("test_resnet")))


def test_dilated_and_reflecting_convolutions_are_left_alone() -> None:
    model: Any = network()
    model.network.conv1.dilation, model.network.layer1[0].conv1.padding_mode = (2, 2), "reflect"
    targets = targets_of(model)
    assert "network.layer1.0.conv2" in targets
    assert not {"network.conv1", "network.layer1.0.conv1"} & targets


def test_the_share_that_is_trained_is_the_adapter_the_classifier_and_batch_norms() -> None:
    model = timm_model("test_resnet")
    counts = {True: 0, False: 0}
    for name, one in model.named_modules():
        if type(one) is nn.Conv2d:
            cells = one.kernel_size[0] * one.kernel_size[1]
            counts[True] += 2 * (one.in_channels * cells + one.out_channels)
        elif isinstance(one, nn.BatchNorm2d) or name == "timm_model.fc":
            counts[True] += sum(value.numel() for value in one.parameters(recurse=False))
    whole, _ = parameter_counts(model)
    total, trained = parameter_counts(lora_on(model))
    assert trained == counts[True] and trained < 0.3 * whole
    assert total > whole


def test_a_saved_adapter_brings_the_statistics_of_batch_norms_back(tmp_path: Path) -> None:
    """As a trainer does that goes on from a checkpoint, or returns to the best epoch."""
    torch.manual_seed(0)
    model = lora_on(timm_model("test_resnet"))
    base = {name: one.clone() for name, one in model.state_dict().items()}
    train(model)
    trained = logits_of(model)
    model.save_pretrained(str(tmp_path))
    train(model, steps=2)
    assert not torch.allclose(logits_of(model), trained, atol=1e-3)
    model.load_adapter(str(tmp_path), "default", is_trainable=True)
    assert torch.allclose(logits_of(model), trained, atol=1e-6)

    plain: Any = timm_model("test_resnet")
    prefix = "base_model.model."
    names = {name: name.replace(".base_layer.", ".").replace(".original_module.", ".") for name in base}
    plain.load_state_dict(
        {new.removeprefix(prefix): base[name] for name, new in names.items() if ".default." not in new}
    )
    assert torch.allclose(logits_of(PeftModel.from_pretrained(plain, str(tmp_path))), trained, atol=1e-6)


def test_the_same_seed_draws_the_same_adapter() -> None:
    drawn = []
    for _ in range(2):
        model = timm_model("test_vit", img_size=32)
        torch.manual_seed(5)
        drawn.append({name: one for name, one in lora_on(model).named_parameters() if "lora_A" in name})
    assert drawn[0] and all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


@pytest.mark.parametrize("mode", ["2.5d", "3d", "acs"])
def test_volumes_are_refused(mode: str) -> None:
    with pytest.raises(TrainingError, match="method lora is for images, but tiny reads volumes here: use finetune"):
        lora_on(network(volumetric=mode))


def test_it_trains_few_weights_and_leaves_a_plain_model(phantoms: Phantoms, tmp_path: Path) -> None:
    root = build_all(phantoms, tmp_path / "dist", "bloodmnist")
    _, fitted = fit(
        root, tmp_path / "seed", "bloodmnist", method="lora", model="timm/test_vit", image_size=32, lora_rank=2
    )
    assert 0 < fitted.facts["trained_parameters"] < fitted.facts["parameters"]
    assert fitted.built is not None
    assert not [name for name in fitted.built.model.state_dict() if "lora" in name]


def test_a_network_whose_code_asks_layers_for_what_only_its_own_have_is_refused_in_one_line() -> None:
    """DaViT reads the kernel size of its convolutions when it is called."""
    model = timm_model("davit_tiny", depths=(1, 1, 1, 1), embed_dims=(8, 8, 8, 8), num_heads=(1, 1, 1, 1))
    with pytest.raises(TrainingError, match=r"tiny cannot have LoRA \(.*no attribute 'kernel_size'\): use finetune$"):
        lora_on(model)
