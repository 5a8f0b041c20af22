"""The folder of a run: what may be written to it, what it says of itself, and its model card.

RUN/
  config.toml            every option, and in the table ``run`` what it was made with; a recipe for another run
  weights.safetensors    what was trained; of ``rgba-vae`` the folder ``vae/``, of ``layerdiffuse-vae`` two such files
  train.jsonl validation.jsonl loss.png tensorboard/ samples/
  checkpoints/           what ``--resume`` goes on from
  README.md              the model card
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...manifests.errors import UsageError
from ...manifests.licences import strictest
from ...manifests.weights import WEIGHTS
from ...toolkit.files import write_atomically
from ...toolkit.models.runs import CONFIG, is_run
from ..ledger import BuildFolder
from ..lock import to_toml
from ..run_file import read_run
from .config import TrainConfig
from .journal import PLOT
from .streams import Sources, held_out_how

SAMPLES = "samples"
CARD = "README.md"

_DECOMPOSES = """## Use

    layerkit decompose IMAGE --mask MASK --model RUN --out DIR
    layerkit bench --model RUN --suite demo --out DIR
"""
_USES = {
    "rgba-vae": "## Use\n\n    layerkit train layerdecomp --set model.rgba_vae=RUN …\n",
    "text2layer-ae": "## Use\n\n    layerkit train text2layer --set model.codec=RUN …\n",
    "text2layer": """## Use

    layerkit generate "a red mug on a table" --model RUN --out DIR
    layerkit bench --model RUN --suite ll2i --root ll2i=BUILD --out DIR
""",
    "seele": f"""{_DECOMPOSES}    layerkit reposition IMAGE --mask MASK --to 80,0 --model RUN --harmonise RUN --out DIR
""",
    "asuka-decoder": """## Use

The decoder in the place of that of the base's VAE, for pictures that the base inpaints:

    layerkit train asuka --set model.decoder=RUN …

    from layerkit.toolkit.models.asuka_decoder import load_decoder
    picture = load_decoder(RUN)(latent, image, mask)
""",
    "asuka-mae": """## Use

    layerkit train asuka --set model.mae=RUN …
    layerkit decompose IMAGE --mask MASK --model RUN --out DIR
""",
    "layerdiffuse-vae": """## Use

`vae_transparent_encoder.safetensors` and `vae_transparent_decoder.safetensors` are named as the released ones,
whose place they take in a folder of `--weights`.
""",
}
"""What a run is for, by its system; most take pictures apart."""


def expect_free(run: Path, *, resume: bool, overwrite: bool) -> None:
    """Make sure that a folder may become that of a run, or may be gone on with.

    Raises:
        UsageError: something else is in it, or a run that is neither to be resumed nor overwritten.
    """
    holds_run = is_run(run)
    if run.exists() and not holds_run and (not run.is_dir() or any(run.iterdir())):
        raise UsageError(f"--out: expected a new folder or one with a run, got {run}, which holds something else")
    if holds_run and not (resume or overwrite):
        raise UsageError(f"--out: {run} holds a run; add --resume to go on with it, or --overwrite to delete it")


def begin(run: Path, config: TrainConfig, made: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make the folder and write ``config.toml``; ``made`` is its table ``run``."""
    if overwrite and run.exists():
        shutil.rmtree(run)
    (run / SAMPLES).mkdir(parents=True, exist_ok=True)
    write_atomically(run / CONFIG, to_toml({**config.table(), "run": dict(made)}).encode())


def made_with(sources: Sources, trained: int, frozen: int) -> dict[str, Any]:
    """What a run was made with, beside its options.

    Args:
        sources: of its data.
        trained: number of parameters.
        frozen: number of parameters.
    """
    from importlib.metadata import version

    builds = [read_run(BuildFolder(build).resolved()) for build in sources.builds]
    return {
        "layerkit": version("layerkit"),
        "libraries": {name: version(name) for name in ("torch", "accelerate", "diffusers", "peft")},
        "data": [{"recipe": one["recipe"]["name"], "fingerprint": one["fingerprint"]} for one in builds],
        "licences": [licence_of(build) for build in sources.builds],
        "pairs": sources.pairs is not None,
        "held_out": held_out_how(sources),
        "trained": trained,
        "frozen": frozen,
    }


