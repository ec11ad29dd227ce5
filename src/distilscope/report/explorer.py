"""The mixtures' explorer: one HTML file with sliders over every fitted stop, that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distilscope.report.page import environment


def explorer(explored: Mapping[str, Any]) -> str:
    """The page for what `mixtures.explorer.explore` found."""
    return (
        environment().get_template("explorer.html.j2").render(title="The paper's mixtures, by hand", explored=explored)
    )
