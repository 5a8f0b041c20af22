"""The door: Typer commands that parse, call one function and print.

Results go to standard output, progress to standard error. Exit status: 0 done; 1 it ran and failed or found faults;
2 wrong usage or unusable input.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .manifests.errors import LayerkitError, UsageError

if TYPE_CHECKING:
    from .manifests.prompts import Prompt
    from .pipelines.options import BuildOptions, Progress
    from .pipelines.recipe import Recipe

app = typer.Typer(
    name="layerkit",
    help="Build data for image layer decomposition, and look after it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_debug = False

# Options of several commands.
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Weights = Annotated[Path | None, typer.Option(help="Folder of pre-trained weights, beside the hub cache.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; default: cuda where there is one.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over what is there.")]
Base = Annotated[str, typer.Option(metavar="ID|DIR", help="Of a run: another base than it was trained on.")]
ModelSeed = Annotated[int, typer.Option(help="Of the models' randomness.")]


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
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="The build folder, or s3://…; an unfinished build is taken up.")
    ] = None,
    root: Annotated[list[str] | None, typer.Option(metavar="NAME=DIR", help="Where a source lies.")] = None,
    count: Annotated[int | None, typer.Option(help="Triplets to keep.")] = None,
    size: Annotated[int | None, typer.Option(help="Height and width, px.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed gives another build.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: the cores of this machine.")] = None,
    shard_size: Annotated[int | None, typer.Option(help="Triplets in a shard.")] = None,
    launcher: Annotated[str, typer.Option(help="local or ray.")] = "local",
    address: Annotated[str, typer.Option(help="Of a running Ray cluster: auto or HOST:PORT; default: start one.")] = "",
    part: Annotated[
        str | None, typer.Option(metavar="I/N", help="Build a slice, from 1/N to N/N; read from a Slurm array too.")
    ] = None,
    allow_licence: Annotated[
        list[str] | None,
        typer.Option(help="A licence or class (open, share-alike, non-commercial, unknown) to let in."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="Use no picture of this benchmark, exact or nearly so.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe: cut.saliency=birefnet.")
    ] = None,
    weights: Weights = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate yield, time and size from a pilot.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete an earlier build in --out first.")] = False,
    as_json: Json = False,
) -> None:
    """Build image, foreground, background triplets into WebDataset shards; run again to go on after an interruption."""
    if out is None and not dry_run:
        raise UsageError("--out: expected the folder to build in, got nothing; add --out DIR")
    from .manifests.recipes import find
    from .pipelines.options import BuildOptions
    from .pipelines.plan import Part, parse_part, slurm_part
    from .pipelines.recipe import load

    excludes = _folders("--exclude", exclude or [])
    overrides = {
        "count": count,
        "size": size,
        "seed": seed,
        "shard_size": shard_size,
        "allow_licence": allow_licence,
        "exclude": tuple(excludes),
    }
    loaded = load(recipe, overrides, settings or ())
    options = BuildOptions(
        **_place(out or "."),
        roots=_roots(root or []),
        excludes=excludes,
        recipe_file=find(recipe),
        workers=_workers(workers),
        launcher=launcher,
        address=address,
        part=parse_part(part) if part else slurm_part(dict(os.environ)) or Part(),
        overwrite=overwrite,
        weights=weights,
    )
    result: Any = _run_build(loaded, options, dry_run=dry_run)
    if as_json:
        print(json.dumps(asdict(result), indent=1))
    elif dry_run:
        print(result.describe(options.workers))
    else:
        print(result.describe(options.store or str(options.out)))


def _run_build(recipe: "Recipe", options: "BuildOptions", *, dry_run: bool) -> Any:
    """The funnel of a build or the estimate of a pilot; an interruption tells what is kept."""
    from .pipelines.build import build
    from .pipelines.funnel import funnel_of
    from .pipelines.object_store import folder_at
    from .pipelines.pilot import pilot

    try:
        with _progress() as report:
            return (pilot if dry_run else build)(recipe, options, report)
    except KeyboardInterrupt:
        if not dry_run:
            print(funnel_of(folder_at(options.out, options.store), recipe).describe(options.store or str(options.out)))
        print("layerkit: interrupted; what was finished is kept, run the same command again to go on", file=sys.stderr)
        raise typer.Exit(1) from None


@app.command()
def verify(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A build, or its address in an object store.")],
    sample: Annotated[int | None, typer.Option(min=1, help="Look at this many samples only.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: the cores of this machine.")] = None,
    as_json: Json = False,
) -> None:
    """Check a build: hashes, members, keys, records, and the invariants of every triplet; exit 1 names every fault."""
    from .manifests.exclusions import EXCLUDE, excluded_from
    from .pipelines.object_store import folder_at
    from .pipelines.verify import verify as check

    place = _place(folder)
    with _counted() as count:
        faults = check(
            folder_at(place["out"], place["store"]) if place["store"] else place["out"],
            sample=sample,
            workers=_workers(workers),
            report=lambda done, total: count("verify", done, total),
        )
    excluded = len(excluded_from(place["out"]))
    if as_json:
        told = {"folder": str(folder), "faults": [asdict(fault) for fault in faults], "excluded": excluded}
        print(json.dumps(told, indent=1))
    else:
        print("\n".join(str(fault) for fault in faults) or f"{folder}: sound")
        print(f"excluded  {excluded} samples, by {EXCLUDE}\n" * bool(excluded), end="")
    if faults:
        raise typer.Exit(1)


@app.command()
def stats(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A finished build.")],
    what_if: Annotated[
        list[str] | None, typer.Option(metavar="FILTER=LOW..HIGH", help="Another limit; saliency_iou=0.6, haze=0.2.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The spread of a build's scores, and what its limits keep, or other ones, without a rebuild."""
    from .pipelines.stats import parse_limit
    from .pipelines.stats import stats as measure

    result = measure(folder, {name: (low, high) for name, low, high in map(parse_limit, what_if or [])})
    if as_json:
        print(json.dumps(asdict(result), indent=1))
        return
    print(result.describe())
    _print_table(result.quantiles())


