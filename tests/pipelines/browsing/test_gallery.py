"""The page without FiftyOne: whole by itself, every sample and value in it, every text escaped."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.browse import Asked, exhibit_of
from layerkit.pipelines.browsing.exhibit import Exhibit, Shown
from layerkit.pipelines.browsing.gallery import SIDE, write_gallery
from layerkit.pipelines.browsing.media import Media


def write_page(folder: Path, asked: Asked, path: Path, tell=lambda *told: None, **ways: bool) -> None:
    write_gallery(exhibit_of(folder, asked), path, tell, **ways)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.articles: list[dict] = []
        self.pictures: list[list[tuple[str, np.ndarray]]] = []
        self.outside: list[str] = []
        self.options: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        if tag == "article":
            self.articles.append(json.loads(told["data-values"]))
            self.pictures.append([])
        elif tag == "img":
            kind, _, data = told["src"].partition(",")
            assert kind == "data:image/jpeg;base64"
            pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
            self.pictures[-1].append((told["alt"], pixels))
        elif tag == "option":
            self.options.append(told["value"])
        self.outside += [
            value for name, value in attributes if name in ("src", "href") and not value.startswith("data:")
        ]


def test_a_build_is_a_page_of_its_own(tiny_build: Path, tmp_path: Path):
    told: list[tuple[str, int, int]] = []
    write_page(tiny_build, Asked(limit=5), tmp_path / "a/page.html", lambda *one: told.append(one))
    text = (tmp_path / "a/page.html").read_text(encoding="utf-8")
    page, shown = Page(text), list(exhibit_of(tiny_build, Asked(limit=5)).samples())
    assert page.outside == []
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    assert told == [("build", k, 5) for k in range(6)]
    assert len(page.articles) == len(shown) == 5
    for values, pictures, one in zip(page.articles, page.pictures, shown, strict=True):
        numbers = {name: value for name, value in one.values.items() if isinstance(value, int | float)}
        assert values == numbers
        names = ["image", "foreground", "background", "mask", "shadow", "alpha"]
        assert [alt for alt, _ in pictures] == [f"{name} of {one.key}" for name in names]
        assert all(picture.shape[0] * picture.shape[1] <= (SIDE + 1) ** 2 for _, picture in pictures)
        assert one.key in text
    assert {"+haze", "-haze"} <= set(page.options)
    assert "+composite_error" in page.options


def test_a_report_is_a_page_too(tiny_report: Path, tmp_path: Path):
    write_page(tiny_report, Asked(), tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(page.articles) == 4
    assert all(values["telea.psnr_mask"] > 0 for values in page.articles)
    assert "+telea.psnr_mask" in page.options


def test_texts_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LAYERKIT_CACHE", str(tmp_path))
    evil = "<script>alert(1)</script>\"'&"

    def samples():
        panel = Media("e").folder("e").panel(evil, "image", np.zeros((9, 9, 3), np.uint8))
        values = {"key": evil, "caption": evil, "n": 1.5, "none": None, "names": [evil, "b"]}
        yield Shown(key=evil, panels={"image": panel}, values=values, tags=(evil,))

    exhibit = Exhibit(
        name=evil,
        kind="build",
        folder=tmp_path,
        identity="i",
        total=1,
        samples=samples,
        panels=("image",),
        groups={evil: ("n", "key")},
        said={evil: [evil]},
    )
    write_gallery(exhibit, tmp_path / "page.html", lambda *told: None)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert Page(text).articles == [{"n": 1.5}]
    assert "none" not in text.partition("<main")[2].lower().replace("display:none", "")


def test_a_page_is_not_overwritten_unasked(tiny_build: Path, tmp_path: Path):
    path = tmp_path / "page.html"
    path.write_text("mine")
    with pytest.raises(UsageError, match="add --overwrite"):
        write_page(tiny_build, Asked(limit=1), path, lambda *told: None)
    assert path.read_text() == "mine"
    write_page(tiny_build, Asked(limit=1), path, lambda *told: None, overwrite=True)
    assert path.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(UsageError, match="--html: cannot write"):
        write_page(tiny_build, Asked(limit=1), path / "below.html", lambda *told: None)
