"""3D convolutions that torch lacks: ACS convolutions, and TensorFlow's SAME padding.

ACS (axial, coronal, sagittal) convolutions are from Yang et al., "Reinventing 2D Convolutions for 3D Images", IEEE
JBHI 2021, arXiv 1911.10477: 2D kernels, a third of them in each of the three planes of a volume.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from timm.layers.padding import get_same_padding
from torch import Tensor, nn
from torch.nn import functional


def same_edges(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Padding before and after an axis for TensorFlow's SAME: ceil(size / stride) outputs, an odd zero goes after."""
    total: int = get_same_padding(size, kernel, stride, dilation)
    return total // 2, total - total // 2


def _flat(edges: list[tuple[int, int]]) -> list[int]:
    """Paddings of the axes in the order of `functional.pad`, the last axis first."""
    return [edge for pair in reversed(edges) for edge in pair]


class Conv3dSame(nn.Conv3d):
    """A 3D convolution with TensorFlow's SAME padding, (B, C, D, H, W) to (B, C', D / s, H / s, W / s), rounded up."""

    def forward(self, input: Tensor) -> Tensor:
        """Pad according to the input's size, then convolve."""
        axes = zip(input.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        edges = [same_edges(*axis) for axis in axes]
        return super().forward(functional.pad(input, _flat(edges)) if any(map(any, edges)) else input)


class _Piece(NamedTuple):
    """Output channels computed by one convolution, in the plane perpendicular to `axis` (0, 1, 2 for D, H, W)."""

    axis: int
    outputs: slice
    inputs: slice
    groups: int


class ACSConv(nn.Conv3d):
    """A convolution whose k x k kernels lie in the axial (H, W), coronal (D, W) or sagittal (D, H) plane.

    It is defined as a 3D convolution with k x k x k kernels that are zero except in the plane through index k // 2,
    the center for odd k, with the same stride, padding and dilation on all three axes. Output channels are divided
    equally into axial, coronal and sagittal ones, in this order; the first remaining channel is axial, the second
    coronal. In a grouped convolution the groups are divided in this way, so in a depthwise one each channel keeps its
    own input. Two groups are too few to divide; then output channels are divided.

    The weight has shape (C', C / groups, 1, k, k), that of the 2D convolution with a depth axis.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: tuple[int, int] | None = (0, 0),
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Make the convolution; arguments are those of `torch.nn.Conv3d`, except for `padding`.

        Args:
            in_channels: Channels of the input.
            out_channels: Channels of the output.
            kernel_size: Edge length k of the kernels.
            stride: Stride along each axis.
            padding: Padding before and after each axis; None for TensorFlow's SAME, which depends on the input size.
            dilation: Dilation along each axis.
            groups: Number of groups.
            bias: Add a bias.
            padding_mode: Kind of padding, as in `torch.nn.Conv3d`.
            device: Device of the parameters.
            dtype: Type of the parameters.
        """
        # torch stores one padding per axis, which adapters may read; `forward` uses `edges`.
        front = padding[0] if padding else 0
        options: dict[str, Any] = {"bias": bias, "padding_mode": padding_mode, "device": device, "dtype": dtype}
        super().__init__(
            in_channels,
            out_channels,
            (1, kernel_size, kernel_size),
            stride,
            (0, front, front),
            dilation,
            groups,
            **options,
        )
        self.edges = padding
        self.pieces = _pieces(in_channels, out_channels, groups)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve a volume (B, C, D, H, W)."""
        kernel, stride, dilation = self.kernel_size[-1], self.stride[-1], self.dilation[-1]
        edges = [self.edges or same_edges(size, kernel, stride, dilation) for size in input.shape[2:]]
        if self.padding_mode != "zeros":
            input = functional.pad(input, _flat(edges), mode=self.padding_mode)
            edges = [(0, 0)] * 3
        return torch.cat([self._piece(input, piece, list(edges)) for piece in self.pieces], dim=1)

    def _piece(self, volume: Tensor, piece: _Piece, edges: list[tuple[int, int]]) -> Tensor:
        kernel, stride, dilation = self.kernel_size[-1], self.stride[-1], self.dilation[-1]
        size = volume.shape[2 + piece.axis]
        outputs = (size + sum(edges[piece.axis]) - dilation * (kernel - 1) - 1) // stride + 1
        # Perpendicular to the plane only index k // 2 matters; crop or pad unless it covers exactly the axis.
        front = edges[piece.axis][0] - kernel // 2 * dilation
        fits = front == 0 and (size - 1) // stride + 1 == outputs
        edges[piece.axis] = (0, 0) if fits else (front, stride * (outputs - 1) + 1 - front - size)
        volume = volume[:, piece.inputs] if self.groups > 1 else volume
        padding = [front for front, _ in edges]
        if any(front != back or front < 0 for front, back in edges):
            volume, padding = functional.pad(volume, _flat(edges)), [0, 0, 0]
        return functional.conv3d(
            volume,
            self.weight[piece.outputs].movedim(2, 2 + piece.axis),
            None if self.bias is None else self.bias[piece.outputs],
            stride=self.stride,
            padding=padding,
            dilation=self.dilation,
            groups=piece.groups,
        )


def _pieces(in_channels: int, out_channels: int, groups: int) -> list[_Piece]:
    """The convolutions of an ACS convolution: one per plane, or two if the channels of a plane span two groups."""
    width, depth = out_channels // groups, in_channels // groups
    unit = width if groups >= 3 else 1
    parts = [(out_channels // unit + 2 - axis) // 3 * unit for axis in range(3)]
    ends = [sum(parts[: axis + 1]) for axis in range(3)]
    cuts = sorted({0, *ends, *((width,) if groups == 2 else ())})
    pieces = []
    for start, stop in pairwise(cuts):
        axis = next(axis for axis, end in enumerate(ends) if stop <= end)
        first, last = start // width, -(-stop // width)
        pieces.append(_Piece(axis, slice(start, stop), slice(first * depth, last * depth), last - first))
    return pieces
