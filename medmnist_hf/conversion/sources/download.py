"""One file from the first place that gives it whole: resumed, retried, checked by MD5, renamed into place at the end.

What has arrived so far lies in ``NAME.part``, with a note of its origin in ``NAME.part.json``. Neither is ever
trusted: a file gets its name only after the MD5 of all its bytes was found right.
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

import httpx2

from medmnist_hf.documents import parse_json
from medmnist_hf.errors import SourceError, cannot_read, one_line
from medmnist_hf.files import open_regular, read_document
from medmnist_hf.network import Limits, apply_limits, is_transient_status
from medmnist_hf.redaction import redact, redact_url, secrets_of
from medmnist_hf.typed_json import Count, decode

_log = logging.getLogger(__name__)

_REDIRECTS: Final = 10
_NOTE_BYTES: Final = 1 << 14
"""Size of the largest note: an address and an ETag."""

_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]{0,200}"')
"""A strong ETag (RFC 9110, section 8.8.3) in ASCII, of a length that servers use: others cannot be sent back."""

_NUMBER: Final = "[0-9]{1,15}"
"""A count of bytes in a header: up to a petabyte."""

OnBytes = Callable[[int, int | None], object]
"""Called with the bytes of a file that are there and with those of the whole file, None where that is not known."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a place may take and how often it is asked again.

    Attributes:
        limits: Time-outs and least speed of a request: a file of 100 MB takes a day at the least one, and the next
            place may be faster.
        attempts: Failures in a row after which a place is given up; a failure that still brought a new hundredth of
            the file starts the count again.
        unconnected: The same for a place that refuses every connection, or whose name is unknown: nothing that this
            run has heard says that it will be there soon.
        requests: Requests to one place altogether, whatever they brought: enough for 20 GB over a line that drops
            after each 80 MB.
        first_pause: Seconds before the second attempt; doubled after each failure, give or take a half.
        longest_pause: Seconds that no pause exceeds; a place whose ``Retry-After`` asks for more is given up.
    """

    limits: Limits = field(default_factory=Limits)
    attempts: int = 6
    unconnected: int = 3
    requests: int = 250
    first_pause: float = 1.0
    longest_pause: float = 120.0


class NoConnectionError(SourceError):
    """No place of a file could be connected to: most likely there is no network."""


class _Fault(Exception):
    """What went wrong at one place, in a few words.

    Attributes:
        final: Asking again is of no use.
        wait: Seconds to wait before that; None for the usual pause.
        connected: There may have been a connection.
    """

    def __init__(self, text: str, *, final: bool = False, wait: float | None = None, connected: bool = True) -> None:
        super().__init__(one_line(text))
        self.final, self.wait, self.connected = final, wait, connected


@dataclass(frozen=True, slots=True)
class _Note:
    """Where the bytes of a ``.part`` came from, to ask the same server for the rest of the same file.

    The address is kept without user, password and query.
    """

    url: str = ""
    etag: str = ""
    total: Count | None = None


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A body that came to its end.

    Attributes:
        resumed: It was added to bytes of an earlier request.
        framed: The server stated where it ends, so its end cannot have been a lost connection.
    """

    resumed: bool
    framed: bool


def md5_of(path: Path) -> str:
    """MD5 of a file's content as 32 hex digits.

    Raises:
        SourceError: The file cannot be read.
    """
    try:
        with open_regular(path) as stream:
            return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise SourceError(cannot_read(path, error, "check the file")) from None


def is_downgrade(origin: str, target: str) -> bool:
    """A redirect from ``https`` to anything else, which is refused."""
    return urlsplit(origin).scheme == "https" and urlsplit(target).scheme != "https"


