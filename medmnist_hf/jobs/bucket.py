"""A bucket of the Hugging Face Hub: list, write and fetch small files."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError


class Bucket:
    """Files of a bucket; all paths are relative to its root. Errors are those of `huggingface_hub`."""

    def __init__(self, name: str, api: HfApi) -> None:
        self.name = name
        self._api = api

    def create(self) -> None:
        """Create the bucket, which nobody else can read, unless it exists."""
        self._api.create_bucket(self.name, private=True, exist_ok=True)

    def names(self, folder: PurePosixPath) -> set[str]:
        """Names of the files in a folder; empty if it does not exist."""
        prefix = "" if folder == PurePosixPath() else str(folder)
        try:
            paths = [PurePosixPath(item.path) for item in self._api.list_bucket_tree(self.name, prefix or None)]
        except EntryNotFoundError:
            return set()
        return {path.name for path in paths if path.parent == folder}

    def write(self, files: Mapping[PurePosixPath, bytes], remove: Iterable[PurePosixPath] = ()) -> None:
        """Write files and remove others."""
        add: list[tuple[str | Path | bytes, str]] = [(content, str(path)) for path, content in files.items()]
        delete = [str(path) for path in remove]
        if add or delete:
            self._api.batch_bucket_files(self.name, add=add, delete=delete)

    def fetch(self, files: Mapping[PurePosixPath, Path]) -> None:
        """Fetch files that exist to paths of this machine."""
        if files:
            self._api.download_bucket_files(self.name, [(str(path), local) for path, local in files.items()])
