"""Augmentation of whole batches, drawn for each sample from a given generator."""

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
from torch import Generator, Tensor

from medmnist_hf.errors import TrainingError

Range = float | tuple[float, float]

_GRAY: Final = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R BT.601), as torchvision has them."""

_LARGE: Final = 1 << 12
"""Numbers in a sample from which on it is quicker changed by itself."""


class Augmentation(abc.ABC):
    """A random change of each image of a batch: `draw` chooses, `apply` does it, a call does both.

    Images are (B, C, H, W) or (B, C, D, H, W), on any device, uint8 or float in 0..1. Shape and type stay, uint8
    results are rounded, and the images given are left as they are.
    """

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Change images by what a CPU generator says."""
        return self.apply(images, *self.draw(images.shape, generator))

    @abc.abstractmethod
    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Random parameters for images of a shape: CPU tensors with one entry a sample."""

    @abc.abstractmethod
    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Change images by parameters of `draw`; raises `TrainingError` if they are none that it can change."""


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirror each sample along each of some axes with a probability, axis by axis.

    Attributes:
        axes: Counted from the end: -1 left-right, -2 up-down, -3 the depth of volumes.
        p: Probability, for each axis.
    """

    axes: tuple[int, ...] = (-1,)
    p: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.p)
        if not self.axes or not set(self.axes) <= {-1, -2, -3}:
            raise TrainingError(f"axes of a flip are {self.axes}: choose from -1, -2 and, for volumes, -3")

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Whether to flip: bool (B, axes)."""
        _check_axes(self.axes, shape)
        return (torch.rand(shape[0], len(self.axes), generator=generator) < self.p,)

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Flip the samples that are drawn."""
        (flips,) = parameters
        drawn = [tuple(axis for axis, flip in zip(self.axes, one, strict=True) if flip) for one in flips.tolist()]
        return _each_changed(images, drawn, Tensor.flip)


@dataclass(frozen=True)
class QuarterTurns(Augmentation):
    """Turn each sample by 0, 90, 180 or 270 degrees, all as likely, in a plane drawn from some.

    Attributes:
        planes: Pairs of axes counted from the end; the default is that of images, `VOLUME_PLANES` that of volumes.
    """

    planes: tuple[tuple[int, int], ...] = ((-2, -1),)

    VOLUME_PLANES: ClassVar = ((-2, -1), (-3, -1), (-3, -2))

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Which plane, and how many quarters: int64 (B,) each."""
        for plane in self.planes:
            _check_axes(plane, shape)
            if shape[plane[0]] != shape[plane[1]]:
                raise TrainingError(f"quarter turns need sides of one length, not {tuple(shape[2:])}: leave them out")
        samples = (shape[0],)
        return (
            torch.randint(len(self.planes), samples, generator=generator),
            torch.randint(4, samples, generator=generator),
        )

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Turn the samples that are drawn."""
        numbers, quarters = (drawn.tolist() for drawn in parameters)
        drawn = [
            (turns, *self.planes[number]) if turns else () for number, turns in zip(numbers, quarters, strict=True)
        ]
        return _each_changed(images, drawn, lambda part, how: part.rot90(how[0], how[1:]))


@dataclass(frozen=True)
class Crop(Augmentation):
    """Pad all sides and cut each sample back to its size at a place drawn for it.

    Attributes:
        padding: Pixels or voxels on each side: the largest shift.
        mode: ``zeros`` (black), or ``reflect``.
    """

    padding: int
    mode: Literal["zeros", "reflect"] = "zeros"

    def __post_init__(self) -> None:
        if self.padding < 1 or self.mode not in {"zeros", "reflect"}:
            raise TrainingError(
                f"a crop's padding is {self.padding} and its mode {self.mode}: give 1 or more, and zeros or reflect"
            )

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """First row, column and so on that is kept of the padded sample: int64 (B, axes)."""
        if self.padding >= min(shape[2:]):
            raise TrainingError(
                f"a crop's padding is {self.padding} for images of {tuple(shape[2:])}: make it smaller"
            )
        return (torch.randint(2 * self.padding + 1, (shape[0], len(shape) - 2), generator=generator),)

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Pad and cut."""
        (corners,) = parameters
        sides = images.shape[2:]
        mode = "constant" if self.mode == "zeros" else "reflect"
        padded = F.pad(images, (self.padding,) * (2 * len(sides)), mode=mode)
        return (_cut_in_numpy if images.device.type == "cpu" else _cut_in_torch)(padded, corners, sides)


