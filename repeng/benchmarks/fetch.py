"""Bringing a benchmark's public archive into a local folder: resumed where it stopped, checked, then unpacked whole."""

from __future__ import annotations

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
from http.client import HTTPException
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import TypeAdapter
from pydantic_core import from_json

from repeng.atomic import sync_folder, sync_tree, write_atomically
from repeng.benchmarks.archive import CHUNK, MOST_BYTES, extract
from repeng.distributions.load import list_distributions, load_distributions
from repeng.errors import BadInput, RepengError, UnknownName

log = logging.getLogger(__name__)

ARCHIVES = {"genies": "https://genies-data.s3.us-east-2.amazonaws.com/genies-datasets.tar"}
MARKER = "fetched.json"
DIGESTS = "archives.json"
"""Next to the data, not in it: the SHA-256 that the archive of each address had when it was first unpacked."""
ATTEMPTS = 5

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
    sha256: str | None = None,
    progress: Progress | None = None,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> Path:
    """Bring a benchmark's data here. What is here already is not brought again; a stopped download goes on.

    Args:
        name: of the data, a key of `ARCHIVES`.
        folder: where to put it; None: a folder that every command finds by name.
        url: of the archive, if not the public one.
        sha256: hash that the archive must have, in hexadecimal; None: the one that the archive of this url had when it
            was first unpacked, as `data_home()/archives.json` records, and any the first time, which is logged.
        progress: told of bytes as they arrive.
        timeout: seconds without a byte after which a connection counts as lost.
        pause: seconds before the second try; each further one waits twice as long.

    Returns:
        The folder of distributions, as `--data` takes it.

    Raises:
        UnknownName: no archive of that name is known and no url is given.
        BadInput: the folder holds something else or data of another hash, or the url is none of http or https.
        RepengError: the download failed, or what arrived is not what was announced or holds no distributions.
    """
    import pooch

    if url is None and name not in ARCHIVES:
        raise UnknownName("data to fetch", name, ARCHIVES)
    url = url or ARCHIVES[name]
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise BadInput(f"{url}: data is fetched over http or https")
    recorded = _digests().get(url)
    final = Path(folder).absolute() if folder is not None else data_home() / name
    if not final.name:
        raise BadInput(f"{final}: data goes in a folder of its own; give its name")
    final.parent.mkdir(parents=True, exist_ok=True)
    # What arrives lies here until the folder is whole: the next try goes on with it.
    scratch = final.with_name(f".{final.name}.fetching")

    def resumed(url: str, output: str, _pooch: object) -> None:
        part = scratch / "part"
        download(url, part, progress=progress, timeout=timeout, pause=pause)
        os.replace(part, output)

    with FileLock(final.with_name(f".{final.name}.lock")):
        known = _distributions_of(final)
        if known is not None:
            log.info("%s is here already: %s", name, known)
            _check_hash_here(final, sha256)
            return known
        if final.exists() and (not final.is_dir() or any(final.iterdir())):
            raise BadInput(f"{final} holds something else; give an empty folder, or one that is not there yet")
        # Its own notes go to stderr whatever the caller does with logging.
        pooch.get_logger().setLevel(logging.WARNING)
        try:
            archive = Path(pooch.retrieve(url, sha256, path=scratch, downloader=resumed))
        except ValueError as error:
            shutil.rmtree(scratch)
            raise RepengError(f"{url}: what arrived has another SHA-256 than {sha256}; nothing was kept") from error
        digest = pooch.file_hash(str(archive))
        try:
            if sha256 is None and recorded not in (None, digest):
                raise RepengError(
                    f"{url}: what arrived has SHA-256 {digest}, and the one first fetched from there had {recorded} "
                    f"({data_home() / DIGESTS}); nothing was kept. If the change is known, give --sha256 {digest}"
                )
            unpack(archive, final, {"name": name, "url": url, "sha256": digest})
        except OSError as error:
            raise RepengError(f"what arrived could not be unpacked next to {final}: {error}") from error
        except RepengError:
            shutil.rmtree(scratch)
            raise
        shutil.rmtree(scratch)
    _record_first_use(url, digest)
    return fetched_folder(final.name, final.parent) or final


def _check_hash_here(final: Path, sha256: str | None) -> None:
    here = json.loads((final / MARKER).read_text()).get("sha256")
    if sha256 is not None and sha256.lower() != here:
        raise BadInput(f"{final} holds data of an archive with SHA-256 {here}, not {sha256}; remove it to fetch again")


