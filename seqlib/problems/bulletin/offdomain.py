"""Sentences that are not bulletins, to see whether a model says so; written before any model was trained."""

from seqlib.problems.bulletin.lexicon import text

OFF_DOMAIN = tuple(text("off_domain.txt").splitlines())
"""English of other kinds: news, literature, technology, chat, science, cooking, and some near the domain's words."""

GIBBERISH = tuple(text("gibberish.txt").splitlines())
"""Not English at all."""
