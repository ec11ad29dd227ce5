"""One colour and one shape per role, in every chart and table of every page; light and dark.

The hues are Okabe and Ito's, told apart by colour-blind readers too, darkened or lightened until they stand out from
the paper. Charts name colours as CSS variables, so that the page alone decides between light, dark and print.
"""

from __future__ import annotations

COLOURS = {
    "reference": ("#1a1a1a", "#f2f0ea"),
    "teacher": ("#00805c", "#3fcf9f"),
    "distilled": ("#0069a8", "#5db8f0"),
    "direct": ("#c24a00", "#ff9152"),
    "control": ("#c24a00", "#ff9152"),
    "pale": ("#a3c6e0", "#3a7cab"),
    "paper": ("#ffffff", "#15171a"),
    "panel": ("#f6f5f2", "#1e2125"),
    "ink": ("#1a1a1a", "#eceae4"),
    "soft": ("#5a5a5a", "#a8a69f"),
    "rule": ("#d9d7d2", "#3a3e44"),
}
"""Of each role, of the palest shade of a distilled student, then of the page itself: on light, on dark."""

SHAPES = {
    "reference": "diamond",
    "teacher": "triangle-up",
    "distilled": "circle",
    "direct": "square",
    "control": "square",
}
"""By role, as Vega names them; a control's is hollow."""

GLYPHS = {"reference": "◆", "teacher": "▲", "distilled": "●", "direct": "■", "control": "□"}
"""The same shapes in text."""


def css(name: str) -> str:
    """The colour as charts name it."""
    if name not in COLOURS:
        raise KeyError(name)
    return f"var(--{name})"


def variables() -> str:
    """The colours as CSS declarations; `color-scheme` decides which of the two holds."""
    return "\n".join(f"  --{name}: light-dark({light}, {dark});" for name, (light, dark) in COLOURS.items())


def shade(place: int, of: int) -> str:
    """The distilled students' colour, paler with each place, for several settings in one panel."""
    strength = 100 if of < 2 else round(100 * (1 - place / (of - 1)))
    return f"color-mix(in oklab, {css('distilled')} {strength}%, {css('pale')})"
