"""The Croissant 1.0 description of a build: JSON-LD that describes its files and records to other tools.

The format: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html. Paths are relative to the file itself,
so the description is valid in a local folder and in a repository.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from medmnist_hf.cards.bibliography import reference
from medmnist_hf.cards.metadata import check_manifests, describe_with_warning, shard_pattern, synthetic_configs, tags
from medmnist_hf.catalog import SPLITS, Subset, Task, bibtex, collection
from medmnist_hf.errors import BuildError
from medmnist_hf.manifest import AGE, GROUP, SOURCE_ID, Manifest

CROISSANT_NAME: Final = "croissant.json"

_PARQUET: Final = "application/x-parquet"
_SPLITS: Final = "splits"
_LABELS: Final = "labels"

# The specification prescribes this context word for word.
_CONTEXT: Final[dict[str, Any]] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        term: f"cr:{term}"
        for term in [
            "citeAs",
            "column",
            "equivalentProperty",
            "extract",
            "field",
            "fileObject",
            "fileProperty",
            "fileSet",
            "format",
            "includes",
            "isLiveDataset",
            "jsonPath",
            "key",
            "md5",
            "parentField",
            "path",
            "recordSet",
            "references",
            "regex",
            "repeated",
            "replace",
            "samplingRate",
            "separator",
            "source",
            "subField",
            "transform",
        ]
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}

_ADDED: Final = {
    SOURCE_ID: "Name of the image in the source data.",
    GROUP: "Patient, scan or lesion of the row.",
    "lesion_id": "Lesion in the source data.",
    "image_id": "Name of the image in the source data.",
    AGE: "Age of the patient in years.",
    "sex": "Sex of the patient.",
    "localization": "Site of the lesion.",
}
"""Column that a CSV file adds -> description."""


def croissant(subset: Subset, manifests: Sequence[Manifest]) -> dict[str, Any]:
    """Describe a build.

    Every shard is a ``FileObject`` with its SHA-256. Every config is a ``FileSet`` of its shards and a ``RecordSet``
    with the fields ``image``, ``label`` and ``split``. Label names have a separate ``RecordSet``.

    Args:
        subset: A subset of the catalog.
        manifests: Manifests of its built configs, at least one.

    Returns:
        JSON-LD that conforms to Croissant 1.0.

    Raises:
        BuildError: There is no manifest, or they do not belong together.
    """
    built = check_manifests(subset, manifests)
    if not built:
        raise BuildError(f"no built config of {subset.flag} to describe: run medmnist-hf build {subset.flag} first")
    facts, synthetic = collection(), synthetic_configs(built)
    all_synthetic = len(synthetic) == len(built)
    paper = reference(facts.citations[0])
    creators: list[dict[str, Any]] = [{"@type": "sc:Person", "name": name} for name in paper.authors]
    if all_synthetic:
        creators = [{"@type": "sc:Organization", "name": "medmnist-hf"}]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": subset.python_class,
        "description": describe_with_warning(subset, built),
        "url": facts.homepage,
        "version": facts.version,
        "license": facts.license_urls[subset.license],
        "citeAs": bibtex(subset),
        "creator": creators,
        "keywords": tags(subset, synthetic=bool(synthetic)),
        "distribution": [node for manifest in built for node in _distribution(manifest)],
        "recordSet": [_splits(), _labels(subset), *(_records(subset, manifest) for manifest in built)],
    }


def to_json(description: dict[str, Any]) -> str:
    """Serialize a description as indented JSON with a final newline; the same content gives the same text."""
    return json.dumps(description, indent=2, ensure_ascii=False) + "\n"


def _distribution(manifest: Manifest) -> list[dict[str, Any]]:
    config = manifest.config_name
    shards = [
        {
            "@type": "cr:FileObject",
            "@id": f"{config}/{shard.name}",
            "name": f"{config}/{shard.name}",
            "contentUrl": f"{config}/{shard.name}",
            "contentSize": f"{shard.bytes} B",
            "encodingFormat": _PARQUET,
            "sha256": shard.sha256,
        }
        for shard in manifest.shards
    ]
    files = {
        "@type": "cr:FileSet",
        "@id": _files(manifest),
        "name": _files(manifest),
        "description": f"Parquet shards of all splits of config {config}.",
        "encodingFormat": _PARQUET,
        "includes": [f"{shard_pattern(manifest.config_name, split)}.parquet" for split in SPLITS],
    }
    return [*shards, files]


def _files(manifest: Manifest) -> str:
    return f"parquet-{manifest.config_name}"


def _splits() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": _SPLITS,
        "name": _SPLITS,
        "description": "Names of the splits.",
        "dataType": "cr:Split",
        "key": {"@id": f"{_SPLITS}/name"},
        "field": [_plain_field(_SPLITS, "name", "Name of the split.", "sc:Text")],
        "data": [{f"{_SPLITS}/name": split} for split in SPLITS],
    }


def _labels(subset: Subset) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": _LABELS,
        "name": _LABELS,
        "description": "Class ids and their names.",
        "dataType": "sc:Enumeration",
        "key": {"@id": f"{_LABELS}/id"},
        "field": [
            _plain_field(_LABELS, "id", "Class id as stored.", "sc:Integer"),
            _plain_field(_LABELS, "name", "Name of the class.", "sc:Text"),
        ],
        "data": [{f"{_LABELS}/id": index, f"{_LABELS}/name": name} for index, name in enumerate(subset.labels)],
    }


def _plain_field(parent: str, name: str, description: str, data_type: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{parent}/{name}",
        "name": name,
        "description": description,
        "dataType": data_type,
    }


def _records(subset: Subset, manifest: Manifest) -> dict[str, Any]:
    config, shape = manifest.config_name, manifest.entry.file(manifest.size).image_shape
    extent = " x ".join(map(str, shape))
    record_set = f"config-{config}"

    def field(name: str, description: str, data_type: str, source: dict[str, Any], **more: object) -> dict[str, Any]:
        origin = {"fileSet": {"@id": _files(manifest)}, **source}
        return {**_plain_field(record_set, name, description, data_type), "source": origin, **more}

    column = {"extract": {"column": "image"}}
    if subset.ndim == 3:
        volume = f"Volume of {extent} voxels, uint8, as nested lists."
        image = field("image", volume, "sc:Integer", column, repeated=True)
    else:
        decoded = {**column, "transform": {"jsonPath": "bytes"}}
        image = field("image", f"Image of {extent} pixels, uint8, losslessly encoded.", "sc:ImageObject", decoded)
    column = {"extract": {"column": "label"}}
    if subset.task is Task.MULTI_LABEL:
        # A reference is a join, and mlcroissant cannot join a column of lists.
        findings = f"Ids of the findings present, as in the record set {_LABELS}; empty if there are none."
        label = field("label", findings, "sc:Integer", column, repeated=True)
    else:
        to_labels = {"field": {"@id": f"{_LABELS}/id"}}
        label = field("label", "Class id.", "sc:Integer", column, references=to_labels)
    split_name = {
        "extract": {"fileProperty": "filename"},
        "transform": {"regex": f"^({'|'.join(SPLITS)})-.*[.]parquet$"},
    }
    to_splits = {"field": {"@id": f"{_SPLITS}/name"}}
    split = field("split", "Split that the row belongs to.", "sc:Text", split_name, references=to_splits)
    added = [
        field(name, _ADDED[name], "sc:Float" if name == AGE else "sc:Text", {"extract": {"column": name}})
        for name in manifest.added_names
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": record_set,
        "name": record_set,
        "description": f"Rows of {subset.python_class} at size {config}.",
        "field": [image, label, split, *added],
    }
