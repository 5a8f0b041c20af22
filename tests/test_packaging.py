"""The wheel is what users get: its contents, and that it works away from the checkout."""

import os
import shutil
import site
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import layerkit

ROOT = Path(__file__).resolve().parents[1]
LEFT_BEHIND = shutil.ignore_patterns(".*", "out", "build", "dist", "*.egg-info", "__pycache__")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} left {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, so that no build folder appears in the checkout, which is itself the package."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=LEFT_BEHIND)
    done = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, "source", cwd=folder)
    assert "would be ignored" not in done.stdout + done.stderr
    (built,) = folder.glob("layerkit-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script folder of a fresh environment that holds the wheel and borrows every other package.

    A folder named in a .pth file comes after the environment's own packages, and the .pth files inside it,
    which is how the editable install of the checkout works, are not read.
    """
    environment = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment.parent)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    # The borrowed folder shows pip an editable layerkit of this version: --ignore-installed leaves it alone.
    run(*pip, "install", "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=environment)
    return environment / "bin"


@pytest.mark.slow
def test_wheel_holds_the_package_and_no_more(wheel: Path):
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {package.replace(".", "/").replace("layerkit", "", 1).lstrip("/") for package in listed}
    shipped = {path for folder in folders for path in (ROOT / folder).glob("*.py")}
    shipped |= {ROOT / "py.typed", *ROOT.glob("manifests/*.toml"), *ROOT.glob("manifests/training/*.toml")}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    held = {name for name in names if ".dist-info/" not in name}
    assert held == {f"layerkit/{path.relative_to(ROOT).as_posix()}" for path in shipped}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_import_comes_from_the_wheel(installed: Path, tmp_path: Path):
    code = "import importlib.metadata as m, layerkit; print(layerkit.__file__, m.version('layerkit'), sep='\\n')"
    file, version = run(installed / "python", "-c", code, cwd=tmp_path).stdout.split()
    assert Path(file).is_relative_to(installed.parent)
    assert not Path(file).is_relative_to(ROOT)
    assert version == layerkit.__version__


@pytest.mark.slow
def test_wheel_builds_triplets_from_another_folder(installed: Path, tmp_path: Path):
    assert "build-triplets" in run(installed / "layerkit", "--help", cwd=tmp_path).stdout
    assert "build-triplets" in run(installed / "python", "-m", "layerkit", "--help", cwd=tmp_path).stdout
    options = ("--count", "2", "--size", "64", "--shard-size", "2", "--workers", "1", "--out", tmp_path / "o")
    run(installed / "layerkit", "build-triplets", "demo", *options, cwd=tmp_path)
    assert list((tmp_path / "o" / "data").glob("*.tar"))


def test_citation_names_this_version():
    assert f"version: {layerkit.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
