"""Export images as an ImageFolder: a folder per split and class, ordered by the catalog's class ids."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from medmnist_hf.catalog import Subset, Task
from medmnist_hf.data.rows import Rows
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.exporting.images import png_files


def class_folder(subset: Subset, label: int) -> str:
    """Folder of a class in an ImageFolder, e.g. ``7_cancer-associated-stroma``.

    Readers of such folders number classes in the order of their names. The leading number, padded to one width, makes
    this the order of the labels, so a class keeps its id. Characters other than ASCII letters and digits become
    hyphens, since some label names hold commas and brackets.
    """
    width = len(str(len(subset.labels) - 1))
    return f"{label:0{width}d}_{re.sub(r'[^A-Za-z0-9]+', '-', subset.labels[label]).strip('-')}"


def write_imagefolder(
    rows: Rows, splits: Sequence[str], stage: Path, name: str, on_progress: Callable[[int], object]
) -> None:
    """Write one folder per class; for the multi-label task ``metadata.jsonl`` with the ids of the findings present."""
    multi = rows.entry.task is Task.MULTI_LABEL
    classes = [class_folder(rows.entry, label) for label in range(len(rows.entry.labels))]
    for split in splits:
        labels, folder = rows.labels(split), stage / name / split
        places = [folder] if multi else [folder / each for each in classes]
        if not multi and (missing := sorted(set(range(len(classes))) - set(labels[:, 0].tolist()))):
            raise MedMNISTError(
                f"{split} of {rows.where} has no row of class {rows.entry.labels[missing[0]]!r}, so readers of "
                "an ImageFolder would assign other class ids: choose the format png or npz"
            )
        for place in places:
            place.mkdir(parents=True)
        index, width = 0, len(str(len(labels) - 1))
        lines = []
        for block in png_files(rows, split):
            for content in block:
                file = f"{split}{index:0{width}d}.png"
                (places[0 if multi else labels[index, 0]] / file).write_bytes(content)
                if multi:
                    lines.append(json.dumps({"file_name": file, "label": np.flatnonzero(labels[index]).tolist()}))
                index += 1
            on_progress(len(block))
        if multi:
            (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
