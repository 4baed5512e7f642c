"""`medmnist_hf.training.publish`: which files of a run are pushed, what a second push changes, what is refused."""

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, parse_eval_result_entries
from PIL import Image

from medmnist_hf.catalog import subset
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.errors import HubError, TrainingError
from medmnist_hf.hub import client
from medmnist_hf.hub.eval_results import RESULTS_PATH
from medmnist_hf.training.publish import check_push, local_files, push_model
from medmnist_hf.training.recipe import Recipe, make_recipe
from medmnist_hf.training.report.publishable import best_seed, portable
from medmnist_hf.training.results import RESULTS_NAME, read_results
from medmnist_hf.training.running import run
from tests.conftest import Phantoms
from tests.fixtures.hub.server import Fault, HubServer
from tests.fixtures.runs import build_all, tiny

ID = "org/tiny"
MODEL = {"config.json", "model.safetensors"}
CHANGES = "/commit/|/lfs/|/repos/create|/branch/"
"""Requests that change a repository."""


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "bloodmnist")


def png(gray: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (2, 2), gray).save(buffer, "PNG")
    return buffer.getvalue()


def of_timm(root: Path) -> Recipe:
    return tiny(root, "bloodmnist", seeds=(0, 3), repository="org/bloodmnist")


@pytest.fixture(scope="module")
def done(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a timm network with two seeds."""
    folder = tmp_path_factory.mktemp("timm")
    run(of_timm(root), folder, quiet=True)
    (figures := folder / "seed-0" / "figures").mkdir(exist_ok=True)
    shutil.copytree(figures, folder / "seed-3" / "figures", dirs_exist_ok=True)
    for seed in (0, 3):
        (folder / f"seed-{seed}" / "figures" / "curves.png").write_bytes(png(seed))
    return folder


@pytest.fixture(scope="module")
def other(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the paper's network, which needs an image processor, without a scored test split."""
    folder = tmp_path_factory.mktemp("paper")
    run(tiny(root, "bloodmnist", model="resnet18", method="linear-probe", test=False), folder, quiet=True)
    shutil.rmtree(folder / "seed-0" / "figures", ignore_errors=True)
    return folder


@pytest.fixture
def api(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    """The client of a maintainer of ``org``, with short waits between retries."""
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    return hub.api()


def model_files(hub: HubServer, revision: str = "main") -> dict[str, bytes]:
    files = hub.store.files("model", ID, revision)
    files.pop(".gitattributes", None)
    return files


def published_seed(folder: Path) -> Path:
    """Folder of the seed whose model is published."""
    return folder / f"seed-{best_seed(read_results(folder / RESULTS_NAME)).seed}"


def copied_files(folder: Path) -> dict[str, bytes]:
    """Path on the Hub -> content, for files that are copied unchanged."""
    seed = published_seed(folder)
    files = {path.name: path.read_bytes() for path in (seed / "best").iterdir() if path.suffix != ".md"}
    files |= {f"predictions/{path.name}": path.read_bytes() for path in seed.glob("*.csv")}
    return files | {f"figures/{path.name}": path.read_bytes() for path in seed.glob("figures/*.png")}


def test_the_best_seed_with_its_results_and_card_is_pushed(hub: HubServer, api: HfApi, done: Path, root: Path) -> None:
    pushed = push_model(api, done, ID, references=["@article{one}"])
    assert (pushed.repo_id, pushed.committed) == (ID, True)
    repo = hub.store.repos["model", ID]
    assert pushed.sha == repo.resolve("main").sha and not repo.private
    files, copied = model_files(hub), copied_files(done)
    assert {path: files[path] for path in copied} == copied
    assert set(files) == {*copied, "README.md", "results.json", "recipe.yaml"}
    assert set(files) >= MODEL and len([path for path in files if path.startswith("predictions/")]) == 2
    assert files["results.json"].decode() == portable(read_results(done / RESULTS_NAME)).to_json()
    options = yaml.safe_load(files["recipe.yaml"])
    assert make_recipe(options | {"root": str(root)}) == of_timm(root) and options["root"] is None
    card = ModelCard(files["README.md"].decode())
    assert card.data["license"] == "cc-by-4.0" and "![" in card.text and "@article{one}" in card.text
    local_paths = [path for path, content in files.items() if str(root.parent).encode() in content]
    assert not local_paths, "names a local folder"


def test_damaged_results_are_refused_before_any_request(
    hub: HubServer, api: HfApi, done: Path, tmp_path: Path
) -> None:
    shutil.copytree(done, tmp_path / "run")
    results = json.loads((tmp_path / "run" / RESULTS_NAME).read_text())
    results["provenance"] = "verified"
    (tmp_path / "run" / RESULTS_NAME).write_text(json.dumps(results))
    with pytest.raises(TrainingError, match="provenance do not match its recipe and data"):
        push_model(api, tmp_path / "run", ID)
    assert not hub.log.find()


def test_an_unchanged_run_is_not_pushed_again(hub: HubServer, api: HfApi, done: Path) -> None:
    first = push_model(api, done, ID)
    hub.log.clear()
    again = push_model(api, done, ID)
    assert (again.sha, again.committed) == (first.sha, False)
    assert not hub.log.find("POST|PUT|DELETE", CHANGES)


def test_another_run_replaces_the_published_one(hub: HubServer, api: HfApi, done: Path, other: Path) -> None:
    push_model(api, other, ID)
    assert "preprocessor_config.json" in model_files(hub)
    hub.store.write("model", ID, {"LICENSE": b"mine", "samples/a.json": b"{}", "model.safetensors.index.json": b"{}"})
    pushed = push_model(api, done, ID)
    files, copied = model_files(hub), copied_files(done)
    assert pushed.committed and {path: files[path] for path in copied} == copied
    kept = {"LICENSE", "samples/a.json"}
    assert set(files) == {*copied, *kept, "README.md", "results.json", "recipe.yaml"}
    second = push_model(api, other, ID)
    assert second.committed and set(model_files(hub)) == {
        *copied_files(other),
        *kept,
        "README.md",
        "results.json",
        "recipe.yaml",
    }
    assert not [path for path in model_files(hub) if "test" in path or path.startswith("figures/")]


def test_only_changed_files_are_sent(hub: HubServer, api: HfApi, done: Path, tmp_path: Path) -> None:
    push_model(api, done, ID)
    shutil.copytree(done, tmp_path / "run")
    (published_seed(tmp_path / "run") / "figures" / "curves.png").write_bytes(png(200))
    hub.log.clear()
    assert push_model(api, tmp_path / "run", ID).committed
    assert model_files(hub)["figures/curves.png"] == png(200)
    weights = (published_seed(done) / "best" / "model.safetensors").stat().st_size
    assert hub.log.received("PUT|POST") < weights / 10


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": b"{}", "model.safetensors": b"weights"},
        {"pytorch_model.bin": b"weights"},
        {"results.json": b"{}", "model.ckpt": b"weights"},
    ],
)
def test_a_repository_of_another_model_is_left_alone(
    hub: HubServer, api: HfApi, done: Path, files: dict[str, bytes]
) -> None:
    api.create_repo(ID)
    hub.store.write("model", ID, files)
    for push in (lambda: push_model(api, done, ID), lambda: check_push(api, of_timm(done), ID)):
        with pytest.raises(HubError, match="org/tiny holds files that were not pushed from a run: name another"):
            push()
    assert model_files(hub) == files


