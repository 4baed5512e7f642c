"""``medmnist-hf push`` and remote ``medmnist-hf verify`` as a maintainer runs them, and what users then load."""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils.tqdm import enable_progress_bars, tqdm

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import subset, subsets
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.hub import client
from medmnist_hf.hub.dataset_state import check_state, read_state
from medmnist_hf.places.resolver import Build
from tests.conftest import Phantoms
from tests.fixtures.builds import build as build_configs
from tests.fixtures.hub.server import Fault, HubServer, Token
from tests.fixtures.hub.xet import chunk_offsets, unpack_chunk
from tests.fixtures.paths import ROOT
from tests.fixtures.stores import MODEL, store

REAL = ("breastmnist", "retinamnist", "adrenalmnist3d")
PUSH, VERIFY = "scripts/push.py", "scripts/verify.py"
SENT = "^/lfs/|/cas/v1/xorbs/"
OUTSIDE = r"^http|^[\w.-]+:\d+$"
"""Request targets that a proxy gets for another host, over HTTP and HTTPS."""

NO_TORCH = {"USE_TORCH": "0"}
"""Streaming with `datasets` would import torch, which takes seconds."""

READER = """
import sys
import numpy as np
from datasets import load_dataset

root, *flags = sys.argv[1:]
NAMES = {"train": "train", "validation": "val", "test": "test"}

def equal_to_npz(flag, split, images, labels):
    npz = np.load(f"{root}/{flag}.npz", allow_pickle=False)
    assert np.array_equal(npz[f"{NAMES[split]}_images"], images), (flag, split)
    assert npz[f"{NAMES[split]}_labels"][:, 0].tolist() == labels, (flag, split)
    return len(labels)

for flag in flags:
    count = 0
    for split, data in load_dataset(f"org/{flag}", "28").items():
        images = data.with_format("numpy", dtype=np.uint8)["image"][:]
        count += equal_to_npz(flag, split, images, data["label"][:])
    print(flag, count)
"""

OFFLINE = """
import medmnist_hf

try:
    medmnist_hf.load("org/breastmnist", 128)
except medmnist_hf.MedMNISTError as error:
    assert "at size 128, which is not in the cache" in str(error), error
else:
    raise AssertionError("loaded from nowhere")
"""

ONLINE = """
import duckdb
import pandas
import polars
from datasets import get_dataset_config_names
from datasets.distributed import split_dataset_by_node
from huggingface_hub import HfFileSystem
import medmnist_hf
from medmnist_hf.evaluation.labels import read_labels

def rows_of(data):
    rows = [(np.asarray(row["image"], np.uint8), row["label"]) for row in data]
    return np.stack([image for image, _ in rows]), [label for _, label in rows]

def by_node(data, nodes):
    return [rows_of(split_dataset_by_node(data, rank=rank, world_size=nodes)) for rank in range(nodes)]

files = HfFileSystem()
duckdb.register_filesystem(files)
for flag in flags:
    name = f"org/{flag}"
    assert get_dataset_config_names(name) == (["28", "64"] if flag == "breastmnist" else ["28"])
    labels = (test := load_dataset(name, "28", split="test"))["label"][:]
    assert load_dataset(name, split="test")["label"][:] == labels
    assert load_dataset(name, "28", split="test", revision="v1").features == test.features
    assert medmnist_hf.load(f"org/{flag}", 28, "test")["label"][:] == labels
    streamed = load_dataset(name, "28", split="test", streaming=True)
    images, streamed_labels = rows_of(streamed)
    equal_to_npz(flag, "test", images, streamed_labels)
    for rank, (part, part_labels) in enumerate(by_node(streamed, 2)):
        assert np.array_equal(part, images[rank::2]) and part_labels == labels[rank::2], (flag, rank)

    shards = f"hf://datasets/{name}@v1/28/test-*.parquet"
    frames = [
        pandas.concat(pandas.read_parquet(f"hf://{shard}", columns=["label"]) for shard in files.glob(shards)),
        polars.read_parquet([files.open(shard) for shard in files.glob(shards)], columns=["label"]),
        duckdb.sql(f"SELECT label FROM '{shards}'").df(),
    ]
    assert [list(frame["label"]) for frame in frames] == [labels] * 3
    assert read_labels(flag, 28, "test", f"{name}@v1").values.tolist() == labels

several = medmnist_hf.load("org/breastmnist", 64, "train", streaming=True)
images, labels = rows_of(several)
parts = by_node(several, several.num_shards)
assert [len(part_labels) for _, part_labels in parts] == [5, 5, 6]
assert np.array_equal(np.concatenate([part for part, _ in parts]), images)
assert [label for _, part_labels in parts for label in part_labels] == labels
"""

