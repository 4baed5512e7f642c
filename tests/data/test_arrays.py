"""Arrays equal the NPZ file in every value: from a build, the Hub and any data set, with and without the cache."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from numpy.typing import NDArray

import medmnist_hf
from medmnist_hf import cache_info, load_arrays, to_arrays
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, subset
from medmnist_hf.conversion.build import BuildOptions, build_config
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.data.arrays import Arrays
from medmnist_hf.errors import BuildError, CatalogError, MedMNISTError, SourceError
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.hub.server import HubServer
from tests.fixtures.on_hub import fetched, put_on_hub

FLAGS = ("breastmnist", "bloodmnist", "retinamnist", "chestmnist", "organmnist3d")
"""One subset per task and shape; bloodmnist is built as WebP, retinamnist at 64."""

SIZES = {"retinamnist": 64}
REAL = ("breastmnist", "retinamnist", "adrenalmnist3d")


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag in FLAGS:
        if flag == "bloodmnist":
            options = BuildOptions(codec="webp")
            folder = build_config(subset(flag), 28, phantoms(flag), out, options=options).config_dir.parent
        else:
            folder = build(phantoms, out, flag, SIZES.get(flag, 28))
        write_card(folder)
    return out


def same(arrays: Arrays, npz: Any, split: str, multi_label: bool) -> None:
    images, labels = npz[f"{NPZ_SPLITS[split]}_images"], npz[f"{NPZ_SPLITS[split]}_labels"]
    assert arrays.images.dtype == np.uint8 and np.array_equal(arrays.images, images)
    if multi_label:
        assert arrays.labels.dtype == np.float32 and np.array_equal(arrays.labels, labels)
    else:
        assert arrays.labels.dtype == np.int64 and np.array_equal(arrays.labels, labels[:, 0])


@pytest.mark.parametrize("flag", FLAGS)
def test_every_value_equals_the_npz(root: Path, phantoms: Phantoms, tmp_path: Path, flag: str) -> None:
    size, multi = SIZES.get(flag, 28), flag == "chestmnist"
    prepared = datasets.load_dataset(str(root / flag), str(size))
    with np.load(phantoms(flag, size).path, allow_pickle=False) as npz:
        for split in SPLITS:
            for cache in (True, True, False):
                same(load_arrays(flag, size, split, root, cache_dir=tmp_path, cache=cache), npz, split, multi)
                same(to_arrays(prepared[split], cache_dir=tmp_path, cache=cache), npz, split, multi)
    assert [entry.split for entry in cache_info(tmp_path)] == sorted(SPLITS * 2)


@pytest.mark.parametrize("flag", REAL)
def test_official_files(real_data: Path, tmp_path: Path, flag: str) -> None:
    entry = subset(flag)
    write_card(build_config(entry, 28, Folder(real_data).fetch(entry, 28), tmp_path).config_dir.parent)
    prepared = datasets.load_dataset(str(tmp_path / flag), "28")
    with np.load(real_data / f"{flag}.npz", allow_pickle=False) as npz:
        for split in SPLITS:
            same(load_arrays(flag, split=split, root=tmp_path), npz, split, False)
            same(to_arrays(prepared[split]), npz, split, False)
        both = to_arrays(datasets.concatenate_datasets([prepared["train"], prepared["test"]]).shuffle(seed=7))
        order = np.random.default_rng(7).permutation(len(both.images))
        joined = np.concatenate([npz["train_images"], npz["test_images"]])
        assert np.array_equal(both.images, joined[order])


def test_cached_arrays_are_mapped_and_uncached_ones_in_memory(root: Path, tmp_path: Path) -> None:
    cached = load_arrays("breastmnist", 28, "test", root, cache_dir=tmp_path)
    assert isinstance(cached.images, np.memmap) and cached.images.mode == "c"
    loose = load_arrays("BreastMNIST", 28, "test", str(root), cache_dir=tmp_path / "unused", cache=False)
    assert not isinstance(loose.images, np.memmap) and loose.images.flags.writeable
    assert not (tmp_path / "unused").exists()
    images, labels = cached
    assert len(images) == len(labels) == len(loose.labels)


def test_builds_of_equal_content_share_a_cache_entry(root: Path, phantoms: Phantoms, tmp_path: Path) -> None:
    """Entries are identified by content, not by folder or time of the build."""
    shutil.copytree(root / "breastmnist", tmp_path / "copy" / "breastmnist")
    for folder in (root, tmp_path / "copy"):
        load_arrays("breastmnist", 28, "test", folder, cache_dir=tmp_path / "cache")
    assert len(cache_info(tmp_path / "cache")) == 1
    other = tmp_path / "copy"
    shutil.rmtree(other / "breastmnist")
    build(phantoms, other, "breastmnist", 28, rows=40)
    with np.load(phantoms("breastmnist", 28, 40).path, allow_pickle=False) as npz:
        same(load_arrays("breastmnist", 28, "test", other, cache_dir=tmp_path / "cache"), npz, "test", False)
    assert len(cache_info(tmp_path / "cache")) == 2


def test_a_rebuilt_data_set_is_decoded_again(phantoms: Phantoms, tmp_path: Path) -> None:
    for rows in (16, 24):
        shutil.rmtree(tmp_path / "dist", ignore_errors=True)
        write_card(build(phantoms, tmp_path / "dist", "breastmnist", 28, rows=rows))
        data = datasets.load_dataset(str(tmp_path / "dist" / "breastmnist"), "28", split="train")
        with np.load(phantoms("breastmnist", 28, rows).path, allow_pickle=False) as npz:
            same(to_arrays(data, cache_dir=tmp_path / "cache"), npz, "train", False)


DATA: dict[str, Callable[[Any], Any]] = {
    "filtered": lambda splits: splits["train"].filter(lambda row: row["label"] == 0),
    "shuffled": lambda splits: splits["train"].shuffle(seed=5).select(range(9)),
    "concatenated": lambda splits: datasets.concatenate_datasets([splits["train"], splits["test"]]),
    "train+test": lambda splits: splits,
}


@pytest.mark.parametrize("how", DATA)
def test_data_sets_in_another_order(root: Path, how: str) -> None:
    folder = str(root / "breastmnist")
    if how == "train+test":
        data = datasets.load_dataset(folder, "28", split="train+test")
    else:
        data = DATA[how](datasets.load_dataset(folder, "28"))
    for _ in range(2):
        images, labels = to_arrays(data)
        assert np.array_equal(images, np.stack([np.asarray(row["image"]) for row in data]))
        assert labels.tolist() == data["label"][:]


def test_rows_that_cannot_be_decoded_leave_no_entry(root: Path, tmp_path: Path) -> None:
    data = datasets.load_dataset(str(root / "breastmnist"), "28", split="test")
    larger = datasets.load_dataset(str(root / "retinamnist"), "64", split="test").cast(
        datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=5)})
    )
    mixed = datasets.concatenate_datasets([data.cast(larger.features), larger])
    for cache in (True, False):
        with pytest.raises(SourceError, match=f"row {len(data)} of the data set holds an image of shape"):
            to_arrays(mixed, cache_dir=tmp_path, cache=cache)
    assert cache_info(tmp_path) == [] and not list(tmp_path.glob(".*.tmp"))


def test_errors_are_one_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "MEDMNIST_ARRAYS", str(tmp_path / "arrays")
    )  # a split that was decoded before is not read again
    shutil.copytree(root / "breastmnist", tmp_path / "breastmnist")
    shard = sorted((tmp_path / "breastmnist" / "28").glob("test-*"))[-1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    calls: list[tuple[type[MedMNISTError], str, Callable[[], Arrays]]] = [
        (CatalogError, "did you mean 'pathmnist'", lambda: load_arrays("pathmnits", root=root)),
        (CatalogError, "has no size 32", lambda: load_arrays("pathmnist", 32, root=root)),
        (CatalogError, "unknown split 'dev'", lambda: load_arrays("breastmnist", 28, "dev", root)),
        (CatalogError, "unknown split 'train.:9.'", lambda: load_arrays("breastmnist", 28, "train[:9]", root)),
        (SourceError, r"no build of pathmnist .*\(it has ", lambda: load_arrays("pathmnist", root=root)),
        (SourceError, "cannot load medmnist/pathmnist at size 28", lambda: load_arrays("pathmnist")),
        (BuildError, f"cannot read {shard}", lambda: load_arrays("breastmnist", 28, "test", tmp_path)),
    ]
    for kind, match, call in calls:
        with pytest.raises(kind, match=match) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_too_little_memory(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    def refuse(*_: object) -> NDArray[Any]:
        raise MemoryError

    monkeypatch.setattr("medmnist_hf.data.arrays.np.empty", refuse)
    with pytest.raises(
        MedMNISTError, match=r"^not enough memory for breastmnist test at size 28, which takes 0.0 MB: leave out"
    ):
        load_arrays("breastmnist", 28, "test", root, cache=False)


def test_from_a_hub(hub: HubServer, root: Path, phantoms: Phantoms, tmp_path: Path) -> None:
    """Only the requested split is fetched; if it is in the cache, only the manifest."""
    put_on_hub(hub, root / "chestmnist")
    with np.load(phantoms("chestmnist").path, allow_pickle=False) as npz:
        for _ in range(2):
            same(load_arrays("org/chestmnist", 28, "test", cache_dir=tmp_path), npz, "test", True)
    shards = {f"28/{path.name}" for path in (root / "chestmnist" / "28").glob("test-*")}
    assert fetched(hub) == {"28/manifest.json"} | shards and len(shards) > 1
    # A local build of the same content uses the same entry.
    load_arrays("chestmnist", 28, "test", root, cache_dir=tmp_path)
    assert len(cache_info(tmp_path)) == 1


HUB_CODE = """
import sys, numpy as np, medmnist_hf
npz = np.load(sys.argv[1])
cached = medmnist_hf.load_arrays("org/organmnist3d", 28, "test", revision="main")
assert np.array_equal(cached.images, npz["test_images"]) and np.array_equal(cached.labels, npz["test_labels"][:, 0])
(entry,) = medmnist_hf.cache_info()
assert str(entry.path).startswith(sys.argv[2])
loose = medmnist_hf.load_arrays("org/organmnist3d", 28, "test", cache=False)
assert np.array_equal(cached.images, loose.images)
"""


def test_offline_after_a_first_load(hub: HubServer, root: Path, phantoms: Phantoms, tmp_path: Path) -> None:
    put_on_hub(hub, root / "organmnist3d")
    home = tmp_path / "home"
    env = hub.env(home=home)
    arguments = (phantoms("organmnist3d").path, home / "medmnist-hf" / "arrays")
    hub.python(HUB_CODE, *arguments, env=env)
    hub.log.clear()
    hub.python(HUB_CODE, *arguments, env={**env, "HF_HUB_OFFLINE": "1"})
    assert hub.log.find() == []


CHILD = """
import sys, medmnist_hf
def memory(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) >> 10
flag, size, root, cache = sys.argv[1:5]
import pyarrow.parquet, imagecodecs, medmnist_hf.data.decode, medmnist_hf.data.rows
medmnist_hf.data.decode._THREADS = 2
before = memory("VmRSS")
images, labels = medmnist_hf.load_arrays(flag, int(size), "train", root, cache_dir=cache)
print(images.nbytes >> 20, memory("VmHWM") - before)
"""


@pytest.mark.slow
def test_memory_is_bounded_in_3d(phantoms: Phantoms, tmp_path: Path) -> None:
    """Decoding 60 MiB of volumes needs some 30 MiB for two threads, one row group each, and the parts read ahead."""
    build(phantoms, tmp_path, "adrenalmnist3d", 64, rows=240, rows_per_shard=10**6)
    command = [sys.executable, "-c", CHILD, "adrenalmnist3d", "64", str(tmp_path), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, peak = map(int, done.stdout.split())
    assert size == 60
    assert peak < 180


IMPORTS = """
import sys, medmnist_hf
assert len(medmnist_hf.load_arrays("breastmnist", 28, "test", sys.argv[1], cache_dir=sys.argv[2]).images)
print(sorted({"PIL", "pandas", "datasets", "torch", "pyarrow", "imagecodecs"} & set(sys.modules)))
"""


def test_what_is_imported(root: Path, tmp_path: Path) -> None:
    """Slow imports happen only when something is decoded, and pandas, PIL, datasets and torch not even then."""
    for expected in ("['imagecodecs', 'pyarrow']", "[]"):
        command = [sys.executable, "-c", IMPORTS, str(root), str(tmp_path / "cache")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_the_package_exports_the_functions() -> None:
    for name in ("load_arrays", "to_arrays", "cache_info", "clear_cache"):
        assert callable(getattr(medmnist_hf, name)) and name in medmnist_hf.__all__
    with pytest.raises(AttributeError, match="no attribute 'load_array'"):
        _ = medmnist_hf.load_array
