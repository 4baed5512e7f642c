"""Build the model of a recipe: a network of timm, `transformers`, the MedMNIST paper or a Python file of the user.

Every model is a `transformers` model whose ``forward(pixel_values)`` returns logits. After `save_model`,
``pipeline("image-classification", model=folder)`` loads it: timm networks and most models of `transformers` without
this package, the others after ``import medmnist_hf.training.models``.
"""

# Methods of transformers' classes are untyped.
# mypy: allow-untyped-calls

import contextlib
import logging
from collections.abc import Mapping
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
from medmnist_hf.loading.statistics import pixel_statistics
from medmnist_hf.own_code.names import MODEL_FILE, is_code, pin_code, public_code
from medmnist_hf.statistics.sums import pooled
from medmnist_hf.training.data.recipe_transforms import input_transform
from medmnist_hf.training.losses import output_count
from medmnist_hf.training.models.checkpoints import load_weights, read_tensors, strip_prefix, tensors_digest
from medmnist_hf.training.models.from_transformers import (
    RANDOM,
    load_backbone,
    load_config,
    model_statistics,
    processor_sizes,
)
from medmnist_hf.training.models.heads import classifier_of, pooled_features
from medmnist_hf.training.models.input_check import check_input, nearest_size, own_sizes, share_seen
from medmnist_hf.training.models.processors import image_processor, timm_settings
from medmnist_hf.training.models.resnet import PAPER_NETWORKS
from medmnist_hf.training.models.saving import Built, can_spread_channels
from medmnist_hf.training.models.wrappers import (
    TIMM,
    FeaturesWithClassifier,
    NetworkConfig,
    NetworkForImageClassification,
    check_name,
    make_network,
    own_network,
)
from medmnist_hf.training.recipe import Recipe

_log = logging.getLogger(__name__)

IMAGENET_STEM_FROM: Final = 128
"""Input size from which the paper's networks get the ImageNet stem by default."""

_RECORDED: Final = ("mean", "std", "channels", "size", "fit", "interpolation")
"""Arguments of the input transform that are saved with a network."""


Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel."""


def check_model(recipe: Recipe) -> None:
    """Check a model as far as possible without downloading weights or building the network.

    Raises:
        TrainingError: The model is unknown, has no published weights, or does not support the recipe.
    """
    if recipe.model in PAPER_NETWORKS:
        if recipe.drop_path:
            raise TrainingError(f"{recipe.model} has no stochastic depth: leave drop_path 0")
    elif is_code(recipe.model):
        pin_code(recipe.model, MODEL_FILE)
    elif recipe.model.startswith(TIMM):
        check_name(recipe.model.removeprefix(TIMM), pretrained=_fetches(recipe))
    else:
        load_config(recipe, _names(recipe))


def build_model(recipe: Recipe) -> Built:
    """Build the model of a recipe, for inputs of `Built.image_size`.

    Raises:
        TrainingError: The model is unknown, its weights cannot be fetched or do not fit, or it cannot read the
            subset's images at this size.
    """
    if is_code(recipe.model):
        return _from_file(recipe)
    is_auto = recipe.image_size == "auto"
    recipe = replace(recipe, image_size=_own_size(recipe)) if is_auto else recipe
    built = _make(recipe)
    shape = recipe.input_channels, *(built.image_size,) * recipe.ndim
    remake = partial(_remake, recipe, built)
    try:
        check_input(built.model, recipe.model, shape, remake, auto=recipe.ndim == 2)
    except TrainingError:
        nearest = nearest_size(shape, remake) if is_auto else None
        if nearest is None:
            raise
        return _make(replace(recipe, image_size=nearest))
    return built


def _own_size(recipe: Recipe) -> int:
    """The size of a model's pretraining, as configured; that of the data for volumes, and if unknown."""
    if recipe.ndim == 3 or recipe.model in PAPER_NETWORKS:
        return recipe.size
    check_model(recipe)
    if recipe.model.startswith(TIMM):
        sizes = [*(get_pretrained_cfg_value(recipe.model.removeprefix(TIMM), "input_size") or ())[-1:]]
    else:
        config = load_config(recipe, _names(recipe))
        sizes = own_sizes(config) or processor_sizes(recipe)
    return sizes[0] if sizes else recipe.size


def _remake(recipe: Recipe, built: Built, channels: Literal[1, 3], size: int) -> nn.Module:
    """The network of a recipe for other channels or another size; the existing one if it would be the same."""
    if channels == recipe.input_channels and recipe.model not in PAPER_NETWORKS and not _of_one_size(recipe):
        return built.model
    return _make(replace(recipe, channels=channels, image_size=size, pretrained=False, checkpoint=None)).model


def _of_one_size(recipe: Recipe) -> bool:
    """Whether a timm network is built for one size, because it has position embeddings."""
    name = recipe.model.removeprefix(TIMM)
    return name != recipe.model and bool(get_pretrained_cfg_value(name, "fixed_input_size"))


