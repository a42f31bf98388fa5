"""Gaussian soft-NMS.

5,000 candidates of 90 classes in a picture of 512 x 512, the best 100 kept, against effdet's
`batched_soft_nms`; both give the same boxes and scores.
"""

from collections.abc import Iterator

import torch
from effdet.soft_nms import batched_soft_nms

from efficientdet.soft_nms import soft_nms
from peers.side_by_side import Row, compared, interleaved, random_boxes

COUNT, SIZE, NUM_CLASSES, KEPT = 5000, 512, 90, 100


def measure(device: str) -> Iterator[Row]:
    """Yield the only row."""
    generator = torch.Generator().manual_seed(0)
    boxes = random_boxes(COUNT, SIZE, generator).to(device)
    scores = (torch.rand(COUNT, generator=generator) ** 4).to(device)
    labels = torch.randint(NUM_CLASSES, (COUNT,), generator=generator).to(device)

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        return soft_nms(boxes, scores, labels, sigma=0.5, max_detections=KEPT)

    def theirs() -> tuple[torch.Tensor, torch.Tensor]:
        return batched_soft_nms(
            boxes, scores, labels, method_gaussian=True, sigma=0.5, score_threshold=0.001
        )

    kept, decayed = ours()
    peer_kept, peer_scores = theirs()
    assert torch.equal(kept, peer_kept[:KEPT])
    assert torch.allclose(decayed, peer_scores[:KEPT], atol=1e-6)
    times = interleaved({"ours": ours, "effdet": theirs}, rounds=5, device=device)
    yield compared(
        times, "ours", "effdet",
        what=f"{COUNT} candidates", against="effdet's soft-NMS", asked=10,
    )  # fmt: skip
