"""BERT (Devlin et al. 2019) and its kin: RoBERTa (Liu et al. 2019), DistilBERT (Sanh et al. 2019), MiniLM (Wang et al.
2020). An encoder with heads: words in place of masks, classes of texts; and the names of their weights.

B batch, T time, D model width, V vocabulary, C classes.
"""

from collections.abc import Collection, Mapping
from typing import Any, Literal

from seqlib.core import ops
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Parameter, Tensor, as_tensor
from seqlib.models.names import Fields, Names, read_table
from seqlib.models.preset import presets
from seqlib.nn import init
from seqlib.nn.classifier import TextClassifier
from seqlib.nn.dropout import Dropout
from seqlib.nn.embedding import Embedding
from seqlib.nn.feed_forward import ACTIVATIONS
from seqlib.nn.linear import Linear
from seqlib.nn.module import Module
from seqlib.nn.norm import LayerNorm
from seqlib.nn.positions import LearnedPositions
from seqlib.nn.transformer_layers import EncoderLayer, LayerConfig
from seqlib.nn.weights import product
from seqlib.util.errors import UsageError, unknown

__all__ = ["MODEL_TYPES", "Bert", "BertClassifier", "BertConfig", "BertMasked", "base", "build"]

TASK = "text_classification"
MODEL_TYPES = ("bert", "roberta", "distilbert")


class BertConfig(LayerConfig, frozen=True, kw_only=True):
    """Sizes of a BERT, by default those of bert-base; raises UsageError for values that don't fit together.

    `dropout` is also that before the output layer of a classifier; `pad_id` fills rows.
    """

    kind: str = "bert"
    """Whose names and heads: bert, roberta or distilbert."""
    vocab: int = 30522
    """Tokens."""
    layers: int = 12
    d_model: int = 768
    """D."""
    d_ff: int = 3072
    heads: int = 12
    max_length: int = 512
    """Longest text in tokens."""
    position_offset: int = 0
    """Rows of the table of positions before the first one."""
    types: int = 2
    """Kinds of segments (first and second text of a pair); 0: they are not told apart."""
    activation: str = "gelu"
    norm_eps: float = 1e-12
    pad_id: int = 0
    norm: Literal["pre", "post"] = "post"
    positions: str = "learned"
    attention_bias: bool = True
    ff_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in MODEL_TYPES:
            raise unknown("kind of BERT", self.kind, MODEL_TYPES)
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.d_model % self.heads:
            raise UsageError(f"bert: d_model {self.d_model} must be a multiple of heads {self.heads}")


