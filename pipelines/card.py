"""The dataset card: ``README.md`` with the front matter that Hugging Face reads, and what a person wants to know."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..manifests import sources
from ..manifests.licences import strictest
from .features import member_names
from .front_matter import Statistics, front_matter
from .ledger import BuildFolder, write_atomically
from .recipe import Mix, Recipe

_SHOWN = 50
"""Authors that the card names; the rest stand in the manifest."""


def write_card(folder: BuildFolder, recipe: Recipe, statistics: Statistics) -> None:
    """Write ``README.md``."""
    write_atomically(folder.root / "README.md", render(recipe, statistics).encode())


def render(recipe: Recipe, statistics: Statistics) -> str:
    """The card's text.

    Args:
        recipe: that was built.
        statistics: what ``manifests/stats.json`` holds.
    """
    sections = (
        _about(recipe, statistics),
        _mixes(recipe, statistics),
        _funnel(statistics),
        _splits(recipe, statistics),
        _licences(statistics),
        _models(statistics),
        _shadows(recipe.mix),
        _READING,
        _rebuilding(recipe, statistics),
        _limits(recipe, statistics),
    )
    return front_matter(recipe, statistics) + "\n" + "\n".join(sections)


def _about(recipe: Recipe, statistics: Statistics) -> str:
    funnel = statistics["funnel"]
    size = f"{recipe.size} x {recipe.size} px, {funnel['bytes'] / 1e6:,.1f} MB"
    return f"""\
# {recipe.name}

