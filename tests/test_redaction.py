"""Secrets are removed from texts: literal ones, those in misspelled URLs and headers, and those libraries log."""

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
def test_a_url_is_shown_without_user_password_and_query(url: str, text: str) -> None:
    assert redact_url(url) == text
    if " " not in url:
        line = redact(f"cannot fetch ({url}): try later")
        assert not any(part in line for part in ("pw", "p/w", "token", "mail"))
        assert line.startswith(f"cannot fetch ({text}") and line.endswith("): try later")


@given(st.text())
def test_any_string_is_shown_without_a_query(url: str) -> None:
    redacted = redact_url(url)
    assert "?" not in redacted and "#" not in redacted


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
def test_anything_in_the_form_of_a_secret_is_removed(text: str) -> None:
    redacted = redact(text)
    assert "***" in redacted
    for part in ("s3cret", "Ab3", "aB3d", "eyJ", "dXNlcjpz"):
        assert part not in redacted
    assert redact(redacted) == redacted


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
def test_other_text_is_not_changed(text: str) -> None:
    assert redact(text) == text


def test_secrets_in_use_are_removed_whatever_their_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "an-odd-secret")
    monkeypatch.setenv("https_proxy", "http://me:pass%20word@proxy:1")
    assert redact("an-odd-secret, pass%20word, pass word") == "***, ***, ***"
    assert redact("one more", "more") == "one more", "too short to search for"
    assert redact("one more secret", "more secret") == "one ***"


def test_the_token_stored_at_login_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    (tmp_path / "token").write_text("stored-at-login\n")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert redact("you are stored-at-login") == "you are ***"


def test_errors_hold_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "an-odd-secret")
    assert str(MedMNISTError("an-odd-secret is unknown")) == "*** is unknown"
    assert str(HubError("at http://a:b@c/", 401)) == "at http://***@c/"
    assert first_line(ValueError("an-odd-secret\nand more")) == "***"


def test_passwords_in_urls() -> None:
    header_value = base64.b64encode(b"me:a b").decode()
    assert set(secrets_of("https://me:a%20b@host/x")) == {"a%20b", "a b", header_value}
    assert secrets_of("https://host/x") == secrets_of("https://me@host") == ()


def test_an_environment_without_tokens() -> None:
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
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "HTTP Error 503 while requesting http://***@b/c" in result.stderr
    assert "UserWarning: http://***@b/c" in result.stderr
    assert result.stderr.count("ValueError: ***") == 1 and result.stderr.count("RuntimeError: ***") == 1
    assert "s3cret" not in result.stderr + result.stdout


@pytest.mark.parametrize(
    "piece", ["a//", "a.a-", "x:y@", "Bearer ", "hf_a_", "token", "[?#]", "http://?):", "eyJaaaaaaaaa."]
)
def test_the_time_is_linear_in_the_length_of_the_text(piece: str) -> None:
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
        pass  # raised by another package, and not printed by us
"""


@pytest.mark.parametrize(
    ("status", "user"),
    [
        (403, ""),
        *(pytest.param(status, "", marks=pytest.mark.slow) for status in (400, 401, 404, 409, 429)),
        *(pytest.param(status, "me", marks=pytest.mark.slow) for status in (400, 401, 403, 404)),
    ],
)
def test_no_command_prints_or_stores_secrets_that_a_server_echoes(
    status: int, user: str, dists: dict[str, Path], tmp_path: Path
) -> None:
    """The server echoes the token, or user and password, in the reason phrase, in headers and in the body."""
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

    folder = tmp_path / "predictions"
    folder.mkdir()
    predictions = folder / "pathmnist_test_[AUC]0.900_[ACC]0.800@any.csv"
    predictions.write_text("0,1,0,0,0,0,0,0,0,0\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with raw_server(reflect) as hub:
        address = hub.url.replace("//", f"//{user}:{password}@") if user else hub.url
        environment |= {
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": secret,
            "HF_HUB_OFFLINE": "0",
            "PYTHONPATH": str(ROOT),
        }
        environment |= {"HF_ENDPOINT": address, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        command = [sys.executable, "-c", COMMANDS, str(ROOT), str(dists["28"]), str(predictions)]
        result = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
        )
        requests = b"".join(hub.requests)
    encoded = base64.b64encode(f"me:{password}".encode())
    assert (encoded if user else secret.encode()) in requests
    assert result.stdout.count("ended") == 7, result.stderr
    texts = {"standard output and error": (result.stdout + result.stderr).encode()}
    texts |= {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for where, text in texts.items():
        for marker in (secret.encode(), password.encode(), encoded):
            assert marker not in text, f"{marker!r} in {where}: {text[max(0, text.find(marker) - 200) :][:400]!r}"