def download(
    places: Sequence[str],
    path: Path,
    md5: str,
    most: int,
    patience: Patience | None = None,
    *,
    on_bytes: OnBytes = lambda done, total: None,
) -> None:
    """Fetch a file; the caller makes sure that nobody else fetches it at the same time.

    A transfer that stopped is resumed by HTTP Range, here or in a later run. Connection faults, truncated bodies and
    the statuses 408, 425, 429 and 5xx are tried again with growing pauses or after the ``Retry-After`` they state. A
    place to which no connection is made at once is given up within seconds.
    After a wrong MD5 a resumed transfer is repeated once from its first byte, any other ends the trust in the place.

    Args:
        places: URLs of the file, tried in order.
        path: Where the complete file goes; its folder must exist.
        md5: MD5 of the complete file, 32 hex digits.
        most: Bytes that it cannot exceed; a place that sends or announces more is given up.
        patience: Time-outs, least speed and number of attempts.
        on_bytes: Called when a transfer starts and as its bytes arrive; the count falls where one starts over.

    Raises:
        SourceError: No place gave the file, named with the fault of each, or it cannot be stored.
        NoConnectionError: No place gave even a connection.
    """
    patience = patience or Patience()
    part = path.with_name(path.name + ".part")
    faults, kind = [], NoConnectionError if places else SourceError
    headers = {"User-Agent": "medmnist-hf", "Accept-Encoding": "identity"}
    try:
        with apply_limits(httpx2.Client(headers=headers, timeout=None), patience.limits) as client:
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
        raise SourceError(
            f"cannot store {path} ({error.strerror}): free some space or set MEDMNIST_ROOT to another folder"
        ) from None
    raise kind(
        f"cannot fetch {path.name} ({'; '.join(faults)}): check the network, try later, add --mirror URL, "
        f"or put the file into a folder and pass --source FOLDER"
    )


