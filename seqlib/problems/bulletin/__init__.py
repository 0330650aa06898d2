"""The grammar of short public bulletins behind ``translate_bulletin_ende``: lexicon, morphology, frames, sampler."""

from seqlib.problems.bulletin.generator import Bulletin, Sentence

__all__ = ["Bulletin", "Sentence"]
