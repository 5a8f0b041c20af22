"""The import rule of the house, held by reading the source (see CONTRIBUTING.md).

Imports go down only, relatively, without a cycle; imports inside functions count like any other.
"""

import ast
import graphlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("manifests", "toolkit", "pipelines", "benchmarks")
MAY_IMPORT = {
    "__init__": set(),
    "__main__": {"cli"},
    "cli": {"pipelines", "benchmarks", "toolkit", "manifests"},
    "pipelines": {"pipelines", "toolkit", "manifests"},
    "benchmarks": {"benchmarks", "toolkit", "manifests"},
    "toolkit": {"toolkit", "manifests"},
    "manifests": {"manifests"},
}
NO_SOURCES = {"tests", "out", "build", "dist"}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}
# A lazy registry names its target as text; such an entry is an import as well.
LAZY = re.compile(r"layerkit((?:\.[A-Za-z_]\w*)+)(?::\w+)?")

Module = tuple[str, ...]  # ("toolkit", "layers"); a package is its folder, the root is ()
Sources = dict[str, str]  # path relative to the root, with slashes -> source text


def package_folders() -> list[Path]:
    """Folders that have an ``__init__.py``, the root first; what git ignores and the tests are left out."""
    tops = [path for path in ROOT.iterdir() if path.name[0] != "." and path.name not in NO_SOURCES]
    inits = [init for top in tops for init in top.rglob("__init__.py")]
    return [ROOT, *sorted(init.parent for init in inits)]


def package_sources() -> Sources:
    files = [path for folder in package_folders() for path in sorted(folder.glob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


def module_of(path: str) -> Module:
    parts = PurePosixPath(path).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def room_of(path: str) -> str:
    return PurePosixPath(path).with_suffix("").parts[0]


def absolute_names(node: ast.AST) -> list[str]:
    """Dotted names that an absolute import statement, or a lazy registry entry, names."""
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom(level=0):
            return [node.module or ""]
    return []


def relative_targets(node: ast.ImportFrom, path: str, modules: set[Module]) -> Iterator[Module | None]:
    """Modules that a relative import reaches; None stands for a target above the root."""
    package = PurePosixPath(path).parent.parts
    up = node.level - 1
    if up > len(package):
        yield None
        return
    base = package[: len(package) - up] + tuple((node.module or "").split(".") if node.module else ())
    for alias in node.names:
        child = (*base, alias.name)
        yield child if base and child in modules else base


def import_faults(path: str, node: ast.AST, modules: set[Module]) -> Iterator[str]:
    for name in absolute_names(node):
        top = name.partition(".")[0]
        if top in {"layerkit", "cli", *ROOMS}:
            yield f"absolute import of {name}: import relatively"
        elif room_of(path) == "manifests" and top not in sys.stdlib_module_names:
            yield f"manifests import {name}: only the standard library is allowed"
    if isinstance(node, ast.ImportFrom) and node.level:
        for target in relative_targets(node, path, modules):
            yield from room_faults(path, target)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := LAZY.fullmatch(node.value)):
        yield from room_faults(path, tuple(found[1].strip(".").split(".")))


def room_faults(path: str, target: Module | None) -> Iterator[str]:
    if not target:
        yield "imports the package root: name the module" if target == () else "imports from above the package"
    elif target[0] not in MAY_IMPORT[room_of(path)]:
        yield f"{room_of(path)} imports {'.'.join(target)}: imports go down only"


def habit_faults(path: str, node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id="print")) if path != "cli.py":
            yield "print outside cli.py"
        case ast.ExceptHandler(type=None):
            yield "bare except: name the errors"
        case ast.ExceptHandler(type=ast.expr() as caught):
            names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
            if any(isinstance(name, ast.Name) and name.id == "Exception" for name in names):
                yield "except Exception: name the errors"


def cycle_faults(trees: dict[str, ast.Module], modules: set[Module]) -> list[str]:
    graph: dict[Module, set[Module]] = {}
    for path, tree in trees.items():
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
        targets = {target for node in imports for target in relative_targets(node, path, modules) if target}
        graph[module_of(path)] = targets
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return ["import cycle: " + " <- ".join(".".join(module) for module in error.args[1])]
    return []


def faults(sources: Sources) -> list[str]:
    """Every breach of the rule, as ``path:line: what``, empty for a sound house."""
    modules = {module_of(path) for path in sources}
    trees = {path: ast.parse(text, path) for path, text in sources.items()}
    found = [
        f"{path}: a drawer, not an idea: rename it"
        for path in sources
        if DRAWERS & set(PurePosixPath(path).with_suffix("").parts)
    ]
    found += [f"{path}: no room of this name" for path in sources if room_of(path) not in MAY_IMPORT]
    for path, tree in trees.items():
        if room_of(path) in MAY_IMPORT:
            for node in ast.walk(tree):
                here = [*import_faults(path, node, modules), *habit_faults(path, node)]
                found += [f"{path}:{getattr(node, 'lineno', 0)}: {what}" for what in here]
    return found + cycle_faults(trees, modules)