def test_a_new_repository_with_only_a_readme_is_accepted(hub: HubServer, api: HfApi, done: Path) -> None:
    api.create_repo(ID)
    hub.store.write("model", ID, {"README.md": b"---\nlicense: mit\n---\nsoon"})
    assert push_model(api, done, ID).committed and b"soon" not in model_files(hub)["README.md"]


def test_a_private_repository_is_created_and_a_public_one_refused(
    hub: HubServer, api: HfApi, done: Path, other: Path
) -> None:
    push_model(api, done, ID, private=True)
    repo = hub.store.repos["model", ID]
    assert repo.private
    assert push_model(api, other, ID).committed and repo.private
    repo.private = False
    before = model_files(hub)
    for push in (
        lambda: push_model(api, done, ID, private=True),
        lambda: check_push(api, of_timm(done), ID, private=True),
    ):
        with pytest.raises(HubError, match="org/tiny is public: make it private"):
            push()
    assert model_files(hub) == before


def test_a_branch_is_created_and_the_main_branch_stays(hub: HubServer, api: HfApi, done: Path, other: Path) -> None:
    push_model(api, done, ID)
    before = model_files(hub)
    first = push_model(api, other, ID, revision="paper")
    assert (
        first.committed
        and model_files(hub) == before
        and set(model_files(hub, "paper")) >= MODEL
        and model_files(hub, "paper") != before
    )
    assert push_model(api, other, ID, revision="paper").committed is False
    same = push_model(api, done, ID, revision="copy")
    assert not same.committed and model_files(hub, "copy") == before


