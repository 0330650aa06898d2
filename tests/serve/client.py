"""A client over sockets that says what it likes."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit


class Client:
    """Of the server at `url`."""

    def __init__(self, url: str) -> None:
        self.url, self.address = url, (urlsplit(url).hostname, urlsplit(url).port)

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer; `content_type` is a header too."""
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body or None, named)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def post(self, path: str, value: Any) -> Any:
        """The JSON answered to JSON; with its status where that is not 200."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        status, _, found = self.send("POST", path, body, content_type="application/json")
        return json.loads(found) if status == 200 else (status, json.loads(found)["error"])

    def get(self, path: str) -> Any:
        """The JSON there."""
        status, _, found = self.send("GET", path)
        return json.loads(found) if status == 200 else (status, json.loads(found)["error"])

    def events(self, path: str, value: Any) -> list[Any]:
        """Server-sent events."""
        status, headers, found = self.send("POST", path, json.dumps(value).encode(), content_type="application/json")
        assert status == 200 and headers["content-type"].startswith("text/event-stream")
        parts = found.decode().split("\n\n")
        assert parts[-2:] == ["data: [DONE]", ""]
        return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]

    def open(self, start: bytes = b"") -> socket.socket:
        """A connection on which `start` was sent."""
        made = socket.create_connection(self.address, timeout=30)
        made.sendall(start)
        return made
