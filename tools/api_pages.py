"""Write docs/api/*.md, the public names with their signatures and docstrings; `--fix` writes what is not current.

A page lists modules and, of each, names; `*` stands for all that a package offers. The text is taken from the source
alone, so the same source gives the same pages.
"""

import argparse
import ast
import inspect
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "api"
WIDTH = 100


@dataclass(frozen=True)
class Page:
    """A page: its file's stem, its heading, what it is about, and names by module."""

    stem: str
    title: str
    about: str
    names: dict[str, str]


PAGES = (
    Page(
        "seqlib",
        "seqlib",
        "Tensors, gradients, compiled functions, files, and array functions. Array functions take tensors, NumPy "
        "arrays and Python numbers; arguments and behaviour are NumPy's where the name is.",
        {"seqlib": "*"},
    ),
    Page(
        "nn",
        "seqlib.nn",
        "Layers. Letters of shapes: B sentences, T target time, S source time, D width, H heads, K width of a head, "
        "J beams, R = B·J decoding rows, V vocabulary.",
        {
            "seqlib.nn": "*",
            "seqlib.nn.attention": "Segments",
            "seqlib.nn.transformer_layers": "LayerConfig",
            "seqlib.nn.recurrent": "Cell Recurrent",
            "seqlib.nn.lora": "LoRALinear add_lora use_adapter merge_lora merged_state save_adapter load_adapter using",
            "seqlib.nn.precision": "Precision resolve_precision",
            "seqlib.nn.init": "*",
        },
    ),
    Page(
        "optim",
        "seqlib.optim",
        "Optimizers and schedules; [models.md](../models.md) has the factors.",
        {"seqlib.optim": "*"},
    ),
    Page(
        "models",
        "seqlib.models",
        "Architectures, their configurations and presets; [models.md](../models.md) explains them.",
        {
            "seqlib.models.bert": "Bert BertMasked BertClassifier BertConfig",
            "seqlib.models.transformer": "TransformerConfig Transformer build tiny small base big bulletin multi30k "
            "multi30k_tiny",
            "seqlib.models.lstm_seq2seq": "LSTMSeq2SeqConfig LSTMSeq2Seq build base multi30k",
            "seqlib.models.gpt2": "GPT2Config GPT2 build tiny small base",
            "seqlib.models.lstm_lm": "LSTMLMConfig LSTMLM medium large characters",
            "seqlib.models.preset": "Preset",
        },
    ),
    Page(
        "data",
        "seqlib.data",
        "From files to batches; [data.md](../data.md) is the guide.",
        {
            "seqlib.data.prepare": "prepare PreparedData",
            "seqlib.data.report": "PrepareReport SplitReport",
            "seqlib.data.clean": "CleanRules CleanReport",
            "seqlib.data.split": "HashSplit parse_split",
            "seqlib.data.lines": "read_lines file_digest",
            "seqlib.data.records": "Record",
            "seqlib.data.sources": "PairSource parse_data",
            "seqlib.data.mixing": "Mixture parse_mix",
            "seqlib.data.tokenizer": "Tokenizer load_tokenizer train_tokenizer normalise SentencePieceTokenizer "
            "CharacterTokenizer BytesTokenizer",
            "seqlib.data.subword": "SubwordSampler",
            "seqlib.data.sampled": "SampledStore Sampling",
            "seqlib.data.store": "TokenStore write_store",
            "seqlib.data.plan": "bucket_plan padding_plan Plan PlannedBatch Shape",
            "seqlib.data.packing": "pack_plan PlannedPack",
            "seqlib.data.batch": "Batch PackedBatch TextBatch collate",
            "seqlib.data.epochs": "Epochs",
            "seqlib.data.text": "write_texts stream_of WindowEpochs DocumentEpochs",
            "seqlib.data.ngrams": "KneserNey",
        },
    ),
    Page(
        "problems",
        "seqlib.problems",
        "Named problems, and what your own derives from; [adding-a-problem.md](../adding-a-problem.md) builds one.",
        {
            "seqlib.problems": "*",
            "seqlib.problems.translation": "Translation",
            "seqlib.problems.language_model": "LanguageModel",
            "seqlib.problems.text_classification": "TextClassification",
            "seqlib.problems.classify_files": "from_data",
            "seqlib.problems.translate_files": "from_data",
            "seqlib.problems.translate_bulletin": "ende",
            "seqlib.problems.translate_multi30k": "ende deen enfr",
            "seqlib.problems.translate": "NamedPairs iwslt14_deen iwslt14_ende wmt14_ende wmt19_ende",
            "seqlib.problems.lm": "tinyshakespeare wikitext2 enwik8 tinystories pydoc",
            "seqlib.problems.algorithmic": "copy reverse sort addition",
            "seqlib.problems.bulletin": "Bulletin",
            "seqlib.problems.spec": "Labels ProblemSpec",
        },
    ),
    Page(
        "train",
        "seqlib.train",
        "Training runs; [training.md](../training.md) is the guide. Every field of `RunConfig` and below is a flag of "
        "`seqlib train`.",
        {
            "seqlib.train.run": "train resume Result",
            "seqlib.train.setup": "make_config",
            "seqlib.train.config": "RunConfig DataConfig OptimConfig BatchConfig DecodeConfig",
            "seqlib.train.callback": "Callback",
            "seqlib.train.trainer": "Trainer",
            "seqlib.train.summary": "Summary Layer Pass empty_batch",
            "seqlib.train.inspection": "inspect",
            "seqlib.train.step": "training_step CompiledStep compiled_loss",
        },
    ),
    Page(
        "decode",
        "seqlib.decode",
        "Using a saved model; [decoding.md](../decoding.md) is the guide. `seqlib.load` gives a `Translator`.",
        {
            "seqlib.decode.translate": "Translator Translation Alternative",
            "seqlib.decode.generate": "TextGenerator Generation",
            "seqlib.decode.sampling": "Sampling",
            "seqlib.decode.engine": "Engine",
            "seqlib.decode.search": "Hypothesis",
            "seqlib.decode.ensemble": "Ensemble",
            "seqlib.decode.confidence": "Calibration fit",
        },
    ),
    Page(
        "bundle",
        "seqlib.bundle",
        "Saved models as folders; [bundle.md](../bundle.md) is the guide.",
        {"seqlib.bundle": "*"},
    ),
    Page(
        "hub",
        "seqlib.hub",
        "Pretrained weights; [hub.md](../hub.md) is the guide.",
        {
            "seqlib.hub.load": "load module",
            "seqlib.hub.fine_tune": "fine_tune settings start",
            "seqlib.hub.surgery": "rows_of transplanted",
            "seqlib.hub.save": "*",
            "seqlib.hub.handles": "resolve cached verify remove push",
            "seqlib.hub.formats": "open_checkpoint Checkpoint",
            "seqlib.hub.convert": "merged to_safetensors",
            "seqlib.hub.publish": "to_transformers",
            "seqlib.hub.ctranslate2": "to_ctranslate2",
        },
    ),
    Page(
        "serve",
        "seqlib.serve",
        "Models over HTTP; [serving.md](../serving.md) is the guide. Every field of `ServeConfig` is a flag of "
        "`seqlib serve`.",
        {"seqlib.serve.server": "Server", "seqlib.serve.config": "ServeConfig Limits"},
    ),
    Page(
        "recipes",
        "seqlib.recipes",
        "Whole runs by name; [recipes.md](../recipes.md) is the guide.",
        {"seqlib.recipes": "*"},
    ),
    Page(
        "core",
        "seqlib.core",
        "For ops of your own ([adding-an-op.md](../adding-an-op.md)) and for a look inside; what everyday code needs "
        "is in [seqlib.md](seqlib.md).",
        {
            "seqlib.core.op": "primitive fused Op Kernel Meta Layout VjpContext need_float need_int normalize_axis "
            "broadcast_shapes shape_error dtype_error",
            "seqlib.core.ops.elementwise": "elementwise",
            "seqlib.core.ops.blocks": "as_rows pieces rows_per_block same_float",
            "seqlib.core.ops": "sum_to lstm gru rotary",
            "seqlib.core.tensor": "as_tensor",
            "seqlib.core.rng": "use_generator",
            "seqlib.core.compile": "Compiled",
            "seqlib.core.program": "Program",
            "seqlib.core.hooks": "Seen Call NonFinite",
            "seqlib.core.custom_vjp": "CustomVjp",
        },
    ),
    Page("errors", "Errors", "What a user can mend is a `SeqlibError`.", {"seqlib.util.errors": "*"}),
)


