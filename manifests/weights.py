"""The one table of pre-trained weights that a stage may ask for, and where they lie on this machine.

Nothing is downloaded here. Weights are looked for under ``--weights`` and in the hub cache; when they are in neither,
the error names both places and the command that gets them. Only formats that run no Python code are listed:
safetensors, ONNX, TorchScript with its sha256, and state dicts that ``torch.load(weights_only=True)`` reads.
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
        kind: ``onnx``, ``torchscript`` or ``state-dict`` (one file); ``safetensors`` or ``transformers`` (a folder of
            the named files); ``diffusers`` or ``clip`` (a folder whose weights are named differently in each).
        files: what must be there, relative to the repository; the one file of single-file weights.
        url: where a plain file is had from.
        sha256: of a plain file, or its first digits as far as they are published; checked when it is located.

    """

    name: str
    repo: str
    revision: str
    licence: str
    size_mb: int
    kind: str
    files: tuple[str, ...]
    url: str = ""
    sha256: str = ""

    @property
    def single_file(self) -> bool:
        """Whether the weights are one file rather than a folder."""
        return self.kind in ("onnx", "torchscript", "state-dict")

    def how_to_get(self) -> str:
        """Name the command, or the place to put the file, that makes these weights available."""
        if self.url:
            return f"run: curl -L --create-dirs -o DIR/{self.files[0]} {self.url} and give --weights DIR"
        if not self.repo:
            return f"get {self.files[0]} ({self.revision}), put it at DIR/{self.files[0]} and give --weights DIR"
        wanted = () if self.kind in ("diffusers", "clip") else self.files
        return f"run: {' '.join(['hf download', self.repo, *wanted])} --revision {self.revision}"


_PIPELINE = ("model_index.json",)
_CLIP = ("config.json", "vocab.json", "merges.txt")
_TORCHVISION = "https://download.pytorch.org/models/"
_GOOGLE = "Apache-2.0 (Google's Inception of 2015)"
_IMAGENET = "BSD-3-Clause (torchvision, trained on ImageNet)"


def _torchvision(name: str, file: str, size_mb: int, sha256: str) -> Weights:
    url = _TORCHVISION + file
    return Weights(name, "", "torchvision IMAGENET1K_V1", _IMAGENET, size_mb, "state-dict", (file,), url, sha256)


