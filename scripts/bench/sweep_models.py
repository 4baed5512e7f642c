"""Takes a small member of every family of timm and transformers through a run: what works, what is refused and why.

Each network is made by a recipe, with random weights, and with few blocks where their number can be given. Whatever is
compared must be equal; what is neither equal nor refused in one line, or takes longer than its time, is a fault.

- At 28, 64, 128 and 224 pixels: made, and every pixel reached by a gradient, or refused.
- At the smallest size that it reads: trained for a step of two images, saved and loaded back, explained, given LoRA,
  trained for a step and merged. Likewise, but for the last two, for gray images: its first layer alone is another one.
- At that size, if it is 32 or less, and for networks of timm alone: made to read volumes (2.5D).

Networks of more than 60 million parameters are taken through the smallest size that they read alone.
"""

import contextlib
import copy
import faulthandler
import json
import math
import os
import re
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from medmnist_hf import console
from medmnist_hf.console.program import Program

app = Program(add_completion=False)

SIZES: Final = (28, 64, 128, 224)

LARGE: Final = 60e6
"""Parameters above which a network is taken through the smallest size that it reads alone."""

DEEP: Final = 20e6
"""Parameters from which a network of stages is made with two blocks in each."""

SECONDS: Final = 120
"""Processor time that one network may take; one that takes longer is a fault."""

BEGIN, END = "<!-- begin of the table -->\n", "<!-- end of the table -->\n"
"""What stands around the table in its page."""

TIMM: Final = tuple(
    """
    beit_base_patch16_224 botnet26t_256 halonet_h1 lambda_resnet26t resnext26ts regnetz_b16 mobileone_s1
    repvgg_a0 test_byobnet cait_xxs24_224 coat_lite_mini coat_tiny convit_tiny convmixer_768_32 test_convnext
    convnextv2_atto cpubone_nano crossvit_9_240 csatv2 cs3darknet_focus_s darknet17 cspnext_tiny davit_tiny
    deepseek_vit_412m deit_tiny_distilled_patch16_224 deit3_small_patch16_224 densenet121 dla46x_c dpn48b
    edgenext_xx_small efficientformer_l1 efficientformerv2_s0 test_efficientnet mixnet_s mobilenetv2_035
    tinynet_e tf_efficientnet_lite0 efficientvim_m1 efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224
    vit_small_patch16_dinov3 fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny gemma4_vit_167m_enc
    ghostnet_050 ghostnetv3_050 hardcorenas_a hgnetv2_b0 hiera_tiny_224 sam2_hiera_tiny hrnet_w18_small
    iformer_t inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small levit_128s
    levit_conv_128s lowformer_b0 test_mambaout coatnet_pico_rw_224 test_coatnet test_maxvit
    maxxvit_rmlp_nano_rw_256 caformer_s18 poolformerv2_s12 gmixer_12_224 gmlp_ti16_224 mixer_s32_224
    resmlp_12_224 mobilenetv3_small_050 lcnet_035 mobilenetv5_base mobilevit_xxs mobilevitv2_050 mvitv2_tiny
    naflexvit_base_patch16_gap nasnetalarge nest_tiny nextvit_small nf_regnet_b0 test_nfnet pit_ti_224
    pit_ti_distilled_224 pnasnet5large pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002 regnety_002
    repghostnet_050 repvit_m1 res2net50_14w_8s resnest14d resnet10t seresnet18 test_resnet resnetv2_18
    rexnet_100 selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18 starnet_s1 swiftformer_xs
    swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224 tiny_vit_5m_224
    tnt_s_legacy_patch16_224 tresnet_m twins_pcpvt_small twins_svt_small vgg11 visformer_tiny test_vit
    test_vit4 vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 test_vit_relpos samvit_base_patch16_224
    vitamin_small_224 volo_d1_224 ese_vovnet19b_slim_dw legacy_xception xception41p xcit_nano_12_p8_224
    xcit_nano_12_p16_224
    """.split()  # noqa: SIM905
)
"""One member or more of each module of timm that has networks."""

BACKBONES: Final = ("vit_mae", "clip_vision_model")
"""Models of transformers that read images and are given a head here."""


@dataclass(slots=True)
class Outcome:
    """What became of a network.

    Attributes:
        name: As a recipe names it.
        works: The sizes that it reads, of those tried.
        refused: What was refused -> the refusal. Keys are a size, ``LoRA``, ``maps`` or ``volumes``; for gray images
            ``gray`` and these, where the refusal is another one.
        maps: By what it was explained, ``Grad-CAM`` or ``occlusion``.
        gray: How one for gray images is saved: ``spread`` over three channels, or ``as it is``.
        faults: What went wrong in any other way, which there must not be.
    """

    name: str
    works: list[int] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    maps: str = ""
    gray: str = ""
    faults: list[str] = field(default_factory=list)


def members() -> list[str]:
    """The networks of the sweep: names of timm as ``timm/NAME``, model types of transformers as they are."""
    return [f"timm/{name}" for name in TIMM] + model_types()


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
        with tempfile.TemporaryDirectory() as folder, _of_few_blocks(name):
            _Sweep(outcome, Path(folder)).run(sizes)
    except _TooLongError:
        outcome.faults.append(f"took more than {seconds:g} seconds of processor time")
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return outcome


