"""The page of a card, and its files."""

from pathlib import Path

from medmnist_hf.documents import parse_yaml
from medmnist_hf.hub.eval_results import RESULTS_PATH
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.scorecard.card import Missing
from medmnist_hf.training.scorecard.card_page import card_page, write_card
from medmnist_hf.training.scorecard.page import html, markdown
from tests.fixtures.scorecards import invented_card

EVIL = "timm/<b>&|x"


def test_every_result_is_on_the_page() -> None:
    text = markdown(card_page(invented_card(EVIL, missing=[Missing("lora", "failed", "no <memory>")])))
    assert "| breastmnist | 0.800 (0.790 to 0.810) | 0.900 (0.890 to 0.910) |" in text
    assert "| mean over subsets | 0.800 (0.790 to 0.810) |" in text
    assert "no published rows of this protocol" in text and "no curve falls by more than the intervals" in text
    assert r"| retinamnist | lora | failed | no \<memory\> |" in text
    assert "The card is not complete: the same command runs what is missing." in text
    assert "a" * 64 in text and "torch 2" in text and "on a processor" in text
    page = html(card_page(invented_card(EVIL)))
    assert "<b>" not in page and "&lt;b&gt;" in page and page.count("<svg ") == 2 and "not complete" not in page


def test_synthetic_data_is_marked() -> None:
    text = markdown(card_page(invented_card(provenance=Provenance.SYNTHETIC)))
    assert text.splitlines()[2].startswith("> **SYNTHETIC") and "| SYNTHETIC: breastmnist |" in text


def test_linear_probes_on_verified_data_are_written_for_the_hub(tmp_path: Path) -> None:
    write_card(invented_card(), tmp_path)
    entries = parse_yaml((tmp_path / RESULTS_PATH).read_text())
    expected = [(flag, f"28_{name}", 0.9) for flag in ("breastmnist", "retinamnist") for name in ("auc", "acc")]
    assert [
        (each["dataset"]["id"].rpartition("/")[2], each["dataset"]["task_id"], each["value"]) for each in entries
    ] == expected
    assert "linear probe on frozen features, all train labels, input of 28 pixels" in entries[0]["notes"]
    paths = write_card(invented_card(provenance=Provenance.SYNTHETIC), tmp_path)
    assert [path.name for path in paths] == ["scorecard.json", "scorecard.md", "scorecard.html"]
    assert not (tmp_path / RESULTS_PATH).exists()
