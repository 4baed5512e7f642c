"""`medmnist_hf.metric` in use: in one call, in batches, row by row, in two processes, in a Trainer."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import EvalPrediction, Trainer, TrainingArguments

import medmnist_hf
from medmnist_hf.catalog import Task, subset, subsets
from medmnist_hf.errors import CatalogError, MedMNISTError, ScoreError
from medmnist_hf.evaluate_module import FOLDER, metric
from medmnist_hf.scoring.metrics import available
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check
from tests.fixtures.pages import METRIC_CARD, blocks

Array = npt.NDArray[Any]


def rows_of(flag: str, rows: int = 60, seed: int = 0) -> tuple[Array, Array]:
    """References as in the official files, and probabilities that are correlated with them."""
    rng = np.random.default_rng(seed)
    entry = subset(flag)
    labels = len(entry.labels)
    if entry.task is Task.MULTI_LABEL:
        references = (rng.random((rows, labels)) < 0.3).astype(np.uint8)
        return references, np.clip(0.5 * references + 0.7 * rng.random(references.shape), 0, 1)
    references = rng.integers(0, labels, (rows, 1)).astype(np.uint8)
    powers = np.exp(rng.normal(size=(rows, labels)) + (references == np.arange(labels)))
    return references, powers / powers.sum(axis=1, keepdims=True)


def expected(flag: str, references: Array, scores: Array) -> dict[str, float]:
    official = score(check(references, scores, subset(flag).task))
    return {"auc": official.auc, "acc": official.acc}


@pytest.mark.parametrize("flag", [entry.flag for entry in subsets()])
def test_every_subset_is_scored_like_the_official_scores(flag: str) -> None:
    references, scores = rows_of(flag, 200)
    assert medmnist_hf.metric(flag).compute(references=references, prediction_scores=scores) == expected(
        flag, references, scores
    )


def test_the_python_on_the_card_runs() -> None:
    load, output, trainer, evaluator = (block.text for block in blocks(METRIC_CARD) if block.language == "python")
    ids, probabilities = rows_of("pathmnist")
    names: dict[str, Any] = {"ids": ids, "probabilities": probabilities, "medmnist_hf": medmnist_hf}
    exec(load.replace('"medmnist/medmnist"', repr(str(FOLDER))), names)
    assert names["metric"].config_name == "pathmnist"
    exec(trainer, names | {"Trainer": lambda *_, compute_metrics: compute_metrics(EvalPrediction(probabilities, ids))})
    exec(evaluator.splitlines()[0], names)
    assert names["task"].task == "image-classification"
    references, scores = rows_of("breastmnist")
    result = metric("breastmnist").compute(references=references, prediction_scores=scores, ci=True)
    assert sorted(ast.literal_eval(output)) == sorted(result)


def test_the_card_lists_all_measures() -> None:
    text = METRIC_CARD.read_text(encoding="utf-8")
    listed = re.findall(r"`(\w+)`", text[text.index("- **measures**") : text.index("- **ci**")])
    assert sorted(listed) == sorted({name for task in Task for name in available(task)} - {"auc", "acc"})


def test_it_equals_what_evaluate_loads() -> None:
    loaded = evaluate.load(str(FOLDER), "pathmnist")
    own = medmnist_hf.metric("PathMNIST")
    assert (loaded.name, loaded.config_name) == (own.name, own.config_name) == ("medmnist", "pathmnist")
    assert loaded.features == own.features and isinstance(own, evaluate.Metric)
    references, scores = rows_of("pathmnist")
    rows = {"references": references, "prediction_scores": scores}
    assert loaded.compute(**rows) == own.compute(**rows)


def test_rows_passed_to_compute_are_not_written_to_files(tmp_path: Path) -> None:
    references, scores = rows_of("pathmnist")
    own = metric("pathmnist", keep_in_memory=False, cache_dir=str(tmp_path))
    assert own.compute(references=references, prediction_scores=scores) == expected("pathmnist", references, scores)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    own.add_batch(references=references, prediction_scores=scores)
    assert [path for path in tmp_path.rglob("*.arrow") if path.is_file()]
    assert own.compute() == expected("pathmnist", references, scores)


def test_a_real_prediction_file_has_the_scores_in_its_name(real_data: Path) -> None:
    (path,) = (real_data.parent / "predictions").iterdir()
    table = np.loadtxt(path, delimiter=",")
    references = np.load(real_data / "breastmnist.npz")["test_labels"]
    truth = references[table[:, 0].astype(int)]
    result = metric("breastmnist").compute(references=truth, prediction_scores=table[:, 1:])
    assert {name: f"{value:.3f}" for name, value in result.items()} == {"auc": "0.913", "acc": "0.846"}


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "chestmnist"])
def test_batches_and_single_rows_equal_one_call(flag: str, in_memory: bool, tmp_path: Path) -> None:
    references, scores = rows_of(flag)
    whole = expected(flag, references, scores)
    own = metric(flag, keep_in_memory=in_memory, cache_dir=str(tmp_path))
    for again in range(2):
        for start in range(0, 60, 17):
            part = slice(start, start + 17)
            own.add_batch(references=references[part], prediction_scores=scores[part])
        assert len(own) == 60
        assert own.compute() == whole, again
    for truth, row in zip(references, scores, strict=True):
        own.add(reference=truth if flag == "chestmnist" else int(truth[0]), prediction_scores=row.tolist())
    assert own.compute() == whole
    own.add_batch(references=references[:30], prediction_scores=scores[:30])
    assert own.compute(references=references[30:], prediction_scores=scores[30:]) == whole
    assert not list(tmp_path.rglob("*.arrow"))


def test_references_of_any_shape_give_the_same_result() -> None:
    references, scores = rows_of("chestmnist")
    whole = expected("chestmnist", references, scores)
    lists = [np.flatnonzero(row).tolist() for row in references]
    assert [] in lists or min(map(len, lists)) < max(map(len, lists))
    own = metric("chestmnist")
    for shape in (references, references.tolist(), lists, torch.tensor(references), references.astype(bool)):
        assert own.compute(references=shape, prediction_scores=scores) == whole
    for findings, row in zip(lists, torch.tensor(scores), strict=True):
        own.add(reference=findings, prediction_scores=row)
    assert own.compute() == whole
    references, scores = rows_of("breastmnist")
    whole = expected("breastmnist", references, scores)
    for truth in (references, references[:, 0], references[:, 0].tolist(), np.eye(2)[references[:, 0]]):
        for table in (scores, scores[:, 1], scores[:, 1:], torch.tensor(scores, requires_grad=True)):
            assert metric("breastmnist").compute(references=truth, prediction_scores=table) == whole


def test_float64_and_float32_scores_are_unchanged() -> None:
    """Scores that only differ in the last bit are ranked; in float32 they would be ties."""
    scores = np.nextafter(0.3, 1) + np.arange(8) * np.spacing(0.3)
    references = [0, 0, 0, 0, 1, 1, 1, 1]
    assert len(np.unique(scores.astype(np.float32))) == 1
    for in_memory in (True, False):
        own = metric("binary-class", keep_in_memory=in_memory)
        assert own.compute(references=references, prediction_scores=scores)["auc"] == 1.0
    references2, scores2 = rows_of("pathmnist", 300)
    single = scores2.astype(np.float32)
    rows = {"references": references2, "prediction_scores": single}
    assert metric("pathmnist").compute(**rows) == expected("pathmnist", references2, single)


def test_a_failing_compute_keeps_the_added_rows(tmp_path: Path) -> None:
    references, scores = rows_of("pathmnist")
    logits = np.log(scores)
    for in_memory in (True, False):
        own = metric("pathmnist", keep_in_memory=in_memory, cache_dir=str(tmp_path))
        own.add_batch(references=references, prediction_scores=logits)
        with pytest.raises(ScoreError, match="pass from_logits=True"):
            own.compute()
        with pytest.raises(ScoreError, match="pass from_logits=True"):
            own.compute(references=references, prediction_scores=logits)
        with pytest.raises(ScoreError, match="unknown measure 'f2'"):
            own.compute(from_logits=True, measures=["f2"])
        assert len(own) == 60
        result = own.compute(from_logits=True)
        assert result == pytest.approx(expected("pathmnist", references, scores), abs=1e-12)
        assert len(own) == 0
        with pytest.raises(ScoreError, match="nothing to score"):
            own.compute()
    assert not list(tmp_path.rglob("*.arrow"))


PROCESS = """
import json, sys
import numpy as np
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.evaluate_module import metric
rank, folder = int(sys.argv[1]), sys.argv[2]
rows = np.load(folder + "/rows.npz")
references, scores = rows["references"], rows["scores"]
def created(name, config="chestmnist"):
    return metric(config, num_process=2, process_id=rank, cache_dir=folder, experiment_id=name, timeout=90)
