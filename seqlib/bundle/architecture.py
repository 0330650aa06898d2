"""From the name of a model to the function that builds it."""

import functools
import importlib
import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from seqlib.util.errors import BundleError, UsageError
from seqlib.util.lookup import resolve

Build = Callable[[Any, Any, Any], Any]
"""(configuration, ProblemSpec, Generator) → a model with fresh weights."""


def is_location(name: str) -> bool:
    """Whether a model's name says where a user's own code is: ``file.py:name`` or ``package.module:name``."""
    return ":" in name


def builder(name: str) -> Build:
    """`build` of the file of that name in `seqlib.models`, or what is at a user's location, whose file is run: such a
    function, or a class of (config, spec).

    Raises BundleError for a name that this version does not have, UsageError for a location that holds something else.
    """
    if is_location(name):
        found = resolve(name, "seqlib.models", "model")
        config_type(found, name)
        return _drawn(found) if inspect.isclass(found) else found
    if not name.isidentifier() or name.startswith("_"):
        raise BundleError(f"architecture {name!r} is not a name")
    try:
        return importlib.import_module(f"seqlib.models.{name}").build
    except ModuleNotFoundError as error:
        if error.name != f"seqlib.models.{name}":
            raise
        raise BundleError(f"this version of seqlib has no architecture {name!r}") from error


def _drawn(model: type) -> Build:
    """The function that builds a model of a class, its initial weights drawn from the generator."""
    from seqlib.core.rng import use_generator

    @functools.wraps(model.__init__)
    def build(config: Any, spec: Any, generator: Any) -> Any:
        with use_generator(generator):
            return model(config, spec)

    return build


def config_type(build: Build, name: str = "build") -> type[msgspec.Struct]:
    """The configuration Struct of an architecture: the annotated type of the `config` of its function.

    Raises UsageError when there is none; it needs `max_length`, the longest sentence of either side.
    """
    try:
        hints = typing.get_type_hints(build.__init__ if inspect.isclass(build) else build)
        found = hints.get("config")
    except (TypeError, NameError):  # no function, or annotated by names that are not there
        found = None
    if not (isinstance(found, type) and issubclass(found, msgspec.Struct)):
        raise UsageError(
            f"model {name!r}: expected a class of (config, spec) or a function of (config, spec, generator), its "
            f"config annotated with a msgspec.Struct; got {build!r}"
        )
    if "max_length" not in {field.name for field in msgspec.structs.fields(found)}:
        raise UsageError(f"model {name!r}: {found.__name__} has no max_length, the longest sentence it takes")
    return found
