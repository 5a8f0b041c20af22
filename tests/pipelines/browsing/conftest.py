"""A report of a few demo cases, made once."""

from pathlib import Path

import pytest

from layerkit.benchmarks.bench import bench
from layerkit.benchmarks.options import BenchOptions


@pytest.fixture(scope="session")
def tiny_report(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """A report of two models on four cases, one of which makes a foreground; for reading only."""
    out = tmp_path_factory.mktemp("tiny-report") / "report"
    options = BenchOptions(out=out, cache=cache_dir, limit=4)
    bench(["telea", "closed-form-matting"], ["demo"], options, lambda what, done, total: None, strict=False)
    return out
