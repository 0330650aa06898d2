"""Named problems of language modelling: ``lm_tinyshakespeare`` is ``tinyshakespeare()`` here."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from seqlib.data.lines import open_bytes
from seqlib.problems.language_model import LanguageModel
from seqlib.problems.origin import find_file, hub_rows, published, warn_of_digest

__all__ = ["NamedText", "enwik8", "pydoc", "tinyshakespeare", "tinystories", "wikitext2"]


class NamedText(LanguageModel):
    """The published corpus of a ``name``: ``files`` are the names of its files by split in ``data_dir``; without that
    it comes from the hub, ``hub`` (data set, configuration, column), if that is known. A split that has no file is cut
    from the text of train: ``cuts`` are its limits, in bytes from 0 on or as shares of it."""

    hub: tuple[str, str | None, str] | None = None
    files: Mapping[str, Sequence[str]] = {}
    cuts: Mapping[str, tuple[float, float]] = {}
    ends: str = ""

    def __init__(self, name: str, data_dir: str | Path | None = None) -> None:
        vars(self).update(published(name), name=name)
        self.data_dir = Path(data_dir) if data_dir is not None else None

    def splits(self) -> tuple[str, ...]:
        return tuple(self.cuts or self.files)

    def texts(self, split: str) -> Iterator[str]:
        """Lines with their ends, or documents."""
        self.check_split(split)
        if self.data_dir is None and self.hub is not None:
            handle, config, column = self.hub
            names = {"dev": "validation"}
            rows = hub_rows(self, handle, names.get(split, split), config)
            yield from (row[column] for row in rows)
            return
        with open_bytes(self._file(split if split in self.files else "train")) as stream:
            data = stream.read()
        if split in self.cuts:
            first, last = (int(limit * len(data)) if limit <= 1 else int(limit) for limit in self.cuts[split])
            data = data[first:last]
        text = data.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n")
        yield from (each.strip() for each in text.split(self.ends) if each.strip()) if self.ends else lines_of(text)

    def digest(self) -> str:
        """Of the unpacked files, held against the published ones; of the hub's data by reading them."""
        if self.data_dir is None and self.hub is not None:
            return super().digest()
        paths = [(names[0], self._file(split)) for split, names in self.files.items()]
        return " ".join(warn_of_digest(self, name, path) for name, path in paths) + repr(dict(self.cuts))

    def _file(self, split: str) -> Path:
        return find_file(self, self.data_dir, self.files[split])


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text with their ends, which are line feeds alone."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


class PyDoc(LanguageModel):
    """Python's own documentation: the topics of ``help()`` and the docstrings of the standard library's source files,
    as this Python has them; every tenth file to development, every other tenth for testing."""

    name = "lm_pydoc"
    source = "embedded: pydoc_data.topics and docstrings of the standard library of the Python that runs"
    licence = "PSF-2.0"
    citation = "The Python documentation, Python Software Foundation"
    how = "nothing is needed: it comes with Python"
    documents = True

    def splits(self) -> tuple[str, ...]:
        return ("train", "dev", "test")

    def texts(self, split: str) -> Iterator[str]:
        """Topics and docstrings of at least 40 characters."""
        import ast
        import inspect
        import sysconfig
        from pydoc_data.topics import topics

        self.check_split(split)

        def of(name: str) -> str:
            return {0: "dev", 1: "test"}.get(hashlib.blake2b(name.encode()).digest()[0] % 10, "train")

        yield from (text for name, text in sorted(topics.items()) if of(name) == split)
        folder = Path(sysconfig.get_paths()["stdlib"])
        packages = ("", "asyncio", "collections", "concurrent/futures", "email", "http", "importlib", "json", "logging",
                    "multiprocessing", "unittest", "urllib", "xml/etree")  # fmt: skip
        for path in sorted(path for package in packages for path in (folder / package).glob("*.py")):
            if of(path.name) != split:
                continue
            tree = ast.parse(path.read_bytes())
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
            yield from (inspect.cleandoc(text) for text in found if text and len(text) >= 40)


def tinyshakespeare(data_dir: str | Path | None = None) -> NamedText:
    """Karpathy's tiny Shakespeare, characters: the first 90 % to train, the last 10 % for development; from
    ``data_dir``."""
    return NamedText("lm_tinyshakespeare", data_dir)


def wikitext2(data_dir: str | Path | None = None) -> NamedText:
    """WikiText-2, from ``data_dir`` (tokenised or raw), else raw through the ``datasets`` library."""
    return NamedText("lm_wikitext2", data_dir)


def enwik8(data_dir: str | Path | None = None) -> NamedText:
    """The first 100 million bytes of an English Wikipedia dump: 90 to train, 5 each for development and testing; from
    ``data_dir``."""
    return NamedText("lm_enwik8", data_dir)


def tinystories(data_dir: str | Path | None = None) -> NamedText:
    """Short stories in the words of a small child, written by GPT-3.5 and GPT-4; from ``data_dir``, else through the
    ``datasets`` library."""
    return NamedText("lm_tinystories", data_dir)


def pydoc() -> PyDoc:
    """Python's documentation."""
    return PyDoc()
