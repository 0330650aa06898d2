"""What a server is told: where it listens, how it batches, what it refuses."""

from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may be at most."""

    body: Count = 1 << 20
    """Bytes of a request's body."""
    texts: Count = 64
    """Texts of a request; lines for a translator, outputs for a language model."""
    characters: Count = 5000
    """Characters of a text."""
    tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Tokens of a text; 0: what the model reads."""
    max_tokens: Count = 512
    """Tokens of a generated output."""
    beam: Count = 8
    """Beams of a generation, and a translation with its alternatives."""
    seconds: Seconds = 10.0
    """Time that a client has to send a request whole, and to go on taking the answer."""
    connections: Count = 512
    """Connections at a time."""
    stop_seconds: Seconds = 20.0
    """How long requests in flight are waited for when the server is stopped."""


class ServeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of `seqlib serve`."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0: all of this machine's."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8000
    """Port; 0: any that is free."""
    name: str = ""
    """The model's name in /v1/models/NAME.  [the folder's]"""
    languages: tuple[str, str] | None = None
    """Source and target language of a translator that does not say them, as en,de."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto: on the GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """Arithmetic; auto: bf16 on a GPU that has it, else fp32; int8: on the CPU."""
    max_batch: Count = 32
    """Outputs computed together."""
    batch_tokens: Count = 16384
    """Tokens computed together, so that batches of long texts are smaller."""
    max_wait_ms: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 2.0
    """How long a text waits for others to be computed with."""
    queue: Count = 256
    """Texts that may wait; more are refused with 503."""
    limits: Limits = Limits()