TOPICS = {
    "Elementwise": "elementwise",
    "Shapes": "shape join",
    "Reductions and sorting": "reduce statistics sort",
    "Making and indexing": "create index",
    "Products and transforms": "matmul fourier einsum",
}
"""Headings of the array functions, by the files that they are in; the rest are layers and losses."""


def topic(value: Any) -> str:
    """The heading of a name of `seqlib`."""
    module = (value.fn if hasattr(value, "infer_metas") else value).__module__
    found = [title for title, stems in TOPICS.items() if module.rpartition(".")[2] in stems.split()]
    general = not module.startswith("seqlib.core.ops.") and not found
    return "Tensors, gradients, compiled functions" if general else found[0] if found else "Layers and losses"


def entries(page: Page) -> Iterator[tuple[str, str, Any]]:
    """(module, name, object) of all that a page lists, in order. Raises AttributeError for a name that is gone."""
    for module, names in page.names.items():
        home = import_module(module)
        for name in _offered(home) if names == "*" else names.split():
            if not name.startswith("__"):
                yield module, name, getattr(home, name)


def _offered(home: Any) -> list[str]:
    """A module's `__all__`, else what a package gathers from its files and what a module defines: constants, classes,
    functions."""
    if hasattr(home, "__all__"):
        return home.__all__
    body = ast.parse(inspect.getsource(home)).body
    gathered = [alias.asname or alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names]
    defined = [node.name for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    names = gathered if home.__spec__.submodule_search_locations else defined
    public = [name for name in names if not name.startswith("_")]
    return sorted(public, key=lambda name: (not name.isupper(), name[0].islower(), name))


# -- signatures ----------------------------------------------------------------------------------------------


def _type(annotation: Any) -> str:
    annotation = getattr(annotation, "__forward_arg__", annotation)
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\b(?:seqlib|collections\.abc|typing|pathlib|os)(?:\.\w+)*\.(?=\w)", "", text)
    return text.replace("numpy.", "np.").replace("'", '"')


def _default(value: Any) -> str:
    if callable(value):
        return getattr(value, "__name__", "…")
    if isinstance(value, str):
        return f'"{value}"'
    if hasattr(value, "__struct_fields__"):
        return f"{type(value).__name__}()"
    text = re.sub(r"^dtype\('(\w+)'\)$", r"\1", repr(value))
    return "…" if " at 0x" in text or text.startswith("<") else text


def _parameters(signature: inspect.Signature, skip: int = 0) -> list[str]:
    found: list[str] = []
    kinds = inspect.Parameter
    star = False
    for parameter in list(signature.parameters.values())[skip:]:
        text = {kinds.VAR_POSITIONAL: "*", kinds.VAR_KEYWORD: "**"}.get(parameter.kind, "") + parameter.name
        if parameter.kind == kinds.KEYWORD_ONLY and not star:
            found.append("*")
        star = star or parameter.kind in (kinds.KEYWORD_ONLY, kinds.VAR_POSITIONAL)
        if parameter.annotation is not kinds.empty:
            text += f": {_type(parameter.annotation)}"
        if parameter.default is not kinds.empty:
            text += f"{' = ' if ':' in text else '='}{_default(parameter.default)}"
        found.append(text)
    return found


def _call(name: str, parameters: list[str], result: str) -> str:
    line = f"{name}({', '.join(parameters)}){result}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + f"){result}"


