"""The files of a report: equal content, a self-contained page, hostile names as text."""

import csv
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest

from medmnist_hf.manifest import Provenance
from medmnist_hf.training.benchmark.boards import gather
from medmnist_hf.training.benchmark.origin import DATE, origin
from medmnist_hf.training.benchmark.report import (
    LEGEND,
    LEGEND_PUBLISHED,
    READING,
    csv_text,
    html,
    markdown,
    write_report,
)
from medmnist_hf.training.benchmark.rows import Board
from medmnist_hf.training.benchmark.tables import TableCell, board_table, chosen_table, models_table
from tests.fixtures.benchmarks import leave_run

HOSTILE: Final = "</td><script>alert(1)</script>|`*_<img src=x onerror=y>$body&amp;\"'"
UNFINISHED: Final = [("cell-one", "failed", "no <memory> | left"), ("cell-two", "waiting", "")]
VOID: Final = {"meta", "wbr"}


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Board, ...]:
    folder = tmp_path_factory.mktemp("bench")
    leave_run(folder / "a", test=[0.9512, 0.9318], validation=[0.7, 0.7], dataset="breastmnist", epochs=3)
    leave_run(folder / "b", test=[0.90], validation=[0.8], dataset="breastmnist", method="knn", size=64)
    leave_run(folder / "c", test=[], validation=[0.99], dataset="breastmnist", model="resnet50")
    leave_run(folder / "d", test=[0.61], validation=[0.9], dataset="retinamnist", model=HOSTILE)
    return gather(folder)


