"""`measure` on small model folders: every number against an independent computation, files given again, tokenizers that
differ."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from distilscope.errors import GateError, UsageError
from distilscope.lm.models.model_folder import write_model
from distilscope.selectivity import TopK
from distilscope.studies.measure import measure as measurement_module
from distilscope.studies.measure.measure import measure
from tiny_folders import small_llama, trained_bpe

PROMPTS = ("The teacher", "student", "there")


def write(folder, seed_changes=None, *, merges: int = 63):
    tokenizer = trained_bpe(merges)
    network = small_llama(vocab_size=257 + merges, **(seed_changes or {}))
    write_model(folder, network.config, network.to_hf(), stopping=frozenset([0]), tokenizer=tokenizer.to_str())
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    return {
        "one": write(base / "one"),
        "two": write(base / "two", {"initializer_range": 0.35}),
        "fewer merges": write(base / "fewer", merges=20),
    }


def small(folders, candidate="two", **options):
    settings = {"num_samples": 60, "max_new_tokens": 8, "prompts": PROMPTS, "dtype": "float32"}
    return measure(reference=folders["one"], candidate=folders[candidate], **(settings | options))


def plain_log_prob(folder, prompt_ids, ids) -> float:
    """A plain forward pass of `transformers` over one sequence."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    whole = torch.tensor([[*prompt_ids, *ids]])
    with torch.inference_mode():
        log_p = model(whole).logits[0, len(prompt_ids) - 1 : -1].double().log_softmax(-1)
    return float(log_p.gather(-1, torch.tensor(ids)[:, None]).sum())


def test_every_draw_is_scored_as_a_plain_forward_pass_would(folders, tmp_path):
    small(folders, keep_draws=tmp_path / "draws.parquet")
    rows = pq.read_table(tmp_path / "draws.parquet").to_pylist()
    assert [row["side"] for row in rows] == ["reference"] * 60 + ["candidate"] * 60
    assert [row["prompt_id"] for row in rows[:4]] == [0, 1, 2, 0]
    for row in rows[::17]:
        prompt = trained_bpe().encode(PROMPTS[row["prompt_id"]]).ids
        assert row["length"] == len(row["ids"]) == len(row["token_log_prob"])
        assert row["ended"] == (row["ids"][-1] == 0)
        for side, folder in (("reference", "one"), ("candidate", "two")):
            assert row[f"log_prob_{side}"] == pytest.approx(
                plain_log_prob(folders[folder], prompt, row["ids"]), abs=1e-3
            )


def test_the_estimates_hold_together(folders):
    found = small(folders)
    e, tokens = found.estimates, found.mean_length["reference"].mean
    assert e.kl_candidate_reference.mean == pytest.approx(-e.candidate_entropy.mean - e.precision.mean)
    assert e.kl_reference_candidate.mean == pytest.approx(-e.reference_entropy.mean - e.recall.mean)
    assert found.per_token.precision.mean == pytest.approx(e.precision.mean / tokens)
    ratio = e.precision.mean / found.per_byte.precision.mean
    assert found.per_byte.recall.stderr == pytest.approx(e.recall.stderr / ratio)
    document = json.loads(json.dumps(found.as_json(), allow_nan=False))
    for side in ("reference", "candidate"):
        quantiles = list(document["length"][side]["quantiles"].values())
        assert quantiles == sorted(quantiles)
        assert quantiles[-1] <= 8
        assert 0 <= document["length"][side]["ended"] <= 1
    assert document["unit"] == "nats per sequence"
    assert set(document["variance_ratio"]) == {"reference", "candidate"}


def test_bytes_are_those_of_the_references_text(folders, tmp_path):
    found = small(folders, keep_draws=tmp_path / "draws.parquet")
    rows = [row for row in pq.read_table(tmp_path / "draws.parquet").to_pylist() if row["side"] == "reference"]
    tokenizer = trained_bpe()
    texts = [tokenizer.decode(row["ids"][: len(row["ids"]) - row["ended"]], skip_special_tokens=False) for row in rows]
    mean = np.mean([len(text.encode()) for text in texts])
    assert found.estimates.recall.mean / found.per_byte.recall.mean == pytest.approx(mean * math.log(2), rel=0.02)


def test_the_most_surprising_draws_are_the_first(folders, tmp_path):
    found = small(folders, keep_draws=tmp_path / "draws.parquet")
    rows = [row for row in pq.read_table(tmp_path / "draws.parquet").to_pylist() if row["side"] == "candidate"]
    gaps = sorted((row["log_prob_candidate"] - row["log_prob_reference"] for row in rows), reverse=True)
    records = found.surprising["candidate_to_reference"]
    assert len(records) == 20
    assert [one["log_prob_own"] - one["log_prob_other"] for one in records] == pytest.approx(gaps[:20])
    assert {one["prompt"] for one in records} <= set(PROMPTS)


