"""`medmnist_hf.training.sessions.session`: a full disk. The runs are in ``tests/training/test_running.py``."""

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from medmnist_hf.automl.search import save_array
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.sessions.session import full_disk_as_error


@pytest.fixture
def limited_files() -> Iterator[Callable[[int], None]]:
    """Limit the size of files that this process writes, so that longer writes fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("write", [torch.save, save_file, lambda what, path: save_array(path, what["a"].numpy())])
def test_a_full_disk_is_recognized_wherever_a_write_stops(
    tmp_path: Path, limited_files: Callable[[int], None], write: Callable[[dict[str, torch.Tensor], Path], None]
) -> None:
    size = 40_000
    for limit in [*range(0, 2000, 50), *range(2000, size, 3777)]:
        limited_files(limit)
        with (
            pytest.raises(TrainingError, match=f"no space left for {tmp_path}: make room, then"),
            full_disk_as_error(tmp_path),
        ):
            write({"a": torch.rand(size // 4)}, tmp_path / "weights")


def test_other_errors_are_not_reported_as_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="unexpected shape"), full_disk_as_error(tmp_path):
        raise RuntimeError("unexpected shape")
