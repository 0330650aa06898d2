"""A sentence pair and where it stands."""

from typing import NamedTuple

from seqlib.util.errors import DataError


class Record(NamedTuple):
    """One pair of a corpus with its file and 1-based line; ``problem`` says why it could not be read, if so.

    ``split`` is set where the pairs of several splits come in one stream, ``corpus`` where those of several corpora do.
    ``weight`` is what the pair counts in the loss. A labelled text has a ``label``, as it was read; its ``target`` is
    the second text of a pair, or empty.
    """

    source: str
    target: str
    file: str
    line: int
    problem: str = ""
    split: str = ""
    corpus: int = 0
    weight: float = 1.0
    label: str = ""

    def pair(self) -> tuple[str, str]:
        """(source, target). Raises DataError where the line could not be read."""
        if self.problem:
            raise DataError(self.problem)
        return self.source, self.target
