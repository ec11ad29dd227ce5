"""Formulas of the documentation as MathML, which browsers draw by themselves: the site needs no script and no font for
them.

pymdownx.arithmatex finds `$...$` and `$$...$$` and leaves elements of class `arithmatex`; here the LaTeX in them
becomes MathML. Roots and brackets that grow need a mathematical font on the reader's machine, so the pages write powers
of 1/2 and plain brackets.
"""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

NEEDS_A_FONT = re.compile(r"\\(sqrt|left|right|[bB]igg?)(?![a-zA-Z])")


def formula(latex: str, *, display: bool) -> ElementTree.Element:
    """A `math` element. Raises ValueError for a command that is not known, or that not every reader would see."""
    if found := NEEDS_A_FONT.search(latex):
        raise ValueError(f"the formula {latex!r} needs a mathematical font to be drawn; write it without {found[0]}")
    xml = convert(latex, display="block" if display else "inline")
    if "\\" in xml:
        raise ValueError(f"the formula {latex!r} has a command that latex2mathml does not know")
    math = ElementTree.fromstring(xml.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', ""))
    for row in list(math.iter()):
        for place, (name, argument) in reversed(list(enumerate(itertools.pairwise(row), start=1))):
            if name.text == "log" and argument.tag != "mo":
                row.insert(place, ElementTree.Element("mspace", width="0.17em"))  # else "log p" runs together
    return math


class _MathML(Treeprocessor):
    def run(self, root: ElementTree.Element) -> None:
        for element in root.iter():
            if element.get("class") == "arithmatex" and element.text:
                latex = element.text.strip()[2:-2].strip()  # without \( \) or \[ \]
                element.text = None
                element.append(formula(latex, display=element.tag == "div"))


class MathMLExtension(Extension):
    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        md.treeprocessors.register(_MathML(md), "mathml", 1)  # after the inline patterns, which make the elements


def makeExtension(**options: object) -> MathMLExtension:  # noqa: N802
    """What Python-Markdown calls."""
    return MathMLExtension(**options)
