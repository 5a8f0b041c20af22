"""What ``layerkit ls`` lists: each table as rows of text."""

from collections.abc import Callable

from . import trainings
from .recipes import load_table, shipped
from .sources import SOURCES
from .suites import SUITES
from .weights import WEIGHTS


def recipe_rows() -> list[dict[str, str]]:
    """The shipped recipes, with their mixes."""
    rows = []
    for name, path in shipped().items():
        mixes = load_table(path)["mix"]
        routes = ", ".join(f"{mix['name']} ({mix['route']})" for mix in mixes)
        rows.append({"name": name, "triplets": str(load_table(path)["count"]), "mixes": routes})
    return rows


def source_rows() -> list[dict[str, str]]:
    """The sources, and what each needs."""
    return [
        {"name": name, "needs": f"--root {name}=DIR" if source.needs_root else "nothing", "about": source.about}
        for name, source in SOURCES.items()
    ]


def weight_rows() -> list[dict[str, str]]:
    """The pre-trained weights that stages may ask for."""
    return [
        {
            "name": row.name,
            "repository": row.repo or ", ".join(row.files),
            "revision": row.revision,
            "licence": row.licence,
            "MB": str(row.size_mb),
        }
        for row in WEIGHTS.values()
    ]


def suite_rows() -> list[dict[str, str]]:
    """The suites, frozen and versioned."""
    return [
        {
            "name": suite.name,
            "protocol": suite.protocol,
            "n": str(suite.n or "all"),
            "px": str(suite.size or "native"),
            "mask": f"{suite.mask}, dilated {suite.dilate} px" if suite.dilate else suite.mask,
            "main": suite.main,
            "about": suite.about,
        }
        for suite in SUITES.values()
    ]


TABLES: dict[str, Callable[[], list[dict[str, str]]]] = {
    "recipes": recipe_rows,
    "sources": source_rows,
    "suites": suite_rows,
    "systems": trainings.rows,
    "weights": weight_rows,
}
