"""Names of functions in a user's file: they identify a version of it, and are read without running it."""

from pathlib import Path

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.own_code.names import is_code, is_pinned, pin_code, public_code, rename_model_file, same_code
from medmnist_hf.own_code.running import load_code
from tests.fixtures.own_code import write_code


def test_a_pinned_name_is_that_of_one_version_of_the_file(tmp_path: Path) -> None:
    file = write_code(tmp_path, "def build():\n    return 1\n")
    pinned = pin_code(f"{file}:build", "model_file")
    assert pin_code(pinned, "model_file") == pinned and is_code(pinned) and pinned.startswith(f"{file}:build#")
    assert public_code(pinned) == f"my.py:build#{pinned[-16:]}" and public_code("timm/resnet18") == "timm/resnet18"
    assert is_pinned(pinned) and not is_pinned(f"{file}:build") and not is_pinned("timm/resnet18")
    assert same_code(pinned, f"other.py:build#{pinned[-16:]}") and not same_code(pinned, pinned.replace("build", "b"))
    assert load_code(pinned, "model_file")() == 1
    write_code(tmp_path, "def build():\n    return 2\n")
    assert pin_code(f"{file}:build", "model_file") not in {pinned, f"{file}:build"}
    with pytest.raises(
        TrainingError, match=r"my\.py has changed: its SHA-256 begins with \w{16}, not \w{16}: restore"
    ):
        pin_code(pinned, "model_file")


@pytest.mark.parametrize("name", ["my.py", "my.py:", "my.py:1", "my.txt:build", "my.py:build#12", 3, "my.py:a b"])
def test_other_names_are_refused(name: object) -> None:
    with pytest.raises(TrainingError, match=r"^model_file is .*: give a Python file and a function in it, as my\.py:"):
        rename_model_file({"model_file": name}, "options")


def test_the_file_is_read_before_it_is_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^cannot read .*none\.py .*: give --augmentation-file FILE\.py:NAME$"):
        pin_code(f"{tmp_path}/none.py:augment", "augmentation_file")
    file = write_code(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\ndef build(): pass\n")
    pin_code(f"{file}:build", "model_file")
    assert not (tmp_path / "ran").exists()
    load_code(f"{file}:build", "model_file")
    assert (tmp_path / "ran").exists()


def test_model_file_is_another_name_of_model() -> None:
    assert rename_model_file({"epochs": 3, "model_file": "my.py:build"}, "it") == {"epochs": 3, "model": "my.py:build"}
    assert rename_model_file({"model": "a", "model_file": None}, "it") == {"model": "a"}
    with pytest.raises(TrainingError, match=r"^it: model_file is another name of model: give only one of them$"):
        rename_model_file({"model": "a", "model_file": "my.py:build"}, "it")
