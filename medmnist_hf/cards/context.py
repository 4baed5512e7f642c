"""Values for the templates of a card, gathered from the catalog, the manifests and the published results."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from medmnist_hf.cards.bibliography import reference
from medmnist_hf.cards.environment import code, plain
from medmnist_hf.cards.metadata import default_config, synthetic_configs
from medmnist_hf.catalog import SPLITS, Subset, Task, bibtex, citation_keys, collection, variants
from medmnist_hf.hub.eval_results import MEASURES, task_id
from medmnist_hf.leaderboard.board import leaderboard
from medmnist_hf.leaderboard.protocols import OFFICIAL
from medmnist_hf.leaderboard.results import sources
from medmnist_hf.leaderboard.terminal import board_notes
from medmnist_hf.manifest import PICTURES, Manifest
from medmnist_hf.statistics.recorded import recorded_statistics

_TASKS: Final = {
    Task.BINARY: "binary classification",
    Task.MULTI_CLASS: "multi-class classification",
    Task.ORDINAL: "ordinal regression",
    Task.MULTI_LABEL: "multi-label classification",
}

_TIMM_MULTI_LABEL: Final = "1.0.31"
"""First release of timm whose ``hfds/`` reader accepts lists of class ids (pull request 2793 of its repository)."""

_NO_SOURCE: Final = ("-quality", "-labels")
"""Suffixes of the BibTeX keys of papers that study the data but did not publish it."""

_LEFT: Final = "---"
_RIGHT: Final = "---:"


def picture_name(subset: Subset) -> str:
    """File name of a build's picture: a still image for images, an animation for volumes."""
    return PICTURES[subset.ndim]


