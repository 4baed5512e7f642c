"""The command that stores features: ``medmnist-hf embed``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from medmnist_hf import console
from medmnist_hf.catalog import ALL, DEFAULT_SIZE, SPLITS, subsets
from medmnist_hf.cli.make_data.tasks import (
    ShowTasks,
    absolute,
    command_of,
    result_of,
    run_again,
    unless_continued,
)
from medmnist_hf.cli.options.data import Revision, Root
from medmnist_hf.cli.options.engine import (
    EngineChoice,
    EngineConfig,
    EngineName,
    GpusPerTask,
    Wait,
    Workers,
    choose_engine,
    run_on,
)
from medmnist_hf.cli.options.recipe import OWN_MODEL, read_recipe, recipe_options
from medmnist_hf.console.program import Panel
from medmnist_hf.embeddings.manifest import DTYPES, StoreManifest, config_name
from medmnist_hf.errors import CatalogError, MedMNISTError, TrainingError, counted, shorten
from medmnist_hf.extras import require_modules, suggest_install
from medmnist_hf.jobs.tasks import Task, TaskFolder
from medmnist_hf.own_code.names import MODEL_FILE
from medmnist_hf.training.embedding.tasks import OPTIONS, config_of, store_tasks, stored, tasks_path
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.registry import check_model_name

if TYPE_CHECKING:
    from medmnist_hf.data.configs import BuiltConfig
    from medmnist_hf.training.embedding.embed import EmbedOptions, Outcome

EXAMPLE: Final = (
    "Example: medmnist-hf embed breastmnist retinamnist --root dist --size 28 --model "
    "timm/resnet18.a1_in1k --out features"
)


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog=EXAMPLE)(embed)


@recipe_options(*OPTIONS, of_run=False)
@suggest_install("train")
def embed(
    context: typer.Context,
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA",
            help="Data sets: subsets (pathmnist, pathmnist-64), all, repositories on the Hub or builds.",
            show_default=False,
        ),
    ],
    *,
    size: Annotated[
        list[str] | None,
        Panel.DATA.option(
            help="Sizes of the images to read: 28, 64, 128 or 224, or e.g. 28-corrected.",
            show_default="those in DATA, or 28",
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
    dtype: Annotated[
        str, Panel.OUTPUT.option(help="float32, or float16 for half the bytes and three digits.")
    ] = "float32",
    device: Annotated[
        str, Panel.COMPUTE.option(help="auto, cpu, or an accelerator such as cuda, cuda:1 or mps.")
    ] = "auto",
    threads: Annotated[
        int | None,
        Panel.COMPUTE.option(
            min=0,
            help="Batches that a CPU computes at the same time, each on one core; features do not depend on it.",
            show_default="number of usable cores",
        ),
    ] = None,
    engine: EngineName = None,
    workers: Workers = None,
    gpus_per_task: GpusPerTask = None,
    engine_config: EngineConfig = None,
    wait: Wait = True,
    dry_run: ShowTasks = False,
    out: Annotated[Path, Panel.OUTPUT.option(help="Folder of feature stores; each is in SUBSET/SIZE-MODEL.")] = Path(
        "features"
    ),
    force: Annotated[
        bool, Panel.OUTPUT.option("--force", help="Replace stores of another model or of other data.")
    ] = False,
    verify: Annotated[
        bool,
        Panel.EVALUATION.option(
            "--verify", help="Compute features again, and compare them and the digests of all files with the stores."
        ),
    ] = False,
    rows: Annotated[
        int | None, Panel.EVALUATION.option(min=1, help="Rows per split for --verify.", show_default="all")
    ] = None,
    **options: Any,
) -> None:
    """Store what the classifier of a model sees of each image, for linear probes, kNN and your own methods.

    Row k of a shard of images is row k of the shard of features of the same name. Stores that are complete are kept,
    and interrupted ones are resumed. Read them with medmnist_hf.load_features or load_dataset, or name the folder with
    medmnist-hf finetune --features. With --engine, each store is a task.
    """
    choice = choose_engine(engine, workers, engine_config, wait=wait, gpus_per_task=gpus_per_task, dry_run=dry_run)
    if dtype not in DTYPES:
        raise TrainingError(f"dtype is {shorten(dtype)}: choose from {', '.join(DTYPES)}")
    if rows is not None and not verify:
        raise TrainingError("--rows is for --verify: add it, or leave it out")
    if model is None and model_file is None:
        raise TrainingError("no model given: add --model timm/NAME, or --model-file my.py:build")
    common = {"root": None if root is None else str(root), "revision": revision, "method": "knn"}
    common |= {"model": model, MODEL_FILE: model_file}
    recipes = [read_recipe({**options, **common, **each}) for each in name_data(data, size or ())]
    check_model_name(recipes[0].model, options["checkpoint"])
    if choice is not None:
        _embed_on(context, choice, recipes, out)
        return
    require_modules("train", "torch", "transformers")
    # torch takes seconds to import, so --help must not import it.
    from medmnist_hf.training.embedding.embed import EmbedOptions
    from medmnist_hf.training.running import process_state

    configs = [config_of(recipe) for recipe in recipes]
    chosen = EmbedOptions(out, dtype, process_state(device).device, threads, force)
    terminal = console.terminal()
    if verify:
        _verify(recipes, configs, chosen, rows)
        return
    terminal.print(_plan_table(configs, recipes[0].model))
    count = sum(record.rows for config in configs for record in config.manifest.splits.values())
    terminal.print(f"{counted(count, 'image')} to features in {out}, on {chosen.device}\n")
    outcomes = _embed(recipes, configs, chosen)
    terminal.print(_outcome_table(outcomes))
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failed:
        console.print_error(f"{outcome.recipe.dataset} {outcome.recipe.size}: {outcome.error}")
    if failed:
        if len(outcomes) > 1:
            console.print_error(f"{len(failed)} of {len(outcomes)} stores failed")
        raise typer.Exit(1)


def name_data(data: list[str], sizes: list[str] | tuple[str, ...]) -> list[dict[str, Any]]:
    """Name and size of each data set; ``all`` stands for every subset that has the size."""
    valid = dict.fromkeys(name for entry in subsets() for name in entry.config_names)
    for text in sizes:
        if text not in valid:
            raise CatalogError(f"--size {text!r} is not a valid size: choose from {', '.join(valid)}")
    if ALL in data:
        wanted = sizes or [str(DEFAULT_SIZE)]
        return [
            {"dataset": each.flag, "size": size} for each in subsets() for size in wanted if size in each.config_names
        ]
    each_size: list[str | None] = [*sizes] or [None]
    return [{"dataset": name, "size": size} for name in dict.fromkeys(data) for size in each_size]


def _plan_table(configs: "list[BuiltConfig]", model: str) -> Table:
    table = console.table("subset", "size", *SPLITS, "shards", "store", text=("subset", "store"))
    for config in configs:
        manifest = config.manifest
        counts = [f"{manifest.splits[split].rows:,}" for split in SPLITS]
        store = f"{manifest.subset}/{config_name(manifest.size, model)}"
        table.add_row(manifest.subset, str(manifest.size), *counts, str(len(manifest.shards)), store)
    return table


def _embed(recipes: list[Recipe], configs: "list[BuiltConfig]", options: "EmbedOptions") -> "list[Outcome]":
    from medmnist_hf.training.embedding.embed import embed_all

    totals = {id(recipe): _rows(config) for recipe, config in zip(recipes, configs, strict=True)}
    with console.progress() as progress:
        task = progress.add_task("", total=None)

        def start(recipe: Recipe) -> None:
            name = f"features of {recipe.dataset} {recipe.size}"
            progress.reset(task, description=name, total=totals[id(recipe)])

        return list(
            embed_all(recipes, options, on_start=start, on_progress=lambda count: progress.advance(task, count))
        )


def _rows(config: "BuiltConfig") -> int:
    return sum(record.rows for record in config.manifest.splits.values())


def _outcome_table(outcomes: "list[Outcome]") -> Table:
    columns = ("subset", "size", "rows", "features", "type", "MB", "seconds", "images/s", "outcome")
    table = console.table(*columns, text=("subset", "type", "outcome"))
    for outcome in outcomes:
        name, written = [outcome.recipe.dataset, str(outcome.recipe.size)], outcome.written
        if written is None:
            table.add_row(*name, *[""] * 6, "failed")
            continue
        manifest = written.manifest
        resumed = 0 < written.extracted < manifest.rows
        table.add_row(
            *name,
            f"{manifest.rows:,}",
            f"{manifest.width:,}",
            manifest.dtype,
            f"{sum(shard.bytes for shard in manifest.shards) / 1e6:,.2f}",
            f"{outcome.seconds:.1f}",
            f"{outcome.speed:,.0f}" if written.extracted else "",
            "was complete" if written.reused else "resumed" if resumed else "stored",
        )
    return table


def _embed_on(context: typer.Context, choice: EngineChoice, recipes: list[Recipe], out: Path) -> None:
    """Make stores as tasks of an engine, or verify them, printing the line of each."""
    given, model, engine = context.params, recipes[0].model, choice.open()
    if engine.sees_results:
        console.terminal().print(_plan_table([config_of(recipe) for recipe in recipes], model))
    root = Path(absolute(out))
    others = command_of(context, leave_out={*OPTIONS, "size", "root", "revision", "model", MODEL_FILE, "out"})[4:]
    listed = store_tasks(recipes, root, *others, has_result=given["verify"])
    named = {task.name: recipe for task, recipe in zip(listed, recipes, strict=True)}
    path, here = tasks_path(root, model, "verify" if given["verify"] else "embed"), engine.place(root)
    if given["verify"]:

        def say_line(folder: TaskFolder, task: Task) -> str:
            console.echo(result_of(folder, task).rstrip())
            return "done"

        _, done = run_again(choice, path, listed, say_line, dry_run=given["dry_run"])
        if len(done) < len(listed) and not given["dry_run"]:
            raise typer.Exit(1)
        return
    # The file of a checkpoint may have changed: only the task, which reads it, finds out whether the store is of it.
    always = given["force"] or given["checkpoint"] is not None
    decide = unless_continued(TaskFolder(engine.place(path)), listed) if always else lambda task: None
    run_on(
        choice,
        path,
        listed,
        is_done=lambda task: decide(task) if stored(named[task.name], here) else False,
        describe=lambda folder, task: _describe(stored(named[task.name], here)),
        repeat=always,
        dry_run=given["dry_run"],
    )


def _describe(manifest: StoreManifest | None) -> str:
    if manifest is None:  # on a disk that this machine does not see at once
        return "stored"
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    return f"{manifest.rows:,} rows of {manifest.width:,} features, {manifest.dtype}, {size:,.2f} MB"


def _verify(recipes: list[Recipe], configs: "list[BuiltConfig]", options: "EmbedOptions", rows: int | None) -> None:
    from medmnist_hf.training.embedding.embed import verify

    failed = 0
    for recipe, config in zip(recipes, configs, strict=True):
        splits = config.manifest.splits.values()
        total = sum(record.rows if rows is None else min(record.rows, rows) for record in splits)
        try:
            with console.progress() as progress:
                task = progress.add_task(f"verifying features of {recipe.dataset} {recipe.size}", total=total)
                line = verify(recipe, options, rows, lambda count, bar=progress, at=task: bar.advance(at, count))  # type: ignore[misc]
            console.echo(line)
        except MedMNISTError as error:
            failed += 1
            console.print_error(error)
    if failed:
        raise typer.Exit(1)
