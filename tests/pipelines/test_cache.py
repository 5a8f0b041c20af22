"""The cache: what was put comes back whole, or not at all."""

from pathlib import Path

import pytest

from layerkit.pipelines.cache import Cache, bundle_key
from layerkit.toolkit.files import cache_folder

BUNDLE = {"a.png": bytes(range(256)) * 40, "empty": b"", "json": b"{}"}
KEY = bundle_key("0" * 64, "step", {})


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "cache")
    cache.put(KEY, BUNDLE)
    return cache


def test_a_bundle_comes_back(cache: Cache):
    assert cache.get(KEY) == BUNDLE
    assert [path for path in cache.folder.rglob("*") if path.is_file()] == [cache.path(KEY)]


def test_an_absent_bundle_is_none(cache: Cache):
    assert cache.get("f" * 64) is None


@pytest.mark.parametrize("size", [0, 1, 511, 512, 600, 1023, 1024, 5000, 10_000, 11_200])
def test_a_truncated_bundle_is_none_and_is_replaced(cache: Cache, size: int):
    path = cache.path(KEY)
    path.write_bytes(path.read_bytes()[:size])
    assert cache.get(KEY) is None
    cache.put(KEY, BUNDLE)
    assert cache.get(KEY) == BUNDLE


def test_a_bundle_of_other_bytes_is_none(cache: Cache):
    cache.path(KEY).write_bytes(b"no tar at all" * 1000)
    assert cache.get(KEY) is None


def test_a_bundle_that_cannot_be_made_leaves_nothing(cache: Cache):
    with pytest.raises(ValueError, match="100 bytes"):
        cache.put("e" * 64, {"a": b"1", "x" * 200: b"2"})
    assert [path for path in cache.folder.rglob("*") if path.is_file()] == [cache.path(KEY)]


def test_a_key_depends_on_everything_and_not_on_the_order():
    parts = [("0" * 64, "step", {"a": 1, "b": 2}), ("1" * 64, "step", {"a": 1, "b": 2}), ("0" * 64, "other", {"a": 1})]
    parts += [("0" * 64, "step", {"a": 1, "b": 3}), ("0" * 64, "step", {"a": 1})]
    assert len({bundle_key(*part) for part in parts}) == len(parts)
    assert bundle_key("0" * 64, "step", {"b": 2, "a": 1}) == bundle_key(*parts[0])


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("LAYERKIT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("LAYERKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "layerkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home/.cache/layerkit"
