"""The rules of the house: who may import whom, what an import costs, how large a part may be, what a wheel holds."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.fixtures.paths import ROOT

LAYERS = [
    "redaction",
    "array_types errors",
    "documents extras files network",
    "typed_json",
    "catalog console automl",
    "manifest",
    "features vertex hub scoring",
    "places",
    "data",
    "conversion evaluation evaluate_module",
    "exporting",
    "cards",
    "loading",
    "training",
    "cli",
    "__main__",
]
"""Parts of the package from the ground up: a module imports lower rows and its own part, nothing else."""

TRAINING = [
    "registry values data_source",
    "recipe losses",
    "results data tracking",
    "models scoring run_folder",
    "methods",
    "report",
    "ensemble benchmark",
    "running",
    "publish",
]
"""The same within `medmnist_hf.training`."""

AROUND = {"builders": {"builders", "medmnist_hf"}, "scripts": {"medmnist_hf"}, "medmnist_hf": {"medmnist_hf"}}
"""Top folder -> what of this repository it may import."""

LONGEST = 420
"""Lines of a module; a longer one does two jobs."""

MOST_MODULES = 12
"""Modules directly in a package; a larger one is two packages."""


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


KNOWN = {name_of(path) for folder in AROUND for path in modules(folder)}


@cache
def imports_of(path: Path) -> frozenset[str]:
    """What a module imports, anywhere in it: modules of ours by their full names, others as they are written."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative import"
            members = {f"{node.module}.{alias.name}" for alias in node.names} & KNOWN
            names |= members
            if len(members) < len(node.names):
                names.add(node.module)
    return frozenset(names)


def arrows() -> Iterator[tuple[str, str]]:
    """Each pair of a module of the package and one that it imports."""
    for path in modules("medmnist_hf"):
        for target in imports_of(path):
            if target.partition(".")[0] == "medmnist_hf":
                yield name_of(path), target


def row_of(part: str, layers: list[str]) -> int:
    (row,) = [row for row, parts in enumerate(layers) if part in parts.split()]
    return row


def upward(prefix: str, layers: list[str]) -> list[str]:
    """Imports from one part to another of the same row or a higher one; the package itself stands above all."""
    wrong = []
    for source, target in arrows():
        if not source.startswith(f"{prefix}.") or not target.startswith(f"{prefix}."):
            continue
        ours, theirs = (name.removeprefix(f"{prefix}.").partition(".")[0] for name in (source, target))
        if ours != theirs and row_of(theirs, layers) >= row_of(ours, layers):
            wrong.append(f"{source} imports {target}")
    return wrong


@pytest.mark.parametrize("folder", AROUND)
def test_folders_import_the_package_and_never_the_other_way_round(folder: str) -> None:
    ours = {*AROUND, "tests"}
    for path in modules(folder):
        found = {name.partition(".")[0] for name in imports_of(path)} & ours
        assert found <= AROUND[folder], f"{path} imports {found - AROUND[folder]}"


def test_arrows_point_down_only() -> None:
    assert upward("medmnist_hf", LAYERS) == []
    assert upward("medmnist_hf.training", TRAINING) == []


def test_only_the_top_imports_the_package_itself() -> None:
    """`import medmnist_hf` offers what lies below it, so what lies below names the module that it wants."""
    users = {source.split(".")[1] for source, target in arrows() if target == "medmnist_hf"}
    assert users <= {"training", "cli"}


def test_each_part_has_its_place() -> None:
    """A new part is put into a row, and a row names no part that is gone."""
    for package, layers in (("medmnist_hf", LAYERS), ("medmnist_hf/training", TRAINING)):
        folder = ROOT / package
        parts = {path.stem for path in folder.glob("*.py")} | {
            path.parent.name for path in folder.glob("*/__init__.py")
        }
        assert sorted(" ".join(layers).split()) == sorted(parts - {"__init__"})


PARSERS = ("json.load", "json.loads", "yaml.load", "yaml.safe_load", "yaml.full_load", "yaml.unsafe_load")


def test_documents_are_parsed_in_one_place() -> None:
    """Elsewhere a text that is nested, aliased or long without end is read without a limit."""
    for path in modules("medmnist_hf"):
        if path.name == "documents.py" or path.parent.name == "adapters":  # these run where the package is not
            continue
        calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        assert not {ast.unparse(call) for call in calls} & {*PARSERS}, f"{path}: read it by medmnist_hf.documents"


def test_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for source, target in arrows():
        graph.setdefault(source, set()).add(target)
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"a circle of imports: {' -> '.join((*trail[trail.index(name) :], name))}"
        if name not in done:
            for target in sorted(graph.get(name, ())):
                if target != name:
                    visit(target, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_packages_and_modules_stay_small_and_say_what_they_are_for() -> None:
    for folder in AROUND:
        for path in modules(folder):
            text = path.read_text(encoding="utf-8")
            docstring = ast.get_docstring(ast.parse(text))
            assert docstring, path
            assert docstring.splitlines()[0].endswith((".", ":")), path
            assert len(text.splitlines()) <= LONGEST, path
            if path.name == "__init__.py":
                count = len([one for one in path.parent.glob("*.py") if not one.name.startswith("__")])
                assert count <= MOST_MODULES, f"{path.parent} has {count} modules"


def test_tests_mirror_the_source_by_path() -> None:
    """``medmnist_hf/hub/plan.py`` is tested in ``tests/hub/test_plan.py``; builders are tested as one family."""
    tests = {path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    missing = []
    for path in modules("medmnist_hf"):
        place = path.relative_to(ROOT / "medmnist_hf")
        if (
            path.stem not in {"__init__", "__main__", "errors", "array_types"}
            and place.with_name(f"test_{path.name}") not in tests
        ):
            missing.append(str(place))
    assert missing == []


OF_TORCH = {"peer_load.py", "sweep_models.py", "fuzz.py"}  # loaders, networks and weights of torch are their matter


def test_no_torch_and_no_pickle_outside_training() -> None:
    for folder in AROUND:
        for path in modules(folder):
            if "training" in path.parts or path.name in OF_TORCH:
                continue
            roots = {name.partition(".")[0] for name in imports_of(path)}
            assert not roots & {"torch", "pickle", "joblib", "dill"}, path


EXTRAS = {
    "cards": {"bibtexparser", "jinja2"},
    "evaluate_module": {"evaluate", "transformers", "gradio"},
    "evaluation": {"matplotlib"},
    "training": {
        "accelerate",
        "jinja2",
        "markupsafe",  # a part of jinja2
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
"""Part -> what it imports of extras, and only when it is asked for; gradio is there in a Space."""

ASKED_FOR = {
    f"medmnist_hf.evaluate_module.{name}"
    for name in ("arrow_metric", "evaluator", "medmnist.app", "medmnist.medmnist")
}
"""Modules over `evaluate`, which itself imports transformers where that is installed, and over gradio."""

DISTRIBUTIONS = {
    "PIL": "pillow",
    "huggingface_hub": "huggingface-hub",
    "yaml": "pyyaml",
    "zlib_ng": "zlib-ng",
}
"""Name of an import -> the requirement that brings it, where they differ."""


def test_core_dependencies_are_declared_and_without_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {requirement.split(">")[0].split("=")[0].strip() for requirement in project["dependencies"]}
    assert "torch" not in core
    for path in modules("medmnist_hf"):
        if path.parent.name == "adapters":  # those run in the environments of their engines
            continue
        part = path.relative_to(ROOT / "medmnist_hf").parts[0]
        for name in imports_of(path):
            root = name.partition(".")[0]
            if root in sys.stdlib_module_names or root == "medmnist_hf" or root in EXTRAS.get(part, ()):
                continue
            assert DISTRIBUTIONS.get(root, root) in core, f"{path} imports {root}"


@pytest.mark.parametrize(
    ("name", "release"), [("typer", "0.15.3"), ("filelock", "3.20.2"), ("pillow", "12.2.0"), ("jinja2", "3.1.5")]
)
def test_releases_that_do_not_work_or_are_vulnerable_are_left_out(name: str, release: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    found = [each for each in map(Requirement, named) if each.name == name]
    assert found and not any(each.specifier.contains(release) for each in found)


def test_import_is_quick_to_answer_and_leaves_nothing(tmp_path: Path) -> None:
    """The package alone loads neither datasets nor torch, and writes no file."""
    code = (
        "import sys, medmnist_hf; medmnist_hf.subset('pathmnist');"
        "heavy = {'datasets', 'torch', 'pyarrow', 'pandas', 'PIL'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    environment = {"HOME": str(tmp_path), "PATH": "", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert list(tmp_path.iterdir()) == []


def test_the_wheel_holds_the_package_and_its_data_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"medmnist_hf"}
    data = {
        f"medmnist_hf/{name}"
        for name in (
            "catalog.toml",
            "references.bib",
            "py.typed",
            "automl/engines.toml",
            "cards/templates/card.md.j2",
            "evaluate_module/medmnist/README.md",
            "scoring/published_results.csv",
            "training/methods/zero_shot_labels.toml",
            "training/presets/foundation.yaml",
            "training/report/templates/model_card.md.j2",
        )
    }
    assert data <= set(names)
    assert not [name for name in names if name.endswith(".md") and "/docs/" in name]
    assert sorted(name for name in names if name.endswith(".py")) == [
        str(path.relative_to(ROOT)) for path in sorted(modules("medmnist_hf"), key=str)
    ]


def test_what_the_core_of_a_wheel_imports_needs_no_torch(tmp_path: Path) -> None:
    names = [name_of(path) for path in modules("medmnist_hf") if not {"training", "adapters"} & set(path.parts)]
    names = [name for name in names if name not in ASKED_FOR]
    code = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
    heavy = {{"torch", "torchvision", "transformers", "timm", "tensorflow", "jax"}} & set(sys.modules)
    assert not heavy, (name, heavy)
"""
    environment = {"HOME": str(tmp_path), "PATH": "", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
