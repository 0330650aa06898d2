"""A web server in a thread: files with ETags and ranges, the Hugging Face hub's API, and faults on demand."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server:
    """`files` are contents by path, `repositories` files by name of repository. `faults` holds for a path what its next
    answers do: "cut:N" (N bytes, then the connection ends), "status:503[:RETRY-AFTER]", "html", "wrong" (other bytes,
    same length), "short" (a Content-Length too small), "no-range", "hang-up" (no answer). `seen` lists requests."""

    def __init__(self):
        self.files, self.repositories, self.faults, self.seen = {}, {}, {}, []
        self.token = None
        self.etags = True
        self.down = False
        self.uploads = {}
        self.url = ""

    def requests(self, path):
        return [headers for seen, headers in self.seen if seen == path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        state = self.server.state
        path = unquote(urlsplit(self.path).path)
        state.seen.append((path, dict(self.headers)))
        if state.down:
            return self.hang_up()
        for name, files in state.repositories.items():
            if path.startswith((f"/api/models/{name}", f"/{name}/resolve/")):
                return self.hub(state, path, name, files)
        if path.startswith("/cdn/"):
            content = next(c for f in state.repositories.values() for c in f.values() if path.endswith(sha256(c)))
            return self.file(state, path, content)
        if path not in state.files:
            return self.answer(404, b"not here")
        self.file(state, path, state.files[path])

    def hub(self, state, path, name, files):
        if state.token and self.headers.get("Authorization") != f"Bearer {state.token}":
            return self.answer(401, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository Not Found"})
        revision = unquote(path).split("/")[-1] if "/revision/" in path else None
        if revision not in (None, "main", "v1", COMMIT):
            return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if "/tree/" in path:
            return self.answer(200, json.dumps([listed(f, c) for f, c in files.items()]).encode())
        if path.startswith("/api/models/"):
            siblings = [{"rfilename": file} for file in files]
            return self.answer(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
        file = path.split("/resolve/", 1)[1].split("/", 1)[1]
        if file not in files:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = files[file]
        if not large(file):
            return self.file(state, path, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{git_blob(content)}"'})
        headers = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
        self.answer(302, b"", headers | {"Location": f"{state.cdn}/cdn/{name}/{file}/{sha256(content)}"})

    def file(self, state, path, content, headers=None):
        headers = {"ETag": f'"{sha256(content)[:16]}"'} if headers is None and state.etags else dict(headers or {})
        fault = state.faults.get(path, []).pop(0) if state.faults.get(path) and self.command == "GET" else ""
        kind, _, detail = fault.partition(":")
        if kind == "status":
            code, _, after = detail.partition(":")
            return self.answer(int(code), b"busy", {"Retry-After": after} if after else {})
        if kind == "hang-up":
            return self.hang_up()
        if kind == "html":
            return self.answer(200, b"<!DOCTYPE html><html>log in</html>", {"Content-Type": "text/html; charset=utf-8"})
        if kind == "sly-html":
            return self.answer(
                200, b"\n<!doctype HTML><html>log in</html>", {"Content-Type": "application/octet-stream"}
            )
        if kind == "wrong":
            content = bytes(byte ^ 255 for byte in content)
        wanted, code, begin = self.headers.get("Range", ""), 200, 0
        fresh = self.headers.get("If-Range") in (None, headers.get("ETag"))
        if wanted.startswith("bytes=") and fresh and kind != "no-range":
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin = int(first or 0)
            if begin >= len(content):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            code = 206
            end = min(int(last) + 1, len(content)) if last else len(content)
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
            content = content[begin:end]
        if kind == "short":
            content = content[: int(detail)]
        self.answer(code, content, headers, cut=int(detail) if kind == "cut" else None)

    def answer(self, code, content, headers=None, cut=None):
        self.send_response(code)
        given = {"Content-Length": str(len(content)), "Accept-Ranges": "bytes"} | (headers or {})
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.hang_up()

    def hang_up(self):
        self.wfile.flush()
        self.close_connection = True

    def do_POST(self):
        state = self.server.state
        body = self.rfile.read(int(self.headers["Content-Length"]))
        state.seen.append((self.path, dict(self.headers)))
        if self.path == "/api/repos/create":
            made = json.loads(body)
            return self.answer(200, json.dumps({"url": f"{state.url}/{made['organization']}/{made['name']}"}).encode())
        if "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer(200, json.dumps({"files": files}).encode())
        if "/commit/" in self.path:
            state.uploads[self.path] = [json.loads(line) for line in body.splitlines()]
            found = {"commitUrl": f"{state.url}/org/model/commit/{COMMIT}", "commitOid": COMMIT, "pullRequestUrl": None}
            return self.answer(200, json.dumps(found).encode())
        self.answer(404, b"{}")


def large(file):
    return file.endswith((".safetensors", ".bin", ".gguf"))


def listed(file, content):
    found = {"type": "file", "path": file, "size": len(content), "oid": git_blob(content)}
    if large(file):
        found["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
    return found


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def git_blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving():
    """A running `Server`."""
    state = Server()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.state = state
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    state.cdn = state.url.replace("127.0.0.1", "localhost")  # another host, as the content of large files has
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
