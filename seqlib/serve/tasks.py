"""What models do for a server: how long a text is, and answers for a batch of texts, the same as alone."""

from collections.abc import Sequence
from typing import Any

import msgspec

from seqlib.decode.sampling import Sampling
from seqlib.decode.streaming import check_stops
from seqlib.serve.batcher import Job
from seqlib.serve.config import ServeConfig
from seqlib.util.errors import UsageError


class Task:
    """A `model` in use. `inputs` and `outputs` are names of what goes in and comes out, `options` those of a text for
    which none are given, `about` is what a client may want to know."""

    name = ""
    inputs: tuple[str, ...] = ("text",)
    outputs: tuple[str, ...] = ("text",)
    options: Any = None

    def __init__(self, model: Any, config: ServeConfig) -> None:
        self.model, self.config, self.limits = model, config, config.limits
        self.about: dict[str, Any] = {"task": self.name}

    def job(self, item: Any, options: Any) -> Job:
        """A text, or a pair of them, with its length in tokens. Raises UsageError, naming the limit, for one that is
        too long."""
        texts = (item,) if isinstance(item, str) else item
        if len(texts) != len(self.inputs):
            raise UsageError(f"this model takes {', '.join(self.inputs)}, got {len(texts)} texts in place of that")
        if (most := max(map(len, texts))) > self.limits.characters:
            raise UsageError(f"text of {most} characters: at most {self.limits.characters}")
        tokens = sum(len(self.model.tokenizer.encode(text)) for text in texts)
        limit = min((n for n in (self.limits.tokens, self.reads()) if n), default=tokens)
        if tokens > limit:
            raise UsageError(f"text of {tokens} tokens: at most {limit}")
        return Job(item, options, tokens)

    def reads(self) -> int:
        """The most tokens that the model takes; 0: it reads the beginning of longer texts."""
        return 0

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        """A JSON object, or several, for each of the jobs, which have the same options."""
        raise NotImplementedError


class Translate(Task):
    """Sentences to sentences; the options are the number of alternatives."""

    name = "translate"
    options = 0

    def __init__(self, model: Any, config: ServeConfig) -> None:
        super().__init__(model, config)
        source, target = config.languages or (model.spec.source_language, model.spec.target_language)
        self.about |= {"source": source or "und", "target": target or "und"}

    def reads(self) -> int:
        return self.model.engine.longest_source

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        n = 1 + jobs[0].options
        texts, beam = [job.item for job in jobs], max(self.model.beam, n)
        return [one.record() for one in self.model.translate(texts, beam=beam, n_best=n, batch_rows=len(jobs))]


class GenerateOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As `TextGenerator.generate` has them."""

    n: int = 1
    max_tokens: int = 200
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    beam: int = 1
    min_length: int = 0
    no_repeat_ngram: int = 0
    banned: tuple[str, ...] = ()


class Generate(Task):
    """Prompts to what follows them: `n` answers each."""

    name = "generate"
    options = GenerateOptions()

    def reads(self) -> int:
        return self.model.engine.programs.longest - 1  # a text may begin with a token of its own

    def job(self, item: Any, options: GenerateOptions) -> Job:
        limits, o = self.limits, options
        for name, limit in (("n", limits.texts), ("max_tokens", limits.max_tokens), ("beam", limits.beam)):
            if not 1 <= getattr(o, name) <= limit:
                raise UsageError(f"{name}: expected 1 to {limit}, got {getattr(o, name)}")
        Sampling(o.temperature, o.top_k, o.top_p, o.seed, o.min_p, o.repetition_penalty)
        check_stops(o.stop)
        job = super().job(item, options)
        job.rows, job.size = max(o.n, o.beam), job.size + o.max_tokens
        return job

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        options = jobs[0].options
        found = self.model.generate(
            [job.item for job in jobs],
            batch_rows=max(self.config.max_batch, jobs[0].rows),
            watch=lambda number, text: jobs[number // options.n].piece(number % options.n, text),
            **msgspec.structs.asdict(options),
        )
        return [[one.record() for one in found[i : i + options.n]] for i in range(0, len(found), options.n)]


class Classify(Task):
    """Texts, or pairs of them, to labels."""

    name = "classify"

    def __init__(self, model: Any, config: ServeConfig) -> None:
        super().__init__(model, config)
        labels = model.spec.labels
        self.about |= {"pairs": labels.pairs, "labels": labels.names}
        self.inputs = ("text", "text_pair") if labels.pairs else ("text",)
        self.outputs = ("value",) if labels.kind == "regression" else ("label", "probability", "probabilities")

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        return [one.record() for one in self.model.classify([job.item for job in jobs])]


class Embed(Task):
    """Texts to vectors."""

    name = "embed"
    outputs = ("embedding",)

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        return [{"embedding": row} for row in self.model.embed([job.item for job in jobs]).tolist()]


def task_of(model: Any, config: ServeConfig) -> Task:
    """What is served of a loaded model. Raises UsageError for one that does none of it."""
    for task in (Translate, Generate, Classify, Embed):
        if hasattr(model, task.name):
            return task(model, config)
    raise UsageError(f"{type(model).__name__}: only models that translate, generate, classify or embed are served")
