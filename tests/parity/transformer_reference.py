"""A Transformer encoder–decoder in plain PyTorch, with seqlib's parameter names, for the stored answers.

Written from Vaswani et al. 2017 and Tensor2Tensor's conventions: embeddings times sqrt(D) (the output weights may be
the same table), sinusoids with all sines first, layer norm before each block and at the end ("pre") or after each sum
("post"), rectangular batches with source lengths, targets of -1 ignored. It uses none of torch.nn's layers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LAYER = {"encoder": ("attention", "feed_forward"), "decoder": ("attention", "cross_attention", "feed_forward")}


def weights(config: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random parameters by name: matrices of a fair size, gains near 1, biases that are not 0."""
    d, f = config["d_model"], config["d_ff"]
    shapes: dict[str, tuple[int, ...]] = {"source_embedding.weight": (config["source_vocab"], d)}
    if not config["shared"]:
        shapes["target_embedding.weight"] = (config["target_vocab"], d)
        shapes["output_weight"] = (config["target_vocab"], d)
    for side, blocks in LAYER.items():
        for i in range(config["layers"]):
            for block in blocks:
                name = f"{side}.{i}.{block}"
                shapes[f"{name}_norm.weight"] = shapes[f"{name}_norm.bias"] = (d,)
                if block == "feed_forward":
                    shapes[f"{name}.in_proj.weight"], shapes[f"{name}.in_proj.bias"] = (f, d), (f,)
                    shapes[f"{name}.out_proj.weight"], shapes[f"{name}.out_proj.bias"] = (d, f), (d,)
                    continue
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    shapes[f"{name}.{part}.weight"] = (d, d)
                    if config["attention_bias"]:
                        shapes[f"{name}.{part}.bias"] = (d,)
        if config["norm"] == "pre":
            shapes[f"{side}_norm.weight"] = shapes[f"{side}_norm.bias"] = (d,)
    found: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        noise = rng.normal(size=shape).astype(np.float32) * np.float32(0.1 if len(shape) == 1 else d**-0.5)
        found[name] = noise + np.float32(1) if name.endswith("norm.weight") else noise
    return found


