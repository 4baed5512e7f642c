"""The order of samples and their batches, which depends only on seed and epoch, and may balance groups of samples."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data.dataset import derive_seed


class EpochIndices(list[int]):
    """The indices of a batch, with the epoch in which they were drawn and the place of the first of them in it.

    The epoch is passed along, even to the workers of a torch `DataLoader`, because augmentation depends on it.
    """

    epoch: int
    first: int

    def __init__(self, indices: Sequence[int], epoch: int, first: int) -> None:
        super().__init__(indices)
        self.epoch, self.first = epoch, first

    def __reduce__(self) -> tuple[type["EpochIndices"], tuple[list[int], int, int]]:
        return EpochIndices, (list(self), self.epoch, self.first)


class EpochBatches(Sampler[list[int]]):
    """A batch sampler whose order depends only on seed and epoch.

    Samples are distributed as by torch's `DistributedSampler`: rank r gets every `world_size`-th sample, starting with
    the r-th. All ranks get the same number, because the first samples are repeated at the end or, with `drop_last`,
    the last ones are left out. Each iteration is an epoch: the first is epoch 0 or the one set by `set_epoch`, and
    each further iteration is the next epoch, even if the previous one was not finished. An epoch begins when its first
    batch is drawn.

    Args:
        samples: Size of the data set.
        batch_size: Samples per batch and rank.
        shuffle: Draw a new order for each epoch; otherwise use the order of the data set.
        seed: Seed of the order; the same on all ranks.
        drop_last: Leave out samples that do not fill a batch or cannot be distributed evenly.
        join_single: Join a last batch of a single sample, for which batch norms have no statistics, to the previous
            batch.
        rank: Rank of this process, in 0..`world_size`-1.
        world_size: Number of ranks.

    Raises:
        TrainingError: A number is out of range, or there is no full batch and `drop_last` is set.
    """

    groups: str | None = None
    """Digest of the groups that are balanced, see `BalancedBatches`; None without groups."""

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
                f"{self._share} samples per rank do not fill a batch of {batch_size}: use a smaller batch_size or no "
                "drop_last"
            )

    @property
    def sampler(self) -> "EpochBatches":
        """This sampler; Accelerate looks here for `set_epoch` after wrapping a batch sampler."""
        return self

    @property
    def position(self) -> tuple[int, int]:
        """Epoch and batch with which the next iteration starts."""
        return self._next_epoch, self._next_batch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration.

        It starts with the first batch, unless `resume` has set another batch of the same epoch.
        """
        if epoch != self._next_epoch:
            self.resume(epoch, 0)

    def resume(self, epoch: int, batch: int) -> None:
        """Start the next iteration within an epoch, at batch number `batch`, counted from 0."""
        self._next_epoch, self._next_batch = epoch, batch

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        full, rest = divmod(self._share, self.batch_size)
        joined = self.join_single and full > 0 and rest == 1
        return full if self.drop_last or joined or not rest else full + 1

    def __iter__(self) -> Iterator[list[int]]:
        # Runs when the first batch is drawn: a torch loader with workers makes two iterators and uses one.
        epoch, start = self.position
        self.resume(epoch + 1, 0)
        share = self.share(epoch)
        for span in self.spans()[start:]:
            yield EpochIndices(share[span].tolist(), epoch, span.start)

    def spans(self) -> list[slice]:
        """Where the batches of an epoch are in `share`."""
        end = self._share - self._share % self.batch_size if self.drop_last else self._share
        firsts = range(0, len(self) * self.batch_size, self.batch_size)
        return [slice(first, end if first == firsts[-1] else first + self.batch_size) for first in firsts]

    def share(self, epoch: int) -> Tensor:
        """The samples that this rank draws in an epoch, in order, int64 of shape ``(N,)``."""
        order = self.order(epoch)
        total = self._share * self.world_size
        return order.repeat(math.ceil(total / self.samples))[self.rank : total : self.world_size]

    def order(self, epoch: int) -> Tensor:
        """The samples of an epoch in order, before they are distributed: int64 of shape ``(samples,)``."""
        return shuffled(self.samples, self.seed, epoch) if self.shuffle else torch.arange(self.samples)


