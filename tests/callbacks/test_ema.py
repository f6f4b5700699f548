"""What the EMA callback promises, sentence by sentence, on a two-layer network, with warm-up and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, OnExceptionCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from elf_lightning.callbacks.ema import EMA
from elf_lightning.errors import UserError
from elf_lightning.optim import MuonSettings, Schedule

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("warmup")]

Weights = dict[str, Tensor]
MODE = SimpleNamespace(warmup=True)
DECAY = 0.8
BATCHES = 4


class TinyModule(LightningModule):
    """Learns from noise that depends on the optimizer step alone; notes the weights each hook sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        self.register_buffer("batches_seen", torch.zeros(()))
        self.seen: dict[str, Weights] = {}
        self.losses: list[Tensor] = []
        self.after_step: list[Weights] = []

    def loss(self, key: int) -> Tensor:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(key))
        return (self.network(x) - x[:, :2]).square().mean()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.batches_seen += 1
        loss = self.loss(self.trainer.global_step)
        self.losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.after_step.append(weights(self))

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val_loss", self.loss(-1), batch_size=8)
        self.seen["validation_step"] = weights(self)

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.seen["test_step"] = weights(self)

    def predict_step(self, batch: Tensor, batch_idx: int) -> None:
        self.seen["predict_step"] = weights(self)

    def configure_optimizers(self) -> Any:
        optimizer = MuonSettings().build(self, 0.05)
        scheduler = Schedule(warmup_steps=2, decay="cosine").build(optimizer, 100, BATCHES)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _noting(hook: str) -> Callable[..., None]:
    def note(self: Any, *args: Any) -> None:
        module = self if isinstance(self, LightningModule) else args[1]
        module.seen[f"{type(self).__name__}.{hook}"] = weights(module)

    return note


VALIDATION_HOOKS = [
    f"on_validation_{moment}"
    for moment in ("start", "epoch_start", "batch_start", "batch_end", "epoch_end", "end")
]
NotingModule = type("NotingModule", (TinyModule,), {hook: _noting(hook) for hook in VALIDATION_HOOKS})
Before = type("Before", (Callback,), {hook: _noting(hook) for hook in VALIDATION_HOOKS})
After = type("After", (Callback,), {hook: _noting(hook) for hook in VALIDATION_HOOKS})