WEIGHTS: dict[str, Weights] = {
    # The authors' repository needs its own Python code to load; this ONNX export of the same weights does not.
    "birefnet": Weights("birefnet", "onnx-community/BiRefNet-ONNX", "main", "MIT", 973, "onnx", ("onnx/model.onnx",)),
    "u2net": Weights("u2net", "", "rembg release v0.0.0", "Apache-2.0", 176, "onnx", ("u2net.onnx",)),
    # Stability AI withdrew its Stable Diffusion 2 repositories in November 2025; this is the community's copy.
    "sd-inpaint": Weights(
        "sd-inpaint", "sd2-community/stable-diffusion-2-inpainting", "main", "openrail++", 5200, "diffusers", _PIPELINE
    ),
    "sd15-inpaint": Weights(
        "sd15-inpaint",
        "stable-diffusion-v1-5/stable-diffusion-inpainting",
        "main",
        "creativeml-openrail-m",
        5500,
        "diffusers",
        _PIPELINE,
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
    # The branch main holds no safetensors; this is the Hub's own conversion, which NVIDIA has not merged.
    "segformer-b5-ade": Weights(
        "segformer-b5-ade",
        "nvidia/segformer-b5-finetuned-ade-640-640",
        "refs/pr/3",
        "NVIDIA Source Code License for SegFormer (non-commercial)",
        339,
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
    # ViT-B/16 with its decoder, at 224 px. Meta's own release of it, in PyTorch's format, is CC-BY-NC-4.0.
    "vit-mae-base": Weights(
        "vit-mae-base",
        "facebook/vit-mae-base",
        "main",
        "Apache-2.0 by its card (Meta's own release: CC-BY-NC-4.0)",
        448,
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
    # One TensorFlow network twice: NVIDIA's TorchScript, which clean-fid reads, and the state dict that pytorch-fid,
    # torch-fidelity (as weights-inception-2015-12-05-6726825d.pth) and torchmetrics read.
    "inception-torchscript": Weights(
        "inception-torchscript",
        "",
        "2015-12-05",
        _GOOGLE,
        96,
        "torchscript",
        ("inception-2015-12-05.pt",),
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
        "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    ),
    "inception-fid": Weights(
        "inception-fid",
        "",
        "2015-12-05",
        _GOOGLE,
        96,
        "state-dict",
        ("pt_inception-2015-12-05-6726825d.pth",),
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    # Another network than FID's: ASUKA's published FID, U-IDS and P-IDS are made with it.
    "inception-imagenet": _torchvision("inception-imagenet", "inception_v3_google-0cc3c7bd.pth", 109, "0cc3c7bd"),
    # The trunks of LPIPS; its linear heads come with the lpips package.
    "alexnet": _torchvision("alexnet", "alexnet-owt-7be5be79.pth", 244, "7be5be79"),
    "vgg16": _torchvision(
        "vgg16", "vgg16-397923af.pth", 553, "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
    ),
    "squeezenet": _torchvision("squeezenet", "squeezenet1_1-b8a52dc0.pth", 5, "b8a52dc0"),
    "clip-vit-b-32": Weights("clip-vit-b-32", "openai/clip-vit-base-patch32", "main", "MIT", 605, "clip", _CLIP),
    "clip-vit-l-14": Weights("clip-vit-l-14", "openai/clip-vit-large-patch14", "main", "MIT", 1711, "clip", _CLIP),
    "clip-vit-bigg-14": Weights(
        "clip-vit-bigg-14", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", "main", "MIT", 10160, "clip", _CLIP
    ),
    # What ``layerkit bench`` runs.
    "sdxl-base": Weights(
        "sdxl-base", "stabilityai/stable-diffusion-xl-base-1.0", "main", "openrail++", 13900, "diffusers", _PIPELINE
    ),
    "sd15": Weights(
        "sd15",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "main",
        "creativeml-openrail-m",
        5500,
        "diffusers",
        _PIPELINE,
    ),
    "controlnet-inpaint": Weights(
        "controlnet-inpaint",
        "lllyasviel/control_v11p_sd15_inpaint",
        "main",
        "openrail",
        723,
        "safetensors",
        ("config.json", "diffusion_pytorch_model.fp16.safetensors"),
    ),
    # The authors' JunhaoZhuang/PowerPaint-v1, put together with its base as one pipeline by IOPaint's author.
    "powerpaint": Weights(
        "powerpaint",
        "Sanster/PowerPaint-V1-stable-diffusion-inpainting",
        "main",
        "MIT (on creativeml-openrail-m)",
        5500,
        "diffusers",
        _PIPELINE,
    ),
    "rorem": Weights("rorem", "LetsThink/RORem", "main", "Apache-2.0 (on openrail++)", 6500, "diffusers", _PIPELINE),
    "qwen-image-layered": Weights(
        "qwen-image-layered", "Qwen/Qwen-Image-Layered", "main", "Apache-2.0", 57700, "diffusers", _PIPELINE
    ),
    "layerdiffuse-xl": Weights(
        "layerdiffuse-xl",
        "LayerDiffusion/layerdiffusion-v1",
        "main",
        "creativeml-openrail-m",
        4530,
        "safetensors",
        ("layer_xl_bgble2fg.safetensors", "layer_xl_fgble2bg.safetensors", "vae_transparent_decoder.safetensors"),
    ),
    # Of the same repository. Their sizes were not read from the hub: they are those of the two files above, by whether
    # the foreground or the background is given.
    "layerdiffuse-xl-blend": Weights(
        "layerdiffuse-xl-blend",
        "LayerDiffusion/layerdiffusion-v1",
        "main",
        "creativeml-openrail-m",
        4322,
        "safetensors",
        ("layer_xl_fg2ble.safetensors", "layer_xl_bg2ble.safetensors"),
    ),
    "lama": Weights(
        "lama",
        "",
        "big-lama, by IOPaint's author",
        "Apache-2.0",
        206,
        "torchscript",
        ("big-lama.pt",),
        "https://github.com/Sanster/models/releases/download/add_big_lama/big-lama.pt",
        "344c77bbcb158f17dd143070d1e789f38a66c04202311ae3a258ef66667a9ea9",
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


def torch_hub_checkpoints() -> Path:
    """Find the folder of ``torch.hub``'s downloads as it does: ``TORCH_HOME``, then the default."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or Path(base) / "torch").expanduser() / "hub" / "checkpoints"


def locate(name: str, weights_dir: Path | None = None) -> Path:
    """Find where the weights called ``name`` lie: the file for single-file weights, else the folder.

    ``weights_dir`` is looked into first (``DIR/NAME`` as file or folder, ``DIR/FILE``), then the hub cache, or for a
    plain file with a URL the folder in which ``torch.hub`` keeps its downloads.

    Raises:
        UsageError: no row of ``WEIGHTS`` has this name, or the file's sha256 is another than the row's.
        MissingWeights: they are in neither place, or not completely; says what, where, and the command that gets them.

    """
    weights = WEIGHTS.get(name)
    if weights is None:
        raise UsageError(f"expected the name of weights ({', '.join(WEIGHTS)}), got {name!r}")
    looked = list(_places(weights, weights_dir))
    for place in looked:
        if found := _held(weights, place):
            return _checked(weights, found)
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
        content = _sha256(file)
        label = "" if path.is_file() else file.relative_to(path).as_posix()
        digest.update(f"{label}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()[:16]}"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checked(weights: Weights, path: Path) -> Path:
    if weights.sha256 and not (got := _sha256(path)).startswith(weights.sha256):
        raise UsageError(
            f"weights {weights.name!r}: expected sha256 {weights.sha256}, got {got} ({path}); "
            f"remove the file, then {weights.how_to_get()}"
        )
    return path


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _places(weights: Weights, weights_dir: Path | None) -> Iterator[Path]:
    """Files or folders that may hold these weights, in the order in which they win."""
    if weights_dir is not None:
        yield weights_dir / weights.name
        if weights.single_file:
            yield weights_dir / f"{weights.name}{Path(weights.files[0]).suffix}"
    if weights.url:
        if weights_dir is not None:
            yield weights_dir / weights.files[0]
        yield torch_hub_checkpoints() / weights.files[0]
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
