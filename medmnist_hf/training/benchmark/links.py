"""What a run left that a report can point to: files that are there, as addresses relative to the report."""

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
    """One address: what it is called, and where it leads, quoted for a page."""

    text: str
    address: str


def links_of(result: RunResult, run: Path, start: Path) -> tuple[Link, ...]:
    """Links to a run's folder, by its name, and to what it has of card, figures, predictions on test, results and log.

    Card, figures and predictions are those of the seed that is published; the ensemble has its own predictions.

    Args:
        result: What the run scored.
        run: Its folder.
        start: The folder that the addresses start from, in which or below which the run lies.
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
    """A relative address; ``./`` before it, so that no name in it is taken for a scheme."""
    relative = path.relative_to(start).as_posix()
    return quote("./" if relative == "." else f"./{relative}{'/' if path.is_dir() else ''}")
