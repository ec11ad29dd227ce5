"""`distilscope map`: embeds the texts of a finished run, lays them out, and leaves map.json and figure 5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distilscope.errors import UsageError
from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.documents import Note, document_of, record_of, unnoted
from distilscope.evaluation.embedding_map import (
    EmbedderRecord,
    EmbeddingMap,
    MapPoint,
    MapSettings,
    NeighbourGroup,
    Neighbours,
    NeighbourScores,
)
from distilscope.evaluation.estimate import t_interval
from distilscope.evaluation.nearest_neighbours import K, neighbour_precision, neighbour_recall
from distilscope.evaluation.results_file import MAP, read_results
from distilscope.outputs.embedding_map.embedder import Embedder
from distilscope.outputs.embedding_map.texts import Gathered, Texts, gather
from distilscope.outputs.embedding_map.umap_layout import SETTINGS, Layout, umap
from distilscope.pipeline.store import Store
from distilscope.report.figures.files import write_map_figure
from distilscope.studies.run import recorded, store_folder
from distilscope.system.json_files import write_json

NOTE = (
    "A map proves nothing: distances on it are distorted, and its clusters depend on the embedder, the settings and "
    "the seed. Precision and recall by nearest neighbours depend on the embedder and on how many texts there are: "
    "compare them with each other and with what other draws of p* score."
)


def draw_map(
    run: Path,
    embedder: Embedder,
    *,
    per_model: int = 1000,
    seed: int = 0,
    lay_out: Layout | None = None,
    note: Note = unnoted,
) -> EmbeddingMap:
    """Writes RUN/map.json, figure5.png and figure5.pdf, and returns the map; the same run, embedder and seed give the
    same bytes.

    `lay_out` is UMAP with the paper's settings unless given; `note` takes what a reader of results.json should know.
    Raises UsageError for a run that is not finished or too few texts, StoreError where artifacts are gone.
    """
    if not 0 <= seed < 2**32:
        raise UsageError(f"the seed is {seed}, but must be at least 0 and below 2^32")
    lay_out = lay_out or umap()
    results, study = read_results(run, note=note), recorded(run)
    found = gather(study, Store(store_folder(run)), per_model=per_model)
    shown, more = [found.reference, *found.others], found.more
    texts = [text for one in (*shown, *more) for text in one.texts]
    vectors = np.split(embedder.embed(texts), np.cumsum([len(one.texts) for one in (*shown, *more)])[:-1])
    plane = lay_out(np.concatenate(vectors[: len(shown)]), seed)
    map = EmbeddingMap(
        recipe=results.recipe,
        note=NOTE,
        embedder=record_of(embedder.about(), EmbedderRecord),
        cut_texts=embedder.too_long(texts),
        settings=MapSettings(**SETTINGS, seed=seed, per_model=per_model),
        neighbours=_neighbours(found, vectors),
        points=_points(shown, plane),
    )
    write_json(run / MAP, document_of(map))
    write_map_figure(map, run)
    return map


def _points(shown: Sequence[Texts], plane: Float[np.ndarray, "n 2"]) -> tuple[MapPoint, ...]:
    written = [(one, text) for one in shown for text in one.texts]
    return tuple(
        MapPoint(
            role=one.candidate.role,
            selectivity=one.candidate.setting,
            temperature=one.candidate.temperature,
            seed=one.seed,
            x=round(float(x), 4),
            y=round(float(y), 4),
            text=text,
        )
        for (one, text), (x, y) in zip(written, plane, strict=True)
    )


def _neighbours(found: Gathered, vectors: Sequence[Float[np.ndarray, "_ d"]]) -> Neighbours:
    """`vectors` are those of the reference, of the others and of more draws of p*, in this order."""
    reference, compared = vectors[0], vectors[1 : 1 + len(found.others)]
    by_candidate: dict[Candidate, list[Float[np.ndarray, "_ d"]]] = {}
    for one, embedded in zip(found.others, compared, strict=True):
        by_candidate.setdefault(one.candidate, []).append(embedded)
    groups = []
    for candidate, seeds in by_candidate.items():
        scores = _over_seeds(seeds, reference)
        groups.append(
            NeighbourGroup(
                role=candidate.role,
                selectivity=candidate.setting,
                temperature=candidate.temperature,
                precision=scores.precision,
                recall=scores.recall,
            )
        )
    return Neighbours(
        k=K,
        n_reference=len(reference),
        n_candidate=len(found.others[0].texts),
        groups=tuple(groups),
        ceiling=_over_seeds(vectors[1 + len(found.others) :], reference) if found.more else None,
    )


def _over_seeds(seeds: Sequence[Float[np.ndarray, "m d"]], reference: Float[np.ndarray, "n d"]) -> NeighbourScores:
    return NeighbourScores(
        precision=t_interval([neighbour_precision(candidate=one, reference=reference) for one in seeds]),
        recall=t_interval([neighbour_recall(candidate=one, reference=reference) for one in seeds]),
    )
