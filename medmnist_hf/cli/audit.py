"""The command that counts what builds hold: ``medmnist-hf audit``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from medmnist_hf import console
from medmnist_hf.errors import BuildError, MedMNISTError, cannot_write
from medmnist_hf.extras import explained
from medmnist_hf.files import write_atomically
from medmnist_hf.manifest import AUDIT_NAME, Manifest, read_build
from medmnist_hf.typed_json import encode

if TYPE_CHECKING:
    from medmnist_hf.conversion.checks.audit import Audit


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog="Example: medmnist-hf audit dist/breastmnist dist/retinamnist --size 28 --save")(audit)


def _builds(folders: list[Path], sizes: list[int]) -> list[tuple[Path, Manifest]]:
    """Folder and manifest of every config asked for; all are looked up before work starts."""
    found = []
    for folder in folders:
        manifests = [manifest for manifest in read_build(folder) if not sizes or manifest.size in sizes]
        if not manifests:
            of_size = f" of size {' or '.join(map(str, sizes))}" if sizes else ""
            raise BuildError(
                f"no build{of_size} in {folder}: give the folder of a subset, medmnist-hf build makes one"
            )
        found += [(folder / manifest.config_name, manifest) for manifest in manifests]
    return found


def _audit(config_dir: Path, manifest: Manifest) -> "Audit":
    from medmnist_hf.conversion.checks.audit import audit_config

    rows = sum(record.rows for record in manifest.splits.values())
    with console.progress() as progress:
        task = progress.add_task(f"{manifest.subset} {manifest.size}", total=rows)
        return audit_config(config_dir, on_progress=lambda count: progress.advance(task, count))


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
    if any(split.catalogue_rows is not None for split in splits):
        table.add_row("rows in the catalogue", *(f"{split.catalogue_rows:,}" for split in splits))
    for label in next(iter(splits)).label_rows:
        table.add_row(
            f"  {label}", *(f"{split.label_rows[label]:,} ({split.label_shares[label]:6.1%})" for split in splits)
        )
    if any(split.majority is None for split in splits):
        table.add_row("  (none)", *(f"{split.unlabelled:,} ({split.unlabelled_share:6.1%})" for split in splits))
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


@explained("build")
def audit(
    builds: Annotated[list[Path], typer.Argument(metavar="BUILD...", help="Folders of subsets, e.g. dist/pathmnist.")],
    *,
    size: Annotated[list[int] | None, typer.Option(help="Audit these sizes alone; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of audits instead of tables.")] = False,
    save: Annotated[
        bool, typer.Option("--save", help="Keep each audit beside its config and put its findings on the card.")
    ] = False,
) -> None:
    """Count classes, blank images and exact duplicates of built configs, split by split."""
    from medmnist_hf.conversion.checks.audit import FORMAT

    audits = []
    failed = 0
    for config_dir, manifest in _builds(builds, size or []):
        try:
            found = _audit(config_dir, manifest)
            if save:
                _save(config_dir, found)
        except MedMNISTError as error:
            failed += 1
            console.print_error(error)
            continue
        audits.append(found)
        if not as_json:
            _print(found)
    if as_json:
        console.print_json([{"format": FORMAT} | encode(found) for found in audits])
    if failed:
        raise typer.Exit(1)
