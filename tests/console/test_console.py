"""How commands end, escape foreign text, and print to one width."""

import io
import os
import runpy
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.progress import DownloadColumn, TextColumn

from medmnist_hf import console
from medmnist_hf.catalog import subset
from medmnist_hf.cli.main import app
from medmnist_hf.conversion.sources.phantom import phantom_labels
from medmnist_hf.evaluation.prediction_files import write_predictions
from tests.conftest import Phantoms
from tests.fixtures.paths import ROOT

PROGRAM = """
import errno, os, tempfile
import logging
import typer
from medmnist_hf import console
from medmnist_hf.catalog import subset
from medmnist_hf.errors import BuildError

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)

@app.command()
def command(end: str) -> None:
    if end == "fault":
        raise BuildError("dist/x is damaged: pass --force")
    if end == "interrupt":
        raise KeyboardInterrupt
    if end == "exit":
        raise typer.Exit(3)
    if end == "system":
        open("/no/such/file")
    if end == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/results.json")
    if end == "full somewhere":
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    if end == "no temporary":
        tempfile.tempdir = None
        os.environ["TMPDIR"] = "/no/such/folder"
        tempfile._candidate_tempdir_list = lambda: ["/no/such/folder"]
        tempfile.mkdtemp()
    if end == "hostile":
        name = "\\x1b[31ma\\nerror: b"
        logging.getLogger("other").warning("no %s", name)
        table = console.table("name", text=("name",))
        table.add_row(name)
        console.terminal().print(table)
        console.terminal().print(f"run {name[:6]}")
        console.echo(f"file {name[:6]}")
        raise BuildError(f"{name} is damaged")
    if end == "hub":
        from huggingface_hub.utils import _http  # as it logs before a retry
        _http.logger.warning("'HTTP Error 500' thrown while requesting GET")
        raise BuildError("the Hub is not there")
    if end == "bars":
        from huggingface_hub.utils.tqdm import tqdm
        print(tqdm(range(3)).disable)
    if end == "unicode":
        console.terminal().print("AUC 0.733 ± 0.012, run 肺")
        console.echo("größer")
        console.print_json({"run": "肺"})
        raise BuildError("dist/肺 is damaged")
    if end == "defect":
        raise OSError("without a file")
    print("done")

console.run(app)
"""


