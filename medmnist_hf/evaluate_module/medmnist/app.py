"""The Space of the metric: paste references and scores to get AUC, ACC and their intervals."""

import csv
import io
import json
import warnings
from pathlib import Path
from typing import Any

import evaluate

from medmnist_hf.errors import MedMNISTError, ScoreError
from medmnist_hf.evaluate_module import report

MODULE = Path(__file__).with_name("medmnist.py")
EXAMPLE = "0, 0.8, 0.2\n1, 0.1, 0.9\n1, 0.6, 0.4\n0, 0.7, 0.3\n"


def parse(text: str) -> tuple[list[list[int]], list[list[float]]]:
    """Parse pasted lines ``reference, score, score, ...`` to references, one list of ids per row, and rows of scores.

    Raises:
        ScoreError: There are no lines, or a line is not valid; the message names it.
    """
    references, scores = [], []
    for number, cells in enumerate(csv.reader(io.StringIO(text)), start=1):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            references.append([int(label) for label in cells[0].split()])
            scores.append([float(cell) for cell in cells[1:]])
        except ValueError:
            raise ScoreError(f"line {number} is not `reference, score, score, ...`: {','.join(cells)[:60]}") from None
        if len(scores[-1]) != len(scores[0]) or not scores[-1]:
            raise ScoreError(
                f"line {number} has {len(scores[-1])} scores: give every line the same number, at least 1"
            )
    if not references:
        raise ScoreError("no lines: paste one line `reference, score, score, ...` per row")
    return references, scores


def answer(config: str, text: str, logits: bool = False, intervals: bool = False) -> str:
    """The metric of pasted rows as JSON, or a one-line error message."""
    try:
        references, scores = parse(text)
        metric = evaluate.load(str(MODULE), config, keep_in_memory=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = metric.compute(
                references=references, prediction_scores=scores, from_logits=logits or None, ci=intervals or None
            )
    except MedMNISTError as error:
        return f"Error: {error}"
    notes = [f"Note: {entry.message}" for entry in caught if issubclass(entry.category, UserWarning)]
    return "\n".join([json.dumps(result, indent=2), *notes])


def build() -> Any:
    """The page of the Space."""
    import gradio  # installed in the Space; `answer` does not need it

    return gradio.Interface(
        fn=answer,
        inputs=[
            gradio.Dropdown(list(report.configs()), value="breastmnist", label="subset, or task of other data"),
            gradio.Textbox(EXAMPLE, lines=12, label="reference, score, score, ... (findings separated by spaces)"),
            gradio.Checkbox(label="the scores are logits"),
            gradio.Checkbox(label="95 % intervals"),
        ],
        outputs=gradio.Textbox(label="result", lines=12),
        title="MedMNIST metric",
        description="AUC and ACC with the semantics of the official MedMNIST evaluator. Not for clinical use.",
    )


if __name__ == "__main__":
    build().launch()