def _from_place(
    client: httpx2.Client, url: str, part: Path, md5: str, *, most: int, patience: Patience, on_bytes: OnBytes
) -> None:
    """Bring `part` to completeness from one place; raises `_Fault` when the place is given up."""
    if _size(part) > most:
        _discard(part)
    failures, farthest, requests = 0, _size(part), 0
    unframed: set[str] = set()
    repeated = reached = False
    while True:
        try:
            requests += 1
            arrival = _attempt(client, url, part, most, on_bytes)
            found = md5_of(part)
            if found == md5:
                return
            fault = _Fault(f"sent a file of MD5 {found}, the catalogue has {md5}")
            if not arrival.framed and found not in unframed:
                unframed.add(found)  # perhaps cut short: the next attempt asks for what may be missing
            else:
                _discard(part)
                if repeated or not arrival.resumed:
                    fault.final = True
                else:
                    repeated = True
                    continue
        except _Fault as raised:
            fault = raised
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            fault = _in_words(error, patience)
        except ValueError:  # of a library that takes a header for what it should be
            fault = _Fault("answered with headers that make no sense")
        size, total = _size(part), _read_note(part).total
        reached = fault.connected = reached or fault.connected
        failures = 1 if size >= farthest + max(1, (total or most) // 100) else failures + 1
        farthest = max(farthest, size)
        if fault.final or failures >= (patience.attempts if reached else min(patience.attempts, patience.unconnected)):
            raise fault
        if requests >= patience.requests:
            raise _Fault(f"{fault}, the last of {requests} requests")
        pause = _pause(fault, failures, patience)
        _log.warning("%s: %s; trying again in %.0f s", redact_url(url), fault, pause)
        time.sleep(pause)


def _pause(fault: _Fault, failures: int, patience: Patience) -> float:
    if fault.wait is None:
        pause = patience.first_pause * 2.0 ** (failures - 1) * random.uniform(0.5, 1.5)
        return min(patience.longest_pause, pause)
    if fault.wait > patience.longest_pause:
        raise _Fault(f"{fault} and asks to wait {fault.wait:.0f} s", final=True)
    return fault.wait


def _attempt(client: httpx2.Client, url: str, part: Path, most: int, on_bytes: OnBytes) -> _Arrival:
    """One request: append what is missing to `part`, or start it over when the server does not resume."""
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
            raise _Fault("sent the file in a content encoding that was not asked for", final=True)
        length = response.headers.get("Content-Length")
        if length is not None and not re.fullmatch(_NUMBER, length):
            raise _Fault("stated a length that is not a number of bytes", final=True)
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            start, total = _content_range(response)
            if not offset or start != offset or (note.total is not None and total not in {None, note.total}):
                _discard(part)
                raise _Fault("answered with another range than asked for", wait=0.0)
        else:
            offset, total = 0, int(length) if length else None
        if total is not None and total > most:
            raise _Fault(f"announced {total:,} bytes, and the file has {most:,} at most", final=True)
        _check_room(part, total)
        note = _Note(redact_url(url), _strong(response.headers.get("ETag", "")), total)
        _write_body(response, part, offset, note, most=most, on_bytes=on_bytes)
        if total is not None and _size(part) < total:
            raise _Fault(f"stopped after {_size(part)} of {total} bytes")
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        return _Arrival(resumed=offset > 0, framed=length is not None or total is not None or chunked)


def _write_body(
    response: httpx2.Response, part: Path, done: int, note: _Note, *, most: int, on_bytes: OnBytes
) -> None:
    """Append a body to the `done` bytes that are there."""
    with part.open("ab" if done else "wb") as out:
        _write_note(part, note)
        on_bytes(done, note.total)
        for chunk in response.iter_raw():
            done += len(chunk)
            if done > most:
                break
            out.write(chunk)
            on_bytes(done, note.total)
    if done > most:
        _discard(part)
        raise _Fault(f"sent more than {most:,} bytes, which the file has at most", final=True)


@contextlib.contextmanager
def _response(client: httpx2.Client, url: str, headers: dict[str, str]) -> Iterator[httpx2.Response]:
    """The answer at the end of all redirects, its body not read yet."""
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
            raise _Fault("redirects from https to http, which is refused", final=True)
        request = response.next_request
    raise _Fault(f"redirects more than {_REDIRECTS} times", final=True)


def _status_fault(response: httpx2.Response, url: str) -> _Fault:
    status = response.status_code
    text = redact(f"answered {status} {response.reason_phrase}".rstrip(), *secrets_of(url))
    if is_transient_status(status):
        return _Fault(text, wait=_retry_after(response.headers.get("Retry-After", "")))
    return _Fault(text, final=True)


def _retry_after(value: str) -> float | None:
    """Seconds that a ``Retry-After`` asks for, given as seconds or as a date; None when it says nothing usable."""
    if re.fullmatch(r"[0-9]{1,9}", value.strip()):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _content_range(response: httpx2.Response) -> tuple[int | None, int | None]:
    """First byte and total size of a ``Content-Range`` (RFC 9110, section 14.4); None for what it does not tell."""
    pattern = rf"bytes (?:({_NUMBER})-{_NUMBER}|\*)/(?:({_NUMBER})|\*)"
    match = re.fullmatch(pattern, response.headers.get("Content-Range", "").strip())
    if match is None:
        return None, None
    start, total = match.groups()
    return (int(start) if start else None), (int(total) if total else None)


def _strong(etag: str) -> str:
    """An ETag that ``If-Range`` may carry: weak ones do not promise the same bytes."""
    return etag if _ETAG.fullmatch(etag) else ""


def _in_words(error: Exception, patience: Patience) -> _Fault:
    match error:
        case httpx2.ConnectTimeout():
            return _Fault(f"no connection within {patience.limits.connect:g} s")
        case httpx2.TimeoutException():
            return _Fault(str(error) or f"no data for {patience.limits.read:g} s")
        case httpx2.UnsupportedProtocol() | httpx2.InvalidURL() | httpx2.LocalProtocolError():
            return _Fault("no usable http address", final=True)
        case httpx2.ConnectError():
            return _Fault(f"no connection ({' '.join(str(error).split()) or 'refused'})", connected=False)
        case _:
            return _Fault("the connection broke off")


def _check_room(part: Path, total: int | None) -> None:
    missing = (total or 0) - _size(part)
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise SourceError(
            f"{part.parent} has {free / 1e6:,.0f} MB free and {part.name.removesuffix('.part')} needs "
            f"{missing / 1e6:,.0f} MB more: free some space or set MEDMNIST_ROOT to another folder"
        )


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _note_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> _Note:
    """The note of a part; one that is damaged, or of others, counts as none and is replaced at the next answer."""
    try:
        note: _Note = decode(parse_json(read_document(_note_path(part), _NOTE_BYTES)), _Note)
    except (OSError, ValueError):
        return _Note()
    return _Note(note.url, _strong(note.etag), note.total)


def _write_note(part: Path, note: _Note) -> None:
    """Write a note for its owner's eyes: a mirror may be known to nobody else."""
    path = _note_path(part)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(note), file)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)
