"""The configuration of the Transformer (`models/transformer.py`)."""

from typing import Literal

from seqlib.nn.dropout import check_config
from seqlib.nn.feed_forward import ACTIVATIONS, GATED
from seqlib.nn.transformer_layers import DecoderConfig
from seqlib.util.errors import UsageError, unknown


class TransformerConfig(DecoderConfig, frozen=True, kw_only=True):
    """Sizes and choices of a Transformer; raises UsageError for values that don't fit together."""

    encoder_layers: int = 6
    """Blocks of self-attention and feed-forward."""
    decoder_layers: int = 6
    """Blocks of self-attention, attention over the encoder's output, and feed-forward."""
    positions: Literal["sinusoidal", "sinusoidal_paper", "rotary", "learned", "relative"] = "sinusoidal"
    """Sinusoids (with T2T's wavelengths, or those in the paper of Vaswani et al.) or learnt vectors added to the
    embeddings, queries and keys of self-attention turned (Su et al. 2021), or learnt numbers added to its scores by the
    distance (T5, Raffel et al. 2020)."""
    position_offset: int = 0
    """Of learnt positions: rows of the table before the first one (BART has 2)."""
    relative_buckets: int = 32
    """Of relative positions: the numbers a head has, for the distances (in the encoder half of them a direction)."""
    relative_longest: int = 128
    """Of relative positions: the distance from which on all share a number."""
    embedding_scale: bool = True
    """Embedded tokens are multiplied by the root of d_model."""
    embedding_norm: bool = False
    """Norms of what goes into the first layers (BART)."""
    zero_begin: bool = False
    """The begin token's vector is 0, whatever its id (Marian)."""
    output_bias: bool = False
    """A number added to each word's score (Marian, BART)."""
    output_scale: float = 1.0
    """What the decoder's output is multiplied by before the output weights (T5 with tied ones: 1 / sqrt(d_model))."""
    tie_source: bool = True
    """Source and target share one embedding, if the problem has one vocabulary for both."""
    tie_output: bool = True
    """The output weights are the target embedding."""
    checkpoint_layers: bool = False
    """Training keeps only the inputs of layers and computes their inside again for the gradient: less memory, more
    time, the same weights."""
    max_length: int = 1024
    """Longest sentence, special tokens included, on either side."""
    family: str = ""
    """The file in `seqlib.models` with its names in checkpoints of Hugging Face, of a model that came from there."""

    def __post_init__(self) -> None:
        sizes = "encoder_layers decoder_layers d_model d_ff heads max_length"
        check_config(self, "transformer", sizes, "dropout attention_dropout ff_dropout")
        if (self.d_model % self.heads and not self.head_width) or self.d_model % 2:
            raise UsageError(f"transformer: d_model {self.d_model} must be even and a multiple of heads {self.heads}")
        if self.kv_heads < 0 or self.heads % (self.kv_heads or self.heads):
            raise UsageError(f"transformer: kv_heads {self.kv_heads} must be a divisor of heads {self.heads}, or 0")
        if self.activation not in ACTIVATIONS and self.activation not in GATED:
            raise unknown("activation", self.activation, [*ACTIVATIONS, *GATED])


def why_not_packed(config: TransformerConfig) -> str:
    """The reason for which `loss` can't take packed batches; "" where it can."""
    if config.decoder_history == "ssru":
        return "SSRU needs a row for each sentence"
    return "relative positions need a row for each sentence" if config.positions == "relative" else ""
