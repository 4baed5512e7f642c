"""The manifest of a feature store: ``manifest.json``, next to its shards, records the model, its input and the data.

A store holds the features of one subset in one size by one model. Its shards have the names and rows of the shards of
the images: row k of a shard of images is row k of its shard of features. It holds no time stamp and no path.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from medmnist_hf import catalog
from medmnist_hf.catalog import SPLITS
from medmnist_hf.errors import BuildError, CatalogError, cannot_read
from medmnist_hf.files import read_document
from medmnist_hf.manifest import MANIFEST_NAME, Manifest, Provenance, Shard, SourceRecord, shard_name
from medmnist_hf.own_code.names import public_code
from medmnist_hf.typed_json import Bounds, Count, Name, OneOf, Sentence, Sha256, decode_versioned, encode

FORMAT: Final = 1

DTYPES: Final = {"float32": 4, "float16": 2}
"""Type of the features -> bytes per value."""

POOLING: Final = "classifier-input"
"""What is stored: the input of the model's classifier, from which the classifier computes exactly the logits."""

REMEDY: Final = "make the features again with medmnist-hf embed --force"

_LONGEST_SLUG: Final = 60
_Positive = Annotated[int, Bounds(1, (1 << 31) - 1)]


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The model that computed the features.

    Attributes:
        id: Its name in a recipe, e.g. ``timm/vit_small_patch16_224.augreg_in21k``.
        origin: Description of its weights.
        revision: Commit of the weights on the Hub; empty if they are not from there.
        weights_sha256: SHA-256 over names, types, shapes and values of all tensors except those of the classifier.
        parameters: Number of these values.
    """

    id: Name
    origin: Sentence
    revision: str
    weights_sha256: Sha256
    parameters: Count


@dataclass(frozen=True, slots=True)
class InputRecord:
    """What the model read.

    Attributes:
        image_size: Edge length of the input in pixels or voxels.
        resize: How images were brought to that size, as in a recipe.
        channels: Channels of the input.
        mean: Mean per channel in units of 0..1; empty for none.
        std: Standard deviation, as `mean`.
        intensity: Factor on the voxels before normalization; 1 for none.
        volumetric: How a 2D network reads volumes: ``2.5d``, ``3d`` or ``acs``; empty for images.
        depth_stride: Whether strides and pools of a ``2.5d`` network extend along depth.
        slice_pooling: How a ``2.5d`` network pools over slices: ``mean`` or ``max``; empty for others.
        pooling: What is stored, always `POOLING`.
    """

    image_size: _Positive
    resize: Name
    channels: _Positive
    mean: tuple[float, ...]
    std: tuple[float, ...]
    intensity: float
    volumetric: Annotated[str, OneOf("", "2.5d", "3d", "acs")]
    depth_stride: bool
    slice_pooling: Annotated[str, OneOf("", "mean", "max")]
    pooling: Annotated[str, OneOf(POOLING)]


@dataclass(frozen=True, slots=True)
class ComputeRecord:
    """How the features were computed; other batches or hardware may change the last bits of a value.

    Attributes:
        batch_rows: Rows of every batch. Batches start at multiples of it in the split; the last one is padded.
        device: Type of the device, e.g. ``cpu`` or ``cuda``.
    """

    batch_rows: _Positive
    device: Name


@dataclass(frozen=True, slots=True)
class StoreSplit:
    """One split of a store.

    Attributes:
        rows: Number of rows.
        arrow_bytes: Size of the split as Arrow tables, in bytes.
        pixels_sha256: Digest of the pixels, from the manifest of the images.
        labels_sha256: Digest of the labels, likewise.
        shards: The Parquet files, in row order.
    """

    rows: _Positive
    arrow_bytes: Count
    pixels_sha256: Sha256
    labels_sha256: Sha256
    shards: tuple[Shard, ...]


@dataclass(frozen=True, slots=True)
class StoreManifest:
    """Manifest of a feature store.

    Attributes:
        subset: Flag of the subset.
        size: Edge length of the stored images in pixels or voxels.
        model: The model.
        input: What the model read.
        compute: How the features were computed.
        dtype: Type of a value: ``float32`` or ``float16``.
        width: Number of values per row, D.
        source: The NPZ file of the images.
        images_id: Content ID of the images' manifest.
        splits: Split name -> its record, in the order train, validation, test.
        releases: Library -> version, for the libraries that determine the values and the bytes of the shards.
    """

    subset: Name
    size: _Positive
    model: ModelRecord
    input: InputRecord
    compute: ComputeRecord
    dtype: Annotated[str, OneOf(*DTYPES)]
    width: _Positive
    source: SourceRecord
    images_id: Sha256
    splits: dict[str, StoreSplit]
    releases: dict[Name, Name]

    @property
    def config_name(self) -> str:
        """Name of the config in `load_dataset`, and of the folder, e.g. ``28-timm-vit_small_patch16_224``."""
        return config_name(self.size, self.model.id)

    @property
    def provenance(self) -> Provenance:
        """Provenance of the images."""
        return self.source.provenance

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards of all splits."""
        return tuple(shard for record in self.splits.values() for shard in record.shards)

    @property
    def rows(self) -> int:
        """Number of rows of all splits."""
        return sum(record.rows for record in self.splits.values())

    @property
    def content_id(self) -> str:
        """Hash of all shards, 64 hex digits; it is on the card, by which `datasets` identifies its prepared copies."""
        shards = {split: [shard.sha256 for shard in record.shards] for split, record in self.splits.items()}
        return hashlib.sha256(json.dumps([self.subset, self.config_name, shards]).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the text of ``manifest.json``: indented JSON with a final newline, the same for the same content."""
        return json.dumps({"format": FORMAT} | encode(self), indent=2, ensure_ascii=False) + "\n"


def model_slug(model: str) -> str:
    """The name of a model for use in file names, reduced to ASCII letters, digits and ``_.-``, without a folder."""
    return re.sub(r"[^\w.-]+", "-", public_code(model), flags=re.ASCII).strip("-")[-_LONGEST_SLUG:]


def config_name(size: int, model: str) -> str:
    """Name of the config of a model's features, and of its folder within that of the subset."""
    return f"{size}-{model_slug(model)}"


def parse_store(text: str | bytes, where: str) -> StoreManifest:
    """Parse the manifest of a store and check it for contradictions.

    Args:
        text: Content of a ``manifest.json``; bytes are decoded as UTF-8.
        where: Name of the file in an error message.

    Raises:
        BuildError: The text is not a manifest of this format, or is inconsistent.
    """
    try:
        manifest: StoreManifest = decode_versioned(text, StoreManifest, FORMAT)
        _check(manifest)
    except (ValueError, CatalogError) as error:
        raise BuildError(f"{where} is not a valid manifest of features ({error}): {REMEDY}") from None
    return manifest


def _check(manifest: StoreManifest) -> None:
    """Raise a `ValueError` or `CatalogError` if a manifest contradicts itself or the catalog."""
    entry = catalog.subset(manifest.subset)
    official, source = entry.file(manifest.size), manifest.source
    if entry.flag != manifest.subset:
        raise ValueError(f"subset is {manifest.subset}, must be {entry.flag}")
    if source.verified and (source.synthetic or source.md5 != official.md5):
        raise ValueError(f"source is called verified, but its MD5 {source.md5} is not that of {official.name}")
    if tuple(manifest.splits) != SPLITS:
        raise ValueError(f"splits are {', '.join(manifest.splits) or 'missing'}, must be {', '.join(SPLITS)}")
    for split, record in manifest.splits.items():
        names = [shard_name(split, index, len(record.shards)) for index in range(len(record.shards))]
        if not names or [shard.name for shard in record.shards] != names:
            raise ValueError(f"the shard names of {split} are not as expected")
        if sum(shard.rows for shard in record.shards) != record.rows:
            raise ValueError(f"the shards of {split} do not add up to {record.rows} rows")
        least = record.rows * manifest.width * DTYPES[manifest.dtype]
        if sum(shard.bytes for shard in record.shards) < least:  # values are not compressed
            raise ValueError(f"the shards of {split} are too small for {record.rows} rows of {manifest.width} values")


def read_store(folder: Path) -> StoreManifest:
    """Read the manifest in the folder of a store.

    Raises:
        BuildError: The manifest is missing, cannot be read or is not valid.
    """
    path = folder / MANIFEST_NAME
    try:
        text = read_document(path)
    except OSError as error:
        raise BuildError(cannot_read(path, error, REMEDY)) from None
    return parse_store(text, str(path))


def different_data(store: StoreManifest, images: Manifest) -> str:
    """Describe how the images of a store differ from those of a build; empty if all pixels and labels are equal."""
    for split, record in images.splits.items():
        own = store.splits[split]
        if own.rows != record.rows:
            return f"{own.rows:,} {split} rows, not {record.rows:,}"
        for what in ("pixels", "labels"):
            if getattr(own, f"{what}_sha256") != getattr(record, f"{what}_sha256"):
                return f"other {what} in {split}"
    return ""


def different_model(store: StoreManifest, model: ModelRecord, read: InputRecord) -> str:
    """Describe how the model of a store or its input differs from another; empty if both compute the same."""
    if store.model.id != model.id:
        return f"model {store.model.id}, not {model.id}"
    if store.model.weights_sha256 != model.weights_sha256:
        return f"{store.model.origin}, not the same weights as {model.origin} here"
    names = [name for name in InputRecord.__slots__ if getattr(store.input, name) != getattr(read, name)]
    pairs = ((name, getattr(store.input, name), getattr(read, name)) for name in names)
    return ", ".join(f"{name} {_plain(before)}, not {_plain(after)}" for name, before, after in pairs)


def _plain(value: object) -> str:
    return ("/".join(f"{part:g}" for part in value) or "none") if isinstance(value, tuple) else str(value)
