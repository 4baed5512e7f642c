"""Convert 2D convolutional networks to read volumes: 2.5D, 3D and ACS.

Layers are replaced one by one in a copy of the network. Since the code of custom layers is unknown,
`medmnist_hf.training.models.volumetric_check` compares the 2.5D form with the 2D network before a network is returned.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final, cast

from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.eca import EcaModule
from timm.layers.grn import GlobalResponseNorm
from timm.layers.norm import LayerNorm2d, LayerNorm2dFp32
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.squeeze_excite import EffectiveSEModule, SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models.convnext import ConvNeXtBlock
from timm.models.vgg import ConvMlp
from torch import Tensor, nn
from torch.nn import functional

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.models.acs import ACSConv, Conv3dSame
from medmnist_hf.training.models.volumetric_check import compare_layers, refusal

MODES: Final = ("2.5d", "3d", "acs")
SLICE_POOLING: Final = ("mean", "max")

_SPACE = (2, 3, 4)


def to_volumetric(
    model: nn.Module, mode: str, *, weights: str = "inflate", depth_stride: bool = False, slice_pooling: str = "mean"
) -> nn.Module:
    """Make a network for volumes (B, C, D, H, W) from a 2D convolutional network, which is not modified.

    Global pools and squeeze-excite means run over the whole volume, and an adaptive pool to h x w gives 1 x h x w, so
    classifiers keep their weights. The mode determines what a k x k convolution becomes:

    - ``2.5d``: 1 x k x k. Slices are processed one by one, up to the first layer that pools over the whole volume.
    - ``3d``: k x k x k; pools are cubes too, and strides run along all three axes.
    - ``acs``: k x k in the axial, coronal or sagittal plane, a third of the output channels each (see
      `medmnist_hf.training.models.acs.ACSConv`); pools and strides as with ``3d``.

    With ``2.5d`` and ``acs``, convolution weights are the 2D weights with a depth axis of length 1, so the number of
    parameters does not change. On a CPU all three modes are faster in memory format ``channels_last_3d``. Convert
    last: a classifier replaced later by timm's ``reset_classifier`` is 2D.

    Args:
        model: A 2D convolutional network of timm or torchvision: ResNet, ResNeXt, RegNet, DenseNet, VGG, MobileNet,
            EfficientNet, ConvNeXt and others made of the same layers.
        mode: ``2.5d``, ``3d`` or ``acs``.
        weights: ``inflate`` keeps the 2D weights, for ``3d`` repeated k times along depth and divided by k (Carreira
            and Zisserman, 2017); ``scratch`` reinitializes all layers by PyTorch's defaults.
        depth_stride: With ``2.5d``, stride and pool along depth too, as in the converter behind the published 2.5D
            results. A ResNet with the CIFAR stem then sees only every eighth slice.
        slice_pooling: With ``2.5d``, what the last global pool gives: the ``mean`` over the volume, or of the means of
            all slices the ``max``.

    Returns:
        The network, with the same device, type and training mode.

    Raises:
        TrainingError: The mode is unknown, or a layer cannot be converted; the message names the layer.
    """
    known = ((mode, MODES), (weights, ("inflate", "scratch")), (slice_pooling, SLICE_POOLING))
    for value, choices in known:
        if value not in choices:
            raise TrainingError(f"there is no conversion {value!r} to volumes: name {', '.join(choices)}")
    if depth_stride and mode != "2.5d":
        raise TrainingError(f"depth_stride is only for mode 2.5d: strides of {mode} run along depth anyway")
    if slice_pooling != "mean" and mode != "2.5d":
        raise TrainingError(f"slice_pooling is only for mode 2.5d: {mode} has no slices")
    last = _last_pool(model) if slice_pooling == "max" else None
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    flat, trial = copy.deepcopy(model, dict(shared)), copy.deepcopy(model, dict(shared))
    compare_layers(flat, _Converter("2.5d", deep=False, last=last).convert(trial), skip_inside=_OverPositions)
    converted = _Converter(mode, deep=depth_stride or mode != "2.5d", last=last).convert(copy.deepcopy(model))
    if weights == "scratch":
        for module in converted.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return converted


class _OverPositions(nn.Module):
    """A layer that ignores the arrangement of positions: applies the 2D layer to an image of (D * H) x W."""

    def forward(self, x: Tensor) -> Tensor:
        flat: Tensor = super().forward(x.flatten(2, 3))
        if flat.ndim < 4:
            return flat
        depth = x.shape[2] if flat.shape[2] == x.shape[2] * x.shape[3] else 1
        return flat.view(*flat.shape[:2], depth, -1, flat.shape[3])


class _BatchNormAct3d(_OverPositions, BatchNormAct2d):
    pass


class _LayerNorm3d(_OverPositions, LayerNorm2d):
    pass


class _LayerNorm3dFp32(_OverPositions, LayerNorm2dFp32):
    pass


class _SelectAdaptivePool3d(_OverPositions, SelectAdaptivePool2d):
    pass


class _SelectMaxOfSlices(_OverPositions, SelectAdaptivePool2d):
    def forward(self, x: Tensor) -> Tensor:
        return _max_of_slices(x, super(_OverPositions, self).forward)


class _AdaptiveMaxOfSlices(_OverPositions, nn.AdaptiveAvgPool2d):
    def forward(self, x: Tensor) -> Tensor:
        return _max_of_slices(x, super(_OverPositions, self).forward)


def _max_of_slices(x: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
    """Pool each slice (B, C, H, W) of volumes (B, C, D, H, W), and keep the largest value of each feature."""
    pooled = pool(x.movedim(2, 1).flatten(0, 1))
    most = pooled.view(len(x), -1, *pooled.shape[1:]).amax(1)
    return most.unsqueeze(2) if most.ndim == 4 else most


class _EcaModule3d(_OverPositions, EcaModule):
    pass


def _squeeze(x: Tensor, *, add_maxpool: bool = False) -> Tensor:
    mean = x.mean(_SPACE, keepdim=True)
    return 0.5 * mean + 0.5 * x.amax(_SPACE, keepdim=True) if add_maxpool else mean


class _SEModule3d(SEModule):
    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc1(_squeeze(x, add_maxpool=self.add_maxpool))
        out: Tensor = x * self.gate(self.fc2(self.act(self.bn(gate))))
        return out


class _EffectiveSEModule3d(EffectiveSEModule):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.gate(self.fc(_squeeze(x, add_maxpool=self.add_maxpool)))
        return out


class _SqueezeExcite3d(SqueezeExcite):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.gate(self.conv_expand(self.act1(self.conv_reduce(_squeeze(x)))))
        return out


class _ConvNeXtBlock3d(ConvNeXtBlock):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_dw(x)
        out = self.mlp(self.norm(out)) if self.use_conv_mlp else self.mlp(self.norm(out.movedim(1, -1))).movedim(-1, 1)
        if self.gamma is not None:
            out = out * self.gamma.reshape(1, -1, 1, 1, 1)
        out = self.drop_path(out) + self.shortcut(x)
        return out


class _ConvMlp3d(ConvMlp):
    """VGG's head, preceded by an adaptive pool that removes depth."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = (max(size, self.input_kernel_size) for size in x.shape[3:])
        x = functional.adaptive_avg_pool3d(x, (1, height, width))
        out: Tensor = self.act2(self.fc2(self.drop(self.act1(self.fc1(x)))))
        return out