def test_a_side_that_cannot_make_a_draw_is_named(folders):
    found = small(folders, candidate="one", reference_selectivity=TopK(3))
    assert found.estimates.precision.mean is None
    assert "draws have probability zero under the reference" in found.warnings[0]
    assert found.surprising["candidate_to_reference"][0]["log_prob_other"] is None
    json.dumps(found.as_json(), allow_nan=False)


def test_tiles_are_made_and_let_go(folders, monkeypatch):
    """Two tile sizes draw other sequences; both estimate the same thing."""
    whole = small(folders, num_samples=400)
    monkeypatch.setattr(measurement_module, "TILE", 50)
    parts = small(folders, num_samples=400)
    difference = whole.estimates.precision.mean - parts.estimates.precision.mean
    assert abs(difference) < 5 * math.hypot(whole.estimates.precision.stderr, parts.estimates.precision.stderr)
    assert parts.estimates.precision.n == 400


@pytest.mark.parametrize("candidate", ["two", "fewer merges"])
def test_a_measurement_does_not_depend_on_how_many_threads_share_its_tiles(folders, tmp_path, monkeypatch, candidate):
    monkeypatch.setattr(measurement_module, "TILE", 8)
    found, drawn = [], []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        try:
            kept = tmp_path / f"{threads}.parquet"
            found.append(small(folders, candidate, unit="byte", keep_draws=kept).as_json())
        finally:
            torch.set_num_threads(1)
        drawn.append(pq.read_table(kept).to_pylist())
    assert found[0] == found[1] == found[2]
    assert drawn[0] == drawn[1] == drawn[2]


def test_with_several_prompts_draws_are_clustered(folders):
    """The standard error is then between prompts: it knows 3 of them, not 60 draws."""
    found = small(folders)
    assert found.estimates.precision.n == 60
    alone = [small(folders, prompts=(prompt,), num_samples=200).estimates.precision.mean for prompt in PROMPTS]
    between = np.std(alone, ddof=1) / np.sqrt(3)
    assert found.estimates.precision.stderr > between / 3


def test_a_measurement_that_fails_leaves_no_file(folders, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise GateError("stopped")

    monkeypatch.setattr("distilscope.studies.gated_scores.Tally.add", fail)
    with pytest.raises(GateError):
        small(folders, keep_draws=tmp_path / "draws.parquet")
    assert list(tmp_path.iterdir()) == []


# --- different tokenizers


def test_different_tokenizers_are_refused_with_a_remedy(folders):
    with pytest.raises(UsageError, match="--unit byte"):
        small(folders, candidate="fewer merges")


def test_across_tokenizers_the_other_side_reads_the_text(folders, tmp_path):
    """The other's log-probability is that of the text in its own tokens, computed here by hand."""
    path = tmp_path / "draws.parquet"
    found = small(folders, candidate="fewer merges", unit="byte", keep_draws=path, max_new_tokens=2, num_samples=150)
    assert found.unit == "bits per byte"
    assert found.per_token is None
    mine, theirs = trained_bpe(63), trained_bpe(20)
    rows = pq.read_table(path).to_pylist()
    checked = 0
    for row in (row for row in rows if row["side"] == "reference"):
        text = mine.decode(row["ids"][: len(row["ids"]) - row["ended"]], skip_special_tokens=False)
        ids = theirs.encode(text, add_special_tokens=False).ids
        if theirs.decode(ids, skip_special_tokens=False) != text or "\N{REPLACEMENT CHARACTER}" in text or not text:
            continue
        prompt = theirs.encode(PROMPTS[row["prompt_id"]]).ids
        expected = plain_log_prob(folders["fewer merges"], prompt, [*ids, *([0] if row["ended"] else [])])
        assert row["log_prob_candidate"] == pytest.approx(expected, abs=1e-3)
        checked += 1
    assert checked > 3
    assert set(found.canonical_mismatch) == {"reference", "candidate"}
    assert all(0 <= rate <= 1 for rate in found.canonical_mismatch.values())
    assert any(rate > 0 for rate in found.canonical_mismatch.values()), "a random model seldom writes canonically"


def test_one_tokenizer_in_bytes_is_another_unit_only(folders):
    nats, bits = small(folders), small(folders, unit="byte")
    assert bits.estimates.precision.mean == pytest.approx(nats.per_byte.precision.mean)
    assert bits.canonical_mismatch is None


# --- what cannot be measured


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_samples": 1}, "at least 2"),
        ({"num_samples": 2}, "3 prompts need at least 3"),
        ({"prompts": ("a", "b", "a")}, "'a' is given twice"),
        ({"prompts": ("",)}, "the prompt is empty"),
        ({"prompts": ("the " * 200, "a")}, "prompt 1 .*context"),
        ({"max_new_tokens": 0}, "at least 1 token"),
        ({"seed": -1}, "0 or more"),
        ({"unit": "word"}, "nat or byte"),
        ({"dtype": "float8"}, "must be auto"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(folders, options, says):
    with pytest.raises(UsageError, match=says):
        small(folders, **options)
