"""What a real run's artifacts show beside its results, and the report that is written of it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.documents import document_of, record_of
from distilscope.evaluation.results import Results, by_candidate
from distilscope.outputs.report_data import LONGEST_TEXT, _shortened, gather
from distilscope.outputs.write_report import write_report
from distilscope.pipeline.store import Store
from distilscope.studies.run import recorded, store_folder
from in_process import in_process
from result_documents import study_document

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exhibit(tiny):
    folder, _ = tiny
    return gather(recorded(folder), Store(store_folder(folder)))


@pytest.fixture(scope="module")
def results(tiny):
    return record_of(tiny[1], Results)


def of(found, candidate):
    return next(one for one in found.groups if one.candidate == candidate)


def test_histograms_average_to_precision_and_recall(results, exhibit):
    """Plain means of the binned values, so within a bin and what control variates change."""
    found = exhibit.log_probabilities
    middles = (np.array(found.edges[1:]) + found.edges[:-1]) / 2
    for candidate, same in by_candidate(results.students).items():
        for name, quantity in (("under_reference", "precision"), ("of_reference", "recall")):
            histogram, estimates = getattr(of(found, candidate), name), [getattr(one, quantity) for one in same]
            assert (histogram.n, histogram.infinite, sum(histogram.counts)) == (3 * 256, 0, 3 * 256)
            error = 4 * np.mean([one.stderr for one in estimates]) + middles[1] - middles[0]
            assert np.average(middles, weights=histogram.counts) == pytest.approx(
                np.mean([one.mean for one in estimates]), abs=error
            )
    entropy = results.ground_truth.entropy
    assert np.average(middles, weights=found.reference.counts) == pytest.approx(
        -entropy.mean, abs=4 * entropy.stderr + 2
    )


def test_losses_by_position_add_up_to_recall(results, exhibit):
    found = exhibit.positions
    reached = np.array(found.reached)
    assert reached[0] == 256
    assert np.all(np.diff(reached) <= 0)
    assert reached.sum() / 256 == pytest.approx(results.ground_truth.mean_length.mean)
    for candidate, same in by_candidate(results.students).items():
        total = (reached * np.array(of(found, candidate).of_reference)).sum() / 256
        assert -total == pytest.approx(np.mean([one.recall.mean for one in same]), abs=4 * same[0].recall.stderr)
    total, entropy = (reached * np.array(found.reference)).sum() / 256, results.ground_truth.entropy
    assert total == pytest.approx(entropy.mean, abs=4 * entropy.stderr)


def test_trainings_are_those_of_the_results(results, exhibit):
    assert len(exhibit.trainings) == 3 + 12
    for one in exhibit.trainings:
        teacher = one.candidate == Candidate("teacher")
        checkpoint = next(
            record.checkpoint
            for record in (results.teacher if teacher else results.students)
            if record.seed == one.seed and (teacher or record.candidate == one.candidate)
        )
        kept = next(entry for entry in one.history if entry.step == one.chosen_step)
        assert (one.chosen_step, kept.held_out_loss) == (checkpoint.step, checkpoint.held_out_loss)


def test_texts_stand_under_their_authors(exhibit):
    found = exhibit.samples
    who = [(column.candidate.role, column.candidate.temperature) for column in found.columns]
    taus = (0.7, 0.85, 1.0)
    assert who == [
        ("reference", None),
        *(("teacher", tau) for tau in taus),
        ("direct", None),
        *(("distilled", tau) for tau in taus),
    ]
    for column in found.columns:
        assert len(column.texts) == found.rows == 60
        assert column.prompts is None
    assert list(found.surprise_of_reference) == [column.candidate for column in found.columns[4:]]
    assert {len(surprise) for surprise in found.surprise_of_reference.values()} == {60}
    surprises = np.array([column.surprise for column in found.columns[1:]])
    assert surprises.mean() > 10  # KL(q||p*) is some fifty nats
    # One key for each row: where two settings draw the same first token, they draw it in the same rows.
    texts = [[one.text for one in column.texts] for column in found.columns]
    same = [
        np.mean([a[:1] == b[:1] for a, b in zip(texts[one], texts[other], strict=True)])
        for one, other in ((2, 3), (6, 7), (2, 7))
    ]
    assert min(same[:2]) > 2 * same[2]


def test_a_long_text_is_cut_and_says_so():
    assert _shortened("a" * LONGEST_TEXT) == "a" * LONGEST_TEXT
    assert _shortened("b" * 1_000_000) == "b" * LONGEST_TEXT + "… (1,000,000 characters)"


def test_the_command_writes_one_file(tiny, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny[0], folder, ignore=shutil.ignore_patterns("report.html", "store"))
    (folder / "store").symlink_to(tiny[0] / "store")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    done = json.loads(in_process("report", folder, "--json").stdout)
    assert done == {"schema_version": 1, "report": str(folder / "report.html"), "missing": {}}
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert set(after) - set(before) == {"report.html"}
    assert {name: after[name] for name in before} == before
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert len(html) < 8_000_000
    assert str(tiny[0]) not in html.replace(json.loads((folder / "run.json").read_text())["command"][-2], "")


def test_without_artifacts_the_results_are_shown(tiny, tmp_path):
    for name in ("results.json", "config.yaml", "run.json"):
        shutil.copy(tiny[0] / name, tmp_path / name)
    written = write_report(tmp_path)
    assert set(written.missing) == {"log_probabilities", "positions", "trainings", "samples"}
    assert all("no longer in its store" in why for why in written.missing.values())
    assert "Draw the teacher" in written.path.read_text(encoding="utf-8")


def test_results_alone_are_enough(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(document_of(study_document())))
    written = write_report(tmp_path)
    assert all("lacks config.yaml" in why for why in written.missing.values())
    assert [path.name for path in tmp_path.iterdir() if path.name != "results.json"] == ["report.html"]


def test_a_map_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(document_of(study_document())))
    (tmp_path / "map.json").write_text("{")
    with pytest.raises(UsageError, match=r"map\.json cannot be read"):
        write_report(tmp_path)


def test_keys_are_shared_as_the_page_says(tiny):
    """The page says that rows share random numbers: their draws come from one key at every setting."""
    study = recorded(tiny[0])
    keys = {
        kind: {tuple(one.draws[0].config["key"]) for one in ones if one.seed == 0}
        for kind, ones in (("teacher", study.teachers), ("student", study.students))
    }
    assert keys == {"teacher": {(0, *Key(0).child("distil").path)}, "student": {(0, *Key(0).child("evaluate").path)}}
