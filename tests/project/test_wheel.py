"""The wheel, built from the source distribution, works with only the core dependencies installed."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from medmnist_hf.cli.main import app
from tests.fixtures.pages import README, links
from tests.fixtures.paths import ROOT

pytestmark = pytest.mark.slow


def needed(name: str, extras: frozenset[str] = frozenset()) -> Iterator[str]:
    """Names of the direct requirements of a distribution."""
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}
        ):
            yield requirement.name


def closure() -> set[str]:
    """All direct and indirect core requirements, from the metadata of the installed distributions."""
    names: set[str] = set()
    pending = [Requirement(line).name for line in _core()]
    while pending:
        name = pending.pop()
        if name.lower() not in names:
            names.add(name.lower())
            pending += needed(name)
    return names


def _core() -> list[str]:
    core: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    return core


def hatchling(target: str, source: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (archive,) = out.iterdir()
    return archive


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with only the wheel and its core requirements."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(hatchling("sdist", ROOT, folder / "sdist")) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    wheel = hatchling("wheel", source, folder / "dist")
    venv.create(folder / "env", symlinks=True)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    for name in closure():
        requirement = distribution(name)
        for top in {path.parts[0] for path in requirement.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(requirement.locate_file(top))))
    python = folder / "env/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return python.parent


def run(installed: Path, *arguments: str, cwd: Path, code: int = 0) -> str:
    command = [str(installed / arguments[0]), *arguments[1:]]
    environment = {"HOME": str(cwd), "PATH": f"{installed}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    process = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == code, process.stderr
    return process.stderr if code else process.stdout


def make_build(folder: Path) -> None:
    """Build into ``dist`` in a folder, with this checkout."""
    command = [
        sys.executable,
        "-m",
        "medmnist_hf",
        "build",
        "breastmnist",
        "--source",
        "phantom",
        "--phantom-rows",
        "9",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


def test_commands_without_extras(installed: Path, tmp_path: Path) -> None:
    def command(*arguments: str) -> str:
        return run(installed, "medmnist-hf", *arguments, cwd=tmp_path)

    assert command("--version").startswith("medmnist-hf ")
    assert command("list").count("\n") == 19
    assert "PathMNIST" in command("info", "pathmnist")
    assert command("benchmark", "--example").startswith("# medmnist-hf benchmark")
    for registered in app.registered_commands:
        name = registered.name or registered.callback.__name__.replace("_", "-")  # type: ignore[union-attr]
        assert "Example: medmnist-hf " in command(name, "--help")
    make_build(tmp_path)
    code = "import medmnist_hf; print(medmnist_hf.load('breastmnist', 28, split='train', root='dist').num_rows)"
    assert run(installed, "python", "-c", code, cwd=tmp_path) == "9\n"
    assert command("verify", "dist/breastmnist").startswith("ok: breastmnist 28: ")
    command("montage", "breastmnist", "--root", "dist", "--length", "2", "--out", "montage.png")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["build", "breastmnist", "--source", "phantom"], "build"),
        (["finetune", "breastmnist"], "train"),
        (["audit", "dist/breastmnist", "--save"], "build"),
    ],
)
def test_a_missing_extra_gives_a_one_line_error(
    installed: Path, tmp_path: Path, arguments: list[str], extra: str
) -> None:
    make_build(tmp_path)
    line = run(installed, "medmnist-hf", *arguments, cwd=tmp_path, code=1)
    assert line.startswith("error: ") and line.count("\n") == 1
    assert f"'medmnist-hf[{extra}]'" in line


def test_links_of_the_readme_lead_to_the_repository_where_it_is_shown_alone(tmp_path: Path) -> None:
    """A package index shows the metadata: each link in it is absolute, and one into the repository leads to a file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    home = project["urls"]["Repository"]
    with zipfile.ZipFile(hatchling("wheel", ROOT, tmp_path)) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Description-Content-Type"] == "text/markdown"
    shown = re.findall(r"\]\(([^)]+)\)", str(metadata.get_payload()))
    assert len(shown) == len(links(README)) > 20
    files = (f"{home}/blob/main/", f"{home.replace('github.com', 'raw.githubusercontent.com')}/main/")
    for target in [*shown, *project["urls"].values()]:
        assert target.startswith("https://")
        if target.startswith(files):
            path = target.removeprefix(files[0]).removeprefix(files[1]).partition("#")[0]
            assert (ROOT / path).exists(), target
        else:
            assert target in (home, f"{home}/issues") or not target.startswith(home), target
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", str(metadata.get_payload()))
    assert pictures and all(picture.startswith(files[1]) for picture in pictures)


def test_the_wheel_holds_the_package_alone(tmp_path: Path) -> None:
    """Documentation is on the site; the pages within are those of Spaces, which are pushed to the Hub."""
    with zipfile.ZipFile(hatchling("wheel", ROOT, tmp_path)) as wheel:
        names = wheel.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"medmnist_hf"}
    pages = [name for name in names if name.endswith((".md", ".rst", ".ipynb", ".html"))]
    pushed = [f"medmnist_hf/{part}/" for part in ("evaluate_module/medmnist", "space/static")]
    assert sorted(pages) == [f"{folder}{name}" for folder in pushed for name in ("README.md", "index.html")]
