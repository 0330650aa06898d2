"""Optimizers, and learning-rate schedules as products of named factors."""

from seqlib.optim.adamw import AdamW
from seqlib.optim.schedule import FACTORS, Schedule

__all__ = ["FACTORS", "AdamW", "Schedule"]