halves = created("halves")
part = slice(0, 25) if rank == 0 else slice(25, 60)
lists = [np.flatnonzero(row).tolist() for row in references[part]]
halves.add_batch(references=lists[:10], prediction_scores=scores[part][:10])
halves.add_batch(references=lists[10:], prediction_scores=scores[part][10:])
results = [halves.compute()]
share = created("share")
if rank == 0:
    share.add_batch(references=references, prediction_scores=scores)
else:
    share.add_batch(references=references[:0], prediction_scores=scores[:0])
results.append(share.compute())
bad, mixed = created("bad"), created("mixed", "binary-class")
bad.add_batch(references=references[part], prediction_scores=scores[part] * 7)
mixed.add_batch(references=references[part, 0], prediction_scores=scores[part, : 1 + rank])
for failing in (bad, mixed):
    try:
        results.append(failing.compute())
    except MedMNISTError as error:
        results.append(str(error))
print(json.dumps(results))
"""


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    references, scores = rows_of("chestmnist")
    np.savez(tmp_path / "rows.npz", references=references, scores=scores)
    started = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    answers = [json.loads(process.communicate(timeout=180)[0]) for process in started]
    whole = expected("chestmnist", references, scores)
    assert answers[0][:2] == [whole, whole] and "pass from_logits=True" in answers[0][2]
    assert answers[0][3] == "scores have 1 column in some batches and 2 in others: add the same number"
    assert answers[1] == [None] * 4
    assert not list(tmp_path.rglob("*.arrow"))


class Tiny(torch.nn.Module):
    """Returns two logits for one pixel and, like many models, its hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, 2)

    def forward(self, image: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.head(image)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits, "hidden": image}


