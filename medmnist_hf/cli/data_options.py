"""How every verb is told which data: the positional ``DATA``, ``--root`` and ``--size``."""

from pathlib import Path
from typing import Annotated, Final

import typer

from medmnist_hf.places.resolver import DEFAULT_ROOT, ROOT_VARIABLE

_NAMES: Final = (
    "a flag (pathmnist, pathmnist-64), a repository on the Hub (you/pathmnist@v1), a build (dist/pathmnist)"
)

_ROOT: Final = (
    f"Folder of {{}}, where a flag is looked up. [default: {ROOT_VARIABLE}, {DEFAULT_ROOT}, the cache, {{}}]"
)

ReadData = Annotated[
    str, typer.Argument(metavar="DATA", help=f"The data: {_NAMES} or an NPZ file.", show_default=False)
]
"""One data set whose rows are read; an NPZ file will do."""

BuiltData = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA", help=f"The builds: {_NAMES}, one config of it, or a folder of builds.", show_default=False
    ),
]
"""Any number of builds, here or on the Hub."""

LocalData = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA",
        help="The builds: a flag (pathmnist), a build (dist/pathmnist) or a folder of builds.",
        show_default=False,
    ),
]
"""Any number of builds on this machine."""

RootToRead = Annotated[
    Path | None, typer.Option("--root", help=_ROOT.format("builds or NPZ files", "the Hub"), show_default=False)
]
Root = Annotated[Path | None, typer.Option("--root", help=_ROOT.format("builds", "the Hub"), show_default=False)]
LocalRoot = Annotated[
    Path | None,
    typer.Option(
        "--root",
        help=f"Folder of builds, where a flag is looked up. [default: {ROOT_VARIABLE}, {DEFAULT_ROOT}, the cache]",
        show_default=False,
    ),
]

Size = Annotated[
    str | None,
    typer.Option(help="Edge length in pixels or voxels. [default: that of the name, or 28]", show_default=False),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option(help="These sizes alone: 28, 64, 128, 224 or all; repeatable. [default: all]", show_default=False),
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of the data on the Hub.", show_default=False)
]
