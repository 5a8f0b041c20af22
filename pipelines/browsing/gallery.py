"""An exhibit as one page of HTML that needs nothing else: small pictures, every value, search and sorting."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from ...manifests.errors import BadImage, UsageError
from ...toolkit.files import write_atomically
from ...toolkit.images import encode_jpeg, read
from ...toolkit.page import folded, page, picture, text_table
from .exhibit import TOGETHER, Exhibit, Shown, Tell, Value
from .media import thumbnail

SIDE = 184
"""Side of a square with as many pixels as a picture has, px."""

_QUALITY = 80

SCRIPT = """
const samples = [...document.querySelectorAll('article')];
const values = new Map(samples.map(one => [one, JSON.parse(one.dataset.values)]));
const find = document.getElementById('find'), order = document.getElementById('order');
const count = document.getElementById('count'), list = document.getElementById('samples');
function arrange() {
  const words = find.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  for (const one of samples) {
    const text = one.textContent.toLowerCase();
    one.hidden = !words.every(word => text.includes(word));
    shown += !one.hidden;
  }
  count.textContent = `${shown} of ${samples.length}`;
  const [name, sign] = [order.value.slice(1), order.value[0] === '-' ? -1 : 1];
  const value = one => name in values.get(one) ? values.get(one)[name] : null;
  const known = name ? samples.filter(one => value(one) !== null) : samples;
  const sorted = name ? [...known].sort((a, b) => sign * (value(a) - value(b))) : known;
  list.append(...sorted, ...samples.filter(one => !known.includes(one)));
}
find.addEventListener('input', arrange);
order.addEventListener('input', arrange);
document.getElementById('controls').hidden = false;
arrange();
"""


def write_gallery(exhibit: Exhibit, path: Path, tell: Tell, *, overwrite: bool = False) -> None:
    """Write the page.

    Args:
        exhibit: what it shows.
        path: of the page.
        tell: called as samples are done.
        overwrite: replace a file that is there.

    Raises:
        UsageError: the file is there, or cannot be written.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"--html: {path} is there; add --overwrite to replace it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page(exhibit.name, _body(exhibit, tell), SCRIPT).encode())
    except OSError as error:
        raise UsageError(f"--html: cannot write {path}: {error.strerror}; give another file") from error


def _body(exhibit: Exhibit, tell: Tell) -> Iterator[str]:
    articles, numbers = [], set[str]()
    tell(exhibit.kind, 0, exhibit.total)
    for done, shown in enumerate(exhibit.samples(), 1):
        values = _flat(shown)
        numbers |= {name for name, value in values.items() if isinstance(value, int | float)}
        articles.append(_article(shown, values, exhibit.said.get(shown.key, ())))
        tell(exhibit.kind, done, exhibit.total)
    yield f"<header><h1>{escape(exhibit.name)}</h1><p>{len(articles)} samples of the {exhibit.kind}.</p></header>"
    yield _controls(_in_order(exhibit, numbers))
    yield f'<main id="samples">{"".join(articles)}</main>'


def _in_order(exhibit: Exhibit, numbers: set[str]) -> list[str]:
    """The names of numbers, as the groups of fields have them."""
    return [name for names in exhibit.groups.values() for name in names if name in numbers]


def _controls(numbers: Sequence[str]) -> str:
    """Search and sorting; hidden where the page may run no script."""
    options = "".join(
        f'<option value="{sign}{escape(name)}">{escape(name)}, {word} first</option>'
        for name in numbers
        for sign, word in (("+", "lowest"), ("-", "highest"))
    )
    return (
        '<p id="controls" hidden><label>Find <input id="find" type="search"></label> '
        f'<label>Sort by <select id="order"><option value=" ">as they come</option>{options}</select></label> '
        '<output id="count"></output></p>'
    )


def _flat(shown: Shown) -> dict[str, Value]:
    """The values by their whole names, ``telea.psnr_mask``, without those that are not known."""
    flat: dict[str, Value] = {}
    for name, value in shown.values.items():
        flat |= (
            {f"{name}.{inner}": one for inner, one in value.items()} if isinstance(value, Mapping) else {name: value}
        )
    return {name: value for name, value in flat.items() if value is not None}


def _article(shown: Shown, values: Mapping[str, Value], said: Sequence[str]) -> str:
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
    tags = " ".join([*shown.tags, *said])
    title = f"<h4>{escape(shown.key)} <small>{escape(tags)}</small></h4>"
    rows = [{"field": name, "value": _text(value)} for name, value in values.items()]
    table = folded("Values", text_table(f"Values of {shown.key}", rows, ("field", "value")))
    told = escape(json.dumps(numbers), quote=True)
    return f'<article data-values="{told}">{title}<div class="strip">{"".join(_figures(shown))}</div>{table}</article>'


def _text(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value) if isinstance(value, str | int) else ", ".join(value or ())


def _figures(shown: Shown) -> Iterator[str]:
    """Every panel that shows something of its own, and what is laid over the first one, beside it."""
    first = next(iter(shown.panels.values()))
    others = {name: panel for name, panel in shown.panels.items() if panel is first or panel.picture != first.picture}
    files = {name: panel.thumbnail for name, panel in others.items() if name != TOGETHER}
    for name, path in {**files, **{name: overlay.path for name, overlay in first.overlays.items()}}.items():
        try:
            small = thumbnail(read(path), SIDE)
        except BadImage:  # the cache was emptied meanwhile
            continue
        height, width = small.shape[:2]
        yield picture(encode_jpeg(small, _QUALITY), (width, height), name, f"{name} of {shown.key}")
