"""The page for users of the official package covers all of its names, and its counterparts here exist."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.fixtures.pages import blocks
from tests.fixtures.paths import ROOT

PAGE: Final = ROOT / "docs/coming-from-medmnist.md"
TEXT: Final = PAGE.read_text(encoding="utf-8")
CODE: Final = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))


def official(module: str) -> ast.Module:
    """The source of a module of the official package, whose import would create a folder in the user's home."""
    spec = importlib.util.find_spec("medmnist")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the official package is not installed", name="medmnist")
    return ast.parse((Path(next(iter(spec.submodule_search_locations))) / module).read_text(encoding="utf-8"))


def assigned(nodes: list[ast.stmt]) -> Iterator[str]:
    """Names that statements assign to, including attributes of ``self``."""
    for node in nodes:
        for target in [target for part in ast.walk(node) if isinstance(part, ast.Assign) for target in part.targets]:
            if isinstance(target, ast.Name):
                yield target.id
            elif isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                yield target.attr


def arguments(function: ast.FunctionDef) -> list[str]:
    return [one.arg for one in function.args.args if one.arg not in {"self", "cls"}]


def names_of_module(tree: ast.Module, *, with_arguments: bool) -> Iterator[str]:
    """Public names of a module: functions, classes with methods and attributes, and optionally arguments."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from assigned([node])
        elif isinstance(node, ast.FunctionDef):
            yield from (node.name, *(arguments(node) if with_arguments else ()))
        elif isinstance(node, ast.ClassDef):
            yield node.name
            yield from assigned([part for part in node.body if isinstance(part, ast.Assign)])
            for method in (part for part in node.body if isinstance(part, ast.FunctionDef)):
                if method.name == "__init__":
                    yield from (*assigned(method.body), *arguments(method))
                elif not method.name.startswith("_"):
                    yield from (method.name, *arguments(method))


def names() -> set[str]:
    found = set()
    for module in ("info.py", "dataset.py", "evaluator.py", "utils.py", "__main__.py"):
        found |= set(names_of_module(official(module), with_arguments=module == "evaluator.py"))
    (info,) = [
        node.value for node in official("info.py").body if isinstance(node, ast.Assign) and "INFO" in assigned([node])
    ]
    found |= {key for entry in ast.literal_eval(info).values() for key in entry}
    return {name for name in found if not name.startswith("_")} - {"npz_file"}


def test_there_are_names_of_every_kind() -> None:
    assert {"PathMNIST", "imgs", "as_rgb", "getAUC", "threshold", "save_fn", "available", "n_samples"} <= names()
    assert len(names()) > 80


@pytest.mark.parametrize("name", sorted(names()))
def test_a_public_name_of_the_official_package_is_on_the_page(name: str) -> None:
    words = {word for code in CODE for word in re.findall(r"(?<![\w.])\w+", code)}
    assert name in words


SAME: Final = """
import numpy as np, torch

there = [BreastMNIST(split, transform=transform, root="npz") for split in ("train", "test")]
{after}
here = [next(iter(ArrayLoader(arrays, len(arrays.labels), transform=transform))) for arrays in (train, test)]
for rows, batch in zip(there, here, strict=True):
    images, labels = next(iter(DataLoader(rows, len(rows))))
    torch.testing.assert_close(batch["pixel_values"], images)
    assert torch.equal(batch["labels"], labels.squeeze(1))
result = medmnist_hf.metric("breastmnist").compute(test.labels, scores)
official = Evaluator("breastmnist", "test", root="npz").evaluate(scores)
np.testing.assert_allclose((result["auc"], result["acc"]), official, rtol=0, atol=1e-12)
"""
"""Runs the page's two programs in one session, then compares batches and scores."""


@pytest.mark.slow
def test_one_line_changed_gives_the_same(real_data: Path, tmp_path: Path) -> None:
    before, line, _ = (block.text for block in blocks(PAGE) if block.language == "python")
    second = f"{before.splitlines()[1]}\n"
    (tmp_path / "npz").symlink_to(real_data)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}
    scores = []
    for code in (before, before.replace(second, line)):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
        scores.append([float(number) for number in re.findall(r"0\.\d+", done.stdout)])
    there, here = scores
    assert len(here) == 2 and here == pytest.approx(there, abs=1e-12)


@pytest.mark.slow
def test_both_programs_run_and_read_the_same(real_data: Path, tmp_path: Path) -> None:
    before, _, after = (block.text for block in blocks(PAGE) if block.language == "python")
    (tmp_path / "npz").symlink_to(real_data)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}
    code = before + SAME.format(after=after)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    (predictions,) = (tmp_path / "predictions").iterdir()
    evaluate = f"from medmnist import Evaluator; Evaluator.parse_and_evaluate({str(predictions)!r})"
    (tmp_path / ".medmnist").rmdir()
    (tmp_path / ".medmnist").symlink_to(real_data)
    subprocess.run([sys.executable, "-c", evaluate], cwd=tmp_path, env=environment, check=True)
    assert list((tmp_path / "predictions").iterdir()) == [predictions], "the official package wrote another name"
