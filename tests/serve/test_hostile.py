"""Requests that are wrong, huge or slow, clients that leave, and the end of the server, beside a healthy client."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from seqlib.cli.main import main
from seqlib.serve.config import Limits, ServeConfig
from seqlib.serve.server import Server
from seqlib.util.errors import UsageError
from tests.serve.client import Client
from tests.serve.conftest import Vectors
from tests.serve.test_batching import wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = Limits(body=2000, seconds=0.5, stop_seconds=5.0)


def healthy(client: Client) -> bool:
    return client.post("/embed", {"text": "ab"}) == {"outputs": [{"embedding": [2.0, 195.0]}]}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "no JSON"),
        (b'{"text": "a"', 400, "no JSON"),
        (b'{"text": "a"} more', 400, "no JSON"),
        (b'{"text": "\xff"}', 400, "no JSON"),
        (b'{"text": "\\ud800"}', 400, "no JSON"),
        (b'{"text": ' + b"[" * 1900, 422, "got `array`"),
        (b'{"more": ' + b"[" * 1900, 422, "unknown field `more`"),
        (b"[]", 422, "Expected `object`, got `array`"),
        (b"{}", 422, "missing required field `text`"),
        (b'{"text": null}', 422, "got `null`"),
        (b'{"text": ["a", 1]}', 422, "got `int`"),
        (b'{"text": "' + b"a" * 2000 + b'"}', 413, "body of 2012 bytes: at most 2000"),
    ],
)
def test_bodies(vectors, body: bytes, status: int, message: str) -> None:
    _, _, client = vectors(limits=SMALL)
    found, said = client.post("/embed", body)
    assert found == status and message in said
    assert healthy(client)


def test_methods_paths_and_media_types(vectors) -> None:
    _, _, client = vectors()
    body = b'{"text": "a"}'
    status, headers, found = client.send("GET", "/embed")
    assert (status, headers["allow"], json.loads(found)) == (405, "POST", {"error": "Method Not Allowed"})
    assert client.send("POST", "/health", body)[0] == 405
    assert client.get("/nothing") == (
        404,
        "Not Found: there are /embed, /v1/models/model:predict, /v1/models/model, /health, /",
    )
    assert client.post("/translate", {})[0] == 404  # another task's
    for headers in ({}, {"content_type": "text/plain"}, {"content_type": "application/x-www-form-urlencoded"}):
        status, _, found = client.send("POST", "/embed", body, **headers)
        assert status == 415 and "expected application/json" in json.loads(found)["error"]
    packed = {"content_type": "application/json", "content_encoding": "gzip"}
    assert client.send("POST", "/embed", body, **packed)[0] == 415
    assert client.send("POST", "/embed", body, content_type="application/json; charset=utf-8")[0] == 200


def test_no_http_and_bodies_without_a_length(vectors) -> None:
    _, _, client = vectors(limits=SMALL)
    head = b"POST /embed HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    endless = (
        head + b"transfer-encoding: chunked\r\n\r\n" + b"".join(b"3e8\r\n" + b"a" * 1000 + b"\r\n" for _ in range(3))
    )
    for sent, status in (
        (b"\x16\x03\x01 what is this\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nmany: " + b"x" * 20000, b"400"),
        (head + b"content-length: -5\r\n\r\n", b"400"),
        (head + b"content-length: 999999999\r\n\r\n", b"413"),
        (endless, b"413"),
    ):
        with client.open(sent) as connection:
            assert connection.recv(1000).split(b" ")[1] == status
        assert healthy(client)


def test_slow_clients_are_cut(vectors) -> None:
    _, _, client = vectors(limits=SMALL)
    head = b"POST /embed HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    begun = [
        client.open(start)
        for start in (b"", b"POST /em", head + b"content-length: 50\r\n\r\n", head + b"content-length: 5000\r\n\r\n")
    ]
    began, dropped = time.monotonic(), 0
    while dropped < len(begun) and time.monotonic() - began < 20:
        assert healthy(client)
        for connection in begun[1:3]:  # a byte now and then does not help
            try:
                connection.send(b"x")
            except OSError:
                continue
        time.sleep(0.05)
        dropped = sum(ended(connection) for connection in begun)
    assert dropped == len(begun)
    for connection in begun:
        connection.close()


def ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while connection.recv(1000):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_one_who_does_not_read_is_cut(vectors) -> None:
    model, server, client = vectors(limits=Limits(seconds=0.5, characters=10**6, body=10**7, texts=64))
    model.embed = lambda texts: __import__("numpy").zeros((len(texts), 40_000))
    body = json.dumps({"text": ["a"] * 64}).encode()
    head = f"POST /embed HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(client.address)
    connection.sendall(head.encode() + body)
    wait_for(lambda: any(each.flow.write_paused for each in server._uvicorn.server_state.connections))
    wait_for(lambda: not server._uvicorn.server_state.connections)
    connection.close()


def test_the_queue_is_full(vectors) -> None:
    model, _, client = vectors(queue=64)
    model.gate.clear()
    waiting = [threading.Thread(target=client.post, args=("/embed", {"text": ["a"] * 32})) for _ in range(3)]
    waiting[0].start()
    wait_for(lambda: model.batches)
    for thread in waiting[1:]:
        thread.start()
    wait_for(lambda: client.get("/health")["waiting"] == 64)
    status, headers, body = client.send("POST", "/embed", b'{"text": "b"}', content_type="application/json")
    assert (status, headers["retry-after"]) == (503, "1") and b"64 texts wait already, at most 64 may" in body
    model.gate.set()
    for thread in waiting:
        thread.join()
    assert healthy(client)


def test_who_leaves_takes_the_work_along(vectors) -> None:
    model, _, client = vectors()
    model.gate.clear()
    first = threading.Thread(target=client.post, args=("/embed", {"text": "first"}))
    first.start()
    wait_for(lambda: model.batches)
    body = b'{"text": ["left", "left"]}'
    head = f"POST /embed HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    leaving = client.open(head.encode() + body)
    wait_for(lambda: client.get("/health")["waiting"] == 2)
    leaving.close()
    before = client.get("/health")["requests"]
    wait_for(lambda: client.get("/health")["requests"] > before + 1)
    model.gate.set()
    first.join()
    assert healthy(client) and ["left", "left"] not in model.batches


def test_a_stream_that_is_left_ends(clients) -> None:
    client: Client = clients["generate"]
    asked = {"prompt": "To be", "max_tokens": 512, "min_length": 500, "stream": True}
    body = json.dumps(asked).encode()
    head = (
        f"POST /generate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    engine_steps = client_steps(clients)
    connection = client.open(head.encode() + body)
    assert connection.recv(100)
    connection.close()
    found = client.post("/generate", {"prompt": "a", "max_tokens": 4})["outputs"]
    assert len(found) == 1 and client_steps(clients) - engine_steps < 500


def client_steps(clients) -> int:
    import gc

    from seqlib.decode.engine import Engine

    return sum(each.steps for each in gc.get_objects() if type(each) is Engine)


def logged(capsys: pytest.CaptureFixture[str], last: str) -> str:
    """What standard error has up to the line that begins with `last`, which comes after the answer."""
    said: list[str] = []
    wait_for(lambda: said.append(capsys.readouterr().err) or last in "".join(said))
    return "".join(said)


def test_a_fault_of_the_model_is_told_and_logged(vectors, capsys) -> None:
    _, _, client = vectors()
    assert client.post("/embed", {"text": "fault"}) == (500, "the server failed; its log says more")
    assert healthy(client)
    said = logged(capsys, "POST /embed 500 1 texts")
    assert "RuntimeError: a bug" in said


def test_the_log_has_no_texts(vectors, capsys) -> None:
    _, _, client = vectors()
    client.post("/embed", {"text": "a secret"})
    client.send("GET", "/x%0Afake%20line?text=a+secret")
    said = logged(capsys, "GET /x%0Afake%20line 404")
    assert "POST /embed 200 1 texts" in said and "secret" not in said


def test_settings_and_addresses_that_do_not_do() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(UsageError, match="can't listen there: Address already in use"):
        Server(Vectors(), ServeConfig(port=taken.getsockname()[1]))
    with pytest.raises(UsageError, match="object: only models that translate, generate"):
        Server(object(), ServeConfig(port=0))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--max_batch=0", "--max_batch: expected `int` >= 1, got '0'"),
        ("--port=70000", "--port: expected `int` <= 65535, got '70000'"),
        ("--limits.seconds=0", "--limits.seconds: expected `float` > 0.0, got '0'"),
        ("--languages=en", "--languages: expected text,text, got 'en'"),
        ("--limits.text=5", "unknown flag '--limits.text'; did you mean --limits.texts"),
    ],
)
def test_flags_out_of_range(flag: str, message: str, capsys) -> None:
    assert main(["serve", "nowhere", flag]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_after_what_is_in_flight(folders, number: int) -> None:
    command = [sys.executable, "-m", "seqlib", "serve", str(folders["generate"]), "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        client = Client(process.stdout.readline().strip())
        asked = {"prompt": "To be", "max_tokens": 500, "min_length": 500, "seed": 1}
        found = []
        thread = threading.Thread(target=lambda: found.append(client.post("/generate", asked)))
        thread.start()
        wait_for(lambda: client.get("/health")["batches"] >= 1)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        thread.join()
        assert process.returncode == 0, err
        assert out == "" and "POST /generate 200 1 texts" in err and "Traceback" not in err
        assert len(found[0]["outputs"][0]["text"]) > 10
        with pytest.raises(OSError):
            client.get("/health")
    finally:
        process.kill()
        process.wait()
