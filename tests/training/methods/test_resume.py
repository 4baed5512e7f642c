"""`medmnist_hf.training.methods.resume`: only complete checkpoints are used, and they are identified by step."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.resume import LIST_NAME, checkpoint_folder, complete_checkpoint, last_checkpoint

FILES = ("model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json")


def save(folder: Path, step: int, best: int | None, processes: int = 1) -> Path:
    path = checkpoint_folder(step, folder)
    path.mkdir(parents=True)
    for name in FILES:
        (path / name).write_bytes(f"{name} of step {step}".encode() * 100)
    complete_checkpoint(step, folder, best=best, seconds=1.5 * step, processes=processes)
    return path


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.iterdir())


@pytest.mark.parametrize("bests", [(2, 2, 2, 2), (2, 4, 4, 8), (2, 4, 6, 8), (None, None, None, None)])
def test_the_last_the_best_and_a_fallback_checkpoint_are_kept(tmp_path: Path, bests: tuple[int | None, ...]) -> None:
    for at, best in enumerate(bests, 1):
        last = save(tmp_path, 2 * at, best)
    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.best, checkpoint.seconds) == (8, bests[-1], 12.0)
    assert len(steps_in(tmp_path)) <= 3
    (last / "optimizer.pt").unlink()
    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint is not None and checkpoint.step == (2 if bests[-1] == 2 else 6)
    assert checkpoint.best == bests[checkpoint.step // 2 - 1]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)


def link(path: Path) -> None:
    elsewhere = path.parent.parent.parent / path.name
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "why"), [(cut, "damaged"), (flip, "damaged"), (Path.unlink, "missing"), (link, "missing")]
)
def test_a_checkpoint_with_one_damaged_file_is_not_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoints"
    save(folder, 4, best=4)
    damage(save(folder, 8, best=4) / name)
    checkpoint = last_checkpoint(folder)
    assert checkpoint is not None and checkpoint.step == 4 and steps_in(folder) == [4]
    (message,) = caplog.messages
    assert str(checkpoint_folder(8, folder)) in message and f"{name} is {why}" in message


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", "[" * 100_000, '{"step": 8}', "\udcff"])
def test_a_checkpoint_without_a_valid_list_is_not_complete(
    tmp_path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 4, best=4)
    path = save(tmp_path, 8, best=4) / LIST_NAME
    path.unlink() if text is None else path.write_text(text, errors="surrogateescape")
    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint is not None and checkpoint.step == 4 and steps_in(tmp_path) == [4]
    assert len(caplog.messages) == 1 and "\n" not in caplog.text.strip()


def test_a_copy_under_another_step_is_not_complete(tmp_path: Path) -> None:
    shutil.copytree(save(tmp_path, 4, best=4), tmp_path / "checkpoint-12")
    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint is not None and checkpoint.step == 4 and steps_in(tmp_path) == [4]


def test_without_the_best_epoch_nothing_is_resumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Training may end with the weights of the best epoch, so resuming without it could change the result."""
    cut(save(tmp_path, 4, best=4) / "model.safetensors")
    save(tmp_path, 8, best=4)
    assert last_checkpoint(tmp_path) is None and steps_in(tmp_path) == []
    assert "checkpoint-4, its best epoch, is not complete" in caplog.messages[0]


def test_other_files_and_folders_are_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "checkpoints"
    save(folder, 4, best=4)
    for name in ("checkpoint-x", "checkpoint-", "checkpoint-007", "checkpoint-\u0663", "runs"):
        (folder / name).mkdir()
    (folder / "checkpoint-9").write_text("a file")
    (folder / "checkpoint-10").symlink_to(tmp_path)
    before = {path.name for path in folder.iterdir()}
    checkpoint = last_checkpoint(folder)
    assert checkpoint is not None and checkpoint.step == 4
    save(folder, 8, best=8)
    assert {path.name for path in folder.iterdir()} == before | {"checkpoint-8"} and not caplog.messages
    assert last_checkpoint(tmp_path / "none") is None


def test_another_number_of_processes_cannot_resume(tmp_path: Path) -> None:
    save(tmp_path, 4, best=4, processes=2)
    with pytest.raises(TrainingError, match="was written by 2 processes, and there are 1 now: start 2, or remove"):
        last_checkpoint(tmp_path, 1)
    assert last_checkpoint(tmp_path, 2) == last_checkpoint(tmp_path) and steps_in(tmp_path) == [4]


def test_a_list_contains_no_path(tmp_path: Path) -> None:
    content = json.loads((save(tmp_path, 4, best=4) / LIST_NAME).read_text())
    assert content["files"].keys() == set(FILES) and str(tmp_path) not in json.dumps(content)
