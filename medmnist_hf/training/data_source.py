"""Resolve the name of a data set, as written by the user, into the fields of a recipe."""

from collections.abc import Mapping
from typing import Any

from medmnist_hf import catalog
from medmnist_hf.data.configs import config_at
from medmnist_hf.places.names import parse_name
from medmnist_hf.places.resolver import Build, find, find_below, resolve_name, resolve_size


def locate_data(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say which data to read: flag, size, and root or repository and revision.

    Args:
        values: Field -> value, with the name of the data under ``dataset``.

    Raises:
        CatalogError: The name is not valid.
        SourceError: There is no such build, or the name cannot be combined with root or revision.
        BuildError: A manifest cannot be read.
    """
    size, root, revision = values.get("size"), values.get("root"), values.get("revision")
    named = resolve_name(values["dataset"], root, revision)
    if named.path is not None:
        build = find(named.path, size)
        assert isinstance(build, Build)  # `find` rejects every other path
        # A build in a folder not named after its subset is found only by its path.
        root = named.text if find_below(named.path, build.entry, build.size) else str(build.folder)
        return {"dataset": build.entry.flag, "size": build.size, "root": root, "repository": None}
    entry = named.entry or config_at(find(named.text, size, revision=revision)).entry
    fields = {"dataset": entry.flag, "size": resolve_size(named, size, entry) or catalog.DEFAULT_SIZE}
    # With a flag, repository and revision stay unchanged, e.g. those in the recipe.yaml of a run.
    is_flag = parse_name(values["dataset"]).repository is None
    return fields if is_flag else fields | {"repository": named.repository, "revision": named.revision}
