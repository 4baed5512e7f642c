"""Protocols: which results may be compared."""

import pytest

from medmnist_hf.catalog import subsets
from medmnist_hf.errors import ScoreError
from medmnist_hf.leaderboard.protocols import Setting, protocol, protocols, protocols_of
from medmnist_hf.leaderboard.results import results


def test_every_result_with_all_facts_has_one_protocol() -> None:
    for entry in subsets():
        for result in results(entry.flag):
            names = [name for name, rules in protocols().items() if rules.admits(result)]
            if result.method == "MedViTV2-L":  # its pretraining is unknown
                assert names == ["224-scratch", "224-pretrained"]
            else:
                assert len(names) == 1, (result, names)


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        (Setting(28, "none", "scratch", "all"), ["official"]),
        (Setting(28, "timm/resnet18", "full", "all"), ["28-pretrained"]),
        (Setting(28, "timm/resnet18", "knn", "all"), ["28-frozen"]),
        (Setting(64, "timm/resnet18", "lora", "all"), ["other-size"]),
        (Setting(224, "timm/resnet18", "frozen", "all"), ["224-frozen"]),
        (Setting(224, "timm/resnet18", "full", "few"), ["few-shot"]),
        (Setting(28, "openai/clip", "zero-shot", "none"), ["zero-shot"]),
    ],
)
def test_the_protocol_of_a_setting(setting: Setting, names: list[str]) -> None:
    assert protocols_of(setting) == names


def test_an_unknown_protocol_is_an_error() -> None:
    with pytest.raises(ScoreError, match="unknown protocol 'best': choose from official"):
        protocol("best")
