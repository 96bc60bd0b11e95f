"""Self-contained HTML pages: no file beside them, no network, light and dark.

Functions here return HTML fragments; `page` joins them.
"""

import base64
import html
import mimetypes
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from .pictures import png_bytes
from .run_folder import write_text

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2024;--soft:#60646c;--line:#e0e1e6;--page:#fcfcfd;
--card:#fff;--accent:#0b68cb}
@media(prefers-color-scheme:dark){:root{--ink:#edeef0;--soft:#b0b4ba;--line:#33363b;--page:#111113;
--card:#18191b;--accent:#70b8ff}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:40px 24px 80px}
h1{font-size:28px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:19px;margin:44px 0 10px;letter-spacing:-.005em}
p{margin:0 0 12px;max-width:74ch}.soft{color:var(--soft)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(148px,1fr));gap:12px;
margin:26px 0 8px}
.fact{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 16px}
.fact b{display:block;font-size:23px;font-weight:620;font-variant-numeric:tabular-nums}
.fact span{color:var(--soft);font-size:13.5px}
figure{margin:0 0 18px}figcaption{color:var(--soft);font-size:13.5px;margin-top:6px}
img,video,svg{max-width:100%;height:auto;border-radius:6px}
figure.wide img{width:100%}video,figure.movie img{width:min(100%,460px)}
.plot{background:#fff;border:1px solid var(--line);border-radius:10px;padding:8px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(430px,1fr));gap:16px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;
font-size:15px}th,td{padding:6px 18px 6px 0;text-align:right;border-bottom:1px solid var(--line);
white-space:nowrap}th:first-child,td:first-child{text-align:left}th{color:var(--soft);
font-weight:500;font-size:13.5px}td.best{font-weight:650;color:var(--accent)}
details{margin-top:12px}summary{cursor:pointer;color:var(--soft)}
pre{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:12px 16px;font-size:13px}
"""


def page(title: str, subtitle: str, parts: Iterable[str]) -> str:
    """Joins fragments to a page."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f'<h1>{html.escape(title)}</h1><p class="soft">{html.escape(subtitle)}</p>'
        + "\n".join(parts)
        + "</main></body></html>\n"
    )


def write(path: Path, content: str) -> None:
    """Writes a page in one step."""
    write_text(path, content)


def heading(text: str) -> str:
    """Begins a section."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str, *, is_soft: bool = False) -> str:
    """A paragraph of plain text."""
    kind = ' class="soft"' if is_soft else ""
    return f"<p{kind}>{html.escape(text)}</p>"


def facts(values: Iterable[tuple[str, str]]) -> str:
    """A row of numbers with their names."""
    cells = (
        f'<div class="fact"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'
        for name, value in values
    )
    return f'<div class="facts">{"".join(cells)}</div>'


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, best: Iterable[tuple[int, int]] = ()
) -> str:
    """A table; `best` lists (row, column) of cells to stress."""
    stressed = set(best)
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = ""
    for number, row in enumerate(rows):
        cells = "".join(
            f"<td{' class=best' if (number, column) in stressed else ''}>{html.escape(cell)}</td>"
            for column, cell in enumerate(row)
        )
        body += f"<tr>{cells}</tr>"
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def picture(image: UInt8[np.ndarray, "rows cols 3"], caption: str) -> str:
    """A picture inside the page."""
    data = base64.b64encode(png_bytes(image)).decode()
    return (
        '<figure class="wide">'
        f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def movie(path: Path, caption: str) -> str:
    """A video or GIF inside the page."""
    kind = mimetypes.guess_type(path.name)[0] or "video/mp4"
    source = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    if kind.startswith("image/"):
        tag = f'<img alt="{html.escape(caption)}" src="{source}">'
    else:
        tag = f'<video src="{source}" autoplay loop muted playsinline controls></video>'
    return f"<figure class=movie>{tag}<figcaption>{html.escape(caption)}</figcaption></figure>"


def plots(drawings: Iterable[str]) -> str:
    """SVG drawings side by side."""
    return (
        '<div class="plots">'
        + "".join(f'<div class="plot">{svg}</div>' for svg in drawings)
        + "</div>"
    )


def links(targets: Iterable[tuple[str, str]]) -> str:
    """A list of links: their texts and where they go, relative to the page."""
    items = (
        f'<li><a href="{html.escape(target)}">{html.escape(text)}</a></li>'
        for text, target in targets
    )
    return f"<ul>{''.join(items)}</ul>"


def details(title: str, text: str) -> str:
    """Text that unfolds on a click."""
    return (
        f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"
    )