def test_an_interrupted_push_is_completed_by_the_next(hub: HubServer, api: HfApi, done: Path) -> None:
    for method, path, status in (("PUT", "^/lfs/", 403), ("POST", "/commit/", 500)):
        hub.faults.add(Fault(method, path, status=status, times=-1))
        with pytest.raises(HubError, match=r"cannot (upload|push) to org/tiny") as caught:
            push_model(api, done, ID)
        assert "\n" not in str(caught.value) and not model_files(hub)
        hub.faults.clear()
    hub.log.clear()
    assert push_model(api, done, ID).committed and set(model_files(hub)) >= MODEL
    assert not hub.log.find("PUT", "^/lfs/"), "files uploaded before the failed commit are sent again"


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub: HubServer, api: HfApi, done: Path) -> None:
    hub.faults.add(Fault("POST", "/commit/", after=True, lose_answer=True))
    assert push_model(api, done, ID).committed
    assert push_model(api, done, ID).committed is False
    assert len(hub.store.repos["model", ID].commits) == 2


def test_a_concurrent_commit_is_not_undone(hub: HubServer, api: HfApi, done: Path) -> None:
    push_model(api, done, ID)
    hub.store.write("model", ID, {"model.safetensors": b"older"})
    theirs = {"README.md": b"---\nlicense: mit\n---\ntheirs"}
    hub.faults.add(Fault("POST", "/commit/", action=lambda: hub.store.write("model", ID, theirs)))
    with pytest.raises(HubError, match=r"another push has changed README\.md of org/tiny meanwhile: run again"):
        push_model(api, done, ID)
    assert model_files(hub)["model.safetensors"] == b"older" and model_files(hub)["README.md"] == theirs["README.md"]


def test_a_concurrently_added_file_stays_and_blocks_a_push_that_would_remove_it(
    hub: HubServer, api: HfApi, done: Path, other: Path
) -> None:
    push_model(api, other, ID)
    hub.faults.add(Fault("POST", "/commit/", action=lambda: hub.store.write("model", ID, {"LICENSE": b"mine"})))
    assert push_model(api, done, ID).committed
    assert model_files(hub)["LICENSE"] == b"mine" and {
        path: model_files(hub)[path] for path in copied_files(done)
    } == copied_files(done)
    before = model_files(hub)
    figure = {"figures/theirs.png": b"theirs"}
    hub.faults.add(Fault("POST", "/commit/", action=lambda: hub.store.write("model", ID, figure)))
    with pytest.raises(HubError, match=r"has added figures/theirs\.png to \S+ meanwhile, which this push"):
        push_model(api, other, ID)
    assert model_files(hub) == before | figure


