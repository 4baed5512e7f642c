"""The card lists every store in the folder, and says if images are not real."""

from pathlib import Path

import yaml

from medmnist_hf.embeddings.card import read_stores, render_card
from medmnist_hf.manifest import README_NAME
from tests.conftest import Phantoms
from tests.fixtures.stores import images_of, store


def test_it_lists_all_stores(phantoms: Phantoms, tmp_path: Path) -> None:
    images = images_of(phantoms, tmp_path / "dist", "breastmnist")
    first = store(images, tmp_path / "features")
    second = store(images, tmp_path / "features", model="resnet18")
    manifests = read_stores(first.folder.parent)
    assert {manifest.config_name for manifest in manifests} == {first.folder.name, second.folder.name}
    card = (first.folder.parent / README_NAME).read_text()
    assert card == render_card(manifests)
    head = yaml.safe_load(card.split("---\n")[1])
    assert [config["config_name"] for config in head["configs"]] == ["28-resnet18", "28-timm-test_vit.r160_in1k"]
    assert [config.get("default", False) for config in head["configs"]] == [True, False]
    assert manifests[0].content_id in head["configs"][0]["description"]
    assert "synthetic" in head["tags"] and "> SYNTHETIC" in card
    assert all(f"`{manifest.model.id}`" in card for manifest in manifests)
