"""Export PNG or GIF files and a CSV with the same names and lines as the official package's `save`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from medmnist_hf.catalog import NPZ_SPLITS
from medmnist_hf.data.rows import Rows
from medmnist_hf.exporting.images import gif_files, png_files

_AUTOML_SPLITS: Final = {"train": "TRAIN", "validation": "VALIDATION", "test": "TEST"}


def write_png(rows: Rows, splits: Sequence[str], stage: Path, name: str, on_progress: Callable[[int], object]) -> None:
    """Write images as PNG files and a CSV; for the arguments see `medmnist_hf.exporting.export.Format`."""
    files = ((split, png_files(rows, split)) for split in splits)
    _write_files(rows, files, stage / name, suffix="png", on_progress=on_progress)


def write_gif(rows: Rows, splits: Sequence[str], stage: Path, name: str, on_progress: Callable[[int], object]) -> None:
    """Write volumes as GIF files, with one frame per slice, and a CSV."""
    files = ((split, gif_files(rows, split)) for split in splits)
    _write_files(rows, files, stage / name, suffix="gif", on_progress=on_progress)


def _write_files(
    rows: Rows,
    files: Iterable[tuple[str, Iterator[list[bytes]]]],
    folder: Path,
    *,
    suffix: str,
    on_progress: Callable[[int], object],
) -> None:
    """Write files and CSV lines as `medmnist.utils.save_fn` of release 3.0.2 does."""
    folder.mkdir()
    with folder.with_name(f"{folder.name}.csv").open("x", encoding="utf-8", newline="") as table:
        for split, blocks in files:
            index, labels = 0, rows.labels(split)
            for block in blocks:
                for content in block:
                    texts = [str(value) for value in labels[index].tolist()]
                    file = f"{NPZ_SPLITS[split]}{index}_{'_'.join(texts)}.{suffix}"
                    (folder / file).write_bytes(content)
                    table.write(f"{_AUTOML_SPLITS[split]},{file},{','.join(texts)}\n")
                    index += 1
                on_progress(len(block))
