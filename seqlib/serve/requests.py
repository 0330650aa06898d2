"""Bodies of requests: their types, how they are read, and what is refused, each with a message that names the limit."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from seqlib.serve.tasks import GenerateOptions
from seqlib.util.errors import SeqlibError

FORM = "application/x-www-form-urlencoded"


class Refused(SeqlibError):
    """Answered with a `status` and `headers`."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


class TranslateRequest(msgspec.Struct, kw_only=True):
    """LibreTranslate's. As there, other fields (such as api_key) count for nothing."""

    q: str | tuple[str, ...] | None = None
    source: str | None = None
    target: str | None = None
    format: str | None = None
    alternatives: int = 0


class GenerateRequest(GenerateOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prompts with the options of them all."""

    prompt: str | tuple[str, ...] = ""
    stream: bool = False

    @property
    def options(self) -> GenerateOptions:
        """Without prompts."""
        return GenerateOptions(**{name: getattr(self, name) for name in GenerateOptions.__struct_fields__})


class TextRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A text, or several texts or pairs of them."""

    text: str | tuple[str | tuple[str, str], ...]


class PredictRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """TensorFlow Serving's: `instances`, a row each, or `inputs`, a column each."""

    instances: tuple[str | dict[str, str], ...] | None = None
    inputs: str | tuple[str, ...] | dict[str, str | tuple[str, ...]] | None = None
    signature_name: str = "serving_default"


async def read(request: Request, kind: type[Any], limit: int, bad: int) -> Any:
    """The body as a `kind`; TranslateRequest may come as a form, PredictRequest as any media type. Raises Refused: 413
    beyond `limit` bytes, 415 for another media type or encoding, 400 for what is no JSON, `bad` for JSON of other
    fields or types."""
    body, size, chunks = bytearray(), int(request.headers.get("content-length", 0)), request.stream()
    while size <= limit and (chunk := await anext(chunks, None)) is not None:
        body += chunk
        size = max(size, len(body))
    if size > limit:
        raise Refused(413, f"body of {size} bytes: at most {limit}")
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = media == FORM and kind is TranslateRequest
    if not form and media != "application/json" and kind is not PredictRequest:
        known = "application/json" + f" or {FORM}" * (kind is TranslateRequest)
        raise Refused(415, f"Content-Type {media or '(none)'}: expected {known}")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "Content-Encoding: send the body as it is")
    try:
        if form:
            return msgspec.convert(dict(parse_qsl(body.decode(), keep_blank_values=True)), kind, strict=False)
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Refused(bad, f"body: {error}") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Refused(400, f"body: no {'form' if form else 'JSON'}: {error}") from None
