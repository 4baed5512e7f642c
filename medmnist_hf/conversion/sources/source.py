"""Sources of NPZ files: Zenodo and its mirrors with a cache, a folder, or the built-in phantom generator.

Example:
    >>> from medmnist_hf.conversion.sources.source import open_source
    >>> from medmnist_hf.catalog import subset
    >>> open_source("phantom").fetch(subset("pathmnist"), 28).kind
    'phantom'
"""

import contextlib
import logging
import math
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import platformdirs

from medmnist_hf.catalog import DataFile, SplitCounts, Subset, Task
from medmnist_hf.conversion.sources.download import COPY_IT, NoConnectionError, OnBytes, Patience, download, md5_of
from medmnist_hf.conversion.sources.phantom import GENERATOR_VERSION, phantom_counts, write_phantom
from medmnist_hf.errors import SourceError
from medmnist_hf.files import Slots, expand_user, sole_process
from medmnist_hf.manifest import SourceRecord
from medmnist_hf.redaction import redact_url

_log = logging.getLogger(__name__)

ENDPOINT: Final = "https://zenodo.org"
ROOT_VARIABLE: Final = "MEDMNIST_ROOT"
ENDPOINT_VARIABLE: Final = "MEDMNIST_ENDPOINT"

_SOURCE_HINT: Final = "set --source to 'zenodo', 'phantom' or a folder of NPZ files"


def _ignore(received: int, total: int | None) -> None:
    """Ignore the progress of a download."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A local NPZ file, ready to be read.

    Attributes:
        path: Path of the file.
        kind: ``zenodo``, ``folder`` or ``phantom``.
        md5: MD5 of its current content, 32 hex digits.
        bytes: Size in bytes.
        verified: Whether the MD5 is the one in the catalog; always False for a phantom.
        counts: Number of rows that each split must have; None for an unverified file, which may have any number.
    """

    path: Path
    kind: str
    md5: str
    bytes: int
    verified: bool
    counts: SplitCounts | None

    @property
    def record(self) -> SourceRecord:
        """The file as the manifest records it."""
        return SourceRecord(
            kind=self.kind, file=self.path.name, bytes=self.bytes, md5=self.md5, verified=self.verified
        )


class Source(Protocol):
    """Provides the NPZ file of any subset and size."""

    kind: str

    def fetch(self, subset: Subset, size: int, *, into: Path | None = None, on_bytes: OnBytes = _ignore) -> SourceFile:
        """Fetch and check a file.

        Args:
            subset: A subset of the catalog.
            size: One of its sizes.
            into: Folder to download to if the cache does not have the file; None for the cache.
            on_bytes: Called as bytes of a download arrive; not called if nothing is downloaded.

        Raises:
            CatalogError: The subset is not published in that size.
            SourceError: The file is missing, cannot be fetched, or does not have the expected MD5.
        """
        ...


class Zenodo:
    """Downloads files to a cache folder; a cached file with the right MD5 is used without a download.

    Args:
        cache_dir: The cache folder, created when needed; it may be read-only if nothing has to be downloaded.
        mirrors: Base URLs that serve the files by name, tried in order before Zenodo.
        endpoint: Replaces scheme and host of the catalog's URLs.
        patience: Timeouts, minimum speed and number of attempts.
        remedy: What to do without the download, for errors.
        slots: Limits how many processes download at a time; None for no limit.

    Raises:
        SourceError: A URL is not http or https.
    """

    kind = "zenodo"

    def __init__(
        self,
        cache_dir: Path,
        *,
        mirrors: Sequence[str] = (),
        endpoint: str = ENDPOINT,
        patience: Patience | None = None,
        remedy: str = COPY_IT,
        slots: Slots | None = None,
    ) -> None:
        for name, url in [("--mirror", mirror) for mirror in mirrors] + [(ENDPOINT_VARIABLE, endpoint)]:
            _check_address(name, url)
        self.cache_dir = cache_dir
        self.mirrors = tuple(mirrors)
        self.endpoint = endpoint
        self.patience = patience or Patience()
        self._remedy = remedy
        self._slots = slots
        self._connected = True

    def places(self, file: DataFile) -> tuple[str, ...]:
        """URLs from which to download a file, in order of preference."""
        base, official = urlsplit(self.endpoint), urlsplit(file.url)
        path = base.path.rstrip("/") + official.path
        zenodo = urlunsplit((base.scheme, base.netloc, path, official.query, ""))
        return (*(_below(mirror, file.name) for mirror in self.mirrors), zenodo)

    def fetch(self, subset: Subset, size: int, *, into: Path | None = None, on_bytes: OnBytes = _ignore) -> SourceFile:
        """See `Source.fetch`."""
        file = subset.file(size)
        path = self.cache_dir / file.name
        fault = _fault_of(path, file.md5)
        if fault and into is not None:
            path = into / file.name
            fault = _fault_of(path, file.md5)
        if fault:
            with _sole_writer(path, fault):
                # Another process may have fetched the file while this one waited for the lock.
                fault = _fault_of(path, file.md5)
                if fault:
                    if path.exists():
                        _log.warning("%s: downloading it again", fault)
                    with self._slot():
                        self._download(subset, size, path, on_bytes)
        return SourceFile(path, self.kind, file.md5, path.stat().st_size, verified=True, counts=subset.counts)

    def _download(self, subset: Subset, size: int, path: Path, on_bytes: OnBytes) -> None:
        file = subset.file(size)
        places, most = self.places(file), largest_npz(subset, size)
        # Without a network, only the first of many files waits for a connection.
        patience = self.patience if self._connected else replace(self.patience, unconnected=1)
        self._connected = True
        try:
            download(places, path, file.md5, most, patience, on_bytes=on_bytes, remedy=self._remedy)
        except NoConnectionError:
            self._connected = False
            raise

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        """Hold a slot for a download."""
        with contextlib.ExitStack() as stack:
            if self._slots is not None:
                try:
                    stack.enter_context(self._slots.hold("downloading"))
                except OSError as error:
                    raise SourceError(
                        f"cannot wait for a download in {self._slots.folder} ({error.strerror}): check the folder"
                    ) from None
            yield

    def expected_file(self, subset: Subset, size: int) -> SourceFile:
        """The file that `fetch` will return, without fetching it; its size is unknown, so `bytes` is 0."""
        file = subset.file(size)
        return SourceFile(self.cache_dir / file.name, self.kind, file.md5, 0, verified=True, counts=subset.counts)


