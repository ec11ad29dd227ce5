"""Draws kept and given again: the same numbers come back, other models and changed tokens stop at a gate, broken files
are refused.

And faults planted in the sampler itself, each for the gate that is meant for it.
"""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from distilscope.errors import GateError, UsageError
from distilscope.lm.samplers import decoder_sampler
from distilscope.selectivity import Temperature, TopK
from distilscope.studies.measure.measure import Measurement, measure
from tiny_folders import trained_bpe, write_small_folder

PROMPTS = ["The", "the student", "There is"]
STOPS = frozenset(range(40))
"""Enough for random models to end now and then."""
SMALL = {"num_samples": 40, "max_new_tokens": 6, "dtype": "float32"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model, one of the same shape with other weights, and one of another tokenizer."""
    place = tmp_path_factory.mktemp("models")
    write_small_folder(place / "p", stopping=STOPS)
    write_small_folder(place / "q", seed=6, stopping=STOPS)
    write_small_folder(place / "words", seed=7, merges=30)
    return SimpleNamespace(**{path.name: str(path) for path in place.iterdir()})


def plain(found: Measurement):
    return json.loads(json.dumps(found.as_json(), allow_nan=False))


@pytest.fixture
def kept(models, tmp_path):
    path = tmp_path / "kept.parquet"
    settings = {"prompts": PROMPTS, "candidate_selectivity": Temperature(0.8), "seed": 3} | SMALL
    return path, measure(reference=models.p, candidate=models.q, keep_draws=path, **settings)


def again(models, path, **changes):
    given = {
        "reference": models.p,
        "candidate": models.q,
        "candidate_selectivity": Temperature(0.8),
        "dtype": "float32",
    }
    return measure(**given | {"draws": path} | changes)


def rewritten(path, change):
    """The file with one column, or its metadata, changed."""
    table = parquet.read_table(path)
    parquet.write_table(change(table), path, row_group_size=40)


def column(name, values, kind=None):
    def change(table):
        found = values(table.column(name).to_pylist()) if callable(values) else values
        return table.set_column(
            table.schema.get_field_index(name), name, pa.array(found, type=kind or table.schema.field(name).type)
        )

    return change


def metadata(**changes):
    return lambda table: table.replace_schema_metadata(
        {**table.schema.metadata, **{key.encode(): json.dumps(value).encode() for key, value in changes.items()}}
    )


def test_kept_draws_give_the_same_numbers(models, kept):
    path, first = kept
    assert plain(again(models, path)) == plain(first)
    table = parquet.read_table(path)
    assert table.num_rows == 80
    assert table.column_names == [
        *("side", "prompt_id", "ids", "length", "ended", "token_log_prob"),
        *("log_prob_reference", "log_prob_candidate"),
    ]
    about = {key.decode(): json.loads(value) for key, value in table.schema.metadata.items()}
    assert (about["schema_version"], about["horizon"], about["vocabulary"]["candidate"]) == (1, 6, 320)
    assert about["prompts"] == PROMPTS
    assert about["selectivities"] == {"reference": "Temperature(tau=1.0)", "candidate": "Temperature(tau=0.8)"}
    drawn = table.filter(pa.compute.equal(table.column("side"), "candidate")).to_pylist()
    scores = [(sum(row["token_log_prob"]), row["log_prob_candidate"]) for row in drawn]
    np.testing.assert_allclose(*zip(*scores, strict=True), rtol=1e-5)
    most = first.surprising["candidate_to_reference"][0]
    gaps = [row["log_prob_candidate"] - row["log_prob_reference"] for row in drawn]
    assert max(gaps) == most["log_prob_own"] - most["log_prob_other"]


@pytest.mark.parametrize("number", [7, 300, 513])
def test_they_are_scored_in_the_tiles_that_they_were_made_in(models, tmp_path, number):
    """So that the numbers are the same to the last bit, for numbers of draws that fill no tile as well."""
    first = measure(
        reference=models.p,
        candidate=models.q,
        keep_draws=tmp_path,
        **SMALL | {"num_samples": number, "max_new_tokens": 2},
    )
    assert plain(measure(reference=models.p, candidate=models.q, draws=tmp_path, dtype="float32")) == plain(first)


@pytest.mark.parametrize(
    "own", [{"prompt": "The"}, {"prompts": PROMPTS}, {"num_samples": 40}, {"max_new_tokens": 6}, {"seed": 3}]
)
def test_they_have_their_own_settings_and_take_no_others(models, kept, own):
    with pytest.raises(UsageError, match=rf"{next(iter(own)).replace('_', '-')} is given beside draws"):
        again(models, kept[0], **own)


def test_a_folder_holds_draws_parquet_and_given_draws_can_be_kept_again(models, kept, tmp_path):
    path, first = kept
    again(models, path, keep_draws=tmp_path / "folder")
    assert plain(again(models, tmp_path / "folder")) == plain(first)


def test_a_file_written_by_another_program_is_read(models, kept):
    """Row groups mixed and dictionaries in place of strings."""
    path, first = kept
    table = parquet.read_table(path)
    order = np.random.default_rng(0).permutation(80)
    mixed = table.take(order).set_column(0, "side", table.column("side").take(order).dictionary_encode())
    parquet.write_table(mixed, path, row_group_size=11)
    found = again(models, path)
    assert found.estimates.recall.mean == pytest.approx(first.estimates.recall.mean, abs=1e-4)


FAULTS = {
    "drawn at another temperature": (
        {"candidate_selectivity": Temperature(1.0)},
        None,
        r"the candidate in .* \(made with Temperature\(tau=0.8\)\) again differs",
    ),
    "drawn with a hidden top-k": ({"candidate_selectivity": TopK(2)}, None, "another truncation"),
    "another model": ({"candidate": "p"}, None, "likely causes are another model"),
    "a reference of another vocabulary": (
        {"reference": "words", "candidate": "words"},
        None,
        "reference in .* another model: its vocabulary",
    ),
    "stopping tokens dropped": (
        {},
        lambda rows: [{**row, "ids": row["ids"][:-1]} if row["ended"] else row for row in rows],
        "a stopping token that was dropped",
    ),
    "stopping tokens and their records dropped": (
        {},
        lambda rows: [
            {
                **row,
                "ids": row["ids"][:-1],
                "token_log_prob": row["token_log_prob"][:-1],
                "length": row["length"] - 1,
                "ended": False,
            }
            if row["ended"] and row["length"] > 1
            else row
            for row in rows
        ],
        "neither end with a stopping token nor reach the horizon",
    ),
    "tokenised again": ({}, lambda rows: [tokenised_again(row) for row in rows], "text that was tokenised again"),
    "tokens changed": (
        {},
        lambda rows: [{**row, "ids": [50 + i % 7 for i in row["ids"][:-1]] + row["ids"][-1:]} for row in rows],
        "tokens that were",
    ),
    "records of low precision": (
        {},
        lambda rows: [{**row, "token_log_prob": rounded(row["token_log_prob"])} for row in rows],
        "another .*dtype",
    ),
    "records that are no numbers": (
        {},
        lambda rows: [{**row, "token_log_prob": [math.nan] * row["length"]} for row in rows],
        "nan nats per token",
    ),
}


def tokenised_again(row):
    body = row["ids"][: row["length"] - row["ended"]]
    ids = trained_bpe().encode(trained_bpe().decode(body, skip_special_tokens=False), add_special_tokens=False).ids
    return {**row, "ids": ids + [0] * row["ended"]}


def rounded(values):
    """As a bfloat16 run would have recorded them."""
    return (np.array(values, dtype=np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).tolist()


@pytest.mark.parametrize("fault", FAULTS)
def test_draws_that_do_not_belong_to_the_models_stop_at_a_gate(models, kept, fault):
    path, _ = kept
    changes, tamper, says = FAULTS[fault]
    if tamper is not None:
        table = parquet.read_table(path)
        parquet.write_table(pa.Table.from_pylist(tamper(table.to_pylist()), schema=table.schema), path)
    changes = {name: getattr(models, value) if isinstance(value, str) else value for name, value in changes.items()}
    with pytest.raises(GateError, match=says):
        again(models, path, **changes)


MALFORMED = {
    "no metadata": (lambda table: table.replace_schema_metadata({}), "does not say what its draws are"),
    "metadata that is no JSON": (
        lambda table: table.replace_schema_metadata({**table.schema.metadata, b"horizon": b"{"}),
        "does not say",
    ),
    "a later version": (metadata(schema_version=2), "schema version 2"),
    "no horizon": (metadata(horizon=-1), "says of its draws what cannot be"),
    "prompts without ids": (
        metadata(prompt_ids={"reference": [[]], "candidate": [[]]}),
        "says of its draws what cannot be",
    ),
    "one side only": (metadata(vocabulary={"reference": 320}), "does not say"),
    "a column missing": (lambda table: table.drop_columns(["ended"]), "should have a column ended"),
    "a column of another type": (
        column("length", ["a"] * 80, pa.string()),
        "should have a column length of int32, but it is of string",
    ),
    "values left out": (column("length", lambda values: [None, *values[1:]]), "leaves out values"),
    "another side": (column("side", ["teacher"] * 80), "0 draws of the reference where it says 40"),
    "ids outside the vocabulary": (
        column("ids", lambda rows: [[999] * len(row) for row in rows]),
        "outside the vocabulary of 320",
    ),
    "another number of records": (
        column("token_log_prob", lambda rows: [row[:-1] for row in rows]),
        "another number of log-prob",
    ),
    "a prompt that is none": (column("prompt_id", [3] * 80), "after prompts that it does not name"),
    "draws missing": (lambda table: table.slice(0, 70), "30 draws of the candidate where it says 40"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_are_refused(models, kept, case):
    path, _ = kept
    change, says = MALFORMED[case]
    rewritten(path, change)
    with pytest.raises(UsageError, match=says):
        again(models, path)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1 and then nothing", b"not parquet at all" * 9], ids=["empty", "cut", "text"]
)
def test_files_that_are_no_parquet(models, tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(UsageError, match="no whole Parquet file"):
        again(models, tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="there is no file"):
        again(models, tmp_path / "b.parquet")


def test_a_damaged_page_is_no_crash(models, kept):
    path, _ = kept
    whole = bytearray(path.read_bytes())
    whole[100:2000] = bytes(1900)
    path.write_bytes(bytes(whole))
    with pytest.raises((UsageError, GateError)):
        again(models, path)


def test_nothing_is_kept_where_a_gate_stops(models, tmp_path, monkeypatch):
    hide(monkeypatch, Temperature(0.9))
    with pytest.raises(GateError):
        measure(reference=models.p, candidate=models.q, keep_draws=tmp_path / "kept.parquet", **SMALL)
    assert not list(tmp_path.iterdir())


# --- faults planted in the sampler, each for the gate that is meant for it


def hide(monkeypatch, by, *, recorded: bool = True):
    """The sampler draws through `by` unasked. It records what it was asked for (only z can tell) or what it did (the
    paired gate can)."""
    honest = decoder_sampler.invert_cdf

    def invert(logits, uniforms, rows):
        logits = logits[rows]
        ids, log_prob = honest(by(logits), uniforms, np.arange(len(rows)))
        return ids, log_prob if recorded else logits.log_softmax(-1)[np.arange(len(ids)), ids].numpy()

    monkeypatch.setattr(decoder_sampler, "invert_cdf", invert)


@pytest.mark.parametrize(
    ("by", "recorded", "says"),
    [
        (
            Temperature(0.9),
            False,
            r"do not follow .* too likely; likely causes are another temperature, a hidden top-k or top-p",
        ),
        (
            TopK(40),
            False,
            "do not follow .* too likely; likely causes are another temperature, a hidden top-k or top-p",
        ),
        (Temperature(1.2), False, "too unlikely; likely causes"),
        (
            Temperature(0.9),
            True,
            "again differs by .* likely causes are another model, dtype, temperature or truncation",
        ),
        (TopK(40), True, "again differs by .* likely causes are another model, dtype, temperature or truncation"),
    ],
    ids=["tau, hidden", "top-k, hidden", "tau above 1, hidden", "tau, recorded", "top-k, recorded"],
)
def test_a_sampler_at_fault_is_caught(models, monkeypatch, by, recorded, says):
    hide(monkeypatch, by, recorded=recorded)
    with pytest.raises(GateError, match=says):
        measure(reference=models.p, candidate=models.q, **SMALL | {"num_samples": 600})
