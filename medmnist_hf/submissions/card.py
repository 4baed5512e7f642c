"""The card of a repository of entries: ``README.md``, whose metadata `load_dataset` and the Hub read."""

from typing import Any, Final

from datasets import DatasetInfo, Features, List, Value
from huggingface_hub import DatasetCardData

from medmnist_hf import catalog
from medmnist_hf.submissions.folder import ROWS_NAME
from medmnist_hf.submissions.rows import ENTRIES, Row, ScoredFile
from medmnist_hf.typed_json import attributes

CONFIG: Final = "results"
"""Config of the recomputed results of all entries."""

_TEXT: Final = """---
{metadata}
---

# MedMNIST leaderboard

Results on the test splits of [MedMNIST]({homepage}) that anyone can recompute: each folder in `{entries}` holds
prediction files, one per seed and subset, and an `entry.yaml` that says how they were made. `{rows}` holds the scores
that the files give, a row per subset; an entry whose claims differ from them is not accepted.

```python
from datasets import load_dataset

results = load_dataset("{place}", split="test")
```

```bash
# the entries, recomputed, among the published results
medmnist-hf leaderboard breastmnist --entries {place}
# an entry of your own, as a pull request
medmnist-hf submit init my-entry --run runs/mine
medmnist-hf submit push my-entry --repo-id {place} --yes
```

Rows are comparable if they are of one protocol: size of the files, pretraining, training and number of labels. A row
that was selected on the test split, or whose selection is unknown, says so in `selected_on`.

## Citation

```bibtex
{citation}
```
"""

_TYPES: Final = {int: "int64", float: "float64", str: "string"}


def render_card(repo_id: str) -> str:
    """Render the card of a repository of entries."""
    metadata = DatasetCardData(
        pretty_name="MedMNIST leaderboard",
        tags=["medical", "medmnist", "leaderboard"],
        configs=[
            {
                "config_name": CONFIG,
                "data_files": [{"split": "test", "path": f"{ENTRIES}/*/{ROWS_NAME}"}],
                "default": True,
            }
        ],
        dataset_info=[_info()],
    )
    return _TEXT.format(
        metadata=metadata.to_yaml(),
        homepage=catalog.collection().homepage,
        entries=ENTRIES,
        rows=ROWS_NAME,
        place=repo_id,
        citation=catalog.cite(),
    )


def _info() -> dict[str, Any]:
    """Types of the columns: a column that is empty in one file would otherwise not match the others."""
    features = _features(Row) | {"files": List(_features(ScoredFile))}
    table = DatasetInfo(config_name=CONFIG, features=Features(features))._to_yaml_dict()
    return {"config_name": CONFIG, "features": table["features"]}


def _features(kind: type) -> dict[str, Any]:
    kinds = {name: getattr(annotated, "__origin__", annotated) for name, (_, annotated) in attributes(kind).items()}
    return {name: Value(_TYPES[each]) for name, each in kinds.items() if each in _TYPES}
