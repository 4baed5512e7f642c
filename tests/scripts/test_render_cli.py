"""``scripts/render_cli.py``: the committed page is up to date, complete and well formed."""

import importlib.util
import re
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from medmnist_hf import console
from tests.fixtures.pages import CLI_REFERENCE, blocks, examples, verbs
from tests.fixtures.paths import ROOT


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_cli", ROOT / "scripts" / "render_cli.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit code of ``--check``."""
    monkeypatch.setattr(sys, "argv", ["render_cli.py", "--check"])
    with pytest.raises(SystemExit) as end:
        console.run(script.app)
    return int(end.value.code or 0)


def test_the_committed_page_is_up_to_date(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(script, monkeypatch) == 0, "run python scripts/render_cli.py"
    assert capsys.readouterr().out == "docs/cli.md is up to date\n"


@pytest.mark.parametrize("text", [None, "# Command line\n"])
def test_a_missing_or_stale_page_is_reported_in_one_line(
    text: str | None,
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "PAGE", tmp_path / "cli.md")
    if text is not None:
        script.PAGE.write_text(text, encoding="utf-8")
    assert check(script, monkeypatch) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: docs/cli.md is stale: run python scripts/render_cli.py\n")


def test_headings_nest_and_links_lead_to_them() -> None:
    text = CLI_REFERENCE.read_text(encoding="utf-8")
    headings = re.findall(r"^(#+) (.+)$", text, flags=re.MULTILINE)
    levels = [len(marks) for marks, _ in headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(level <= previous + 1 for previous, level in pairwise(levels))
    anchors = {title.strip("`").replace(" ", "-") for _, title in headings}
    links = re.findall(r"\]\(#([^)]+)\)", text)
    assert len(links) == len(verbs()) and set(links) <= anchors


def test_every_verb_has_its_usage_options_and_example() -> None:
    text = CLI_REFERENCE.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### `medmnist-hf ([^`]+)`\n(.*?)(?=^##|\Z)", text, flags=re.MULTILINE | re.DOTALL))
    assert list(sections) == list(verbs())
    for name, verb in verbs().items():
        section = sections[name]
        assert f"```text\nmedmnist-hf {name} [OPTIONS]" in section
        for param in verb.params:
            if param.param_type_name == "option" and not param.hidden:
                assert all(option in section for option in (*param.opts, *param.secondary_opts)), param.name
    assert [block.text.strip() for block in blocks(CLI_REFERENCE) if block.language == "bash"] == examples()[1:]


def test_tables_have_three_cells_per_row() -> None:
    rows = [line for line in CLI_REFERENCE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    counts = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert counts == {3, 4}, "two cells in the table of commands, three in those of options"
