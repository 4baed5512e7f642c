"""A config as a data set of `datasets`, from the Hub or from a local build."""

import difflib
import errno
import inspect
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from medmnist_hf import catalog
from medmnist_hf.catalog import Subset
from medmnist_hf.data.configs import HubConfig, LocalConfig
from medmnist_hf.errors import BuildError, CatalogError, MedMNISTError, SourceError, cannot_read, first_line
from medmnist_hf.files import read_document, regular_size
from medmnist_hf.manifest import README_NAME, Manifest, Provenance, read_manifest
from medmnist_hf.places.local_paths import check_loadable, escaped_shards, is_pattern
from medmnist_hf.places.resolver import Build, NpzFile, Place, Repository

_UNKNOWN_SPLIT: Final = ("Unknown split ", "Bad split: ", "Unrecognized instruction format: ")
"""How `datasets` begins what it says of a split that it does not find; the second one is that of streaming."""

_VAL: Final = re.compile(r"(?<![\w.])val(?![\w.])")
"""What the official package calls the split ``validation``, alone or in an expression such as ``train+val[:10%]``."""

_OURS: Final = frozenset(
    {"path", "name", "version", "description", "data_dir", "data_files", "split", "revision", "config_kwargs"}
)
"""Arguments of `datasets.load_dataset` and its configs that say what is read, as only `load` itself does."""

_BAD_SLICE: Final = ("Requested slice ", "Percent slice ")
"""How it begins what it says of a part that a split does not have."""


def load_place(
    place: Place, split: str | None = None, *, streaming: bool = False, options: dict[str, Any] | None = None
) -> Any:
    """Load what `medmnist_hf.places.resolver.find` gave; see `medmnist_hf.load`.

    The rows are those of the folder, or of the commit on the Hub, that is named: a copy that `datasets` prepared of
    another build or commit is never used.

    Args:
        place: A build or a repository.
        split: ``train``, ``validation`` (or ``val``), ``test`` or an expression of these; None for all splits.
        streaming: Read while iterating instead of preparing a local copy.
        options: Further arguments of `datasets.load_dataset`.
    """
    options = options or {}
    if isinstance(place, NpzFile):
        raise SourceError(
            f"{place.path} is not a build, which load reads: {place.how_to_build()}, or take load_arrays for its "
            "arrays"
        )
    if isinstance(split, str):
        split = _VAL.sub("validation", split)
    source = _Local(place) if isinstance(place, Build) else _OnHub(place, options.get("token"))
    # It takes a second to import, and whoever wants arrays that are cached does without.
    import datasets

    from medmnist_hf.data.stored_image import decode_safely

    entry, size = source.entry, place.size
    with _errors_of_datasets(source.where, source.folder, entry, size, split, streaming=streaming):
        arguments = source.arguments | options
        found = datasets.load_dataset(name=str(size), split=split, streaming=streaming, **arguments)
        source.check(found, arguments, streaming=streaming)
        _describe(found, entry, source.warning)
        return decode_safely(found, entry, size)


