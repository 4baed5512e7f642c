import itertools
import sys
import tomllib
from pathlib import Path

import pytest

from medmnist_hf.errors import MedMNISTError
from medmnist_hf.extras import (
    NAMES,
    MissingModuleError,
    extras_of,
    import_member,
    install_command,
    require_modules,
    suggest_install,
)
from tests.fixtures.paths import ROOT


@pytest.mark.parametrize(
    ("module", "extra"),
    [("jinja2.ext", "build"), ("matplotlib", "plot"), ("evaluate", "evaluate")],
)
def test_the_smallest_extra_is_the_first(module: str, extra: str) -> None:
    assert (extras_of(module) or ())[:1] == (extra,)


def test_core_and_unknown_modules() -> None:
    for module in ("PIL.Image", "huggingface_hub", "numpy"):
        assert extras_of(module) == ()
    assert extras_of("torch_sparse") is None
    assert "train" in (extras_of("torch") or ()) and "train" in (extras_of("sklearn.metrics") or ())


def test_every_distribution_in_names_is_a_requirement() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)["project"]
    requirements = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    for name in NAMES.values():
        assert any(requirement.startswith(f"{name}>") for requirement in requirements), name


def test_all_has_every_extra_but_automl_engines_and_developer_tools() -> None:
    """`all` installs everything that the package's modules import, in one command."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert extras["all"] == ["medmnist-hf[build,corruptions,evaluate,plot,train]"]
    assert "medmnist-hf[build,evaluate]" in extras["train"], "training includes building, publishing and scoring"


def test_the_message_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/elsewhere/python3")
    with pytest.raises(MissingModuleError) as caught, suggest_install("train"):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    line = "torch is not installed: /usr/elsewhere/python3 -m pip install 'medmnist-hf[train]'"
    assert str(caught.value) == line
    assert isinstance(caught.value, MedMNISTError) and isinstance(caught.value, ImportError)
    assert caught.value.name == "torch"


def test_the_command_says_python_if_that_is_the_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install_command("plot").startswith(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    assert install_command("plot") == "python -m pip install 'medmnist-hf[plot]'"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert install_command() == "uv pip install --python python 'medmnist-hf'"


def test_an_extra_without_the_missing_module_is_not_suggested() -> None:
    with pytest.raises(MissingModuleError, match=r"\[plot\]'$"), suggest_install("train"):
        raise ModuleNotFoundError(name="matplotlib.pyplot")
    with pytest.raises(MissingModuleError, match=r"install 'medmnist-hf'$"), suggest_install("train"):
        raise ModuleNotFoundError(name="numpy")


def test_the_outermost_extra_is_suggested() -> None:
    """A card written while training needs modules of `build`; `train`, which includes them, is suggested."""
    with (
        pytest.raises(MissingModuleError, match=r"\[train\]'$"),
        suggest_install(),
        suggest_install("train"),
        suggest_install("build"),
    ):
        raise ModuleNotFoundError(name="jinja2")


def test_errors_for_other_modules_are_not_changed() -> None:
    for name in ("medmnist_hf.nothing", "nothing_at_all", None):
        with pytest.raises(ModuleNotFoundError) as caught, suggest_install("train"):
            raise ModuleNotFoundError("No module", name=name)
        assert not isinstance(caught.value, MedMNISTError)


def test_packages_and_members_that_need_an_extra_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert import_member("json", "loads")("1") == 1
    require_modules("train", "json")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingModuleError, match=r"torch is not installed.*\[train\]'$"):
        require_modules("train", "torch")
    monkeypatch.delitem(sys.modules, "medmnist_hf.training.losses", raising=False)
    with pytest.raises(MissingModuleError, match=r"torch is not installed.*\[train\]'$"):
        import_member("medmnist_hf.training.losses", "ordinal_logits", "train")
