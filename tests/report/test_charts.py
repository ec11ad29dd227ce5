"""Where labels go and which colours are used: what a reader's eye depends on."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilscope.report.charts.labels import CHARACTER, LINE, Frame, placed
from distilscope.report.charts.positions import _apart
from distilscope.report.palette import COLOURS, GLYPHS, SHAPES, shade

FRAME = Frame((0.0, 10.0), (0.0, 10.0), 600, 400)


def box(middle, text):
    x, y = FRAME.pixel(*middle)
    return x - len(text) * CHARACTER / 2, y - LINE / 2, x + len(text) * CHARACTER / 2, y + LINE / 2


def test_a_pixel_is_where_it_came_from():
    assert FRAME.pixel(0.0, 10.0) == (0, 0)
    assert FRAME.place(*FRAME.pixel(2.5, 7.5)) == pytest.approx((2.5, 7.5))


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), min_size=1, max_size=10, unique=True))
def test_labels_of_points_apart_cover_neither_points_nor_each_other(cells):
    points = [(2.0 * x, 1.5 * y, f"τ = 0.{at}") for at, (x, y) in enumerate(cells)]
    boxes = [box(middle, text) for middle, (_, _, text) in zip(placed(FRAME, points, []), points, strict=True)]
    for (left, top, right, bottom), (x, y, _) in itertools.product(boxes, points):
        across, down = FRAME.pixel(x, y)
        assert not (left <= across <= right and top <= down <= bottom)
    for one, other in itertools.combinations(boxes, 2):
        assert not (one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3])


def test_a_label_stays_in_its_frame():
    (middle,) = placed(FRAME, [(9.9, 9.9, "τ = 0.875")], [])
    left, top, right, bottom = box(middle, "τ = 0.875")
    assert left >= 0
    assert top >= 0
    assert right <= 600
    assert bottom <= 400


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0.1, 1.0))
def test_heights_are_moved_apart_in_their_order(values, least):
    moved = _apart(values, least=least)
    order = sorted(range(len(values)), key=lambda at: values[at])
    assert all(moved[b] - moved[a] >= least - 1e-9 for a, b in itertools.pairwise(order))
    if all(values[b] - values[a] >= least for a, b in itertools.pairwise(order)):
        assert moved == pytest.approx(values)


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1])
def test_colours_stand_out_from_the_paper(mode):
    """WCAG 2: 4.5 to 1 for text, which every role's name is; 3 to 1 for what is only drawn."""
    paper = COLOURS["paper"][mode]
    for name in (*SHAPES, "ink", "soft"):
        assert contrast(COLOURS[name][mode], paper) >= 4.5, name
    assert contrast(COLOURS["soft"][mode], COLOURS["panel"][mode]) >= 4.5


def test_roles_differ_in_more_than_colour():
    assert len(set(GLYPHS.values())) == len(GLYPHS)
    assert set(GLYPHS) == set(SHAPES)


def test_shades_go_from_the_role_to_its_palest():
    assert "100%" in shade(0, 1)
    assert ["100%" in shade(0, 4), " 0%" in shade(3, 4)] == [True, True]
