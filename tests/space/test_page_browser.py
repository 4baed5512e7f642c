"""The Space in a real browser: fast, by keyboard, narrow, dark, without other hosts, and hostile names are text."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.embeddings.stores import find_store
from medmnist_hf.leaderboard.board import leaderboard
from medmnist_hf.places.resolver import Build
from medmnist_hf.space.atlas import draw_atlas
from medmnist_hf.space.pictures import draw_gallery, open_place
from medmnist_hf.space.site import write_site
from tests.conftest import Phantoms
from tests.fixtures.chromium import Page, chromium_page
from tests.fixtures.serving import serve
from tests.fixtures.stores import MODEL, images_of, store

pytestmark = pytest.mark.slow

FLAGS = ("pathmnist", "chestmnist", "organmnist3d")
EVIL = "<img src=x onerror=window.hacked=1></script><script>window.hacked=1</script>"
BEST = leaderboard("breastmnist", "224-pretrained").ranked[0].name
VIEWS = ("#/", *(f"#/subset/{flag}" for flag in (*FLAGS, "bloodmnist")), "#/leaderboard?subset=breastmnist", "#/atlas")
ERRORS = {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled", "Page.javascriptDialogOpening"}


@pytest.fixture(scope="module")
def site(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with galleries of phantoms, an atlas, and a method with a hostile name."""
    home = tmp_path_factory.mktemp("space")
    places = [images_of(phantoms, home / "dist", flag, rows=24) for flag in FLAGS]
    store(places[0], home / "features")
    folder, manifest = find_store(home / "features", subset(FLAGS[0]), 28, MODEL)
    drawn = [draw_gallery(*open_place(Build(place.entry, 28, place.folder)), "train") for place in places]
    write_site(home / "site", [*drawn, draw_atlas(folder, manifest, places[0], "train")])
    board = home / "site" / "data" / "leaderboard" / "breastmnist.json"
    board.write_text(board.read_text().replace(BEST, EVIL))
    return home / "site"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with serve(site) as address:
        yield address


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Page]:
    with chromium_page() as page:
        page.open(address)
        yield page


def until(page: Page, expression: str) -> None:
    """Wait until an expression is true."""
    end = time.monotonic() + 20
    while not page.ask(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.02)


def view(page: Page, route: str) -> None:
    page.ask(f"location.hash = {route!r}")
    until(page, f"document.getElementById('main').dataset.ready === {route!r}")


def texts(page: Page, selector: str) -> list[str]:
    found: list[str] = page.ask(f"[...document.querySelectorAll({selector!r})].map((each) => each.textContent)")
    return found


def tab_to(page: Page, selector: str) -> None:
    """Press the tab key until an element that matches has the focus."""
    for _ in range(200):
        page.press("Tab", 9)
        if page.ask(f"document.activeElement.matches({selector!r})"):
            return
    raise AssertionError(f"the tab key never reaches {selector}")


def test_it_loads_within_two_seconds(page: Page, address: str) -> None:
    page.open(address)
    until(page, "document.getElementById('main').dataset.ready")
    assert page.ask("performance.now()") < 2000
    assert page.ask("performance.getEntriesByType('navigation')[0].loadEventEnd") < 2000
    assert len(texts(page, ".card")) == 18 and page.ask("document.documentElement.lang") == "en"


def test_the_gallery_is_searched_and_filtered(page: Page) -> None:
    view(page, "#/")
    page.click("document.querySelector('input[type=search]')")
    for letter in "melanoma":
        page.press(letter, ord(letter.upper()), letter)
    assert texts(page, ".card .name") == ["DermaMNISTRGB"] and texts(page, "mark") == ["melanoma"]
    assert texts(page, ".found") == ["1 of 18 subsets"]
    page.ask("document.querySelector('input[type=search]').value = ''")
    page.press(" ", 32, " ")
    page.click("[...document.querySelectorAll('.segments button')][2]")
    assert len(texts(page, ".card")) == 6 and "OrganMNIST3D" in texts(page, ".card .name")[0]
    page.click("[...document.querySelectorAll('.segments button')][0]")
    assert len(texts(page, ".card")) == 18


