"""`medmnist_hf.joint.scores`: scores of a joint model equal those of each subset on its own."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medmnist_hf
from medmnist_hf.catalog import Task, subset
from medmnist_hf.errors import ScoreError
from medmnist_hf.evaluation.evaluate import evaluate_file
from medmnist_hf.joint.labels import JointLabels
from medmnist_hf.joint.scores import restrict, score_many, separate_predictions
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check
from medmnist_hf.training.data import ArrayDataset, ArrayLoader, BatchTransform, joint_groups

RNG = np.random.default_rng(0)


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(logits: Any) -> Any:
    return 1 / (1 + np.exp(-logits))


@pytest.fixture(scope="module")
def test_rows(all_2d: Path) -> Any:
    return medmnist_hf.load_many("all-2d", split="test", root=all_2d)


def expected(rows: Any, logits: Any, root: Path) -> dict[str, tuple[float, float]]:
    """Scores of each subset from its own labels and its own columns."""
    joint, owners, scores = JointLabels.of(rows), np.array(rows["subset"]), {}
    for number, entry in enumerate(joint.subsets):
        own = logits[owners == number][:, joint.columns(entry.flag)]
        probabilities = sigmoid(own) if entry.task is Task.MULTI_LABEL else softmax(own)
        labels = medmnist_hf.load_arrays(entry.flag, split="test", root=root).labels
        result = score(check(labels, probabilities, entry.task))
        scores[entry.flag] = (result.auc, result.acc)
    return scores


def test_logits_and_probabilities_score_as_each_subset_alone(all_2d: Path, test_rows: Any) -> None:
    joint = JointLabels.of(test_rows)
    logits = RNG.normal(size=(len(test_rows), joint.count))
    chest = joint.columns("chestmnist")
    one_softmax = softmax(logits)
    one_softmax[:, chest] = sigmoid(logits[:, chest])
    reference = expected(test_rows, logits, all_2d)
    for result in (score_many(logits, test_rows, from_logits=True), score_many(one_softmax, test_rows)):
        for flag, values in reference.items():
            assert (result.scores[flag].auc, result.scores[flag].acc) == pytest.approx(values, abs=1e-12), flag
        assert (result.auc, result.acc) == pytest.approx(np.mean(list(reference.values()), axis=0))
    assert list(result.scores) == [entry.flag for entry in joint.subsets]


def test_a_joint_model_is_trained_and_scored_on_all_2d_subsets(all_2d: Path) -> None:
    splits = medmnist_hf.load_many("all-2d", root=all_2d, as_rgb=True)
    joint, data = JointLabels.of(splits), ArrayDataset(*medmnist_hf.to_arrays(splits["train"], cache=False))
    owners = torch.from_numpy(joint_groups(splits["train"]))
    model = torch.nn.Linear(28 * 28 * 3, joint.count)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    loader = ArrayLoader(data, 24, groups=owners.numpy(), transform=BatchTransform(with_indices=True))
    for batch in itertools.chain(loader, loader, loader):
        logits = model(batch["pixel_values"].flatten(1))
        own = torch.from_numpy(joint.mask)[owners[batch["indices"]]]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch["labels"], weight=own.float())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    images = medmnist_hf.to_arrays(splits["train"], cache=False).images
    pixels = torch.stack([torch.from_numpy(image) for image in images]).permute(0, 3, 1, 2) / 255
    scores = score_many(model((pixels - 0.5).flatten(1) * 2).sigmoid(), splits["train"])
    assert len(scores.scores) == 12 and scores.auc > 0.6


def test_rows_in_any_order_and_subsets_without_rows(test_rows: Any) -> None:
    logits = RNG.normal(size=(len(test_rows), 92)).astype(np.float32)
    order = RNG.permutation(len(test_rows))
    whole, shuffled = (
        score_many(logits[rows], test_rows.select(rows), from_logits=True) for rows in (np.arange(len(order)), order)
    )
    assert whole.scores.keys() == shuffled.scores.keys()
    assert (whole.auc, whole.acc) == pytest.approx((shuffled.auc, shuffled.acc))
    few = np.flatnonzero(np.isin(test_rows["subset"], (3, 7)))
    part = score_many(logits[few], test_rows.select(few), from_logits=True)
    assert part.scores == {flag: whole.scores[flag] for flag in ("octmnist", "bloodmnist")}


def test_prediction_files_of_each_subset(all_2d: Path, test_rows: Any, tmp_path: Path) -> None:
    logits = RNG.normal(size=(len(test_rows), 92))
    result = score_many(logits, test_rows, from_logits=True)
    for flag, part in separate_predictions(logits, test_rows, from_logits=True).items():
        path = medmnist_hf.write_predictions(
            tmp_path, flag, 28, "test", part.scores, part.references, run="joint", from_logits=True
        )
        assert evaluate_file(path, root=all_2d).score == result.scores[flag]


def test_probabilities_are_renormalized_over_own_classes() -> None:
    joint = JointLabels.of("breastmnist,chestmnist,octmnist")
    table = np.full((2, 20), 0.05)
    table[1, 16:] = 0
    assert restrict(table, joint, 0).tolist() == [[0.5, 0.5]] * 2
    assert np.array_equal(restrict(table, joint, 1), table[:, 2:16])
    assert restrict(table, joint, 2).tolist() == [[0.25] * 4] * 2  # no probability on them: uniform
    assert restrict(table.astype(np.float32), joint, 2).dtype == np.float32


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda table: table[:, :-1],
            r"^scores have shape \(\d+, 91\), not \(\d+, 92\): pass one row per row of the data",
        ),
        (lambda table: table[1:], r"^scores have shape"),
        (lambda table: table - 1, r"^pathmnist: scores run from -1 to .*, outside 0\.\.1: pass from_logits=True"),
        (lambda table: np.where(table > 0.99, np.nan, table), r"scores hold nan at row \d+, column \d+"),
    ],
)
def test_scores_that_do_not_fit(test_rows: Any, change: Any, says: str) -> None:
    table = RNG.random((len(test_rows), 92))
    table[0, 0] = 0
    table[len(test_rows) - 1, 91] = 1
    with pytest.raises(ScoreError, match=says):
        score_many(change(table), test_rows)


def test_rows_with_labels_of_another_subset_are_refused(test_rows: Any) -> None:
    wrong = test_rows.select(range(4)).map(lambda row: {"subset": 3})
    with pytest.raises(ScoreError, match=r"^the data set has labels of other subsets in rows of octmnist"):
        score_many(RNG.random((4, 92)), wrong)
    assert subset("octmnist").flag in JointLabels.of(wrong).names[-59]
