"""The dataset card's pictures: a contact sheet of samples from all over the build, and histograms of its scores."""

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from ..toolkit.images import encode_png
from ..toolkit.layers import Layers
from ..toolkit.pictures import contact_sheet
from ..toolkit.shards import decode_layers, read_samples
from .ledger import BuildFolder, Commit, write_atomically

SAMPLES = 16
SIDE = 192
"""Samples on the contact sheet, and the side of each of their pictures, px."""

_PANELS = {
    "area": "visible object, share of the picture",
    "saliency_contrast": "saliency inside the object over inside + outside",
    "saliency_iou": "IoU of salient mask and object mask",
    "haze": "half-transparent share of the object",
    "sharpness": "variance of the Laplacian",
}
_COLOURS = {"kept": "#2a6f97", "rejected": "#e07a5f"}


def write_pictures(folder: BuildFolder, shards: Sequence[Commit], statistics: Mapping[str, Any]) -> None:
    """Write ``card/contact_sheet.png`` and ``card/histograms.png``."""
    card = folder.root / "card"
    card.mkdir(exist_ok=True)
    sheet = contact_sheet(_chosen(folder, spread(shards, SAMPLES)), SIDE)
    write_atomically(card / "contact_sheet.png", encode_png(sheet))
    write_atomically(card / "histograms.png", histograms(statistics))


def spread(shards: Sequence[Commit], number: int) -> dict[str, list[int]]:
    """Tar to indices of about ``number`` samples that lie evenly over every mix and its shards, one a mix at least."""
    mixes: dict[str, list[Commit]] = defaultdict(list)
    for shard in shards:
        mixes[shard.mix] += [shard] if shard.kept else []
    total = sum(shard.kept for shard in shards)
    chosen: dict[str, list[int]] = defaultdict(list)
    for members in filter(None, mixes.values()):
        kept = sum(shard.kept for shard in members)
        share = min(kept, max(1, round(number * kept / total)))
        for k in range(share):
            tar, index = _locate(members, (2 * k + 1) * kept // (2 * share))
            chosen[tar].append(index)
    return dict(chosen)


def _locate(shards: Sequence[Commit], position: int) -> tuple[str, int]:
    """Tar and index in it of the sample at ``position`` of all samples of ``shards``."""
    for shard in shards:
        if position < shard.kept:
            return shard.tar, position
        position -= shard.kept
    raise IndexError(position)


def _chosen(folder: BuildFolder, chosen: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Layers]]:
    """Key and layers of the chosen samples; the others are passed over without being decoded."""
    for tar, indices in chosen.items():
        with folder.tar(tar) as path:
            for k, (key, sample) in enumerate(islice(read_samples(path), max(indices) + 1)):
                if k in indices:
                    yield key, decode_layers(sample, key)


def histograms(statistics: Mapping[str, Any]) -> bytes:
    """The scores of kept and refused candidates, the shadows, and what was dropped why, as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = iter(figure.subplots(2, 4).flat)
    for (name, title), axes in zip(_PANELS.items(), panels, strict=False):
        _draw_scores(axes, statistics["scores"][name], title, log=name == "sharpness")
    _draw_shadows(next(panels), statistics["shadow_strength"])
    funnel = statistics["funnel"]
    _draw_counts(next(panels), {"kept": funnel["kept"], **funnel["dropped"]}, "candidates")
    sources_kept = {"kept": sum(funnel["sources_kept"].values())}
    _draw_counts(next(panels), {**sources_kept, **funnel["sources_dropped"]}, "pictures and objects of the sources")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _draw_scores(axes: Any, score: Mapping[str, Any], title: str, *, log: bool) -> None:
    edges = score["edges"]
    both = {name: _inside(score[name]) for name in _COLOURS}
    values = [edges[:-1]] * len(both)
    axes.hist(values, edges, weights=[*both.values()], stacked=True, color=[*_COLOURS.values()], label=[*both])
    axes.set_title(title, fontsize=10)
    axes.set_xscale("log" if log else "linear")
    used = [k for k in range(len(edges) - 1) if any(counts[k] for counts in both.values())]
    if used:
        axes.set_xlim(edges[max(0, used[0] - 1)], edges[min(len(edges) - 1, used[-1] + 2)])
    axes.legend(fontsize=8, frameon=False)


def _inside(counts: Sequence[int]) -> list[int]:
    """Counts per bin, what lies beyond the edges added to the first and last."""
    inside = list(counts[1:-1])
    inside[0] += counts[0]
    inside[-1] += counts[-1]
    return inside


def _draw_shadows(axes: Any, shadows: Mapping[str, Any]) -> None:
    edges = shadows["edges"]
    axes.hist(edges[:-1], edges, weights=_inside(shadows["kept"]), color="#5c5470")
    axes.set_title(f"shadow strength drawn ({shadows['without']} without)", fontsize=10)


def _draw_counts(axes: Any, counts: Mapping[str, int], title: str) -> None:
    colours = [_COLOURS["kept"] if name == "kept" else _COLOURS["rejected"] for name in counts]
    bars = axes.barh(list(counts), list(counts.values()), color=colours)
    axes.bar_label(bars, fontsize=8, padding=2)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_title(title, fontsize=10)
