"""A store is found by its model, and checked by the sizes of its shards."""

from pathlib import Path

import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.embeddings.stores import damaged_shard, find_store
from medmnist_hf.errors import BuildError
from tests.conftest import Phantoms
from tests.fixtures.stores import MODEL, images_of, store


def test_a_store_is_found_by_its_model_and_checked(phantoms: Phantoms, tmp_path: Path) -> None:
    written = store(images_of(phantoms, tmp_path / "dist", "breastmnist"), tmp_path / "features")
    breast = subset("breastmnist")
    assert find_store(tmp_path / "features", breast, 28, MODEL) == (written.folder, written.manifest)
    with pytest.raises(BuildError, match=f"by {MODEL}, not of breastmnist at size 28 by timm-test_vit.r160_in1k"):
        find_store(tmp_path / "features", breast, 28, MODEL.replace("/", "-"))
    assert damaged_shard(written.folder, written.manifest) == ""
    first, second, *_ = written.manifest.shards
    (written.folder / second.name).unlink()
    assert damaged_shard(written.folder, written.manifest) == second.name
    (written.folder / first.name).write_bytes(b"PAR1")
    assert damaged_shard(written.folder, written.manifest) == first.name
