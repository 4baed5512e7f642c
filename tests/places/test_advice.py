"""Parts of error messages that say what to do about missing data."""

from pathlib import Path

import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.places.advice import how_to_build, how_to_reach_hub, other_sizes

ENTRY = subset("breastmnist")


def test_a_build_from_files_is_advised_for_the_command_line_alone() -> None:
    assert how_to_build(ENTRY, 28) == "run medmnist-hf build breastmnist --size 28, or in Python load(..., build=True)"
    assert how_to_build(ENTRY, 28, source=Path("npz")) == "run medmnist-hf build breastmnist --size 28 --source npz"


def test_offline_neither_network_nor_token_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert how_to_reach_hub() == "check the network and your token"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert how_to_reach_hub() == "unset HF_HUB_OFFLINE to use the Hub"


def test_a_folder_without_builds_has_no_other_sizes(tmp_path: Path) -> None:
    assert other_sizes(ENTRY, [tmp_path]) == ""
