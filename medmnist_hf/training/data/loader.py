"""Batches of an array data set in an order of seed and epoch, made ahead in threads, resumed where they stopped."""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from math import prod
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data.dataset import ArrayBatch, ArrayDataset, mixed_seed
from medmnist_hf.training.data.transforms import BatchTransform, channels_first

Item = TypeVar("Item")
Result = TypeVar("Result")
Batch = dict[str, Tensor]

_FIXED: Final = ("samples", "batch_size", "shuffle", "seed", "drop_last", "join_single", "world_size")
"""What must be the same for a position in an epoch to mean the same samples."""

_SMALL: Final = 1 << 20
"""Numbers in a batch up to which it takes longer to hand it from one thread to another than to make it."""


class EpochIndices(list[int]):
    """The indices of one batch, and the epoch they were drawn in.

    The epoch travels with them, also into the workers of a torch `DataLoader`, since augmentation depends on it.
    """

    epoch: int

    def __init__(self, indices: Sequence[int], epoch: int) -> None:
        super().__init__(indices)
        self.epoch = epoch

    def __reduce__(self) -> tuple[type["EpochIndices"], tuple[list[int], int]]:
        return EpochIndices, (list(self), self.epoch)


class EpochBatches(Sampler[list[int]]):
    """A batch sampler whose order depends on seed and epoch alone.

    The samples of an epoch are shared as by torch's `DistributedSampler`: rank r has every `world_size`-th one from
    the r-th on, and all ranks have as many, because the first ones are drawn again at the end or, with `drop_last`,
    the last ones are left out. Each iteration is an epoch: the first is epoch 0, or that of `set_epoch`, and each
    further one is the next epoch, whether or not the one before was finished. It begins when its first batch is drawn.

    Args:
        samples: Size of the data set.
        batch_size: Samples in a batch, for one rank.
        shuffle: Draw a new order each epoch; otherwise the order is that of the data set.
        seed: Seed of the orders; the same on all ranks.
        drop_last: Leave out the samples that do not fill a batch, and those that cannot be shared evenly.
        join_single: Where the last batch would be of one sample, of which a batch norm has no statistics, it joins the
            one before.
        rank: Which share, in 0..`world_size`-1.
        world_size: Number of shares.

    Raises:
        TrainingError: A number is out of its range, or with `drop_last` there is no full batch.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        join_single: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if samples < 1 or batch_size < 1 or world_size < 1:
            raise TrainingError(
                f"{samples} samples in batches of {batch_size} for {world_size} ranks: all three must be 1 or more"
            )
        if not 0 <= rank < world_size:
            raise TrainingError(f"rank is {rank} of {world_size}: must be in 0..{world_size - 1}")
        self.samples, self.batch_size, self.shuffle, self.seed = samples, batch_size, shuffle, seed
        self.drop_last, self.join_single, self.rank, self.world_size = drop_last, join_single, rank, world_size
        self._share = samples // world_size if drop_last else math.ceil(samples / world_size)
        self._next_epoch, self._next_batch = 0, 0
        if not len(self):
            raise TrainingError(
                f"{self._share} samples a rank make no full batch of {batch_size}: use less or keep the last"
            )

    @property
    def sampler(self) -> "EpochBatches":
        """Itself: where Accelerate looks for a `set_epoch` once it has wrapped a batch sampler in its own."""
        return self

    @property
    def position(self) -> tuple[int, int]:
        """Epoch and batch that the next iteration starts with."""
        return self._next_epoch, self._next_batch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration.

        It starts with the first batch, unless `resume` has chosen another one of this very epoch.
        """
        if epoch != self._next_epoch:
            self.resume(epoch, 0)

    def resume(self, epoch: int, batch: int) -> None:
        """Let the next iteration go on in an epoch: with its batch number `batch`, counted from 0."""
        self._next_epoch, self._next_batch = epoch, batch

    def __len__(self) -> int:
        """Batches in a whole epoch, for one rank."""
        full, rest = divmod(self._share, self.batch_size)
        joined = self.join_single and full > 0 and rest == 1
        return full if self.drop_last or joined or not rest else full + 1

    def __iter__(self) -> Iterator[list[int]]:
        # Only when the first batch is drawn: a torch loader with workers makes two iterators and uses one.
        epoch, start = self.position
        self.resume(epoch + 1, 0)
        share = self._indices(epoch)
        most = self._share - self._share % self.batch_size if self.drop_last else self._share
        for number in range(start, len(self)):
            first, is_last = number * self.batch_size, number == len(self) - 1
            yield EpochIndices(share[first : most if is_last else first + self.batch_size].tolist(), epoch)

    def _indices(self, epoch: int) -> Tensor:
        if self.shuffle:
            order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(mixed_seed(self.seed, epoch)))
        else:
            order = torch.arange(self.samples)
        total = self._share * self.world_size
        return order.repeat(math.ceil(total / self.samples))[self.rank : total : self.world_size]


