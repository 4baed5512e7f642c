"""`medmnist_hf.training.data.joint_dataset`: batches from several data sets."""

import pickle

import numpy as np
import pytest
import torch

from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.joint_dataset import JointDataset
from medmnist_hf.training.data.loader import ArrayLoader

RNG = np.random.default_rng(0)
GRAY, RGB = (RNG.integers(0, 256, (count, 6, 6, *more), dtype=np.uint8) for count, more in ((5, ()), (3, (3,))))
FINDINGS = np.array([[0, 0, 0], [1, 0, 1], [0, 1, 0]], np.float32)


def joint(*, balance: bool = False) -> JointDataset:
    rows = np.array([4, 2, 0, 1])  # of few labels
    return JointDataset([ArrayDataset(GRAY, np.arange(5) % 2, rows), ArrayDataset(RGB, FINDINGS)], balance=balance)


def test_a_batch_has_images_and_labels_of_each_subset() -> None:
    data = joint()
    assert len(data) == 7 and data.image_shape == (6, 6, 3) and data.groups is None
    batch = data.gather([5, 1, 4], epoch=2)
    assert batch.epoch == 2 and batch.indices.tolist() == [5, 1, 4]
    assert np.array_equal(batch.images[0], RGB[1]) and np.array_equal(batch.images[2], RGB[0])
    assert np.array_equal(batch.images[1], np.repeat(GRAY[2][..., None], 3, -1))
    assert batch.labels.tolist() == [[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    with pytest.raises(IndexError):
        data.gather([7])
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301
    assert torch.equal(copy.gather([5, 1, 4]).images, batch.images)


def test_gray_subsets_stay_gray() -> None:
    data = JointDataset([ArrayDataset(GRAY, np.arange(5)), ArrayDataset(GRAY[:2], np.arange(2))])
    assert data.gather([6]).images.shape == (1, 6, 6) and data.gather([6]).labels.tolist() == [[1, 1]]


def test_balanced_subsets_are_drawn_equally_often() -> None:
    data = joint(balance=True)
    loader = ArrayLoader(data, 4, groups=data.groups)
    owners = torch.cat([batch["labels"][:, 0] for _ in range(2) for batch in loader])
    assert owners.long().bincount().tolist() == [7, 7]
