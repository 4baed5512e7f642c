"""The card of a repository of entries."""

from medmnist_hf.catalog import cite
from medmnist_hf.documents import parse_yaml
from medmnist_hf.submissions.card import render_card
from medmnist_hf.submissions.rows import Row, ScoredFile
from medmnist_hf.typed_json import attributes


def test_every_column_has_a_type() -> None:
    _, head, text = render_card("you/medmnist-leaderboard").split("---\n", 2)
    metadata = parse_yaml(head)
    (info,) = metadata["dataset_info"]
    features = {feature["name"]: feature for feature in info["features"]}
    assert list(features) == list(attributes(Row))
    assert [features[name]["dtype"] for name in ("entry", "size", "auc_std")] == ["string", "int64", "float64"]
    (files,) = (value for name, value in features["files"].items() if name != "name")
    assert [feature["name"] for feature in files] == list(attributes(ScoredFile))
    assert metadata["configs"][0]["data_files"] == [{"split": "test", "path": "entries/*/results.jsonl"}]
    assert "you/medmnist-leaderboard" in text and cite() in text
