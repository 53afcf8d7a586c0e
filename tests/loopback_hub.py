"""A hub on loopback that speaks what huggingface_hub asks: repositories, listings, uploads in one commit, downloads."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]
TOKEN = "hf_loopback"


@dataclass
class Repository:
    """One repository: its commits, each all of its files, and where its branches are."""

    kind: str
    private: bool
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit("main", {})

    def commit(self, branch: str, files: Files) -> str:
        oid = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid

    def at(self, revision: str) -> tuple[str, Files] | None:
        oid = self.branches.get(revision, revision)
        return (oid, self.commits[oid]) if oid in self.commits else None

    @property
    def files(self) -> Files:
        return self.commits[self.branches["main"]]


@dataclass
class Hub:
    """What the hub holds, what it was asked, and how it fails.

    Attributes:
        repositories: by kind and name, as ("model", "user/name").
        objects: large files by their sha256.
        requests: method and path of each.
        token: that it takes; every repository is private.
        spoil: what is answered in place of a file's content, by its path.
        fault: of a method and path the status to fail with, or 0.
    """

    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    token: str = TOKEN
    spoil: Callable[[str, bytes], bytes] = lambda _path, content: content
    fault: Callable[[str, str], int] = lambda _method, _path: 0
    url: str = ""

    def add(self, kind: str, name: str, files: Files) -> Repository:
        repository = self.repositories.setdefault((kind, name), Repository(kind, True))
        repository.commit("main", {**repository.files, **files})
        return repository


class _Refused(Exception):
    def __init__(self, status: int, code: str = "", *, said: dict[str, Any] | None = None) -> None:
        super().__init__(status)
        self.status, self.code, self.said = status, code, said or {}


API = re.compile(r"/api/(model|dataset)s/([\w.-]+/[\w.-]+)(?:/([\w-]+)(?:/([^/]+)(?:/(.*))?)?)?$")
RESOLVE = re.compile(r"/(datasets/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.*)$")
BATCH = re.compile(r"/(?:datasets/)?[\w.-]+/[\w.-]+\.git/info/lfs/objects/batch$")


@contextmanager
def loopback_hub() -> Iterator[Hub]:
    """A running hub."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            hub.requests.append((self.command, unquote(path)))
            try:
                if status := hub.fault(self.command, unquote(path)):
                    raise _Refused(status)
                headers, content = self._answer(path, body)
                self.send_response(200)
            except _Refused as refused:
                headers = {"X-Error-Code": refused.code} if refused.code else {}
                content = json.dumps(refused.said).encode()
                self.send_response(refused.status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = _serve

        def log_message(self, *_arguments: object) -> None:
            """Says nothing."""

        def _answer(self, path: str, body: bytes) -> tuple[dict[str, str], bytes]:
            if path.startswith("/lfs/"):
                assert hashlib.sha256(body).hexdigest() == path.removeprefix("/lfs/")
                hub.objects[path.removeprefix("/lfs/")] = body
                return {}, b""
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                raise _Refused(401, "RepoNotFound")
            said = json.loads(body) if body and b"\n{" not in body else {}
            if path == "/api/validate-yaml":
                assert said["content"].startswith("---\n")
                return _json({"errors": [], "warnings": []})
            if path == "/api/repos/create":
                return self._create(said)
            if BATCH.match(path):
                return _json({"transfer": "basic", "objects": [self._upload(one) for one in said["objects"]]})
            if found := RESOLVE.match(path):
                kind = "dataset" if found[1] else "model"
                oid, files = self._at(kind, found[2], unquote(found[3]))
                return self._content(oid, files, unquote(found[4]))
            if found := API.match(path):
                return self._api(*found.groups(), said=said, body=body)
            raise _Refused(404)

        def _create(self, said: dict[str, Any]) -> tuple[dict[str, str], bytes]:
            key = said.get("type", "model"), f"{said.get('organization', 'user')}/{said['name']}"
            url = f"{hub.url}/{'datasets/' if key[0] == 'dataset' else ''}{key[1]}"
            if key in hub.repositories:
                raise _Refused(409, said={"url": url})
            private = said.get("private", said.get("visibility") == "private")
            hub.repositories[key] = Repository(key[0], private)
            return _json({"url": url})

        def _upload(self, one: dict[str, Any]) -> dict[str, Any]:
            known = one["oid"] in hub.objects
            return {**one, **({} if known else {"actions": {"upload": {"href": f"{hub.url}/lfs/{one['oid']}"}}})}

        def _at(self, kind: str, name: str, revision: str) -> tuple[str, Files]:
            repository = hub.repositories.get((kind, name))
            if repository is None:
                raise _Refused(404, "RepoNotFound")
            found = repository.at(revision)
            if found is None:
                raise _Refused(404, "RevisionNotFound")
            return found

        def _content(self, oid: str, files: Files, path: str) -> tuple[dict[str, str], bytes]:
            if path not in files:
                raise _Refused(404, "EntryNotFound")
            content = hub.spoil(path, files[path])
            return {"X-Repo-Commit": oid, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}, content

        def _api(
            self,
            kind: str,
            name: str,
            what: str | None,
            revision: str | None,
            _path: str | None,
            said: Any,
            body: bytes,
        ) -> tuple[dict[str, str], bytes]:
            branch = unquote(revision or "main")
            if what == "branch":
                _, files = self._at(kind, name, "main")
                hub.repositories[kind, name].commit(branch, dict(files))
                return _json({})
            oid, files = self._at(kind, name, branch)
            if what in (None, "revision"):
                return _json({"id": name, "_id": name, "sha": oid, "siblings": [], "private": True, "tags": []})
            if what == "tree":
                return _json([_entry(path, content) for path, content in files.items()])
            if what == "preupload":
                return _json({"files": [_mode(one, files) for one in said["files"]]})
            if what == "commit":
                return self._commit(hub.repositories[kind, name], branch, dict(files), body)
            raise _Refused(404)

        def _commit(
            self, repository: Repository, branch: str, files: Files, body: bytes
        ) -> tuple[dict[str, str], bytes]:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "header" and value.get("parentCommit") not in (None, repository.branches[branch]):
                    raise _Refused(412)
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                if line["key"] == "deletedFile":
                    del files[value["path"]]
                if line["key"] == "lfsFile":
                    files[value["path"]] = hub.objects[value["oid"]]
            oid = repository.commit(branch, files)
            return _json({"commitUrl": f"{hub.url}/user/name/commit/{oid}", "commitOid": oid})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _json(value: Any) -> tuple[dict[str, str], bytes]:
    return {"Content-Type": "application/json"}, json.dumps(value).encode()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


def _mode(one: dict[str, Any], files: Files) -> dict[str, Any]:
    mode = "lfs" if one["path"].endswith(".safetensors") else "regular"
    content = files.get(one["path"])
    known = {} if content is None else {"oid": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}
    return {"path": one["path"], "uploadMode": mode, "shouldIgnore": False, **known}
