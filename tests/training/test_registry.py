"""The registry of methods: every entry has a module, and it can be read without torch."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.registry import METHODS, check_model_name, method


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_description_and_a_module(name: str) -> None:
    entry = METHODS[name]
    assert entry.name == name and entry.about[0].isupper() and entry.about.endswith(".")
    module = "automl" if entry.engine else name.replace("-", "_")
    assert callable(importlib.import_module(f"medmnist_hf.training.methods.{module}").fit)


def test_which_methods_leave_a_model() -> None:
    assert [name for name, entry in METHODS.items() if entry.leaves_model] == [
        "finetune",
        "partial",
        "linear-probe",
        "lora",
    ]


def test_model_names_are_checked_without_loading_a_model(tmp_path: Path) -> None:
    for name in ("resnet18", "pixels", "timm/anything", "anyone/anything", str(tmp_path)):
        check_model_name(name)
    with pytest.raises(TrainingError, match=r"^unknown model 'resnet34': give resnet18 or resnet50, timm/NAME"):
        check_model_name("resnet34")
    with pytest.raises(TrainingError, match=r"cannot read .*none\.pth \(No such file or directory\): give a weights"):
        check_model_name("resnet18", str(tmp_path / "none.pth"))


def test_an_unknown_method_is_a_one_line_error() -> None:
    with pytest.raises(
        TrainingError, match=r"^unknown method 'svm': choose from finetune, partial, linear-probe, "
    ) as caught:
        method("svm")
    assert "\n" not in str(caught.value)


def test_the_registry_does_not_import_torch() -> None:
    code = "import sys, medmnist_hf.training.registry, medmnist_hf.training.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
