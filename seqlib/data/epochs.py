"""The epochs of a run: which plan each has, by the kind of batches that the run wants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from seqlib.data.batch import Batch, PackedBatch, SpecialIds, collate
from seqlib.data.mixing import Mixture
from seqlib.data.packing import pack_plan
from seqlib.data.plan import Plan, bucket_plan, padding_plan
from seqlib.data.store import TokenStore
from seqlib.util.errors import unknown

__all__ = ["KINDS", "Epochs", "Planned"]

KINDS = ("buckets", "packing", "padding")


class Planned(NamedTuple):
    """Batch number ``place`` of an epoch's plan, in its parts."""

    epoch: int
    place: int
    plan: Plan
    parts: list[Batch | PackedBatch]


@dataclass(frozen=True)
class Epochs:
    """Plans of a store's epochs: ``plan(epoch)`` is a pure function of the fields.

    ``lengths`` int [n, 2] as ``TokenStore.lengths``; ``digest`` names the data; ``tokens`` a batch and side;
    ``shapes`` at most, for buckets and padding; ``parts`` that a batch will be cut into; ``mixture`` of the store's
    corpora (None: every pair once an epoch).
    """

    lengths: np.ndarray
    digest: str
    seed: int
    tokens: int
    max_length: int
    kind: str = "buckets"
    shapes: int = 12
    parts: int = 1
    mixture: Mixture | None = None

    def plan(self, epoch: int) -> Plan:
        """The batches of an epoch. Raises UsageError and DataError as the plan of the kind does."""
        options: dict[str, Any] = {
            "tokens": self.tokens,
            "max_length": self.max_length,
            "seed": self.seed,
            "epoch": epoch,
            "digest": self.digest,
        }
        if self.mixture is not None and not self.mixture.plain:
            options["chosen"] = self.mixture.chosen(self.digest, self.seed, epoch)
        if self.kind == "packing":
            return pack_plan(self.lengths, parts=self.parts, **options)
        if self.kind not in KINDS:
            raise unknown("kind of batches", self.kind, KINDS)
        plan = bucket_plan if self.kind == "buckets" else padding_plan
        return plan(self.lengths, max_shapes=self.shapes, **options)

    def batches(self, store: TokenStore, spec: SpecialIds, plan: Plan, epoch: int, place: int) -> Iterator[Planned]:
        """The batches from number ``place`` of an epoch, whose plan is known, onwards, epoch after epoch."""
        while True:
            for number in range(place, len(plan.batches)):
                parts = plan.batches[number].cut(self.parts)
                yield Planned(epoch, number, plan, [collate(store, part, spec) for part in parts])
            epoch, place = epoch + 1, 0
            plan = self.plan(epoch)
