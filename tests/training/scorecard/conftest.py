"""Two real score cards on phantoms."""

from pathlib import Path

import pytest

from tests.conftest import Phantoms
from tests.fixtures.scorecards import make_card, make_home


@pytest.fixture(scope="session")
def home(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds in ``dist``, features in ``features``, and two cards: ``first`` and, with fewer
    protocols, ``second``."""
    folder = make_home(phantoms, tmp_path_factory.mktemp("home"))
    make_card(folder, folder / "first", "knn", "linear-probe", "shots-1", "shots-5")
    make_card(folder, folder / "second", "knn", "shots-5", model="timm/test_efficientnet")
    return folder