@app.command("label")
def label_samples(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A finished build.")],
    role: Annotated[str, typer.Option(help="mask-quality or inpaint-quality.")] = "mask-quality",
    out: Annotated[Path | None, typer.Option(help="The labels file; one that exists is added to.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show this many samples, the least certain first.")] = 500,
    port: Annotated[
        int | None, typer.Option(help="Of the App, on 127.0.0.1; default: the first free from 5151.")
    ] = None,
) -> None:
    """Tag samples good or bad in FiftyOne; Ctrl-C ends and writes the labels."""
    if out is None:
        raise UsageError("--out: expected the file for the labels, got nothing; add --out labels.jsonl")
    from .pipelines.labelling import label

    done = label(folder, role, out, limit=limit, port=port, ready=lambda url: print(f"open      {url}", flush=True))
    print(f"labels    {done.good} good, {done.bad} bad of {done.shown} shown: {out}")
    if done.contradictory:
        print(f"left out  tagged both good and bad: {', '.join(done.contradictory)}")


@app.command()
def train(
    what: Annotated[
        str,
        typer.Argument(metavar="NAME|CONFIG", help="layerkit ls systems; a TOML file; mask-quality, inpaint-quality."),
    ],
    data: Annotated[
        list[str] | None, typer.Option(metavar="DIR", help="A finished build; several mix; procedural renders scenes.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the run.")] = None,
    preset: Annotated[list[str] | None, typer.Option(help="Of the recipe: debug, an ablation; later ones win.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: data.size=256.")
    ] = None,
    base: Annotated[str | None, typer.Option(metavar="ID|DIR", help="The pre-trained model to stand on.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the optimiser.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, data and noise; of a judge: which labels are held out.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Photographs with and without an object, for data.pairs.")
    ] = None,
    exclude: Annotated[Path | None, typer.Option(metavar="FILE", help="Keys to leave out, one a line.")] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave broken shards and samples out.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the last checkpoint stands.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete an earlier run in --out first.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print options, parameters, memory and operations of a step.")
    ] = False,
    weights: Weights = None,
    labels: Annotated[Path | None, typer.Option(help="Of a judge: what layerkit label wrote.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of a judge: passes over the labels.")] = 100,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    as_json: Json = False,
) -> None:
    """Train a system on builds, or a judge of masks or of filled holes on labels; --resume goes on."""
    if out is None and not dry_run:
        raise UsageError("--out: expected the folder of the run, got nothing; add --out RUN")
    if not data and not dry_run:
        raise UsageError("--data: expected the folder of a finished build, got nothing; add --data DIR")
    folder, builds = out or Path("."), data or []
    recipe = {"--preset": preset, "--set": settings, "--base": base, "--steps": steps, "--dry-run": dry_run}
    places = {"pairs": pairs, "exclude": exclude, "weights": weights}
    ways = {"resume": resume, "overwrite": overwrite, "skip_broken": skip_broken}
    result: Any
    if what in ("mask-quality", "inpaint-quality"):
        _refuse(what, recipe | {"--pairs": pairs, "--exclude": exclude} | {f"--{way}": on for way, on in ways.items()})
        result = _train_judge(what, builds, labels, folder, weights, epochs, 0.01 if lr is None else lr, seed or 0)
    else:
        _refuse(what, {"--labels": labels})
        from .pipelines.training.config import load

        config = load(what, preset or (), settings or (), base=base, steps=steps, seed=seed, lr=lr)
        if dry_run:
            from .pipelines.training.dry_run import plan

            result = plan(config, weights)
        else:
            result = _train_system(config, builds, places, folder, ways)
    print(json.dumps(asdict(result), indent=1) if as_json else result.describe(folder))
    if getattr(result, "is_broken_off", False):
        raise typer.Exit(1)


