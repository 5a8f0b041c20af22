"""Reader ``res``: ReS, two views of a scene between which one subject was moved (Wang et al., SEELE, 2024).

Flat: ``p1_1.jpg`` and ``p1_2.jpg`` are the views of scene 1, ``p1_1_mask.png`` is what can be seen of the subject,
white, and ``p1_1_amodal.png``, there alone where something hides a part, all of it. Photographs are turned by EXIF;
masks, of another size, lie upright. A task goes from one view to the other. A view with a hidden part is only ever
begun from, and where both have one the first is, as in the loader of the authors; so 100 scenes give 100 to 200 tasks.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError
from ..pairs import File, MaskFile, Pair

URL = "https://github.com/Yikai-Wang/ReS"

_VIEW = re.compile(r"p(\d+)_[12]\.jpg")


def pairs(root: Path, split: str = "moved") -> Iterator[Pair]:
    """Yield a pair a task, in the order of the scenes' numbers.

    Args:
        root: the folder of the pictures, or one that holds it.
        split: ``moved`` keeps the subject's size, as the authors' loader does; ``scaled`` does not.

    Raises:
        UsageError: no views there.
    """
    for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        views = (_VIEW.fullmatch(path.name) for path in folder.iterdir())
        if scenes := sorted({int(view[1]) for view in views if view}):
            return (pair for scene in scenes for pair in _tasks(folder, scene, split))
    raise UsageError(f"{root}: expected ReS, p1_1.jpg and so on, here or in a folder, found none")


def _tasks(folder: Path, scene: int, split: str) -> Iterator[Pair]:
    hidden = [view for view in (1, 2) if _place(folder, scene, view, "_amodal.png").is_file()]
    for view in hidden[:1] or (1, 2):
        yield _pair(folder, scene, view, 3 - view, split)


def _pair(folder: Path, scene: int, view: int, other: int, split: str) -> Pair:
    image, truth = (_place(folder, scene, one, ".jpg") for one in (view, other))
    mask, target = (_place(folder, scene, one, "_mask.png") for one in (view, other))
    whole = _place(folder, scene, view, "_amodal.png")
    needed = {"missing_image": image, "missing_view": truth, "missing_mask": mask, "missing_target": target}
    lacks = next((f"{reason}: expected {path}" for reason, path in needed.items() if not path.is_file()), "")
    masks = {"tight": mask, "target": target, "whole": whole if whole.is_file() else mask}
    return Pair(
        source="res",
        id=f"p{scene}_{view}-to-{other}",
        scene=f"p{scene}",
        image=File(path=image),
        kind="scaled" if split == "scaled" else "moved",
        truth="repositioned",
        background=File(path=truth),
        masks={name: (MaskFile(file=File(path=path)),) for name, path in masks.items()},
        url=URL,
        drop=lacks,
    )


def _place(folder: Path, scene: int, view: int, ending: str) -> Path:
    return folder / f"p{scene}_{view}{ending}"
