"""Build a config that is missing on this machine, from the official file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from medmnist_hf.catalog import Subset
from medmnist_hf.extras import suggest_install
from medmnist_hf.places.local_paths import check_loadable
from medmnist_hf.places.resolver import Build

if TYPE_CHECKING:
    from medmnist_hf.conversion.batch import Planned

_BAR_AFTER: Final = 2.0
"""Seconds after which a progress bar appears."""


def build_missing(entry: Subset, size: int, root: Path) -> Build:
    """Build a config from the official file, with progress bars like the downloads of the Hugging Face libraries.

    Args:
        entry: The subset.
        size: Edge length in pixels or voxels.
        root: Folder of builds to write it to; created if needed.

    Raises:
        SourceError: The official file cannot be fetched, or `datasets` could not read a build in this folder.
        BuildError: The build cannot be written.
        MedMNISTError: The extra ``build`` is not installed.
    """
    from huggingface_hub import utils

    with suggest_install("build"):
        from medmnist_hf.cards.render import write_card
        from medmnist_hf.conversion.batch import build_all, plan_run
        from medmnist_hf.conversion.build import BuildOptions
        from medmnist_hf.conversion.sources.source import open_source
    check_loadable(root)
    remedy = f"set MEDMNIST_ROOT to a folder that holds {entry.file(size).name}"
    source, options = open_source("zenodo", remedy=f"or {remedy}"), BuildOptions()
    config = entry.config_name(size)
    run = plan_run([entry.base], [config], source, options)
    bars: Any = utils  # its stubs do not export tqdm
    name = f"{entry.base} {config}"
    with (
        bars.tqdm(
            desc=f"downloading {entry.file(size).name}", unit="B", unit_scale=True, delay=_BAR_AFTER
        ) as bytes_bar,
        bars.tqdm(desc=f"building {name}", total=run[0].counts.total, unit="row", delay=_BAR_AFTER) as rows_bar,
    ):

        def on_bytes(planned: "Planned", done: int, total: int | None) -> None:
            bytes_bar.total = total
            bytes_bar.update(done - bytes_bar.n)

        (outcome,) = build_all(
            run,
            source,
            root,
            options,
            write_card=write_card,
            on_bytes=on_bytes,
            on_progress=lambda planned, rows: rows_bar.update(rows),
        )
    if outcome.error is not None:
        raise outcome.error
    return Build(entry, size, root / entry.base / config)