def test_synthetic_pictures_are_marked(page: Page) -> None:
    view(page, "#/")
    assert texts(page, ".card .badge") == ["synthetic"] * 3 and page.ask("!document.getElementById('banner').hidden")
    view(page, "#/subset/pathmnist")
    assert (
        "SYNTHETIC" in texts(page, ".warning")[0]
        and page.ask("document.querySelectorAll('.tiles.synthetic').length") == 1
    )


def test_classes_are_filtered_and_an_image_is_opened_by_keyboard(page: Page) -> None:
    view(page, "#/")
    tab_to(page, ".card[href='#/subset/pathmnist']")
    page.press("Enter", 13, "\r")
    until(page, "document.getElementById('main').dataset.ready === '#/subset/pathmnist'")
    everything = len(texts(page, ".tile"))
    tab_to(page, ".chip")
    page.press("Enter", 13, "\r")
    assert 0 < len(texts(page, ".tile")) < everything
    labels = page.ask("[...document.querySelectorAll('.tile')].map((each) => each.getAttribute('aria-label'))")
    assert all(label.startswith("adipose, row ") for label in labels)
    tab_to(page, ".tile")
    page.press("Enter", 13, "\r")
    assert page.ask("document.querySelector('dialog').open")
    first = texts(page, ".caption span")
    page.press("ArrowRight", 39)
    assert texts(page, ".caption strong") == ["adipose"] and texts(page, ".caption span") != first
    assert "pathmnist.png" in page.ask("document.querySelector('.picture').style.backgroundImage")
    page.press("Escape", 27)
    until(page, "!document.querySelector('dialog').open")
    assert page.ask("document.activeElement.matches('.tile')")


def test_slices_of_volumes_are_played_and_chosen(page: Page) -> None:
    view(page, "#/subset/organmnist3d")
    before = texts(page, ".player output")[0]
    until(page, f"document.querySelector('.player output').textContent !== {before!r}")
    page.click("document.querySelector('.play')")
    page.ask("document.querySelector('.player input').focus()")
    page.press("Home", 36)
    assert texts(page, ".player output")[0] == "slice 1 of 28"
    page.press("ArrowRight", 39)
    assert texts(page, ".player output")[0] == "slice 2 of 28"
    assert page.ask("document.querySelector('.tile').style.backgroundPosition").startswith(f"{100 / 27:.2f}"[:4])


def test_a_subset_without_pictures_is_described(page: Page) -> None:
    view(page, "#/subset/bloodmnist")
    assert "No pictures here" in texts(page, ".unbuilt")[0] and len(texts(page, ".labels li")) == 8
    view(page, "#/subset/constructor")
    assert texts(page, "h1") == ["No such subset"]