class BalancedBatches(EpochBatches):
    """A batch sampler that draws all groups of samples equally often, such as the subsets of `medmnist_hf.load_many`.

    Groups take turns, over all epochs as one sequence, and each draws its own samples in a new order every time it has
    used them up. In any number of epochs, groups differ by at most one draw, and so do the samples of a group. The
    draws of an epoch are shuffled. An epoch is as long as that of `EpochBatches`, and resumes in the same way.

    Args:
        groups: Group of each sample, integers of shape ``(N,)``. Or ``(N, 2)``, such as subset and class: the second
            column divides each group of the first into groups that are drawn equally often.
        batch_size: Samples per batch and rank.
        samples: Number of samples of an epoch, over all ranks; N if None.
        seed: As for `EpochBatches`, as are the others.
        drop_last: Leave out samples that do not fill a batch or cannot be distributed evenly.
        join_single: Join a last batch of a single sample to the previous batch.
        rank: Rank of this process, in 0..`world_size`-1.
        world_size: Number of ranks.

    Raises:
        TrainingError: The groups are not such an array, a number is out of range, or there is no full batch and
            `drop_last` is set.
    """

    def __init__(
        self,
        groups: NDArray[np.integer[Any]],
        batch_size: int,
        *,
        samples: int | None = None,
        seed: int = 0,
        drop_last: bool = False,
        join_single: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        table = np.asarray(groups)
        if table.dtype.kind not in "iu" or table.ndim not in {1, 2} or not table.size:
            raise TrainingError(
                f"groups are {table.dtype} of shape {table.shape}: give integers of shape (N,) or (N, 2)"
            )
        columns = table[None] if table.ndim == 1 else table.T
        self._columns = [np.unique(column, return_inverse=True)[1].astype(np.int64) for column in columns]
        self.groups = hashlib.blake2b(np.ascontiguousarray(table, "<i8").tobytes(), digest_size=8).hexdigest()
        super().__init__(
            len(table) if samples is None else samples,
            batch_size,
            shuffle=True,
            seed=seed,
            drop_last=drop_last,
            join_single=join_single,
            rank=rank,
            world_size=world_size,
        )

    def order(self, epoch: int) -> Tensor:
        """The draws of an epoch in order: positions of samples, int64 of shape ``(samples,)``."""
        turns = np.arange(epoch * self.samples, (epoch + 1) * self.samples)
        drawn = self._draw(turns, np.arange(len(self._columns[0])), ())
        return torch.from_numpy(drawn)[shuffled(self.samples, self.seed, epoch)]

    def _draw(self, turns: NDArray[np.int64], members: NDArray[np.int64], path: tuple[int, ...]) -> NDArray[np.int64]:
        """The samples that a group draws in its turns, counted from its first turn in the first epoch.

        Args:
            turns: Numbers of the turns, ascending.
            members: The samples of the group.
            path: Its numbers, one per column so far.
        """
        drawn = np.empty(len(turns), np.int64)
        if len(path) == len(self._columns):
            rounds, places = np.divmod(turns, len(members))
            for number in np.unique(rounds).tolist():
                in_round = rounds == number
                order = shuffled(len(members), self.seed, *path, number).numpy()
                drawn[in_round] = members[order[places[in_round]]]
            return drawn
        own = self._columns[len(path)][members]
        values = np.unique(own)
        for number, value in enumerate(values.tolist()):
            mine = turns % len(values) == number
            drawn[mine] = self._draw(turns[mine] // len(values), members[own == value], (*path, value))
        return drawn


def shuffled(count: int, seed: int, *more: int) -> Tensor:
    """A permutation that depends only on its seeds, int64 of shape ``(count,)``."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed(seed, *more)))
