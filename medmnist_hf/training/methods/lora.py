"""LoRA by PEFT: small matrices beside the layers of a pretrained model, trained and then merged into it."""

from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.base import Fitted, Run
from medmnist_hf.training.methods.finetune import train
from medmnist_hf.training.models.heads import classifier_of
from medmnist_hf.training.recipe import Recipe


def fit(run: Run, seed: int, folder: Path) -> Fitted:
    """Train LoRA's matrices, the classifier and batch norms, and merge them into the model."""
    return train(run, seed, folder, adapt=add_lora, merge=merge_lora)


def lora_config(recipe: Recipe, model: nn.Module) -> LoraConfig:
    """LoRA on every linear layer and convolution of a model that can have it, by their full names.

    Left alone are grouped and depthwise convolutions, whose kernels are too small for matrices of low rank, and layers
    with a forward of their own (SAME padding, standardised weights, the parts of `torch.nn.MultiheadAttention`), of
    which the product of two matrices is not the change that it makes. The classifier is new and trained whole; so are
    batch norms, whose statistics move in training: as a part of the adapter they are saved with it.

    Args:
        recipe: Says rank and alpha.
        model: A model of `medmnist_hf.training.models`.

    Raises:
        TrainingError: The model reads volumes, or has no such layer.
    """
    modules = list(model.named_modules())
    if any(isinstance(module, nn.Conv3d) for _, module in modules):
        raise TrainingError(f"method lora is for images, but {recipe.model} reads volumes here: use finetune")
    head, _ = classifier_of(model)
    targets = [name for name, module in modules if name != head and _adaptable(module)]
    if not targets:
        raise TrainingError(f"{recipe.model} has no layer that LoRA can adapt: use finetune")
    whole = [head, *(name for name, module in modules if isinstance(module, _BatchNorm))]
    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,  # type: ignore[arg-type]  # any number: it is divided by the rank
        target_modules=targets,
        modules_to_save=whole,
    )


def _adaptable(module: Any) -> bool:
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    return type(module) is nn.Linear


def add_lora(recipe: Recipe, model: nn.Module) -> PeftModel:
    """The model with LoRA, in place: only the adapter, the classifier and batch norms can be trained.

    The matrices are drawn from torch's global generator; until trained they change no output.

    Args:
        recipe: Says rank and alpha.
        model: A model of `medmnist_hf.training.models`.

    Raises:
        TrainingError: As `lora_config`.
    """
    return get_peft_model(model, lora_config(recipe, model))


def merge_lora(model: PeftModel) -> nn.Module:
    """The model that went into `add_lora`, with what was learnt in its own weights, all of them trainable."""
    merged: nn.Module = model.merge_and_unload()
    return merged.requires_grad_(True)
