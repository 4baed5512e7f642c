"""Which data a recipe reads: a name as people give it, taken apart into the fields of a recipe."""

from collections.abc import Mapping
from typing import Any

from medmnist_hf import catalog
from medmnist_hf.data.configs import config_at
from medmnist_hf.places.names import parse_name
from medmnist_hf.places.resolver import Build, find, find_below, named_data, wanted_size


def located(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say which data is read, for a name of any form: the flag, its size, and the place where it is.

    Raises:
        CatalogError: The name is none.
        SourceError: There is no such build, or the name does not go together with root or revision.
        BuildError: A manifest cannot be read.
    """
    size, root, revision = values.get("size"), values.get("root"), values.get("revision")
    named = named_data(values["dataset"], root, revision)
    if named.path is not None:
        build = find(named.path, size)
        assert isinstance(build, Build)  # what else a path can be is refused
        # A folder in which the subset has another name is found by its path alone.
        root = named.text if find_below(named.path, build.entry, build.size) else str(build.folder)
        return {"dataset": build.entry.flag, "size": build.size, "root": root, "repository": None}
    entry = named.entry or config_at(find(named.text, size, revision=revision)).entry
    found = {"dataset": entry.flag, "size": wanted_size(named, size, entry) or catalog.DEFAULT_SIZE}
    # A flag leaves the fields as they are, e.g. those of the recipe.yaml of a run.
    is_flag = parse_name(values["dataset"]).repository is None
    return found if is_flag else found | {"repository": named.repository, "revision": named.revision}