def human_bytes(number: int) -> str:
    """Format a number of bytes in decimal units, e.g. ``1.6 GB``."""
    if number < 1000:
        return f"{number} B"
    value = float(number)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def context(
    subset: Subset, built: Sequence[Manifest], repo_id: str, audits: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Collect the names and values that the templates use.

    Args:
        subset: A subset of the catalog.
        built: Manifests of its built configs, as returned by `check_manifests`; without any, all official sizes are
            described.
        repo_id: Hub repository that the examples load.
        audits: Config name -> findings of its audit.
    """
    facts = collection()
    names = [manifest.config_name for manifest in built] or list(map(str, subset.sizes))
    default = default_config(names)
    default_entry, default_size = subset.config(default)
    synthetic = synthetic_configs(built)
    board = leaderboard(subset.flag, OFFICIAL)
    volumes, multi_label = subset.ndim == 3, subset.task is Task.MULTI_LABEL
    return {
        "subset": subset,
        "collection": facts,
        "built": bool(built),
        "synthetic": synthetic,
        "all_synthetic": bool(built) and len(synthetic) == len(built),
        "unverified": [each.source.file for each in built if not (each.source.verified or each.source.synthetic)],
        "repo": repo_id,
        "names": names,
        "default": default,
        "default_shape": ", ".join(map(str, default_entry.file(default_size).image_shape)),
        "largest": max(names, key=lambda name: subset.config(name)[1]),
        "picture": picture_name(subset) if built else "",
        "volumes": volumes,
        "things": "volumes" if volumes else "images",
        "kind": "volumes" if volumes else "RGB images" if subset.channels == 3 else "grayscale images",
        "task": _TASKS[subset.task],
        "multi_label": multi_label,
        "label_word": "findings" if multi_label else "classes",
        "columns": _columns(subset),
        "rows": " or ".join(dict.fromkeys(f"{sum(_rows(subset, each).values()):,}" for each in (built or (None,)))),
        "sizes": _sizes_table(subset, built),
        "labels": _labels_table(subset, built),
        "statistics": _statistics_table(subset, built),
        "files": _files_table(subset, built),
        "license": {"name": facts.license_names[subset.license], "url": facts.license_urls[subset.license]},
        "non_commercial": "-nc" in subset.license,
        "papers": _papers(subset),
        "bibtex": bibtex(subset, *variants(subset)),
        "board": board,
        "sources": list(dict.fromkeys(sources()[line.result.source].title for line in board.ranked if line.result)),
        "notes": list(board_notes(board)),
        "reported_task": task_id(default, next(iter(MEASURES))),
        "audits": [{"config": config, "findings": findings} for config, findings in audits.items()],
        "variants": [_variant(each) for each in variants(subset)],
        "added": _added(built),
        "record_url": subset.files[0].url.partition("/files/")[0],
        "releases": _releases(built),
        "timm_multi_label": _TIMM_MULTI_LABEL,
    }


def _columns(subset: Subset) -> dict[str, str]:
    mode = "RGB" if subset.channels == 3 else "L"
    return {
        "image": "a volume of uint8 voxels, `Array3D`"
        if subset.ndim == 3
        else f'a losslessly encoded image, `Image(mode="{mode}")`',
        "label": "the findings present, `List(ClassLabel)`; an empty list means that none was reported"
        if subset.task is Task.MULTI_LABEL
        else "a class id, `ClassLabel`",
    }


def _variant(entry: Subset) -> dict[str, Any]:
    """A variant of the subset: what it is, its rows, and its files."""
    rows = [
        [f'`"{entry.config_name(file.size)}"`', f"[`{file.name}`]({file.url})", f"`{file.md5}`"]
        for file in entry.files
    ]
    return {
        "entry": entry,
        "rows": ", ".join(f"{entry.counts[split]:,} {split}" for split in SPLITS),
        "files": _table(["config", "file", "MD5"], [], rows),
    }


def _added(built: Sequence[Manifest]) -> list[dict[str, Any]]:
    """Columns that CSV files add, by config."""
    return [
        {
            "config": each.config_name,
            "names": each.added.names,
            "kind": each.added.kind,
            "files": [code(file.name) for file in each.added.files],
        }
        for each in built
        if each.added is not None
    ]


def _rows(subset: Subset, manifest: Manifest | None) -> dict[str, int]:
    return {split: subset.counts[split] if manifest is None else manifest.splits[split].rows for split in SPLITS}


def _table(header: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]) -> dict[str, Any]:
    """Describe a Markdown table in which the columns named in `numbers` are right-aligned."""
    return {"header": header, "rule": [_RIGHT if name in numbers else _LEFT for name in header], "rows": list(rows)}


def _sizes_table(subset: Subset, built: Sequence[Manifest]) -> dict[str, Any]:
    numbers = [*SPLITS, "shards", "size of files"] if built else [*SPLITS]
    by_name = {manifest.config_name: manifest for manifest in built}
    rows = []
    for name in by_name or map(str, subset.sizes):
        manifest = by_name.get(name)
        entry, size = subset.config(name)
        shape = " x ".join(map(str, entry.file(size).image_shape))
        cells = [f'`"{name}"`', shape, *(f"{rows:,}" for rows in _rows(subset, manifest).values())]
        if manifest is not None:
            cells += [f"{len(manifest.shards):,}", human_bytes(sum(shard.bytes for shard in manifest.shards))]
        rows.append(cells)
    return _table(["config", "image shape", *numbers], numbers, rows)


def _labels_table(subset: Subset, built: Sequence[Manifest]) -> dict[str, Any]:
    """Label names, with row counts of the default config, or as recorded; all real configs have the same rows."""
    recorded = recorded_statistics(subset.files[0].md5)
    if not built and recorded:
        counts = [recorded.splits[split].label_counts for split in SPLITS]
        cells = [[str(row), name, *(f"{each[name]:,}" for each in counts)] for row, name in enumerate(subset.labels)]
        return _table(["id", "name", *SPLITS], ["id", *SPLITS], cells)
    if not built:
        return _table(["id", "name"], ["id"], ([str(index), name] for index, name in enumerate(subset.labels)))
    default = default_config([manifest.config_name for manifest in built])
    records = next(manifest for manifest in built if manifest.config_name == default).splits
    rows = [
        [str(index), name, *(f"{records[split].label_histogram[name]:,}" for split in SPLITS)]
        for index, name in enumerate(subset.labels)
    ]
    if subset.task is Task.MULTI_LABEL:
        rows.append(["", "(none)", *(f"{records[split].unlabeled:,}" for split in SPLITS)])
    return _table(["id", "name", *SPLITS], ["id", *SPLITS], rows)


def _statistics_table(subset: Subset, built: Sequence[Manifest]) -> dict[str, Any]:
    """Mean and standard deviation of the train pixels, of builds or as recorded; empty if none are known."""
    rows = []
    by_name = {manifest.config_name: manifest.splits["train"].pixels for manifest in built}
    for name in by_name or map(str, subset.sizes):
        recorded = None if built else recorded_statistics(subset.file(name).md5)
        pixels = recorded.splits["train"].pixels if recorded else by_name.get(name)
        if pixels is not None:
            values = (", ".join(f"{value:.4f}" for value in each) for each in (pixels.mean, pixels.std))
            rows.append([f'`"{name}"`', *values])
    return _table(["config", "mean", "standard deviation"], ["mean", "standard deviation"], rows)


def _files_table(subset: Subset, built: Sequence[Manifest]) -> dict[str, Any]:
    if not built:
        rows = [[f'`"{file.size}"`', f"[`{file.name}`]({file.url})", f"`{file.md5}`"] for file in subset.files]
        return _table(["config", "file", "MD5"], [], rows)
    rows = []
    for manifest in built:
        source = manifest.source
        origin = "phantom generator" if source.synthetic else "official MD5" if source.verified else "**unverified**"
        rows.append([f'`"{manifest.config_name}"`', code(source.file), f"`{source.md5}`", origin, manifest.codec])
    return _table(["config", "file", "MD5", "origin", "codec"], [], rows)


def _papers(subset: Subset) -> dict[str, Any]:
    """References of MedMNIST, of the source data, and all that a user may have to cite, without duplicates."""
    medmnist = collection().citations
    source = [key for key in subset.citations if key not in medmnist and not key.endswith(_NO_SOURCE)]
    return {
        "medmnist": [reference(key) for key in medmnist],
        "source": [reference(key) for key in source],
        "all": [reference(key) for key in citation_keys(subset, *variants(subset))],
    }


def _releases(built: Sequence[Manifest]) -> list[str]:
    """One line per set of library versions that configs were built with."""
    by_libraries: dict[str, list[str]] = {}
    for manifest in built:
        libraries = ", ".join(plain(f"{name} {release}") for name, release in manifest.releases.items())
        by_libraries.setdefault(libraries, []).append(f'`"{manifest.config_name}"`')
    return [f"Built with {libraries}: {', '.join(configs)}." for libraries, configs in by_libraries.items()]
