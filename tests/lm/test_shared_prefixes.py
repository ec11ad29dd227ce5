"""What sequences have in common, against a dictionary of every prefix."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distilscope.lm.shared_prefixes import Prefixes

ROWS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=8)


@given(ROWS)
def test_every_position_is_numbered_by_the_tokens_up_to_and_with_it(rows):
    numbers: dict[tuple[int, ...], int] = {}
    first = []
    of = []
    for row in rows:
        for end in range(1, len(row) + 1):
            if tuple(row[:end]) not in numbers:
                numbers[tuple(row[:end])] = len(numbers)
                first.append(len(of))
            of.append(numbers[tuple(row[:end])])
    found = Prefixes.among([np.array(row) for row in rows])
    assert (found.of.tolist(), found.first.tolist()) == (of, first)
