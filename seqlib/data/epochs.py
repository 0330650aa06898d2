"""The epochs of a run: which plan each has, by the kind of batches that the run wants."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from seqlib.data.batch import SpecialIds, collate
from seqlib.data.labelled import SampledLabels
from seqlib.data.mixing import Mixture
from seqlib.data.packing import PlannedPack, pack_plan
from seqlib.data.plan import Plan, PlannedBatch, PlanOptions, bucket_plan, padding_plan
from seqlib.data.sampled import Sampling
from seqlib.util.errors import unknown

KINDS = ("buckets", "packing", "padding")


class Planned(NamedTuple):
    """Batch number ``place`` of an epoch's plan, in its parts."""

    epoch: int
    place: int
    plan: Plan
    parts: list[Any]


@dataclass(frozen=True)
class Epochs:
    """The epochs of a store: ``plan(epoch)`` and ``store_in(epoch)`` are pure functions of the fields.

    ``digest`` names the data; ``tokens`` a batch and side; ``shapes`` at most, for buckets and padding; ``parts`` that
    a batch will be cut into; ``mixture`` of the store's corpora (None: every pair once an epoch); ``sampling`` cuts
    words into other pieces in every epoch.
    """

    store: Any
    digest: str
    seed: int
    tokens: int
    max_length: int
    kind: str = "buckets"
    shapes: int = 12
    parts: int = 1
    mixture: Mixture | None = None
    sampling: Sampling | SampledLabels | None = None
    collate: Callable[[Any, Any, SpecialIds], Any] = collate
    """(store, planned batch, special ids) → batch"""

    def store_in(self, epoch: int) -> Any:
        """The store as it is in an epoch: what its plan's batches are collated from."""
        return self.store if self.sampling is None else self.sampling.epoch(epoch)

    def plan(self, epoch: int) -> Plan:
        """The batches of an epoch. Raises UsageError and DataError as the plan of the kind does."""
        options: PlanOptions = {
            "tokens": self.tokens,
            "max_length": self.max_length,
            "seed": self.seed,
            "epoch": epoch,
            "digest": self.digest,
        }
        if self.mixture is not None and not self.mixture.plain:
            options["chosen"] = self.mixture.chosen(self.digest, self.seed, epoch)
        if self.sampling is not None:
            options["shaped_by"] = self.sampling.shaped_by
        lengths = self.store_in(epoch).lengths()
        if self.kind == "packing":
            return pack_plan(lengths, parts=self.parts, **options)
        if self.kind not in KINDS:
            raise unknown("kind of batches", self.kind, KINDS)
        plan = bucket_plan if self.kind == "buckets" else padding_plan
        return plan(lengths, max_shapes=self.shapes, **options)

    def collated(self, planned: PlannedBatch | PlannedPack, spec: SpecialIds, epoch: int) -> list[Any]:
        """A planned batch of an epoch, in its parts."""
        store = self.store_in(epoch)
        return [self.collate(store, part, spec) for part in planned.cut(self.parts)]

    def batches(self, spec: SpecialIds, plan: Plan, epoch: int, place: int) -> Iterator[Planned]:
        """The batches from number ``place`` of an epoch, whose plan is known, onwards, epoch after epoch."""
        while True:
            for number in range(place, len(plan.batches)):
                yield Planned(epoch, number, plan, self.collated(plan.batches[number], spec, epoch))
            epoch, place = epoch + 1, 0
            plan = self.plan(epoch)
