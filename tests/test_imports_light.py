"""The door and the manifests load no heavy package: ``layerkit --help`` answers at once."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import layerkit.manifests

HEAVY = {
    "cv2",
    "datasets",
    "diffusers",
    "fiftyone",
    "matplotlib",
    "numba",
    "numpy",
    "pyarrow",
    "pymatting",
    "ray",
    "torch",
    "transformers",
}
HELP = """
import contextlib, os, sys
from layerkit.cli import main
sys.argv = ["layerkit", "--help"]
with contextlib.suppress(SystemExit), open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
    main()
"""


def heavy_after(code: str, cwd: Path) -> set[str]:
    """The heavy packages that a fresh interpreter holds once it has run the code."""
    code += "\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True)
    return HEAVY & set(done.stdout.split())


def test_the_probe_sees_a_heavy_import(tmp_path: Path):
    assert heavy_after("import numpy", tmp_path) == {"numpy"}


def test_help_is_light(tmp_path: Path):
    assert heavy_after("import layerkit.cli", tmp_path) == set()
    assert heavy_after(HELP, tmp_path) == set()


def test_manifests_are_light(tmp_path: Path):
    modules = [found.name for found in pkgutil.walk_packages(layerkit.manifests.__path__, "layerkit.manifests.")]
    assert "layerkit.manifests.errors" in modules
    assert heavy_after(f"import {', '.join(modules)}", tmp_path) == set()
