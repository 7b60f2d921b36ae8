"""The pipeline a user declares: an immutable chain of source, stages and sink.

Every method returns a new pipeline, so that a prefix can be shared and extended
in two directions.  Nothing is read, checked or started before ``plan`` or
``run``.
"""

from __future__ import annotations
