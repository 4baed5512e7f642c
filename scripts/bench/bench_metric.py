"""Time AUC and ACC of the official evaluator, scikit-learn, plain `evaluate` and ours, and our bootstrap.

Inputs are generated with the shapes of the TissueMNIST (47,280 x 8, multi-class) and ChestMNIST (22,433 x 14,
multi-label) test splits. The plain `evaluate` module is ``peer_metric.py``. Needs the development tools (scikit-learn,
`evaluate` and the ``medmnist`` package).

Example:
    python scripts/bench/bench_metric.py --repeats 9 --resamples 1000
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from medmnist_hf import console
from medmnist_hf.array_types import Array
from medmnist_hf.catalog import Task, subset
from medmnist_hf.console.program import Program
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.evaluate_module import FOLDER, metric
from medmnist_hf.scoring.bootstrap import bootstrap
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check

FLAGS: Final = ("tissuemnist", "chestmnist")
DTYPES: Final = ("float64", "float32")

app = Program(add_completion=False)


def make_inputs(flag: str, dtype: str) -> tuple[Array, Array, Task]:
    """Generate seeded references and probabilities with the shape of a subset's test split."""
    entry = subset(flag)
    rows, labels = entry.counts.test, len(entry.labels)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(rows, labels))
    if entry.task is Task.MULTI_LABEL:
        references = (rng.random((rows, labels)) < 0.05).astype(np.uint8)
        scores = 1 / (1 + np.exp(3 - noise - 1.2 * references))
    else:
        # Class shares decrease as in TissueMNIST, from about a third to a few percent.
        shares = 0.75 ** np.arange(labels)
        references = rng.choice(labels, (rows, 1), p=shares / shares.sum()).astype(np.uint8)
        powers = np.exp(noise + 2.0 * (references == np.arange(labels)))
        scores = powers / powers.sum(axis=1, keepdims=True)
    return references, scores.astype(dtype), entry.task


def scikit_learn(references: Array, scores: Array, task: Task) -> tuple[float, float]:
    """AUC and ACC, averaged by scikit-learn."""
    from sklearn.metrics import accuracy_score, roc_auc_score

    if task is Task.MULTI_LABEL:
        flagged = scores > 0.5
        return roc_auc_score(references, scores), float(np.mean(flagged == references))
    wide = scores.astype(np.float64)
    wide /= wide.sum(axis=1, keepdims=True)
    ids = references[:, 0]
    return roc_auc_score(ids, wide, multi_class="ovr"), accuracy_score(ids, scores.argmax(axis=1))


def evaluate_modules(flag: str, references: Array, scores: Array, task: Task) -> dict[str, Callable[[], Any]]:
    """Calls of `evaluate` modules on the same rows: the plain one, ours loaded by `evaluate`, and ours in memory."""
    import evaluate  # here, because it imports torch, which would count as memory of the bootstrap

    multi_label = task is Task.MULTI_LABEL
    path = Path(__file__).with_name("peer_metric.py")
    plain = evaluate.load(str(path), "multilabel" if multi_label else "multiclass")
    ours, in_memory = evaluate.load(str(FOLDER), flag), metric(flag)
    ids = references if multi_label else references[:, 0]
    # scikit-learn requires rows that sum to one, which float32 rows do not do exactly.
    wide = scores.astype(np.float64)
    wide = wide if multi_label else wide / wide.sum(axis=1, keepdims=True)
    return {
        "evaluate": lambda: plain.compute(references=ids, prediction_scores=wide),
        "evaluate_ours": lambda: ours.compute(references=references, prediction_scores=scores),
        "evaluate_ours_in_memory": lambda: in_memory.compute(references=references, prediction_scores=scores),
    }


