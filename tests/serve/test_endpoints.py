"""What every address answers, and that it is what Python and the command line say."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from seqlib.cli.main import main
from seqlib.decode.translate import Translator
from seqlib.hub.load import load
from seqlib.serve.config import ServeConfig
from seqlib.serve.server import Server
from tests.hub.stored import Stored
from tests.serve.client import Client
from tests.serve.conftest import SPECS

TEXTS = ["To be, or not", "a", "", "forty letters that are a sentence of some"]


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> list[Any]:
    assert main(argv) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_translate_as_the_command_line(clients, folders, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXTS).encode() + b"\n")))
    lines = printed(capsys, "translate", str(folders["translate"]), "--n_best", "3", "--json", "--device", "cpu")
    asked = {"source": "en", "target": "de", "api_key": "", "format": "text"}
    found = clients["translate"].post("/translate", {"q": TEXTS, "alternatives": 2, **asked})
    assert found["translatedText"] == [line["text"] for line in lines] and len(set(found["translatedText"])) > 2
    others = [[other["text"] for other in line.get("alternatives", [])] or ["", ""] for line in lines]
    assert found["alternatives"] == others


def test_translate_one_text_of_lines_and_forms(clients, models) -> None:
    client: Client = clients["translate"]
    texts = [one.text for one in models["translate"].translate(TEXTS)]
    whole = "\n".join(TEXTS)
    asked = {"q": whole, "source": "en", "target": "de"}
    assert client.post("/translate", asked) == {"translatedText": "\n".join(texts)}
    form = b"q=To+be%2C+or+not&source=auto&target=de&alternatives=1"
    status, _, body = client.send("POST", "/translate", form, content_type="application/x-www-form-urlencoded")
    found = json.loads(body)
    assert status == 200 and found["translatedText"] == models["translate"].translate(TEXTS[:1], beam=2)[0].text
    assert found["detectedLanguage"] == {"confidence": 0.0, "language": "en"} and len(found["alternatives"]) == 1
    assert client.get("/languages") == [
        {"code": "en", "name": "English", "targets": ["de"]},
        {"code": "de", "name": "German", "targets": []},
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": None}, "missing q parameter"),
        ({"source": None}, "missing source parameter"),
        ({"target": ""}, "missing target parameter"),
        ({"source": "fr"}, "fr is not supported: this model translates en to de"),
        ({"target": "en"}, "en is not supported"),
        ({"format": "html"}, "html format is not supported"),
        ({"alternatives": 8}, "alternatives: expected 0 to 7, got 8"),
        ({"alternatives": "x"}, "Expected `int`, got `str` - at `$.alternatives`"),
        ({"q": 5}, "got `int` - at `$.q`"),
        ({"q": "x" * 5001}, "text of 5001 characters: at most 5000"),
        ({"q": "x" * 64}, "text of 64 tokens: at most 63"),
        ({"q": ["x"] * 65}, "65 texts: at most 64 a request"),
    ],
)
def test_what_translate_refuses(clients, change: dict[str, Any], message: str) -> None:
    status, said = clients["translate"].post("/translate", {"q": "a", "source": "en", "target": "de"} | change)
    assert status == 400 and message in said


OPTIONS = {"max_tokens": 24, "temperature": 0.9, "top_k": 50, "top_p": 0.95, "min_p": 0.001, "seed": 4}


def test_generate_as_the_command_line(clients, folders, tmp_path: Path, capsys) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(TEXTS) + "\n")
    flags = [f"--{name}={value}" for name, value in OPTIONS.items()]
    folder = str(folders["generate"])
    lines = printed(
        capsys, "generate", folder, "--prompts", str(prompts), "-n", "2", "--json", "--device", "cpu", *flags
    )
    asked = {"prompt": TEXTS, "n": 2, **OPTIONS}
    assert clients["generate"].post("/generate", asked) == {"outputs": lines}


@pytest.mark.parametrize(
    "more", [{}, {"stop": ["e", "q"]}, {"no_repeat_ngram": 2, "banned": ["e"], "min_length": 20}, {"temperature": 0}]
)
def test_a_stream_is_the_whole_in_pieces(clients, more: dict[str, Any]) -> None:
    asked = {"prompt": TEXTS, "n": 2, **OPTIONS, **more}
    whole = clients["generate"].post("/generate", asked)["outputs"]
    events = clients["generate"].events("/generate", {**asked, "stream": True})
    ends = {event["index"]: event for event in events if event.get("done")}
    assert [ends[i]["text"] for i in range(8)] == [one["text"] for one in whole]
    assert [ends[i]["log_prob"] for i in range(8)] == [one["log_prob"] for one in whole]
    for i in range(8):
        pieces = [event["text"] for event in events if event["index"] == i and not event.get("done")]
        assert "".join(pieces) == whole[i]["text"]
    assert len(events) > 16


def test_beams_and_what_generate_refuses(clients, models) -> None:
    client: Client = clients["generate"]
    found = client.post("/generate", {"prompt": "To be", "beam": 3, "n": 2, "max_tokens": 8})["outputs"]
    assert found == [one.record() for one in models["generate"].generate(["To be"], beam=3, n=2, max_tokens=8)]
    for asked, message in (
        ({"stream": True, "beam": 2}, "beam search has nothing to tell"),
        ({"max_tokens": 513}, "max_tokens: expected 1 to 512, got 513"),
        ({"max_tokens": 0}, "max_tokens: expected 1 to 512, got 0"),
        ({"beam": 9}, "beam: expected 1 to 8"),
        ({"prompt": ["a", "b"], "n": 40}, "80 outputs: at most 64 a request"),
        ({"temperature": -1}, "temperature: expected a number of at least 0"),
        ({"seed": 1 << 70}, "seed"),
        ({"stop": [""]}, "stop: expected a list of strings that are not empty"),
        ({"beam": 2, "n": 3}, "n: expected 1 to beam = 2"),
        ({"temprature": 1}, "unknown field `temprature`"),
        ({"prompt": "x" * 64}, "text of 64 tokens: at most 63"),
        ({"beam": 2, "temperature": 0.5}, "beam search has neither settings of sampling"),
    ):
        status, said = client.post("/generate", {"prompt": "a", **asked})
        assert status == 422 and message in said, asked


def test_classify_as_the_command_line(clients, folders, models, capsys) -> None:
    texts = [*TEXTS, "long " * 40]
    flags = [word for text in texts for word in ("--text", text)]
    lines = printed(capsys, "classify", str(folders["classify"]), "--json", "--device", "cpu", *flags)
    found = clients["classify"].post("/classify", {"text": texts})["outputs"]
    assert found == lines and [one["cut"] for one in found] == [False] * 4 + [True]
    assert clients["classify"].post("/classify", {"text": "a"})["outputs"] == found[1:2]
    pair = clients["pairs"].post("/classify", {"text": [["a", "b"]]})["outputs"]
    assert pair == [one.record() for one in models["pairs"].classify([("a", "b")])]
    (number,) = clients["number"].post("/classify", {"text": "a"})["outputs"]
    assert number == models["number"].classify(["a"])[0].record() and "value" in number
    for kind, text in (("pairs", "a"), ("classify", [["a", "b"]])):
        status, said = clients[kind].post("/classify", {"text": text})
        assert status == 422 and "this model takes text" in said


def test_predict_rows_and_columns(clients, models) -> None:
    path = "/v1/models/{}:predict"
    texts = [one.text for one in models["translate"].translate(TEXTS[:2])]
    for asked, answered in (({"instances": TEXTS[:2]}, "predictions"), ({"inputs": {"text": TEXTS[:2]}}, "outputs")):
        assert clients["translate"].post(path.format("translate"), asked) == {answered: texts}
    body = json.dumps({"instances": [{"text": "a"}], "signature_name": "serving_default"}).encode()
    assert clients["generate"].send("POST", path.format("generate"), body)[0] == 200  # as `curl -d` sends it
    one, two = (one.record() for one in models["classify"].classify(TEXTS[:2]))
    rows = clients["classify"].post(path.format("classify"), {"instances": TEXTS[:2]})["predictions"]
    assert rows == [{name: each[name] for name in ("label", "probability", "probabilities")} for each in (one, two)]
    columns = clients["classify"].post(path.format("classify"), {"inputs": TEXTS[:2]})["outputs"]
    assert columns["label"] == [one["label"], two["label"]]
    pairs = {"inputs": {"text": ["a", "c"], "text_pair": ["b", "d"]}}
    found = clients["pairs"].post(path.format("pairs"), pairs)["outputs"]["label"]
    assert found == [one.label for one in models["pairs"].classify([("a", "b"), ("c", "d")])]
    number = clients["number"].post(path.format("number"), {"instances": ["a"]})
    assert number == {"predictions": [models["number"].classify(["a"])[0].value]}
    for asked, message in (
        ({}, "give instances (rows) or inputs (columns)"),
        ({"instances": ["a"], "inputs": ["a"]}, "one of them"),
        ({"instances": [{"words": "a"}]}, "this model takes text, got words"),
        ({"inputs": {"text": ["a"], "more": []}}, "lists of one length, got [1, 0]"),
        ({"instances": [5]}, "got `int` - at `$.instances[0]`"),
    ):
        status, said = clients["classify"].post(path.format("classify"), asked)
        assert status == 400 and message in said
    assert clients["classify"].post(path.format("other"), {"instances": []})[0] == 404


def test_status_and_health(clients) -> None:
    (version,) = clients["classify"].get("/v1/models/classify")["model_version_status"]
    assert version["state"] == "AVAILABLE" and clients["classify"].get("/v1/models/nothing")[0] == 404
    found = clients["classify"].get("/health")
    assert (found["status"], found["task"], found["labels"]) == ("ok", "classify", ["bad", "fair", "good"])


def test_embed(vectors) -> None:
    _, _, client = vectors()
    assert client.post("/embed", {"text": ["ab", "c"]}) == {
        "outputs": [{"embedding": [2.0, 195.0]}, {"embedding": [1.0, 99.0]}]
    }
    assert client.post("/v1/models/model:predict", {"instances": ["ab"]}) == {"predictions": [[2.0, 195.0]]}


def test_pretrained_models(tmp_path: Path) -> None:
    words = "\n".join([*"[PAD] [UNK] [CLS] [SEP] [MASK]".split(), *"abcdefgh"])
    texts = ["a b c", "", "d"]
    for name, task in (("bert", "embed"), ("bert_classifier", "classify")):
        folder = Stored(name).write(tmp_path / name)
        (folder / "vocab.txt").write_text(words)
        model = load(folder, device="cpu")
        with Server(model, ServeConfig(port=0)) as server:
            found = Client(server.url).post(f"/{task}", {"text": texts})["outputs"]
        if task == "embed":
            assert [one["embedding"] for one in found] == model.embed(texts).tolist()
        else:
            assert found == [one.record() for one in model.classify(texts)]


def test_languages_that_nobody_told(models) -> None:
    model = models["translate"]
    unknown = Translator(model.model, model.tokenizer, SPECS["generate"], beam=2)
    asked = {"q": "a", "source": "fr", "target": "it"}
    with Server(unknown, ServeConfig(port=0)) as server:
        assert Client(server.url).post("/translate", asked) == {"translatedText": model.translate(["a"])[0].text}
        assert Client(server.url).get("/languages") == [{"code": "und", "name": "unknown", "targets": ["und"]}]
    with Server(unknown, ServeConfig(port=0, languages=("en", "xx"))) as server:
        assert Client(server.url).post("/translate", asked)[0] == 400
        assert Client(server.url).get("/languages")[1] == {"code": "xx", "name": "xx", "targets": []}