class Bert(Module):
    """The encoder of a `config`, post-norm. With `pool`, `pooled` gives a vector for a whole text."""

    half = True
    use, family = "embed", "bert"

    def __init__(self, config: BertConfig, pool: bool = False):
        self.config = config
        d = config.d_model
        self.embedding = Embedding(config.vocab, d)
        self.positions = LearnedPositions(config.max_length, d, config.position_offset)
        self.types = Embedding(config.types, d) if config.types else None
        self.embedding_norm = LayerNorm(d, config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.layers = [EncoderLayer(config) for _ in range(config.layers)]
        self.pool = Linear(d, d) if pool else None

    def forward(self, tokens: Any, lengths: Any = None, types: Any = None) -> Tensor:
        """tokens int32 [B,T], lengths int32 [B] (None: all of T), types int32 [B,T] (None: 0) → [B,T,D]; rows beyond a
        length hold no meaning. Raises ShapeError for T > max_length."""
        tokens = as_tensor(tokens)
        x = self.positions(self.embedding(tokens))
        if self.types is not None:
            x = x + self.types(ops.zeros_like(tokens) if types is None else as_tensor(types))
        x = self.dropout(self.embedding_norm(x))
        lengths = None if lengths is None else as_tensor(lengths)
        for layer in self.layers:
            x = layer(x, lengths)
        return x

    def pooled(self, hidden: Tensor) -> Tensor:
        """hidden [B,T,D] → tanh(W · first row + b) [B,D] (BERT's pooler). Raises UsageError without one."""
        if self.pool is None:
            raise UsageError("bert: this model has no pooler")
        return self.pool(hidden[:, 0], ops.tanh)

    def embed(self, hidden: Tensor, lengths: Any, how: str = "mean", normalise: bool = True) -> Tensor:
        """A vector for each text: hidden [B,T,D], lengths int32 [B] → float32 [B,D], as sentence-transformers do it.

        `how` is "mean" (of the rows of a text), "cls" (the first row) or "max"; `normalise` gives them length 1.
        """
        hidden = hidden.astype("float32")
        seen = ops.reshape(
            ops.less(ops.arange(hidden.shape[1]), ops.reshape(as_tensor(lengths), (-1, 1))), (*hidden.shape[:2], 1)
        )
        if how == "cls":
            vectors = hidden[:, 0]
        elif how == "max":
            vectors = ops.max(ops.where(seen, hidden, -float("inf")), axis=1)
        elif how == "mean":
            count = ops.reshape(as_tensor(lengths), (-1, 1)).astype("float32")
            vectors = ops.sum(ops.where(seen, hidden, 0.0), axis=1) / count
        else:
            raise unknown("pooling", how, ("mean", "cls", "max"))
        if not normalise:
            return vectors
        return vectors * ops.rsqrt(ops.maximum(ops.sum(vectors * vectors, axis=-1, keepdims=True), 1e-24))


class BertMasked(Module):
    """A BERT of a `config` that says which word belongs in the place of a mask; the output weights are the
    embedding."""

    half = True
    use, family = "fill_mask", "bert"

    def __init__(self, config: BertConfig):
        self.config = config
        self.bert = Bert(config)
        self.dense = Linear(config.d_model, config.d_model)
        self.norm = LayerNorm(config.d_model, config.norm_eps)
        self.output_weight = self.bert.embedding.weight
        self.output_bias = Parameter(init.zeros((config.vocab,)))

    def forward(self, tokens: Any, lengths: Any = None, types: Any = None) -> Tensor:
        """As `Bert.forward` → logits [B,T,V], at least float32."""
        x = self.norm(self.dense(self.bert(tokens, lengths, types), ACTIVATIONS[self.config.activation]))
        flat = ops.reshape(x, (-1, x.shape[-1]))
        scores = product(flat, self.output_weight.as_dtype(x.dtype), wide=True)
        return ops.reshape(scores, (*x.shape[:-1], self.config.vocab)) + self.output_bias


class BertClassifier(TextClassifier):
    """A BERT of a `config` that labels texts as `spec.labels` says: a layer over the first row (tanh; relu in
    DistilBERT), which is BERT's pooler, and the output layer."""

    half = True
    use, family = "classify", "bert"
    head = ("dense.*", "output.*")

    def __init__(self, config: BertConfig, spec: Any):
        super().__init__(spec, config.d_model, config.dropout)
        self.config = config
        self.bert = Bert(config)
        self.dense = Linear(config.d_model, config.d_model)
        self.name_parameters()

    def features(self, ids: Tensor, lengths: Tensor, types: Tensor | None) -> Tensor:
        """As `TextClassifier.features`."""
        first = self.bert(ids, lengths, types if self.config.types > 1 else None)[:, 0]
        first = self.dropout(first) if self.config.kind == "roberta" else first
        return self.dense(first, ops.relu if self.config.kind == "distilbert" else ops.tanh)


def build(config: BertConfig, spec: Any, generator: Generator) -> BertClassifier:
    """A classifier for a ProblemSpec with labels, its initial weights drawn from `generator`."""
    with use_generator(generator):
        return BertClassifier(config, spec)


(base,) = presets(__name__, BertConfig, "base")


# ---- checkpoints of Hugging Face

_UNUSED = ("*.position_ids", "cls.predictions.decoder.bias", "lm_head.decoder.bias", "cls.seq_relationship.*")
_CLASSES = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert"}


def config_from(found: Mapping[str, Any]) -> BertConfig:
    """The configuration in a config.json of Hugging Face. Raises UsageError for what this file cannot compute."""
    kind = found["model_type"]
    if found.get("position_embedding_type", "absolute") != "absolute" or found.get("is_decoder"):
        raise UsageError("bert: only encoders with absolute positions are supported, this checkpoint is another")
    at = int(kind == "distilbert")
    fields = Fields("distilbert" if at else "bert").read(found)
    offset = fields.get("pad_id", 1) + 1 if kind == "roberta" else 0
    types = 0 if at else found.get("type_vocab_size", 2)
    eps = 1e-12 if at else found.get("layer_norm_eps", 1e-12)
    longest = found.get("max_position_embeddings", 512) - offset
    return BertConfig(kind=kind, max_length=longest, position_offset=offset, types=types, norm_eps=eps, **fields)


def from_hf(found: Mapping[str, Any], tensors: Collection[str], spec: Any) -> Bert | BertMasked | BertClassifier:
    """The model that a config.json describes, of a ProblemSpec, for a checkpoint with these `tensors`. Raises
    UsageError for another head."""
    config, name = config_from(found), (found.get("architectures") or ["Model"])[0]
    if name.endswith("ForSequenceClassification"):
        return BertClassifier(config, spec)
    if name.endswith(("ForMaskedLM", "ForPreTraining")):
        return BertMasked(config)
    if name.endswith("Model"):
        return Bert(config, pool=any(tensor.endswith("pooler.dense.weight") for tensor in tensors))
    raise UsageError(f"bert: {name} has a head that seqlib does not know; known: masked words, sequence classification")


def names(model: Bert | BertMasked | BertClassifier) -> Names:
    """The names of a model's weights in checkpoints of Hugging Face."""
    kind = model.config.kind
    head = {BertMasked: "masked", BertClassifier: "classifier"}.get(type(model))
    table = read_table(kind) + (read_table(f"{kind}_{head}") if head else "")
    return Names(table, f"{kind}.", _UNUSED, root="" if head else "bert.")


def config_of(model: Bert | BertMasked | BertClassifier) -> dict[str, Any]:
    """The config.json that describes a model, for `from_hf` and for transformers."""
    config = model.config
    at = int(config.kind == "distilbert")
    head = {BertMasked: "ForMaskedLM", BertClassifier: "ForSequenceClassification"}.get(type(model), "Model")
    found: dict[str, Any] = {"model_type": config.kind, "architectures": [_CLASSES[config.kind] + head]}
    found |= Fields("distilbert" if at else "bert").write(config)
    found["max_position_embeddings"] = config.max_length + config.position_offset
    if not at:
        found |= {"type_vocab_size": config.types, "layer_norm_eps": config.norm_eps}
    if isinstance(model, BertClassifier):
        labels = model.labels
        named = labels.names or ("LABEL_0",)
        found["id2label"] = {str(i): name for i, name in enumerate(named)}
        found["label2id"] = {name: i for i, name in enumerate(named)}
        if labels.kind != "multi_class":
            found["problem_type"] = "regression" if labels.kind == "regression" else "multi_label_classification"
    return found
