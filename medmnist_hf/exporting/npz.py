"""Export a config as an official NPZ file."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib import format as npy

from medmnist_hf.catalog import NPZ_SPLITS
from medmnist_hf.data.rows import Rows

_DEFLATE_LEVEL: Final = 6
"""The level of `numpy.savez_compressed`."""


def write_npz(rows: Rows, splits: Sequence[str], stage: Path, name: str, on_progress: Callable[[int], object]) -> None:
    """Write the members in the official order, which differs for volumes, deflated as `numpy` does."""
    if rows.entry.ndim == 3:
        members = [(split, part) for split in splits for part in ("images", "labels")]
    else:
        members = [(split, part) for part in ("images", "labels") for split in splits]
    with zipfile.ZipFile(stage / f"{name}.npz", "x", zipfile.ZIP_DEFLATED, compresslevel=_DEFLATE_LEVEL) as archive:
        for split, part in members:
            labels = rows.labels(split)
            shape = labels.shape if part == "labels" else (len(labels), *rows.shape)
            # zipfile does not know a member's size beforehand, so force ZIP64, as `numpy.savez` does.
            with archive.open(f"{NPZ_SPLITS[split]}_{part}.npy", "w", force_zip64=True) as member:
                npy.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
                if part == "labels":
                    member.write(labels.tobytes())
                    continue
                for block in rows.images(split):
                    member.write(np.ascontiguousarray(block).data)
                    on_progress(len(block))
