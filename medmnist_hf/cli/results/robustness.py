"""``medmnist-hf robustness``: the errors of a model on corrupted images, and ``robustness compare``."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from medmnist_hf import console
from medmnist_hf.cli.make_data.tasks import ShowTasks, command_of, unless_continued
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
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import BuildError, JobError, TrainingError, cannot_write
from medmnist_hf.extras import require_modules, suggest_install
from medmnist_hf.jobs.tasks import JOBS_DIR, Task, TaskFolder

if TYPE_CHECKING:
    from medmnist_hf.training.robustness.measure import Bench
    from medmnist_hf.training.robustness.subject import Subject

COMPARE: Final = "compare"
"""In place of options, the word that compares reports."""

_PER_TASK: Final = ("corruptions", "report", "quiet")
"""Options that each task gets values of its own for."""

EXAMPLE: Final = "Example: medmnist-hf robustness --run runs/mine --root dist"


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog=EXAMPLE)(robustness)


@suggest_install("train")
def robustness(
    context: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[compare FILE]",
            help="The word compare, then reports to rank: files robustness.json, folders with one, or JSON files of "
            "medmnistc.",
            show_default=False,
        ),
    ] = None,
    *,
    run: Annotated[Path | None, Panel.MODEL.option(help="Folder of a finished run.", show_default=False)] = None,
    seed: Annotated[
        int | None, Panel.MODEL.option(help="Seed whose model is tested.", show_default="the best on validation")
    ] = None,
    ensemble: Annotated[
        bool, Panel.MODEL.option("--ensemble", help="Average the scores of the models of all seeds.")
    ] = False,
    model_file: Annotated[
        str | None,
        Panel.MODEL.option(
            metavar="FILE:NAME",
            help="The function in a Python file that made the network, as my.py:build, if the run used one.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        Panel.MODEL.option(
            help="In place of a run, the folder or repository of an image classifier with safetensors, trained on "
            "--subset.",
            show_default=False,
        ),
    ] = None,
    subset: Annotated[
        str | None,
        Panel.DATA.option(
            metavar="DATA",
            help="Data set with the test split: a subset (pathmnist-224), a repository on the Hub or a build.",
            show_default="that of the run",
        ),
    ] = None,
    root: Root = None,
    revision: Revision = None,
    corruptions: Annotated[
        list[str] | None,
        Panel.EVALUATION.option(
            metavar="NAME", help="Only this corruption, e.g. motion_blur, or clean.", show_default="all of the subset"
        ),
    ] = None,
    corrupted: Annotated[
        Path | None,
        Panel.DATA.option(
            metavar="FOLDER",
            help="Read corrupted test splits from SUBSET/CORRUPTION.npz in this folder, the layout of MedMNIST-C, "
            "instead of corrupting images.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        bool,
        Panel.EVALUATION.option("--report/--no-report", help="Write and print a report of all that was measured."),
    ] = True,
    device: Annotated[
        str, Panel.COMPUTE.option(help="auto, cpu, or an accelerator such as cuda, cuda:1 or mps.")
    ] = "auto",
    batch_size: Annotated[
        int | None, Panel.COMPUTE.option(min=1, help="Images per batch.", show_default="that of the run's evaluation")
    ] = None,
    threads: Annotated[
        int | None,
        Panel.COMPUTE.option(
            min=1,
            help="Threads that corrupt images ahead of the model; pixels do not depend on it.",
            show_default="number of usable cores",
        ),
    ] = None,
    engine: EngineName = None,
    workers: Workers = None,
    gpus_per_task: GpusPerTask = None,
    engine_config: EngineConfig = None,
    wait: Wait = True,
    dry_run: ShowTasks = False,
    out: Annotated[
        Path | None,
        Panel.OUTPUT.option(
            help="Folder of the report and of what is measured.",
            show_default="robustness/SEED in the folder of the run, or robustness/SUBSET-SIZE-MODEL",
        ),
    ] = None,
    force: Annotated[bool, Panel.OUTPUT.option("--force", help="Measure again what was measured before.")] = False,
    quiet: Annotated[bool, Panel.OUTPUT.option("--quiet", help="Print no progress.")] = False,
) -> None:
    """Measure how well a model classifies the test split under the corruptions of MedMNIST-C: clean error, BE and rBE.

    Images are corrupted while they are read. Each corruption that is complete is kept, and the same command resumes.
    BE and rBE are relative to AlexNet, as published; they are comparable for all corruptions at size 224. With
    --engine, each corruption is a task.

    medmnist-hf robustness compare FILE FILE ... ranks reports and JSON files of medmnistc by BE.
    """
    require_modules("train", "torch", "transformers")
    if files:
        if files[0] != COMPARE:
            raise TrainingError(f"{files[0]!r} is not known: name a model with --run or --model, or write compare")
        compare([Path(name) for name in files[1:]])
        return
    require_modules("corruptions", "cv2")
    choice = choose_engine(engine, workers, engine_config, wait=wait, gpus_per_task=gpus_per_task, dry_run=dry_run)
    from medmnist_hf.training.robustness.measure import Bench, choose_corruptions

    subject = _subject(run, seed, ensemble, model_file, model, subset, root, revision)
    folder = out or _folder(run, subject)
    bench = Bench.open(subject, folder, subset, root=root, revision=revision, corrupted=corrupted)
    names = choose_corruptions(bench.config.entry.flag, corruptions or ())
    try:
        if choice is not None:
            _run_on(context, choice, bench, names, force=force)
        else:
            _run_here(bench, names, device, batch_size, threads, force=force, quiet=quiet)
        if report and wait and not dry_run:
            _report(bench)
    except OSError as error:
        raise BuildError(cannot_write(folder, error, "name another --out")) from None


def _subject(  # noqa: PLR0917
    run: Path | None,
    seed: int | None,
    ensemble: bool,
    model_file: str | None,
    model: str | None,
    subset: str | None,
    root: Path | None,
    revision: str | None,
) -> "Subject":
    from medmnist_hf.training.robustness.subject import Subject

    if (run is None) == (model is None):
        raise TrainingError("name one model: a run with --run, or another model with --model and --subset")
    if ensemble and seed is not None:
        raise TrainingError("--ensemble uses all seeds and --seed one: leave one of them out")
    if run is not None:
        return Subject.of_run(run, seed=seed, ensemble=ensemble, model_file=model_file)
    given = {"--seed": seed is not None, "--ensemble": ensemble, "--model-file": model_file is not None}
    if wrong := [name for name, is_given in given.items() if is_given]:
        raise TrainingError(f"{wrong[0]} is for a run: leave it out, or name a run with --run")
    if subset is None:
        raise TrainingError("--model needs the data that it was trained on: add --subset, e.g. breastmnist-224")
    from medmnist_hf.training.data_source import locate_data

    fields = locate_data({"dataset": subset, "root": None if root is None else str(root), "revision": revision})
    return Subject.of_model(str(model), fields["dataset"], fields["size"])


def _folder(run: Path | None, subject: "Subject") -> Path:
    if run is not None:
        return run / "robustness" / subject.suffix
    recipe = subject.recipe
    return Path("robustness", f"{recipe.dataset}-{recipe.size}-{subject.architecture}")


def _run_here(
    bench: "Bench",
    names: Sequence[str],
    device: str,
    batch_size: int | None,
    threads: int | None,
    *,
    force: bool,
    quiet: bool,
) -> None:
    from medmnist_hf.conversion.batch import usable_cores
    from medmnist_hf.training.robustness.measure import measure, passes
    from medmnist_hf.training.running import process_state

    place, subject, total = process_state(device).device, bench.subject, bench.rows * passes(names)
    if not quiet:
        console.echo(
            f"{subject.title} {subject.method} {subject.suffix} on {bench.config.where}: {bench.rows:,} test images, "
            f"{passes(names)} times\n  device   {place}\n  folder   {bench.out}",
            err=True,
        )
    with console.progress() as progress:
        task = progress.add_task("", total=total, visible=not quiet)
        measure(
            bench,
            names,
            place,
            batch_size=batch_size,
            threads=threads or usable_cores(),
            force=force,
            on_start=lambda name: progress.update(task, description=name),
            on_progress=lambda count: progress.advance(task, count),
        )


def _run_on(
    context: typer.Context, choice: EngineChoice, bench: "Bench", names: Sequence[str], *, force: bool
) -> None:
    """Measure each corruption as a task of an engine."""
    if not choice.open().sees_results:
        raise JobError(
            f"a report reads what its tasks measured, which {choice.name} keeps elsewhere: use local, slurm or ray"
        )
    identity = bench.identity()
    tasks = [
        replace(
            Task.of(name, *command_of(context, leave_out=_PER_TASK), "--corruptions", name, "--no-report", "--quiet"),
            cwd=str(Path.cwd()),
        )
        for name in names
    ]
    path = bench.out / JOBS_DIR
    decide = unless_continued(TaskFolder(path), tasks) if force else lambda task: None
    run_on(
        choice,
        path,
        tasks,
        is_done=lambda task: decide(task) if force else bench.stored(task.name, identity) is not None,
        repeat=force,
        dry_run=bool(context.params["dry_run"]),
    )


def _report(bench: "Bench") -> None:
    from medmnist_hf.training.robustness.report import print_robustness, write_robustness

    result = bench.report(bench.identity())
    if result is None:
        console.echo(f"no report yet: it needs clean images and a corruption, measured to {bench.out}")
        return
    print_robustness(result)
    for path in write_robustness(result, bench.out, bench.subject.architecture):
        console.echo(f"wrote {path}")


def compare(files: Sequence[Path]) -> None:
    """Rank reports, and print a table for each subset."""
    from medmnist_hf.training.robustness.ranking import means, rank

    lines = rank(files)
    for flag in dict.fromkeys(line.subset for line in lines):
        chosen = [line for line in lines if line.subset == flag]
        table = console.table("rank", "model", "BE", "rBE", "clean error", text=("model",), wrap="model")
        for line in chosen:
            place, values = "-" if line.rank is None else str(line.rank), line.errors
            table.add_row(place, line.name, *(f"{value:.3f}" for value in (values.be, values.rbe, values.clean)))
        console.echo(f"{flag}, by BE (lower is better)")
        console.terminal().print(table)
        for line in chosen:
            for note in line.notes:
                console.echo(f"{line.name}: {note}")
        console.echo("")
    if averaged := means(lines):
        table = console.table("model", "BE", "rBE", "clean error", text=("model",))
        for row in averaged:
            table.add_row(row.name, *(f"{value:.3f}" for value in (row.be, row.rbe, row.clean)))
        console.echo("mean over subsets, of models with a rank in each")
        console.terminal().print(table)
