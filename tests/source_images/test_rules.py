"""Rules on names of source images: those of the catalog parse the documented names."""

import re

import pytest

from medmnist_hf.catalog import entries, subset


@pytest.mark.parametrize(
    ("flag", "name", "group"),
    [
        ("organsmnist", "train-112-8-sagittal-028", "train-112"),  # the one published example
        ("organamnist", "test-3-11-axial-001", "test-3"),
        ("organmnist3d", "test-3-11", "test-3"),
        ("chestmnist", "00000001_000.png", "00000001"),
        ("octmnist", "CNV-1016042-1.jpeg", "1016042"),
        ("retinamnist", "265_l1", "265"),
    ],
)
def test_the_group_of_a_name(flag: str, name: str, group: str) -> None:
    rule = subset(flag).ids
    assert rule is not None
    parts = rule.parts(name)
    assert parts is not None and rule.group_of(parts) == group
    assert rule.parts(f"{name} ") is None


def test_rules_name_parts_of_their_pattern() -> None:
    for entry in entries():
        if entry.ids is not None:
            parts = re.compile(entry.ids.pattern).groupindex
            assert {*entry.ids.group, *filter(None, [entry.ids.label])} <= parts.keys()
        if entry.metadata is not None:
            assert {"image_id", entry.metadata.group} <= set(entry.metadata.columns)
            assert len(entry.metadata.codes) == len(entry.labels)
