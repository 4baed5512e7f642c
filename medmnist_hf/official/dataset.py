"""The 18 data sets with the interface of the official package's classes.

They are torch data sets where torch is installed, and work without it. The classes of the subsets (`PathMNIST` and so
on) are made from the catalog.
"""

import os
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import subset, subsets
from medmnist_hf.official.errors import ArgumentError
from medmnist_hf.official.info import DEFAULT_ROOT, INFO, get_default_root, size_flag
from medmnist_hf.official.roots import (
    Root,
    check_size,
    check_split,
    fetch,
    find_data,
    mapping_of,
    read_split,
    remap,
)
from medmnist_hf.official.utils import montage2d, montage3d, save2d, save3d, save_frames_as_gif, write_picture

try:
    from torch.utils.data import Dataset
except ImportError:

    class Dataset:  # type: ignore[no-redef]
        """Stands for the base class of torch where torch is not installed."""

        def __class_getitem__(cls, item: object) -> type[Self]:
            return cls


class MedMNIST(Dataset[Any]):
    """A split of a subset: what images and volumes share.

    Args:
        split: ``train``, ``val`` or ``test``.
        transform: Called with each image (a PIL image, or a volume as an array), whose result replaces it.
        target_transform: Called with each label, int64 of shape ``(1,)`` or ``(L,)``, likewise.
        download: Download the official file to `root`, unless it has one with the right MD5. An interrupted download
            is resumed. ``MEDMNIST_ENDPOINT`` replaces ``https://zenodo.org``.
        as_rgb: Give three channels also for gray images and volumes.
        root: A folder with the NPZ file, or else with a build. ``hf://datasets/medmnist``, or another namespace with
            an optional ``@revision``, reads the repository of the subset on the Hub.
        size: Edge length in pixels or voxels; 28 if None.
        mmap_mode: ``"r"`` maps the images instead of reading them into memory; ``"c"`` likewise, and they may be
            changed in this process. The first use decodes the split into the cache of `medmnist_hf.load_arrays`.

    Attributes:
        flag: Identifier of the subset.
        available_sizes: Sizes of the subset.
        size: Edge length.
        size_flag: Suffix of the size in file names: empty for 28, otherwise as in ``_64``.
        info: The entry of `INFO`.
        root: As passed.
        split: As passed.
        imgs: uint8 of shape ``(N, H, W)``, ``(N, H, W, 3)`` or ``(N, D, H, W)``.
        labels: uint8 of shape ``(N, 1)``, for ChestMNIST ``(N, 14)`` with 0 and 1.

    Raises:
        ArgumentError: A `ValueError`: split, size or `mmap_mode` is not valid.
        RootError: A `RuntimeError`: `root` or the data set in it does not exist, or the download failed.
        ReadError: The NPZ file is damaged, or holds another subset.
        BuildError: The build is damaged.
    """

    flag: ClassVar[Any] = ...
    available_sizes: ClassVar[list[int]]
    _mapped: Any = None
    """The images if they are mapped read-only, to see whether `imgs` is still what was read."""

    def __init__(  # noqa: PLR0917  (the official order)
        self,
        split: str,
        transform: Any = None,
        target_transform: Any = None,
        download: bool = False,
        as_rgb: bool = False,
        root: Root = DEFAULT_ROOT,
        size: int | str | None = None,
        mmap_mode: str | None = None,
    ) -> None:
        entry = subset(str(self.flag))
        self.size = check_size(entry, size)
        self.size_flag = size_flag(self.size)
        self.info = INFO[self.flag]
        self.root = root
        self.split = check_split(split)
        self.transform = transform
        self.target_transform = target_transform
        self.as_rgb = as_rgb
        self.imgs: UInt8Array
        self.imgs, self.labels = read_split(find_data(entry, self.size, root, download=download), split, mmap_mode)
        self._mapped = self.imgs if mmap_mode == "r" else None

    def __len__(self) -> int:
        return len(self.imgs)

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        image, target = self._image(self.imgs[index]), self.labels[index].astype(int)
        if self.transform is not None:
            image = self.transform(image)
        return image, target if self.target_transform is None else self.target_transform(target)

    def _image(self, pixels: UInt8Array) -> Any:
        """A row as it is passed to the transform."""
        raise NotImplementedError

    def __repr__(self) -> str:
        facts = {
            "Number of datapoints": len(self),
            "Root location": self.root,
            "Split": self.split,
            "Task": self.info["task"],
            "Number of channels": self.info["n_channels"],
            "Meaning of labels": self.info["label"],
            "Number of samples": self.info["n_samples"],
            "Description": self.info["description"],
            "License": self.info["license"],
        }
        head = f"Dataset {type(self).__name__} of size {self.size} ({self.flag}{self.size_flag})"
        return "\n".join([head, *(f"    {name}: {value}" for name, value in facts.items())])

    def __getstate__(self) -> dict[str, Any]:
        """Pass mapped images to another process as the place of their file; a copy would fill its memory."""
        state = dict(self.__dict__)
        if self._mapped is not None:
            state["_mapped"] = mapping_of(self._mapped)
            if self.imgs is self._mapped:
                del state["imgs"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._mapped is not None:
            self._mapped = remap(*state["_mapped"])
            self.__dict__.setdefault("imgs", self._mapped)

    def download(self) -> None:
        """Download the official file to the root, unless it has one with the right MD5.

        Raises:
            RootError: The root is not a folder, or the download failed.
        """
        folder = get_default_root() if self.root == DEFAULT_ROOT else os.fspath(self.root or "")
        fetch(subset(self.flag), self.size, Path(folder).expanduser())

    def save(self, folder: str | Path, postfix: str = "", write_csv: bool = True) -> None:
        """Write each row to a file; see the classes below."""
        raise NotImplementedError

    def _select(self, length: int, replace: bool) -> NDArray[np.intp]:
        """Choose rows for a montage, by NumPy's global random state as the official package does."""
        count = len(self)
        if length < 1 or (length * length > count and not replace):
            raise ArgumentError(
                f"a montage of {length} x {length} needs {length * length} of the {count} rows: choose a length of 1 "
                f"to {int(count**0.5)}, or pass replace=True"
            )
        return np.random.choice(count, length * length, replace)

    def _files(self, folder: str | Path) -> tuple[Path, Path]:
        """The folder of images and the CSV that `save` writes."""
        stem = f"{self.flag}{self.size_flag}"
        return Path(folder, stem), Path(folder, f"{stem}.csv")

    def _montage_file(self, folder: str | Path, suffix: str) -> Path:
        return Path(folder, f"{self.flag}{self.size_flag}_{self.split}_montage.{suffix}")


class MedMNIST2D(MedMNIST):
    """A split of images: items are a PIL image and a label, see `MedMNIST`."""

    available_sizes: ClassVar[list[int]] = [28, 64, 128, 224]

    def _image(self, pixels: UInt8Array) -> PIL.Image.Image:
        picture = PIL.Image.fromarray(pixels)
        return picture.convert("RGB") if self.as_rgb else picture

    def save(self, folder: str | Path, postfix: str = "png", write_csv: bool = True) -> None:
        """Write each image to ``{flag}{size_flag}/{split}{row}_{labels}.{postfix}``.

        Args:
            folder: Where the folder of images and the CSV are written; created if missing.
            postfix: Suffix of the files, which says their format.
            write_csv: Add the lines ``SPLIT,file,label,...`` to ``{flag}{size_flag}.csv``; those that an earlier call
                wrote for this split are replaced.

        Raises:
            ArgumentError: Pillow does not write such files.
            MedMNISTError: A file cannot be written.
        """
        images, table = self._files(folder)
        save2d(self.imgs, self.labels, images, self.split, postfix, table if write_csv else None)

    def montage(
        self, length: int = 20, replace: bool = False, save_folder: str | Path | None = None
    ) -> PIL.Image.Image:
        """Draw random images as a square of tiles; ``numpy.random.seed`` makes the choice repeatable.

        Args:
            length: Number of tiles in each direction.
            replace: Draw rows with replacement.
            save_folder: Also write the picture to ``{flag}{size_flag}_{split}_montage.jpg`` in this folder.

        Raises:
            ArgumentError: The split has too few rows.
            MedMNISTError: The file cannot be written.
        """
        picture = montage2d(self.imgs, self.info["n_channels"], self._select(length, replace))
        if save_folder is not None:
            write_picture(picture, self._montage_file(save_folder, "jpg"))
        return picture


class MedMNIST3D(MedMNIST):
    """A split of volumes: items are an array, float64 in 0..1 of shape ``(C, D, H, W)``, and a label.

    See `MedMNIST`.
    """

    available_sizes: ClassVar[list[int]] = [28, 64]

    def _image(self, pixels: UInt8Array) -> NDArray[np.float64]:
        return np.stack([pixels / 255.0] * (3 if self.as_rgb else 1))

    def save(self, folder: str | Path, postfix: str = "gif", write_csv: bool = True) -> None:
        """Write each volume to a GIF, one frame per slice; arguments and errors as in `MedMNIST2D.save`."""
        if postfix != "gif":
            raise ArgumentError(f"volumes cannot be saved as {postfix}: choose gif")
        volumes, table = self._files(folder)
        save3d(self.imgs, self.labels, volumes, self.split, postfix, table if write_csv else None)

    def montage(
        self, length: int = 20, replace: bool = False, save_folder: str | Path | None = None
    ) -> list[PIL.Image.Image]:
        """Draw random volumes as a square of tiles, one picture per slice; see `MedMNIST2D.montage`.

        With `save_folder` the pictures become the frames of ``{flag}{size_flag}_{split}_montage.gif``.
        """
        frames = montage3d(self.imgs, self.info["n_channels"], self._select(length, replace))
        if save_folder is not None:
            save_frames_as_gif(frames, self._montage_file(save_folder, "gif"))
        return frames


def _make_classes() -> dict[str, type[MedMNIST]]:
    bases = {2: MedMNIST2D, 3: MedMNIST3D}
    return {
        entry.python_class: type(
            entry.python_class,
            (bases[entry.ndim],),
            {"__module__": __name__, "__doc__": entry.description, "flag": entry.flag},
        )
        for entry in subsets()
    }


globals().update(CLASSES := _make_classes())

OrganMNISTAxial = CLASSES["OrganAMNIST"]
"""Name of `OrganAMNIST` in the first release."""

OrganMNISTCoronal = CLASSES["OrganCMNIST"]
"""Name of `OrganCMNIST` in the first release."""

OrganMNISTSagittal = CLASSES["OrganSMNIST"]
"""Name of `OrganSMNIST` in the first release."""
