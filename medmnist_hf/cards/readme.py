"""Texts that are rendered and committed: a static card per subset, and the table of subsets in the README."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from medmnist_hf.cards.render import card
from medmnist_hf.catalog import SPLITS, Subset, subsets
from medmnist_hf.errors import BuildError, cannot_write
from medmnist_hf.files import write_atomically

_START: Final = "<!-- subsets: rendered by scripts/render_cards.py -->\n"
_END: Final = "<!-- /subsets -->"


def subset_table() -> str:
    """Render the subsets as a Markdown table, followed by a line on their sizes and licenses."""
    lines = [
        "| subset | what | task | classes | train | validation | test |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for subset in subsets():
        kind = "3D" if subset.ndim == 3 else "RGB" if subset.channels == 3 else "gray"
        cells = (
            f"[{subset.flag}](cards/{subset.flag}.md)",
            f"{subset.modality}, {kind}",
            subset.task,
            str(len(subset.labels)),
            *(f"{subset.counts[split]:,}" for split in SPLITS),
        )
        lines.append(f"| {' | '.join(cells)} |")
    facts = [
        f"{name}: {_common_first([subset for subset in subsets() if subset.ndim == ndim], _sizes)}."
        for name, ndim in (("Sizes of images", 2), ("Sizes of volumes", 3))
        if any(subset.ndim == ndim for subset in subsets())
    ]
    licenses = _common_first(subsets(), lambda subset: subset.license)
    return "\n".join([*lines, "", " ".join([*facts, f"License: {licenses}."])]) + "\n"


def _sizes(subset: Subset) -> str:
    return ", ".join(map(str, subset.sizes))


def _common_first(entries: Sequence[Subset], value: Callable[[Subset], str]) -> str:
    """List the most common value of subsets, then every other value with the flags of its subsets."""
    flags: dict[str, list[str]] = {}
    for subset in entries:
        flags.setdefault(value(subset), []).append(subset.flag)
    common, *others = sorted(flags, key=lambda each: len(flags[each]), reverse=True)
    return "; ".join([common, *(f"{other} ({', '.join(flags[other])})" for other in others)])


def update_table(readme: str) -> str:
    """Replace the table of subsets in a README by one rendered from the catalog.

    Raises:
        BuildError: The README lacks the comments that enclose the table.
    """
    head, start, rest = readme.partition(_START)
    _, end, tail = rest.partition(_END)
    if not start or not end:
        raise BuildError(f"README.md does not mark the table of subsets: enclose it in {_START.strip()} and {_END}")
    return f"{head}{start}\n{subset_table()}\n{end}{tail}"


def stale_cards(folder: Path) -> list[str]:
    """Names of the cards in a folder that are missing, differ from what `card` renders, or belong to no subset."""
    expected = {_path(folder, subset): card(subset) for subset in subsets()}
    existing = {path: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    return sorted(path.name for path in expected.keys() | existing.keys() if expected.get(path) != existing.get(path))


def write_static_cards(folder: Path) -> list[Path]:
    """Render the card of every subset into a folder and remove cards that belong to no subset.

    Returns:
        Paths of the cards.

    Raises:
        BuildError: The folder is not writable.
    """
    paths = [_path(folder, subset) for subset in subsets()]
    try:
        for path in set(folder.glob("*.md")) - set(paths):
            path.unlink()
        for path, subset in zip(paths, subsets(), strict=True):
            write_atomically(path, card(subset))
    except OSError as error:
        raise BuildError(cannot_write(f"the cards in {folder}", error, "run again")) from None
    return paths


def _path(folder: Path, subset: Subset) -> Path:
    return folder / f"{subset.flag}.md"
