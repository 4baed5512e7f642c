"""What to do about missing data: parts of error messages."""

from collections.abc import Iterable
from pathlib import Path

from medmnist_hf.catalog import Subset
from medmnist_hf.errors import BuildError
from medmnist_hf.manifest import Manifest, read_build


def how_to_build(
    entry: Subset, size: int, root: Path | None = None, source: Path | None = None, *, more: Iterable[Subset] = ()
) -> str:
    """Advice on building a missing config, and those of `more`, e.g. ``run medmnist-hf build pathmnist --size 28``."""
    folder = "" if root is None else f" --root {root}"
    origin = "" if source is None else f" --source {source}"
    flags = [entry.base, *(each.base for each in more)]
    function = "load" if len(flags) == 1 else "load_many"
    python = "" if root is not None or source is not None else f", or in Python {function}(..., build=True)"
    return f"run medmnist-hf build {' '.join(flags)} --size {entry.config_name(size)}{origin}{folder}{python}"


def how_to_reach_hub() -> str:
    """Advice on a repository that cannot be read: in offline mode, neither network nor token is the reason."""
    from huggingface_hub import constants

    return "unset HF_HUB_OFFLINE to use the Hub" if constants.HF_HUB_OFFLINE else "check the network and your token"


def other_sizes(entry: Subset, folders: Iterable[Path]) -> str:
    """Advice on sizes in which a subset is built, e.g. ``take size 64 (dist has it), ``; empty if there are none.

    Args:
        entry: The subset, of which the folders do not have the requested size.
        folders: Folders of builds, or of the subset.
    """
    for folder in folders:
        places = (folder, folder / entry.base)
        sizes = [each.config_name for at in places for each in readable_manifests(at) if each.entry.base == entry.base]
        if sizes:
            return f"take size {' or '.join(sizes)} ({folder} has {'it' if len(sizes) == 1 else 'them'}), "
    return ""


def readable_manifests(folder: Path) -> list[Manifest]:
    """The manifests of a subset's folder, see `medmnist_hf.manifest.read_build`; empty if one cannot be read."""
    try:
        return list(read_build(folder))
    except BuildError:
        return []
