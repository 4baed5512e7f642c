"""The rules of the house: who may import whom, what an import may cost, what a wheel holds."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.fixtures.paths import ROOT

ALLOWED = {
    "medmnist_hf": {"medmnist_hf"},
    "builders": {"builders", "medmnist_hf"},
    "cards": {"cards", "medmnist_hf"},
    "scripts": {"builders", "cards", "medmnist_hf"},
}


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", ALLOWED)
def test_arrows_point_down_only(package: str) -> None:
    ours = {*ALLOWED, "tests"}
    for path in modules(package):
        found = {name.partition(".")[0] for name in imports_of(path)} & ours
        assert found <= ALLOWED[package], f"{path} imports {found - ALLOWED[package]}"


def test_catalog_and_errors_are_the_ground_floor() -> None:
    own = {name for name in imports_of(ROOT / "medmnist_hf/catalog.py") if name.startswith("medmnist_hf")}
    assert own == {"medmnist_hf.errors"}
    assert not {name for name in imports_of(ROOT / "medmnist_hf/errors.py") if name.startswith("medmnist_hf")}


def test_no_torch_and_no_pickle_outside_training() -> None:
    for package in ALLOWED:
        for path in modules(package):
            if "training" in path.parts or path.name == "peer_load.py":  # a benchmark of loaders for torch
                continue
            roots = {name.partition(".")[0] for name in imports_of(path)}
            assert not roots & {"torch", "pickle", "joblib", "dill"}, path


def test_core_dependencies_are_declared_and_without_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {requirement.split(">")[0].split("=")[0].strip() for requirement in project["dependencies"]}
    assert "torch" not in core
    needed = {"PIL": "pillow", "yaml": "pyyaml", "huggingface_hub": "huggingface-hub"}
    # These stand on extras and are imported only when asked for; gradio is there in a Space.
    apart = {
        "conversion": {"httpx2", "numba", "platformdirs", "zlib_ng"},
        "cards": {"bibtexparser", "jinja2"},
        "evaluation": {"matplotlib"},
        "evaluate_module": {"evaluate", "transformers", "gradio"},
        "plots.py": {"matplotlib"},
        "training": {
            "accelerate",
            "jinja2",
            "matplotlib",
            "peft",
            "safetensors",
            "sklearn",
            "timm",
            "torch",
            "torchvision",
            "tqdm",
            "transformers",
            "yaml",
        },
    }
    for path in modules("medmnist_hf"):
        if path.parent.name == "adapters":  # those run in the environments of their engines
            continue
        for name in imports_of(path):
            root = name.partition(".")[0]
            if root in sys.stdlib_module_names or root == "medmnist_hf":
                continue
            if root in apart.get(path.relative_to(ROOT / "medmnist_hf").parts[0], ()):
                continue
            assert needed.get(root, root) in core, f"{path} imports {root}"


def test_import_is_quick_to_answer_and_leaves_nothing(tmp_path: Path) -> None:
    """The package alone loads neither datasets nor torch, and writes no file."""
    code = (
        "import sys, medmnist_hf; medmnist_hf.subset('pathmnist');"
        "heavy = {'datasets', 'torch', 'pyarrow', 'pandas', 'PIL'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    environment = {"HOME": str(tmp_path), "PATH": "", "HF_HOME": str(tmp_path / "hf")}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert list(tmp_path.iterdir()) == []


def test_every_module_says_what_it_is_for_and_stays_short() -> None:
    for package in ALLOWED:
        for path in modules(package):
            text = path.read_text(encoding="utf-8")
            docstring = ast.get_docstring(ast.parse(text))
            assert docstring, path
            assert docstring.splitlines()[0].endswith((".", ":")), path
            # The compiled encoder has to stand in one file, for numba to see when it changed.
            assert len(text.splitlines()) <= (460 if path.name == "png.py" else 420), path


def test_tests_mirror_the_source() -> None:
    """Each module has a test file of its name; the two builders are tested as one family in ``test_base``."""
    exempt = {"__init__", "array_types", "client", "commit", "plan", "tree", "medmnist2d", "medmnist3d"}
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests").rglob("test_*.py")}
    for package in ("medmnist_hf", "builders", "cards"):
        missing = {path.stem for path in modules(package)} - exempt - tested
        assert not missing, f"{package}: no test file for {sorted(missing)}"


def test_the_wheel_holds_the_package_and_its_data_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"medmnist_hf"}
    assert {"medmnist_hf/catalog.toml", "medmnist_hf/scoring/published_results.csv", "medmnist_hf/py.typed"} <= set(
        names
    )
