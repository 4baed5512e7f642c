"""The choice of a configuration among the rows of a board."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmnist_hf.training.benchmark.boards import gather
from medmnist_hf.training.benchmark.rows import best_on_validation
from tests.fixtures.benchmarks import leave_run


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=6))
def test_the_choice_has_the_best_validation_score_of_tested_runs(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[float, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    for epochs, (validation, tested) in enumerate(runs, 1):
        test = [0.5] if tested else []
        leave_run(folder / str(epochs), test=test, validation=[validation], dataset="breastmnist", epochs=epochs)
    (board,) = gather(folder)
    tested_scores = [validation for validation, tested in runs if tested]
    best = best_on_validation(board.own)
    assert best is not None and best == board.chosen
    assert best.validation_auc.mean == pytest.approx(max(tested_scores or [validation for validation, _ in runs]))
