"""What is never shown: tokens and passwords are taken out of every text that is raised, printed or logged."""

import base64
import binascii
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

HIDDEN: Final = "***"
"""What stands in place of a secret."""

TOKEN_VARIABLES: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Environment variables that `huggingface_hub` takes a token from."""

_ADDRESS_VARIABLES: Final = ("HF_ENDPOINT", "MEDMNIST_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
"""Environment variables with an address that may hold a password; those of proxies are read in lower case too."""

_SHORTEST: Final = 6
"""Characters of the shortest secret that is looked for as it is: the letters of a shorter one are in any text."""

_TOKENS: Final = re.compile(
    r"\b(?:hf|api)_(?:[a-z]+_)?[A-Za-z0-9]{24,}"  # the Hub's: 34 letters and digits, those of an organization longer
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"  # a JSON web token, as OpenID Connect and Xet use
)
_CREDENTIALS: Final = re.compile(
    r"(?i)(\b(?:proxy-)?authorization\b['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|digest)\s+)?+|\bbearer\s+)[^\s'\",;)]{4,}"
)
_BASIC: Final = re.compile(r"(?i)(\bbasic\s+)([a-z0-9+/_-]{4,}={0,2})")
_FIELD: Final = re.compile(r"(?i)((?:token|password|passwd|secret|signature|credential|api[_-]?key)=)[^\s'\"&;,)]+")
_WORD: Final = re.compile(r"[^\s'\"<>`]+")
_START: Final = re.compile(r":?/{2,}|:/+")
"""Where the part of an address with user and host begins, also where its first colon or a slash was forgotten."""
_USER_FIRST: Final = re.compile(r"[^\s:@/(\[,;=]+:[^\s@]+@(?=[\w\[])")
_QUERY: Final = re.compile(r"[?#].*", re.DOTALL)


def redact(text: str, *secrets: str) -> str:
    """A text of others without secrets: the tokens and passwords in use, and whatever looks like one.

    Taken out are the token of the Hub in use; passwords of addresses in the environment; user, password and query of
    every address, also of a misspelt one; values of ``Authorization`` and of fields such as ``token=``; anything of a
    token's form.

    Args:
        text: What a server, a library or a person has said.
        secrets: Further texts to take out.
    """
    for secret in sorted({*secrets, *_secrets_in_use()}, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, HIDDEN)
    text = _TOKENS.sub(HIDDEN, text)
    text = _BASIC.sub(_redact_basic, text)
    text = _CREDENTIALS.sub(rf"\1{HIDDEN}", text)
    text = _FIELD.sub(rf"\1{HIDDEN}", text)
    return _WORD.sub(lambda word: _redact_word(word[0]), text)


def redact_url(url: str) -> str:
    """An address without user, password and query, fit to be printed, whatever it is that was given as an address."""
    start = _START.search(url)
    begin = start.end() if start else 0
    end = url.rfind("@") + 1
    if end > begin and (not start or _holds_user(url[begin : end - 1])):
        url = f"{url[:begin]}{HIDDEN}@{url[end:]}"
    return _QUERY.sub("", url)


def secrets_of(url: str) -> tuple[str, ...]:
    """What a server may send back of the password of an address: as it stands there, decoded, and as it is sent."""
    start = _START.search(url)
    user, _, password = url[start.end() if start else 0 :].rpartition("@")[0].partition(":")
    if not password:
        return ()
    sent = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return tuple({password, unquote(password), sent})


def without_tokens(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for a process that has no business with the Hub."""
    return {name: value for name, value in environment.items() if name not in TOKEN_VARIABLES}


def redact_logs() -> None:
    """From here on, what any library of this process logs or warns of is without secrets; for programs of ours."""
    logging.setLogRecordFactory(_redacted_record)
    warnings.formatwarning = _format_redacted


_make_record = logging.getLogRecordFactory()
_format_warning = warnings.formatwarning


def _redacted_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = _make_record(*args, **kwargs)
    try:
        text = record.getMessage()
    except Exception:  # of a wrong call, which the handler reports
        return record
    if (clean := redact(text)) != text:
        record.msg, record.args = clean, None
    if record.exc_info:
        record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip())
    return record


def _format_redacted(*args: Any, **kwargs: Any) -> str:
    return redact(_format_warning(*args, **kwargs))


def _secrets_in_use() -> Iterator[str]:
    for name in TOKEN_VARIABLES:
        yield os.environ.get(name, "").strip()
    for name in _ADDRESS_VARIABLES:
        for variable in (name, name.lower()):
            yield from secrets_of(os.environ.get(variable, ""))
    # Only its client reads the token that was stored at login: where it is not loaded, nobody was sent one.
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        try:
            yield Path(constants.HF_TOKEN_PATH).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return


def _holds_user(text: str) -> bool:
    """The text before the ``@`` of an address is a user, perhaps with a password, and no part of a path."""
    return ":" in text or "/" not in text


def _redact_word(word: str) -> str:
    """A piece of text without blanks, which may be an address or hold one."""
    start = _START.search(word)
    if start is None:
        return _USER_FIRST.sub(f"{HIDDEN}@", word) if "@" in word else word
    head, rest = word[: start.end()], word[start.end() :]
    user, at, host = rest.rpartition("@")
    if at and _holds_user(user):
        rest = f"{HIDDEN}@{host}"
    if head.endswith("://") and _QUERY.search(rest):
        end = rest[len(rest.rstrip(")],.;:")) :]  # of the sentence that the address stands in
        rest = _QUERY.sub(f"?{HIDDEN}{end}", rest, count=1)
    return head + rest


def _redact_basic(match: re.Match[str]) -> str:
    """``Basic`` and what follows, if that is a user and a password in Base64."""
    try:
        plain = base64.b64decode(match[2] + "=" * (-len(match[2]) % 4), validate=True)
    except binascii.Error:
        return match[0]
    return f"{match[1]}{HIDDEN}" if b":" in plain else match[0]