@contextlib.contextmanager
def _of_few_blocks(name: str) -> Iterator[None]:
    """Within, timm makes a network with as few of its blocks as have one of each kind, where it lets one say so."""
    import timm

    make = timm.create_model
    fewer: list[dict[str, Any]] = [{}, {"depth": 3}, {"depths": (2, 2, 2, 2)}]
    sizes = [_parameters(name, options) for options in fewer] if name.startswith("timm/") else [0.0]
    if sizes[0] < DEEP:
        del sizes[2:]
    few = fewer[sizes.index(min(sizes))]
    timm.create_model = lambda *names, **options: make(*names, **few | options)
    try:
        yield
    finally:
        timm.create_model = make


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
        small = True
        for size in sizes:
            if self.outcome.works and not small:
                break
            built = self._attempt(str(size), 3, partial(self._made, 3, image_size=size))
            if built is None:
                continue
            self.outcome.works.append(size)
            if self.outcome.works == [size]:
                small = sum(one.numel() for one in built.model.parameters()) < LARGE
                self._through(built, 3)
                gray = self._attempt(str(size), 1, partial(self._made, 1, image_size=size))
                if gray is not None:
                    own = type(gray.model).__name__.startswith("Network") or not self.timm
                    self.outcome.gray = "as it is" if own else "spread"
                    self._through(gray, 1)
        if self.outcome.works and self.outcome.works[0] <= 32 and self.timm:
            first = self.outcome.works[0]
            self._attempt("volumes", 3, lambda: self._made(3, image_size=first, dataset="adrenalmnist3d"))

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

    def _attempt(self, what: str, channels: int, step: Callable[[], Any]) -> Any:
        """What a step gives; None where it refuses, which is noted, or fails in another way, which is a fault."""
        from medmnist_hf.errors import MedMNISTError, first_line

        try:
            return step()
        except MedMNISTError as error:
            refusal = str(error).replace(str(self.folder / f"config {channels}"), self.outcome.name)
            if channels == 3 or refusal != self.outcome.refused.get(what):
                self.outcome.refused[what if channels == 3 else f"gray {what}"] = refusal
        except Exception as error:
            images = "RGB" if channels == 3 else "gray"
            self.outcome.faults.append(f"{what}, {images}: {type(error).__name__}: {first_line(error)}")
        return None

    def _through(self, built: Any, channels: int) -> None:
        import numpy as np
        import torch

        from medmnist_hf.training.methods.lora import add_lora, merge_lora
        from medmnist_hf.training.report.attribution import image_maps

        recipe = self._recipe(channels, image_size=built.image_size)
        images = torch.randn(2, channels, *[built.image_size] * 2, generator=torch.Generator().manual_seed(1))
        plain = copy.deepcopy(built)
        self._attempt("training", channels, lambda: _step(built.model, images))
        self._attempt("saving", channels, lambda: self._loaded_back(built, images))
        if channels == 1:
            return
        stored = np.random.default_rng(0).integers(0, 256, (1, 28, 28), dtype=np.uint8)
        maps = self._attempt("maps", channels, lambda: image_maps(recipe, built, stored, [1]))
        if maps is not None:
            self.outcome.maps = maps[1].split(" o")[0]

        def adapt() -> None:
            adapted = add_lora(recipe, plain)
            _step(adapted, images)
            before = _logits(adapted, images)
            _check_equal(before, _logits(merge_lora(adapted), images))

        self._attempt("LoRA", channels, adapt)

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
    own: dict[str, Any] = {"num_channels": channels} if "num_channels" in values else {}
    if model_type not in BACKBONES:
        classes = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[model_type]
        own["architectures"] = [classes if isinstance(classes, str) else classes[0]]
    lists = {name: values.get(name) for name in ("depths", "num_blocks")}
    few: dict[str, Any] = {name: [1] * len(value) for name, value in lists.items() if isinstance(value, list)}
    if values.get("num_hidden_layers", 0) > 2:
        few["num_hidden_layers"] = 2
    parts = {"vision_config": {"num_hidden_layers": 2}, "text_config": {"num_hidden_layers": 1, "hidden_size": 64}}
    few |= {name: part for name, part in parts.items() if name in values}
    for options in (few | own, own):
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
    whole, none = (sum(len(one.works) == count for one in outcomes) for count in (len(SIZES), 0))
    adapted = sum(bool(one.works) and not {"LoRA", "gray LoRA"} & one.refused.keys() for one in outcomes)
    lines = [
        f"{len(outcomes)} networks of {len(families)} families: {whole} read all four sizes, {none} none of them; "
        f"{adapted} can have LoRA; {faults} failed in any other way than by a refusal.",
        "",
        "| family | network | sizes | maps | gray saved | refused and why |",
        "|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        sizes, refused = ", ".join(map(str, one.works)), "<br>".join(_reasons(one)).replace("|", r"\|")
        lines.append(f"| {_family(one.name)} | `{one.name}` | {sizes} | {one.maps} | {one.gray} | {refused} |")
    return "\n".join([*lines, ""])


def _family(name: str) -> str:
    """The module of a network of timm, or the model type of transformers."""
    import timm

    own, _, architecture = name.rpartition("/")
    return timm.model_entrypoint(architecture).__module__.rpartition(".")[2] if own else name


def _reasons(outcome: Outcome) -> list[str]:
    """Refusals without the network's name, those of several sizes in one."""
    reasons: dict[str, list[str]] = {}
    for what, refusal in outcome.refused.items():
        size = what.removeprefix("gray ")
        reason = refusal.removeprefix(f"{outcome.name} ").replace(f" {outcome.name} ", " ")
        reasons.setdefault(re.sub(rf"\b{size}\b", "N", reason) if size.isdigit() else reason, []).append(what)
    return [f"{', '.join(what)}: `{reason}`" for reason, what in reasons.items()]


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
    print(f"{len(outcomes)} of {len(names)} networks, {len(faults)} faults", *faults, sep="\n")


if __name__ == "__main__":
    console.run(app)
