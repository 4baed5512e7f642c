"""Record pixel statistics and class counts of builds of official files in ``medmnist_hf/statistics/recorded.json``.

Later builds of these files are compared with them.

Example:
    python scripts/record_statistics.py dist
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from medmnist_hf import catalog, console
from medmnist_hf.console.program import Program
from medmnist_hf.errors import BuildError
from medmnist_hf.files import write_atomically
from medmnist_hf.manifest import Manifest
from medmnist_hf.places.configs import expand, find_configs
from medmnist_hf.statistics import recorded
from medmnist_hf.statistics.recorded import RECORD_NAME, FileStatistics, parse_recorded, text_of_recorded

RECORD: Final = Path(recorded.__file__).with_name(RECORD_NAME)

app = Program(add_completion=False)


def statistics_of(manifest: Manifest) -> FileStatistics:
    """The statistics in a manifest; a `BuildError` if it has none, or is not of an official file."""
    name = f"{manifest.subset} at size {manifest.size}"
    if not manifest.source.verified:
        raise BuildError(f"{name} was not built from the official file: build it with --source zenodo or a folder")
    splits = {split: record.statistics for split, record in manifest.splits.items() if record.statistics is not None}
    if len(splits) < len(manifest.splits):
        raise BuildError(f"{name} was built before statistics were recorded: build it again with --force")
    return FileStatistics(manifest.source.md5, splits)


@app.command(epilog="Example: python scripts/record_statistics.py dist")
def record(
    builds: Annotated[list[str], typer.Argument(help="Builds of official files, or folders of them.")],
    file: Annotated[Path, typer.Option(help="File to add to.", show_default="that of this package")] = RECORD,
) -> None:
    """Add the statistics of builds of official files to the recorded ones."""
    files = parse_recorded(file.read_bytes()) if file.exists() else {}
    for name in expand(builds):
        for config in find_configs(name, local=True):
            official = catalog.subset(config.manifest.subset).file(config.manifest.size)
            files[official.name] = statistics_of(config.manifest)
            print(f"{official.name}: {len(files[official.name].splits)} splits")
    write_atomically(file, text_of_recorded(files))


if __name__ == "__main__":
    console.run(app)
