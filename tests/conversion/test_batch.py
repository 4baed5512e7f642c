"""Runs of many configs: which are planned, in what order, and how failures and downloads are handled."""

import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from medmnist_hf.catalog import subset, subsets
from medmnist_hf.conversion.batch import BuildOutcome, Planned, build_all, free_bytes, plan_run, usable_cores
from medmnist_hf.conversion.build import BuildOptions
from medmnist_hf.conversion.sources.download import Patience
from medmnist_hf.conversion.sources.phantom import phantom_counts
from medmnist_hf.conversion.sources.source import Folder, Phantom, Zenodo
from medmnist_hf.errors import BuildError, CatalogError
from medmnist_hf.manifest import read_manifest
from tests.fixtures.closed import closed_folder
from tests.fixtures.official import make_official
from tests.fixtures.zenodo import Reply, ZenodoServer, zenodo_server

ROWS = 14


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return Phantom(tmp_path_factory.mktemp("cache"), rows=ROWS)


def configs(flags: list[str], sizes: list[str], phantom: Phantom) -> list[tuple[str, int]]:
    return [(each.subset.flag, each.size) for each in plan_run(flags, sizes, phantom, BuildOptions())]


def test_a_command_line_selects_configs(phantom: Phantom) -> None:
    assert configs(["PathMNIST", "pathmnist"], ["64", "28"], phantom) == [("pathmnist", 28), ("pathmnist", 64)]
    assert len(configs(["all"], ["all"], phantom)) == 60
    assert len(configs(["all"], ["28"], phantom)) == 18
    assert len(configs(["all"], ["224"], phantom)) == 12, "only the subsets that have this size"
    assert configs(["breastmnist"], ["all"], phantom) == [("breastmnist", size) for size in (28, 64, 128, 224)]
    assert configs(["PathMNIST-64", "breastmnist"], [], phantom) == [("pathmnist", 64), ("breastmnist", 28)]
    assert configs(["pathmnist-64", "pathmnist"], [], phantom) == [("pathmnist", 28), ("pathmnist", 64)]


@pytest.mark.parametrize(
    ("flags", "sizes", "match"),
    [
        (["nosuch"], ["28"], "unknown subset 'nosuch'"),
        (["organmnist3d"], ["224"], "organmnist3d has no size 224: choose from 28, 64"),
        (["pathmnist-64"], ["28"], "pathmnist-64 selects size 64, but --size is 28: omit one of them"),
        (["all"], ["99"], "no subset has size 99"),
        (["pathmnist"], ["large"], "--size 'large' is not a valid size"),
        (["pathmnist"], ["-28"], "--size '-28' is not a valid size"),
    ],
)
def test_an_invalid_selection_is_refused(flags: list[str], sizes: list[str], match: str, phantom: Phantom) -> None:
    with pytest.raises(CatalogError, match=match) as caught:
        configs(flags, sizes, phantom)
    assert "\n" not in str(caught.value)


def test_planning_does_not_need_the_official_files(tmp_path: Path) -> None:
    (planned,) = plan_run(["pathmnist"], ["224"], Zenodo(tmp_path), BuildOptions())
    assert planned.counts.train == 89996
    assert planned.raw_bytes == 107180 * 224 * 224 * 3
    assert planned.shards == 28 + 4 + 3, "13.5, 1.5 and 1.1 GB in shards below 500 MB"


