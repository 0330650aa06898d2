"""Small models in folders, and servers of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from seqlib import bundle
from seqlib.core.rng import Generator
from seqlib.data.characters import BytesTokenizer
from seqlib.hub.load import load
from seqlib.models import gpt2, text_cnn, transformer
from seqlib.problems.spec import Labels, ProblemSpec
from seqlib.serve.config import ServeConfig
from seqlib.serve.server import Server
from tests.serve.client import Client

RAW = BytesTokenizer(raw=True)
V = RAW.vocab_size
SPECS = {
    "translate": ProblemSpec(source_vocab=V, target_vocab=V, source_language="en", target_language="de"),
    "generate": ProblemSpec(task="language_model", source_vocab=V, target_vocab=V),
    "classify": ProblemSpec(
        task="text_classification", source_vocab=V, target_vocab=3, labels=Labels(names=("bad", "fair", "good"))
    ),
    "pairs": ProblemSpec(
        task="text_classification", source_vocab=V, target_vocab=2, labels=Labels(names=("no", "yes"), pairs=True)
    ),
    "number": ProblemSpec(
        task="text_classification", source_vocab=V, target_vocab=1, labels=Labels(kind="regression", high=5.0)
    ),
}
MODELS = {
    "translate": (
        transformer,
        transformer.TransformerConfig(
            encoder_layers=1, decoder_layers=1, d_model=16, d_ff=32, heads=2, max_length=64, dropout=0.0
        ),
    ),
    "generate": (gpt2, gpt2.GPT2Config(vocab=V, layers=1, d_model=16, heads=2, max_length=64, dropout=0.0)),
    "classify": (text_cnn, text_cnn.TextCNNConfig(d_model=8, maps=4, widths="2 3", max_length=64)),
}


def write(folder: Path, kind: str) -> Path:
    """A model of random weights, larger than at the start of training so that answers differ."""
    spec = SPECS[kind]
    module, config = MODELS.get(kind, MODELS["classify"])
    model = module.build(config, spec, Generator(5))
    weights = {name: w * (6 if w.ndim == 2 else 1) for name, w in model.state_dict().items()}
    return bundle.write(
        folder,
        architecture=module.__name__.rpartition(".")[2],
        model_config=config,
        weights=weights,
        tokenizer=RAW,
        spec=spec,
        problem={"name": f"test_{kind}"},
        generation={"num_beams": 2, "length_penalty": 0.6} if kind == "translate" else {},
        training={},
        metrics={},
    )


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("served")
    return {kind: write(where / kind, kind) for kind in SPECS}


@pytest.fixture(scope="session")
def models(folders: dict[str, Path]) -> dict[str, Any]:
    return {kind: load(folder, device="cpu") for kind, folder in folders.items()}


@pytest.fixture(scope="session")
def clients(models: dict[str, Any]) -> Iterator[dict[str, Client]]:
    """A server for each model."""
    with ExitStack() as stack:
        yield {
            kind: Client(stack.enter_context(Server(model, ServeConfig(port=0, device="cpu"), kind)).url)
            for kind, model in models.items()
        }


class Vectors:
    """An embedder that notes its batches, waits for `gate`, and fails for the text "fault"."""

    def __init__(self) -> None:
        self.tokenizer, self.batches, self.gate = RAW, [], threading.Event()
        self.gate.set()

    def embed(self, texts: list[str]) -> np.ndarray:
        self.batches.append(list(texts))
        assert self.gate.wait(30)
        if "fault" in texts:
            raise RuntimeError("a bug")
        return np.array([[len(text), sum(map(ord, text))] for text in texts], np.float32)


@pytest.fixture
def vectors() -> Iterator[Callable[..., tuple[Vectors, Server, Client]]]:
    """Makes a served `Vectors` of the settings given."""
    with ExitStack() as stack:

        def make(**settings: Any) -> tuple[Vectors, Server, Client]:
            model = Vectors()
            stack.callback(model.gate.set)
            server = stack.enter_context(Server(model, ServeConfig(port=0, **settings)))
            stack.callback(model.gate.set)  # before the server stops
            return model, server, Client(server.url)

        yield make
