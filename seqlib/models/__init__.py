"""Model architectures, one file each: configuration and modules; their presets are sections of ``presets.toml``.

A preset is named by its place: ``transformer_base`` is ``base()`` of ``transformer.py``. A file with `build` is a model
that a run can name; its `TASK` says what for.
"""

import importlib
import pkgutil

__all__ = ["list_models", "model_task"]


def list_models(task: str = "") -> list[str]:
    """The names of the models that can be trained, sorted; those for one task if it is named."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__))
    found = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return [name for name, module in found.items() if hasattr(module, "build") and task in ("", module.TASK)]


def model_task(name: str) -> str:
    """The task that a model of the library is for."""
    return importlib.import_module(f"{__name__}.{name}").TASK