@pytest.fixture(params=[True, False], ids=["warmup", "constant"])
def warmup(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The mode of the average, which `ema` and `average_of` follow."""
    monkeypatch.setattr(MODE, "warmup", request.param)
    return bool(request.param)


class RaiseAt(Callback):
    """Raises in `hook` once `step` optimizer steps are done."""

    def __init__(self, hook: str, step: int, error: BaseException) -> None:
        def strike(trainer: Trainer, *_: Any, **__: Any) -> None:
            if trainer.global_step == step and not trainer.sanity_checking:
                raise error

        setattr(self, hook, strike)


def weights(module: nn.Module) -> Weights:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def only_weights(state_dict: Weights) -> Weights:
    return {name: value for name, value in state_dict.items() if name != "batches_seen"}


def ema(decay: float = DECAY, device: str | None = None) -> EMA:
    return EMA(decay, device, warmup=MODE.warmup)


def average_of(history: list[Weights], decay: float = DECAY, initial: Weights | None = None) -> Weights:
    """By formula; all runs start from the same initial weights."""
    average = weights(TinyModule()) if initial is None else initial
    for n, current in enumerate(history):
        d = decay
        if MODE.warmup:
            d = min(decay, (1 + n) / (10 + n)) if n else 0.0
        average = {name: d * average[name] + (1 - d) * current[name] for name in average}
    return average


def assert_close(actual: Weights, expected: Weights) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def assert_equal(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def assert_differ(one: Weights, other: Weights) -> None:
    assert not torch.allclose(one["network.0.weight"], other["network.0.weight"], atol=1e-4)


def loader() -> DataLoader[Any]:
    return DataLoader(torch.zeros(BATCHES, 1))  # type: ignore[arg-type]


def make_trainer(path: Path, *callbacks: Callback, **options: Any) -> Trainer:
    settings: dict[str, Any] = {
        "max_epochs": 1,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "num_sanity_val_steps": 0,
        **options,
    }
    return Trainer(
        default_root_dir=path,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **settings,
    )


def run(
    path: Path, *callbacks: Callback, module: TinyModule | None = None, **options: Any
) -> tuple[TinyModule, Trainer]:
    """A finished or interrupted `fit`."""
    module, ckpt_path = module or TinyModule(), options.pop("ckpt_path", None)
    trainer = make_trainer(path, *callbacks, **options)
    try:
        trainer.fit(module, loader(), loader(), ckpt_path=ckpt_path)
    except (RuntimeError, SystemExit):
        assert any(isinstance(callback, RaiseAt) for callback in callbacks)
    return module, trainer


def load(path: Path) -> dict[str, Any]:
    return dict(torch.load(path, weights_only=False))


def test_the_average_follows_the_weights_by_formula(tmp_path: Path) -> None:
    module, _ = run(tmp_path, ema(DECAY), max_epochs=10)
    assert len(module.after_step) == 10 * BATCHES
    assert_close(weights(module), average_of(module.after_step))
    assert_differ(weights(module), module.after_step[-1])
    assert_differ(weights(module), average_of(module.after_step, decay=0.9999))


def test_the_average_of_a_short_run_is_its_first_weights_only_without_warm_up(
    tmp_path: Path, warmup: bool
) -> None:
    module, _ = run(tmp_path, ema(0.9999), max_epochs=5)
    last, average = module.after_step[-1]["network.0.weight"], weights(module)["network.0.weight"]
    distance = (module.after_step[0]["network.0.weight"] - last).norm()
    assert ((average - last).norm() < 0.3 * distance) == warmup
    assert ((average - last).norm() > 0.9 * distance) == (not warmup)


def test_warm_up_is_the_default() -> None:
    assert EMA().warmup
    assert EMA().decay == 0.9999


def test_no_decay_means_no_averaging(tmp_path: Path) -> None:
    module, _ = run(tmp_path, ema(0.0))
    assert_equal(weights(module), module.after_step[-1])


def test_accumulation_counts_optimizer_steps(tmp_path: Path) -> None:
    callback = ema(DECAY)
    module, trainer = run(tmp_path, callback, accumulate_grad_batches=2, max_epochs=3)
    assert callback.n_averaged == trainer.global_step == 6
    assert_close(weights(module), average_of(module.after_step[1::2]))


def test_all_validation_hooks_of_module_and_callbacks_see_the_average(tmp_path: Path) -> None:
    module = NotingModule()
    run(tmp_path, Before(), ema(DECAY), After(), module=module)
    expected = average_of(module.after_step)
    hooks = ["validation_step"] + [
        f"{who}.{hook}" for who in ("NotingModule", "Before", "After") for hook in VALIDATION_HOOKS
    ]
    assert sorted(module.seen) == sorted(hooks)
    for hook in hooks:
        assert_close(module.seen[hook], expected)


@pytest.mark.parametrize("val_check_interval", [1, 3, 4])
def test_training_goes_on_with_raw_weights_after_validation(tmp_path: Path, val_check_interval: int) -> None:
    validated, _ = run(tmp_path, ema(DECAY), max_epochs=2, val_check_interval=val_check_interval)
    plain, _ = run(tmp_path, ema(DECAY), max_epochs=2, limit_val_batches=0)
    assert_equal(validated.losses, plain.losses)
    assert_equal(validated.after_step, plain.after_step)
    assert_equal(weights(validated), weights(plain))


def test_training_hooks_after_a_validation_see_raw_weights(tmp_path: Path) -> None:
    class Module(TinyModule):
        def on_train_epoch_end(self) -> None:
            self.seen["epoch end"] = weights(self)

    module = Module()
    run(tmp_path, ema(DECAY), module=module)
    assert_equal(module.seen["epoch end"], module.after_step[-1])


def test_a_run_without_ema_trains_alike_and_stores_one_set_of_weights(tmp_path: Path) -> None:
    averaged, _ = run(tmp_path, ema(DECAY))
    plain, trainer = run(tmp_path)
    assert_equal(plain.after_step, averaged.after_step)
    assert_equal(weights(plain), plain.after_step[-1])
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    assert "current_model_state" not in load(tmp_path / "plain.ckpt")


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_every_stage_after_fit_sees_the_average(tmp_path: Path, stage: str) -> None:
    callback = ema(DECAY)
    module, trainer = run(tmp_path, callback)
    expected = average_of(module.after_step)
    getattr(trainer, stage)(module, loader())
    assert_close(module.seen[f"{'validation' if stage == 'validate' else stage}_step"], expected)
    assert_close(weights(module), expected)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_every_stage_after_fit_sees_the_average_of_a_checkpoint(tmp_path: Path, stage: str) -> None:
    checkpoints = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
    module, trainer = run(tmp_path, ema(DECAY), checkpoints)
    getattr(trainer, stage)(module, loader(), ckpt_path=tmp_path / "step=3.ckpt")
    seen = module.seen[f"{'validation' if stage == 'validate' else stage}_step"]
    assert_close(seen, average_of(module.after_step[:3]))

    trainer.save_checkpoint(tmp_path / "later.ckpt")
    saved = load(tmp_path / "later.ckpt")
    assert_close(only_weights(saved["state_dict"]), average_of(module.after_step[:3]))
    assert_equal(only_weights(saved["current_model_state"]), module.after_step[2])


@pytest.mark.parametrize("with_ema", [False, True])
def test_a_fresh_test_sees_the_average(tmp_path: Path, with_ema: bool) -> None:
    trained, trainer = run(tmp_path, ema(DECAY))
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    fresh = TinyModule()
    callbacks = [ema(DECAY)] if with_ema else []
    make_trainer(tmp_path, *callbacks).test(fresh, loader(), ckpt_path=tmp_path / "end.ckpt")
    assert_close(fresh.seen["test_step"], average_of(trained.after_step))


def test_checkpoints_hold_both_sets_of_weights_whenever_they_are_saved(tmp_path: Path) -> None:
    in_training = ModelCheckpoint(tmp_path, "batch-{step}", every_n_train_steps=1, save_top_k=-1)
    at_validation = ModelCheckpoint(tmp_path, "val-{step}", monitor="val_loss", save_top_k=-1)
    at_epoch_end = ModelCheckpoint(tmp_path, "epoch-{step}", save_top_k=-1, save_on_train_epoch_end=True)
    module, trainer = run(
        tmp_path,
        in_training,
        at_validation,
        at_epoch_end,
        ema(DECAY),
        val_check_interval=2,
    )
    trainer.save_checkpoint(tmp_path / "after-fit-step=4.ckpt")
    files = sorted(tmp_path.glob("*.ckpt"))
    assert len(files) == 4 + 2 + 1 + 1
    for file in files:
        step = int(file.stem.split("=")[1])
        saved = load(file)
        assert_close(only_weights(saved["state_dict"]), average_of(module.after_step[:step]))
        assert_equal(only_weights(saved["current_model_state"]), module.after_step[step - 1])
        assert saved["averaging_state"]["n_averaged"] == step
        assert saved["current_model_state"]["batches_seen"] == step


def test_checkpoints_of_weights_alone_hold_the_average(tmp_path: Path) -> None:
    in_training = ModelCheckpoint(
        tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1, save_weights_only=True
    )
    at_validation = ModelCheckpoint(tmp_path, "val-{step}", monitor="val_loss", save_weights_only=True)
    module, trainer = run(tmp_path, ema(DECAY), in_training, at_validation, val_check_interval=2)
    trainer.save_checkpoint(tmp_path / "after-fit-step=4.ckpt", weights_only=True)
    files = sorted(tmp_path.glob("*.ckpt"))
    assert len(files) == 4 + 1 + 1
    for file in files:
        step = int(file.stem.split("=")[1])
        saved = load(file)
        assert "optimizer_states" not in saved
        assert_close(only_weights(saved["state_dict"]), average_of(module.after_step[:step]))


@pytest.mark.parametrize("error", [RuntimeError("struck"), KeyboardInterrupt()], ids=["exception", "ctrl-c"])
@pytest.mark.parametrize("hook", [*VALIDATION_HOOKS, "on_train_batch_start", "on_train_batch_end"])
@pytest.mark.parametrize("weights_only", [False, True], ids=["complete", "weights_only"])
def test_no_interruption_exchanges_the_weights(
    tmp_path: Path, hook: str, error: BaseException, weights_only: bool
) -> None:
    class SaveOnException(OnExceptionCheckpoint):
        def on_exception(self, trainer: Trainer, *_: Any, **__: Any) -> None:
            trainer.save_checkpoint(self.ckpt_path, weights_only=weights_only)

    striker = RaiseAt(hook, 3, error)
    module, trainer = run(tmp_path, SaveOnException(tmp_path), striker, ema(DECAY), val_check_interval=3)
    assert trainer.interrupted
    history = run(tmp_path)[0].after_step[:3]
    saved = load(tmp_path / "on_exception.ckpt")
    assert_close(only_weights(saved["state_dict"]), average_of(history))
    assert_close(weights(module), average_of(history))
    if not weights_only:
        assert_equal(only_weights(saved["current_model_state"]), history[2])


def test_a_step_taken_but_not_yet_averaged_is_averaged_before_saving(tmp_path: Path) -> None:
    class Struck(TinyModule):
        def lr_scheduler_step(self, *args: Any) -> None:
            super().lr_scheduler_step(*args)
            if self.trainer.global_step == 3:
                raise RuntimeError("struck")

    module, trainer = Struck(), make_trainer(tmp_path, ema(DECAY))
    with pytest.raises(RuntimeError, match="struck"):
        trainer.fit(module, loader())
    trainer.save_checkpoint(tmp_path / "struck.ckpt")
    history = run(tmp_path)[0].after_step[:3]
    saved = load(tmp_path / "struck.ckpt")
    assert_close(only_weights(saved["state_dict"]), average_of(history))
    assert_equal(only_weights(saved["current_model_state"]), history[2])


def test_an_interruption_while_weights_are_copied_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = ema(DECAY)
    module, trainer = run(tmp_path, callback, RaiseAt("on_train_batch_start", 3, RuntimeError("struck")))
    history = run(tmp_path)[0].after_step[:3]
    copied: list[Tensor] = []
    copy = Tensor.copy_

    def interrupted_copy(self: Tensor, source: Tensor) -> Tensor:
        copied.append(self)
        if len(copied) == 2:
            raise KeyboardInterrupt
        return copy(self, source)

    # Copying raw weights, then the average.
    for show in (callback.on_train_batch_start, callback.on_validation_start):
        copied.clear()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Tensor, "copy_", interrupted_copy)
            show(trainer, module)
        trainer.save_checkpoint(tmp_path / "torn.ckpt")
        saved = load(tmp_path / "torn.ckpt")
        assert_close(only_weights(saved["state_dict"]), average_of(history))
        assert_equal(only_weights(saved["current_model_state"]), history[2])
        callback.on_train_batch_start(trainer, module)
        assert_equal(weights(module), history[2])


RESUMED_STEPS = 2 * BATCHES


def assert_same_ending(
    path: Path, resumed: tuple[TinyModule, Trainer], whole: tuple[TinyModule, Trainer]
) -> None:
    """Equal to the bit: losses after the stop, both sets of weights, optimizer, schedule and counters."""
    assert_equal(resumed[0].losses, whole[0].losses[-len(resumed[0].losses) :])
    saved = []
    for name, (_, trainer) in {"resumed": resumed, "whole": whole}.items():
        trainer.save_checkpoint(path / f"{name}.ckpt")
        saved.append(load(path / f"{name}.ckpt"))
    assert saved[0]["global_step"] == saved[1]["global_step"] == RESUMED_STEPS
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        assert_equal(saved[0][key], saved[1][key])


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_validation_end", "on_train_batch_end"])
@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_a_stopped_run_resumes_to_the_same_bits(tmp_path: Path, hook: str, step: int) -> None:
    options = {"max_epochs": -1, "max_steps": RESUMED_STEPS, "val_check_interval": 1}

    class Keep(OnExceptionCheckpoint):
        def teardown(self, *_: Any, **__: Any) -> None:
            """The file stays."""

    whole = run(tmp_path, ema(DECAY), **options)
    run(tmp_path, ema(DECAY), Keep(tmp_path), RaiseAt(hook, step, RuntimeError("struck")), **options)
    resumed = run(tmp_path, ema(DECAY), ckpt_path=tmp_path / "on_exception.ckpt", **options)
    assert len(resumed[0].losses) == RESUMED_STEPS - step
    assert_same_ending(tmp_path, resumed, whole)


def test_a_checkpoint_saved_after_fit_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path, ema(DECAY), max_epochs=2)
    module, trainer = run(tmp_path, ema(DECAY), max_epochs=1)
    trainer.test(module, loader())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = run(tmp_path, ema(DECAY), ckpt_path=tmp_path / "half.ckpt", max_epochs=2)
    assert_same_ending(tmp_path, resumed, whole)


def test_ema_joins_a_run_that_began_without_it(tmp_path: Path) -> None:
    _, trainer = run(tmp_path, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    whole, _ = run(tmp_path, max_epochs=2)
    callback = ema(DECAY)
    resumed, _ = run(
        tmp_path, callback, ckpt_path=tmp_path / "plain.ckpt", max_epochs=2, accumulate_grad_batches=1
    )
    assert_equal(resumed.after_step, whole.after_step[BATCHES:])
    assert callback.n_averaged == BATCHES
    initial = whole.after_step[BATCHES - 1]
    assert_close(weights(resumed), average_of(resumed.after_step, initial=initial))


def test_one_callback_serves_two_trainers_in_turn(tmp_path: Path) -> None:
    callback = ema(DECAY)
    run(tmp_path, callback, max_epochs=3)
    module, _ = run(tmp_path, callback)
    assert callback.n_averaged == BATCHES
    assert_equal(module.after_step, run(tmp_path)[0].after_step)
    assert_close(weights(module), average_of(module.after_step))


def test_before_the_first_update_the_module_has_its_own_weights(tmp_path: Path) -> None:
    class Initialised(TinyModule):
        def setup(self, stage: str) -> None:
            nn.init.constant_(self.network[0].weight, 0.25)

    class Save(Callback):
        def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            pl_module.seen["sanity"] = pl_module.seen["validation_step"]
            trainer.save_checkpoint(tmp_path / "first.ckpt")

    module, _ = run(tmp_path, ema(DECAY), Save(), module=Initialised(), num_sanity_val_steps=1)
    for seen in (module.seen["sanity"], load(tmp_path / "first.ckpt")["state_dict"]):
        assert_equal(seen["network.0.weight"], torch.full((5, 3), 0.25))


def test_the_first_average_is_what_training_starts_from(tmp_path: Path) -> None:
    class Initialised(TinyModule):
        def setup(self, stage: str) -> None:  # called after the callback has made its copy
            nn.init.constant_(self.network[0].weight, 0.25)

    module, _ = run(tmp_path, ema(DECAY), module=Initialised())
    initial = weights(TinyModule()) | {"network.0.weight": torch.full((5, 3), 0.25)}
    assert_close(weights(module), average_of(module.after_step, initial=initial))


def test_a_copy_on_the_host_gives_the_same_average(tmp_path: Path) -> None:
    on_host, _ = run(tmp_path, ema(DECAY, device="cpu"))
    beside, _ = run(tmp_path, ema(DECAY))
    assert_equal(weights(on_host), weights(beside))


@pytest.mark.parametrize(("device", "expected"), [(None, "meta"), ("cpu", "cpu")])
def test_the_copy_follows_the_module_to_its_device(tmp_path: Path, device: str | None, expected: str) -> None:
    callback, module = ema(DECAY, device=device), TinyModule()
    trainer = make_trainer(tmp_path, callback)
    callback.setup(trainer, module, "fit")
    callback.n_averaged, callback._average = 1, weights(module)  # as loaded from a checkpoint
    module.to("meta")  # as Lightning moves it, after loading
    callback.on_train_start(trainer, module)
    average = callback._average
    assert average is not None
    assert {weight.device.type for weight in average.values()} == {expected}


def test_an_update_asks_the_device_for_nothing(tmp_path: Path) -> None:
    callback, module = ema(DECAY), TinyModule()
    trainer = make_trainer(tmp_path, callback)
    callback.setup(trainer, module, "fit")
    module.to("meta")  # where reading a value is an error
    callback.on_train_start(trainer, module)
    for step in (1, 2, 2):
        trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = (
            step
        )
        callback.on_train_batch_end(trainer, module, None, None, 0)
    assert callback.n_averaged == 2


def test_another_callback_samples_with_averaged_weights(tmp_path: Path) -> None:
    class Sampler(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            before = weights(pl_module)
            with pytest.raises(ValueError, match="inside"), callback.average_weights(pl_module):
                pl_module.seen["sample"] = weights(pl_module)
                raise ValueError("inside")
            assert_equal(weights(pl_module), before)

        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            with callback.average_weights(pl_module):
                pl_module.seen["sample in validation"] = weights(pl_module)
            pl_module.seen["after it"] = weights(pl_module)

    callback = ema(DECAY)
    module, _ = run(tmp_path, Sampler(), callback)
    for moment in ("sample", "sample in validation", "after it"):
        assert_close(module.seen[moment], average_of(module.after_step))


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(UserError, match=f"^EMA decay={decay}: .*$"):
        ema(decay)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UserError, match=r"^EMA device='attic': .*$"):
        ema(device="attic")