_CLASSES: Final[dict[type[nn.Module], type[nn.Module]]] = {
    nn.BatchNorm2d: nn.BatchNorm3d,
    nn.InstanceNorm2d: nn.InstanceNorm3d,
    nn.Dropout2d: nn.Dropout3d,
    BatchNormAct2d: _BatchNormAct3d,
    LayerNorm2d: _LayerNorm3d,
    LayerNorm2dFp32: _LayerNorm3dFp32,
    SelectAdaptivePool2d: _SelectAdaptivePool3d,
    EcaModule: _EcaModule3d,
    SEModule: _SEModule3d,
    EffectiveSEModule: _EffectiveSEModule3d,
    SqueezeExcite: _SqueezeExcite3d,
    ConvNeXtBlock: _ConvNeXtBlock3d,
    ConvMlp: _ConvMlp3d,
}
"""Layers that keep their parameters and only change their class."""

_POOLS: Final[dict[type[nn.Module], type[nn.Module]]] = {nn.MaxPool2d: nn.MaxPool3d, nn.AvgPool2d: nn.AvgPool3d}
_ADAPTIVE: Final[dict[type[nn.Module], type[nn.Module]]] = {
    nn.AdaptiveAvgPool2d: nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool2d: nn.AdaptiveMaxPool3d,
}
_OF_SLICES: Final[dict[type[nn.Module], type[nn.Module]]] = {
    SelectAdaptivePool2d: _SelectMaxOfSlices,
    nn.AdaptiveAvgPool2d: _AdaptiveMaxOfSlices,
}
"""Global pools of a network, which can give the maximum of the means of slices."""


def _last_pool(model: nn.Module) -> str:
    """The name of a network's last global pool, which removes the depth of its 2.5D form.

    Raises:
        TrainingError: There is none.
    """
    names: list[str] = []
    for name, module in model.named_modules():
        if type(module) is ConvMlp:
            raise TrainingError(f"{type(model).__name__} has no slices before its last pool: use slice_pooling mean")
        if type(module) in _OF_SLICES and not (names and name.startswith(f"{names[-1]}.")):
            names.append(name)
    if not names:
        raise TrainingError(f"{type(model).__name__} has no global pool: use slice_pooling mean")
    return names[-1]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


