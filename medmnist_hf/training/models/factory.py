"""A recipe's model: by timm's name, by a `transformers` id or folder, or a network of the MedMNIST paper.

Every one is a `transformers` model whose ``forward(pixel_values)`` gives logits. What `save_model` leaves of it,
``pipeline("image-classification", model=folder)`` loads: networks of timm and most models of `transformers` without
this package, the others after ``import medmnist_hf.training.models``.
"""

# Methods of transformers' classes carry no types.
# mypy: allow-untyped-calls

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import torch
from timm.models import get_pretrained_cfg_value
from torch import Tensor, nn
from torch.nn.functional import dropout
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

from medmnist_hf.errors import TrainingError
from medmnist_hf.files import expand_user
from medmnist_hf.training.data.recipe_transforms import input_transform
from medmnist_hf.training.losses import output_count
from medmnist_hf.training.models.checkpoints import load_weights, read_tensors
from medmnist_hf.training.models.from_transformers import load_backbone, load_config, own_statistics
from medmnist_hf.training.models.heads import classifier_of
from medmnist_hf.training.models.input_check import check_input
from medmnist_hf.training.models.processors import image_processor, timm_settings
from medmnist_hf.training.models.resnet import PAPER_NETWORKS
from medmnist_hf.training.models.saving import Built, spreads
from medmnist_hf.training.models.wrappers import (
    TIMM,
    NetworkConfig,
    NetworkForImageClassification,
    check_name,
    make_network,
)
from medmnist_hf.training.recipe import Recipe

IMAGENET_STEM_FROM: Final = 128
"""Size of input from which the paper's networks have the ImageNet stem, unless a recipe says which."""

_RECORDED: Final = ("mean", "std", "channels", "size", "fit", "interpolation")
"""What a saved network keeps of the transform that makes its inputs."""


Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel."""


def check_model(recipe: Recipe) -> None:
    """Refuse a model that cannot be made, as far as that shows before weights are fetched and the network is built.

    Raises:
        TrainingError: An unknown model, one without published weights, or one that does not go with the recipe.
    """
    if recipe.model in PAPER_NETWORKS:
        if recipe.drop_path:
            raise TrainingError(f"{recipe.model} has no stochastic depth: leave drop_path 0")
    elif recipe.model.startswith(TIMM):
        check_name(recipe.model.removeprefix(TIMM), pretrained=_fetches(recipe))
    else:
        load_config(recipe, _names(recipe))


def build_model(recipe: Recipe) -> Built:
    """Make the model of a recipe.

    Raises:
        TrainingError: An unknown model, weights that cannot be had or do not fit, or a model that cannot read the
            subset's images at this size.
    """
    built = _make(recipe)
    check_input(
        built.model,
        recipe.model,
        (recipe.input_channels, *(built.image_size,) * recipe.subset.ndim),
        partial(_remake, recipe, built),
    )
    return built


def _remake(recipe: Recipe, built: Built, channels: Literal[1, 3], size: int) -> nn.Module:
    """The network of a recipe for other images; the one that was built where it would be no other."""
    if channels == recipe.input_channels and recipe.model not in PAPER_NETWORKS and not _of_one_size(recipe):
        return built.model
    return _make(replace(recipe, channels=channels, image_size=size, pretrained=False, checkpoint=None)).model


def _of_one_size(recipe: Recipe) -> bool:
    """Whether a network of timm has position embeddings, and so is built for one size."""
    name = recipe.model.removeprefix(TIMM)
    return name != recipe.model and bool(get_pretrained_cfg_value(name, "fixed_input_size"))


def _make(recipe: Recipe) -> Built:
    if recipe.model in PAPER_NETWORKS:
        return _from_paper(recipe)
    return _from_timm(recipe) if recipe.model.startswith(TIMM) else _from_transformers(recipe)


def _names(recipe: Recipe) -> dict[str, Any]:
    """What a configuration says of a model's outputs: names, and whether each stands for itself."""
    labels, loss = recipe.subset.labels, recipe.resolved_loss
    names = labels if loss != "ordinal" else tuple(f"above {label}" for label in labels[:-1])
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: at for at, name in enumerate(names)},
        "problem_type": "single_label_classification" if loss == "cross-entropy" else "multi_label_classification",
    }


def _statistics(recipe: Recipe, mean: Any, std: Any) -> Statistics:
    """Mean and deviation that a recipe normalizes by, those given being the model's own."""
    if recipe.normalize == "none":
        return (), ()
    if recipe.normalize == "half":
        return (0.5,) * recipe.input_channels, (0.5,) * recipe.input_channels
    if recipe.input_channels == 1:
        return (sum(mean) / len(mean),), (sum(std) / len(std),)
    return tuple(map(float, mean)), tuple(map(float, std))


def _from_paper(recipe: Recipe) -> Built:
    check_model(recipe)
    size = recipe.image_size or recipe.size
    stem = recipe.stem if recipe.stem != "auto" else "imagenet" if size >= IMAGENET_STEM_FROM else "cifar"
    network = make_network(recipe.model, _outputs(recipe), recipe.input_channels, stem)
    half = (0.5,) * recipe.input_channels
    built = _as_own(recipe, network, {"stem": stem}, _statistics(recipe, half, half), _origin(recipe))
    if recipe.drop_rate:
        _drop_before_head(built.model, recipe.drop_rate)
    return built


