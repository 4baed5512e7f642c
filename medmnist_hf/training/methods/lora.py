"""LoRA by PEFT: train low-rank updates of the layers of a pretrained model, then merge them into it."""

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
from medmnist_hf.training.methods.base import Fitted, TrainingRun
from medmnist_hf.training.methods.finetune import train
from medmnist_hf.training.models.heads import classifiers_of
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe


def fit(run: TrainingRun, seed: int, folder: Path) -> Fitted:
    """Train the LoRA matrices, the classifier and batch norms, and merge them into the model."""
    return train(run, seed, folder, adapt=add_lora, merge=merge_lora)


def lora_config(recipe: Recipe, model: nn.Module, images: Tensor) -> LoraConfig:
    """The configuration that applies LoRA to every suitable linear layer and convolution, by full name.

    Some layers are not adapted:

    - grouped and depthwise convolutions, whose kernels are too small for low-rank matrices;
    - layers with their own forward (SAME padding, standardized weights, parts of `torch.nn.MultiheadAttention`), whose
      change is not the product of the two matrices;
    - layers whose weights the network reads without calling the layer (the joint projection of BEiT and Swin V2),
      which would bypass the matrices;
    - layers and weights that are shared.

    Classifiers are new and trained fully. So are batch norms, whose statistics change in training; as part of the
    adapter they are saved with it.

    Args:
        recipe: The recipe with rank and alpha.
        model: A model of `medmnist_hf.training.models`.
        images: Example inputs.

    Raises:
        TrainingError: The model reads volumes, or has no suitable layer.
    """
    modules = list(model.named_modules())
    if getattr(getattr(model, "config", None), "volumetric", ""):
        raise TrainingError(f"method lora is only for images, but {recipe.model} reads volumes here: use finetune")
    heads, called, shared = classifiers_of(model), _called(model, images), _shared(model)
    targets = [
        name
        for name, module in modules
        if name not in heads and _adaptable(module) and module in called and module not in shared
    ]
    if not targets:
        raise TrainingError(f"{recipe.model} has no layer that LoRA can adapt: use finetune")
    fully_trained = [*heads, *(name for name, module in modules if isinstance(module, _BatchNorm))]
    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,  # type: ignore[arg-type]  # need not be an integer: it is divided by the rank
        target_modules=targets,
        modules_to_save=fully_trained,
    )


def _adaptable(module: Any) -> bool:
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    return type(module) is nn.Linear


def _called(model: nn.Module, images: Tensor) -> set[nn.Module]:
    """The modules whose forward is called; PEFT replaces only the forward."""
    called: set[nn.Module] = set()
    hooks = [module.register_forward_hook(lambda module, *_: called.add(module)) for module in model.modules()]
    try:
        _logits(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    return called


def _shared(model: nn.Module) -> set[nn.Module]:
    """The modules that occur several times in the model, or whose weights do."""
    modules = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    weights = Counter(id(weight) for module in modules for weight in module.parameters(recurse=False))
    return {
        module
        for module, count in modules.items()
        if count > 1 or any(weights[id(weight)] > 1 for weight in module.parameters(recurse=False))
    }


def add_lora(recipe: Recipe, built: Built) -> PeftModel:
    """Add LoRA to a model in place, so that only the adapter, classifiers and batch norms are trained.

    The matrices are drawn from torch's global generator and do not change outputs until they are trained. Merging is
    tested on a copy.

    Args:
        recipe: The recipe with rank and alpha.
        built: A model of `medmnist_hf.training.models`.

    Raises:
        TrainingError: As for `lora_config`, or merging the matrices changes the outputs of the network.
    """
    images = torch.randn(
        2, recipe.input_channels, *(built.image_size,) * recipe.ndim, generator=torch.Generator().manual_seed(0)
    )
    config = lora_config(recipe, built.model, images)
    try:
        with torch.random.fork_rng(devices=[]):
            can_merge = _can_merge(copy.deepcopy(built.model), config, images)
    except Exception as error:  # networks may read attributes of their layers that PEFT's layers lack
        raise TrainingError(f"{recipe.model} does not support LoRA ({first_line(error)}): use finetune") from None
    if not can_merge:
        raise TrainingError(f"merging LoRA into {recipe.model} would change its outputs: use finetune")
    return get_peft_model(built.model, config)


def _can_merge(model: nn.Module, config: LoraConfig, images: Tensor) -> bool:
    """Whether merging keeps the outputs of the network; the given model is modified."""
    plain = _logits(model, images)
    adapted: Any = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    trained = _logits(adapted, images)
    merged = _logits(merge_lora(adapted), images)
    change = (trained - plain).abs().max() + 1e-3 * trained.abs().max()
    return bool((merged - trained).abs().max() <= 0.05 * change + 1e-6)


@torch.no_grad()
def _logits(model: Any, images: Tensor) -> Tensor:
    """Logits in evaluation mode; the mode of the model is restored."""
    training = model.training
    logits: Tensor = model.eval()(pixel_values=images.to(next(model.parameters()).device)).logits
    model.train(training)
    return logits


def merge_lora(model: PeftModel) -> nn.Module:
    """Merge the adapter into the model given to `add_lora`, and make all weights trainable.

    PEFT's merge identifies its layers by the attribute ``base_layer``, which some networks have too; here they are
    identified by type.
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