def signature_of(name: str, value: Any, skip: int = 0) -> str:
    """`name(x: Tensor, axis: int = -1) -> Tensor`; an op's own inputs and attributes."""
    if hasattr(value, "params") and hasattr(value, "infer_metas"):
        attributes = [f"{key}={_default(default)}" for key, default in value.defaults.items()]
        return _call(name, [*value.params, *(["*"] if attributes else []), *attributes], " -> Tensor")
    signature = inspect.signature(value)
    result = (
        "" if signature.return_annotation in (inspect.Signature.empty, None, "None") else signature.return_annotation
    )
    return _call(name, _parameters(signature, skip), f" -> {_type(result)}" if result else "")


# -- text ----------------------------------------------------------------------------------------------------


def prose(text: str) -> str:
    """A docstring as Markdown: what Markdown would take for its own outside of code is escaped."""
    lines: list[str] = []
    for line in inspect.cleandoc(text).splitlines():
        if not line.startswith("    "):
            parts = re.split(r"(``.*?``|`[^`]*`)", line)
            line = "".join(p if p.startswith("`") else re.sub(r"([*_<\\])", r"\\\1", p) for p in parts)
        lines.append(line)
    return "\n".join(lines)


@lru_cache(maxsize=256)
def _field_notes(cls: type) -> dict[str, str]:
    """The strings below the annotated fields of a class."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError):
        return {}
    found: dict[str, str] = {}
    assert isinstance(body, ast.ClassDef)
    for field, note in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(note, ast.Expr):
            value = note.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[field.target.id] = " ".join(value.value.split())
    return found


def _fields(cls: type) -> Iterator[str]:
    notes = {key: note for base in reversed(cls.__mro__) for key, note in _field_notes(base).items()}
    if notes:
        yield ""
        for key in (key for key in inspect.signature(cls).parameters if key in notes):
            yield f"- `{key}`: {prose(notes[key])}"


def _members(cls: type) -> Iterator[str]:
    bare: list[str] = []  # those whose names and types say it all
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            head, text = f"{name}", member.__doc__
        elif isinstance(member, staticmethod | classmethod) or inspect.isfunction(member):
            plain = member if inspect.isfunction(member) else member.__func__
            head = signature_of(name, plain, skip=0 if isinstance(member, staticmethod) else 1)
            text = plain.__doc__
        else:
            continue
        if text:
            yield (f"\n**`{head}`**" if "\n" not in head else f"\n```python\n{head}\n```") + f"\n\n{prose(text)}"
        elif "\n" not in head:
            bare.append(f"`{head}`")
    if bare:
        yield f"\nBesides: {', '.join(bare)}."


def _class(name: str, cls: type) -> Iterator[str]:
    bases = [base.__name__ for base in cls.__bases__ if base.__module__.startswith("seqlib")]
    try:
        call = signature_of(name, cls).removesuffix(" -> None")
    except ValueError:  # an exception without a constructor of its own
        call = name
    yield f"```python\nclass {call}" + (f"  # a {', '.join(bases)}" if bases else "") + "\n```"
    yield f"\n{prose(cls.__doc__ or '')}"
    yield from _fields(cls)
    yield from _members(cls)


def entry(name: str, value: Any) -> str:
    """The section of one name."""
    lines = [f"### {name}", ""]
    if inspect.ismodule(value):
        lines.append(prose(value.__doc__ or ""))
    elif inspect.isclass(value):
        lines += _class(name, value)
    elif callable(value):
        lines += [f"```python\n{signature_of(name, value)}\n```", "", prose(value.__doc__ or "")]
    else:
        keys = ", ".join(f"`{key}`" for key in value) if isinstance(value, dict) else f"`{value!r}`"
        lines.append(f"A {type(value).__name__}: {keys}.")
    return "\n".join(lines).rstrip() + "\n"


def render(page: Page) -> str:
    """The text of a page."""
    parts: dict[str, list[tuple[str, Any]]] = {}
    for module, name, value in entries(page):
        parts.setdefault(topic(value) if page.stem == "seqlib" else f"`{module}`", []).append((name, value))
    text = [f"# {page.title}\n", f"{page.about}\n", "Written by `tools/api_pages.py` from the source.\n"]
    taken: Counter[str] = Counter()
    for heading, items in parts.items():
        links: list[str] = []
        for name, _ in items:
            again = taken[name.lower()]
            taken[name.lower()] += 1
            links.append(f"[{name}](#{name.lower()}{f'-{again}' if again else ''})")
        text.append(f"- {heading}: {', '.join(links)}")
    text.append("")
    for heading, items in parts.items():
        text += [f"## {heading}\n", *(entry(name, value) for name, value in items)]
    return "\n".join(text)


def index() -> str:
    """docs/api/README.md."""
    lines = ["# The public names\n", "Written by `tools/api_pages.py` from signatures and docstrings.\n"]
    for page in PAGES:
        names = ", ".join(f"`{name}`" for _, name, _ in entries(page))
        lines.append(f"- [{page.title}]({page.stem}.md): {names}")
    return "\n".join(lines) + "\n"


def pages() -> dict[str, Callable[[], str]]:
    """What makes the text of each file of docs/api."""
    return {"README.md": index, **{f"{page.stem}.md": (lambda page=page: render(page)) for page in PAGES}}


def main() -> int:
    """Compare or write; 1 when something is not current and not written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fix", action="store_true", help="write the pages")
    fix = parser.parse_args().fix
    stale: list[str] = []
    for name, make in pages().items():
        path, text = FOLDER / name, make()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if fix:
                FOLDER.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if stale and not fix:
        print(f"error: docs/api: {', '.join(stale)} not current; `make format` writes them", file=sys.stderr)
    return int(bool(stale) and not fix)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
