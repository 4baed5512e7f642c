"""Augmentation of whole batches, with parameters drawn per sample from a given generator."""

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from torch import Generator, Tensor

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data import masks

Range = float | tuple[float, float]

_GRAY: Final = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R BT.601), as in torchvision."""

_LARGE: Final = 1 << 12
"""Values per sample from which changing samples one at a time is faster."""


class Augmentation(abc.ABC):
    """A random change of each image in a batch. `draw` draws parameters, `apply` applies them, a call does both.

    Images are (B, C, H, W) or (B, C, D, H, W), on any device, uint8 or float in 0..1. Results have the same shape and
    type; uint8 results are rounded. The input is not modified.
    """

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Change images with parameters drawn from a CPU generator."""
        return self.apply(images, *(drawn.to(images.device) for drawn in self.draw(images.shape, generator)))

    @abc.abstractmethod
    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Draw random parameters for images of a shape: CPU tensors with one entry per sample, whatever the device."""

    @abc.abstractmethod
    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Change images with parameters from `draw`, on the device of the images; neither may be changed in place.

        Raises:
            TrainingError: It does not support such images.
        """


@dataclass(frozen=True)
class Flip(Augmentation):
    """Flip each sample along each of the given axes with a given probability.

    Attributes:
        axes: Axes counted from the end: -1 left-right, -2 up-down, -3 the depth of volumes.
        p: Probability per axis.
    """

    axes: tuple[int, ...] = (-1,)
    p: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.p)
        if not self.axes or not set(self.axes) <= {-1, -2, -3}:
            raise TrainingError(f"axes of a flip are {self.axes}: choose from -1, -2 and, for volumes, -3")

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Draw whether to flip: bool (B, axes)."""
        _check_axes(self.axes, shape)
        return (torch.rand(shape[0], len(self.axes), generator=generator) < self.p,)

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Flip the samples."""
        (flips,) = parameters
        if not _on_cpu(images):
            return masks.flip(images, flips, self.axes)
        axes = [tuple(axis for axis, flip in zip(self.axes, row, strict=True) if flip) for row in flips.tolist()]
        return _change_samples(images, axes, Tensor.flip)


