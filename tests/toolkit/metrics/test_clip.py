"""CLIP vectors and scores against transformers, clean-fid and openai's preprocessing, with a tiny random model."""

import json

import numpy as np
import pytest
from PIL import Image

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.manifests.weights import WEIGHTS
from layerkit.toolkit.metrics.clip import MODELS, Clip, clip_scores

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.CLIPConfig(
        text_config=tower | {"vocab_size": 10, "bos_token_id": 8, "eos_token_id": 9},
        vision_config=tower | {"image_size": 64, "patch_size": 16},
        projection_dim=24,
    )
    return transformers.CLIPModel(config).eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Weights as the hub's client lays them out."""
    folder = tmp_path_factory.mktemp("weights") / "clip-vit-l-14"
    model.save_pretrained(folder)
    words = ["a", "c", "t", "a</w>", "c</w>", "t</w>", "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    return folder


@pytest.fixture(scope="module")
def clip(folder):
    return Clip.load("clip-vit-l-14", folder.parent)


def test_pictures_are_prepared_as_transformers_does(model, photo):
    size = {"shortest_edge": 64}
    processor = transformers.CLIPImageProcessor(size=size, crop_size={"height": 64, "width": 64})
    pixels = processor(Image.fromarray(photo), return_tensors="pt").pixel_values
    with torch.inference_mode():
        found = model.get_image_features(pixel_values=pixels)
    theirs = getattr(found, "pooler_output", found).numpy()
    ours = Clip(model).images([photo])
    assert np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()


def test_pictures_are_prepared_as_clean_fid_does(model, photo):
    """torchvision's Resize and CenterCrop of a PIL picture, as clean-fid's CLIP preprocessing and openai's."""
    from torchvision import transforms

    steps = [transforms.Resize(64, interpolation=transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(64)]
    normal = transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    chain = transforms.Compose([*steps, transforms.ToTensor(), normal])
    for picture in (photo, photo[:50], photo[:, :67], photo[:30, :31]):
        with torch.inference_mode():
            found = model.get_image_features(pixel_values=chain(Image.fromarray(picture))[None])
        theirs = getattr(found, "pooler_output", found).numpy()
        assert Clip(model).images([picture]) == pytest.approx(theirs, abs=1e-5)


def test_texts_are_tokenised_padded_and_cut(clip, model):
    tokens = torch.tensor([[8, 7, 9]])
    with torch.inference_mode():
        found = model.get_text_features(input_ids=tokens)
    theirs = getattr(found, "pooler_output", found).numpy()
    assert clip.texts(["cat"]) == pytest.approx(theirs, abs=1e-5)
    assert clip.texts(["cat", "a cat a cat"])[0] == pytest.approx(theirs[0], abs=1e-5)
    assert clip.texts(["cat " * 500]).shape == (1, 24)


def test_scores_are_cosines(clip, photo, noisy):
    pictures, texts = clip.images([photo, noisy]), clip.texts(["cat", "a cat"])
    scores = clip_scores(pictures, texts)
    expected = torch.nn.functional.cosine_similarity(torch.from_numpy(pictures), torch.from_numpy(texts)) * 100
    assert scores == pytest.approx(expected.numpy(), abs=1e-4)
    assert clip_scores(pictures, pictures) == pytest.approx([100, 100])
    assert clip_scores(pictures, -3 * pictures) == pytest.approx([-100, -100]), "not clamped"
    assert np.isnan(clip_scores(pictures, np.zeros_like(pictures))).all()


def test_batches_change_nothing_but_rounding(clip, photo, noisy):
    pictures = [photo, noisy, photo[::-1].copy()]
    alone = np.concatenate([clip.images([picture]) for picture in pictures])
    assert clip.images(pictures) == pytest.approx(alone, abs=1e-5)
    assert clip.images([]).shape == (0, 24)


@pytest.mark.parametrize("name", MODELS)
def test_missing_weights_say_how_to_get_them(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(MissingWeights, match=f"run: hf download {WEIGHTS[name].repo} --revision main"):
        Clip.load(name, tmp_path)


def test_an_incomplete_folder_says_so(tmp_path, folder):
    broken = tmp_path / "clip-vit-l-14"
    broken.mkdir()
    for file in ("config.json", "vocab.json", "merges.txt"):
        (broken / file).write_bytes((folder / file).read_bytes())
    with pytest.raises(MissingWeights, match="are not complete"):
        Clip.load("clip-vit-l-14", tmp_path)


def test_what_is_refused_is_said(model, photo):
    clip = Clip(model)
    with pytest.raises(UsageError, match="with a tokenizer to score texts"):
        clip.texts(["cat"])
    with pytest.raises(UsageError, match="picture 0: expected uint8"):
        clip.images([photo / 255])
    with pytest.raises(UsageError, match="got 1 and 2"):
        clip_scores(np.ones((1, 3), np.float32), np.ones((2, 3), np.float32))
    with pytest.raises(UsageError, match=r"expected a CLIP model \(.*got 'clip'"):
        Clip.load("clip")
