"""Great Expectations' Data Docs, made to work without a network.

Its pages fetch styles, scripts and a logo from six hosts, and its index is drawn by those scripts,
so offline it is blank. Here the pages lose what is remote, gain a small style of their own, and the
index becomes a plain page that also tells the verdict.
"""

from __future__ import annotations

import re
import shutil
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tudsr.data.expectations import Validation

_REMOTE = re.compile(
    r"<script\b[^>]*\bsrc=\"https?:[^>]*>\s*</script>"
    r"|<link\b[^>]*\bhref=\"(?:https?:|[./]*static/)[^>]*>"
    r"|<img\b[^>]*\bsrc=\"https?:[^>]*>"
    r"|<footer\b.*?</footer>"
    r"|background:\s*url\('https?:[^;]*;",
    re.DOTALL,
)

_STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid #ccc; padding: .3rem .6rem; text-align: left;
  vertical-align: top; }
.alert { background: #eee; padding: .5rem 1rem; }
.btn-group { display: none; }
</style>
"""


def make_offline(docs: Path, validation: Validation) -> None:
    """Strip everything remote from the pages in ``docs`` and write their index anew."""
    for page in docs.rglob("*.html"):
        text = _REMOTE.sub("", page.read_text(encoding="utf-8"))
        page.write_text(text.replace("</head>", f"{_STYLE}</head>", 1), encoding="utf-8")
    shutil.rmtree(docs / "static", ignore_errors=True)
    (docs / "index.html").write_text(_index(docs, validation), encoding="utf-8")


def _index(docs: Path, validation: Validation) -> str:
    pages = sorted(page for page in docs.rglob("*.html") if page.name != "index.html")
    links = [page.relative_to(docs).as_posix() for page in pages]
    counts = "".join(f"<tr><td>{s}<td>{n}" for s, n in validation.counts.items())
    reasons = "".join(
        f"<tr><td>{escape(file)}<td>{escape('; '.join(why))}"
        for file, why in validation.set_aside.items()
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="UTF-8">'
        f"<title>Photographs: validation</title>{_STYLE}</head><body>"
        f"<h1>Photographs: {'enough' if validation.success else 'too few'}</h1>"
        f"<h2>Usable</h2><table><tr><th>split<th>photographs{counts}</table>"
        f"<h2>Set aside</h2><table><tr><th>photograph<th>reasons{reasons or '<tr><td>none<td>'}"
        "</table><h2>Great Expectations</h2><ul>"
        + "".join(f'<li><a href="{escape(link)}">{escape(link)}</a>' for link in links)
        + "</ul></body></html>\n"
    )
