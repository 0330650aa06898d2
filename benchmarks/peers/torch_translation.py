"""Workload C1's peer: the same train step in PyTorch. Run by c1_train_step.py under a Python that has torch.

B batch, T target time, S source time, D model width, F feed-forward width, H heads, K head width, V vocabulary.
The peer gets every advantage that the workload allows: projections of one input packed into one product, no mask
where all sentences are full, scaled_dot_product_attention, the fused optimizer.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import serve
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention with biases; queries, keys and values of self-attention come from one product."""

    def __init__(self, width: int, heads: int, rate: float, cross: bool):
        super().__init__()
        self.heads, self.rate, self.cross = heads, rate, cross
        self.inputs = nn.ModuleList(
            nn.Linear(width, n * width) for n in ((1, 2) if cross else (3,))
        )  # q and kv, or qkv
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor | None, causal: bool) -> Tensor:
        """x [B,T,D], memory [B,S,D] for cross-attention → [B,T,D]."""
        if memory is None:
            q, k, v = (self._heads(part) for part in self.inputs[0](x).chunk(3, dim=-1))
        else:
            q = self._heads(self.inputs[0](x))
            k, v = (self._heads(part) for part in self.inputs[1](memory).chunk(2, dim=-1))
        rate = self.rate if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, dropout_p=rate)
        return self.output(y.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """A pre-norm encoder or decoder layer with ReLU."""

    def __init__(self, width: int, heads: int, hidden: int, rate: float, decoder: bool):
        super().__init__()
        self.attention = Attention(width, heads, rate, cross=False)
        self.cross = Attention(width, heads, rate, cross=True) if decoder else None
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(3 if decoder else 2))
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(rate)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """[B,T,D] → [B,T,D]."""
        x = x + self.dropout(self.attention(self.norms[0](x), None, causal=self.cross is not None))
        if self.cross is not None:
            x = x + self.dropout(self.cross(self.norms[1](x), memory, causal=False))
        y = self.down(self.dropout(F.relu(self.up(self.norms[-1](x)))))
        return x + self.dropout(y)


class Translation(nn.Module):
    """Encoder and decoder over one tied embedding with sinusoidal positions; returns the mean smoothed loss."""

    def __init__(self, vocab: int, width: int, heads: int, hidden: int, layers: int, rate: float, smoothing: float):
        super().__init__()
        self.smoothing, self.scale = smoothing, math.sqrt(width)
        self.embedding = nn.Embedding(vocab, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.encoder, self.decoder = (
            nn.ModuleList(Layer(width, heads, hidden, rate, decoder) for _ in range(layers))
            for decoder in (False, True)
        )
        self.encoder_norm, self.decoder_norm = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.dropout = nn.Dropout(rate)
        angles = torch.arange(256)[:, None] * 10000.0 ** (-torch.arange(width // 2) / (width // 2 - 1))
        self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], dim=1))

    def forward(self, src: Tensor, tgt_in: Tensor, tgt_out: Tensor) -> Tensor:
        """int64 ids [B,S], [B,T], [B,T] → loss."""
        memory = self._embed(src)
        for layer in self.encoder:
            memory = layer(memory)
        memory, x = self.encoder_norm(memory), self._embed(tgt_in)
        for layer in self.decoder:
            x = layer(x, memory)
        logits = F.linear(self.decoder_norm(x), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), tgt_out.flatten(), label_smoothing=self.smoothing)

    def _embed(self, ids: Tensor) -> Tensor:
        return self.dropout(self.embedding(ids) * self.scale + self.positions[: ids.shape[1]])


def case(options: argparse.Namespace, compiled: bool, half: bool) -> serve.Run:
    """Build model and optimizer, run some steps (three) so that later ones are warm, and return one step."""
    torch.manual_seed(0)
    shape = (options.rows, options.length)
    src, tgt_in, tgt_out = (torch.randint(3, options.vocab, shape) for _ in range(3))
    model = Translation(
        options.vocab, options.width, options.heads, options.hidden, options.layers, options.dropout, options.smoothing
    ).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)
    forward = torch.compile(model) if compiled else model

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = forward(src, tgt_in, tgt_out)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    for _ in range(options.before):
        step()
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("vocab", "width", "heads", "hidden", "layers", "rows", "length", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--before", type=int, default=3)
    for name in ("dropout", "smoothing"):
        parser.add_argument(f"--{name}", type=float, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases: dict[str, Callable[[], serve.Run]] = {}
    fast_half = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    for half in (False, True) if fast_half else (False,):  # emulated, a bf16 step takes half a minute
        for compiled in (False, True):
            name = f"{'compiled' if compiled else 'eager'} {'bf16' if half else 'fp32'}"
            cases[name] = lambda compiled=compiled, half=half: case(options, compiled, half)
    notes = "" if fast_half else " (bf16 left out: this processor has no bf16 instructions)"
    serve.serve(f"PyTorch {torch.__version__}{notes}", cases)


if __name__ == "__main__":
    main()
