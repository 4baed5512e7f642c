"""Load batches of an array data set, ordered by seed and epoch, resumable within an epoch.

`ArrayLoader` makes them ahead in threads; `DeviceLoader` makes them on the device, where it keeps all images.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import prod
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data.dataset import ArrayBatch, ArrayDataset, Draws, on_device
from medmnist_hf.training.data.order import BalancedBatches, EpochBatches, EpochIndices
from medmnist_hf.training.data.transforms import BatchTransform, channels_first

Item = TypeVar("Item")
Result = TypeVar("Result")
Batch = dict[str, Tensor]

_FIXED: Final = ("samples", "batch_size", "shuffle", "seed", "drop_last", "join_single", "world_size", "groups")
"""Settings that must be equal for a position in an epoch to refer to the same samples."""

_COPIED: Final = 1 << 28
"""Bytes copied to a device at a time, so that a memory-mapped data set is never in host memory as a whole."""

_DRAWN: Final = 64
"""Random numbers per image up to which those of a whole epoch are drawn when it begins."""

_SMALL: Final = 1 << 20
"""Values per batch up to which handing a batch from thread to thread takes longer than making it."""


class ArrayLoader(DataLoader[Batch]):
    """Loads batches for a model: gathered and transformed, by default in threads while the caller computes.

    It is a torch `DataLoader`, so it works with Accelerate and `transformers.Trainer`. `Accelerator.prepare`
    distributes batches itself, so leave rank and world size at their defaults then. The loader that it returns gathers
    and transforms in the same way, but on request and without threads.

    Samples are ordered by `EpochBatches`, which also defines when an epoch begins. On the CPU, each thread makes
    batches on one core; without threads the caller's thread does so, also on one core. With an accelerator as
    `device`, threads gather into page-locked memory, and the caller's stream copies and transforms. A transform that
    uses torch's global generator, such as augmentations of torchvision and kornia, or that is not a `BatchTransform`,
    also runs in the caller's thread.

    Args:
        data: An `ArrayDataset`, or its images and labels.
        batch_size: Samples per batch and rank.
        shuffle: Draw a new order for each epoch.
        seed: Seed of the order; the transform has its own seed for augmentation.
        groups: Group of each sample, such as its subset: draw all groups equally often instead of each sample once,
            see `BalancedBatches`. Implies `shuffle`.
        drop_last: Leave out samples that do not fill a batch or cannot be distributed evenly.
        join_single: See `EpochBatches`.
        transform: A `BatchTransform`, or any ``collate_fn``, which is called with a list of one `ArrayBatch`. Without
            a transform, batches hold ``images``, ``labels`` and ``indices`` as stored.
        device: Device of the batches; None leaves them on the CPU.
        pin_memory: Put batches that stay on the CPU in page-locked memory, if there is an accelerator.
        prefetch: Number of batches made ahead, and of threads that make them; 0 makes batches on request. The default
            is 2, or without an accelerator 0 for batches of up to 2^20 output values: the model then needs the same
            cores, and threads would only add overhead.
        rank: Rank of this process, in 0..`world_size`-1, e.g. ``torch.distributed.get_rank()``.
        world_size: Number of ranks.

    Raises:
        TrainingError: The data, a number or the device is not valid.
    """

    def __init__(
        self,
        data: ArrayDataset | tuple[NDArray[np.uint8], NDArray[Any]],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        groups: NDArray[np.integer[Any]] | None = None,
        drop_last: bool = False,
        join_single: bool = False,
        transform: Callable[[list[ArrayBatch]], Batch] | None = None,
        device: torch.device | str | None = None,
        pin_memory: bool = False,
        prefetch: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if prefetch is not None and prefetch < 0:
            raise TrainingError(f"prefetch is {prefetch}: must be 0 or more")
        self.device = _device(device)
        self.arrays = data if isinstance(data, ArrayDataset) else ArrayDataset(*_pair(data))
        if groups is not None and len(groups) != len(self.arrays):
            raise TrainingError(f"there are {len(groups)} groups for {len(self.arrays)} samples: give one per sample")
        make_batches = (
            partial(EpochBatches, len(self.arrays), shuffle=shuffle)
            if groups is None
            else partial(BalancedBatches, groups)
        )
        self.batches: EpochBatches = make_batches(
            batch_size=batch_size,
            seed=seed,
            drop_last=drop_last,
            join_single=join_single,
            rank=rank,
            world_size=world_size,
        )
        self.transform = transform
        self.prefetch = (0 if self._small() else 2) if prefetch is None else prefetch
        self._current: list[int] | None = None
        super().__init__(
            self.arrays,
            batch_sampler=self.batches,
            collate_fn=transform or _as_stored,
            pin_memory=pin_memory and torch.accelerator.is_available(),
        )

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, see `EpochBatches.set_epoch`."""
        self._current = None
        self.batches.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """The position of the loader, as values for JSON that are the same on all ranks.

        Within an iteration, even an interrupted one, it counts the batches that the caller received, without those
        made ahead; `load_state_dict` resumes after them. Between iterations, it is the start of the next iteration.
        """
        epoch, batch = self._current or self.batches.position
        return {name: getattr(self.batches, name) for name in _FIXED} | {"epoch": epoch, "batch": batch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume at the position of a loader over the same data.

        Args:
            state: From `state_dict`.

        Raises:
            TrainingError: The state is from a loader with other data, batches, order or number of ranks.
        """
        own = self.state_dict()
        if own.keys() != state.keys():
            raise TrainingError(f"the state of a loader has {', '.join(own)}, not {', '.join(state) or 'nothing'}")
        for name in _FIXED:
            if state[name] != own[name]:
                raise TrainingError(
                    f"cannot resume: {name} was {state[name]} and is {own[name]}: use the same, or start a new epoch"
                )
        self._current = None
        self.batches.resume(state["epoch"], state["batch"])

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # sufficient for loops
        progress = self._current = list(self.batches.position)
        in_thread = self._transforms_in_thread
        make: Callable[[list[int]], Any] = self._make if in_thread else self._gather
        items = iter(self.batches)
        batches = run_in_threads(make, items, self.prefetch) if self.prefetch else run_serially(make, items)
        with contextlib.closing(batches):
            for batch in batches:
                progress[1] += 1
                yield batch if in_thread else self._finish(batch)
                del batch
        if self._current is progress:
            self._current = None

    def _small(self) -> bool:
        """Whether making a batch takes less time than handing it over, for a model on the same cores."""
        stored = torch.empty((1, *self.arrays.image_shape), device="meta")
        _, channels, *sides = channels_first(stored).shape
        if isinstance(self.transform, BatchTransform):
            channels, sides = self.transform.channels or channels, [self.transform.size or side for side in sides]
        return self.batches.batch_size * channels * prod(sides) <= _SMALL and not torch.accelerator.is_available()

    @property
    def _transforms_in_thread(self) -> bool:
        thread_safe = isinstance(self.transform, BatchTransform) and not self.transform.draws_globally
        return self.device.type == "cpu" and (thread_safe or self.transform is None)

    def _gather(self, indices: list[int]) -> ArrayBatch:
        to_accelerator = self.device.type != "cpu" and torch.accelerator.is_available()
        return self.arrays.gather(indices, epoch=getattr(indices, "epoch", 0), pin=to_accelerator)

    def _make(self, indices: list[int]) -> Batch:
        return self._finish(self._gather(indices))

    def _finish(self, batch: ArrayBatch) -> Batch:
        if self.device.type != "cpu":
            batch = batch.to(self.device)
        finished: Batch = self.collate_fn([batch])
        if self.pin_memory and self.device.type == "cpu":
            return {name: part.pin_memory() for name, part in finished.items()}
        return finished


class DeviceLoader(ArrayLoader):
    """Loads the batches of an `ArrayLoader` from images that lie on the device, as uint8.

    Its batches are those of an `ArrayLoader` with the same seed. When an epoch begins, the host draws its order and
    the parameters of its augmentations, a few numbers per image, and copies them to the device. From then on images
    are gathered and transformed there, and the host only starts the operations. There are no threads, and one process
    per device. Only corruptions, an `OwnAugmentation`, other callables and augmentations that draw more than 64
    numbers per image leave work to the host in each step.

    At 28 and 64 pixels every subset fits on a GPU: the largest, TissueMNIST, has 130 and 679 MB of train images.

    Args:
        data: An `ArrayDataset`, or its images and labels.
        batch_size: As for `ArrayLoader`, as are the others.
        shuffle: Draw a new order for each epoch.
        seed: Seed of the order.
        groups: Group of each sample, to draw all groups equally often.
        drop_last: Leave out samples that do not fill a batch or cannot be distributed evenly.
        join_single: See `EpochBatches`.
        transform: A `BatchTransform`, or any ``collate_fn``.
        device: Device of the images and batches; None takes the accelerator, or the CPU if there is none.
        rank: Rank of this process.
        world_size: Number of ranks.

    Raises:
        TrainingError: The data, a number or the device is not valid, or the images do not fit on the device.
    """

    def __init__(
        self,
        data: ArrayDataset | tuple[NDArray[np.uint8], NDArray[Any]],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        groups: NDArray[np.integer[Any]] | None = None,
        drop_last: bool = False,
        join_single: bool = False,
        transform: Callable[[list[ArrayBatch]], Batch] | None = None,
        device: torch.device | str | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if device is None and torch.accelerator.is_available():
            device = torch.accelerator.current_accelerator()
        super().__init__(
            data,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            groups=groups,
            drop_last=drop_last,
            join_single=join_single,
            transform=transform,
            device=device,
            prefetch=0,
            rank=rank,
            world_size=world_size,
        )
        self._images, self._labels = self._resident()
        self._epochs: dict[int, _Epoch] = {}

    def _resident(self) -> tuple[Tensor, Tensor]:
        """All images and labels on the device, copied in pieces."""
        arrays = self.arrays
        try:
            images = torch.empty((len(arrays), *arrays.image_shape), dtype=torch.uint8, device=self.device)
        except RuntimeError:  # the CPU raises it, accelerators a subclass
            needed = arrays.stored_bytes / 1e9
            raise TrainingError(
                f"the {len(arrays):,} images of {needed:,.1f} GB do not fit on {self.device}: use ArrayLoader"
            ) from None
        step = max(1, _COPIED * len(arrays) // arrays.stored_bytes)
        labels = []
        for first in range(0, len(arrays), step):
            piece = arrays.gather(range(first, min(first + step, len(arrays))))
            images[first : first + step] = piece.images.to(self.device)
            labels.append(piece.labels.to(self.device))
        return images, torch.cat(labels)

    def _gather(self, indices: list[int]) -> ArrayBatch:
        assert isinstance(indices, EpochIndices)  # those of this loader's sampler
        epoch = self._epochs.get(indices.epoch) or self._begin(indices.epoch)
        span = slice(indices.first, indices.first + len(indices))
        rows = epoch.rows[span]
        return ArrayBatch(
            self._images.index_select(0, rows),
            self._labels.index_select(0, rows),
            torch.from_numpy(np.array(indices, np.int64)),
            indices.epoch,
            self.arrays.statistics,
            epoch.draws and tuple(tuple(parameter[span] for parameter in each) for each in epoch.draws),
        )

    def _begin(self, number: int) -> "_Epoch":
        """Draw an epoch; it is kept with the one before, for two iterators that take turns."""
        indices = self.batches.share(number)
        epoch = _Epoch(indices.to(self.device), self._drawn(indices, number))
        self._epochs = {**dict(list(self._epochs.items())[-1:]), number: epoch}
        return epoch

    def _drawn(self, indices: Tensor, number: int) -> Draws | None:
        """Draw the parameters of all batches, each as the transform would; None if it has to do so itself."""
        transform = self.collate_fn
        if not isinstance(transform, BatchTransform) or not transform.augment or transform.draws_globally:
            return None
        shape = channels_first(torch.empty((0, *self.arrays.image_shape), device="meta")).shape[1:]
        drawn: list[Draws] = []
        for span in self.batches.spans():
            batch = indices[span]
            drawn.append(transform.draw((len(batch), *shape), number, batch))
            if sum(parameter.numel() for each in drawn[-1] for parameter in each) > _DRAWN * len(batch):
                return None
        joined = (tuple(map(torch.cat, zip(*each, strict=True))) for each in zip(*drawn, strict=True))
        return on_device(tuple(joined), self.device)


@dataclass(frozen=True, slots=True)
class _Epoch:
    """What a `DeviceLoader` draws when an epoch begins.

    Attributes:
        rows: The samples in order, int64 (N,), on the device.
        draws: The parameters of its augmentations on the device; None if the transform draws them itself.
    """

    rows: Tensor
    draws: Draws | None


def run_serially(make: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
    """Yield ``make(item)`` lazily, with torch limited to one thread.

    Operations on a batch are so short that a second core gains little. If another process uses that core, waiting for
    it takes a hundred times as long as the operation.

    Args:
        make: Called with each item.
        items: Consumed one by one.

    Yields:
        The results, in order.
    """
    for item in items:
        cores = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            result = make(item)
        finally:
            torch.set_num_threads(cores)
        yield result
        del result


def run_in_threads(make: Callable[[Item], Result], items: Iterable[Item], depth: int) -> Generator[Result]:
    """Yield ``make(item)`` in order, computed ahead of the caller in threads.

    torch is limited to one core per thread: processing items in parallel scales better than splitting each item, and
    does not disturb a model on the CPU. The threads end with the items or when the generator is closed, which waits
    for running calls.

    Args:
        make: Called with each item.
        items: Consumed in the caller's thread.
        depth: Maximum number of results made ahead, and number of threads.

    Yields:
        The results in order. An exception of `make` is raised in place of its result, with its traceback.
    """
    remaining = iter(items)
    # `set_num_threads` is inherited by later threads, so restore it.
    cores = torch.get_num_threads()
    with ThreadPoolExecutor(depth, "medmnist-hf-prefetch", torch.set_num_threads, (1,)) as pool:
        pending = deque(pool.submit(make, item) for item in islice(remaining, depth))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(make, item) for item in islice(remaining, 1))
                yield result
                del result
        finally:
            for future in pending:
                future.cancel()
            torch.set_num_threads(cores)


def _pair(data: Any) -> tuple[Any, Any]:
    if isinstance(data, tuple) and len(data) == 2:
        return data
    raise TrainingError(
        f"a loader takes an ArrayDataset, or images and labels as from load_arrays, not {type(data).__name__}"
    )


def _device(name: torch.device | str | None) -> torch.device:
    try:
        device = torch.device(name or "cpu")
    except RuntimeError:
        raise TrainingError(f"unknown device {name}: choose cpu, or an accelerator such as cuda or cuda:1") from None
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device.type not in {"cpu", "meta", accelerator and accelerator.type}:
        raise TrainingError(f"device {device} is not available ({accelerator or 'no accelerator'} found): choose cpu")
    return device


def _as_stored(batches: list[ArrayBatch]) -> Batch:
    return batches[0].as_dict()
