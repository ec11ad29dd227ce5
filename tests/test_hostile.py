"""Input that somebody made to do harm: refused in one plain sentence, soon, in little memory, and nothing of it is ever
run."""

from __future__ import annotations

import http.server
import json
import os
import pickle
import resource
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import transformers
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from distilscope.cli.main import main
from distilscope.errors import UsageError
from distilscope.lm.models.transformers_model import TransformersNetwork
from small_study import PLANTED, SECRETS, distilscope
from tiny_folders import small_llama, trained_bpe, write_gguf, write_small_folder

MEASURE = ["measure", "--reference", "model", "--candidate", "model"]
FROM_GGUF = ["measure", "--reference", "model.gguf", "--candidate", "model.gguf"]


class Mine:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("mark").absolute(),))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def code_in(name: str) -> Callable[[Path], None]:
    """A model folder that says where its code is."""

    def make(folder: Path) -> None:
        (folder / "model").joinpath("evil.py").write_text("open('mark', 'w')\nclass Model: ...\n")
        edit(
            folder / "model" / name,
            auto_map={
                "AutoModelForCausalLM": "evil.Model",
                "AutoTokenizer": ["evil.Model", None],
                "AutoConfig": "evil.Model",
            },
        )

    return make


def another_architecture(folder: Path) -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=320, n_positions=64, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder / "model")
    trained_bpe().save(str(folder / "model" / "tokenizer.json"))


def pickled(name: str, *, indexed: bool = False) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        another_architecture(folder)
        (folder / "model" / "model.safetensors").unlink()
        (folder / "model" / name).write_bytes(pickle.dumps(Mine()))
        if indexed:
            (folder / "model" / "model.safetensors.index.json").write_text(
                json.dumps({"metadata": {}, "weight_map": {"a": name}})
            )

    return make


def index(*names: object) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "secret.safetensors").write_bytes((folder / "model" / "model.safetensors").read_bytes())
        weight_map = {str(number): name for number, name in enumerate(names)}
        (folder / "model" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return make


def weights(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "model" / "model.safetensors").write_bytes(content) and None


def config(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "model" / "config.json", **changes)


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def number_at(place: Callable[[bytes], int], value: int, width: int = 8) -> Callable[[Path], None]:
    """A GGUF file that is whole but for one number."""

    def make(folder: Path) -> None:
        write_gguf(folder / "model.gguf", small_llama(num_layers=1))
        whole = bytearray((folder / "model.gguf").read_bytes())
        at = place(bytes(whole))
        whole[at : at + width] = value.to_bytes(width, "little")
        (folder / "model.gguf").write_bytes(whole)

    return make


def behind(name: bytes, more: int = 0) -> Callable[[bytes], int]:
    """The place behind a name in a GGUF file."""
    return lambda whole: whole.index(name) + len(name) + more


def gguf_cut(part: float) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        write_gguf(folder / "model.gguf", small_llama(num_layers=1))
        whole = (folder / "model.gguf").read_bytes()
        (folder / "model.gguf").write_bytes(whole[: int(part * len(whole))])

    return make


def many_tensors_of_one_place(folder: Path) -> None:
    """3000 tensors of 2 million weights each, all of them the same few bytes."""
    entry = b"".join([struct.pack("<IQIQ", 1, 2_000_000, 8, 0)])
    names = [f"blk.{number}.attn_norm.weight".encode() for number in range(3000)]
    header = (
        b"GGUF"
        + struct.pack("<IQQ", 3, len(names), 0)
        + b"".join(struct.pack("<Q", len(name)) + name + entry for name in names)
    )
    (folder / "model.gguf").write_bytes(header + bytes(3_000_000))


def parquet_bomb(folder: Path) -> None:
    """Twenty million prompts in a few kilobytes."""
    column = pa.array(["The"] * 1_000_000).dictionary_encode()
    table = pa.table({"prompt": pa.chunked_array([column] * 20)})
    parquet.write_table(table, folder / "prompts.parquet", compression="zstd")


ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))
SHOWN = "recipe: tiny\nseeds: " + "[" * 200 + "1" + "]" * 200

