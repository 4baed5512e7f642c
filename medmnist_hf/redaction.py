"""Remove tokens and passwords from every text that is raised, printed or logged."""

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
"""Replacement for a secret."""

TOKEN_VARIABLES: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Environment variables in which `huggingface_hub` looks for a token."""

_ADDRESS_VARIABLES: Final = ("HF_ENDPOINT", "MEDMNIST_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
"""Environment variables with a URL that may hold a password; proxy variables may also be in lower case."""

_MIN_SECRET: Final = 6
"""Shortest secret that is searched for literally, in characters; a shorter one would match ordinary text."""

_TOKENS: Final = re.compile(
    r"\b(?:hf|api)_(?:[a-z]+_)?[A-Za-z0-9]{24,}"  # Hub tokens: 34 letters and digits, more for organizations
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"  # JSON web tokens, used by OpenID Connect and Xet
)
_CREDENTIALS: Final = re.compile(
    r"(?i)(\b(?:proxy-)?authorization\b['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|digest)\s+)?+|\bbearer\s+)[^\s'\",;)]{4,}"
)
_BASIC: Final = re.compile(r"(?i)(\bbasic\s+)([a-z0-9+/_-]{4,}={0,2})")
_FIELD: Final = re.compile(r"(?i)((?:token|password|passwd|secret|signature|credential|api[_-]?key)=)[^\s'\"&;,)]+")
_WORD: Final = re.compile(r"[^\s'\"<>`]+")
_START: Final = re.compile(r":?/{2,}|:/+")
"""What precedes user and host in a URL, also if the colon or a slash is missing."""
_USER_FIRST: Final = re.compile(r"[^\s:@/(\[,;=]+:[^\s@]+@(?=[\w\[])")
_QUERY: Final = re.compile(r"[?#].*", re.DOTALL)


def redact(text: str, *secrets: str) -> str:
    """Replace the secrets in a text: tokens and passwords in use, and anything that looks like one.

    This covers the Hub token in use, passwords in the environment's URLs, the user, password and query of every URL
    (even a misspelled one), values of ``Authorization`` and of fields such as ``token=``, and anything that has the
    form of a token.

    Args:
        text: Text from a server, a library or a user.
        secrets: Further strings to replace.
    """
    for secret in sorted({*secrets, *_secrets_in_use()}, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET:
            text = text.replace(secret, HIDDEN)
    text = _TOKENS.sub(HIDDEN, text)
    text = _BASIC.sub(_redact_basic, text)
    text = _CREDENTIALS.sub(rf"\1{HIDDEN}", text)
    text = _FIELD.sub(rf"\1{HIDDEN}", text)
    return _WORD.sub(lambda word: _redact_word(word[0]), text)


def redact_url(url: str) -> str:
    """Return a URL without user, password and query. The argument may be any string, valid URL or not."""
    start = _START.search(url)
    begin = start.end() if start else 0
    end = url.rfind("@") + 1
    if end > begin and (not start or _holds_user(url[begin : end - 1])):
        url = f"{url[:begin]}{HIDDEN}@{url[end:]}"
    return _QUERY.sub("", url)


def secrets_of(url: str) -> tuple[str, ...]:
    """Return the forms in which a server may echo a URL's password: as written, decoded, and as sent in a header."""
    start = _START.search(url)
    user, _, password = url[start.end() if start else 0 :].rpartition("@")[0].partition(":")
    if not password:
        return ()
    header_value = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return tuple({password, unquote(password), header_value})


def without_tokens(environment: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables for a process that does not need the Hub."""
    return {name: value for name, value in environment.items() if name not in TOKEN_VARIABLES}


def redact_logs() -> None:
    """Redact all log records and warnings of this process from now on; for our commands, not for importing code."""
    logging.setLogRecordFactory(_redacted_record)
    warnings.formatwarning = _format_redacted


_make_record = logging.getLogRecordFactory()
_format_warning = warnings.formatwarning


def _redacted_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = _make_record(*args, **kwargs)
    try:
        text = record.getMessage()
    except Exception:  # wrong logging arguments, which the handler reports
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
    # Only huggingface_hub reads the token stored at login: if it is not imported, no token was sent.
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        try:
            yield Path(constants.HF_TOKEN_PATH).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return


def _holds_user(text: str) -> bool:
    """Return whether the text before the ``@`` of a URL is a user, with or without a password, and not a path."""
    return ":" in text or "/" not in text


def _redact_word(word: str) -> str:
    """Redact the URL in a word, if it has one."""
    start = _START.search(word)
    if start is None:
        return _USER_FIRST.sub(f"{HIDDEN}@", word) if "@" in word else word
    head, rest = word[: start.end()], word[start.end() :]
    user, at, host = rest.rpartition("@")
    if at and _holds_user(user):
        rest = f"{HIDDEN}@{host}"
    if head.endswith("://") and _QUERY.search(rest):
        end = rest[len(rest.rstrip(")],.;:")) :]  # punctuation of the surrounding sentence
        rest = _QUERY.sub(f"?{HIDDEN}{end}", rest, count=1)
    return head + rest


def _redact_basic(match: re.Match[str]) -> str:
    """Redact the value after ``Basic`` if it is a user and a password in Base64."""
    try:
        plain = base64.b64decode(match[2] + "=" * (-len(match[2]) % 4), validate=True)
    except binascii.Error:
        return match[0]
    return f"{match[1]}{HIDDEN}" if b":" in plain else match[0]
