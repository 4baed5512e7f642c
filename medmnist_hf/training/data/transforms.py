"""Turn batches of stored pixels into a network's input: augment, resize or pad, normalize.

Example:
    >>> import numpy as np
    >>> from medmnist_hf.training.data.dataset import ArrayDataset
    >>> data = ArrayDataset(np.zeros((10, 28, 28), np.uint8), np.zeros(10, np.int64))
    >>> transform = BatchTransform(channels=3, size=32, interpolation="bicubic")
    >>> transform(data.gather(range(4)))["pixel_values"].shape
    torch.Size([4, 3, 32, 32])
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from math import prod
from typing import Any, Final, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from torch import Tensor

from medmnist_hf.errors import TrainingError
from medmnist_hf.statistics.sums import PixelSums
from medmnist_hf.training.data.augment import Augmentation, rounded_like
from medmnist_hf.training.data.buffers import Buffers
from medmnist_hf.training.data.dataset import ArrayBatch, Draws, derive_seed, on_device
from medmnist_hf.training.data.own_augmentation import OwnAugmentation

Interpolation = Literal["nearest", "bilinear", "bicubic", "trilinear", "area"]

INTERPOLATIONS: Final = {4: ("nearest", "bilinear", "bicubic", "area"), 5: ("nearest", "trilinear", "area")}
"""Dimensions of a batch, 4 for (B, C, H, W) or 5 for (B, C, D, H, W) -> names of interpolations."""

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

WHITE: Final = 255.0

_PIECE: Final = 1 << 20
"""Values processed at a time on the CPU: they fit into its caches, and outweigh the overhead of an operation."""

_WHOLE: Final = (slice(None),)

_IMAGE_NAMES: Final = ("images", "image", "pixel_values")
_LABEL_NAMES: Final = ("labels", "label")


@dataclass(frozen=True, kw_only=True)
class BatchTransform:
    """Turns a batch into ``{"pixel_values": ..., "labels": ...}``; works as ``collate_fn`` or ``data_collator``.

    The steps are augmentation at the stored size and on the stored channels, resizing, normalization of pixels in
    0..1, and padding. Up to normalization, pixels are uint8 and rounded, as in Pillow.

    The input is an `ArrayBatch`, a mapping as a loader without a transform returns it, or a list. The list holds
    either the batch that a torch `DataLoader` fetches from an `ArrayDataset`, or single samples of any data set with
    an image under ``images``, ``image`` or ``pixel_values`` (uint8 NumPy array, tensor or PIL image) and a label under
    ``labels`` or ``label``.

    Random draws depend only on `seed`, the epoch and the indices of the batch, so a batch is augmented in the same way
    by any loader in any process. For samples without ``indices``, a seed is drawn from torch's global generator.

    Attributes:
        mean: Mean for pixels in 0..1, one per output channel or one for all.
        std: Standard deviation, as `mean`.
        stats: Statistics to take `mean` and `std` from, see `medmnist_hf.pixel_statistics`; ``dataset`` takes those of
            the `ArrayDataset` that a batch is from.
        channels: 3 repeats the channel of gray images and volumes, None keeps the channels.
        size: Edge length of the output; None keeps the size.
        fit: How to reach `size`: ``resize``, or ``pad`` to center the image in zeros after normalization.
        interpolation: Interpolation, see `resize`.
        antialias: Antialiasing, see `resize`.
        dtype: Type of the output pixels: ``float32``, ``bfloat16`` or ``float16``.
        channels_last: Use the channels-last memory format, which is faster for convolutions; the shape is the same.
        augment: Augmentations in order: those of `medmnist_hf.training.data.augment`, an `OwnAugmentation`, or any
            callable from a float batch (B, C, ...) in 0..1 to another, such as a module of torchvision's v2 or kornia.
            Callables run with torch's global generator seeded; its state is restored afterwards.
        seed: Seed of the augmentation.
        with_indices: Return the positions of the samples too, to look up what else is known of them, such as their
            subset.

    Raises:
        TrainingError: An attribute is out of range or, when called, does not fit the images.
    """

    mean: float | Sequence[float] = 0.5
    std: float | Sequence[float] = 0.5
    stats: PixelSums | Literal["dataset"] | None = None
    channels: Literal[3] | None = None
    size: int | None = None
    fit: Literal["resize", "pad"] = "resize"
    interpolation: Interpolation | None = None
    antialias: bool = True
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    augment: Sequence[Augmentation | OwnAugmentation | Callable[[Tensor], Tensor]] = ()
    seed: int = 0
    with_indices: bool = False
    _buffers: Buffers = field(default_factory=Buffers, init=False, repr=False, compare=False)
    _by_statistics: dict[PixelSums, "BatchTransform"] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _factors: dict[tuple[torch.device, bool, int], tuple[Tensor | float, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        own = (self.stats.mean, self.stats.std) if isinstance(self.stats, PixelSums) else (0.5, 0.5)
        if self.stats is not None and (self.mean, self.std) not in {(0.5, 0.5), own}:
            raise TrainingError("stats, mean and std are given: give either stats, or mean and std")
        if isinstance(self.stats, PixelSums):
            object.__setattr__(self, "mean", own[0])
            object.__setattr__(self, "std", own[1])
        elif self.stats not in {None, "dataset"}:
            raise TrainingError(
                f"unknown stats {self.stats!r}: choose dataset, or give medmnist_hf.pixel_statistics()"
            )
        if self.size is not None and self.size < 1:
            raise TrainingError(f"size is {self.size}: must be 1 or more")
        named = sorted({name for names in INTERPOLATIONS.values() for name in names})
        for name, choices in (
            ("channels", (3, None)),
            ("fit", ("resize", "pad")),
            ("interpolation", (*named, None)),
            ("dtype", tuple(DTYPES)),
        ):
            if getattr(self, name) not in choices:
                names = ", ".join(str(choice) for choice in choices)
                raise TrainingError(f"unknown {name} {getattr(self, name)!r}: choose from {names}")
        if min(np.atleast_1d(self.std)) <= 0:
            raise TrainingError(f"std is {self.std}: must be above 0")

    @property
    def draws_globally(self) -> bool:
        """Whether an augmentation draws from torch's global generator, which no other thread may use meanwhile."""
        return not all(isinstance(step, Augmentation) for step in self.augment)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {"mean": np.size(self.mean), "std": np.size(self.std)}

    @torch.no_grad()
    def draw(self, shape: Sequence[int], epoch: int, indices: Tensor) -> Draws:
        """Draw the random parameters of a batch; a call does so for a batch without `ArrayBatch.draws`.

        Args:
            shape: Shape of the stored images, channels first: (B, C, H, W) or (B, C, D, H, W).
            epoch: The epoch in which the samples are drawn.
            indices: int64 (B,), positions of the samples in the data set.

        Returns:
            Of each `Augmentation`, what its own `draw` returns: tensors on the CPU.
        """
        generator = torch.Generator().manual_seed(self._seed_of(epoch, indices))
        return tuple(step.draw(shape, generator) for step in self.augment if isinstance(step, Augmentation))

    def _seed_of(self, epoch: int, indices: Tensor) -> int:
        return derive_seed(self.seed, epoch, indices.numpy().tobytes())

    @torch.no_grad()
    def __call__(self, batch: Any) -> dict[str, Tensor]:
        """Transform a batch.

        Returns:
            ``pixel_values`` (B, C, H, W) or (B, C, D, H, W), and the unchanged ``labels``, and ``indices`` if
            `with_indices`. The CPU memory of batches that have been freed is reused.
        """
        stored = _to_array_batch(batch)
        if self.stats == "dataset":
            return self._for(stored.statistics)(stored)
        images = channels_first(stored.images)
        steps: list[tuple[Any, tuple[Tensor, ...]]] = []
        if self.augment and self.draws_globally:
            images = self._augmented(images, self._seed_of(stored.epoch, stored.indices))
        elif self.augment:
            draws = stored.draws
            if draws is None:
                draws = on_device(self.draw(images.shape, stored.epoch, stored.indices), images.device)
            steps = list(zip(self.augment, draws, strict=True))
        values, unpadded = self._output(images)
        for span in _spans(images, prod(images.shape[1:])):
            part, out = _cut(images, span), _cut(unpadded, span)
            for augmentation, parameters in steps:
                part = augmentation.apply(part, *(parameter[span] for parameter in parameters))
            for inner in _spans(part, prod(out.shape[1:])):
                self._write(_cut(part, inner), _cut(out, inner))
        output = {"pixel_values": values, "labels": stored.labels}
        return output | {"indices": stored.indices} if self.with_indices else output

    def _for(self, statistics: PixelSums | None) -> "BatchTransform":
        """This transform with the statistics of a data set."""
        if statistics is None:
            raise TrainingError(
                'stats is "dataset" but the batch is from data without statistics: use '
                "ArrayDataset(images, labels, statistics=medmnist_hf.pixel_statistics(name)), or give these as stats"
            )
        if statistics not in self._by_statistics:
            self._by_statistics[statistics] = replace(self, stats=statistics)
        return self._by_statistics[statistics]

    def _augmented(self, images: Tensor, seed: int) -> Tensor:
        """Apply all augmentations to the whole batch, in float from the first callable on, with seeded generators."""
        generator = torch.Generator().manual_seed(seed)
        on_cpu = images.device.type in {"cpu", "meta"}
        kind = "cuda" if on_cpu else images.device.type
        with torch.random.fork_rng([] if on_cpu else [images.device], device_type=kind):
            torch.default_generator.manual_seed(seed)
            if not on_cpu:
                torch.manual_seed(seed)
            for step in self.augment:
                if isinstance(step, Augmentation | OwnAugmentation):
                    images = step(images, generator)
                    continue
                images = step(images.float() / WHITE if images.dtype == torch.uint8 else images)
                if not isinstance(images, Tensor) or images.ndim not in {4, 5}:
                    raise TrainingError(
                        f"{type(step).__name__} returned no batch (B, C, ...): use another augmentation"
                    )
        return images

    def _output(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The output batch, and the view of it without padding, to which images are written."""
        channels, sides = self.channels or images.shape[1], images.shape[2:]
        if images.shape[1] not in {1, channels}:
            raise TrainingError(
                f"images of {images.shape[1]} channels cannot be given {channels}: leave channels None"
            )
        for name, count in self._sizes.items():
            if count not in {1, channels}:
                raise TrainingError(
                    f"{name} is {getattr(self, name)} but the output has {channels} channels: give 1 or {channels}"
                )
        target = (self.size or side for side in sides)
        shape, dtype = (len(images), channels, *target), DTYPES[self.dtype]
        memory_shape = (shape[0], *shape[2:], shape[1]) if self.channels_last else shape
        if images.device.type == "cpu":
            values = self._buffers.empty(memory_shape, dtype)
        else:
            values = torch.empty(memory_shape, dtype=dtype, device=images.device)
        if self.channels_last:
            values = values.movedim(-1, 1)
        if self.fit == "resize" or shape[2:] == sides:
            return values, values
        if max(sides) > shape[2]:
            raise TrainingError(
                f"images of {tuple(sides)} cannot be padded to {self.size}: use fit='resize', or leave out size"
            )
        values.zero_()
        unpadded = values
        for axis, side in enumerate(sides, 2):
            unpadded = unpadded.narrow(axis, (shape[2] - side) // 2, side)
        return values, unpadded

    def _write(self, images: Tensor, out: Tensor) -> None:
        """Resize and normalize images into the output."""
        if self.fit == "resize" and self.size is not None:
            images = resize(images, self.size, self.interpolation, antialias=self.antialias)
        count, channels, *sides = out.shape
        direct = out.dtype == torch.float32 and self.fit == "resize"
        of_uint8 = images.dtype == torch.uint8
        if self.channels_last:
            # One row per sample: a factor that repeats every three values would be applied to three at a time.
            target = out.movedim(1, -1) if direct else torch.empty((count, *sides, channels), device=images.device)
            rows = target.view(count, -1)
            rows.copy_(images.expand(-1, channels, *sides).movedim(1, -1).reshape(count, -1))
            _scale_and_shift(rows, *self._factors_on(images.device, of_uint8, prod(sides)))
            target = target.movedim(-1, 1)
        else:
            target = out if direct else torch.empty(out.shape, device=images.device)
            per_channel = (-1, *(1 for _ in sides))
            scale, shift = self._factors_on(images.device, of_uint8, 1)
            if isinstance(scale, Tensor):
                scale, shift = scale.view(per_channel), shift.view(per_channel)
            _scale_and_shift(target.copy_(images), scale, shift)
        if not direct:
            out.copy_(target)

    def _factors_on(self, device: torch.device, of_uint8: bool, pixels: int) -> tuple[Tensor | float, Tensor]:
        """Factor and addend: one per channel, repeated for each pixel; or a single number of each."""
        key = device, of_uint8, pixels
        if key not in self._factors:
            mean, std = np.broadcast_arrays(np.atleast_1d(self.mean), np.atleast_1d(self.std))
            scale, shift = torch.tensor(np.stack([1 / std, -mean / std]), dtype=torch.float32)
            scale = scale / WHITE if of_uint8 else scale
            self._factors[key] = (
                (scale.item(), shift.view(()).to(device))
                if len(scale) == 1
                else (scale.repeat(pixels).to(device), shift.repeat(pixels).to(device))
            )
        return self._factors[key]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_factors": {}}  # another process may not have their device


def _scale_and_shift(values: Tensor, scale: Tensor | float, shift: Tensor) -> None:
    """Multiply and add in place; in a single pass if there is one factor for all values."""
    if isinstance(scale, Tensor):
        values.mul_(scale).add_(shift)
    else:
        torch.add(shift, values, alpha=scale, out=values)


def channels_first(images: Tensor) -> Tensor:
    """View stored images with channels first.

    Args:
        images: (B, H, W), (B, H, W, 3) or (B, D, H, W); no side of a volume may be 3.

    Returns:
        (B, 1, H, W), (B, 3, H, W) or (B, 1, D, H, W).
    """
    return images.movedim(-1, 1) if images.ndim == 4 and images.shape[-1] == 3 else images.unsqueeze(1)


def resize(images: Tensor, size: int, interpolation: Interpolation | None = None, *, antialias: bool = True) -> Tensor:
    """Resize images or volumes.

    Args:
        images: uint8 or float, (B, C, H, W) or (B, C, D, H, W).
        size: New length of all sides.
        interpolation: ``nearest`` or ``area``, for images also ``bilinear`` or ``bicubic``, for volumes ``trilinear``.
            None selects ``bilinear`` or ``trilinear``. ``nearest``, ``bilinear`` and ``bicubic`` select pixels and
            weights as Pillow does.
        antialias: Widen the filter when reducing images, as Pillow always does; for ``bilinear`` and ``bicubic``.

    Returns:
        Images of the same type; uint8 is rounded.

    Raises:
        TrainingError: The interpolation does not support images or volumes, respectively.
    """
    choices = INTERPOLATIONS[images.ndim]
    mode = interpolation or ("bilinear" if images.ndim == 4 else "trilinear")
    if mode not in choices:
        what = "images" if images.ndim == 4 else "volumes"
        raise TrainingError(f"interpolation {mode} is not for {what}: choose from {', '.join(choices)}")
    if set(images.shape[2:]) == {size}:
        return images
    if mode == "nearest":
        for axis, side in reversed(list(enumerate(images.shape[2:], 2))):
            images = images.index_select(axis, _nearest(side, size, images.device))
        return images
    if mode in {"bilinear", "bicubic"}:
        shape: dict[str, Any] = {"size": [size, size], "mode": mode, "align_corners": False, "antialias": antialias}
        # Kernels for uint8 exist on the CPU only, where they are ten times as fast as those for floats.
        if images.device.type == "cpu" or images.dtype != torch.uint8:
            return F.interpolate(images, **shape)
        return rounded_like(images, F.interpolate(images.float(), **shape).clamp_(0, WHITE))
    return rounded_like(images, F.interpolate(images.float(), [size] * (images.ndim - 2), mode=mode))


@cache
def _nearest(side: int, size: int, device: torch.device) -> Tensor:
    """Positions of the pixels that are selected along a side."""
    # Accumulated step by step as in Pillow: the rounding decides when a center falls between two pixels.
    centers = np.add.accumulate(np.append(side / size / 2, np.full(size - 1, side / size)))
    return torch.from_numpy(centers.astype(np.int64)).to(device)


def _spans(images: Tensor, sample_size: int) -> Sequence[slice]:
    """Slices of a batch to process one after the other, given the values per sample; one slice on accelerators."""
    count = len(images)
    step = max(1, _PIECE // sample_size) if images.device.type == "cpu" else count
    return [slice(start, start + step) for start in range(0, count, step)] if step < count else _WHOLE


def _cut(images: Tensor, span: slice) -> Tensor:
    """A slice of a batch; the batch itself if the slice is everything, which saves an operation for small batches."""
    return images if span == _WHOLE[0] else images[span]


def _to_array_batch(batch: Any) -> ArrayBatch:
    if isinstance(batch, ArrayBatch):
        return batch
    if isinstance(batch, Mapping):
        if not {"images", "labels"} <= batch.keys():
            raise TrainingError(f"a batch has {', '.join(batch)}: it must have images and labels")
        return ArrayBatch(batch["images"], batch["labels"], _indices(batch.get("indices")))
    if isinstance(batch[0], ArrayBatch):
        return batch[0]
    return _stacked(batch)


def _stacked(samples: Sequence[Mapping[str, Any]]) -> ArrayBatch:
    """Stack single samples into a batch."""
    images = np.stack([np.asarray(_part(sample, _IMAGE_NAMES)) for sample in samples])
    if images.ndim == 4 and images.shape[-1] != 3 and images.shape[1] in {1, 3}:
        # Channels come first in the torch format of `datasets`.
        images = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
    labels = np.stack([np.asarray(_part(sample, _LABEL_NAMES)) for sample in samples])
    if images.dtype != np.uint8:
        raise TrainingError(f"images of the samples are {images.dtype}: give uint8, as stored")
    indices = [int(sample["indices"]) for sample in samples] if "indices" in samples[0] else None
    return ArrayBatch(
        torch.from_numpy(images),
        torch.as_tensor(labels, dtype=torch.int64 if labels.ndim == 1 else torch.float32),
        _indices(indices),
    )


def _part(sample: Any, names: Sequence[str]) -> Any:
    columns = sample if isinstance(sample, Mapping) else {}
    for name in names:
        if name in columns:
            return columns[name]
    raise TrainingError(
        f"a sample has {', '.join(columns) or 'no columns'}: it must have {names[0]} "
        "(for transformers.Trainer, set remove_unused_columns=False unless the data is an ArrayDataset)"
    )


def _indices(indices: Any) -> Tensor:
    """Indices to seed augmentation with; random if there are none."""
    return torch.randint(1 << 62, (1,)) if indices is None else torch.as_tensor(indices, dtype=torch.int64)
