"""``tools/demo.py`` as its user sees it: in Chromium, on a desk and on a phone."""

import base64
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from playwright import sync_api
from started import ROOT, run_tool

from backbone import create_model as create_classifier
from backbone import load_model as load_classifier
from compound.data.sources import pixels_of
from compound.errors import UserError
from efficientdet import EfficientDet, create_model, load_model
from efficientdet.coco_classes import PUBLISHED_ROWS
from efficientdet.data.shapes import draw_picture

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DESK, PHONE = (1280, 900), (390, 844)
SIZE = 128
NAMES = ("cat", "<b>dog</b>")
LITE0 = "weights/efficientdet_lite0.effdet.pth"


def detector() -> EfficientDet:
    """Return a detector that finds things at all scores."""
    torch.manual_seed(0)
    model = create_model("efficientdet_lite0", num_classes=2, image_size=SIZE, class_names=NAMES)
    torch.nn.init.normal_(model.class_head.predict.pointwise.weight, std=0.8)
    torch.nn.init.constant_(model.class_head.predict.pointwise.bias, -2.0)  # pyright: ignore[reportArgumentType]
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(4, 3, SIZE, SIZE))
    return model.eval()


def run_folder(folder: Path, model: torch.nn.Module, names: Sequence[str]) -> Path:
    """Return a run's folder with a checkpoint, as far as a demo needs it."""
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    told = {"model": model.spec.to_dict(), "class_names": list(names)}  # type: ignore[union-attr, call-overload]
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"state_dict": state, "hyper_parameters": told}, folder / "checkpoints/best.ckpt")
    return folder


