"""A web server in a thread: files with ETags and ranges, the Hugging Face hub's API, and faults on demand."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import xet

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server:
    """`files` are contents by path, `repositories` files by name of repository. `faults` holds for a path what its next
    answers do: "cut:N" (N bytes, then the connection ends), "status:503[:RETRY-AFTER]", "html", "wrong" (other bytes,
    same length), "short" (a Content-Length too small), "no-range", "hang-up" (no answer); where something is sent,
    "cut:N" (N bytes are read), "status:413[:MESSAGE]", "hang-up". `seen` lists requests.

    `objects` are uploaded large files by sha256, which are sent in parts of `part` bytes unless that is 0. With `cas`,
    the folder of hf_xet's storage, they are found there; `xet` has their hashes."""

    def __init__(self):
        self.files, self.repositories, self.faults, self.seen = {}, {}, {}, []
        self.token = None
        self.etags = True
        self.down = False
        self.objects, self.parts, self.part = {}, {}, 0
        self.cas, self.xet = None, {}
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
        if "-token/" in path:
            return self.xet_token(state, path)
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
        if hashed := state.xet.get(sha256(content)):
            url = f"{state.url}/api/models/{name}/xet-read-token/main"
            headers |= {"X-Xet-Hash": hashed, "Link": f'<{url}>; rel="xet-auth"'}
        self.answer(302, b"", headers | {"Location": f"{state.cdn}/cdn/{name}/{file}/{sha256(content)}"})

    def xet_token(self, state, path):
        if self.fault() or not self.may_write():
            return None
        if state.cas is None:
            return self.json({"error": "no such thing"}, 404)
        found, headers = xet.token(state.cas)
        self.answer(200, json.dumps(found).encode(), headers | {"Content-Type": "application/json"})

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
        state, body = self.server.state, self.body()
        if self.fault() or not self.may_write():
            return None
        if self.path == "/api/repos/create":
            made = json.loads(body)
            return self.json({"url": f"{state.url}/{made['organization']}/{made['name']}"})
        if self.path == "/api/validate-yaml":  # of the card
            return self.json({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            return self.json({"files": [upload_mode(file["path"]) for file in json.loads(body)["files"]]})
        if self.path.endswith("/info/lfs/objects/batch"):
            return self.json({"transfer": "basic", "objects": [self.wanted(x) for x in json.loads(body)["objects"]]})
        if self.path.startswith("/parts/"):
            return self.store(b"".join(state.parts.pop(self.path.rpartition("/")[2])))
        if self.path == "/verify":
            asked = json.loads(body)
            there = len(state.objects.get(asked["oid"], b"")) == asked["size"]
            return self.json({} if there else {"error": "no such object"}, 200 if there else 404)
        if "/commit/" in self.path:
            return self.commit([json.loads(line) for line in body.splitlines()])
        self.json({}, 404)

    def do_PUT(self):
        """The content of a large file, or of a part of it, at an address that says who may do so."""
        state, content = self.server.state, self.body()
        if self.fault():
            return None
        if "signature=" not in self.path or "Authorization" in self.headers:
            return self.json({"error": "addresses are signed here"}, 400)
        _, kind, oid, *part = self.path.partition("?")[0].split("/")
        if kind == "upload":
            return self.store(content)
        parts = state.parts.setdefault(oid, [])
        if int(part[0]) == len(parts) + 1:
            parts.append(content)
        self.answer(200, b"", {"ETag": sha256(content)})

    def body(self):
        """What is sent; of a fault "cut:N" N bytes."""
        state, path = self.server.state, self.path.partition("?")[0]
        state.seen.append((path, dict(self.headers)))
        cut = next((int(f[4:]) for f in state.faults.get(path, [])[:1] if f.startswith("cut:")), None)
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            length = int(self.headers["Content-Length"])
            return self.rfile.read(length if cut is None else min(cut, length))
        found = b""
        while (size := int(self.rfile.readline(), 16)) and (cut is None or len(found) < cut):
            found += self.rfile.read(size + 2)[:-2]
        if cut is None:
            self.rfile.readline()
        return found

    def fault(self):
        """Whether the next fault of the path was an answer: "status:413[:MESSAGE]", "cut:N", "hang-up"."""
        queue = self.server.state.faults.get(self.path.partition("?")[0])
        if not queue:
            return False
        kind, _, detail = queue.pop(0).partition(":")
        if kind in ("cut", "hang-up"):
            self.hang_up()
        else:
            code, _, message = detail.partition(":")
            self.json({"error": message} if message else {}, int(code))
        return True

    def may_write(self):
        token = self.server.state.token
        known = token is None or self.headers.get("Authorization") == f"Bearer {token}"
        if not known and not self.path.startswith("/parts/"):
            self.answer(401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"})
        return known or self.path.startswith("/parts/")

    def wanted(self, file):
        """What git-LFS's batch API says of a file: where it is to be sent, or nothing of one that is there."""
        state, oid = self.server.state, file["oid"]
        if oid in state.objects:
            return file
        upload = {"href": f"{state.cdn}/upload/{oid}?signature=s"}
        if state.part and file["size"] > state.part:
            count = -(-file["size"] // state.part)
            parts = {f"{n:05}": f"{state.cdn}/part/{oid}/{n}?signature=s" for n in range(1, count + 1)}
            upload = {"href": f"{state.url}/parts/{oid}", "header": {"chunk_size": str(state.part), **parts}}
        return file | {"actions": {"upload": upload, "verify": {"href": f"{state.url}/verify"}}}

    def store(self, content):
        oid = self.path.partition("?")[0].rpartition("/")[2]
        if sha256(content) != oid:
            return self.json({"error": "the content has another sha256"}, 400)
        self.server.state.objects[oid] = content
        self.json({})

    def commit(self, lines):
        """Put what a commit names into its repository; its large files were sent before."""
        state = self.server.state
        name = self.path.removeprefix("/api/models/").partition("/commit/")[0]
        sent = {line["value"]["path"]: line["value"] for line in lines if line["key"] in ("file", "lfsFile")}
        for value in sent.values():
            self.from_xet(value)
        if missing := [f for f, value in sent.items() if "oid" in value and value["oid"] not in state.objects]:
            return self.json({"error": f"not uploaded: {', '.join(missing)}"}, 400)
        state.repositories[name] = state.repositories.get(name, {}) | {
            file: state.objects[value["oid"]] if "oid" in value else base64.b64decode(value["content"])
            for file, value in sent.items()
        }
        url = f"{state.url}/{name}/commit/{COMMIT}"
        self.json({"commitUrl": url, "commitOid": COMMIT, "pullRequestUrl": None})

    def from_xet(self, value):
        state = self.server.state
        if state.cas and "oid" in value and (hashed := xet.hashes(state.cas).get(value["oid"])):
            content = xet.fetch(state.cas, hashed, value["size"])
            state.objects[sha256(content)], state.xet[sha256(content)] = content, hashed

    def json(self, found, code=200):
        self.answer(code, json.dumps(found).encode(), {"Content-Type": "application/json"})


def upload_mode(file):
    return {"path": file, "uploadMode": "lfs" if large(file) else "regular", "shouldIgnore": False}


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
