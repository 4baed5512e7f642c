"""Groups of rows: numbered by name, with the classes that occur in them."""

import numpy as np
import pytest

from medmnist_hf.errors import SourceError
from medmnist_hf.sampling.groups import group_numbers, labels_of_groups


def test_groups_are_numbered_by_name() -> None:
    assert group_numbers(["b", "a", "b"], 3).tolist() == [1, 0, 1]
    with pytest.raises(SourceError, match="give one group per row"):
        group_numbers(["a"], 2)
    with pytest.raises(SourceError, match="mix text"):
        group_numbers(np.array(["a", None], object), 2)


def test_a_group_has_the_classes_of_its_rows() -> None:
    group = np.array([0, 0, 1, 1])
    assert labels_of_groups(np.array([3, 5, 5, 5]), group).tolist() == [[1, 1], [0, 1]]
    assert labels_of_groups(np.array([[0, 1], [0, 0], [0, 0], [0, 0]]), group).tolist() == [[0, 1], [0, 0]]
