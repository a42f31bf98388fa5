"""EfficientNetV2 as tables (arXiv:2104.00298, Table 4; google/automl, `effnetv2_configs.py`)."""

from dataclasses import replace

from backbone.specs import LayerStyle, NetSpec, Preprocessing, StageSpec, published

# The official code says 0.9, torch's 0.1; the paper says 0.99.
STYLE = LayerStyle(bn_momentum=0.1)
# The whole picture, squashed: at 320 pixels and more the official evaluation does not crop.
PREPROCESSING = Preprocessing(
    mean=(128.0, 128.0, 128.0),
    std=(128.0, 128.0, 128.0),
    interpolation="bilinear",
    crop=None,
)
# V2's `round_filters` takes the nearest multiple of 8, however much that takes away.
ANY_LOSS = 1.0


def _fused(expand: int, stride: int, channels: int, layers: int) -> StageSpec:
    return StageSpec(expand, 3, stride, channels, layers, se_ratio=0.0, block="fused")


def _mbconv(expand: int, stride: int, channels: int, layers: int) -> StageSpec:
    return StageSpec(expand, 3, stride, channels, layers)


def _net(key: str, *stages: StageSpec, stem: int, image_size: int, dropout: float) -> NetSpec:
    return NetSpec(
        name=f"efficientnetv2_{key}",
        stem=stem,
        stages=stages,
        head=1280,
        image_size=image_size,
        dropout=dropout,
        style=STYLE,
        preprocessing=PREPROCESSING,
    )


_SEARCHED = (
    _net(
        "s",
        # expand, stride, channels, layers
        _fused(1, 1, 24, 2),
        _fused(4, 2, 48, 4),
        _fused(4, 2, 64, 4),
        _mbconv(4, 2, 128, 6),
        _mbconv(6, 1, 160, 9),
        _mbconv(6, 2, 256, 15),
        stem=24,
        image_size=384,
        dropout=0.2,
    ),
    _net(
        "m",
        _fused(1, 1, 24, 3),
        _fused(4, 2, 48, 5),
        _fused(4, 2, 80, 5),
        _mbconv(4, 2, 160, 7),
        _mbconv(6, 1, 176, 14),
        _mbconv(6, 2, 304, 18),
        _mbconv(6, 1, 512, 5),
        stem=24,
        image_size=480,
        dropout=0.3,
    ),
    _net(
        "l",
        _fused(1, 1, 32, 4),
        _fused(4, 2, 64, 7),
        _fused(4, 2, 96, 7),
        _mbconv(4, 2, 192, 10),
        _mbconv(6, 1, 224, 19),
        _mbconv(6, 2, 384, 25),
        _mbconv(6, 1, 640, 7),
        stem=32,
        image_size=480,
        dropout=0.4,
    ),
    _net(
        "xl",
        _fused(1, 1, 32, 4),
        _fused(4, 2, 64, 8),
        _fused(4, 2, 96, 8),
        _mbconv(4, 2, 192, 16),
        _mbconv(6, 1, 256, 24),
        _mbconv(6, 2, 512, 32),
        _mbconv(6, 1, 640, 8),
        stem=32,
        image_size=512,
        dropout=0.4,
    ),
)

# B0 to B3 are compared with V1's in the paper and go through V1's preprocessing.
BASELINE = replace(
    _net(
        "b0",
        _fused(1, 1, 16, 1),
        _fused(4, 2, 32, 2),
        _fused(4, 2, 48, 2),
        _mbconv(4, 2, 96, 3),
        _mbconv(6, 1, 112, 5),
        _mbconv(6, 2, 192, 8),
        stem=32,
        image_size=224,
        dropout=0.2,
    ),
    preprocessing=Preprocessing(),
)

_ROWS: dict[str, tuple[float, float, int, float]] = {
    # name: width, depth, resolution, dropout
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
}

EFFICIENTNETV2: dict[str, NetSpec] = {spec.name: spec for spec in _SEARCHED} | {
    f"efficientnetv2_{key}": published(BASELINE, f"efficientnetv2_{key}", row, max_loss=ANY_LOSS)
    for key, row in _ROWS.items()
}
