"""The page of a comparison of score cards, and the files in which it is written."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from medmnist_hf.errors import counted
from medmnist_hf.files import write_atomically
from medmnist_hf.training.benchmark.tables import ABSENT, Column, Line, Table, TableCell, digits
from medmnist_hf.training.scorecard.card_page import estimate_cell
from medmnist_hf.training.scorecard.compare import COMPARISON_NAME, CardComparison, CardPair, Difference
from medmnist_hf.training.scorecard.page import Page, Section, html, markdown

LEVEL: Final = 0.05
"""Adjusted p value below which a difference is in bold."""

READING: Final = (
    "A difference is the score of the first card minus that of the other, on the same test rows, with its 95 % "
    "interval. AUCs of a subset are compared by DeLong's paired test; means over subsets by a paired bootstrap of "
    "test rows within the subsets (1,000 resamples), so their p values are at least 0.002. Scores of several seeds "
    "are averaged over the seeds that both cards have; the tests take seeds, label choices and subsets as given.",
    "p values are adjusted by Holm's method: all AUCs of all subsets, protocols and cards are one family of tests, "
    "all means another. In bold: adjusted p below 0.05.",
)


def write_comparison(comparison: CardComparison, out: Path) -> tuple[Path, ...]:
    """Write ``comparison.json``, ``comparison.md`` and ``comparison.html``, each atomically.

    Args:
        comparison: The comparison.
        out: Folder; created if missing.

    Returns:
        Paths of the files.
    """
    page = comparison_page(comparison)
    out.mkdir(parents=True, exist_ok=True)
    contents = {
        COMPARISON_NAME: comparison.to_json(),
        "comparison.md": markdown(page),
        "comparison.html": html(page),
    }
    for name, content in contents.items():
        write_atomically(out / name, content)
    return tuple(out / name for name in contents)


def comparison_page(comparison: CardComparison) -> Page:
    """Make the page of a comparison."""
    provenances = {part.provenance for card in comparison.cards for part in card.subsets if part.results}
    sections = [Section("Side by side", tables=[_side_by_side(comparison)])]
    for pair in comparison.pairs:
        protocols = f"Shared protocols: {', '.join(pair.protocols)}. Shared subsets: {', '.join(pair.subsets)}."
        texts = [protocols, *([f"Not compared: {'; '.join(pair.apart)}."] if pair.apart else [])]
        sections.append(
            Section(f"{comparison.names[0]} minus {pair.other}", texts, [*mean_tables(pair), subset_table(pair)])
        )
    sections.append(Section("How to read this", READING))
    warnings = [kind.warning for kind in sorted(provenances) if not kind.comparable]
    return Page("Score cards side by side", warnings, f"Cards: {', '.join(comparison.names)}.", sections)


def mean_tables(pair: CardPair) -> list[Table]:
    """The table of mean differences over subsets; none for one subset."""
    if not pair.means:
        return []
    return [_table("Means over subsets", pair.means, ("Protocol", "Measure", "Subsets"), _of_mean)]


def subset_table(pair: CardPair) -> Table:
    """The table of differences of each subset and protocol."""
    return _table("Test AUC of each subset", pair.differences, ("Subset", "Protocol", "Seeds"), _of_subset)


def _of_mean(each: Difference) -> tuple[str, ...]:
    return each.provenance.mark(each.protocol), each.measure.upper(), str(len(each.subsets))


def _of_subset(each: Difference) -> tuple[str, ...]:
    return each.provenance.mark(each.subsets[0]), each.protocol, str(each.seeds)


def _table(
    caption: str,
    differences: Sequence[Difference],
    heads: Sequence[str],
    name: Callable[[Difference], tuple[str, ...]],
) -> Table:
    columns = (
        *(Column(head, numeric=head in {"Seeds", "Subsets"}) for head in heads),
        *(Column(head, numeric=True) for head in ("First", "Other", "Difference", "p", "Adjusted p")),
    )
    lines = [Line("own", (*map(TableCell, name(each)), *_cells(each))) for each in differences]
    return Table(caption, columns, tuple(lines))


def _cells(each: Difference) -> Iterator[TableCell]:
    yield from (TableCell(digits(value)) for value in (each.first, each.other))
    interval = "" if digits(each.low) == ABSENT else f"{each.low:+.3f} to {each.high:+.3f}"
    yield TableCell(f"{each.difference:+.3f}", interval, best=each.adjusted < LEVEL)
    yield from (TableCell(_p(value)) for value in (each.p, each.adjusted))


def _p(value: float) -> str:
    return ABSENT if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _side_by_side(comparison: CardComparison) -> Table:
    """Mean AUC of each protocol and card."""
    protocols = dict.fromkeys(name for card in comparison.cards for name in card.protocols)
    lines = []
    for name, card in zip(comparison.names, comparison.cards, strict=True):
        means = {mean.protocol: mean for mean in card.means}
        cells = [
            TableCell((cell := estimate_cell(mean.auc)).text, f"{cell.detail}, {counted(len(mean.subsets), 'subset')}")
            if (mean := means.get(protocol))
            else TableCell(ABSENT)
            for protocol in protocols
        ]
        lines.append(Line("own", (TableCell(name, f"preset {card.preset}"), *cells)))
    columns = (Column("Card"), *(Column(protocol, numeric=True) for protocol in protocols))
    return Table("Mean test AUC over the subsets of each card, with its interval", columns, tuple(lines))