def test_the_house_is_sound():
    assert faults(package_sources()) == []


def test_pyproject_lists_every_package():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = [".".join(("layerkit", *folder.relative_to(ROOT).parts)) for folder in package_folders()]
    assert sorted(listed) == sorted(folders)


def test_every_module_of_a_room_is_in_a_package():
    scripts = [ROOT / "benchmarks" / name for name in ("speed", "experiments")]  # not shipped
    folders = [*package_folders(), *scripts]
    modules = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert [path for path in modules if path.parent not in folders] == []


SOUND: Sources = {
    "__init__.py": '__version__ = "0"',
    "__main__.py": "from .cli import main",
    "cli.py": "def main():\n    from .pipelines.build import build\n    print(build)",
    "pipelines/__init__.py": "",
    "pipelines/build.py": "import torch\nfrom ..toolkit import layers\nfrom ..manifests.errors import UsageError",
    "benchmarks/__init__.py": "",
    "benchmarks/runner.py": "from ..toolkit.layers import Layers",
    "toolkit/__init__.py": "",
    "toolkit/layers.py": "import numpy as np\nfrom ..manifests import errors",
    "manifests/__init__.py": "",
    "manifests/errors.py": "from __future__ import annotations\nimport tomllib",
    "manifests/sources/__init__.py": "from . import photos\nfrom .photos import index",
    "manifests/sources/photos.py": "from ..errors import UsageError",
}


def test_a_sound_house_has_no_faults():
    assert faults(SOUND) == []


@pytest.mark.parametrize(
    ("path", "source", "what"),
    [
        ("toolkit/paste.py", "from ..pipelines.build import build", "toolkit imports pipelines.build"),
        ("toolkit/paste.py", "def f():\n    from ..pipelines import build", "toolkit imports pipelines.build"),
        ("toolkit/paste.py", 'MODELS = {"a": "layerkit.pipelines.build:build"}', "toolkit imports pipelines.build"),
        ("manifests/schema.py", "from ..toolkit.layers import Layers", "manifests imports toolkit.layers"),
        ("pipelines/train.py", "from ..benchmarks.runner import run", "pipelines imports benchmarks.runner"),
        ("benchmarks/report.py", "from ..pipelines.build import build", "benchmarks imports pipelines.build"),
        ("benchmarks/report.py", "from ..cli import main", "benchmarks imports cli"),
        ("toolkit/paste.py", "from toolkit.layers import Layers", "absolute import of toolkit.layers"),
        ("toolkit/paste.py", "import layerkit.toolkit.layers", "absolute import of layerkit.toolkit.layers"),
        ("toolkit/paste.py", "from .. import __version__", "imports the package root"),
        ("toolkit/paste.py", "from .. import manifests", "imports the package root"),
        ("cli.py", "from . import __version__", "imports the package root"),
        ("toolkit/paste.py", "from ...other import x", "imports from above the package"),
        ("manifests/schema.py", "import numpy as np", "manifests import numpy"),
        ("manifests/sources/coco.py", "from PIL import Image", "manifests import PIL"),
        ("manifests/sources/coco.py", "from . import index", "import cycle"),
        ("toolkit/layers.py", "def f():\n    from .layers import g", "import cycle"),
        ("toolkit/utils.py", "", "a drawer"),
        ("toolkit/common/matte.py", "", "a drawer"),
        ("datasets/mulan.py", "", "no room of this name"),
        ("toolkit/paste.py", "print(1)", "print outside cli.py"),
        ("cli.py", "try:\n    pass\nexcept:\n    pass", "bare except"),
        ("cli.py", "try:\n    pass\nexcept Exception:\n    pass", "except Exception"),
        ("cli.py", "try:\n    pass\nexcept (OSError, Exception):\n    pass", "except Exception"),
    ],
)
def test_a_planted_fault_is_found(path: str, source: str, what: str):
    planted = SOUND | {path: source}
    if what == "import cycle":
        planted["manifests/sources/__init__.py"] = "from .coco import index"
    found = faults(planted)
    assert len(found) == 1
    assert what in found[0]


def test_a_cycle_through_three_modules_names_them():
    ring = {"toolkit/a.py": "from .b import x", "toolkit/b.py": "from .c import x", "toolkit/c.py": "from .a import x"}
    (fault,) = faults(SOUND | ring)
    assert all(f"toolkit.{name}" in fault for name in "abc")
