"""The networks of the MedMNIST paper: ResNet-18 and ResNet-50, with a stem for 28 or for 224 pixels.

The published code uses the networks of pytorch-cifar with an adaptive pool for 28 pixels, and those of torchvision for
224. Both are made from timm's `ResNet`, with the same layers in the same order.
"""

from typing import Any, Final

from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from medmnist_hf.errors import TrainingError

PAPER_NETWORKS: Final[dict[str, tuple[Any, tuple[int, int, int, int]]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}
"""Name -> residual block and number of blocks in each of the four stages."""


def paper_resnet(architecture: str, *, num_classes: int, in_channels: int = 3, stem: str = "cifar") -> nn.Module:
    """Make an untrained ResNet of the MedMNIST paper, for images (B, C, H, W) of 8 pixels or more.

    As published, networks with the ``cifar`` stem are initialized by PyTorch's defaults, and convolutions of networks
    with the ``imagenet`` stem as in torchvision: normal with variance 2 / fan-out.

    Args:
        architecture: ``resnet18`` or ``resnet50``.
        num_classes: Number of outputs.
        in_channels: Channels of the input.
        stem: ``cifar``, a 3 x 3 convolution of stride 1 without max-pool, as in the paper for 28 pixels; or
            ``imagenet``, torchvision's 7 x 7 convolution of stride 2 and max-pool of stride 2, as for 224 pixels.

    Raises:
        TrainingError: The network or stem is unknown.
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
    resnet: nn.Module = network
    return resnet
