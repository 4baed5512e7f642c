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
def test_the_extra_that_brings_least_is_the_first(module: str, extra: str) -> None:
    assert (extras_of(module) or ())[:1] == (extra,)


def test_what_belongs_to_the_core_or_to_none() -> None:
    for module in ("PIL.Image", "huggingface_hub", "numpy"):
        assert extras_of(module) == ()
    assert extras_of("torch_sparse") is None
    assert "train" in (extras_of("torch") or ()) and "train" in (extras_of("sklearn.metrics") or ())


def test_every_name_that_differs_is_one_of_a_requirement() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)["project"]
    asked = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    for name in NAMES.values():
        assert any(requirement.startswith(f"{name}>") for requirement in asked), name


def test_all_has_every_extra_that_is_no_engine_and_no_tool() -> None:
    """What a module of ours imports of an extra is had by `all`, in one command."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert extras["all"] == ["medmnist-hf[build,evaluate,plot,train]"]
    assert "medmnist-hf[build,evaluate]" in extras["train"], "who trains can build, publish and score"


def test_the_line_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/elsewhere/python3")
    with pytest.raises(MissingModuleError) as caught, suggest_install("train"):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    line = "torch is not installed: /usr/elsewhere/python3 -m pip install 'medmnist-hf[train]'"
    assert str(caught.value) == line
    assert isinstance(caught.value, MedMNISTError) and isinstance(caught.value, ImportError)
    assert caught.value.name == "torch"


def test_python_is_so_called_where_it_is_the_one_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install_command("plot").startswith(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    assert install_command("plot") == "python -m pip install 'medmnist-hf[plot]'"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert install_command() == "uv pip install --python python 'medmnist-hf'"


def test_an_extra_that_does_not_bring_what_is_missing_is_not_named() -> None:
    with pytest.raises(MissingModuleError, match=r"\[plot\]'$"), suggest_install("train"):
        raise ModuleNotFoundError(name="matplotlib.pyplot")
    with pytest.raises(MissingModuleError, match=r"install 'medmnist-hf'$"), suggest_install("train"):
        raise ModuleNotFoundError(name="numpy")


def test_the_outermost_extra_is_named() -> None:
    """Cards need what `build` brings; who trains and writes one is told of `train`, which brings it too."""
    with (
        pytest.raises(MissingModuleError, match=r"\[train\]'$"),
        suggest_install(),
        suggest_install("train"),
        suggest_install("build"),
    ):
        raise ModuleNotFoundError(name="jinja2")


def test_what_is_none_of_ours_stays_as_it_is() -> None:
    for name in ("medmnist_hf.nothing", "nothing_at_all", None):
        with pytest.raises(ModuleNotFoundError) as caught, suggest_install("train"):
            raise ModuleNotFoundError("No module", name=name)
        assert not isinstance(caught.value, MedMNISTError)


def test_packages_and_members_that_need_an_extra_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert import_member("json", "loads")("1") == 1
    require_modules("train", "json")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingModuleError, match=r"torch is not installed.*\[train\]'$"):
        require_modules("train", "torch")
    monkeypatch.delitem(sys.modules, "medmnist_hf.training.losses", raising=False)
    with pytest.raises(MissingModuleError, match=r"torch is not installed.*\[train\]'$"):
        import_member("medmnist_hf.training.losses", "ordinal_logits", "train")
