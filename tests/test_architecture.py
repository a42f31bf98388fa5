"""The directions of import that docs/architecture.md draws."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "compound": {"compound"},
    "backbone": {"backbone", "compound"},
    "efficientdet": {"backbone", "compound", "efficientdet"},
    "efficientnetv2": {"backbone", "compound", "efficientnetv2"},
}
# Where Lightning is at home; files of networks import none of it.
LIGHTNING = (
    "compound/cli/",
    "compound/data/",
    "compound/tracking/",
    "compound/training/",
    "backbone/classification/",
    "efficientdet/data/",
    "efficientdet/media.py",
    "efficientdet/module.py",
    "efficientnetv2/module.py",
    "efficientnetv2/progressive.py",
)
HYDRA = "compound/cli/"


@cache
def sources() -> dict[str, Path]:
    """Return every source file by its path below ``src``."""
    found = {}
    for folder in (ROOT / "packages").glob("*/src"):
        found |= {path.relative_to(folder).as_posix(): path for path in folder.glob("**/*.py")}
    return found


@cache
def imports(file: str) -> frozenset[str]:
    """Return the modules that a file imports anywhere, also for type checking."""
    return frozenset(_imported(ast.parse(sources()[file].read_text(encoding="utf-8"))))


def _imported(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from _imported(child)


def roots(file: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(file)}


def test_packages_import_downwards() -> None:
    assert len(sources()) > 100
    wrong = {
        file: upward
        for file in sources()
        if (upward := roots(file) & PACKAGES.keys() - PACKAGES[file.partition("/")[0]])
    }
    assert not wrong


def test_hydra_is_known_to_the_command_line_alone() -> None:
    knowing = [f for f in sources() if roots(f) & {"hydra", "omegaconf", "hydra_plugins"}]
    assert knowing
    assert [file for file in knowing if not file.startswith(HYDRA)] == []


def test_networks_know_no_lightning() -> None:
    knowing = [file for file in sources() if "pytorch_lightning" in roots(file)]
    assert knowing
    assert [file for file in knowing if not file.startswith(LIGHTNING)] == []


def test_only_the_launchers_know_the_command_line() -> None:
    # Python's front door and the command's own module open it.
    doors = {"compound/__init__.py", "compound/__main__.py"}
    inner = [file for file in sources() if not file.startswith(HYDRA) and file not in doors]
    assert [f for f in inner if any(n.startswith("compound.cli") for n in imports(f))] == []


def test_there_is_no_circle_of_imports() -> None:
    # A package's own file names its modules for type checkers; they import none of it.
    modules = {
        file.removesuffix(".py").replace("/", "."): file
        for file in sources()
        if not file.endswith("__init__.py")
    }
    arrows = {name: imports(file) & modules.keys() - {name} for name, file in modules.items()}
    while free := [name for name, targets in arrows.items() if not targets & arrows.keys()]:
        for name in free:
            del arrows[name]
    assert arrows == {}


def blocked(statement: str, *names: str) -> None:
    """Run a statement where packages cannot be imported."""
    code = f"import sys; sys.modules.update(dict.fromkeys({names!r})); {statement}"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.tool
def test_spec_tables_need_no_torch() -> None:
    blocked("import backbone.specs, efficientdet.specs, efficientnetv2.specs", "torch", "numpy")


@pytest.mark.tool
def test_networks_need_torch_only() -> None:
    blocked(
        "import backbone, efficientdet, efficientnetv2; backbone.EfficientNet;"
        "backbone.create_model('efficientnet_b0'); efficientdet.EfficientDet;"
        "efficientdet.create_model('efficientdet_d0'); efficientnetv2.create_model",
        *("timm", "torchvision", "huggingface_hub", "safetensors"),
        *("pytorch_lightning", "hydra", "omegaconf", "cv2", "albumentations", "pycocotools"),
        *("wandb", "matplotlib", "simplejpeg", "msgspec", "yaml", "rich", "jinja2"),
    )
