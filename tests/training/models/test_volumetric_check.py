"""Converted networks that differ from the 2D network are detected, and the layer at fault is named."""

import pytest
import torch
from torch import Tensor, nn

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.models.volumetric_check import compare_layers, refusal


class Gate(nn.Module):
    """Squeeze and excite over given axes."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean(self.axes, keepdim=True).sigmoid()


class Flattening(nn.Module):
    """Passes a volume to its inner layer as an image of (D * H) x W."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.flatten(2, -2)).view_as(x)
        return out


class Pair(nn.Module):
    """A layer whose output is not a tensor."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class First(nn.Module):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return pair[0]


class Only(nn.Module):
    """Accepts images of only one size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.size:
            raise ValueError(f"{self.size} pixels wanted\nand nothing else")
        return x


def network(conv: nn.Module, gate: nn.Module, pool: nn.Module, *before: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        *before, conv, nn.ReLU(inplace=True), gate, Pair(), First(), pool, nn.Flatten(), nn.Linear(4, 2)
    )


def two(deep_gate: nn.Module, *, before: nn.Module | None = None) -> tuple[nn.Sequential, nn.Sequential]:
    """A 2D network, and its 2.5D form with a gate of the caller's choice."""
    head = [before] if before else []
    flat = network(nn.Conv2d(1, 4, 3), Gate((2, 3)), nn.AdaptiveAvgPool2d(1), *head)
    deep = network(nn.Conv3d(1, 4, (1, 3, 3)), deep_gate, nn.AdaptiveAvgPool3d(1), *head)
    deep.load_state_dict(
        {name: value.unsqueeze(2) if value.ndim == 4 else value for name, value in flat.state_dict().items()}
    )
    return flat, deep


def compare(flat: nn.Module, deep: nn.Module) -> None:
    compare_layers(flat, deep, skip_inside=nn.Bilinear)


def test_a_correct_conversion_passes() -> None:
    compare(*two(Gate((2, 3, 4))))
    compare(*two(Gate((2, 3, 4)), before=Only(224)))


def test_a_mean_over_the_wrong_axes_is_located() -> None:
    flat, deep = two(Gate((2, 3)))
    with torch.no_grad():
        assert deep(torch.randn(1, 1, 2, 64, 64)).shape == (1, 2)  # no exception, only a wrong result
    with pytest.raises(TrainingError, match=r"^layer 2 \(Gate\) cannot read volumes: .*differs") as caught:
        compare(flat, deep)
    assert "\n" not in str(caught.value)


def test_inner_layers_with_other_shapes_can_be_skipped() -> None:
    flat, deep = two(Flattening())
    flat[2] = Flattening()
    with pytest.raises(TrainingError, match=r"layer 2\.inner \(Sigmoid\)"):
        compare(flat, deep)
    flat, deep = two(Flattening())
    flat[2] = Flattening()
    compare_layers(flat, deep, skip_inside=Flattening)


def test_different_weights_are_located_at_the_first_layer() -> None:
    flat, deep = two(Gate((2, 3, 4)))
    next(deep.parameters()).data.normal_()
    with pytest.raises(TrainingError, match=r"layer 0 \(Conv3d\)"):
        compare(flat, deep)


def test_a_layer_that_fails_is_named() -> None:
    flat, deep = two(nn.MaxPool2d(2))
    with pytest.raises(TrainingError, match=r"layer 2 \(MaxPool2d\) cannot read volumes: .*3D or 4D"):
        compare(flat, deep)


def test_networks_that_cannot_read_an_image_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"the network \(Linear\) cannot read volumes: it has no 2D convolution"):
        compare(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(
        TrainingError, match=r"cannot read an image of 1 x 224 x 224 either \(65 pixels wanted\); choose"
    ):
        compare(*two(Gate((2, 3, 4)), before=Only(65)))


def test_on_the_meta_device_shapes_are_compared() -> None:
    flat, deep = two(Gate((2, 3, 4)))
    compare(flat.to("meta"), deep.to("meta"))
    flat, deep = two(Gate((2, 3, 4)))
    deep[5] = nn.AdaptiveAvgPool3d((3, 1, 1))
    with pytest.raises(TrainingError, match=r"layer 6 \(Flatten\)"):
        compare(flat.to("meta"), deep.to("meta"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_have_their_own_tolerance(dtype: torch.dtype) -> None:
    flat, deep = two(Gate((2, 3, 4)))
    compare(flat.to(dtype), deep.to(dtype))


def test_refusals_are_one_line() -> None:
    message = str(refusal("", nn.ReLU(), "of nothing"))
    assert message == "the network (ReLU) cannot read volumes: of nothing; choose another 2D CNN"
    assert str(refusal("a.b", nn.ReLU(), "of nothing")).startswith("layer a.b (ReLU) ")
