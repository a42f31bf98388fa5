"""Detectors' weights: from any file, row by row, and back under effdet's names."""

import hashlib
from pathlib import Path

import effdet
import pytest
import torch
from torch import Tensor

from backbone.specs import Preprocessing
from compound.errors import UserError
from compound.weights import save_weights
from efficientdet import EfficientDet, create_model, load_model, to_effdet
from efficientdet import download as public
from efficientdet.coco_classes import COCO_CATEGORIES, PUBLISHED_ROWS
from efficientdet.weights import read_weights

NAME = "efficientdet_lite0"
ROWS = "class_head.predict.pointwise.weight"


@pytest.fixture(scope="module")
def published() -> EfficientDet:
    """Return a random stand-in for a published network: 90 rows that all differ."""
    torch.manual_seed(0)
    return create_model(NAME).eval()


@pytest.fixture
def effdet_file(published: EfficientDet, tmp_path: Path) -> Path:
    path = tmp_path / "lite0.pth"
    torch.save(to_effdet(published), path)
    return path


def rows(model: EfficientDet) -> Tensor:
    """Return the class rows ``(9 anchors, K, ...)``."""
    return model.state_dict()[ROWS].unflatten(0, (9, -1))


def test_effdet_takes_our_weights(published: EfficientDet, effdet_file: Path) -> None:
    config = effdet.get_efficientdet_config("tf_efficientdet_lite0")
    config.image_size = (128, 128)
    theirs = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    theirs.load_state_dict(torch.load(effdet_file, weights_only=True))  # strict
    images = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        for ours, wanted in zip(published(images), theirs(images), strict=True):
            for x, y in zip(ours, wanted, strict=True):
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_all_rows_of_the_published_head(published: EfficientDet, effdet_file: Path) -> None:
    model = create_model(NAME, weights=effdet_file)
    assert model.load_report is not None
    assert model.load_report.complete
    assert all(
        torch.equal(value, published.state_dict()[key]) for key, value in model.state_dict().items()
    )
    assert model.class_names == PUBLISHED_ROWS


def test_rows_by_class_name(published: EfficientDet, effdet_file: Path) -> None:
    """COCO's ids have holes: dog is category 18, row 17; zebra is category 24, row 23."""
    model = create_model(
        NAME, num_classes=3, class_names=["zebra", "unicorn", "dog"], weights=effdet_file
    )
    assert torch.equal(rows(model)[:, [0, 2]], rows(published)[:, [23, 17]])
    fresh = rows(model)[:, 1]
    assert not any(torch.equal(fresh, rows(published)[:, row]) for row in range(90))
    assert "class rows of 1 of 3 classes, now random" in str(model.load_report)
    bias = model.class_head.predict.pointwise.bias
    assert bias is not None
    # -log(99), the bias of a fresh row
    torch.testing.assert_close(bias.unflatten(0, (9, 3))[:, 1], torch.full((9,), -4.59512))


def test_80_classes_find_all_their_rows(effdet_file: Path) -> None:
    names = [COCO_CATEGORIES[i] for i in sorted(COCO_CATEGORIES)]
    model = create_model(NAME, num_classes=80, class_names=names, weights=effdet_file)
    assert model.load_report is not None
    assert model.load_report.complete


def test_our_own_file_rebuilds_alone_and_lends_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(1)
    names = ["cat", "dog", "owl"]
    model = create_model(
        "efficientdet_d0",
        num_classes=3,
        class_names=names,
        image_size=(96, 128),
        aspects="rounded",
        anchor_scale=3.0,
        backbone="efficientnetv2_b0",
    ).eval()
    path = tmp_path / "own.safetensors"
    save_weights(path, model.state_dict(), {"model": model.spec.to_dict(), "class_names": names})
    again = load_model(path).eval()
    assert (again.spec, again.class_names) == (model.spec, ("cat", "dog", "owl"))
    images = torch.randint(0, 256, (1, 3, 96, 128), dtype=torch.uint8)
    for x, y in zip(again.predict(images), model.predict(images), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(x, y, strict=True))
    part = create_model(
        "efficientdet_d0",
        num_classes=2,
        class_names=["owl", "elk"],
        backbone="efficientnetv2_b0",
        weights=path,
    )
    assert torch.equal(rows(part)[:, 0], rows(model)[:, 2])
    assert (part.spec.aspects, part.spec.anchor_scale) == ("rounded", 3.0)
    assert "trained at 96 x 128 pixels and are used at 512 x 512" in caplog.text