def test_a_concurrently_pushed_model_is_left_alone(hub: HubServer, api: HfApi, done: Path) -> None:
    """Both pushes started from an empty repository."""
    theirs = {"pytorch_model.bin": b"theirs"}
    hub.faults.add(Fault("POST", "/commit/", action=lambda: hub.store.write("model", ID, theirs)))
    with pytest.raises(HubError, match="org/tiny holds files that were not pushed from a run: name another"):
        push_model(api, done, ID)
    assert model_files(hub) == theirs


def test_requests_to_a_busy_hub_are_retried(hub: HubServer, api: HfApi, done: Path) -> None:
    for method, path in (("POST", "/commit/"), ("PUT", "^/lfs/"), ("GET", "/tree/")):
        hub.faults.add(Fault(method, path, status=503))
    assert push_model(api, done, ID).committed and set(model_files(hub)) >= MODEL
    assert len(hub.store.repos["model", ID].commits) == 2


def test_the_files_on_the_hub_are_checked_after_a_push(hub: HubServer, api: HfApi, done: Path) -> None:
    def spoil(body: bytes) -> bytes:
        tree = json.loads(body)
        for entry in tree:
            if entry["path"] == "model.safetensors":
                entry["lfs"]["oid"] = "0" * 64
        return json.dumps(tree).encode()

    push_model(api, done, ID)
    hub.faults.add(Fault("GET", "/tree/", skip=1, garble=spoil))
    with pytest.raises(HubError, match=r"model\.safetensors of org/tiny differs from the pushed file: run again"):
        push_model(api, done, ID)