def _make(recipe: Recipe) -> Built:
    if recipe.model in PAPER_NETWORKS:
        return _from_paper(recipe)
    return _from_timm(recipe) if recipe.model.startswith(TIMM) else _from_transformers(recipe)


def _names(recipe: Recipe) -> dict[str, Any]:
    """The entries of a model configuration that describe the outputs: names and kind of problem."""
    names: list[str] = []
    for part in recipe.parts:
        labels, prefix = part.subset.labels, f"{part.dataset}/" if recipe.is_joint else ""
        own = labels if part.resolved_loss != "ordinal" else [f"above {label}" for label in labels[:-1]]
        names += [f"{prefix}{name}" for name in own]
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: at for at, name in enumerate(names)},
        "problem_type": f"{'single' if _loss(recipe) == 'cross-entropy' else 'multi'}_label_classification",
    }


def _loss(recipe: Recipe) -> str:
    """The loss in a configuration, which says how to read the outputs; bce if the subsets have several."""
    losses = {loss for loss, _ in recipe.heads}
    return losses.pop() if len(losses) == 1 else "bce"


def _statistics(recipe: Recipe, mean: Any, std: Any) -> Statistics:
    """Mean and standard deviation for a recipe's normalization, given the model's own."""
    if recipe.normalize == "none":
        return (), ()
    if recipe.normalize == "half":
        return (0.5,) * recipe.input_channels, (0.5,) * recipe.input_channels
    if recipe.normalize == "dataset":
        pixels = pooled(
            [pixel_statistics(part.source, part.size, root=part.root, revision=part.revision) for part in recipe.parts]
        )
        repeat = recipe.input_channels // len(pixels.sums)  # gray images may be repeated to three channels
        return pixels.mean * repeat, pixels.std * repeat
    if recipe.input_channels == 1:
        return (sum(mean) / len(mean),), (sum(std) / len(std),)
    return tuple(map(float, mean)), tuple(map(float, std))


def _from_paper(recipe: Recipe) -> Built:
    check_model(recipe)
    size = recipe.input_size
    stem = recipe.stem if recipe.stem != "auto" else "imagenet" if size >= IMAGENET_STEM_FROM else "cifar"
    network = make_network(recipe.model, _outputs(recipe), recipe.input_channels, stem)
    half = (0.5,) * recipe.input_channels
    built = _as_own(recipe, network, {"stem": stem}, _statistics(recipe, half, half), _origin(recipe))
    if recipe.drop_rate:
        _drop_before_head(built.model, recipe.drop_rate)
    return built


def _from_timm(recipe: Recipe) -> Built:
    size, fetched = recipe.input_size, _fetches(recipe)
    check_model(recipe)
    options: dict[str, Any] = {}
    if recipe.drop_rate:
        options["drop_rate"] = recipe.drop_rate
    if recipe.drop_path:
        options["drop_path_rate"] = recipe.drop_path
    if _of_one_size(recipe):
        options["img_size"] = size
    network = make_network(recipe.model, _outputs(recipe), recipe.input_channels, pretrained=fetched, **options)
    settings = network.pretrained_cfg
    origin = f"weights of {TIMM}{settings['architecture']}.{settings['tag']}" if fetched else _origin(recipe)
    mean, std = _statistics(recipe, settings["mean"], settings["std"])
    if recipe.ndim == 3:
        return _as_own(recipe, network, {"model_args": options}, (mean, std), origin)
    if recipe.checkpoint is not None:
        load_weights(network, read_tensors(_checkpoint(recipe)), recipe.checkpoint)
    config = TimmWrapperConfig(
        architecture=settings["architecture"],
        model_args={"in_chans": recipe.input_channels, **options},
        **_names(recipe),
    )
    config.pretrained_cfg = timm_settings(settings, recipe, input_transform(recipe, mean, std, size))
    with torch.device("meta"):
        model = TimmWrapperForImageClassification(config)
    model.timm_model = network
    if recipe.input_channels == 1 and not can_spread_channels(model, size):
        return _as_own(recipe, network, {"model_args": options}, (mean, std), origin)
    return Built(model, mean, std, size, origin)


