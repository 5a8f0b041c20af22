"""The data of the small training experiments: rendered triplets of 32 px, and a split ``val`` of scenes of its own."""

from pathlib import Path

from layerkit.pipelines.build import build
from layerkit.pipelines.options import BuildOptions
from layerkit.pipelines.recipe import load
from layerkit.pipelines.training.config import TrainConfig
from layerkit.pipelines.training.sample import Sample
from layerkit.pipelines.training.streams import Sources, validated_on

RECIPE = """
count = 3000
size = 32
shard_size = 500
[splits]
val = 0.06
[members]
background = "png"
[[mix]]
name = "solids"
share = 1
route = "layers"
photos = "procedural"
[mix.filters]
haze = [0, 1]
side = [8, inf]
area = [0.02, 0.6]
"""


def built(out: Path) -> Path:
    """The build below a folder, made if it is not there."""
    folder = out / "triplets"
    out.mkdir(parents=True, exist_ok=True)
    (out / "scenes.toml").write_text(RECIPE, encoding="utf-8")
    build(load(str(out / "scenes.toml"), {}), BuildOptions(out=folder, workers=2), lambda progress: None)
    return folder


def held_out(data: Path, config: TrainConfig) -> list[Sample]:
    """All held-out samples, as a run sees them."""
    return validated_on(config.data, Sources(builds=(data,)), 0, 10**6)
