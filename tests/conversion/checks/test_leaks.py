"""Groups in several splits: counts, and sentences about them."""

from medmnist_hf.conversion.checks.leaks import find_leaks, sentences


def test_groups_in_two_splits_are_counted_with_their_rows() -> None:
    audit = find_leaks("lesion", {"train": ["a", "a", "b", "c"], "validation": ["c"], "test": ["a", "b", "d", None]})
    assert (audit.groups, audit.split_groups) == (4, {"train": 3, "validation": 1, "test": 3})
    assert audit.unknown == {"train": 0, "validation": 0, "test": 1}
    assert list(sentences(audit, "image")) == [
        "1 lesion has images in train and validation: 1 of train, 1 of validation, e.g. c",
        "2 lesions have images in train and test: 3 of train, 2 of test, e.g. a",
        "the lesion of 1 image of test is not known",
    ]


def test_no_group_in_two_splits() -> None:
    audit = find_leaks("patient", {"train": ["a", "a"], "validation": ["b"], "test": ["c"]})
    assert audit.shared == ()
    assert list(sentences(audit, "volume")) == ["no patient has volumes in two splits, of 3 patients"]
