"""The page of a report in a real browser: sorting, filters, color schemes, widths, and no network requests."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from medmnist_hf.training.benchmark.boards import gather
from medmnist_hf.training.benchmark.report import write_report
from tests.fixtures.benchmarks import leave_run
from tests.fixtures.chromium import Page, chromium_page

pytestmark = pytest.mark.slow

TABLE = "document.querySelector('#breastmnist table')"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    out = tmp_path_factory.mktemp("bench")
    facts = {"trained_parameters": 9_999}
    leave_run(out / "a", test=[0.95, 0.93], validation=[0.7, 0.7], facts=facts, dataset="breastmnist", epochs=3)
    facts = {"trained_parameters": 100_000}
    leave_run(
        out / "b", test=[0.90], validation=[0.8], facts=facts, dataset="breastmnist", model="timm/" + "long_" * 9
    )
    leave_run(out / "c", test=[], validation=[0.99], dataset="breastmnist", model="<script>alert(1)</script>")
    leave_run(out / "d", test=[0.7], validation=[0.6], dataset="retinamnist", method="knn")
    for name in ("best/README.md", "figures/curves.png", "breastmnist_test_[AUC]0.950_[ACC]0.850@seed0.csv"):
        (out / "a" / "seed-0" / name).parent.mkdir(parents=True, exist_ok=True)
        (out / "a" / "seed-0" / name).write_text(f"this is {name}")
    write_report(gather(out), [("cell-one", "failed", "no memory")], out)
    with chromium_page() as page:
        page.open((out / "report.html").as_uri())
        yield page


def column(page: Page, at: int) -> list[str]:
    keys: list[str] = page.ask(f"[...{TABLE}.tBodies[0].rows].map(row => row.cells[{at}].dataset.key ?? '')")
    return keys


def sorts(page: Page) -> list[str | None]:
    orders: list[str | None] = page.ask(
        f"[...{TABLE}.tHead.rows[0].cells].map(head => head.getAttribute('aria-sort'))"
    )
    return orders


def button(at: int) -> str:
    return f"{TABLE}.tHead.rows[0].cells[{at}].querySelector('button')"


def test_clicks_sort_both_ways_with_unknown_values_last(page: Page) -> None:
    assert sorts(page)[4] == "descending"
    for at, numeric, first in ((6, True, "descending"), (9, True, "ascending"), (1, False, "ascending")):
        for order in (first, {"ascending": "descending", "descending": "ascending"}[first]):
            page.click(button(at))
            values = column(page, at)
            known = [value for value in values if value]
            assert values == known + [""] * (len(values) - len(known)), "unknown values are last"
            inverse = order == "descending"
            if numeric:
                assert [float(v) for v in known] == sorted(map(float, known), reverse=inverse) and len(known) >= 2
            else:
                assert known == sorted(known, key=str.casefold, reverse=inverse)
            assert sorts(page) == [order if one == at else None for one in range(11)]
    assert len(set(column(page, 1))) == 10


def test_keys_sort_too(page: Page) -> None:
    page.ask(f"{button(4)}.focus()")
    page.press("Enter", 13, "\r")
    assert sorts(page)[4] == "descending" and column(page, 4)[0] == str(max(map(float, filter(None, column(page, 4)))))
    page.press(" ", 32, " ")
    assert sorts(page)[4] == "ascending" and column(page, 4)[-1] == ""
    page.press("Tab", 9)
    assert page.ask(f"document.activeElement === {button(5)}")


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width_and_scheme(page: Page, tmp_path: Path, width: int, scheme: str) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    assert page.ask("document.documentElement.scrollWidth") <= width
    paper, ink = (
        sum(map(int, re.findall(r"\d+", page.ask(f"getComputedStyle(document.body).{name}"))[:3]))
        for name in ("backgroundColor", "color")
    )
    assert (paper > 600 and ink < 150) if scheme == "light" else (paper < 150 and ink > 600)
    picture = tmp_path / "page.png"
    page.picture(picture)
    assert picture.stat().st_size > 20_000


SHOWN = "[...document.querySelectorAll('.board tbody tr[data-model]')].filter(one => one.offsetParent !== null)"


def choose(page: Page, name: str, value: str) -> None:
    """Choose an option of a filter with the keyboard."""
    page.ask(f"document.querySelector('select[name={name}]').focus()")
    at = page.ask(
        f"[...document.querySelector('select[name={name}]').options].findIndex(one => one.value === '{value}')"
    )
    page.press("Home", 36)
    for _ in range(at):
        page.press("ArrowDown", 40)
    assert page.ask(f"document.querySelector('select[name={name}]').value") == value


def test_filters_hide_other_rows(page: Page) -> None:
    def shown() -> list[str]:
        methods: list[str] = page.ask(f"{SHOWN}.map(one => one.dataset.method)")
        return methods

    def count() -> str:
        return str(page.ask("document.querySelector('.filters output').textContent"))

    def foot() -> str:
        return str(page.ask("getComputedStyle(document.querySelector('tfoot')).display"))

    assert len(shown()) == 4 and count() == "4 of 4 own rows" and foot() == "table-footer-group"
    options = page.ask("[...document.querySelectorAll('.filters select')].map(one => [one.name, one.options.length])")
    assert options == [["subset", 3], ["model", 4], ["method", 3]]
    choose(page, "method", "knn")
    assert shown() == ["knn"] and count() == "1 of 4 own rows; in bold: the best of all rows"
    assert foot() == "table-footer-group", "the mean of a model covers the subsets that are shown"
    assert page.ask("document.querySelector('#breastmnist').hidden") is True
    assert page.ask("[...document.querySelectorAll('nav li')].map(one => one.hidden)") == [False, True]
    assert (
        page.ask("[...document.querySelectorAll('table')[1].tHead.rows[0].cells].filter(c => !c.hidden).length") == 2
    )
    assert page.ask("document.querySelectorAll('#retinamnist g.dimmed').length") == 0
    choose(page, "subset", "breastmnist")
    assert shown() == [] and count().startswith("0 of 4 own rows")
    assert foot() == "none", "the mean covers subsets that are hidden"
    choose(page, "method", "")
    assert len(shown()) == 3
    choose(page, "model", "resnet18")
    assert len(shown()) == 1 and page.ask("document.querySelectorAll('#breastmnist g.dimmed').length") == 1
    assert page.ask(f"{TABLE}.querySelectorAll('tr.published').length") == 7, "published rows stay to compare with"
    choose(page, "model", "")
    choose(page, "subset", "")
    assert len(shown()) == 4 and foot() == "table-footer-group"


@pytest.mark.parametrize("width", [400, 1280])
def test_texts_of_a_plot_do_not_overlap_marks(page: Page, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    overlaps = page.ask(
        """[...document.querySelectorAll('svg[role]')].flatMap(svg => {
            const boxes = (query) => [...svg.querySelectorAll(query)].map(one => one.getBoundingClientRect());
            const marks = boxes('circle, rect, path');
            const texts = [...boxes('g > text, text.tick'), ...boxes('g > svg')];
            const all = svg.getBoundingClientRect();
            if (marks.length < 10 || texts.length < 10) return ['nothing drawn'];
            const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
            return texts.filter(text => marks.some(mark => meet(text, mark)) || text.right > all.right + 1);
        }).length"""
    )
    assert overlaps == 0
    shares = page.ask(
        "[...document.querySelectorAll('figure')].map(one => one.querySelector('svg').clientWidth / one.clientWidth)"
    )
    assert all(share > 0.95 for share in shares), "as wide as the page, or wider and scrolled"


def test_links_point_to_existing_files(page: Page) -> None:
    address = page.ask("location.href")
    links = page.ask(f"[...{TABLE}.querySelectorAll('td.model a')].map(one => [one.textContent, one.href])")
    texts = [text for text, _ in links]
    assert {"a", "b", "c", "card", "curves", "predictions", "results"} == set(texts)
    for _, link in links:
        assert Path(unquote(urlsplit(link).path)).exists()
    page.click(f"[...{TABLE}.querySelectorAll('a')].find(one => one.textContent === 'predictions')")
    page.open(address)


def test_the_page_is_complete_without_scripts(page: Page) -> None:
    address = page.ask("location.href")
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.open(address)
    page.call("Emulation.setScriptExecutionDisabled", value=False)
    assert page.ask("document.querySelectorAll('th button').length") == 0
    assert (
        column(page, 0)[:4] == ["1", "1", "1", ""] and page.ask("document.querySelectorAll('svg[role]').length") == 2
    )
    assert page.ask("document.querySelectorAll('.filters').length") == 0, "they need scripts"
    page.open(address)


def test_the_page_makes_no_requests_and_logs_no_errors(page: Page) -> None:
    requested = {
        event["params"]["request"]["url"].partition(":")[0]
        for event in page.events
        if event.get("method") == "Network.requestWillBeSent"
    }
    assert requested == {"file"}
    errors = {"Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"}
    assert not [event for event in page.events if event.get("method") in errors]
