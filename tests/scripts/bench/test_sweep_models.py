"""``scripts/bench/sweep_models.py``: every family of networks works, or is refused as the docs say."""

import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest
import timm

from scripts.bench.sweep_models import (
    BEGIN,
    TIMM,
    Outcome,
    members,
    read_outcomes,
    run,
    sweep,
    table,
    with_table,
    write_outcomes,
)
from tests.fixtures.paths import ROOT

PAGE = ROOT / "docs" / "training" / "networks.md"
SHIPPED = {one.name: one for one in read_outcomes(PAGE.with_suffix(".jsonl"))}
SCRIPT = ROOT / "scripts" / "bench" / "sweep_models.py"


def test_every_family_is_in_it_and_in_the_docs_without_a_fault() -> None:
    modules = {timm.model_entrypoint(name).__module__.rpartition(".")[2] for name in TIMM}
    assert modules == {timm.model_entrypoint(name).__module__.rpartition(".")[2] for name in timm.list_models()}
    assert list(SHIPPED) == members()
    assert not any(one.faults for one in SHIPPED.values())


def test_the_table_is_that_of_the_outcomes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_table(text, list(SHIPPED.values())) == text, f"stale: run {SCRIPT.relative_to(ROOT)}, see --help"
    with pytest.raises(ValueError, match=f"no lines {BEGIN.strip()!r}"):
        with_table("# Networks", [])


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_nfnet", "timm/test_vit", "resnet"])
def test_a_small_network_is_as_the_docs_say(name: str) -> None:
    assert asdict(sweep(name)) == asdict(SHIPPED[name])


def test_the_table_tells_sizes_and_reasons() -> None:
    refused = {str(size): f"timm/test_vit sees {size} | of it" for size in (28, 64)} | {"volumes": "no volumes"}
    row = table([Outcome("timm/test_vit", [128], refused, "occlusion", "spread")]).splitlines()[-1]
    reasons = r"28, 64: `sees N \| of it`<br>volumes: `no volumes`"
    assert row == f"| vision_transformer | `timm/test_vit` | 128 | occlusion | spread | {reasons} |"


def test_what_fails_or_hangs_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from medmnist_hf.training.models import factory

    def fail(recipe: Any) -> None:
        raise LookupError("such a thing")

    def spin(recipe: Any) -> None:
        while True:
            pass

    monkeypatch.setattr(factory, "build_model", fail)
    assert sweep("timm/test_resnet", [28]).faults == ["28, RGB: LookupError: such a thing"]
    monkeypatch.setattr(factory, "build_model", spin)
    assert sweep("timm/test_resnet", [28], seconds=0.5).faults == ["took more than 0.5 seconds of processor time"]


def test_outcomes_are_kept_and_not_done_again(tmp_path: Any) -> None:
    results = tmp_path / "outcomes.jsonl"
    command = [sys.executable, str(SCRIPT), "--only", "^timm/test_resnet$", "--results", str(results)]
    write_outcomes([Outcome("timm/test_resnet", [28], faults=["28, RGB: LookupError"])], results)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1 of 1 networks, 1 faults\ntimm/test_resnet: 28, RGB: LookupError\n"


@pytest.mark.slow
def test_every_family_works_or_is_refused_as_the_docs_say() -> None:
    outcomes = {one.name: one for one in run(members(), workers=2)}
    assert not [(one.name, one.faults) for one in outcomes.values() if one.faults]
    assert {name: asdict(one) for name, one in outcomes.items()} == {
        name: asdict(one) for name, one in SHIPPED.items()
    }