def _from_timm(recipe: Recipe) -> Built:
    size, fetched = recipe.image_size or recipe.size, _fetches(recipe)
    check_model(recipe)
    options: dict[str, Any] = {}
    if recipe.drop_rate:
        options["drop_rate"] = recipe.drop_rate
    if recipe.drop_path:
        options["drop_path_rate"] = recipe.drop_path
    if _of_one_size(recipe):
        options["img_size"] = size
    network = make_network(recipe.model, _outputs(recipe), recipe.input_channels, pretrained=fetched, **options)
    shown = network.pretrained_cfg
    origin = f"weights of {TIMM}{shown['architecture']}.{shown['tag']}" if fetched else _origin(recipe)
    mean, std = _statistics(recipe, shown["mean"], shown["std"])
    if recipe.subset.ndim == 3:
        return _as_own(recipe, network, {"model_args": options}, (mean, std), origin)
    if recipe.checkpoint is not None:
        load_weights(network, read_tensors(_checkpoint(recipe)), recipe.checkpoint)
    config = TimmWrapperConfig(
        architecture=shown["architecture"],
        model_args={"in_chans": recipe.input_channels, **options},
        **_names(recipe),
    )
    config.pretrained_cfg = timm_settings(shown, recipe, input_transform(recipe, mean, std, size))
    with torch.device("meta"):
        model = TimmWrapperForImageClassification(config)
    model.timm_model = network
    if recipe.input_channels == 1 and not spreads(model, size):
        return _as_own(recipe, network, {"model_args": options}, (mean, std), origin)
    return Built(model, mean, std, size, origin)


def _as_own(recipe: Recipe, network: nn.Module, options: dict[str, Any], statistics: Statistics, origin: str) -> Built:
    """A 2D network, made to read volumes where the subset has them, as a model of this package."""
    weights = {} if recipe.checkpoint is None else read_tensors(_checkpoint(recipe))
    of_volumes = any(value.ndim == 5 for value in weights.values())
    if recipe.checkpoint is not None and not of_volumes:  # conversion takes over those of a 2D network
        load_weights(network, weights, recipe.checkpoint)
    volumes, size = recipe.subset.ndim == 3, recipe.image_size or recipe.size
    if volumes:
        check_input(network, recipe.model, (recipe.input_channels, size, size), lambda *_: network)
    transform = input_transform(recipe, *statistics, size)
    config = NetworkConfig(
        architecture=recipe.model,
        in_channels=recipe.input_channels,
        volumetric=recipe.volumetric if volumes else "",
        depth_stride=recipe.depth_stride and recipe.volumetric == "2.5d",
        transform={name: getattr(transform, name) for name in _RECORDED},
        loss=recipe.resolved_loss,
        **options,
        **_names(recipe),
    )
    model = NetworkForImageClassification(config, network)
    if recipe.checkpoint is not None and of_volumes:
        load_weights(model.network, weights, recipe.checkpoint)
    processor = None if volumes else image_processor(recipe, transform)
    return Built(model, *statistics, size, origin, processor)


def _from_transformers(recipe: Recipe) -> Built:
    names, size = _names(recipe), recipe.image_size or recipe.size
    config = load_config(recipe, names)
    own = own_statistics(recipe, config) if recipe.normalize == "model" else (None, None)
    mean, std = _statistics(recipe, *own)
    transform = input_transform(recipe, mean, std, size)
    model, origin = load_backbone(recipe, config, names)
    if recipe.drop_rate:
        _drop_before_head(model, recipe.drop_rate)
    if isinstance(model, TimmWrapperForImageClassification):
        model.config.pretrained_cfg = timm_settings(model.config.pretrained_cfg, recipe, transform)
        return Built(model, mean, std, size, origin)
    return Built(model, mean, std, size, origin, image_processor(recipe, transform))


def _fetches(recipe: Recipe) -> bool:
    """Whether a network starts from the weights that are published under its name."""
    return recipe.pretrained and recipe.checkpoint is None


def _outputs(recipe: Recipe) -> int:
    return output_count(recipe.resolved_loss, len(recipe.subset.labels))


def _checkpoint(recipe: Recipe) -> Path:
    return expand_user(str(recipe.checkpoint))


def _origin(recipe: Recipe) -> str:
    return "random initialization" if recipe.checkpoint is None else f"weights of {_checkpoint(recipe).name}"


def _drop_before_head(model: nn.Module, rate: float) -> None:
    """Dropout on what the classifier sees, in training."""
    _, classifier = classifier_of(model)
    classifier.register_forward_pre_hook(partial(_dropped, rate))


def _dropped(rate: float, classifier: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (dropout(inputs[0], rate, classifier.training),)


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """Number of all parameters and of those that are trained."""
    sizes = [(one.numel(), one.requires_grad) for one in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)
