"""COCO mAP: ground truth scores 1, processes agree, mistakes are told."""

import csv
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from compound.errors import UserError
from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.coco_ap import METRICS, to_coco
from efficientdet.evaluation.evaluator import (
    CocoEvaluator,
    CocoScores,
    EvaluationOptions,
    Results,
    write_class_ap,
    write_results,
)
from efficientdet.postprocess import Detections

FASTER = pytest.param("faster_coco_eval", marks=pytest.mark.extra("fast-eval"))
BOTH = pytest.mark.parametrize("backend", ["pycocotools", FASTER])
REFERENCE = EvaluationOptions(backend="pycocotools")


def options_of(backend: str, **changes: int) -> EvaluationOptions:
    return EvaluationOptions(backend=backend, **changes)  # type: ignore[arg-type]


def truth_as_detections(index: AnnotationIndex, options: EvaluationOptions) -> CocoEvaluator:
    evaluator = CocoEvaluator(index, options)
    for i, image_id in enumerate(index.image_ids.tolist()):
        evaluator.add(image_id, truth_of(index, i))
    return evaluator


def truth_of(index: AnnotationIndex, i: int) -> Detections:
    rows = index.rows(i)
    boxes, labels = torch.from_numpy(index.boxes[rows]), torch.from_numpy(index.labels[rows])
    return Detections(boxes, torch.ones(len(boxes)), labels)