def test_other_networks_are_refused(effdet_file: Path, tmp_path: Path) -> None:
    for settings, message in (
        ({"name": "efficientdet_lite1"}, "belong to another network"),
        ({"name": "efficientdet_d0"}, "belong to another network"),
        ({"name": NAME, "backbone": "efficientnet_b0"}, "belong to another network"),
        ({"name": NAME, "backbone": "timm/resnet18"}, "do not fit another backbone"),
        ({"name": NAME, "aspects": "foo"}, "model.aspects 'foo' is unknown"),
        ({"name": NAME, "fusion": "fastattn"}, "model.fusion 'fastattn' is unknown"),
        ({"name": NAME, "num_classes": 3, "class_names": ["a"]}, "a name for each"),
        ({"name": NAME, "num_classes": 0}, "num_classes=0: expected 1 or more"),
        ({"name": NAME, "backbone_weights": "imagenet"}, "leave backbone_weights out"),
    ):
        with pytest.raises(UserError, match=message):
            create_model(**settings, weights=effdet_file)
    path = tmp_path / "d6.safetensors"
    with torch.device("meta"):
        spec = create_model("efficientdet_d6").spec
    save_weights(path, {ROWS: torch.zeros(1)}, {"model": spec.to_dict(), "class_names": ["a"]})
    with pytest.raises(
        UserError, match=r"trained as efficientdet_d6 .* do not fit efficientdet_d7"
    ):
        create_model("efficientdet_d7", weights=path)
    classifier = tmp_path / "b0.pth"
    torch.save({"conv_stem.weight": torch.zeros(1)}, classifier)
    with pytest.raises(UserError, match="given as backbone_weights"):
        create_model("efficientdet_d0", weights=classifier)


