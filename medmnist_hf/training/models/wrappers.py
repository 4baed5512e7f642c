"""Models that `transformers` lacks: the MedMNIST paper's networks, networks for volumes, backbones with a head.

Importing this module registers them with the Auto classes, so that ``AutoModelForImageClassification`` and
``pipeline("image-classification", model=folder)`` load the saved model of a run. Pipelines read only images; for
volumes:

    >>> from medmnist_hf.training.models.wrappers import NetworkForImageClassification
    >>> model = NetworkForImageClassification.from_pretrained("run/seed-0/best")  # doctest: +SKIP
    >>> scores = model.predict(volumes)  # uint8 (N, D, H, W) -> (N, K)  # doctest: +SKIP
"""

# Methods of transformers' classes are untyped.
# mypy: allow-untyped-calls

import difflib
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from timm.models import get_pretrained_cfg_value, is_model_pretrained, list_pretrained
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_outputs import ImageClassifierOutput

from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.own_code.names import MODEL_FILE, is_code, public_code
from medmnist_hf.own_code.running import OWN_ERRORS, call_code, describe_value, explain, load_code, parameters_of
from medmnist_hf.training.data.transforms import BatchTransform
from medmnist_hf.training.losses import to_scores
from medmnist_hf.training.models.checkpoints import first_names
from medmnist_hf.training.models.input_check import check_outputs
from medmnist_hf.training.models.processors import CenteringImageProcessor
from medmnist_hf.training.models.resnet import PAPER_NETWORKS, paper_resnet
from medmnist_hf.training.models.volumetric import to_volumetric

TIMM = "timm/"
"""Prefix of the names of timm networks; the paper's networks have no prefix."""


class NetworkConfig(PreTrainedConfig):
    """Configuration of a network and its input transform.

    Attributes:
        architecture: ``resnet18`` or ``resnet50`` for the networks of the paper, ``timm/`` and a timm name, or a
            function in a user's Python file.
        in_channels: Channels of the input.
        stem: Stem of the paper's networks, ``cifar`` or ``imagenet``.
        volumetric: ``2.5d``, ``3d`` or ``acs`` for volumes, empty for images; ``3d`` for a network of a user's file.
        depth_stride: Whether strides and pools of ``2.5d`` run along depth too.
        slice_pooling: How ``2.5d`` pools slices, ``mean`` or ``max``.
        model_args: Further arguments of `timm.create_model`.
        transform: Arguments of the `medmnist_hf.training.data.transforms.BatchTransform` for stored images.
        loss: Loss of the training, which defines how outputs become scores.
    """

    model_type = "medmnist_network"

    architecture: str = "resnet18"
    in_channels: int = 3
    stem: str = "cifar"
    volumetric: str = ""
    depth_stride: bool = False
    slice_pooling: str = "mean"
    model_args: dict[str, Any] | None = None
    transform: dict[str, Any] | None = None
    loss: str = "cross-entropy"


class NetworkForImageClassification(PreTrainedModel):
    """A network with a classifier, for images (B, C, H, W) or volumes (B, C, D, H, W)."""

    config_class = NetworkConfig
    base_model_prefix = "network"
    main_input_name = "pixel_values"
    accepts_loss_kwargs = False

    def __init__(self, config: NetworkConfig, network: nn.Module | None = None) -> None:
        """Wrap a network.

        Args:
            config: Configuration of the network.
            network: The 2D network; built from the configuration if not given.
        """
        super().__init__(config)
        if network is None:
            options, outputs = config.model_args or {}, len(config.id2label or ())
            network = make_network(config.architecture, outputs, config.in_channels, config.stem, **options)
        if config.volumetric and not is_code(config.architecture):
            network = to_volumetric(
                network, config.volumetric, depth_stride=config.depth_stride, slice_pooling=config.slice_pooling
            )
        self.network = network
        self._constants = _constants(self)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The networks initialize themselves."""

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Restore constants that are not saved and that loading leaves empty, such as relative position indices."""
        for name, value in self._constants.items():
            self.get_buffer(name).copy_(value)

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutput:
        """Compute the logits of a batch. Raises `TrainingError` if a network from a file of the user fails."""
        if pixel_values.ndim == 4 and self.config.in_channels == 1:
            pixel_values = pixel_values.mean(1, keepdim=True)  # a pipeline repeats gray images to three channels
        try:
            logits = self.network(pixel_values)
        except OWN_ERRORS as error:
            code = self.config.architecture
            if not is_code(code):
                raise
            raise TrainingError(f"{code} failed ({explain(error, code)}): fix it there") from None
        return ImageClassifierOutput(logits=logits)

    @torch.inference_mode()
    def predict(self, images: npt.NDArray[np.uint8], batch_size: int = 64) -> npt.NDArray[np.float64]:
        """Score stored images or volumes, as `medmnist_hf.load_arrays` returns them.

        Args:
            images: uint8 of shape (N, H, W), (N, H, W, 3) or (N, D, H, W).
            batch_size: Number of images per batch.

        Returns:
            Probabilities of shape (N, K), one per class or finding.

        Raises:
            TrainingError: The images have another type or shape.
        """
        rgb = not self.config.volumetric and images.shape[3:] == (3,)
        is_batch = images.ndim == (4 if self.config.volumetric or rgb else 3) and len(images)
        if images.dtype != np.uint8 or not is_batch:
            shapes = "(N, D, H, W)" if self.config.volumetric else "(N, H, W) or (N, H, W, 3)"
            raise TrainingError(f"images are {images.dtype} {images.shape}: give uint8 {shapes}")
        transform, training = BatchTransform(**(self.config.transform or {})), self.training
        self.eval()
        logits = []
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            batch = transform({"images": torch.tensor(part), "labels": torch.zeros(len(part))})
            logits.append(self(batch["pixel_values"].to(self.device)).logits.float().cpu().numpy())
        self.train(training)
        return to_scores(np.concatenate(logits), self.config.loss)


