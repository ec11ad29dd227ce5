"""What a run survives, each fault really done to it: afterwards its store and results are those of a run that nothing
disturbed.

`make test` strikes once with each, `make soak` many times, at other moments every time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import glob
from pathlib import Path
from typing import BinaryIO

import pytest

from distilscope.cli.main import main
from in_process import in_process
from small_study import PLANTED, SMALL, begin, distilscope, hashes, words
from tiny_folders import small_llama, write_gguf, write_small_folder

pytestmark = pytest.mark.slow

STUDY = words("tiny", SMALL)


def study(folder: Path) -> list[object]:
    return [*STUDY, "--output-dir", folder, "--workers", 2, "--json"]


KEPT = {"checkpoint.safetensors", "alike"}
"""What a training that was interrupted leaves: where it stands, and what its like in another number of processes finds
it by."""


def until(condition: Callable[[], object], process: subprocess.Popen[str], *, pause: float = 0.005) -> bool:
    """Waits for a moment of a run; False where the run ended before."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(pause)
    return True


def made(store: Path) -> dict[Path, int]:
    """The artifacts there are, with the time of each."""
    return {path: path.stat().st_mtime_ns for path in store.glob("[!.]*/*/manifest.json")}


def under_way(store: Path) -> set[str]:
    """The kinds of the steps that run."""
    return {path.name.split("-")[0] for path in store.glob(".partial/*")}


def workers(process: subprocess.Popen[str]) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def struck(chance, process: subprocess.Popen[str], number: int = 1) -> None:
    """SIGKILL for some of the workers."""
    for pid in chance.sample(workers(process), number):
        os.kill(pid, signal.SIGKILL)


def caught(process: subprocess.Popen[str], condition: Callable[[], object]) -> bool:
    """Stops the workers if the condition holds then; else lets them go on."""
    held = workers(process)
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    while not all("(stopped)" in Path(f"/proc/{pid}/status").read_text() for pid in held):
        time.sleep(0.0005)
    if condition():
        return True
    for pid in held:
        os.kill(pid, signal.SIGCONT)
    return False


