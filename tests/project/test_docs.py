"""The pages keep their word: commands and links exist, code is in a language that is checked, the table is current."""

import ast
import doctest
import re
import subprocess
import tempfile
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from medmnist_hf.cards.readme import update_table
from medmnist_hf.jobs.settings import read_settings
from medmnist_hf.submissions.entry import parse_entry
from tests.fixtures.pages import (
    CARDS,
    CHANGELOG,
    METRIC_CARD,
    PAGES,
    README,
    Block,
    anchors,
    blocks,
    commands,
    examples,
    inline_commands,
    links,
    name_of,
    simple_commands,
    split_verb,
    tokens,
    verbs,
)
from tests.fixtures.paths import ROOT

TEXT = README.read_text(encoding="utf-8")
EVERY_PAGE = (*PAGES, *CARDS, CHANGELOG, METRIC_CARD)


def test_the_table_of_subsets_is_up_to_date() -> None:
    assert update_table(TEXT) == TEXT, "stale: run python scripts/render_cards.py"


# Blocks of code


def read_shell(block: Block) -> None:
    """Its commands are parsed one by one below."""
    assert commands(block.page)


def read_python(block: Block) -> None:
    ast.parse(block.text)


def read_session(block: Block) -> None:
    assert doctest.DocTestParser().get_examples(block.text)


def read_tree(block: Block) -> None:
    """A folder and what is in it; `test_docs_run.py` compares it with one that was made."""
    first, *rest = block.text.splitlines()
    assert first.endswith("/") and all(line.startswith("  ") for line in rest), "only trees of files are plain text"


def read_citation(block: Block) -> None:
    """Entries are those of the bibliography, word by word."""
    known = (ROOT / "medmnist_hf" / "references.bib").read_text(encoding="utf-8")
    for entry in re.split(r"\n(?=@)", block.text.strip()):
        assert entry.strip() in known


def read_settings_or_entry(block: Block) -> None:
    """YAML on the pages is of engines or of an entry: every key exists, and every value has its type."""
    if block.text.startswith("method: "):
        assert parse_entry(block.text)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine.yaml"
        path.write_text(block.text, encoding="utf-8")
        read_settings(path)


READERS = {
    "bash": read_shell,
    "console": read_shell,
    "python": read_python,
    "pycon": read_session,
    "text": read_tree,
    "yaml": read_settings_or_entry,
    "bibtex": read_citation,
}
"""Language of a block -> what is checked of each; `test_docs_run.py` runs those that can be run."""

SPHINX = re.compile(r"\{(toctree|include|grid|grid-item-card|note|warning|tip|seealso|eval-rst)\}")
"""Directives that hold no code; ``make docs`` reads them."""

EVERY_BLOCK = [block for page in EVERY_PAGE for block in blocks(page)]


def test_every_block_is_of_a_language_that_is_checked() -> None:
    """So no code of a page goes without a test."""
    for block in EVERY_BLOCK:
        if SPHINX.match(block.language):
            assert not re.search(r"code-block|literalinclude|::$|>>>|```", block.text, re.MULTILINE), block.where
        else:
            assert block.language in READERS, f"{block.where}: no test reads {block.language or 'a bare block'}"
            READERS[block.language](block)