@dataclass(frozen=True)
class Rotation(Augmentation):
    """Turn each sample about its center, by linear interpolation with black outside.

    Images turn by an angle drawn from -`degrees` to `degrees`, volumes by such an angle about an axis that points
    anywhere with equal probability.

    Attributes:
        degrees: The largest angle.
    """

    degrees: float

    def __post_init__(self) -> None:
        if not 0 < self.degrees <= 180:
            raise TrainingError(f"the largest rotation is {self.degrees} degrees: give more than 0 and at most 180")

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Angles in radians, counter-clockwise: (B, 1); for volumes axis times angle: (B, 3) in the order x, y, z."""
        if len(set(shape[2:])) > 1:
            raise TrainingError(f"rotation needs sides of one length, not {tuple(shape[2:])}: leave it out")
        angles = (torch.rand(shape[0], 1, generator=generator) * 2 - 1) * math.radians(self.degrees)
        if len(shape) == 4:
            return (angles,)
        axes = torch.randn(shape[0], 3, generator=generator)
        return (F.normalize(axes, dim=1) * angles,)

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Turn by sampling each pixel where it comes from."""
        (turns,) = parameters
        axes = images.ndim - 2
        matrices = _rotation_matrices(F.pad(turns, (3 - turns.shape[1], 0)))[:, :axes, :axes]
        grid = _sources(matrices.to(images.device), images.shape[2:])
        return rounded_like(images, F.grid_sample(images.float(), grid, align_corners=False))


@dataclass(frozen=True)
class ColorJitter(Augmentation):
    """Change brightness, contrast, saturation and hue of each sample, in this order, as torchvision defines them.

    A factor is drawn evenly from a range; a number x stands for 1-x to 1+x, but not below 0. Saturation and hue are
    for RGB alone; brightness and contrast also for gray images and volumes.

    Attributes:
        brightness: Factor on the pixels.
        contrast: Factor on the distance to the sample's mean gray.
        saturation: Factor on the distance to the pixel's gray.
        hue: Shift of the hue as a share of the circle, drawn from -x to x, at most 0.5.
    """

    brightness: Range = 0.0
    contrast: Range = 0.0
    saturation: Range = 0.0
    hue: Range = 0.0

    def __post_init__(self) -> None:
        for name, (low, high) in self._ranges().items():
            least, most = (-0.5, 0.5) if name == "hue" else (0.0, math.inf)
            if not least <= low <= high <= most:
                raise TrainingError(f"{name} is drawn from {low} to {high}: must rise, within {least} to {most}")

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Brightness, contrast and saturation factors and hue shifts: (B, 4)."""
        ranges = self._ranges()
        if shape[1] != 3 and (ranges["saturation"] != (1, 1) or ranges["hue"] != (0, 0)):
            raise TrainingError("saturation and hue jitter need RGB images: set both to 0")
        low, high = torch.tensor(list(ranges.values()), dtype=torch.float32).T
        return (low + (high - low) * torch.rand(shape[0], len(ranges), generator=generator),)

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Change the four, leaving out those that are fixed at no change."""
        (factors,) = parameters
        one_each = (4, len(images), *(1,) * (images.ndim - 1))
        brightness, contrast, saturation, hue = factors.T.reshape(one_each).to(images.device)
        ranges = self._ranges()
        white = 255.0 if images.dtype == torch.uint8 else 1.0
        pixels = images.float()
        if ranges["brightness"] != (1, 1):
            pixels = (pixels * brightness).clamp_(0, white)
        if ranges["contrast"] != (1, 1):
            mean = _gray(pixels)
            for axis in range(images.ndim - 1, 0, -1):
                # Axis by axis: the sum over all is split among threads and would depend on their number.
                mean = mean.mean(axis, keepdim=True)
            pixels = torch.lerp(mean, pixels, contrast).clamp_(0, white)
        if ranges["saturation"] != (1, 1):
            pixels = torch.lerp(_gray(pixels), pixels, saturation).clamp_(0, white)
        if ranges["hue"] != (0, 0):
            pixels = _turn_hue(pixels, hue[:, 0])
        return rounded_like(images, pixels)

    def _ranges(self) -> dict[str, tuple[float, float]]:
        ranges = {}
        for name in ("brightness", "contrast", "saturation", "hue"):
            value = getattr(self, name)
            center = 0 if name == "hue" else 1
            if not isinstance(value, tuple):
                value = (center - value, center + value) if name == "hue" else (max(0, center - value), center + value)
            ranges[name] = value
        return ranges


