"""Configurations of installed packages and of the user, found as Hydra's users expect."""

from pathlib import Path

import pytest

from compound.cli import main as _main
from compound.cli.configs import opened, parse
from compound.cli.help import help_text
from compound.cli.overrides import check_overrides
from compound.errors import UserError

FACES = """\
# @package _global_
# compound train data=faces
defaults: [_detection@data, _self_]
data:
  _target_: regressor.data.Faces
  root: {root}
  read: null
  smile: 3
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a choice of a group that we have, and a group that we have not."""
    write(tmp_path / "mine" / "data" / "faces.yaml", FACES.format(root="faces"))
    write(tmp_path / "mine" / "site" / "lab.yaml", "# @package _global_\nseed: 7\n")
    return tmp_path / "mine"


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with configurations, which may not be imported for them."""
    write(tmp_path / "site/regressor/__init__.py", "raise ImportError('heavy')\n")
    write(tmp_path / "site/regressor/configs/data/faces.yaml", FACES.format(root="faces"))
    write(tmp_path / "site/open_configs/data/faces.yaml", FACES.format(root="faces"))
    write(tmp_path / "site/open_configs/__init__.py", "")
    about = tmp_path / "site" / "regressor-1.0.dist-info"
    write(about / "METADATA", "Metadata-Version: 2.1\nName: regressor\nVersion: 1.0\n")
    write(about / "entry_points.txt", "[compound.configs]\nregressor = regressor.configs\n")
    monkeypatch.syspath_prepend(tmp_path / "site")


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["compound", *words])
    _main.main()


@pytest.mark.parametrize("flag", ["--config-dir={}", "--config-dir {}", "-cd {}", "searchpath"])
def test_a_folder_is_known_to_checks_help_and_hydra(
    folder: Path, flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = flag.format(folder).split()
    if flag == "searchpath":
        words = [f"hydra.searchpath=[file://{folder}]"]
    check_overrides("train", ["data=faces", "data.smile=5", *words, "+site=lab"])
    for wrong, message in (
        ("data.smil=5", "key 'data.smil' is unknown; did you mean data.smile"),
        ("data.smile=wide", "data.smile=wide: expected a number"),
        ("data=faecs", "data=faecs: did you mean faces"),
        ("+site=labb", "site=labb: did you mean lab"),
    ):
        with pytest.raises(UserError, match=message):
            check_overrides("train", ["data=faces", *words, wrong])
    with opened(parse("train", words)) as configs:
        lines = help_text(configs, "Purpose.").splitlines()
    assert any(line.split() == ["site", "lab"] for line in lines)
    assert "faces" in " ".join(lines)
    run(monkeypatch, "train", "data=faces", *words, "data.smile=5", "+site=lab", "--cfg", "job")
    shown = capsys.readouterr().out
    assert "  smile: 5\n" in shown
    assert shown.startswith("seed: 7\n")


def test_a_primary_configuration_of_ones_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "quick.yaml", "defaults: [train, _self_]\nseed: 11\nlength: 4\n")
    words = ["--config-dir", str(folder), "--config-name", "quick", "length=5"]
    run(monkeypatch, "train", *words, "--cfg", "job")
    shown = capsys.readouterr().out
    assert "seed: 11\n" in shown
    assert "length: 5\n" in shown
    with pytest.raises(UserError, match="key 'lenght' is unknown; did you mean length"):
        check_overrides("train", [*words, "lenght=4"])


@pytest.mark.parametrize(
    "words", [["--config-dir", "/nowhere"], ["hydra.searchpath=[file:///nowhere]"],
              ["hydra.searchpath=[pkg://no_such_package]"], ["hydra.searchpath=nowhere"]]
)  # fmt: skip
def test_places_that_do_not_exist(words: list[str]) -> None:
    with pytest.raises(UserError, match=r"nowhere|no_such_package"):
        check_overrides("train", words)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("verb", ["train", "evaluate", "doctor"])
def test_an_installed_package_brings_choices(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_overrides(verb, ["data=faces", "data.smile=5"])
    run(monkeypatch, verb, "--help")
    assert "faces" in capsys.readouterr().out
    run(monkeypatch, verb, "data=faces", "--cfg", "job", "--package", "data")
    assert "_target_: regressor.data.Faces\n" in capsys.readouterr().out


@pytest.mark.usefixtures("plugin")
def test_a_package_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compound.cli.configs.GROUP", "none")
    with pytest.raises(UserError, match="data=faces: "):
        check_overrides("train", ["data=faces"])
    check_overrides("train", ["data=faces", "hydra.searchpath=[pkg://open_configs]"])


def test_targets_of_other_packages_fit_every_task() -> None:
    for task in ("cls", "det"):
        check_overrides("train", [f"task={task}", "data._target_=regressor.data.Faces"])
    check_overrides("train", ["task=cls", "data=voc", "data._target_=regressor.data.Faces"])
    with pytest.raises(UserError, match="data=voc does not fit task=cls"):
        check_overrides("train", ["task=cls", "data=voc"])


@pytest.mark.parametrize("root", ["/home/ü/my data (2)", "a=b", "~/x y", "C:\\data (1)\\", "(a"])
def test_plain_paths_are_read_as_they_are(root: str) -> None:
    line = parse("train", ["data=voc", f"data.root={root}"])
    assert line.value("data.root") == root
    check_overrides("train", ["data=voc", f"data.root={root}"])
    assert parse("train", line.flags.overrides).value("data.root") == root
