"""Converted networks: cases in which 2.5D, 3D and ACS equal the 2D network or one another, and errors."""

import copy
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision  # type: ignore[import-untyped]
from safetensors.torch import load_file, save_file
from timm.models.regnet import RegNet, RegNetCfg
from timm.models.resnet import BasicBlock, Bottleneck
from timm.models.vgg import VGG
from torch import Tensor, nn
from torch.nn import functional

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.models.acs import ACSConv
from medmnist_hf.training.models.resnet import paper_resnet
from medmnist_hf.training.models.volumetric import MODES, to_volumetric


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """With small tensors on a busy machine, threads spend more time waiting than computing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_timm(name: str, **options: Any) -> nn.Module:
    network: nn.Module = timm.create_model(name, num_classes=3, in_chans=1, **options)
    return network


def tiny_resnet(block: Any = BasicBlock, **options: Any) -> Any:
    """A ResNet with four stages of one block, a stem of stride 2 and a max-pool."""
    torch.manual_seed(0)
    channels = (8, 8, 12, 16)
    options = {"num_classes": 3, "in_chans": 1, "zero_init_last": False, **options}
    return timm.models.ResNet(block, (1, 1, 1, 1), channels=channels, **options)


def tiny_convnext(name: str, *, conv_mlp: bool) -> nn.Module:
    return tiny_timm(name, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), conv_mlp=conv_mlp, ls_init_value=0.5)


def tiny_vgg() -> nn.Module:
    layers: Any = [8, "M", 16, "M", 16, "M"]
    network: Any = VGG(layers, num_classes=3, in_chans=1, norm_layer=nn.BatchNorm2d)
    network.pre_logits.fc1 = nn.Conv2d(16, 32, 7)
    network.pre_logits.fc2 = nn.Conv2d(32, 4096, 1)
    vgg: nn.Module = network
    return vgg


def tiny_torchvision() -> nn.Module:
    settings, last = torchvision.models.mobilenetv3._mobilenet_v3_conf("mobilenet_v3_small", width_mult=0.25)
    network: nn.Module = torchvision.models.MobileNetV3(settings[:5], last, num_classes=3)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": tiny_resnet,
    "resnet-d, average pools": lambda: tiny_resnet(stem_width=8, stem_type="deep", avg_down=True),
    "se-resnet": lambda: tiny_resnet(block_args={"attn_layer": "se"}),
    "eca-resnet": lambda: tiny_resnet(block_args={"attn_layer": "eca"}),
    "ese-resnet": lambda: tiny_resnet(block_args={"attn_layer": "ese"}),
    "resnext": lambda: tiny_resnet(Bottleneck, cardinality=4, base_width=32),
    "group norm": lambda: tiny_resnet(norm_layer="groupnorm1"),
    "regnetx": lambda: RegNet(RegNetCfg(5, 8, 14.0, 2.0, group_size=4), in_chans=1, num_classes=3),
    "regnety": lambda: RegNet(RegNetCfg(5, 8, 14.0, 2.0, group_size=4, se_ratio=0.25), in_chans=1, num_classes=3),
    "densenet": lambda: tiny_timm("densenet121", growth_rate=4, block_config=(2, 2, 2)),
    "efficientnet": lambda: tiny_timm("test_efficientnet"),
    "mobilenetv3": lambda: tiny_timm("mobilenetv3_small_050"),
    "mobilenetv3, SAME": lambda: tiny_timm("tf_mobilenetv3_small_minimal_100"),
    "convnext": lambda: tiny_convnext("convnext_atto", conv_mlp=False),
    "convnext, convolutions": lambda: tiny_convnext("convnext_atto", conv_mlp=True),
    "convnextv2": lambda: tiny_convnext("convnextv2_atto", conv_mlp=False),
    "convnextv2, convolutions": lambda: tiny_convnext("convnextv2_atto", conv_mlp=True),
    "vgg": tiny_vgg,
    "torchvision mobilenetv3": tiny_torchvision,
}


def part(network: Any, at: int) -> Any:
    return network[at]


def first_channels(network: nn.Module) -> int:
    return next(module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_read_volumes(name: str) -> None:
    """The 2.5D form equals the 2D network for equal slices, and all parameters have gradients in all modes."""
    torch.manual_seed(0)
    flat = NETWORKS[name]().eval()
    before = copy.deepcopy(flat.state_dict())
    size = 32 if "convnext" in name else 28
    channels = first_channels(flat)
    for mode in MODES:
        deep = to_volumetric(flat, mode)
        assert not deep.training
        if mode == "2.5d":
            image = torch.randn(2, channels, size, size)
            with torch.no_grad():
                same = deep(image.unsqueeze(2).expand(-1, -1, 3, -1, -1))
            torch.testing.assert_close(same, flat(image), rtol=1e-4, atol=1e-4)
        if mode != "3d":
            shapes = [tensor.unsqueeze(2).shape if tensor.ndim == 4 else tensor.shape for tensor in flat.parameters()]
            assert [tensor.shape for tensor in deep.parameters()] == shapes
        volume = torch.randn(2, channels, size, size, size)
        out = deep.train()(volume)
        assert out.shape == (2, flat(image).shape[1])
        assert out.isfinite().all()
        out.square().sum().backward()
        assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in deep.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in flat.state_dict().items())


def test_parameters_of_the_papers_resnet18() -> None:
    with torch.device("meta"):
        flat = paper_resnet("resnet18", num_classes=10)
    squares = sum(tensor.numel() for tensor in flat.parameters() if tensor.ndim == 4 and tensor.shape[-1] == 3)
    for mode, expected in (("2.5d", 11_173_962), ("acs", 11_173_962), ("3d", 11_173_962 + 2 * squares)):
        assert sum(tensor.numel() for tensor in to_volumetric(flat, mode).parameters()) == expected
    assert 11_173_962 + 2 * squares == 33_148_362


def test_25d_applies_the_2d_network_slice_by_slice() -> None:
    flat = tiny_resnet().eval()
    deep: Any = to_volumetric(flat, "2.5d")
    volume = torch.randn(2, 1, 5, 28, 28)
    with torch.no_grad():
        slices = torch.stack([flat.forward_features(tensor) for tensor in volume.unbind(2)], 2)
        torch.testing.assert_close(deep.forward_features(volume), slices)
        torch.testing.assert_close(deep(volume), flat.fc(slices.mean((2, 3, 4))))


def test_squeeze_and_excite_sees_the_whole_volume() -> None:
    deep: Any = to_volumetric(tiny_resnet(block_args={"attn_layer": "se"}), "2.5d").eval()
    gate = deep.layer1[0].se
    x = torch.randn(2, 8, 3, 4, 5)
    squeezed = gate.fc2(gate.bn(gate.fc1(x.mean((2, 3, 4), keepdim=True))).relu())
    torch.testing.assert_close(gate(x), x * squeezed.sigmoid())


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax", "fast", "fastmax"])
def test_global_pools_see_the_whole_volume(pool: str) -> None:
    deep: Any = to_volumetric(tiny_resnet(global_pool=pool), "acs")
    x = torch.randn(2, 16, 3, 4, 5)
    mean, most = x.mean((2, 3, 4)), x.amax((2, 3, 4))
    both = torch.cat([mean, most], 1)
    expected = {
        "avg": mean,
        "fast": mean,
        "max": most,
        "fastmax": most,
        "avgmax": (mean + most) / 2,
        "catavgmax": both,
    }
    torch.testing.assert_close(deep.global_pool(x), expected[pool])


def test_inflated_3d_equals_the_2d_network_for_equal_slices() -> None:
    """With circular padding, the sum over k equal slices is k times one slice at every position."""
    flat = tiny_resnet()
    for module in flat.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            module.padding_mode = "circular"
            module._reversed_padding_repeated_twice = [module.kernel_size[0] // 2] * 4
    flat.eval()
    deep = to_volumetric(flat, "3d")
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            deep(image.unsqueeze(2).expand(-1, -1, 32, -1, -1)), flat(image), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_inflated_convolution_with_zero_padding(kernel: int) -> None:
    """Equal where the kernel stays inside the volume, and divided by k for a volume of one slice."""
    flat = nn.Sequential(nn.Conv2d(2, 3, kernel, padding=kernel // 2, bias=False))
    deep = to_volumetric(flat, "3d")
    image = torch.randn(1, 2, 9, 9)
    inside = deep(image.unsqueeze(2).expand(-1, -1, 9, -1, -1))[:, :, kernel // 2 : 9 - kernel // 2]
    torch.testing.assert_close(inside, flat(image).unsqueeze(2).expand_as(inside))
    torch.testing.assert_close(deep(image.unsqueeze(2)), flat(image).unsqueeze(2) / kernel)
    summed = deep.state_dict()["0.weight"].sum(2)
    torch.testing.assert_close(summed, flat.state_dict()["0.weight"])


def test_modes_agree_for_kernels_of_one_voxel() -> None:
    flat = nn.Sequential(
        nn.Conv2d(2, 7, 1), nn.BatchNorm2d(7), nn.ReLU(), nn.Conv2d(7, 5, 1, bias=False), nn.AdaptiveAvgPool2d(1)
    )
    volume = torch.randn(2, 2, 4, 5, 6)
    outs = [to_volumetric(flat, mode).eval()(volume) for mode in MODES]
    torch.testing.assert_close(outs[0], outs[1])
    torch.testing.assert_close(outs[0], outs[2])


def test_a_volume_of_one_slice_is_an_image() -> None:
    """For one slice, 2.5D equals the 2D network, and the axial third of an ACS convolution the 2D convolution."""
    flat = tiny_resnet().eval()
    image = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(to_volumetric(flat, "2.5d")(image.unsqueeze(2)), flat(image))
    conv = nn.Sequential(nn.Conv2d(1, 7, 3, padding=1))
    acs = to_volumetric(conv, "acs")
    torch.testing.assert_close(acs(image.unsqueeze(2))[:, :3, 0], conv(image)[:, :3])
    assert isinstance(part(acs, 0), ACSConv)


POOLS: list[tuple[nn.Module, Callable[[Tensor], Tensor]]] = [
    (nn.MaxPool2d(3, 2, 1), lambda x: functional.max_pool3d(x, 3, 2, 1)),
    (nn.MaxPool2d((3, 3), 2, 0, 2, ceil_mode=True), lambda x: functional.max_pool3d(x, 3, 2, 0, 2, True)),
    (nn.AvgPool2d(2), lambda x: functional.avg_pool3d(x, 2)),
    (nn.AvgPool2d(3, 2, 1, True, False), lambda x: functional.avg_pool3d(x, 3, 2, 1, True, False)),
    (nn.AvgPool2d(2, divisor_override=3), lambda x: functional.avg_pool3d(x, 2, divisor_override=6)),
    (nn.AdaptiveAvgPool2d((7, 6)), lambda x: functional.adaptive_avg_pool3d(x, (1, 7, 6))),
    (nn.AdaptiveMaxPool2d(2), lambda x: functional.adaptive_max_pool3d(x, (1, 2, 2))),
]


@pytest.mark.parametrize(("pool", "cubes"), POOLS, ids=[repr(pool) for pool, _ in POOLS])
def test_pools(pool: nn.Module, cubes: Callable[[Tensor], Tensor]) -> None:
    flat = nn.Sequential(nn.Conv2d(1, 2, 1), pool)
    x = torch.randn(2, 2, 9, 10, 11)
    slices = torch.stack([pool(tensor) for tensor in x.unbind(2)], 2)
    adaptive = "Adaptive" in type(pool).__name__
    torch.testing.assert_close(part(to_volumetric(flat, "2.5d"), 1)(x), cubes(x) if adaptive else slices)
    for mode in ("3d", "acs"):
        torch.testing.assert_close(part(to_volumetric(flat, mode), 1)(x), cubes(x))
    strided = to_volumetric(flat, "2.5d", depth_stride=True)
    torch.testing.assert_close(part(strided, 1)(x), cubes(x))


@pytest.mark.parametrize("padding", ["same", "valid", 2])
@pytest.mark.parametrize("mode", MODES)
def test_padding_of_convolutions(padding: str | int, mode: str) -> None:
    """Output sizes equal those of torch's convolutions, along depth for ``3d`` and ``acs`` only."""
    conv = nn.Conv2d(2, 4, 4, padding=padding, dilation=2)
    out = to_volumetric(nn.Sequential(conv), mode)(torch.randn(1, 2, 9, 10, 11))
    edge = conv(torch.randn(1, 2, 10, 11)).shape[2:]
    depth = conv(torch.randn(1, 2, 9, 9)).shape[2]
    assert out.shape[2:] == (9 if mode == "2.5d" else depth, *edge)


