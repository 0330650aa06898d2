"""Classifiers beside each other, whose probabilities are averaged (Hansen and Salamon 1990).

B batch, S time, L outputs.
"""

import sys
from functools import reduce
from typing import Any

import msgspec

from seqlib.core import ops
from seqlib.core.rng import Generator, current_generator, use_generator
from seqlib.core.tensor import Tensor
from seqlib.models.preset import presets
from seqlib.nn.classifier import TextClassifier
from seqlib.nn.dropout import check_config
from seqlib.nn.module import Module
from seqlib.util.errors import UsageError
from seqlib.util.lookup import resolve

__all__ = ["Ensemble", "EnsembleConfig", "base", "build"]

TASK = "text_classification"


class EnsembleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Members and how much is read; raises UsageError for values out of their range."""

    members: str = "bag_ngrams_base text_cnn_base lstm_classifier_base"
    """Presets of classifiers, also the same one several times: each has weights of its own."""
    max_length: int = 256
    """Tokens that are read of a text, special ones included."""

    def __post_init__(self) -> None:
        check_config(self, "ensemble", "max_length", "")
        if not self.members.split():
            raise UsageError("ensemble: members: expected names of presets, such as 'text_cnn_base text_cnn_base'")


class Ensemble(Module):
    """The model of a `config` for a problem's `spec`. Raises UsageError for members that are no classifiers."""

    def __init__(self, config: EnsembleConfig, spec: Any):
        self.config, self.members = config, [_member(name, spec) for name in config.members.split()]
        for name, parameter in self.named_parameters().items():
            parameter.name = name

    def forward(self, ids: Any, lengths: Any, types: Any = None) -> Tensor:
        """As `TextClassifier.forward` → logits [B,L]: of classes the logarithm of the mean of the members'
        probabilities, otherwise the mean of their logits."""
        logits = [ops.cast(member(ids, lengths, types), "float32") for member in self.members]
        if self.members[0].labels.kind != "multi_class":
            return reduce(Tensor.__add__, logits) / len(logits)
        return ops.log(reduce(Tensor.__add__, [ops.softmax(each) for each in logits]) / len(logits))

    def loss(self, batch: Any, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """(mean of the members' sums, sum of the weights): each learns as if it were alone."""
        found = [member.loss(batch, smoothing) for member in self.members]
        return reduce(Tensor.__add__, [total for total, _ in found]) / len(found), found[0][1]

    def scores(self, batch: Any) -> Any:
        """Raises UsageError: there is no one prediction that is trained."""
        raise UsageError("optim.consistency: an ensemble's members learn each for itself; set it to 0")


def _member(name: str, spec: Any) -> TextClassifier:
    config = resolve(name, "seqlib.models", "hparams_set")().model
    module = sys.modules[type(config).__module__]
    if getattr(module, "TASK", "") != TASK or isinstance(config, EnsembleConfig):
        raise UsageError(f"ensemble: members: {name} is no preset of a single classifier")
    return module.build(config, spec, current_generator())


def build(config: EnsembleConfig, spec: Any, generator: Generator) -> Ensemble:
    """A model with weights drawn from the generator."""
    with use_generator(generator):
        return Ensemble(config, spec)


(base,) = presets(__name__, EnsembleConfig, "base")
