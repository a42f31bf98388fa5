"""What is searched before a training, on networks whose answers are known."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from compound.data.loader import EpochData
from compound.errors import UserError
from compound.profiling import memory
from compound.stages import Stage
from compound.training import batch_size, lr_find
from compound.training.batch_size import Fit, largest_batch
from compound.training.lr_find import Curve, find_rate
from compound.training.optim import OptimRecipe
from compound.training.profile import Profile


class Numbers(Dataset[Any]):
    def __getitem__(self, draw: Any) -> Tensor:
        return torch.tensor([1.0, draw.seed % 7 / 7])


class Data(EpochData):
    def __init__(self, count: int = 64) -> None:
        super().__init__(batch_size=4, num_workers=0, seed=0)
        self.splits = {"train": range(count), "val": range(4)}

    def num_pictures(self, split: str) -> int:
        return len(self.splits[split])

    def find_problem(self, split: str, i: int) -> str:
        return ""

    def pick(self, count: int) -> Any:
        return self.splits["train"][:count]

    @property
    def last_stage(self) -> Stage:
        return Stage(1, batch_size=self.batch_size)

    def training_set(self, stage: Stage) -> Dataset[Any]:
        return Numbers()

    def train_dataloader(self) -> DataLoader[Any]:
        return self.shuffled(collate=torch.stack)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.in_order(Numbers(), self.num_pictures("val"), collate=torch.stack)


class Weighed:
    """In place of the process's memory, which other tests leave in pieces: 16 MiB a picture."""

    most = largest = 0

    def begin_anew(self) -> None:
        Weighed.most = 0

    def gibibytes(self) -> float:
        return Weighed.most / 64


class Parabola(pl.LightningModule):
    """Two weights to be brought to zero; the loss is half their squares, so it diverges above 2."""

    def __init__(self, **optim: Any) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
        for layer in self.model:
            nn.init.ones_(layer.weight)
        self.batch_size = 4
        settings = {"lr": 1.0, "base_batch_size": 8, "weight_decay": 0, "warmup_epochs": 0}
        self.optim = OptimRecipe(torch.optim.SGD, **settings | optim)
        self.seen: list[list[float]] = []
        self.validated = 0

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        torch.rand(1)  # as stochastic depth draws
        Weighed.most = max(Weighed.most, len(batch))
        Weighed.largest = max(Weighed.largest, len(batch))
        self.seen.append([layer.weight.item() for layer in self.model])
        return torch.stack([0.5 * layer.weight.square().sum() for layer in self.model]).sum()

    def validation_step(self, batch: Tensor, _: int) -> None:
        self.validated += 1

    def configure_optimizers(self) -> dict[str, Any]:
        return self.optim.configure(self.model, self.trainer, batch_size=self.batch_size)


def trainer(**arguments: Any) -> pl.Trainer:
    fixed = {"accelerator": "cpu", "enable_model_summary": False, "use_distributed_sampler": False}
    return pl.Trainer(**fixed | arguments)


@pytest.mark.train
def test_the_rate_is_a_tenth_of_the_lowest_loss_and_nothing_else_changes(tmp_path: Path) -> None:
    module, data = Parabola(), Data()
    before, drawn = module.state_dict(), torch.get_rng_state()
    kept = {name: value.clone() for name, value in before.items()}
    curve = find_rate(module, data, trainer, folder=tmp_path)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())
    assert (module.optim.lr, module.seen, module.validated) == (1.0, [], 0)
    assert (data.trainer, data.batch_size, data.first_epoch) == (None, 4, 0)
    assert list(tmp_path.iterdir()) == []
    # Rates of a step rise by a constant factor up to 1; in the unit of optim.lr they are twice
    # that, as the batch is half of what the rate is meant for.
    assert len(curve.rates) == len(curve.losses) == lr_find.STEPS
    assert curve.rates[0] == pytest.approx(2e-6)
    ratios = curve.rates[2:] / curve.rates[1:-1]
    assert np.allclose(ratios, 1e6 ** (1 / lr_find.STEPS))
    assert np.all(np.diff(curve.losses) <= 0)  # of a parabola below a rate of 2
    assert curve.losses[0] == pytest.approx(1.0)  # two weights of 1
    assert curve.problem == "the loss still falls at the largest rate, 2"


@pytest.mark.train
def test_layers_keep_the_proportions_of_their_rates(tmp_path: Path) -> None:
    module = Parabola(layer_decay=0.5)
    seen: list[list[float]] = []
    step = Parabola.training_step

    def noted(self: Parabola, batch: Tensor, i: int) -> Tensor:
        seen.append([layer.weight.item() for layer in self.model])
        return step(self, batch, i)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parabola, "training_step", noted)
        curve = find_rate(module, Data(), trainer, folder=tmp_path)
    assert module.model[0].weight.item() == 1
    before, after = seen[50], seen[51]
    falls = [1 - b / a for a, b in zip(before, after, strict=True)]
    rate = curve.rates[50] / 2  # of a step
    assert falls == pytest.approx([0.5 * rate, rate], rel=1e-3)


def valley(lowest: float) -> Curve:
    """Return a curve that falls from 2 to 1 and rises over the logarithm of the rate."""
    rates = np.geomspace(1e-6, 1, 100)
    distance = np.abs(np.log10(rates / lowest))
    return Curve(rates, 1 + np.minimum(1, distance / 2))


def test_what_a_curve_says() -> None:
    assert valley(1e-2).problem == ""
    assert valley(1e-2).suggestion == pytest.approx(1e-3, rel=0.15)
    flat = np.random.default_rng(0).normal(2, 0.1, 100)
    rising = Curve(valley(1e-2).rates, np.linspace(1, 2, 100) + flat)
    assert "does not fall" in rising.problem
    short = Curve(np.geomspace(1e-6, 1e-5, 9), np.ones(9))
    assert short.problem == "the loss was not finite after 9 steps"


