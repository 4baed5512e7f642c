"""Takes a small member of every family of timm and transformers through a run: what works, what is refused and why.

Each is made by a recipe with random weights, for RGB and gray, at 28, 64, 128 and 224 pixels, where it must depend on
every pixel or be refused; at the first size that it reads it is trained for a step, saved and loaded back, given LoRA
and merged, and explained; and made to read volumes. Whatever it is compared with must be equal.

Example:
    python scripts/bench/sweep_models.py --results outcomes.jsonl
"""

import argparse
import copy
import json
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

SIZES: Final = (28, 64, 128, 224)

LARGE: Final = 60e6
"""Parameters above which a network is taken through the smallest size that it reads alone."""

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
    """What became of a network: an empty text where all went well, else the refusal.

    Attributes:
        name: As a recipe names it.
        sizes: Image size -> refusal; sizes that were not tried are missing.
        saved: How one for gray images is saved, ``spread`` or ``as it is``; or the refusal.
        lora: The refusal of LoRA.
        explained: By what it was explained.
        volumes: The refusal to read volumes.
        faults: What went wrong in any other way, which there must not be.
    """

    name: str
    sizes: dict[int, str] = field(default_factory=dict)
    saved: str = ""
    lora: str = ""
    explained: str = ""
    volumes: str = ""
    faults: list[str] = field(default_factory=list)


def members() -> list[str]:
    """The networks of the sweep: names of timm as ``timm/NAME``, model types of transformers as they are."""
    return [f"timm/{name}" for name in TIMM] + model_types()