Run = Callable[..., subprocess.CompletedProcess[str]]
"""Runs a script with arguments."""


FEATURES = """
import sys
import numpy as np
from datasets import load_dataset
import medmnist_hf

root, model = sys.argv[1:]
for split in ("train", "validation", "test"):
    features, labels = medmnist_hf.load_features("pathmnist", 28, split, root, model=model)
    rows = load_dataset("org/pathmnist", "28-timm-test_vit.r160_in1k", split=split).with_format("numpy")
    assert np.array_equal(rows["features"][:], features) and rows["label"][:].tolist() == labels.tolist()
    pushed = medmnist_hf.load_features("pathmnist", 28, split, "org/pathmnist", model=model)
    assert np.array_equal(pushed.features, features) and np.array_equal(pushed.labels, labels)
    assert len(load_dataset("org/pathmnist", "28", split=split)) == len(load_dataset("org/pathmnist", split=split))
print("equal")
"""


@pytest.fixture
def run_here(hub: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a script with LFS in this process, which is faster than a new one, and with short waits between retries.

    `token` replaces the maintainer's; None for no token.
    """
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)

    def run(
        script: str, *arguments: str | Path, token: Token | None = hub.token, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        if token is None:
            monkeypatch.delenv("HF_TOKEN", raising=False)
        else:
            monkeypatch.setenv("HF_TOKEN", token.secret)
        monkeypatch.setattr(sys, "argv", [str(ROOT / script), *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_path(sys.argv[0], run_name="__main__")
        process = subprocess.CompletedProcess(sys.argv, int(end.value.code or 0), *capsys.readouterr())
        assert not (check and process.returncode), process.stderr
        return process

    return run


@pytest.fixture(scope="module")
def real(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds of the three official files."""
    out = tmp_path_factory.mktemp("real")
    for flag in REAL:
        write_card(build_config(subset(flag), 28, Folder(real_data).fetch(subset(flag), 28), out).config_dir.parent)
    return out


@pytest.fixture(scope="module")
def phantom(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic build with more shards than a batch of uploads, and so with two xorbs."""
    folder = build_configs(phantoms, tmp_path_factory.mktemp("phantom"), "pathmnist", 28, rows=40, rows_per_shard=2)
    write_card(folder)
    return folder


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.mark.slow
def test_features_are_pushed_next_to_images_and_loaded(
    hub: HubServer, phantom: Path, tmp_path: Path, run_here: Run
) -> None:
    features = store(Build(subset("pathmnist"), 28, phantom / "28"), tmp_path / "features").folder.parent
    usual = ("--repo-id", "org", "--allow-synthetic")
    run_here(PUSH, phantom, *usual, "--yes")
    before = hub.store.files("dataset", "org/pathmnist")
    shown = run_here(PUSH, features, *usual)
    assert "configs after the push: 28, 28-timm-test_vit.r160_in1k" in shown.stdout
    assert last_line(shown.stdout).startswith("nothing was changed")
    assert hub.store.files("dataset", "org/pathmnist") == before
    pushed = run_here(PUSH, tmp_path / "features", *usual, "--tag", "v1", "--yes")
    assert "all files checked, tagged v1" in pushed.stdout
    output = hub.load(FEATURES, features.parent, MODEL, env=hub.env(anonymous=True, home=tmp_path / "home") | NO_TORCH)
    assert output == "equal"
    verified = hub.script(VERIFY, "org/pathmnist", env=hub.env(anonymous=True, home=tmp_path / "home") | NO_TORCH)
    assert verified.stdout.startswith("ok: pathmnist 28: ") and verified.stdout.count("ok: ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_three_subsets_are_pushed_tagged_loaded_and_verified(
    hub: HubServer, real: Path, real_data: Path, phantoms: Phantoms, tmp_path: Path, *, run_here: Run, xet: bool
) -> None:
    def maintain(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return hub.script(PUSH, *arguments, env=hub.env(xet=xet)) if xet else run_here(PUSH, *arguments)

    def reader(home: Path) -> dict[str, str]:
        return hub.env(xet=xet, anonymous=True, home=home) | NO_TORCH

    arguments: list[str | Path] = [*(real / flag for flag in REAL), "--repo-id", "org"]
    shown = run_here(PUSH, *arguments)
    assert last_line(shown.stdout).startswith("nothing was changed") and not hub.store.repos
    hub.script(PUSH, *arguments, "--yes", "--tag", "v1", env=hub.env(xet=xet))

    before = hub.store.files("dataset", "org/breastmnist")
    second = build_configs(phantoms, tmp_path / "second", "breastmnist", 64)
    write_card(second)
    more = (second, "--repo-id", "org/breastmnist", "--yes", "--allow-synthetic")
    maintain(*more, "--tag", "v2")
    after = hub.store.files("dataset", "org/breastmnist")
    kept = {path for path in before if path not in {"README.md", "croissant.json", "eval.yaml"}}
    assert {path: after[path] for path in kept} == {path: before[path] for path in kept}
    assert hub.store.files("dataset", "org/breastmnist", "v1") == before
    assert "unchanged, no commit made" in last_line(maintain(*more).stdout)

    hub.log.clear()
    every_row = [f"{flag} {subset(flag).counts.total}" for flag in REAL]
    output = hub.load(READER + ONLINE, real_data, *REAL, env=reader(tmp_path / "home"))
    assert output.splitlines() == every_row
    assert not hub.log.find(path=OUTSIDE)
    proved = hub.script(
        VERIFY, "org/breastmnist@v1", "org/adrenalmnist3d", "--source", real_data, env=reader(tmp_path / "other")
    )
    assert proved.stdout.splitlines() == [
        "ok: breastmnist 28: 780 rows in 3 shards equal breastmnist.npz (org/breastmnist@v1)",
        "ok: adrenalmnist3d 28: 1,584 rows in 3 shards equal adrenalmnist3d.npz (org/adrenalmnist3d)",
    ]
    hub.log.clear()
    offline = reader(tmp_path / "home") | {"HF_HUB_OFFLINE": "1"}
    assert hub.load(READER + OFFLINE, real_data, *REAL, env=offline).splitlines() == every_row
    assert not hub.log.find()


def test_progress_bars_of_the_hub_client_are_hidden(
    hub: HubServer, run_here: Run, phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a log, each step of a bar would be a line."""
    for module in (constants, sys.modules[tqdm.__module__]):
        monkeypatch.setattr(module, "HF_HUB_DISABLE_PROGRESS_BARS", None)
    enable_progress_bars()
    try:
        process = run_here(PUSH, phantom, "--repo-id", "org", "--yes", "--allow-synthetic")
    finally:
        enable_progress_bars()
    assert process.stderr == ""


def test_a_downloaded_build_does_not_need_the_hub(hub: HubServer, run_here: Run, real: Path, tmp_path: Path) -> None:
    run_here(PUSH, real / "breastmnist", "--repo-id", "org", "--yes", "--tag", "v1")
    hub.store.write("dataset", "org/breastmnist", {"28/manifest.json": b"a later state"})
    command = ["download", "org/breastmnist", "--repo-type", "dataset", "--revision", "v1", "--include", "28/*"]
    command += ["--include", "README.md", "--local-dir", str(tmp_path / "copies/breastmnist")]
    main = "import sys; from huggingface_hub.cli.hf import main; main()"
    hub.python(main, *command, env=hub.env(anonymous=True))
    here = sorted(path.name for path in (tmp_path / "copies/breastmnist").glob("*.*"))
    assert here == [".cache", "README.md"]
    hub.log.clear()
    proved = run_here(VERIFY, tmp_path / "copies/breastmnist")
    assert proved.stdout == "ok: breastmnist 28: 780 rows in 3 shards equal manifest\n"
    data = medmnist_hf.load("breastmnist", 28, "test", root=tmp_path / "copies")
    assert len(data) == 156 and not hub.log.find()


def test_remote_damage_is_found(hub: HubServer, run_here: Run, phantom: Path) -> None:
    run_here(PUSH, phantom, "--repo-id", "org", "--yes", "--allow-synthetic")
    path = next(name for name in hub.store.files("dataset", "org/pathmnist") if name.startswith("28/test"))
    content = hub.store.files("dataset", "org/pathmnist")[path]
    hub.store.write("dataset", "org/pathmnist", {path: content[:-1] + b"x"})
    damaged = run_here(VERIFY, "org/pathmnist", check=False)
    assert damaged.returncode == 1 and f"has a {path} that does not match the manifest" in damaged.stderr
    missing = run_here(VERIFY, "org/nothing", check=False)
    assert missing.returncode == 1 and len(missing.stderr.splitlines()) == 1
    assert "no such repository" in missing.stderr


def test_mistakes_are_one_line_without_the_token(
    hub: HubServer, run_here: Run, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yes = ("--yes", "--allow-synthetic")
    expired = hub.access.token("bob")
    expired.expired = True

    def refused(expected: str, *arguments: str | Path, token: Token | None = hub.token) -> None:
        process = run_here(PUSH, *arguments, token=token, check=False)
        assert process.returncode == 1, expected
        errors = [line for line in process.stderr.splitlines() if "builds failed" not in line]
        assert len(errors) == 1 and errors[0].startswith("error: ") and expected in errors[0]
        assert "hf_" not in process.stdout + process.stderr
        assert "--yes to push" not in process.stdout, "there is nothing to push"
        assert "OFFLINE" not in process.stderr, "a push needs the Hub"

    refused("--allow-synthetic", phantom, "--repo-id", "org", "--yes")
    several = (phantom, tmp_path, "--repo-id", "org/pathmnist")
    refused("org/pathmnist is one repository, but there are 2 builds: give --repo-id org", *several)
    refused("no build of pathmnist in dist or", "pathmnist", "--repo-id", "org")
    refused("org/pathmnist is on the Hub, but a local build is needed", "org/pathmnist", "--repo-id", "org")
    refused("is one config of a build: name the folder of its subset", phantom / "28", "--repo-id", "org")
    for name in ("org/bloodmnist", "org/path mnist", ".."):
        refused("is not a valid repository: name it NAMESPACE/pathmnist", phantom, "--repo-id", name, *yes)
    refused("no token for the Hub", phantom, "--repo-id", "org", *yes, token=None)
    refused("write access", phantom, "--repo-id", "org", *yes, token=hub.read_token)
    refused("has expired", phantom, "--repo-id", "org", *yes, token=expired)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused("check the network", phantom, "--repo-id", "org", *yes)
    refused("check the network", phantom, "--repo-id", "org", "--allow-synthetic")
    assert not hub.store.repos


def test_one_bad_build_does_not_stop_the_others(hub: HubServer, phantom: Path, tmp_path: Path) -> None:
    process = hub.script(PUSH, tmp_path, phantom, "--repo-id", "org", "--yes", "--allow-synthetic", check=False)
    assert process.returncode == 1
    assert sum(line.startswith("error: ") for line in process.stderr.splitlines()) == 2
    assert last_line(process.stderr) == "error: 1 of 2 builds failed"
    assert list(hub.store.repos) == [("dataset", "org/pathmnist")]


@pytest.mark.slow
def test_builds_are_pushed_by_tasks_and_collected_once(hub: HubServer, phantoms: Phantoms, tmp_path: Path) -> None:
    builds = [build_configs(phantoms, tmp_path / "dist", flag, 28) for flag in ("breastmnist", "retinamnist")]
    for folder in builds:
        write_card(folder)
    tasks = [
        "--repo-id",
        "org",
        "--allow-synthetic",
        "--engine",
        "local",
        "--workers",
        "2",
        "--collection",
        "MedMNIST",
    ]
    plan = hub.script(PUSH, builds[0], *tasks).stdout.splitlines()
    assert plan[0] == "org/breastmnist (does not exist yet)" and plan[-1] == "nothing was changed: pass --yes to push"
    assert len([line for line in plan if line.startswith("nothing was changed")]) == 1 and not hub.store.repos
    next(builds[1].glob("28/test-*")).write_bytes(b"damaged")
    process = hub.script(PUSH, tmp_path / "dist", *tasks, "--yes", "--tag", "v1", check=False)
    assert process.returncode == 1
    assert "all files checked, tagged v1" in process.stdout and "nothing was changed" not in process.stdout
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    log = tmp_path / "dist/.jobs/push/logs/retinamnist.txt"
    assert errors[0].startswith(f"error: failed: retinamnist: {builds[1]}: ") and f"(output: {log})" in errors[0]
    assert errors[1:] == [
        "error: not done: 1 of 2 tasks; fix what is named above, then run the same command again",
        "error: 1 of 2 builds failed",
    ]
    check_state(read_state(hub.api(), "org/breastmnist", "v1"))
    (collection,) = hub.social.collections.values()
    assert [item["id"] for item in collection.items] == ["org/breastmnist"]
    kept = [path.read_text() for path in (tmp_path / "dist" / ".jobs").rglob("*") if path.is_file()]
    assert len(kept) > 4 and not any(hub.token.secret in text for text in kept)


def chunks_of(xorb: bytes) -> list[bytes]:
    """The chunks of a xorb; which chunks share a xorb depends on the order in which files are read."""
    return [unpack_chunk(xorb[start:stop]) for start, stop in pairwise(chunk_offsets(xorb))]


def registered_xorbs(hub: HubServer) -> set[str]:
    """The xorbs that registered files consist of, which the Hub can report to a client."""
    return {term.xorb for record in hub.xet.files.values() for term in record.terms}


@pytest.mark.parametrize(
    ("method", "path", "skip", "lost", "xet"),
    [
        pytest.param("POST", "/repos/create", 0, False, False, marks=pytest.mark.slow),
        pytest.param("PUT", "^/lfs/", 0, False, False, marks=pytest.mark.slow),
        ("PUT", "^/lfs/", 4, False, False),
        ("POST", "/commit/", 0, False, False),
        pytest.param("POST", "/tag/", 0, False, False, marks=pytest.mark.slow),
        pytest.param("POST", "/cas/v1/xorbs/", 0, False, True, marks=pytest.mark.slow),
        pytest.param("POST", "/cas/v1/xorbs/", 1, False, True, marks=pytest.mark.slow),
        pytest.param("POST", "/commit/", 0, False, True, marks=pytest.mark.slow),
        pytest.param("POST", "/commit/", 0, True, True, marks=pytest.mark.slow),
    ],
)
def test_a_killed_push_is_completed_by_the_same_command(
    hub: HubServer, run_here: Run, phantom: Path, *, method: str, path: str, skip: int, lost: bool, xet: bool
) -> None:
    """With `lost`, the request during which the push is killed has no effect."""
    running: list[subprocess.Popen[bytes]] = []
    fault = Fault(method, path, skip, lose_answer=lost, action=lambda: os.kill(running[0].pid, signal.SIGKILL))
    hit = hub.faults.add(fault)
    arguments = [str(phantom), "--repo-id", "org", "--yes", "--allow-synthetic", "--tag", "v1"]
    command = [sys.executable, str(ROOT / PUSH), *arguments]
    running.append(subprocess.Popen(command, env=hub.env(xet=xet), stdout=subprocess.DEVNULL, cwd=hub.home))
    assert running[0].wait(60) == -signal.SIGKILL and hit.hits == 1
    time.sleep(0.3)  # the Hub completes the request
    # The picture is binary, so it is stored like the shards, outside of git.
    expected = sum(file.stat().st_size for file in (*phantom.glob("28/*.parquet"), phantom / "montage.png"))
    repo = hub.store.repos.get(("dataset", "org/pathmnist"))
    large = set() if repo is None else repo.large
    if repo is not None and len(repo.commits) > 1:
        check_state(read_state(hub.api(), "org/pathmnist"))
    elif repo is not None:
        assert set(hub.store.files("dataset", "org/pathmnist")) == {".gitattributes"}
    uploaded = sum(len(hub.store.objects[sha]) for sha in large)
    registered = registered_xorbs(hub)
    assert registered == set(hub.xet.xorbs) if path == "/commit/" else len(registered) == skip * xet
    hub.log.clear()
    process = hub.script(PUSH, *arguments, env=hub.env(xet=True)) if xet else run_here(PUSH, *arguments)
    assert "all files checked, tagged v1" in process.stdout
    repo = hub.store.repos["dataset", "org/pathmnist"]
    assert len(repo.commits) == 2 and list(repo.tags) == ["v1"]
    check_state(read_state(hub.api(), "org/pathmnist", "v1"))
    if xet:
        sent = [request.target.rpartition("/")[2] for request in hub.log.find("POST", SENT)]
        assert bool(sent) == (path != "/commit/")
        chunks = [chunk for name in [*registered, *sent] for chunk in chunks_of(hub.xet.xorbs[name])]
        assert len(chunks) == len(set(chunks)), "sent chunks that the Hub could report"
    else:
        assert hub.log.received("PUT", SENT) == expected - uploaded


@pytest.mark.parametrize(
    "sizes",
    [pytest.param((28, 64), id="two sizes", marks=pytest.mark.slow), pytest.param((28, 28), id="two contents")],
)
@pytest.mark.slow
def test_two_pushes_at_once(hub: HubServer, phantoms: Phantoms, tmp_path: Path, sizes: tuple[int, int]) -> None:
    builds = []
    for number, size in enumerate(sizes):
        builds.append(build_configs(phantoms, tmp_path / str(number), "pathmnist", size, rows=16 + 8 * number))
        write_card(builds[-1])
    gate = threading.Barrier(2, timeout=60)
    for _ in builds:  # both have planned and uploaded before either commits
        hub.faults.add(Fault("POST", "/commit/", action=gate.wait))
    ended: list[subprocess.CompletedProcess[str]] = []

    def run(folder: Path) -> None:
        ended.append(
            hub.script(PUSH, folder, "--repo-id", "org", "--yes", "--allow-synthetic", env=hub.env(), check=False)
        )

    threads = [threading.Thread(target=run, args=(folder,)) for folder in builds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = read_state(hub.api(), "org/pathmnist")
    check_state(state)
    codes = sorted(process.returncode for process in ended)
    if sizes == (28, 64):
        assert codes == [0, 0] and [manifest.size for manifest in state.manifests] == [28, 64]
    else:
        (loser,) = [process for process in ended if process.returncode]
        assert codes == [0, 1] and "another push has changed 28 of org/pathmnist meanwhile" in loser.stderr


@pytest.mark.slow
def test_all_subsets_in_one_command_with_a_collection(
    hub: HubServer, run_here: Run, phantoms: Phantoms, tmp_path: Path
) -> None:
    builds = [build_configs(phantoms, tmp_path, entry.flag, 28, rows_per_shard=16) for entry in subsets()]
    for folder in builds:
        write_card(folder)
    arguments: list[str | Path] = [*builds, "--repo-id", "org", "--yes", "--allow-synthetic"]
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
    run_here(PUSH, *arguments)
    assert not hub.log.find("PUT") and not hub.log.find("POST", "/commit/|/items")
