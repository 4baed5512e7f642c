"""The paper's networks: layers, parameters, initialization, and outputs against the formulas of residual blocks."""

import math
from typing import Any

import pytest
import torch
import torchvision  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.models.resnet import PAPER_NETWORKS, paper_resnet
from medmnist_hf.training.registry import PAPER_MODELS

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


def parameters(name: str, channels: int, classes: int) -> int:
    """Number of parameters: convolutions without bias, two per batch norm channel, the classifier."""
    expansion = 1 if name == "resnet18" else 4
    total, before = channels * 64 * 9 + 2 * 64, 64
    for stage, blocks in enumerate(BLOCKS[name]):
        width = 64 * 2**stage
        after = width * expansion
        for block in range(blocks):
            if expansion == 1:
                kernels = [(before, width, 9), (width, width, 9)]
            else:
                kernels = [(before, width, 1), (width, width, 9), (width, after, 1)]
            if block == 0 and (stage > 0 or before != after):
                kernels.append((before, after, 1))
            total += sum(inputs * outputs * area + 2 * outputs for inputs, outputs, area in kernels)
            before = after
    return total + (before + 1) * classes


def by_formula(name: str, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """The outputs of the network in evaluation mode, written out from its weights."""

    def normed(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{conv}.weight"]
        x = functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        statistics = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        return functional.batch_norm(x, *statistics, weights[f"{norm}.weight"], weights[f"{norm}.bias"])

    x = normed(x, "conv1", "bn1").relu()
    for stage, blocks in enumerate(BLOCKS[name], 1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            if name == "resnet18":
                out = normed(x, f"{at}.conv1", f"{at}.bn1", stride).relu()
                out = normed(out, f"{at}.conv2", f"{at}.bn2")
            else:
                out = normed(x, f"{at}.conv1", f"{at}.bn1").relu()
                out = normed(out, f"{at}.conv2", f"{at}.bn2", stride).relu()
                out = normed(out, f"{at}.conv3", f"{at}.bn3")
            if f"{at}.downsample.0.weight" in weights:
                x = normed(x, f"{at}.downsample.0", f"{at}.downsample.1", stride)
            x = (out + x).relu()
    return functional.linear(x.mean((2, 3)), weights["fc.weight"], weights["fc.bias"])


@pytest.mark.parametrize(("name", "count"), [("resnet18", 11_173_962), ("resnet50", 23_520_842)])
def test_parameters_match_pytorch_cifar(name: str, count: int) -> None:
    assert parameters(name, 3, 10) == count
    for channels, classes in ((3, 10), (1, 2)):
        network = paper_resnet(name, num_classes=classes, in_channels=channels)
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters(name, channels, classes)


def test_the_registry_lists_the_same_names() -> None:
    assert tuple(PAPER_NETWORKS) == PAPER_MODELS


@pytest.mark.parametrize("name", list(PAPER_NETWORKS))
def test_outputs_match_the_formulas(name: str) -> None:
    network = paper_resnet(name, num_classes=5, in_channels=1).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    image = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(network(image), by_formula(name, dict(network.state_dict()), image))


@pytest.mark.parametrize("name", list(PAPER_NETWORKS))
def test_shapes_of_each_stage(name: str) -> None:
    network: Any = paper_resnet(name, num_classes=2, in_channels=3).eval().requires_grad_(False)
    expansion = 1 if name == "resnet18" else 4
    for size, edges in ((28, (28, 14, 7, 4)), (64, (64, 32, 16, 8))):
        x = network.conv1(torch.zeros(1, 3, size, size))
        shapes = []
        for stage in range(1, 5):
            x = getattr(network, f"layer{stage}")(x)
            shapes.append(tuple(x.shape))
        assert shapes == [(1, 64 * 2**at * expansion, edge, edge) for at, edge in enumerate(edges)]
    assert [stage["reduction"] for stage in network.feature_info] == [1, 1, 2, 4, 8]


@pytest.mark.parametrize(("stem", "size"), [("cifar", 128), ("imagenet", 28), ("imagenet", 224)])
def test_any_size(stem: str, size: int) -> None:
    network = paper_resnet("resnet18", num_classes=3, stem=stem).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 3)


@pytest.mark.parametrize("name", list(PAPER_NETWORKS))
def test_the_network_with_the_stem_for_224_equals_torchvision(name: str) -> None:
    reference = getattr(torchvision.models, name)(num_classes=4).eval()
    network = paper_resnet(name, num_classes=4, stem="imagenet").eval()
    network.load_state_dict(reference.state_dict(), strict=True)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(image), reference(image))


def test_the_published_initialization_is_pytorchs_default() -> None:
    network: Any = paper_resnet("resnet18", num_classes=2)
    for conv in (module for module in network.modules() if isinstance(module, nn.Conv2d)):
        bound = 1 / math.sqrt(conv.weight[0].numel())
        assert 0.95 < conv.weight.abs().max().item() / bound <= 1.00001
        assert conv.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert all((module.weight == 1).all() for module in network.modules() if isinstance(module, nn.BatchNorm2d))


def test_initialization_with_the_stem_for_224_is_normal_by_fan_out() -> None:
    network: Any = paper_resnet("resnet18", num_classes=2, stem="imagenet")
    for conv in (module for module in network.modules() if isinstance(module, nn.Conv2d)):
        area = conv.kernel_size[0] * conv.kernel_size[1]
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (conv.out_channels * area)), rel=0.1)
    assert all(module.weight.any() for name, module in network.named_modules() if name.endswith("bn2"))


def test_initialization_depends_on_the_seed() -> None:
    networks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        networks.append(paper_resnet("resnet18", num_classes=2).state_dict()["layer4.1.conv2.weight"])
    assert torch.equal(networks[0], networks[1])
    assert not torch.equal(networks[0], networks[2])


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [("resnet34", {}, "resnet34"), ("resnet18", {"stem": "7x7"}, "7x7")],
)
def test_unknown_networks_are_one_line_errors(name: str, options: dict[str, Any], word: str) -> None:
    with pytest.raises(TrainingError, match=word) as caught:
        paper_resnet(name, num_classes=2, **options)
    assert "\n" not in str(caught.value)
    assert "name " in str(caught.value)
