"""A run's results as a table on the terminal, beside the published rows of its subset."""

from pathlib import Path
from typing import Any

from rich.console import Console

from medmnist_hf import console
from medmnist_hf.scoring.published import leaderboard, published_notes, published_size
from medmnist_hf.training.registry import method


def own_name(results: dict[str, Any]) -> str:
    """How a run is called in a table, e.g. ``timm/resnet18 finetune (28)`` or ``FLAML, flattened pixels (28)``."""
    engine = method(results["method"]).engine
    if engine is None:
        return f"{results['model']} {results['method']} ({results['size']})"
    facts = [run["facts"] for run in results["runs"]]
    mark = ", partial" if any("partial" in one for one in facts) else ""
    return f"{engine.title}, {facts[0]['inputs']} ({results['size']}){mark}"


def print_results(results: dict[str, Any], folder: Path, *, ranked: bool = True) -> None:
    """Print each seed and, if test was scored, their mean beside the published rows.

    Args:
        results: What ``results.json`` holds.
        folder: The run's folder.
        ranked: Show the published rows; False for data that they are not of.
    """
    out = console.terminal()
    columns = ("seed", "validation AUC", "ACC", "test AUC", "95 % interval", "test ACC", "95 % interval ", "seconds")
    seeds = console.table(*columns, text=())
    for run in results["runs"]:
        seeds.add_row(str(run["seed"]), *_scored(run), f"{run['facts']['seconds']:,.1f}")
    if results["ensemble"]:
        seeds.add_row("ensemble", *_scored(results["ensemble"]), "")
    out.print(seeds)
    for run in results["runs"]:
        if "engine" in run["facts"]:
            out.print(_search(run), soft_wrap=True)
    flag, size = results["dataset"], results["size"]
    split = "test" if results["test"] else "validation"
    auc, acc = results[split]["auc"], results[split]["acc"]
    out.print(
        f"\n{flag} {size}, {own_name(results)}, {len(results['runs'])} seed(s): "
        f"{split} AUC {_spread(auc)}, ACC {_spread(acc)}\n",
        soft_wrap=True,
    )
    if results["test"] and ranked:
        _print_leaderboard(out, results)
    out.print(f"written to {folder}", soft_wrap=True)


def _print_leaderboard(out: Console, results: dict[str, Any]) -> None:
    flag, size, test = results["dataset"], results["size"], results["test"]
    rows = console.table("place", "AUC", "ACC", "method", text=("method",))
    own = [(own_name(results), test["auc"]["mean"], test["acc"]["mean"])]
    if results["ensemble"]:
        name, together = f"{own_name(results)}, ensemble of the seeds", results["ensemble"]["test"]
        own.append((name, together["auc"], together["acc"]))
    for place in leaderboard(flag, own):
        mark = "* " if place.own else "  "
        rows.add_row(str(place.auc_rank), _digits(place.auc), _digits(place.acc), mark + place.name)
    out.print(rows)
    notes = list(published_notes(flag))
    if size != published_size():
        notes.insert(0, f"published rows are of images of {published_size()}, this run of {size}")
    for note in notes:
        out.print(f"note: {note}", soft_wrap=True)
    out.print()


def _search(run: dict[str, Any]) -> str:
    """The search of one seed in a line."""
    facts = run["facts"]
    told = f"{facts['engine']}, {facts['trials']} trials in {facts['search_seconds']:,.0f} s"
    return f"seed {run['seed']}: {told}" + (f"; partial: {facts['partial']}" if "partial" in facts else "")


def _scored(run: dict[str, Any]) -> list[str]:
    """AUC and ACC of validation, and of test with intervals."""
    validation = [_digits(run["validation"][name]) for name in ("auc", "acc")]
    return validation + [text for name in ("auc", "acc") for text in _with_interval(run["test"], name)]


def _with_interval(test: dict[str, float | None], name: str) -> tuple[str, str]:
    low, high = (_digits(test.get(f"{name}_{end}")) for end in ("low", "high"))
    return _digits(test.get(name)), f"{low} to {high}" if test else "-"


def _digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _spread(value: dict[str, float]) -> str:
    return f"{_digits(value['mean'])} ± {_digits(value['std'])}"