def test_mistakes_are_one_line_and_leave_nothing(
    hub: HubServer, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks before training and at the push agree."""
    expired = hub.access.token("bob")
    expired.expired = True
    nowhere = HfApi(endpoint="http://127.0.0.1:9", token=hub.token.secret)
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)

    def refused(api: HfApi, repo_id: str, match: str, *, early: bool = True) -> None:
        pushes: list[Callable[[], object]] = [lambda: push_model(api, done, repo_id)]
        if early:
            pushes.append(lambda: check_push(api, of_timm(tmp_path), repo_id))
        for push in pushes:
            with pytest.raises(HubError, match=match) as caught:
                push()
            assert "\n" not in str(caught.value) and "hf_" not in str(caught.value)

    for name in ("tiny", "", "/tiny", "org/", "a/b/c", "org/a b", "org/-x", "org/x.git", "http://org/x"):
        refused(hub.api(), name, "is not a valid repository: name it NAMESPACE/NAME")
    refused(HfApi(endpoint=hub.url), ID, "no token for the Hub: log in")
    refused(hub.api(expired), ID, "has expired")
    refused(nowhere, ID, "check the network")
    refused(hub.api(), "elsewhere/tiny", "write access to the namespace", early=False)
    refused(hub.api(hub.read_token), ID, "write access", early=False)
    with pytest.raises(HubError, match="the token is read-only: use one with write access to org/tiny"):
        check_push(hub.api(hub.read_token), of_timm(tmp_path), ID)
    assert not hub.store.repos


def test_the_check_before_training_changes_nothing(hub: HubServer, api: HfApi, done: Path) -> None:
    check_push(api, of_timm(done), ID)
    assert not hub.store.repos
    push_model(api, done, ID)
    hub.log.clear()
    check_push(api, of_timm(done), ID)
    check_push(api, of_timm(done), ID, revision="new")
    assert hub.log.find() and not hub.log.find("POST|PUT|DELETE")


@pytest.mark.parametrize("method", ["knn", "zero-shot"])
def test_a_method_that_leaves_no_model_is_refused_before_it_runs(hub: HubServer, method: str) -> None:
    recipe = make_recipe({"dataset": "bloodmnist", "method": method})
    with pytest.raises(
        TrainingError, match=f"method {method} leaves no model to push: use finetune, partial, linear-probe"
    ):
        check_push(hub.api(), recipe, ID)
    assert not hub.log.find()


def test_a_run_that_is_unfinished_or_has_no_model_is_refused(hub: HubServer, root: Path, tmp_path: Path) -> None:
    def refused(folder: Path, match: str) -> None:
        with pytest.raises(TrainingError, match=match) as caught:
            push_model(hub.api(), folder, ID)
        assert "\n" not in str(caught.value) and not hub.log.find()

    refused(tmp_path, "holds no finished run: run the same command again")
    (tmp_path / RESULTS_NAME).write_text("{")
    refused(tmp_path, r"results\.json is damaged")
    run(tiny(root, "bloodmnist", method="knn"), tmp_path / "knn", quiet=True)
    refused(tmp_path / "knn", "has no model to push: knn leaves none")


def test_scores_on_official_data_are_linked_to_its_tasks(
    hub: HubServer, api: HfApi, real_data: Path, tmp_path: Path
) -> None:
    entry = subset("breastmnist")
    build_config(entry, 28, Folder(real_data).fetch(entry, 28), tmp_path)
    recipe: dict[str, Any] = {"method": "linear-probe", "repository": "org/breastmnist"}
    result = run(tiny(tmp_path, "breastmnist", **recipe), tmp_path / "run", quiet=True)
    push_model(api, tmp_path / "run", ID)
    files = model_files(hub)
    auc, acc = parse_eval_result_entries(yaml.safe_load(files[RESULTS_PATH]))
    test = result.seeds[0].test
    assert (auc.dataset_id, auc.task_id, auc.value) == ("org/breastmnist", "28_auc", test.auc)
    assert (acc.dataset_id, acc.task_id, acc.value) == ("org/breastmnist", "28_acc", test.acc)
    assert auc.notes == acc.notes == "seed 0, chosen on validation"
    data: Any = ModelCard(files["README.md"].decode()).data
    by_metric = {result.metric_type: result for result in data.eval_results}
    values = {name: result.metric_value for name, result in by_metric.items()}
    assert values == {"roc_auc": test.auc, "accuracy": test.acc}
    assert by_metric["roc_auc"].dataset_type == "org/breastmnist" and by_metric["roc_auc"].dataset_config == "28"
    unscored = run(tiny(tmp_path, "breastmnist", **recipe, test=False), tmp_path / "unscored", quiet=True)
    assert not unscored.test and push_model(api, tmp_path / "unscored", ID).committed
    assert RESULTS_PATH not in model_files(hub) and b"model-index" not in model_files(hub)["README.md"]


def test_scores_on_synthetic_data_are_not_linked(done: Path) -> None:
    files = local_files(done, ID)
    card = files["README.md"].source
    assert RESULTS_PATH not in files and isinstance(card, bytes)
    assert "model-index" not in card.decode() and "SYNTHETIC: no real data." in card.decode()


@pytest.mark.parametrize("name", ["figures/curves.png", "figures/more.png", "more.csv", "best/more.json", "best"])
def test_the_target_of_a_link_is_never_pushed(
    hub: HubServer, api: HfApi, done: Path, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "run"))
    path = published_seed(folder) / name
    secret = tmp_path / "secret"
    if path.is_dir():
        path.rename(secret)
    else:
        secret.write_bytes(png(3))
        path.unlink(missing_ok=True)
    path.symlink_to(secret)
    with pytest.raises(TrainingError, match=f"cannot push {re.escape(str(path))} .it is a link to .*: remove it, or"):
        push_model(api, folder, ID)
    assert not hub.log.find()


@pytest.mark.parametrize("content", [b"", b"hf_secret", png(7)[:30], b"GIF89a"])
def test_a_figure_that_is_not_a_png_image_is_not_pushed(
    hub: HubServer, api: HfApi, done: Path, tmp_path: Path, content: bytes
) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "run"))
    (published_seed(folder) / "figures" / "curves.png").write_bytes(content)
    with pytest.raises(TrainingError, match="it is not a valid PNG"):
        push_model(api, folder, ID)
    assert not hub.log.find()
