"""Stores on the loopback Hub: pushed next to images, which stay as they are, checked, and read from there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import medmnist_hf
from medmnist_hf.catalog import subset
from medmnist_hf.embeddings.publishing import LocalStores, plan_stores, push_stores, read_local_stores
from medmnist_hf.errors import BuildError, HubError, SourceError, VerificationError
from medmnist_hf.hub.commit import Pushed
from medmnist_hf.hub.dataset_plan import PushOptions
from medmnist_hf.hub.dataset_state import card_head, check_state, config_names, read_state
from medmnist_hf.manifest import README_NAME
from medmnist_hf.places.resolver import Build
from tests.conftest import Phantoms
from tests.fixtures.pushing import ID, KIND, Pusher, check_complete
from tests.fixtures.stores import MODEL, images_of, store

NAME = "28-timm-test_vit.r160_in1k"
OTHER = "28-timm-other"


@pytest.fixture
def features(dists: dict[str, Path], tmp_path: Path) -> Path:
    """The stores of a subset by two models."""
    images = Build(subset("pathmnist"), 28, dists["28"] / "28")
    for model in (MODEL, "timm/other"):
        store(images, tmp_path / "features", model=model)
    return tmp_path / "features/pathmnist"


def push(pusher: Pusher, folder: Path, options: PushOptions | None = None) -> Pushed:
    options = options or PushOptions(ID)
    stores = read_local_stores(folder, allow_synthetic=True)
    return push_stores(pusher.api, stores, plan_stores(pusher.api, stores, options), options)


def names(pusher: Pusher) -> list[str]:
    return config_names(pusher.files()[README_NAME].decode(), ID)


def test_a_repository_of_features_alone(pusher: Pusher, features: Path) -> None:
    pushed = push(pusher, features, PushOptions(ID, tag="v1"))
    assert pushed.committed and pusher.hub.store.repos[KIND, ID].tags == {"v1": pushed.sha}
    check_complete(pusher)
    files = pusher.files()
    assert {path for path in files if path.startswith(NAME)} == {
        str(path.relative_to(features)) for path in (features / NAME).iterdir()
    }
    assert names(pusher) == [OTHER, NAME]
    assert f'load_dataset("{ID}", "{OTHER}", split="test")' in files[README_NAME].decode()
    assert pusher.titles()[0] == f"Push features of pathmnist: {OTHER}, {NAME}"
    assert not push(pusher, features).committed

    expected = medmnist_hf.load_features("pathmnist", 28, "test", features.parent, model=MODEL)
    for root in (ID, f"{ID}@v1"):
        pusher.hub.log.clear()
        read = medmnist_hf.load_features("pathmnist", 28, "test", root, model=MODEL)
        assert np.array_equal(read.features, expected.features) and np.array_equal(read.labels, expected.labels)
        assert not pusher.hub.log.find(path="train-"), "only what is read is fetched"
    with pytest.raises(SourceError, match=f"{ID} has no features of pathmnist at size 28 by timm/resnet18: check"):
        medmnist_hf.load_features("pathmnist", 28, "test", ID, model="timm/resnet18")
    with pytest.raises(SourceError, match=r"cannot load features of pathmnist .* from org/nothing"):
        medmnist_hf.load_features("pathmnist", 28, "test", "org/nothing", model=MODEL)


@pytest.mark.slow
def test_features_and_images_do_not_change_each_other(pusher: Pusher, features: Path) -> None:
    pusher.push("28")
    alone = pusher.files()
    plan = plan_stores(pusher.api, read_local_stores(features, allow_synthetic=True), PushOptions(ID))
    assert plan.paths("changed") == [README_NAME] and not plan.paths("removed")
    push(pusher, features)
    check_complete(pusher)
    both = pusher.files()
    assert {path: both[path] for path in alone if path != README_NAME} == {
        path: content for path, content in alone.items() if path != README_NAME
    }
    before, after = (card_head(files[README_NAME].decode(), ID) for files in (alone, both))
    assert {key: value for key, value in after.items() if key not in {"configs", "dataset_info"}} == {
        key: value for key, value in before.items() if key not in {"configs", "dataset_info"}
    }
    for key in ("configs", "dataset_info"):
        assert after[key][:1] == before[key] and len(after[key]) == 3
    assert both[README_NAME].decode().count("## Features by frozen models") == 1
    assert not push(pusher, features).committed and not pusher.push("28").committed

    # Another size of images keeps the stores, even with --prune; the card says of the stores what it said.
    pusher.push("64")
    check_complete(pusher)
    assert names(pusher) == ["28", "64", OTHER, NAME]
    pusher.push("28", PushOptions(ID, prune=True))
    assert pusher.files() == both
    # A new store of the same name replaces the one on the Hub; with --prune, others are removed, but no images.
    images = Build(subset("pathmnist"), 28, pusher.dists["28"] / "28")
    store(images, features.parent / "float16", dtype="float16")
    push(pusher, features.parent / "float16/pathmnist", PushOptions(ID, prune=True))
    check_complete(pusher)
    assert names(pusher) == ["28", NAME]
    left = pusher.files()
    assert not [path for path in left if path.startswith(OTHER)]
    assert {path: left[path] for path in alone if path != README_NAME} == {
        path: content for path, content in alone.items() if path != README_NAME
    }


def test_images_are_pushed_next_to_features(pusher: Pusher, features: Path) -> None:
    push(pusher, features)
    pusher.push("28")
    check_complete(pusher)
    assert names(pusher) == ["28", OTHER, NAME]
    card = pusher.files()[README_NAME].decode()
    assert card.count("## Features by frozen models") == 1 and card.count("default: true") == 1


def test_a_pull_request_and_a_rival(pusher: Pusher, features: Path) -> None:
    push(pusher, features)
    before = pusher.files()
    (features / OTHER).rename(features.parent / "elsewhere")
    store(Build(subset("pathmnist"), 28, pusher.dists["28"] / "28"), features.parent, dtype="float16", force=True)
    stores = read_local_stores(features, allow_synthetic=True)
    proposed = push(pusher, features, PushOptions(ID, create_pr=True))
    assert proposed.pull_request and pusher.files() == before
    check_state(read_state(pusher.api, ID, f"refs/pr/{proposed.pull_request.rpartition('/')[2]}"))

    plan = plan_stores(pusher.api, stores, PushOptions(ID))
    rival = {path: content.replace(b'"rows"', b'"rows" ') for path, content in before.items() if "manifest" in path}
    pusher.hub.store.write(KIND, ID, {f"{NAME}/manifest.json": rival[f"{NAME}/manifest.json"]})
    with pytest.raises(HubError, match=f"another push has changed {NAME}"):
        push_stores(pusher.api, stores, plan, PushOptions(ID))


def test_what_must_not_be_pushed_is_named(pusher: Pusher, features: Path, phantoms: Phantoms, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"is synthetic .*--allow-synthetic"):
        read_local_stores(features)
    with pytest.raises(BuildError, match="no features in"):
        read_local_stores(tmp_path)
    stores = read_local_stores(features, allow_synthetic=True)
    with pytest.raises(BuildError, match="a pull request cannot be tagged"):
        plan_stores(pusher.api, stores, PushOptions(ID, create_pr=True, tag="v1"))
    images_of(phantoms, tmp_path / "dist", "bloodmnist")
    pusher.push("28")
    other = LocalStores(subset("bloodmnist"), {}, {})
    with pytest.raises(HubError, match=f"{ID} holds pathmnist: push to another repository"):
        plan_stores(pusher.api, other, PushOptions(ID))
    push(pusher, features)
    with pytest.raises(HubError, match=f"{ID} holds features of pathmnist in {OTHER}"):
        plan_stores(pusher.api, other, PushOptions(ID))
    shard = stores.manifests[NAME].shards[0]
    state = read_state(pusher.api, ID)
    lacking = {path: file for path, file in state.files.items() if path != f"{NAME}/{shard.name}"}
    with pytest.raises(VerificationError, match=f"lacks {NAME}/{shard.name}: push again"):
        check_state(replace(state, files=lacking))
    pusher.hub.store.write(KIND, ID, {f"{NAME}/manifest.json": b'{"format": 1, "splits": {"train": {"shards": 1}}}'})
    with pytest.raises(HubError, match=f"{ID}/{NAME}/manifest.json is not a valid manifest of features"):
        read_state(pusher.api, ID)
    (features / NAME / shard.name).write_bytes(b"PAR1")
    with pytest.raises(BuildError, match="is not the shard of the manifest: make the features again"):
        read_local_stores(features, allow_synthetic=True)
