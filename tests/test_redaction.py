"""Secrets leave no text: as they are, in addresses however misspelt, in headers, and in what libraries log."""

import base64
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmnist_hf.errors import HubError, MedMNISTError, first_line
from medmnist_hf.redaction import redact, redact_url, secrets_of, without_tokens
from tests.fixtures.paths import ROOT
from tests.fixtures.raw_server import raw_server

HUB_TOKEN = "hf_" + "aB3dE6gH9j" * 3


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://zenodo.org/records/1/files/a.npz?download=1", "https://zenodo.org/records/1/files/a.npz"),
        ("http://user:pw@host:80/a#b", "http://***@host:80/a"),
        ("user:pw@host/a", "***@host/a"),
        ("http://user:p@w@host/a", "http://***@host/a"),
        ("https://token@host/a", "https://***@host/a"),
        ("https//user:pw@host/a", "https//***@host/a"),
        ("https:/user:pw@host/a", "https:/***@host/a"),
        ("//user:pw@host", "//***@host"),
        ("http:///user:pw@host", "http:///***@host"),
        ("http://user:p/w@host/a", "http://***@host/a"),
        ("http://user:p#w?@host/a", "http://***@host/a"),
        ("https://host/name@v1", "https://host/name@v1"),
        ("https://host/a?mail=x@y", "https://host/a"),
        ("not a url", "not a url"),
    ],
)
def test_an_address_is_shown_without_user_password_and_query(url: str, text: str) -> None:
    assert redact_url(url) == text
    if " " not in url:
        shown = redact(f"cannot fetch ({url}): try later")
        assert "pw" not in shown and "p/w" not in shown and "token" not in shown and "mail" not in shown
        assert shown.startswith(f"cannot fetch ({text}") and shown.endswith("): try later")


@given(st.text())
def test_an_address_of_any_form_is_shown_without_a_query(url: str) -> None:
    shown = redact_url(url)
    assert "?" not in shown and "#" not in shown


@given(st.text(), st.sampled_from(["", "https:", "http", "https:/", "ftp:"]))
def test_a_password_before_a_host_is_never_shown(user: str, scheme: str) -> None:
    assert "s3cret" not in redact_url(f"{scheme}//{quote(user)}:s3cret@host/a")
    assert "s3cret" not in redact(f"at {scheme}//{quote(user)}:s3cret@host/a")


@pytest.mark.parametrize(
    "text",
    [
        f"the token {HUB_TOKEN} is unknown",
        f"api_org_{'Ab3' * 12} is unknown",
        "Authorization: Bearer s3cret-of-mine",
        "{'authorization': 'Bearer s3cret-of-mine'}",
        "you sent authorization=s3cret-of-mine",
        f"you sent Basic {base64.b64encode(b'user:s3cret').decode()}",
        "GET /file?X-Amz-Signature=s3cret-of-mine&x=1",
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ],
)
def test_what_has_the_form_of_a_secret_is_taken_out(text: str) -> None:
    shown = redact(text)
    assert "***" in shown
    for part in ("s3cret", "Ab3", "aB3d", "eyJ", "dXNlcjpz"):
        assert part not in shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "cannot read dist/hf_medmnist_28/train-00000-of-00001.parquet (No such file or directory): build it again",
        "hf://datasets/medmnist/pathmnist@refs%2Fpr%2F1/28/manifest.json is missing",
        "give data: user/name@revision, or https://zenodo.org/records/10519652/files/a.npz",
        "Basic settings, basic training and a bearer",
        "user/name@v1.0 at 10:30: run again; seed 1, AUC 0.9",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_secrets_in_use_are_taken_out_whatever_they_look_like(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "an-odd-secret")
    monkeypatch.setenv("https_proxy", "http://me:pass%20word@proxy:1")
    assert redact("an-odd-secret, pass%20word, pass word") == "***, ***, ***"
    assert redact("one more", "more") == "one more", "too short to be looked for"
    assert redact("one more secret", "more secret") == "one ***"


def test_the_token_that_was_stored_at_login_is_taken_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    (tmp_path / "token").write_text("stored-at-login\n")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert redact("you are stored-at-login") == "you are ***"


def test_every_error_of_ours_is_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "an-odd-secret")
    assert str(MedMNISTError("an-odd-secret is unknown")) == "*** is unknown"
    assert str(HubError("at http://a:b@c/", 401)) == "at http://***@c/"
    assert first_line(ValueError("an-odd-secret\nand more")) == "***"


def test_passwords_of_addresses() -> None:
    sent = base64.b64encode(b"me:a b").decode()
    assert set(secrets_of("https://me:a%20b@host/x")) == {"a%20b", "a b", sent}
    assert secrets_of("https://host/x") == secrets_of("https://me@host") == ()


def test_a_process_without_business_with_the_hub_gets_no_token() -> None:
    assert without_tokens({"HF_TOKEN": "a", "HUGGING_FACE_HUB_TOKEN": "b", "PATH": "c"}) == {"PATH": "c"}


