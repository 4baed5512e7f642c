"""The page of the metric in a real browser: the scores of Python, clear errors, and no request to another host."""

import json
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medmnist_hf.evaluate_module import FOLDER
from medmnist_hf.evaluate_module.report import report, resolve
from medmnist_hf.evaluation.prediction_files import write_predictions
from tests.fixtures.chromium import Page, chromium_page
from tests.fixtures.serving import serve
from tests.space.test_page_browser import ERRORS

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with serve(FOLDER) as address, chromium_page() as page:
        page.open(address)
        yield page
        urls = [
            each["params"]["request"]["url"]
            for each in page.events
            if each.get("method") == "Network.requestWillBeSent"
        ]
        assert urls and all(url.startswith(address) for url in urls)
        assert not [event for event in page.events if event.get("method") in ERRORS]


def csv(rows: NDArray[Any]) -> str:
    return "".join(",".join(map(repr, row)) + "\n" for row in rows.tolist())


def submit(page: Page, task: str, predictions: str, labels: str, form: str = "probabilities") -> None:
    values = {"task": task, "form-of-scores": form, "predictions": predictions, "labels": labels}
    page.ask(
        f"Object.entries({json.dumps(values)}).forEach(([name, value]) => document.getElementById(name).value = value)"
    )
    page.click("document.querySelector('button[type=submit]')")


def scores(page: Page) -> dict[str, float]:
    """What the page shows, with all digits."""
    pairs = page.ask(
        "[...document.querySelectorAll('#answer dl div')]"
        ".map((each) => [each.firstChild.textContent, each.lastChild.title])"
    )
    assert pairs, page.ask("document.getElementById('answer').textContent")
    return {name.lower(): math.nan if value == "not defined" else float(value) for name, value in pairs}


def references(task: str, rows: int, classes: int) -> NDArray[np.int64]:
    if task == "multi-label":
        return RNG.integers(0, 2, (rows, classes))
    return RNG.integers(0, classes, (rows, 1))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("task", "classes", "columns"),
    [
        ("binary-class", 2, 1),
        ("binary-class", 2, 2),
        ("multi-class", 9, 9),
        ("ordinal-regression", 5, 5),
        ("multi-label", 14, 14),
    ],
)
def test_the_scores_are_those_of_python(page: Page, task: str, classes: int, columns: int, ties: bool) -> None:
    labels, values = references(task, 400, classes), RNG.random((400, columns))
    for form, plain in (("probabilities", values), ("logits", 20 * values - 10), ("any", 7 * values - 3)):
        table = plain.round(1) if ties and form != "logits" else plain
        logits = {"probabilities": None, "logits": True, "any": False}[form]
        expected = report(labels, table, resolve(task), from_logits=logits)
        order = RNG.permutation(400)
        text = "".join(f"{row},{','.join(map(repr, table[row].tolist()))}\n" for row in order)
        submit(page, task, text, csv(labels), form)
        assert scores(page) == pytest.approx(expected, abs=1e-12)
        if form != "logits":
            assert scores(page) == expected


def test_absent_classes_are_left_out_and_named(page: Page) -> None:
    labels, values = RNG.integers(0, 2, (30, 1)), RNG.random((30, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = report(labels, values, resolve("multi-class"))
        undefined = report([[0], [0]], values[:2, :2], resolve("binary-class"))
    submit(page, "multi-class", csv(np.column_stack([np.arange(30).astype(object), values])), csv(labels))
    assert scores(page) == expected
    assert "leaves out some classes: no positive or no negative row of class 2." in page.ask("answer.textContent")
    submit(page, "binary-class", "0,0.5,0.5\n1,0.1,0.9", "0\n0")
    assert math.isnan(scores(page)["auc"]) and math.isnan(undefined["auc"])


def test_files_of_this_package_are_read(page: Page, tmp_path: Path) -> None:
    labels, values = RNG.integers(0, 2, 156), RNG.random(156)
    path = write_predictions(tmp_path, "breastmnist", 28, "test", values, labels, run="mine")
    exported = "TRAIN,train0_1.png,1\n" + "".join(
        f"TEST,test{row}_{label}.png,{label}\n" for row, label in enumerate(labels)
    )
    submit(page, "binary-class", path.read_text(), exported)
    assert scores(page) == report(labels, values, resolve("breastmnist"))


@pytest.mark.parametrize(
    ("task", "predictions", "labels", "message"),
    [
        ("binary-class", "", "0", "Predictions: there are no scores"),
        ("binary-class", "index,score\n0,1", "0", "line 1 begins with “index”, not a row number"),
        ("binary-class", "0,0.5\n2,0.5", "0\n1", "row 1 is missing"),
        ("binary-class", "0,0.5\n0,0.5", "0\n1", "row 0 appears twice"),
        ("binary-class", "0,0.5\n1,0.5,0.5", "0\n1", "line 2 has 2 scores, the first line 1"),
        ("binary-class", "0,nan", "0", "“nan” as a score"),
        ("binary-class", "0,7", "0", "outside 0 to 1"),
        ("binary-class", "0,0.5", "0\n1", "1 predictions but 2 labels"),
        ("binary-class", "0,0.5", "2", "row 0 holds 2: class ids are 0 to 1"),
        ("binary-class", "0,0.1,0.2,0.7", "0", "needs 1 or 2 scores per row, not 3"),
        ("multi-class", "0,0.5,0.5", "<img src=x onerror=alert(1)>", "is not a class id"),
        ("multi-label", "0,0.5,0.5", "1", "0 or 1 for each of the 2 findings, not 1"),
    ],
)
def test_errors_are_one_clear_line(page: Page, task: str, predictions: str, labels: str, message: str) -> None:
    submit(page, task, predictions, labels)
    text = page.ask("document.getElementById('answer').textContent")
    assert message in text and "\n" not in text and page.ask("!document.querySelector('#answer img')")


def test_the_example_works_by_keyboard_at_every_width(page: Page) -> None:
    for width, scheme in ((390, "dark"), (1400, "light")):
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.ask("document.getElementById('example').focus()")
        page.press("Enter", 13, "\r")
        assert scores(page) == {"auc": 1.0, "acc": 0.75}
        assert page.ask("document.documentElement.scrollWidth") <= width


def test_the_usage_is_that_of_the_card() -> None:
    text = (FOLDER / "index.html").read_text()
    (usage,) = re.findall(r"<pre><code>(import evaluate.*?)</code>", text, re.DOTALL)
    assert usage in (FOLDER / "README.md").read_text()
    assert not re.search(r"<style|\bstyle=|\bon\w+=|javascript:", text)
