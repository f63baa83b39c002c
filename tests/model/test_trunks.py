"""The VGG16 trunk from a file: torchvision's weights, or a clear refusal."""

import copy

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from tudsr.errors import ModelError
from tudsr.model.losses import Dists, StagedTrunk
from tudsr.model.trunks import load_trunk, normalise

# The first biases of torchvision's vgg16 (IMAGENET1K_V1), as anyone who has it can print them.
FIRST = [0.4034, 0.3778, 0.4644, -0.3228, 0.3940, -0.3953, 0.3951, -0.5496]


@pytest.fixture(scope="module")
def vgg16():
    """torchvision's VGG16 with a small classifier, random but for the first biases."""
    torch.manual_seed(0)
    model = torch.nn.Module()
    layers = torchvision.models.vgg
    model.features = layers.make_layers(layers.cfgs["D"], batch_norm=False)
    model.classifier = torch.nn.Linear(4, 2)
    with torch.no_grad():
        model.features[0].bias[:8] = torch.tensor(FIRST)
    return model.eval()


def stored(model, path, keep=lambda name: True):
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if keep(k)}
    save_file(weights, path)
    return str(path)


def features_only(name):
    return name.startswith("features.")


def test_the_trunk_is_torchvisions(vgg16, tmp_path):
    """With a whole VGG16's names, classifier and all, as timm and torchvision write it."""
    trunk = load_trunk("vgg16", stored(vgg16, tmp_path / "whole.safetensors"))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(trunk(normalise(x)), vgg16.features(normalise(x)))


def test_dists_on_it_is_the_packages(vgg16, tmp_path, monkeypatch):
    import DISTS_pytorch.DISTS_pt as package

    monkeypatch.setattr(package.models, "vgg16", lambda **_: vgg16)
    path = stored(vgg16, tmp_path / "v.safetensors", features_only)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    y = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    staged = StagedTrunk(load_trunk("vgg16", path))
    with torch.no_grad():
        expected = package.DISTS(load_weights=True)(x, y)
        torch.testing.assert_close(
            Dists()(x, y, staged(x), staged(y)), expected.reshape(1), rtol=1e-4, atol=1e-5
        )


def test_files_that_are_not_torchvisions_vgg16(vgg16, tmp_path):
    with pytest.raises(ModelError, match=r"needs torchvision's weights.*hed_vgg16"):
        load_trunk("vgg16", None)
    with pytest.raises(ModelError, match=r"nowhere.*is not one; set trunk_path"):
        load_trunk("vgg16", str(tmp_path / "nowhere.safetensors"))
    (tmp_path / "text.safetensors").write_text("hello, this is no tensor")
    with pytest.raises(ModelError, match="is no safetensors file"):
        load_trunk("vgg16", str(tmp_path / "text.safetensors"))
    some = stored(vgg16, tmp_path / "some.safetensors", lambda n: n.startswith("features.0"))
    with pytest.raises(ModelError, match="does not hold VGG16's 13 convolutions"):
        load_trunk("vgg16", some)
    other = copy.deepcopy(vgg16)
    torch.nn.init.zeros_(other.features[0].bias)
    path = stored(other, tmp_path / "other.safetensors", features_only)
    with pytest.raises(ModelError, match="not torchvision's ImageNet weights"):
        load_trunk("vgg16", path)
