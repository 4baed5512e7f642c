"""The command that scores a model on many subsets: ``medmnist-hf scorecard``, and ``scorecard compare``."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from medmnist_hf import console
from medmnist_hf.cli.embed import name_data
from medmnist_hf.cli.options.data import Revision, Root
from medmnist_hf.cli.options.engine import EngineChoice, EngineConfig, GpusPerTask, Wait
from medmnist_hf.cli.options.recipe import OWN_MODEL, recipe_options
from medmnist_hf.console.program import Panel
from medmnist_hf.embeddings.manifest import model_slug
from medmnist_hf.errors import TrainingError, counted
from medmnist_hf.extras import require_modules, suggest_install
from medmnist_hf.own_code.names import MODEL_FILE, rename_model_file
from medmnist_hf.training.embedding.tasks import OPTIONS
from medmnist_hf.training.registry import check_model_name

if TYPE_CHECKING:
    from medmnist_hf.jobs.engine import Engine
    from medmnist_hf.jobs.tasks import Status
    from medmnist_hf.training.benchmark.matrix import BenchmarkRun
    from medmnist_hf.training.benchmark.tables import Table
    from medmnist_hf.training.scorecard.plan import Plan

EXAMPLE: Final = "Example: medmnist-hf scorecard breastmnist retinamnist --root dist --model timm/resnet18 --dry-run"

COMPARE: Final = "compare"
"""In place of data, the word that compares cards."""

_INPUT: Final = tuple(name for name in OPTIONS if name not in {"volumetric", "image_size", "batch_size"})

say = partial(print, flush=True)


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog=EXAMPLE)(scorecard)


@recipe_options(*_INPUT, of_run=False)
@suggest_install("train")
def scorecard(
    context: typer.Context,
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA",
            help="Data sets: subsets (pathmnist, pathmnist-64), all, repositories on the Hub or builds; or the word "
            "compare and the folders of two or more cards.",
            show_default=False,
        ),
    ] = None,
    *,
    size: Annotated[
        str | None,
        Panel.DATA.option(
            help="Size of the images to read: 28, 64, 128 or 224, or e.g. 28-corrected.",
            show_default="that in DATA, or 28",
        ),
    ] = None,
    root: Root = None,
    revision: Revision = None,
    model: Annotated[
        str | None,
        Panel.MODEL.option(
            help="timm/NAME, a transformers id or folder (also CLIP, of which the image tower is used), or resnet18 "
            "or resnet50 (the networks of the MedMNIST paper).",
            show_default=False,
        ),
    ] = None,
    model_file: Annotated[str | None, Panel.MODEL.option(metavar="FILE:NAME", help=OWN_MODEL)] = None,
    volumetric: Annotated[
        str,
        Panel.MODEL.option(help="How a 2D network is converted to read volumes. One of 2.5d, 3d, acs."),
    ] = "2.5d",
    image_size: Annotated[
        str,
        Panel.INPUT.option(
            metavar="SIZE",
            help="Size of the network's input for images; volumes are read at the size of the data. auto: that of the "
            "model's pretraining, or the nearest that its patches allow; for resnet18 and resnet50 that of the data.",
        ),
    ] = "auto",
    preset: Annotated[
        str,
        Panel.METHOD.option(
            help="quick: kNN, linear probes and few labels; standard: more choices of few labels, partial "
            "fine-tuning and LoRA; full: also fine-tuning and zero-shot."
        ),
    ] = "quick",
    protocol: Annotated[
        list[str] | None,
        Panel.METHOD.option(help="Run only this protocol of the preset, e.g. linear-probe.", show_default="all"),
    ] = None,
    features: Annotated[Path, Panel.METHOD.option(help="Folder of feature stores; missing ones are made.")] = Path(
        "features"
    ),
    engine: Annotated[
        str, Panel.COMPUTE.option("--engine", metavar="ENGINE", help="Where runs run: local, slurm or ray.")
    ] = "local",
    workers: Annotated[
        int | None,
        Panel.COMPUTE.option("--workers", min=1, help="Runs at a time.", show_default="as the engine allows"),
    ] = None,
    gpus_per_task: GpusPerTask = None,
    engine_config: EngineConfig = None,
    wait: Wait = True,
    dry_run: Annotated[
        bool, Panel.COMPUTE.option("--dry-run", help="Run nothing; show what it costs and the state of each run.")
    ] = False,
    out: Annotated[
        Path | None,
        Panel.OUTPUT.option(
            help="Folder of the card and its runs, or of a comparison.",
            show_default="scorecards/MODEL; a comparison is only printed",
        ),
    ] = None,
    report_only: Annotated[
        bool, Panel.OUTPUT.option("--report-only", help="Run nothing; write the card of the runs in --out.")
    ] = False,
    **options: Any,
) -> None:
    """Score a pretrained model on many subsets by fixed protocols: a card as page, Markdown and JSON.

    Features are stored once per data set; nearest neighbors, linear probes and few-label curves read them. The cost
    is shown before anything runs. The same command resumes, on the same engine or on another.

    medmnist-hf scorecard compare CARD CARD ... compares cards of different models on the same test rows.
    """
    require_modules("train", "torch", "transformers")
    if data and data[0] == COMPARE:
        if _given(context) - {"data", "out"}:
            raise TrainingError("a comparison runs nothing: name only the folders of cards, and --out to write it")
        _compare([Path(name) for name in data[1:]], out)
        return
    if report_only:
        if out is None or _given(context) - {"report_only", "out"}:
            raise TrainingError("--report-only writes the card of a folder: give only --out")
        _write(out)
        return
    if not data or (model is None and model_file is None):
        raise TrainingError("name data and a model, e.g. medmnist-hf scorecard breastmnist --model timm/resnet18")
    chosen = rename_model_file({"model": model, MODEL_FILE: model_file}, "options")
    check_model_name(chosen["model"], options["checkpoint"])
    from medmnist_hf.training.scorecard.plan import PLAN_NAME, check_model, make_plan
    from medmnist_hf.training.scorecard.tasks import check_here, run_card

    common = {"root": None if root is None else str(root), "revision": revision}
    named = [{**common, **each} for each in name_data(data, [] if size is None else [size])]
    usual = {"image_size": image_size, "volumetric": volumetric, "features": str(features)}
    plan, cells = make_plan(named, {**chosen, **options}, preset, protocol or (), usual=usual)
    folder = out or Path("scorecards", model_slug(plan.title))
    check_model(folder, plan.model)
    opened = EngineChoice(engine, workers, engine_config, gpus_per_task, wait).open()
    check_here(opened)
    statuses = _announce(plan, cells, folder, opened)
    if dry_run:
        for run in plan.runs:
            status = statuses[run.folder]
            say(f"{status.state:11} {run.subset} {run.protocol}: {status.note or run.definition}")
        return
    try:
        ended = run_card(plan, cells, folder.absolute(), opened, wait=wait, report=say)
    except KeyboardInterrupt:
        if (folder / PLAN_NAME).exists():
            _write(folder)
        raise
    if not ended:
        say(f"{engine} has the tasks: --dry-run shows their states, and the same command does what is left")
        return
    missing = _write(folder)
    if missing:
        raise TrainingError(
            f"{missing} of {counted(len(cells), 'run')} without a result: run the same command again, or read log.txt "
            "of each"
        )


def _given(context: typer.Context) -> set[str]:
    """Names of the parameters that were typed; old releases of typer count a missing list of arguments as typed."""
    sources = {name: context.get_parameter_source(name) for name, value in context.params.items() if value != ()}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def _announce(plan: "Plan", cells: "Sequence[BenchmarkRun]", folder: Path, engine: "Engine") -> "Mapping[str, Status]":
    """Print what the card consists of and what it costs; return the status of each run."""
    from medmnist_hf.jobs.submit import duration
    from medmnist_hf.jobs.tasks import State
    from medmnist_hf.training.scorecard.cost import cost_of, seconds_per_image
    from medmnist_hf.training.scorecard.tasks import states_of, store_states

    statuses = states_of(plan, folder, cells)
    waiting = [cell for cell in cells if statuses[cell.name].state is not State.DONE]
    cost = cost_of(cells, waiting)
    subsets = len({run.subset for run in plan.runs})
    say(
        f"score card of {plan.title}, preset {plan.preset}: {counted(subsets, 'subset')}, "
        f"{counted(len(cells), 'run')}, in {folder}"
    )
    for each in plan.left_out:
        say(f"left out: {each.protocol} on {each.subset}: {each.reason}")
    if not waiting:
        say("all runs are done")
        return statuses
    say(
        f"to do: {counted(cost.runs, 'run')} with {counted(cost.seeds, 'seed')}; "
        f"{counted(cost.images, 'image')} to extract for {counted(cost.stores, 'store')}"
    )
    if any(cost.passes.values()):
        console.echo("loading torch, and measuring the network for an estimate ...", err=True)
    speeds, texts = {}, []
    for cell in waiting:
        ndim = cell.recipe.subset.ndim
        if cost.passes[ndim] and ndim not in speeds:
            speeds[ndim], device = seconds_per_image(cell.recipe)
            kind = "volume" if ndim == 3 else "image"
            texts.append(f"{cost.passes[ndim]:,} passes of {1000 * speeds[ndim]:,.1f} ms per {kind} on {device} here")
    workers = getattr(engine, "workers", None) or engine.settings.workers or 1
    seconds = cost.seconds(speeds, workers)
    say(f"estimate: about {duration(seconds)} with {workers} at a time" + "".join(f"; {text}" for text in texts))
    for line in engine.resources(len(waiting), store_states(folder)):
        say(line)
    return statuses


def _write(folder: Path) -> int:
    """Write the card of a folder, print its files and what has no result, and return the number of such runs."""
    from medmnist_hf.training.scorecard.card import LEFT_OUT
    from medmnist_hf.training.scorecard.card_page import overview, write_card
    from medmnist_hf.training.scorecard.gather import gather

    card = gather(folder)
    _print(overview(card, "auc"), details=False)
    missing = [(part, each) for part in card.subsets for each in part.missing if each.state != LEFT_OUT]
    for part, each in missing:
        say(f"{each.state}: {each.protocol} on {part.subset}" + (f": {each.reason}" if each.reason else ""))
    for path in write_card(card, folder):
        say(f"wrote {path}")
    return len(missing)


def _compare(folders: Sequence[Path], out: Path | None) -> None:
    """Compare cards, print the differences and, with a folder, write them."""
    from medmnist_hf.training.scorecard.compare import compare_cards
    from medmnist_hf.training.scorecard.comparison_page import mean_tables, subset_table, write_comparison

    comparison = compare_cards(folders)
    for pair in comparison.pairs:
        say(f"{comparison.names[0]} minus {pair.other}; shared protocols: {', '.join(pair.protocols)}")
        for text in pair.apart:
            say(f"not compared: {text}")
        for table in (*mean_tables(pair), subset_table(pair)):
            _print(table)
    if out is not None:
        for path in write_comparison(comparison, out):
            say(f"wrote {path}")


def _print(table: "Table", *, details: bool = True) -> None:
    """Print a table of a page on the terminal, where many columns of intervals do not fit."""
    names = [column.name for column in table.columns]
    plain = console.table(*names, text=[column.name for column in table.columns if not column.numeric])
    for cells in (*(line.cells for line in table.lines), *([table.foot] if table.foot else [])):
        plain.add_row(*(f"{cell.text} ({cell.detail})" if cell.detail and details else cell.text for cell in cells))
    console.echo(f"\n{table.caption}")
    console.terminal().print(plain)
