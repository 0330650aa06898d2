"""From a model to a server that listens, and that ends cleanly."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from h11 import IDLE, SEND_BODY
from uvicorn.protocols.http.h11_impl import H11Protocol

from seqlib.serve.app import App
from seqlib.serve.config import ServeConfig
from seqlib.util.errors import UsageError

_HEADER_BYTES = 16384


class _Protocol(H11Protocol):
    """HTTP/1.1 with a time limit for clients: to send a request whole once it has begun (a connection begins one), and
    to take what is sent to them. Who is slower is cut."""

    seconds = 10.0
    _owing: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch(True)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch(self.conn.their_state in (IDLE, SEND_BODY))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch(False)
        self.resume_writing()
        super().connection_lost(exc)

    def _watch(self, owing: bool) -> None:
        if owing and self._owing is None:
            self._owing = self.loop.call_later(self.seconds, self.transport.abort)
        elif not owing and self._owing is not None:
            self._owing = self._owing.cancel()


class _Uvicorn(uvicorn.Server):
    """Calls `started` when it listens, and takes a signal as the wish to end, with exit code 0."""

    started_call: Callable[[], Any]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.started_call()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Server:
    """A loaded `model` over HTTP, named `name`, at `url`; the port is taken at once. `run` serves until a signal comes;
    as a context manager it serves meanwhile, in a thread of its own. Raises UsageError for an address that can't be
    had and a model of no use here."""

    def __init__(self, model: Any, config: ServeConfig | None = None, name: str = "model") -> None:
        config = config or ServeConfig(port=0)
        self._socket = socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((config.host, config.port))
        except OSError as error:
            self._socket.close()
            raise UsageError(f"{config.host}:{config.port}: can't listen there: {error.strerror}") from None
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self.app = App(model, config, config.name or name)
        self._stop_seconds = config.limits.stop_seconds
        settings: dict[str, Any] = {
            "http": type("Protocol", (_Protocol,), {"seconds": config.limits.seconds}),
            "ws": "none",
            "lifespan": "off",
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "proxy_headers": False,
            "limit_concurrency": config.limits.connections,
            "timeout_graceful_shutdown": self._stop_seconds,
            "h11_max_incomplete_event_size": _HEADER_BYTES,
        }
        self._uvicorn = _Uvicorn(uvicorn.Config(self.app, **settings))

    def run(self, started: Callable[[], Any] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT, finish the requests in flight, return. `started` is called when requests are
        taken."""
        self._uvicorn.started_call = started
        try:
            self._uvicorn.run(sockets=[self._socket])
        finally:
            self.app.batcher.stop(self._stop_seconds)
            self._socket.close()

    def __enter__(self) -> "Server":
        started = threading.Event()
        self._thread = threading.Thread(target=self.run, args=(started.set,), name="seqlib-http")
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self._uvicorn.should_exit = True
        self._thread.join()