class Folder:
    """Reads official files from a folder.

    Args:
        folder: Folder of files named as in the catalog.
        allow_unverified: Accept a file whose MD5 differs from the catalog's, with any number of rows.

    Raises:
        SourceError: The folder does not exist.
    """

    kind = "folder"

    def __init__(self, folder: Path, *, allow_unverified: bool = False) -> None:
        if _is(folder, stat.S_ISREG):
            raise SourceError(f"{folder} is a file: set --source to its folder, {folder.parent}")
        if not _is(folder, stat.S_ISDIR):
            raise SourceError(f"no folder {folder}: {_SOURCE_HINT}")
        self.folder = folder
        self.allow_unverified = allow_unverified

    def fetch(self, subset: Subset, size: int, *, into: Path | None = None, on_bytes: OnBytes = _ignore) -> SourceFile:
        """See `Source.fetch`; the file is read where it is."""
        file = subset.file(size)
        path = self.folder / file.name
        if not _is(path, stat.S_ISREG):
            raise SourceError(
                f"no file {file.name} in {self.folder}: copy it there, or use --source zenodo to download it"
            )
        md5 = md5_of(path)
        verified = md5 == file.md5
        if not verified:
            fault = f"{path} has MD5 {md5}, but the catalog has {file.md5}"
            if not self.allow_unverified:
                raise SourceError(
                    f"{fault}: the file is damaged or from another release; use --source zenodo to download it, "
                    f"or accept it with --allow-unverified"
                )
            _log.warning("%s: accepted unverified", fault)
        counts = subset.counts if verified else None
        return SourceFile(path, self.kind, md5, path.stat().st_size, verified=verified, counts=counts)


class Phantom:
    """Generates synthetic files and keeps them in the folder ``phantom/`` of a cache folder.

    Args:
        cache_dir: The cache folder, created when needed.
        rows: Rows of the train split; see `medmnist_hf.conversion.sources.phantom.phantom_counts`.
        seed: Any non-negative integer.
    """

    kind = "phantom"

    def __init__(self, cache_dir: Path, *, rows: int | None = None, seed: int = 0) -> None:
        self.folder = cache_dir / "phantom"
        self.rows = rows
        self.seed = seed

    def fetch(self, subset: Subset, size: int, *, into: Path | None = None, on_bytes: OnBytes = _ignore) -> SourceFile:
        """See `Source.fetch`; an existing file is reused if it has the MD5 recorded in its ``.md5`` file."""
        stem = subset.file(size).name.removesuffix(".npz")
        counts = phantom_counts(subset, self.rows)
        path = self.folder / f"{stem}-rows{counts.train}-seed{self.seed}-v{GENERATOR_VERSION}.npz"
        md5 = _recorded_md5(path)
        if into is not None and _fault_of(path, md5):
            path = into / path.name
            md5 = _recorded_md5(path)
        if _fault_of(path, md5):
            with _sole_writer(path, f"{path} must be generated"):
                md5 = _recorded_md5(path)
                if _fault_of(path, md5):
                    md5 = _generate(path, subset, size, counts, self.seed)
        return SourceFile(path, self.kind, md5, path.stat().st_size, verified=False, counts=counts)


