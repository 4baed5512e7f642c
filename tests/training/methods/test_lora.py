"""LoRA: which layers are adapted, what is trained, and that merging gives a plain model with the same logits."""

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
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss: Any = nn.functional.cross_entropy(model(pixel_values=pixels(4)).logits, torch.tensor([0, 1, 2, 0]))
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_the_trained_adapter_is_merged_into_a_plain_model(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain: Any = IMAGE_MODELS[kind]()
    names, before = list(plain.state_dict()), {name: value.clone() for name, value in plain.state_dict().items()}
    start = logits_of(plain)
    model = lora_on(plain)
    assert torch.allclose(logits_of(model), start, atol=1e-6)  # untrained adapters change nothing
    train(model)
    trained = logits_of(model)
    assert (trained - start).abs().max() > 1e-3
    adapted = targets_of(IMAGE_MODELS[kind]())
    for name, parameter in model.named_parameters():  # the base model is unchanged
        if not parameter.requires_grad and ".original_module." not in name:
            original_name = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
            assert torch.equal(parameter, before[original_name]), name
    merged: Any = merge_lora(model)
    assert type(merged) is type(plain) and list(merged.state_dict()) == names
    assert torch.allclose(logits_of(merged), trained, atol=1e-4)
    assert all(parameter.requires_grad for parameter in merged.parameters())
    changed = {name for name, value in merged.state_dict().items() if not torch.equal(value, before[name])}
    assert adapted and {f"{name}.weight" for name in adapted} <= changed
    merged.save_pretrained(tmp_path)
    assert torch.allclose(logits_of(AutoModelForImageClassification.from_pretrained(tmp_path)), trained, atol=1e-4)


def test_grouped_convolutions_are_not_adapted() -> None:
    model = timm_model("test_efficientnet")
    modules = dict(model.named_modules())
    targets = targets_of(model)
    convolutions = {name: module for name, module in modules.items() if isinstance(module, nn.Conv2d)}
    assert {conv.groups == 1 for conv in convolutions.values()} == {True, False}
    assert targets == {name for name, conv in convolutions.items() if conv.groups == 1}


@pytest.mark.parametrize("architecture", ["tf_mobilenetv3_small_minimal_100", "test_nfnet"])
def test_layers_with_their_own_forward_are_not_adapted(architecture: str) -> None:
    """PEFT would drop SAME padding and the standardization of weights."""
    model = timm_model(architecture)
    convolutions = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    subclasses = {name for name, conv in convolutions.items() if type(conv) is not nn.Conv2d}
    targets = targets_of(model)
    assert subclasses and not subclasses & targets
    adapted = lora_on(model)
    train(adapted)
    trained = logits_of(adapted)
    assert torch.allclose(logits_of(merge_lora(adapted)), trained, atol=1e-4)


def test_adapted_layers_are_identified_by_type_and_not_by_name(tmp_path: Path) -> None:
    """DLA's stem has the name ``base_layer``, which PEFT gives to adapted layers."""
    plain: Any = timm_model("dla46x_c")
    names = list(plain.state_dict())
    model = lora_on(plain)
    train(model)
    trained = logits_of(model)
    merged: Any = merge_lora(model)
    assert list(merged.state_dict()) == names
    assert torch.allclose(logits_of(merged), trained, atol=1e-6 * float(trained.abs().max()))


def test_both_of_two_classifiers_are_fully_trained() -> None:
    model = timm_model("deit_tiny_distilled_patch16_224", img_size=SIZE, depth=1)
    fully_trained = {
        name for name, module in lora_on(model).named_modules() if isinstance(module, ModulesToSaveWrapper)
    }
    assert fully_trained == {"base_model.model.timm_model.head", "base_model.model.timm_model.head_dist"}


def test_layers_whose_weights_are_read_without_a_call_are_not_adapted() -> None:
    """Their adapter would be bypassed: Swin V2 reads the weights of its projection directly."""
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


def test_shared_layers_are_not_adapted() -> None:
    targets = targets_of(Twice(timm_model("test_resnet")))
    assert "own" in targets and not {"stem", "again", "one", "two"} & targets


class Aware(nn.Module):
    """A network whose output depends on the presence of LoRA layers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> Any:
        outputs = self.model(pixel_values=pixel_values)
        outputs.logits = outputs.logits + any("lora" in name for name, _ in self.model.named_modules())
        return outputs


def test_a_network_that_a_merge_would_change_is_refused_before_training() -> None:
    with pytest.raises(TrainingError, match="merging LoRA into tiny would change its outputs: use finetune"):
        lora_on(Aware(timm_model("test_resnet")))


def test_convolutions_with_dilation_or_reflection_are_not_adapted() -> None:
    model: Any = network()
    model.network.conv1.dilation, model.network.layer1[0].conv1.padding_mode = (2, 2), "reflect"
    targets = targets_of(model)
    assert "network.layer1.0.conv2" in targets
    assert not {"network.conv1", "network.layer1.0.conv1"} & targets


def test_the_adapter_the_classifier_and_batch_norms_are_trained() -> None:
    model = timm_model("test_resnet")
    expected = 0
    for name, module in model.named_modules():
        if type(module) is nn.Conv2d:
            area = module.kernel_size[0] * module.kernel_size[1]
            expected += 2 * (module.in_channels * area + module.out_channels)
        elif isinstance(module, nn.BatchNorm2d) or name == "timm_model.fc":
            expected += sum(value.numel() for value in module.parameters(recurse=False))
    plain_total, _ = parameter_counts(model)
    total, trained = parameter_counts(lora_on(model))
    assert trained == expected and trained < 0.3 * plain_total
    assert total > plain_total


def test_a_saved_adapter_restores_the_statistics_of_batch_norms(tmp_path: Path) -> None:
    """As when a trainer resumes from a checkpoint or returns to the best epoch."""
    torch.manual_seed(0)
    model = lora_on(timm_model("test_resnet"))
    base = {name: value.clone() for name, value in model.state_dict().items()}
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
    adapters = []
    for _ in range(2):
        model = timm_model("test_vit", img_size=32)
        torch.manual_seed(5)
        adapters.append({name: value for name, value in lora_on(model).named_parameters() if "lora_A" in name})
    assert adapters[0] and all(torch.equal(value, adapters[1][name]) for name, value in adapters[0].items())


@pytest.mark.parametrize("mode", ["2.5d", "3d", "acs"])
def test_volumes_are_refused(mode: str) -> None:
    with pytest.raises(
        TrainingError, match="method lora is only for images, but tiny reads volumes here: use finetune"
    ):
        lora_on(network(volumetric=mode))


def test_lora_trains_few_weights_and_returns_a_plain_model(phantoms: Phantoms, tmp_path: Path) -> None:
    root = build_all(phantoms, tmp_path / "dist", "bloodmnist")
    _, fitted = fit(
        root, tmp_path / "seed", "bloodmnist", method="lora", model="timm/test_vit", image_size=32, lora_rank=2
    )
    assert 0 < fitted.facts["trained_parameters"] < fitted.facts["parameters"]
    assert fitted.built is not None
    assert not [name for name in fitted.built.model.state_dict() if "lora" in name]


def test_a_network_that_needs_attributes_of_its_own_layers_is_a_one_line_error() -> None:
    """DaViT reads the kernel size of its convolutions in its forward."""
    model = timm_model("davit_tiny", depths=(1, 1, 1, 1), embed_dims=(8, 8, 8, 8), num_heads=(1, 1, 1, 1))
    with pytest.raises(
        TrainingError, match=r"tiny does not support LoRA \(.*no attribute 'kernel_size'\): use finetune$"
    ):
        lora_on(model)
