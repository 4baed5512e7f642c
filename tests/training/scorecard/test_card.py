"""A score card as JSON."""

import json
import math
from dataclasses import replace

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.scorecard.card import LEFT_OUT, Estimate, Missing, ScoreCard
from tests.fixtures.scorecards import invented_card


def test_it_is_read_back_as_written() -> None:
    card = invented_card(missing=[Missing("lora", LEFT_OUT, "it has volumes")])
    assert ScoreCard.from_json(card.to_json(), "card") == card and card.is_complete
    unknown = replace(card.means[0], auc=Estimate(math.nan, math.nan, math.nan, "bootstrap"))
    again = ScoreCard.from_json(replace(card, means=(unknown,)).to_json(), "card")
    assert math.isnan(again.means[0].auc.low)
    assert not invented_card(missing=[Missing("lora", "failed", "")]).is_complete
    assert card.subsets[0].provenance is Provenance.VERIFIED
    assert replace(card.subsets[0], data=None).provenance is Provenance.UNVERIFIED


def test_damage_is_named() -> None:
    table = json.loads(invented_card().to_json())
    table["means"][0]["auc"]["value"] = "high"
    message = r"^x\.json is not a score card \(means\[0\]\.auc\.value is 'high', must be"
    with pytest.raises(TrainingError, match=message):
        ScoreCard.from_json(json.dumps(table), "x.json")