def _constants(model: NetworkForImageClassification) -> dict[str, Tensor]:
    """Buffers that are not saved, by name. For a model on the meta device, a copy is built on the CPU to get them."""
    saved = model.state_dict().keys()
    constants = {name: value for name, value in model.named_buffers() if name not in saved}
    if any(value.is_meta for value in constants.values()):
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            config: Any = model.config
            return NetworkForImageClassification(config)._constants
    return {name: value.clone() for name, value in constants.items()}


class FeaturesWithClassifier(nn.Module):
    """A network that returns features (B, F), with a linear classifier on them.

    Args:
        body: The network.
        width: Number of features.
        outputs: Number of outputs.
    """

    def __init__(self, body: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.body, self.classifier = body, nn.Linear(width, outputs)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Compute the logits of a batch."""
        logits: Tensor = self.classifier(self.body(pixel_values))
        return logits


def own_network(code: str, *, num_classes: int, in_channels: int, image_size: int, ndim: int) -> nn.Module:
    """Make a network by a function in a Python file of the user, and check it on a trial batch.

    The function is called with those of the arguments here that it accepts. If it accepts ``num_classes``, its network
    returns logits of shape (B, num_classes), otherwise features of shape (B, F), and a linear classifier is added.

    Args:
        code: The function, as ``my.py:build``.
        num_classes: Number of outputs: classes, findings, or grades minus one for the ordinal loss.
        in_channels: Channels of the input.
        image_size: Edge length of the input.
        ndim: 2 for images (B, C, H, W), 3 for volumes (B, C, D, H, W).

    Raises:
        TrainingError: The file cannot be run, the function fails or returns no module, or the outputs have another
            shape.
    """
    values = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size, "ndim": ndim}
    accepted, takes_all = parameters_of(load_code(code, MODEL_FILE))
    made = call_code(code, MODEL_FILE, values)
    if not isinstance(made, nn.Module):
        raise TrainingError(f"{public_code(code)} returned {describe_value(made)}: return a torch.nn.Module")
    network, shape = made.cpu().float(), (in_channels, *(image_size,) * ndim)
    if takes_all or "num_classes" in accepted:
        check_outputs(network, code, shape, num_classes)
    else:
        network = FeaturesWithClassifier(network, check_outputs(network, code, shape, None), num_classes)
    return copy_shared_tensors(network)


class BackboneConfig(PreTrainedConfig):
    """Configuration of a backbone with a head.

    Attributes:
        backbone_config: Configuration of the backbone.
        width: Number of features of the backbone.
    """

    model_type = "medmnist_backbone"
    sub_configs_defaults = {"backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="vit")}  # noqa: RUF012

    backbone_config: Any = None
    width: int = 768


class BackboneForImageClassification(PreTrainedModel):
    """A model of `transformers` without a classifier, with a linear classifier on its pooled features.

    The features are the model's pooled output or, without one, the mean over tokens or positions.
    """

    config_class = BackboneConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    accepts_loss_kwargs = False

    def __init__(self, config: BackboneConfig, backbone: nn.Module | None = None) -> None:
        """Wrap a backbone.

        Args:
            config: Configuration of the model.
            backbone: The backbone; built from the configuration if not given.
        """
        super().__init__(config)
        self.backbone: Any = AutoModel.from_config(config.backbone_config) if backbone is None else backbone
        self.classifier = nn.Linear(config.width, len(config.id2label or ()))
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutput:
        """Compute the logits of a batch of images (B, C, H, W)."""
        return ImageClassifierOutput(logits=self.classifier(backbone_features(self.backbone, pixel_values)))


def backbone_features(backbone: Any, pixel_values: Tensor) -> Tensor:
    """Pooled features of a model of `transformers` without a classifier, shape (B, F)."""
    outputs = backbone(pixel_values)
    pooled = getattr(outputs, "pooler_output", None)
    if pooled is not None:
        return torch.flatten(pooled, 1)
    hidden: Tensor = outputs.last_hidden_state
    return hidden.mean(1) if hidden.ndim == 3 else hidden.mean((2, 3))


def make_network(
    architecture: str,
    outputs: int,
    in_channels: int,
    stem: str = "cifar",
    *,
    pretrained: bool = False,
    **options: Any,
) -> Any:
    """Make a 2D network by name.

    Args:
        architecture: One of `PAPER_NETWORKS`, or ``timm/`` and a timm name.
        outputs: Number of outputs.
        in_channels: Channels of the input.
        stem: Stem of the paper's networks.
        pretrained: Load the published weights, which timm fetches from the Hub.
        **options: Further arguments of `timm.create_model`.

    Raises:
        TrainingError: The network is unknown, has no published weights, or they cannot be fetched.
    """
    if is_code(architecture):
        raise TrainingError(
            f"this model is a network of a file, {architecture}, which is not run without being asked: give it to "
            "medmnist-hf predict --model-file, or to medmnist_hf.training.models.load_model"
        )
    if architecture in PAPER_NETWORKS:
        return paper_resnet(architecture, num_classes=outputs, in_channels=in_channels, stem=stem)
    name = architecture.removeprefix(TIMM)
    check_name(name, pretrained=pretrained)
    try:
        network = timm.create_model(name, pretrained=pretrained, num_classes=outputs, in_chans=in_channels, **options)
    except Exception as error:  # networks and the Hub's client raise many kinds of errors
        unfetched = pretrained and isinstance(error, OSError)
        what = "fetch the weights of" if unfetched else "make"
        hint = "check the network, or give --checkpoint or --no-pretrained" if pretrained else "check the options"
        own = (get_pretrained_cfg_value(name, "input_size") or (224,))[-1]
        if not unfetched and options.get("img_size", own) != own and _makes(name, options | {"img_size": own}):
            hint = f"give --image-size {own} or auto"
        raise TrainingError(f"cannot {what} {TIMM}{name} ({first_line(error)}): {hint}") from None
    return copy_shared_tensors(network)


def _makes(name: str, options: dict[str, Any]) -> bool:
    """Whether timm can make a network with these options."""
    try:
        with torch.device("meta"):
            timm.create_model(name, **options)
    except Exception:  # as above
        return False
    return True


def copy_shared_tensors(network: nn.Module) -> nn.Module:
    """Make the state dict of a network copy shared tensors, which safetensors does not save."""
    network.register_state_dict_post_hook(_unshare)
    return network


def _unshare(network: nn.Module, tensors: dict[str, Tensor], prefix: str, _: Any) -> None:
    """Replace tensors with several names, as in CoaT, by a copy per name."""
    seen = set()
    for name in [name for name in tensors if name.startswith(prefix)]:
        address = tensors[name].untyped_storage().data_ptr()
        if address in seen and not tensors[name].is_meta:
            tensors[name] = tensors[name].clone()
        seen.add(address)


def check_name(name: str, *, pretrained: bool) -> None:
    """Raise a `TrainingError` with a suggestion if timm has no model or weights of this name."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), 3)
        hint = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() lists all"
        raise TrainingError(f"timm has no model {architecture!r}: {hint}")
    tags = [full_name.partition(".")[2] for full_name in list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        close = difflib.get_close_matches(tag, tags, 1) or tags
        raise TrainingError(
            f"timm has no weights {tag!r} of {architecture}: choose from {first_names(close) or 'none'}"
        )
    if pretrained and not is_model_pretrained(name):
        raise TrainingError(f"there are no weights of {TIMM}{name}: give --no-pretrained or --checkpoint")


AutoConfig.register(NetworkConfig.model_type, NetworkConfig)
AutoConfig.register(BackboneConfig.model_type, BackboneConfig)
AutoModelForImageClassification.register(NetworkConfig, NetworkForImageClassification)
AutoModelForImageClassification.register(BackboneConfig, BackboneForImageClassification)
for _config in (NetworkConfig, BackboneConfig):
    AutoImageProcessor.register(_config, image_processor_classes={"torchvision": CenteringImageProcessor})