FILES: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "code in config.json": (
        code_in("config.json"),
        MEASURE,
        "its own code (auto_map in config.json), which is never run",
    ),
    "code in tokenizer_config.json": (
        code_in("tokenizer_config.json"),
        [*MEASURE, "--prompt", "a", "--chat-template"],
        "",
    ),
    "a kernel from the hub": (
        config(model_type="gpt2", attn_implementation="evil/kernel"),
        MEASURE,
        "its own code (attn_implementation",
    ),
    "an adapter": (text("model/adapter_config.json", '{"base_model_name_or_path": "/"}'), MEASURE, "holds an adapter"),
    "pickled weights": (
        pickled("pytorch_model.bin"),
        MEASURE,
        "only pickled weights (pytorch_model.bin), which are never opened",
    ),
    "pickled weights in .pt": (pickled("model.pt"), MEASURE, "only pickled weights (model.pt), which are never opened"),
    "pickled weights in an index": (
        pickled("pytorch_model.bin", indexed=True),
        MEASURE,
        "only .safetensors files are ever opened",
    ),
    "pickled weights with another name": (pickled("model.safetensors"), MEASURE, "deserializing header"),
    "an index that climbs out": (
        index("../secret.safetensors"),
        MEASURE,
        "'../secret.safetensors', which is no file beside it",
    ),
    "an index of an absolute path": (index("/etc/passwd"), MEASURE, "'/etc/passwd', which is no file beside it"),
    "an index of numbers": (index(3, "model.safetensors"), MEASURE, "is no index of weights"),
    "an index nested deeply": (
        text("model/model.safetensors.index.json", "[" * 100_000),
        MEASURE,
        "is no index of weights",
    ),
    "a safetensors header of 2^63 bytes": (
        weights(struct.pack("<Q", 2**63) + b"{}"),
        MEASURE,
        "not a whole safetensors file",
    ),
    "a safetensors header of 4 GB": (
        weights(struct.pack("<Q", 1 << 32) + b"{}"),
        MEASURE,
        "not a whole safetensors file",
    ),
    "a tensor of 2^60 weights": (
        weights(
            struct.pack("<Q", 66) + b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,0]}}'[:66]
        ),
        MEASURE,
        "not a whole safetensors file",
    ),
    "a configuration nested deeply": (text("model/config.json", '{"a":' * 100_000), MEASURE, "config.json is not JSON"),
    "a number of many digits": (
        text("model/config.json", '{"model_type": ' + "9" * 10_000 + "}"),
        MEASURE,
        "config.json is not JSON",
    ),
    "a thousand million layers": (config(num_hidden_layers=10**9), MEASURE, "the weights lack 'model.layers.999999999"),
    "a context of 10^12 tokens": (
        config(max_position_embeddings=10**12),
        MEASURE,
        "max_position_embeddings 1000000000000, but it must be",
    ),
    "a hidden size of 10^9": (config(hidden_size=10**9), MEASURE, "has shape (320, 32)"),
    "a size that is text": (config(rms_norm_eps="small"), MEASURE, "rms_norm_eps 'small', but it must be"),
    "stopping tokens that are text": (
        config(eos_token_id="stop"),
        ["measure", "--reference", "bare", "--candidate", "bare"],
        "",
    ),
    "a tokenizer nested deeply": (text("model/tokenizer.json", "[" * 100_000), MEASURE, "is no tokenizer"),
    "YAML that calls": (
        text("study.yaml", "recipe: !!python/object/apply:os.system ['touch mark']"),
        ["run", "study.yaml"],
        "not plain YAML",
    ),
    "YAML that imports": (text("study.yaml", "recipe: !!python/module:evil"), ["plan", "study.yaml"], "not plain YAML"),
    "YAML with a key twice": (
        text("study.yaml", "recipe: tiny\nseeds: 1\nseeds: 2"),
        ["run", "study.yaml"],
        "gives the key 'seeds' twice",
    ),
    "YAML of endless aliases": (text("study.yaml", ALIASES), ["run", "study.yaml"], "write the values out"),
    "YAML of endless merges": (text("study.yaml", MERGES), ["run", "study.yaml"], "write the values out"),
    "YAML with a long key many times": (
        text("study.yaml", f"? {'k' * 20_000}\n: {{{', '.join(f'a{i}: 1' for i in range(900))}}}"),
        ["run", "study.yaml"],
        "no setting has such a name",
    ),
    "YAML of many keys": (
        text("study.yaml", "".join(f"a{i}: 1\n" for i in range(5_000))),
        ["run", "study.yaml"],
        "unknown option",
    ),
    "YAML nested deeply": (text("study.yaml", "[" * 5_000), ["run", "study.yaml"], "nested too deeply"),
    "YAML with a value nested deeply": (text("study.yaml", SHOWN), ["run", "study.yaml"], "seeds is [[["),
    "YAML of a megabyte": (text("study.yaml", "#" * 1_000_000), ["run", "study.yaml"], "which no configuration needs"),
    "YAML that is no text": (text("study.yaml", b"\xff\xfe\x00"), ["run", "study.yaml"], "not plain YAML"),
    "YAML that asks for 10^18 sequences": (
        text("study.yaml", f"recipe: tiny\nnum_train: {10**18}"),
        ["run", "study.yaml"],
        "more than 1,000,000",
    ),
    "YAML that asks for 10^5000 seeds": (
        text("study.yaml", f"recipe: tiny\nseeds: 0x{'f' * 5000}"),
        ["run", "study.yaml"],
        "below 2^63",
    ),
    **{
        f"a GGUF file cut at {part}": (gguf_cut(part), FROM_GGUF, "not a whole GGUF file")
        for part in (0.0005, 0.01, 0.2)
    },
    "a GGUF file cut in its weights": (gguf_cut(0.9), FROM_GGUF, "not a whole GGUF file"),
    "2^64 - 1 tensors": (number_at(lambda _: 8, 2**64 - 1), FROM_GGUF, "18,446,744,073,709,551,615 tensors"),
    "2^40 settings": (number_at(lambda _: 16, 2**40), FROM_GGUF, "1,099,511,627,776 settings"),
    "a name of 2^63 bytes": (number_at(lambda _: 24, 2**63), FROM_GGUF, "9,223,372,036,854,775,808 bytes follow"),
    "a text of 2^62 bytes": (
        number_at(behind(b"tokenizer.ggml.model", 4), 2**62),
        FROM_GGUF,
        "4,611,686,018,427,387,904 bytes follow",
    ),
    "2^60 tokens": (
        number_at(behind(b"tokenizer.ggml.tokens", 8), 2**60),
        FROM_GGUF,
        "arrays hold 1,152,921,504,606,846,976 values",
    ),
    "an array within an array": (
        number_at(behind(b"tokenizer.ggml.tokens", 4), 9, 4),
        FROM_GGUF,
        "arrays within arrays",
    ),
    "2^31 dimensions": (number_at(behind(b"token_embd.weight"), 2**31, 4), FROM_GGUF, "2,147,483,648 dimensions"),
    "2^62 weights": (number_at(behind(b"token_embd.weight", 4), 2**57), FROM_GGUF, "weights in"),
    "weights beyond the file": (number_at(behind(b"token_embd.weight", 24), 2**61), FROM_GGUF, "not a whole GGUF file"),
    "tensors that all lie in one place": (many_tensors_of_one_place, FROM_GGUF, "6,000,000,000 weights in"),
    "no heads": (number_at(behind(b"llama.attention.head_count", 4), 0, 4), FROM_GGUF, "what cannot be"),
    "a prompt of a million characters": (
        text("prompts.jsonl", json.dumps({"prompt": "the " * 250_000})),
        [*MEASURE, "--prompts", "prompts.jsonl"],
        "the model's context holds 64",
    ),
    "a prompt of a million characters without a space": (
        text("prompts.jsonl", json.dumps({"prompt": "th" * 499_999})),
        [*MEASURE, "--prompts", "prompts.jsonl"],
        "the model's context holds 64",
    ),
    "a line without end": (
        text("prompts.jsonl", '{"prompt": "' + "x" * 9_000_000),
        [*MEASURE, "--prompts", "prompts.jsonl"],
        "8,000,000 characters",
    ),
    "a prompt that is not UTF-8": (
        text("prompts.jsonl", b'{"prompt": "\xc3\x28"}'),
        [*MEASURE, "--prompts", "prompts.jsonl"],
        "not text in UTF-8",
    ),
    "half a character": (
        text("prompts.jsonl", '{"prompt": "\\ud83d"}'),
        [*MEASURE, "--prompts", "prompts.jsonl"],
        "not text in UTF-8",
    ),
    "prompts that are no Parquet": (
        text("prompts.parquet", b"PAR1" * 1000),
        [*MEASURE, "--prompts", "prompts.parquet"],
        "no Parquet file",
    ),
    "twenty million prompts": (parquet_bomb, [*MEASURE, "--prompts", "prompts.parquet"], "given in row 1 already"),
    "draws that are no Parquet": (
        text("draws.parquet", os.urandom(1000)),
        [*MEASURE, "--draws", "draws.parquet"],
        "no whole Parquet file",
    ),
    "results that are a list": (text("run/results.json", "[]"), ["recommend", "run"], "cannot be read"),
    "results nested deeply": (text("run/results.json", "[" * 100_000), ["recommend", "run"], "cannot be read"),
    "results of other kinds": (
        text("run/results.json", json.dumps({"schema_version": 1, "students": {"a": 1}})),
        ["recommend", "run"],
        "(`$.students` is an object, not a list)",
    ),
    "results with code in a setting": (
        text(
            "run/results.json",
            json.dumps({"schema_version": 1, "students": [{"selectivity": {"temperature": "1.0); import os"}}]}),
        ),
        ["recommend", "run"],
        "(`$.students[0].selectivity`: temperature is not a finite number)",
    ),
    "results whose sources are text": (
        lambda folder: [
            text("run/results.json", '{"schema_version": 1, "sources": "x"}')(folder),
            text("run/config.yaml", "recipe: tiny")(folder),
        ],
        ["verify", "run"],
        "(`$.sources` is text, not an object)",
    ),
    "a name with a null byte": (
        lambda _: None,
        ["measure", "--reference", "a\0b", "--candidate", "model"],
        "there is no model at 'a\\x00b'",
    ),
    "a name too long": (
        lambda _: None,
        ["measure", "--reference", "a" * 5000, "--candidate", "model"],
        "cannot name a model",
    ),
    "a package that is a module of ours": (
        lambda _: None,
        ["measure", "--reference", "package:__main__", "--candidate", "model"],
        "not installed",
    ),
    "a package with a command in it": (
        lambda _: None,
        ["measure", "--reference", "package:x; touch mark", "--candidate", "model"],
        "a package's name has letters and _ alone",
    ),
}


