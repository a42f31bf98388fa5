"""The four packages as a user gets them: wheels in an environment outside the repository."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("backbone", "compound", "efficientdet", "efficientnetv2")

# Distributions that are not called as what one imports from them.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "fastapi": "gradio",  # its server, with the two below
    "hydra": "hydra-core",
    "starlette": "gradio",
    "uvicorn": "gradio",
    "yaml": "pyyaml",
}
# Required, though no source file imports them: the networks, timm's optimizers that configurations
# name, and what Lightning's logger needs.
UNIMPORTED = {"compound": {*PACKAGES, "tensorboard", "timm"}}


def sources(name: str) -> dict[str, Path]:
    """Return the files that belong into a package's wheel, by their path in there."""
    folders = {name: ROOT / "packages" / name / "src" / name}
    if name == "compound":
        folders["compound/configs"] = ROOT / "configs"
    return {
        f"{home}/{path.relative_to(folder).as_posix()}": path
        for home, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def imported(name: str) -> set[str]:
    """Return the distributions that a package's source imports, wherever in a file it does."""
    modules = set()
    for file in (ROOT / "packages" / name / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    modules -= set(sys.stdlib_module_names) | {name}
    return {DISTRIBUTIONS.get(module, module.replace("_", "-")) for module in modules}


def distributions(requirements: list[str]) -> set[str]:
    """Return the names in a list of requirements."""
    return {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requirements}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_requires_what_it_imports(name):
    projects = {
        package: tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())
        for package in (name, "compound")
    }
    required = distributions(projects[name]["project"]["dependencies"])
    extras = projects["compound"]["project"]["optional-dependencies"].values()
    optional = distributions([requirement for extra in extras for requirement in extra])
    assert required - imported(name) <= UNIMPORTED.get(name, set()), "required but not imported"
    assert imported(name) - required <= optional, "imported but not required"


def uv(*arguments: str) -> None:
    """Run uv without network."""
    program = os.environ.get("UV") or shutil.which("uv")
    if program is None:
        pytest.skip("needs uv")
    done = subprocess.run(
        [program, *arguments, "--offline"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def own_environment() -> dict[str, str]:
    """Return the variables of this process but those that would lead to this checkout."""
    ours = {"PYTHONPATH", "VIRTUAL_ENV", "WANDB_SERVICE"}
    return {name: value for name, value in os.environ.items() if name not in ours}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """Every package's wheel, built from its sdist by the hatchling of this environment."""
    folder = tmp_path_factory.mktemp("dist")
    uv(
        *("build", "--all-packages", "--no-build-isolation"),
        *("--python", sys.executable, "--out-dir", str(folder)),
    )
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def environment(wheels, tmp_path_factory) -> Path:
    """An environment that holds the wheels, and sees everything else of this one.

    A line of a ``.pth`` file adds a folder to the path, not the ``.pth`` files in it, so that the
    editable packages stay out of sight.
    """
    folder = tmp_path_factory.mktemp("environment") / "venv"
    uv("venv", "--python", sys.executable, str(folder))
    python = folder / "bin" / "python"
    uv("pip", "install", "--python", str(python), "--no-deps", "--no-index",
       *(str(wheel) for wheel in wheels.values()))  # fmt: skip
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder


def run_installed(call: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder as a user does who never saw the repository."""
    variables = own_environment() | {"COMPOUND_CACHE": str(folder / "cache")}
    return subprocess.run(
        call, cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


def metadata(wheel: Path) -> Message:
    """Return what a wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(path).decode())


@pytest.mark.tool
@pytest.mark.parametrize("name", PACKAGES)
def test_a_wheel_holds_every_source_file_and_nothing_else(name, wheels):
    with zipfile.ZipFile(wheels[name]) as archive:
        held = {path for path in archive.namelist() if ".dist-info/" not in path}
        assert held == set(sources(name))
        for path, source in sources(name).items():
            assert archive.read(path) == source.read_bytes(), path
        (licence,) = (path for path in archive.namelist() if path.endswith("licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    assert f"{name}/py.typed" in held


@pytest.mark.tool
@pytest.mark.parametrize("name", PACKAGES)
def test_a_wheel_says_what_it_is(name, wheels):
    told = metadata(wheels[name])
    assert told["Name"] == name
    assert told["License-Expression"] == "Apache-2.0"
    assert told["Author"] == "The Compound authors"
    assert told["Requires-Python"]
    readme = (ROOT / "packages" / name / "README.md").read_text()
    assert told.get_payload().strip() == readme.strip()
    others = {"compound": set(PACKAGES) - {"compound"}}.get(name, {"compound"})
    assert others <= distributions(told.get_all("Requires-Dist", []))


@pytest.mark.tool
def test_a_wheel_built_from_the_checkout_is_the_one_built_from_the_sdist(wheels, tmp_path):
    uv(
        *("build", "--wheel", "--package", "compound", "--no-build-isolation"),
        *("--python", sys.executable, "--out-dir", str(tmp_path)),
    )
    (direct,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(direct) as one, zipfile.ZipFile(wheels["compound"]) as other:
        assert set(one.namelist()) == set(other.namelist())


@pytest.mark.tool
def test_installed_packages_are_imported_from_the_wheels_with_one_version(environment, tmp_path):
    code = "import json, {0}; print(json.dumps([[m.__file__, m.__version__] for m in ({0})]))"
    done = run_installed(
        [str(environment / "bin/python"), "-c", code.format(", ".join(PACKAGES))], tmp_path
    )
    assert done.returncode == 0, done.stderr
    files, versions = zip(*json.loads(done.stdout), strict=True)
    assert all(Path(file).is_relative_to(environment) for file in files), files
    assert set(versions) == {version_in_the_source()}


def version_in_the_source() -> str:
    """Return the one version that is written in Python."""
    source = (ROOT / "packages/compound/src/compound/__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.+)"', source, re.MULTILINE)
    return version


@pytest.mark.tool
def test_every_wheel_has_the_version_of_the_source(wheels):
    assert set(wheels) == set(PACKAGES)
    assert {metadata(wheel)["Version"] for wheel in wheels.values()} == {version_in_the_source()}


def test_changelog_and_citation_know_the_version():
    version = re.escape(version_in_the_source())
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert re.search(rf"^## v{version} ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.tool
@pytest.mark.parametrize("call", [["bin/compound"], ["bin/python", "-m", "compound"]])
def test_the_command_shows_its_verbs(call, environment, tmp_path):
    done = run_installed([str(environment / call[0]), *call[1:], "--help"], tmp_path)
    assert done.returncode == 0, done.stderr
    for verb in (file.stem for file in (ROOT / "tools").glob("*.py")):
        assert verb in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.tool
def test_the_python_of_the_readmes_of_networks_runs(environment, tmp_path):
    readmes = [ROOT / "packages" / name / "README.md" for name in PACKAGES if name != "compound"]
    blocks = [re.findall(r"```python\n(.*?)```", file.read_text(), re.DOTALL) for file in readmes]
    assert all(blocks)
    code = "\n".join(block for found in blocks for block in found)
    done = run_installed([str(environment / "bin/python"), "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.tool
@pytest.mark.train
def test_the_first_command_trains_in_an_empty_folder(environment, tmp_path):
    done = run_installed(
        [
            str(environment / "bin/compound"),
            *("train", "task=det", "model=d0", "logger=csv", "report=false"),
            *("data.read.num_train=8", "data.read.num_val=2", "model.image_size=128"),
            *("data.batch_size=2", "data.num_workers=0", "trainer.max_epochs=1"),
            *("trainer.limit_train_batches=2", "trainer.limit_val_batches=1"),
        ],
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs" / "det-d0").iterdir()
    for file in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (run / file).stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "runs"}
