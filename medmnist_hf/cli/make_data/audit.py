"""The command that describes what builds hold: ``medmnist-hf audit``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from medmnist_hf import console
from medmnist_hf.cli.make_data.tasks import (
    JobsFolder,
    ShowTasks,
    check_seen,
    config_jobs_folder,
    config_tasks,
    look_up,
    result_of,
    run_again,
)
from medmnist_hf.cli.options.data import BuiltData, Metadata, Revision, Root, Sizes, SourceIds
from medmnist_hf.cli.options.engine import EngineConfig, EngineName, Workers, choose_engine
from medmnist_hf.console.program import Panel
from medmnist_hf.documents import parse_json
from medmnist_hf.errors import BuildError, MedMNISTError, cannot_write
from medmnist_hf.extras import suggest_install
from medmnist_hf.files import write_atomically
from medmnist_hf.manifest import AUDIT_NAME
from medmnist_hf.typed_json import encode

if TYPE_CHECKING:
    from medmnist_hf.conversion.added_columns import AddedFiles
    from medmnist_hf.conversion.checks.audit import Audit
    from medmnist_hf.jobs.tasks import Task, TaskFolder
    from medmnist_hf.places.configs import FoundConfig


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog="Example: medmnist-hf audit dist/breastmnist dist/retinamnist --size 28 --save")(audit)


def _audit(config: "FoundConfig", files: "AddedFiles | None", *, save: bool, near: Path | None) -> "Audit":
    """Audit one config, see `audit_config`; with `save`, keep the result in its folder and on the card."""
    from medmnist_hf.conversion.checks.audit import audit_config, keep_near
    from medmnist_hf.exporting.near_pairs import write_pairs

    manifest = config.manifest
    rows = sum(record.rows for record in manifest.splits.values())
    with console.progress() as progress:
        task = progress.add_task(f"auditing {manifest.name}", total=rows * (2 if near else 1))
        folder = config.fetch()
        result = audit_config(
            folder,
            files=files,
            near=None if near is None else lambda pairs: write_pairs(folder, pairs, near),
            on_progress=lambda count: progress.advance(task, count),
        )
    if save:
        result = keep_near(result, folder)
        _save(folder, result)
    return result


def _save(config_dir: Path, audit: "Audit") -> None:
    from medmnist_hf.cards.render import write_card

    path = config_dir / AUDIT_NAME
    try:
        write_atomically(path, audit.to_json())
    except OSError as error:
        raise BuildError(cannot_write(path, error, "check the folder and run again")) from None
    write_card(config_dir.parent)


def _table(audit: "Audit") -> Table:
    table = console.table("", *audit.splits, text=("",), wrap="")
    splits = audit.splits.values()
    table.add_row("rows", *(f"{split.rows:,}" for split in splits))
    if any(split.catalog_rows is not None for split in splits):
        table.add_row("rows in the catalog", *(f"{split.catalog_rows:,}" for split in splits))
    for label in next(iter(splits)).label_rows:
        table.add_row(
            f"  {label}", *(f"{split.label_rows[label]:,} ({split.label_shares[label]:6.1%})" for split in splits)
        )
    if any(split.majority is None for split in splits):
        table.add_row("  (none)", *(f"{split.unlabeled:,} ({split.unlabeled_share:6.1%})" for split in splits))
    table.add_row("accuracy of the best constant answer", *(f"{split.accuracy_floor:.3f}" for split in splits))
    table.add_row("blank", *(f"{split.blank:,}" for split in splits))
    for other in audit.splits:
        table.add_row(
            f"pixel-identical to another row of {other}",
            *(f"{audit.duplicates.shared(split, other):,}" for split in audit.splits),
        )
    for other in audit.splits if audit.near else ():
        table.add_row(
            f"near duplicate of another row of {other}",
            *(f"{audit.near.rows(split, other):,}" for split in audit.splits if audit.near),
        )
    if audit.groups is not None:
        table.add_row(f"{audit.groups.kind}s", *(f"{count:,}" for count in audit.groups.split_groups.values()))
    return table


def _print(audit: "Audit") -> None:
    terminal = console.terminal()
    terminal.print(f"{audit.subset} {audit.size}, from {audit.source}")
    terminal.print(_table(audit))
    for finding in audit.findings:
        terminal.print(f"- {finding}")
    terminal.print()


@suggest_install("build")
def audit(
    context: typer.Context,
    data: BuiltData,
    *,
    size: Sizes = None,
    root: Root = None,
    revision: Revision = None,
    source_ids: SourceIds = None,
    metadata: Metadata = None,
    engine: EngineName = None,
    workers: Workers = None,
    engine_config: EngineConfig = None,
    dry_run: ShowTasks = False,
    jobs_folder: JobsFolder = None,
    as_json: Annotated[bool, Panel.OUTPUT.option("--json", help="Print a JSON list of audits, not tables.")] = False,
    near: Annotated[
        Path | None,
        Panel.OUTPUT.option(
            "--near",
            help="Also search for near duplicates; write all pairs (JSON) and a picture (PNG) into this folder.",
        ),
    ] = None,
    save: Annotated[
        bool,
        Panel.OUTPUT.option("--save", help=f"Write {AUDIT_NAME} into the folder of each size, findings on the card."),
    ] = False,
) -> None:
    """Count classes, blank images and duplicates of builds, for each split.

    Patients, scans or lesions in several splits are counted where the build names them, or a file does: see
    --source-ids. With --engine, each size of a build is a task.
    """
    from medmnist_hf.conversion.added_columns import AddedFiles
    from medmnist_hf.conversion.checks.audit import FORMAT
    from medmnist_hf.places.configs import expand

    choice = choose_engine(engine, workers, engine_config, dry_run=dry_run, jobs_folder=jobs_folder)
    files = AddedFiles.of(source_ids, metadata)
    audits: list[Audit] = []
    failed = 0
    found: list[tuple[str, FoundConfig]] = []
    for name in expand(data):
        configs = look_up(name, size or (), root=root, revision=revision, local=save)
        failed += configs is None
        found += [(name, config) for config in configs or ()]
        for config in () if configs is None or choice else configs:
            try:
                result = _audit(config, files, save=save, near=near)
            except MedMNISTError as error:
                failed += 1
                console.print_error(error)
                continue
            audits.append(result)
            if not as_json:
                _print(result)
    if choice is not None and found:
        check_seen(choice, source_ids, metadata, near)
        tasks = config_tasks(context, found, as_json=True)
        folder = config_jobs_folder(jobs_folder, "audit", tasks)
        ended = run_again(choice, folder, [each.task for each in tasks], dry_run=dry_run)
        if dry_run:
            return
        audits = _audits_of(*ended)
        failed += len(tasks) - len(audits)
        for result in () if as_json else audits:
            _print(result)
    if as_json:
        console.print_json([{"format": FORMAT} | encode(each) for each in audits])
    if failed:
        raise typer.Exit(1)


def _audits_of(folder: "TaskFolder", tasks: "list[Task]") -> "list[Audit]":
    """The audits that tasks printed as JSON, in the order of the tasks."""
    from medmnist_hf.conversion.checks.audit import Audit

    listed = [parse_json(result_of(folder, task)) for task in tasks]
    return [Audit.from_json(json.dumps(audit)) for audits in listed for audit in audits]
