"""``medmnist-hf push-metric`` as a maintainer runs it, and the metric that users then load by name."""

import json

import pytest

from tests.fixtures.hub.server import HubServer

PUSH = "scripts/push_metric.py"
REFERENCES = [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
SCORES = [[((7 * row + 3 * column) % 11) / 11 for column in range(5)] for row in range(10)]
LOAD = """
import json, sys
sys.modules["transformers"] = None  # a metric does not need it, and its import is slow
import evaluate, medmnist_hf
del sys.modules["transformers"]
references, scores = json.loads(sys.argv[1])
metrics = [evaluate.load("org/medmnist", "retinamnist", **options) for options in ({}, {"revision": "v1"})]
metrics.append(medmnist_hf.metric("retinamnist"))
print(json.dumps([[type(metric).__module__, metric.compute(references=references, prediction_scores=scores)]
                  for metric in metrics]))
"""


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.mark.slow
def test_the_pushed_metric_is_loaded_by_name(hub: HubServer) -> None:
    where = ("--repo-id", "org/medmnist")
    shown = hub.script(PUSH, *where)
    assert last_line(shown.stdout).startswith("nothing was changed") and not hub.store.repos
    assert "new      medmnist.py" in shown.stdout
    process = hub.script(PUSH, *where, "--yes", "--tag", "v1", "--message", "First")
    assert "all files checked, tagged v1" in last_line(process.stdout)
    repo = hub.store.repos["space", "org/medmnist"]
    assert next(repo.history(repo.resolve("v1"))).title == "First"
    again = hub.script(PUSH, *where, "--yes", "--tag", "v1")
    assert "unchanged, no commit made" in last_line(again.stdout) and len(repo.commits) == 2
    output = hub.python(LOAD, json.dumps([REFERENCES, SCORES]), env=hub.env(anonymous=True)).stdout
    (latest, tagged, local) = json.loads(output)
    assert latest[1] == tagged[1] == local[1] and set(local[1]) == {"auc", "acc"}
    assert local[0] == "medmnist_hf.evaluate_module.medmnist.medmnist"
    assert latest[0] == tagged[0] and latest[0].startswith("evaluate_modules.metrics.org--medmnist.")
    assert not hub.log.find(path="^http")


def test_a_mistake_is_one_line_without_the_token(hub: HubServer) -> None:
    process = hub.script(PUSH, "--repo-id", "org/medmnist", "--yes", env=hub.env(hub.read_token), check=False)
    (line,) = process.stderr.splitlines()
    assert process.returncode == 1 and line.startswith("error: ") and "write access" in line
    assert "hf_" not in process.stdout + process.stderr and not hub.store.repos
