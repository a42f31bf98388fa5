import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from backbone.classification.ranking import RankingCollector, scores_of, write_ranking


def test_the_likeliest_classes_are_kept_in_order_of_the_pictures(tmp_path: Path) -> None:
    collector = RankingCollector()
    probabilities = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    collector.add(
        torch.tensor([4, 1]), torch.tensor([1, 2]), probabilities, torch.tensor([0.36, 1.2])
    )
    # A sampler that pads gives a picture twice.
    collector.add(torch.tensor([4]), torch.tensor([1]), probabilities[:1], torch.tensor([0.36]))
    ranking = collector.gather()
    assert ranking is not None
    assert ranking.indices.tolist() == [1, 4]
    assert ranking.truth.tolist() == [2, 1]
    assert ranking.labels.tolist() == [[0, 2, 1], [1, 2, 0]]
    np.testing.assert_allclose(ranking.scores[0], [0.5, 0.3, 0.2])
    assert collector.gather() is None  # it began anew
    scores = scores_of(ranking)
    assert (scores["top1"], scores["top5"]) == (0.5, 1.0)  # the second is right, of three classes
    assert scores["loss"] == pytest.approx((1.2 + 0.36) / 2)

    path = tmp_path / "predictions.csv"
    write_ranking(path, ranking, ["a", "b", "c"], lambda i: f"{i}.jpg")
    first, second = csv.DictReader(path.read_text().splitlines())
    assert (first["file"], first["class"], first["guess1"], first["probability1"]) == (
        "1.jpg", "c", "a", "0.50000",
    )  # fmt: skip
    assert (second["guess3"], second["loss"]) == ("a", "0.36000")


def test_of_many_classes_five_are_kept() -> None:
    collector = RankingCollector()
    scores = torch.arange(8.0)[None] / 28
    collector.add(torch.tensor([0]), torch.tensor([3]), scores, torch.zeros(1))
    ranking = collector.gather()
    assert ranking is not None
    assert ranking.labels.tolist() == [[7, 6, 5, 4, 3]]