@pytest.mark.parametrize(
    ("end", "code", "out", "error"),
    [
        ("well", 0, "done\n", ""),
        ("hub", 1, "", "error: the Hub is not there\n"),
        ("fault", 1, "", "error: dist/x is damaged: pass --force\n"),
        ("system", 1, "", "error: /no/such/file: No such file or directory: check the path and its permissions\n"),
        (
            "full",
            1,
            "",
            "error: no space left for out/results.json (No space left on device): "
            "make room, then run the same command again\n",
        ),
        (
            "full somewhere",
            1,
            "",
            "error: Disk quota exceeded: check TMPDIR, the free space and the limits of this system, then run again\n",
        ),
        (
            "no temporary",
            1,
            "",
            "error: No usable temporary directory found in ['/no/such/folder']: "
            "check TMPDIR, the free space and the limits of this system, then run again\n",
        ),
        ("interrupt", 130, "", "stopped: run the same command again to resume\n"),
        ("exit", 3, "", ""),
    ],
)
def test_how_a_command_ends(end: str, code: int, out: str, error: str) -> None:
    process = subprocess.run([sys.executable, "-c", PROGRAM, end], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (code, out, error)


@pytest.mark.parametrize(("setting", "hidden"), [(None, True), ("0", False)])
def test_a_log_has_no_bars_of_the_hub_client_unless_requested(setting: str | None, hidden: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_PROGRESS_BARS"}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": setting} if setting else {}
    # With the imports of the whole program, which could import the client too early.
    program = f"import medmnist_hf.cli.main\n{PROGRAM}"
    command = [sys.executable, "-c", program, "bars"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert process.stdout == f"{hidden}\ndone\n"


def test_foreign_names_cannot_move_the_cursor_or_start_a_line() -> None:
    process = subprocess.run([sys.executable, "-c", PROGRAM, "hostile"], capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert [line.strip() for line in process.stdout.splitlines()] == [
        "name",
        r"\x1b[31ma error: b",
        r"run \x1b[31ma",
        r"file \x1b[31ma",
    ]
    assert process.stderr.splitlines() == [
        r"WARNING: no \x1b[31ma error: b",
        r"error: \x1b[31ma error: b is damaged",
    ]


@pytest.mark.parametrize(
    ("encoding", "lines"),
    [
        ("utf-8", ["AUC 0.733 ± 0.012, run 肺", "größer", "{", '  "run": "肺"', "}"]),
        ("latin-1", [r"AUC 0.733 ± 0.012, run \u80ba", "größer", "{", r'  "run": "\u80ba"', "}"]),
        ("ascii", [r"AUC 0.733 \xb1 0.012, run \u80ba", r"gr\xf6\xdfer", "{", r'  "run": "\u80ba"', "}"]),
    ],
)
def test_unencodable_characters_are_escaped(encoding: str, lines: list[str]) -> None:
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, "unicode"],
        capture_output=True,
        encoding=encoding,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert process.stdout.splitlines() == lines
    name = "肺" if encoding == "utf-8" else r"\u80ba"
    assert (process.returncode, process.stderr) == (1, f"error: dist/{name} is damaged\n")


def test_a_defect_keeps_its_traceback() -> None:
    process = subprocess.run([sys.executable, "-c", PROGRAM, "defect"], capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert "Traceback" in process.stderr


def test_python_without_docstrings_gives_a_clear_error() -> None:
    """Some commands work without docstrings; those whose libraries need them say so in one line."""
    code = "from medmnist_hf.cli.main import main; main()"
    listed = subprocess.run([sys.executable, "-OO", "-c", code, "list"], capture_output=True, text=True, check=False)
    assert listed.returncode == 0 and "breastmnist" in listed.stdout
    program = PROGRAM.replace('raise OSError("without a file")', "(lambda: None).__doc__.strip()")
    process = subprocess.run(
        [sys.executable, "-OO", "-c", program, "defect"], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout, process.stderr.count("\n")) == (1, "", 1)
    assert "docstrings, so run without -OO and PYTHONOPTIMIZE=2" in process.stderr


def test_only_one_column_of_a_table_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    table = console.table("name", "rows", "where", text=("name", "where"))
    table.add_row("a", "1,000", "x" * 200)
    console.terminal().print(table)
    head, first, second, *rest = stream.getvalue().splitlines()
    assert head.split() == ["name", "rows", "where"]
    assert first == f"a     1,000  {'x' * 147}" and second.strip() == "x" * 53
    assert rest == []


def test_every_command_prints_to_one_width_in_a_pipe(
    phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each prints a longer path, name or text, and ignores the width of the terminal."""
    monkeypatch.setenv("COLUMNS", "77")
    file = phantoms("breastmnist", 28, 16)
    (tmp_path / "breastmnist.npz").write_bytes(file.path.read_bytes())
    out = tmp_path / ("deep" * 20) / ("deeper" * 20)
    assert file.counts is not None
    truth = phantom_labels(subset("breastmnist"), file.counts, "test")
    scores = np.random.default_rng(0).dirichlet([1, 1], len(truth))
    predictions = write_predictions(tmp_path, "breastmnist", 28, "test", scores, truth, run="long" * 45)

    def widest(program: str, *arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        with pytest.raises(SystemExit, match="0"):
            if program.endswith(".py"):
                runpy.run_path(str(ROOT / "scripts" / program), run_name="__main__")
            console.run(app)
        text = capsys.readouterr().out.partition("files (name")[0]  # an address is never cut
        return max(map(len, text.splitlines()))

    assert widest("build.py", "breastmnist", "--source", tmp_path, "--allow-unverified", "--out", out) == 160
    assert widest("audit.py", out / "breastmnist") <= 160
    assert widest("medmnist-hf", "evaluate", predictions, "--data", out) == 160
    assert 140 < widest("medmnist-hf", "info", "chestmnist") <= 160


class TestProgress:
    """Progress of long work if standard error is not a terminal."""

    @pytest.fixture(autouse=True)
    def short_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(console, "FIRST_PAUSE", 0.02)

    def test_it_is_an_occasional_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        with console.progress() as progress:
            task = progress.add_task("verifying breastmnist 28", total=200)
            finished = progress.add_task("verifying retinamnist 28", total=10)
            progress.advance(task, 50)
            progress.advance(finished, 10)
            time.sleep(0.2)
        printed = capsys.readouterr()
        lines = printed.err.splitlines()
        assert printed.out == "" and set(lines) == {"verifying breastmnist 28  25%"}
        assert 2 <= len(lines) <= 4, "each pause is twice as long as the one before"

    def test_columns_of_a_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        with console.progress(TextColumn("{task.description}", markup=False), DownloadColumn()) as progress:
            progress.add_task("dist/[x]", total=2_000_000, completed=500_000)
            time.sleep(0.03)
        assert capsys.readouterr().err.splitlines()[0] == "dist/[x]  0.5/2.0 MB"

    def test_it_can_be_restarted(self, capsys: pytest.CaptureFixture[str]) -> None:
        progress = console.progress()
        for text in ("first", "second"):
            with progress:
                task = progress.add_task(text, total=1)
                time.sleep(0.1)
                progress.update(task, completed=1)
        assert set(capsys.readouterr().err.splitlines()) == {"first  0%", "second  0%"}

    def test_short_work_prints_nothing(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(console, "FIRST_PAUSE", 60.0)
        start = time.monotonic()
        with console.progress() as progress:
            progress.add_task("verifying", total=1)
        assert capsys.readouterr().err == "" and time.monotonic() - start < 1


def test_a_closed_stream_does_not_end_a_command() -> None:
    command = f"{shlex.quote(sys.executable)} -m medmnist_hf list"
    process = subprocess.run(["sh", "-c", f"{command} 2>&-"], capture_output=True, text=True, check=True)
    assert "pathmnist" in process.stdout
