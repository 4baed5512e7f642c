"""`medmnist_hf.training.publish`: what of a run goes to the Hub, what a second push changes, and what is refused."""

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
    """A run of a network of timm, of two seeds."""
    folder = tmp_path_factory.mktemp("timm")
    run(of_timm(root), folder, quiet=True)
    (figures := folder / "seed-0" / "figures").mkdir(exist_ok=True)
    shutil.copytree(figures, folder / "seed-3" / "figures", dirs_exist_ok=True)
    for seed in (0, 3):
        (folder / f"seed-{seed}" / "figures" / "curves.png").write_bytes(png(seed))
    return folder


@pytest.fixture(scope="module")
def other(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the paper's network, which needs an image processor, with its test split not scored."""
    folder = tmp_path_factory.mktemp("paper")
    run(tiny(root, "bloodmnist", model="resnet18", method="linear-probe", test=False), folder, quiet=True)
    shutil.rmtree(folder / "seed-0" / "figures", ignore_errors=True)
    return folder


@pytest.fixture
def api(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    """A maintainer of ``org`` who waits but a moment before another try."""
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    return hub.api()


def held(hub: HubServer, revision: str = "main") -> dict[str, bytes]:
    files = hub.store.files("model", ID, revision)
    files.pop(".gitattributes", None)
    return files


def chosen(folder: Path) -> Path:
    """Folder of the seed to publish."""
    return folder / f"seed-{best_seed(read_results(folder / RESULTS_NAME)).seed}"


def expected(folder: Path) -> dict[str, bytes]:
    """Path on the Hub -> content of the files that are copied as they are."""
    seed = chosen(folder)
    found = {path.name: path.read_bytes() for path in (seed / "best").iterdir() if path.suffix != ".md"}
    found |= {f"predictions/{path.name}": path.read_bytes() for path in seed.glob("*.csv")}
    return found | {f"figures/{path.name}": path.read_bytes() for path in seed.glob("figures/*.png")}


def test_the_chosen_seed_its_results_and_its_card_are_pushed(
    hub: HubServer, api: HfApi, done: Path, root: Path
) -> None:
    made = push_model(api, done, ID, references=["@article{one}"])
    assert (made.repo_id, made.committed) == (ID, True)
    repo = hub.store.repos["model", ID]
    assert made.sha == repo.resolve("main").sha and not repo.private
    files, copied = held(hub), expected(done)
    assert {path: files[path] for path in copied} == copied
    assert set(files) == {*copied, "README.md", "results.json", "recipe.yaml"}
    assert set(files) >= MODEL and len([path for path in files if path.startswith("predictions/")]) == 2
    assert files["results.json"].decode() == portable(read_results(done / RESULTS_NAME)).to_json()
    told = yaml.safe_load(files["recipe.yaml"])
    assert make_recipe(told | {"root": str(root)}) == of_timm(root) and told["root"] is None
    card = ModelCard(files["README.md"].decode())
    assert card.data["license"] == "cc-by-4.0" and "![" in card.text and "@article{one}" in card.text
    here = [path for path, content in files.items() if str(root.parent).encode() in content]
    assert not here, "names a folder of this machine"


def test_all_is_read_before_a_word_is_sent(hub: HubServer, api: HfApi, done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "run")
    results = json.loads((tmp_path / "run" / RESULTS_NAME).read_text())
    results["provenance"] = "verified"
    (tmp_path / "run" / RESULTS_NAME).write_text(json.dumps(results))
    with pytest.raises(TrainingError, match="provenance are not those of its recipe and data"):
        push_model(api, tmp_path / "run", ID)
    assert not hub.log.find()


def test_what_is_there_is_not_pushed_again(hub: HubServer, api: HfApi, done: Path) -> None:
    first = push_model(api, done, ID)
    hub.log.clear()
    again = push_model(api, done, ID)
    assert (again.sha, again.committed) == (first.sha, False)
    assert not hub.log.find("POST|PUT|DELETE", CHANGES)


def test_another_run_takes_the_place_of_the_one_that_is_there(
    hub: HubServer, api: HfApi, done: Path, other: Path
) -> None:
    push_model(api, other, ID)
    assert "preprocessor_config.json" in held(hub)
    hub.store.write("model", ID, {"LICENSE": b"mine", "samples/a.json": b"{}", "model.safetensors.index.json": b"{}"})
    made = push_model(api, done, ID)
    files, copied = held(hub), expected(done)
    assert made.committed and {path: files[path] for path in copied} == copied
    kept = {"LICENSE", "samples/a.json"}
    assert set(files) == {*copied, *kept, "README.md", "results.json", "recipe.yaml"}
    back = push_model(api, other, ID)
    assert back.committed and set(held(hub)) == {
        *expected(other),
        *kept,
        "README.md",
        "results.json",
        "recipe.yaml",
    }
    assert not [path for path in held(hub) if "test" in path or path.startswith("figures/")]


def test_only_what_changed_is_sent(hub: HubServer, api: HfApi, done: Path, tmp_path: Path) -> None:
    push_model(api, done, ID)
    shutil.copytree(done, tmp_path / "run")
    (chosen(tmp_path / "run") / "figures" / "curves.png").write_bytes(png(200))
    hub.log.clear()
    assert push_model(api, tmp_path / "run", ID).committed
    assert held(hub)["figures/curves.png"] == png(200)
    weights = (chosen(done) / "best" / "model.safetensors").stat().st_size
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
        with pytest.raises(HubError, match="org/tiny holds files that no run here has pushed: name another"):
            push()
    assert held(hub) == files


def test_a_repository_that_was_just_made_is_taken(hub: HubServer, api: HfApi, done: Path) -> None:
    api.create_repo(ID)
    hub.store.write("model", ID, {"README.md": b"---\nlicense: mit\n---\nsoon"})
    assert push_model(api, done, ID).committed and b"soon" not in held(hub)["README.md"]


def test_a_private_repository_is_made_and_a_public_one_is_not_taken_for_it(
    hub: HubServer, api: HfApi, done: Path, other: Path
) -> None:
    push_model(api, done, ID, private=True)
    repo = hub.store.repos["model", ID]
    assert repo.private
    assert push_model(api, other, ID).committed and repo.private
    repo.private = False
    before = held(hub)
    for push in (
        lambda: push_model(api, done, ID, private=True),
        lambda: check_push(api, of_timm(done), ID, private=True),
    ):
        with pytest.raises(HubError, match="org/tiny is public: make it private"):
            push()
    assert held(hub) == before


def test_a_branch_is_made_and_the_main_one_stays(hub: HubServer, api: HfApi, done: Path, other: Path) -> None:
    push_model(api, done, ID)
    before = held(hub)
    first = push_model(api, other, ID, revision="paper")
    assert (
        first.committed and held(hub) == before and set(held(hub, "paper")) >= MODEL and held(hub, "paper") != before
    )
    assert push_model(api, other, ID, revision="paper").committed is False
    same = push_model(api, done, ID, revision="copy")
    assert not same.committed and held(hub, "copy") == before


def test_a_push_that_broke_off_is_completed_by_the_next(hub: HubServer, api: HfApi, done: Path) -> None:
    for method, path, status in (("PUT", "^/lfs/", 403), ("POST", "/commit/", 500)):
        hub.faults.add(Fault(method, path, status=status, times=-1))
        with pytest.raises(HubError, match=r"cannot (upload|push) to org/tiny") as caught:
            push_model(api, done, ID)
        assert "\n" not in str(caught.value) and not held(hub)
        hub.faults.clear()
    hub.log.clear()
    assert push_model(api, done, ID).committed and set(held(hub)) >= MODEL
    assert not hub.log.find("PUT", "^/lfs/"), "what went up before the commit failed is sent again"


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub: HubServer, api: HfApi, done: Path) -> None:
    hub.faults.add(Fault("POST", "/commit/", after=True, lose_answer=True))
    assert push_model(api, done, ID).committed
    assert push_model(api, done, ID).committed is False
    assert len(hub.store.repos["model", ID].commits) == 2


def test_a_commit_of_somebody_else_meanwhile_is_not_undone(hub: HubServer, api: HfApi, done: Path) -> None:
    push_model(api, done, ID)
    hub.store.write("model", ID, {"model.safetensors": b"older"})
    theirs = {"README.md": b"---\nlicense: mit\n---\ntheirs"}
    hub.faults.add(Fault("POST", "/commit/", action=lambda: hub.store.write("model", ID, theirs)))
    with pytest.raises(HubError, match=r"another push has changed org/tiny README\.md meanwhile: run again"):
        push_model(api, done, ID)
    assert held(hub)["model.safetensors"] == b"older" and held(hub)["README.md"] == theirs["README.md"]


def test_what_somebody_else_adds_meanwhile_stays_unless_it_would_be_removed(
    hub: HubServer, api: HfApi, done: Path, other: Path
) -> None:
    push_model(api, other, ID)
    hub.faults.add(Fault("POST", "/commit/", action=lambda: hub.store.write("model", ID, {"LICENSE": b"mine"})))
    assert push_model(api, done, ID).committed
    assert held(hub)["LICENSE"] == b"mine" and {path: held(hub)[path] for path in expected(done)} == expected(done)
    before = held(hub)
    figure = {"figures/theirs.png": b"theirs"}
    hub.faults.add(Fault("POST", "/commit/", action=lambda: hub.store.write("model", ID, figure)))
    with pytest.raises(HubError, match=r"has got figures/theirs\.png meanwhile, which this push would remove"):
        push_model(api, other, ID)
    assert held(hub) == before | figure


def test_another_model_that_comes_meanwhile_is_left_alone(hub: HubServer, api: HfApi, done: Path) -> None:
    """Both saw an empty repository."""
    theirs = {"pytorch_model.bin": b"theirs"}
    hub.faults.add(Fault("POST", "/commit/", action=lambda: hub.store.write("model", ID, theirs)))
    with pytest.raises(HubError, match="org/tiny holds files that no run here has pushed: name another"):
        push_model(api, done, ID)
    assert held(hub) == theirs


def test_a_busy_hub_is_asked_again(hub: HubServer, api: HfApi, done: Path) -> None:
    for method, path in (("POST", "/commit/"), ("PUT", "^/lfs/"), ("GET", "/tree/")):
        hub.faults.add(Fault(method, path, status=503))
    assert push_model(api, done, ID).committed and set(held(hub)) >= MODEL
    assert len(hub.store.repos["model", ID].commits) == 2


def test_what_the_hub_holds_then_is_checked(hub: HubServer, api: HfApi, done: Path) -> None:
    def spoil(body: bytes) -> bytes:
        tree = json.loads(body)
        for entry in tree:
            if entry["path"] == "model.safetensors":
                entry["lfs"]["oid"] = "0" * 64
        return json.dumps(tree).encode()

    push_model(api, done, ID)
    hub.faults.add(Fault("GET", "/tree/", skip=1, garble=spoil))
    with pytest.raises(HubError, match=r"org/tiny has another model\.safetensors than was pushed: run again"):
        push_model(api, done, ID)


def test_mistakes_are_one_line_and_leave_nothing(
    hub: HubServer, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same before a training, and when the model is to be pushed."""
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
    with pytest.raises(HubError, match="the token may only read: use one that may write to org/tiny"):
        check_push(hub.api(hub.read_token), of_timm(tmp_path), ID)
    assert not hub.store.repos


def test_before_a_training_nothing_is_changed(hub: HubServer, api: HfApi, done: Path) -> None:
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
    with pytest.raises(TrainingError, match=f"method {method} leaves no model to push: use finetune, linear-probe"):
        check_push(hub.api(), recipe, ID)
    assert not hub.log.find()


def test_a_run_without_a_model_or_without_an_end_is_refused(hub: HubServer, root: Path, tmp_path: Path) -> None:
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
    files = held(hub)
    auc, acc = parse_eval_result_entries(yaml.safe_load(files[RESULTS_PATH]))
    test = result.seeds[0].test
    assert (auc.dataset_id, auc.task_id, auc.value) == ("org/breastmnist", "28_auc", test.auc)
    assert (acc.dataset_id, acc.task_id, acc.value) == ("org/breastmnist", "28_acc", test.acc)
    assert auc.notes == acc.notes == "seed 0, chosen on validation"
    data: Any = ModelCard(files["README.md"].decode()).data
    shown = {one.metric_type: one for one in data.eval_results}
    assert {name: one.metric_value for name, one in shown.items()} == {"roc_auc": test.auc, "accuracy": test.acc}
    assert shown["roc_auc"].dataset_type == "org/breastmnist" and shown["roc_auc"].dataset_config == "28"
    unscored = run(tiny(tmp_path, "breastmnist", **recipe, test=False), tmp_path / "unscored", quiet=True)
    assert not unscored.test and push_model(api, tmp_path / "unscored", ID).committed
    assert RESULTS_PATH not in held(hub) and b"model-index" not in held(hub)["README.md"]


def test_scores_on_generated_data_are_not(done: Path) -> None:
    files = local_files(done, ID)
    card = files["README.md"].source
    assert RESULTS_PATH not in files and isinstance(card, bytes)
    assert "model-index" not in card.decode() and "SYNTHETIC: no real data." in card.decode()


@pytest.mark.parametrize("name", ["figures/curves.png", "figures/more.png", "more.csv", "best/more.json", "best"])
def test_what_a_link_points_to_is_never_pushed(
    hub: HubServer, api: HfApi, done: Path, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "run"))
    path = chosen(folder) / name
    secret = tmp_path / "secret"
    if path.is_dir():
        path.rename(secret)
    else:
        secret.write_bytes(png(3))
        path.unlink(missing_ok=True)
    path.symlink_to(secret)
    with pytest.raises(TrainingError, match=f"cannot push {re.escape(str(path))} .it is a link, to .*: remove it, or"):
        push_model(api, folder, ID)
    assert not hub.log.find()


@pytest.mark.parametrize("content", [b"", b"hf_secret", png(7)[:30], b"GIF89a"])
def test_a_figure_that_is_no_picture_is_not_pushed(
    hub: HubServer, api: HfApi, done: Path, tmp_path: Path, content: bytes
) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "run"))
    (chosen(folder) / "figures" / "curves.png").write_bytes(content)
    with pytest.raises(TrainingError, match="it is no PNG that can be shown"):
        push_model(api, folder, ID)
    assert not hub.log.find()
