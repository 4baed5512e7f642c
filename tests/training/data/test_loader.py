"""`medmnist_hf.training.data.loader`: the order of samples, equal batches from any loader, and no leftover threads."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator, skip_first_batches  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2  # type: ignore[import-untyped]
from transformers import Trainer, TrainingArguments

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data.augment import ColorJitter, Crop, Flip, Rotation
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.loader import ArrayLoader, run_in_threads, run_serially
from medmnist_hf.training.data.order import EpochBatches
from medmnist_hf.training.data.transforms import BatchTransform
from tests.fixtures.paths import ROOT

SAMPLES, BATCH = 50, 8
AUGMENT = BatchTransform(augment=[Flip(), Crop(3), Rotation(20), ColorJitter(0.3, 0.3)], seed=5)


def data(samples: int = SAMPLES) -> ArrayDataset:
    images = np.random.default_rng(0).integers(0, 256, (samples, 12, 12, 3), dtype=np.uint8)
    return ArrayDataset(images, np.arange(samples) % 5)


def loader(**options: Any) -> ArrayLoader:
    defaults: dict[str, Any] = {"shuffle": True, "seed": 1, "transform": AUGMENT, "prefetch": 2}
    return ArrayLoader(data(), BATCH, **defaults | options)


def plain(**options: Any) -> ArrayLoader:
    return loader(transform=None, **options)


def order(batches: Any) -> list[int]:
    return [index for batch in batches for index in batch["indices"].tolist()]


def assert_same(batches: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    assert len(batches) == len(expected)
    for batch, reference in zip(batches, expected, strict=True):
        assert batch.keys() == reference.keys()
        assert all(torch.equal(batch[name], reference[name]) for name in batch)


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("medmnist-hf-prefetch")]


# --- order


def test_each_epoch_has_its_own_order_of_all_samples() -> None:
    batches, others = plain(), plain()
    first, second = order(batches), order(batches)
    assert sorted(first) == sorted(second) == list(range(SAMPLES))
    assert len({tuple(first), tuple(second), tuple(range(SAMPLES)), tuple(order(plain(seed=2)))}) == 4
    assert [order(others), order(others)] == [first, second]
    others.set_epoch(0)
    assert order(others) == first


def test_without_shuffling_the_order_is_that_of_the_data() -> None:
    batches = plain(shuffle=False)
    assert order(batches) == order(batches) == list(range(SAMPLES))


def test_an_interrupted_iteration_counts_as_an_epoch() -> None:
    interrupted, complete = plain(), plain()
    next(iter(interrupted))
    order(complete)
    assert order(interrupted) == order(complete)


@pytest.mark.parametrize("given", [np.zeros((4, 2, 2), np.uint8), [1, 2], (1, 2, 3)])
def test_what_is_not_images_and_labels_is_one_line(given: Any) -> None:
    with pytest.raises(TrainingError, match=f"a loader takes an ArrayDataset, .* not {type(given).__name__}"):
        ArrayLoader(given, 2)


def test_lengths() -> None:
    assert [len(batch["labels"]) for batch in plain()] == [8, 8, 8, 8, 8, 8, 2]
    assert [len(batch["labels"]) for batch in plain(drop_last=True)] == [8] * 6
    assert (len(plain()), len(plain(drop_last=True))) == (7, 6)


@pytest.mark.parametrize("world", [2, 3, 7])
def test_ranks_get_disjoint_samples_that_cover_the_data(world: int) -> None:
    shares = [order(plain(rank=rank, world_size=world, prefetch=0)) for rank in range(world)]
    whole = order(plain())
    assert {len(share) for share in shares} == {-(-SAMPLES // world)}
    drawn = [index for step in zip(*shares, strict=True) for index in step]
    assert drawn[:SAMPLES] == whole
    assert drawn[SAMPLES:] == whole[: len(drawn) - SAMPLES]


# --- the same batches from any loader


@pytest.mark.parametrize("prefetch", [0, 1, 2, 5])
def test_batches_do_not_depend_on_prefetching(prefetch: int) -> None:
    batches, reference = loader(prefetch=prefetch), loader(prefetch=2)
    for _ in range(2):
        assert_same(list(batches), list(reference))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_torchs_loader_gives_the_same_batches_with_any_number_of_workers(workers: int) -> None:
    sampler = EpochBatches(SAMPLES, BATCH, shuffle=True, seed=1)
    torch_loader = DataLoader(
        data(), batch_sampler=sampler, collate_fn=AUGMENT, num_workers=workers, persistent_workers=bool(workers)
    )
    array_loader = loader()
    epochs = [list(array_loader) for _ in range(2)]
    for epoch in epochs:
        assert_same(list(torch_loader), epoch)
    assert not torch.equal(epochs[0][0]["pixel_values"], epochs[1][0]["pixel_values"])


def test_augmentation_differs_by_epoch_even_in_a_fixed_order() -> None:
    batches = loader(shuffle=False)
    first, second = list(batches), list(batches)
    assert torch.equal(first[0]["labels"], second[0]["labels"])
    assert not torch.equal(first[0]["pixel_values"], second[0]["pixel_values"])


def test_transforms_with_the_global_generator_give_the_same_batches() -> None:
    transform = BatchTransform(augment=[v2.RandomRotation(30), Crop(2)])
    reference = list(loader(transform=transform, prefetch=0))
    noise: list[Tensor] = []
    torch.manual_seed(0)
    batches = []
    for batch in loader(transform=transform):
        batches.append(batch)
        noise.append(torch.rand(1))  # as dropout in a model would draw
    assert_same(batches, reference)
    torch.manual_seed(0)
    assert torch.equal(torch.cat(noise), torch.cat([torch.rand(1) for _ in noise]))


def test_batches_on_another_device_have_the_same_shapes() -> None:
    """The meta device takes the code path of accelerators: gather in threads, copy and transform in the caller."""
    on_device = list(loader(device="meta"))
    for batch, reference in zip(on_device, loader(), strict=True):
        assert batch["pixel_values"].device.type == "meta"
        assert batch["pixel_values"].shape == reference["pixel_values"].shape


# --- resuming


@pytest.mark.parametrize("taken", [0, 1, 4, 7])
@pytest.mark.parametrize("prefetch", [0, 3])
def test_a_resumed_loader_gives_the_rest_of_the_epoch(taken: int, prefetch: int) -> None:
    whole = loader()
    whole.set_epoch(3)
    epochs = [list(whole), list(whole)]
    interrupted = loader(prefetch=prefetch)
    interrupted.set_epoch(3)
    batches = iter(interrupted)
    first_part = list(islice(batches, taken))
    state = json.loads(json.dumps(interrupted.state_dict()))
    assert (state["epoch"], state["batch"]) == (3, taken)
    next(batches, None)
    resumed = loader(prefetch=prefetch)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    resumed.set_epoch(3)  # as training loops do at the start of each epoch
    assert_same([*first_part, *resumed], epochs[0])
    assert_same(list(resumed), epochs[1])


def test_the_state_between_epochs_is_the_start_of_the_next_epoch() -> None:
    batches = loader()
    assert batches.state_dict()["epoch"] == 0
    list(batches)
    assert (batches.state_dict()["epoch"], batches.state_dict()["batch"]) == (1, 0)
    next(iter(batches))
    assert (batches.state_dict()["epoch"], batches.state_dict()["batch"]) == (1, 1)
    batches.set_epoch(7)
    assert (batches.state_dict()["epoch"], batches.state_dict()["batch"]) == (7, 0)


@pytest.mark.parametrize(
    "options", [{"seed": 2}, {"shuffle": False}, {"drop_last": True}, {"join_single": True}, {"world_size": 2}]
)
def test_a_state_of_another_order_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(TrainingError, match=f"cannot resume: {name} was"):
        loader(**options).load_state_dict(loader().state_dict())
    with pytest.raises(TrainingError, match=r"the state of a loader has samples, .* not epoch"):
        loader().load_state_dict({"epoch": 1})


# --- threads


@pytest.fixture(autouse=True)
def no_leftover_threads() -> Iterator[None]:
    cores = torch.get_num_threads()
    yield
    assert not prefetch_threads()
    assert torch.get_num_threads() == cores


def test_leaving_the_loop_ends_the_threads() -> None:
    for batch in loader():
        assert prefetch_threads()
        del batch
        break
    assert not prefetch_threads()


def test_without_prefetch_there_is_no_thread() -> None:
    for _ in loader(prefetch=0):
        assert not prefetch_threads()


@pytest.mark.parametrize(
    ("side", "transform", "batch_size", "threads"),
    [
        (28, None, 128, 0),
        (28, BatchTransform(size=128), 128, 2),
        (28, BatchTransform(channels=3), 500, 2),
        (28, BatchTransform(size=16), 1024, 0),
        (64, None, 256, 0),
        (64, None, 257, 2),
    ],
)
def test_small_batches_are_made_without_threads(
    side: int, transform: BatchTransform | None, batch_size: int, threads: int
) -> None:
    arrays = np.zeros((600, side, side), np.uint8), np.zeros(600, np.int64)
    batches = ArrayLoader(arrays, batch_size, transform=transform)
    assert batches.prefetch == (2 if torch.accelerator.is_available() else threads)
    for _ in batches:
        assert bool(prefetch_threads()) == bool(batches.prefetch)


def test_the_size_of_volumes_counts_all_axes() -> None:
    """Two volumes of 80 x 80 x 80 are too small for threads, three are not."""
    arrays = np.zeros((3, 80, 80, 80), np.uint8), np.zeros(3, np.int64)
    if not torch.accelerator.is_available():
        assert [ArrayLoader(arrays, size).prefetch for size in (1, 2, 3)] == [0, 0, 2]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_batch_is_made_on_one_core(prefetch: int) -> None:
    seen: list[int] = []

    class Watching(Flip):
        def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
            seen.append(torch.get_num_threads())
            return images

    cores = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for _ in loader(transform=BatchTransform(augment=[Watching()]), prefetch=prefetch):
            assert torch.get_num_threads() == 3, "the caller keeps all cores"
    finally:
        torch.set_num_threads(cores)
    assert seen == [1] * 7


def test_an_exception_without_threads_restores_the_number_of_cores() -> None:
    cores = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(ZeroDivisionError):
            list(run_serially(failing(2), range(5)))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(cores)


def test_new_threads_start_with_all_cores_after_an_epoch() -> None:
    cores = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        list(loader())
        seen = [torch.get_num_threads()]
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    finally:
        torch.set_num_threads(cores)
    assert seen == [3, 3]


def failing(fail_at: int) -> Callable[[int], int]:
    def make_or_fail(item: int) -> int:
        if item == fail_at:
            raise ZeroDivisionError(f"item {item}")
        return item

    return make_or_fail


def test_an_exception_is_raised_in_order_and_with_its_traceback() -> None:
    seen = []
    with pytest.raises(ZeroDivisionError, match="item 5") as caught:
        for item in run_in_threads(failing(5), range(10), 3):
            seen.append(item)
    assert seen == [0, 1, 2, 3, 4]
    assert "make_or_fail" in "".join(traceback.format_exception(caught.value))
    assert not prefetch_threads()


def test_errors_of_a_transform_reach_the_loop() -> None:
    with pytest.raises(TrainingError, match="mean is"):
        list(loader(transform=BatchTransform(mean=(0.5, 0.5))))


def test_the_number_of_items_made_ahead_is_limited() -> None:
    made: list[int] = []
    both = threading.Barrier(2, timeout=30)

    def make(item: int) -> int:
        if item in {1, 2}:
            both.wait()  # fails unless two items are made at the same time
        made.append(item)
        return item

    items = run_in_threads(make, range(10), 2)
    assert next(items) == 0
    deadline = time.monotonic() + 30
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(made) == [0, 1, 2], "made ahead while the caller is busy"
    time.sleep(0.1)
    assert sorted(made) == [0, 1, 2], "at most two results wait for the caller"
    assert list(items) == list(range(1, 10))


def test_a_batch_is_freed_before_waiting_for_the_next() -> None:
    freed = threading.Event()

    def make(item: int) -> Tensor:
        if item == 1:
            assert freed.wait(30), "the first batch is alive while the second is made"
        return torch.zeros(3)

    items = run_in_threads(make, range(2), 1)
    weakref.finalize(next(items), freed.set)
    assert len(list(items)) == 1


def test_an_exception_in_the_callers_thread_ends_the_threads() -> None:
    def fail(images: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        list(loader(transform=BatchTransform(augment=[fail])))
    assert not prefetch_threads(), "even while the traceback keeps the frames alive"
    del caught


# --- training loops that use a loader


class Tiny(nn.Module):
    """A linear model with the interface of `transformers` image classifiers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3 * 12 * 12, 5)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.head(pixel_values.flatten(1))
        return (
            {"logits": logits}
            if labels is None
            else {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
        )


def test_a_plain_training_loop_learns() -> None:
    model, losses = Tiny(), []
    optimizer = torch.optim.SGD(model.parameters(), 0.005)
    batches = loader(transform=BatchTransform())
    for _ in range(15):
        for batch in batches:
            loss = model(**batch)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert np.mean(losses[-7:]) < 0.5 * np.mean(losses[:7])


@pytest.mark.parametrize("workers", [0, 2])
def test_trainer_works_with_the_data_set_and_the_transform(tmp_path: Path, workers: int) -> None:
    """With the defaults of `Trainer`, which include removing unused columns."""
    arguments = TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=16,
        num_train_epochs=10,
        learning_rate=0.01,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=bool(workers),
        report_to="none",
        save_strategy="no",
        logging_strategy="epoch",
        disable_tqdm=True,
        use_cpu=True,
    )
    model, train = Tiny(), data()
    trainer = Trainer(model, arguments, data_collator=BatchTransform(), train_dataset=train, eval_dataset=train)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
    predicted = trainer.predict(train)
    assert predicted.label_ids.tolist() == train.labels.tolist()  # type: ignore[union-attr]
    with torch.no_grad():
        logits = model(BatchTransform()(train.gather(range(SAMPLES)))["pixel_values"])["logits"]
    np.testing.assert_allclose(predicted.predictions, logits, atol=1e-5)


