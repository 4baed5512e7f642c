"""Pages as HTML and Markdown: text is escaped, and nothing is loaded from elsewhere."""

import re

from medmnist_hf.training.benchmark.tables import Column, Line, Table, TableCell
from medmnist_hf.training.scorecard.page import Page, Section, html, markdown, render

EVIL = "<script>alert('|')</script>"


def test_text_is_escaped_and_nothing_is_loaded() -> None:
    cells = (TableCell(EVIL, EVIL), TableCell("0.9", best=True))
    table = Table(EVIL, (Column(EVIL), Column("AUC", numeric=True)), (Line("own", cells),), foot=cells)
    page = Page(EVIL, [EVIL], EVIL, [Section(EVIL, [EVIL], [table])])
    text = html(page)
    assert "<script" not in text and "&lt;script&gt;" in text and "<strong>0.9</strong>" in text
    assert not re.search(r"(?:src|href)=(?!\"data:,\")|url\(|@import|https?:", text)
    plain = markdown(page)
    assert "<script" not in plain.replace("\\<", "") and r"\|" in plain and "**0.9**" in plain


def test_a_drawing_is_kept_as_it_is() -> None:
    drawing = render(
        "curves.svg.j2",
        **{"name": EVIL, "width": 1, "height": 1, "left": 0, "right": 1, "bottom": 1, "rows": [], "columns": []},
        **{"reference": None, "banner": "", "curves": []},
    )
    text = html(Page("title", [], "", [Section("curves", drawings=[(EVIL, drawing)])]))
    assert "<svg " in text and "<script" not in text
