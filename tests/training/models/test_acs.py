"""ACS convolutions against their definition, and SAME padding against its formula."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor
from torch.nn import functional

from medmnist_hf.training.models.acs import ACSConv, Conv3dSame, same_edges


def parts(count: int) -> list[int]:
    """Numbers of axial, coronal and sagittal channels or groups."""
    third, rest = divmod(count, 3)
    return [third + (rest > 0), third + (rest > 1), third]


def planes(conv: ACSConv) -> list[int]:
    """The axis perpendicular to the plane of each output channel's kernel."""
    width = conv.out_channels // conv.groups
    unit, count = (width, conv.groups) if conv.groups >= 3 else (1, conv.out_channels)
    return [axis for axis, part in enumerate(parts(count)) for _ in range(part * unit)]


def by_definition(conv: ACSConv, volume: Tensor, edges: list[tuple[int, int]], mode: str = "constant") -> Tensor:
    """The equivalent 3D convolution, whose kernels are zero outside a plane."""
    k = conv.kernel_size[-1]
    cubes = torch.zeros(conv.out_channels, conv.in_channels // conv.groups, k, k, k, dtype=volume.dtype)
    for channel, axis in enumerate(planes(conv)):
        cubes[channel].select(1 + axis, k // 2).copy_(conv.weight[channel, :, 0].detach())
    padded = functional.pad(volume, [edge for pair in reversed(edges) for edge in pair], mode=mode)
    return functional.conv3d(padded, cubes, conv.bias, stride=conv.stride, dilation=conv.dilation, groups=conv.groups)


@pytest.mark.parametrize(("stride", "bias"), [(1, True), (2, False), (3, True)])
def test_acs_concatenates_three_convolutions(stride: int, bias: bool) -> None:
    """64 channels: 22 axial, 21 coronal, 21 sagittal, as in the published code."""
    conv = ACSConv(5, 64, 3, stride=stride, padding=(1, 1), bias=bias).double()
    volume = torch.randn(2, 5, 6, 7, 8, dtype=torch.float64)
    weight = conv.weight[:, :, 0]
    expected = [
        functional.conv3d(volume, weight[:22].unsqueeze(2), stride=stride, padding=(0, 1, 1)),
        functional.conv3d(volume, weight[22:43].unsqueeze(3), stride=stride, padding=(1, 0, 1)),
        functional.conv3d(volume, weight[43:].unsqueeze(4), stride=stride, padding=(1, 1, 0)),
    ]
    offset = conv.bias.view(1, -1, 1, 1, 1) if conv.bias is not None else 0.0
    torch.testing.assert_close(conv(volume), torch.cat(expected, 1) + offset)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_acs_equals_a_3d_convolution_with_planar_kernels(data: st.DataObject) -> None:
    groups, front = data.draw(st.integers(1, 7)), data.draw(st.integers(0, 4))
    edges = (front, front + data.draw(st.integers(0, 1)))
    conv = ACSConv(
        groups * data.draw(st.integers(1, 3)),
        groups * data.draw(st.integers(1, 4)),
        data.draw(st.integers(2, 5)),
        stride=data.draw(st.integers(1, 3)),
        padding=edges,
        dilation=data.draw(st.integers(1, 2)),
        groups=groups,
        bias=data.draw(st.booleans()),
        dtype=torch.float64,
    )
    sizes = data.draw(st.tuples(*[st.integers(9, 11)] * 3))
    volume = torch.randn(1, conv.in_channels, *sizes, dtype=torch.float64)
    torch.testing.assert_close(conv(volume), by_definition(conv, volume, [edges] * 3))


def test_depthwise_channels_keep_their_own_input() -> None:
    conv = ACSConv(7, 7, 3, padding=(1, 1), groups=7, bias=False)
    volume = torch.randn(1, 7, 5, 5, 5)
    out = conv(volume)
    for channel, axis in enumerate([0, 0, 0, 1, 1, 2, 2]):
        kernel = conv.weight[channel : channel + 1].movedim(2, 2 + axis)
        padding = [1, 1, 1]
        padding[axis] = 0
        expected = functional.conv3d(volume[:, channel : channel + 1], kernel, padding=padding)
        torch.testing.assert_close(out[:, channel : channel + 1], expected)


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 32, 96])
def test_pieces_cover_each_output_once_with_few_convolutions(groups: int) -> None:
    conv = ACSConv(96, 192, 3, groups=groups)
    assert conv.pieces[0].outputs.start == 0
    assert all(piece.outputs.stop == following.outputs.start for piece, following in pairwise(conv.pieces))
    assert conv.pieces[-1].outputs.stop == 192
    assert len(conv.pieces) == (4 if groups == 2 else 3)


@pytest.mark.parametrize("channels", [1, 2])
def test_fewer_channels_than_planes(channels: int) -> None:
    conv = ACSConv(1, channels, 3, padding=(1, 1))
    volume = torch.randn(1, 1, 4, 4, 4)
    torch.testing.assert_close(conv(volume), by_definition(conv, volume, [(1, 1)] * 3))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [2, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_depends_on_the_size(stride: int, kernel: int, dilation: int) -> None:
    sizes = (7, 8, 28)
    edges = [same_edges(size, kernel, stride, dilation) for size in sizes]
    for size, (front, back) in zip(sizes, edges, strict=True):
        outputs = math.ceil(size / stride)
        needed = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        assert (front, back) == (needed // 2, needed - needed // 2)
    conv = ACSConv(2, 3, kernel, stride=stride, padding=None, dilation=dilation)
    volume = torch.randn(1, 2, *sizes)
    out = conv(volume)
    assert out.shape[2:] == tuple(math.ceil(size / stride) for size in sizes)
    torch.testing.assert_close(out, by_definition(conv, volume, edges))


def test_same_padding_of_slices_equals_timm() -> None:
    flat = Conv2dSame(2, 3, 3, stride=2)
    deep = Conv3dSame(2, 3, (1, 3, 3), stride=(1, 2, 2))
    deep.load_state_dict({"weight": flat.weight.unsqueeze(2), "bias": flat.bias})
    for size in (7, 8):
        volume = torch.randn(1, 2, 3, size, size)
        expected = torch.stack([flat(image) for image in volume.unbind(2)], 2)
        torch.testing.assert_close(deep(volume), expected)
    assert Conv3dSame(1, 1, 3, stride=2)(torch.zeros(1, 1, 7, 8, 9)).shape == (1, 1, 4, 4, 5)


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
def test_padding_modes(mode: str) -> None:
    conv = ACSConv(2, 4, 3, padding=(1, 1), padding_mode=mode)
    volume = torch.randn(1, 2, 4, 5, 6)
    torch.testing.assert_close(conv(volume), by_definition(conv, volume, [(1, 1)] * 3, mode))


def test_gradients() -> None:
    conv = ACSConv(2, 4, 3, stride=2, padding=(1, 1)).double()
    volume = torch.randn(1, 2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (volume,))
    assert torch.autograd.gradcheck(
        lambda weight: torch.func.functional_call(conv, {"weight": weight}, volume), conv.weight
    )


def test_channels_last_and_bfloat16() -> None:
    conv = ACSConv(4, 6, 3, padding=(1, 1))
    volume = torch.randn(2, 4, 5, 6, 7)
    plain = conv(volume)
    last = conv.to(memory_format=torch.channels_last_3d)(volume.to(memory_format=torch.channels_last_3d))
    assert last.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(last, plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = conv(volume)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain, rtol=0.02, atol=0.02)
