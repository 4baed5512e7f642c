"""The networks of the MedMNIST paper: ResNet-18 and ResNet-50, with the stem for 28 pixels or the one for 224.

The published code took its networks for 28 pixels from pytorch-cifar, with an adaptive pool at the end, and those for
224 from torchvision. Both are timm's `ResNet` by options: the same layers in the same order.
"""

from typing import Any, Final

from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from medmnist_hf.errors import TrainingError

PAPER_NETWORKS: Final[dict[str, tuple[Any, tuple[int, int, int, int]]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}
"""Residual block and number of blocks in each of the four stages, by name of the network."""


def paper_resnet(architecture: str, *, num_classes: int, in_channels: int = 3, stem: str = "cifar") -> nn.Module:
    """A ResNet of the MedMNIST paper, untrained, for images (B, C, H, W) of any size from 8 pixels up.

    As published, each layer of the ``cifar`` stem's network starts as PyTorch does by default, and convolutions of the
    ``imagenet`` stem's as in torchvision: normal with variance 2 / fan-out.

    Args:
        architecture: ``resnet18`` or ``resnet50``.
        num_classes: Number of outputs.
        in_channels: Channels of the input.
        stem: ``cifar``, a 3 x 3 convolution of stride 1 without max-pool, which the paper used for 28 pixels; or
            ``imagenet``, torchvision's 7 x 7 convolution of stride 2 and max-pool of stride 2, which it used for 224.

    Raises:
        TrainingError: No such network or stem.
    """
    if architecture not in PAPER_NETWORKS:
        raise TrainingError(f"the paper has no network {architecture!r}: name {' or '.join(PAPER_NETWORKS)}")
    if stem not in {"cifar", "imagenet"}:
        raise TrainingError(f"{architecture} has no stem {stem!r}: name cifar or imagenet")
    block, layers = PAPER_NETWORKS[architecture]
    network: Any = ResNet(block, layers, num_classes=num_classes, in_chans=in_channels, zero_init_last=False)
    if stem == "cifar":
        network.conv1 = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1, bias=False)
        network.maxpool = nn.Identity()
        for stage in network.feature_info:
            stage["reduction"] //= 2 if stage["module"] == "act1" else 4
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
    made: nn.Module = network
    return made
