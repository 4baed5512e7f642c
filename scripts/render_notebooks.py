"""Run the notebooks of the documentation and write their outputs into them, or check the committed outputs.

They run in an empty folder on the official files, which are downloaded unless ``MEDMNIST_ROOT`` names their folder.

Example:
    python scripts/render_notebooks.py --check
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from medmnist_hf import console
from medmnist_hf.console.program import Program
from medmnist_hf.errors import TrainingError
from medmnist_hf.files import write_atomically

NOTEBOOKS: Final = Path(__file__).parents[1] / "docs/notebooks"
TOLERANCE: Final = 0.1
"""How far a decimal may lie from the one that is shown: processors and releases of torch round differently, so after a
short training, the accuracy on 156 rows differed by 0.06 between two machines."""

DECIMAL: Final = re.compile(r"-?\d+\.\d+")
SECONDS: Final = 600

app = Program(add_completion=False)


@app.command(epilog="Example: python scripts/render_notebooks.py --check")
def main(
    notebooks: Annotated[
        list[Path] | None, typer.Argument(help="Notebooks; those of the documentation if none is given.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if an output differs.")] = False,
) -> None:
    """Run notebooks and write their outputs into them."""
    import nbformat

    for path in notebooks or sorted(NOTEBOOKS.glob("*.ipynb")):
        shown = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        executed = execute(nbformat.read(path, as_version=4))  # type: ignore[no-untyped-call]
        if check:
            for number, (old, new) in enumerate(zip(shown.cells, executed.cells, strict=True), start=1):
                if not is_same(text_of(old), text_of(new)):
                    raise TrainingError(
                        f"{path.name}: cell {number} printed {text_of(new)!r} instead of {text_of(old)!r}: "
                        "run python scripts/render_notebooks.py"
                    )
        else:
            write_atomically(path, nbformat.writes(executed) + "\n")  # type: ignore[no-untyped-call]
        print(path)


def execute(notebook: Any) -> Any:
    """Run a notebook in a folder of its own, and keep what it printed and showed, without progress and warnings."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "MPLCONFIGDIR": folder,
            "XDG_CACHE_HOME": folder,
        }
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, kernel_name="python3", timeout=SECONDS, resources=resources)
        client.record_timing = False
        client.coalesce_streams = True
        client.extra_arguments = ["--log-level=ERROR"]
        try:
            client.execute(env=os.environ | environment)
        except CellExecutionError as error:
            raise TrainingError(f"a cell failed with {error.ename}: {error.evalue}") from None
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.get("data", {}).pop("image/jpeg", None)  # IPython makes it of what is a PNG, too
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def text_of(cell: Any) -> str:
    """What a cell printed, and the text of its value unless it is a picture."""
    found = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        found.append(output.get("text", "") or ("" if "image/png" in data else data.get("text/plain", "")))
    return "".join(found)


def is_same(old: str, new: str) -> bool:
    """Whether two texts are equal but for decimals, which may differ a little."""
    if DECIMAL.sub("#", old).split() != DECIMAL.sub("#", new).split():
        return False
    pairs = zip(DECIMAL.findall(old), DECIMAL.findall(new), strict=True)
    return all(abs(float(first) - float(second)) <= TOLERANCE for first, second in pairs)


if __name__ == "__main__":
    console.run(app)
