"""``report.html`` of every tool, as a reader sees it: in Chromium, on a desk and on a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright import sync_api
from started import run_tool

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DESK, PHONE = (1280, 900), (390, 844)
COMMON = ("data.num_workers=0", "trainer.accelerator=cpu", "trainer.max_epochs=2", "logger=csv",
          "callbacks.media=null", "trainer.log_every_n_steps=1")  # fmt: skip
RUNS = {
    "detector": ("task=det", "data.read.num_train=8", "data.read.num_val=6", "data.batch_size=4",
                 "data.read.picture_size=64", "model.image_size=64"),
    "classifier": ("task=cls", "data.read.num_train=16", "data.read.num_val=14",
                   "data.read.picture_size=32", "model.image_size=32", "data.batch_size=4",
                   "trainer.check_val_every_n_epoch=1"),
}  # fmt: skip

pytestmark = [pytest.mark.browser, pytest.mark.tool]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the pages that trainings end with."""
    folder = tmp_path_factory.mktemp("reports")
    for name, settings in RUNS.items():
        places = (f"hydra.run.dir={folder / name}", f"paths.cache_dir={folder / 'cache'}")
        done = run_tool("train.py", folder, *settings, *COMMON, *places)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    return {name: folder / name / "report.html" for name in RUNS}


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: sync_api.Browser, request: pytest.FixtureRequest) -> Iterator[sync_api.Page]:
    """Return a page at a size; it must need no network and say nothing in the console."""
    width, height = getattr(request, "param", DESK)
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if r.url.startswith("http") else None)
    yield page
    assert problems == []
    assert asked == []
    context.close()


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("opened", [DESK, PHONE], indirect=True, ids=["desk", "phone"])
def test_nothing_sticks_out(opened: sync_api.Page, reports: dict[str, Path], name: str) -> None:
    opened.goto(reports[name].as_uri())
    room = "document.documentElement.clientWidth"
    assert opened.evaluate(f"document.documentElement.scrollWidth <= {room}")
    # What is wider scrolls within its own frame.
    wide = opened.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre, svg')"
        f" && e.getBoundingClientRect().right > {room} + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    # Charts and pictures are there and have a size.
    for selector in (".chart svg", ".shot img"):
        sizes = opened.evaluate(
            f"[...document.querySelectorAll('{selector}')].map(e => e.getBoundingClientRect())"
            ".map(r => Math.min(r.width, r.height))"
        )
        assert sizes
        assert min(sizes) > 20
    opened.screenshot(path=reports[name].with_suffix(".png"), full_page=True)


def test_headings_of_a_detector(opened: sync_api.Page, reports: dict[str, Path]) -> None:
    opened.goto(reports["detector"].as_uri())
    titles = opened.locator("h2").all_inner_texts()
    assert titles == ["At a glance: val", "Classes", "Errors", "Confidence", "Pictures", "Training",
                      "Augmented", "How it was made"]  # fmt: skip
    labels = opened.locator("#s1 dt").all_inner_texts()
    assert labels == ["mAP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs",
                      "ARm", "ARl"]  # fmt: skip
    opened.locator("summary").click()
    assert "efficientdet_d0" in opened.locator("pre").inner_text()


def test_boxes_are_switched_by_kind_and_score(
    opened: sync_api.Page, reports: dict[str, Path]
) -> None:
    opened.goto(reports["detector"].as_uri())
    gallery = opened.locator(".gallery").first
    found, there = gallery.locator(".box[data-score]"), gallery.locator(".box:not([data-score])")
    slider = gallery.locator("[type=range]")
    visible = "boxes => boxes.filter(b => getComputedStyle(b).display !== 'none').length"

    def move(score: float) -> None:
        slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})) }", score)  # noqa: E501  # fmt: skip

    move(0)
    everything = found.evaluate_all(visible)
    assert everything == found.count() > 0
    scores = sorted(found.evaluate_all("boxes => boxes.map(b => Number(b.dataset.score))"))
    middle = round(scores[len(scores) // 2], 2)
    move(middle)
    assert found.evaluate_all(visible) == sum(score >= middle for score in scores)
    assert gallery.locator("output").inner_text() == f"{middle:.2f}"
    assert there.evaluate_all(visible) == there.count() > 0
    move(0)
    gallery.locator("[value=wrong]").uncheck()
    wrong = gallery.locator(".box.wrong")
    assert wrong.count() > 0
    assert wrong.evaluate_all(visible) == 0
    assert found.evaluate_all(visible) == everything - wrong.count()
    names = gallery.locator(".box.missed text")
    gallery.locator(".names").uncheck()
    assert names.evaluate_all(visible) == 0


def test_tables_sort_by_their_columns(opened: sync_api.Page, reports: dict[str, Path]) -> None:
    opened.goto(reports["classifier"].as_uri())
    table = opened.locator(".sortable").first
    recall = table.locator("th", has_text="recall")
    cells = table.locator("tbody tr td:nth-child(3)")
    before = cells.all_inner_texts()
    recall.click()
    values = [float(text) for text in cells.all_inner_texts()]
    assert values == sorted(map(float, before), reverse=True)
    recall.click()
    assert [float(text) for text in cells.all_inner_texts()] == sorted(values)
    table.locator("th").first.click()
    names = table.locator("tbody tr td:first-child").all_inner_texts()
    assert names == sorted(names, reverse=True)
