"""The weights table: where weights are looked for, what is recorded of them, and what the errors say."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.manifests.weights import WEIGHTS, hub_cache, hub_snapshot, locate, revision_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub" / "torch"))
    return tmp_path / "hub"


def cached(cache: Path, name: str, revision: str = "main") -> Path:
    """Put a complete snapshot of a row into the cache, laid out as the hub's client does."""
    row = WEIGHTS[name]
    repo = cache / f"models--{row.repo.replace('/', '--')}"
    snapshot = repo / "snapshots" / COMMIT
    for file in row.files:
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / file).write_text("{}")
    (repo / "refs").mkdir()
    (repo / "refs" / revision).write_text(COMMIT)
    return snapshot


def test_every_row_is_complete_and_named_by_its_key():
    for key, row in WEIGHTS.items():
        assert row.name == key
        assert row.licence
        assert row.revision
        assert row.files
        assert row.size_mb > 0
        assert row.repo == "" or row.repo.count("/") == 1


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/a/hub", "HF_HOME": "/b"}, "/a/hub"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HOME": "/home/x"}, "/home/x/.cache/huggingface/hub"),
    ],
)
def test_hub_cache_follows_the_same_variables_as_the_hub(monkeypatch, variables, expected):
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert hub_cache() == Path(expected)


def test_snapshot_agrees_with_the_hub_client(cache):
    from huggingface_hub import try_to_load_from_cache

    snapshot = cached(cache, "sd-inpaint")
    repo = WEIGHTS["sd-inpaint"].repo
    assert hub_snapshot(repo) == hub_snapshot(repo, COMMIT) == snapshot
    assert try_to_load_from_cache(repo, "model_index.json", cache_dir=cache) == str(snapshot / "model_index.json")
    assert hub_snapshot(repo, "another-branch") is None


def test_pipelines_are_folders_and_onnx_weights_are_files(cache):
    pipeline, export = cached(cache, "sdxl-inpaint"), cached(cache, "birefnet")
    assert locate("sdxl-inpaint") == pipeline
    assert locate("birefnet") == export / "onnx" / "model.onnx"


@pytest.mark.parametrize("place", ["u2net.onnx", "u2net/u2net.onnx", "u2net"])
def test_a_plain_file_is_found_under_weights(cache, tmp_path, place):
    file = tmp_path / "given" / place
    file.parent.mkdir(parents=True)
    file.write_bytes(b"onnx")
    assert locate("u2net", tmp_path / "given") == file


def test_weights_folder_wins_over_the_cache(cache, tmp_path):
    snapshot = cached(cache, "flux-fill")
    given = tmp_path / "given"
    assert locate("flux-fill", given) == snapshot
    (given / "flux-fill").mkdir(parents=True)
    assert locate("flux-fill", given) == snapshot, "an empty folder is not a pipeline"
    (given / "flux-fill" / "model_index.json").write_text("{}")
    assert locate("flux-fill", given) == given / "flux-fill"


@pytest.mark.parametrize("name", WEIGHTS)
def test_missing_weights_say_what_where_and_how(cache, tmp_path, name):
    row = WEIGHTS[name]
    with pytest.raises(MissingWeights) as caught:
        locate(name, tmp_path / "given")
    text = str(caught.value)
    assert all(part in text for part in (name, row.licence, str(tmp_path / "given" / name)))
    if row.repo:
        assert f"hf download {row.repo}" in text
        assert f"--revision {row.revision}" in text
        assert str(cache) in text
    elif row.url:
        assert f"curl -L --create-dirs -o DIR/{row.files[0]} {row.url} and give --weights DIR" in text
        assert str(cache / "torch" / "hub" / "checkpoints" / row.files[0]) in text
    else:
        assert "put it at DIR/u2net.onnx and give --weights DIR" in text


def test_named_files_must_all_be_there_and_are_all_asked_for(cache, tmp_path):
    folder, files = tmp_path / "layerdiffuse-sdxl", WEIGHTS["layerdiffuse-sdxl"].files
    folder.mkdir()
    for file in files:
        with pytest.raises(
            MissingWeights, match=f"hf download lllyasviel/LayerDiffuse_Diffusers {' '.join(files)} --rev"
        ):
            locate("layerdiffuse-sdxl", tmp_path)
        (folder / file).touch()
    assert locate("layerdiffuse-sdxl", tmp_path) == folder


@pytest.mark.parametrize("place", ["given/alexnet-owt-7be5be79.pth", "given/alexnet.pth", "given/alexnet", "hub"])
def test_a_plain_file_is_checked_wherever_it_is_found(cache, tmp_path, monkeypatch, place):
    row = WEIGHTS["alexnet"]
    file = cache / "torch" / "hub" / "checkpoints" / row.files[0] if place == "hub" else tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"another network")
    with pytest.raises(UsageError, match=r"expected sha256 7be5be79, got .*remove the file, then run: curl"):
        locate("alexnet", tmp_path / "given")
    digest = hashlib.sha256(b"another network").hexdigest()
    monkeypatch.setitem(WEIGHTS, "alexnet", replace(row, sha256=digest[:8]))
    assert locate("alexnet", tmp_path / "given") == file


def test_plain_files_are_named_as_torch_hub_names_them():
    import torch.hub

    for row in WEIGHTS.values():
        if row.url:
            assert row.url.endswith(f"/{row.files[0]}")
        if row.kind == "state-dict":
            assert row.sha256.startswith(torch.hub.HASH_REGEX.search(row.files[0])[1])


def test_missing_plain_file_without_a_folder_and_unknown_name(cache):
    with pytest.raises(MissingWeights, match="a folder given by --weights"):
        locate("u2net")
    with pytest.raises(UsageError, match=r"birefnet, u2net, sd-inpaint.*got 'u3net'"):
        locate("u3net")


def test_revision_is_the_commit_in_the_cache_and_a_content_hash_elsewhere(cache, tmp_path):
    snapshot = cached(cache, "birefnet")
    assert revision_of(snapshot) == revision_of(snapshot / "onnx" / "model.onnx") == COMMIT
    file = tmp_path / "a.onnx"
    file.write_bytes(b"weights")
    inner = hashlib.sha256(b"weights").hexdigest()
    assert revision_of(file) == "sha256:" + hashlib.sha256(f"\0{inner}\n".encode()).hexdigest()[:16]


def test_folder_revision_depends_on_names_and_bytes_but_not_on_hidden_files(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_text("1")
    first = revision_of(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "download").write_text("x")
    assert revision_of(folder) == first
    (folder / "a").rename(folder / "b")
    renamed = revision_of(folder)
    (folder / "b").write_text("2")
    assert len({first, renamed, revision_of(folder)}) == 3