def seconds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each call; calls take turns, so that a busy machine slows all of them equally."""
    durations: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                durations[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in durations.items()}


def peak_mb() -> float:
    """Peak memory of this process in MB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage starts a child process at its parent's peak; this counts from the start of the program.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def own_bootstrap(flag: str, dtype: str, resamples: int) -> dict[str, float]:
    """Seconds of our bootstrap of AUC and ACC, and peak memory of this process in MB, before and after."""
    references, scores, task = make_inputs(flag, dtype)
    before = peak_mb()
    start = time.perf_counter()
    intervals = bootstrap(check(references, scores, task), ["auc", "acc"], resamples=resamples)
    duration = time.perf_counter() - start
    after = peak_mb()
    half = (intervals["auc"].high - intervals["auc"].low) / 2
    return {"seconds": duration, "mb_before": before, "mb_peak": after, "auc_half_width": half}


def compare_all(flag: str, dtype: str, repeats: int, resamples: int) -> dict[str, float | str]:
    """One row of the table: time all implementations in turn, then our bootstrap in a separate process."""
    from medmnist import evaluator as official  # imports torch, which would count as memory of the bootstrap

    references, scores, task = make_inputs(flag, dtype)
    name = task.official_name
    official_auc, official_acc = official.getAUC(references, scores, name), official.getACC(references, scores, name)
    ours = score(check(references, scores, task))
    modules = evaluate_modules(flag, references, scores, task)
    by_module = modules["evaluate_ours"]()
    durations = seconds(
        {
            "official": lambda: (official.getAUC(references, scores, name), official.getACC(references, scores, name)),
            "sklearn": lambda: scikit_learn(references, scores, task),
            "ours": lambda: score(check(references, scores, task)),
            **modules,
        },
        repeats,
    )
    command = [sys.executable, __file__, "--own", flag, "--dtype", dtype, "--resamples", str(resamples)]
    own = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {
        "input": f"{flag} {len(scores):,} x {scores.shape[1]} {dtype}",
        "official_s": durations["official"],
        "sklearn_s": durations["sklearn"],
        "ours_s": durations["ours"],
        "official_over_ours": durations["official"] / durations["ours"],
        "sklearn_over_ours": durations["sklearn"] / durations["ours"],
        "evaluate_s": durations["evaluate"],
        "evaluate_ours_s": durations["evaluate_ours"],
        "evaluate_ours_in_memory_s": durations["evaluate_ours_in_memory"],
        "evaluate_over_ours": durations["evaluate"] / durations["evaluate_ours"],
        "largest_difference": max(
            *(abs(official_auc - auc) for auc in (ours.auc, by_module["auc"])),
            *(abs(official_acc - acc) for acc in (ours.acc, by_module["acc"])),
        ),
        "bootstrap_s": own["seconds"],
        "peak_mb": own["mb_peak"],
        "peak_mb_above_inputs": own["mb_peak"] - own["mb_before"],
    }


@app.command(epilog="Example: python scripts/bench/bench_metric.py --repeats 9 --resamples 1000")
def main(
    repeats: Annotated[int, typer.Option(min=1, help="Timed turns of each implementation.")] = 7,
    resamples: Annotated[int, typer.Option(min=2, help="Bootstrap resamples.")] = 1000,
    dtype: Annotated[str | None, typer.Option(help="Dtype of scores, float32 or float64. [default: both]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of the table.")] = False,
    own: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time AUC and ACC of the official evaluator, scikit-learn, plain `evaluate` and ours."""
    if own is not None:
        console.print_json(own_bootstrap(own, dtype or "float64", resamples))
        return
    if dtype not in (None, *DTYPES):
        raise MedMNISTError(f"--dtype is {dtype}: choose from {', '.join(DTYPES)}")
    dtypes = [dtype] if dtype else DTYPES
    rows = [compare_all(flag, scores_dtype, repeats, resamples) for flag in FLAGS for scores_dtype in dtypes]
    if as_json:
        console.print_json(rows)
        return
    for row in rows:
        print(row["input"])
        for key, value in row.items():
            if key != "input":
                print(f"  {key:<26}{value:>12.4g}")


if __name__ == "__main__":
    console.run(app)
