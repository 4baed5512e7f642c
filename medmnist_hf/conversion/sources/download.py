"""Download a file from the first server that delivers it completely: with resumption, retries and a check of its MD5.

Bytes received so far are in ``NAME.part``, and a note of their origin is in ``NAME.part.json``. Neither is trusted: a
file gets its final name only if the MD5 of all its bytes is correct.
"""

import contextlib
import hashlib
import json
import logging
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from medmnist_hf.documents import parse_json
from medmnist_hf.errors import SourceError, cannot_read, one_line
from medmnist_hf.files import open_regular, read_document
from medmnist_hf.network import Limits, apply_limits, httpx, is_transient_status
from medmnist_hf.redaction import redact, redact_url, secrets_of
from medmnist_hf.typed_json import Count, decode

_log = logging.getLogger(__name__)

_REDIRECTS: Final = 10
_NOTE_BYTES: Final = 1 << 14
"""Largest size of a note, which contains a URL and an ETag."""

_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]{0,200}"')
"""A strong ETag (RFC 9110, section 8.8.3) in ASCII, of a usual length; others cannot be sent back."""

_NUMBER: Final = "[0-9]{1,15}"
"""A number of bytes in a header, up to a petabyte."""

OnBytes = Callable[[int, int | None], object]
"""Called with the number of bytes received of a file, and with its size, None if that is unknown."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may take, and how often a request is retried.

    Attributes:
        limits: Timeouts and minimum speed of a request. At the minimum speed, a file of 100 MB takes a day; the next
            server may be faster.
        attempts: Consecutive failures before giving up on a server. A failure that delivered another hundredth of the
            file restarts the count.
        unconnected: The same for a server that has never accepted a connection, or whose name cannot be resolved:
            waiting is unlikely to help.
        requests: Largest number of requests to one server, enough for 20 GB over a connection that drops every 80 MB.
        first_pause: Seconds before the second attempt; doubled after each failure and varied by up to half.
        longest_pause: Longest pause in seconds; a server whose ``Retry-After`` is longer is given up.
    """

    limits: Limits = field(default_factory=Limits)
    attempts: int = 6
    unconnected: int = 3
    requests: int = 250
    first_pause: float = 1.0
    longest_pause: float = 120.0


COPY_IT: Final = "add --mirror URL, or copy the file to a folder and pass --source FOLDER"
"""What to do if a command cannot download a file."""


_MAKE_ROOM: Final = "free some space, or name another folder with MEDMNIST_ROOT or --scratch"


class NoConnectionError(SourceError):
    """No server of a file accepted a connection; most likely there is no network."""


class _Fault(Exception):
    """A failed request, described in a few words.

    Attributes:
        final: Whether retrying is useless.
        wait: Seconds to wait before retrying; None for the usual pause.
        connected: Whether there may have been a connection.
    """

    def __init__(self, text: str, *, final: bool = False, wait: float | None = None, connected: bool = True) -> None:
        super().__init__(one_line(text))
        self.final, self.wait, self.connected = final, wait, connected


