"""Texts as sequences: words by their hashes, and a text encoder of transformers read from a pipeline's folder."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.toolkit.models.text_encoders import TextOptions, Words, load_text_encoder

WORDS = TextOptions(encoder="words", length=6, buckets=64, width=8)


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def base(layerdiffuse_weights: Path) -> Path:
    """A pipeline's folder whose text encoder has eight channels and a tokenizer of single letters, 16 tokens a text."""
    return layerdiffuse_weights / "layerdiffuse-sdxl-base"


def test_words_are_known_by_what_they_say_and_where():
    words = Words(WORDS)
    red, upper, swapped = words.ids("a red cone"), words.ids("A  Red, CONE!"), words.ids("a cone red")
    assert red == upper
    assert sorted(red) == sorted(swapped) != red
    assert red[3:] == [1, 0, 0]
    assert min(red[:3]) >= 2
    with torch.no_grad():
        words.places.normal_()
        sequence = words(["a red cone", "a cone red"])
    assert sequence.shape == (2, 6, 8)
    torch.testing.assert_close(sequence[0, 0], sequence[1, 0])
    assert not torch.equal(sequence[0, 1], sequence[1, 1])


def test_a_hash_is_the_same_on_every_machine():
    bucket = 2 + int(hashlib.sha256(b"red").hexdigest()[:16], 16) % (64 - 2)
    assert Words(WORDS).ids("red") == [bucket, 1, 0, 0, 0, 0]


@given(st.text(max_size=60))
def test_any_text_is_a_sequence_of_the_length_that_ends_once(text: str):
    ids = Words(WORDS).ids(text)
    assert len(ids) == 6
    assert ids.count(1) == 1
    assert all(0 <= one < 64 for one in ids)


def test_a_published_encoder_gives_what_transformers_gives(base: Path):
    from transformers import CLIPTextModel, CLIPTokenizer

    encoder = load_text_encoder(TextOptions(), str(base))
    found = encoder(["a cat", "dogs and more letters than there is room for"])
    model = CLIPTextModel.from_pretrained(base / "text_encoder")
    ids = CLIPTokenizer.from_pretrained(base / "tokenizer")("a cat", padding="max_length", return_tensors="pt")
    assert found.shape == (2, 16, 8)
    assert encoder.width == 8
    torch.testing.assert_close(found[:1], model(ids.input_ids).last_hidden_state)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.train().model.training


def test_an_encoder_without_a_limit_takes_512_tokens(tmp_path: Path):
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0)]
    T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(tmp_path / "tokenizer")
    sizes = {"vocab_size": 4, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    T5EncoderModel(T5Config(**sizes)).save_pretrained(tmp_path / "text_encoder")
    encoder = load_text_encoder(TextOptions(), str(tmp_path))
    assert encoder.width == 8
    assert encoder(["a a", "a"]).shape == (2, 512, 8)


def test_a_planned_encoder_has_the_sizes_of_stable_diffusions():
    with torch.device("meta"):
        encoder = load_text_encoder(TextOptions(), "not/here", meta=True)
        states = encoder(["a", "b", "c"])
    assert states.shape == (3, 77, 768)
    assert round(sum(p.numel() for p in encoder.parameters()) / 1e6) == 123, "CLIP ViT-L/14's text encoder"


def test_what_is_missing_is_told_with_the_remedy(base: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"expected --base, .*--set model\.text\.encoder=words"):
        load_text_encoder(TextOptions(), "")
    with pytest.raises(MissingWeights, match=r"expected a text encoder with safetensors in .*text_encoder"):
        load_text_encoder(TextOptions(), str(tmp_path))
    (tmp_path / "text_encoder").mkdir()
    config = json.loads((base / "text_encoder" / "config.json").read_text()) | {"architectures": ["Own"]}
    (tmp_path / "text_encoder" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"got \['Own'\] in its config\.json"):
        load_text_encoder(TextOptions(), str(tmp_path))
    with pytest.raises(UsageError, match=r"text\.buckets: expected 3 or more, got 2"):
        TextOptions(buckets=2)
