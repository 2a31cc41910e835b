"""Several charts as one picture: an SVG file that needs nothing beside itself.

What pages show as HTML around a chart, its caption and legend, is text of the picture here. The
colours are those of the pages, written out, since not every program that draws SVG knows CSS
variables; light, dark and on paper.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

_NAMESPACE = "http://www.w3.org/2000/svg"
_COLUMNS = 2
_EDGE, _GAP = 16, 36
_HEAD = 44  # caption and legend
_LETTER = 7.0  # width of a letter of the legend
_KEY, _KEY_GAP = 26, 6
#: Of the pages' style, what a picture has.
_DRAWN = re.compile(
    r"^(?:svg text|\.grid|\.frame|\.line|\.area|\.mark)[^{}]*\{[^{}]*\}(?:[^\n{}]*\{[^{}]*\})*",
    re.MULTILINE,
)


def write_svg(path: Path, figures: Sequence[str], *, note: str) -> None:
    """Write charts of :func:`pynvme_user.bench.report.plot.chart`, with a note below."""
    parsed = [ET.fromstring(figure) for figure in figures]
    box = next(parsed[0].iterfind("svg")).attrib["viewBox"].split()
    width, height = int(box[2]), int(box[3]) + _HEAD
    rows = -(-len(parsed) // _COLUMNS)
    whole = (
        2 * _EDGE + _COLUMNS * width + (_COLUMNS - 1) * _GAP,
        2 * _EDGE + rows * (height + _GAP),
    )
    drawn = "\n".join(
        f'<g transform="translate({_EDGE + number % _COLUMNS * (width + _GAP)} '
        f'{_EDGE + number // _COLUMNS * (height + _GAP)})">\n{_panel(figure)}\n</g>'
        for number, figure in enumerate(parsed)
    )
    path.write_text(
        f'<svg xmlns="{_NAMESPACE}" viewBox="0 0 {whole[0]} {whole[1]}" '
        f'width="{whole[0]}" height="{whole[1]}">\n<style>\n{_style()}</style>\n'
        f'<rect class="page" width="100%" height="100%"/>\n{drawn}\n'
        f'<text x="{_EDGE}" y="{whole[1] - _EDGE}">{escape(note)}</text>\n</svg>\n',
        encoding="utf-8",
    )


def _panel(figure: ET.Element) -> str:
    """Draw a chart below its caption and its legend."""
    (picture,) = figure.iterfind("svg")
    inside = "\n".join(ET.tostring(one, encoding="unicode").strip() for one in picture)
    caption = escape(figure.findtext("figcaption") or "")
    parts = [f'<text class="title" x="2" y="12">{caption}</text>']
    at = 2.0
    for entry in figure.iterfind("p[@class='legend']/span"):
        key = entry.find("svg/path")
        if key is not None:
            key.set("transform", f"translate({at:.1f} 28)")
            key.tail = None
            parts.append(ET.tostring(key, encoding="unicode"))
            at += _KEY + _KEY_GAP
        name = "".join(entry.itertext())
        parts.append(f'<text x="{at:.1f}" y="36">{escape(name)}</text>')
        at += _LETTER * len(name) + 2 * _KEY_GAP
    return "\n".join([*parts, f'<g transform="translate(0 {_HEAD})">', inside, "</g>"])


def _style() -> str:
    """Give the style: the pages' rules with their colours for each of light, dark and paper."""
    css = files("pynvme_user.bench.report").joinpath("report.css").read_text(encoding="utf-8")
    rules = "\n".join(_DRAWN.findall(css))
    rules += (
        "\n.page { fill: var(--page); } svg text.title { fill: var(--text); font-weight: 600; }\n"
    )
    light, dark, paper = (
        _with_colours(rules, dict(re.findall(r"--(\w+): (#\w+)", block)))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    return f"{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n@media print {{\n{paper}}}\n"


def _with_colours(rules: str, colours: Mapping[str, str]) -> str:
    return re.sub(r"var\(--(\w+)\)", lambda name: colours[name[1]], rules)
