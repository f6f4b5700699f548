"""Muon for matrices and Nesterov Adam for everything else, as one optimizer."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import compress
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim import Optimizer

from elf_lightning.errors import UserError
from elf_lightning.optim.newton_schulz import NEWTON_SCHULZ_DTYPES, flops, orthogonalize
from elf_lightning.ranks import rank_and_world_size


def split_parameters(network: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """The trainable parameters by name: the matrices (two axes), and all others.

    Biases and norm weights have one axis, learned tokens (1, n, H) three. A `UserError` if nothing trains.
    """
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if not trainable:
        raise UserError("the network has no trainable parameter; unfreeze at least one")
    matrices = {name: p for name, p in trainable.items() if p.ndim == 2}
    return matrices, {name: p for name, p in trainable.items() if name not in matrices}


def muon_parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups for `MuonWithNesterovAdam`, without empty ones; a `UserError` without parameters."""
    matrices, others = (list(part.values()) for part in split_parameters(network))
    groups = [{"params": matrices, "use_muon": True}, {"params": others, "use_muon": False}]
    return [group for group in groups if group["params"]]


_Bucket = tuple[dict[str, Any], list[Tensor]]
"""A group and its matrices of one shape, whose updates are one tensor."""


class MuonWithNesterovAdam(Optimizer):
    """`optax.contrib.muon` in torch, with the parameter groups of the `muon-optimizer` package.

    Matrices (`use_muon=True`), at the k-th step: `m = beta m + (1-beta) g`;
    `u = beta m / (1-beta^(k+1)) + (1-beta) g / (1-beta^k)`; the update is `u` with its singular values moved
    close to 1, times `sqrt(max(1, fan_out/fan_in))`. Everything else: Nesterov Adam (Dozat 2016). A missing
    gradient counts as zero. No step waits for the device.

    Args:
        param_groups: as returned by `muon_parameter_groups`. Each has `params` and `use_muon`; optional are
            `lr`, `weight_decay` (0, decoupled), for matrices, (fan_out, fan_in) as in `nn.Linear`, `momentum`
            (0.95), for the others `betas` (0.9, 0.999) and `eps` (1e-8). A `UserError` for `use_muon` with
            anything but matrices.
        lr: learning rate of groups without their own.
        newton_schulz_dtype: float32, or bfloat16.
        sharded: split the orthogonalisation among the processes of the default process group. Gradients must
            be the same on all of them, as under DDP. Same weights, less time.
    """

    def __init__(
        self,
        param_groups: Iterable[dict[str, Any]],
        lr: float = 1e-3,
        *,
        newton_schulz_dtype: torch.dtype = torch.float32,
        sharded: bool = False,
    ) -> None:
        if newton_schulz_dtype not in NEWTON_SCHULZ_DTYPES.values():
            choices = ", ".join(NEWTON_SCHULZ_DTYPES)
            raise UserError(f"newton_schulz_dtype={newton_schulz_dtype}: choose one of {choices}")
        super().__init__(param_groups, {"lr": lr, "weight_decay": 0})
        self.newton_schulz_dtype = newton_schulz_dtype
        self.sharded = sharded

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group; its step count starts at 0."""
        muon, adam = {"momentum": 0.95}, {"betas": (0.9, 0.999), "eps": 1e-8}
        # A Python number, saved with the group, so that reading it never waits for the device.
        defaults = {"step": 0, **(muon if param_group["use_muon"] else adam)}
        super().add_param_group(defaults | param_group)
        group = self.param_groups[-1]
        shapes = [tuple(p.shape) for p in group["params"] if p.ndim != 2]
        if group["use_muon"] and shapes:
            raise UserError(
                f"use_muon=True: Muon updates matrices, not shapes {shapes}; set use_muon=False for those"
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates every parameter once; returns the value of `closure`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        buckets: list[_Bucket] = []
        for group in self.param_groups:
            group["step"] += 1
            if group["use_muon"]:
                shapes: dict[Any, list[Tensor]] = defaultdict(list)
                for p in group["params"]:
                    shapes[p.shape, p.device, p.dtype].append(p)
                buckets += [(group, params) for params in shapes.values()]
            elif group["params"]:
                self._step_adam(group)
        self._step_muon(buckets)
        return loss

    def _step_muon(self, buckets: list[_Bucket]) -> None:
        matrices = [p for _, params in buckets for p in params]
        rank, world_size = rank_and_world_size() if self.sharded else (0, 1)
        owner = dict(zip(matrices, owners([flops(*p.shape) for p in matrices], world_size), strict=True))
        updates = (
            self._updates(group, params, [owner[p] == rank for p in params]) for group, params in buckets
        )
        computed = orthogonalize(updates, self.newton_schulz_dtype)  # all, before a process waits for others
        for (group, params), directions in zip(buckets, computed, strict=True):
            if world_size > 1:
                directions = _gather(directions, [owner[p] for p in params], rank)
            fan_out, fan_in = params[0].shape
            step_size = group["lr"] * sqrt(max(1.0, fan_out / fan_in))
            _decay(group, params)
            torch._foreach_add_(params, list(directions.unbind()), alpha=-step_size)

    def _updates(self, group: dict[str, Any], params: list[Tensor], own: list[bool]) -> Tensor:
        """Updates of this process's `own` matrices, (their number, rows, columns), to be orthogonalised."""
        beta, step = group["momentum"], group["step"]
        momenta = [self._state(p, "momentum_buffer") for p in params]
        grads = _gradients(params)
        torch._foreach_lerp_(momenta, grads, 1 - beta)
        if not any(own):
            return grads[0].new_empty(0, *grads[0].shape)
        updates = torch.stack(list(compress(momenta, own))).mul_(beta / (1 - beta ** (step + 1)))
        own_grads = list(compress(grads, own))
        torch._foreach_add_(list(updates.unbind()), own_grads, alpha=(1 - beta) / (1 - beta**step))
        return updates

    def _step_adam(self, group: dict[str, Any]) -> None:
        (beta1, beta2), step, params = group["betas"], group["step"], group["params"]
        means = [self._state(p, "exp_avg") for p in params]
        squares = [self._state(p, "exp_avg_sq") for p in params]
        grads = _gradients(params)
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
        updates = torch._foreach_mul(means, beta1 / (1 - beta1 ** (step + 1)))
        torch._foreach_add_(updates, grads, alpha=(1 - beta1) / (1 - beta1**step))
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, sqrt(1 - beta2**step))
        torch._foreach_add_(denominators, group["eps"])
        _decay(group, params)
        torch._foreach_addcdiv_(params, updates, denominators, value=-group["lr"])

    def _state(self, p: Tensor, name: str) -> Tensor:
        """The parameter's running average `name`, which starts at zero."""
        if name not in self.state[p]:
            self.state[p][name] = torch.zeros_like(p)
        return self.state[p][name]  # type: ignore[no-any-return]


def _gradients(params: list[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in params]


def _decay(group: dict[str, Any], params: list[Tensor]) -> None:
    if group["weight_decay"]:
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])


def owners(costs: list[int], processes: int) -> list[int]:
    """The process of each cost, equal on all: the largest first, each to the least loaded so far."""
    loads, result = [0] * processes, [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        result[index] = loads.index(min(loads))
        loads[result[index]] += costs[index]
    return result


def _gather(own: Tensor, owners: list[int], rank: int) -> Tensor:
    """All matrices, (len(owners), rows, columns), each broadcast by its owner, which has it in `own`."""
    everything = own.new_empty(len(owners), *own.shape[1:])
    slots = everything.unbind()
    if len(own):
        torch._foreach_copy_([slots[i] for i, owner in enumerate(owners) if owner == rank], own.unbind())
    sent = [dist.broadcast(slot, owner, async_op=True) for slot, owner in zip(slots, owners, strict=True)]
    for work in sent:
        assert work is not None
        work.wait()
    return everything
