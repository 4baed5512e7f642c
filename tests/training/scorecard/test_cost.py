"""What a score card costs, counted by hand."""

from pathlib import Path

import pytest

from medmnist_hf.training.scorecard.cost import RUN_SECONDS, TRAINED, Cost, cost_of, seconds_per_image
from tests.fixtures.scorecards import plan_of

ROWS = 64 + 16 + 32


def test_runs_and_images_are_counted(home: Path) -> None:
    _, cells = plan_of(home, preset="standard")
    waiting = [cell for cell in cells if cell.recipe.method != "partial"]
    cost = cost_of(cells, waiting)
    lora = 3 * (20 * (TRAINED * 64 + 16) + 16 + 32)
    assert (cost.runs, cost.seeds, cost.stores) == (2 * 7 + 1, 2 * 52 + 3, 0), "stores of this model exist"
    assert cost.passes == {2: lora, 3: 0}
    _, other = plan_of(home, "knn", model="timm/test_vit")
    assert cost_of(other, other) == Cost(2, 2, 2, 2 * ROWS, {2: ROWS, 3: ROWS})
    assert cost_of(other, []) == Cost(0, 0, 0, 0, {2: 0, 3: 0})


def test_seconds_are_shared_among_workers() -> None:
    cost = Cost(3, 3, 1, 100, {2: 100, 3: 0})
    assert cost.seconds({2: 0.5}, 2) == pytest.approx((50 + 4 * RUN_SECONDS) / 2)


def test_speed_is_measured_without_weights(home: Path) -> None:
    _, cells = plan_of(home, "knn")
    seconds, device = seconds_per_image(cells[0].recipe)
    assert 0 < seconds < 1 and device