class Reader(HTMLParser):
    """Parse a page to a tree and check that elements are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = ET.Element("page")
        self._open = [self.root]
        self.feed(page)
        self.close()
        assert self._open == [self.root], f"not closed: {self._open[-1].tag}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = ET.SubElement(self._open[-1], tag, {name: value or "" for name, value in attrs})
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        last = self._open[-1]
        if len(last):
            last[-1].tail = (last[-1].tail or "") + data
        else:
            last.text = (last.text or "") + data


def text_of(element: ET.Element) -> str:
    return "".join(element.itertext())


def drawings_of(element: ET.Element) -> list[ET.Element]:
    return [svg for svg in element.iter("svg") if svg.get("role") == "img"]


def words(cell: TableCell) -> str:
    return cell.text + cell.detail + "".join(" ".join(link.text for link in group) for group in cell.links)


def tables_of(root: ET.Element) -> dict[str, ET.Element]:
    return {text_of(table.find("caption") or table[0]): table for table in root.iter("table")}


def test_the_page_shows_every_cell_of_every_table_in_order(boards: tuple[Board, ...]) -> None:
    root = Reader(html(boards, UNFINISHED)).root
    captions = tables_of(root)
    expected = [chosen_table(boards), models_table(boards), *map(board_table, boards)]
    assert len(captions) == len(expected) + 1
    for table in expected:
        element = captions[table.caption]
        assert [text_of(head) for head in element.iter("th")] == [column.name for column in table.columns]
        body = element.find("tbody")
        assert body is not None
        lines = [[text_of(cell) for cell in line] for line in body]
        assert lines == [[words(cell) for cell in line.cells] for line in table.lines]
        keys = [[cell.get("data-key") for cell in line] for line in body]
        assert keys == [[None if cell.key is None else str(cell.key) for cell in line.cells] for line in table.lines]
        foot = element.find("tfoot")
        foot_texts = [] if foot is None else [text_of(cell) for cell in foot[0]]
        assert foot_texts == [cell.text for cell in table.foot]
    assert [text_of(line) for line in captions["Cells without results"].iter("tr")][1:] == [
        "cell-onefailedno <memory> | left",
        "cell-twowaiting–",
    ]


def test_the_page_is_self_contained_and_accessible(boards: tuple[Board, ...]) -> None:
    page = html(boards, UNFINISHED)
    root = Reader(page).root
    tags = {each.tag for each in root.iter()}
    assert not tags & {"link", "img", "iframe", "object", "embed", "base", "form", "audio", "video"}
    assert all(not set(each.attrib) & {"src", "action", "data", "style", "srcset"} for each in root.iter())
    addresses = [each.attrib["href"] for each in root.iter() if "href" in each.attrib]
    ids = [each.attrib["id"] for each in root.iter() if "id" in each.attrib]
    assert addresses[: len(ids)] == [f"#{name}" for name in ids] and len(set(ids)) == len(boards)
    tables = [chosen_table(boards), *map(board_table, boards)]
    cells = [cell for table in tables for line in table.lines for cell in line.cells]
    links = [link.address for cell in cells for group in cell.links for link in group]
    assert sorted(addresses[len(ids) :]) == sorted(links) and all(each.startswith("./") for each in links)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttp|\bimport\b", page)
    assert len(list(root.iter("script"))) == 1
    (document,) = root.iter("html")
    assert document.attrib["lang"] == "en" and len(list(root.iter("h1"))) == 1 and len(list(root.iter("main"))) == 1
    assert all(head.get("scope") == "col" for head in root.iter("th"))
    for region in (each for each in root.iter("div") if each.get("class") == "scroll"):
        assert region.attrib["role"] == "region" and region.attrib["tabindex"] == "0" and region.attrib["aria-label"]
    drawings = drawings_of(root)
    assert all(svg.attrib["aria-label"] for svg in drawings) and len(drawings) == len(boards)
    style = text_of(next(root.iter("style")))
    assert "prefers-color-scheme: dark" in style and "width=device-width" in page
    page_text = " ".join(text_of(next(root.iter("main"))).split())
    assert all(text in page_text for text in (*READING, f"{LEGEND}{LEGEND_PUBLISHED}."))
    assert all(note in page_text for board in boards for note in board.notes)


def test_a_hostile_name_is_text_in_every_format(boards: tuple[Board, ...]) -> None:
    root = Reader(html(boards, UNFINISHED)).root
    table = tables_of(root)[board_table(boards[0]).caption]
    assert HOSTILE in [
        text_of(cell).removesuffix("chosend results") for cell in table.iter("td") if cell.get("class") == "model"
    ]
    (line,) = [
        each
        for each in markdown(boards, UNFINISHED).splitlines()
        if "alert" in each and "0.610" in each and "10.0" in each
    ]
    cells = re.split(r"(?<!\\)\|", line)[1:-1]
    assert len(cells) == len(board_table(boards[0]).columns)
    assert not re.search(r"(?<!\\)[<>`*&$]", cells[1].replace("](<./", "").replace(">)", ""))
    rows = list(csv.DictReader(io.StringIO(csv_text(boards))))
    assert HOSTILE in {row["model"] for row in rows}


def test_markdown_has_the_same_tables(boards: tuple[Board, ...]) -> None:
    text = markdown(boards, UNFINISHED)
    assert text.startswith("# MedMNIST benchmark\n\nConfigurations: 4. Subsets: 2.")
    breast = next(board for board in boards if board.subset.flag == "breastmnist")
    part = text.split("## BreastMNIST")[1].split("## ")[0]
    assert "Configurations tried: 3, all in the table" in part and "Note: " in part
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    assert len(lines) == len(breast.rows)
    for line, row in zip(lines, breast.rows, strict=True):
        place = "–" if row.place is None else f"{row.place} of {row.places}" if row.own else str(row.place)
        auc = "–" if math.isnan(row.auc.mean) else f"{row.auc.mean:.3f}"
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert (
            cells[0].partition(" (")[0] == place
            and cells[4].lstrip("*").startswith(auc)
            and cells[1].startswith(row.model)
        )
    assert "| cell-one | failed | no \\<memory\\> \\| left |" in text
    for line in text.splitlines():
        assert line == line.rstrip()


def test_csv_has_all_digits_and_leaves_unknown_values_empty(boards: tuple[Board, ...]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(boards))))
    assert len(rows) == sum(len(board.rows) for board in boards)
    expected = [(board.subset.flag, row) for board in boards for row in board.rows]
    for line, (flag, row) in zip(rows, expected, strict=True):
        assert line["subset"] == flag and line["folder"] == row.folder
        assert line["seeds"] == " ".join(map(str, row.seeds)) and line["own"] == str(int(row.own))
        assert line["place"] == ("" if row.place is None else str(row.place))
        for name in ("auc", "acc", "validation_auc", "validation_acc"):
            score = getattr(row, name)
            known = {name: score.mean, f"{name}_std": score.std}
            known |= {f"{name}_low": score.low, f"{name}_high": score.high} if not name.startswith("val") else {}
            for key, value in known.items():
                assert line[key] == "" if math.isnan(value) else float(line[key]) == value
    assert sum(line["chosen"] == "1" for line in rows) == len(boards)


def test_a_report_without_runs() -> None:
    assert csv_text([]) == ""
    assert "Configurations: 0. Subsets: 0." in markdown([], UNFINISHED)
    root = Reader(html([], UNFINISHED)).root
    assert list(tables_of(root)) == ["Cells without results"]


def test_the_files_are_written_and_overwritten(
    boards: tuple[Board, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("old")
    monkeypatch.setenv(DATE, "1700000000")
    paths = write_report(boards, UNFINISHED, tmp_path)
    made = origin()
    assert made.startswith("Written on 2023-11-14 by medmnist-hf ")
    assert sorted(path.name for path in paths) == sorted(path.name for path in tmp_path.iterdir())
    contents = {path.suffix: path.read_text(encoding="utf-8") for path in paths}
    assert contents == {
        ".md": markdown(boards, UNFINISHED, made),
        ".csv": csv_text(boards),
        ".html": html(boards, UNFINISHED, made),
    }


def test_an_unpublished_subset_has_own_rows_only(unpublished: str, tmp_path: Path) -> None:
    leave_run(tmp_path / "a", test=[0.9], validation=[0.8], dataset=unpublished, size=64)
    leave_run(tmp_path / "b", test=[0.9], validation=[0.8], dataset="retinamnist")
    boards = gather(tmp_path)
    (board,) = (each for each in boards if each.subset.flag == unpublished)
    assert board.rows == board.own and board.published == () and not board.notes
    chosen, other = ([cell.text for cell in line.cells] for line in reversed(chosen_table(boards).lines))
    assert chosen[-2:] == ["–", "–"] and "–" not in other[-2:]
    drawings = drawings_of(Reader(html(boards, [])).root)
    assert [len([each for each in svg if each.get("class") == "best"]) for svg in drawings] == [1, 0]
    assert [len(list(svg.iter("rect"))) for svg in drawings] == [7, 0]
    part = markdown(boards, []).split("## BreastMNIST")[1]
    assert part.count("\n| resnet18 (chosen): [a](<./a/>), [results](<./a/results.json>) |") == 1


def test_a_board_without_any_test_score_has_no_plot(unpublished: str, tmp_path: Path) -> None:
    leave_run(tmp_path / "a", test=[], validation=[0.8], dataset=unpublished)
    root = Reader(html(gather(tmp_path), [])).root
    assert not list(root.iter("svg")) and not list(root.iter("figure")) and len(list(root.iter("table"))) == 3


SMALL = {"train": 64, "validation": 16, "test": 32}


@pytest.fixture
def mixed(tmp_path: Path) -> tuple[Board, ...]:
    """Runs on data of every provenance; those on data that is not verified have better scores."""
    for at, provenance in enumerate(Provenance):
        rows = None if provenance.comparable else SMALL
        options: dict[str, Any] = {"dataset": "breastmnist", "provenance": provenance, "rows": rows}
        leave_run(tmp_path / "runs" / str(at), test=[0.9 + at / 100], validation=[0.9], epochs=at + 1, **options)
    return gather(tmp_path / "runs")


def test_the_page_separates_provenances_with_banners(mixed: tuple[Board, ...]) -> None:
    root = Reader(html(mixed, [])).root
    warnings = [text_of(each) for each in root.iter("p") if each.get("class") == "warning"]
    assert [sum(text.startswith(kind.name) for text in warnings) for kind in Provenance] == [0, 2, 2]
    sections = {text_of(section.find("h2") or section[0]): section for section in root.iter("section")}
    for kind in Provenance:
        section = sections[kind.mark("BreastMNIST")]
        text = text_of(section)
        assert ("156 test samples" in text) == ("AutoKeras" in text) == kind.comparable
        assert ("32 test samples" in text) == (kind.banner in text and bool(kind.banner)) == (not kind.comparable)
        (svg,) = drawings_of(section)
        banners = [text_of(each) for each in svg if each.get("class") == "banner"]
        assert banners == ([kind.banner] if kind.banner else [])
        assert kind.mark("Chosen on validation") in sections and kind.mark("Subsets and models") in sections
    for table in root.iter("table"):
        names = [text_of(cell) for cell in table.iter("td")]
        marked = text_of(table.find("caption") or table[0]).startswith(("SYNTHETIC: ", "UNVERIFIED: "))
        assert not (marked and any("AutoKeras" in name for name in names))
    assert len({each.attrib["id"] for each in root.iter() if "id" in each.attrib}) == 3


def test_markdown_separates_provenances_with_banners(mixed: tuple[Board, ...]) -> None:
    text = markdown(mixed, [])
    head = text.split("\n## ")[0]
    assert "> **UNVERIFIED: " in head and "> **SYNTHETIC: " in head and "Subsets: BreastMNIST." in head
    parts = {part.splitlines()[0]: part for part in text.split("\n## ")[1:]}
    assert "AutoKeras" in parts["BreastMNIST"] and "0.920" not in parts["BreastMNIST"]
    for name in ("SYNTHETIC: BreastMNIST", "UNVERIFIED: BreastMNIST"):
        assert "AutoKeras" not in parts[name] and "32 test samples" in parts[name] and "Place" not in parts[name]


def test_each_provenance_has_a_separate_csv(mixed: tuple[Board, ...], tmp_path: Path) -> None:
    names = ["report.csv", "report-synthetic.csv", "report-unverified.csv"]
    paths = write_report(mixed, [], tmp_path)
    assert {path.name for path in paths} == {*names, "report.md", "report.html"}
    for name, kind in zip(names, ("verified", "synthetic", "unverified"), strict=True):
        rows = list(csv.DictReader(io.StringIO((tmp_path / name).read_text(encoding="utf-8"))))
        assert {row["provenance"] for row in rows} == {kind}
        assert len(rows) == (8 if kind == "verified" else 1) and rows[0]["place"] == ("" if len(rows) == 1 else "1")
        assert {row["test_rows"] for row in rows} <= {"", "156", "32"}
    write_report(mixed[:1], [], tmp_path)
    assert not [name for name in names[1:] if (tmp_path / name).exists()], "files of the earlier report are removed"


@pytest.mark.parametrize("model", ["=HYPERLINK(0)", "+1", "-1+2", "@SUM(A1)", "timm/a=b"])
def test_no_cell_of_the_csv_is_a_formula(tmp_path: Path, model: str) -> None:
    leave_run(tmp_path / "=run", test=[0.5], validation=[0.5], dataset="breastmnist", model=model)
    (row,) = [each for each in csv.DictReader(io.StringIO(csv_text(gather(tmp_path)))) if each["own"] == "1"]
    assert row["model"] == (model if model.startswith("timm") else f"'{model}")
    assert row["folder"] == "'=run"
    assert not [cell for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]


def test_runs_of_equal_model_and_protocol_differ_in_folder_and_seeds(tmp_path: Path) -> None:
    for seed in (3, 4, 5, 9):
        leave_run(tmp_path / f"runs/s{seed}", test=[0.8], validation=[0.7], dataset="breastmnist", seeds=[seed])
    leave_run(tmp_path / "twice", test=[0.9], validation=[0.6], dataset="retinamnist", seeds=[1])
    leave_run(tmp_path / "again", test=[0.9], validation=[0.6], dataset="retinamnist", seeds=[1])
    boards = gather(tmp_path)
    retina, breast = boards
    note = "resnet18 finetune, defaults: runs of this configuration share a seed"
    assert note in retina.notes[0] and retina.notes[0].endswith("(again, twice).")
    text = markdown(boards, [])
    assert text.startswith("# MedMNIST benchmark\n\nConfigurations: 2. Subsets: 2.")
    assert text.count("Configurations tried: 1, all in the table.") == 2 and f"Note: {note}" in text
    (line,) = (line for line in text.splitlines() if "4 (seeds 3-5, 9)" in line)
    assert all(f"[runs/s{seed}](<./runs/s{seed}/>), [results]" in line for seed in (3, 4, 5, 9))
    lines = [line for line in text.splitlines() if "1 (seed 1)" in line]
    assert [line.count("[again](<./again/>)") for line in lines] == [1, 0]
    assert [line.count("[twice](<./twice/>)") for line in lines] == [0, 1]
    rows = [row for row in csv.DictReader(io.StringIO(csv_text(boards))) if row["own"] == "1"]
    assert [(row["folder"], row["seeds"]) for row in rows] == [
        ("again", "1"),
        ("twice", "1"),
        ("runs/s3; runs/s4; runs/s5; runs/s9", "3 4 5 9"),
    ]
    root = Reader(html(boards, [])).root
    table = tables_of(root)[board_table(breast).caption]
    (cell,) = (each for each in table.iter("td") if each.get("class") == "model" and "runs/s3" in text_of(each))
    groups = [text_of(each) for each in cell if each.get("class") == "links"]
    assert groups == [f"runs/s{seed} results" for seed in (3, 4, 5, 9)]
    titles = [text_of(each) for each in root.iter("title")]
    assert {f"resnet18 finetune, 28, defaults ({name})" for name in ("again", "twice")} <= set(titles)
