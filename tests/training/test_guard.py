"""Bad steps: detected without waiting, reported with their position, and never saved, or skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from elf_lightning.callbacks import EMA
from elf_lightning.errors import UserError
from elf_lightning.optim import MuonSettings
from elf_lightning.training.guard import GuardedModule, NonFinite

pytestmark = pytest.mark.filterwarnings("ignore")


class Faulty(GuardedModule):
    """Its loss or its gradient is not finite in some batches."""

    def __init__(
        self, bad_losses: set[int] = frozenset(), bad_gradients: set[int] = frozenset(), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2)
        self.bad_losses, self.bad_gradients = bad_losses, bad_gradients
        self.weights: list[Tensor] = []
        self.metrics: list[dict[str, Tensor]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.layer(torch.ones(4, 3) * (batch_idx + 1)).square().mean()
        if batch_idx in self.bad_losses:
            loss = loss * 0 + self.layer.bias.sum() * 0 + torch.tensor(float("nan"))
        if batch_idx in self.bad_gradients:  # sqrt has no slope at 0
            loss = loss + (self.layer.bias * 0).sum().sqrt()
        return loss

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.weights.append(self.layer.weight.detach().clone())
        self.metrics.append({name: value.clone() for name, value in self.trainer.callback_metrics.items()})
        super().on_train_batch_end(*arguments)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return MuonSettings().build(self, 0.05)


def fit(module: Faulty, folder: Path, batches: int = 12, **trainer: Any) -> Trainer:
    settings: dict[str, Any] = {"log_every_n_steps": 5, "gradient_clip_val": 1.0, "max_epochs": 1}
    settings["callbacks"] = [ModelCheckpoint(folder, every_n_train_steps=1, filename="{step}", save_top_k=-1)]
    fitting = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **settings | trainer,
    )
    fitting.fit(module, DataLoader(range(batches)))
    return fitting


@pytest.mark.parametrize("fault", ["bad_losses", "bad_gradients"])
def test_stops_and_names_the_first_bad_step_and_the_last_good_checkpoint(fault: str, tmp_path: Path) -> None:
    module = Faulty(**{fault: {7, 8}})
    with pytest.raises(UserError, match=r"step 7 \(epoch 0, batch 7\).*last good .* is .*step=7.ckpt"):
        fit(module, tmp_path)
    saved = torch.load(tmp_path / "step=7.ckpt", weights_only=True)
    assert saved["state_dict"]["layer.weight"].isfinite().all()
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == [f"step={n}.ckpt" for n in range(1, 8)]


def test_checks_only_every_few_steps(tmp_path: Path) -> None:
    module = Faulty({3})
    with pytest.raises(UserError, match=r"step 3 .*no checkpoint was saved before it"):
        fit(module, tmp_path, enable_checkpointing=False, callbacks=[])
    assert len(module.weights) == 5


def test_checks_only_at_the_end_without_logging(tmp_path: Path) -> None:
    module = Faulty({3})
    with pytest.raises(UserError, match="step 3 "):
        fit(module, tmp_path, enable_checkpointing=False, callbacks=[], log_every_n_steps=0)
    assert len(module.weights) == 12


def test_a_bad_last_step_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step 11 \(epoch 0, batch 11\)"):
        fit(Faulty({11}), tmp_path, enable_checkpointing=False, callbacks=[])


def test_a_checkpoint_of_only_weights_is_not_saved_either(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=2, filename="{step}", save_weights_only=True)
    with pytest.raises(UserError, match="step 3 "):
        fit(Faulty({3}), tmp_path, callbacks=[saver])
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["step=2.ckpt"]


def test_a_bad_micro_batch_is_named_by_its_own_number(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step 1 \(epoch 0, batch 4\)"):
        fit(Faulty({4}), tmp_path, accumulate_grad_batches=3)


def test_skipped_steps_change_only_their_count(tmp_path: Path) -> None:
    average = EMA(0.5)
    module = Faulty({2}, {5, 6}, non_finite="skip")
    trainer = fit(module, tmp_path, callbacks=[average])
    unchanged = [k for k in range(1, 12) if module.weights[k].equal(module.weights[k - 1])]
    assert unchanged == [2, 5, 6]
    assert module.skipped_steps == 3
    assert trainer.global_step == 12
    assert average.n_averaged == 9
    (group, *_) = trainer.optimizers[0].param_groups
    assert group["step"] == 9
    assert all(
        value.isfinite().all() for state in trainer.optimizers[0].state.values() for value in state.values()
    )
    assert module.metrics[-1]["train/skipped_steps"] == 3


def test_a_skipped_batch_has_no_effect(tmp_path: Path) -> None:
    class Without(Faulty):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx if batch_idx < 3 else batch_idx + 1)

    skipping, plain = Faulty({3}, non_finite="skip"), Without()
    fit(skipping, tmp_path, batches=8, callbacks=[])
    fit(plain, tmp_path, batches=7, callbacks=[])
    assert torch.equal(skipping.weights[-1], plain.weights[-1])


def test_the_count_of_skipped_steps_is_resumed(tmp_path: Path) -> None:
    fit(Faulty({2}, non_finite="skip"), tmp_path)
    module = Faulty(non_finite="skip")
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        max_epochs=2,
    )
    trainer.fit(module, DataLoader(range(12)), ckpt_path=str(tmp_path / "step=12.ckpt"), weights_only=True)
    assert module.skipped_steps == 1


def test_gives_up_when_every_step_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elf_lightning.training.guard.MAX_CONSECUTIVE_SKIPS", 4)
    with pytest.raises(UserError, match=r"in 4 consecutive steps up to step 5 \(epoch 0, batch 5\)"):
        fit(Faulty(set(range(2, 12)), non_finite="skip"), tmp_path, callbacks=[])


@pytest.mark.parametrize("non_finite", ["stop", "skip"])
@pytest.mark.parametrize("clip", [None, 0.1, 1e6])
def test_logs_the_norm_before_clipping_and_the_learning_rate(
    clip: float | None, non_finite: NonFinite, tmp_path: Path
) -> None:
    module = Faulty(non_finite=non_finite)
    reference = Faulty()
    fit(module, tmp_path, batches=1, gradient_clip_val=clip, callbacks=[])
    reference.training_step(torch.zeros(()), 0).backward()
    norm = torch.cat([p.grad.flatten() for p in reference.parameters()]).norm()
    torch.testing.assert_close(module.metrics[0]["train/gradient_norm"], norm)
    assert module.metrics[0]["train/learning_rate"].item() == pytest.approx(0.05)


def test_clips_as_lightning_does(tmp_path: Path) -> None:
    class Plain(Faulty):
        def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, **settings: Any) -> None:
            self.clip_gradients(optimizer, **settings)

    for settings in (
        {"gradient_clip_val": 0.1},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    ):
        ours, theirs = Faulty(), Plain()
        fit(ours, tmp_path, batches=3, callbacks=[], **settings)
        fit(theirs, tmp_path, batches=3, callbacks=[], **settings)
        torch.testing.assert_close(ours.weights[-1], theirs.weights[-1])


def test_refuses_another_policy() -> None:
    with pytest.raises(UserError, match=r"model.non_finite is 'ignore'; choose stop or skip"):
        Faulty(non_finite="ignore")


@pytest.mark.parametrize("fault", ["bad_losses", "bad_gradients"])
def test_all_ranks_skip_what_is_bad_on_one(fault: str, tmp_path: Path) -> None:
    class OnOneRank(Faulty):
        def on_train_start(self) -> None:
            if self.global_rank == 0:
                self.bad_losses = self.bad_gradients = set()

        def on_train_end(self) -> None:
            report = {"skipped": self.skipped_steps, "weight": self.layer.weight.detach()}
            torch.save(report, tmp_path / f"rank-{self.global_rank}.pt")

    module = OnOneRank(**{fault: {2, 4}}, non_finite="skip")
    fit(
        module,
        tmp_path,
        callbacks=[],
        strategy="ddp_fork",
        devices=2,
        use_distributed_sampler=False,
        batches=6,
    )
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in (0, 1))
    assert first["skipped"] == second["skipped"] == 2
    assert torch.equal(first["weight"], second["weight"])
    assert first["weight"].isfinite().all()
