"""Time the training steps of `medmnist-hf finetune` against a plain loop, with the same network, batches and loss.

Both read made-up pixels with an `ArrayLoader`. Rounds take turns; each trains one epoch after another that is not
counted. The time of a step ends with the begin of the next one in the same epoch, so it includes the next batch, but
neither evaluation nor checkpoints, whose time per epoch is in a column of its own.

On a machine that others use too, compare CPU seconds, those of all threads of this process.

Example:
    python scripts/bench/bench_train.py --repeats 5 --case resnet18:28 --case timm/test_resnet:28
"""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from transformers import TrainerCallback
from transformers.utils.logging import disable_progress_bar

from medmnist_hf import console
from medmnist_hf.console.program import Program
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.loader import ArrayLoader
from medmnist_hf.training.data.recipe_transforms import input_transform, memory_format, train_transform
from medmnist_hf.training.losses import make_loss
from medmnist_hf.training.methods.trainer import RecipeTrainer, training_arguments
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.recipe import Recipe, make_recipe

app = Program(add_completion=False)

CASES: Final = {"resnet18:28": 12, "timm/test_resnet:28": 200, "timm/resnet18:224": 8, "timm/test_resnet:224": 12}
"""Network and size -> steps per epoch: the epochs of the fastest take seconds too, as with real subsets."""
STEPS: Final = 12
"""Steps per epoch of other networks and sizes."""
FLAG: Final = "bloodmnist"
EPOCHS: Final = 2
"""The first one is not counted: memory is allocated and kernels are chosen in it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds per step on the clock and of all cores, and seconds per epoch outside of steps, nan if not measured."""

    step: float
    cpu: float
    outside: float = float("nan")


@dataclass(frozen=True, slots=True)
class Case:
    """What both ways train on."""

    recipe: Recipe
    train: ArrayDataset
    validation: ArrayDataset
    device: torch.device

    def built(self) -> Any:
        """The network of the recipe, with new weights."""
        torch.manual_seed(0)
        return build_model(self.recipe)


class StepClock(TrainerCallback):
    """Notes when each step of each epoch begins."""

    def __init__(self) -> None:
        self.epochs: list[list[tuple[float, float]]] = []

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Begin the next epoch."""
        self.epochs.append([])

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.epochs[-1].append(now())


def now() -> tuple[float, float]:
    """Seconds on the clock, and of all threads."""
    return time.perf_counter(), time.process_time()


def per_step(times: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean seconds from one step to the next."""
    (clock, cpu), (clock_end, cpu_end), steps = times[0], times[-1], len(times) - 1
    return (clock_end - clock) / steps, (cpu_end - cpu) / steps


def ours(case: Case) -> Cost:
    """Train as `medmnist-hf finetune` does."""
    recipe, built, clock = case.recipe, case.built(), StepClock()
    inputs = built.mean, built.std, built.image_size
    built.model.to(memory_format=memory_format(recipe))
    with tempfile.TemporaryDirectory() as folder:
        trainer = RecipeTrainer(
            recipe,
            built.model,
            training_arguments(recipe, Path(folder), 0, case.device),
            loss=make_loss(recipe.resolved_loss, case.train.labels.numpy(), len(recipe.subset.labels)),
            train=case.train,
            validation=case.validation,
            train_transform=train_transform(recipe, *inputs, 0),
            transform=input_transform(recipe, *inputs),
            start=time.monotonic(),
            quiet=True,
        )
        trainer.add_callback(clock)
        start = time.perf_counter()
        trainer.train()
        total = time.perf_counter() - start
    in_steps = sum(per_step(times)[0] * len(times) for times in clock.epochs)
    return Cost(*per_step(clock.epochs[-1]), (total - in_steps) / EPOCHS)


def plain(case: Case) -> Cost:
    """Train as one does by hand."""
    recipe, built = case.recipe, case.built()
    times: list[tuple[float, float]] = []
    loss = make_loss(recipe.resolved_loss, case.train.labels.numpy(), len(recipe.subset.labels))
    transform = train_transform(recipe, built.mean, built.std, built.image_size, 0)
    model = built.model.to(case.device, memory_format=memory_format(recipe)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    loader = ArrayLoader(
        case.train, recipe.batch_size, shuffle=True, transform=transform, device=case.device, join_single=True
    )
    for _ in range(EPOCHS):
        times = []
        for batch in loader:
            times.append(now())
            value = loss(model(pixel_values=batch["pixel_values"]).logits, batch["labels"])
            value.backward()  # type: ignore[no-untyped-call]
            if recipe.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
    if case.device.type == "cuda":
        torch.cuda.synchronize()
    return Cost(*per_step(times))


def case_of(name: str, batch_size: int, steps: int, device: torch.device) -> Case:
    """Made-up images and the recipe of a case named ``MODEL:SIZE``."""
    model, _, size = name.rpartition(":")
    recipe = make_recipe(
        {
            "dataset": FLAG,
            "size": int(size),
            "model": model,
            "pretrained": False,
            "batch_size": batch_size,
            "epochs": EPOCHS,
        }
    )
    rng, entry = np.random.default_rng(0), recipe.subset
    count = batch_size * steps
    images = rng.integers(0, 256, (count, int(size), int(size), 3), np.uint8)
    labels = np.arange(count) % len(entry.labels)
    few = slice(0, 2 * len(entry.labels))
    return Case(recipe, ArrayDataset(images, labels), ArrayDataset(images[few], labels[few]), device)


@app.command(epilog="Example: python scripts/bench/bench_train.py --case resnet18:28")
def main(
    *,
    case: Annotated[list[str] | None, typer.Option(help="Network and size, e.g. resnet18:28; repeatable.")] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Images per batch.")] = 64,
    steps: Annotated[int | None, typer.Option(min=2, help="Steps per epoch. [default: by network and size]")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds.")] = 3,
    device: Annotated[str, typer.Option(help="Device.")] = "cpu",
) -> None:
    """Time training steps of `medmnist-hf finetune` and of a plain loop."""
    heads = ("network", "size", "way", "steps/s, best", "median", "CPU s/step, best", "outside, s/epoch")
    table = console.table(*heads, text=("network", "way"))
    disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in case or CASES:
        made = case_of(name, batch_size, steps or CASES.get(name, STEPS), torch.device(device))
        costs: dict[str, list[Cost]] = {"finetune": [], "plain loop": []}
        for _ in range(repeats):
            for way, train in (("finetune", ours), ("plain loop", plain)):
                costs[way].append(train(made))
        best = {way: (min(c.step for c in rounds), min(c.cpu for c in rounds)) for way, rounds in costs.items()}
        for way, rounds in costs.items():
            outside = min(cost.outside for cost in rounds)
            table.add_row(
                *(made.recipe.model, str(made.recipe.size), way),
                f"{1 / best[way][0]:.2f}",
                f"{1 / median(cost.step for cost in rounds):.2f}",
                f"{best[way][1]:.4f}",
                "" if math.isnan(outside) else f"{outside:.2f}",
            )
        ratios = (best["plain loop"][at] / best["finetune"][at] for at in (0, 1))
        clock, cpu = (f"{ratio:.3f}" for ratio in ratios)
        table.add_row(made.recipe.model, str(made.recipe.size), "finetune / plain", clock, "", cpu, "")
    console.terminal().print(table)


if __name__ == "__main__":
    app()
