"""Measure one way to load batches of a train split, in this process; `bench_load.py` starts it for each figure.

The ways are ``official`` (the ``medmnist`` package and a `DataLoader`), ``plain`` (`load_dataset` and a `DataLoader`)
and ``ours`` (`load_arrays` and an `ArrayLoader`). Prints one JSON object.

Example:
    python scripts/bench/peer_load.py official bloodmnist 28 folder --workers 2
"""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import datasets
import medmnist
import psutil
import torch
import typer
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Normalize, ToTensor  # type: ignore[import-untyped]

import medmnist_hf
from medmnist_hf import console
from medmnist_hf.console.program import Program
from medmnist_hf.training.data.loader import ArrayLoader
from medmnist_hf.training.data.transforms import BatchTransform

app = Program(add_completion=False)

LEAST_EPOCHS = 3
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


def ours(flag: str, size: int, folder: Path, batch_size: int, prefetch: int | None) -> ArrayLoader:
    """Load the build in `folder`/dist with our loader, cached in `folder`/arrays; `prefetch` None is its default."""
    arrays = medmnist_hf.load_arrays(flag, size, "train", root=folder / "dist", cache_dir=folder / "arrays")
    return ArrayLoader(arrays, batch_size, shuffle=True, transform=BatchTransform(), prefetch=prefetch)


def measure(load: Callable[[], Any], seconds: float) -> dict[str, Any]:
    """Load, and run epochs for some seconds.

    Returns:
        ``first_batch`` and ``first_epoch``: seconds from the start of loading. ``epochs``: images per second in each
        later epoch. ``memory``: peak above the imports in bytes, plus the unshared memory of worker processes.
    """
    before, start = _memory("VmRSS"), time.perf_counter()
    loader = load()
    times = [time.perf_counter() - start for _ in loader]
    rows, first_epoch = len(loader.dataset), time.perf_counter() - start
    epochs: list[float] = []
    while len(epochs) < LEAST_EPOCHS or time.perf_counter() - start < first_epoch + seconds:
        epoch_start = time.perf_counter()
        for _ in loader:
            pass
        epochs.append(rows / (time.perf_counter() - epoch_start))
    worker_memory = sum(worker.memory_full_info().uss for worker in psutil.Process().children())
    memory = _memory("VmHWM") - before + worker_memory
    return {"first_batch": times[0], "first_epoch": first_epoch, "epochs": epochs, "memory": memory}


def _memory(field: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (peak) of this process in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():  # macOS only reports the peak, in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


@app.command(epilog="Example: python scripts/bench/peer_load.py official bloodmnist 28 folder --workers 2")
def main(
    way: Annotated[str, typer.Argument(help="official, plain or ours.")],
    flag: Annotated[str, typer.Argument(help="Subset.")],
    size: Annotated[int, typer.Argument(help="Edge length in pixels or voxels.")],
    folder: Annotated[Path, typer.Argument(help="Folder with the NPZ file in root/ and the build in dist/.")],
    batch_size: Annotated[int, typer.Option(min=1)] = 128,
    workers: Annotated[int, typer.Option(min=0, help="Processes of the DataLoader; ignored by ours.")] = 0,
    prefetch: Annotated[int | None, typer.Option(help="Prefetched batches of ours. [default: the loader's]")] = None,
    seconds: Annotated[float, typer.Option(help="Seconds of later epochs, at least three epochs.")] = 2.0,
) -> None:
    """Measure one way and print JSON."""
    datasets.disable_progress_bars()
    if way == "ours":
        figures = measure(lambda: ours(flag, size, folder, batch_size, prefetch), seconds)
    else:
        peer = {"official": official, "plain": plain}[way]
        figures = measure(lambda: peer(flag, size, folder, batch_size, workers), seconds)
    print(json.dumps(figures))


if __name__ == "__main__":
    console.run(app)