def _describe(found: Any, entry: Subset, warning: str) -> None:
    """Fill what `datasets` leaves empty: description, version, homepage, license and citation of each split."""
    import datasets

    shared = catalog.collection()
    for part in found.values() if isinstance(found, dict) else (found,):
        part.info.description = " ".join(filter(None, (warning, entry.description)))
        part.info.version = datasets.Version(shared.version)
        part.info.homepage, part.info.citation = shared.homepage, catalog.bibtex(entry)
        part.info.license = f"{shared.license_names[entry.license]} ({shared.license_urls[entry.license]})"


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what `datasets.load_dataset` does not take, or what says which rows are read, as the name does.

    Raises:
        MedMNISTError: There is such an argument.
    """
    if not options:
        return
    import datasets
    from datasets.packaged_modules.parquet.parquet import ParquetConfig

    known = {*inspect.signature(datasets.load_dataset).parameters, *inspect.signature(ParquetConfig).parameters}
    known -= _OURS
    for name in options:
        if name in known:
            continue
        if name == "download":
            hint = "pass build=True to download and convert what is missing"
        elif near := difflib.get_close_matches(name, [*known, "build", "root", "size", "split", "streaming"], 1):
            hint = f"did you mean {near[0]}?"
        else:
            hint = "besides its own it takes those of datasets.load_dataset"
        raise MedMNISTError(f"load has no argument {name!r}: {hint}")


class _Local:
    """A config of a local build, whose card and files are those of its manifest."""

    def __init__(self, place: Build) -> None:
        check_loadable(place.folder)
        if place.folder.absolute().name != str(place.size):
            raise SourceError(f"datasets reads {place.folder} if it is named {place.size}: rename the folder")
        folder = place.folder.parent if place.folder.name else place.folder.absolute().parent
        self.entry, self.folder = place.entry, folder
        self.where, self._config = str(folder), place.folder
        manifest = LocalConfig(place).manifest
        self._content_id, self.warning = manifest.content_id, manifest.source.provenance.warning
        self._check_card(folder)
        self._check_files(manifest)
        self.arguments: dict[str, Any] = {"path": str(folder.absolute())}
        if is_pattern(folder):
            self.arguments["data_files"] = escaped_shards(folder, manifest, catalog.SPLITS)

    def _check_card(self, folder: Path) -> None:
        """`datasets` takes the copy that it prepared for the card: one of another build has other rows."""
        try:
            card = read_document(folder / README_NAME)
        except FileNotFoundError:
            raise SourceError(
                f"no {README_NAME} in {folder}: run medmnist-hf build again, it writes the card"
            ) from None
        except OSError as error:
            raise SourceError(cannot_read(folder / README_NAME, error, "check the file")) from None
        if self._content_id.encode() not in card:
            raise SourceError(
                f"{folder / README_NAME} is the card of another build: run medmnist-hf build again, it writes the card"
            )

    def _check_files(self, manifest: Manifest) -> None:
        """Each shard is there in its size and claims no more, and `datasets` finds no other file of these splits."""
        import pyarrow.parquet as pq  # that of `datasets`, which comes next

        from medmnist_hf.data.shards import SHARD_ERRORS, check_footer

        known = {shard.name: shard.bytes for shard in manifest.shards}
        try:
            wrong = [name for name, size in known.items() if regular_size(self._config / name) != size]
            others = [path.name for path in self._config.iterdir() if path.name not in known]
        except OSError as error:
            raise BuildError(cannot_read(error.filename, error, "build the config again with --force")) from None
        if wrong:
            raise BuildError(
                f"{self._config / wrong[0]} is not the shard of the manifest: build the config again with --force"
            )
        entry = catalog.subset(manifest.subset)
        for shard in manifest.shards:
            path = self._config / shard.name
            try:
                check_footer(pq.read_metadata(path), shard.rows, entry, manifest.size)
            except SHARD_ERRORS as error:
                raise BuildError(cannot_read(path, error, "build the config again with --force")) from None
        stray = [name for name in others if name.startswith(tuple(f"{split}-" for split in manifest.splits))]
        if stray:
            raise SourceError(
                f"{self._config / stray[0]} is not in the manifest, and datasets would read it: remove it"
            )

    def check(self, dataset: Any, arguments: dict[str, Any], *, streaming: bool) -> None:
        """The build is still the one of before: else what was prepared may be of both."""
        if read_manifest(self._config).content_id != self._content_id:
            raise SourceError(f"{self._config} was built again while it was read: load it once more")


class _OnHub:
    """A repository at the commit that a revision stands for now."""

    def __init__(self, place: Repository, token: Any) -> None:
        from huggingface_hub.constants import HF_HUB_OFFLINE, REPO_TYPE_DATASET
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        from medmnist_hf.hub.client import client_errors, limit_waiting, reason_of
        from medmnist_hf.hub.tree import download_document

        limit_waiting()
        repository, size = place.repo_id, place.size
        self.folder, self.where, self._place = None, place.where, place
        self._offline = HF_HUB_OFFLINE
        try:
            card = download_document(
                repository, README_NAME, repo_type=REPO_TYPE_DATASET, revision=place.revision, token=token
            )
        except LocalEntryNotFoundError as error:
            raise self._not_cached(reason_of(error)) from None
        except EntryNotFoundError:
            raise SourceError(f"{self.where} has no {README_NAME}: is it a data set of this project?") from None
        except client_errors() as error:
            raise self._unreachable(reason_of(error)) from None
        text = read_document(card)
        banners = [one.banner for one in Provenance if one.banner and one.banner.encode() in text]
        self.warning = f"{', '.join(banners)}: see the card." if banners else ""
        # The cache names the folder of a snapshot by its commit.
        self._size, self._commit = size, card.parent.name
        self.arguments: dict[str, Any] = {"path": repository, "revision": self._commit}
        at_commit = replace(place, revision=self._commit)
        self.entry = place.entry or HubConfig(at_commit, token).entry

    def _not_cached(self, why: str) -> SourceError:
        return _not_cached(self.where, self._place.size) if self._offline else self._unreachable(why)

    def _unreachable(self, why: str) -> SourceError:
        return self._place.unreachable(f"load {self.where}", why)

    def check(self, dataset: Any, arguments: dict[str, Any], *, streaming: bool) -> None:
        """It is of this commit: where the Hub fails, `datasets` takes the latest copy it has, of whatever commit."""
        import datasets

        splits = dataset.values() if isinstance(dataset, dict) else (dataset,)
        files = [] if streaming else [file["filename"] for split in splits for file in split.cache_files]
        commits = {Path(file).parent.name for file in files}
        if not files:  # nothing is on the disk
            known = ("cache_dir", "features", "download_config", "token", "storage_options")
            chosen = {name: arguments[name] for name in ("path", "revision", *known) if name in arguments}
            commits = {datasets.load_dataset_builder(name=str(self._size), **chosen).hash}
        if commits - {self._commit}:
            raise self._not_cached("the Hub failed, and the cache has another revision alone")


def _unreachable(where: str, why: str) -> SourceError:
    return SourceError(f"cannot load {where} ({why}): check the name, the network and your token")


def _not_cached(where: str, size: int) -> SourceError:
    return SourceError(
        f"cannot load {where} at size {size}: it is not in the cache, and HF_HUB_OFFLINE is set: load it online once"
    )


_NOT_CACHED: Final = "Couldn't find cache for"
"""How `datasets` begins where another config of the data set is in its cache."""

_NOT_WRITABLE: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT}
_NOT_MADE: Final = {errno.ENOENT, errno.EEXIST, errno.ELOOP}
"""What the system says where a folder of a path is a link to nothing, or lies where none can be made."""


@contextmanager
def _errors_of_datasets(
    where: str, folder: Path | None, entry: Subset, size: int, split: object, *, streaming: bool
) -> Iterator[None]:
    """Turn whatever `datasets` and all it is built on raise into one line."""
    from huggingface_hub import HfFileSystem
    from huggingface_hub.errors import HfHubHTTPError

    from medmnist_hf.hub.client import reason_of

    try:
        yield
    except MedMNISTError:
        raise
    except Exception as error:  # of five libraries, whose errors share no base
        if isinstance(error, ValueError) and str(error).startswith(_UNKNOWN_SPLIT + _BAD_SLICE):
            how = "streaming takes one whole split" if streaming else "or a part, such as train[:10%], or train+test"
            why = f" ({first_line(error)})" if str(error).startswith(_BAD_SLICE) else ""
            raise CatalogError(
                f"unknown split {str(split)!r} of {entry.flag}{why}: choose from {', '.join(catalog.SPLITS)} ({how})"
            ) from None
        if folder is None:  # what listed the repository keeps its listing, also one without files
            HfFileSystem.clear_instance_cache()
        cause = root_cause(error)
        if fault := cache_fault(error, folder):
            raise fault from None
        if str(error).startswith(_NOT_CACHED):
            raise _not_cached(where, size) from None
        if isinstance(cause, HfHubHTTPError):
            raise _unreachable(where, reason_of(cause)) from error
        raise SourceError(
            f"cannot load {where} ({type(cause).__name__}: {first_line(cause)}): check the name, the options, "
            "the network and your token, or verify the build"
        ) from error


def cache_fault(error: BaseException, folder: Path | None) -> SourceError | None:
    """The error for a home of the Hugging Face libraries that cannot be written to; None if it is another fault.

    Args:
        error: What `datasets` raised.
        folder: The build that it was to read; files outside are those that it writes.
    """
    cause = root_cause(error)
    if not isinstance(cause, OSError) or cause.filename is None:
        return None
    # Where a build is read, a file outside it that is not there is one that could not be made.
    if cause.errno not in (_NOT_WRITABLE if folder is None else _NOT_WRITABLE | _NOT_MADE):
        return None
    path = Path(os.fsdecode(cause.filename)).absolute()
    if folder is not None and path.is_relative_to(folder.resolve()):
        return None
    return SourceError(f"cannot write {path} ({first_line(cause)}): set HF_HOME to a folder that you may write to")


def root_cause(error: BaseException) -> BaseException:
    """The error that others were raised from: `datasets` says no more than that it failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