class Reference:
    """The forward pass over a dict of tensors."""

    def __init__(self, config: dict[str, Any], p: dict[str, Tensor]) -> None:
        self.config, self.p = config, p

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.p[f"{name}.weight"], self.p.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.p[f"{name}.weight"], self.p[f"{name}.bias"], 1e-6)

    def embed(self, table: Tensor, ids: Tensor) -> Tensor:
        half = self.config["d_model"] // 2
        rates = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / (half - 1))
        angles = torch.arange(ids.shape[1], dtype=torch.float64)[:, None] * rates
        # seqlib's table is float32.
        positions = torch.cat([angles.sin(), angles.cos()], 1).float().to(table.dtype)
        return table[ids] * math.sqrt(self.config["d_model"]) + positions

    def attention(self, name: str, x: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
        heads = self.config["heads"]

        def split(t: Tensor) -> Tensor:
            return t.unflatten(-1, (heads, -1)).transpose(1, 2)

        q = split(self.linear(f"{name}.q_proj", x))
        k = split(self.linear(f"{name}.k_proj", memory))
        v = split(self.linear(f"{name}.v_proj", memory))
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(hidden, -torch.inf)
        return self.linear(f"{name}.out_proj", (scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        activation = {"relu": F.relu, "gelu": F.gelu}[self.config["activation"]]
        return self.linear(f"{name}.out_proj", activation(self.linear(f"{name}.in_proj", x)))

    def block(self, name: str, x: Tensor, part: Any) -> Tensor:
        if self.config["norm"] == "pre":
            return x + part(self.norm(f"{name}_norm", x))
        return self.norm(f"{name}_norm", x + part(x))

    def stack(self, side: str, x: Tensor, hidden: dict[str, Tensor], memory: Tensor | None) -> Tensor:
        for i in range(self.config["layers"]):
            for block in LAYER[side]:
                name = f"{side}.{i}.{block}"
                if block == "feed_forward":
                    x = self.block(name, x, lambda y, name=name: self.feed_forward(name, y))
                else:
                    over = memory if block == "cross_attention" else None
                    x = self.block(
                        name,
                        x,
                        lambda y, name=name, over=over, block=block: self.attention(
                            name, y, y if over is None else over, hidden[block]
                        ),
                    )
        return self.norm(f"{side}_norm", x) if self.config["norm"] == "pre" else x

    def logits(self, src: Tensor, src_lengths: Tensor, tgt_in: Tensor) -> Tensor:
        p = self.p
        target_table = p.get("target_embedding.weight", p["source_embedding.weight"])
        padding = (torch.arange(src.shape[1]) >= src_lengths[:, None])[:, None, None]
        t = tgt_in.shape[1]
        future = torch.ones(t, t, dtype=torch.bool).triu(1)
        memory = self.stack("encoder", self.embed(p["source_embedding.weight"], src), {"attention": padding}, None)
        hidden = {"attention": future, "cross_attention": padding}
        x = self.stack("decoder", self.embed(target_table, tgt_in), hidden, memory)
        return x @ p.get("output_weight", target_table).T


CONFIGS: dict[str, dict[str, Any]] = {
    "transformer_pre": {
        "layers": 2,
        "d_model": 16,
        "d_ff": 24,
        "heads": 4,
        "norm": "pre",
        "activation": "relu",
        "attention_bias": False,
        "shared": True,
        "source_vocab": 19,
        "target_vocab": 19,
        "smoothing": 0.1,
    },
    "transformer_post": {
        "layers": 1,
        "d_model": 12,
        "d_ff": 20,
        "heads": 2,
        "norm": "post",
        "activation": "gelu",
        "attention_bias": True,
        "shared": False,
        "source_vocab": 17,
        "target_vocab": 13,
        "smoothing": 0.0,
    },
}


def transformer_answers() -> dict[str, dict[str, np.ndarray]]:
    """By configuration: weights, one batch, logits, loss, gradients, and the losses of four AdamW steps."""
    answers: dict[str, dict[str, np.ndarray]] = {}
    for name, config in CONFIGS.items():
        rng = np.random.default_rng(len(name))
        start = weights(config, rng)
        b, s, t = 4, 7, 6
        batch = {
            "src": rng.integers(3, config["source_vocab"], (b, s)),
            "src_lengths": np.array([7, 4, 1, 6]),
            "tgt_in": rng.integers(3, config["target_vocab"], (b, t)),
            "tgt_out": rng.integers(2, config["target_vocab"], (b, t)),
        }
        batch["tgt_in"][:, 0] = 1
        for row, length in enumerate((6, 3, 0, 5)):
            batch["tgt_out"][row, length:] = -1
            batch["src"][row, batch["src_lengths"][row] :] = 0
        stored = {f"batch/{k}": v.astype(np.int32) for k, v in batch.items()}
        stored |= {f"weight/{k}": v for k, v in start.items()}
        p = {k: torch.tensor(v).double().requires_grad_() for k, v in start.items()}
        ids = {k: torch.tensor(v) for k, v in batch.items()}
        matrices, vectors = [v for v in p.values() if v.ndim > 1], [v for v in p.values() if v.ndim == 1]
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=0.003, betas=(0.9, 0.98), eps=1e-9)
        losses: list[float] = []
        for step in range(4):
            logits = Reference(config, p).logits(ids["src"], ids["src_lengths"], ids["tgt_in"])
            loss = F.cross_entropy(
                logits.flatten(0, 1),
                ids["tgt_out"].flatten(),
                ignore_index=-1,
                reduction="sum",
                label_smoothing=config["smoothing"],
            )
            weight = int((ids["tgt_out"] != -1).sum())
            losses.append(loss.item() / weight)
            optimizer.zero_grad()
            (loss / weight).backward()
            if step == 0:
                stored["logits"] = logits.detach().numpy()
                stored["loss"] = np.array([loss.item(), weight])
                stored |= {f"grad/{k}": (v.grad * weight).float().numpy() for k, v in p.items()}
            torch.nn.utils.clip_grad_norm_(list(p.values()), 1.0)
            optimizer.step()
        answers[name] = {**stored, "losses": np.array(losses)}
    return answers
