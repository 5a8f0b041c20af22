"""The door: Typer commands that parse, call one function and print.

Results go to standard output, progress to standard error. Exit status: 0 done; 1 it ran and failed or found faults;
2 wrong usage or unusable input.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .manifests.errors import LayerkitError, UsageError

if TYPE_CHECKING:
    from .pipelines.fetch import FetchReport
    from .pipelines.funnel import Funnel
    from .pipelines.options import Progress
    from .pipelines.pilot import Pilot

app = typer.Typer(
    name="layerkit",
    help="Build data for image layer decomposition, and look after it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_debug = False

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def main() -> None:
    """Run the command line; an error that layerkit raises on purpose is one line, a traceback only with ``--debug``."""
    try:
        app()
    except LayerkitError as error:
        if _debug:
            raise
        print(f"layerkit: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; closing must not fail again
        sys.exit(1)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(version("layerkit"))
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    global _debug
    _debug = debug


@app.command("build-triplets")
def build_triplets(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe (layerkit ls recipes) or a TOML file.")] = "demo",
    out: Annotated[Path | None, typer.Option(help="The build folder; an unfinished build in it is taken up.")] = None,
    root: Annotated[list[str] | None, typer.Option(metavar="NAME=DIR", help="Where a source lies.")] = None,
    count: Annotated[int | None, typer.Option(help="Triplets to keep.")] = None,
    size: Annotated[int | None, typer.Option(help="Height and width, px.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed gives another build.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: the cores of this machine.")] = None,
    shard_size: Annotated[int | None, typer.Option(help="Triplets in a shard.")] = None,
    launcher: Annotated[str, typer.Option(help="local or ray.")] = "local",
    part: Annotated[
        str | None, typer.Option(metavar="I/N", help="Build a slice, from 1/N to N/N; read from a Slurm array too.")
    ] = None,
    allow_licence: Annotated[
        list[str] | None,
        typer.Option(help="A licence or class (open, share-alike, non-commercial, unknown) to let in."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of pre-trained weights, beside the hub cache.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate yield, time and size from a pilot.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete an earlier build in --out first.")] = False,
    as_json: Json = False,
) -> None:
    """Build image, foreground, background triplets into WebDataset shards; run again to go on after an interruption."""
    if out is None and not dry_run:
        raise UsageError("--out: expected the folder to build in, got nothing; add --out DIR")
    from .pipelines.build import build
    from .pipelines.funnel import funnel_of
    from .pipelines.ledger import BuildFolder
    from .pipelines.options import BuildOptions
    from .pipelines.pilot import pilot
    from .pipelines.plan import Part, parse_part, slurm_part
    from .pipelines.recipe import load

    overrides = {"count": count, "size": size, "seed": seed, "shard_size": shard_size, "allow_licence": allow_licence}
    loaded = load(recipe, overrides)
    options = BuildOptions(
        out=out or Path(),
        roots=_roots(root or []),
        workers=_workers(workers),
        launcher=launcher,
        part=parse_part(part) if part else slurm_part(dict(os.environ)) or Part(),
        overwrite=overwrite,
        weights=weights,
    )
    try:
        with _progress() as report:
            result: Any = pilot(loaded, options, report) if dry_run else build(loaded, options, report)
    except KeyboardInterrupt:
        if not dry_run:
            _print_funnel(funnel_of(BuildFolder(options.out), loaded), options.out)
        print("layerkit: interrupted; what was finished is kept, run the same command again to go on", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps(asdict(result), indent=1))
    elif dry_run:
        _print_pilot(result, options.workers)
    else:
        _print_funnel(result, options.out)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A build.")],
    sample: Annotated[int | None, typer.Option(min=1, help="Look at this many samples only.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: the cores of this machine.")] = None,
    as_json: Json = False,
) -> None:
    """Check a build: hashes, members, keys, records, and the invariants of every triplet; exit 1 names every fault."""
    from .pipelines.options import Progress
    from .pipelines.verify import verify as check

    with _progress() as report:
        faults = check(
            folder,
            sample=sample,
            workers=_workers(workers),
            report=lambda done, total: report(Progress(stage="verify", done=done, total=total, kept=done)),
        )
    if as_json:
        print(json.dumps({"folder": str(folder), "faults": [asdict(fault) for fault in faults]}, indent=1))
    else:
        print("\n".join(str(fault) for fault in faults) or f"{folder}: sound")
    if faults:
        raise typer.Exit(1)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="openimages, mulan, rorem, rord, desobav2, places2 or misato.")],
    to: Annotated[Path | None, typer.Option(help="The folder to download into; run again to go on.")] = None,
    split: Annotated[str, typer.Option(help="Of Open Images: train, validation or test.")] = "validation",
    classes: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Of Open Images: pictures with a box of this class.")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Of Open Images: this many pictures; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Download a data set, resumed and checked; for a gated one, print the steps."""
    if to is None:
        raise UsageError("--to: expected the folder to download into, got nothing; add --to DIR")
    from .pipelines.fetch import fetch as download

    try:
        with _progress() as report:
            result = download(name, to, split=split, classes=classes or (), count=count, report=report)
    except KeyboardInterrupt:
        print("layerkit: interrupted; what came is kept, run the same command again to go on", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps(asdict(result), indent=1))
    else:
        _print_fetch(result)
    if result.failed:
        raise typer.Exit(1)