def drawn_picture(path: Path, size: int) -> Path:
    pixels, _ = draw_picture(np.random.default_rng(3), picture_size=size)
    Image.fromarray(pixels[..., ::-1]).crop((0, 0, size, size * 3 // 4)).save(path)
    return path


@pytest.mark.extra("demo")
def test_answers_are_predictions(runs: dict[str, Path], tmp_path: Path) -> None:
    """The page shows what `predict` finds, for the values of its controls."""
    from compound.cli import demo_page

    config = OmegaConf.load(ROOT / "configs/demo.yaml")
    assert isinstance(config, DictConfig)
    del config["hydra"]
    networks = demo_page.Networks(config, "cpu")
    path, weights = drawn_picture(tmp_path / "a.png", 160), str(runs["detector"])
    model = load_model(runs["detector"] / "checkpoints/best.ckpt").eval()
    for score, iou, method in ((0.05, 0.5, "per_class"), (0.2, 0.0, "fast"), (0.05, 0.9, "soft")):
        values = (score, iou, method)
        settings = dict(zip(("score_threshold", "nms_iou", "method"), values, strict=True))
        asked = [(("det", key), value) for key, value in settings.items()]
        note, ((drawn, name),), table, task = demo_page.answer(
            networks, weights, [(str(path), None)], asked
        )
        (expected,) = model.predict(path, **settings)
        assert (name, task, drawn.shape) == ("a.png", "det", (120, 160, 3))
        assert f"{len(expected.scores)} found" in note
        assert table["headers"] == ["class", "score", "x0", "y0", "x1", "y1"]
        rows = [
            (NAMES[label], round(score, 4), *(round(side, 2) for side in box))
            for box, score, label in zip(*(c.tolist() for c in expected), strict=True)
        ]
        assert [tuple(row) for row in table["data"]] == rows
        assert rows
        assert (drawn != pixels_of(path)).any()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    classifier = create_classifier("efficientnet_lite0", num_classes=3, image_size=64)
    return {
        "detector": run_folder(folder / "detector", detector(), NAMES),
        "classifier": run_folder(folder / "classifier", classifier, ("a", "b", "c")),
    }


@pytest.fixture(scope="module")
def address(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return where the page is; in the end it must leave nothing behind."""
    folder = tmp_path_factory.mktemp("demo")
    weights = [str(path) for path in runs.values()]
    weights += ["/none/of/these.pth"]
    if data := os.environ.get("COMPOUND_DATA"):
        weights.append(str(Path(data, LITE0)))
    call = [
        sys.executable, str(ROOT / "tools/demo.py"), "task=det", "model=det_lite0", "port=0",
        f"weights=[{','.join(weights)}]", "device=cpu",
    ]  # fmt: skip
    own = folder / "temporary"
    own.mkdir()
    environment = {**os.environ, "TMPDIR": str(own), "https_proxy": "http://127.0.0.1:9"}
    with subprocess.Popen(
        call, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        told = []
        for line in server.stdout:
            told.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            pytest.fail("".join(told))
        yield found[0]
        server.send_signal(signal.SIGINT)
        rest = server.stdout.read()
    assert server.returncode == 128 + signal.SIGINT
    assert [line for line in rest.splitlines() if not line.startswith("weights ")] == []
    assert list(own.iterdir()) == []
    assert [path for path in folder.iterdir() if path != own] == []


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(
    browser: sync_api.Browser, address: str, request: pytest.FixtureRequest
) -> Iterator[sync_api.Page]:
    """Return the page at a size; it must ask nobody else for anything and report no error."""
    width, height = getattr(request, "param", DESK)
    context = browser.new_context(viewport={"width": width, "height": height})
    page, problems, asked = context.new_page(), [], []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: asked.append(r.url))
    page.goto(address)
    page.locator("#pictures input[type=file]").wait_for(state="attached")
    yield page
    room = page.evaluate("document.documentElement.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") <= room == width
    assert problems == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    context.close()


def put(page: sync_api.Page, *files: Path) -> None:
    page.locator("#pictures input[type=file]").set_input_files([str(file) for file in files])


def choose(page: sync_api.Page, network: str) -> None:
    page.locator("#network input").click()
    page.get_by_role("option", name=network).click()


def rows(page: sync_api.Page) -> list[list[str]]:
    """Return the table, which shows a dozen rows at a time."""
    lines = page.locator("#table .virtual-row")
    return [line.locator("[role=gridcell]").all_inner_texts() for line in lines.all()]


def wanted(model: EfficientDet, names: Sequence[str], file: Path, **settings: float) -> list:
    (found,) = model.predict(file, **settings)  # type: ignore[arg-type]
    return [
        [names[label], f"{round(score, 4):g}", *(f"{round(value, 2):g}" for value in box)]
        for box, score, label in zip(*(column.tolist() for column in found), strict=True)
    ]


def wait_for(page: sync_api.Page, count: int) -> None:
    sync_api.expect(page.locator("#note")).to_contain_text(f"{count} found", timeout=15_000)
    sync_api.expect(page.locator("#table .virtual-row")).to_have_count(count)


def move(page: sync_api.Page, slider: str, value: float) -> None:
    field = page.locator(f"#{slider} input[type=number]")
    field.fill(f"{value}")
    field.press("Enter")


@pytest.mark.tool
@pytest.mark.browser
@pytest.mark.real
@pytest.mark.extra("demo")
@pytest.mark.parametrize("page", [DESK, PHONE], indirect=True, ids=["desk", "phone"])
def test_a_photograph(page: sync_api.Page, compound_data: Path) -> None:
    file = compound_data / "data/coco/val2017/000000000139.jpg"
    model = create_model("efficientdet_lite0", weights=compound_data / LITE0).eval()
    choose(page, "efficientdet_lite0")
    put(page, file)
    for score, iou in ((0.3, 0.5), (0.5, 0.5), (0.25, 0.5), (0.25, 0.1)):
        move(page, "score_threshold", score)
        move(page, "nms_iou", iou)
        expected = wanted(model, PUBLISHED_ROWS, file, score_threshold=score, nms_iou=iou)
        wait_for(page, len(expected))
        assert rows(page) == expected
    assert len(expected) > 3
    image = page.locator("#drawn img").first
    assert image.evaluate("image => image.complete && image.naturalWidth") == 640  # as it is
    assert image.bounding_box()["width"] > 250  # type: ignore[index]
    assert re.search(r"efficientdet_lite0, 90 classes.*the network took \d+ ms",
                     page.locator("#note").inner_text(), re.DOTALL)  # fmt: skip


@pytest.mark.tool
@pytest.mark.browser
@pytest.mark.extra("demo")
def test_several_pictures_and_what_is_none(
    page: sync_api.Page, runs: dict[str, Path], tmp_path: Path
) -> None:
    good, small = (drawn_picture(tmp_path / f"{size}.png", size) for size in (160, 48))
    for name in ("broken.jpg", "text.jpg"):
        (tmp_path / name).write_bytes(good.read_bytes()[:900])
    put(page, good, tmp_path / "broken.jpg", small, tmp_path / "text.jpg")
    model = load_model(runs["detector"] / "checkpoints/best.ckpt").eval()
    scores = torch.cat([found.scores for found in model.predict([good, small], nms_iou=0.1)])
    settings = {"score_threshold": round(float(scores.sort().values[-8]), 2), "nms_iou": 0.1}
    move(page, "nms_iou", 0.1)
    move(page, "score_threshold", settings["score_threshold"])
    expected = [
        [*row, file.name]
        for file in (good, small)
        for row in wanted(model, NAMES, file, **settings)
    ]
    assert 4 < len(expected) < 12
    wait_for(page, len(expected))
    assert rows(page) == expected
    told = page.locator("#note .problem").all_inner_texts()
    assert told == [f"{name} cannot be decoded: no picture, or not all of one"
                    for name in ("broken.jpg", "text.jpg")]  # fmt: skip
    assert page.locator("#drawn .preview .thumbnail-item").count() == 2
    assert page.get_by_text("Error", exact=True).count() == 0


@pytest.mark.tool
@pytest.mark.browser
@pytest.mark.extra("demo")
def test_the_network_is_chosen(page: sync_api.Page, runs: dict[str, Path], tmp_path: Path) -> None:
    file = drawn_picture(tmp_path / "a.png", 160)
    assert page.locator("#score_threshold").is_visible()
    choose(page, str(runs["classifier"]))
    sync_api.expect(page.locator("#note")).to_contain_text("efficientnet_lite0, 3 classes")
    page.evaluate(
        """async (content) => {
            const blob = await (await fetch(content)).blob();
            const pasted = new DataTransfer();
            pasted.items.add(new File([blob], "a.png", { type: "image/png" }));
            const event = { clipboardData: pasted, bubbles: true };
            document.body.dispatchEvent(new ClipboardEvent("paste", event));
        }""",
        f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}",
    )
    wait_for(page, 3)
    assert not page.locator("#score_threshold").is_visible()
    (guesses,) = load_classifier(runs["classifier"] / "checkpoints/best.ckpt").eval().predict(file)
    pairs = zip(guesses.labels.tolist(), guesses.scores.tolist(), strict=True)
    assert rows(page) == [
        [f"{rank + 1}", "abc"[label], f"{round(score, 4):g}"]
        for rank, (label, score) in enumerate(pairs)
    ]
    choose(page, "/none/of/these.pth")
    problem = page.locator("#note .problem")
    sync_api.expect(problem).to_contain_text("/none/of/these.pth")
    choose(page, str(runs["detector"]))
    sync_api.expect(page.locator("#note")).to_contain_text("efficientdet_lite0, 2 classes")
    assert problem.count() == 0
    assert page.locator("#score_threshold").is_visible()


def test_without_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    from compound.cli import demo

    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="run `uv sync --extra demo`"):
        demo.demo(OmegaConf.create())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"port": 70000}, "port=70000: expected a whole number from 0 to 65535"),
        ({"top": 0}, "top=0: expected a whole number of 1 or more"),
        ({"score_threshold": 2}, r"score_threshold=2: expected a share in \[0, 1\]"),
        ({"method": "sfot"}, "method 'sfot' is unknown; did you mean soft"),
        ({"weights": []}, r"weights=\[\]: expected a run, or several"),
        ({"weights": ["coco", "tests"]}, "weights=tests: .* no checkpoints/best.ckpt or last.ckpt"),
    ],
)
def test_values_are_checked(
    setting: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compound.cli import demo

    monkeypatch.chdir(ROOT)
    config = OmegaConf.load(ROOT / "configs/demo.yaml")
    assert isinstance(config, DictConfig)
    config.weights = ["coco", "coco"]
    assert demo._checked(config) == ["coco"]
    with pytest.raises(UserError, match=message):
        demo._checked(DictConfig({**config, **setting}))


def test_hosts_are_checked() -> None:
    from compound.cli import demo

    for host, reason in (("192.0.2.1", ".*address.*"), ("no..name", "there is no such address")):
        with (
            pytest.raises(UserError, match=f"host={host}: {reason}; 127.0.0.1 is this machine"),
            demo.listening(host, 0),
        ):
            pass


@pytest.mark.extra("demo")
@pytest.mark.tool
def test_a_port_in_use(runs: dict[str, Path], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_tool("demo.py", tmp_path, f"weights={runs['detector']}", f"port={port}")
    assert done.returncode == 2
    found = re.fullmatch(
        rf"error: port={port}: address already in use; port=(\d+) is free\n", done.stderr
    )
    assert found is not None
    with socket.create_server(("127.0.0.1", int(found[1]))):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.extra("demo")
@pytest.mark.tool
def test_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = run_tool("demo.py", tmp_path, "weights=none.ckpt", "port=0")
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*none\.ckpt.*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []
