"""Write the near duplicates of a config: a JSON file of all pairs, and a picture of the most similar ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.conversion.near.report import NearPair, pairs_to_json
from medmnist_hf.data.rows import open_rows
from medmnist_hf.errors import MedMNISTError, cannot_write
from medmnist_hf.exporting.montage import montage, save_png
from medmnist_hf.files import write_atomically

DRAWN: Final = 60
"""Largest number of pairs in a picture."""

_COLUMNS: Final = 6
"""Tiles per row, three pairs."""

_LARGEST: Final = 224
"""Largest edge length of a tile."""


def write_pairs(config_dir: Path, pairs: Sequence[NearPair], out: Path) -> list[Path]:
    """Write ``SUBSET-SIZE.json`` and, if there are pairs, ``SUBSET-SIZE.png``: split, row and similarity below each.

    Args:
        config_dir: Folder of the config.
        pairs: From `medmnist_hf.conversion.near.report.find_near_duplicates`.
        out: Folder to write to; created if missing.

    Returns:
        The files.

    Raises:
        MedMNISTError: The rows cannot be read, or the folder cannot be written.
    """
    rows = open_rows(config_dir)
    drawn = pairs[:DRAWN]
    stem = f"{rows.entry.base}-{rows.entry.config_name(rows.size)}"
    files = [out / f"{stem}.json"]
    picture = None
    if drawn:
        members = [(member, pair) for pair in drawn for member in (pair.first, pair.second)]
        images: list[UInt8Array] = [np.empty(0, np.uint8)] * len(members)
        for split in {member.split for member, _ in members}:
            places = [at for at, (member, _) in enumerate(members) if member.split == split]
            sample = rows.sample(split, np.array([members[at][0].row for at in places], np.int64))
            for at, image in zip(places, sample, strict=True):
                images[at] = image[len(image) // 2] if rows.entry.ndim == 3 else image
        labels = [f"{member.split} row {member.row} {_similarity(pair)}" for member, pair in members]
        picture = montage(np.stack(images), _COLUMNS, border=2, labels=labels)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(files[0], pairs_to_json(rows.entry.flag, rows.size, list(pairs)))
        if picture is not None:
            files.append(out / f"{stem}.png")
            save_png(picture, files[1])
    except OSError as error:
        raise MedMNISTError(cannot_write(out, error, "name another folder")) from None
    return files


def _similarity(pair: NearPair) -> str:
    return "identical" if pair.identical else f"{pair.similarity:.3f}{' turned' if pair.turned else ''}"