{funnel["kept"]:,} triplets for image layer decomposition, {size} in {funnel["shards"]:,} shards, built by
[layerkit](https://pypi.org/project/layerkit/).

{_table(("member", "what it is"), _member_rows(recipe))}
The written layers recompose to the image: `over(occluder, over(foreground, background)) = image`, {_exactness(recipe)}.
All alpha is straight; colour is zero where alpha is zero. Every sample has all members.

![samples](card/contact_sheet.png)

![scores](card/histograms.png)
"""


def _member_rows(recipe: Recipe) -> list[tuple[str, str]]:
    what = (
        "RGB, the composite",
        "RGBA, the whole object with its shadow and soft edges, also where others hide it",
        "RGB, the scene behind it, with every other object that lies behind",
        "one channel, 255 where the object alone is visible",
        "one channel, how much the object's shadow takes from the background; 0 is none",
        "RGBA, what of other objects lies in front; clear where nothing does",
        "the record: origin and licence of every layer, models, scores, every random choice",
    )
    return [(f"`{name}`", text) for name, text in zip((*member_names(recipe.members), "json"), what, strict=True)]


def _exactness(recipe: Recipe) -> str:
    bound = recipe.members.recomposition_bound
    return f"within {bound} levels, for the image is JPEG" if bound else "bit for bit"


def _mixes(recipe: Recipe, statistics: Statistics) -> str:
    rows = []
    for mix in recipe.mix:
        made = statistics["mixes"].get(mix.name, {})
        drawn_from = ", ".join(f"{use}: {source}" for use, source in mix.pools.items())
        rows.append((mix.name, mix.route, drawn_from, made.get("kept", 0), made.get("candidates", 0)))
    return f"""\
## Mixes

{_table(("mix", "route", "sources", "kept", "candidates"), rows)}
`paste` puts cut-out objects with a synthetic shadow on a background; `cut` takes a photograph apart and inpaints what
was behind the object.
"""


def _funnel(statistics: Statistics) -> str:
    funnel = statistics["funnel"]
    usable = _table(("pool", "usable"), funnel["sources_kept"].items())
    candidates = [("kept", funnel["kept"]), *(_by_count(funnel["dropped"]))]
    return f"""\
## What was refused

Of the sources, before any triplet was made:

{usable}
{_reasons(_by_count(funnel["sources_dropped"]), "Nothing was refused.")}
Of {funnel["candidates"]:,} candidates for {funnel["wanted"]:,} places:

{_reasons(candidates, "")}
`manifests/rejects.parquet` has every refusal with its reason, the value, the limit that it broke, and all scores.
"""


def _splits(recipe: Recipe, statistics: Statistics) -> str:
    rows = [(split, made["kept"], made["shards"]) for split, made in statistics["splits"].items()]
    checked = [
        (
            one["name"],
            one["files"],
            *(statistics["leaks"].get(one["name"], {}).get(how, 0) for how in ("exact", "near")),
        )
        for one in statistics["excluded"]
    ]
    text = f"## Splits and leaks\n\n{_table(('split', 'samples', 'shards'), rows)}\n"
    if len(rows) > 1:
        text += "No photograph, cut-out or near-duplicate of one is in two splits.\n"
    if checked:
        head = ("benchmark", "files", "refused here as exact copies", "as near-duplicates")
        text += "\nNothing that a benchmark holds was used, by sha256 and by perceptual hash:\n\n"
        return text + _table(head, checked)
    return f"{text}\nNo benchmark was checked against (`--exclude NAME=DIR` does).\n"


def _reasons(counts: Sequence[tuple[str, int]], otherwise: str) -> str:
    return _table(("outcome", "number"), counts) if counts else otherwise + "\n"


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _licences(statistics: Statistics) -> str:
    strict = strictest(statistics["licences"].get("sample", {}))
    rows = [(layer, licence, n) for layer, found in statistics["licences"].items() for licence, n in found.items()]
    everyone = statistics["attributions"]
    authors = [
        (who["dataset"], who["author"] or "not stated", who["licence"], who["url"], who["layers"])
        for who in everyone[:_SHOWN]
    ]
    further = len(everyone) - len(authors)
    more = f" {further} more authors are named in `manifests/stats.json`." if further else ""
    return f"""\
## Licences and authors

A sample's licence is the strictest of its layers'; this build's is **{strict}**. An unknown licence grants nothing.

{_table(("layer", "licence", "samples or layers"), rows)}
`load_dataset(…, name="open")` and so on for the other classes picks the tars that hold nothing stricter.

{_table(("source", "author", "licence", "for example", "layers"), authors)}
Column `layers` of `manifests/samples.parquet` names author, licence, address and sha256 of every layer.{more}
"""


def _models(statistics: Statistics) -> str:
    rows = [(role, name, n) for role, found in statistics["models"].items() for name, n in found.items() if name]
    return "## Models and algorithms\n\n" + _table(("for", "name@version", "samples"), rows)


def _shadows(mixes: Iterable[Mix]) -> str:
    pasted = [mix for mix in mixes if mix.route == "paste"]
    if not pasted:
        return "## Shadows\n\nNone is synthesised: shadows are part of the photographs and stay in the background.\n"
    names = list(asdict(pasted[0].shadow))
    rows = [(name, *(_plain(asdict(mix.shadow)[name]) for mix in pasted)) for name in names]
    return f"""\
## Shadows

Route `paste` draws one light a scene. A standing object is a curtain on its contact line whose silhouette is thrown on
level ground; the penumbra grows with the distance from the contact. An object seen from above is a thin slab. The
shadow multiplies the background by 1 - s, s at most 0.85.

{_table(("option", *(mix.name for mix in pasted)), rows)}"""


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


_READING = """\
## Reading

Each of these keeps the alpha of `foreground.png` and `occluder.png`; run them in this folder.

```python
from glob import glob

import webdataset
from layerkit.toolkit.shards import decode_layers

for layers in webdataset.WebDataset(sorted(glob("data/*.tar")), shardshuffle=False).map(decode_layers):
    layers.image, layers.foreground, layers.background  # uint8 (H, W, 3), (H, W, 4), (H, W, 3)
```

```python
import os

from datasets import load_dataset

rows = load_dataset(os.getcwd(), split="train")  # a path with a name, so not "."; the repository's, once on the Hub
rows[0]["foreground.png"].mode, rows[0]["json"]["scores"]["area"]  # 'RGBA', a share
```

```python
from wids import ShardListDataset  # random access; webdataset 1.0 no longer ships it: pip install wids

rows = ShardListDataset("index.json", localname=str)  # read in place: its cache goes by name and may be stale
rows[0][".foreground.png"].mode  # 'RGBA'
```

webdataset's own `.decode("pil")` drops alpha: take `decode_layers`. `croissant.json` describes the same files for
mlcroissant.
"""


def _rebuilding(recipe: Recipe, statistics: Statistics) -> str:
    outside = sorted({name for mix in recipe.mix for name in mix.pools.values() if sources.find(name).needs_root})
    roots = "".join(f" --root {name}=DIR" for name in outside)
    return f"""\
## Rebuilding

Every random choice is drawn from a hash of the recipe's fingerprint, the place in the plan and the attempt (seed
{recipe.seed}), so neither the number of workers nor an interruption changes a byte:

    layerkit build-triplets manifests/recipe.lock.toml --out DIR{roots}

`manifests/recipe.lock.toml` holds the whole recipe, the versions of the libraries that decide the bytes, and a digest
of what every source gave. Fingerprint: `{statistics["fingerprint"]}`.
"""


def _limits(recipe: Recipe, statistics: Statistics) -> str:
    usable = "; ".join(f"{pool}: {number:,}" for pool, number in statistics["funnel"]["sources_kept"].items())
    missing = statistics["funnel"]["wanted"] - statistics["funnel"]["kept"]
    routes = {mix.route for mix in recipe.mix}
    limits = [
        f"The variety is that of the sources, whatever the count ({usable}).",
    ]
    if len(recipe.splits.shares()) == 1:
        limits.append("All samples are `train`; they share foregrounds and backgrounds, so a random split leaks.")
    if "paste" in routes:
        limits.append(
            "Pasted objects know nothing of the scene: no perspective, no matching light or colour, no reflections; "
            "shadows fall on level ground."
        )
    if "cut" in routes:
        limits.append("Backgrounds of `cut` are inpainted where the object was: plausible at best, never observed.")
    if "generate" in routes:
        limits.append("Pictures of `generate` were drawn by a model, both layers of them; no camera saw any of it.")
    if missing:
        limits.append(f"{missing:,} places stayed empty, for no candidate passed the filters.")
    return "## Known limits\n\n" + "".join(f"- {limit}\n" for limit in limits)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
