"""Where machine code is kept, and when it is made anew."""

import errno
import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import llvmlite
import numba
import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile

from distilscope.lm.kernels import numba_cache
from distilscope.lm.kernels.numba_cache import compiled
from distilscope.system.cache_dir import cache_folder

ROOM = Path(numba_cache.__file__).parent


@pytest.fixture
def package(tmp_path) -> Path:
    """A copy of the whole package, to be changed."""
    return shutil.copytree(
        ROOM.parents[1], tmp_path / "distilscope", ignore=shutil.ignore_patterns("__pycache__", "templates", "*.js")
    )


def digest(package: Path) -> str:
    """As a process that has just begun computes it."""
    numba_cache._room_digest.cache_clear()
    return numba_cache._room_digest(package / "lm" / "kernels")


def test_the_key_is_of_the_rooms_files_wherever_they_lie_and_of_no_other(package):
    plain = digest(package)
    assert plain == digest(ROOM.parents[1])
    others = [file for file in package.rglob("*.py") if file.parent.name != "kernels"]
    assert len(others) > 100
    for file in others:
        file.write_text(file.read_text() + "\n# changed\n")
    (package / "lm" / "new.py").write_text("")
    assert digest(package) == plain


@pytest.mark.parametrize("file", sorted(file.name for file in ROOM.glob("*.py")))
def test_the_key_changes_with_each_file_of_the_room(package, file):
    plain, path = digest(package), package / "lm" / "kernels" / file
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    assert digest(package) != plain
    path.write_bytes(content)
    assert digest(package) == plain
    path.rename(path.with_name("renamed.py"))
    assert digest(package) != plain


@pytest.mark.parametrize("compiler", [numba, llvmlite], ids=["numba", "llvmlite"])
def test_the_key_changes_with_the_compilers(monkeypatch, package, compiler):
    plain = digest(package)
    monkeypatch.setattr(compiler, "__version__", "0")
    assert digest(package) != plain


def test_machine_code_is_found_again_on_the_same_processor_alone():
    """Numba's own key within the folder."""

    def codegen(processor: str) -> SimpleNamespace:
        return SimpleNamespace(magic_tuple=lambda: ("x86_64", processor, "+avx2"))

    loop = compiled(lambda x: x + 1)
    keys = [loop._cache._index_key((numba.int64,), codegen(name)) for name in ("znver3", "znver3", "znver4")]
    assert keys[0] == keys[1] != keys[2]


def test_a_loop_is_loaded_and_not_compiled_a_second_time(monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILSCOPE_CACHE", str(tmp_path))

    def double(x):
        return x * 2

    hits = []
    for _ in range(2):
        loop = compiled(double)
        assert loop(np.float32(3)) == 6
        hits.append(sum(loop.stats.cache_hits.values()))
    assert hits == [0, 1]
    assert list(tmp_path.glob(f"compiled/{digest(ROOM.parents[1])}/*/*.nbc"))


def test_threads_that_make_loops_at_once_leave_each_other_the_folder(monkeypatch):
    """Numba has one setting for all threads; where one put it back while another was at work, loops were kept in the
    working folder."""
    before, seen = numba_cache.config.CACHE_DIR, []

    def kept(_kernel):
        time.sleep(0.02)
        seen.append(numba_cache.config.CACHE_DIR)

    monkeypatch.setattr(numba_cache, "_BestEffortCache", kept)
    threads = [threading.Thread(target=numba_cache.compiled, args=(lambda: None,)) for _ in range(4)]
    for thread in threads:
        thread.start()
        time.sleep(0.005)
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    assert set(seen) == {str(cache_folder() / "compiled" / numba_cache._room_digest(ROOM))}
    assert before == numba_cache.config.CACHE_DIR


def test_a_loop_that_finds_no_space_in_its_folder_works_all_the_same(monkeypatch):
    tried = []

    def save(_file, key, _data):
        tried.append(key)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(IndexDataCacheFile, "save", save)
    assert compiled(lambda x: x + 1)(2) == 3
    assert len(tried) == 1
