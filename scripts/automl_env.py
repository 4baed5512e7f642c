"""Make the environment that an AutoML engine runs in, from the versions that it is known to run with.

Example: python scripts/automl_env.py auto-sklearn
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from medmnist_hf import console
from medmnist_hf.automl.engines import engine, engines
from medmnist_hf.automl.environments import make

NAMES = ", ".join(one.name for one in engines())
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(epilog="Example: python scripts/automl_env.py auto-sklearn")
def main(
    name: Annotated[str, typer.Argument(metavar="ENGINE", help=f"One of {NAMES}.")],
    python: Annotated[
        Path | None,
        typer.Option(help="Interpreter to make it with; looked for on PATH, in pyenv and uv if not given."),
    ] = None,
) -> None:
    """Make a virtual environment for an engine beside this one, in place of one that is there.

    scripts/automl.py finds it by itself. Nothing of it can be seen by the rest of this project.
    """
    make(engine(name), python, partial(print, flush=True))


if __name__ == "__main__":
    console.run(app)