@pytest.mark.train
def test_a_loss_that_is_no_number_ends_the_curve(tmp_path: Path) -> None:
    class Broken(Parabola):
        def training_step(self, batch: Tensor, i: int) -> Tensor:
            loss = super().training_step(batch, i)
            return loss * math.nan if len(self.seen) > 5 else loss

    curve = find_rate(Broken(), Data(), trainer, folder=tmp_path)
    assert (len(curve.rates), len(curve.losses)) == (5, 5)
    assert curve.problem == "the loss was not finite after 5 steps"
    lr_find.plot(curve, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def fit(monkeypatch: pytest.MonkeyPatch, folder: Path, *, free: int, pictures: int = 4000) -> Fit:
    """Return the batch of a network that takes 16 MiB a picture."""
    module = Parabola()
    monkeypatch.setattr(batch_size, "available", lambda: free)
    monkeypatch.setattr(batch_size, "Peak", lambda _: Weighed())
    Weighed.largest = 0
    before = module.state_dict(), torch.get_rng_state()
    found = largest_batch(module, Data(pictures), trainer, folder=folder)
    assert torch.equal(torch.get_rng_state(), before[1])
    assert (module.batch_size, module.seen, list(folder.iterdir())) == (4, [], [])
    return found


@pytest.mark.train
def test_the_largest_batch_fits_and_leaves_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # 80 % of 0.25 GiB are 12 pictures of 16 MiB; 16 are not tried, as they could take 0.25 GiB.
    found = fit(monkeypatch, tmp_path, free=2**28)
    assert found.size == 8
    assert Weighed.largest == 8
    assert found.reason.startswith("0.1 GiB; twice as many would not fit into the 0.")
    found = fit(monkeypatch, tmp_path, free=2**40)
    assert found.size == Weighed.largest == batch_size.CPU_MOST
    assert found.reason == "0.5 GiB; a CPU gains nothing from more"
    # Ten steps of an epoch of 100 pictures have ten pictures each.
    found = fit(monkeypatch, tmp_path, free=2**40, pictures=100)
    assert found.size == 8
    assert found.reason.endswith("; more would leave an epoch fewer than 10 steps")
    with pytest.raises(UserError, match=r"data.batch_size=auto: 2 pictures do not fit"):
        fit(monkeypatch, tmp_path, free=2**20)


def test_where_a_batch_cannot_be_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(batch_size, "available", lambda: None)
    with pytest.raises(UserError, match="does not tell what memory is free for cpu"):
        largest_batch(Parabola(), Data(), trainer, folder=tmp_path)
    two = SimpleNamespace(world_size=2)
    with pytest.raises(UserError, match="found on one device"):
        batch_size._check(two, "cpu")  # pyright: ignore[reportArgumentType]


def test_what_is_left_of_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = tmp_path / "meminfo"
    machine.write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    group = tmp_path / "cgroup"
    monkeypatch.setattr(memory, "MEMINFO", machine)
    monkeypatch.setattr(memory, "GROUP", group)
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "sys")
    assert memory.available() == 4_096_000  # no groups

    def limit(folder: str, names: tuple[str, str], values: tuple[str, str], stat: str) -> None:
        place = tmp_path / "sys" / folder
        place.mkdir(parents=True, exist_ok=True)
        for name, value in zip(names, values, strict=True):
            (place / f"memory.{name}").write_text(value + "\n")
        (place / "memory.stat").write_text(f"anon 7\n{stat}\n")

    second = ("max", "current")
    group.write_text("0::/outer/inner\n")
    limit("outer/inner", second, ("max", "100"), "inactive_file 3")
    assert memory.available() == 4_096_000  # no limit
    limit("outer", second, ("3000000", "2000000"), "inactive_file 500000")
    assert memory.available() == 1_500_000  # the file cache can go
    first = ("limit_in_bytes", "usage_in_bytes")
    group.write_text("5:cpu:/\n4:memory:/here\n0::/\n")
    limit("memory/here", first, ("2000", "3000"), "total_inactive_file 100")
    assert memory.available() == 0
    machine.unlink()
    assert memory.available() is None


@pytest.mark.parametrize("size", [0, -2, 2.5, True, None, "auto", "4"])
def test_a_batch_is_a_whole_number(size: Any) -> None:
    class Sized(Data):
        def __init__(self) -> None:
            EpochData.__init__(self, batch_size=size, num_workers=0, seed=0)

    hint = "only a training finds it" if size == "auto" else "1 or more$"
    with pytest.raises(UserError, match=rf"data.batch_size={size}: expected a whole .*{hint}"):
        Sized()


@pytest.mark.train
@pytest.mark.parametrize("steps", [3, 4, 9])
def test_a_profile_begins_with_the_fourth_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, steps: int
) -> None:
    caplog.set_level("INFO")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    limits = {"max_epochs": 1, "limit_train_batches": steps, "limit_val_batches": 1}
    folder = tmp_path / "profile"
    made = trainer(callbacks=[Profile(folder)], default_root_dir=tmp_path, **quiet, **limits)
    made.fit(Parabola(), datamodule=Data())
    told = caplog.text
    if steps == 3:
        assert "profile: the training was over before step 4" in told
        assert not folder.exists()
        return
    assert f"profile: {folder / 'table.txt'} is a table" in told
    rows = [row.split() for row in (folder / "table.txt").read_text().splitlines()]
    assert [row[-1] for row in rows if row and row[0] == "step"] == [str(min(4, steps - 3))]
    assert {path.name for path in folder.iterdir()} == {"table.txt", "trace.json.gz"}
