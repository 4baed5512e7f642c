"""Try a small network of every family of timm and transformers, and report what works, what is refused, and why.

Each network is built from a recipe, with random weights and few blocks where possible. Outputs that are compared must
be equal. Unequal outputs, errors other than a refusal in one line, and timeouts are faults. The steps:

- For RGB and gray images of 28, 64, 128 and 224 pixels: build the network and check that gradients reach every pixel,
  or note the refusal. Then train a step on two images, save and load, explain, add LoRA, train again and merge.
- For timm networks whose smallest RGB size is at most 32: build the network for volumes (2.5D) at that size.
"""

import contextlib
import faulthandler
import json
import math
import os
import re
import resource
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Final
from unittest.mock import patch

import typer

from medmnist_hf import console
from medmnist_hf.console.program import Program

app = Program(add_completion=False)

SIZES: Final = (28, 64, 128, 224)

KINDS: Final[dict[str, int]] = {"RGB": 3, "gray": 1}
"""Kind of images -> number of channels."""

DEEP: Final = 20e6
"""Number of parameters from which networks with stages are built with two blocks per stage."""

SECONDS: Final = 240
"""Processor time per network; a network that takes longer is a fault."""

BEGIN, END = "<!-- begin of the table -->\n", "<!-- end of the table -->\n"
"""Comments that enclose the table in its page."""

NETWORKS: Final = Path(__file__).with_name("sweep_networks.txt")
"""Names of timm networks, one per line: at least one of each timm module that has networks."""

BACKBONES: Final = ("vit_mae", "clip_vision_model")
"""Model types of transformers that read images and get a classification head from this project."""


@dataclass(slots=True)
class Outcome:
    """Results of one network.

    Attributes:
        name: Name of the network in a recipe.
        works: Cell that the network reads, such as ``RGB 28`` or ``gray 224`` -> method of its explanation maps,
            ``Grad-CAM`` or ``occlusion``; empty if maps were refused.
        gray: Cell of gray images -> how the network was saved: ``spread`` over three channels, or ``as it is``.
        refused: Refused step -> the refusal. A step is a cell; a cell with ``LoRA``, ``maps``, ``training`` or
            ``saving``; or ``volumes``.
        faults: All other failures; there should be none.
    """

    name: str
    works: dict[str, str] = field(default_factory=dict)
    gray: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def cells(sizes: Sequence[int] = SIZES) -> list[str]:
    """Cells that each network is tried on: gray and RGB images of each size."""
    return [f"{kind} {size}" for size in sizes for kind in KINDS]


def members() -> list[str]:
    """Networks of the sweep: timm networks as ``timm/NAME``, and model types of transformers."""
    return [f"timm/{name}" for name in timm_networks()] + model_types()


