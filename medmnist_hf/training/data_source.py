"""The data of a recipe: the subsets that it names, and the name as written by the user, resolved into fields."""

from collections.abc import Mapping
from typing import Any, Literal

from medmnist_hf import catalog
from medmnist_hf.catalog import Subset
from medmnist_hf.data.configs import config_at
from medmnist_hf.errors import CatalogError, TrainingError, shorten
from medmnist_hf.joint.labels import ALL_OF, JointLabels, expand_names
from medmnist_hf.places.names import parse_name
from medmnist_hf.places.resolver import Build, find, find_below, resolve_config, resolve_name


class NamedData:
    """Properties of a recipe that follow from the data it names."""

    __slots__ = ()
    dataset: str
    size: int
    root: str | None
    repository: str | None
    channels: Literal["images", 1, 3]
    image_size: int | Literal["auto"] | None

    @property
    def source(self) -> str:
        """The name by which the data is found: in `root` if given, otherwise on the Hub or by the usual search."""
        return self.dataset if self.root is not None or self.repository is None else self.repository

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """The subsets, one or more. Raises `CatalogError` if a flag is unknown or they cannot be combined."""
        return subsets_of(self.dataset)

    @property
    def is_joint(self) -> bool:
        """Whether one model is trained on several subsets."""
        return "," in self.dataset or self.dataset in ALL_OF

    @property
    def subset(self) -> Subset:
        """The subset. Raises `CatalogError` if the flag is unknown, `TrainingError` if there are several."""
        if self.is_joint:
            raise TrainingError(f"{shorten(self.dataset)} names several subsets, which only training reads: name one")
        return catalog.subset(self.dataset)

    @property
    def config(self) -> str:
        """Name of the config, e.g. ``28``; for one subset."""
        return self.subset.config_name(self.size)

    @property
    def ndim(self) -> int:
        """Number of dimensions of the images: 2, or 3 for volumes."""
        return self.subsets[0].ndim

    @property
    def stored_channels(self) -> int:
        """Channels of the images as a batch holds them: 3 for RGB, also if only some subsets are RGB, otherwise 1."""
        return max(entry.channels for entry in self.subsets)

    @property
    def input_channels(self) -> int:
        """Channels of the network's input."""
        return self.stored_channels if self.channels == "images" else self.channels

    @property
    def input_size(self) -> int:
        """Size of the network's input; ``auto``, which is resolved when the network is built, counts as not given."""
        return self.image_size if isinstance(self.image_size, int) else self.size


def subsets_of(dataset: str) -> tuple[Subset, ...]:
    """The subsets that a flag, flags with commas in between, ``all-2d`` or ``all-3d`` name.

    Raises:
        CatalogError: A flag is unknown, or the subsets cannot be combined.
    """
    return JointLabels.of(dataset).subsets


def locate_data(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say which data to read: flag, size, and root or repository and revision.

    Args:
        values: Field -> value, with the name of the data under ``dataset``: a name, or flags with commas in between,
            ``all-2d`` or ``all-3d``.

    Raises:
        CatalogError: The name is not valid.
        SourceError: There is no such build, or the name cannot be combined with root or revision.
        BuildError: A manifest cannot be read.
    """
    size, root, revision = values.get("size"), values.get("root"), values.get("revision")
    names = [] if "/" in values["dataset"] else expand_names(values["dataset"])  # a path may contain a comma
    if len(names) > 1:
        return _locate_several([str(name) for name in names], values)
    named = resolve_name(values["dataset"], root, revision)
    if named.path is not None:
        build = find(named.path, size)
        assert isinstance(build, Build)  # `find` rejects every other path
        # A build in a folder not named after its subset is found only by its path.
        root = named.text if find_below(named.path, build.entry, build.size) else str(build.folder)
        return {"dataset": build.entry.flag, "size": build.size, "root": root, "repository": None}
    entry = named.entry or config_at(find(named.text, size, revision=revision)).entry
    chosen, number = resolve_config(named, size, entry)
    fields = {"dataset": (chosen or entry).flag, "size": number or catalog.DEFAULT_SIZE}
    # With a flag, repository and revision stay unchanged, e.g. those in the recipe.yaml of a run.
    is_flag = parse_name(values["dataset"]).repository is None
    return fields if is_flag else fields | {"repository": named.repository, "revision": named.revision}


def _locate_several(names: list[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields for several subsets, which are named by flags and read at one size."""
    sizes, flags = {}, []
    for name in names:
        named = parse_name(name)
        if named.entry is None or named.path is not None or named.repository is not None:
            raise CatalogError(
                f"{shorten(name)} cannot be one of several subsets: name them by their flags, with --root for builds"
            )
        entry, number = resolve_config(named, values.get("size"), named.entry)
        assert entry is not None  # that of the name
        flags.append(entry.flag)
        sizes[entry.flag] = number or catalog.DEFAULT_SIZE
    if values.get("repository") is not None:
        raise CatalogError(f"repository {shorten(values['repository'])} is for one subset: leave it out for several")
    if len(sizes) == len(names) and len(set(sizes.values())) > 1:
        given = ", ".join(f"{flag} at size {size}" for flag, size in sizes.items())
        raise CatalogError(f"{given} cannot be combined: name one size")
    return {"dataset": ",".join(flags), "size": next(iter(sizes.values()))}
