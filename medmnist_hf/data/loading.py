"""Load a config with `datasets`, from the Hub or from a local build."""

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
from medmnist_hf.places.advice import how_to_reach_hub
from medmnist_hf.places.local_paths import check_loadable, escaped_shards, is_pattern
from medmnist_hf.places.resolver import Build, NpzFile, Place, Repository

_UNKNOWN_SPLIT: Final = ("Unknown split ", "Bad split: ", "Unrecognized instruction format: ")
"""Start of the messages of `datasets` about an unknown split; the second one is raised when streaming."""

_VAL: Final = re.compile(r"(?<![\w.])val(?![\w.])")
"""The official package's name of the split ``validation``, also in an expression such as ``train+val[:10%]``."""

_RESERVED: Final = frozenset(
    {"path", "name", "version", "description", "data_dir", "data_files", "split", "revision", "config_kwargs"}
)
"""Arguments of `datasets.load_dataset` and its configs that `load` sets itself."""

_BAD_SLICE: Final = ("Requested slice ", "Percent slice ")
"""Start of its messages about a slice that a split does not have."""


def load_place(
    place: Place, split: str | None = None, *, streaming: bool = False, options: dict[str, Any] | None = None
) -> Any:
    """Load a place that `medmnist_hf.places.resolver.find` returned; see `medmnist_hf.load`.

    The rows are always those of this folder, or of this commit on the Hub: a copy that `datasets` prepared from
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
            f"{place.path} is not a build, and load reads only builds: {place.how_to_build()}, or use load_arrays"
        )
    if isinstance(split, str):
        split = _VAL.sub("validation", split)
    source = _Local(place) if isinstance(place, Build) else _OnHub(place, options.get("token"))
    # Takes a second to import, which loading cached arrays need not wait for.
    import datasets

    from medmnist_hf.data.stored_image import decode_safely

    entry, size = source.entry, place.size
    config = entry.config_name(size)
    with _errors_of_datasets(source.where, source.folder, entry, config, split, streaming=streaming):
        arguments = source.arguments | options
        dataset = datasets.load_dataset(name=config, split=split, streaming=streaming, **arguments)
        source.check(dataset, arguments, streaming=streaming)
        _describe(dataset, entry, source.warning)
        return decode_safely(dataset, entry, size)


def _describe(dataset: Any, entry: Subset, warning: str) -> None:
    """Fill in what `datasets` leaves empty: description, version, homepage, license and citation of each split."""
    import datasets

    shared = catalog.collection()
    for part in dataset.values() if isinstance(dataset, dict) else (dataset,):
        part.info.description = " ".join(filter(None, (warning, entry.description)))
        part.info.version = datasets.Version(shared.version)
        part.info.homepage, part.info.citation = shared.homepage, catalog.bibtex(entry)
        part.info.license = f"{shared.license_names[entry.license]} ({shared.license_urls[entry.license]})"


def check_options(options: Mapping[str, Any]) -> None:
    """Reject arguments that `datasets.load_dataset` does not have, or that `load` sets itself.

    Raises:
        MedMNISTError: An argument is not valid.
    """
    if not options:
        return
    import datasets
    from datasets.packaged_modules.parquet.parquet import ParquetConfig

    valid = {*inspect.signature(datasets.load_dataset).parameters, *inspect.signature(ParquetConfig).parameters}
    valid -= _RESERVED
    for name in options:
        if name in valid:
            continue
        if name == "download":
            hint = "pass build=True to download and convert what is missing"
        elif near := difflib.get_close_matches(name, [*valid, "build", "root", "size", "split", "streaming"], 1):
            hint = f"did you mean {near[0]}?"
        else:
            hint = "it has its own and those of datasets.load_dataset"
        raise MedMNISTError(f"load has no argument {name!r}: {hint}")


class _Local:
    """A config of a local build, after checking that its card and files match its manifest."""

    def __init__(self, place: Build) -> None:
        check_loadable(place.folder)
        config = place.entry.config_name(place.size)
        if place.folder.absolute().name != config:
            raise SourceError(f"datasets reads {place.folder} if it is named {config}: rename the folder")
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
        """Check the card: `datasets` reuses the copy it prepared for the same card, so each build needs its own."""
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
        """Check each shard's size and footer, and that `datasets` would find no other file for these splits."""
        import pyarrow.parquet as pq  # slow to import, but `datasets` needs it anyway

        from medmnist_hf.data.shards import SHARD_ERRORS, check_footer

        shard_sizes = {shard.name: shard.bytes for shard in manifest.shards}
        try:
            wrong = [name for name, size in shard_sizes.items() if regular_size(self._config / name) != size]
            others = [path.name for path in self._config.iterdir() if path.name not in shard_sizes]
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
        """Check that the build has not been replaced meanwhile: the prepared copy could mix both builds."""
        if read_manifest(self._config).content_id != self._content_id:
            raise SourceError(f"{self._config} was rebuilt while it was being read: load it again")


