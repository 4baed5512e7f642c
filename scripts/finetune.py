"""Train a model on a subset by a recipe, and put its results beside the published ones.

Example: python scripts/finetune.py --dataset breastmnist --model timm/resnet18 --method linear-probe --seeds 3
"""

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import typer

from medmnist_hf import console
from medmnist_hf.cards.bibliography import reference
from medmnist_hf.errors import TrainingError
from medmnist_hf.hub.client import MAIN, hub_api
from medmnist_hf.training.recipe import FIELDS, default_folder, make_recipe, presets, type_of

EXAMPLE: Final = (
    "Example: python scripts/finetune.py --dataset pathmnist --size 224 --model timm/vit_base_patch14_dinov2 "
    "--method linear-probe --seeds 3"
)
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


def finetune(
    *,
    preset: str | None,
    config: Path | None,
    seeds: int | None,
    seed: list[int] | None,
    out: Path | None,
    push_to_hub: str | None,
    branch: str | None,
    private: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401  (one for each field of a recipe)
) -> None:
    """Train a model on a subset by a recipe: its defaults, overridden by --preset, by --config, by options.

    Run it again to go on where it stopped. Several GPUs or machines: accelerate launch scripts/finetune.py ...
    """
    if push_to_hub is None and (branch is not None or private):
        raise TrainingError("--branch and --private say how to push: add --push-to-hub NAMESPACE/NAME")
    if seeds is not None or seed:
        options["seeds"] = tuple(seed or range(seeds or 0))
    recipe = make_recipe(options, preset=preset, config=config)
    folder = out or default_folder(recipe)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # torch takes seconds to import, and --help needs none.
    from medmnist_hf.training.publish import check_push, push_model  # noqa: PLC0415
    from medmnist_hf.training.report.model_card import cited  # noqa: PLC0415
    from medmnist_hf.training.report.terminal import print_results  # noqa: PLC0415
    from medmnist_hf.training.results import check_whole  # noqa: PLC0415
    from medmnist_hf.training.run import launched, run  # noqa: PLC0415

    is_main, api = launched().is_main_process, hub_api()
    how: dict[str, Any] = {"revision": branch or MAIN, "private": private}
    if push_to_hub is not None and is_main:
        check_push(api, recipe, push_to_hub, **how)
    results = run(recipe, folder, quiet=quiet)
    if not is_main:
        return
    print_results(results, folder)
    check_whole(results)
    if push_to_hub is not None:
        references = [reference(key).text for key in cited(recipe.subset)]
        print(push_model(api, folder, push_to_hub, references=references, **how).summary())


def _parameter(name: str, kind: Any, about: str) -> inspect.Parameter:  # noqa: ANN401
    """An option without a default of its own: what is not given is the preset's, or the recipe's."""
    default = FIELDS[name].default if name in FIELDS and name not in {"dataset", "seeds"} else None
    if default is not None:
        shown = {True: "yes", False: "no"}.get(default, default) if isinstance(default, bool) else default
        about = f"{about} Default: {shown}."
    flag = f"--{name.replace('_', '-')}"
    declared = [f"{flag}/--no-{flag[2:]}"] if kind is bool else [flag]
    annotation = Annotated[kind | None, typer.Option(*declared, help=about, show_default=False)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _switch(name: str, about: str) -> inspect.Parameter:
    annotation = Annotated[bool, typer.Option(f"--{name}", help=about)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


def _plain(kind: Any) -> tuple[Any, Sequence[str]]:  # noqa: ANN401
    """The type that the command line reads a field as, and the words it may be."""
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is Literal:
        return str, [str(one) for one in get_args(kind)]
    return kind, ()


def _signature() -> inspect.Signature:
    parameters = []
    for name, field in FIELDS.items():
        if name != "seeds":
            kind, words = _plain(type_of(name))
            about = str(field.metadata["help"]) + (f" One of {', '.join(words)}." if words else "")
            parameters.append(_parameter(name, kind, about))
    parameters += [
        _parameter("preset", str, f"A whole protocol: {', '.join(presets())}."),
        _parameter("config", Path, "YAML file of options, such as the recipe.yaml of a run."),
        _parameter("seeds", int, "Number of seeds: 0, 1, ... Default: 1."),
        _parameter("seed", list[int], "A seed; may be given several times, in place of --seeds."),
        _parameter("out", Path, "Folder of the run. Default: runs/DATASET-SIZE-MODEL-METHOD."),
        _parameter("push_to_hub", str, "Repository NAMESPACE/NAME on the Hub to push the best seed's model to."),
        _parameter("branch", str, "Branch to push to; made where it is missing. Default: main."),
        _switch("private", "Push to a private repository."),
        _switch("quiet", "No progress."),
    ]
    return inspect.Signature(parameters)


finetune.__signature__ = _signature()  # type: ignore[attr-defined]
app.command(epilog=EXAMPLE)(finetune)

if __name__ == "__main__":
    console.run(app)
