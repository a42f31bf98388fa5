"""The page of `demo`, by Gradio, and the server that shows it: a thin layer around `predict`."""

import html
import socket
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
import uvicorn
from fastapi import FastAPI
from gradio.themes import Default
from omegaconf import DictConfig
from PIL import Image
from starlette.types import ASGIApp

from compound.cli.networks import network_of, plain
from compound.data.images import UnreadableError
from compound.data.sources import pixels_of
from compound.errors import UserError
from compound.task import Control, Task, find_task, task_names

TITLE = "Compound demo"
# Seconds: how often files are looked through, and how old those are that go.
_TIDIED, _OLD = 3600, 86400
# The longest side of an image on the page, in pixels; and answers that are kept.
SHOWN, KEPT = 1280, 32
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


class Network(NamedTuple):
    """A network that is loaded.

    Attributes:
        task: its task.
        model: in evaluation mode, on its device.
        about: a line about it.
    """

    task: Task
    model: Any
    about: str


class Answer(NamedTuple):
    """What the page shows of an image: drawn, a row for each line of the table, and the time."""

    drawn: np.ndarray
    rows: list[tuple[Any, ...]]
    seconds: float


class Networks:
    """The networks to choose from: each is loaded when it is first asked for, and stays.

    Args:
        config: of `demo`.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, config: DictConfig, device: str) -> None:
        self.settings: dict[str, Any] = plain(config) | {"batch_size": 1}
        self._config = config
        self._device = device
        self._loaded: dict[str, Network] = {}
        # Pages name uploaded files by their content, so the same image has the same path.
        self.answer = lru_cache(KEPT)(self._answer)

    def __getitem__(self, weights: str) -> Network:
        """Return the network of some weights.

        Raises:
            UserError: see `network_of`.
        """
        if weights not in self._loaded:
            config = self._config.copy()
            config.weights = weights
            task, model = network_of(config)
            model.eval().to(self._device)
            height, width = model.input[0]
            names = task.class_names(model)
            about = f"{model.spec.name}, {len(names)} classes, {height} x {width} pixels"
            self._loaded[weights] = Network(task, model, about)
            self._predict(weights, np.zeros((64, 64, 3), np.uint8), ())  # the first takes longer
        return self._loaded[weights]

    def columns(self, weights: str) -> tuple[str, ...]:
        """Return the head of the table, but for the file."""
        task, model, _ = self[weights]
        return task.predictor(model, self.settings).columns[1:]

    def _answer(self, weights: str, path: Path, moved: tuple[tuple[str, Any], ...]) -> Answer:
        """Return what a network makes of an image file with the settings moved on the page."""
        return self._predict(weights, pixels_of(path), moved)

    def _predict(self, weights: str, pixels: np.ndarray, moved: Sequence[Any]) -> Answer:
        task, model, _ = self._loaded[weights]
        predictor = task.predictor(model, self.settings | dict(moved))
        began = time.perf_counter()
        prediction = next(iter(predictor.predict([pixels])))
        seconds = time.perf_counter() - began
        drawn = Image.fromarray(predictor.draw(pixels, prediction))
        drawn.thumbnail((SHOWN, SHOWN))
        rows = [row[1:] for row in predictor.rows("", prediction)]
        return Answer(np.asarray(drawn), rows, seconds)


def page_of(networks: Networks, weights: Sequence[str], config: DictConfig) -> ASGIApp:
    """Return the page as an application; it begins with the first of the weights."""
    first = networks[weights[0]]
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(_TIDIED, _OLD)) as page:
        gr.Markdown(f"# {TITLE}")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                chosen = _choices(weights)
                controls = {name: _group(name, first, config) for name in task_names()}
            with gr.Column(scale=3, min_width=300):
                told = _told(first)
        controls = {name: group for name, group in controls.items() if group[1]}
        _wire(networks, chosen, controls, told)
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


def _choices(weights: Sequence[str]) -> list[Any]:
    """Return the choice of a network, and of images."""
    name = gr.Dropdown(
        list(weights), label="Network", visible=len(weights) > 1, filterable=False,
        elem_id="network",
    )  # fmt: skip
    pictures = gr.Gallery(
        label="Pictures", height=220, object_fit="contain",
        allow_preview=False, buttons=[], elem_id="pictures",
    )  # fmt: skip
    return [name, pictures]


def _group(name: str, first: Network, config: DictConfig) -> tuple[Any, dict[str, Any]]:
    """Return the group of a task's controls, which is seen if the network is of it."""
    with gr.Group(visible=name == first.task.name) as group:
        controls = find_task(name).controls(config)
        made = {control.key: _control(control, config[control.key]) for control in controls}
    return group, made


