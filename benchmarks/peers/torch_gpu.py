"""The peer of workloads W1, W2 and W3 in PyTorch: train steps on a GPU, bf16 by autocast, eager and compiled. Run by
gpu_train.py."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import serve
import torch
import torch.nn.functional as F
from torch import nn
from torch_translation import Attention, Translation


class Block(nn.Module):
    """A pre-norm causal layer with GELU in its tanh form."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = Attention(width, heads, 0.0, cross=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B,T,D] → [B,T,D]."""
        x = x + self.attention(self.norms[0](x), None, causal=True)
        return x + self.down(F.gelu(self.up(self.norms[1](x)), approximate="tanh"))


class Text(nn.Module):
    """GPT-2 with tied embeddings; returns the mean loss."""

    def __init__(self, vocab: int, width: int, heads: int, layers: int, length: int):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """int64 ids and targets [B,T] → loss."""
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def w1(o: argparse.Namespace) -> tuple[nn.Module, list[torch.Tensor], dict[str, Any]]:
    """Model, batch and the optimizer's settings."""
    batch = [torch.randint(3, o.vocab, (o.rows, o.length), device="cuda") for _ in range(3)]
    model = Translation(o.vocab, o.width, o.heads, o.hidden, o.layers, 0.1, smoothing=0.1)
    return model, batch, {"betas": (0.9, 0.98), "eps": 1e-9, "weight_decay": 0.0}


def w2(o: argparse.Namespace) -> tuple[nn.Module, list[torch.Tensor], dict[str, Any]]:
    """Model, batch and the optimizer's settings."""
    vocab, width, heads, layers, rows, length = map(int, o.text.split(","))
    batch = [torch.randint(0, vocab, (rows, length), device="cuda") for _ in range(2)]
    return Text(vocab, width, heads, layers, length), batch, {}


class Words(nn.Module):
    """An LSTM language model, cuDNN's LSTM, dropout 0.5; returns the mean loss."""

    def __init__(self, vocab: int, width: int, layers: int):
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.lstm = nn.LSTM(width, width, layers, dropout=0.5)
        self.out = nn.Linear(width, vocab, bias=False)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """int64 ids and targets [T,B] → loss."""
        x, _ = self.lstm(F.dropout(self.tokens(ids), 0.5))
        return F.cross_entropy(self.out(F.dropout(x, 0.5)).flatten(0, 1), targets.flatten())


def w3(o: argparse.Namespace) -> tuple[nn.Module, list[torch.Tensor], dict[str, Any]]:
    """Model, batch and the optimizer's settings."""
    vocab, width, layers, rows, length = map(int, o.words.split(","))
    batch = [torch.randint(0, vocab, (length, rows), device="cuda") for _ in range(2)]
    return Words(vocab, width, layers), batch, {"clip": 5.0}


def case(options: argparse.Namespace, build: Callable[..., Any], compiled: bool) -> serve.Run:
    """Build model and optimizer, run three steps so that later ones are warm; returns a run of `steps` steps."""
    torch.manual_seed(0)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model, batch, settings = build(options)
    model = model.to("cuda").train()
    clip = settings.pop("clip", None)
    if clip is None:
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True, **settings)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    forward = torch.compile(model) if compiled else model

    def step() -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            loss = forward(*batch)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    for _ in range(3):
        step()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**30
    print(f"torch {build.__name__} {'compiled' if compiled else 'eager'}: peak memory {peak:.2f} GiB", flush=True)

    def run() -> float:
        for _ in range(options.steps - 1):
            step()
        return float(step())

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("vocab", "width", "heads", "hidden", "layers", "rows", "length", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--text", required=True, help="of W2: vocabulary, width, heads, layers, rows, length")
    parser.add_argument("--words", required=True, help="of W3: vocabulary, width, layers, rows, length")
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    cases = {
        f"{build.__name__} {'compiled' if compiled else 'eager'} bf16": (
            lambda build=build, compiled=compiled: case(options, build, compiled)
        )
        for build in (w1, w2, w3)
        for compiled in (False, True)
    }
    serve.serve(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}", cases)


if __name__ == "__main__":
    main()
