"""The page of a comparison."""

import math
from pathlib import Path

from medmnist_hf.manifest import Provenance
from medmnist_hf.training.scorecard.compare import CardComparison, CardPair, Difference
from medmnist_hf.training.scorecard.comparison_page import comparison_page, mean_tables, write_comparison
from medmnist_hf.training.scorecard.page import markdown
from tests.fixtures.scorecards import invented_card

BOTH = ("breastmnist", "retinamnist")


def difference(
    p: float, adjusted: float, subsets: tuple[str, ...] = BOTH[:1], provenance: Provenance = Provenance.VERIFIED
) -> Difference:
    return Difference("knn", "auc", subsets, provenance, 1, 0.9, 0.8, 0.1, 0.05, 0.15, p, adjusted)


def test_differences_are_listed_and_significant_ones_bold(tmp_path: Path) -> None:
    pair = CardPair("timm/b", ("knn",), BOTH, ("only one of them has lora",), (difference(1e-4, 2e-4),), ())
    cards = invented_card("timm/a"), invented_card("timm/b")
    text = markdown(comparison_page(CardComparison(("timm/a", "timm/b"), cards, (pair,))))
    assert "| breastmnist | knn | 1 | 0.900 | 0.800 | **+0.100** (+0.050 to +0.150) | \\< 0.001 | \\< 0.001 |" in text
    assert "Not compared: only one of them has lora." in text and mean_tables(pair) == []
    means = CardPair("timm/b", ("knn",), BOTH, (), (difference(math.nan, math.nan),), (difference(0.04, 0.08, BOTH),))
    comparison = CardComparison(("timm/a", "timm/b"), cards, (means,))
    text = markdown(comparison_page(comparison))
    assert "| knn | AUC | 2 | 0.900 | 0.800 | +0.100 (+0.050 to +0.150) | 0.040 | 0.080 |" in text
    assert "| – | – |" in text
    assert [path.name for path in write_comparison(comparison, tmp_path / "both")] == [
        *("comparison.json", "comparison.md", "comparison.html")
    ]


def test_lines_of_data_that_is_not_verified_are_marked() -> None:
    line = difference(0.1, 0.2, provenance=Provenance.SYNTHETIC)
    pair = CardPair("timm/b", ("knn",), BOTH, (), (line,), (line,))
    text = markdown(comparison_page(CardComparison(("timm/a", "timm/b"), (invented_card(),) * 2, (pair,))))
    assert "| SYNTHETIC: breastmnist | knn |" in text and "| SYNTHETIC: knn | AUC |" in text
