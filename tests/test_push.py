"""``scripts/push.py`` and remote ``scripts/verify.py`` as a maintainer runs them, and what a reader then loads."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builders.build import build_config
from builders.source import Folder
from cards.render import write_card
from medmnist_hf.catalog import subset, subsets
from medmnist_hf.hub_remote import check_state, read_state
from tests.conftest import Phantoms
from tests.fixtures.builds import build as build_configs
from tests.fixtures.hub import ROOT, Fault, HubServer, hub_fixture  # noqa: F401

REAL = ("breastmnist", "retinamnist", "adrenalmnist3d")
PUSH, VERIFY = "scripts/push.py", "scripts/verify.py"
SENT = "^/lfs/|/cas/v1/xorbs/"

READ = """
import sys
import numpy as np
import pandas
from datasets import get_dataset_config_names, load_dataset
from datasets.distributed import split_dataset_by_node
import medmnist_hf
from medmnist_hf.labels import read_labels

root, *flags = sys.argv[1:]
NAMES = {"train": "train", "validation": "val", "test": "test"}

def same(npz, data, split):
    images, labels = npz[f"{NAMES[split]}_images"], npz[f"{NAMES[split]}_labels"][:, 0]
    count = 0
    for row, image, label in zip(data, images, labels, strict=True):
        assert np.array_equal(np.asarray(row["image"], np.uint8), image) and row["label"] == label, (split, count)
        count += 1
    return count

for flag in flags:
    name, npz = f"org/{flag}", np.load(f"{root}/{flag}.npz", allow_pickle=False)
    by_name = load_dataset(name, "28")
    print(flag, sum(same(npz, by_name[split], split) for split in NAMES), *get_dataset_config_names(name))
    labels = by_name["test"]["label"][:]
    assert load_dataset(name, split="test")["label"][:] == labels
    assert load_dataset(name, "28", split="test", revision="v1").features == by_name["test"].features
    assert medmnist_hf.load(flag, 28, "test", namespace="org")["label"][:] == labels
    streamed = load_dataset(name, "28", split="test", streaming=True)
    same(npz, streamed, "test")
    parts = [split_dataset_by_node(streamed.select_columns("label"), rank=rank, world_size=2) for rank in range(2)]
    assert sorted(row["label"] for part in parts for row in part) == sorted(labels)
    frame = pandas.read_parquet(f"hf://datasets/{name}@v1/28/test-00000-of-00001.parquet", columns=["label"])
    assert frame["label"].tolist() == labels
    assert read_labels(flag, 28, "test", f"{name}@v1").values.tolist() == labels
"""


@pytest.fixture(scope="module")
def real(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds of the three official files."""
    out = tmp_path_factory.mktemp("real")
    for flag in REAL:
        write_card(build_config(subset(flag), 28, Folder(real_data).fetch(subset(flag), 28), out).config_dir.parent)
    return out


