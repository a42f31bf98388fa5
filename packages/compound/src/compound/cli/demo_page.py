"""The page of `demo`, by Gradio, and the server that shows it."""

import html
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import uvicorn
from fastapi import FastAPI
from gradio.themes import Default
from omegaconf import DictConfig
from starlette.types import ASGIApp

from compound.cli.demo_networks import LEAST_SCORE, Network, Networks
from compound.data.images import UnreadableError
from compound.errors import UserError
from efficientdet.postprocess import METHODS

TITLE = "Compound demo"
# Seconds: how often files are looked through, and how old those are that go.
_TIDIED, _OLD = 3600, 86400
_FONTS = ("system-ui", "sans-serif")
_CSS = """
.gradio-container { max-width: 1400px !important }
footer { display: none !important }
#note p { margin: 0 0 4px; overflow-wrap: anywhere }
#note .problem { color: var(--error-text-color) }
#pictures .grid-container { grid-template-columns: repeat(auto-fill, minmax(80px, 1fr)) !important }
#drawn .preview { background: var(--block-background-fill); backdrop-filter: none }
"""
# Gradio pastes by a button only.
_PASTE = """
document.addEventListener("paste", (event) => {
  const input = document.querySelector("#pictures input[type=file]");
  const files = event.clipboardData?.files;
  if (!input || !files?.length) return;
  input.files = files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
});
"""


class _Parts(NamedTuple):
    """What a page is made of: what is asked, what is told, and the group of the thresholds."""

    asked: list[Any]
    told: list[Any]
    thresholds: Any


def page_of(networks: Networks, weights: Sequence[str], config: DictConfig) -> ASGIApp:
    """Return the page as an application.

    Args:
        networks: to choose from.
        weights: their names; the first is chosen.
        config: of `demo`: what the page begins with.
    """
    first = networks[weights[0]]
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(_TIDIED, _OLD)) as page:
        gr.Markdown(f"# {TITLE}")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                asked, thresholds = _asked(weights, first.detects, config)
            with gr.Column(scale=3, min_width=300):
                told = _told(first)
        _wire(networks, _Parts(asked, told, thresholds))
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        "/",
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=Default(primary_hue="blue", font=_FONTS, font_mono=_FONTS),
        css=_CSS,
        js=_PASTE,
    )


def _asked(weights: Sequence[str], detects: bool, config: DictConfig) -> tuple[list[Any], Any]:
    """Return the controls, and the group of those that only a detector has."""
    name = gr.Dropdown(
        list(weights),
        label="Network",
        visible=len(weights) > 1,
        filterable=False,
        elem_id="network",
    )
    pictures = gr.Gallery(
        label="Pictures", height=220, object_fit="contain",
        allow_preview=False, buttons=[], elem_id="pictures",
    )  # fmt: skip
    with gr.Group(visible=detects) as thresholds:
        least = min(LEAST_SCORE, config.score_threshold)
        score = gr.Slider(
            least, 1, config.score_threshold, step=0.01, label="Score threshold", buttons=[],
            elem_id="score",
        )  # fmt: skip
        iou = gr.Slider(0, 1, config.nms_iou, step=0.01, label="NMS IoU", buttons=[], elem_id="iou")
        method = gr.Dropdown(
            list(METHODS), value=config.method, label="NMS method", filterable=False
        )
    return [name, pictures, score, iou, method], thresholds


def _told(first: Network) -> list[Any]:
    """Return the parts that show what was found."""
    begin = _paragraph(first.about) + _paragraph("Drop, choose or paste pictures.")
    note = gr.HTML(begin, padding=False, elem_id="note")
    drawn = gr.Gallery(
        label="Found", format="jpeg", preview=True, interactive=False, object_fit="contain",
        buttons=["download", "fullscreen"], visible=False, elem_id="drawn",
    )  # fmt: skip
    table = gr.Dataframe(
        interactive=False, show_label=False, buttons=[], visible=False, elem_id="table"
    )
    return [note, drawn, table]


def _wire(networks: Networks, parts: _Parts) -> None:
    """Let the controls answer. A slider shows neither that it is busy nor another picture."""

    def look(
        chosen: str, files: list[tuple[str, str | None]] | None, *settings: Any
    ) -> tuple[Any, ...]:
        note, drawn, table, detects = answer(networks, chosen, files or (), settings)
        there = bool(drawn)
        newest = len(drawn) - 1 if there else None
        return (
            note,
            gr.Gallery(value=drawn, selected_index=newest, visible=there),
            gr.Dataframe(value=table, visible=there),
            gr.Group(visible=detects),
        )

    def move(
        chosen: str, files: list[tuple[str, str | None]] | None, *settings: Any
    ) -> tuple[Any, ...]:
        return answer(networks, chosen, files or (), settings)[:3]

    name, pictures, *sliders = parts.asked
    common: dict[str, Any] = {
        "inputs": parts.asked,
        "trigger_mode": "always_last",
        "concurrency_id": "network",
        "api_visibility": "private",
    }
    gr.on([name.input, pictures.change], look, outputs=[*parts.told, parts.thresholds], **common)
    moved = [slider.input for slider in sliders]
    gr.on(moved, move, outputs=parts.told, show_progress="hidden", **common)


def answer(
    networks: Networks,
    chosen: str,
    files: Sequence[tuple[str, str | None]],
    settings: Sequence[Any],
) -> tuple[str, list[tuple[Any, str]], dict[str, Any], bool]:
    """Return note, drawn pictures, table, and whether the network is a detector.

    Args:
        networks: to choose from.
        chosen: name of one.
        files: paths and captions.
        settings: score threshold, IoU and method.
    """
    try:
        network = networks[chosen]
    except UserError as error:
        return _paragraph(str(error), problem=True), [], {"headers": [], "data": []}, False
    drawn, rows, times, problems = [], [], [], []
    for file in (Path(path) for path, _ in files):
        try:
            sight = networks.look(chosen, file)
        except UnreadableError:
            problems.append(f"{file.name} cannot be decoded: no picture, or not all of one")
            continue
        found = network.answer(sight, *settings)
        drawn.append((found.drawn, file.name))
        rows += [[*row, file.name] for row in found.rows]
        times.append(f"{1000 * sight.seconds:.0f}")
    note = _paragraph(network.about)
    if times:
        note += _paragraph(f"{len(rows)} found; the network took {', '.join(times)} ms")
    note += "".join(_paragraph(problem, problem=True) for problem in problems)
    headers = [*network.columns, "picture"]
    if len(drawn) < 2:
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    return note, drawn, {"headers": headers, "data": rows}, network.detects


def _paragraph(text: str, *, problem: bool = False) -> str:
    kind = ' class="problem"' if problem else ""
    return f"<p{kind}>{html.escape(text)}</p>"


def serve(app: ASGIApp, door: socket.socket) -> None:
    """Answer at a socket until a signal comes."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[door])
