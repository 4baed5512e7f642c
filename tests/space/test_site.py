"""The folder of the Space: complete, up to date where it is committed, never written over other files."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.documents import parse_json
from medmnist_hf.errors import BuildError
from medmnist_hf.leaderboard.board import leaderboard
from medmnist_hf.places.resolver import Build
from medmnist_hf.space.pictures import PictureFiles, draw_gallery, open_place
from medmnist_hf.space.push import read_site
from medmnist_hf.space.record import read_record
from medmnist_hf.space.site import page_files, stale_files, write_site
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.paths import ROOT

COMMITTED = ROOT / "cards" / "space"


@pytest.fixture
def drawn(phantoms: Phantoms, tmp_path: Path) -> PictureFiles:
    folder = build(phantoms, tmp_path / "dist", "pathmnist", 28)
    return draw_gallery(*open_place(Build(subset("pathmnist"), 28, folder / "28")), "train")


def test_the_committed_page_is_up_to_date() -> None:
    assert stale_files(COMMITTED) == [], "run python scripts/render_cards.py"


def test_pictures_that_are_not_written_again_are_removed(drawn: PictureFiles, tmp_path: Path) -> None:
    out = tmp_path / "site"
    record = write_site(out, [drawn])
    assert read_record(out) == record and record.pictures == (drawn.record,)
    assert {path.relative_to(out).as_posix() for path in (out / "pictures").iterdir()} == set(drawn.files)
    assert "pictures/pathmnist.png" in stale_files(out)
    assert write_site(out).pictures == () and stale_files(out) == []


def test_pictures_of_the_same_name_are_refused(drawn: PictureFiles, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"pictures/pathmnist\.json would be written twice"):
        write_site(tmp_path / "site", [drawn, drawn])


def test_entries_are_ranked_and_recorded(tmp_path: Path) -> None:
    best = leaderboard("breastmnist", "official").ranked[0].result
    assert best is not None
    entry = replace(best, method="<b>Mine</b>", auc=0.999, source="entries", locator="entries/mine")
    record = write_site(tmp_path / "site", entries=[entry])
    path = "data/leaderboard/breastmnist.json"
    assert list(record.boards) == [path] and read_record(tmp_path / "site") == record
    facts = parse_json((tmp_path / "site" / path).read_bytes())
    index, place, _ = facts["boards"]["official"][0]["ranked"][0]
    assert place == 1 and facts["results"][index]["method"] == "<b>Mine</b>"
    files = read_site(tmp_path / "site")
    assert files[path].sha256 == record.boards[path]
    (tmp_path / "site" / path).write_text("{}")
    with pytest.raises(BuildError, match=r"breastmnist\.json differs from data/site\.json"):
        read_site(tmp_path / "site")
    assert write_site(tmp_path / "site").boards == {}


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(BuildError, match="holds other files: choose a new folder"):
        write_site(tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"
    with pytest.raises(BuildError, match=r"no data/site\.json in .*, so it is not a folder of the Space"):
        read_record(tmp_path)


def test_an_interrupted_run_leaves_a_valid_folder_that_can_be_written_again(
    drawn: PictureFiles, tmp_path: Path
) -> None:
    def failing() -> "list[PictureFiles]":
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_site(tmp_path / "site", (each for _ in range(1) for each in failing()))
    assert read_record(tmp_path / "site").pictures == ()
    assert write_site(tmp_path / "site", [drawn]).pictures


def test_the_page_asks_no_other_host_and_holds_no_inline_code() -> None:
    files = {path: content.decode() for path, content in page_files().items() if not path.startswith("data/")}
    page = files["index.html"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'" in page
    assert not re.search(r"<style|\bstyle=|\bon\w+=|javascript:|<script(?! type=\"module\" src=)", page)
    for path, text in files.items():
        if path.endswith((".js", ".css")):
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|@import|url\(http", text
            ), path
            hosts = set(re.findall(r"https?://[\w.]+", text))
            assert hosts <= {"https://huggingface.co", "http://www.w3.org"}, path