def timm_networks() -> list[str]:
    """Names of timm networks in the file `NETWORKS`."""
    return [line for line in NETWORKS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def model_types() -> list[str]:
    """Model types of transformers that classify images, and `BACKBONES`."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    own = ("timm_wrapper", "medmnist_network", "medmnist_backbone")
    return sorted({*BACKBONES, *MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES} - {*own})


class _TooLongError(BaseException):
    """Not an `Exception`, because the code under test may catch those."""


def _stop(*_: Any) -> None:
    raise _TooLongError


def sweep(name: str, sizes: Sequence[int] = SIZES, seconds: float = SECONDS) -> Outcome:
    """Try all steps on one of `members`, with image sizes in ascending order and a limit of processor seconds."""
    import torch
    from transformers.utils import logging
    from transformers.utils.logging import disable_progress_bar

    warnings.simplefilter("ignore")
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    faulthandler.dump_traceback_later(10 * seconds, exit=True)  # for code that waits or that signals cannot interrupt
    outcome = Outcome(name)
    try:
        with tempfile.TemporaryDirectory() as folder, _reduced_cost(name):
            _Sweep(outcome, Path(folder)).run(sizes)
    except _TooLongError:
        outcome.faults.append(f"took more than {seconds:g} seconds of processor time")
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return outcome


@contextlib.contextmanager
def _reduced_cost(name: str) -> Iterator[None]:
    """Make timm build networks with few blocks, but one of each kind, and occlusion hide 4 regions instead of 49."""
    import timm

    from medmnist_hf.training.report import attribution

    make = timm.create_model
    fewer: list[dict[str, Any]] = [{}, {"depth": 3}, {"depths": (2, 2, 2, 2)}]
    sizes = [_parameters(name, options) for options in fewer] if name.startswith("timm/") else [0.0]
    few = fewer[sizes.index(min(sizes if sizes[0] >= DEEP else sizes[:2]))]
    with (
        patch.object(timm, "create_model", lambda *names, **options: make(*names, **few | options)),
        patch.object(attribution, "CELLS", 2),
    ):
        yield


def _parameters(name: str, options: dict[str, Any]) -> float:
    """Number of parameters of a timm network; infinite if the network does not accept the options."""
    import timm
    import torch

    try:
        with torch.device("meta"):
            return sum(each.numel() for each in timm.create_model(name.removeprefix("timm/"), **options).parameters())
    except Exception:  # networks raise many kinds of errors
        return math.inf


class _Sweep:
    """Tries the steps on one network and records their results in its outcome."""

    def __init__(self, outcome: Outcome, folder: Path) -> None:
        self.outcome, self.folder, self.timm = outcome, folder, outcome.name.startswith("timm/")

    def run(self, sizes: Sequence[int]) -> None:
        """Try all steps."""
        for cell in cells(sizes):
            kind, size = cell.split()
            built = self._attempt(cell, partial(self._build, KINDS[kind], image_size=int(size)))
            if built is not None:
                self._try_steps(built, cell)
        first = next((int(cell.split()[1]) for cell in self.outcome.works if cell.startswith("RGB")), math.inf)
        if first <= 32 and self.timm:
            self._attempt("volumes", lambda: self._build(3, image_size=first, dataset="adrenalmnist3d"))

    def _recipe(self, channels: int, **more: Any) -> Any:
        from medmnist_hf.training.recipe import make_recipe

        options = {"dataset": "breastmnist", "model": self.outcome.name, "pretrained": False, "channels": channels}
        if not self.timm:
            folder = self.folder / f"config {channels}"
            if not folder.exists():
                _write_config(self.outcome.name, folder, channels)
            options |= {"model": str(folder), "normalize": "half"}
        return make_recipe(options | more)

    def _build(self, channels: int, **more: Any) -> Any:
        from medmnist_hf.training.models.factory import build_model

        return build_model(self._recipe(channels, **more))

    def _attempt(self, what: str, step: Callable[[], Any]) -> Any:
        """Return the result of a step; None if it is refused, or fails in another way, which is a fault."""
        from medmnist_hf.errors import MedMNISTError, first_line

        try:
            return step()
        except MedMNISTError as error:
            folder = rf"{re.escape(str(self.folder))}/config \d"
            self.outcome.refused[what] = re.sub(folder, self.outcome.name, str(error))
        except Exception as error:
            self.outcome.faults.append(f"{what}: {type(error).__name__}: {first_line(error)}")
        return None

    def _try_steps(self, built: Any, cell: str) -> None:
        import numpy as np
        import torch

        from medmnist_hf.training.methods.lora import add_lora, merge_lora
        from medmnist_hf.training.report.attribution import image_maps

        channels, size = KINDS[cell.partition(" ")[0]], built.image_size
        recipe = self._recipe(channels, image_size=size)
        images = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))
        self._attempt(f"{cell} training", lambda: _step(built.model, images))
        self._attempt(f"{cell} saving", lambda: self._check_saving(built, images))
        stored = np.random.default_rng(0).integers(0, 256, (1, 28, 28), dtype=np.uint8)
        maps = self._attempt(f"{cell} maps", lambda: image_maps(recipe, built, stored, [1]))
        self.outcome.works[cell] = "" if maps is None else maps[1].split()[0]
        if channels == 1:
            unchanged = type(built.model).__name__.startswith("Network") or not self.timm
            self.outcome.gray[cell] = "as it is" if unchanged else "spread"

        def adapt() -> None:
            adapted = add_lora(recipe, built)
            _step(adapted, images)
            before = _logits(adapted, images)
            _check_equal(before, _logits(merge_lora(adapted), images))

        self._attempt(f"{cell} LoRA", adapt)

    def _check_saving(self, built: Any, images: Any) -> None:
        from medmnist_hf.training.models.saving import load_model, save_model

        folder = self.folder / f"saved {images.shape[1]}"
        save_model(built, folder)
        expected = _logits(built.model, images)
        _check_equal(expected, _logits(load_model(folder), images.expand(-1, 3, -1, -1) if self.timm else images))


def _step(model: Any, images: Any) -> None:
    import torch

    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss: Any = torch.nn.functional.cross_entropy(model(pixel_values=images).logits.float(), torch.tensor([0, 1]))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1)  # batch norm over two values has unbounded derivatives
    torch.optim.SGD(trained, 1e-3).step()


def _logits(model: Any, images: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(pixel_values=images).logits


def _check_equal(expected: Any, logits: Any) -> None:
    difference, largest = float((expected - logits).abs().max()), float(expected.abs().max())
    if not difference <= 1e-3 * largest + 1e-5:
        raise ArithmeticError(f"logits differ by {difference:.2g}, the largest is {largest:.2g}")


def _write_config(model_type: str, folder: Path, channels: int) -> None:
    """Write the default configuration of a transformers model to a folder, with as few layers as it accepts."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    kind = type(AutoConfig.for_model(model_type))
    values = kind().to_dict()
    own: dict[str, Any] = {name: channels for name in ("num_channels", "stem_num_channels") if name in values}
    if "num_channels" in values.get("vision_config", {}):
        own["vision_config"] = {"num_channels": channels}
    if model_type not in BACKBONES:
        classes = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[model_type]
        own["architectures"] = [classes if isinstance(classes, str) else classes[0]]
    if isinstance(values.get("stem_channels"), list):  # in HGNetV2, where the first number is that of the image
        own["stem_channels"] = [channels, *values["stem_channels"][1:]]
    lists = [name for name in ("depths", "num_blocks") if isinstance(values.get(name), list)]
    few: dict[str, Any] = {name: [1] * len(values[name]) for name in lists}
    if values.get("num_hidden_layers", 0) > 2:
        few["num_hidden_layers"] = 2
    parts = {"vision_config": {"num_hidden_layers": 2}, "text_config": {"num_hidden_layers": 1, "hidden_size": 64}}
    few |= {name: own.get(name, {}) | part for name, part in parts.items() if name in values}
    for options in (own | few, own):
        try:
            kind(**options).save_pretrained(folder)
        except Exception:  # configurations check that their lists are consistent
            continue
        break


def run(names: Sequence[str], workers: int) -> Iterator[Outcome]:
    """Sweep networks in a pool of processes."""
    with ProcessPoolExecutor(workers, get_context("spawn"), max_tasks_per_child=40) as pool:
        for future in as_completed([pool.submit(sweep, name) for name in names]):
            yield future.result()


def read_outcomes(path: Path) -> list[Outcome]:
    """Read the outcomes of an earlier sweep."""
    return [Outcome(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def write_outcomes(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write outcomes as JSON lines, in the order of `members`."""
    order = {name: index for index, name in enumerate(members())}
    lines = [json.dumps(asdict(outcome)) for outcome in sorted(outcomes, key=lambda outcome: order[outcome.name])]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def update_table(page: str, outcomes: Sequence[Outcome]) -> str:
    """Replace the table in a page by one of these outcomes.

    Raises:
        ValueError: The page lacks the comments `BEGIN` and `END`.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no lines {BEGIN.strip()!r} and {END.strip()!r} to enclose the table: add them to the page")
    return before + BEGIN + table(outcomes) + END + after


def table(outcomes: Sequence[Outcome]) -> str:
    """Summarize outcomes in numbers and in a Markdown table."""
    families, faults = {_family(outcome.name) for outcome in outcomes}, sum(bool(each.faults) for each in outcomes)
    rgb, gray = (sum(_sizes(each.works, kind) == _sizes(cells(), kind) for each in outcomes) for kind in KINDS)
    none = sum(not each.works for each in outcomes)
    adapted = sum(bool(each.works) and not any(step.endswith(" LoRA") for step in each.refused) for each in outcomes)
    lines = [
        f"{len(outcomes)} networks of {len(families)} families: {rgb} read RGB images of all four sizes, "
        f"{gray} read gray images of all four sizes, and {none} read neither at any size. {adapted} support LoRA "
        f"wherever they read images. {faults} failed in other ways than a refusal.",
        "",
        "| family | network | RGB | gray | maps | gray saved | refused and why |",
        "|---|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        reasons = "<br>".join(_reasons(outcome)).replace("|", r"\|")
        columns = [*(_sizes(outcome.works, kind) for kind in KINDS), *map(_summarize, (outcome.works, outcome.gray))]
        lines.append(f"| {_family(outcome.name)} | `{outcome.name}` | {' | '.join([*columns, reasons])} |")
    return "\n".join([*lines, ""])


def _sizes(cells: Iterable[str], kind: str) -> str:
    """Sizes of the cells of one kind of images."""
    return ", ".join(cell.partition(" ")[2] for cell in cells if cell.startswith(kind))


def _summarize(values: dict[str, str]) -> str:
    """Values of cells, stated only once if they are the same for all."""
    groups = {value: [cell for cell, other in values.items() if other == value] for value in values.values() if value}
    return "; ".join(value if len(groups) == 1 else f"{value}: {_describe(cells)}" for value, cells in groups.items())


def _describe(cells: Sequence[str]) -> str:
    """Describe cells, by their sizes only if these are the same for RGB and gray images."""
    kinds = {_sizes(cells, kind): kind for kind in KINDS}
    return "; ".join(f"{kind} {sizes}" for sizes, kind in kinds.items() if sizes) if len(kinds) > 1 else min(kinds)


def _family(name: str) -> str:
    """Module of a timm network, or the model type of transformers."""
    import timm

    library, _, architecture = name.rpartition("/")
    return timm.model_entrypoint(architecture).__module__.rpartition(".")[2] if library else name


def _reasons(outcome: Outcome) -> list[str]:
    """Refusals without the network's name, with those of several cells combined."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for step, refusal in outcome.refused.items():
        cell = next((cell for cell in cells() if step == cell or step.startswith(f"{cell} ")), "")
        reason = refusal.removeprefix(f"{outcome.name} ").replace(f" {outcome.name} ", " ")
        if cell:
            reason = re.sub(rf"\b{cell.partition(' ')[2]}\b", "N", reason)
        reasons.setdefault((step.removeprefix(cell).strip(), reason), []).append(cell)
    lines = []
    for (step, reason), refused in reasons.items():
        everywhere = step and {*refused} in ({""}, {*outcome.works})
        lines.append(f"{step if everywhere else f'{step} {_describe(refused)}'.strip()}: `{reason}`")
    return lines


@app.command(epilog="Example: python scripts/bench/sweep_models.py --only resnet --results networks.jsonl")
def main(
    only: Annotated[str, typer.Option(help="Try only networks whose name matches this pattern.")] = "",
    results: Annotated[Path | None, typer.Option(help="JSON lines of outcomes; those in it are not repeated.")] = None,
    table: Annotated[Path | None, typer.Option(help="Page whose table is replaced.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of networks to try at once.")] = os.cpu_count() or 1,
) -> None:
    """Try a small network of every family of timm and transformers, and report what works and what is refused."""
    names = [name for name in members() if re.search(only, name)]
    outcomes = [] if results is None or not results.exists() else read_outcomes(results)
    finished = {outcome.name for outcome in outcomes}
    for outcome in run([name for name in names if name not in finished], workers):
        outcomes.append(outcome)
        print(outcome, flush=True)
        if results is not None:
            write_outcomes(outcomes, results)
    if table is not None:
        table.write_text(update_table(table.read_text(encoding="utf-8"), outcomes), encoding="utf-8")
    faults = [f"{outcome.name}: {fault}" for outcome in outcomes for fault in outcome.faults]
    used = f"{sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]):.0f} seconds of processor time"
    print(f"{len(outcomes)} of {len(names)} networks, {len(faults)} faults, {used}", *faults, sep="\n")


if __name__ == "__main__":
    console.run(app)
