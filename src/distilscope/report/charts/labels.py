"""Places short labels beside points so that they cover neither each other nor the points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

CHARACTER, LINE = 6.6, 15.0
"""Width and height that a character of a 12-pixel label takes, in pixels."""

_GAP = 9.0
"""From a point's middle to its label's edge."""


@dataclass(frozen=True)
class Frame:
    """A panel: data coordinates to pixels and back."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int
    height: int

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        return (
            (x - self.x[0]) / (self.x[1] - self.x[0]) * self.width,
            (self.y[1] - y) / (self.y[1] - self.y[0]) * self.height,
        )

    def place(self, across: float, down: float) -> tuple[float, float]:
        """Data coordinates of a pixel."""
        return (
            self.x[0] + across / self.width * (self.x[1] - self.x[0]),
            self.y[1] - down / self.height * (self.y[1] - self.y[0]),
        )


def placed(
    frame: Frame, labels: Sequence[tuple[float, float, str]], others: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """The middle of each label (x, y, text), in data coordinates, near its point and away from all points (`others`
    among them)."""
    points = [frame.pixel(x, y) for x, y in [*((x, y) for x, y, _ in labels), *others]]
    boxes: list[tuple[float, float, float, float]] = []
    for x, y, text in labels:
        across, down = frame.pixel(x, y)
        half = len(text) * CHARACTER / 2
        tried = []
        for far, (sideways, upwards) in itertools.product((1.0, 1.9), _AROUND):
            middle = (
                across + sideways * (half + _GAP * far),
                down - upwards * (LINE / 2 + (_GAP if sideways == 0 else 0.4 * _GAP) * far),
            )
            tried.append((middle[0] - half, middle[1] - LINE / 2, middle[0] + half, middle[1] + LINE / 2))
        boxes.append(min(tried, key=lambda box: _cost(box, boxes, points, frame) + 0.5 * tried.index(box)))
    return [frame.place((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in boxes]


_AROUND = ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
"""The corners first, for intervals run upright and level; then right, left, above, below."""


def _cost(
    box: tuple[float, float, float, float],
    boxes: Sequence[tuple[float, ...]],
    points: Sequence[tuple[float, float]],
    frame: Frame,
):
    left, top, right, bottom = box
    covered = sum(left - 4 <= x <= right + 4 and top - 4 <= y <= bottom + 4 for x, y in points)
    crossing = sum(left < other[2] and other[0] < right and top < other[3] and other[1] < bottom for other in boxes)
    outside = math.fsum(max(0.0, edge) for edge in (-left, -top, right - frame.width, bottom - frame.height))
    return 10 * covered + 60 * crossing + 5 * outside
