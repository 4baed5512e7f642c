"""The part of the project's README that comes from the catalogue: the table of the 18 subsets."""

from pathlib import Path
from typing import Final

from medmnist_hf.catalog import SPLITS, subsets
from medmnist_hf.errors import BuildError

README: Final = Path(__file__).parents[1] / "README.md"

_START: Final = "<!-- subsets: rendered by scripts/render_cards.py -->\n"
_END: Final = "<!-- /subsets -->"


def subset_table() -> str:
    """The 18 subsets as a Markdown table."""
    lines = [
        "| subset | what | task | classes | train / validation / test | sizes | licence |",
        "| --- | --- | --- | ---: | --- | --- | --- |",
    ]
    for subset in subsets():
        kind = "3D" if subset.ndim == 3 else "RGB" if subset.channels == 3 else "gray"
        counts = " / ".join(f"{subset.counts[split]:,}" for split in SPLITS)
        cells = (
            f"[{subset.flag}](cards/{subset.flag}.md)",
            f"{subset.modality}, {kind}",
            subset.task,
            str(len(subset.labels)),
            counts,
            ", ".join(map(str, subset.sizes)),
            subset.license,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_table(readme: str) -> str:
    """A README with its table of subsets as the catalogue has it now.

    Raises:
        BuildError: The README has no place for the table.
    """
    head, start, rest = readme.partition(_START)
    _, end, tail = rest.partition(_END)
    if not start or not end:
        raise BuildError(f"README.md has no place for the table of subsets: put {_START.strip()} and {_END} there")
    return f"{head}{start}\n{subset_table()}\n{end}{tail}"
