"""Measure one way to load batches of a train split, in this process; `bench_load.py` starts it for each figure.

Every way shuffles and returns normalized float32 batches. Ways that need arrays read the official NPZ file first.

- ``official``: the ``medmnist`` package and a `DataLoader`;
- ``plain``: `load_dataset` and a `DataLoader`;
- ``tensors``: a `DataLoader` over a `TensorDataset`;
- ``randperm``: the rows of a new permutation, in five lines of torch;
- ``tf``: row numbers of `tf.data`, then one gather per batch;
- ``grain``: row numbers of a grain data set, then one gather per batch;
- ``spdl``: batches of row numbers, gathered in the threads of an SPDL pipeline;
- ``ours``: `load_arrays` and an `ArrayLoader`;
- ``device``: `load_arrays` and a `DeviceLoader`.

``official`` and ``plain`` return batches whose memory has the channels first, like ``--channels-first`` of ours; the
others leave channels last, as pixels are stored and as convolutions want them. The shape is the same but for ``tf``.

Prints one JSON object.

Example:
    python scripts/bench/peer_load.py official bloodmnist 28 folder --workers 2
"""

import json
import resource
import time
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any

import datasets
import medmnist
import numpy as np
import psutil
import torch
import typer
from numpy.typing import NDArray
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import Compose, Normalize, ToTensor  # type: ignore[import-untyped]

import medmnist_hf
from medmnist_hf import console
from medmnist_hf.console.program import Program
from medmnist_hf.training.data.loader import ArrayLoader, DeviceLoader
from medmnist_hf.training.data.transforms import BatchTransform

app = Program(add_completion=False)

LEAST_EPOCHS = 3
WAYS = ("official", "plain", "tensors", "randperm", "tf", "grain", "spdl", "ours", "device")

OUR_MODULES = ("medmnist_hf.loading.load", "medmnist_hf.data.rows")
MODULES = {
    "tf": ("tensorflow",),
    "grain": ("grain",),
    "spdl": ("spdl.pipeline",),
    "ours": OUR_MODULES,
    "device": OUR_MODULES,
}
"""Way -> what it imports only when it is used, and here before the clock starts."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a way; each uses some of them."""

    batch_size: int
    workers: int
    prefetch: int | None
    channels_last: bool
    threads: int


NORMALIZED = Compose([ToTensor(), Normalize([0.5], [0.5])])


def official(flag: str, size: int, folder: Path, batch_size: int, workers: int) -> DataLoader[Any]:
    """Load `folder`/root with the official package; it returns volumes as float64 from 0 to 1."""
    volumes = medmnist.INFO[flag]["python_class"].endswith("3D")
    official_class = getattr(medmnist, medmnist.INFO[flag]["python_class"])
    data = official_class(split="train", root=folder / "root", size=size, transform=None if volumes else NORMALIZED)
    # Its `__len__` checks the number of rows of the real subset, which a phantom may not have.
    data.info["n_samples"]["train"] = len(data.imgs)
    return _loader(data, batch_size, workers)


def plain(flag: str, size: int, folder: Path, batch_size: int, workers: int) -> DataLoader[Any]:
    """Load the build in `folder`/dist in the obvious way: with a transform for images, a torch format for volumes."""
    rows = datasets.load_dataset(str(folder / "dist" / flag), str(size), split="train")
    if isinstance(rows.features["image"], datasets.Image):
        return _loader(rows.with_transform(_images), batch_size, workers)
    return _loader(rows.with_format("torch", dtype=torch.uint8), batch_size, workers, collate_fn=_volumes)


def _loader(data: Any, batch_size: int, workers: int, **options: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0, **options)


def _images(rows: dict[str, Any]) -> dict[str, Any]:
    return {"pixel_values": [NORMALIZED(image) for image in rows["image"]], "labels": rows["label"]}