def licence_of(build: Path) -> str:
    """The strictest licence of a build's samples; ``unknown`` where it does not say."""
    try:
        statistics = json.loads((BuildFolder(build).manifests / "stats.json").read_bytes())
    except (OSError, ValueError):
        return "unknown"
    return strictest(statistics.get("licences", {}).get("sample", {})) or "unknown"


def base_licence(base: str) -> str:
    """The licence of a published base, by its repository or its name in the table; of a folder it is unknown."""
    return next((row.licence for row in WEIGHTS.values() if base in (row.repo, row.name)), "unknown")


def write_card(
    run: Path, config: TrainConfig, made: Mapping[str, Any], steps: int, validations: Sequence[Mapping[str, float]]
) -> None:
    """Write the model card, with what is known after ``steps`` steps."""
    write_atomically(run / CARD, card(config, made, steps, validations, _last_sample(run)).encode())


def card(
    config: TrainConfig,
    made: Mapping[str, Any],
    steps: int,
    validations: Sequence[Mapping[str, float]],
    sample: str = "",
) -> str:
    """The text of the model card, with the front matter that Hugging Face reads.

    Args:
        config: of the run.
        made: see :func:`made_with`.
        steps: done.
        validations: rows of ``validation.jsonl``.
        sample: file of the last sheet of pictures.
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        license="other",
        license_name="of-base-and-data",
        library_name="layerkit",
        pipeline_tag="text-to-image" if config.system == "text2layer" else "image-to-image",
        tags=["layer-decomposition", "layerkit", config.system],
        base_model=config.base if config.base.count("/") == 1 and not config.base.startswith((".", "/")) else None,
    )
    use = _USES.get(config.system, _DECOMPOSES)
    parts = [_about(config, made, steps), _data(made, config), _scores(validations, made, sample), use]
    return f"---\n{data.to_yaml()}\n---\n" + "\n".join(parts)


def _about(config: TrainConfig, made: Mapping[str, Any], steps: int) -> str:
    base = f", on `{config.base}`" if config.base else ""
    return f"""\
# {config.system}

{config.about[:1].upper() + config.about[1:]}{base}. {steps:,} of {config.steps:,} steps of {config.batch} samples of
{config.data.size} px, trained by [layerkit](https://pypi.org/project/layerkit/) {made["layerkit"]}: {made["trained"]:,}
parameters trained, {made["frozen"]:,} frozen. Every option stands in `config.toml`, which is a recipe for another run.

![loss]({PLOT})
"""


def _data(made: Mapping[str, Any], config: TrainConfig) -> str:
    builds = ", ".join(
        f"`{one['recipe']}` (fingerprint `{one['fingerprint'][:12]}`, strictest licence {licence})"
        for one, licence in zip(made["data"], made["licences"], strict=True)
    )
    pairs = f" {config.data.pairs:.0%} of the samples: photographs with and without an object." * bool(made["pairs"])
    base = f" Licence of the base: {base_licence(config.base)}." if config.base else ""
    return f"""\
## Data and licence

Builds: {builds or "none; scenes rendered while training"}.{pairs}{base}

Whether weights may be used as their data may not be is for you to judge: layerkit grants nothing here.
"""


def _scores(validations: Sequence[Mapping[str, float]], made: Mapping[str, Any], sample: str) -> str:
    if not validations:
        return "## Scores\n\nNo triplets were held out.\n"
    names = [name for name in validations[-1] if name != "step"]
    lines = [_row("step", *names), _row(*["---"] * (len(names) + 1))]
    lines += [_row(f"{row['step']:.0f}", *(f"{row.get(name, math.nan):.4g}" for name in names)) for row in validations]
    table = "\n".join(lines)
    pictures = f"\n![held-out samples]({sample})\n" if sample else ""
    return f"""\
## Scores

Means over held-out triplets ({made["held_out"]}); PSNR in dB. `layerkit bench` compares with other models.

{table}
{pictures}"""


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _last_sample(run: Path) -> str:
    found = sorted((run / SAMPLES).glob("*.png"))
    return f"{SAMPLES}/{found[-1].name}" if found else ""