def test_one_failure_does_not_stop_the_others(phantom: Phantom, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    good = next(subset for subset in subsets() if subset.flag == "breastmnist")
    (folder / "breastmnist.npz").write_bytes(phantom.fetch(good, 28).path.read_bytes())
    source = Folder(folder, allow_unverified=True)
    carded: list[str] = []
    run = plan_run(["pathmnist", "breastmnist"], ["28"], source, BuildOptions())
    outcomes = build_all(
        run, source, tmp_path / "out", BuildOptions(), write_card=lambda path: carded.append(path.name)
    )
    assert [outcome.planned.subset.flag for outcome in outcomes] == ["pathmnist", "breastmnist"]
    failed, succeeded = outcomes
    assert failed.result is None
    assert failed.raw_bytes == 0
    assert "no file pathmnist.npz" in str(failed.error)
    assert succeeded.error is None
    assert succeeded.result is not None
    assert not succeeded.result.manifest.source.verified
    assert succeeded.raw_bytes == phantom_counts(good, ROWS).total * 28 * 28 < succeeded.planned.raw_bytes
    assert carded == ["breastmnist"]


def test_progress_counts_every_row(phantom: Phantom, tmp_path: Path) -> None:
    run = plan_run(["breastmnist"], ["28"], phantom, BuildOptions())
    rows: list[int] = []
    build_all(
        run,
        phantom,
        tmp_path,
        BuildOptions(),
        write_card=lambda path: None,
        on_progress=lambda planned, count: rows.append(count),
    )
    assert sum(rows) == run[0].counts.total


def test_cores_and_free_space_of_the_machine_are_positive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert usable_cores() == 3
    for none in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", none)
        assert usable_cores() >= 1
    assert free_bytes(tmp_path / "not" / "there" / "yet") > 0


@pytest.mark.parametrize(
    ("flags", "codec", "match"),
    [
        (["breastmnist"], "webp", "^breastmnist: --codec webp is for RGB subsets"),
        (["pathmnist"], "jpeg", "^pathmnist: unknown codec 'jpeg': choose from png, webp"),
        (["all"], "webp", "mnist: --codec webp is for RGB subsets"),
    ],
)
def test_a_codec_is_refused_before_anything_is_fetched(flags: list[str], codec: str, match: str) -> None:
    with pytest.raises(BuildError, match=match):
        plan_run(flags, ["28"], Zenodo(Path("cache")), BuildOptions(codec=codec))
    assert plan_run(["pathmnist", "organmnist3d"], ["28"], Zenodo(Path("cache")), BuildOptions(codec="webp"))


# a phantom in place of an official file


@pytest.fixture
def server(phantom: Phantom, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZenodoServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with zenodo_server() as running:
        running.files["breastmnist.npz"] = phantom.fetch(subset("breastmnist"), 28).path.read_bytes()
        yield running


@pytest.fixture
def planned(server: ZenodoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    real = subset("breastmnist")
    md5 = hashlib.md5(server.files["breastmnist.npz"], usedforsecurity=False).hexdigest()
    entry = make_official(monkeypatch, real.flag, 28, md5, phantom_counts(real, ROWS))
    (each,) = plan_run(["breastmnist"], ["28"], Zenodo(tmp_path), BuildOptions())
    return dataclasses.replace(each, subset=entry, counts=entry.counts)


def build_without_cache(planned: Planned, server: ZenodoServer, tmp_path: Path, options: BuildOptions) -> BuildOutcome:
    """Build with an empty download cache, as after it was cleared."""
    cache = Path(tempfile.mkdtemp(dir=tmp_path))
    source = Zenodo(cache, endpoint=server.url, patience=Patience(attempts=1))
    (outcome,) = build_all([planned], source, tmp_path / "out", options, write_card=lambda path: None)
    return outcome


def test_a_complete_config_is_not_fetched_again(planned: Planned, server: ZenodoServer, tmp_path: Path) -> None:
    for reused in (False, True):
        outcome = build_without_cache(planned, server, tmp_path, BuildOptions())
        assert outcome.error is None
        assert outcome.result is not None
        assert outcome.result.reused is reused
        assert len(server.seen) == 1
    assert build_without_cache(planned, server, tmp_path, BuildOptions(force=True)).error is None
    assert len(server.seen) == 2, "--force rebuilds, so it fetches"


def test_a_scratch_folder_is_emptied_and_the_cache_stays_empty(
    planned: Planned, server: ZenodoServer, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    source = Zenodo(tmp_path / "cache", endpoint=server.url, patience=Patience(attempts=1))
    seen: list[list[str]] = []

    def look(planned: Planned, rows: int) -> None:
        seen.append([path.name for path in scratch.rglob("*.npz")])

    def run(options: BuildOptions) -> BuildOutcome:
        (outcome,) = build_all(
            [planned], source, tmp_path / "out", options, write_card=str, scratch=scratch, on_progress=look
        )
        assert list(scratch.iterdir()) == [] and not (tmp_path / "cache").exists()
        return outcome

    results = []
    for reused in (False, True):
        outcome = run(BuildOptions())
        assert outcome.error is None and outcome.result is not None and outcome.result.reused is reused
        results.append(outcome.result.manifest)
    assert ["breastmnist.npz"] in seen and len(server.seen) == 1
    server.files["breastmnist.npz"] = b"another file"
    assert "cannot fetch" in str(run(BuildOptions(force=True)).error)
    assert results == [read_manifest(tmp_path / "out" / "breastmnist" / "28")] * 2


def test_two_processes_with_scratch_folders_download_once(
    planned: Planned, server: ZenodoServer, tmp_path: Path
) -> None:
    server.then = Reply(pause=0.3)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    def run(name: str) -> BuildOutcome:
        source = Zenodo(tmp_path / "cache", endpoint=server.url)
        (outcome,) = build_all(
            [planned], source, tmp_path / "out", BuildOptions(), write_card=str, scratch=tmp_path / name
        )
        return outcome

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(run, ["a", "b"]))
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert len(server.seen) == 1


def test_another_build_is_refused_without_fetching(planned: Planned, server: ZenodoServer, tmp_path: Path) -> None:
    config_dir = tmp_path / "out" / "breastmnist" / "28"
    assert build_without_cache(planned, server, tmp_path, BuildOptions()).error is None
    server.seen.clear()
    outcome = build_without_cache(planned, server, tmp_path, BuildOptions(max_shard_size=9_000))
    assert str(outcome.error).startswith(f"{config_dir} was built with shard limit 500000000, not with shard limit 9")
    next(config_dir.glob("train-*")).unlink()
    assert "is damaged" in str(build_without_cache(planned, server, tmp_path, BuildOptions()).error)
    assert server.seen == []


def test_download_progress_is_reported_between_the_start_and_the_rows(
    planned: Planned, server: ZenodoServer, tmp_path: Path
) -> None:
    events: list[str] = []
    source = Zenodo(tmp_path / "cache", endpoint=server.url)
    build_all(
        [planned],
        source,
        tmp_path / "out",
        BuildOptions(),
        write_card=lambda path: events.append("card"),
        on_start=lambda planned: events.append("start"),
        on_bytes=lambda planned, received, total: events.append("bytes"),
        on_progress=lambda planned, rows: events.append("rows"),
    )
    assert list(dict.fromkeys(events)) == ["start", "bytes", "rows", "card"]


# errors of the operating system


def _denied(path: Path) -> None:
    raise PermissionError(13, "Permission denied", str(path / "README.md"))


def _unwritable(path: Path) -> None:
    pa.array([2**40], pa.int64()).cast(pa.int8())


@pytest.mark.parametrize(("card", "why"), [(_denied, "Permission denied"), (_unwritable, "not in range")])
def test_a_system_error_does_not_stop_the_others(
    phantom: Phantom, tmp_path: Path, card: Callable[[Path], None], why: str
) -> None:
    def write_card(path: Path) -> None:
        if path.name == "breastmnist":
            card(path)

    run = plan_run(["breastmnist", "pneumoniamnist"], ["28"], phantom, BuildOptions())
    failed, succeeded = build_all(run, phantom, tmp_path, BuildOptions(), write_card=write_card)
    assert isinstance(failed.error, BuildError)
    assert str(failed.error).startswith(f"cannot finish {tmp_path / 'breastmnist' / '28'} (")
    assert why in str(failed.error)
    assert "\n" not in str(failed.error)
    assert succeeded.error is None
    assert succeeded.result is not None


def test_free_space_of_an_inaccessible_folder() -> None:
    with closed_folder(0, {}) as folder, pytest.raises(BuildError, match=r"^cannot access .* \(Permission denied\)"):
        free_bytes(folder / "deeper" / "still")
