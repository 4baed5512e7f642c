"""One call from a subset's name to its data set, from the Hub or from a local build."""

from pathlib import Path
from typing import Any, Final

from medmnist_hf import catalog
from medmnist_hf.catalog import NAMESPACE
from medmnist_hf.data.configs import build_folder
from medmnist_hf.errors import CatalogError, SourceError, first_line

_UNKNOWN_SPLIT: Final = ("Unknown split ", "Bad split: ", "Unrecognized instruction format: ")
"""How `datasets` begins what it says of a split that it does not find; the middle one is that of streaming."""

_NOT_CACHED: Final = "Couldn't find cache for "
"""How it begins what it says of a config that was never prepared, when it may not ask the Hub for it."""


def load(
    subset: str,
    size: int = catalog.DEFAULT_SIZE,
    split: str | None = None,
    root: str | Path | None = None,
    *,
    namespace: str = NAMESPACE,
    revision: str | None = None,
    streaming: bool = False,
    **options: Any,
) -> Any:
    """Load a subset in one size.

    Args:
        subset: Flag of the subset, e.g. ``pathmnist``.
        size: Edge length in pixels or voxels.
        split: ``train``, ``validation`` or ``test``, or an expression such as ``train[:10%]``; None for all splits.
        root: Folder of local builds, the ``--out`` of ``scripts/build.py``; None loads from the Hub.
        namespace: User or organisation on the Hub.
        revision: Branch, tag or commit of the Hub repository.
        streaming: Read while iterating instead of preparing a local copy.
        **options: Passed on to `datasets.load_dataset`.

    Returns:
        A `datasets.Dataset` for one split, a `datasets.DatasetDict` for all; the iterable forms when streaming. Column
        ``image`` holds a PIL image (2D) or a nested list of uint8 voxels (3D), column ``label`` a class id, or for
        ChestMNIST the list of the findings present.

    Raises:
        CatalogError: Unknown subset or split, or a size it does not have.
        SourceError: No such build in `root`, or no such repository on the Hub.
    """
    # It takes a second to import, and whoever wants arrays that are cached does without.
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    from medmnist_hf.hub.client import limit_waiting

    limit_waiting()
    entry = catalog.subset(subset)
    config = str(entry.file(size).size)
    path = (
        f"{namespace}/{entry.flag}" if root is None else str(build_folder(Path(root).expanduser(), entry.flag, config))
    )
    try:
        return datasets.load_dataset(path, config, split=split, revision=revision, streaming=streaming, **options)
    except (DatasetNotFoundError, ConnectionError) as error:
        raise SourceError(
            f"cannot load {path} ({first_line(error)}): check the name, the network and your token"
        ) from None
    except ValueError as error:
        if str(error).startswith(_NOT_CACHED):
            raise SourceError(
                f"{path} at size {config} is not in the cache, and HF_HUB_OFFLINE is set: load it online once"
            ) from None
        if not str(error).startswith(_UNKNOWN_SPLIT):
            raise
        how = "streaming takes one whole split" if streaming else "or parts of them, such as train[:10%] or train+test"
        raise CatalogError(
            f"unknown split {str(split)!r} of {entry.flag}: choose from {', '.join(catalog.SPLITS)} ({how})"
        ) from None
