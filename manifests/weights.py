"""The one table of pre-trained weights that a stage may ask for, and where they lie on this machine.

Nothing is downloaded here. Weights are looked for under ``--weights`` and in the hub cache; when they are in neither,
the error names both places and the command that gets them. Only formats that run no code are listed: safetensors, ONNX.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import MissingWeights, UsageError


@dataclass(frozen=True)
class Weights:
    """One row of the table.

    Attributes:
        name: what recipes and ``--weights DIR/NAME`` call it.
        repo: ``organisation/name`` on the hub; empty when it is a plain file elsewhere.
        revision: branch, tag or commit on the hub; the release of a plain file.
        licence: of the weights, as their card states it.
        size_mb: size of the files that are read, in units of 10⁶ bytes, rounded.
        kind: ``onnx`` (one file), ``safetensors`` (a folder of the named files) or ``diffusers`` (a pipeline folder).
        files: what must be there, relative to the repository; for ``onnx`` the one file.

    """

    name: str
    repo: str
    revision: str
    licence: str
    size_mb: int
    kind: str
    files: tuple[str, ...]

    @property
    def single_file(self) -> bool:
        """Whether the weights are one file rather than a folder."""
        return self.kind == "onnx"

    def how_to_get(self) -> str:
        """Name the command, or the place to put the file, that makes these weights available."""
        if not self.repo:
            return f"get {self.files[0]} ({self.revision}), put it at DIR/{self.files[0]} and give --weights DIR"
        wanted = () if self.kind == "diffusers" else self.files
        return f"run: {' '.join(['hf download', self.repo, *wanted])} --revision {self.revision}"


_PIPELINE = ("model_index.json",)

WEIGHTS: dict[str, Weights] = {
    # The authors' repository needs its own Python code to load; this ONNX export of the same weights does not.
    "birefnet": Weights("birefnet", "onnx-community/BiRefNet-ONNX", "main", "MIT", 973, "onnx", ("onnx/model.onnx",)),
    "u2net": Weights("u2net", "", "rembg release v0.0.0", "Apache-2.0", 176, "onnx", ("u2net.onnx",)),
    # Stability AI withdrew its Stable Diffusion 2 repositories in November 2025; this is the community's copy.
    "sd-inpaint": Weights(
        "sd-inpaint", "sd2-community/stable-diffusion-2-inpainting", "main", "openrail++", 5200, "diffusers", _PIPELINE
    ),
    "sdxl-inpaint": Weights(
        "sdxl-inpaint",
        "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
        "main",
        "openrail++",
        13900,
        "diffusers",
        _PIPELINE,
    ),
    "flux-fill": Weights(
        "flux-fill",
        "black-forest-labs/FLUX.1-Fill-dev",
        "main",
        "flux-1-dev-non-commercial",
        33700,
        "diffusers",
        _PIPELINE,
    ),
    "depth-anything-v2-small": Weights(
        "depth-anything-v2-small",
        "depth-anything/Depth-Anything-V2-Small-hf",
        "main",
        "Apache-2.0",
        99,
        "transformers",
        ("config.json", "model.safetensors", "preprocessor_config.json"),
    ),
    # The branch main holds a pickle only; this is the Hub's own conversion of it, which Google has not merged.
    "efficientnet-b0": Weights(
        "efficientnet-b0",
        "google/efficientnet-b0",
        "refs/pr/3",
        "Apache-2.0",
        21,
        "safetensors",
        ("config.json", "model.safetensors"),
    ),
    "layerdiffuse-sdxl-base": Weights(
        "layerdiffuse-sdxl-base", "SG161222/RealVisXL_V4.0", "main", "openrail++", 13900, "diffusers", _PIPELINE
    ),
    # Made for the base above; the code that reads them is Apache-2.0, the weights' card says openrail.
    "layerdiffuse-sdxl": Weights(
        "layerdiffuse-sdxl",
        "lllyasviel/LayerDiffuse_Diffusers",
        "main",
        "openrail",
        2121,
        "safetensors",
        (
            "ld_diffusers_sdxl_attn.safetensors",
            "ld_diffusers_sdxl_vae_transparent_encoder.safetensors",
            "ld_diffusers_sdxl_vae_transparent_decoder.safetensors",
        ),
    ),
}


def hub_cache() -> Path:
    """Find the hub's cache folder as ``huggingface_hub`` does: ``HF_HUB_CACHE``, ``HF_HOME``, then the default."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if folder := os.environ.get(variable):
            return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or Path(base) / "huggingface").expanduser() / "hub"


def hub_snapshot(repo: str, revision: str = "main") -> Path | None:
    """Find the cached snapshot folder of ``organisation/name`` at a branch, tag or commit; None if not cached."""
    folder = hub_cache() / f"models--{repo.replace('/', '--')}"
    ref = folder / "refs" / revision
    commit = ref.read_text().strip() if ref.is_file() else revision
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def locate(name: str, weights_dir: Path | None = None) -> Path:
    """Find where the weights called ``name`` lie: the file for single-file weights, else the folder.

    ``weights_dir`` is looked into first (``DIR/NAME`` as file or folder, ``DIR/FILE``), then the hub cache.

    Raises:
        UsageError: no row of ``WEIGHTS`` has this name.
        MissingWeights: they are in neither place, or not completely; says what, where, and the command that gets them.

    """
    weights = WEIGHTS.get(name)
    if weights is None:
        raise UsageError(f"expected the name of weights ({', '.join(WEIGHTS)}), got {name!r}")
    looked = list(_places(weights, weights_dir))
    for place in looked:
        if found := _held(weights, place):
            return found
    raise MissingWeights(
        f"weights {name!r} ({weights.size_mb} MB, {weights.licence}) are not in {_listed(weights, looked)}; "
        f"{weights.how_to_get()}"
    )


def revision_of(path: Path) -> str:
    """Name the revision of the weights at ``path``: the commit in the hub cache, else ``sha256:`` of what is there.

    The hash covers names and bytes of every file that is not hidden: a fine-tuned copy never passes for the original.
    """
    for folder in (path, *path.parents):
        if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
            return folder.name
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p, path))
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        label = "" if path.is_file() else file.relative_to(path).as_posix()
        digest.update(f"{label}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()[:16]}"


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _places(weights: Weights, weights_dir: Path | None) -> Iterator[Path]:
    """Files or folders that may hold these weights, in the order in which they win."""
    if weights_dir is not None:
        yield weights_dir / weights.name
        if weights.single_file:
            yield weights_dir / f"{weights.name}.onnx"
    if weights.repo and (snapshot := hub_snapshot(weights.repo, weights.revision)):
        yield snapshot


def _held(weights: Weights, place: Path) -> Path | None:
    if weights.single_file:
        choices = (place, place / weights.files[0], place / Path(weights.files[0]).name)
        return next((choice for choice in choices if choice.is_file()), None)
    return place if all((place / file).is_file() for file in weights.files) else None


def _listed(weights: Weights, looked: list[Path]) -> str:
    places = [str(place) for place in looked]
    if weights.repo:
        places.append(f"the hub cache {hub_cache()}")
    return " or ".join(places) or "a folder given by --weights (none was)"
