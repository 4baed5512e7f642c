"""`medmnist_hf.training.methods.resume`: a checkpoint is whole or not used, and known by its step."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.resume import LIST_NAME, complete, folder_of, last_checkpoint

FILES = ("model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json")


def save(folder: Path, step: int, best: int | None, processes: int = 1) -> Path:
    path = folder_of(step, folder)
    path.mkdir(parents=True)
    for name in FILES:
        (path / name).write_bytes(f"{name} of step {step}".encode() * 100)
    complete(step, folder, best=best, seconds=1.5 * step, processes=processes)
    return path


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.iterdir())


@pytest.mark.parametrize("bests", [(2, 2, 2, 2), (2, 4, 4, 8), (2, 4, 6, 8), (None, None, None, None)])
def test_the_last_and_the_best_stay_and_one_to_fall_back_to(tmp_path: Path, bests: tuple[int | None, ...]) -> None:
    for at, best in enumerate(bests, 1):
        last = save(tmp_path, 2 * at, best)
    found = last_checkpoint(tmp_path)
    assert found is not None and (found.step, found.best, found.seconds) == (8, bests[-1], 12.0)
    assert len(steps_in(tmp_path)) <= 3
    (last / "optimizer.pt").unlink()
    found = last_checkpoint(tmp_path)
    assert (
        found is not None and found.step == (2 if bests[-1] == 2 else 6) and found.best == bests[found.step // 2 - 1]
    )


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
def test_one_damaged_file_is_enough(
    tmp_path: Path, name: str, damage: Callable[[Path], None], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoints"
    save(folder, 4, best=4)
    damage(save(folder, 8, best=4) / name)
    found = last_checkpoint(folder)
    assert found is not None and found.step == 4 and steps_in(folder) == [4]
    (said,) = caplog.messages
    assert str(folder_of(8, folder)) in said and f"{name} is {why}" in said


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", "[" * 100_000, '{"step": 8}', "\udcff"])
def test_without_its_list_a_checkpoint_is_not_whole(
    tmp_path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 4, best=4)
    path = save(tmp_path, 8, best=4) / LIST_NAME
    path.unlink() if text is None else path.write_text(text, errors="surrogateescape")
    found = last_checkpoint(tmp_path)
    assert found is not None and found.step == 4 and steps_in(tmp_path) == [4]
    assert len(caplog.messages) == 1 and "\n" not in caplog.text.strip()


def test_a_copy_under_another_step_is_not_whole(tmp_path: Path) -> None:
    shutil.copytree(save(tmp_path, 4, best=4), tmp_path / "checkpoint-12")
    found = last_checkpoint(tmp_path)
    assert found is not None and found.step == 4 and steps_in(tmp_path) == [4]


def test_without_the_best_epoch_nothing_is_resumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It may be the one that a training delivers: to go on without it could end in other weights."""
    cut(save(tmp_path, 4, best=4) / "model.safetensors")
    save(tmp_path, 8, best=4)
    assert last_checkpoint(tmp_path) is None and steps_in(tmp_path) == []
    assert "checkpoint-4, its best epoch, is not whole" in caplog.messages[0]


def test_what_is_no_checkpoint_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "checkpoints"
    save(folder, 4, best=4)
    for name in ("checkpoint-x", "checkpoint-", "checkpoint-007", "checkpoint-\u0663", "runs"):
        (folder / name).mkdir()
    (folder / "checkpoint-9").write_text("a file")
    (folder / "checkpoint-10").symlink_to(tmp_path)
    before = {path.name for path in folder.iterdir()}
    found = last_checkpoint(folder)
    assert found is not None and found.step == 4
    save(folder, 8, best=8)
    assert {path.name for path in folder.iterdir()} == before | {"checkpoint-8"} and not caplog.messages
    assert last_checkpoint(tmp_path / "none") is None


def test_another_number_of_processes_cannot_resume(tmp_path: Path) -> None:
    save(tmp_path, 4, best=4, processes=2)
    with pytest.raises(TrainingError, match="was written by 2 processes, and there are 1 now: start 2, or remove"):
        last_checkpoint(tmp_path, 1)
    assert last_checkpoint(tmp_path, 2) == last_checkpoint(tmp_path) and steps_in(tmp_path) == [4]


def test_a_list_holds_no_path(tmp_path: Path) -> None:
    listed = json.loads((save(tmp_path, 4, best=4) / LIST_NAME).read_text())
    assert listed["files"].keys() == set(FILES) and str(tmp_path) not in json.dumps(listed)