class _OnHub:
    """A repository at the commit that a revision points to now."""

    def __init__(self, place: Repository, token: Any) -> None:
        from huggingface_hub.constants import HF_HUB_OFFLINE, REPO_TYPE_DATASET
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        from medmnist_hf.hub.client import apply_hub_limits, client_errors, reason_of
        from medmnist_hf.hub.tree import download_document

        apply_hub_limits()
        repository = place.repo_id
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
        banners = [each.banner for each in Provenance if each.banner and each.banner.encode() in text]
        self.warning = f"{', '.join(banners)}: see the card." if banners else ""
        # The cache names a snapshot's folder after its commit.
        self._commit = card.parent.name
        self.arguments: dict[str, Any] = {"path": repository, "revision": self._commit}
        at_commit = replace(place, revision=self._commit)
        self.entry = place.entry or HubConfig(at_commit, token).entry

    def _not_cached(self, why: str) -> SourceError:
        if not self._offline:
            return self._unreachable(why)
        if self._place.searched:
            return self._unreachable("it is not in the cache")
        return _not_cached(self.where, self._place.config)

    def _unreachable(self, why: str) -> SourceError:
        return self._place.unreachable(f"load {self.where}", why)

    def check(self, dataset: Any, arguments: dict[str, Any], *, streaming: bool) -> None:
        """Check the commit of the rows: if the Hub fails, `datasets` silently uses its latest copy of any commit."""
        import datasets

        splits = dataset.values() if isinstance(dataset, dict) else (dataset,)
        files = [] if streaming else [file["filename"] for split in splits for file in split.cache_files]
        commits = {Path(file).parent.name for file in files}
        if not files:  # nothing is on the disk
            options = ("cache_dir", "features", "download_config", "token", "storage_options")
            chosen = {name: arguments[name] for name in ("path", "revision", *options) if name in arguments}
            commits = {datasets.load_dataset_builder(name=self._place.config, **chosen).hash}
        if commits - {self._commit}:
            raise self._not_cached("the Hub failed, and the cache has only another revision")


def _unreachable(where: str, why: str) -> SourceError:
    return SourceError(f"cannot load {where} ({why}): check the name, then {how_to_reach_hub()}")


def _not_cached(where: str, size: str) -> SourceError:
    return SourceError(
        f"cannot load {where} at size {size}, which is not in the cache while HF_HUB_OFFLINE is set: load it online "
        "once"
    )


_NOT_CACHED: Final = "Couldn't find cache for"
"""Start of the message of `datasets` if its cache has only another config of the data set."""

_NOT_WRITABLE: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT}
_NOT_MADE: Final = {errno.ENOENT, errno.EEXIST, errno.ELOOP}
"""System errors for a path with a folder that is a dangling link or cannot be created."""


@contextmanager
def _errors_of_datasets(
    where: str, folder: Path | None, entry: Subset, size: str, split: object, *, streaming: bool
) -> Iterator[None]:
    """Convert whatever `datasets` and its dependencies raise to a one-line error."""
    from huggingface_hub import HfFileSystem
    from huggingface_hub.errors import HfHubHTTPError

    from medmnist_hf.hub.client import reason_of

    try:
        yield
    except MedMNISTError:
        raise
    except Exception as error:  # from five libraries, whose errors share no base class
        if isinstance(error, ValueError) and str(error).startswith(_UNKNOWN_SPLIT + _BAD_SLICE):
            how = "streaming takes one whole split" if streaming else "or a part, such as train[:10%], or train+test"
            why = f" ({first_line(error)})" if str(error).startswith(_BAD_SLICE) else ""
            raise CatalogError(
                f"unknown split {str(split)!r} of {entry.flag}{why}: choose from {', '.join(catalog.SPLITS)} ({how})"
            ) from None
        if folder is None:  # the file system caches its listing of the repository, even an empty one
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
    """The error for an ``HF_HOME`` that is not writable; None if `error` has another cause.

    Args:
        error: The error that `datasets` raised.
        folder: The build it was reading; files outside of it are those that `datasets` writes.
    """
    cause = root_cause(error)
    if not isinstance(cause, OSError) or cause.filename is None:
        return None
    # While a build is read, a missing file outside of it is one that could not be created.
    if cause.errno not in (_NOT_WRITABLE if folder is None else _NOT_WRITABLE | _NOT_MADE):
        return None
    path = Path(os.fsdecode(cause.filename)).absolute()
    if folder is not None and path.is_relative_to(folder.resolve()):
        return None
    return SourceError(f"cannot write {path} ({first_line(cause)}): set HF_HOME to a writable folder")


def root_cause(error: BaseException) -> BaseException:
    """The first error in the chain of causes; the last one of `datasets` only says that it failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