def test_anchors_follow_the_weights(
    tmp_path: Path, effdet_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The published D0 to D7x were trained with 1.4 and 0.7, Lite with sqrt 2."""
    caplog.set_level("INFO")
    path = tmp_path / "d0.pth"
    model = create_model("efficientdet_d0")
    torch.save(to_effdet(model), path)
    assert model.spec.aspects == "exact"
    assert create_model("efficientdet_d0", weights=path).spec.aspects == "rounded"
    assert create_model("efficientdet_d0", weights=path, aspects="exact").spec.aspects == "exact"
    assert create_model(NAME, weights=effdet_file).spec.aspects == "exact"
    assert "do not say their anchors: taken as exact" in caplog.text


def test_backbone_weights_bring_their_conventions(tmp_path: Path) -> None:
    import torchvision

    theirs = torchvision.models.efficientnet_b0(weights=None)
    path = tmp_path / "efficientnet_b0.pth"
    torch.save(theirs.state_dict(), path)
    model = create_model("efficientdet_d0", num_classes=2, backbone_weights=path)
    assert not isinstance(model.spec.backbone, str)
    assert model.spec.backbone.style.padding == "symmetric"
    with pytest.raises(UserError, match="effdet cannot"):
        to_effdet(model)
    kernel = model.state_dict()["pyramid.stem.conv.weight"]
    assert torch.equal(kernel, theirs.state_dict()["features.0.0.weight"])
    # and a detector's own file keeps them
    saved = tmp_path / "det.safetensors"
    metadata = {"model": model.spec.to_dict(), "class_names": ["a", "b"]}
    save_weights(saved, model.state_dict(), metadata)
    again = create_model("efficientdet_d0", num_classes=2, weights=saved).eval()
    images = torch.randn(1, 3, 96, 160)
    with torch.inference_mode():
        assert torch.equal(again(images)[0][0], model.eval()(images)[0][0])


@pytest.fixture
def release(effdet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """Put the file where downloads come from, under a name that ends with its checksum."""
    server, hub = tmp_path / "server", tmp_path / "hub"
    server.mkdir()
    digest = hashlib.sha256(effdet_file.read_bytes()).hexdigest()[:8]
    (server / f"tf_efficientdet_lite0-{digest}.pth").write_bytes(effdet_file.read_bytes())
    monkeypatch.setitem(public._COCO_FILES, "lite0", f"lite0-{digest}")
    monkeypatch.setattr(public, "_RELEASE", f"{server.as_uri()}/")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    return server, digest


def test_public_weights_are_fetched_once(
    release: tuple[Path, str], published: EfficientDet
) -> None:
    server, digest = release
    model = create_model(NAME, weights="coco")
    assert torch.equal(rows(model), rows(published))
    (server / f"tf_efficientdet_lite0-{digest}.pth").unlink()
    create_model(NAME, weights="coco")  # from the cache
    with pytest.raises(UserError, match="no such weights of lite0; they exist for d0, d1"):
        create_model(NAME, weights="advprop")
    with pytest.raises(UserError, match="with its own backbone; leave one out"):
        create_model(NAME, weights="coco", backbone="timm/resnet18")
    with pytest.raises(UserError, match="give them as backbone_weights=imagenet"):
        create_model(NAME, weights="imagenet")


def test_a_download_that_differs_is_refused(release: tuple[Path, str]) -> None:
    server, digest = release
    (server / f"tf_efficientdet_lite0-{digest}.pth").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"weights=coco: .*could not be fetched \(invalid hash"):
        create_model(NAME, weights="coco")
    assert not list(Path(torch.hub.get_dir(), "checkpoints").iterdir())


def test_without_a_network_the_way_out_is_told(
    release: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public, "_RELEASE", "http://127.0.0.1:9/")  # nobody listens there
    with pytest.raises(
        UserError,
        match=r"fetch it elsewhere and put it into .*hub/checkpoints, .*efficientdet-lite0\.tgz",
    ):
        create_model(NAME, weights="coco")


def test_advprop_weights_see_pictures_from_minus_one_to_one(tmp_path: Path) -> None:
    path = tmp_path / f"tf_efficientdet_{public._ADVPROP_FILES['d0']}.pth"
    model = create_model("efficientdet_d0")
    torch.save(to_effdet(model), path)
    loaded = create_model("efficientdet_d0", weights=path)
    assert loaded.preprocessing.mean == (127.5, 127.5, 127.5)
    extremes = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert loaded.normalize(extremes).flatten().tolist() == [-1.0] * 3 + [1.0] * 3
    assert model.preprocessing.mean == Preprocessing().mean


@pytest.mark.extra("tensorflow")
@pytest.mark.real
def test_averages_of_an_official_checkpoint(compound_data: Path) -> None:
    from tensorflow import train

    reader = train.load_checkpoint(str(compound_data / "expected/tf/efficientdet-d0/ckpt/model"))
    folder = compound_data / "expected/tf/efficientdet-d0/ckpt"
    with torch.device("meta"):
        spec = create_model("efficientdet_d0").spec
    weights = read_weights(folder, spec)
    assert weights.class_names == PUBLISHED_ROWS
    name = "fpn_cells/cell_1/fnode4/WSM"
    for end in ("", "_1", "_2"):
        average = reader.get_tensor(f"{name}{end}/ExponentialMovingAverage")
        assert average in weights.tensors["bifpn.cells.1.nodes.4.weights"].numpy()


@pytest.mark.real
def test_genuine_weights_load_completely(compound_data: Path) -> None:
    file = compound_data / "weights/efficientdet_lite0.effdet.pth"
    model = create_model(NAME, weights=file)
    assert model.load_report is not None
    assert model.load_report.complete
    written = to_effdet(model)
    original = torch.load(file, weights_only=True)
    assert written.keys() == original.keys()
    assert all(torch.equal(value, original[key]) for key, value in written.items())
