"""What the stages of a progressive training show a detector."""

from compound.data.sampler import Draw
from compound.stages import Stage
from efficientdet.data.datamodule import DetectionData
from efficientdet.data.index import AnnotationIndex


def test_stages_change_size_magnitude_and_mixup(shapes: dict[str, AnnotationIndex]) -> None:
    data = DetectionData(
        root="",
        read=lambda _: shapes,
        image_size=(48, 64),
        batch_size=2,
        seed=0,
        policy="rand-n1-m15",
        mixup=0.5,
    )
    assert data.last_stage == Stage(64, magnitude=15.0, mixup=0.5, batch_size=2)
    small = data.training_set(Stage(32, magnitude=7.5, mixup=0.25, batch_size=2))
    assert small.augment.policy is not None
    assert small.augment.policy.magnitude == 7.5
    assert small.mixing is not None
    assert small.mixing.mixup == 0.25
    sample = small[Draw(0, seed=1)]
    assert sample.image.shape == (24, 32, 3)  # both sides alike
    assert (sample.boxes <= [32, 24, 32, 24]).all()
    assert data.training_set(data.last_stage)[Draw(0, seed=1)].image.shape == (48, 64, 3)
