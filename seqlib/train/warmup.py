"""Running every CPU kernel once, so that all of them are compiled and kept."""

from __future__ import annotations

import numpy as np

from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Tensor
from seqlib.data.batch import Batch
from seqlib.models import transformer
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec


def run_all_kernels() -> None:
    """One training step and one decoding step of a small Transformer with and without dropout.

    Kernels are compiled by dtype and rank, not by size, so this serves every model.
    """
    spec = ProblemSpec(source_vocab=16, target_vocab=16)
    lengths = np.array([8, 5], np.int32)
    ids = np.full((2, 8), 3, np.int32)
    batch = Batch(src=ids, src_lengths=lengths, tgt_in=ids, tgt_out=ids, tgt_lengths=lengths)
    for rate in (0.1, 0.0):
        config = transformer.TransformerConfig(
            encoder_layers=1,
            decoder_layers=1,
            d_model=16,
            d_ff=32,
            heads=2,
            dropout=rate,
            attention_dropout=rate,
            ff_dropout=rate,
        )
        _train_and_decode(config, spec, batch)


def _train_and_decode(config: transformer.TransformerConfig, spec: ProblemSpec, batch: Batch) -> None:
    generator = Generator(0)
    model = transformer.build(config, spec, generator)
    optimizer = AdamW(model.named_parameters(), lr=1e-3)

    def loss(batch: Batch) -> Tensor:
        total, weight = model.loss(batch, 0.1)
        return total / weight

    def step(batch: Batch) -> Tensor:
        with use_generator(generator):
            value, grads = value_and_grad(loss, params=model.named_parameters())(batch)
        optimizer.update(grads)
        return value

    model.train()
    compile(step, state=[model, optimizer, generator])(batch)
    with model.evaluating():
        cache = model.init_cache(model.encode(batch.src, batch.src_lengths), batch.src_lengths, 2, 8)
        model.step(np.array([1, 1], np.int32), np.array(0, np.int32), cache)