@pytest.mark.parametrize("by_batch", [False, True])
def test_as_compute_metrics_of_a_trainer(tmp_path: Path, by_batch: bool) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = [
        {"image": np.array([rng.normal() + label], np.float32), "labels": label} for label in [0, 1] * 20
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        per_device_eval_batch_size=7,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        batch_eval_metrics=by_batch,
    )
    model = Tiny()
    own = metric("breastmnist")
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=own.as_compute_metrics(from_logits=True, measures=["brier"]),
    )
    trainer.train()
    result = trainer.evaluate()
    pixels = torch.tensor(np.stack([row["image"] for row in rows]))
    with torch.no_grad():
        probabilities = torch.softmax(model.head(pixels).double(), dim=1).numpy()
    whole = score(check([row["labels"] for row in rows], probabilities, "binary-class"))
    assert (result["eval_auc"], result["eval_acc"]) == pytest.approx((whole.auc, whole.acc), abs=1e-6)
    assert 0 < result["eval_brier"] < 1
    assert any("eval_auc" in entry for entry in trainer.state.log_history)


def test_from_logits_is_required_for_a_trainer() -> None:
    """The small logits of an untrained model could be mistaken for probabilities."""
    with pytest.raises(TypeError, match="from_logits"):
        metric("breastmnist").as_compute_metrics()
    with pytest.raises(ScoreError, match="unknown option 'level'"):
        metric("breastmnist").as_compute_metrics(from_logits=True, level=0.9)
    prediction = EvalPrediction(predictions=np.array([[0.1, 0.3], [0.4, 0.2]]), label_ids=np.array([1, 0]))
    assert metric("breastmnist").as_compute_metrics(from_logits=True)(prediction) == {"auc": 1.0, "acc": 1.0}


def test_combined_with_another_metric() -> None:
    references, scores = rows_of("breastmnist")
    both = evaluate.combine({"one": metric("breastmnist"), "two": metric("binary-class")}, force_prefix=True)
    both.add_batch(references=references, prediction_scores=scores)
    whole = expected("breastmnist", references, scores)
    assert both.compute() == {f"{name}_{key}": value for name in ("one", "two") for key, value in whole.items()}


