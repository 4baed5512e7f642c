"""Export a config as a folder that Vertex AI image classification can import and predict from Cloud Storage."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from medmnist_hf import vertex
from medmnist_hf.data.rows import Rows
from medmnist_hf.exporting.images import png_files


def write_vertex(  # noqa: PLR0917  (the arguments of every writer, and the folder)
    rows: Rows, splits: Sequence[str], stage: Path, name: str, on_progress: Callable[[int], object], folder: str
) -> None:
    """Write images, one import file for all splits, and the batch prediction input of validation and test.

    Args:
        rows: The config, of images.
        splits: Splits to write.
        stage: Folder in which the folder `name` is created.
        name: Official name of the config, e.g. ``pathmnist_224``.
        on_progress: Called with the number of rows just written.
        folder: Folder in Cloud Storage that the folder `name` will be copied to, as returned by
            `vertex.check_folder`.

    Raises:
        SourceError: The config lacks a split or holds something else.
        BuildError: A shard is missing or damaged.
        OSError: The folder is not writable.
    """
    out = stage / name
    out.mkdir()
    with (out / vertex.IMPORT_NAME).open("x", encoding="utf-8", newline="") as imports:
        for split in splits:
            (out / split).mkdir()
            labels = rows.labels(split)
            uris: list[str] = []
            for block in png_files(rows, split):
                for content in block:
                    index = len(uris)
                    path = vertex.image_path(name, split, index, len(labels))
                    (stage / path).write_bytes(content)
                    uris.append(f"{folder}/{path}")
                    imports.write(vertex.import_line(uris[index], split, rows.entry, labels[index]))
                on_progress(len(block))
            if split != "train":
                lines = "".join(map(vertex.batch_line, uris))
                (out / vertex.batch_name(split)).write_text(lines, encoding="utf-8", newline="")
    parameters = json.dumps(vertex.batch_parameters(rows.entry))
    (out / vertex.PARAMETERS_NAME).write_text(f"{parameters}\n", encoding="utf-8", newline="")
