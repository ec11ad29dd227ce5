"""Reads a page as a test sees it: its elements, its text by place, the JSON that stands in it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "input", "br", "hr", "img"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    content: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Its own and that of all below."""
        return "".join(part if isinstance(part, str) else part.text for part in self.content)

    def all(self, tag: str) -> list[Element]:
        inside = [part for part in self.content if isinstance(part, Element)]
        return [found for part in inside for found in ([part] if part.tag == tag else []) + part.all(tag)]

    def whole(self) -> str:
        """Its text with single spaces."""
        return " ".join(self.text.split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].content.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)


def read(html: str) -> Element:
    """The page; fails where its elements are not well nested."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == [reader.root], f"<{reader.open[-1].tag}> is never closed"
    return reader.root


def by_id(page: Element, name: str) -> Element | None:
    found = [
        element
        for tag in ("section", "script", "div", "figure", "tr")
        for element in page.all(tag)
        if element.attributes.get("id") == name
    ]
    return found[0] if found else None


def data(page: Element, name: str) -> Any:
    """The JSON that stands in the script of that name."""
    script = by_id(page, name)
    assert script is not None
    assert script.attributes["type"] == "application/json"
    return json.loads(script.text)


def marks(page: Element, chart: str) -> list[dict[str, Any]]:
    """Every record that a chart draws."""
    sets = data(page, f"chart-{chart}")["data"]
    return [row for one in sets if isinstance(one.get("values"), str) for row in json.loads(one["values"])]