@pytest.fixture(scope="module")
def phantom(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic build of several shards."""
    folder = build_configs(phantoms, tmp_path_factory.mktemp("phantom"), "pathmnist", 28, rows=40)
    write_card(folder)
    return folder


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize("xet", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["lfs", "xet"])
def test_three_subsets_are_pushed_tagged_loaded_and_proved(
    hub: HubServer, real: Path, real_data: Path, phantoms: Phantoms, tmp_path: Path, *, xet: bool
) -> None:
    builds = [real / flag for flag in REAL]
    shown = hub.script(PUSH, *builds, "--namespace", "org", env=hub.env(xet=xet))
    assert last_line(shown.stdout).startswith("nothing was changed") and not hub.store.repos
    hub.script(PUSH, *builds, "--namespace", "org", "--yes", "--tag", "v1", env=hub.env(xet=xet))
    told = hub.load(READ, real_data, *REAL, env=hub.env(xet=xet, anonymous=True))
    assert told.splitlines() == [f"{flag} {subset(flag).counts.total} 28" for flag in REAL]
    proved = hub.script(
        VERIFY, "org/breastmnist", "org/adrenalmnist3d@v1", "--source", real_data, env=hub.env(xet=xet, anonymous=True)
    )
    assert proved.stdout.splitlines() == [
        "ok: breastmnist 28: 780 rows in 3 shards equal breastmnist.npz",
        "ok: adrenalmnist3d 28: 1,584 rows in 3 shards equal adrenalmnist3d.npz",
    ]
    assert not hub.log.find(path="^http")

    before = hub.store.files("dataset", "org/breastmnist")
    second = build_configs(phantoms, tmp_path / "second", "breastmnist", 64)
    write_card(second)
    hub.log.clear()
    arguments = ("--repo-id", "org/breastmnist", "--yes", "--allow-synthetic", "--tag", "v2")
    hub.script(PUSH, second, *arguments, env=hub.env(xet=xet))
    after = hub.store.files("dataset", "org/breastmnist")
    kept = {path for path in before if path not in {"README.md", "croissant.json"}}
    assert {path: after[path] for path in kept} == {path: before[path] for path in kept}
    assert hub.store.files("dataset", "org/breastmnist", "v1") == before
    rows = "print(len(medmnist_hf.load('breastmnist', 64, 'train', namespace='org')))"
    told = hub.load(READ + rows, real_data, "breastmnist", env=hub.env(xet=xet, anonymous=True))
    assert told == "breastmnist 780 28 64\n16"
    again = hub.script(PUSH, second, *arguments[:-2], env=hub.env(xet=xet))
    assert "unchanged, no commit made" in last_line(again.stdout)


def test_remote_damage_is_found(hub: HubServer, phantom: Path) -> None:
    env = hub.env()
    hub.script(PUSH, phantom, "--namespace", "org", "--yes", "--allow-synthetic", env=env)
    path = next(name for name in hub.store.files("dataset", "org/pathmnist") if name.startswith("28/test"))
    content = hub.store.files("dataset", "org/pathmnist")[path]
    hub.store.write("dataset", "org/pathmnist", {path: content[:-1] + b"x"})
    found = hub.script(VERIFY, "org/pathmnist", env=env, check=False)
    assert found.returncode == 1 and f"has a {path} that is not the manifest's" in found.stderr
    missing = hub.script(VERIFY, "org/nothing", env=env, check=False)
    assert missing.returncode == 1 and len(missing.stderr.splitlines()) == 1
    assert "no such repository" in missing.stderr


def test_mistakes_are_one_line_without_the_token(hub: HubServer, phantom: Path, tmp_path: Path) -> None:
    yes = ("--yes", "--allow-synthetic")
    expired = hub.access.token("bob")
    expired.expired = True
    cases: list[tuple[tuple[str | Path, ...], dict[str, str], str]] = [
        ((phantom, "--namespace", "org", "--yes"), hub.env(), "--allow-synthetic"),
        ((phantom, tmp_path, "--repo-id", "org/pathmnist"), hub.env(), "give --repo-id for one build"),
        ((phantom,), hub.env(), "--namespace for any number"),
        ((phantom, "--repo-id", "org/bloodmnist", *yes), hub.env(), "is no repository for pathmnist"),
        ((phantom, "--namespace", "org", *yes), hub.env(anonymous=True), "no token for the Hub"),
        ((phantom, "--namespace", "org", *yes), hub.env(hub.read_token), "write access"),
        ((phantom, "--namespace", "org", *yes), hub.env(expired), "has expired"),
        (
            (phantom, "--namespace", "org", *yes),
            hub.env() | {"HF_ENDPOINT": "http://127.0.0.1:9"},
            "check the network",
        ),
    ]
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda case: hub.script(PUSH, *case[0], env=case[1], check=False), cases))
    for done, (_, _, expected) in zip(ended, cases, strict=True):
        assert done.returncode == 1, expected
        errors = [line for line in done.stderr.splitlines() if "builds failed" not in line]
        assert len(errors) == 1 and errors[0].startswith("error: ") and expected in errors[0]
        assert "hf_" not in done.stdout + done.stderr
    assert not hub.store.repos


def test_one_bad_build_does_not_stop_the_others(hub: HubServer, phantom: Path, tmp_path: Path) -> None:
    done = hub.script(PUSH, tmp_path, phantom, "--namespace", "org", "--yes", "--allow-synthetic", check=False)
    assert done.returncode == 1 and "1 of 2 builds failed" in done.stderr
    assert list(hub.store.repos) == [("dataset", "org/pathmnist")]


@pytest.mark.parametrize(
    ("method", "path", "skip", "xet"),
    [
        ("POST", "/repos/create", 0, False),
        ("PUT", "^/lfs/", 0, False),
        ("PUT", "^/lfs/", 4, False),
        ("POST", "/commit/", 0, False),
        ("POST", "/tag/", 0, False),
        ("POST", "/cas/v1/xorbs/", 0, True),
        ("POST", "/commit/", 0, True),
    ],
)
def test_a_killed_push_is_completed_by_the_same_command(
    hub: HubServer, phantom: Path, method: str, path: str, *, skip: int, xet: bool
) -> None:
    running: list[subprocess.Popen[bytes]] = []
    hit = hub.faults.add(Fault(method, path, skip=skip, action=lambda: os.kill(running[0].pid, signal.SIGKILL)))
    arguments = [str(phantom), "--namespace", "org", "--yes", "--allow-synthetic", "--tag", "v1"]
    command = [sys.executable, str(ROOT / PUSH), *arguments]
    running.append(subprocess.Popen(command, env=hub.env(xet=xet), stdout=subprocess.DEVNULL, cwd=hub.home))
    assert running[0].wait(60) == -signal.SIGKILL and hit.hits == 1
    time.sleep(0.3)  # the Hub finishes what it was asked for
    # The picture is no text, so it goes beside git as the shards do.
    wanted = sum(file.stat().st_size for file in (*phantom.glob("28/*.parquet"), phantom / "montage.png"))
    repo = hub.store.repos.get(("dataset", "org/pathmnist"))
    large = set() if repo is None else repo.large
    if repo is not None and len(repo.commits) > 1:
        check_state(read_state(hub.api(), "org/pathmnist"))
    elif repo is not None:
        assert set(hub.store.files("dataset", "org/pathmnist")) == {".gitattributes"}
    there = sum(len(hub.store.objects[sha]) for sha in large)
    hub.log.clear()
    done = hub.script(PUSH, *arguments, env=hub.env(xet=xet))
    assert "all files checked, tagged v1" in done.stdout
    repo = hub.store.repos["dataset", "org/pathmnist"]
    assert len(repo.commits) == 2 and list(repo.tags) == ["v1"]
    check_state(read_state(hub.api(), "org/pathmnist", "v1"))
    if not xet:
        assert hub.log.received("PUT", SENT) == wanted - there
    elif path == "/commit/":
        assert hub.log.received("POST", SENT) < wanted / 10


@pytest.mark.parametrize("sizes", [(28, 64), (28, 28)], ids=["two sizes", "two contents"])
def test_two_pushes_at_once(hub: HubServer, phantoms: Phantoms, tmp_path: Path, sizes: tuple[int, int]) -> None:
    builds = []
    for number, size in enumerate(sizes):
        builds.append(build_configs(phantoms, tmp_path / str(number), "pathmnist", size, rows=16 + 8 * number))
        write_card(builds[-1])
    gate = threading.Barrier(2, timeout=60)
    for _ in builds:  # both have planned and uploaded when the first of them commits
        hub.faults.add(Fault("POST", "/commit/", action=gate.wait))
    ended: list[subprocess.CompletedProcess[str]] = []

    def run(folder: Path) -> None:
        ended.append(
            hub.script(PUSH, folder, "--namespace", "org", "--yes", "--allow-synthetic", env=hub.env(), check=False)
        )

    threads = [threading.Thread(target=run, args=(folder,)) for folder in builds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = read_state(hub.api(), "org/pathmnist")
    check_state(state)
    codes = sorted(done.returncode for done in ended)
    if sizes == (28, 64):
        assert codes == [0, 0] and [one.size for one in state.manifests] == [28, 64]
    else:
        (loser,) = [done for done in ended if done.returncode]
        assert codes == [0, 1] and "another push has changed org/pathmnist 28 meanwhile" in loser.stderr


def test_all_subsets_in_one_command_with_a_collection(hub: HubServer, phantoms: Phantoms, tmp_path: Path) -> None:
    builds = [build_configs(phantoms, tmp_path, entry.flag, 28) for entry in subsets()]
    for folder in builds:
        write_card(folder)
    arguments: list[str | Path] = [*builds, "--namespace", "org", "--yes", "--allow-synthetic"]
    arguments += ["--tag", "v1", "--collection", "MedMNIST"]
    begun = time.monotonic()
    hub.script(PUSH, *arguments)
    assert time.monotonic() - begun < 120
    (collection,) = hub.social.collections.values()
    names = [f"org/{entry.flag}" for entry in subsets()]
    assert [item["id"] for item in collection.items] == names
    for name in names:
        check_state(read_state(hub.api(anonymous=True), name, "v1"))
    hub.log.clear()
    hub.script(PUSH, *arguments)
    assert not hub.log.find("PUT") and not hub.log.find("POST", "/commit/|/items")
