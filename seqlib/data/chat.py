"""Chat templates: a conversation as one text, by the Jinja template that came with a tokenizer (extra `chat`)."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from seqlib.util.errors import UsageError


def render(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = False, **more: Any
) -> str:
    """The text of `messages` (``{"role": "user", "content": "…"}`` and the like), special tokens written out; with
    `add_generation_prompt` what the assistant's next message begins with stands behind it. `more` (tools, documents,
    what a model's template asks for) goes to the template, which sees special tokens by their names (``bos_token``).

    The template is the tokenizer's ``chat_template.jinja``, or that in its tokenizer_config.json; it runs in a sandbox.
    Raises UsageError for a tokenizer without one, for messages that are none, with what the template itself refuses,
    and where jinja2 is missing.
    """
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise UsageError(f"chat: expected messages like {{'role': 'user', 'content': '…'}}, got {message!r}")
    if not messages:
        raise UsageError("chat: there are no messages")
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise UsageError("chat templates need the jinja2 package: the extra `chat`") from error
    settings = getattr(tokenizer, "settings", {})
    given: dict[str, Any] = {"tools": None, "documents": None} | more
    special = {name: token for name, token in settings.items() if name.endswith("_token") and isinstance(token, str)}
    given = {
        "messages": [{key: value for key, value in each.items() if value is not None} for each in messages]
    } | given
    template = _template(tokenizer, settings, "tool_use" if given["tools"] else "default")
    try:
        return _compiled(template).render(add_generation_prompt=add_generation_prompt, **special | given)
    except Exception as error:  # a template can raise whatever an expression can
        raise UsageError(f"chat: the model's template: {error}") from error


def encode(tokenizer: Any, text: str) -> list[int]:
    """Ids of a rendered text: special tokens that are written in it are read as those tokens, and none is added."""
    marks: dict[str, int] = getattr(tokenizer, "marks", {})
    if not marks:
        return tokenizer.encode(text)
    longest_first = sorted(marks, key=len, reverse=True)
    parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
    return [token for part in parts if part for token in ([marks[part]] if part in marks else tokenizer.encode(part))]


def _template(tokenizer: Any, settings: Mapping[str, Any], name: str) -> str:
    files: Mapping[str, bytes] = getattr(tokenizer, "files", {})
    if "chat_template.jinja" in files:
        return files["chat_template.jinja"].decode()
    found = settings.get("chat_template")
    if isinstance(found, list):
        named = {each["name"]: each["template"] for each in found}
        found = named.get(name, named.get("default"))
    if not isinstance(found, str):
        raise UsageError("chat: this model's tokenizer has no chat template; give prompts to `generate` instead")
    return found


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    """In transformers' environment: its settings, its filter, its two functions, its block around what is generated."""
    from jinja2 import TemplateError, ext, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(ext.Extension):
        tags = {"generation"}

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def as_json(
        x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = as_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    return environment.from_string(template)
