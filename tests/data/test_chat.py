"""Conversations as text: what transformers makes of them (tests/parity/make_chat.py), special tokens, bad input."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from seqlib.data.chat import encode, render
from seqlib.util.errors import UsageError

STORED = json.loads((Path(__file__).parents[1] / "parity" / "chat.json").read_text())
HELLO = [{"role": "user", "content": "Hello"}]


def tokenizer(template, **files):
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return SimpleNamespace(settings=special | {"chat_template": template}, files=files)


@pytest.mark.parametrize("name", STORED["templates"])
def test_as_transformers(name):
    found = tokenizer(STORED["templates"][name])
    for row in (row for row in STORED["rows"] if row["template"] == name):
        if isinstance(row["made"], str):
            assert render(found, row["messages"], **row["more"]) == row["made"]
        else:
            with pytest.raises(UsageError) as raised:
                render(found, row["messages"], **row["more"])
            assert str(raised.value) == f"chat: the model's template: {row['made']['error']}"


def test_where_the_template_is():
    by_name = tokenizer([{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools[0] }}"}])
    assert (render(by_name, HELLO), render(by_name, HELLO, tools=["hammer"])) == ("plain", "hammer")
    own = tokenizer("settings", **{"chat_template.jinja": "Grüße {{ messages[0].content }}".encode()})
    assert render(own, HELLO) == "Grüße Hello"
    for none in (tokenizer(None), SimpleNamespace()):
        with pytest.raises(UsageError, match="has no chat template"):
            render(none, HELLO)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "Range too big"),
        ("{{ open('/etc/passwd') }}", "'open' is undefined"),
        ("{% include 'secret' %}", "template"),
        ("{% if %}", "Expected an expression"),
    ],
)
def test_a_template_can_do_nothing_but_write(template, words):
    with pytest.raises(UsageError, match=words):
        render(tokenizer(template), HELLO)


@pytest.mark.parametrize("messages", [[], ["Hello"], [{"content": "Hello"}], [{"role": 1, "content": "Hello"}]])
def test_messages_that_are_none(messages):
    with pytest.raises(UsageError, match=r"expected messages like|there are no messages"):
        render(tokenizer("x"), messages)


def test_without_jinja2(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match="need the jinja2 package: the extra"):
        render(tokenizer("x"), HELLO)


def test_special_tokens_of_sentencepiece_are_read_where_they_are_written():
    marked = SimpleNamespace(marks={"<s>": 1, "<s>>": 7}, encode=lambda text: [100 + len(text)])
    assert encode(marked, "<s>abc<s>><s>d") == [1, 103, 7, 1, 101]
    assert encode(SimpleNamespace(encode=lambda text: [len(text)]), "<s>") == [3]
