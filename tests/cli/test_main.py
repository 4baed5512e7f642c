import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from bibtexparser.entrypoint import parse_string
from typer.testing import CliRunner

from medmnist_hf.catalog import Subset, citation_keys, cite, collection, subset, subsets
from medmnist_hf.cli.main import app
from medmnist_hf.extras import install_command
from medmnist_hf.scoring.published import published_notes, published_results
from tests.fixtures.paths import ROOT

runner = CliRunner()


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from medmnist_hf.cli.main import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_list_has_every_subset_on_one_line() -> None:
    result = runner.invoke(app, ["list"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) == 19
    for entry, line in zip(subsets(), lines[1:], strict=True):
        assert line.startswith(entry.flag)
        assert f"{entry.counts.train:,} / {entry.counts.validation:,} / {entry.counts.test:,}" in line
        assert line.rstrip().endswith(entry.license)


def test_list_as_json() -> None:
    facts = json.loads(runner.invoke(app, ["list", "--json"]).output)
    assert [each["flag"] for each in facts] == [entry.flag for entry in subsets()]
    assert facts[0]["files"][0]["md5"] == subset("pathmnist").file(28).md5
    assert facts[0]["counts"] == {"train": 89996, "validation": 10004, "test": 7180}


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_info_shows_everything(entry: Subset) -> None:
    result = runner.invoke(app, ["info", entry.flag])
    assert result.exit_code == 0
    flat = " ".join(result.output.split())
    for text in (entry.description, *entry.caveats, *entry.labels):
        assert " ".join(text.split()) in flat
    for row in published_results(entry.flag):
        assert f"{row.method} {row.auc:.3f} {row.acc:.3f}" in flat
    shared = collection()
    for text in (
        *entry.citations,
        *shared.citations,
        shared.license_names[entry.license],
        *published_notes(entry.flag),
        f"(medmnist-hf cite {entry.flag} prints them)",
    ):
        assert " ".join(text.split()) in flat
    for file in entry.files:
        (line,) = (line for line in result.output.splitlines() if line.split()[:1] == [file.name])
        assert line.split() == [file.name, str(file.size), file.md5, file.url]
    facts = json.loads(runner.invoke(app, ["info", entry.flag, "--json"]).output)
    assert facts["labels"] == list(entry.labels)
    assert facts["files"][0]["url"] == entry.files[0].url
    assert facts["license_name"] == shared.license_names[entry.license]
    assert facts["collection"]["caveats"] == list(shared.caveats)
    assert facts["published_notes"] == list(published_notes(entry.flag))
    output = [(row["method"], row["auc"], row["acc"]) for row in facts["published_results"]]
    assert output == [(row.method, row.auc, row.acc) for row in published_results(entry.flag)]


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_cite_prints_the_entries_of_a_subset(entry: Subset) -> None:
    shown = runner.invoke(app, ["cite", entry.flag])
    assert shown.exit_code == 0
    library = parse_string(shown.output)
    assert library.failed_blocks == []
    assert [each.key for each in library.entries] == list(citation_keys(entry))
    assert shown.output == cite(entry.flag) + "\n"


def test_cite_names_each_paper_once() -> None:
    def keys(*names: str) -> list[str]:
        return [each.key for each in parse_string(runner.invoke(app, ["cite", *names]).output).entries]

    assert keys() == ["medmnistv2", "medmnistv1"]
    assert keys("BloodMNIST-64", "pathmnist", "bloodmnist") == [
        *("medmnistv2", "medmnistv1", "bloodmnist", "pathmnist", "pathmnist-quality")
    ]
    assert set(keys("all")) == {*keys(), *(key for entry in subsets() for key in entry.citations)}
    assert len(keys("all", "pathmnist")) == len(set(keys("all")))


def test_cite_needs_no_extra_and_writes_only_bibtex_to_standard_output() -> None:
    code = "import sys; sys.modules['bibtexparser'] = None; from medmnist_hf.cli.main import main; main('cite')"
    cited, unknown = (
        subprocess.run([sys.executable, "-c", code, name], capture_output=True, encoding="utf-8", check=False)
        for name in ("breastmnist", "brestmnist")
    )
    library = parse_string(cited.stdout)
    assert (cited.returncode, cited.stderr, len(library.entries)) == (0, "", 4)
    assert library.failed_blocks == library.comments == []
    assert (unknown.returncode, unknown.stdout, unknown.stderr.count("\n")) == (1, "", 1)


def test_the_program_does_not_import_pyarrow() -> None:
    code = "import sys, medmnist_hf.cli.main; sys.exit(str({'datasets', 'pyarrow'} & set(sys.modules) or ''))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.stderr.strip() == ""


def test_a_typo_is_one_line_and_exit_code_1() -> None:
    process = program("info", "pathmnits")
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr == "error: unknown subset 'pathmnits': did you mean 'pathmnist'?\n"


def test_a_missing_argument_is_a_one_line_error() -> None:
    process = program("info")
    assert (process.returncode, process.stdout) == (2, "") and process.stderr.count("\n") == 1
    assert process.stderr.startswith("error: Missing argument 'SUBSET'")


def test_help_has_an_example() -> None:
    for arguments in (["list", "--help"], ["info", "--help"]):
        assert "Example: medmnist-hf" in runner.invoke(app, arguments).output
    assert program().returncode == 2, "no command at all is wrong usage"


def test_info_without_published_results(unpublished: str) -> None:
    text = runner.invoke(app, ["info", unpublished]).output
    assert "published results on test (AUC, ACC): none\nfiles" in text


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("jinja2", "build", ["build", "breastmnist", "--source", "phantom", "--out"]),
        ("torch", "train", ["finetune", "breastmnist", "--model", "timm/test_resnet", "--out"]),
    ],
)
def test_a_missing_package_of_an_extra_is_a_one_line_error(
    package: str, extra: str, arguments: list[str], tmp_path: Path
) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from medmnist_hf.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments, str(tmp_path / "out")]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (1, "")
    line = process.stderr.splitlines()[-1]  # transformers has a word of its own where torch is missing
    assert line == f"error: {package} is not installed: {install_command(extra)}"
    assert "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_scripts_and_the_module_show_the_usage_of_the_program() -> None:
    for start in ([str(ROOT / "scripts" / "build.py")], ["-m", "medmnist_hf", "build"]):
        helped = subprocess.run([sys.executable, *start, "--help"], capture_output=True, text=True, check=True)
        assert helped.stdout.split()[:4] == ["Usage:", "medmnist-hf", "build", "[OPTIONS]"]


def test_version() -> None:
    shown = runner.invoke(app, ["--version"])
    assert (shown.exit_code, shown.output) == (0, f"medmnist-hf {version('medmnist-hf')}\n")


def test_help_imports_no_slow_package() -> None:
    code = """
import sys
from typer.main import get_command
from typer.testing import CliRunner
from medmnist_hf.cli.main import app

names = []
for name, command in get_command(app).commands.items():
    names += [f"{name} {each}" for each in command.commands] if hasattr(command, "commands") else [name]
for name in names:
    shown = CliRunner().invoke(app, [*name.split(), "--help"])
    assert shown.exit_code == 0 and "Example: medmnist-hf " in shown.output, (name, shown.output)
    heavy = {"datasets", "matplotlib", "pandas", "pyarrow", "sklearn", "timm", "torch", "transformers"}
    heavy &= set(sys.modules)
    assert not heavy, (name, heavy)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
