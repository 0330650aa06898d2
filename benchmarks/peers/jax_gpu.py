"""The peer of workloads W1 and W3 in JAX: jitted train steps on a GPU, bf16 compute, float32 weights. Run by
gpu_train.py.

B batch, T target time, S source time, D model width, H heads. Attention is cuDNN's through
`jax.nn.dot_product_attention`, which has no dropout; all other dropout is the workload's, drawn by the named generator.
"""

from __future__ import annotations

import argparse
import math
import os
from functools import partial
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
import optax
import serve

BF16 = jnp.bfloat16


def linear(p: Any, x: Any) -> Any:
    """An affine map in bf16."""
    return x @ p["w"].astype(BF16) + p["b"].astype(BF16)


def norm(p: Any, x: Any) -> Any:
    """Layer norm; statistics in float32."""
    y = x.astype(jnp.float32)
    centred = y - y.mean(-1, keepdims=True)
    scaled = centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return (scaled * p["w"] + p["b"]).astype(x.dtype)


def dropout(key: Any, x: Any) -> Any:
    """Rate 0.1."""
    return jnp.where(jax.random.bernoulli(key, 0.9, x.shape), x / 0.9, 0).astype(x.dtype)


def attention(p: Any, x: Any, memory: Any, heads: int, causal: bool) -> Any:
    """[B,T,D] → [B,T,D]; queries, keys and values of self-attention come from one product."""
    b, t, d = x.shape
    if memory is None:
        q, k, v = jnp.moveaxis(linear(p["qkv"], x).reshape(b, t, 3, heads, d // heads), 2, 0)
    else:
        q = linear(p["q"], x).reshape(b, t, heads, d // heads)
        k, v = jnp.moveaxis(linear(p["kv"], memory).reshape(b, -1, 2, heads, d // heads), 2, 0)
    y = jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="cudnn")
    return linear(p["o"], y.reshape(b, t, d))


def layer(p: Any, x: Any, memory: Any, heads: int, key: Any) -> Any:
    """A pre-norm layer; with a memory it is a decoder's."""
    keys = jax.random.split(key, 4)
    x = x + dropout(keys[0], attention(p["self"], norm(p["n0"], x), None, heads, memory is not None))
    if memory is not None:
        x = x + dropout(keys[1], attention(p["cross"], norm(p["n1"], x), memory, heads, False))
    hidden = dropout(keys[2], jax.nn.relu(linear(p["up"], norm(p["n2"], x))))
    return x + dropout(keys[3], linear(p["down"], hidden))


def init(o: argparse.Namespace) -> Any:
    """Parameters, float32."""
    rng = np.random.default_rng(0)

    def weights(i: int, out: int) -> Any:
        return {"w": jnp.asarray(rng.normal(size=(i, out)) * i**-0.5, jnp.float32), "b": jnp.zeros(out)}

    def gains() -> Any:
        return {"w": jnp.ones(o.width), "b": jnp.zeros(o.width)}

    def block(decoder: bool) -> Any:
        d = o.width
        p = {"self": {"qkv": weights(d, 3 * d), "o": weights(d, d)}, "n0": gains(), "n2": gains()}
        p |= {"up": weights(d, o.hidden), "down": weights(o.hidden, d)}
        cross = {"q": weights(d, d), "kv": weights(d, 2 * d), "o": weights(d, d)}
        return p | ({"cross": cross, "n1": gains()} if decoder else {})

    table = jnp.asarray(rng.normal(size=(o.vocab, o.width)) * o.width**-0.5, jnp.float32)
    stacks = {name: [block(name == "decoder") for _ in range(o.layers)] for name in ("encoder", "decoder")}
    return {"embedding": table, **stacks, "encoder_norm": gains(), "decoder_norm": gains()}


def loss(p: Any, key: Any, src: Any, tgt_in: Any, tgt_out: Any, heads: int) -> Any:
    """The mean cross entropy with label smoothing 0.1."""
    table = p["embedding"].astype(BF16)
    keys = iter(jax.random.split(key, 2 + len(p["encoder"]) + len(p["decoder"])))
    half, width = table.shape[1] // 2, table.shape[1]
    angles = jnp.arange(src.shape[1])[:, None] * 10000.0 ** (-jnp.arange(half) / (half - 1))
    places = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1).astype(BF16)
    memory = dropout(next(keys), table[src] * math.sqrt(width) + places)
    for one in p["encoder"]:
        memory = layer(one, memory, None, heads, next(keys))
    memory = norm(p["encoder_norm"], memory)
    x = dropout(next(keys), table[tgt_in] * math.sqrt(width) + places)
    for one in p["decoder"]:
        x = layer(one, x, memory, heads, next(keys))
    logits = (norm(p["decoder_norm"], x) @ table.T).astype(jnp.float32)
    lse = jax.nn.logsumexp(logits, -1)
    at = jnp.take_along_axis(logits, tgt_out[..., None], -1)[..., 0]
    return (0.9 * (lse - at) + 0.1 * (lse - logits.mean(-1))).mean()


def trained(loss: Any, parameters: Any, optimizer: Any, batch: list[Any], steps: int, generator: str) -> serve.Run:
    """A run of `steps` jitted steps of `loss(parameters, key, *batch)`; three have been taken."""
    state = [parameters, optimizer.init(parameters), jax.random.key(1, impl=generator)]

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(p: Any, slots: Any, key: Any, *batch: Any) -> Any:
        key, now = jax.random.split(key)
        value, grads = jax.value_and_grad(loss)(p, now, *batch)
        updates, slots = optimizer.update(grads, slots, p)
        return optax.apply_updates(p, updates), slots, key, value

    def run(steps: int = steps) -> float:
        for _ in range(steps):
            *state[:], value = step(*state, *batch)
        return float(value)

    run(3)
    return run


def case(options: argparse.Namespace, generator: str) -> serve.Run:
    """W1."""
    rng, shape = np.random.default_rng(0), (options.rows, options.length)
    batch = [jnp.asarray(rng.integers(3, options.vocab, shape), jnp.int32) for _ in range(3)]
    optimizer = optax.adam(1e-4, b1=0.9, b2=0.98, eps=1e-9)
    return trained(partial(loss, heads=options.heads), init(options), optimizer, batch, options.steps, generator)


# -- W3: an LSTM language model


def lstm(p: Any, x: Any) -> Any:
    """[T,B,D] → [T,B,D]: the inputs' share of the gates in one product, then a scan."""
    given, w = x @ p["x"].astype(BF16) + p["b"].astype(BF16), p["h"].astype(BF16)
    start = jnp.zeros((x.shape[1], w.shape[0]), BF16)

    def step(carry: Any, gates: Any) -> Any:
        h, c = carry
        i, f, g, o = jnp.split((gates + h @ w).astype(jnp.float32), 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = (jax.nn.sigmoid(o) * jnp.tanh(c)).astype(BF16)
        return (h, c), h

    return jax.lax.scan(step, (start, start.astype(jnp.float32)), given)[1]


def half(key: Any, x: Any) -> Any:
    """Dropout of rate 0.5."""
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x * 2, 0).astype(x.dtype)


def words_loss(p: Any, key: Any, ids: Any, targets: Any) -> Any:
    """The mean cross entropy of ids [T,B]."""
    keys = jax.random.split(key, 1 + len(p["layers"]))
    x = half(keys[0], p["embedding"].astype(BF16)[ids])
    for one, now in zip(p["layers"], keys[1:], strict=True):
        x = half(now, lstm(one, x))
    logits = (x @ p["out"].astype(BF16)).astype(jnp.float32)
    at = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return (jax.nn.logsumexp(logits, -1) - at).mean()


def words_case(options: argparse.Namespace, generator: str) -> serve.Run:
    """W3."""
    vocab, width, layers, rows, length = map(int, options.words.split(","))
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return jnp.asarray(rng.normal(size=shape) * width**-0.5, jnp.float32)

    stack = [
        {"x": weights(width, 4 * width), "h": weights(width, 4 * width), "b": jnp.zeros(4 * width)}
        for _ in range(layers)
    ]
    parameters = {"embedding": weights(vocab, width), "layers": stack, "out": weights(width, vocab)}
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.sgd(0.1))
    batch = [jnp.asarray(rng.integers(0, vocab, (length, rows)), jnp.int32) for _ in range(2)]
    return trained(words_loss, parameters, optimizer, batch, options.steps, generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("vocab", "width", "heads", "hidden", "layers", "rows", "length", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--text", help="of W2, which PyTorch stands for")
    parser.add_argument("--words", required=True, help="of W3: vocabulary, width, layers, rows, length")
    options = parser.parse_args()
    cases = {
        f"{workload} {name} generator": lambda name=name, build=build: build(options, name)
        for workload, build in (("w1", case), ("w3", words_case))
        for name in ("threefry2x32", "rbg")
    }
    serve.serve(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}", cases)


if __name__ == "__main__":
    main()
