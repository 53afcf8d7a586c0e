"""Bringing a benchmark's public archive into a local folder: resumed where it stopped, checked, then unpacked whole."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from filelock import FileLock

from repeng.distributions.load import list_distributions, load_distributions
from repeng.errors import BadInput, RepengError, UnknownName

log = logging.getLogger(__name__)

ARCHIVES = {"genies": "https://genies-data.s3.us-east-2.amazonaws.com/genies-datasets.tar"}
MARKER = "fetched.json"
CHUNK = 1 << 20
ATTEMPTS = 5
# The public archive unpacks to well under a gigabyte; what claims to be far larger is not it.
MOST_UNPACKED = 20 * 1024**3

Progress = Callable[[int, int], None]
"""Told of bytes here and bytes in all."""


def data_home() -> Path:
    """Where fetched data lies, and every command looks for it by name."""
    return Path.home() / ".cache" / "repeng" / "data"


def fetched_folder(name: str, home: Path | None = None) -> Path | None:
    """The folder of distributions that `fetch` brought; None where it has not."""
    return _distributions_of((home or data_home()) / name)


def fetch(
    name: str = "genies",
    *,
    folder: Path | None = None,
    url: str | None = None,
    progress: Progress | None = None,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> Path:
    """Bring a benchmark's data here. What is here already is not brought again; a stopped download goes on.

    Args:
        name: of the data, a key of `ARCHIVES`.
        folder: where to put it; None: a folder that every command finds by name.
        url: of the archive, if not the public one.
        progress: told of bytes as they arrive.
        timeout: seconds without a byte after which a connection counts as lost.
        pause: seconds before the second try; each further one waits twice as long.

    Returns:
        The folder of distributions, as `--data` takes it.

    Raises:
        UnknownName: no archive of that name is known and no url is given.
        BadInput: the folder holds something else, or the url is none of http or https.
        RepengError: the download failed, or what arrived is not what was announced or holds no distributions.
    """
    if url is None and name not in ARCHIVES:
        raise UnknownName("data to fetch", name, ARCHIVES)
    url = url or ARCHIVES[name]
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise BadInput(f"{url}: data is fetched over http or https")
    final = Path(folder) if folder is not None else data_home() / name
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(final.with_name(f".{final.name}.lock")):
        known = _distributions_of(final)
        if known is not None:
            log.info("%s is here already: %s", name, known)
            return known
        if final.exists() and (not final.is_dir() or any(final.iterdir())):
            raise BadInput(f"{final} holds something else; give an empty folder, or one that is not there yet")
        archive = final.with_name(f".{final.name}.tar.part")
        download(url, archive, progress=progress, timeout=timeout, pause=pause)
        unpack(archive, final, {"name": name, "url": url})
        _discard(archive)
    return fetched_folder(final.name, final.parent) or final


def download(
    url: str, path: Path, *, progress: Progress | None = None, timeout: float = 30.0, pause: float = 1.0
) -> None:
    """Download a file, going on after what an earlier try left at `path` if the server still has the same file.

    Raises:
        RepengError: the server refuses, or the connection was lost five times in a row without a byte arriving.
    """
    failures = 0
    while True:
        before = path.stat().st_size if path.exists() else 0
        try:
            if _continue(url, path, progress, timeout):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise RepengError(
                    f"{url}: the server answered {error.code} {error.reason}; nothing was brought"
                ) from error
            reason = f"the server answered {error.code} {error.reason}"
        except (OSError, HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        after = path.stat().st_size if path.exists() else 0
        failures = 1 if after > before else failures + 1
        if failures >= ATTEMPTS:
            raise RepengError(
                f"{url}: {reason}; {after} bytes are here, and the same command goes on from there once it is reachable"
            )
        log.warning("%s: %s after %d bytes; trying again", url, reason, after)
        time.sleep(pause * 2 ** (failures - 1))


def _continue(url: str, path: Path, progress: Progress | None, timeout: float) -> bool:
    """One connection. True once the whole file is here."""
    have = path.stat().st_size if path.exists() else 0
    notes: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        notes = json.loads(_notes(path).read_text())
    # Without a validator of the same address, the rest of one file could be joined to the start of another.
    validator = str(notes.get("validator") or "") if notes.get("url") == url else ""
    if not validator:
        have = 0
    if have and have == notes.get("total"):
        return True
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        path.unlink(missing_ok=True)
        return False
    with response:
        if response.status != 206:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        etag = response.headers.get("ETag", "")
        strong = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
        _notes(path).write_text(json.dumps({"url": url, "validator": strong, "total": total}))
        with path.open("ab" if have else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                if progress is not None:
                    progress(have, total or have)
    return total is None or have == total


def unpack(archive: Path, final: Path, facts: dict[str, Any]) -> None:
    """Unpack a tar of distributions so that `final` exists only when it is whole and reads well.

    Raises:
        RepengError: it is no tar, a member would leave the folder, or it holds no distributions.
        BadData: a distribution in it cannot be read.
    """
    temporary = final.with_name(f".{final.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        try:
            with tarfile.open(archive) as tar:
                members = [member for member in tar.getmembers() if not Path(member.name).name.startswith("._")]
                if sum(member.size for member in members) > MOST_UNPACKED:
                    raise RepengError(
                        f"what arrived would unpack to over {MOST_UNPACKED >> 30} GiB; it was not unpacked"
                    )
                tar.extractall(temporary, members, filter="data")
        except (tarfile.TarError, EOFError, ValueError) as error:
            # It would be taken for the start of a whole one.
            _discard(archive)
            raise RepengError(f"what arrived is no archive that can be unpacked: {error}; nothing was kept") from error
        except OSError as error:
            raise RepengError(f"what arrived could not be unpacked beside {final}: {error}") from error
        inside = _find_distributions(temporary)
        if inside is None:
            raise RepengError("what arrived holds no distributions (no NAME/train.json with a NAME/test.json)")
        count = len(load_distributions(inside))
        with archive.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        facts = facts | {
            "sha256": digest,
            "bytes": archive.stat().st_size,
            "distributions": count,
            "folder": str(inside.relative_to(temporary)),
        }
        (temporary / MARKER).write_text(json.dumps(facts, indent=1))
        if final.exists():
            final.rmdir()
        os.replace(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _find_distributions(folder: Path) -> Path | None:
    """The folder with the most NAME/{train,test}.json; among equals the one named `distributions`."""
    parents = [path.parent.parent for path in folder.rglob("train.json") if (path.parent / "test.json").is_file()]
    if not parents:
        return None
    return max(sorted(set(parents)), key=lambda parent: (parents.count(parent), parent.name == "distributions"))


def _distributions_of(final: Path) -> Path | None:
    try:
        facts = json.loads((final / MARKER).read_text())
        folder = final / facts["folder"]
    except (OSError, ValueError, KeyError):
        return None
    return folder if folder.is_dir() and list_distributions(folder) else None


def _discard(archive: Path) -> None:
    archive.unlink(missing_ok=True)
    _notes(archive).unlink(missing_ok=True)


def _notes(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.json")