def test_depth_stride_skips_slices_as_in_the_published_converter() -> None:
    """With it, the paper's ResNet sees every eighth of 28 slices, without it all of them."""
    flat = paper_resnet("resnet18", num_classes=2, in_channels=1).eval()
    for strided, seen in ((True, [0, 8, 16, 24]), (False, list(range(28)))):
        volume = torch.randn(1, 1, 28, 8, 8, requires_grad=True)
        to_volumetric(flat, "2.5d", depth_stride=strided)(volume)[0, 0].backward()
        assert volume.grad is not None
        assert volume.grad.abs().sum((0, 1, 3, 4)).nonzero().flatten().tolist() == seen


@pytest.mark.parametrize(
    ("name", "pool"), [("", "1"), ("test_resnet", "global_pool"), ("test_convnext", "head.global_pool")]
)
def test_the_maximum_over_slices_is_that_of_the_means_of_each(name: str, pool: str) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    flat: Any = timm.create_model(name, num_classes=2) if name else plain
    volume = torch.randn(2, 3, 5, 32, 32)
    layer, means = flat.eval().get_submodule(pool), []
    with layer.register_forward_hook(lambda _, __, output: means.append(output)):
        for image in volume.unbind(2):
            flat(image)
    with layer.register_forward_hook(lambda _, __, output: torch.stack(means).amax(0)):
        expected = flat(volume[:, :, 0])
    torch.testing.assert_close(to_volumetric(flat, "2.5d", slice_pooling="max").eval()(volume), expected)
    assert not torch.allclose(to_volumetric(flat, "2.5d").eval()(volume), expected)


