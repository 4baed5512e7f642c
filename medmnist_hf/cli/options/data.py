"""Options that several commands share: the argument ``DATA``, ``--root``, ``--size``, and the source of NPZ files."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from medmnist_hf.console.program import Panel
from medmnist_hf.places.resolver import DEFAULT_ROOT, ROOT_VARIABLE

_NAMES: Final = (
    "a subset (pathmnist, pathmnist-64), a repository on the Hub (you/pathmnist@v1), a build (dist/pathmnist)"
)

_PLACES: Final = f"{ROOT_VARIABLE}, {DEFAULT_ROOT}, the cache"
"""Where a subset is searched for on this machine without ``--root``."""

_SEARCH: Final = "to search for the subset."


def _data(about: str) -> Any:
    return typer.Argument(metavar="DATA", help=about, show_default=False)


ReadData = Annotated[str, _data(f"Data set: {_NAMES} or an NPZ file.")]
"""One data set to read; it may be an NPZ file."""

BuiltData = Annotated[
    list[str], _data(f"Builds: {_NAMES}, one size of a build (dist/pathmnist/28), or a folder of builds.")
]
"""Any number of builds, local or on the Hub."""

LocalData = Annotated[
    list[str],
    _data(
        "Builds: a subset (pathmnist), a build (dist/pathmnist) or a folder of them; feature stores: those of a "
        "subset (features/pathmnist) or a folder of them."
    ),
]
"""Any number of local builds or feature stores."""

RootToRead = Annotated[
    Path | None,
    Panel.DATA.option("--root", help=f"Folder of builds or NPZ files {_SEARCH}", show_default=f"{_PLACES}, the Hub"),
]
Root = Annotated[
    Path | None, Panel.DATA.option("--root", help=f"Folder of builds {_SEARCH}", show_default=f"{_PLACES}, the Hub")
]
LocalRoot = Annotated[
    Path | None, Panel.DATA.option("--root", help=f"Folder of builds {_SEARCH}", show_default=_PLACES)
]

Size = Annotated[
    str | None,
    Panel.DATA.option(
        help="Image size in pixels or voxels: 28, 64, 128 or 224.", show_default="the size in DATA, or 28"
    ),
]
Sizes = Annotated[
    list[str] | None, Panel.DATA.option(help="Only these sizes: 28, 64, 128, 224 or all.", show_default="all")
]
Revision = Annotated[str | None, Panel.DATA.option(help="Branch, tag or commit of the data set on the Hub.")]

Mirrors = Annotated[list[str] | None, Panel.SOURCE.option("--mirror", help="Base URL to try before Zenodo.")]
Unverified = Annotated[
    bool,
    Panel.SOURCE.option(
        "--allow-unverified",
        help="Accept NPZ files whose MD5 differs from the catalog.",
    ),
]
SourceIds = Annotated[
    Path | None,
    Panel.SOURCE.option(
        "--source-ids",
        metavar="FOLDER",
        help="Folder of the official CSV files with the source image of each row, SUBSET.csv.",
        show_default=False,
    ),
]
Metadata = Annotated[
    Path | None,
    Panel.SOURCE.option(
        "--metadata", metavar="FILE", help="CSV file about the source images of DermaMNIST.", show_default=False
    ),
]
PhantomRows = Annotated[int | None, Panel.SOURCE.option(min=1, help="Rows of the train split of a phantom.")]
PhantomSeed = Annotated[int, Panel.SOURCE.option(min=0, help="Seed of the phantom.")]
