"""Optimizers, and learning-rate schedules as products of named factors."""

from seqlib.optim.adafactor import Adafactor
from seqlib.optim.adamw import AdamW
from seqlib.optim.loss_scale import LossScale
from seqlib.optim.muon import Muon
from seqlib.optim.optimizer import Optimizer
from seqlib.optim.schedule import FACTORS, Schedule
from seqlib.optim.sgd import SGD