def _control(control: Control, value: Any) -> Any:
    if all(isinstance(choice, str) for choice in control.choices):
        names: Any = list(control.choices)
        return gr.Dropdown(
            names, value=value, label=control.label, filterable=False, elem_id=control.key
        )
    least, most = map(float, control.choices)
    return gr.Slider(
        least, most, value, step=0.01, label=control.label, buttons=[], elem_id=control.key
    )


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


def _wire(
    networks: Networks,
    chosen: list[Any],
    groups: dict[str, tuple[Any, dict[str, Any]]],
    told: list[Any],
) -> None:
    """Let the controls answer. A slider shows neither that it is busy nor another image."""
    keys = [(task, key) for task, (_, made) in groups.items() for key in made]
    controls = [control for _, made in groups.values() for control in made.values()]

    def move(
        name: str, files: list[tuple[str, str | None]] | None, *values: Any
    ) -> tuple[Any, ...]:
        return answer(networks, name, files or (), list(zip(keys, values, strict=True)))[:3]

    def look(
        name: str, files: list[tuple[str, str | None]] | None, *values: Any
    ) -> tuple[Any, ...]:
        settings = list(zip(keys, values, strict=True))
        note, drawn, table, task = answer(networks, name, files or (), settings)
        there = bool(drawn)
        newest = len(drawn) - 1 if there else None
        return (
            note,
            gr.Gallery(value=drawn, selected_index=newest, visible=there),
            gr.Dataframe(value=table, visible=there),
            *(gr.Group(visible=task_name == task) for task_name in groups),
        )

    common: dict[str, Any] = {
        "inputs": [*chosen, *controls],
        "trigger_mode": "always_last",
        "concurrency_id": "network",
        "api_visibility": "private",
    }
    network, pictures = chosen
    outputs = [*told, *(group for group, _ in groups.values())]
    gr.on([network.input, pictures.change], look, outputs=outputs, **common)
    moved = [control.input for control in controls]
    gr.on(moved, move, outputs=told, show_progress="hidden", **common)


def answer(
    networks: Networks,
    chosen: str,
    files: Sequence[tuple[str, str | None]],
    settings: Sequence[tuple[tuple[str, str], Any]],
) -> tuple[str, list[tuple[Any, str]], dict[str, Any], str]:
    """Return note, drawn images, table, and the network's task.

    ``files`` are paths and captions, ``settings`` task and key of each control with its value.
    """
    try:
        network = networks[chosen]
    except UserError as error:
        return _paragraph(str(error), problem=True), [], {"headers": [], "data": []}, ""
    task = network.task.name
    moved = tuple((key, value) for (name, key), value in settings if name == task)
    drawn, rows, times, problems = [], [], [], []
    for file in (Path(path) for path, _ in files):
        try:
            found = networks.answer(chosen, file, moved)
        except UnreadableError:
            problems.append(f"{file.name} cannot be decoded: no picture, or not all of one")
            continue
        drawn.append((found.drawn, file.name))
        rows += [[*row, file.name] for row in found.rows]
        times.append(f"{1000 * found.seconds:.0f}")
    note = _paragraph(network.about)
    if times:
        note += _paragraph(f"{len(rows)} found; the network took {', '.join(times)} ms")
    note += "".join(_paragraph(problem, problem=True) for problem in problems)
    headers = [*networks.columns(chosen), "picture"]
    if len(drawn) < 2:
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    return note, drawn, {"headers": headers, "data": rows}, task


def _paragraph(text: str, *, problem: bool = False) -> str:
    kind = ' class="problem"' if problem else ""
    return f"<p{kind}>{html.escape(text)}</p>"


def serve(app: ASGIApp, door: socket.socket) -> None:
    """Answer at a socket until a signal comes."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[door])
