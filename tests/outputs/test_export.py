"""What leaves a run is what was in it: the teacher's draws, and students that plain `transformers`, `datasets` and TRL
read."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from datasets import load_dataset
from huggingface_hub import DatasetCard, ModelCard
from pyarrow import parquet
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from distilscope.errors import StoreError, UsageError
from distilscope.evaluation.candidates import DIRECT, Candidate
from distilscope.lm import scoring
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.sequences import Sequences
from distilscope.outputs.export.dataset import IGNORED, write_teacher_data
from distilscope.outputs.export.export import export
from distilscope.outputs.export.owned_folder import owned_folder
from distilscope.outputs.export.setting import chosen_setting
from distilscope.pipeline.store import Store
from distilscope.report.hub_cards import Origin, data_card, model_card
from distilscope.selectivity import UNCHANGED
from distilscope.studies.artifacts import read_draws
from distilscope.studies.run import recorded, store_folder
from in_process import in_process
from result_documents import study_document
from tiny_folders import trained_bpe


@pytest.mark.parametrize(
    ("asked", "setting"),
    [
        ("temperature=0.7", {"temperature": 0.7}),
        ("0.70", {"temperature": 0.7}),
        ("top-k=50", {"top_k": 50}),
        ("min_p=0.05, top_p=0.9", {"top_p": 0.9, "min_p": 0.05}),
    ],
)
def test_a_setting_is_named_as_it_was_given_to_the_run(asked, setting):
    results = study_document(sampling=({"top_k": 50}, {"top_p": 0.9, "min_p": 0.05}))
    found = chosen_setting(results, asked)
    assert found == Candidate("distilled", setting)
    assert chosen_setting(results, found.option) == found


def test_without_a_setting_it_is_the_recommended_one():
    results = study_document()
    assert chosen_setting(results, None) == results.recommendation.setting
    assert chosen_setting(results, "direct") == DIRECT


@pytest.mark.parametrize(
    ("seeds", "asked", "says"),
    [
        (
            3,
            "0.75",
            (
                "the run has no setting '0.75'; choose one with --setting: direct, temperature=0.7, "
                "temperature=0.85, temperature=1"
            ),
        ),
        (3, "warm", "no setting 'warm'"),
        (1, None, "this run recommends no setting (these results hold 1 seed"),
    ],
)
def test_what_there_is_no_setting_for_lists_the_choices(seeds, asked, says):
    with pytest.raises(UsageError) as error:
        chosen_setting(study_document(seeds=seeds), asked)
    assert says in str(error.value)
    assert str(error.value).endswith("direct, temperature=0.7, temperature=0.85, temperature=1")


class TestOwnedFolder:
    def write(self, place, text="a"):
        with owned_folder(place, {"setting": text}) as fresh:
            (fresh / "inside").mkdir()
            (fresh / "inside" / "file").write_text(text)

    def test_it_appears_whole_and_again(self, tmp_path):
        place = tmp_path / "deep" / "out"
        for text in ("a", "b"):
            self.write(place, text)
            assert (place / "inside" / "file").read_text() == text
            assert json.loads((place / "export.json").read_text())["setting"] == text
        assert [path.name for path in place.parent.iterdir()] == ["out"]

    def test_nothing_is_left_of_one_that_failed(self, tmp_path):
        self.write(tmp_path / "out")
        with pytest.raises(FileNotFoundError), owned_folder(tmp_path / "out", {}) as fresh:
            (fresh / "half" / "way").touch()
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert (tmp_path / "out" / "inside" / "file").read_text() == "a"

    def test_an_empty_folder_may_be_filled(self, tmp_path):
        (tmp_path / "out").mkdir()
        self.write(tmp_path / "out")
        assert (tmp_path / "out" / "inside" / "file").exists()

    @pytest.mark.parametrize(
        ("touch", "says"),
        [
            (lambda out: (out / "export.json").unlink(), "no export has written"),
            (lambda out: (out / "export.json").write_text("[]"), "no export has written"),
            (lambda out: (out / "inside" / "file").write_text("mine"), "was changed or added"),
            (lambda out: (out / "inside" / "notes").touch(), "was changed or added"),
            (
                lambda out: (
                    out.rename(out.with_name("other")).joinpath("x").touch() or out.symlink_to(out.with_name("other"))
                ),
                "no plain folder",
            ),
        ],
    )
    def test_what_somebody_else_put_there_stays(self, touch, says, tmp_path):
        self.write(tmp_path / "out")
        touch(tmp_path / "out")
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(UsageError, match=says):
            self.write(tmp_path / "out", "b")
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_every_column_of_the_data(tmp_path):
    """Two prompts in turn; the first and third draw stopped by themselves, the second was cut."""
    tokenizer = trained_bpe()
    prompts = tuple(tuple(tokenizer.encode(text).ids) for text in ("The", "A teacher"))
    said = [tokenizer.encode(text).ids for text in (" student listens", "s", "")]
    rows = [[*said[0], 0], said[1], [*said[2], 0]]
    ids = np.concatenate(rows).astype(np.uint16)
    lengths, log_prob = np.array([len(row) for row in rows], dtype=np.int32), -np.arange(len(ids), dtype=np.float32)
    draws = Sequences(
        ids, lengths, np.array([True, False, True]), prompts, 320, log_prob, np.array([0, 1, 0], dtype=np.int32)
    )
    tiles = [draws.take(np.array([0, 1])), draws.take(np.array([2]))]
    assert write_teacher_data(tmp_path / "data.parquet", tiles, tokenizer, {"horizon": 9}) == 3
    found = parquet.read_table(tmp_path / "data.parquet").to_pylist()
    ends = np.cumsum(lengths)
    assert [row["prompt"] for row in found] == ["The", "A teacher", "The"]
    assert [row["completion"] for row in found] == [" student listens", "s", ""]
    for row, end, follows in zip(found, ends, (0, 1, 0), strict=True):
        assert row["completion_ids"] == rows[found.index(row)]
        assert row["prompt_ids"] == list(prompts[follows])
        assert row["input_ids"] == row["prompt_ids"] + row["completion_ids"]
        assert row["labels"] == [IGNORED] * len(row["prompt_ids"]) + row["completion_ids"]
        assert row["attention_mask"] == [1] * len(row["input_ids"])
        assert row["length"] == len(row["completion_ids"])
        assert row["token_log_prob"] == log_prob[end - row["length"] : end].tolist()
        assert row["log_prob"] == sum(row["token_log_prob"])
    assert [row["ended"] for row in found] == [True, False, True]
    assert json.loads(parquet.read_schema(tmp_path / "data.parquet").metadata[b"distilscope"]) == {"horizon": 9}


ORIGIN = Origin(
    "apache-2.0", {"ground_truth": 100, "teacher": 1_164_160, "student": 368_960}, {"student": "hf:org/small"}, "1.2"
)


@pytest.mark.parametrize(
    ("results", "candidate", "says"),
    [
        (
            study_document(),
            Candidate("distilled", {"temperature": 0.7}),
            ["# Student distilled at τ = 0.7, seed 1", "3 seeds", "apache-2.0", "undecided"],
        ),
        (
            study_document(),
            DIRECT,
            ["# Direct student, seed 1", "learnt 96 sequences of p\\*", "± one standard error over 128 draws"],
        ),
        (
            study_document(modelled=False),
            Candidate("distilled", {"temperature": 0.7}),
            ["neither precision nor divergence", "not available", "`data.jsonl`"],
        ),
        (
            study_document(sampling=({"top_k": 50},)),
            Candidate("distilled", {"top_k": 50}),
            ["# Student distilled at top-k 50"],
        ),
        (study_document(prompts=4), DIRECT, ["4 prompts in turn"]),
    ],
)
def test_a_students_card(results, candidate, says):
    card = model_card(results, candidate, 1, ORIGIN)
    (student,) = [one for one in results.students if (one.seed, one.candidate) == (1, candidate)]
    assert f"| R = E_p\\*[log q] | −{-student.recall.mean:.2f} ± 1.25 | −" in card
    assert all(text in card for text in says), card
    assert ModelCard(card).data.to_dict()["base_model"] == "org/small"


def test_the_datas_card():
    candidate = Candidate("distilled", {"temperature": 0.7})
    card = data_card(study_document(), candidate, 0, ORIGIN, number=96, file="train.parquet")
    assert "# D′: 96 sequences of a teacher at τ = 0.7, seed 0" in card
    assert DatasetCard(card).data.to_dict()["configs"][0]["data_files"] == [{"split": "train", "path": "train.parquet"}]


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "out"
    done = in_process("export", tiny[0], "--setting", "0.7", "--seed", 1, "--output-dir", folder, "--json")
    return folder, json.loads(done.stdout)


@pytest.fixture(scope="module")
def study(tiny):
    return recorded(tiny[0]), Store(store_folder(tiny[0]))


@pytest.mark.slow
class TestExport:
    def test_it_says_what_it_wrote(self, exported):
        folder, document = exported
        assert document["setting"] == {"training": "distilled", "temperature": 0.7}
        assert document["data"] == str(folder / "data" / "train.parquet")
        assert document["students"] == {name: str(folder / name) for name in ("direct", "distilled")}
        for name in (
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "README.md",
        ):
            assert (folder / "distilled" / name).is_file()

    def test_the_data_is_the_draws_of_that_teacher(self, exported, study):
        teacher = next(
            one for one in study[0].teachers if (one.seed, one.candidate.setting) == (1, {"temperature": 0.7})
        )
        draws = read_draws({f"draws/{i}": study[1].path(step) for i, step in enumerate(teacher.draws)}, "draws")
        rows = parquet.read_table(exported[0] / "data" / "train.parquet").to_pylist()
        assert [row["completion_ids"] for row in rows] == [row.tolist() for row in draws]
        assert [row["ended"] for row in rows] == draws.ended.tolist()
        np.testing.assert_array_equal([row["log_prob"] for row in rows], draws.sum_per_sequence(draws.log_prob))

    @pytest.mark.parametrize(("name", "setting"), [("direct", None), ("distilled", {"temperature": 0.7})])
    def test_plain_transformers_gives_the_same_logits_and_tokens(self, name, setting, exported, study):
        model = AutoModelForCausalLM.from_pretrained(exported[0] / name)
        tokenizer = AutoTokenizer.from_pretrained(exported[0] / name)
        ours = CausalLM.from_folder(
            study[1].path(
                next(one for one in study[0].students if (one.seed, one.candidate.setting) == (1, setting)).model
            )
        )
        text = "The teacher speaks — naïvely;\n the student\tlistens."
        ids = ours.encode(text)
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == list(ids)
        assert tokenizer.decode(ids) == text
        assert tokenizer.eos_token_id == 0
        with torch.inference_mode():
            theirs = model(torch.tensor([ids])).logits.log_softmax(-1)[0, :-1]
        draws = Sequences(
            np.array(ids[1:], dtype=np.uint16),
            np.array([len(ids) - 1], dtype=np.int32),
            np.array([False]),
            ((ids[0],),),
            257,
        )
        ours_now = scoring.log_prob((ours.network, UNCHANGED), draws)
        np.testing.assert_allclose(ours_now, theirs[range(len(ids) - 1), ids[1:]], atol=1e-5)

    def test_generate_draws_as_the_study_did(self, exported):
        config = GenerationConfig.from_pretrained(exported[0] / "distilled")
        wanted = {
            "do_sample": True,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "eos_token_id": 0,
            "max_new_tokens": 16,
        }
        assert {name: getattr(config, name) for name in wanted} == wanted

    def test_the_direct_student_leaves_alone(self, tiny, tmp_path):
        found = export(tiny[0], output_dir=tmp_path / "out", setting="direct")
        assert (found.data, list(found.students)) == (None, ["direct"])
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["direct", "export.json"]

    def test_a_seed_that_was_not_run(self, tiny, tmp_path):
        with pytest.raises(UsageError, match="the seed is 3, but this run has seeds 0 to 2"):
            export(tiny[0], output_dir=tmp_path / "out", setting="0.7", seed=3)

    def test_a_store_that_is_gone(self, tiny, tmp_path, monkeypatch):
        monkeypatch.setenv("DISTILSCOPE_STORE", str(tmp_path / "elsewhere"))
        with pytest.raises(StoreError, match="missing, so the artifact does not exist"):
            export(tiny[0], output_dir=tmp_path / "out", setting="0.7")
        assert not any(tmp_path.iterdir())

    def test_trl_trains_on_it_as_it_is(self, exported, study, tmp_path):
        """The loss that it starts from is the student's own, token by token: what TRL reads is what was drawn."""
        from trl import SFTConfig, SFTTrainer

        data = load_dataset(str(exported[0] / "data"), split="train", cache_dir=str(tmp_path / "cache"))
        model = AutoModelForCausalLM.from_pretrained(exported[0] / "direct")
        sizes = {
            "max_steps": 2,
            "per_device_train_batch_size": 64,
            "per_device_eval_batch_size": 64,
            "learning_rate": 1e-3,
        }
        settings = SFTConfig(
            str(tmp_path / "out"), **sizes, report_to="none", use_cpu=True, bf16=False, save_strategy="no"
        )
        few = data.select(range(64))
        trainer = SFTTrainer(model, settings, train_dataset=few, eval_dataset=few)
        before = trainer.evaluate()["eval_loss"]
        direct = next(one for one in study[0].students if (one.seed, one.candidate) == (1, DIRECT))
        teacher = next(
            one for one in study[0].teachers if (one.seed, one.candidate.setting) == (1, {"temperature": 0.7})
        )
        draws = read_draws({"draws/0": study[1].path(teacher.draws[0])}, "draws").take(np.arange(64))
        own = scoring.log_prob((CausalLM.from_folder(study[1].path(direct.model)).network, UNCHANGED), draws)
        assert before == pytest.approx(-own.mean(), abs=1e-4)
        assert trainer.train().global_step == 2
        assert trainer.evaluate()["eval_loss"] < before