def open_source(
    spec: str,
    *,
    mirrors: Sequence[str] = (),
    allow_unverified: bool = False,
    cache_dir: Path | None = None,
    endpoint: str | None = None,
    phantom_rows: int | None = None,
    seed: int = 0,
    patience: Patience | None = None,
    remedy: str = COPY_IT,
    slots: Slots | None = None,
) -> Source:
    """Open the source named by ``--source``.

    Args:
        spec: ``zenodo``, ``phantom`` or a folder (``./zenodo`` for a folder of that name).
        mirrors: Base URLs to try before Zenodo.
        allow_unverified: Accept files in a folder whose MD5 differs from the catalog's.
        cache_dir: Cache folder. By default, downloads go to `download_cache` and phantoms to `user_cache`.
        endpoint: Replaces https://zenodo.org; by default, the environment variable ``MEDMNIST_ENDPOINT``.
        phantom_rows: Rows of a phantom's train split.
        seed: Seed of the phantom. Any value but 0 requires ``phantom``.
        patience: Timeouts, minimum speed and number of attempts of a download.
        remedy: What to do without a download, for errors.
        slots: Limits how many processes download at a time; None for no limit.

    Raises:
        SourceError: The source does not exist, or does not support an option.
    """
    if mirrors and spec != "zenodo":
        raise SourceError(f"--mirror requires --source zenodo, not {spec!r}: omit one of them")
    for option, is_set in (("--phantom-rows", phantom_rows is not None), ("--seed", seed != 0)):
        if is_set and spec != "phantom":
            raise SourceError(f"{option} requires --source phantom, not {spec!r}: omit one of them")
    if spec == "zenodo":
        if allow_unverified:
            raise SourceError("--allow-unverified requires a folder, since downloads are always checked: omit it")
        base_url = endpoint or os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT
        cache = cache_dir or download_cache()
        return Zenodo(cache, mirrors=mirrors, endpoint=base_url, patience=patience, remedy=remedy, slots=slots)
    if spec == "phantom":
        if allow_unverified:
            raise SourceError(
                "--allow-unverified requires a folder, since a phantom is never an official file: omit it"
            )
        return Phantom(cache_dir or user_cache(), rows=phantom_rows, seed=seed)
    if not spec.strip():
        raise SourceError(f"--source is empty: {_SOURCE_HINT}")
    return Folder(expand_user(spec), allow_unverified=allow_unverified)


def largest_npz(subset: Subset, size: int) -> int:
    """Upper bound of the file size of a subset, in bytes: its uncompressed arrays, plus 1 % and 64 KiB of overhead."""
    columns = len(subset.labels) if subset.task is Task.MULTI_LABEL else 1
    row = math.prod(subset.file(size).image_shape) + 8 * columns
    return subset.counts.total * row * 101 // 100 + (1 << 16)


def user_cache() -> Path:
    """The project's folder in the user's cache folder; it may not exist yet."""
    return Path(platformdirs.user_cache_dir("medmnist-hf"))


def download_cache() -> Path:
    """Folder of downloaded official files: ``MEDMNIST_ROOT`` if set, else `user_cache`."""
    root = os.environ.get(ROOT_VARIABLE)
    return expand_user(root) if root else user_cache()


def _check_address(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise SourceError(
            f"{name} {redact_url(url)!r} is not a valid URL: give a URL such as https://example.org/medmnist"
        )


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether a path exists and is of a kind; unlike `Path.is_file`, an inaccessible path is an error."""
    try:
        return kind(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise SourceError(f"cannot access {path} ({error.strerror}): check the path and its permissions") from None


def _below(base: str, name: str) -> str:
    parts = urlsplit(base)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def _fault_of(path: Path, md5: str) -> str:
    """Why a cached file cannot be used; empty if it can."""
    if not _is(path, stat.S_ISREG):
        return f"{path.name} is not in {path.parent}"
    current = md5_of(path)
    return "" if current == md5 else f"{path} has MD5 {current} instead of {md5}"


@contextlib.contextmanager
def _sole_writer(path: Path, why: str) -> Iterator[None]:
    """Hold the lock of a cached file; `why` begins the error message if the folder is not writable."""
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(sole_process(path.with_name(path.name + ".lock"), f"making {path.name}"))
        except OSError as error:
            raise SourceError(
                f"{why}, but {path.parent} is not writable ({error.strerror}): "
                f"set {ROOT_VARIABLE} to a writable folder"
            ) from None
        yield


def _md5_path(path: Path) -> Path:
    return path.with_name(path.name + ".md5")


def _recorded_md5(path: Path) -> str:
    try:
        return _md5_path(path).read_text(encoding="ascii").split()[0]
    except (OSError, ValueError, IndexError):
        return ""


def _generate(path: Path, subset: Subset, size: int, counts: SplitCounts, seed: int) -> str:
    """Remove temporary files of killed runs, which is safe under the lock; write a phantom, and its MD5 last."""
    for left_over in path.parent.glob(f".{path.name}.*.tmp"):
        left_over.unlink(missing_ok=True)
    write_phantom(path, subset, size, counts, seed)
    md5 = md5_of(path)
    note = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        note.write_text(f"{md5}  {path.name}\n", encoding="ascii")
        note.replace(_md5_path(path))
    except OSError as error:
        raise SourceError(f"cannot write {_md5_path(path)} ({error.strerror}): free some space") from None
    return md5