def _as_own(recipe: Recipe, network: nn.Module, options: dict[str, Any], statistics: Statistics, origin: str) -> Built:
    """Wrap a 2D network as a model of this package, converted to read volumes if the subset has them."""
    weights = {} if recipe.checkpoint is None else read_tensors(_checkpoint(recipe))
    of_volumes = any(value.ndim == 5 for value in weights.values())
    if recipe.checkpoint is not None and not of_volumes:  # the conversion keeps the weights of a 2D network
        load_weights(_target(network, weights), weights, recipe.checkpoint)
    volumes, size, own = recipe.ndim == 3, recipe.input_size, is_code(recipe.model)
    if volumes and not own:
        check_input(network, recipe.model, (recipe.input_channels, size, size), lambda *_: network, auto=False)
    transform = input_transform(recipe, *statistics, size)
    config = NetworkConfig(
        architecture=public_code(recipe.model),
        in_channels=recipe.input_channels,
        volumetric="" if not volumes else "3d" if own else recipe.volumetric,
        depth_stride=recipe.depth_stride and recipe.volumetric == "2.5d",
        slice_pooling=recipe.slice_pooling if volumes and recipe.volumetric == "2.5d" else "mean",
        transform={name: getattr(transform, name) for name in _RECORDED},
        loss=_loss(recipe),
        **options,
        **_names(recipe),
    )
    model = NetworkForImageClassification(config, network)
    if recipe.checkpoint is not None and of_volumes:
        load_weights(_target(model.network, weights), weights, recipe.checkpoint)
    processor = None if volumes else image_processor(recipe, transform)
    return Built(model, *statistics, size, origin, processor)


def _from_file(recipe: Recipe) -> Built:
    """Make the network of a user's file; the weights it starts from are identified by a digest."""
    ndim, size, name = recipe.ndim, recipe.input_size, public_code(recipe.model)
    network = own_network(
        recipe.model,
        num_classes=_outputs(recipe),
        in_channels=recipe.input_channels,
        image_size=size,
        ndim=ndim,
    )
    half = (0.5,) * recipe.input_channels
    built = _as_own(recipe, network, {}, _statistics(recipe, half, half), "")
    shape = recipe.input_channels, *(size,) * ndim
    if recipe.probe_first or recipe.method != "finetune":
        try:
            pooled_features(built.model.eval(), torch.zeros(2, *shape))
        except TrainingError:
            raise TrainingError(
                f"{name} has no features for {'probe_first' if recipe.probe_first else recipe.method}: define its "
                "linear classifier last and return its outputs, or return features and leave out num_classes"
            ) from None
    own: Any = built.model.network
    if isinstance(own, FeaturesWithClassifier) and own.classifier.in_features == own.classifier.out_features:
        _log.warning(
            "%s does not accept num_classes, so a linear classifier is added to its %d outputs: if they are logits, "
            "accept num_classes",
            name,
            own.classifier.in_features,
        )
    share = 1.0
    with contextlib.suppress(Exception):  # networks without gradients or without a classifier are not measured
        share = share_seen(built.model, shape)
    if share < 1:
        _log.warning("%s sees %d %% of an image of %d pixels: give another --image-size", name, 100 * share, size)
    start = _origin(recipe) if recipe.checkpoint else f"weights with SHA-256 {tensors_digest(_start(network))[0]}"
    return replace(built, origin=f"{start} in {name}")


def _start(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a user's network, without the classifier that was added to it."""
    return (network.body if isinstance(network, FeaturesWithClassifier) else network).state_dict()


def _target(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """The part of a network that a checkpoint is of: all, or the features without the classifier added to them."""
    if isinstance(network, FeaturesWithClassifier):
        names = network.state_dict().keys()
        return network if names & strip_prefix(weights, names).keys() else network.body
    return network


def _from_transformers(recipe: Recipe) -> Built:
    names, size = _names(recipe), recipe.input_size
    config = load_config(recipe, names)
    statistics = model_statistics(recipe, config) if recipe.normalize == "model" else (None, None)
    mean, std = _statistics(recipe, *statistics)
    transform = input_transform(recipe, mean, std, size)
    model, origin = load_backbone(recipe, config, names)
    if recipe.drop_rate:
        _drop_before_head(model, recipe.drop_rate)
    if isinstance(model, TimmWrapperForImageClassification):
        model.config.pretrained_cfg = timm_settings(model.config.pretrained_cfg, recipe, transform)
        return Built(model, mean, std, size, origin)
    return Built(model, mean, std, size, origin, image_processor(recipe, transform))


def _fetches(recipe: Recipe) -> bool:
    """Whether a network starts from its published weights."""
    return recipe.pretrained and recipe.checkpoint is None


def _outputs(recipe: Recipe) -> int:
    return sum(output_count(loss, classes) for loss, classes in recipe.heads)


def _checkpoint(recipe: Recipe) -> Path:
    return expand_user(str(recipe.checkpoint))


def _origin(recipe: Recipe) -> str:
    return RANDOM if recipe.checkpoint is None else f"weights of {_checkpoint(recipe).name}"


def _drop_before_head(model: nn.Module, rate: float) -> None:
    """Add dropout to the classifier's input during training."""
    _, classifier = classifier_of(model)
    classifier.register_forward_pre_hook(partial(_dropped, rate))


def _dropped(rate: float, classifier: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (dropout(inputs[0], rate, classifier.training),)


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """Number of all parameters and of those that require gradients."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)
