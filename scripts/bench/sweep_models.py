"""Takes a small member of every family of timm and transformers through a run: what works, what is refused and why.

Each network is made by a recipe, with random weights, and with few blocks where their number can be given. Whatever is
compared must be equal; what is neither equal nor refused in one line, or takes longer than its time, is a fault.

- For RGB and for gray images of 28, 64, 128 and 224 pixels: made, and every pixel reached by a gradient, or refused;
  if made, trained for a step of two images, saved and loaded back, explained, given LoRA, trained again and merged.
- At the smallest size of RGB that it reads, if it is 32 or less, those of timm: made to read volumes (2.5D).
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
"""Kinds of images -> their channels."""

DEEP: Final = 20e6
"""Parameters from which a network of stages is made with two blocks in each."""

SECONDS: Final = 240
"""Processor time that one network may take; one that takes longer is a fault."""

BEGIN, END = "<!-- begin of the table -->\n", "<!-- end of the table -->\n"
"""What stands around the table in its page."""

NETWORKS: Final = Path(__file__).with_name("sweep_networks.txt")
"""Names of timm, one a line: one member or more of each of its modules that has networks."""

BACKBONES: Final = ("vit_mae", "clip_vision_model")
"""Models of transformers that read images and are given a head here."""


@dataclass(slots=True)
class Outcome:
    """What became of a network.

    Attributes:
        name: As a recipe names it.
        works: Cells, such as ``RGB 28`` or ``gray 224``, that it reads: by what it was explained, ``Grad-CAM`` or
            ``occlusion``; empty where that was refused.
        gray: How it was saved where it reads gray images: ``spread`` over three channels, or ``as it is``.
        refused: What was refused -> the refusal. Keys are a cell; a cell and ``LoRA``, ``maps``, ``training`` or
            ``saving``; or ``volumes``.
        faults: What went wrong in any other way, which there must not be.
    """

    name: str
    works: dict[str, str] = field(default_factory=dict)
    gray: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def cells(sizes: Sequence[int] = SIZES) -> list[str]:
    """What each network is tried for: gray and RGB images of each size."""
    return [f"{kind} {size}" for size in sizes for kind in KINDS]


def members() -> list[str]:
    """The networks of the sweep: names of timm as ``timm/NAME``, model types of transformers as they are."""
    return [f"timm/{name}" for name in timm_networks()] + model_types()


def timm_networks() -> list[str]:
    """Names of timm in the file of `NETWORKS`."""
    return [line for line in NETWORKS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def model_types() -> list[str]:
    """Types of models of transformers that classify images, and `BACKBONES`."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    own = ("timm_wrapper", "medmnist_network", "medmnist_backbone")
    return sorted({*BACKBONES, *MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES} - {*own})


class _TooLongError(BaseException):
    """No `Exception`, which the code that is tried may catch."""


def _stop(*_: Any) -> None:
    raise _TooLongError


def sweep(name: str, sizes: Sequence[int] = SIZES, seconds: float = SECONDS) -> Outcome:
    """Take one of `members` through everything, at image sizes in ascending order, within so many seconds."""
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
    faulthandler.dump_traceback_later(10 * seconds, exit=True)  # in code that no signal interrupts, or that waits
    outcome = Outcome(name)
    try:
        with tempfile.TemporaryDirectory() as folder, _cheaper(name):
            _Sweep(outcome, Path(folder)).run(sizes)
    except _TooLongError:
        outcome.faults.append(f"took more than {seconds:g} seconds of processor time")
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return outcome


@contextlib.contextmanager
def _cheaper(name: str) -> Iterator[None]:
    """Within, timm makes a network of as few blocks as have one of each kind, and occlusion hides 4 parts, not 49."""
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
    """Parameters of a network of timm; infinitely many where it does not take these options."""
    import timm
    import torch

    try:
        with torch.device("meta"):
            return sum(one.numel() for one in timm.create_model(name.removeprefix("timm/"), **options).parameters())
    except Exception:  # networks refuse in many ways
        return math.inf


