"""A page that needs nothing but itself: style, table sorting and the pieces of HTML, every text escaped.

The page may run the one script that it is given and load pictures that lie inside it; its own content security
policy refuses everything else. Without the script the tables are plain tables.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape

STYLE = """
:root{color-scheme:light dark;--page:#fff;--raised:#f5f7f9;--text:#1a1d21;--muted:#59626d;--line:#d8dde3;
--accent:#1d4ed8;--s0:#2563eb;--s1:#c2410c;--s2:#047857;--s3:#7e22ce;--s4:#a16207;--s5:#0e7490;--s6:#be185d;--s7:#4d7c0f}
@media (prefers-color-scheme:dark){:root{--page:#14171a;--raised:#1d2126;
--text:#e6e9ec;--muted:#9ba5b0;--line:#353c44;--accent:#8ab4ff;--s0:#7aa7ff;--s1:#ff9b66;--s2:#4fd1a1;--s3:#c79bff;--s4:#e3b341;
--s5:#56c7de;--s6:#ff8cc0;--s7:#a8d66b}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem clamp(.75rem,2.5vw,2.5rem) 4rem;max-width:90rem;background:var(--page);
color:var(--text);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.35rem;margin:3rem 0 .25rem;padding-top:1rem;border-top:2px solid var(--line)}
h3{font-size:1.05rem;margin:2rem 0 .5rem}
h4{font-size:1rem;margin:1.25rem 0 .5rem}
p{max-width:46rem;margin:.5rem 0}a{color:var(--accent)}
.muted,small{color:var(--muted);font-size:.8125rem}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;margin:.75rem 0;padding:0}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,17rem),1fr));gap:.5rem 1.5rem;margin:1rem 0;
padding:1rem;background:var(--raised);border-radius:8px}
dt{color:var(--muted);font-size:.8125rem}dd{margin:0;font-size:.9375rem}
.wide{grid-column:1/-1}
.box{overflow-x:auto;border:1px solid var(--line);border-radius:8px;max-width:max-content;width:100%}
.box:focus-visible,button:focus-visible,summary:focus-visible{outline:2px solid var(--accent);outline-offset:1px}
table{border-collapse:separate;border-spacing:0;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .75rem;text-align:right;vertical-align:top;white-space:nowrap}
tbody>tr>*{border-top:1px solid var(--line)}
th{font-weight:600}thead th{background:var(--raised);vertical-align:bottom}
td small,th small{display:block;font-weight:400;font-size:.75rem;white-space:nowrap}
th:first-child{text-align:left;position:sticky;left:0;background:var(--page);min-width:8.5rem;max-width:15rem;white-space:normal}
thead th:first-child{background:var(--raised)}
th:first-child small{white-space:normal}
.published td,.published th{background:var(--raised);font-style:italic;font-weight:400}
.texts td,.texts th{text-align:left;white-space:normal;position:static;max-width:none;min-width:7rem}
.texts td:last-child{min-width:16rem}
thead button{all:unset;cursor:pointer;display:block;width:100%}
thead button:hover{text-decoration:underline}
th[aria-sort] button{color:var(--accent)}
th[aria-sort=ascending] button::before{content:"▲ "}th[aria-sort=descending] button::before{content:"▼ "}
.plots{display:flex;flex-wrap:wrap;gap:1rem;margin:1rem 0}
.plots figure{flex:1 1 19rem;max-width:29rem;margin:0;padding:.75rem;border:1px solid var(--line);border-radius:8px}
.plots svg{display:block;width:100%;height:auto}
details{margin:.75rem 0}summary{cursor:pointer;padding:.25rem 0;font-weight:600}
.strip{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(45%,8.5rem),11.5rem));
gap:.5rem;margin:.25rem 0 1rem}
.strip figure{margin:0}.strip img{display:block;width:100%;height:auto;border-radius:4px;background:var(--raised)}
.strip figcaption{font-size:.75rem;color:var(--muted);line-height:1.3;margin-top:.2rem}
@media print{.box{overflow:visible;border:0}details:not([open])>*{display:block}}
"""

SCRIPT = """
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, k) => row.cells[k].dataset.value ?? row.cells[k].textContent;
  const compare = (a, b, k) => heads[k].dataset.first
    ? Number(value(a, k)) - Number(value(b, k))
    : value(a, k).localeCompare(value(b, k), 'en', {numeric: true});
  heads.forEach((head, k) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const first = head.dataset.first || 'ascending';
      const other = first === 'ascending' ? 'descending' : 'ascending';
      const order = head.getAttribute('aria-sort') === first ? other : first;
      heads.forEach(one => one.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', order);
      const sign = order === 'ascending' ? 1 : -1, rows = [...body.rows];
      const known = rows.filter(row => value(row, k) !== '');
      known.sort((a, b) => sign * compare(a, b, k));
      body.append(...known, ...rows.filter(row => value(row, k) === ''));
    });
  });
}
"""


def page(title: str, body: Iterable[str], script: str = SCRIPT) -> str:
    """A whole page around pieces of HTML, with the one script that it may run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + f"\n<script>{script}</script>\n</body>\n</html>\n"
    )


def data_table(label: str, head: Sequence[str], bodies: Iterable[str], *, kind: str = "sortable") -> str:
    """A table in a box that scrolls by itself, also by the keyboard.

    Args:
        label: what it is, for those who do not see it.
        head: cells of its head, as HTML.
        bodies: bodies of it, as HTML; the first is what sorting moves.
        kind: class of the table.
    """
    return (
        f'<div class="box" role="region" tabindex="0" aria-label="{escape(label)}"><table class="{kind}">'
        f"<thead><tr>{''.join(head)}</tr></thead>{''.join(bodies)}</table></div>"
    )


def text_table(label: str, rows: Sequence[Mapping[str, object]], keys: Sequence[str], most: int = 200) -> str:
    """A table of texts, cut after ``most`` rows, which it then says."""
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(row[key]))}</td>" for key in keys) + "</tr>" for row in rows[:most]
    )
    more = f"<p class=muted>{len(rows) - most} more are in report.json.</p>" if len(rows) > most else ""
    heads = [f'<th scope="col">{escape(key.capitalize())}</th>' for key in keys]
    return data_table(label, heads, [f"<tbody>{body}</tbody>"], kind="sortable texts") + more


def folded(title: str, inside: str, *, is_open: bool = False) -> str:
    """A part that can be folded away; ``inside`` is HTML."""
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>{inside}</details>"


def picture(jpeg: bytes, size: tuple[int, int], caption: str, about: str) -> str:
    """A JPEG of some width and height inside the page."""
    data = base64.b64encode(jpeg).decode()
    shape = f'width="{size[0]}" height="{size[1]}"'
    return (
        f'<figure><img {shape} alt="{escape(about)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