def model_types() -> list[str]:
    """Types of models of transformers that classify images, and `BACKBONES`."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    own = ("timm_wrapper", "medmnist_network", "medmnist_backbone")
    return sorted({*BACKBONES, *MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES} - {*own})


def sweep(name: str, sizes: tuple[int, ...] = SIZES) -> Outcome:
    """Take one network through everything."""
    import torch
    from transformers.utils import logging
    from transformers.utils.logging import disable_progress_bar

    warnings.simplefilter("ignore")
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        return _Sweep(name, sizes, Path(folder)).outcome


class _Sweep:
    """One network and its outcome."""

    def __init__(self, name: str, sizes: tuple[int, ...], folder: Path) -> None:
        self.folder, self.outcome = folder, Outcome(name)
        self.options: dict[str, Any] = {"dataset": "breastmnist", "model": name, "pretrained": False}
        if not name.startswith("timm/"):
            self.options |= {"model": str(_written(name, folder / "config")), "normalize": "half"}
        first, small = None, True
        for size in sizes:
            if not small and first is not None:
                break
            built = self._attempt(f"{size}", lambda size=size: self._made(image_size=size))
            self.outcome.sizes[size] = built if isinstance(built, str) else ""
            if not isinstance(built, str) and first is None:
                first = size
                small = sum(one.numel() for one in built.model.parameters()) < LARGE
                self._through(built, size)
        if first is None:
            return
        gray = self._attempt("gray", lambda: self._made(image_size=first, channels=1))
        self.outcome.saved = gray if isinstance(gray, str) else ""
        if not isinstance(gray, str):
            self.outcome.saved = "as it is" if type(gray.model).__name__.startswith("Network") else "spread"
            self._attempt("save gray", lambda: self._same(gray, self._saved(gray, "gray"), channels=1))
        if first <= 32:
            deep = self._attempt("volumes", lambda: self._made(image_size=first, dataset="adrenalmnist3d"))
            self.outcome.volumes = deep if isinstance(deep, str) else ""

    def _made(self, **more: Any) -> Any:
        from medmnist_hf.training.models.factory import build_model

        return build_model(self._recipe(**more))

    def _recipe(self, **more: Any) -> Any:
        from medmnist_hf.training.recipe import make_recipe

        return make_recipe(self.options | more)

    def _attempt(self, what: str, step: Any) -> Any:
        """What a step gives; where it refuses, the refusal; where it fails in another way, a fault is noted."""
        from medmnist_hf.errors import MedMNISTError, first_line

        try:
            return step()
        except MedMNISTError as error:
            return str(error).replace(str(self.options["model"]), self.outcome.name)
        except Exception as error:
            self.outcome.faults.append(f"{what}: {type(error).__name__}: {first_line(error)}")
            return "fault"

    def _through(self, built: Any, size: int) -> None:
        import numpy as np

        from medmnist_hf.training.methods.lora import add_lora, merge_lora
        from medmnist_hf.training.report.attribution import image_maps

        recipe = self._recipe(image_size=size)
        plain = copy.deepcopy(built)
        self._attempt("train", lambda: self._step(built.model, size))
        self._attempt("save", lambda: self._same(built, self._saved(built, "rgb")))
        images = np.random.default_rng(0).integers(0, 256, (1, 28, 28), dtype=np.uint8)
        maps = self._attempt("explain", lambda: image_maps(recipe, built, images, [1]))
        self.outcome.explained = maps if isinstance(maps, str) else maps[1]

        def adapt() -> None:
            adapted = add_lora(recipe, plain)
            self._step(adapted, size)
            before = self._logits(adapted, size)
            self._equal(before, self._logits(merge_lora(adapted), size))

        lora = self._attempt("LoRA", adapt)
        self.outcome.lora = lora if isinstance(lora, str) else ""

    def _step(self, model: Any, size: int) -> None:
        import torch

        model.train()
        trained = [one for one in model.parameters() if one.requires_grad]
        loss: Any = torch.nn.functional.cross_entropy(
            model(pixel_values=_images(size)).logits.float(), torch.tensor([0, 1])
        )
        loss.backward()
        torch.optim.SGD(trained, 1e-3).step()

    def _saved(self, built: Any, name: str) -> Any:
        from medmnist_hf.training.models.saving import load_model, save_model

        save_model(built, self.folder / name)
        return load_model(self.folder / name)

    def _same(self, built: Any, loaded: Any, channels: int = 3) -> None:
        images = _images(built.image_size, channels)
        self._equal(self._logits(built.model, 0, images), self._logits(loaded, 0, images.expand(-1, 3, -1, -1)))

    def _logits(self, model: Any, size: int, images: Any = None) -> Any:
        import torch

        with torch.no_grad():
            return model.eval()(pixel_values=_images(size) if images is None else images).logits

    def _equal(self, one: Any, other: Any) -> None:
        off, most = float((one - other).abs().max()), float(one.abs().max())
        if not off <= 1e-3 * most + 1e-5:
            raise ArithmeticError(f"logits are {off:.2g} off, of {most:.2g}")


def _images(size: int, channels: int = 3) -> Any:
    import torch

    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def _written(model_type: str, folder: Path) -> Path:
    """A configuration of transformers in a folder, as it comes but for as few layers as it can have."""
    from transformers import AutoConfig

    kind = type(AutoConfig.for_model(model_type))
    values: dict[str, Any] = {}
    for name, value in kind().to_dict().items():
        if (
            isinstance(value, list)
            and name in {"depths", "num_blocks", "depth"}
            and all(isinstance(v, int) for v in value)
        ):
            values[name] = [1] * len(value)
        elif name == "num_hidden_layers" and isinstance(value, int) and value > 2:
            values[name] = 2
    for tried in (values, {}):
        try:
            kind(**tried).save_pretrained(folder)
        except Exception:  # a configuration checks its lists against each other
            continue
        break
    return folder


def run(names: list[str], options: argparse.Namespace) -> Iterator[Outcome]:
    """Sweep networks in processes of their own; those that were not begun in time are left out."""
    start = time.monotonic()
    with ProcessPoolExecutor(options.workers, get_context("spawn"), max_tasks_per_child=20) as pool:
        futures = [pool.submit(_in_time, name, tuple(options.sizes), start, options.seconds) for name in names]
        for future in as_completed(futures):
            outcome = future.result()
            if outcome is not None:
                yield outcome


def _in_time(name: str, sizes: tuple[int, ...], start: float, seconds: float) -> Outcome | None:
    return sweep(name, sizes) if time.monotonic() - start < seconds else None


def read_outcomes(path: Path) -> list[Outcome]:
    """Outcomes of an earlier sweep."""
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [Outcome(**line | {"sizes": {int(size): text for size, text in line["sizes"].items()}}) for line in lines]


def main() -> None:
    """Sweep and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names that match this pattern alone")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--results", type=Path, help="file of outcomes as JSON lines; those in it are not done again")
    parser.add_argument("--seconds", type=float, default=3600, help="nothing is begun after this time")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    names = [name for name in members() if re.search(options.only, name)]
    outcomes = [] if options.results is None or not options.results.exists() else read_outcomes(options.results)
    known = {one.name for one in outcomes}
    for outcome in run([name for name in names if name not in known], options):
        outcomes.append(outcome)
        print(outcome, flush=True)
        if options.results is not None:
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
    faults = [f"{one.name}: {fault}" for one in outcomes for fault in one.faults]
    print(f"{len(outcomes)} of {len(names)} networks, {len(faults)} faults", *faults, sep="\n")


if __name__ == "__main__":
    main()
