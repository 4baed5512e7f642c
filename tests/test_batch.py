from pathlib import Path

import pytest

from builders.batch import build_all, free_bytes, plan_run, usable_cores
from builders.build import BuildOptions
from builders.source import Folder, Phantom, Zenodo
from medmnist_hf.catalog import subsets
from medmnist_hf.errors import CatalogError

ROWS = 14


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return Phantom(tmp_path_factory.mktemp("cache"), rows=ROWS)


def names(flags: list[str], sizes: list[str], phantom: Phantom) -> list[tuple[str, int]]:
    return [(each.subset.flag, each.size) for each in plan_run(flags, sizes, phantom, BuildOptions())]


def test_what_a_command_line_asks_for(phantom: Phantom) -> None:
    assert names(["PathMNIST", "pathmnist"], ["64", "28"], phantom) == [("pathmnist", 28), ("pathmnist", 64)]
    assert len(names(["all"], ["all"], phantom)) == 60
    assert len(names(["all"], ["28"], phantom)) == 18
    assert len(names(["all"], ["224"], phantom)) == 12, "of all subsets, those that have the size"
    assert names(["breastmnist"], ["all"], phantom) == [("breastmnist", size) for size in (28, 64, 128, 224)]


@pytest.mark.parametrize(
    ("flags", "sizes", "match"),
    [
        (["nosuch"], ["28"], "unknown subset 'nosuch'"),
        (["organmnist3d"], ["224"], "organmnist3d has no size 224: choose from 28, 64"),
        (["all"], ["99"], "no subset has size 99"),
        (["pathmnist"], ["large"], "--size 'large' is no size"),
        (["pathmnist"], ["-28"], "--size '-28' is no size"),
    ],
)
def test_what_it_cannot_ask_for(flags: list[str], sizes: list[str], match: str, phantom: Phantom) -> None:
    with pytest.raises(CatalogError, match=match) as caught:
        names(flags, sizes, phantom)
    assert "\n" not in str(caught.value)


def test_the_plan_of_official_files_needs_none_of_them(tmp_path: Path) -> None:
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
    failed, done = outcomes
    assert failed.result is None
    assert "no file pathmnist.npz" in str(failed.error)
    assert done.error is None
    assert done.result is not None
    assert not done.result.manifest.source.verified
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


def test_the_machine(tmp_path: Path) -> None:
    assert usable_cores() >= 1
    assert free_bytes(tmp_path / "not" / "there" / "yet") > 0