@dataclass(frozen=True)
class QuarterTurns(Augmentation):
    """Rotate each sample by 0, 90, 180 or 270 degrees with equal probability, in a randomly drawn plane.

    Attributes:
        planes: Pairs of axes counted from the end. The default is for images; for volumes use `VOLUME_PLANES`.
    """

    planes: tuple[tuple[int, int], ...] = ((-2, -1),)

    VOLUME_PLANES: ClassVar = ((-2, -1), (-3, -1), (-3, -2))

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Draw the plane and the number of quarter turns: int64 (B,) each."""
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
        """Rotate the samples."""
        planes, quarters = parameters
        if not _on_cpu(images):
            return masks.turn(images, planes, quarters, self.planes)
        rotations = [
            (turns, *self.planes[plane]) if turns else ()
            for plane, turns in zip(planes.tolist(), quarters.tolist(), strict=True)
        ]
        return _change_samples(images, rotations, lambda part, rotation: part.rot90(rotation[0], rotation[1:]))


@dataclass(frozen=True)
class Crop(Augmentation):
    """Pad all sides and crop each sample back to its size at a random position.

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
        """Draw the corner of the crop in the padded sample: int64 (B, axes)."""
        if self.padding >= min(shape[2:]):
            raise TrainingError(
                f"a crop's padding is {self.padding} for images of {tuple(shape[2:])}: make it smaller"
            )
        return (torch.randint(2 * self.padding + 1, (shape[0], len(shape) - 2), generator=generator),)

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Pad and crop the samples."""
        (corners,) = parameters
        sides = images.shape[2:]
        mode = "constant" if self.mode == "zeros" else "reflect"
        padded = F.pad(images, (self.padding,) * (2 * len(sides)), mode=mode)
        return (_crop_in_numpy if _on_cpu(images) else masks.crop)(padded, corners, sides)


@dataclass(frozen=True)
class Rotation(Augmentation):
    """Rotate each sample about its center, with linear interpolation and black outside the image.

    The angle is drawn from -`degrees` to `degrees`; for volumes, the axis of rotation is drawn uniformly from all
    directions.

    Attributes:
        degrees: Largest angle.
    """

    degrees: float

    def __post_init__(self) -> None:
        if not 0 < self.degrees <= 180:
            raise TrainingError(f"the largest rotation is {self.degrees} degrees: give more than 0 and at most 180")

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Draw counter-clockwise angles in radians, (B, 1), or for volumes axis times angle, (B, 3) as x, y, z."""
        if len(set(shape[2:])) > 1:
            raise TrainingError(f"rotation needs sides of one length, not {tuple(shape[2:])}: leave it out")
        angles = (torch.rand(shape[0], 1, generator=generator) * 2 - 1) * math.radians(self.degrees)
        if len(shape) == 4:
            return (angles,)
        axes = torch.randn(shape[0], 3, generator=generator)
        return (F.normalize(axes, dim=1) * angles,)

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Rotate the samples by looking up the source of each pixel."""
        (turns,) = parameters
        axes = images.ndim - 2
        matrices = _rotation_matrices(F.pad(turns, (3 - turns.shape[1], 0)))[:, :axes, :axes]
        grid = _sampling_grid(matrices, images.shape[2:])
        return rounded_like(images, F.grid_sample(images.float(), grid, align_corners=False))


@dataclass(frozen=True)
class ColorJitter(Augmentation):
    """Change brightness, contrast, saturation and hue of each sample, in this order, as defined by torchvision.

    Factors are drawn uniformly from a range; a number x stands for max(0, 1-x) to 1+x. Saturation and hue require RGB
    images; brightness and contrast also work for gray images and volumes.

    Attributes:
        brightness: Factor on the pixels.
        contrast: Factor on the difference from the sample's mean gray value.
        saturation: Factor on the difference from the pixel's gray value.
        hue: Shift of the hue as a fraction of the circle, drawn from -x to x, at most 0.5.
    """

    brightness: Range = 0.0
    contrast: Range = 0.0
    saturation: Range = 0.0
    hue: Range = 0.0

    def __post_init__(self) -> None:
        for name, (low, high) in self._ranges().items():
            least, most = (-0.5, 0.5) if name == "hue" else (0.0, math.inf)
            if not least <= low <= high <= most:
                raise TrainingError(f"{name} is drawn from {low} to {high}: must be ascending, in {least}..{most}")

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Draw factors of brightness, contrast and saturation, and hue shifts: (B, 4)."""
        ranges = self._ranges()
        if shape[1] != 3 and (ranges["saturation"] != (1, 1) or ranges["hue"] != (0, 0)):
            raise TrainingError("saturation and hue jitter need RGB images: set both to 0")
        low, high = torch.tensor(list(ranges.values()), dtype=torch.float32).T
        return (low + (high - low) * torch.rand(shape[0], len(ranges), generator=generator),)

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Apply the four changes, skipping those whose range allows no change."""
        (factors,) = parameters
        per_sample = (4, len(images), *(1,) * (images.ndim - 1))
        brightness, contrast, saturation, hue = factors.T.reshape(per_sample)
        ranges = self._ranges()
        white = 255.0 if images.dtype == torch.uint8 else 1.0
        pixels = images.float()
        if ranges["brightness"] != (1, 1):
            pixels = (pixels * brightness).clamp_(0, white)
        if ranges["contrast"] != (1, 1):
            mean = _gray(pixels)
            for axis in range(images.ndim - 1, 0, -1):
                # Axis by axis: a sum over all axes is split among threads and depends on their number.
                mean = mean.mean(axis, keepdim=True)
            pixels = torch.lerp(mean, pixels, contrast).clamp_(0, white)
        if ranges["saturation"] != (1, 1):
            pixels = torch.lerp(_gray(pixels), pixels, saturation).clamp_(0, white)
        if ranges["hue"] != (0, 0):
            pixels = _shift_hue(pixels, hue[:, 0])
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
    """Set a random rectangle to black in some samples; for images only.

    The defaults are those of torchvision's `RandomErasing`. A rectangle that exceeds the image is clipped.

    Attributes:
        p: Probability per sample.
        share: Range of the rectangle's area as a fraction of the image.
        ratio: Range of the ratio of height to width, drawn uniformly on a logarithmic scale.
    """

    p: float = 0.5
    share: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)

    def __post_init__(self) -> None:
        _check_probability(self.p)
        if not 0 < self.share[0] <= self.share[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise TrainingError(
                f"erasing has share {self.share} and ratio {self.ratio}: both must be ascending and above 0, share at "
                "most 1"
            )

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Draw top, bottom, left and right of the rectangle: int64 (B, 4), bottom and right exclusive."""
        if len(shape) != 4:
            raise TrainingError("erasing is only for images: leave it out for volumes")
        chance, share, ratio, top, left = torch.rand(5, shape[0], generator=generator)
        area = (self.share[0] + (self.share[1] - self.share[0]) * share) * shape[2] * shape[3]
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = (low + (high - low) * ratio).exp()
        is_erased = chance < self.p
        edges = []
        for side, length, start in ((shape[2], (area * ratio).sqrt(), top), (shape[3], (area / ratio).sqrt(), left)):
            size = length.round().clamp(1, side) * is_erased
            first = (start * (side - size + 1)).floor()
            edges += [first, first + size]
        return (torch.stack(edges, 1).long(),)

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Set the rectangles to 0."""
        (edges,) = parameters
        if not _on_cpu(images):
            return masks.erase(images, edges)
        images = images.clone()
        pixels = images.numpy()
        for number, (top, bottom, left, right) in enumerate(edges.tolist()):
            pixels[number, :, top:bottom, left:right] = 0
        return images


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise TrainingError(f"the probability of an augmentation is {p}: must be in 0..1")


def _check_axes(axes: Sequence[int], shape: Sequence[int]) -> None:
    if min(axes) < 2 - len(shape):
        raise TrainingError(
            f"images of {tuple(shape[2:])} have no axis {min(axes)}: leave it out, only volumes have it"
        )


def _on_cpu(images: Tensor) -> bool:
    return images.device.type == "cpu"


def _crop_in_numpy(images: Tensor, corners: Tensor, sides: Sequence[int]) -> Tensor:
    """Crop a window from each sample on the CPU; NumPy copies whole rows, torch copies single values."""
    axes = tuple(range(2, images.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(images.numpy(), tuple(sides), axes)
    return torch.from_numpy(windows[np.arange(len(images)), :, *corners.T.numpy()])


def _change_samples(
    images: Tensor, arguments: Sequence[tuple[int, ...]], change: Callable[[Tensor, tuple[int, ...]], Tensor]
) -> Tensor:
    """Copy a batch on the CPU and change each sample with its argument; an empty one leaves the sample unchanged.

    Large samples are changed one by one, which is up to five times as fast; small samples are grouped by argument.
    """
    images = images.clone()
    if images[0].numel() >= _LARGE:
        for sample, argument in zip(images, arguments, strict=True):
            if argument:
                sample.copy_(change(sample, argument))
        return images
    for argument in sorted({argument for argument in arguments if argument}):
        positions = torch.tensor([at for at, other in enumerate(arguments) if other == argument])
        images[positions] = change(images[positions], argument)
    return images


def rounded_like(images: Tensor, pixels: Tensor) -> Tensor:
    """Convert float pixels to the type of `images`, rounded for uint8; they must be within its range."""
    return pixels.round_().to(torch.uint8) if images.dtype == torch.uint8 else pixels.to(images.dtype)


def _gray(pixels: Tensor) -> Tensor:
    if pixels.shape[1] != len(_GRAY):
        return pixels
    gray = pixels[:, :1] * _GRAY[0]
    for channel in (1, 2):
        gray += pixels[:, channel : channel + 1] * _GRAY[channel]
    return gray


def _shift_hue(pixels: Tensor, shift: Tensor) -> Tensor:
    """Shift the hue of RGB pixels (B, 3, H, W) by fractions of the circle (B, 1, 1).

    Uses the short form of the conversion from HSV (https://en.wikipedia.org/wiki/HSL_and_HSV). With the hue in sixths
    of the circle and the chroma as the difference of the largest and smallest channel, red, green and blue are
    ``largest - chroma * clamp(min(k, 4 - k), 0, 1)`` with ``k = (n + hue) mod 6`` and n = 5, 3, 1.
    """
    red, green, blue = pixels.unbind(1)
    largest = pixels.amax(1)
    chroma = largest - pixels.amin(1)
    divisor = torch.where(chroma == 0, 1, chroma)
    hue = torch.where(largest == green, (blue - red) / divisor + 2, (red - green) / divisor + 4)
    hue = torch.where(largest == red, (green - blue) / divisor, hue) + 6 * shift
    shifted = torch.empty_like(pixels)
    for channel, n in enumerate((5, 3, 1)):
        k = (hue + n).remainder_(6)
        torch.sub(largest, torch.minimum(k, 4 - k).clamp_(0, 1).mul_(chroma), out=shifted[:, channel])
    return shifted


def _rotation_matrices(turns: Tensor) -> Tensor:
    """Rotation matrices (B, 3, 3) from rotation vectors (B, 3) in radians, by Rodrigues' formula."""
    angles = turns.norm(dim=1)[:, None, None]
    x, y, z = (turns / angles[:, 0].clamp_min(1e-12)).T
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    axes = torch.stack([x, y, z], 1)
    cosine, sine = angles.cos(), angles.sin()
    matrices: Tensor = (
        cosine * torch.eye(3, device=turns.device) + sine * cross + (1 - cosine) * axes[:, :, None] * axes[:, None]
    )
    return matrices


def _sampling_grid(matrices: Tensor, sides: Sequence[int]) -> Tensor:
    """The source of each pixel in the coordinates of `grid_sample`: (B, *sides, axes), the last axis as x, y, z.

    Equals `affine_grid`, but is computed elementwise, since a matrix product rounds differently for other batch sizes.
    """
    grid = torch.zeros(len(matrices), *sides, len(sides), device=matrices.device)
    for axis, side in enumerate(reversed(sides)):
        centers = (torch.arange(side, device=matrices.device) * 2 + 1) / side - 1
        along = centers.view(-1, *[1] * axis)
        for result in range(len(sides)):
            grid[..., result] += matrices[:, result, axis].view(-1, *[1] * len(sides)) * along
    return grid