class ArrayLoader(DataLoader[Batch]):
    """Batches ready for a model: gathered, and as a rule transformed, if need be in threads while the caller computes.

    It is a torch `DataLoader`, so Accelerate and `transformers.Trainer` take it. `Accelerator.prepare` shares its
    batches itself, so leave rank and world size as they are then; what it returns gathers and transforms in the same
    way, but when it is asked, without threads.

    The order of the samples is that of `EpochBatches`, which says when an epoch begins. On the CPU the threads do all
    the work, a core each; without them the caller's thread does it, on one core too. With an accelerator as `device`
    they gather into page-locked memory, and the caller's stream copies from there and transforms. A transform that
    uses torch's global generator, as the augmentations of torchvision and kornia do, runs in the caller's thread as
    well, as does one that is no `BatchTransform`.

    Args:
        data: An `ArrayDataset`, or images and labels as it takes them.
        batch_size: Samples in a batch, for one rank.
        shuffle: Draw a new order each epoch.
        seed: Seed of the orders; augmentation has its own, in the transform.
        drop_last: Leave out the samples that do not fill a batch, or cannot be shared evenly.
        join_single: See `EpochBatches`.
        transform: As a rule a `BatchTransform`; as any ``collate_fn`` it is called with a list, here of one
            `ArrayBatch`. Without one, a batch is ``images``, ``labels`` and ``indices`` as stored.
        device: Where the batches go; None leaves them on the CPU.
        pin_memory: Put batches that stay on the CPU in page-locked memory, if there is an accelerator.
        prefetch: Batches made ahead, and threads that make them; 0 makes them when they are asked for. None is 2, but
            where there is no accelerator 0 for batches that come out with up to 2^20 numbers: the model needs the same
            cores then, and threads would only add the hand-over.
        rank: Which share of the samples, in 0..`world_size`-1, e.g. ``torch.distributed.get_rank()``.
        world_size: Number of shares.

    Raises:
        TrainingError: Data, a number or the device cannot be used as given.
    """

    def __init__(
        self,
        data: ArrayDataset | tuple[NDArray[np.uint8], NDArray[Any]],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
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
        self.arrays = data if isinstance(data, ArrayDataset) else ArrayDataset(*data)
        self.batches = EpochBatches(
            len(self.arrays),
            batch_size,
            shuffle=shuffle,
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
        """Choose the epoch of the next iteration; see `EpochBatches.set_epoch`."""
        self._current = None
        self.batches.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, in numbers that JSON can hold: the same on all ranks.

        In an iteration, also one that was broken off, it counts the batches that the caller has got, not those made
        ahead, and `load_state_dict` goes on with the batch after them. Between iterations it is where the next begins.
        """
        epoch, batch = self._current or self.batches.position
        return {name: getattr(self.batches, name) for name in _FIXED} | {"epoch": epoch, "batch": batch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where a loader over the same data stood.

        Args:
            state: From `state_dict`.

        Raises:
            TrainingError: The state is that of a loader with other data, batches, order or number of ranks.
        """
        own = self.state_dict()
        if own.keys() != state.keys():
            raise TrainingError(f"a loader's state holds {', '.join(own)}, not {', '.join(state) or 'nothing'}")
        for name in _FIXED:
            if state[name] != own[name]:
                raise TrainingError(
                    f"cannot resume: {name} was {state[name]} and is {own[name]}: make it the same, or begin an epoch"
                )
        self._current = None
        self.batches.resume(state["epoch"], state["batch"])

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # all that a loop needs
        progress = self._current = list(self.batches.position)
        ahead = self._finished_ahead
        make: Callable[[list[int]], Any] = self._make if ahead else self._gather
        items = iter(self.batches)
        made = prefetched(make, items, self.prefetch) if self.prefetch else run_serially(make, items)
        with contextlib.closing(made):
            for batch in made:
                progress[1] += 1
                yield batch if ahead else self._finish(batch)
                del batch
        if self._current is progress:
            self._current = None

    def _small(self) -> bool:
        """Whether a batch is made sooner than it is handed over, for a model that computes on the same cores."""
        stored = torch.empty((1, *self.arrays.image_shape), device="meta")
        _, channels, *sides = channels_first(stored).shape
        if isinstance(self.transform, BatchTransform):
            channels, sides = self.transform.channels or channels, [self.transform.size or side for side in sides]
        return self.batches.batch_size * channels * prod(sides) <= _SMALL and not torch.accelerator.is_available()

    @property
    def _finished_ahead(self) -> bool:
        alone = isinstance(self.transform, BatchTransform) and not self.transform.draws_globally
        return self.device.type == "cpu" and (alone or self.transform is None)

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


def run_serially(make: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
    """Yield ``make(item)`` lazily, with torch limited to one thread.

    Its operations on a batch are so short that a second core gains little, and where another process has that core
    they wait for it a hundred times as long as they take.

    Args:
        make: Called with each item.
        items: Drawn from one by one.

    Yields:
        The results, in order.
    """
    for item in items:
        cores = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            made = make(item)
        finally:
            torch.set_num_threads(cores)
        yield made
        del made


def prefetched(make: Callable[[Item], Result], items: Iterable[Item], depth: int) -> Generator[Result]:
    """Call a function in threads, ahead of the caller.

    Each thread uses one core in torch's operations: items are worked on side by side, which scales better than
    sharing the work of one, and leaves a model on the CPU undisturbed. The threads end with the items, or when the
    generator is closed, which waits for what is being made.

    Args:
        make: Called with each item.
        items: Drawn from in the caller's thread.
        depth: Most results that are made and not yet taken, and number of threads.

    Yields:
        The results, in order; an exception of `make` is raised at its place, with its traceback.
    """
    left = iter(items)
    # `set_num_threads` is inherited by later threads, so restore it.
    cores = torch.get_num_threads()
    with ThreadPoolExecutor(depth, "medmnist-hf-prefetch", torch.set_num_threads, (1,)) as pool:
        coming = deque(pool.submit(make, item) for item in islice(left, depth))
        try:
            while coming:
                made = coming.popleft().result()
                coming.extend(pool.submit(make, item) for item in islice(left, 1))
                yield made
                del made
        finally:
            for future in coming:
                future.cancel()
            torch.set_num_threads(cores)


def _device(name: torch.device | str | None) -> torch.device:
    try:
        device = torch.device(name or "cpu")
    except RuntimeError:
        raise TrainingError(f"unknown device {name}: choose cpu, or an accelerator such as cuda or cuda:1") from None
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device.type not in {"cpu", "meta", accelerator and accelerator.type}:
        raise TrainingError(f"there is no device {device} here ({accelerator or 'no accelerator at all'}): choose cpu")
    return device


def _as_stored(batches: list[ArrayBatch]) -> Batch:
    return batches[0].as_dict()
