"""Trees of tensors as one safetensors file, which other tools read by name."""

import json
import os
from typing import Any, cast

import numpy as np

from seqlib.core.tensor import Tensor, tensor
from seqlib.util.arrays import write_arrays
from seqlib.util.atomic import atomic_file
from seqlib.util.errors import DataError, UsageError

_KEY = "seqlib.tree"  # of the metadata, where the tree's structure lies
_PLAIN = (bool, int, float, str, type(None))


def save(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path`, one safetensors file; the file is replaced only when the new one is complete.

    `value` is a Module, an optimizer or anything else with a `state_dict()`, or a tree: dicts with string keys, lists
    and tuples of tensors, arrays, numbers, strings, booleans and None. A tensor is named by its path
    (``decoder.0.weight``), so other tools find the weights of a Module under its parameters' names. `seqlib.load`
    gives the tree back. A whole translator, with tokenizer and record, is a bundle: `seqlib.bundle.write`.

    Raises UsageError for what can't be saved, naming its place in the tree, SeqlibError when the disk is full.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = _taken_apart(value.state_dict() if hasattr(value, "state_dict") else value, "", arrays)
    with atomic_file(path) as aside:
        write_arrays(aside, arrays, {_KEY: json.dumps(tree)})


def load_tensors(path: str | os.PathLike[str]) -> Any:
    """What `save` wrote, with tensors at its leaves; of a safetensors file by another tool a dict of its tensors.

    Raises DataError that names the file when it is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: tensor(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        return _put_together(json.loads(metadata[_KEY]), arrays) if _KEY in metadata else arrays
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is no safetensors file, or damaged: {error}") from error


def _taken_apart(value: Any, name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The structure of a tree as JSON; its arrays go to `arrays`, by path."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        if name in arrays:
            raise UsageError(f"save: two tensors of the tree have the name {name!r}")
        arrays[name] = tensor(value).data
        return {"tensor": name}
    if isinstance(value, _PLAIN):
        return {"value": value}
    if type(value) is dict:
        mapping = cast("dict[Any, Any]", value)
        if not all(isinstance(key, str) for key in mapping):
            raise UsageError(f"save: {name or 'the tree'}: the keys of a dict should be strings")
        return {"dict": {key: _taken_apart(v, _below(name, key), arrays) for key, v in mapping.items()}}
    if type(value) in (list, tuple):
        parts = [_taken_apart(v, _below(name, str(i)), arrays) for i, v in enumerate(cast("list[Any]", value))]
        return {type(value).__name__: parts}
    raise UsageError(
        f"save: {name or 'the tree'} is a {type(value).__name__}; a tree has dicts, lists and tuples of tensors, "
        "arrays, numbers, strings, booleans and None"
    )


def _below(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _put_together(node: dict[str, Any], arrays: dict[str, Tensor]) -> Any:
    ((kind, content),) = node.items()
    if kind == "tensor":
        return arrays[content]
    if kind == "dict":
        return {key: _put_together(child, arrays) for key, child in content.items()}
    if kind in ("list", "tuple"):
        parts = [_put_together(child, arrays) for child in content]
        return tuple(parts) if kind == "tuple" else parts
    if kind == "value":
        return content
    raise ValueError(f"a tree has no {kind!r}")
