"""Links from a report to the existing files of a run, as addresses relative to the report."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from medmnist_hf.evaluation.prediction_files import files_of_split
from medmnist_hf.manifest import README_NAME
from medmnist_hf.training.benchmark.status import LOG_NAME
from medmnist_hf.training.report.publishable import FIGURES, best_seed
from medmnist_hf.training.results import RESULTS_NAME, RunResult


@dataclass(frozen=True, slots=True)
class Link:
    """A link: its text, and its address, percent-encoded."""

    text: str
    address: str


def links_of(result: RunResult, run: Path, start: Path) -> tuple[Link, ...]:
    """Links to a run's folder and to its existing card, figures, test predictions, results and log.

    Card, figures and predictions belong to the published seed; an ensemble has its own predictions.

    Args:
        result: Results of the run.
        run: Folder of the run.
        start: Folder that the addresses are relative to: the run's folder or one above it.
    """
    return tuple(Link(text, _address(path, start)) for text, path in _targets(result, run, start) if path.exists())


def _targets(result: RunResult, run: Path, start: Path) -> Iterator[tuple[str, Path]]:
    seed = run / f"seed-{best_seed(result).seed}"
    yield "this folder" if run == start else run.relative_to(start).as_posix(), run
    yield from (("card", card) for card in sorted(seed.glob(f"*/{README_NAME}")))
    yield from ((figure.stem, figure) for figure in sorted((seed / FIGURES).glob("*.png")))
    yield from (("predictions", path) for path in files_of_split(seed, "test"))
    yield from (("ensemble", path) for path in files_of_split(run, "test"))
    yield "results", run / RESULTS_NAME
    yield "log", run / LOG_NAME


def _address(path: Path, start: Path) -> str:
    """A relative address, with a leading ``./`` so that no name is parsed as a URL scheme."""
    relative = path.relative_to(start).as_posix()
    return quote("./" if relative == "." else f"./{relative}{'/' if path.is_dir() else ''}")