@app.command("ls")
def list_table(
    table: Annotated[str, typer.Argument(help="recipes, sources or weights.")], as_json: Json = False
) -> None:
    """List what there is."""
    from .manifests.listing import TABLES

    if table not in TABLES:
        raise UsageError(f"ls: expected one of {', '.join(TABLES)}, got {table!r}")
    rows = TABLES[table]()
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        _print_table(rows)


def _print_table(rows: list[dict[str, str]]) -> None:
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for row in [{key: key for key in rows[0]}, *rows]:
        print("  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip())


def _roots(pairs: list[str]) -> dict[str, Path]:
    from .manifests.sources import find

    roots = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not equals or not folder:
            raise UsageError(f"--root: expected NAME=DIR such as photos=/data/photos, got {pair!r}")
        find(name)
        roots[name] = Path(folder)
    return roots


def _workers(given: int | None) -> int:
    if given is not None and given < 1:
        raise UsageError(f"--workers: expected 1 or more, got {given}")
    return given or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else given or os.cpu_count() or 1


@contextmanager
def _progress() -> Iterator[Callable[["Progress"], None]]:
    """A progress bar on standard error, one line per stage."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def report(progress: "Progress") -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total or None, rate="")
            task = bar.tasks[tasks[progress.stage]]
            bar.update(task.id, completed=progress.done, rate=f"{task.speed:.1f}/s" if task.speed else "")

        yield report


def _print_funnel(funnel: "Funnel", out: Path) -> None:
    print(f"sources   {_counts(funnel.sources_kept)}")
    if funnel.sources_dropped:
        print(f"  dropped {_counts(funnel.sources_dropped)}")
    print(f"triplets  {funnel.candidates} candidates, {funnel.kept} kept of {funnel.wanted} wanted")
    if funnel.dropped:
        print(f"  dropped {_counts(funnel.dropped)}")
    print(f"shards    {funnel.shards} in {out / 'data'}, {funnel.bytes / 1e6:.1f} MB")
    if funnel.seconds:
        print(f"time      {funnel.seconds:.1f} s of building this time, {funnel.built / funnel.seconds:.1f} triplets/s")
    if funnel.shards_missing:
        print(f"missing   {funnel.shards_missing} shards; the run that ends last writes card and manifests")
    else:
        print(f"card      {out / 'README.md'}\npictures  {out / 'card' / 'contact_sheet.png'}")


def _counts(table: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in table.items()) or "none"


def _print_fetch(result: "FetchReport") -> None:
    print(f"licence   {result.licence}")
    if result.fetched or result.present:
        print(
            f"files     {result.fetched} came ({result.bytes / 1e6:.1f} MB), {result.present} were there: {result.to}"
        )
    for row in result.missing:
        print(f"missing   {row.file}: {row.reason}, {row.detail}")
    for number, step in enumerate(result.steps, 1):
        print(f"step {number:<4} {step}")


def _print_pilot(estimate: "Pilot", workers: int) -> None:
    for mix in estimate.mixes:
        print(
            f"{mix.mix}: {mix.triplets} triplets, {mix.acceptance:.0%} of candidates pass, "
            f"{mix.seconds / 60:.1f} core minutes, {mix.gigabytes:.2f} GB (from {mix.samples} samples)"
        )
    print(
        f"together: {estimate.shards} shards, about {estimate.minutes:.1f} minutes with {workers} workers, "
        f"{estimate.gigabytes:.2f} GB; nothing was written but the cache"
    )
