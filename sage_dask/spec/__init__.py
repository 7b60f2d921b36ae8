"""Pipelines as YAML files: the same declaration that Python makes, as text.

Words are class names in snake case, keys are constructor parameters.  A file is
checked as it is read: whatever is unknown, of the wrong kind or given twice is
refused with its line and column.  Paths in it are relative to the current
directory, as they are for every command; ``module:name`` references are looked
up beside the file first.  A file of someone else's can be bound to some folders by ``Roots``.
"""

from __future__ import annotations

from sage_dask.spec.dumping import dump
from sage_dask.spec.loading import RunDefaults, Spec, load, loads, read, reads
from sage_dask.spec.roots import Roots

__all__ = ["Roots", "RunDefaults", "Spec", "dump", "load", "loads", "read", "reads"]
