"""The table of metrics: every name leads somewhere, and importing it loads nothing heavy."""

import inspect
import pkgutil
import subprocess
import sys

import pytest

import layerkit.toolkit.metrics
from layerkit.manifests.errors import UsageError
from layerkit.manifests.weights import WEIGHTS
from layerkit.toolkit.metrics import METRICS, find
from layerkit.toolkit.metrics.features import RECIPES
from layerkit.toolkit.metrics.regions import REGIONS

VARIANTS = [(metric, variant) for metric, row in METRICS.items() for variant in row.variants]


@pytest.mark.parametrize(("metric", "variant"), VARIANTS)
def test_every_variant_leads_to_a_function_and_known_weights(metric, variant):
    row, found = find(metric, variant)
    parameters = inspect.signature(found.load()).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if metric != "lpips":
        assert len(required) in (len(row.compares), len(row.compares) + 1)
    assert row.kind in ("per-image", "distribution")
    assert set(row.regions) <= set(REGIONS)
    assert set(found.weights) <= set(WEIGHTS)
    assert found.features in ("", "clip", *RECIPES)
    if found.features in RECIPES:
        assert found.weights == (RECIPES[found.features].network,)
    assert found.about


def test_the_first_variant_is_the_default():
    assert find("fid")[1] is METRICS["fid"].variants["clean-fid"]
    assert find("ssim", "uniform")[1].load().keywords == {"window": "uniform"}


def test_unknown_names_list_what_there_is():
    with pytest.raises(UsageError, match=r"expected a metric \(psnr, .*got 'pnsr'"):
        find("pnsr")
    with pytest.raises(UsageError, match=r"variant of lpips \(alex, vgg, squeeze\), got 'resnet'"):
        find("lpips", "resnet")


def test_the_table_is_light():
    code = "import sys, layerkit.toolkit.metrics; print({'torch', 'numpy', 'cv2', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_modules_load_no_network_library_before_they_need_it():
    found = pkgutil.iter_modules(layerkit.toolkit.metrics.__path__, "layerkit.toolkit.metrics.")
    modules = ", ".join(module.name for module in found)
    code = f"import sys, {modules}; print({{'torch', 'transformers', 'lpips', 'sklearn'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