PROGRAM = """
import logging, warnings
import typer
from huggingface_hub.utils import logging as hub_logging
from medmnist_hf import console

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)

@app.command()
def command() -> None:
    hub_logging.get_logger("huggingface_hub.any").warning("HTTP Error 503 while requesting %s", "http://a:s3cret@b/c")
    logging.getLogger("other").error("wrong %d", "call")
    warnings.warn("http://a:s3cret@b/c")
    try:
        raise ValueError("s3cret-token")
    except ValueError:
        logging.getLogger("third").exception("it failed")
    raise RuntimeError("s3cret-token")

console.run(app)
"""


def test_a_command_logs_warns_and_crashes_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "s3cret-token")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "HTTP Error 503 while requesting http://***@b/c" in done.stderr
    assert "UserWarning: http://***@b/c" in done.stderr
    assert done.stderr.count("ValueError: ***") == 1 and done.stderr.count("RuntimeError: ***") == 1
    assert "s3cret" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    "piece", ["a//", "a.a-", "x:y@", "Bearer ", "hf_a_", "token", "[?#]", "http://?):", "eyJaaaaaaaaa."]
)
def test_a_long_text_takes_time_in_proportion(piece: str) -> None:
    start = time.process_time()
    redact(piece * 20_000)
    assert time.process_time() - start < 2


COMMANDS = """
import runpy, sys
from pathlib import Path
root, build, predictions = sys.argv[1:4]
push = [f"{root}/scripts/push.py", build, "--repo-id", "org/pathmnist", "--allow-synthetic"]
commands = [
    push,
    [*push, "--yes", "--collection", "any"],
    [f"{root}/scripts/push_metric.py", "org/medmnist", "--yes"],
    [f"{root}/scripts/verify.py", "org/pathmnist"],
    ["medmnist-hf", "evaluate", predictions],
    ["medmnist-hf", "evaluate", predictions, "--data", "org/pathmnist"],
    ["medmnist-hf", "export", "pathmnist", "--out", "exported"],
]
for command in commands:
    sys.argv = command
    try:
        if command[0].endswith(".py"):
            runpy.run_path(command[0], run_name="__main__")
        else:
            from medmnist_hf.cli.main import main
            main()
    except SystemExit as end:
        print("ended", *command, end.code)
import medmnist_hf
from medmnist_hf.errors import MedMNISTError
for read in (medmnist_hf.load, medmnist_hf.load_arrays):
    try:
        read("pathmnist")
    except MedMNISTError as error:
        print(error)
    except Exception:
        pass  # of another package, and not shown by us
"""


@pytest.mark.parametrize(
    ("status", "user"),
    [
        (403, ""),
        *(pytest.param(status, "", marks=pytest.mark.slow) for status in (400, 401, 404, 409, 429)),
        *(pytest.param(status, "me", marks=pytest.mark.slow) for status in (400, 401, 403, 404)),
    ],
)
def test_no_command_prints_or_keeps_what_a_hub_reflects(
    status: int, user: str, dists: dict[str, Path], tmp_path: Path
) -> None:
    """What was sent, a token or a user with a password, comes back in the reason, in headers and in the body."""
    secret, password = "marker-of-a-token", "marker-of-a-password"

    def reflect(connection: socket.socket, stopped: threading.Event) -> None:
        sent = b" ".join(line for line in hub.requests[-1].split(b"\r\n") if b"uthorization" in line)
        body = b'{"error": "you sent ' + sent + b'"}'
        head = [b"HTTP/1.1 %d no %s" % (status, sent), b"X-Error-Message: %s" % sent, b"X-Request-Id: %s" % sent]
        head += [
            b"Retry-After: 0",
            b"X-HF-Warning: any%d; %s" % (len(hub.requests), sent),
            b"Content-Type: application/json",
        ]
        head += [b"Connection: close", b"Content-Length: %d" % len(body)]
        connection.sendall(b"\r\n".join(head) + b"\r\n\r\n" + body)

    truth = tmp_path / "predictions"
    truth.mkdir()
    predictions = truth / "pathmnist_test_[AUC]0.900_[ACC]0.800@any.csv"
    predictions.write_text("0,1,0,0,0,0,0,0,0,0\n")
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with raw_server(reflect) as hub:
        address = hub.url.replace("//", f"//{user}:{password}@") if user else hub.url
        own |= {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": secret, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)}
        own |= {"HF_ENDPOINT": address, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        command = [sys.executable, "-c", COMMANDS, str(ROOT), str(dists["28"]), str(predictions)]
        done = subprocess.run(command, env=own, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        asked = b"".join(hub.requests)
    encoded = base64.b64encode(f"me:{password}".encode())
    assert (encoded if user else secret.encode()) in asked
    assert done.stdout.count("ended") == 7, done.stderr
    shown = {"what was printed": (done.stdout + done.stderr).encode()}
    shown |= {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for where, text in shown.items():
        for marker in (secret.encode(), password.encode(), encoded):
            assert marker not in text, f"{marker!r} in {where}: {text[max(0, text.find(marker) - 200) :][:400]!r}"
