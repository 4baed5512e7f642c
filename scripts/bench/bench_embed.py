"""Time `medmnist-hf embed` against a plain loop over `load_dataset` and against the model alone, in one process.

The ways take turns, and the fastest round of each counts: ``model`` computes batches of random numbers, and so is the
limit of the others; ``plain`` is a `DataLoader` over `load_dataset` with torchvision's transforms; ``ours`` writes a
feature store. ``second method`` is how long the next method waits for all features, read from that store.

On a machine that others use too, compare CPU seconds: those of all threads of this process, without the processes of a
loader.

Example:
    python scripts/bench/bench_embed.py breastmnist --root dist --size 28 --image-size 224 --repeats 3
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import datasets
import torch
import typer
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize, ToTensor  # type: ignore[import-untyped]

import medmnist_hf
from medmnist_hf import console
from medmnist_hf.catalog import SPLITS
from medmnist_hf.console.program import Program
from medmnist_hf.data.configs import open_config
from medmnist_hf.training.data.loader import run_in_threads, run_serially
from medmnist_hf.training.embedding.extractor import Extractor
from medmnist_hf.training.embedding.store import FeatureJob
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.heads import pooled_features
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.running import process_state

app = Program(add_completion=False)


class Cost(NamedTuple):
    """Seconds on the clock, and of all cores."""

    seconds: float
    cpu: float


def model_alone(built: Built, batch: Tensor, batches: int, device: torch.device, cores: int) -> Cost:
    """Cost of batches of random numbers, with all cores on each batch or, if that is faster, one core on each."""

    @torch.inference_mode()
    def compute(_: int) -> None:
        pooled_features(built.model, batch).cpu()

    together = _cost(lambda: [compute(number) for number in range(batches)])
    if device.type != "cpu":
        return together
    made = run_in_threads(compute, range(batches), cores) if cores > 1 else run_serially(compute, range(batches))
    return min(together, _cost(lambda: list(made)))


def plain(built: Built, folder: Path, size: int, device: torch.device, batch_size: int, workers: int) -> None:
    """Compute the features of all splits in the obvious way."""
    steps = [
        Resize((built.image_size, built.image_size), InterpolationMode.BILINEAR, antialias=True),
        ToTensor(),
        Normalize(built.mean, built.std),
    ]
    transform = Compose(steps)

    def read(rows: dict[str, Any]) -> dict[str, Any]:
        return {"pixel_values": [transform(image.convert("RGB")) for image in rows["image"]], "label": rows["label"]}

    for split in SPLITS:
        rows = datasets.load_dataset(str(folder), str(size), split=split).with_transform(read)
        with torch.inference_mode():
            for batch in DataLoader(rows, batch_size, num_workers=workers):
                pooled_features(built.model, batch["pixel_values"].to(device)).cpu()


@app.command(epilog="Example: python scripts/bench/bench_embed.py breastmnist --root dist --image-size 224")
def main(
    flag: Annotated[str, typer.Argument(metavar="SUBSET", help="A 2D subset.")],
    root: Annotated[Path, typer.Option(help="Folder of builds.")] = Path("dist"),
    size: Annotated[int, typer.Option(help="Size of the images.")] = 28,
    image_size: Annotated[int, typer.Option(help="Size of the model's input.")] = 224,
    model: Annotated[str, typer.Option(help="Model.")] = "timm/tf_efficientnet_lite0",
    checkpoint: Annotated[Path | None, typer.Option(help="Weights; the speed does not depend on them.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images per batch of the plain loop, and of ours on a GPU.")] = 32,
    loader_workers: Annotated[int, typer.Option(help="Processes of the plain loader.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 3,
) -> None:
    """Print images per second of each way, and ratios."""
    recipe = make_recipe(
        {
            "dataset": flag,
            "root": str(root),
            "size": size,
            "model": model,
            "pretrained": False,
            "checkpoint": None if checkpoint is None else str(checkpoint),
            "image_size": image_size,
            "batch_size": batch_size,
            "method": "knn",
        }
    )
    config = open_config(flag, size, root)
    built, at = build_model(recipe), process_state(device).device
    extractor = Extractor(recipe, built, at)
    count = sum(record.rows for record in config.manifest.splits.values())
    batch = torch.randn(extractor.rows, recipe.input_channels, image_size, image_size, device=at)
    batch = batch.to(memory_format=torch.channels_last)
    batches, cores = -(-count // extractor.rows), torch.get_num_threads()
    best: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory() as folder:
        stores = Path(folder, "features")
        job = FeatureJob(recipe, built, config, stores)
        for _ in range(repeats):
            shutil.rmtree(stores, ignore_errors=True)
            rounds = {
                "model": model_alone(built, batch, batches, at, cores),
                "plain": _cost(lambda: plain(built, root / flag, size, at, batch_size, loader_workers)),
                "ours": _cost(lambda: job.make(extractor)),
                "second method": _cost(
                    lambda: [
                        medmnist_hf.load_features(flag, size, split, stores, model=model, data=root / flag)
                        for split in SPLITS
                    ]
                ),
            }
            share = count / (batches * extractor.rows)  # the last batch of random numbers is whole
            rounds["model"] = Cost(*(value * share for value in rounds["model"]))
            for name, cost in rounds.items():
                best[name] = Cost(*map(min, cost, best.get(name, cost)))
    table = console.table("way", "seconds", "images/s", "CPU seconds", text=("way",))
    for name, cost in best.items():
        table.add_row(name, f"{cost.seconds:.3f}", f"{count / cost.seconds:,.0f}", f"{cost.cpu:.3f}")
    terminal = console.terminal()
    terminal.print(f"{count:,} images of {flag} {size} to {image_size} pixels, {model}, {at}, {cores} cores")
    terminal.print(table)
    for what, index in (("on the clock", 0), ("in CPU seconds", 1)):
        alone_s, plain_s, ours_s, second_s = (cost[index] for cost in best.values())
        terminal.print(
            f"{what}: {plain_s / ours_s:.2f} times as fast as plain, {alone_s / ours_s:.3f} of the speed of the model "
            f"alone; the second method {ours_s / second_s:,.0f} times as fast as computing anew"
        )


def _cost(run: Callable[[], Any]) -> Cost:
    start, cpu = time.perf_counter(), time.process_time()
    run()
    return Cost(time.perf_counter() - start, time.process_time() - cpu)


if __name__ == "__main__":
    console.run(app)
