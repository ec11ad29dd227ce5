"""Pieces of work on threads of one process."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from distilscope.distribution import Key
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.network import over_threads
from distilscope.lm.scoring import score
from distilscope.selectivity import UNCHANGED
from distilscope.system.thread_pool import map_in_threads, raise_if_abandoned
from fake_models import ragged, random_table, tiny_llama


@pytest.fixture
def four_threads():
    """As torch has them in a process on four cores."""
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(1)


def threads_of_torch(_part) -> int:
    return torch.get_num_threads()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_their_parts(threads):
    waits = [0.02, 0.0, 0.01, 0.0, 0.0, 0.03, 0.0]
    assert list(map_in_threads(lambda part: (time.sleep(part[1]), part[0])[1], enumerate(waits), threads)) == list(
        range(len(waits))
    )


def test_parts_are_taken_as_they_are_needed():
    taken = []
    results = map_in_threads(lambda part: part, ((taken.append(part), part)[1] for part in range(100)), 2)
    assert [next(results), next(results)] == [0, 1]
    assert len(taken) <= 5
    results.close()


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(("threads", "each"), [(2, 1), (2, 3), (3, 2)])
def test_each_part_has_its_share_of_torchs_threads_and_the_caller_keeps_its_own(threads, each):
    assert set(map_in_threads(threads_of_torch, range(6), threads, each=each)) == {each}
    assert torch.get_num_threads() == 4
    begun_later = []
    later = threading.Thread(target=lambda: begun_later.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert begun_later == [4]


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(("number", "each"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_fewer_parts_than_threads_share_them(number, each):
    assert list(over_threads([tiny_llama()], threads_of_torch, range(number), number)) == [each] * number


@pytest.mark.usefixtures("four_threads")
def test_a_network_that_only_one_thread_may_use_has_all_of_torchs():
    here = threading.get_ident()
    alone = replace(random_table(4, 2, seed=0), reentrant=False)
    assert set(
        over_threads([tiny_llama(), alone], lambda _: (threading.get_ident(), torch.get_num_threads()), range(3), 3)
    ) == {(here, 4)}


def test_an_error_ends_the_other_parts():
    ended = []

    def work(part: int) -> None:
        if part == 1:
            raise ValueError("the second part")
        try:
            while True:
                time.sleep(0.001)
                raise_if_abandoned()
        finally:
            ended.append(part)

    with pytest.raises(ValueError, match="the second part"):
        list(map_in_threads(work, range(1, 100), 2))
    assert len(ended) <= 2  # the other thread's, and one that took the place of the second


def test_a_caller_that_leaves_off_ends_what_is_under_way():
    def work(part: int) -> int:
        while part:
            time.sleep(0.001)
            raise_if_abandoned()
        return part

    results = map_in_threads(work, range(100), 2)
    assert next(results) == 0
    results.close()  # would wait for ever
    raise_if_abandoned()  # nobody has left this thread


def test_a_draw_is_given_up_between_two_steps():
    endless = CausalLM(replace(random_table(4, 2, seed=0), context=10_000_000), frozenset()).after(
        (1,), horizon=1_000_000
    )
    results = map_in_threads(lambda number: number and endless.sample(1, Key(number)), range(3), 2)
    assert next(results) == 0
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("threads", [2, 3])
def test_scores_are_the_same_on_several_threads(threads):
    network, sequences = tiny_llama(), ragged([int(n) for n in np.random.default_rng(0).integers(1, 60, 40)], 5, (1, 2))
    alone, _ = score((network, UNCHANGED), sequences)
    torch.set_num_threads(threads)
    try:
        together, _ = score((network, UNCHANGED), sequences)
    finally:
        torch.set_num_threads(1)
    for name in ("log_prob", "expected", "variance"):
        np.testing.assert_allclose(getattr(together, name), getattr(alone, name), atol=1e-5)
