"""The records of map.json: texts as points on a plane, and precision and recall by nearest neighbours."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from distilscope.evaluation.candidates import Candidate, Role, SamplingParameters
from distilscope.evaluation.documents import Number, Whole
from distilscope.evaluation.estimate import Interval

MAP_SCHEMA_VERSION = 1


class _Whose(Struct, frozen=True, kw_only=True):
    role: Role
    selectivity: SamplingParameters | None
    temperature: Number | None

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.role, self.selectivity)


class NeighbourScores(Struct, frozen=True, kw_only=True):
    precision: Interval
    recall: Interval


class NeighbourGroup(_Whose, frozen=True, kw_only=True):
    """A candidate's precision and recall by nearest neighbours, over the seeds."""

    precision: Interval
    recall: Interval


class Neighbours(Struct, frozen=True, kw_only=True):
    k: Whole
    n_reference: Whole
    n_candidate: Whole
    groups: tuple[NeighbourGroup, ...]
    ceiling: NeighbourScores | None
    """p* against itself, with other draws."""


class MapPoint(_Whose, frozen=True, kw_only=True):
    """A text, and where it is on the plane."""

    seed: Whole | None
    """None for p*."""
    x: Number
    y: Number
    text: str


class EmbedderRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    reference: str
    sha256: str = ""
    dimensions: Whole = 0
    longest: Whole = 0
    """Tokens that it reads of a text."""
    pooling: str = ""


class MapSettings(Struct, frozen=True, kw_only=True):
    n_neighbors: Whole
    min_dist: Number
    metric: str
    seed: Whole
    per_model: Whole


class EmbeddingMap(Struct, frozen=True, kw_only=True):
    """All of map.json."""

    schema_version: Literal[1] = MAP_SCHEMA_VERSION
    recipe: str
    note: str
    embedder: EmbedderRecord
    cut_texts: Whole
    settings: MapSettings
    neighbours: Neighbours
    points: tuple[MapPoint, ...]
