"""Any network as a feature pyramid."""

import pytest
import timm
import torch

from backbone import EFFICIENTNET, EfficientNetTrunk, NetSpec, Pyramid
from backbone.pyramid import TimmPyramid, find_backbone
from compound.errors import UserError


def test_timms_features() -> None:
    torch.manual_seed(0)
    pyramid = TimmPyramid("resnet18").eval()
    assert isinstance(pyramid, Pyramid)
    assert pyramid.channels == {3: 128, 4: 256, 5: 512}  # of a ResNet's stages 2 to 4
    theirs = timm.create_model("resnet18", features_only=True).eval()
    theirs.load_state_dict(pyramid.net.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        found, wanted = pyramid(images), theirs(images)[-3:]
    assert list(found) == [3, 4, 5]
    assert all(torch.equal(x, y) for x, y in zip(found.values(), wanted, strict=True))
    # 255 * (0.485, 0.456, 0.406), as its weights were trained
    assert pyramid.preprocessing.mean == pytest.approx((123.675, 116.28, 103.53))


@pytest.mark.parametrize("name", ["convnext_atto", "resnet18"])  # one cuts odd sides, one does not
def test_any_size(name: str) -> None:
    with torch.inference_mode():
        maps = TimmPyramid(name).eval()(torch.zeros(1, 3, 75, 97))
    # ceil(75 / 8) = 10, ceil(97 / 8) = 13, and so on
    assert [tuple(x.shape[-2:]) for x in maps.values()] == [(10, 13), (5, 7), (3, 4)]


def test_networks_without_levels_are_refused() -> None:
    with pytest.raises(UserError, match="timm/vit_tiny_patch16_224 gives no feature maps"):
        TimmPyramid("vit_tiny_patch16_224")
    # windows of one size, maps with the channels last, convolutions without padding
    for name in ("swin_tiny_patch4_window7_224", "inception_v3"):
        with pytest.raises(UserError, match=f"timm/{name} takes pictures of one size only"):
            TimmPyramid(name)
    with pytest.raises(UserError, match=r"timm/resnet18\.foo: Invalid pretrained tag"):
        TimmPyramid("resnet18.foo")
    with pytest.raises(UserError, match="'timm/resnet_18' is unknown; did you mean timm/res"):
        TimmPyramid("resnet_18")


def test_without_a_network_pretrained_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = timm.create_model

    def offline(name: str, *, pretrained: bool = False, **settings: object) -> object:
        if pretrained:
            raise OSError("no network")
        return real(name, **settings)

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(UserError, match="could not fetch those of resnet18"):
        TimmPyramid("resnet18", pretrained=True)


def test_names_of_all_packages_are_known() -> None:
    assert find_backbone("efficientnet_b3") == EFFICIENTNET["efficientnet_b3"]
    v2 = find_backbone("efficientnetv2_s")
    assert isinstance(v2, NetSpec)
    assert EfficientNetTrunk(v2).channels[5] == 256
    assert find_backbone("timm/resnet50") == "timm/resnet50"
    with pytest.raises(UserError, match="backbone=resnet50 is one of timm's; write timm/resnet50"):
        find_backbone("resnet50")
    with pytest.raises(UserError, match=r"did you mean efficientnetv2_s.*timm/<name>"):
        find_backbone("efficientnetv2-s")