class EchoingHub(http.server.BaseHTTPRequestHandler):
    """Refuses, and says in the refusal what it was sent."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("X-Error-Message", f"refused: {self.headers.get('Authorization')}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 (the names that the server calls)

    def log_message(self, *_: object) -> None: ...


def test_a_hub_that_gives_the_token_back_does_not_get_it_printed(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), EchoingHub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        here = {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            "HF_HOME": tmp_path / "hub",
            "HF_TOKEN": SECRETS["HF_TOKEN"],
        }
        words = (
            "run",
            "distil",
            "--reference",
            "hf:some/model",
            "--teacher",
            "hf:some/model",
            "--student",
            "scratch:32x1",
        )
        done = distilscope(*words, "--output-dir", tmp_path / "run", check=False, **here)
        hub.shutdown()
    assert (done.returncode, done.stdout) == (1, "")
    assert "hf:some/model cannot be had from the hub" in done.stderr
    assert "refused: Bearer ***" in done.stderr
    assert PLANTED not in done.stderr


def test_weights_that_are_missing_are_not_made_up(tmp_path):
    """As `transformers` would, at random."""
    another_architecture(tmp_path)
    file = tmp_path / "model" / "model.safetensors"
    save_file(
        {name: weight for name, weight in load_file(file).items() if "mlp" not in name}, file, metadata={"format": "pt"}
    )
    with pytest.raises(UsageError, match=r"lack 'transformer\.h\.0.mlp\.c_fc\.bias', which this model has"):
        TransformersNetwork.from_folder(tmp_path / "model", torch.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILSCOPE_CACHE", str(tmp_path / "cache"))
    write_small_folder(tmp_path / "model")
    write_small_folder(tmp_path / "bare")
    (tmp_path / "bare" / "generation_config.json").write_text('{"eos_token_id": "stop"}')
    return tmp_path


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", FILES)
def test_it_is_refused_in_one_sentence(folder, case, capsys):
    make, arguments, says = FILES[case]
    make(folder)
    capsys.readouterr()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1), err
    assert says in err
    assert err.startswith("distilscope: ")
    assert len(err) < 2500
    assert not (folder / "mark").exists()
    assert list((folder / "cache").rglob("config.json")) == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 300_000, "kilobytes"
