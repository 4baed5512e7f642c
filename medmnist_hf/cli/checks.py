"""Commands that check builds: ``medmnist-hf verify`` and ``medmnist-hf audit``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from medmnist_hf import console
from medmnist_hf.catalog import subset
from medmnist_hf.cli.options.data import (
    BuiltData,
    Mirrors,
    PhantomRows,
    PhantomSeed,
    Revision,
    Root,
    Sizes,
    Unverified,
)
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import BuildError, MedMNISTError, cannot_write
from medmnist_hf.extras import suggest_install
from medmnist_hf.files import write_atomically
from medmnist_hf.manifest import AUDIT_NAME
from medmnist_hf.typed_json import encode

if TYPE_CHECKING:
    from medmnist_hf.conversion.checks.audit import Audit
    from medmnist_hf.places.configs import FoundConfig


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command(epilog="Example: medmnist-hf verify dist/breastmnist dist/retinamnist --source zenodo")(verify)
    app.command(epilog="Example: medmnist-hf audit dist/breastmnist dist/retinamnist --size 28 --save")(audit)


@suggest_install("build")
def verify(
    data: BuiltData,
    *,
    size: Sizes = None,
    root: Root = None,
    revision: Revision = None,
    source: Annotated[
        str | None,
        Panel.SOURCE.option(
            help="NPZ files to compare with: zenodo, phantom or a folder.",
            show_default="compare with the manifest of the build",
        ),
    ] = None,
    mirror: Mirrors = None,
    allow_unverified: Unverified = False,
    phantom_rows: PhantomRows = None,
    seed: PhantomSeed = 0,
) -> None:
    """Read every row with load_dataset and compare its pixels and labels with the NPZ file or the manifest."""
    from medmnist_hf.conversion.sources.source import open_source
    from medmnist_hf.places.configs import expand, find_configs

    origin = (
        open_source(
            source, mirrors=mirror or (), allow_unverified=allow_unverified, phantom_rows=phantom_rows, seed=seed
        )
        if source
        else None
    )
    failed = 0
    names = expand(data)
    for name in names:
        try:
            configs = find_configs(name, size or (), root=root, revision=revision)
        except MedMNISTError as error:
            failed += 1
            console.print_error(error)
            continue
        for config in configs:
            manifest = config.manifest
            rows = sum(record.rows for record in manifest.splits.values())
            try:
                with console.progress() as progress:
                    task = progress.add_task(f"verifying {manifest.subset} {manifest.size}", total=rows)
                    from medmnist_hf.conversion.checks.verify import verify_config  # slow, so show the bar first

                    file = origin.fetch(subset(manifest.subset), manifest.size) if origin else None
                    result = verify_config(
                        config.fetch(),
                        file,
                        on_progress=lambda count, bar=progress, task=task: bar.advance(task, count),  # type: ignore[misc]
                    )
                where = f" ({config.local or name})" if len(names) > 1 or len(configs) > 1 else ""
                console.echo(
                    f"ok: {result.subset} {result.size}: {result.rows:,} rows in {result.shards} shards "
                    f"equal {result.against}{where}"
                )
            except MedMNISTError as error:
                failed += 1
                console.print_error(error)
    if failed:
        raise typer.Exit(1)


def _audit(config: "FoundConfig") -> "Audit":
    from medmnist_hf.conversion.checks.audit import audit_config

    manifest = config.manifest
    rows = sum(record.rows for record in manifest.splits.values())
    with console.progress() as progress:
        task = progress.add_task(f"auditing {manifest.subset} {manifest.size}", total=rows)
        return audit_config(config.fetch(), on_progress=lambda count: progress.advance(task, count))


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
    data: BuiltData,
    *,
    size: Sizes = None,
    root: Root = None,
    revision: Revision = None,
    as_json: Annotated[bool, Panel.OUTPUT.option("--json", help="Print a JSON list of audits, not tables.")] = False,
    save: Annotated[
        bool,
        Panel.OUTPUT.option("--save", help=f"Write {AUDIT_NAME} into the folder of each size, findings on the card."),
    ] = False,
) -> None:
    """Count classes, blank images and exact duplicates of builds, for each split."""
    from medmnist_hf.conversion.checks.audit import FORMAT
    from medmnist_hf.places.configs import expand, find_configs

    audits = []
    failed = 0
    for name in expand(data):
        try:
            configs = find_configs(name, size or (), root=root, revision=revision, local=save)
        except MedMNISTError as error:
            failed += 1
            console.print_error(error)
            continue
        for config in configs:
            try:
                result = _audit(config)
                if save:
                    _save(config.fetch(), result)
            except MedMNISTError as error:
                failed += 1
                console.print_error(error)
                continue
            audits.append(result)
            if not as_json:
                _print(result)
    if as_json:
        console.print_json([{"format": FORMAT} | encode(each) for each in audits])
    if failed:
        raise typer.Exit(1)