def test_every_fence_is_read() -> None:
    """A block that is not closed, or in a form that the fixture does not know, would be no block to the tests."""
    for page in EVERY_PAGE:
        fences = re.findall(r"^ *(?:```|:::)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        inner = sum(len(re.findall(r"^ *(?:```|:::)", block.text, flags=re.MULTILINE)) for block in blocks(page))
        assert len(fences) == 2 * len(blocks(page)) + inner, name_of(page)
        for token in tokens(page):
            is_other = token.type == "code_block" or token.markup.startswith("~~~")
            assert not is_other, f"{name_of(page)}: write ``` around {token.content.strip()[:60]!r}"


# Commands

PRINTED = [
    *((name_of(page), line) for page in PAGES for line in commands(page)),
    *(("--help", line) for line in examples()),
]
MENTIONED = [(name_of(page), line) for page in PAGES for line in inline_commands(page)]


def named(lines: list[tuple[str, str]]) -> list[str]:
    return [f"{where}: {line}" for where, line in lines]


@pytest.mark.parametrize(("where", "line"), PRINTED, ids=named(PRINTED))
def test_every_command_exists_and_takes_these_options(where: str, line: str) -> None:
    for words in simple_commands(line):
        parse(words)


@pytest.mark.parametrize(("where", "line"), MENTIONED, ids=named(MENTIONED))
def test_a_command_in_a_text_exists_and_takes_these_options(where: str, line: str) -> None:
    """It may leave out what it is given, such as the data or the value of its last option."""
    for words in simple_commands(line):
        try:
            parse(words)
        except Exception as error:
            if type(error).__name__ not in {"MissingParameter", "BadOptionUsage"}:
                raise


OF_THE_PROGRAM = {"--help", "--version", "--install-completion", "--show-completion"}
OF_EVERY_READER = {"cd", "git", "hf", "pre-commit", "source"}

OF_ENGINES = {"ray", "srun"}
"""Programs of those who have such a cluster."""
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def parse(words: list[str]) -> None:
    """Fail where a program, verb, option or value of a command is not one, as the command itself would."""
    program, *arguments = words
    match program.removeprefix(".venv/bin/"):
        case "make":
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{arguments[0]}:", makefile, flags=re.MULTILINE)
        case "medmnist-hf" if arguments[0] in OF_THE_PROGRAM:
            pass
        case "medmnist-hf":
            verb, rest = split_verb(arguments)
            if rest == ["--help"]:
                assert verb in verbs()
            else:
                verbs()[verb].make_context(verb, rest)
        case "pip":
            assert arguments[0] == "install"
            for extra in re.findall(r"(?:^\.|medmnist-hf)\[([\w,]+)\]", "\n".join(arguments), flags=re.MULTILINE):
                assert set(extra.split(",")) <= EXTRAS.keys()
        case "python" | "python3" if arguments[0] == "-m":
            assert find_spec(arguments[1])
        case "python":
            text = (ROOT / arguments[0]).read_text(encoding="utf-8")  # importing one may take ten seconds
            for option in (word.removeprefix("--") for word in arguments if word.startswith("--")):
                assert f'"--{option}"' in text or re.search(
                    rf"^    {option.replace('-', '_')}: Annot", text, re.MULTILINE
                )
        case other:
            assert other in OF_EVERY_READER | OF_ENGINES, "a program that not every reader has"


NOT_OURS = {
    *("--check", "--disable-pip-version-check", "--upgrade"),  # of adapters of engines, and of pip
    *("--porcelain", "--short", "--untracked-files"),  # of git
    *("--test-only", "--noheader", "--jobs", "--format"),  # of Slurm
    *("--multi-gpu", "--num-processes", "--num-machines", "--gpu-ids"),  # of accelerate
    *("--main-process-port", "--mixed-precision", "--dynamo-backend", "--module"),
    "--with",  # of uv
    *("--flag", "--folder", "--path"),  # of the official package
    "--directory",  # of python -m http.server
    "--no",  # begins any that says no
}


def test_messages_name_verbs_and_options_that_there_are() -> None:
    """What the package says of its command line, in messages, help and docstrings, can be typed."""
    options = {
        name for verb in verbs().values() for param in verb.params for name in (*param.opts, *param.secondary_opts)
    }
    words = {name.partition(" ")[0] for name in verbs()}
    for path in (ROOT / "medmnist_hf").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*", text):
            assert option in options | NOT_OURS | {"--help", "--version"}, f"{path.name} names {option}"
        for verb in re.findall(r"medmnist-hf ([a-z][a-z-]*)", text):
            assert verb in words or verb == "again", f"{path.name} names medmnist-hf {verb}"


def test_help_calls_a_subset_and_a_build_by_these_names() -> None:
    """On a command line a flag is an option, and a config is a file of options."""
    for name, verb in verbs().items():
        texts = [verb.help, *(getattr(param, "help", None) for param in verb.params)]
        for text in texts:
            assert not re.search(r"\b(flags?|configs?)\b(?<!--config)", str(text), re.IGNORECASE), f"{name}: {text}"


def test_every_verb_has_an_example_of_itself() -> None:
    for name, verb in verbs().items():
        assert str(verb.epilog).startswith(f"Example: medmnist-hf {name} ") or name == "list"


# Links and names


def test_links_of_every_form_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '[a](a.md) [b](b.md "title") [c][d] ![e](e.png) <a href="f.md"><img src="g.png"></a>\n\n[d]: d.md\n\n'
        ":::{note}\n[h](h.md)\n:::\n\n```\n[i](i.md)\n```\n"
    )
    assert links(page) == ["a.md", "b.md", "d.md", "e.png", "f.md", "g.png", "h.md"]


@pytest.mark.parametrize("page", EVERY_PAGE, ids=name_of)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    """To a file, and to a heading of it where the link names one."""
    for link in links(page):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = page.parent / target if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def test_pages_name_files_that_there_are() -> None:
    """What stands in backticks and looks like a path of the checkout is one."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:medmnist_hf|scripts|tests|docs|builders)/[\w./-]+)`", text):
            assert "NAME" in name or (ROOT / name).exists(), f"{page.name} names {name}"


def test_git_ignores_what_the_commands_of_the_pages_make() -> None:
    """Whoever tries them in a checkout adds none of it by `git add .`."""
    written = {"dist", "npz"}
    for words in (words for page in PAGES for line in commands(page) for words in simple_commands(line)):
        written |= {
            words[place + 1] for place, word in enumerate(words[:-1]) if word in ("--out", "--local-dir", "--plot")
        }
    for name in written:
        path = name if Path(name).suffix else f"{name}/any"
        subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=ROOT, check=True)