@dataclass(frozen=True, slots=True)
class _Note:
    """Origin of the bytes of a ``.part``, for requesting the rest of the same file from the same server.

    The URL is stored without user, password and query.
    """

    url: str = ""
    etag: str = ""
    total: Count | None = None


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A response body that was read to its end.

    Attributes:
        resumed: Whether it was appended to bytes of an earlier request.
        framed: Whether the server stated its length, so that the end cannot be a lost connection.
    """

    resumed: bool
    framed: bool


def md5_of(path: Path) -> str:
    """MD5 of the content of a file, as 32 hex digits.

    Raises:
        SourceError: The file cannot be read.
    """
    try:
        with open_regular(path) as stream:
            return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise SourceError(cannot_read(path, error, "check the file")) from None


def is_downgrade(origin: str, target: str) -> bool:
    """Whether a redirect leads from ``https`` to another scheme, which is refused."""
    return urlsplit(origin).scheme == "https" and urlsplit(target).scheme != "https"


def download(
    places: Sequence[str],
    path: Path,
    md5: str,
    most: int,
    patience: Patience | None = None,
    *,
    on_bytes: OnBytes = lambda received, total: None,
    remedy: str = COPY_IT,
) -> None:
    """Download a file. The caller must hold a lock, so that no other process downloads it at the same time.

    An interrupted transfer is resumed with an HTTP Range request, now or in a later run. Connection faults, truncated
    bodies and the statuses 408, 425, 429 and 5xx are retried with growing pauses, or after their ``Retry-After``. A
    server that accepts no connection is given up within seconds. After a wrong MD5, a resumed transfer is repeated
    once from the start; in all other cases the server is given up.

    Args:
        places: URLs of the file, tried in order.
        path: Path of the complete file, in an existing folder.
        md5: MD5 of the complete file, 32 hex digits.
        most: Upper bound of its size in bytes; a server that sends or announces more is given up.
        patience: Timeouts, minimum speed and number of attempts.
        on_bytes: Called when a transfer starts and as its bytes arrive; the count falls if a transfer starts over.
        remedy: What to do without the download, for the error.

    Raises:
        SourceError: No server delivered the file (the message names the fault of each), or it cannot be stored.
        NoConnectionError: No server accepted a connection.
    """
    patience = patience or Patience()
    part = path.with_name(path.name + ".part")
    faults, kind = [], NoConnectionError if places else SourceError
    headers = {"User-Agent": "medmnist-hf", "Accept-Encoding": "identity"}
    try:
        with apply_limits(httpx.Client(headers=headers, timeout=None), patience.limits) as client:
            for place in places:
                try:
                    _from_place(client, place, part, md5, most=most, patience=patience, on_bytes=on_bytes)
                except _Fault as fault:
                    faults.append(f"{redact_url(place)}: {fault}")
                    kind = kind if not fault.connected else SourceError
                else:
                    part.replace(path)
                    _note_path(part).unlink(missing_ok=True)
                    return
    except OSError as error:
        raise SourceError(f"cannot store {path} ({error.strerror}): {_MAKE_ROOM}") from None
    raise kind(f"cannot fetch {path.name} ({'; '.join(faults)}): check the network, try later, {remedy}")


def _from_place(
    client: httpx.Client, url: str, part: Path, md5: str, *, most: int, patience: Patience, on_bytes: OnBytes
) -> None:
    """Complete `part` from one server; raise `_Fault` to give up on the server."""
    if _size(part) > most:
        _discard(part)
    failures, farthest, requests = 0, _size(part), 0
    unframed: set[str] = set()
    repeated = reached = False
    while True:
        try:
            requests += 1
            arrival = _attempt(client, url, part, most, on_bytes)
            received = md5_of(part)
            if received == md5:
                return
            fault = _Fault(f"sent a file with MD5 {received}, but the catalog has {md5}")
            if not arrival.framed and received not in unframed:
                unframed.add(received)  # perhaps truncated: the next attempt requests the missing bytes
            else:
                _discard(part)
                if repeated or not arrival.resumed:
                    fault.final = True
                else:
                    repeated = True
                    continue
        except _Fault as raised:
            fault = raised
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            fault = _to_fault(error, patience)
        except ValueError:  # from a library that does not validate headers
            fault = _Fault("answered with invalid headers")
        size, total = _size(part), _read_note(part).total
        reached = fault.connected = reached or fault.connected
        failures = 1 if size >= farthest + max(1, (total or most) // 100) else failures + 1
        farthest = max(farthest, size)
        if fault.final or failures >= (patience.attempts if reached else min(patience.attempts, patience.unconnected)):
            raise fault
        if requests >= patience.requests:
            raise _Fault(f"{fault}, the last of {requests} requests")
        pause = _pause(fault, failures, patience)
        _log.warning("%s: %s; retrying in %.0f s", redact_url(url), fault, pause)
        time.sleep(pause)


def _pause(fault: _Fault, failures: int, patience: Patience) -> float:
    if fault.wait is None:
        pause = patience.first_pause * 2.0 ** (failures - 1) * random.uniform(0.5, 1.5)
        return min(patience.longest_pause, pause)
    if fault.wait > patience.longest_pause:
        raise _Fault(f"{fault} and requested a wait of {fault.wait:.0f} s", final=True)
    return fault.wait


def _attempt(client: httpx.Client, url: str, part: Path, most: int, on_bytes: OnBytes) -> _Arrival:
    """Send one request: append the missing bytes to `part`, or start over if the server does not resume."""
    offset, note = _size(part), _read_note(part)
    headers = {}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if note.etag and note.url == redact_url(url):
            headers["If-Range"] = note.etag
    with _response(client, url, headers) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            if _content_range(response) == (None, offset):
                return _Arrival(resumed=True, framed=True)
            _discard(part)
            raise _Fault("refused to resume (416)", wait=0.0)
        if response.status_code not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            raise _status_fault(response, url)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _Fault("sent the file in a content encoding that was not requested", final=True)
        length = response.headers.get("Content-Length")
        if length is not None and not re.fullmatch(_NUMBER, length):
            raise _Fault("sent a Content-Length that is not a number of bytes", final=True)
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            start, total = _content_range(response)
            if not offset or start != offset or (note.total is not None and total not in {None, note.total}):
                _discard(part)
                raise _Fault("sent another range than requested", wait=0.0)
        else:
            offset, total = 0, int(length) if length else None
        if total is not None and total > most:
            raise _Fault(f"announced {total:,} bytes, but the file has at most {most:,}", final=True)
        _check_room(part, total)
        note = _Note(redact_url(url), _strong(response.headers.get("ETag", "")), total)
        _write_body(response, part, offset, note, most=most, on_bytes=on_bytes)
        if total is not None and _size(part) < total:
            raise _Fault(f"stopped after {_size(part)} of {total} bytes")
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        return _Arrival(resumed=offset > 0, framed=length is not None or total is not None or chunked)


def _write_body(
    response: httpx.Response, part: Path, received: int, note: _Note, *, most: int, on_bytes: OnBytes
) -> None:
    """Append a body to the first `received` bytes of a file."""
    with part.open("ab" if received else "wb") as out:
        _write_note(part, note)
        on_bytes(received, note.total)
        for chunk in response.iter_raw():
            received += len(chunk)
            if received > most:
                break
            out.write(chunk)
            on_bytes(received, note.total)
    if received > most:
        _discard(part)
        raise _Fault(f"sent more than {most:,} bytes, the upper bound of the file's size", final=True)


@contextlib.contextmanager
def _response(client: httpx.Client, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """Follow redirects and yield the final response, with its body unread."""
    request = client.build_request("GET", url, headers=headers)
    for _ in range(_REDIRECTS):
        response = client.send(request, stream=True)
        try:
            if response.next_request is None:
                yield response
                return
        finally:
            response.close()
        if is_downgrade(str(request.url), str(response.next_request.url)):
            raise _Fault("redirected from https to http, which is refused", final=True)
        request = response.next_request
    raise _Fault(f"redirected more than {_REDIRECTS} times", final=True)


def _status_fault(response: httpx.Response, url: str) -> _Fault:
    status = response.status_code
    text = redact(f"answered {status} {response.reason_phrase}".rstrip(), *secrets_of(url))
    if is_transient_status(status):
        return _Fault(text, wait=_retry_after(response.headers.get("Retry-After", "")))
    return _Fault(text, final=True)


def _retry_after(value: str) -> float | None:
    """Parse a ``Retry-After``, a number of seconds or a date, to seconds; None if it is invalid."""
    if re.fullmatch(r"[0-9]{1,9}", value.strip()):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _content_range(response: httpx.Response) -> tuple[int | None, int | None]:
    """First byte and total size in a ``Content-Range`` (RFC 9110, section 14.4); None for a missing value."""
    pattern = rf"bytes (?:({_NUMBER})-{_NUMBER}|\*)/(?:({_NUMBER})|\*)"
    match = re.fullmatch(pattern, response.headers.get("Content-Range", "").strip())
    if match is None:
        return None, None
    start, total = match.groups()
    return (int(start) if start else None), (int(total) if total else None)


def _strong(etag: str) -> str:
    """The ETag if ``If-Range`` may use it, else empty: weak ones do not guarantee equal bytes."""
    return etag if _ETAG.fullmatch(etag) else ""


def _to_fault(error: Exception, patience: Patience) -> _Fault:
    match error:
        case httpx.ConnectTimeout():
            return _Fault(f"no connection within {patience.limits.connect:g} s")
        case httpx.TimeoutException():
            return _Fault(str(error) or f"no data for {patience.limits.read:g} s")
        case httpx.UnsupportedProtocol() | httpx.InvalidURL() | httpx.LocalProtocolError():
            return _Fault("not a valid http URL", final=True)
        case httpx.ConnectError():
            return _Fault(f"no connection ({' '.join(str(error).split()) or 'refused'})", connected=False)
        case _:
            return _Fault("the connection was lost")


def _check_room(part: Path, total: int | None) -> None:
    missing = (total or 0) - _size(part)
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise SourceError(
            f"{part.parent} has {free / 1e6:,.0f} MB free, but {part.name.removesuffix('.part')} needs "
            f"{missing / 1e6:,.0f} MB more: {_MAKE_ROOM}"
        )


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _note_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> _Note:
    """Read the note of a part. An invalid note is ignored, and replaced at the next response."""
    try:
        note: _Note = decode(parse_json(read_document(_note_path(part), _NOTE_BYTES)), _Note)
    except (OSError, ValueError):
        return _Note()
    return _Note(note.url, _strong(note.etag), note.total)


def _write_note(part: Path, note: _Note) -> None:
    """Write a note that only its owner can read, since the URL of a mirror may be private."""
    path = _note_path(part)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(note), file)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)
