"""Words of configurations and data files that several modules compare with, each defined once."""

from __future__ import annotations

WORLD = "world"  # as a data root, a model or what scores: what ships with the package
CATEGORIES = ("person", "animal", "object")  # of concepts
