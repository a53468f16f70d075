"""A stand-in for the Hugging Face Hub: a small HTTP server with the parts of its API that langadapt uses.

It answers as the hub does (headers and error codes by hub documentation and `huggingface_hub`'s own error handling):
what is gated shows its description to everyone and its files only to those who were let in; an unknown repository is
401 to strangers and 404 to those who are logged in; weights and archives are redirected to a "CDN". Members make
repositories and commit to them; large files are first put into storage, by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

MEMBER, STRANGER = "hf_member", "hf_stranger"  # tokens: one whose owner accepted the terms, one whose owner did not
BIG = (".safetensors", ".bin", ".gz", ".parquet", ".gguf")  # kept in large-file storage, hence behind a redirect


@dataclass
class Repo:
    """A repository with one commit.

    Attributes:
        files: contents by path.
        gated: whether its files are only for those who accepted its terms.
        private: whether only its owner may see it.
        names: what the commit may be called: branches and tags.
    """

    files: dict[str, bytes]
    gated: bool = False
    private: bool = False
    names: tuple[str, ...] = ("main",)

    @property
    def commit(self) -> str:
        """40 hexadecimal digits that follow from the contents."""
        parts = (f"{path}\0{_sha1(content)}" for path, content in sorted(self.files.items()))
        return _sha1("\n".join(parts).encode())


@dataclass
class HubStandIn:
    """The server's repositories and what it was asked for.

    Attributes:
        models: by `owner/name`.
        datasets: by `owner/name`.
        asked: method and path of every request, in order.
        stored: large files that were uploaded, by SHA-256.
        broken: status that every request whose path holds the key is answered with, such as `{"/resolve/": 503}`.
        url: where it listens; what HF_ENDPOINT is set to.
    """

    models: dict[str, Repo] = field(default_factory=dict)
    datasets: dict[str, Repo] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    url: str = ""

    @property
    def cdn(self) -> str:
        """The same server under another host name, as a redirect to storage goes to another host."""
        return self.url.replace("127.0.0.1", "localhost")

    @property
    def fetched(self) -> list[str]:
        """Paths inside their repositories of the files whose contents were fetched, sorted, each once."""
        gets = [unquote(path) for method, path in self.asked if method == "GET"]
        matches = (re.search(r"/(?:resolve|cdn)/[0-9a-f]{40}/(.+)$", path) for path in gets)
        return sorted({match.group(1) for match in matches if match})


@contextmanager
def serving(hub: HubStandIn) -> Iterator[HubStandIn]:
    """Runs the server on a free port of this machine while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def environment(url: str, home: Path, **more: str) -> dict[str, str]:
    """Variables for a process that talks to a stand-in at `url` and to nothing else, logged in as nobody."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING")) and "proxy" not in k.lower()}
    own = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return kept | own | more


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


class _Refusal(Exception):
    def __init__(self, status: int, code: str = "", message: str = ""):
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the tests read `asked`."""

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.asked.append((self.command, path))
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            for part, status in self.hub.broken.items():
                if part in path:
                    raise _Refusal(status, message="broken on purpose")
            if self.command in ("POST", "PUT"):
                self._write(path)
            else:
                self._route(path)
        except _Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            body = json.dumps({"error": refusal.message}).encode()
            self._send(
                refusal.status, body, {k: v for k, v in headers.items() if v} | {"Content-Type": "application/json"}
            )

    def _route(self, path: str) -> None:
        if path == "/api/whoami-v2":
            self._member()
            self._json({"type": "user", "name": "acme", "orgs": []})
        elif match := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(.*))?", path):
            kind, name, rest = match.group(1), unquote(match.group(2)), match.group(3) or ""
            self._api(kind, name, self._repo(kind, name), rest)
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind = "dataset" if match.group(1) else "model"
            name, revision, file = map(unquote, match.groups()[1:])
            self._resolve(kind, name, self._repo(kind, name), revision, file)
        elif match := re.fullmatch(r"/(model|dataset)/([^/]+/[^/]+)/cdn/[0-9a-f]{40}/(.+)", path):
            repos = self.hub.models if match.group(1) == "model" else self.hub.datasets
            content = repos[match.group(2)].files[unquote(match.group(3))]
            self._send(200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'})
        else:
            raise _Refusal(404, message="no such page")

    def _api(self, kind: str, name: str, repo: Repo, rest: str) -> None:
        verb, _, revision = rest.partition("/")
        if verb == "auth-check":
            self._admit(name, repo)
            self._send(200, b"{}", {"Content-Type": "application/json"})
            return
        self._known(repo, unquote(revision) or "main")
        if verb in ("", "revision"):
            found: object = {
                "id": name,
                "sha": repo.commit,
                "private": repo.private,
                "gated": "auto" if repo.gated else False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": [{"rfilename": path} for path in sorted(repo.files)],
            }
        elif verb == "tree":
            found = [_entry(path, content) for path, content in sorted(repo.files.items())]
        else:
            raise _Refusal(404, message="no such page")
        self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _resolve(self, kind: str, name: str, repo: Repo, revision: str, file: str) -> None:
        self._admit(name, repo)
        self._known(repo, revision)
        if file not in repo.files:
            raise _Refusal(404, "EntryNotFound", "Entry not found")
        content = repo.files[file]
        headers = {"X-Repo-Commit": repo.commit}
        if file.endswith(BIG):
            headers |= {
                "Location": f"{self.hub.cdn}/{kind}/{name}/cdn/{repo.commit}/{file}",
                "X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
            }
            self._send(302, b"", headers)
        else:
            self._send(200, content, headers | {"ETag": f'"{_sha1(content)}"'})

    # --- uploads -----------------------------------------------------------------------------------------------------

    def _write(self, path: str) -> None:
        if match := re.fullmatch(r"/storage/([0-9a-f]{64})", path):
            self.hub.stored[match.group(1)] = self.body
            self._send(200, b"", {"ETag": '"stored"'})
            return
        self._member()
        if path == "/api/repos/create":
            wanted = json.loads(self.body)
            name = f"{wanted['organization'] or 'acme'}/{wanted['name']}"
            if name in self.hub.models:
                raise _Refusal(409, message="You already created this model repo")
            self.hub.models[name] = Repo({}, private=wanted.get("visibility") == "private")
            self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path):
            repo = self._repo("model", match.group(1))
            self._preupload() if match.group(2) == "preupload" else self._commit(match.group(1), repo)
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(self.body)["objects"]
            actions = [{"upload": {"href": f"{self.hub.cdn}/storage/{o['oid']}"}} for o in objects]
            told = [o | {"actions": action} for o, action in zip(objects, actions, strict=True)]
            self._json({"transfer": "basic", "objects": told})
        else:
            raise _Refusal(404, message="no such page")

    def _preupload(self) -> None:
        paths = [file["path"] for file in json.loads(self.body)["files"]]
        modes = [
            {"path": p, "uploadMode": "lfs" if p.endswith(BIG) else "regular", "shouldIgnore": False} for p in paths
        ]
        self._json({"files": modes})

    def _commit(self, name: str, repo: Repo) -> None:
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo.files[value["path"]] = self.hub.stored[value["oid"]]
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{repo.commit}", "commitOid": repo.commit})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    # --- who may see what --------------------------------------------------------------------------------------------

    @property
    def _token(self) -> str:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in (MEMBER, STRANGER):
            raise _Refusal(401, message="Invalid credentials in Authorization header")
        return token

    def _member(self) -> None:
        if self._token != MEMBER:
            raise _Refusal(401 if not self._token else 403, message="You have no right to write here")

    def _repo(self, kind: str, name: str) -> Repo:
        repos = self.hub.models if kind == "model" else self.hub.datasets
        token = self._token
        if name not in repos:
            raise _Refusal(404 if token else 401, "RepoNotFound", "Repository not found")
        return repos[name]

    def _admit(self, name: str, repo: Repo) -> None:
        if repo.gated and self._token != MEMBER:
            raise _Refusal(403 if self._token else 401, "GatedRepo", f"Access to {name} is restricted")

    def _known(self, repo: Repo, revision: str) -> None:
        if revision not in (*repo.names, repo.commit):
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(path: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": _sha1(content)}
    if path.endswith(BIG):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry
