"""`distilscope map`: embeds the texts of a finished run, lays them out, and leaves map.json and figure 5."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from distilscope.errors import UsageError
from distilscope.evaluation.estimate import t_interval
from distilscope.evaluation.nearest_neighbours import K, neighbour_precision, neighbour_recall
from distilscope.evaluation.results_file import MAP, MAP_SCHEMA_VERSION, read_results
from distilscope.outputs.embedding_map.embedder import Embedder
from distilscope.outputs.embedding_map.texts import Gathered, Speaker, gather
from distilscope.outputs.embedding_map.umap_layout import SETTINGS, Layout, umap
from distilscope.pipeline.store import Store
from distilscope.report.figures.files import write_map_figure
from distilscope.studies.run import recorded, store_folder
from distilscope.system.json_files import write_json

NOTE = (
    "A map proves nothing: distances on it are distorted, and its clusters depend on the embedder, the settings and "
    "the seed. "
    "Precision and recall by nearest neighbours depend on the embedder and on how many texts there are: compare them "
    "with each other "
    "and with what other draws of p* score."
)


def draw_map(
    run: Path, embedder: Embedder, *, per_model: int = 1000, seed: int = 0, lay_out: Layout | None = None
) -> dict[str, Any]:
    """Writes RUN/map.json, figure5.png and figure5.pdf, and returns the document; the same run, embedder and seed give
    the same.

    `lay_out` is UMAP with the paper's settings unless given.
    Raises UsageError for a run that is not finished or too few texts, StoreError where artifacts are gone.
    """
    if not 0 <= seed < 2**32:
        raise UsageError(f"the seed is {seed}, but must be at least 0 and below 2^32")
    lay_out = lay_out or umap()
    results, study = read_results(run), recorded(run)
    found = gather(study, Store(store_folder(run)), per_model=per_model)
    speakers, more = [found.reference, *found.others], list(found.more)
    texts = [text for one in (*speakers, *more) for text in one.texts]
    vectors = embedder.embed(texts)
    of = dict(
        zip(
            map(id, (*speakers, *more)),
            np.split(vectors, np.cumsum([len(one.texts) for one in (*speakers, *more)])[:-1]),
            strict=True,
        )
    )
    plane = lay_out(np.concatenate([of[id(one)] for one in speakers]), seed)
    document = {
        "schema_version": MAP_SCHEMA_VERSION,
        "recipe": results["recipe"],
        "note": NOTE,
        "embedder": embedder.about(),
        "cut_texts": embedder.too_long(texts),
        "settings": {**SETTINGS, "seed": seed, "per_model": per_model},
        "neighbours": _neighbours(found, of),
        "points": _points(speakers, plane),
    }
    write_json(run / MAP, document)
    write_map_figure(document, run)
    return document


def _points(speakers: Sequence[Speaker], plane: Float[np.ndarray, "n 2"]) -> list[dict[str, Any]]:
    written = [(one, text) for one in speakers for text in one.texts]
    return [
        {**_who(one), "seed": one.seed, "x": round(float(x), 4), "y": round(float(y), 4), "text": text}
        for (one, text), (x, y) in zip(written, plane, strict=True)
    ]


def _neighbours(found: Gathered, of: dict[int, Float[np.ndarray, "n d"]]) -> dict[str, Any]:
    """By kind of model, over the seeds; `ceiling` is p* against itself, with other draws."""
    reference = of[id(found.reference)]
    kinds: dict[str, list[Speaker]] = {}
    for one in found.others:
        kinds.setdefault(repr(_who(one)), []).append(one)
    return {
        "k": K,
        "n_reference": len(reference),
        "n_candidate": len(found.others[0].texts),
        "groups": [_who(ones[0]) | _over_seeds(ones, reference, of) for ones in kinds.values()],
        "ceiling": _over_seeds(found.more, reference, of) if found.more else None,
    }


def _over_seeds(
    ones: Iterable[Speaker], reference: Float[np.ndarray, "n d"], of: dict[int, Float[np.ndarray, "n d"]]
) -> dict[str, Any]:
    pairs = [
        (
            neighbour_precision(candidate=of[id(one)], reference=reference),
            neighbour_recall(candidate=of[id(one)], reference=reference),
        )
        for one in ones
    ]
    precision, recall = zip(*pairs, strict=True)
    return {"precision": t_interval(precision).as_json(), "recall": t_interval(recall).as_json()}


def _who(one: Speaker) -> dict[str, Any]:
    sampling = None if one.selectivity is None else dict(one.selectivity)
    temperature = sampling["temperature"] if sampling and set(sampling) == {"temperature"} else None
    return {"role": one.role, "selectivity": sampling, "temperature": temperature}
