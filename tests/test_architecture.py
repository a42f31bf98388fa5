"""The direction of imports that docs/architecture.md draws."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "packages").glob("*/src/**/*.py"))
ALLOWED = {
    "backbone": {"backbone"},
    "efficientdet": {"backbone", "efficientdet"},
    "efficientnetv2": {"backbone", "efficientnetv2"},
}
LIGHTNING_HOMES = {"module.py", "tracking.py", "progressive.py"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_sources_are_found() -> None:
    assert len(SOURCES) > 30


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "packages")))
def test_imports_point_down(path: Path) -> None:
    names = imports(path)
    package = path.relative_to(ROOT / "packages").parts[0]
    assert not names & {"hydra", "omegaconf"}
    assert names & ALLOWED.keys() <= ALLOWED[package]
    if not (path.name in LIGHTNING_HOMES or {"data", "train"} & set(path.parts)):
        assert "pytorch_lightning" not in names


def test_spec_tables_need_no_torch() -> None:
    code = "import sys, backbone.specs, efficientdet.specs, efficientnetv2.specs;"
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_core_needs_no_lightning() -> None:
    code = (
        "import sys, backbone, efficientdet, efficientnetv2; backbone.create_model;"
        "efficientdet.create_model; efficientnetv2.create_model;"
        "assert 'pytorch_lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
