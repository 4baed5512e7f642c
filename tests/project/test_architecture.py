"""Rules of the architecture: layers, the cost of imports, sizes of modules and packages, content of the wheel."""

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
    "array_types errors source_images",
    "documents extras files network",
    "typed_json own_code",
    "catalog console automl jobs statistics",
    "manifest",
    "features vertex hub scoring",
    "places",
    "data",
    "conversion corruptions evaluation evaluate_module sampling",
    "exporting embeddings leaderboard",
    "cards space submissions",
    "loading",
    "joint official",
    "training",
    "cli",
    "__main__",
]
"""Parts of the package from the bottom up: a module only imports lower rows and its own part."""

TRAINING = [
    "registry values data_source",
    "recipe losses",
    "results data tracking",
    "standing",
    "models scoring run_folder",
    "embedding",
    "methods",
    "report",
    "benchmark prediction joint",
    "sessions robustness",
    "running",
    "publish scorecard",
]
"""The same within `medmnist_hf.training`."""

AROUND = {"builders": {"builders", "medmnist_hf"}, "scripts": {"medmnist_hf"}, "medmnist_hf": {"medmnist_hf"}}
"""Top folder -> top packages of this repository that it may import."""

LONGEST = 420
"""Largest number of lines of a module; a longer one does two jobs."""

MOST_MODULES = 12
"""Largest number of modules directly in a package; a larger one is two packages."""


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


OUR_MODULES = {name_of(path) for folder in AROUND for path in modules(folder)}