@dataclass(frozen=True)
class _Converter:
    """Replaces the layers of a network in place.

    Attributes:
        mode: Mode of the conversion.
        deep: Whether strides and pools run along depth.
        last: Name of the pool that gives the maximum of slices; None for none.
        converted: Module -> its replacement, so that shared modules stay shared.
    """

    mode: str
    deep: bool
    last: str | None = None
    converted: dict[nn.Module, nn.Module] = field(default_factory=dict)

    def convert(self, module: nn.Module, name: str = "") -> nn.Module:
        if module not in self.converted:
            self.converted[module] = self._exchange(module, name)
        return self.converted[module]

    def _exchange(self, module: Any, name: str) -> nn.Module:
        kind: Any = type(module)
        if kind in {nn.Conv2d, Conv2dSame}:
            return self._convolution(module, name)
        if kind in _POOLS:
            return self._pool(module, name)
        if name == self.last:
            module.__class__ = _OF_SLICES[kind]
            return cast("nn.Module", module)
        if kind in _ADAPTIVE:
            size = module.output_size
            return _ADAPTIVE[kind]((1, *(size if isinstance(size, tuple) else (size, size))))
        if kind is GlobalResponseNorm:
            module.spatial_dim = (*module.spatial_dim, module.spatial_dim[-1] + 1)
            module.wb_shape = (1, *module.wb_shape) if module.channel_dim == -1 else (*module.wb_shape, 1)
        elif kind in _CLASSES:
            module.__class__ = _CLASSES[kind]
        elif "2d" in kind.__name__.lower() and not module._modules:
            raise refusal(name, module, "there is no conversion for this layer")
        exchanged: nn.Module = module
        if isinstance(exchanged, _OverPositions):
            return exchanged
        inner = replace(self, mode="2.5d", deep=False) if kind is ConvMlp else self
        for child, part in module._modules.items():
            if part is not None:
                module._modules[child] = inner.convert(part, f"{name}.{child}" if name else child)
        return exchanged

    def _side(self, value: int | tuple[int, int], name: str, module: nn.Module) -> int:
        """The side of a square kernel, or of its strides, padding or dilation, which is used along depth too."""
        height, width = _pair(value)
        if height != width:
            raise refusal(name, module, f"its {height} x {width} is not square, so the depth is undefined")
        return height

    def _convolution(self, conv: Any, name: str) -> nn.Module:
        same = type(conv) is Conv2dSame
        pads: Any = None if isinstance(conv.padding, str) else _pair(conv.padding)
        kernel, stride, dilation = conv.kernel_size, conv.stride, conv.dilation
        cube, step, reach, edge = 1, 1, 1, 0
        if self.deep:
            step = self._side(stride, name, conv)
        if self.mode != "2.5d":
            cube, reach = self._side(kernel, name, conv), self._side(dilation, name, conv)
            edge = self._side(pads, name, conv) if pads else 0
        options: dict[str, Any] = {
            "groups": conv.groups,
            "bias": conv.bias is not None,
            "padding_mode": conv.padding_mode,
            "device": "meta",
            "dtype": conv.weight.dtype,
        }
        converted: nn.Conv3d
        if self.mode == "acs" and cube > 1:
            converted = ACSConv(
                conv.in_channels,
                conv.out_channels,
                cube,
                stride=step,
                padding=None if same or conv.padding == "same" else (edge, edge),
                dilation=reach,
                **options,
            )
        else:
            converted = (Conv3dSame if same else nn.Conv3d)(
                conv.in_channels,
                conv.out_channels,
                (cube, *kernel),
                stride=(step, *stride),
                padding=(edge, *pads) if pads else conv.padding,
                dilation=(reach, *dilation),
                **options,
            )
        weight = conv.weight.detach().unsqueeze(2)
        if self.mode == "3d":
            weight = weight.expand(-1, -1, cube, -1, -1) / cube
        converted.weight = nn.Parameter(weight.contiguous(), requires_grad=conv.weight.requires_grad)
        converted.bias = conv.bias
        return converted.train(conv.training)

    def _pool(self, pool: Any, name: str) -> nn.Module:
        """Convert a pool to cubes, or to squares in each slice."""
        options = {
            key: getattr(pool, key)
            for key in ("ceil_mode", "return_indices", "count_include_pad")
            if hasattr(pool, key)
        }
        for key, alone in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
            if (value := getattr(pool, key, None)) is not None:
                options[key] = (self._side(value, name, pool) if self.deep else alone, *_pair(value))
        if (divisor := getattr(pool, "divisor_override", None)) is not None:
            options["divisor_override"] = divisor * options["kernel_size"][0]
        return _POOLS[type(pool)](**options).train(pool.training)
