"""The steps of ``docs/contributing/change-the-parquet-layout.md``: change one constant and increase `LAYOUT`."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import NPZ_SPLITS, subset
from medmnist_hf.conversion import build as build_module
from medmnist_hf.conversion import sharding
from medmnist_hf.conversion.build import BuildOptions, build_config
from medmnist_hf.conversion.checks.verify import verify_config
from medmnist_hf.manifest import WORK_DIR
from tests.conftest import Phantoms

ROWS_PER_GROUP = 5
SHARDS = BuildOptions(max_shard_size=200_000, threads=1)


class Interrupted(Exception):
    """Interrupts the first build."""


@pytest.mark.parametrize("flag", ["bloodmnist", "organmnist3d"])
def test_smaller_row_groups(phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    entry, file = subset(flag), phantoms(flag, 28, 80)

    def interrupt(**facts: object) -> None:
        raise Interrupted

    with monkeypatch.context() as late, pytest.raises(Interrupted):
        late.setattr(build_module, "SplitRecord", interrupt)  # created when the shards of a split are complete
        build_config(entry, 28, file, tmp_path / "old", options=SHARDS)
    stage = tmp_path / "old" / flag / WORK_DIR / "28" / "config"
    before = {path.name: path.read_bytes() for path in stage.glob("*.parquet")}
    assert before, "the interrupted build must leave a shard of the old layout"

    row_bytes = int(np.prod(entry.file(28).image_shape))
    monkeypatch.setattr(sharding, "_GROUP_BYTES", {entry.ndim: ROWS_PER_GROUP * row_bytes})
    monkeypatch.setattr(build_module, "LAYOUT", build_module.LAYOUT + 1)
    resumed = build_config(entry, 28, file, tmp_path / "old", options=SHARDS)
    fresh = build_config(entry, 28, file, tmp_path / "new", options=SHARDS)

    assert resumed.manifest == fresh.manifest
    assert resumed.manifest.releases["layout"] == str(build_module.LAYOUT)
    for name, content in before.items():
        path = resumed.config_dir / name
        assert path.read_bytes() == (fresh.config_dir / name).read_bytes() != content
    for path in fresh.config_dir.glob("*.parquet"):
        groups = pq.ParquetFile(path).metadata
        assert max(groups.row_group(at).num_rows for at in range(groups.num_row_groups)) <= ROWS_PER_GROUP
    write_card(tmp_path / "new" / flag)
    verify_config(fresh.config_dir, file)
    with np.load(file.path) as npz:
        for split, prefix in NPZ_SPLITS.items():
            images, labels = medmnist_hf.load_arrays(flag, 28, split, tmp_path / "new", cache=False)
            assert np.array_equal(images, npz[f"{prefix}_images"])
            assert np.array_equal(labels, npz[f"{prefix}_labels"].reshape(-1))