def test_trainer_resumes_with_the_array_loader(tmp_path: Path) -> None:
    """A trainer that is stopped in the second epoch and resumed ends with the same weights."""

    class ArrayTrainer(Trainer):
        def get_train_dataloader(self) -> DataLoader[Any]:
            return loader()

    def run(folder: Path, **options: Any) -> Trainer:
        arguments = TrainingArguments(
            str(folder), num_train_epochs=3, learning_rate=0.01, report_to="none", save_steps=10, disable_tqdm=True,
            use_cpu=True, logging_strategy="no",
        )  # fmt: skip
        trainer = ArrayTrainer(Tiny(), arguments, train_dataset=data())
        trainer.train(**options)
        return trainer

    whole = run(tmp_path).model
    resumed = run(tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-10")).model
    assert isinstance(whole, nn.Module)
    assert isinstance(resumed, nn.Module)
    assert torch.equal(whole.head.weight, resumed.head.weight)  # type: ignore[union-attr,arg-type]


def test_accelerate_prepares_the_loader() -> None:
    prepared = Accelerator(cpu=True).prepare(loader())
    reference = loader()
    epochs = [list(reference) for _ in range(2)]
    for epoch in epochs:
        assert_same(list(prepared), epoch)
    prepared.set_epoch(1)
    skipped = skip_first_batches(prepared, 3)
    assert_same(list(skipped), epochs[1][3:])


@pytest.mark.slow
def test_two_processes_share_an_epoch() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = ROOT
    common = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "LOCAL_WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.fixtures.ranks"],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    ranks = json.loads(outputs[0][0].splitlines()[-1])
    for kind in ("own", "prepared"):
        for epoch in range(2):
            shares = [[index for batch in rank[kind][epoch] for index in batch] for rank in ranks]
            assert set(shares[0]) | set(shares[1]) == set(range(37))
            # Samples in both shares fill the last batches, and are repeated from the start of the epoch.
            assert len(set(shares[0]) & set(shares[1])) <= (1 if kind == "own" else 3)
            assert len({len(rank[kind][epoch]) for rank in ranks}) == 1
        assert ranks[0][kind][0] != ranks[0][kind][1]
    assert [rank["again"] for rank in ranks] == [rank["prepared"][0] for rank in ranks]


# --- errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ArrayLoader(data(), 0), "50 samples in batches of 0"),
        (lambda: loader(prefetch=-1), "prefetch is -1"),
        (lambda: loader(rank=2, world_size=2), "rank is 2 of 2: must be in 0..1"),
        (lambda: loader(world_size=0), "for 0 ranks"),
        (lambda: ArrayLoader(data(), 51, drop_last=True), "50 samples per rank do not fill a batch of 51"),
        (lambda: loader(device="gpu"), "unknown device gpu"),
        (lambda: loader(device="xpu:7"), "device xpu:7 is not available"),
        (lambda: ArrayLoader((np.zeros((3, 4, 4)), np.zeros(3, int)), 2), "images are float64"),  # type: ignore[arg-type]
    ],
)
def test_invalid_arguments_are_one_line_errors(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
