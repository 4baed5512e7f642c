"""Partial fine-tuning: train the first or the last blocks of a network and its classifier; freeze the rest."""

import math
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Final

from timm.models import group_parameters
from torch import nn

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.base import Fitted, TrainingRun
from medmnist_hf.training.methods.finetune import train
from medmnist_hf.training.models.heads import classifiers_of, network_of
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe

_LISTS: Final = (nn.ModuleList, nn.Sequential)


def fit(run: TrainingRun, seed: int, folder: Path) -> Fitted:
    """Train some blocks and the classifier, and keep the best epoch on validation."""
    return train(run, seed, folder, adapt=freeze, merge=lambda model: model.requires_grad_(True))


def freeze(recipe: Recipe, built: Built) -> nn.Module:
    """Freeze a model in place, except for its classifier and the recipe's fraction of its blocks.

    Of N blocks, ``ceil(N * unfreeze)`` are trained, as in the code behind the best published results, ``src/model.py``
    of https://github.com/Mayo-Radiology-Informatics-Lab/MedMNIST-Fine-Tuning-Framework. Three things differ:

    - There, the stem (with class token and position embeddings) and the final norm are frozen in both directions. Here
      ``first`` trains the stem too, and ``last`` the layers between the last block and the classifier. If all blocks
      are trained, so are all other weights, as in fine-tuning.
    - There, the blocks of a ResNet are its four stages, and those of a DenseNet its dense blocks and transitions. Here
      they are residual blocks and dense layers.
    - There, batch norms of frozen blocks adapt their statistics to the data. Here the trainer keeps them.

    Args:
        recipe: The recipe with fraction and direction.
        built: A model of `medmnist_hf.training.models`.

    Returns:
        The model. Weights that were frozen before stay frozen.

    Raises:
        TrainingError: The model has no list of blocks.
    """
    model = built.model
    positions, blocks = block_positions(model)
    if not blocks:
        raise TrainingError(
            f"{recipe.model} has no list of blocks, of which method partial trains a part: use finetune"
        )
    count = math.ceil(round(blocks * recipe.unfreeze, 6))  # 25 * 0.28 is a little above 7
    if count == blocks:
        return model
    trained = range(count + 1) if recipe.unfreeze_from == "first" else range(blocks - count + 1, blocks + 2)
    for name, parameter in model.named_parameters():
        if name in positions and (not count or positions[name] not in trained):
            parameter.requires_grad_(False)
    return model


def block_positions(model: nn.Module) -> tuple[dict[str, int], int]:
    """Find the block of each parameter outside the classifier, and the number of blocks.

    The blocks of timm networks are the groups by which timm decays learning rates. In other networks, they are the
    elements of the list of layers with the most parameters, or the elements of the lists in it if these are stages.
    There, parameters between two blocks, such as those of a downsampling layer, belong to the second.

    Args:
        model: A model of `medmnist_hf.training.models`.

    Returns:
        Name of a parameter -> 0 for the stem, 1 to N for the blocks, N + 1 for layers behind them; and N, which is 0
        if the model has no blocks.
    """
    network = network_of(model)
    classifier = {id(parameter) for head in classifiers_of(model).values() for parameter in head.parameters()}
    names = {id(parameter): name for name, parameter in model.named_parameters() if id(parameter) not in classifier}
    if not hasattr(network, "group_matcher"):
        return _positions_by_order(model, names)
    groups = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    positions = {
        names[id(parameter)]: groups[name] for name, parameter in network.named_parameters() if id(parameter) in names
    }
    return positions, max(groups.values()) - 1  # the last group holds the classifier


def _positions_by_order(model: nn.Module, names: Mapping[int, str]) -> tuple[dict[str, int], int]:
    """As `block_positions`, for parameters in the order in which they are registered: id -> name."""
    blocks = _blocks(model)
    block_of = {id(parameter): at for at, block in enumerate(blocks, 1) for parameter in block.parameters()}
    keys, positions, following = list(names), {}, len(blocks) + 1
    for key in reversed(keys):
        following = positions[names[key]] = block_of.get(key, following)
    for key in keys[: next((at for at, key in enumerate(keys) if key in block_of), 0)]:
        positions[names[key]] = 0
    return positions, len(blocks)


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The elements of the largest list of layers, or of the largest lists in these if each has one."""
    blocks = _largest_list(model)
    nested = [_largest_list(block) for block in blocks]
    if all(2 * _size(inner) > _size([block]) for inner, block in zip(nested, blocks, strict=True)):
        return list(chain.from_iterable(nested))
    return blocks


def _largest_list(module: nn.Module) -> list[nn.Module]:
    """The elements of the list of layers in a module with the most parameters; layers of torch itself do not count."""
    lists = [
        list(part) for part in module.modules() if isinstance(part, _LISTS) and len(part) and all(map(_is_block, part))
    ]
    return max(lists, key=_size, default=[])


def _is_block(module: nn.Module) -> bool:
    return isinstance(module, _LISTS) or not type(module).__module__.startswith("torch.")


def _size(modules: Iterable[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
