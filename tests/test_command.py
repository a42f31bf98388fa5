"""The command ``compound`` beside its verbs: overview, version, and the configuration files."""

import subprocess
import sys
from pathlib import Path

import pytest

from compound import __version__
from compound.cli import main as _main
from compound.cli.configs import CONFIGS
from compound.cli.overrides import check_overrides


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["compound", *words])
    _main.main()


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_overview_has_a_line_for_each_verb(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, *words)
    lines = capsys.readouterr().out.splitlines()
    for verb in (*_main.VERBS, "config"):
        (line,) = [line for line in lines if line.split()[:1] == [verb]]
        assert len(line.split()) > 3
    assert max(map(len, lines)) <= 110


def test_every_configuration_of_the_first_level_is_a_verb() -> None:
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == sorted(_main.VERBS)


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "--version")
    assert capsys.readouterr().out == f"compound {__version__}\n"


@pytest.mark.tool
def test_unknown_verb_in_a_process() -> None:
    command = [sys.executable, "-m", "compound", "tran", "task=det"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: verb 'tran' is unknown; did you mean train?\n"


def test_configurations_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "config", "show")
    assert "data: cifar10, cifar100, coco, " in capsys.readouterr().out
    run(monkeypatch, "config", "show", "data")
    assert "data/voc  " in capsys.readouterr().out
    run(monkeypatch, "config", "show", "data/voc")
    assert capsys.readouterr().out == (CONFIGS / "data" / "voc.yaml").read_text()
    run(monkeypatch, "config", "show", "train")
    assert capsys.readouterr().out == (CONFIGS / "train.yaml").read_text()


def test_a_copy_is_used_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, "config", "copy", "data/voc")
    told = capsys.readouterr().out
    copy = tmp_path / "my_configs" / "data" / "my_voc.yaml"
    assert copy.read_text() == (CONFIGS / "data" / "voc.yaml").read_text()
    words = told.partition("compound train ")[2].split()
    assert words == ["--config-dir", "my_configs", "data=my_voc"]
    check_overrides("train", words)

    run(monkeypatch, "config", "copy", "data/voc", "other/data/owls.yaml")
    words = capsys.readouterr().out.partition("compound train ")[2].split()
    assert words == ["--config-dir", "other", "data=owls"]
    check_overrides("train", words)
    run(monkeypatch, "config", "show", "data", "--config-dir", "other")
    assert "data/owls " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["copy", "data/vok"], "configuration 'data/vok' is unknown; did you mean data/voc"),
        (["copy", "train"], "train: only a choice of a group can be copied"),
        (["copy", "data/voc", "there"], "there/data/my_voc.yaml exists"),
        (["copy", "data/voc", "there/owls.yaml"], "a choice of data lies in a folder called data"),
        (["show", "dta"], "configuration 'dta' is unknown; did you mean data"),
        (["edit"], "compound config edit is unknown"),
    ],
)
def test_mistakes(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there" / "data").mkdir(parents=True)
    (tmp_path / "there" / "data" / "my_voc.yaml").touch()
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "config", *words)
    assert message in capsys.readouterr().err
