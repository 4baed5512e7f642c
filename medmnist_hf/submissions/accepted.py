"""The results of accepted entries on one subset, recomputed from their prediction files.

Example:
    >>> from medmnist_hf.submissions.accepted import read_accepted
    >>> read_accepted("you/medmnist-leaderboard", "breastmnist").results  # doctest: +SKIP
    ()
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.constants import REPO_TYPE_DATASET

from medmnist_hf.catalog import subset
from medmnist_hf.errors import HubError, ScoreError
from medmnist_hf.hub.client import MAIN, hub_api
from medmnist_hf.hub.repo_id import split_revision
from medmnist_hf.hub.tree import read_tree
from medmnist_hf.leaderboard.results import Result
from medmnist_hf.submissions.check import check_entry, read_entry
from medmnist_hf.submissions.entry import ENTRY_NAME
from medmnist_hf.submissions.repository import fetched_results
from medmnist_hf.submissions.rows import ENTRIES


@dataclass(frozen=True, slots=True)
class Accepted:
    """The results of entries on one subset.

    Attributes:
        results: Their results.
        notes: Entries that are left out, each with the reason.
    """

    results: tuple[Result, ...]
    notes: tuple[str, ...]


def read_accepted(
    place: str,
    flag: str,
    *,
    data: str | Path | None = None,
    root: str | Path | None = None,
    on_file: Callable[[str], object] = lambda path: None,
) -> Accepted:
    """Score the prediction files of all entries for one subset; an entry with faults is left out.

    Args:
        place: An entry, a folder of entries, or a repository on the Hub, as ``you/medmnist-leaderboard[@revision]``.
        flag: Flag of the subset, in any letter case.
        data: Name of the data set with the labels; by default the subset itself.
        root: Folder of builds or of NPZ files with the labels.
        on_file: Called with the path of each file before it is read.

    Raises:
        ScoreError: The place is neither.
        HubError: The repository cannot be read.
        MedMNISTError: The labels cannot be read.
    """
    flag, folder = subset(flag).flag, Path(place)
    if folder.is_dir():
        folders = [folder] if (folder / ENTRY_NAME).exists() else _inside(folder)
        if not folders:
            raise ScoreError(f"{place} holds no entry: an entry is a folder with {ENTRY_NAME}")
        return _score(folders, flag, data, root, on_file)
    repository = split_revision(place)
    if repository is None:
        raise ScoreError(f"{place} is neither a folder of entries nor a repository such as you/medmnist-leaderboard")
    api, (repo_id, revision) = hub_api(), repository
    tree = read_tree(api, repo_id, revision or MAIN, repo_type=REPO_TYPE_DATASET)
    if not any(path.startswith(f"{ENTRIES}/") for path in tree.files):
        raise HubError(f"{place} holds no {ENTRIES}: name a repository of entries")
    with fetched_results(api, tree, flag) as downloaded:
        return _score(_inside(downloaded), flag, data, root, on_file)


def _inside(folder: Path) -> list[Path]:
    """The entries in a folder, or in its folder ``entries``, by name."""
    top = folder / ENTRIES if (folder / ENTRIES).is_dir() else folder
    return sorted(path.parent for path in top.glob(f"*/{ENTRY_NAME}"))


def _score(
    folders: Iterable[Path],
    flag: str,
    data: str | Path | None,
    root: str | Path | None,
    on_file: Callable[[str], object],
) -> Accepted:
    results: list[Result] = []
    notes: list[str] = []
    for folder in folders:
        try:
            if flag not in read_entry(folder).results:
                continue
            checked = check_entry(folder, data=data, root=root, only=flag, on_file=on_file)
        except ScoreError as error:
            notes.append(f"the entry {folder.name} is left out: {error}")
            continue
        if checked.faults:
            notes.append(f"the entry {folder.name} is left out: {checked.faults[0]}")
        else:
            results += [row.result() for row in checked.rows]
    return Accepted(tuple(results), tuple(notes))
