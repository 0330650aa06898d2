"""Packed batches: the sentences of a corpus one after another, hardly any padding, the same loss. Two seconds on a CPU.

In a run it is one flag, `seqlib train … --batch.kind packing`; here is what it does.
"""

import tempfile
from collections import Counter

import numpy as np

import seqlib
from seqlib.data.batch import PackedBatch, collate
from seqlib.data.packing import pack_plan
from seqlib.data.plan import bucket_plan, padding_plan
from seqlib.data.prepare import prepare
from seqlib.models.transformer import TransformerConfig, build
from seqlib.problems.translate_bulletin import ende

with tempfile.TemporaryDirectory() as folder:
    data = prepare(
        ende(), folder, splits={"train": "train[:3000]", "dev": "dev[:60]", "test": "test[:60]"}, vocab_size=1000
    )
    lengths = data.train.lengths()
    print(f"{len(lengths)} pairs, {lengths.mean():.1f} tokens a side on average, {lengths.max()} at most")

    # A plan is a pure function of lengths, digest, seed and epoch; the three kinds take the same pairs.
    options = {"tokens": 1024, "max_length": 64, "seed": 1, "epoch": 0, "digest": data.digest}
    for make in (padding_plan, bucket_plan, pack_plan):
        plan = make(lengths, **options)
        name, shapes = make.__name__.removesuffix("_plan"), len(plan.shapes)
        print(f"{name:>8}: {len(plan.batches):3d} batches, {shapes:2d} shapes, {plan.padding_share:5.1%} padding")

    # One pack of that plan, and the same pairs padded: attention keeps to a sentence, positions count within each.
    planned = pack_plan(lengths, **options).batches[0]
    packed = collate(data.train, planned, data.spec)
    assert isinstance(packed, PackedBatch)
    inside = Counter(np.diff(packed.src_offsets).tolist())
    print(f"a pack of {len(packed.src)} source tokens: sentences by length {sorted(inside.items())}")

    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 32, "d_ff": 64, "heads": 4}
    rates = {"dropout": 0.0, "attention_dropout": 0.0, "ff_dropout": 0.0}
    model = build(TransformerConfig(**sizes, **rates), data.spec, seqlib.Generator(1))
    parameters = model.named_parameters()

    def loss_and_gradients(batches: list) -> tuple[float, dict[str, np.ndarray]]:
        """The loss sum of some batches, and the gradients of that sum."""
        total, gradients = 0.0, {name: np.zeros(p.shape) for name, p in parameters.items()}
        for batch in batches:
            (loss, _), found = seqlib.value_and_grad(lambda b: model.loss(b, 0.0), params=parameters)(batch)
            total += loss.item()
            for name, gradient in found.items():
                gradients[name] += gradient.numpy()
        return total, gradients

    chosen = np.sort(planned.indices[planned.indices >= 0])
    rows = bucket_plan(lengths[chosen], **options, shuffle=False)
    padded = [
        collate(data.train, batch._replace(indices=np.append(chosen, -1)[batch.indices]), data.spec)
        for batch in rows.batches
    ]
    (one, by_pack), (other, by_rows) = loss_and_gradients([packed]), loss_and_gradients(padded)
    apart = max(np.abs(by_pack[name] - by_rows[name]).max() / np.abs(by_rows[name]).max() for name in parameters)
    print(f"loss {one:.3f} packed, {other:.3f} padded; gradients {apart:.1e} apart")
    assert abs(one - other) < 1e-4 * other and apart < 1e-4