def noisy_results(index: AnnotationIndex, seed: int = 0) -> np.ndarray:
    """Two shifted copies of each object, some with another class, and boxes of nothing."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(index.image_ids, np.diff(index.offsets))
    xywh = index.boxes.copy()
    xywh[:, 2:] -= xywh[:, :2]
    copies = np.concatenate([xywh, xywh]) * rng.normal(1, 0.1, (2 * len(xywh), 4))
    labels = np.tile(index.labels, 2)
    wrong = rng.random(len(labels)) < 0.2
    labels[wrong] = rng.integers(len(index.class_names), size=wrong.sum())
    nothing = rng.uniform(5, 30, (20, 4))
    results = np.empty((len(copies) + len(nothing), 7))
    results[:, 0] = np.concatenate([np.tile(owner, 2), rng.choice(index.image_ids, 20)])
    results[:, 1:5] = np.concatenate([copies, nothing])
    results[:, 5] = rng.permutation(len(results)) / len(results)
    labels = np.concatenate([labels, rng.integers(len(index.class_names), size=20)])
    results[:, 6] = index.category_ids[labels]
    return results


@BOTH
def test_ground_truth_scores_one(shapes: dict[str, AnnotationIndex], backend: str) -> None:
    index = shapes["train"]
    # COCO's ids have holes; here they also are in another order than the labels.
    index = replace(index, category_ids=index.category_ids[::-1] * 7 + 3)
    scores, _ = truth_as_detections(index, options_of(backend)).evaluate()
    for name in ("mAP", "AP50", "AP75", "AR100"):
        assert scores.metrics[name] == pytest.approx(1.0)
    assert set(scores.class_ap) == set(index.class_names)
    assert all(ap == pytest.approx(1.0) for ap in scores.class_ap.values() if ap == ap)


@BOTH
def test_ap_of_a_class_has_its_name(shapes: dict[str, AnnotationIndex], backend: str) -> None:
    index = shapes["train"]
    index = replace(index, category_ids=np.roll(index.category_ids, 1))
    evaluator = truth_as_detections(index, options_of(backend))
    results = evaluator.evaluate()[1].rows
    results = results[results[:, 6] != index.category_ids[1]]
    scores = evaluator.score(results, index.image_ids)
    expected = dict.fromkeys(index.class_names, 1.0) | {index.class_names[1]: 0.0}
    assert scores.class_ap == pytest.approx(expected)


@BOTH
def test_boxes_three_tenths_too_wide_pass_six_of_ten_thresholds(
    shapes: dict[str, AnnotationIndex], backend: str
) -> None:
    index = shapes["train"]
    evaluator = truth_as_detections(index, options_of(backend))
    results = evaluator.evaluate()[1].rows
    results[:, 3] *= 1.3  # IoU 1 / 1.3 = 0.769: right at .50 .. .75, six of ten thresholds
    scores = evaluator.score(results, index.image_ids)
    assert scores.metrics["AP50"] == pytest.approx(1.0)
    assert scores.metrics["mAP"] == pytest.approx(0.6, abs=0.02)


@BOTH
def test_nothing_found_scores_zero(shapes: dict[str, AnnotationIndex], backend: str) -> None:
    index = shapes["val"]
    evaluator = CocoEvaluator(index, options_of(backend, voc=True))
    scores = evaluator.score(np.empty((0, 7)), index.image_ids)
    nan = {"APl", "ARl"}  # pictures of 64 pixels hold no large objects
    assert {name for name, value in scores.metrics.items() if np.isnan(value)} == nan
    assert {value for name, value in scores.metrics.items() if name not in nan} == {0.0}
    assert set(scores.metrics) == {*METRICS, "VOC_AP50"}


def test_pictures_that_were_not_looked_at_do_not_count(shapes: dict[str, AnnotationIndex]) -> None:
    index = shapes["train"]
    evaluator = CocoEvaluator(index)
    for i in range(4):
        evaluator.add(int(index.image_ids[i]), truth_of(index, i))
    scores, results = evaluator.evaluate()
    assert scores.metrics["mAP"] == pytest.approx(1.0)
    assert results.image_ids.tolist() == index.image_ids[:4].tolist()
    assert evaluator.score(results.rows, index.image_ids).metrics["mAP"] < 0.9


def test_picture_given_twice_counts_once(shapes: dict[str, AnnotationIndex]) -> None:
    index = shapes["train"]
    evaluator = truth_as_detections(index, REFERENCE)
    expected, results = evaluator.evaluate()
    other = truth_of(index, 1)
    evaluator.add(int(index.image_ids[1]), other._replace(boxes_xyxy=other.boxes_xyxy + 3))
    scores, again = evaluator.evaluate()
    same(scores, expected)
    assert np.array_equal(again.image_ids, results.image_ids)
    assert np.array_equal(again.rows, results.rows)
    evaluator.reset()
    assert len(evaluator.evaluate()[1].rows) == 0


def same(ours: CocoScores, theirs: CocoScores) -> None:
    for mine, other in ((ours.metrics, theirs.metrics), (ours.class_ap, theirs.class_ap)):
        assert mine == pytest.approx(other, rel=0, abs=1e-9, nan_ok=True)


@BOTH
@pytest.mark.parametrize("max_detections", [11, 100, 300])
def test_numbers_are_those_of_pycocotools(
    shapes: dict[str, AnnotationIndex], backend: str, max_detections: int
) -> None:
    from pycocotools.cocoeval import COCOeval

    index = shapes["train"]
    crowd = np.arange(len(index.boxes)) % 5 == 0
    factors = np.resize([1, 10, 100], len(crowd))  # some of each size
    index = replace(index, crowd=crowd, areas=index.areas * factors)
    results = np.concatenate([noisy_results(index, seed) for seed in range(8)])
    options = options_of(backend, max_detections=max_detections)
    evaluator = CocoEvaluator(index, options)
    scores = evaluator.score(results, index.image_ids)
    same(scores, CocoEvaluator(index, replace(options, backend="pycocotools")).score(
        results, index.image_ids
    ))  # fmt: skip
    same(evaluator.score(results, index.image_ids), scores)  # scoring leaves the truth as it was
    truth = to_coco(index)
    theirs = COCOeval(truth, truth.loadRes(results), "bbox")
    theirs.params.maxDets = [1, 10, max_detections]
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    # Its summary looks for 100 detections and gives -1 where others were asked for.
    first = 0 if max_detections == 100 else 1
    assert -1 not in theirs.stats[first:]
    assert list(scores.metrics.values())[first:] == pytest.approx(list(theirs.stats)[first:])
    assert list(scores.metrics)[8] == f"AR{max_detections}"
    assert 0 < scores.metrics["AR10"] <= scores.metrics[f"AR{max_detections}"] < 1
    assert 0 < scores.metrics["mAP"] < scores.metrics["AP50"] < 1


@BOTH
def test_more_detections_find_more(shapes: dict[str, AnnotationIndex], backend: str) -> None:
    # 16 objects of one class, and all detections of it before them but the best: with 16 found
    # of 16 wrong ones, 20 detections reach 4 objects, 32 reach all.
    index = shapes["train"]
    boxes = np.array([[x, y, x + 10, y + 10] for x in range(0, 64, 16) for y in range(0, 64, 16)])
    index = replace(
        index,
        image_ids=index.image_ids[:1],
        sizes=index.sizes[:1],
        file_names=index.file_names[:1],
        offsets=np.array([0, 16]),
        boxes=boxes.astype(float),
        labels=np.zeros(16, int),
        crowd=np.zeros(16, bool),
        areas=np.full(16, 100.0),
    )
    wrong, right = np.tile([20.0, 20.0, 1.0, 1.0], (16, 1)), boxes.astype(float)
    right[:, 2:] = 10
    columns = (
        np.full(32, index.image_ids[0]),
        *np.concatenate([wrong, right]).T,
        np.linspace(0.9, 0.1, 32),
        np.full(32, index.category_ids[0]),
    )
    for most, recall in ((20, 4 / 16), (32, 1.0), (100, 1.0)):
        evaluator = CocoEvaluator(index, options_of(backend, max_detections=most))
        scores = evaluator.score(np.stack(columns, 1), index.image_ids)
        assert scores.metrics[f"AR{most}"] == pytest.approx(recall)
        assert scores.metrics["AR10"] == 0.0


@BOTH
def test_crowds_neither_count_nor_cost(shapes: dict[str, AnnotationIndex], backend: str) -> None:
    index = shapes["train"]
    index = replace(index, crowd=np.arange(len(index.boxes)) % 3 == 0)
    results = truth_as_detections(index, REFERENCE).evaluate()[1].rows
    evaluator = CocoEvaluator(index, options_of(backend))
    for rows in (results, results[~index.crowd]):
        scores = evaluator.score(rows, index.image_ids)
        assert scores.metrics["mAP"] == pytest.approx(1.0)


@pytest.mark.train
def test_module_scores_as_configured(
    shapes: dict[str, AnnotationIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here, because the second process of another test is spared the time.
    import pytorch_lightning as pl

    from compound.training.optim import OptimRecipe
    from efficientdet.data.datamodule import DetectionData
    from efficientdet.module import EfficientDetModule

    data = DetectionData(
        root="", read=lambda _: shapes, image_size=64, batch_size=2, seed=0, num_workers=0
    )
    module = EfficientDetModule(
        model={"name": "efficientdet_d0", "image_size": 64},
        class_names=data.class_names,
        optim=OptimRecipe(
            torch.optim.SGD, lr=0.1, base_batch_size=64, weight_decay=0.0, warmup_epochs=1
        ),
        batch_size=2,
        evaluation={"max_detections": 50, "voc": True},
    )
    trainer = pl.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False
    )
    prepared = []
    monkeypatch.setattr(
        "efficientdet.evaluation.coco_ap.to_coco",
        lambda *given: prepared.append(1) or to_coco(*given),
    )
    for _ in range(2):
        (scores,) = trainer.validate(module, datamodule=data, verbose=False)
    assert len(prepared) == 1  # the ground truth, not at every validation
    names = [*METRICS, "VOC_AP50"]
    names[8] = "AR50"
    assert set(scores) == {f"val/{name}" for name in names}
    found = json.loads((tmp_path / "predictions.json").read_text())
    # Fresh heads find everything everywhere: as many as may be.
    counts = np.unique([entry["image_id"] for entry in found], return_counts=True)[1]
    assert counts.tolist() == [50] * 5
    table = list(csv.reader((tmp_path / "class_ap.csv").read_text().splitlines()))
    assert [name for name, _ in table] == ["class", *data.class_names]
    assert list(module.class_ap) == list(data.class_names)


def test_mistaken_options_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for changes, message in (
        ({"backend": "faster"}, "task.evaluation.backend 'faster' is unknown; did you mean faster"),
        ({"max_detections": 10}, "task.evaluation.max_detections=10: expected .* above 10"),
        ({"max_detections": 50.5}, "task.evaluation.max_detections=50.5: expected"),
    ):
        with pytest.raises(UserError, match=message):
            EvaluationOptions(**changes)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)  # as if it were not installed
    assert not EvaluationOptions().faster
    with pytest.raises(UserError, match=r"faster_coco_eval is not installed; .*--extra fast-eval"):
        EvaluationOptions(backend="faster_coco_eval")


def test_the_faster_one_is_taken_where_it_is_installed() -> None:
    assert EvaluationOptions().faster == (find_spec("faster_coco_eval") is not None)
    assert not REFERENCE.faster


def test_files_are_cocos_and_csv(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    write_results(path, np.array([[5, 1.234, 2, 3, 4, 0.123456, 9]]))
    assert json.loads(path.read_text()) == [
        {"image_id": 5, "category_id": 9, "bbox": [1.23, 2.0, 3.0, 4.0], "score": 0.12346}
    ]
    table = tmp_path / "class_ap.csv"
    write_class_ap(table, {"cat, or dog": 0.5, "none": float("nan")})
    assert table.read_text() == 'class,AP\n"cat, or dog",0.500000\nnone,\n'
    assert set(tmp_path.iterdir()) == {path, table}


@pytest.mark.tool
def test_two_processes_score_as_one(shapes: dict[str, AnnotationIndex], tmp_path: Path) -> None:
    index = shapes["val"]
    results = noisy_results(index)
    results = results[np.argsort(-results[:, 5])]
    ids = index.image_ids
    assert len(ids) == 5
    # Three pictures each: the sampler has padded the second's with the first's first.
    shares = [ids[0::2].tolist(), [*ids[1::2].tolist(), int(ids[0])]]
    (tmp_path / "given.pickle").write_bytes(pickle.dumps((index, results, shares)))
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
    expected = CocoEvaluator(index, EvaluationOptions(voc=True)).score(results, ids)
    assert 0 < expected.metrics["mAP"] < 1
    (first, own, found), (second, others, none) = (
        pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()) for rank in range(2)
    )
    for scores in (own, others):
        same(scores, expected)
    assert found.rows == pytest.approx(results[np.argsort(results[:, 0], kind="stable")])
    assert found.image_ids.tolist() == ids.tolist()
    assert none is None
    # Scoring had failed before, in the first process only; both were told.
    assert first == "OSError('no memory left')"
    assert second == f"RuntimeError({f'the first process could not score: {first}'!r})"


def in_process(rank: int, folder: Path) -> None:
    """Score this process's share of the pictures; ``<rank>.pickle`` keeps what came of it."""
    index, results, shares = pickle.loads((folder / "given.pickle").read_bytes())
    dist.init_process_group("gloo", f"file://{folder / 'meet'}", rank=rank, world_size=2)
    evaluator = CocoEvaluator(index, EvaluationOptions(voc=True))
    for image_id in shares[rank]:
        own = results[results[:, 0] == image_id]
        boxes = torch.from_numpy(own[:, 1:5])
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.from_numpy(np.searchsorted(index.category_ids, own[:, 6]))
        evaluator.add(image_id, Detections(boxes, torch.from_numpy(own[:, 5]), labels))

    def fail(*_: object) -> Results:
        raise OSError("no memory left")

    failure = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CocoEvaluator, "scored", fail)
        try:
            evaluator.evaluate()
        except (OSError, RuntimeError) as error:
            failure = repr(error)
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps((failure, *evaluator.evaluate())))
    dist.destroy_process_group()


if __name__ == "__main__":
    in_process(int(sys.argv[1]), Path(sys.argv[2]))
