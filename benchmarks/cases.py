"""Every measured piece of work by name; those of a group (what stands before the colon) do the same useful work."""

from __future__ import annotations

from benchmarks import drawing, mixtures, scoring, training

CASES = drawing.CASES | training.CASES | scoring.CASES | mixtures.CASES
