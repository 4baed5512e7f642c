"""Losses by task against their formulas, and the conversion of outputs to scores."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.losses import make_joint_loss, make_loss, output_count, to_joint_scores, to_scores

RNG = np.random.default_rng(0)


def test_the_ordinal_loss_has_one_output_less_than_grades() -> None:
    assert (output_count("ordinal", 5), output_count("cross-entropy", 5), output_count("bce", 14)) == (4, 5, 14)


def test_cross_entropy_weights_classes_by_their_rarity() -> None:
    labels = np.array([0, 0, 0, 1])
    loss = make_loss("cross-entropy", labels, 2, weighted=True)
    logits = torch.from_numpy(RNG.normal(size=(4, 2)))
    losses = -torch.log_softmax(logits.float(), 1)[torch.arange(4), torch.from_numpy(labels)]
    weights = torch.tensor([4 / 6, 4 / 6, 4 / 6, 4 / 2])
    assert loss(logits, torch.from_numpy(labels)).item() == pytest.approx(
        ((losses * weights).sum() / weights.sum()).item()
    )


def test_bce_weights_positives_by_negatives_per_positive() -> None:
    labels = np.array([[1, 0], [0, 0], [0, 1], [0, 1]])
    loss = make_loss("bce", labels, 2, weighted=True)
    logits = torch.tensor([[0.3, -1.0]])
    p = torch.sigmoid(logits)[0]
    expected = -(3 * torch.log(p[0]) + torch.log(1 - p[1])) / 2
    assert loss(logits, torch.tensor([[1, 0]])).item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_ordinal_loss_is_one_binary_task_per_threshold() -> None:
    loss = make_loss("ordinal", np.array([0, 1, 2]), 3)
    logits = torch.tensor([[2.0, -1.0]])
    p = torch.sigmoid(logits)[0]
    assert loss(logits, torch.tensor([1])).item() == pytest.approx(
        (-(torch.log(p[0]) + torch.log(1 - p[1])) / 2).item()
    )
    shares = torch.tensor([[0.0, 1.0, 0.0]])
    assert loss(logits, shares).item() == pytest.approx(loss(logits, torch.tensor([1])).item())
    with pytest.raises(TrainingError, match="label_smoothing"):
        make_loss("ordinal", np.array([0, 1]), 2, smoothing=0.1)


@pytest.mark.parametrize("loss", ["cross-entropy", "ordinal"])
def test_class_fractions_of_one_class_cost_as_much_as_its_id(loss: str) -> None:
    """Mixup turns a label that it does not mix into fractions, whose loss must not change."""
    labels = np.array([0, 0, 1, 2, 2, 2])
    for weighted in (False, True):
        function = make_loss(loss, labels, 3, weighted=weighted)
        logits = torch.from_numpy(RNG.normal(size=(6, output_count(loss, 3))).astype(np.float32))
        ids = torch.from_numpy(labels)
        shares = torch.nn.functional.one_hot(ids, 3).float()
        if not weighted or loss == "ordinal":  # torch normalizes by weights for ids, but by the count for fractions
            assert function(logits, shares).item() == pytest.approx(function(logits, ids).item(), rel=1e-5)


@given(st.lists(st.lists(st.floats(-50, 50), min_size=4, max_size=4), min_size=1, max_size=5))
def test_scores_are_probabilities(logits: list[list[float]]) -> None:
    table = np.array(logits)
    softmax = to_scores(table, "cross-entropy")
    grades = to_scores(table, "ordinal")
    assert grades.shape == (len(table), 5)
    for scores in (softmax, grades):
        assert np.allclose(scores.sum(1), 1) and (scores >= 0).all()
    assert (np.take_along_axis(softmax, table.argmax(1)[:, None], 1)[:, 0] == softmax.max(1)).all()
    assert np.allclose(to_scores(table, "bce"), 1 / (1 + np.exp(-table)))


def test_crossing_ordinal_probabilities_are_made_monotonic() -> None:
    scores = to_scores(np.array([[0.0, 3.0]]), "ordinal")[0]  # P(above 0) = 0.5, so P(above 1) cannot be 0.95
    assert scores == pytest.approx([0.5, 0.0, 0.5])


def test_the_loss_of_several_subsets_is_the_mean_over_rows_of_the_loss_of_each() -> None:
    heads = (("cross-entropy", 3), ("bce", 2), ("ordinal", 4))
    logits = torch.from_numpy(RNG.normal(size=(5, 3 + 2 + 3)).astype(np.float32)).requires_grad_()
    labels = torch.tensor(
        [[0, 2, 0, 0, 0], [1, 1, 0, 0, 0], [2, 3, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    ).float()
    train = [np.array([0, 1, 2]), np.array([[1, 0], [0, 1]]), np.array([0, 1, 2, 3])]
    joint = make_joint_loss(heads, train)(logits, labels)
    first = make_loss("cross-entropy", train[0], 3)(logits[[0, 3], :3], torch.tensor([2, 1]))
    second = make_loss("bce", train[1], 2)(logits[[1, 4], 3:5], torch.tensor([[1, 0], [0, 0]]))
    third = make_loss("ordinal", train[2], 4)(logits[[2], 5:], torch.tensor([3]))
    assert joint.item() == pytest.approx((2 * first + 2 * second + third).item() / 5, rel=1e-6)
    (gradient,) = torch.autograd.grad(joint, logits)
    assert not gradient[0, 3:].any(), "a row only trains the head of its subset"
    scores = to_joint_scores(logits.detach().numpy(), heads)
    assert scores.shape == (5, 9) and np.allclose(scores[:, :3].sum(1), 1) and np.allclose(scores[:, 5:].sum(1), 1)


def test_a_joint_head_is_one_softmax_over_all_classes() -> None:
    heads = (("cross-entropy", 3), ("cross-entropy", 2))
    logits = torch.from_numpy(RNG.normal(size=(3, 5)).astype(np.float32))
    train = [np.array([0, 1, 2], np.uint8), np.array([0, 1, 1], np.uint8)]
    labels = torch.tensor([[0, 2], [1, 0], [1, 1]]).float()
    joint = make_joint_loss(heads, train, joint_head=True, weighted=True, smoothing=0.1)(logits, labels)
    alone = make_loss("cross-entropy", np.array([0, 1, 2, 3, 4, 4]), 5, weighted=True, smoothing=0.1)
    assert joint.item() == pytest.approx(alone(logits, torch.tensor([2, 3, 4])).item(), rel=1e-6)