def _record_first_use(url: str, digest: str) -> None:
    """Record the digest of a url's archive, and say so where it is new."""
    data_home().mkdir(parents=True, exist_ok=True)
    with FileLock(data_home() / f".{DIGESTS}.lock"):
        known = _digests()
        if known.get(url) == digest:
            return
        write_atomically(data_home() / DIGESTS, json.dumps(known | {url: digest}, indent=1))
    log.warning(
        "%s: SHA-256 %s is recorded; an archive from there with another one is refused from now on", url, digest
    )


def _digests() -> dict[str, str]:
    """The recorded SHA-256 of each address.

    Raises:
        BadInput: the file that holds them is damaged.
    """
    path = data_home() / DIGESTS
    try:
        return TypeAdapter(dict[str, str]).validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot read the recorded hashes of archives ({error}); mend or remove it") from error


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
            if _receive(url, path, progress, timeout):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            reason = f"the server answered {error.code} {error.reason}"
            if error.code < 500:
                raise RepengError(f"{url}: {reason}; nothing was brought") from error
        except (OSError, HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        after = path.stat().st_size if path.exists() else 0
        failures = 1 if after > before else failures + 1
        if failures >= ATTEMPTS:
            raise RepengError(
                f"{url}: {reason}; {after} bytes are here, and the same command goes on from there once it is reachable"
            )
        log.warning("%s: %s after %d bytes; trying again", url, reason, after)
        time.sleep(pause * 2 ** (failures - 1))


def _receive(url: str, path: Path, progress: Progress | None, timeout: float) -> bool:
    """One connection. True once the whole file is here."""
    notes = path.with_name(f"{path.name}.json")
    validator = ""
    with suppress(OSError, ValueError, AttributeError):
        validator = from_json(notes.read_bytes()).get(url)
    # Without a validator of the same address, the rest of one file could be joined to the start of another.
    have = path.stat().st_size if validator and path.exists() else 0
    headers = {"Range": f"bytes={have}-", "If-Range": validator} if have else {}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers | {"Accept-Encoding": "identity"}), timeout=timeout
        )
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        path.unlink(missing_ok=True)
        return False
    with response:
        have = have if response.status == 206 else 0
        length, etag = response.headers.get("Content-Length"), response.headers.get("ETag", "")
        total = have + int(length) if length else None
        if (total or 0) > MOST_BYTES:
            raise RepengError(f"{url}: announces {total} bytes, over {MOST_BYTES >> 30} GiB; nothing was brought")
        strong = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
        notes.write_text(json.dumps({url: strong}))
        with path.open("ab" if have else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                if have > MOST_BYTES:
                    path.unlink()
                    raise RepengError(f"{url}: sends over {MOST_BYTES >> 30} GiB; nothing was kept")
                if progress is not None:
                    progress(have, total or have)
    return total is None or have == total


def unpack(archive: Path, final: Path, facts: dict[str, Any]) -> None:
    """Unpack a tar of distributions so that `final` exists only when it is whole and reads well.

    Raises:
        RepengError: it is no tar of plain files and folders, one would leave the folder, or it holds no distributions.
        BadData: a distribution in it cannot be read.
        OSError: the disk refuses.
    """
    unpacked = archive.with_name("unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        extract(archive, unpacked)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise RepengError(f"what arrived is no archive that can be unpacked: {error}; nothing was kept") from error
    inside = _find_distributions(unpacked)
    if inside is None:
        raise RepengError("what arrived holds no distributions (no NAME/train.json with a NAME/test.json)")
    facts = facts | {
        "bytes": archive.stat().st_size,
        "distributions": len(load_distributions(inside)),
        "folder": str(inside.relative_to(unpacked)),
    }
    write_atomically(unpacked / MARKER, json.dumps(facts, indent=1))
    sync_tree(unpacked)
    if final.exists():
        final.rmdir()
    os.replace(unpacked, final)
    sync_folder(final.parent)


def _find_distributions(folder: Path) -> Path | None:
    """The folder with the most NAME/{train,test}.json; among equals the one named `distributions`."""
    parents = [path.parent.parent for path in folder.rglob("train.json") if (path.parent / "test.json").is_file()]
    if not parents:
        return None
    return max(sorted(set(parents)), key=lambda parent: (parents.count(parent), parent.name == "distributions"))


def _distributions_of(final: Path) -> Path | None:
    try:
        folder = final / from_json((final / MARKER).read_bytes())["folder"]
        return folder if folder.is_dir() and list_distributions(folder) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
