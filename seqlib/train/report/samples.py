"""Sections that need the data and the model: lengths, the worst sentences, attention, the ops of a step."""

from typing import Any

import numpy as np

from seqlib.core.hooks import hooks
from seqlib.core.rng import Generator
from seqlib.core.tape import no_grad
from seqlib.decode.translate import Translation, Translator
from seqlib.train.config import RunConfig
from seqlib.train.metrics import bleu_available
from seqlib.train.report.charts import Series, heat_map, histogram
from seqlib.train.report.page import Section, compared, paragraph
from seqlib.train.setup import build_optimizer, make_epochs
from seqlib.train.step import step_of

SENTENCES = 200  # of dev, translated for the report
_WORST = 12
_BINS = 24
_SHOWN = 22  # tokens a side that a heat map has room for


def length_section(config: RunConfig, data: Any) -> Section:
    """How long sentences are in tokens, and how much of a batch is padding."""
    epochs = make_epochs(config, data)
    plan = epochs.plan(0)
    lengths = epochs.store_in(0).lengths() + 1
    longest = min(int(lengths.max()), config.batch.max_length)
    width = max(1, -(-longest // _BINS))
    edges = np.arange(0, longest + width, width) + 1
    groups = []
    sides = ("source", "target") if lengths[:, 1].any() else ("texts",)
    for side, name in enumerate(sides):
        counts = np.histogram(lengths[:, side], np.append(edges, np.inf))[0][: len(edges) - 1]
        groups.append(Series(name, list(zip(edges[:-1].tolist(), counts.tolist(), strict=True))))
    what = "pairs" if len(sides) == 2 else "texts"
    text = (
        f"{plan.pairs:,} {what} in {len(plan.batches):,} batches an epoch of {len(plan.shapes)} shapes; "
        f"{100 * plan.padding_share:.1f} % of their places are padding."
    )
    if plan.dropped:
        text += f" {plan.dropped:,} longer than {config.batch.max_length} tokens are left out."
    chart = histogram(groups, edges.tolist(), "By length in tokens, end of sentence included")
    return Section("Lengths", paragraph(text) + chart)


def sentences_and_attention(translator: Translator, data: Any, config: RunConfig) -> list[Section]:
    """The worst of the first dev sentences by sentence chrF, and the attention of a middling one."""
    sources, references = (texts[:SENTENCES] for texts in data.texts("dev"))
    beam = config.decode.dev_beam
    found = translator.translate(sources, beam=beam)
    if not bleu_available():
        missing = paragraph("Sentences are ranked by chrF, for which sacrebleu is missing (extra `eval`).")
        return [Section("Worst dev sentences", missing), attention_section(translator, sources, found, 0)]
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    scores = [
        metric.sentence_score(one.text, [reference]).score for one, reference in zip(found, references, strict=True)
    ]
    order = sorted(range(len(scores)), key=scores.__getitem__)
    pairs = ""
    for n in order[:_WORST]:
        written = "translation", found[n].text or "(nothing)"
        pairs += compared((f"chrF {scores[n]:.0f}", sources[n]), ("reference", references[n]), written)
    how = "greedy search" if beam == 1 else f"beam {beam}"
    text = f"The lowest sentence chrF of the first {len(scores):,} dev sentences, translated with {how}."
    fitting = [n for n in order if 4 <= len(found[n].tokens) < _SHOWN and _tokens(translator, sources[n]) < _SHOWN]
    middling = (fitting or order)[len(fitting or order) // 2]
    return [
        Section("Worst dev sentences", paragraph(text) + pairs),
        attention_section(translator, sources, found, middling),
    ]


def attention_section(translator: Translator, sources: list[str], found: list[Translation], chosen: int) -> Section:
    """Where the decoder looked for each token of one translation; a sentence where the model does not tell."""
    model, spec, tokenizer = translator.model, translator.spec, translator.tokenizer
    title = "Attention of one sentence"
    weigh = getattr(model, "cross_attention", None)
    if weigh is None:
        return Section(title, paragraph(f"{type(model).__name__} does not tell where it looks."))
    longest, translation = translator.engine.longest_source, found[chosen]
    source = [*tokenizer.encode(sources[chosen])[:longest], spec.eos_id]
    # A translation that was cut at the model's length has no end token, nor a place for one.
    ended = translation.stop_reason != "length" and len(translation.tokens) <= longest
    written = [*translation.tokens, *[spec.eos_id] * ended]
    target = [spec.bos_id, *written[:-1]]
    with no_grad(), model.evaluating():
        weights = weigh(
            np.array([source], np.int32), np.array([len(source)], np.int32), np.array([target], np.int32)
        ).numpy()[0]
    columns = [_piece(tokenizer, token, spec) for token in source]
    rows = [_piece(tokenizer, token, spec) for token in written]
    text = f"{sources[chosen]} → {translation.text}"
    note = "Rows are the tokens that were written, columns those that were read; each row sums to 1."
    chart = heat_map(weights, rows, columns)
    return Section(title, f'{paragraph(text)}{paragraph(note)}<div class="scroll">{chart}</div>')


def step_profile(config: RunConfig, data: Any, model: Any) -> list[tuple[str, int, float]]:
    """(op, launches, seconds) of one training step on the epoch's largest batch, slowest first. The model's weights and
    a fresh optimizer's slots are used up by it.
    """
    generator = Generator(config.seed)
    optimizer = build_optimizer(config, model.train())
    step = step_of(config, model, optimizer, generator)
    epochs = make_epochs(config, data)
    planned = max(epochs.plan(0).batches, key=lambda batch: (batch.cells, len(batch.indices)))
    batches = epochs.collated(planned, data.spec, 0)
    step(batches)  # kernels are compiled and the memory is touched
    with hooks(finite=False) as seen:
        step(batches)
    return [(key[0], calls, seconds) for key, calls, seconds, _ in seen.total("op")]


def _tokens(translator: Translator, text: str) -> int:
    return len(translator.tokenizer.encode(text))


def _piece(tokenizer: Any, token: int, spec: Any) -> str:
    names = {spec.eos_id: "⟨end⟩", spec.bos_id: "⟨start⟩"}
    return names.get(token) or tokenizer.piece(token).replace("▁", "·")
