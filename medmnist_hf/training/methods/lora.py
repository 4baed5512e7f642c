"""LoRA by PEFT: small matrices beside the layers of a pretrained model, trained and then merged into it."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.training.methods.base import Fitted, Run
from medmnist_hf.training.methods.finetune import train
from medmnist_hf.training.models.heads import classifiers_of
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe


def fit(run: Run, seed: int, folder: Path) -> Fitted:
    """Train LoRA's matrices, the classifier and batch norms, and merge them into the model."""
    return train(run, seed, folder, adapt=add_lora, merge=merge_lora)


def lora_config(recipe: Recipe, model: nn.Module, images: Tensor) -> LoraConfig:
    """LoRA on every linear layer and convolution of a model that can have it, by their full names.

    Left alone are grouped and depthwise convolutions, whose kernels are too small for matrices of low rank; layers
    with a forward of their own (SAME padding, standardized weights, the parts of `torch.nn.MultiheadAttention`), of
    which the product of two matrices is not the change that it makes; layers whose weights the network reads without
    calling them (the joint projection of BEiT and Swin V2), which would pass by the matrices; and layers or weights
    that stand in several places. Classifiers are new and trained whole; so are batch norms, whose statistics move in
    training: as a part of the adapter they are saved with it.

    Args:
        recipe: Says rank and alpha.
        model: A model of `medmnist_hf.training.models`.
        images: Inputs that it reads.

    Raises:
        TrainingError: The model reads volumes, or has no such layer.
    """
    modules = list(model.named_modules())
    if getattr(getattr(model, "config", None), "volumetric", ""):
        raise TrainingError(f"method lora is for images, but {recipe.model} reads volumes here: use finetune")
    heads, called, shared = classifiers_of(model), _called(model, images), _shared(model)
    targets = [
        name
        for name, module in modules
        if name not in heads and _adaptable(module) and module in called and module not in shared
    ]
    if not targets:
        raise TrainingError(f"{recipe.model} has no layer that LoRA can adapt: use finetune")
    whole = [*heads, *(name for name, module in modules if isinstance(module, _BatchNorm))]
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


def _called(model: nn.Module, images: Tensor) -> set[nn.Module]:
    """The modules that are called, as PEFT exchanges what a call does."""
    called: set[nn.Module] = set()
    hooks = [module.register_forward_hook(lambda module, *_: called.add(module)) for module in model.modules()]
    try:
        _logits(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    return called


def _shared(model: nn.Module) -> set[nn.Module]:
    """The modules that stand in several places, or whose weights do."""
    places = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    weights = Counter(id(one) for module in places for one in module.parameters(recurse=False))
    return {
        module
        for module, count in places.items()
        if count > 1 or any(weights[id(one)] > 1 for one in module.parameters(recurse=False))
    }


def add_lora(recipe: Recipe, built: Built) -> PeftModel:
    """The model with LoRA, in place: only the adapter, classifiers and batch norms can be trained.

    The matrices are drawn from torch's global generator; until trained they change no output. Whether they can be
    merged is tried on a copy.

    Args:
        recipe: Says rank and alpha.
        built: Has a model of `medmnist_hf.training.models`.

    Raises:
        TrainingError: As `lora_config`, or the network with merged matrices is another one than that with matrices
            beside its layers.
    """
    images = torch.randn(
        2, recipe.input_channels, *(built.image_size,) * recipe.subset.ndim, generator=torch.Generator().manual_seed(0)
    )
    config = lora_config(recipe, built.model, images)
    try:
        with torch.random.fork_rng(devices=[]):
            same = _merges(copy.deepcopy(built.model), config, images)
    except Exception as error:  # the code of networks asks layers for what they are, which PEFT's are not
        raise TrainingError(f"{recipe.model} cannot have LoRA ({first_line(error)}): use finetune") from None
    if not same:
        raise TrainingError(f"{recipe.model} with LoRA merged into it would be another network: use finetune")
    return get_peft_model(built.model, config)


def _merges(model: nn.Module, config: LoraConfig, images: Tensor) -> bool:
    """Whether a merge keeps what the matrices do; the model is used up."""
    plain = _logits(model, images)
    adapted: Any = get_peft_model(model, config)
    for name, one in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(one, std=0.02)
    trained = _logits(adapted, images)
    merged = _logits(merge_lora(adapted), images)
    change = (trained - plain).abs().max() + 1e-3 * trained.abs().max()
    return bool((merged - trained).abs().max() <= 0.05 * change + 1e-6)


@torch.no_grad()
def _logits(model: Any, images: Tensor) -> Tensor:
    """Logits in evaluation, with the model left as it was."""
    training = model.training
    logits: Tensor = model.eval()(pixel_values=images.to(next(model.parameters()).device)).logits
    model.train(training)
    return logits


def merge_lora(model: PeftModel) -> nn.Module:
    """The model that went into `add_lora`, with what was learned in its own weights, all of them trainable.

    PEFT's own merge knows its layers by an attribute ``base_layer``, which some networks have as well; here they are
    known by their type.
    """
    merged: nn.Module = model.get_base_model()
    for name, module in list(merged.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            merged.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            merged.set_submodule(name, module.modules_to_save[module.active_adapters[0]])
    vars(merged).pop("peft_config", None)
    return merged.requires_grad_(True)
