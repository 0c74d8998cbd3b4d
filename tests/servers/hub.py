"""The endpoints of Hugging Face's hub that a push calls: create a data set, ask how to upload, commit.

    with HubServer() as hub: subprocess.run(command, env={"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN})
    hub.files["me/answers"]["README.md"]  ->  b"---\\ndataset_info: ..."

Bodies have the form that huggingface_hub sends (https://huggingface.co/docs/hub/api). Small files come in the
commit itself: the hub decides so by ``uploadMode``.
"""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "7f1d" * 8
DATA_SET = r"/api/datasets/([\w.-]+/[\w.-]+)"


class HubServer:
    """The server, in a thread, between `__enter__` and `__exit__`; ``refuse`` answers all calls so."""

    def __init__(self) -> None:
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.calls: list[str] = []
        self.refuse: int | None = None
        handler = type("Bound", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        """Give the endpoint."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, token: str | None, body: bytes) -> tuple[int, dict[str, Any]]:
        """Answer a call."""
        self.calls.append(path)
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid username or password."}
        if self.refuse is not None:
            return self.refuse, {"error": "refused by the test"}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        for action in (self._preupload, self._commit):
            match = re.fullmatch(rf"{DATA_SET}/{action.__name__.strip('_')}/main", path)
            if match and match[1] in self.private:
                return action(match[1], body)
        return 404, {"error": f"no such endpoint: {path}"}

    def _create(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = f"{asked['organization']}/{asked['name']}"
        assert asked["type"] == "dataset"
        url = f"{self.url}/datasets/{name}"
        if name in self.private:
            return 409, {"error": "You already created this dataset repo", "url": url}
        self.private[name] = asked.get("private") or asked.get("visibility") == "private"
        return 200, {"url": url, "id": name}

    def _preupload(self, name: str, body: bytes) -> tuple[int, dict[str, Any]]:
        modes = [
            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
            for file in json.loads(body)["files"]
        ]
        return 200, {"files": modes}

    def _commit(self, name: str, body: bytes) -> tuple[int, dict[str, Any]]:
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files = self.files.setdefault(name, {})
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = {"commitUrl": f"{self.url}/datasets/{name}/commit/abc", "commitOid": "abc"}
        return 200, {**commit, "hookOutput": "", "pullRequestUrl": None}


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, value = self.hub.answer(self.path, self.headers.get("Authorization"), body)
        content = json.dumps(value).encode()
        self.send_response(status)
        if status >= 400:
            self.send_header("X-Error-Message", value["error"])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815  (the names are http.server's)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""