@cache
def imports_of(path: Path) -> frozenset[str]:
    """All imports of a module: our modules by their full names, others as written."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative import"
            members = {f"{node.module}.{alias.name}" for alias in node.names} & OUR_MODULES
            names |= members
            if len(members) < len(node.names):
                names.add(node.module)
    return frozenset(names)


def imports() -> Iterator[tuple[str, str]]:
    """Each pair of a module of the package and a module of the package that it imports."""
    for path in modules("medmnist_hf"):
        for target in imports_of(path):
            if target.partition(".")[0] == "medmnist_hf":
                yield name_of(path), target


def row_of(part: str, layers: list[str]) -> int:
    (row,) = [row for row, parts in enumerate(layers) if part in parts.split()]
    return row


def upward(prefix: str, layers: list[str]) -> list[str]:
    """Imports between parts that go to the same or a higher row; the package itself is above all rows."""
    violations = []
    for source, target in imports():
        if not source.startswith(f"{prefix}.") or not target.startswith(f"{prefix}."):
            continue
        importer, imported = (name.removeprefix(f"{prefix}.").partition(".")[0] for name in (source, target))
        if importer != imported and row_of(imported, layers) >= row_of(importer, layers):
            violations.append(f"{source} imports {target}")
    return violations


@pytest.mark.parametrize("folder", AROUND)
def test_folders_import_the_package_and_never_the_other_way_round(folder: str) -> None:
    own = {*AROUND, "tests"}
    for path in modules(folder):
        imported = {name.partition(".")[0] for name in imports_of(path)} & own
        assert imported <= AROUND[folder], f"{path} imports {imported - AROUND[folder]}"


def test_imports_go_to_lower_rows_only() -> None:
    assert upward("medmnist_hf", LAYERS) == []
    assert upward("medmnist_hf.training", TRAINING) == []


def test_only_the_top_imports_the_package_itself() -> None:
    """`import medmnist_hf` imports from the parts below it, so those import the module they need instead."""
    users = {source.split(".")[1] for source, target in imports() if target == "medmnist_hf"}
    assert users <= {"training", "cli"}


def test_each_part_has_a_row() -> None:
    """A new part must be added to a row, and a removed part must be removed from its row."""
    for package, layers in (("medmnist_hf", LAYERS), ("medmnist_hf/training", TRAINING)):
        folder = ROOT / package
        parts = {path.stem for path in folder.glob("*.py")} | {
            path.parent.name for path in folder.glob("*/__init__.py")
        }
        assert sorted(" ".join(layers).split()) == sorted(parts - {"__init__"})


PARSERS = ("json.load", "json.loads", "yaml.load", "yaml.safe_load", "yaml.full_load", "yaml.unsafe_load")


def test_documents_are_parsed_in_one_place() -> None:
    """Elsewhere, a deeply nested, aliased or very long text would be read without a limit."""
    for path in modules("medmnist_hf"):
        if path.name == "documents.py" or path.parent.name == "adapters":  # these run without the package
            continue
        calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        assert not {ast.unparse(call) for call in calls} & {*PARSERS}, f"{path}: read it by medmnist_hf.documents"


def test_there_are_no_circular_imports() -> None:
    graph: dict[str, set[str]] = {}
    for source, target in imports():
        graph.setdefault(source, set()).add(target)
    visited: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circular imports: {' -> '.join((*trail[trail.index(name) :], name))}"
        if name not in visited:
            for target in sorted(graph.get(name, ())):
                if target != name:
                    visit(target, (*trail, name))
            visited.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_packages_and_modules_are_small_and_documented() -> None:
    for folder in AROUND:
        for path in modules(folder):
            text = path.read_text(encoding="utf-8")
            docstring = ast.get_docstring(ast.parse(text))
            assert docstring, path
            assert docstring.splitlines()[0].endswith((".", ":")), path
            assert len(text.splitlines()) <= LONGEST, path
            if path.name == "__init__.py":
                count = len([each for each in path.parent.glob("*.py") if not each.name.startswith("__")])
                assert count <= MOST_MODULES, f"{path.parent} has {count} modules"


def test_tests_mirror_the_source_by_path() -> None:
    """``medmnist_hf/hub/plan.py`` is tested in ``tests/hub/test_plan.py``; builders are tested together."""
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


OF_TORCH = {
    *("bench_embed.py", "bench_probes.py", "bench_train.py", "peer_load.py", "sweep_models.py", "fuzz.py"),
}  # loaders and networks

TORCH_IF_INSTALLED = "medmnist_hf.official.dataset"
"""Module whose classes are torch data sets where torch is installed, like those of the official package."""


def test_no_torch_and_no_pickle_outside_training() -> None:
    for folder in AROUND:
        for path in modules(folder):
            if "training" in path.parts or path.name in OF_TORCH or name_of(path) == TORCH_IF_INSTALLED:
                continue
            roots = {name.partition(".")[0] for name in imports_of(path)}
            assert not roots & {"torch", "pickle", "joblib", "dill"}, path


SAFE: dict[str, str] = {"from_pretrained": "use_safetensors=True", "load": "weights_only=True"}


def test_weights_are_never_unpickled() -> None:
    """`from_pretrained` of a model reads a pickle if there are no safetensors, and `torch.load` runs code in it."""
    for path in modules("medmnist_hf"):
        if "training" not in path.parts:
            continue
        for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
            kind, _, name = ast.unparse(call.func).rpartition(".")
            is_model = name == "from_pretrained" and not kind.endswith(("Config", "Processor", "Tokenizer"))
            if is_model or (kind, name) == ("torch", "load"):
                options = {ast.unparse(keyword) for keyword in call.keywords}
                assert SAFE[name] in options or "**options" in options, f"{path}:{call.lineno}: add {SAFE[name]}"


EXTRAS = {
    "cards": {"bibtexparser", "jinja2"},
    "corruptions": {"cv2"},
    "evaluate_module": {"evaluate", "transformers"},
    "evaluation": {"matplotlib"},
    "jobs": {"datatrove", "loguru", "ray"},
    "official": {"torch"},
    "training": {
        "accelerate",
        "jinja2",
        "markupsafe",  # installed with jinja2
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
"""Part -> modules of extras that it imports, only when needed."""

IMPORTED_ON_DEMAND = {
    f"medmnist_hf.evaluate_module.{name}" for name in ("arrow_metric", "evaluator", "medmnist.medmnist")
}
"""Modules that import `evaluate`, which itself imports transformers if installed."""

DISTRIBUTIONS = {
    "PIL": "pillow",
    "huggingface_hub": "huggingface-hub",
    "yaml": "pyyaml",
    "zlib_ng": "zlib-ng",
}
"""Name of an import -> the requirement that installs it, where they differ."""


def test_core_dependencies_are_declared_and_without_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {requirement.split(">")[0].split("=")[0].strip() for requirement in project["dependencies"]}
    assert "torch" not in core
    for path in modules("medmnist_hf"):
        if path.parent.name == "adapters":  # these run in the environments of their engines
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
def test_broken_and_vulnerable_releases_are_excluded(name: str, release: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    requirements = [each for each in map(Requirement, lines) if each.name == name]
    assert requirements and not any(each.specifier.contains(release) for each in requirements)


@pytest.mark.parametrize(("name", "release"), [("datasets", "4.8.5"), ("rich", "14.3.4"), ("typer", "0.20.1")])
def test_the_newest_releases_that_flower_allows_are_not_excluded(name: str, release: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = (each for each in map(Requirement, project["dependencies"]) if each.name == name)
    assert requirement.specifier.contains(release)


def test_importing_the_package_is_light_and_leaves_no_files(tmp_path: Path) -> None:
    """Importing the package loads neither datasets nor torch, and writes no file."""
    code = (
        "import sys, medmnist_hf; medmnist_hf.subset('pathmnist');"
        "heavy = {'datasets', 'torch', 'pyarrow', 'pandas', 'PIL'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    environment = {"HOME": str(tmp_path), "PATH": "", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert list(tmp_path.iterdir()) == []


def test_the_wheel_only_holds_the_package_and_its_data(tmp_path: Path) -> None:
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
            "corruptions/alexnet.csv",
            "corruptions/registry.csv",
            "evaluate_module/medmnist/README.md",
            "scoring/published_results.csv",
            "statistics/recorded.json",
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


def test_the_core_imports_no_torch(tmp_path: Path) -> None:
    names = [name_of(path) for path in modules("medmnist_hf") if not {"training", "adapters"} & set(path.parts)]
    names = [name for name in names if name not in {*IMPORTED_ON_DEMAND, TORCH_IF_INSTALLED}]
    code = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
    heavy = {{"torch", "torchvision", "transformers", "timm", "tensorflow", "jax"}} & set(sys.modules)
    assert not heavy, (name, heavy)
"""
    environment = {"HOME": str(tmp_path), "PATH": "", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
