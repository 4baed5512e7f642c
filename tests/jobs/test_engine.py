"""What all engines share."""

from pathlib import Path

import pytest

from medmnist_hf.jobs.local import LocalEngine
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.submit import ENGINES, open_engine
from medmnist_hf.jobs.tasks import TaskFolder


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_has_the_name_by_which_it_is_opened(name: str) -> None:
    engine = open_engine(name, Settings(workers=3))
    assert engine.name == name and engine.settings.workers == 3 and engine.pause > 0


def test_by_default_a_folder_is_where_it_is_named_and_nothing_outlives_its_process(tmp_path: Path) -> None:
    engine = LocalEngine(Settings())
    assert engine.place(tmp_path) == tmp_path
    assert engine.still_running(TaskFolder(tmp_path)) == "" and not engine.detaches
    engine.forget(TaskFolder(tmp_path))
    assert list(tmp_path.iterdir()) == []