def test_a_network_whose_last_pool_has_no_slices_has_no_maximum() -> None:
    for network, reason in (
        (tiny_vgg(), "no slices"),
        (nn.Sequential(nn.Conv2d(3, 2, 1)), "no global"),
    ):
        with pytest.raises(TrainingError, match=f"has {reason}.*use slice_pooling mean"):
            to_volumetric(network, "2.5d", slice_pooling="max")


def test_scratch_reinitializes_and_inflate_keeps_the_weights() -> None:
    flat: Any = tiny_resnet()
    for norm in (module for module in flat.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.constant_(norm.weight, 3.0)
    for mode in MODES:
        drawn: Any = to_volumetric(flat, mode, weights="scratch")
        weight = drawn.layer3[0].conv2.weight
        assert 0.95 < weight.abs().max().item() * weight[0].numel() ** 0.5 <= 1.00001  # PyTorch's bound
        assert not torch.equal(drawn.fc.weight, flat.fc.weight)
        assert (drawn.bn1.weight == 1).all()
        kept: Any = to_volumetric(flat, mode)
        assert torch.equal(kept.fc.weight, flat.fc.weight)
        assert (kept.bn1.weight == 3).all()
        depth = 3 if mode == "3d" else 1
        torch.testing.assert_close(kept.layer1[0].conv1.weight[:, :, 0], flat.layer1[0].conv1.weight / depth)


def test_converted_networks_can_be_saved_loaded_and_copied(tmp_path: Path) -> None:
    flat = tiny_resnet().to(memory_format=torch.channels_last)
    for mode in MODES:
        deep = to_volumetric(flat, mode).eval()
        save_file(deep.state_dict(), tmp_path / "model.safetensors")
        other = to_volumetric(tiny_resnet(), mode, weights="scratch").eval()
        other.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
        volume = torch.randn(1, 1, 28, 28, 28)
        with torch.no_grad():
            expected = deep(volume)
            torch.testing.assert_close(other(volume), expected)
            torch.testing.assert_close(copy.deepcopy(deep)(volume), expected)
        flat_memory = {tensor.untyped_storage().data_ptr() for tensor in chain(flat.parameters(), flat.buffers())}
        assert not flat_memory & {
            tensor.untyped_storage().data_ptr() for tensor in chain(deep.parameters(), deep.buffers())
        }


@pytest.mark.parametrize("mode", MODES)
def test_channels_last_and_autocast(mode: str) -> None:
    deep = to_volumetric(tiny_resnet(block_args={"attn_layer": "se"}), mode).eval()
    volume = torch.randn(2, 1, 28, 28, 28)
    with torch.no_grad():
        expected = deep(volume)
        last = deep.to(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(
            last(volume.to(memory_format=torch.channels_last_3d)), expected, rtol=1e-4, atol=1e-4
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = last(volume)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.1)


def test_conversion_keeps_type_mode_and_shared_layers() -> None:
    flat: Any = tiny_resnet().double()
    flat.conv1.requires_grad_(False)
    flat.layer1.eval()
    flat.extra = flat.layer1[0].conv1  # one layer under two names
    for mode in MODES:
        deep: Any = to_volumetric(flat, mode)
        assert deep.extra is deep.layer1[0].conv1
        assert [name for name, tensor in deep.named_parameters() if not tensor.requires_grad] == ["conv1.weight"]
        assert {tensor.dtype for tensor in deep.parameters()} == {torch.float64}
        assert deep.training
        assert not any(module.training for module in deep.layer1.modules())
    assert not any(module._forward_hooks for module in flat.modules())


def test_networks_on_the_meta_device_can_be_converted() -> None:
    """`transformers` builds them before it loads weights."""
    with torch.device("meta"):
        for mode in MODES:
            deep = to_volumetric(paper_resnet("resnet18", num_classes=2, in_channels=1), mode)
            assert all(tensor.is_meta for tensor in deep.parameters())


def test_a_single_convolution_can_be_converted() -> None:
    assert isinstance(to_volumetric(nn.Conv2d(1, 3, 3), "acs"), ACSConv)


class Permuting(nn.Module):
    """Channel attention that averages over two axes in its own code, which is silently wrong for volumes."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True)


REFUSED: list[tuple[Callable[[], nn.Module], str, str]] = [
    (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), Permuting()), "2.5d", r"layer 1 \(Permuting\)"),
    (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 2, 3)), "3d", r"layer 1 \(ConvTranspose2d\)"),
    (lambda: nn.Sequential(nn.Conv2d(1, 2, (1, 7))), "3d", r"layer 0 \(Conv2d\) .*1 x 7 is not square"),
    (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, stride=(2, 1))), "acs", r"layer 0 \(Conv2d\) .*2 x 1 is not square"),
    (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d((2, 1))), "acs", r"layer 1 \(MaxPool2d\) .*2 x 1"),
    (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 2)), "3d", r"the network \(Sequential\) .*no 2D convolution"),
    (lambda: tiny_resnet(drop_block_rate=0.1), "acs", r"\(DropBlock2d\)"),
    (lambda: tiny_timm("nfnet_l0"), "acs", r"layer stem.conv1 \(ScaledStdConv2d\)"),
    (lambda: tiny_timm("vit_tiny_patch16_224", depth=1), "acs", r"layer patch_embed \(PatchEmbed\)"),
    (lambda: tiny_timm("skresnet18"), "2.5d", r"layer layer1.0.conv1.attn.fc_reduce \(Conv3d\)"),
]


@pytest.mark.parametrize(("make", "mode", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_layers_that_cannot_be_converted_are_named(make: Callable[[], nn.Module], mode: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        to_volumetric(make(), mode)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("; choose another 2D CNN")


def test_kernels_that_are_not_square_can_be_converted_to_25d() -> None:
    conv = nn.Conv2d(1, 2, (1, 7), stride=(1, 2), padding=(0, 3))
    volume = torch.randn(1, 1, 3, 8, 9)
    expected = torch.stack([conv(tensor) for tensor in volume.unbind(2)], 2)
    torch.testing.assert_close(to_volumetric(nn.Sequential(conv), "2.5d")(volume), expected)


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("2d", {}, "no conversion '2d' to volumes: name 2.5d, 3d, acs"),
        ("acs", {"weights": "imagenet"}, "no conversion 'imagenet' to volumes: name inflate, scratch"),
        ("acs", {"depth_stride": True}, "depth_stride is only for mode 2.5d"),
        ("3d", {"slice_pooling": "max"}, "slice_pooling is only for mode 2.5d"),
        ("2.5d", {"slice_pooling": "median"}, "no conversion 'median' to volumes: name mean, max"),
    ],
)
def test_unknown_conversions_are_refused(mode: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        to_volumetric(tiny_resnet(), mode, **options)