@dataclass(frozen=True)
class Erasing(Augmentation):
    """Black out a rectangle of some samples; for images.

    Shares and ratios are those of torchvision's `RandomErasing`; a rectangle too long for the image is cut.

    Attributes:
        p: Probability.
        share: Range of the rectangle's area, as a share of the image's.
        ratio: Range of its height divided by its width, drawn evenly on a logarithmic scale.
    """

    p: float = 0.5
    share: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)

    def __post_init__(self) -> None:
        _check_probability(self.p)
        if not 0 < self.share[0] <= self.share[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise TrainingError(f"erasing a share of {self.share} with ratio {self.ratio}: both must rise, share to 1")

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Top, bottom, left and right of the rectangle, the latter of each pair excluded: int64 (B, 4)."""
        if len(shape) != 4:
            raise TrainingError("erasing is for images: leave it out for volumes")
        chance, share, ratio, top, left = torch.rand(5, shape[0], generator=generator)
        area = (self.share[0] + (self.share[1] - self.share[0]) * share) * shape[2] * shape[3]
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = (low + (high - low) * ratio).exp()
        drawn = chance < self.p
        edges = []
        for side, length, start in ((shape[2], (area * ratio).sqrt(), top), (shape[3], (area / ratio).sqrt(), left)):
            size = length.round().clamp(1, side) * drawn
            first = (start * (side - size + 1)).floor()
            edges += [first, first + size]
        return (torch.stack(edges, 1).long(),)

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Set the rectangles to 0."""
        (edges,) = parameters
        images = images.clone()
        pixels = images.numpy() if images.device.type == "cpu" else images
        for number, (top, bottom, left, right) in enumerate(edges.tolist()):
            pixels[number, :, top:bottom, left:right] = 0
        return images


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise TrainingError(f"the probability of an augmentation is {p}: must be in 0..1")


def _check_axes(axes: Sequence[int], shape: Sequence[int]) -> None:
    if min(axes) < 2 - len(shape):
        raise TrainingError(f"images of {tuple(shape[2:])} have no axis {min(axes)}: leave it out, it is for volumes")


def _cut_in_numpy(images: Tensor, corners: Tensor, sides: Sequence[int]) -> Tensor:
    """Cut a window from each sample; NumPy copies whole rows, torch number by number."""
    axes = tuple(range(2, images.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(images.numpy(), tuple(sides), axes)
    return torch.from_numpy(windows[np.arange(len(images)), :, *corners.T.numpy()])


def _cut_in_torch(images: Tensor, corners: Tensor, sides: Sequence[int]) -> Tensor:
    """Cut a window from each sample, on any device."""
    samples = torch.arange(len(images), device=images.device)
    for axis, side in enumerate(sides, 2):
        images = images.unfold(axis, side, 1)
    return images[samples, :, *corners.T.to(images.device)]


def _each_changed(
    images: Tensor, ways: Sequence[tuple[int, ...]], change: Callable[[Tensor, tuple[int, ...]], Tensor]
) -> Tensor:
    """A copy of a batch with each sample changed in its way; an empty one leaves it.

    On the CPU large samples are changed one by one, which is up to five times as fast; small ones, and all on other
    devices, together with those of the same way.
    """
    images = images.clone()
    if images.device.type == "cpu" and images[0].numel() >= _LARGE:
        for sample, way in zip(images, ways, strict=True):
            if way:
                sample.copy_(change(sample, way))
        return images
    for way in sorted({way for way in ways if way}):
        chosen = torch.tensor([number for number, one in enumerate(ways) if one == way]).to(images.device)
        images[chosen] = change(images[chosen], way)
    return images


def rounded_like(images: Tensor, pixels: Tensor) -> Tensor:
    """Float pixels in the type of the images, rounded where that is uint8; they must be within its range."""
    return pixels.round_().to(torch.uint8) if images.dtype == torch.uint8 else pixels.to(images.dtype)


def _gray(pixels: Tensor) -> Tensor:
    if pixels.shape[1] != len(_GRAY):
        return pixels
    gray = pixels[:, :1] * _GRAY[0]
    for channel in (1, 2):
        gray += pixels[:, channel : channel + 1] * _GRAY[channel]
    return gray


def _turn_hue(pixels: Tensor, shift: Tensor) -> Tensor:
    """Shift the hue of RGB pixels (B, 3, H, W) by (B, 1, 1) of the circle.

    With hue in sixths of the circle and chroma the distance of the largest and the smallest of red, green and blue,
    each is again ``largest - chroma * clamp(min(k, 4 - k), 0, 1)``, k being ``(n + hue) mod 6`` with n = 5, 3, 1: the
    usual short form of the conversion from HSV (https://en.wikipedia.org/wiki/HSL_and_HSV).
    """
    red, green, blue = pixels.unbind(1)
    largest = pixels.amax(1)
    chroma = largest - pixels.amin(1)
    some = torch.where(chroma == 0, 1, chroma)
    hue = torch.where(largest == green, (blue - red) / some + 2, (red - green) / some + 4)
    hue = torch.where(largest == red, (green - blue) / some, hue) + 6 * shift
    turned = torch.empty_like(pixels)
    for channel, n in enumerate((5, 3, 1)):
        k = (hue + n).remainder_(6)
        torch.sub(largest, torch.minimum(k, 4 - k).clamp_(0, 1).mul_(chroma), out=turned[:, channel])
    return turned


def _rotation_matrices(turns: Tensor) -> Tensor:
    """Rotations (B, 3, 3) about axes by their lengths (B, 3) in radians, by Rodrigues' formula."""
    angles = turns.norm(dim=1)[:, None, None]
    x, y, z = (turns / angles[:, 0].clamp_min(1e-12)).T
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    axes = torch.stack([x, y, z], 1)
    kept, turned = angles.cos(), angles.sin()
    matrices: Tensor = kept * torch.eye(3) + turned * cross + (1 - kept) * axes[:, :, None] * axes[:, None]
    return matrices


def _sources(matrices: Tensor, sides: Sequence[int]) -> Tensor:
    """Where each pixel comes from, as `grid_sample` counts: (B, *sides, axes), the last axis in the order x, y, z.

    As `affine_grid` makes it, but number by number: a matrix product rounds differently with other batch sizes.
    """
    grid = torch.zeros(len(matrices), *sides, len(sides), device=matrices.device)
    for axis, side in enumerate(reversed(sides)):
        places = (torch.arange(side, device=matrices.device) * 2 + 1) / side - 1
        along = places.view(-1, *[1] * axis)
        for result in range(len(sides)):
            grid[..., result] += matrices[:, result, axis].view(-1, *[1] * len(sides)) * along
    return grid
