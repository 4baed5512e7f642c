"""The page of a score card in a real browser: widths, color schemes, hostile names, and no network requests."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from medmnist_hf.manifest import Provenance
from medmnist_hf.training.scorecard.card import Missing
from medmnist_hf.training.scorecard.card_page import write_card
from tests.fixtures.chromium import Page, chromium_page
from tests.fixtures.scorecards import invented_card

pytestmark = pytest.mark.slow

EVIL = "org/<script>alert(1)</script>" + "_long" * 30


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    out = tmp_path_factory.mktemp("card")
    reason = "<img src=x onerror=alert(2)>" + "x" * 300
    write_card(invented_card(EVIL, Provenance.SYNTHETIC, missing=[Missing("lora", "failed", reason)]), out)
    with chromium_page() as page:
        page.open((out / "scorecard.html").as_uri())
        yield page


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width_and_scheme(page: Page, width: int, scheme: str) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    assert page.ask("document.documentElement.scrollWidth") <= width
    paper, ink = (
        sum(map(int, re.findall(r"\d+", page.ask(f"getComputedStyle(document.body).{name}"))[:3]))
        for name in ("backgroundColor", "color")
    )
    assert (paper > 600 and ink < 150) if scheme == "light" else (paper < 150 and ink > 600)
    widths = page.ask("[...document.querySelectorAll('figure svg')].map(one => one.clientWidth)")
    assert len(widths) == 2 and all(250 < each < width for each in widths)


def test_names_are_text_and_nothing_is_requested(page: Page, tmp_path: Path) -> None:
    assert page.ask("document.querySelectorAll('script, img').length") == 0
    assert EVIL in page.ask("document.querySelector('h1').textContent")
    requested = {
        event["params"]["request"]["url"].partition(":")[0]
        for event in page.events
        if event.get("method") == "Network.requestWillBeSent"
    }
    assert requested <= {"file", "data"}
    errors = {"Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening", "Runtime.consoleAPICalled"}
    assert not [event for event in page.events if event.get("method") in errors]
