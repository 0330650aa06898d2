"""The server's addresses. What is wrong with a request is told as {"error": …} with a status of 400 to 499."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

import seqlib
from seqlib.serve.batcher import Batcher, Busy, Job
from seqlib.serve.config import ServeConfig
from seqlib.serve.requests import GenerateRequest, PredictRequest, Refused, TextRequest, TranslateRequest, read
from seqlib.serve.tasks import task_of
from seqlib.util.errors import OutOfMemoryError, SeqlibError
from seqlib.util.log import get_logger

_NAMES = {"de": "German", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "und": "unknown"}
_PAGE = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; connect-src 'self'",
    "X-Content-Type-Options": "nosniff",
}
_LIBRE, _OURS = (
    400,
    422,
)  # statuses of a request whose JSON says something wrong: LibreTranslate's and TensorFlow's, ours


class App:
    """An ASGI application around a loaded `model`, which is called `name` in TensorFlow Serving's protocol."""

    def __init__(self, model: Any, config: ServeConfig, name: str) -> None:
        self.task, self.limits, self.name, self.requests = task_of(model, config), config.limits, name, 0
        self.batcher = Batcher(self.task.run, config)
        own = {"translate": self._translate, "generate": self._generate}.get(self.task.name, self._texts)
        routes = [
            Route(f"/{self.task.name}", own, methods=["POST"]),
            Route(f"/v1/models/{name}:predict", self._predict, methods=["POST"]),
            *(Route(path, to) for path, to in ((f"/v1/models/{name}", self._status), ("/health", self._health))),
            Route("/", self._page),
        ]
        if self.task.name == "translate":
            routes.append(Route("/languages", self._languages))
        self._addresses = ", ".join(route.path for route in routes)
        handlers: dict[Any, Any] = dict.fromkeys((HTTPException, Refused, Exception), self._error)
        self._starlette = Starlette(routes=routes, exception_handlers=handlers)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request and log a line about it, without any of its text."""
        began, status = time.perf_counter(), "gone"

        async def noted(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._starlette(scope, receive, noted)
        except (ClientDisconnect, asyncio.CancelledError):
            status = "gone"  # the client, or the time that a server has to stop
        except Exception:
            get_logger().exception("serve: a request failed")
        self.requests += 1
        milliseconds, path = (time.perf_counter() - began) * 1000, scope["raw_path"].decode("ascii", "replace")[:100]
        texts = scope.get("seqlib.texts", 0)
        get_logger().info("%s %s %s %d texts %.1f ms", scope["method"], path, status, texts, milliseconds)

    # -- addresses

    async def _translate(self, request: Request) -> Response:
        """LibreTranslate's /translate. A text of several lines is translated line by line."""
        given = await read(request, TranslateRequest, self.limits.body, _LIBRE)
        source, target, n = self.task.about["source"], self.task.about["target"], given.alternatives
        for name in ("q", "source", "target"):
            if getattr(given, name) is None or (name != "q" and not getattr(given, name)):
                raise Refused(400, f"Invalid request: missing {name} parameter")
        for code, known in ((given.source, ("auto", source)), (given.target, (target,))):
            if code not in known and known[-1] != "und":
                raise Refused(400, f"{code} is not supported: this model translates {source} to {target}")
        if given.format not in (None, "text"):
            raise Refused(400, f"{given.format} format is not supported: send text")
        if not 0 <= n < self.limits.beam:
            raise Refused(400, f"alternatives: expected 0 to {self.limits.beam - 1}, got {n}")
        texts = [text.split("\n") for text in ([given.q] if isinstance(given.q, str) else given.q)]
        answers = iter(await self._answers(request, [line for text in texts for line in text], n, _LIBRE))
        # Of each text its translations, best first: the best of its lines, the second ones, ...
        found = [["\n".join(line) for line in zip(*(_best(next(answers), 1 + n) for _ in text))] for text in texts]
        out: dict[str, Any] = {"translatedText": [each[0] for each in found]}
        if n:
            out["alternatives"] = [each[1:] for each in found]
        if given.source == "auto":  # nothing is detected
            out["detectedLanguage"] = [{"confidence": 0.0, "language": source}] * len(texts)
        return _json({name: value[0] for name, value in out.items()} if isinstance(given.q, str) else out)

    async def _languages(self, request: Request) -> Response:
        """LibreTranslate's /languages."""
        source, target = self.task.about["source"], self.task.about["target"]
        targets = {target: [], source: [target]}
        return _json(
            [{"code": c, "name": _NAMES.get(c, c), "targets": targets[c]} for c in dict.fromkeys((source, target))]
        )

    async def _generate(self, request: Request) -> Response:
        """Outputs as `seqlib generate --json` prints them, whole or as server-sent events."""
        given = await read(request, GenerateRequest, self.limits.body, _OURS)
        prompts = [given.prompt] if isinstance(given.prompt, str) else given.prompt
        if given.n * len(prompts) > self.limits.texts:
            raise Refused(_OURS, f"{given.n * len(prompts)} outputs: at most {self.limits.texts} a request")
        if not given.stream:
            found = await self._answers(request, prompts, given.options, _OURS)
            return _json({"outputs": [one for each in found for one in each]})
        if given.beam > 1:
            raise Refused(_OURS, "stream: beam search has nothing to tell before its end; leave beam at 1")
        events, loop = asyncio.Queue(), asyncio.get_running_loop()

        def tell(prompt: int, row: int, text: str) -> None:
            loop.call_soon_threadsafe(events.put_nowait, {"index": prompt * given.n + row, "text": text})

        jobs = await self._jobs(request, prompts, given.options, _OURS, tell)
        for i, job in enumerate(jobs):
            done = asyncio.wrap_future(job.future)
            done.add_done_callback(partial(lambda first, done: events.put_nowait((first, done)), i * given.n))
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(_events(jobs, events), headers=headers, media_type="text/event-stream")

    async def _texts(self, request: Request) -> Response:
        """/classify, labels as `seqlib classify --json` prints them, and /embed."""
        given = await read(request, TextRequest, self.limits.body, _OURS)
        texts = [given.text] if isinstance(given.text, str) else given.text
        return _json({"outputs": await self._answers(request, texts, self.task.options, _OURS)})

    async def _predict(self, request: Request) -> Response:
        """TensorFlow Serving's predict: rows in, rows out; columns in, columns out."""
        given = await read(request, PredictRequest, self.limits.body, _LIBRE)
        inputs, outputs = self.task.inputs, self.task.outputs
        if (given.instances is None) == (given.inputs is None):
            raise Refused(_LIBRE, "give instances (rows) or inputs (columns), one of them")
        if given.inputs is None:
            rows = [{inputs[0]: row} if isinstance(row, str) else row for row in given.instances]
        else:
            columns = given.inputs if isinstance(given.inputs, dict) else {inputs[0]: given.inputs}
            lists = [[values] if isinstance(values, str) else values for values in columns.values()]
            if len(set(map(len, lists))) > 1:
                raise Refused(_LIBRE, f"inputs: expected lists of one length, got {[len(values) for values in lists]}")
            rows = [dict(zip(columns, row)) for row in zip(*lists)]
        for row in rows:
            if set(row) != set(inputs):
                raise Refused(_LIBRE, f"this model takes {', '.join(inputs)}, got {', '.join(row) or 'nothing'}")
        items = [row["text"] if inputs == ("text",) else tuple(row[name] for name in inputs) for row in rows]
        answers = await self._answers(request, items, self.task.options, _LIBRE)
        answers = [answer[0] if isinstance(answer, list) else answer for answer in answers]
        found = {name: [answer[name] for answer in answers] for name in outputs}
        if len(outputs) == 1:
            return _json({"predictions" if given.inputs is None else "outputs": found[outputs[0]]})
        predictions = [{name: answer[name] for name in outputs} for answer in answers]
        return _json({"predictions": predictions} if given.inputs is None else {"outputs": found})

    async def _status(self, request: Request) -> Response:
        """TensorFlow Serving's status of a model."""
        status = {"error_code": "OK", "error_message": ""}
        return _json({"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": status}]})

    async def _health(self, request: Request) -> Response:
        """What is served, and counts since the start."""
        served = {"status": "ok", "model": self.name, "version": seqlib.__version__, **self.task.about}
        counts = {"requests": self.requests, "texts": self.batcher.answered, "batches": self.batcher.batches}
        return _json({**served, "waiting": len(self.batcher.jobs), **counts})

    async def _page(self, request: Request) -> Response:
        """Where a person tries the model."""
        return HTMLResponse(Path(__file__).with_name("page.html").read_text(encoding="utf-8"), headers=_PAGE)

    # -- how they answer

    async def _jobs(
        self, request: Request, items: Sequence[Any], options: Any, bad: int, watch: Callable | None = None
    ) -> list[Job]:
        """Jobs in the queue, one for each item; `watch` is told its number, a row and a piece. Raises Refused."""
        request.scope["seqlib.texts"] = len(items)
        if len(items) > self.limits.texts:
            raise Refused(bad, f"{len(items)} texts: at most {self.limits.texts} a request")
        with _refusing(bad):
            jobs = await asyncio.to_thread(lambda: [self.task.job(item, options) for item in items])
            for i, job in enumerate(jobs):
                job.watch = watch and partial(watch, i)
            self.batcher.submit(jobs)
        return jobs

    async def _answers(self, request: Request, items: Sequence[Any], options: Any, bad: int) -> list[Any]:
        """The answers in order; work that nobody waits for any more leaves the queue. Raises Refused."""
        jobs = await self._jobs(request, items, options, bad)
        found = asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs))
        leaving = asyncio.ensure_future(request.receive())  # after the body only a disconnect can come
        try:
            with _refusing(bad):
                await asyncio.wait({found, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not found.done():
                    raise ClientDisconnect
                return found.result()
        finally:
            for job in jobs:
                job.gone = True
            leaving.cancel()
            found.cancel()

    async def _error(self, request: Request, error: Exception) -> Response:
        if isinstance(error, Refused):
            return _json({"error": str(error)}, error.status, error.headers)
        if isinstance(error, HTTPException):
            known = f": there are {self._addresses}" if error.status_code == 404 else ""
            return _json({"error": error.detail + known}, error.status_code, error.headers)
        return _json({"error": "the server failed; its log says more"}, 500)


async def _events(jobs: Sequence[Job], events: asyncio.Queue[Any]) -> AsyncIterator[bytes]:
    """Server-sent events: pieces, then for each job that is done its outputs; at the end [DONE]."""
    open_jobs = len(jobs)
    try:
        while open_jobs:
            event = await events.get()
            told = [event]
            if isinstance(event, tuple):
                open_jobs -= 1
                first, done = event
                try:
                    told = [{"index": first + i, "done": True, **one} for i, one in enumerate(done.result())]
                except Exception as error:  # a status was sent long ago
                    get_logger().exception("serve: a stream failed")
                    why = str(error) if isinstance(error, SeqlibError) else "the server failed; its log says more"
                    told = [{"index": first, "error": why}]
            for one in told:
                yield b"data: " + msgspec.json.encode(one) + b"\n\n"
        yield b"data: [DONE]\n\n"
    finally:
        for job in jobs:
            job.gone = True


@contextlib.contextmanager
def _refusing(bad: int) -> Iterator[None]:
    """Errors of the user's as Refused, with the status `bad`."""
    try:
        yield
    except (Busy, OutOfMemoryError) as error:
        raise Refused(503, str(error), {"Retry-After": "1"}) from None
    except SeqlibError as error:
        raise Refused(bad, str(error)) from None


def _best(answer: Any, n: int) -> list[str]:
    """The texts of the n best translations; the best again where there are fewer."""
    found = [answer["text"], *(other["text"] for other in answer.get("alternatives", ()))]
    return (found + [answer["text"]] * n)[:n]


def _json(value: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, "application/json")