def _refuse(what: str, given: dict[str, Any]) -> None:
    """Options that say nothing to what is trained are no options of it, rather than passed over."""
    if wrong := [name.replace("_", "-") for name, value in given.items() if value]:
        raise UsageError(f"{', '.join(wrong)}: expected where it says something, got it with {what}; leave it out")


def _train_judge(what: str, builds: list[str], labels: Path | None, out: Path, *options: Any) -> Any:
    if labels is None or len(builds) != 1:
        raise UsageError("--labels: expected a labels file and one --data, got others; make one with layerkit label")
    from .pipelines.train_judge import train_judge

    weights, epochs, lr, seed = options
    with _progress() as report:
        return train_judge(
            what, Path(builds[0]), labels, out, weights=weights, epochs=epochs, lr=lr, seed=seed, report=report
        )


def _train_system(config: Any, builds: list[str], places: dict[str, Any], out: Path, ways: dict[str, bool]) -> Any:
    from .pipelines.train import train as run
    from .pipelines.training.streams import Sources

    folders = tuple(Path(build) for build in builds if build != "procedural")
    sources = Sources(builds=folders, rendered="procedural" in builds, **places)
    try:
        with _progress() as report:
            return run(config, sources, out, report=report, **ways)
    except KeyboardInterrupt:
        print("layerkit: interrupted; the last checkpoint stays, add --resume to go on from it", file=sys.stderr)
        raise typer.Exit(1) from None