def _volumes(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    voxels = torch.stack([sample["image"] for sample in samples]).unsqueeze(1)
    labels = torch.stack([sample["label"] for sample in samples]).long()
    return {"pixel_values": voxels.float().div_(255).sub_(0.5).div_(0.5), "labels": labels}


def ours(flag: str, size: int, folder: Path, options: Options, *, on_device: bool) -> ArrayLoader:
    """Load the build in `folder`/dist with our loader, cached in `folder`/arrays; `prefetch` None is its default."""
    arrays = medmnist_hf.load_arrays(flag, size, "train", root=folder / "dist", cache_dir=folder / "arrays")
    transform = BatchTransform(channels_last=options.channels_last)
    if on_device:
        return DeviceLoader(arrays, options.batch_size, shuffle=True, transform=transform)
    return ArrayLoader(arrays, options.batch_size, shuffle=True, transform=transform, prefetch=options.prefetch)


class Epochs:
    """A loader of a number of rows, whose epochs are made by a function."""

    def __init__(self, dataset: Sized, make: Callable[[], Iterator[Any]]) -> None:
        self.dataset, self.make = dataset, make

    def __iter__(self) -> Iterator[Any]:
        return self.make()


def stored(flag: str, size: int, folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images and class ids of the official file in `folder`/root."""
    with np.load(folder / "root" / medmnist_hf.subset(flag).file(size).name) as file:
        return file["train_images"], file["train_labels"][:, 0].astype(np.int64)


def _normalized(images: torch.Tensor) -> torch.Tensor:
    images = images.unsqueeze(1) if images.shape[-1] != 3 else images.movedim(-1, 1)
    return images.float().div_(255).sub_(0.5).div_(0.5)


def tensors(images: NDArray[np.uint8], labels: NDArray[np.int64], batch_size: int, workers: int) -> Any:
    """A `DataLoader` over a `TensorDataset`, normalized batch by batch."""
    data = TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    loader = _loader(data, batch_size, workers)
    return Epochs(labels, lambda: ((_normalized(batch), ids) for batch, ids in loader))


def randperm(images: NDArray[np.uint8], labels: NDArray[np.int64], batch_size: int) -> Any:
    """The rows of a new permutation, batch by batch."""
    data, ids = torch.from_numpy(images), torch.from_numpy(labels)
    return Epochs(
        ids,
        lambda: ((_normalized(data[rows]), ids[rows]) for rows in torch.split(torch.randperm(len(ids)), batch_size)),
    )


def tf(images: NDArray[np.uint8], labels: NDArray[np.int64], batch_size: int, threads: int) -> Any:
    """`tf.data` on row numbers, which gathers a batch at a time."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    with tf.device("cpu"):
        data, ids = tf.constant(images), tf.constant(labels)

    def read(rows: Any) -> Any:
        return (tf.cast(tf.gather(data, rows), tf.float32) / 255 - 0.5) / 0.5, tf.gather(ids, rows)

    rows = tf.data.Dataset.range(len(labels)).shuffle(len(labels)).batch(batch_size)
    return Epochs(labels, lambda: iter(rows.map(read, num_parallel_calls=threads).prefetch(2)))


def _gathered(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Callable[[Any], Any]:
    return lambda rows: (_normalized(torch.from_numpy(images[rows])), torch.from_numpy(labels[rows]))


def with_grain(images: NDArray[np.uint8], labels: NDArray[np.int64], batch_size: int, threads: int) -> Any:
    """A grain data set of row numbers, which gathers a batch at a time."""
    import grain  # type: ignore[import-not-found,unused-ignore]

    rows = grain.MapDataset.range(len(labels)).shuffle(seed=0).batch(batch_size).map(_gathered(images, labels))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return Epochs(labels, lambda: iter(rows.to_iter_dataset(options)))


def with_spdl(images: NDArray[np.uint8], labels: NDArray[np.int64], batch_size: int, threads: int) -> Any:
    """An SPDL pipeline that gathers batches in threads."""
    from spdl.pipeline import PipelineBuilder  # type: ignore[import-not-found,unused-ignore]

    gather = _gathered(images, labels)

    def epoch() -> Iterator[Any]:
        rows = np.random.permutation(len(labels))
        batches = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
        pipeline = (
            PipelineBuilder()
            .add_source(batches)
            .pipe(gather, concurrency=threads)
            .add_sink(2)
            .build(num_threads=threads)
        )
        with pipeline.auto_stop():
            yield from pipeline

    return Epochs(labels, epoch)


def load(way: str, flag: str, size: int, folder: Path, options: Options) -> Any:
    """A loader of one way."""
    if way in {"official", "plain"}:
        return {"official": official, "plain": plain}[way](flag, size, folder, options.batch_size, options.workers)
    if way in {"ours", "device"}:
        return ours(flag, size, folder, options, on_device=way == "device")
    arrays = stored(flag, size, folder)
    if way == "tensors":
        return tensors(*arrays, options.batch_size, options.workers)
    if way == "randperm":
        return randperm(*arrays, options.batch_size)
    return {"tf": tf, "grain": with_grain, "spdl": with_spdl}[way](*arrays, options.batch_size, options.threads)


def measure(make: Callable[[], Any], seconds: float) -> dict[str, Any]:
    """Load, and run epochs for some seconds.

    Returns:
        ``first_batch`` and ``first_epoch``: seconds from the start of loading. ``epochs``: images per second in each
        later epoch. ``cpu``: seconds of all cores per 1,000 images of later epochs, workers included. ``memory``: peak
        above the imports in bytes; with workers that of all processes in one more epoch, if it is higher.
    """
    before, shared_before, start = _memory("VmRSS"), _shared_memory(), time.perf_counter()
    loader = make()
    times = [time.perf_counter() - start for _ in loader]
    rows, first_epoch = len(loader.dataset), time.perf_counter() - start
    epochs: list[float] = []
    cpu = _cpu_seconds()
    while len(epochs) < LEAST_EPOCHS or time.perf_counter() - start < first_epoch + seconds:
        epoch_start = time.perf_counter()
        for _ in loader:
            pass
        epochs.append(rows / (time.perf_counter() - epoch_start))
    cpu = (_cpu_seconds() - cpu) / len(epochs) / rows * 1000
    memory = _memory("VmHWM") - before
    if psutil.Process().children():
        memory = max(memory, _peak_of_all(loader) - shared_before)
    return {"first_batch": times[0], "first_epoch": first_epoch, "epochs": epochs, "cpu": cpu, "memory": memory}


def _cpu_seconds() -> float:
    """CPU time of this process and of its running workers."""
    workers = (worker.cpu_times() for worker in psutil.Process().children())
    return time.process_time() + float(sum(times.user + times.system for times in workers))


def _peak_of_all(loader: Any) -> int:
    """Peak of `_shared_memory` within an epoch."""
    peak, ended = 0, Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.02):
            peak = max(peak, _shared_memory())

    watcher = Thread(target=watch)
    watcher.start()
    for _ in loader:
        pass
    ended.set()
    watcher.join()
    return peak


def _shared_memory() -> int:
    """Memory of this process and its workers in bytes; what they share counts once (PSS)."""
    own = psutil.Process()
    infos = (process.memory_full_info() for process in (own, *own.children()))
    return sum(getattr(info, "pss", info.uss) for info in infos)  # macOS does not report it


def _memory(field: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (peak) of this process in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():  # macOS only reports the peak, in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


@app.command(epilog="Example: python scripts/bench/peer_load.py official bloodmnist 28 folder --workers 2")
def main(
    way: Annotated[str, typer.Argument(help=f"One of {', '.join(WAYS)}.")],
    flag: Annotated[str, typer.Argument(help="Subset.")],
    size: Annotated[int, typer.Argument(help="Edge length in pixels or voxels.")],
    folder: Annotated[Path, typer.Argument(help="Folder with the NPZ file in root/ and the build in dist/.")],
    batch_size: Annotated[int, typer.Option(min=1)] = 128,
    workers: Annotated[int, typer.Option(min=0, help="Processes of a DataLoader; ignored by others.")] = 0,
    prefetch: Annotated[int | None, typer.Option(help="Prefetched batches of ours. [default: the loader's]")] = None,
    channels_first: Annotated[bool, typer.Option(help="Channels first in memory, not last; for ours.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch and of pipelines.")] = 2,
    seconds: Annotated[float, typer.Option(help="Seconds of later epochs, at least three epochs.")] = 2.0,
) -> None:
    """Measure one way and print JSON."""
    datasets.disable_progress_bars()
    torch.set_num_threads(threads)
    for name in MODULES.get(way, ()):
        import_module(name)
    medmnist_hf.subset(flag)  # the catalog is read here, as the official package reads its own when it is imported
    options = Options(batch_size, workers, prefetch, not channels_first, threads)
    print(json.dumps(measure(lambda: load(way, flag, size, folder, options), seconds)))


if __name__ == "__main__":
    console.run(app)