class _Sweep:
    """One network on its way."""

    def __init__(self, outcome: Outcome, folder: Path) -> None:
        self.outcome, self.folder, self.timm = outcome, folder, outcome.name.startswith("timm/")

    def run(self, sizes: Sequence[int]) -> None:
        """Do everything."""
        for cell in cells(sizes):
            kind, size = cell.split()
            built = self._attempt(cell, partial(self._made, KINDS[kind], image_size=int(size)))
            if built is not None:
                self._through(built, cell)
        first = next((int(cell.split()[1]) for cell in self.outcome.works if cell.startswith("RGB")), math.inf)
        if first <= 32 and self.timm:
            self._attempt("volumes", lambda: self._made(3, image_size=first, dataset="adrenalmnist3d"))

    def _recipe(self, channels: int, **more: Any) -> Any:
        from medmnist_hf.training.recipe import make_recipe

        options = {"dataset": "breastmnist", "model": self.outcome.name, "pretrained": False, "channels": channels}
        if not self.timm:
            folder = self.folder / f"config {channels}"
            if not folder.exists():
                _written(self.outcome.name, folder, channels)
            options |= {"model": str(folder), "normalize": "half"}
        return make_recipe(options | more)

    def _made(self, channels: int, **more: Any) -> Any:
        from medmnist_hf.training.models.factory import build_model

        return build_model(self._recipe(channels, **more))

    def _attempt(self, what: str, step: Callable[[], Any]) -> Any:
        """What a step gives; None where it refuses, which is noted, or fails in another way, which is a fault."""
        from medmnist_hf.errors import MedMNISTError, first_line

        try:
            return step()
        except MedMNISTError as error:
            folder = rf"{re.escape(str(self.folder))}/config \d"
            self.outcome.refused[what] = re.sub(folder, self.outcome.name, str(error))
        except Exception as error:
            self.outcome.faults.append(f"{what}: {type(error).__name__}: {first_line(error)}")
        return None

    def _through(self, built: Any, cell: str) -> None:
        import numpy as np
        import torch

        from medmnist_hf.training.methods.lora import add_lora, merge_lora
        from medmnist_hf.training.report.attribution import image_maps

        channels, size = KINDS[cell.partition(" ")[0]], built.image_size
        recipe = self._recipe(channels, image_size=size)
        images = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))
        self._attempt(f"{cell} training", lambda: _step(built.model, images))
        self._attempt(f"{cell} saving", lambda: self._loaded_back(built, images))
        stored = np.random.default_rng(0).integers(0, 256, (1, 28, 28), dtype=np.uint8)
        maps = self._attempt(f"{cell} maps", lambda: image_maps(recipe, built, stored, [1]))
        self.outcome.works[cell] = "" if maps is None else maps[1].split(" o")[0]
        if channels == 1:
            own = type(built.model).__name__.startswith("Network") or not self.timm
            self.outcome.gray[cell] = "as it is" if own else "spread"

        def adapt() -> None:
            adapted = add_lora(recipe, built)
            _step(adapted, images)
            before = _logits(adapted, images)
            _check_equal(before, _logits(merge_lora(adapted), images))

        self._attempt(f"{cell} LoRA", adapt)

    def _loaded_back(self, built: Any, images: Any) -> None:
        from medmnist_hf.training.models.saving import load_model, save_model

        folder = self.folder / f"saved {images.shape[1]}"
        save_model(built, folder)
        expected = _logits(built.model, images)
        _check_equal(expected, _logits(load_model(folder), images.expand(-1, 3, -1, -1) if self.timm else images))


def _step(model: Any, images: Any) -> None:
    import torch

    model.train()
    trained = [one for one in model.parameters() if one.requires_grad]
    loss: Any = torch.nn.functional.cross_entropy(model(pixel_values=images).logits.float(), torch.tensor([0, 1]))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1)  # a batch norm of two values has derivatives without bound
    torch.optim.SGD(trained, 1e-3).step()


