"""Model architectures, one file each: configuration, modules, size presets.

A preset is named by its place: ``transformer_base`` is ``base()`` in ``transformer.py``.
"""
