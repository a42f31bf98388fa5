"""Help and mistakes are told before anything heavy is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from compound.cli.configs import opened, parse
from compound.cli.help import help_text

TOOLS = Path(__file__).parent.parent / "tools"
PROGRAM = """
import atexit, runpy, sys
heavy = {"torch", "pytorch_lightning", "numpy"}
atexit.register(lambda: print("heavy:", *sorted(heavy & sys.modules.keys())))
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.tool
@pytest.mark.parametrize("tool", sorted(path.stem for path in TOOLS.glob("[!_]*.py")))
@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("sede=1", 2)])
def test_help_and_mistakes_need_nothing_heavy(tool: str, argument: str, code: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(TOOLS / f"{tool}.py"), argument]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=TOOLS.parent)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy:"
    assert (f"uv run tools/{tool}.py" in done.stdout) == (code == 0)


@pytest.mark.parametrize("tool", sorted(path.stem for path in TOOLS.glob("[!_]*.py")))
def test_help_tells_every_key_of_the_tool(tool: str) -> None:
    config = yaml.safe_load((TOOLS.parent / "configs" / f"{tool}.yaml").read_text())
    plain = {key for key, value in config.items() if not isinstance(value, dict)} - {"defaults"}
    with opened(parse(tool, [])) as configs:
        lines = help_text(configs, "Purpose.").splitlines()
    assert lines[0] == "Purpose."
    told = [line.strip().split("=")[0] for line in lines if "=" in line]
    assert plain <= set(told)
    assert max(map(len, lines)) <= 110