def _logits(model: Any, images: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(pixel_values=images).logits


def _check_equal(one: Any, other: Any) -> None:
    off, most = float((one - other).abs().max()), float(one.abs().max())
    if not off <= 1e-3 * most + 1e-5:
        raise ArithmeticError(f"logits are {off:.2g} off, of {most:.2g}")


def _written(model_type: str, folder: Path, channels: int) -> None:
    """A configuration of transformers in a folder, as it comes but for as few layers as it can have."""
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
    if isinstance(values.get("stem_channels"), list):  # of HGNetV2, beginning with those of the image
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
        except Exception:  # a configuration checks its lists against each other
            continue
        break


def run(names: Sequence[str], workers: int) -> Iterator[Outcome]:
    """Sweep networks, each in a process of its own."""
    with ProcessPoolExecutor(workers, get_context("spawn"), max_tasks_per_child=40) as pool:
        for future in as_completed([pool.submit(sweep, name) for name in names]):
            yield future.result()


def read_outcomes(path: Path) -> list[Outcome]:
    """Outcomes of an earlier sweep."""
    return [Outcome(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def write_outcomes(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write outcomes as JSON lines, in the order of `members`."""
    order = {name: at for at, name in enumerate(members())}
    lines = [json.dumps(asdict(one)) for one in sorted(outcomes, key=lambda one: order[one.name])]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def with_table(page: str, outcomes: Sequence[Outcome]) -> str:
    """A page with its table made of outcomes.

    Raises:
        ValueError: The page has no place for a table, from `BEGIN` to `END`.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no lines {BEGIN.strip()!r} and {END.strip()!r}: the table is written between them")
    return before + BEGIN + table(outcomes) + END + after


def table(outcomes: Sequence[Outcome]) -> str:
    """What was found, in numbers and in a table of Markdown."""
    families, faults = {_family(one.name) for one in outcomes}, sum(bool(one.faults) for one in outcomes)
    rgb, gray = (sum(_sizes(one.works, kind) == _sizes(cells(), kind) for one in outcomes) for kind in KINDS)
    none = sum(not one.works for one in outcomes)
    adapted = sum(bool(one.works) and not any(what.endswith(" LoRA") for what in one.refused) for one in outcomes)
    lines = [
        f"{len(outcomes)} networks of {len(families)} families: {rgb} read RGB images of all four sizes, "
        f"{gray} gray ones, {none} neither of any; {adapted} can have LoRA wherever they read images; "
        f"{faults} failed in any other way than by a refusal.",
        "",
        "| family | network | RGB | gray | maps | gray saved | refused and why |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        reasons = "<br>".join(_reasons(one)).replace("|", r"\|")
        columns = [*(_sizes(one.works, kind) for kind in KINDS), _each(one.works), _each(one.gray), reasons]
        lines.append(f"| {_family(one.name)} | `{one.name}` | {' | '.join(columns)} |")
    return "\n".join([*lines, ""])


def _sizes(found: Iterable[str], kind: str) -> str:
    """The sizes among cells of a kind of images."""
    return ", ".join(cell.partition(" ")[2] for cell in found if cell.startswith(kind))


def _each(told: dict[str, str]) -> str:
    """What is told of cells: once where it is the same for all."""
    each = {value: [cell for cell, its in told.items() if its == value] for value in told.values() if value}
    return "; ".join(value if len(each) == 1 else f"{value}: {_where(found)}" for value, found in each.items())


def _where(found: Sequence[str]) -> str:
    """Cells in words: sizes alone where they are the same for RGB and gray images."""
    sizes = {_sizes(found, kind): kind for kind in KINDS}
    return "; ".join(f"{kind} {their}" for their, kind in sizes.items() if their) if len(sizes) > 1 else min(sizes)


def _family(name: str) -> str:
    """The module of a network of timm, or the model type of transformers."""
    import timm

    own, _, architecture = name.rpartition("/")
    return timm.model_entrypoint(architecture).__module__.rpartition(".")[2] if own else name


def _reasons(outcome: Outcome) -> list[str]:
    """Refusals without the network's name, those of several cells in one."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for what, refusal in outcome.refused.items():
        cell = next((one for one in cells() if what == one or what.startswith(f"{one} ")), "")
        reason = refusal.removeprefix(f"{outcome.name} ").replace(f" {outcome.name} ", " ")
        if cell:
            reason = re.sub(rf"\b{cell.partition(' ')[2]}\b", "N", reason)
        reasons.setdefault((what.removeprefix(cell).strip(), reason), []).append(cell)
    lines = []
    for (step, reason), found in reasons.items():
        everywhere = step and {*found} in ({""}, {*outcome.works})
        lines.append(f"{step if everywhere else f'{step} {_where(found)}'.strip()}: `{reason}`")
    return lines


@app.command(epilog="Example: python scripts/bench/sweep_models.py --only resnet --results networks.jsonl")
def main(
    only: Annotated[str, typer.Option(help="Names that match this pattern alone.")] = "",
    results: Annotated[Path | None, typer.Option(help="JSON lines of outcomes; what is there is not redone.")] = None,
    table: Annotated[Path | None, typer.Option(help="Page whose table is made of the outcomes.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Networks at a time.")] = os.cpu_count() or 1,
) -> None:
    """Take a small member of every family of timm and transformers through a run: what works, what is refused."""
    names = [name for name in members() if re.search(only, name)]
    outcomes = [] if results is None or not results.exists() else read_outcomes(results)
    known = {one.name for one in outcomes}
    for outcome in run([name for name in names if name not in known], workers):
        outcomes.append(outcome)
        print(outcome, flush=True)
        if results is not None:
            write_outcomes(outcomes, results)
    if table is not None:
        table.write_text(with_table(table.read_text(encoding="utf-8"), outcomes), encoding="utf-8")
    faults = [f"{one.name}: {fault}" for one in outcomes for fault in one.faults]
    used = f"{sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]):.0f} seconds of processor time"
    print(f"{len(outcomes)} of {len(names)} networks, {len(faults)} faults, {used}", *faults, sep="\n")


if __name__ == "__main__":
    console.run(app)
