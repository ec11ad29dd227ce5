"""The whole audit on the tiny recipe: directions that theory fixes, zeros that are exact, and numbers added up by
hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from distilscope.cli.main import main
from distilscope.distribution import Key
from distilscope.errors import GateError
from distilscope.lm import scoring
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.models.llama import Llama
from distilscope.lm.training.config import Training
from distilscope.lm.training.loop import train
from distilscope.mixtures.config import mog_paper
from distilscope.mixtures.simulation import simulate
from distilscope.pipeline.store import Store
from distilscope.selectivity import UNCHANGED
from distilscope.studies.artifacts import read_draws, read_other_scores
from distilscope.studies.audit import study as audit
from distilscope.studies.audit.retokenisation import without_stops
from distilscope.studies.audit.traps import TRAPS
from distilscope.studies.planner import Sources, plan
from fake_models import TINY, TableLM, tiny_llama
from in_process import in_process

SEEDS = 3


def run(folder: Path, page: Path) -> SimpleNamespace:
    return in_process(
        *("audit", "--recipe", "tiny", "--seeds", SEEDS, "--output-dir", folder, "--write", page, "--json")
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    done = run(folder, folder / "page" / "audit.md")
    return folder, json.loads(done.stdout)


def rows(results, number):
    (trap,) = (trap for trap in results["traps"] if trap["number"] == number)
    return {row["quantity"]: row for row in trap["rows"]}


@pytest.mark.slow
class TestTiny:
    def test_every_trap_has_rows_with_their_columns(self, tiny):
        folder, results = tiny
        assert [trap["number"] for trap in results["traps"]] == list(range(1, 12))
        for trap in results["traps"]:
            assert trap["rows"]
            for row in trap["rows"]:
                difference = row["as_published"]["mean"] - row["by_definition"]["mean"]
                assert row["effect"]["mean"] == pytest.approx(difference, abs=1e-9)
                assert row["effect"]["n"] == (SEEDS if trap["number"] > 1 else audit.MIXTURE_SEEDS)
                assert (row["published"] is not None) == (trap["number"] == 1)
        assert json.loads((folder / "audit.json").read_text()) == results

    def test_mixtures_are_those_of_the_simulation(self, tiny):
        simulated = simulate(replace(mog_paper(), betas=(100.0,), as_published=True)).as_published
        for mine, theirs in zip(rows(tiny[1], 1).values(), simulated, strict=True):
            assert mine["as_published"]["mean"] == theirs.as_published.mean
            assert mine["by_definition"]["mean"] == theirs.by_definition.mean
            assert mine["published"] == theirs.published
        assert rows(tiny[1], 1)["precision of the direct student"]["effect"]["mean"] < -3

    def test_text_and_back_loses_every_ending_and_changes_random_bytes(self, tiny):
        found = rows(tiny[1], 2)
        assert found["draws of the student that ended"]["as_published"] == {"mean": 0.0, "half_width": 0.0, "n": SEEDS}
        assert found["draws of the student that ended"]["by_definition"]["mean"] > 0
        assert found["draws of p* whose tokens changed"]["as_published"]["mean"] > 0.9  # random bytes are seldom UTF-8

    def test_a_student_that_never_saw_an_ending_ends_less_and_runs_longer(self, tiny):
        found = rows(tiny[1], 3)
        assert found["sequences that ended"]["effect"]["mean"] < 0
        assert found["mean length"]["effect"]["mean"] > 0

    def test_the_padded_choice_is_never_better(self, tiny):
        found = rows(tiny[1], 4)
        assert found["true held-out loss of that checkpoint"]["effect"]["mean"] >= 0
        assert found["pads among the labels"]["as_published"]["mean"] > 0

    def test_means_per_token_agree_with_adding_up_by_hand(self, tiny):
        folder, results = tiny
        config = audit.small("tiny", SEEDS)
        laid_out, store = plan(config, Sources.locate(config)), Store(folder / "store")
        constant = read_draws({"test/0": store.path(laid_out.test[0])}, "test").lengths.mean()
        found: dict[str, list[tuple[float, float]]] = {"direct": [], "distilled": []}
        for student in laid_out.students:
            draws = read_draws({"draws/0": store.path(student.draws[0])}, "draws")
            log_p = read_other_scores(store.path(student.scores[0]), 0).log_prob.astype(np.float64)
            found[student.candidate.role].append((log_p.sum() / len(log_p), log_p.sum() / len(draws) / constant))
        for training, values in found.items():
            row = rows(results, 5)[f"P of the {training} student"]
            assert row["as_published"]["mean"] == pytest.approx(np.mean([value for value, _ in values]), rel=1e-9)
            assert row["by_definition"]["mean"] == pytest.approx(np.mean([value for _, value in values]), rel=1e-9)
        assert rows(results, 5)["R of the direct student"]["effect"]["mean"] == pytest.approx(0, abs=1e-12)

    def test_a_second_sharpening_lowers_entropy(self, tiny):
        assert rows(tiny[1], 6)["H(q) of the distilled student"]["effect"]["mean"] < -5

    def test_two_runs_with_one_seed_differ_by_nothing_by_definition(self, tiny):
        found = rows(tiny[1], 8)
        for row in found.values():
            assert row["by_definition"] == {"mean": 0.0, "half_width": 0.0, "n": SEEDS}
            assert row["as_published"]["mean"] > 0
        assert found["draws of the student that differ"]["as_published"]["mean"] > 0.9

    def test_a_lost_shard_is_a_quarter_of_the_data_and_would_have_stopped_the_run(self, tiny):
        row = rows(tiny[1], 9)["sequences that the distilled student learns"]
        assert (row["as_published"]["mean"], row["by_definition"]["mean"]) == (192, 256)
        (trap,) = (trap for trap in tiny[1]["traps"] if trap["number"] == 9)
        assert "make it again" in trap["notes"][0]

    def test_the_paired_gate_sees_half_precision(self, tiny):
        (trap,) = (trap for trap in tiny[1]["traps"] if trap["number"] == 10)
        assert [note.split(" again differs by ")[0].split()[-1] for note in trap["notes"]] == ["float16", "bfloat16"]
        gaps = [row for row in trap["rows"] if row["quantity"].startswith("|log q")]
        assert all(row["as_published"]["mean"] > 50 * row["by_definition"]["mean"] for row in gaps)

    def test_padding_never_pays(self, tiny):
        found = rows(tiny[1], 11)
        for name in ("useful share of generated tokens", "useful share of trained positions"):
            assert 0 < found[name]["as_published"]["mean"] <= found[name]["by_definition"]["mean"] <= 1

    def test_again_it_computes_nothing_and_writes_the_same_page(self, tiny):
        folder, results = tiny
        page = folder / "page" / "audit.md"
        before = page.read_bytes()
        done = run(folder, page)
        assert "nothing to run" in done.stderr
        assert json.loads(done.stdout) == results
        assert page.read_bytes() == before
        text = page.read_text(encoding="utf-8")
        assert all(f"## {trap.number}. {trap.title}" in text for trap in TRAPS)
        assert "nan" not in text.split()


def test_a_student_trained_without_endings_makes_sequences_that_are_cut(tmp_path):
    """p* ends with probability 0.4 at each step; masked from the loss, the stopping token loses nearly all of it."""
    truth = CausalLM(TableLM(np.tile([0.4, 0.15, 0.15, 0.15, 0.15], (1, 5, 1))), frozenset([0])).after((1,), horizon=6)
    data = truth.sample(256, Key(0))
    assert data.ended.mean() > 0.8
    ended = {}
    for name, learnt in (("definition", data), ("published", without_stops(data))):
        (tmp_path / name).mkdir()
        network = Llama.from_config(TINY, Key(1))
        training = Training(epochs=40, batch_sequences=64, learning_rate=0.02, precision="float32", evaluations=1)
        train(network, training, data=learnt, validation=learnt, key=Key(2), scratch=tmp_path / name)
        network.requires_grad_(False)
        ended[name] = CausalLM(network, frozenset([0])).after((1,), horizon=6).sample(200, Key(3)).ended.mean()
    assert ended["definition"] > 0.8
    assert ended["published"] < 0.05


def test_the_paired_gate_stops_draws_in_half_precision_scored_in_single():
    network = tiny_llama(initializer_range=0.8)
    half = Llama.from_hf(network.config, network.to_hf(), torch.bfloat16)
    draws = CausalLM(half, frozenset([0])).after((1,), horizon=8).sample(64, Key(0))
    scores, _ = scoring.score((network, UNCHANGED), draws)
    with pytest.raises(GateError, match="likely causes are another model, dtype"):
        scores.check(draws, dtype="float32", whose="the student")
    own, _ = scoring.score((half, UNCHANGED), draws)
    own.check(draws, dtype="bfloat16", whose="the student")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--recipe", "tini"], "did you mean 'tiny'"),
        (["--recipe", "tiny", "--seeds", "1"], "at least 2"),
        (["--recipe", "tiny", "--write", "."], "is a folder"),
    ],
)
def test_mistakes_are_said_before_anything_runs(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["audit", *words])
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    assert says in err
