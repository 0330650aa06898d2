"""A loaded language model in conversation: prompt, ends of a turn, streams, the command line."""

import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import seqlib
from seqlib.cli import generate
from seqlib.cli.generate import command
from seqlib.cli.main import main
from seqlib.util.errors import UsageError
from tests.hub.stored import Stored

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<' + m.role[0] + '>' + m.content + '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<a>' }}{% endif %}"
)
SPECIAL = ["<pad>", "<bos>", "<eos>", "<end>", "<u>", "<s>", "<a>"]
HELLO = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]


@pytest.fixture
def folder(tmp_path):
    """A tiny Llama that reads letters, and ends with <eos> or <end>."""
    stored = Stored("qwen3")
    stored.config |= {"bos_token_id": 1, "eos_token_id": 2}
    letters = {token: number for number, token in enumerate([*SPECIAL, *"abcdefghijklmnopqrstuvwxyz_!?.,01"])}
    made = Tokenizer(models.WordLevel(letters, "."))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    made.add_special_tokens(SPECIAL)
    path = stored.write(tmp_path / "model")
    made.save(str(path / "tokenizer.json"))
    settings = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "chat_template": TEMPLATE}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))
    return path


def test_a_turn(folder):
    ready = seqlib.load(folder)
    ids = [1, 5, 25, 3, 4, 14, 15, 3, 6]
    assert ready.tokenizer.encode("<bos><s>s<end><u>hi<end><a>") == ids
    (expected,) = ready.generate([ids], max_tokens=6, temperature=0)
    assert ready.chat(HELLO, max_tokens=6, temperature=0) == expected
    stream = ready.chat_stream(HELLO, max_tokens=6, temperature=0)
    assert "".join(stream) == expected.text
    assert (expected.prompt, expected.stop_reason) == ("shi", "eos")
    with pytest.raises(UsageError, match="expected messages like"):
        ready.chat(["hi"])


@pytest.mark.parametrize("together", [False, True])
def test_every_end_ends(folder, together):
    """Any of the ids in generation_config.json's eos_token_id; which come is read off an endless run."""
    ready = seqlib.load(folder)
    prompts = ["ab", "xyz", "hi"] if together else ["ab"]
    ready.ends = frozenset()
    free = ready.generate(prompts, max_tokens=12, temperature=0)
    end = next(t for t in free[0].tokens[3:] if t != 2)
    ready.ends = frozenset([end])
    for one, before in zip(ready.generate(prompts, max_tokens=12, temperature=0), free, strict=True):
        cut = before.tokens.index(end) if end in before.tokens else None
        assert one.tokens == before.tokens[:cut] and one.text == ready.tokenizer.decode(one.tokens)
        if cut is not None:
            assert one.stop_reason == "eos"
            stream = ready.stream(one.prompt, max_tokens=12, temperature=0)
            assert "".join(stream) == one.text


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 3}, {"beam": 3}])
def test_an_end_between_turns_ends_nothing(folder, options):
    """Most chat models' end token stands in their prompts, too."""
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 3}))
    config = json.loads((folder / "config.json").read_text()) | {"eos_token_id": 3}
    (folder / "config.json").write_text(json.dumps(config))
    ready = seqlib.load(folder)
    assert (ready.spec.eos_id, ready.ends) == (3, frozenset())
    made, ids = ready.chat(HELLO, max_tokens=6, **options), ready._turn(HELLO)
    assert ids.count(3) == 2
    if options == {"temperature": 0}:
        for place in range(6):
            if place == len(made.tokens):
                assert made.stop_reason == "eos"
                break
            with seqlib.no_grad():
                logits = ready.model(np.array([[*ids, *made.tokens[:place]]], np.int32)).numpy()[0, -1]
            assert made.tokens[place] == logits.argmax()
    else:
        assert len(made.tokens) == 6 or made.stop_reason == "eos"


def test_the_ends_come_from_the_files(folder):
    ready = seqlib.load(folder)
    assert (ready.spec.eos_id, ready.ends) == (2, {3})


def test_command_line(folder):
    def run(*arguments, input=None):
        options = ["--max_tokens", "5", "--temperature", "0"]
        done = CliRunner().invoke(command, [str(folder), *options, *arguments], input=input, catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    ready = seqlib.load(folder)
    first = ready.chat(HELLO[1:], max_tokens=5, temperature=0).text
    assert run("--chat", "--prompt", "hi") == first + "\n"
    assert (
        run("--chat", "--prompt", "hi", "--system", "s") == ready.chat(HELLO, max_tokens=5, temperature=0).text + "\n"
    )
    messages = [HELLO[1], {"role": "assistant", "content": first}, {"role": "user", "content": "ok"}]
    second = ready.chat(messages, max_tokens=5, temperature=0).text
    assert run("--chat", input="hi\n\nok\n") == f"{first}\n{second}\n"
    constraints = {"min_length": 5, "no_repeat_ngram": 1, "banned": ["a"]}
    options = ["--min_length", "5", "--no_repeat_ngram", "1", "--ban", "a"]
    expected = ready.chat(HELLO[1:], max_tokens=5, temperature=0, **constraints).text
    assert run("--chat", "--prompt", "hi", *options) == expected + "\n" != first + "\n"
    for wrong in (["--chat", "-n", "2"], ["--chat", "--json"], ["--system", "s"]):
        with pytest.raises(UsageError, match="--chat"):
            run(*wrong)


def test_at_a_terminal(folder, monkeypatch, capsys):
    """A message that is too long is told, and the conversation goes on without it."""
    ready = seqlib.load(folder)
    first = ready.chat(HELLO[1:], max_tokens=5, temperature=0).text
    messages = [HELLO[1], {"role": "assistant", "content": first}, {"role": "user", "content": "ok"}]
    second = ready.chat(messages, max_tokens=5, temperature=0).text
    typed = iter(["hi", "", "x" * 100, "  ", "ok"])

    def ask(_):
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert main(["generate", str(folder), "--chat", "--max_tokens", "5", "--temperature", "0"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{first}\n{second}\n"
    assert "error: prompt of 110 tokens: the model has 64 places; the message is left out" in err


def test_what_the_template_refuses_is_told_first(folder, monkeypatch, capsys):
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no system') if messages[0].role == 'system' }}")
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("asked for a message"))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert main(["generate", str(folder), "--chat", "--system", "s"]) == 2
    assert "error: chat: the model's template: no system" in capsys.readouterr().err


def test_ctrl_c_ends_an_answer(capsys):
    def pieces(interrupts):
        for piece in "abcd":
            for _ in range(interrupts if piece == "b" else 0):
                os.kill(os.getpid(), signal.SIGINT)
            yield piece

    before = signal.getsignal(signal.SIGINT)
    with generate._interrupts() as stopped:
        assert generate._written(pieces(1), stopped) == "ab"
    assert capsys.readouterr().out == "ab\n"
    with pytest.raises(KeyboardInterrupt), generate._interrupts() as stopped:
        generate._written(pieces(2), stopped)
    assert signal.getsignal(signal.SIGINT) is before