@pytest.mark.parametrize(
    ("references", "scores", "message"),
    [
        ([0, 1], [[0.5, float("nan")], [0.5, 0.5]], "scores hold nan at row 0, column 1"),
        ([0, 1], [[0.5, 0.5], [float("inf"), 0.5]], "scores hold inf at row 1, column 0"),
        ([0, 1], [[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], "scores have 3 columns"),
        ([0, 1, 1], [[0.5, 0.5], [0.5, 0.5]], "3 references but 2 rows of scores"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "class id 2 at row 1 is out of range"),
        ([0, -1], [[0.5, 0.5], [0.5, 0.5]], "class id -1 at row 1 is out of range"),
        ([], [], "are empty"),
        ([0], [], "are empty"),
        (["a", "b"], [[0.5, 0.5], [0.5, 0.5]], "references have type <U1"),
        ([0, 1], [["a", "b"], ["c", "d"]], "scores have type <U1"),
        ([0, 1], [[0.5], [0.5, 0.5]], "not a table of numbers"),
        (None, [[0.5, 0.5]], "references are missing"),
        ([0], None, "prediction_scores are missing"),
        ([0, 1], [0.5, 3.0], "outside 0..1: pass from_logits=True"),
    ],
)
def test_invalid_rows_give_a_one_line_error(references: object, scores: object, message: str, tmp_path: Path) -> None:
    own = metric("breastmnist", keep_in_memory=False, cache_dir=str(tmp_path))
    with pytest.raises(ScoreError, match=message) as caught:
        own.compute(references=references, prediction_scores=scores)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.arrow"))
    assert own.compute(references=[0, 1], prediction_scores=[0.2, 0.7]) == {"auc": 1.0, "acc": 1.0}


def test_invalid_configs_and_options_give_a_one_line_error() -> None:
    cases: list[tuple[type[MedMNISTError], str, tuple[Any, ...], dict[str, Any]]] = [
        (CatalogError, "did you mean 'pathmnist'", ("pathmnits",), {}),
        (CatalogError, "the config is missing: pass a subset such as", ("default",), {}),
        (ScoreError, "num_classes=3: pathmnist has 9", ("pathmnist",), {"num_classes": 3}),
        (ScoreError, "process_id", ("pathmnist",), {"process_id": 2}),
        (ScoreError, "keep_in_memory", ("pathmnist",), {"num_process": 2, "keep_in_memory": True}),
    ]
    for kind, message, names, options in cases:
        with pytest.raises(kind, match=message) as caught:
            metric(*names, **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(CatalogError, match="the config is missing"):
        evaluate.load(str(FOLDER))
    with pytest.raises(ScoreError, match="unknown option 'frm_logits': choose from from_logits"):
        metric("breastmnist").compute(references=[0, 1], prediction_scores=[0.2, 0.7], frm_logits=True)


def test_without_evaluate_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evaluate", None)
    with pytest.raises(MedMNISTError, match=r"pip install 'medmnist-hf\[evaluate\]'") as caught:
        medmnist_hf.metric("pathmnist")
    assert "\n" not in str(caught.value)


def test_metric_is_importable_without_evaluate_and_torch() -> None:
    """The function exists and checks the subset before anything slow is imported."""
    code = (
        "import sys, medmnist_hf\n"
        "try: medmnist_hf.metric('pathmnits')\n"
        "except medmnist_hf.MedMNISTError: pass\n"
        "heavy = {'evaluate', 'torch', 'datasets'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": ""})


def test_references_and_scores_by_position() -> None:
    """The order is that of scikit-learn: ground truth first, then scores."""
    own, truth, scores = medmnist_hf.metric("breastmnist"), [0, 1, 1], [0.1, 0.9, 0.05]
    by_name = own.compute(references=truth, prediction_scores=scores)
    assert own.compute([0, 1], [0.1, 0.9]) == {"auc": 1.0, "acc": 1.0}
    assert own.compute(truth, scores) == by_name
    own.add_batch(truth[:2], scores[:2])
    own.add(truth[2], scores[2])
    assert own.compute() == by_name
