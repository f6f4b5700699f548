"""Muon with Nesterov Adam against optax, and its life as an optimizer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from elf_lightning.errors import UserError
from elf_lightning.optim import MuonWithNesterovAdam


def as_linear(value: Tensor) -> Tensor:
    """The value, of a recorded matrix (fan_in, fan_out) as (fan_out, fan_in)."""
    return value.T.contiguous() if value.ndim == 2 else value.clone()


def optimizer_of(params: dict[str, nn.Parameter], **options: Any) -> MuonWithNesterovAdam:
    matrices = [p for p in params.values() if p.ndim == 2]
    others = [p for p in params.values() if p.ndim != 2]
    groups: list[dict[str, Any]] = [{"params": matrices, "use_muon": True}]
    return MuonWithNesterovAdam([*groups, {"params": others, "use_muon": False}], **options)


@pytest.mark.parametrize("absent", ["zeros", "none"])
@pytest.mark.parametrize("clipping", ["clip", "noclip"])
def test_golden_muon_optax(golden: Any, clipping: str, absent: str) -> None:
    recorded = golden("muon_optax")
    params = {name: nn.Parameter(as_linear(value)) for name, value in recorded.group("init").items()}
    optimizer = optimizer_of(params)
    for step, lr in enumerate(recorded["lr"].tolist()):
        for name, grad in recorded.group(f"grad/step{step}").items():
            params[name].grad = None if absent == "none" and not grad.any() else as_linear(grad)
        if clipping == "clip":
            nn.utils.clip_grad_norm_(params.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        for name, value in recorded.group(f"{clipping}/step{step}").items():
            torch.testing.assert_close(params[name].detach(), as_linear(value), atol=1e-5, rtol=1e-4)


def test_golden_muon_optax_has_absent_gradients(golden: Any) -> None:
    recorded = golden("muon_optax")
    steps = range(len(recorded["lr"]))
    assert any(not grad.any() for step in steps for grad in recorded.group(f"grad/step{step}").values())


def test_golden_muon_optax_batches_matrices_of_one_shape(
    golden: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded matrices among others of the same shapes move as they would alone."""
    recorded = golden("muon_optax")
    params = {name: nn.Parameter(as_linear(value)) for name, value in recorded.group("init").items()}
    for name, value in list(params.items()):
        params[f"before/{name}"] = nn.Parameter(torch.randn_like(value))
    params = dict(sorted(params.items(), key=lambda item: item[0]))
    optimizer = optimizer_of(params)
    for step, lr in enumerate(recorded["lr"].tolist()):
        for name, grad in recorded.group(f"grad/step{step}").items():
            params[name].grad = as_linear(grad)
            params[f"before/{name}"].grad = torch.randn_like(params[name])
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
    for name, value in recorded.group(f"noclip/step{step}").items():
        torch.testing.assert_close(params[name].detach(), as_linear(value), atol=1e-5, rtol=1e-4)


def some_params() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"a": (6, 4), "b": (6, 4), "wide": (3, 20), "bias": (6,), "tokens": (1, 2, 4)}
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}


def take_steps(
    params: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, first: int, last: int
) -> None:
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for p in params.values():
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


def test_a_saved_optimizer_goes_on_to_the_bit(tmp_path: Any) -> None:
    whole = some_params()
    take_steps(whole, optimizer_of(whole), 0, 6)

    halves = some_params()
    optimizer = optimizer_of(halves)
    take_steps(halves, optimizer, 0, 3)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    resumed = copy.deepcopy(halves)
    optimizer = optimizer_of(resumed, lr=1.0)
    optimizer.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    take_steps(resumed, optimizer, 3, 6)
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
    take_steps(halves, optimizer_of(halves), 3, 6)
    assert not torch.equal(halves["a"], whole["a"])


def test_a_closure_runs_with_gradients_and_its_loss_is_returned() -> None:
    params = some_params()
    optimizer = optimizer_of(params)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = sum(p.square().sum() for p in params.values())
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(3)]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 3


def test_a_scheduler_sets_the_rate() -> None:
    params, still = some_params(), some_params()
    optimizer = optimizer_of(params)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    take_steps(params, optimizer, 0, 1)
    torch.testing.assert_close(params, still, rtol=0, atol=0)


def test_weight_decay_is_decoupled() -> None:
    params, still = some_params(), some_params()
    optimizer = optimizer_of(params, lr=0.1)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.5
    optimizer.step()
    for name, p in params.items():
        torch.testing.assert_close(p, still[name] * (1 - 0.1 * 0.5))


def test_bfloat16_is_near_float32() -> None:
    exact, fast = some_params(), some_params()
    take_steps(exact, optimizer_of(exact, lr=1.0), 0, 1)
    take_steps(fast, optimizer_of(fast, lr=1.0, newton_schulz_dtype=torch.bfloat16), 0, 1)
    for name in ("a", "wide"):
        assert not torch.equal(exact[name], fast[name])
        torch.testing.assert_close(exact[name], fast[name], rtol=0.05, atol=0.05)
    torch.testing.assert_close(exact["bias"], fast["bias"], rtol=0, atol=0)


def test_one_process_may_be_sharded() -> None:
    alone, sharded = some_params(), some_params()
    take_steps(alone, optimizer_of(alone), 0, 3)
    take_steps(sharded, optimizer_of(sharded, sharded=True), 0, 3)
    torch.testing.assert_close(alone, sharded, rtol=0, atol=0)


def test_a_group_may_join_later() -> None:
    params = some_params()
    late = params.pop("wide")
    optimizer = optimizer_of(params)
    take_steps(params, optimizer, 0, 2)
    optimizer.add_param_group(
        {"params": [late], "use_muon": True, "lr": 1e-3, "momentum": 0.95, "weight_decay": 0.0}
    )
    take_steps({**params, "wide": late}, optimizer, 2, 3)
    assert [group["step"] for group in optimizer.param_groups] == [3, 3, 1]


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(UserError, match=r"^use_muon=True: .*\(4,\).*$"):
        MuonWithNesterovAdam([{"params": [nn.Parameter(torch.zeros(4))], "use_muon": True}])


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UserError, match=r"^newton_schulz_dtype=torch\.float16: .*$"):
        optimizer_of(some_params(), newton_schulz_dtype=torch.float16)
