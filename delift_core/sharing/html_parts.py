"""One HTML file that needs nothing but a browser: escaped text, tables, figures in both themes, and no way out of it.

Its policy (CSP) allows no connection, and of scripts only the two that the file was written with, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from delift_core.figures import alt_of

_LISTED = 20  # entries of a list of facts
_NUMBER = re.compile(r"[-+]?\d[\d,.]{0,15}(e[-+]?\d{1,3})?( %)?")


class Html(str):
    """Text that is markup already; everything else is escaped when it is put into a page."""


def text(value: Any) -> Html:
    """A value of unknown origin as text in HTML."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(str(value), quote=True).replace("\x00", "\ufffd"))


def tag(name: str, *children: Any, **attributes: str) -> Html:
    """An element; children that are no markup, and all attributes, are escaped."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{text(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{''.join(text(child) for child in children)}</{name}>")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str = "") -> Html:
    """A table; numbers are never broken into two lines."""
    lines = [
        tag("tr", *(tag("td", cell, class_="number" if _is_number(cell) else "text") for cell in row)) for row in rows
    ]
    titles = tag("thead", tag("tr", *(tag("th", title, scope="col") for title in head)))
    label = tag("caption", caption) if caption else Html("")
    return tag("div", tag("table", label, titles, tag("tbody", *lines)), class_="wide", tabindex="0")


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) or (isinstance(cell, str) and _NUMBER.fullmatch(cell) is not None)


def pairs(facts: Mapping[str, Any]) -> Html:
    """Names and values, one a line; nested ones inside each other."""
    return tag("dl", *(Html(tag("dt", name) + tag("dd", facts_of(value))) for name, value in facts.items()))


def facts_of(value: Any) -> Html:
    """A JSON-able value as a reader wants it: lists with their first entries, objects as pairs."""
    if isinstance(value, Mapping):
        return pairs(value) if value else text("none")
    if isinstance(value, list | tuple):
        if not value:
            return text("none")
        more = f" … and {len(value) - _LISTED:,} more" if len(value) > _LISTED else ""
        if not any(isinstance(entry, Mapping | list | tuple) for entry in value):
            return text(", ".join(str(entry) for entry in value[:_LISTED]) + more)
        return tag("ul", *(tag("li", facts_of(entry)) for entry in value[:_LISTED]), tag("li", more) if more else "")
    if isinstance(value, bool):
        return text("yes" if value else "no")
    if isinstance(value, float):
        return text(f"{value:.6g}")
    return text("none" if value is None else value)


def section(title: str, *children: Any) -> Html:
    """A part of the report with its heading."""
    return tag("section", tag("h2", title), *children)


@dataclass(frozen=True)
class Figure:
    """A figure in both themes, under a name that is no text of others."""

    name: str
    light: go.Figure
    dark: go.Figure

    def html(self) -> Html:
        """The place of the figure, with the sentence that states its finding."""
        alt = alt_of(self.light)
        height = f"{int(self.light.layout.height)}px"
        box = tag("div", id=self.name, data_figure=self.name, role="img", aria_label=alt, style=f"min-height:{height}")
        return tag("figure", box, tag("figcaption", alt))

    def data(self) -> Html:
        """Both specifications, as JSON that no HTML parser takes for markup."""
        return Html("".join(
            f'<script type="application/json" id="{self.name}-{theme}">{_inert(figure.to_json())}</script>'
            for theme, figure in (("light", self.light), ("dark", self.dark))
        ))  # fmt: skip


def _inert(json_text: str | None) -> str:
    return (json_text or "{}").replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def page(title: str, body: Iterable[Html], figures: Sequence[Figure]) -> str:
    """The whole file.  Without figures it holds no script at all."""
    scripts = [get_plotlyjs(), _DRAW] if figures else []
    drawn = [figure for one in figures for figure in (*one.light.data, *one.dark.data)]
    # Plotly's WebGL layer writes its shaders' callers as it goes; only the two scripts above could ask for that.
    allowed = " ".join(["'unsafe-eval'"] * any(trace.type == "scattergl" for trace in drawn))
    sources = " ".join([*(f"'sha256-{_digest(script)}'" for script in scripts), allowed]).strip() or "'none'"
    policy = (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    noscript = tag("noscript", tag("p", "The figures need JavaScript; what they show stands below each as text."))
    return "".join([
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">",
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">',
        tag("title", title), f"<style>{_STYLE}</style></head>\n<body><main>", noscript if figures else "", *body,
        "</main>\n", *(figure.data() for figure in figures), *(f"<script>{script}</script>" for script in scripts),
        "</body></html>\n",
    ])  # fmt: skip


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


_DRAW = """
const dark = matchMedia("(prefers-color-scheme: dark)");
function draw(theme) {
  for (const box of document.querySelectorAll("[data-figure]")) {
    const spec = JSON.parse(document.getElementById(box.dataset.figure + "-" + theme).textContent);
    Plotly.react(box, spec.data, spec.layout, {responsive: true, displaylogo: false, showSendToCloud: false});
  }
}
const seen = () => draw(dark.matches ? "dark" : "light");
dark.addEventListener("change", seen);
addEventListener("beforeprint", () => draw("light"));
addEventListener("afterprint", seen);
seen();
"""

_STYLE = """
:root { color-scheme: light dark; --ink: #31333f; --page: #ffffff; --faint: #5c6068; --line: #d5d8de; --tint: #f4f6f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ec; --page: #14171c; --faint: #a4aab4; --line: #3c414c; --tint: #1d2128; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 40px 0 8px; padding-top: 12px; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 20px 0 6px; }
p { margin: 6px 0; } .faint, figcaption, caption { color: var(--faint); }
code, pre { font-family: ui-monospace, monospace; font-size: 0.88em; overflow-wrap: anywhere; }
pre { background: var(--tint); padding: 10px 12px; border-radius: 6px; white-space: pre-wrap; }
figure { margin: 12px 0; } figcaption { font-size: 0.9rem; }
.metrics { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.metrics div { border: 1px solid var(--line); border-radius: 6px; padding: 8px 14px; min-width: 120px; }
.metrics b { display: block; font-size: 1.3rem; font-weight: 600; }
.wide { overflow-x: auto; margin: 8px 0; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
caption { text-align: left; padding: 4px 0; }
th, td { text-align: left; vertical-align: top; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); }
td { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 56px; max-width: 420px; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; overflow-wrap: normal; }
dl { display: grid; grid-template-columns: minmax(110px, max-content) 1fr; gap: 2px 16px; margin: 6px 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
ul { margin: 4px 0; padding-left: 20px; }
@media screen and (max-width: 700px) { table { width: max-content; min-width: 100%; } td { max-width: 240px; } }
@media print {
  :root { --ink: #000; --page: #fff; --faint: #444; --line: #bbb; --tint: #f4f4f4; }
  body { font-size: 11pt; } main { max-width: none; padding: 0; }
  figure, tr, .metrics div, pre { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .modebar { display: none; } .wide { overflow: visible; }
}
"""
