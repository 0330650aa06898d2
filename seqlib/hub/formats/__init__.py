"""Weights of other tools as named arrays: safetensors, PyTorch, NumPy, Marian, GGUF; nothing in them is run."""

from seqlib.hub.formats.checkpoint import Checkpoint, Entry
from seqlib.hub.formats.open import open_checkpoint