def test_the_leaderboard_is_filtered_and_sorted_with_the_fence_below(page: Page) -> None:
    view(page, "#/leaderboard?subset=breastmnist&protocol=224-pretrained")
    rows = "tbody:not(.fenced) tr"
    board = leaderboard("breastmnist", "224-pretrained")
    expected = [EVIL if line.name == BEST else line.name for line in board.ranked]
    assert texts(page, f"{rows} summary") == expected
    assert texts(page, f"{rows} td[data-heading='AUC place']") == [str(line.auc_rank) for line in board.ranked]
    assert texts(page, ".fenced summary") == [line.name for line in board.fenced] == ["MedViTV2-L"]
    page.click("document.getElementById('sort-acc')")
    best = sorted(board.ranked, key=lambda line: -line.acc)[0]
    assert texts(page, f"{rows} summary")[0] == best.name and texts(page, ".fenced summary") == ["MedViTV2-L"]
    assert page.ask("document.querySelector('[aria-sort]').textContent").startswith("ACC")
    assert page.ask("document.activeElement.id") == "sort-acc"
    page.press("Enter", 13, "\r")
    assert page.ask("document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "ascending"
    page.click("document.querySelector('.check input')")
    clean = leaderboard("breastmnist", "224-pretrained", clean=True)
    assert len(texts(page, f"{rows} summary")) == len(clean.ranked) and "clean=1" in page.ask("location.hash")
    page.ask(
        "(() => { const list = document.querySelector('.controls select'); list.value = 'organmnist3d';"
        "list.dispatchEvent(new Event('change')); })()"
    )
    until(page, "location.hash.includes('organmnist3d')")
    assert EVIL not in texts(page, "summary")


def test_a_hostile_name_is_text(page: Page) -> None:
    view(page, "#/leaderboard?subset=breastmnist&protocol=224-pretrained")
    assert EVIL in texts(page, "summary")
    assert page.ask("window.hacked === undefined && !document.querySelector('main img, main script')")


def test_a_leaderboard_that_cannot_be_read_shows_no_other_one(site: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(site, tmp_path / "site"))
    file = copy / "data" / "leaderboard" / "organmnist3d.json"
    content = file.read_bytes()
    file.unlink()

    def choose(page: Page, flag: str, shown: str) -> None:
        page.ask(
            f"(() => {{ const list = document.querySelector('.controls select'); list.value = '{flag}';"
            "list.dispatchEvent(new Event('change')); })()"
        )
        until(page, shown)

    with serve(copy) as address, chromium_page() as page:
        page.open(address)
        until(page, "document.getElementById('main').dataset.ready")
        view(page, "#/leaderboard?subset=breastmnist")
        choose(page, "organmnist3d", "document.querySelector('.error') !== null")
        assert texts(page, ".error")[0].startswith("This leaderboard cannot be shown: ")
        assert not texts(page, ".board")
        choose(page, "breastmnist", "document.querySelector('.board') !== null")
        file.write_bytes(content)
        choose(page, "organmnist3d", "location.hash.includes('organmnist3d')")
        assert texts(page, ".board") and not texts(page, ".error")


def test_the_atlas_shows_images_by_pointer_and_by_keyboard(page: Page) -> None:
    view(page, "#/atlas")
    until(page, "document.querySelector('.detail .picture').style.backgroundImage")
    start = texts(page, ".detail .caption")
    tab_to(page, "canvas")
    page.press("ArrowRight", 39)
    moved = texts(page, ".detail .caption")
    assert moved != start and "of train" in moved[0]
    x, y = page.ask(
        "(() => { const box = document.querySelector('canvas').getBoundingClientRect();"
        "return [box.x + box.width / 2 - Math.min(box.width, box.height) / 2 + 14, box.y + box.height / 2]; })()"
    )
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    until(page, f"document.querySelector('.detail .caption').textContent !== {moved[0]!r}")
    page.click("document.querySelector('.legend button')")
    assert page.ask("document.querySelector('.legend button').getAttribute('aria-pressed')") == "true"


@pytest.mark.parametrize("width", [390, 840, 1060, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_every_width_and_scheme(page: Page, width: int, scheme: str) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    for route in VIEWS:
        view(page, route)
        assert page.ask("document.documentElement.scrollWidth") <= width, route
        unnamed = page.ask(
            "[...document.querySelectorAll('button, a, input, select, [role=img], canvas')].filter((each) =>"
            "!each.textContent.trim() && !each.getAttribute('aria-label') && !each.closest('label')"
            "&& each.checkVisibility()).length"
        )
        assert unnamed == 0, route
    paper, ink = (page.ask(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    assert (paper == "rgb(247, 246, 242)") == (scheme == "light") and paper != ink


def test_nothing_else_was_requested_and_no_error_was_logged(page: Page, address: str) -> None:
    """Runs last: the events are those of all tests above."""
    requested = {
        event["params"]["request"]["url"]
        for event in page.events
        if event.get("method") == "Network.requestWillBeSent"
    }
    assert requested and all(each.startswith(address) for each in requested)
    assert not [event for event in page.events if event.get("method") in ERRORS]
    answers = [
        event["params"]["response"] for event in page.events if event.get("method") == "Network.responseReceived"
    ]
    assert {answer["status"] for answer in answers} <= {200, 304}
