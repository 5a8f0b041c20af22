"""A tiny real build, made once, and the function that makes others like it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from layerkit.pipelines.build import build
from layerkit.pipelines.funnel import Funnel
from layerkit.pipelines.options import BuildOptions
from layerkit.pipelines.recipe import load

TINY = {"count": 12, "size": 64, "shard_size": 4}
OPTIONS = (
    "roots",
    "workers",
    "launcher",
    "address",
    "part",
    "overwrite",
    "cache",
    "excludes",
    "store",
    "recipe_file",
    "weights",
)

BuildDemo = Callable[..., Funnel]


@pytest.fixture(scope="session")
def build_demo(cache_dir: Path) -> BuildDemo:
    """``build_demo(out, **overrides)``: the demo in 12 samples of 64 px; overrides of the recipe or of the options."""

    def run(out: Path, *, recipe: str = "demo", settings: Sequence[str] = (), **overrides: Any) -> Funnel:
        options = {"cache": cache_dir, **{name: overrides.pop(name) for name in OPTIONS if name in overrides}}
        return build(load(recipe, TINY | overrides, settings), BuildOptions(out=out, **options), lambda progress: None)

    return run


@pytest.fixture(scope="session")
def tiny_build(build_demo: BuildDemo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build, for reading only: copy it before you change it."""
    out = tmp_path_factory.mktemp("tiny") / "build"
    build_demo(out)
    return out


@pytest.fixture(scope="session")
def fiftyone_home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that give FiftyOne folders of its own, for this process or for one that it starts."""
    home = tmp_path_factory.mktemp("fiftyone")
    folders = ("DATABASE_DIR", "DEFAULT_DATASET_DIR", "DATASET_ZOO_DIR", "MODEL_ZOO_DIR", "PLUGINS_DIR")
    variables = {f"FIFTYONE_{name}": str(home / name.lower()) for name in folders}
    return {**variables, "FIFTYONE_CONFIG_PATH": str(home / "config.json"), "FIFTYONE_DO_NOT_TRACK": "true"}


@pytest.fixture(scope="session")
def fiftyone(fiftyone_home: dict[str, str]) -> Iterator[Any]:
    """FiftyOne with a database of its own, which ends with this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in fiftyone_home.items():
            patch.setenv(name, value)
        import fiftyone

        fiftyone.config.database_dir = fiftyone_home["FIFTYONE_DATABASE_DIR"]  # had another test imported it before
        yield fiftyone
