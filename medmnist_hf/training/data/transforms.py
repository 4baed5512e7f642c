"""From stored pixels to a network's input, a batch at a time: augment, resize or pad, normalize.

Example:
    >>> import numpy as np
    >>> from medmnist_hf.training.data.dataset import ArrayDataset
    >>> data = ArrayDataset(np.zeros((10, 28, 28), np.uint8), np.zeros(10, np.int64))
    >>> transform = BatchTransform(channels=3, size=32, interpolation="bicubic")
    >>> transform(data.gather(range(4)))["pixel_values"].shape
    torch.Size([4, 3, 32, 32])
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Final, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
from torch import Tensor
from torchvision.transforms import InterpolationMode  # type: ignore[import-untyped]
from torchvision.transforms.v2.functional import resize as resize_pixels  # type: ignore[import-untyped]

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data.augment import Augmentation, rounded_like
from medmnist_hf.training.data.buffers import Buffers
from medmnist_hf.training.data.dataset import ArrayBatch, mixed_seed

Interpolation = Literal["nearest", "bilinear", "bicubic", "trilinear", "area"]

INTERPOLATIONS: Final = {4: ("nearest", "bilinear", "bicubic", "area"), 5: ("nearest", "trilinear", "area")}
"""What can be named, by the dimensions of a batch: (B, C, H, W) or (B, C, D, H, W)."""

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

WHITE: Final = 255.0

_PIECE: Final = 1 << 20
"""Numbers worked on at a time on the CPU: few enough to stay in its caches, enough to be worth the operations."""

_WHOLE: Final = (slice(None),)

_IMAGE_NAMES: Final = ("images", "image", "pixel_values")
_LABEL_NAMES: Final = ("labels", "label")


@dataclass(frozen=True, kw_only=True)
class BatchTransform:
    """Makes ``{"pixel_values": ..., "labels": ...}`` of a batch; a ``collate_fn`` or ``data_collator`` for any loader.

    In this order: augmentation at the stored size, on the stored channels; resizing; normalization of pixels in 0..1;
    padding. Up to normalization pixels stay uint8, rounded, as they do in Pillow.

    It takes an `ArrayBatch`, a mapping such as a loader without a transform gives, or a list: what the fetcher of a
    torch `DataLoader` gets from an `ArrayDataset`, or single samples of any data set with an image under ``images``,
    ``image`` or ``pixel_values`` (uint8 NumPy array, tensor or PIL image) and a label under ``labels`` or ``label``.

    What is drawn depends on `seed`, the epoch and the indices of the batch: the same batch is changed the same way
    whatever makes it, in whatever process. Samples without ``indices`` take a seed from torch's global generator.

    Attributes:
        mean: Of each channel of the output or of all, for pixels in 0..1.
        std: Likewise.
        channels: 3 repeats the one channel of gray images and volumes, None leaves channels as they are.
        size: Edge length of the output; None leaves it as it is.
        fit: How images get to `size`: ``resize``, or ``pad`` with zeros after normalization, the image in the middle.
        interpolation: For resizing; see `resize`.
        antialias: For resizing; see `resize`.
        dtype: Type of the pixels that come out: ``float32``, ``bfloat16`` or ``float16``.
        channels_last: Put channels last in memory, which convolutions are faster with; the shape stays.
        augment: Augmentations in their order. Next to those of `medmnist_hf.training.data.augment`, any callable
            from a
            float batch (B, C, ...) in 0..1 to one, such as a module of torchvision's v2 or kornia, will do; it is run
            with torch's global generator seeded, and left as it was.
        seed: Seed of the augmentation.

    Raises:
        TrainingError: An attribute is out of its range; when called: it does not fit the images.
    """

    mean: float | Sequence[float] = 0.5
    std: float | Sequence[float] = 0.5
    channels: Literal[3] | None = None
    size: int | None = None
    fit: Literal["resize", "pad"] = "resize"
    interpolation: Interpolation | None = None
    antialias: bool = True
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    augment: Sequence[Augmentation | Callable[[Tensor], Tensor]] = ()
    seed: int = 0
    _buffers: Buffers = field(default_factory=Buffers, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
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
                known = ", ".join(str(choice) for choice in choices)
                raise TrainingError(f"unknown {name} {getattr(self, name)!r}: choose from {known}")
        if min(np.atleast_1d(self.std)) <= 0:
            raise TrainingError(f"std is {self.std}: must be above 0")

    @property
    def draws_globally(self) -> bool:
        """Some augmentation draws from torch's global generator, which other threads must not touch meanwhile."""
        return not all(isinstance(one, Augmentation) for one in self.augment)

    @cached_property
    def _factors(self) -> Tensor:
        """float32 (3, 1) or (3, C): what pixels in 0..1 are multiplied with, what uint8 ones are, and the addend."""
        mean, std = np.broadcast_arrays(np.atleast_1d(self.mean), np.atleast_1d(self.std))
        scale, shift = torch.tensor(np.stack([1 / std, -mean / std]), dtype=torch.float32)
        return torch.stack([scale, scale / WHITE, shift])

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {"mean": np.size(self.mean), "std": np.size(self.std)}

    @torch.no_grad()
    def __call__(self, batch: Any) -> dict[str, Tensor]:
        """Transform a batch.

        Returns:
            ``pixel_values`` (B, C, H, W) or (B, C, D, H, W), and ``labels`` as they came. CPU memory of batches that
            are no longer held is used again.
        """
        stored = _one_batch(batch)
        images = channels_first(stored.images)
        steps: list[tuple[Augmentation, tuple[Tensor, ...]]] = []
        if self.augment:
            seed = mixed_seed(self.seed, stored.epoch, stored.indices.numpy().tobytes())
            if self.draws_globally:
                images = self._augmented(images, seed)
            else:
                generator = torch.Generator().manual_seed(seed)
                steps = [
                    (one, one.draw(images.shape, generator)) for one in self.augment if isinstance(one, Augmentation)
                ]
        values, written = self._output(images)
        for span in _spans(images, prod(images.shape[1:])):
            part, out = _cut(images, span), _cut(written, span)
            for augmentation, parameters in steps:
                part = augmentation.apply(part, *(drawn[span] for drawn in parameters))
            for inner in _spans(part, prod(out.shape[1:])):
                self._write(_cut(part, inner), _cut(out, inner))
        return {"pixel_values": values, "labels": stored.labels}

    def _augmented(self, images: Tensor, seed: int) -> Tensor:
        """All augmentations on the whole batch, in float from the first foreign one on, with torch's generators."""
        generator = torch.Generator().manual_seed(seed)
        on_cpu = images.device.type in {"cpu", "meta"}
        kind = "cuda" if on_cpu else images.device.type
        with torch.random.fork_rng([] if on_cpu else [images.device], device_type=kind):
            torch.default_generator.manual_seed(seed)
            if not on_cpu:
                torch.manual_seed(seed)
            for one in self.augment:
                if isinstance(one, Augmentation):
                    images = one(images, generator)
                    continue
                images = one(images.float() / WHITE if images.dtype == torch.uint8 else images)
                if not isinstance(images, Tensor) or images.ndim not in {4, 5}:
                    raise TrainingError(f"{type(one).__name__} gave no batch (B, C, ...): use another augmentation")
        return images

    def _output(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """A batch to fill, and the part of it that images are written to: all but the padding."""
        channels, sides = self.channels or images.shape[1], images.shape[2:]
        if images.shape[1] not in {1, channels}:
            raise TrainingError(
                f"images of {images.shape[1]} channels cannot get {channels}: leave channels as they are"
            )
        for name, numbers in self._sizes.items():
            if numbers not in {1, channels}:
                raise TrainingError(
                    f"{name} is {getattr(self, name)} but there are {channels} channels: give one number or {channels}"
                )
        target = (self.size or side for side in sides)
        shape, dtype = (len(images), channels, *target), DTYPES[self.dtype]
        laid_out = (shape[0], *shape[2:], shape[1]) if self.channels_last else shape
        if images.device.type == "cpu":
            values = self._buffers.empty(laid_out, dtype)
        else:
            values = torch.empty(laid_out, dtype=dtype, device=images.device)
        if self.channels_last:
            values = values.movedim(-1, 1)
        if self.fit == "resize" or shape[2:] == sides:
            return values, values
        if max(sides) > shape[2]:
            raise TrainingError(
                f"images of {tuple(sides)} cannot be padded to {self.size}: resize them, or leave them"
            )
        values.zero_()
        written = values
        for axis, side in enumerate(sides, 2):
            written = written.narrow(axis, (shape[2] - side) // 2, side)
        return values, written

    def _write(self, images: Tensor, out: Tensor) -> None:
        """Resize and normalize images into memory laid out for them."""
        if self.fit == "resize" and self.size is not None:
            images = resize(images, self.size, self.interpolation, antialias=self.antialias)
        scale, scale_of_uint8, shift = self._factors
        scale = scale_of_uint8 if images.dtype == torch.uint8 else scale
        count, channels, *sides = out.shape
        direct = out.dtype == torch.float32 and self.fit == "resize"
        if self.channels_last:
            # One row a sample: a factor that repeats every three numbers would be applied three at a time.
            target = out.movedim(1, -1) if direct else torch.empty((count, *sides, channels), device=images.device)
            rows = target.view(count, -1)
            rows.copy_(images.expand(-1, channels, *sides).movedim(1, -1).reshape(count, -1))
            tiles = prod(sides) * channels // len(scale) if len(scale) > 1 else 1
            _scale_and_shift(rows, scale.repeat(tiles), shift.repeat(tiles))
            target = target.movedim(-1, 1)
        else:
            target = out if direct else torch.empty(out.shape, device=images.device)
            each = (-1, *(1 for _ in sides))
            _scale_and_shift(target.copy_(images), scale.view(each), shift.view(each))
        if not direct:
            out.copy_(target)


def _scale_and_shift(values: Tensor, scale: Tensor, shift: Tensor) -> None:
    """Multiply and add in place; one factor for all of them in one pass."""
    shift = shift.to(values.device)
    if scale.numel() == 1:
        torch.add(shift.view(()), values, alpha=scale.item(), out=values)
    else:
        values.mul_(scale.to(values.device)).add_(shift)


def channels_first(images: Tensor) -> Tensor:
    """Stored images with their channels where torch wants them, without a copy.

    Args:
        images: (B, H, W), (B, H, W, 3) or (B, D, H, W); in a batch of volumes no side may be 3.

    Returns:
        (B, 1, H, W), (B, 3, H, W) or (B, 1, D, H, W).
    """
    return images.movedim(-1, 1) if images.ndim == 4 and images.shape[-1] == 3 else images.unsqueeze(1)


def resize(images: Tensor, size: int, interpolation: Interpolation | None = None, *, antialias: bool = True) -> Tensor:
    """Resize images or volumes.

    Args:
        images: uint8, or float, (B, C, H, W) or (B, C, D, H, W).
        size: New length of all sides.
        interpolation: ``nearest``, ``area``, for images ``bilinear`` or ``bicubic``, for volumes ``trilinear``; None
            is the linear one. ``nearest``, ``bilinear`` and ``bicubic`` choose pixels and weights as Pillow does.
        antialias: Widen the filter where images get smaller, as Pillow always does; for ``bilinear`` and ``bicubic``.

    Returns:
        Images of the same type; uint8 is rounded.

    Raises:
        TrainingError: The interpolation is not one for such images.
    """
    choices = INTERPOLATIONS[images.ndim]
    chosen = interpolation or ("bilinear" if images.ndim == 4 else "trilinear")
    if chosen not in choices:
        what = "images" if images.ndim == 4 else "volumes"
        raise TrainingError(f"interpolation {chosen} is not for {what}: choose from {', '.join(choices)}")
    if set(images.shape[2:]) == {size}:
        return images
    if chosen == "nearest":
        for axis, side in reversed(list(enumerate(images.shape[2:], 2))):
            # Added up step by step as Pillow does, which decides where a center falls between two pixels.
            centers = np.add.accumulate(np.append(side / size / 2, np.full(size - 1, side / size)))
            images = images.index_select(axis, torch.from_numpy(centers.astype(np.int64)).to(images.device))
        return images
    if chosen in {"bilinear", "bicubic"}:
        # Its kernels for uint8 on the CPU are ten times as fast as those for float.
        resized: Tensor = resize_pixels(images, [size, size], InterpolationMode(chosen), antialias=antialias)
        return resized
    return rounded_like(images, F.interpolate(images.float(), [size] * (images.ndim - 2), mode=chosen))


def _spans(images: Tensor, numbers: int) -> Sequence[slice]:
    """Slices of a batch to work on one after the other, for so many numbers a sample; all at once on accelerators."""
    count = len(images)
    step = max(1, _PIECE // numbers) if images.device.type == "cpu" else count
    return [slice(start, start + step) for start in range(0, count, step)] if step < count else _WHOLE


def _cut(images: Tensor, span: slice) -> Tensor:
    """A slice; of small batches, whose operations cost more than their numbers, the batch itself."""
    return images if span == _WHOLE[0] else images[span]


def _one_batch(batch: Any) -> ArrayBatch:
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
    """Single samples as one batch."""
    images = np.stack([np.asarray(_part(sample, _IMAGE_NAMES)) for sample in samples])
    if images.ndim == 4 and images.shape[-1] != 3 and images.shape[1] in {1, 3}:
        # Channels first, as `datasets` gives images in its torch format.
        images = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
    labels = np.stack([np.asarray(_part(sample, _LABEL_NAMES)) for sample in samples])
    if images.dtype != np.uint8:
        raise TrainingError(f"the samples' images are {images.dtype}: give uint8, as they are stored")
    indices = [int(sample["indices"]) for sample in samples] if "indices" in samples[0] else None
    whole = labels.ndim == 1
    return ArrayBatch(
        torch.from_numpy(images),
        torch.as_tensor(labels, dtype=torch.int64 if whole else torch.float32),
        _indices(indices),
    )


def _part(sample: Any, names: Sequence[str]) -> Any:
    held = sample if isinstance(sample, Mapping) else {}
    for name in names:
        if name in held:
            return held[name]
    raise TrainingError(
        f"a sample has {', '.join(held) or 'no columns'}: it must have {names[0]} "
        "(for transformers.Trainer, set remove_unused_columns=False unless the data is an ArrayDataset)"
    )


def _indices(known: Any) -> Tensor:
    """Indices to seed augmentation with: drawn if they are not known."""
    return torch.randint(1 << 62, (1,)) if known is None else torch.as_tensor(known, dtype=torch.int64)