@app.command()
def decompose(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture, or a folder of them.")],
    model: Annotated[str, typer.Option(help="The folder of a run, or any model of layerkit ls models.")],
    mask: Annotated[
        list[Path] | None,
        typer.Option(metavar="M", help="White where the object is; several: the topmost first; of a folder: a folder."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Gets a folder of layers for each picture.")] = None,
    saliency: Annotated[
        str, typer.Option(help="Proposes a mask where none is given: spectral, birefnet, u2net.")
    ] = "spectral",
    fit: Annotated[str, typer.Option(help="Of a run: resize the picture, or tile it.")] = "resize",
    keep: Annotated[
        str, typer.Option(help="Of a run: where the background stays the input's: none, mask, alpha.")
    ] = "none",
    base: Base = "",
    seed: Annotated[int, typer.Option(help="Of the model's randomness.")] = 0,
    prompt: Annotated[str, typer.Option(help="For models that take one.")] = "",
    device: Device = None,
    weights: Weights = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Take pictures apart: background, RGBA foregrounds, recomposition and a strip of them all."""
    if out is None:
        raise UsageError("--out: expected the folder for the layers, got nothing; add --out DIR")
    _one_of("--fit", fit, ("resize", "tile"))
    _one_of("--keep", keep, ("none", "mask", "alpha"))
    from .pipelines.decompose import decompose as run
    from .toolkit.decomposers import load
    from .toolkit.saliency import load_saliency

    ways: dict[str, Any] = {"way": fit, "keep": keep, "base": base}
    loaded = load(model, weights, prompt=prompt, device=device, **ways)
    proposer = load_saliency(saliency, weights)
    with _progress() as report:
        rows = run(image, mask or [], loaded, out, proposer, seed=seed, overwrite=overwrite, report=report)
    print(json.dumps([asdict(row) for row in rows], indent=1) if as_json else _told(rows, out))
    if any(row.fault for row in rows):
        raise typer.Exit(1)


def _told(rows: list[Any], out: Path) -> str:
    return "\n".join([*(row.describe() for row in rows), f"layers in {out}"])


def _one_of(option: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise UsageError(f"{option}: expected one of {', '.join(known)}, got {given!r}")


@app.command()
def generate(
    prompt: Annotated[list[str] | None, typer.Argument(metavar="[PROMPT]…", help="What to draw.")] = None,
    model: Annotated[
        str, typer.Option(help="A generator of layerkit ls generators; the folder of a run; python:MODULE:NAME.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Gets a folder of layers for each picture.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of prompts, a txt with one a line, or a jsonl with seeds.")
    ] = None,
    negative: Annotated[str, typer.Option(help="What to steer away from.")] = "",
    foreground: Annotated[str, typer.Option(help="Of the object alone, for models with a text a layer.")] = "",
    background: Annotated[str, typer.Option(help="Of the scene alone, likewise.")] = "",
    count: Annotated[int, typer.Option(help="Pictures of each prompt.")] = 1,
    seed: Annotated[int, typer.Option(help="Of all noise; what is drawn is recorded with the seed of its own.")] = 0,
    size: Annotated[
        str | None, typer.Option(metavar="PX|WxH", help="Side, or width and height; default: as trained.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of sampling; default: the model's own.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Scale; default: the model's own.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of layerfusion: sharing=joint, decision=20.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures at a time.")] = 1,
    base: Base = "",
    device: Device = None,
    weights: Weights = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw layers from text: RGBA foreground, background, both blended, mask, and a strip of them all."""
    if out is None:
        raise UsageError("--out: expected the folder for the layers, got nothing; add --out DIR")
    if not model:
        raise UsageError("--model: expected a generator, got nothing; add --model NAME or a run")
    from .manifests.recipes import parse_setting
    from .pipelines.generate import generate as run
    from .toolkit.generators import load
    from .toolkit.generators.options import Options

    asked = _prompts(prompt or [], prompts, {"negative": negative, "foreground": foreground, "background": background})
    own = {".".join(key): value for key, value in map(parse_setting, settings or ())}
    options = Options(
        weights=weights, size=_size(size), steps=steps, guidance=guidance, base=base, device=device, settings=own
    )
    loaded = load(model, options)
    ways: dict[str, Any] = {"count": count, "seed": seed, "batch": batch, "overwrite": overwrite}
    try:
        with _progress() as report:
            rows = run(asked, loaded, out, told=options.told(), report=report, **ways)
    except KeyboardInterrupt:
        print("layerkit: interrupted; what was drawn is kept, run the same command again to go on", file=sys.stderr)
        raise typer.Exit(1) from None
    print(json.dumps([asdict(row) for row in rows], indent=1) if as_json else _told(rows, out))


def _prompts(given: list[str], file: Path | None, texts: dict[str, str]) -> list["Prompt"]:
    """What to draw, of the command line and of a file; ``texts`` are of the former."""
    from .manifests.prompts import Prompt
    from .manifests.sources.prompts import read_prompts

    if file and (told := [f"--{name}" for name, text in texts.items() if text]):
        raise UsageError(f"{', '.join(told)}: expected with a PROMPT, got --prompts; write them into its rows")
    asked = [Prompt(text, None, **texts) for text in given] + (read_prompts(file) if file else [])
    if not all(one.prompt.strip() for one in asked) or not asked:
        raise UsageError('PROMPT: expected what to draw, got nothing; add "a red mug on a table", or --prompts FILE')
    return asked


def _size(text: str | None) -> tuple[int, int] | None:
    """Height and width of ``512`` or ``WIDTHxHEIGHT``."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if not found:
        raise UsageError(f"--size: expected a side such as 512, or WIDTHxHEIGHT such as 768x512, got {text!r}")
    return int(found[2] or found[1]), int(found[1])


@app.command()
def compose(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Of one picture that layerkit decompose or generate wrote.")
    ],
    out: Annotated[Path | None, typer.Option(help="The picture to write, a PNG.")] = None,
    layer: Annotated[int, typer.Option(help="The foreground to edit; 1 is the topmost.")] = 1,
    move: Annotated[str, typer.Option(metavar="DX,DY", help="Right and down, as shares of width and height.")] = "0,0",
    scale: Annotated[float, typer.Option(help="About its foot, or --about centre.")] = 1.0,
    about: Annotated[str, typer.Option(help="foot or centre.")] = "foot",
    rotate: Annotated[float, typer.Option(help="Degrees counter-clockwise.")] = 0.0,
    mirror: Annotated[bool, typer.Option("--mirror", help="Exchange left and right.")] = False,
    hue: Annotated[float, typer.Option(help="Degrees by which colours go round the circle.")] = 0.0,
    saturation: Annotated[float, typer.Option(help="Factor.")] = 1.0,
    brightness: Annotated[float, typer.Option(help="Factor.")] = 1.0,
    tint: Annotated[str | None, typer.Option(metavar="R,G,B", help="What white becomes, 0..255.")] = None,
    opacity: Annotated[float, typer.Option(help="Factor.")] = 1.0,
    overwrite: Overwrite = False,
) -> None:
    """Move, scale or recolour a foreground of a decomposed or generated picture, and put the picture together."""
    if out is None:
        raise UsageError("--out: expected the picture to write, got nothing; add --out FILE.png")
    _one_of("--about", about, ("foot", "centre"))
    from .pipelines.compose import compose as run
    from .toolkit.edit import Edit

    placed: dict[str, Any] = {"move": _numbers("--move", move, 2), "about": about}
    coloured: dict[str, Any] = {"tint": None if tint is None else tuple(map(int, _numbers("--tint", tint, 3)))}
    edit = Edit(
        scale=scale,
        rotate=rotate,
        mirror=mirror,
        hue=hue,
        saturation=saturation,
        brightness=brightness,
        opacity=opacity,
        **placed,
        **coloured,
    )
    print(run(folder, edit, out, layer=layer, overwrite=overwrite))


@app.command()
def reposition(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture.")],
    mask: Annotated[Path, typer.Option(metavar="M", help="White where the subject is.")],
    to: Annotated[
        str, typer.Option(metavar="DX,DY", help="Right and down: whole pixels, or shares of the sides such as 0.2,0.0.")
    ],
    scale: Annotated[str, typer.Option(metavar="S|auto", help="Factor; auto: by --depth or --horizon.")] = "1",
    out: Annotated[Path | None, typer.Option(help="Gets the picture of every step.")] = None,
    model: Annotated[
        str, typer.Option(help="Removes the subject: a run, or any model of layerkit ls models.")
    ] = "patchmatch",
    amodal: Annotated[
        Path | None, typer.Option(metavar="M", help="White on the whole subject, with what is hidden; for --complete.")
    ] = None,
    complete: Annotated[
        str, typer.Option(metavar="MODEL", help="Paints what is hidden, and the shadow of --shadow paint.")
    ] = "",
    harmonise: Annotated[
        str, typer.Option(metavar="none|colour|RUN", help="By statistics of colour, or by a run of seele.")
    ] = "none",
    shadow: Annotated[
        str | None, typer.Option(help="none; cast, by the light; paint, by --complete. Default: cast; with --own none.")
    ] = None,
    shadow_mask: Annotated[
        Path | None, typer.Option(metavar="M", help="Its old shadow: goes away with it and tells the light.")
    ] = None,
    light: Annotated[
        str | None, typer.Option(metavar="AZIMUTH,ELEVATION,STRENGTH", help="Degrees, degrees, 0..0.85.")
    ] = None,
    stance: Annotated[
        str, typer.Option(help="standing; lying, as seen from above; auto: by the old shadow, else standing.")
    ] = "auto",
    depth: Annotated[str, typer.Option(metavar="MODEL", help="Such as depth-anything-v2-small.")] = "",
    horizon: Annotated[float | None, typer.Option(help="Its row, as a share of the height.")] = None,
    grow: Annotated[int | None, typer.Option(help="Pixels removed around the masks; default: a hundredth.")] = None,
    own: Annotated[bool, typer.Option("--own", help="Take the subject as --model cuts it out.")] = False,
    base: Annotated[str, typer.Option(metavar="ID|DIR", help="Of runs: another base than they were trained on.")] = "",
    seed: ModelSeed = 0,
    device: Device = None,
    weights: Weights = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Move a subject within its picture: remove, complete, scale, harmonise, cast a shadow; a picture of each step."""
    if out is None:
        raise UsageError("--out: expected the folder for the pictures, got nothing; add --out DIR")
    shadow = shadow or ("none" if own else "cast")
    _one_of("--shadow", shadow, ("none", "cast", "paint"))
    _one_of("--stance", stance, ("auto", "standing", "lying"))
    from .pipelines import reposition_asked as asked
    from .pipelines.reposition import reposition as run

    options = asked.Options(
        to=to,
        scale=None if scale == "auto" else _factor(scale),
        horizon=horizon,
        grow=grow,
        own=own,
        colours=asked.COLOURS if harmonise == "colour" else 0.0,
        shadow=shadow,  # type: ignore[arg-type]
        light=None if light is None else asked.sun(*_numbers("--light", light, 3)),
        stance=None if stance == "auto" else stance,  # type: ignore[arg-type]
        seed=seed,
    )
    loading: dict[str, Any] = {"weights": weights, "device": device, "base": base}
    tools = asked.load_tools(model, complete, harmonise, depth, **loading)
    masks = asked.Masks(subject=mask, amodal=amodal, shadow=shadow_mask)
    made = run(image, masks, tools, options, out, overwrite=overwrite)
    print(json.dumps(asdict(made), indent=1) if as_json else f"{made.describe()}\npictures in {out}")


def _factor(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--scale: expected a factor such as 0.8, or auto, got {text!r}") from None


def _numbers(option: str, text: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise UsageError(f"{option}: expected {count} numbers with commas between them, got {text!r}")
    return numbers


@app.command()
def bench(
    model: Annotated[
        list[str],
        typer.Option(help="A model: layerkit ls models; the folder of a run; predictions:DIR; python:MODULE:NAME."),
    ],
    suite: Annotated[list[str], typer.Option(help="A suite: layerkit ls suites; triplets:DIR.")],
    out: Annotated[Path | None, typer.Option(help="The report's folder; an unfinished run in it is taken up.")] = None,
    root: Annotated[list[str] | None, typer.Option(metavar="NAME=DIR", help="Where a data set lies.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Cases of each suite.")] = None,
    seed: ModelSeed = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; more than one for models on the CPU.")] = 1,
    device: Device = None,
    weights: Weights = None,
    prompt: Annotated[str, typer.Option(help="For models that take one.")] = "",
    on_missing: Annotated[str, typer.Option(help="A case that predictions:DIR lacks: error or skip.")] = "error",
    resize: Annotated[bool, typer.Option("--resize", help="Let predictions of another size in.")] = False,
    exclude: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ids of cases to leave out, one a line; the report lists them.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A metric without its weights is an error.")] = False,
    form: Annotated[str, typer.Option("--format", help="What is printed: text, markdown, latex or csv.")] = "text",
    as_json: Json = False,
) -> None:
    """Score models on suites; report.json, .md, .html, .tex, .csv and samples.parquet come into the folder."""
    if out is None:
        raise UsageError("--out: expected the folder for the report, got nothing; add --out DIR")
    files = {"text": "", "markdown": "report.md", "latex": "report.tex", "csv": "report.csv"}
    if form not in files:
        raise UsageError(f"--format: expected one of {', '.join(files)}, got {form!r}")
    from .benchmarks.bench import bench as run
    from .benchmarks.options import options_of
    from .manifests.exclusions import read_keys

    options = options_of(
        out=out,
        roots=_folders("--root", root or []),
        limit=limit,
        seed=seed,
        workers=workers,
        device=device,
        weights=weights,
        prompt=prompt,
        on_missing=on_missing,
        resize=resize,
        exclude=read_keys(exclude) if exclude else frozenset(),
    )
    with _counted() as count:
        result = run(model, suite, options, count, strict=strict)
    if result is None:  # another process of accelerate's writes the report
        return
    if as_json:
        print(json.dumps(asdict(result), indent=1))
    else:
        print((out / files[form]).read_text(encoding="utf-8") if files[form] else result.describe(str(out)))


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="REPORT", help="A report's folder, or FOLDER:MODEL.")],
    second: Annotated[str, typer.Argument(metavar="REPORT", help="Another.")],
    html: Annotated[Path | None, typer.Option(help="Write the differences as a page.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of pre-trained weights that the reports used.")] = None,
    as_json: Json = False,
) -> None:
    """Paired tests of two models on the samples that both have seen."""
    from .benchmarks.compare import compare as test
    from .benchmarks.reports.comparison import render_page
    from .toolkit.files import cache_folder

    result = test(first, second, cache=cache_folder(), weights=weights)
    if html:
        html.write_text(render_page(result), encoding="utf-8")
    print(json.dumps(asdict(result), indent=1) if as_json else result.describe())


@app.command()
def browse(
    place: Annotated[str, typer.Argument(metavar="DIR", help="A build, a run or a report.")],
    limit: Annotated[int | None, typer.Option(help="Show this many samples, evenly from all; default: 1,000.")] = None,
    where: Annotated[
        str, typer.Option(metavar="CONDITION", help="Of which this is true: \"haze > 0.1 and mix == 'paste'\".")
    ] = "",
    rejects: Annotated[
        int | None, typer.Option(help="Of a build: show this many of what it refused, drawn again; default: 100.")
    ] = None,
    root: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="Of a report: where a data set lies by now.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Pre-trained weights, for refused candidates that need them.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Of the App, on 127.0.0.1; default: the first free from 5151.")
    ] = None,
    no_app: Annotated[bool, typer.Option("--no-app", help="Load the data set into FiftyOne, and leave.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="OUT.html", help="Write a page of pictures instead; no FiftyOne.")
    ] = None,
    export_tags: Annotated[
        bool, typer.Option("--export-tags", help="Write what was tagged as the exclude list and labels of DIR.")
    ] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Delete the data sets of DIR, and their pictures.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over the page.")] = False,
    as_json: Json = False,
) -> None:
    """Look at a build, a run or a report in FiftyOne; what is tagged there goes back into files. Ctrl-C ends."""
    from .pipelines import browse as browsing
    from .pipelines.browsing.gallery import write_gallery

    ways = {"--no-app": no_app, "--html": html, "--export-tags": export_tags, "--forget": forget}
    if len(chosen := [way for way, asked in ways.items() if asked]) > 1:
        raise UsageError(f"{', '.join(chosen)}: expected one of them, got {len(chosen)}; run one after the other")
    if "://" in place:
        raise UsageError(f"browse: expected a folder of this machine, got {place}; copy it here first")
    folder = Path(place)
    if export_tags:
        exported = browsing.export_tags(folder)
        print(json.dumps(asdict(exported), indent=1) if as_json else exported.describe())
        return
    if forget:
        browsing.forget(folder)
        print(f"forgotten {folder}")
        return
    counts: dict[str, Any] = {
        name: count for name, count in (("limit", limit), ("rejects", rejects)) if count is not None
    }
    places: dict[str, Any] = {"roots": _folders("--root", root or []), "weights": weights}
    exhibits = browsing.exhibits_of(folder, browsing.Asked(where=where, **counts, **places))

    def tell(opened: browsing.Opened) -> None:
        print(json.dumps(asdict(opened), indent=1) if as_json else opened.describe(), flush=True)

    try:
        with _counted() as count:
            if html:
                write_gallery(exhibits[0], html, count, overwrite=overwrite)
                print(f"page      {html}")
            elif no_app:
                tell(browsing.load(exhibits, count))
            elif untold := browsing.browse(exhibits, count, tell, port=port):
                print(f"tags      of {untold} samples are not in files yet: layerkit browse --export-tags {folder}")
    except KeyboardInterrupt:
        print("layerkit: interrupted; run the same command again", file=sys.stderr)
        raise typer.Exit(1) from None


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="openimages, mulan, rorem, rord, desobav2, places2 or misato.")],
    to: Annotated[Path | None, typer.Option(help="The folder to download into; run again to go on.")] = None,
    split: Annotated[str, typer.Option(help="Of Open Images: train, validation or test.")] = "validation",
    classes: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Of Open Images: pictures with a box of this class.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Of Open Images: this many pictures; default: all, up to 50,000.")
    ] = None,
    masks: Annotated[
        bool, typer.Option("--masks/--no-masks", help="Of Open Images: the archives of masks too.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Download a data set, resumed and checked; for a gated one, print the steps."""
    if to is None:
        raise UsageError("--to: expected the folder to download into, got nothing; add --to DIR")
    from .pipelines.fetch import fetch as download

    try:
        with _progress() as report:
            result = download(name, to, split=split, classes=classes or (), count=count, masks=masks, report=report)
    except KeyboardInterrupt:
        print("layerkit: interrupted; what came is kept, run the same command again to go on", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps(asdict(result), indent=1))
    else:
        print(result.describe())
    if result.failed:
        raise typer.Exit(1)


@app.command("ls")
def list_table(
    table: Annotated[
        str, typer.Argument(help="recipes, sources, systems, suites, models, generators, metrics or weights.")
    ],
    as_json: Json = False,
) -> None:
    """List what there is."""
    from .manifests.listing import TABLES

    tables = (*TABLES, "models", "generators", "metrics")
    if table not in tables:
        raise UsageError(f"ls: expected one of {', '.join(tables)}, got {table!r}")
    rows = TABLES[table]() if table in TABLES else _benchmark_rows(table)
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        _print_table(rows)


def _benchmark_rows(table: str) -> list[dict[str, str]]:
    from .benchmarks import listing

    return listing.TABLES[table]()


def _print_table(rows: list[dict[str, str]]) -> None:
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for row in [{key: key for key in rows[0]}, *rows]:
        print("  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip())


def _place(out: str) -> dict[str, Any]:
    """``out`` and ``store`` of :class:`.pipelines.options.BuildOptions`."""
    from .pipelines.object_store import is_url, stage_of
    from .toolkit.files import cache_folder

    return {"out": stage_of(out, cache_folder()), "store": out} if is_url(out) else {"out": Path(out), "store": ""}


def _roots(pairs: list[str]) -> dict[str, Path]:
    from .manifests.sources import find

    roots = _folders("--root", pairs)
    for name in roots:
        find(name)
    return roots


def _folders(option: str, pairs: list[str]) -> dict[str, Path]:
    folders = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not name or not equals or not folder:
            raise UsageError(f"{option}: expected NAME=DIR such as photos=/data/photos, got {pair!r}")
        folders[name] = Path(folder)
    return folders


def _workers(given: int | None) -> int:
    if given is not None and given < 1:
        raise UsageError(f"--workers: expected 1 or more, got {given}")
    return given or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else given or os.cpu_count() or 1


@contextmanager
def _counted() -> Iterator[Callable[[str, int, int], None]]:
    """The progress bar, told by what is at work, how much of it is done, and of how much."""
    from .pipelines.options import Progress

    with _progress() as report:
        yield lambda stage, done, total: report(Progress(stage=stage, done=done, total=total, kept=done))


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