def flip(chance, file: Path) -> None:
    """One bit."""
    whole = bytearray(file.read_bytes())
    whole[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
    file.write_bytes(whole)


def same(folder: Path, undisturbed: Path) -> None:
    assert hashes(folder / "store") == hashes(undisturbed / "store")
    assert (folder / "results.json").read_bytes() == (undisturbed / "results.json").read_bytes()
    assert [path for path in folder.rglob("*") if path.is_file() and PLANTED.encode() in path.read_bytes()] == []
    halves = [path for place in (folder, folder / "store") for path in place.glob(".*partial*")]
    assert [*halves, *folder.glob("store/.scratch/*")] == []


def at_random(chance, undisturbed: Path) -> Callable[[Path], bool]:
    """A moment of a run: so many artifacts made, the last few excepted, and a little later."""
    number, later = chance.randrange(len(made(undisturbed / "store")) - 6), chance.random() * 0.05

    def come(store: Path) -> bool:
        if len(made(store)) < number:
            return False
        time.sleep(later)
        return True

    return come


# Workers.


def test_a_worker_killed_while_it_draws_costs_nothing_but_its_tile(chance, undisturbed, tmp_path):
    store, start = tmp_path / "store", chance.randrange(len(made(undisturbed / "store")) // 2)
    with begin(*study(tmp_path)) as run:
        hit = until(lambda: len(made(store)) >= start and under_way(store) == {"draws"}, run, pause=0.0)
        if hit:
            struck(chance, run)
        _, said = run.communicate()
    assert run.returncode == 0, said
    same(tmp_path, undisturbed)


def test_a_worker_killed_in_the_middle_of_a_training_goes_on_from_its_checkpoint(chance, undisturbed, tmp_path):
    store = tmp_path / "store"
    with begin(*study(tmp_path)) as run:
        assert until(
            lambda: list(store.glob(".scratch/*/checkpoint.safetensors")) and under_way(store) == {"training"}, run
        )
        time.sleep(chance.random() * 0.2)
        struck(chance, run)
        _, said = run.communicate()
    assert run.returncode == 0, said
    assert "it is started once more" in said
    same(tmp_path, undisturbed)


def test_workers_killed_while_they_save_a_checkpoint_leave_the_one_before(chance, undisturbed, tmp_path):
    """The half that such a kill leaves is the proof that it came in the middle."""
    store = tmp_path / "store"

    def half() -> list[str]:  # not Path.glob, which cannot stand that folders vanish
        return glob(f"{store}/.scratch/*/.checkpoint.partial.*")

    with begin(*study(tmp_path)) as run:
        assert until(lambda: half() and caught(run, half), run, pause=0.0)
        struck(chance, run, len(workers(run)))
        assert half()
        _, said = run.communicate()
    assert run.returncode == 0, said
    assert "it is started once more" in said
    same(tmp_path, undisturbed)


# The run itself.


def test_a_run_killed_at_any_moment_redoes_only_what_was_missing(chance, undisturbed, tmp_path):
    store, come = tmp_path / "store", at_random(chance, undisturbed)
    with begin(*study(tmp_path)) as run:
        assert until(lambda: come(store), run)
        run.kill()
    kept = made(store)
    distilscope(*study(tmp_path))
    assert {path: made(store)[path] for path in kept} == kept
    same(tmp_path, undisturbed)


def test_sigterm_keeps_a_checkpoint_and_one_that_was_damaged_since_is_named_and_not_used(chance, undisturbed, tmp_path):
    """Of the teacher's training, which keeps none of its own accord."""
    store = tmp_path / "run" / "store"
    (teacher,) = (
        path.parent.name
        for path in undisturbed.glob("store/training/*/manifest.json")
        if '"hidden_size": 64' in path.read_text()
    )
    scratch = store / ".scratch" / teacher
    with begin(*study(tmp_path / "run")) as run:
        assert until(scratch.exists, run)
        time.sleep(chance.random() * 0.2)
        run.terminate()
        _, said = run.communicate()
    assert run.returncode == 143, said
    assert "finished and kept" in said
    assert "Traceback" not in said
    assert {path.name for path in scratch.iterdir()} == KEPT
    assert under_way(store) == set()
    shutil.copytree(tmp_path / "run", tmp_path / "damaged")
    checked = in_process("verify", tmp_path / "run").stdout
    assert "0 problems" in checked
    assert "not made yet" in checked
    distilscope(*study(tmp_path / "run"))
    same(tmp_path / "run", undisturbed)

    victim = tmp_path / "damaged" / "store" / ".scratch" / teacher / "checkpoint.safetensors"
    flip(chance, victim)
    checked = in_process("verify", tmp_path / "damaged", check=False)
    assert checked.returncode == 1
    assert f"{victim}: is not as it was written" in checked.stdout
    repaired = distilscope(*study(tmp_path / "damaged"), "--repair")
    assert f"damaged: {victim}: " in repaired.stderr
    same(tmp_path / "damaged", undisturbed)


def test_two_runs_on_one_store_one_works_and_the_other_says_who_does(chance, undisturbed, tmp_path):
    store, come = tmp_path / "store", at_random(chance, undisturbed)
    with begin(*study(tmp_path)) as run:
        assert until(lambda: come(store) and (store / ".partial").exists(), run)
        other = distilscope(*STUDY, "--output-dir", tmp_path / "other", check=False, DISTILSCOPE_STORE=store)
        _, said = run.communicate()
    assert run.returncode == 0, said
    if other.returncode == 0:  # it came when all was made
        assert "nothing to run" in other.stderr
        assert (tmp_path / "other" / "results.json").read_bytes() == (tmp_path / "results.json").read_bytes()
    else:
        assert other.returncode == 1
        assert f"in use by process {run.pid} " in other.stderr
        assert not (tmp_path / "other" / "results.json").exists()
    same(tmp_path, undisturbed)


# The disk.


def test_flipped_bytes_are_named_and_exactly_what_they_are_in_is_made_again(chance, undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    store = tmp_path / "run" / "store"
    patterns = (
        "draws/*/sequences.safetensors",
        "training/*/model.safetensors",
        "ground_truth/*/model.safetensors",
        "scores/*/manifest.json",
    )
    victims = [chance.choice(sorted(store.glob(pattern))) for pattern in patterns]
    for victim in victims:
        flip(chance, victim)
    before = made(store)
    checked = in_process("verify", tmp_path / "run", check=False)
    assert checked.returncode == 1
    assert sorted(line.split(": ")[0] for line in checked.stdout.splitlines()[:-2]) == sorted(map(str, victims))
    repaired = distilscope(*study(tmp_path / "run"), "--repair")
    assert all(f"damaged: {victim}: " in repaired.stderr for victim in victims)
    assert "28 artifacts, 4 damaged; 4 will be made" in repaired.stderr
    after = made(store)
    assert {path.parent for path in after if after[path] != before.get(path)} == {victim.parent for victim in victims}
    same(tmp_path / "run", undisturbed)


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[None]:
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    refused = subprocess.run(mount, capture_output=True, text=True, check=False)
    if refused.returncode:
        pytest.skip(f"no file system can be mounted here ({refused.stderr.strip()}), so no disk can be filled")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(file: BinaryIO) -> None:
    """Until there is no byte left."""
    for size in (1 << 20, 1 << 12, 1):
        with suppress(OSError):
            while True:
                file.write(bytes(size))


def test_a_full_disk_is_told_leaves_nothing_half_written_and_the_run_goes_on_when_there_is_space(
    chance, undisturbed, tmp_path
):
    """It fills up under the run, which would not have begun with less space than it foresees."""
    disk, come = tmp_path / "disk", at_random(chance, undisturbed)
    with small_disk(disk, 16):
        ballast, run = disk / "ballast", disk / "run"
        with begin(*study(run)) as full:
            assert until(lambda: come(run / "store"), full)
            with ballast.open("wb", buffering=0) as file:
                while full.poll() is None:  # what the run frees on its way is taken too
                    fill(file)
                    time.sleep(0.01)
            _, said = full.communicate()
        assert full.returncode == 1, said
        assert " is full" in said.splitlines()[-1]
        assert "Traceback" not in said
        assert not (run / "results.json").exists()
        assert [path for place in (run, run / "store") for path in place.glob(".*partial*")] == []
        assert [path for path in run.glob("store/.scratch/*/*") if path.name not in KEPT] == []
        ballast.unlink()
        distilscope(*study(run))
        same(run, undisturbed)


def test_a_full_disk_under_the_cache_or_kept_draws_is_told_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    disk, model = tmp_path / "disk", tmp_path / "model"
    write_small_folder(model)
    write_gguf(tmp_path / "model.gguf", small_llama())
    few = ["--num-samples", "200", "--max-new-tokens", "60", "--dtype", "float32"]
    with pytest.raises(SystemExit, match=r"^0$"):  # loops made now are kept elsewhere
        main(["measure", "--reference", str(model), "--candidate", str(model), *few])
    capsys.readouterr()
    with small_disk(disk, 1):
        monkeypatch.setenv("DISTILSCOPE_CACHE", str(disk / "cache"))
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - (60 << 10)))
        for reference, more in ((tmp_path / "model.gguf", []), (model, [*few, "--keep-draws", disk / "kept"])):
            with pytest.raises(SystemExit) as stop:
                main(["measure", "--reference", str(reference), "--candidate", str(reference), *map(str, more)])
            said = capsys.readouterr()
            assert (stop.value.code, said.out) == (1, "")
            assert "the disk is full" in said.err
            assert [path.name for path in disk.rglob("*") if path.is_file()] == ["ballast"]
