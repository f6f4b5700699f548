"""Golden values computed again on any device, and their errors."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors import safe_open
from torch import Tensor, nn

from elf_lightning.batch import LatentBatch, LatentPromptBatch
from elf_lightning.checkpoints.official import from_official, to_official
from elf_lightning.flow import KnownLatents, LogitNormal, RectifiedPath
from elf_lightning.metrics.scoring_model import counted_targets, token_nll
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.objectives import DistillationDraws, Draws, ELFObjective, ProgressiveDistillation
from elf_lightning.optim import MuonWithNesterovAdam, muon_parameter_groups
from elf_lightning.sampling import Sampler, SamplingSettings, Step
from elf_lightning.sampling.decode import shift_left

Pairs = Iterator[tuple[Tensor, Tensor]]
"""Results with the recorded values."""
SIZE_NAMES = {"bottleneck_size": "bottleneck_dim", "num_mode_tokens": "num_model_mode_tokens"}
SIZE_NAMES |= {"num_guidance_tokens": "num_self_cond_cfg_tokens"}
DRAW_NAMES = {"guidance": "self_cond_cfg_scale", "decode_mix": "decoder_lambda", "t": "t", "noise": "noise"}
DRAW_NAMES |= {"decode_noise": "decoder_noise_unit"}
"""Our names of sizes and draws, and the recorded ones."""


class Recording(dict[str, Tensor]):
    """The arrays of one golden file on a device, and the `settings` with which it was recorded."""

    def __init__(self, path: Path, device: torch.device) -> None:
        with safe_open(path, "pt", device=str(device)) as file:
            super().__init__({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            self.settings: dict[str, str] = file.metadata() or {}

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The arrays named `prefix/…`, without the prefix."""
        found = (name for name in self if name.startswith(f"{prefix}/"))
        return {name[len(prefix) + 1 :]: self[name] for name in found}


def recorded_network(folder: Path, device: torch.device) -> ELFNetwork:
    """The network of the recordings, with its weights."""
    sizes = json.loads((folder / "config.json").read_text())["network"]
    shared = ("hidden_size", "depth", "num_heads", "mlp_ratio", "num_time_tokens")
    renamed = {ours: sizes[name] for ours, name in SIZE_NAMES.items()}
    config = NetworkConfig(**{name: sizes[name] for name in shared}, **renamed)
    network = ELFNetwork(config, sizes["text_encoder_dim"], sizes["vocab_size"], sizes["max_length"])
    weights = Recording(folder / "network.safetensors", device).group("params")
    network.load_state_dict(from_official(weights))
    return network.to(device)


@torch.no_grad()
def network_outputs(run: Recording, network: ELFNetwork) -> Pairs:
    """Both heads in every mode, with and without a mask, and without the self-conditioning layer."""
    z, self_cond = run["x"].chunk(2, dim=-1)
    gate, times, guidance = run["decoder_gate"], run["t"], run["self_cond_cfg_scale"]
    gates = {"denoise": torch.zeros_like(gate), "decode": torch.ones_like(gate)}
    for case in ("denoise", "decode", "mixed", "masked"):
        mask = run["attention_mask"] if case == "masked" else None
        hidden = network(z, times, guidance, gates.get(case, gate), self_cond, mask)
        yield network.latent_head(hidden), run[f"{case}_out"]
        if f"{case}_logits" in run:
            yield network.token_head(hidden), run[f"{case}_logits"]
    hidden = network(run["x_no_self_cond"], times, guidance, gates["denoise"])
    yield network.latent_head(hidden), run["no_self_cond_out"]


def in_mode_order(run: Recording) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The arrays of a step with their sequences sorted by mode, and the numbers of sequences in each."""
    decode = run["draw/decoder_rows"].bool()
    self_cond = run["draw/use_self_cond"].bool() & ~decode
    order = (2 - self_cond.int() - 2 * decode.int()).argsort(stable=True)
    sorted_run = {name: value[order] for name, value in run.items() if value.shape[:1] == order.shape}
    return sorted_run, {"num_decode": int(decode.sum()), "num_self_cond": int(self_cond.sum())}


def training_step(run: Recording, network: ELFNetwork, decode_noise_scale: float, all_count: bool) -> Pairs:
    """Losses and every gradient of a step, after sorting the sequences by mode."""
    sorted_run, counts = in_mode_order(run)
    condition, attention = sorted_run["in/cond_seq_mask"].bool(), sorted_run["in/attention_mask"].bool()
    loss_mask = (torch.ones_like(attention) if all_count else attention) & ~condition
    batch = LatentBatch(
        sorted_run["in/input_ids"], attention, condition, loss_mask,
        sorted_run["in/label_drop_mask"].bool(), sorted_run["out/x0_before_label_drop"],
    )  # fmt: skip
    drawn = {ours: sorted_run[f"draw/{name}"] for ours, name in DRAW_NAMES.items()}
    draws = Draws(**drawn, **counts)
    yield from losses_and_gradients(
        run, network, ELFObjective(decode_noise_scale=decode_noise_scale), batch, draws
    )


def losses_and_gradients(
    run: Recording, network: ELFNetwork, objective: ELFObjective, batch: LatentBatch, draws: Draws
) -> Pairs:
    """Losses of a step and the gradient of every parameter."""
    network.zero_grad()
    losses = objective(network, batch, draws)
    losses.total.backward()  # type: ignore[no-untyped-call]
    for value, name in ((losses.total, "loss"), (losses.denoise, "l2_loss"), (losses.decode, "ce_loss")):
        yield value.detach(), run[f"out/{name}"].squeeze()
    grads = to_official({name: p.grad for name, p in network.named_parameters() if p.grad is not None})
    for name, recorded in run.group("grad").items():
        yield grads[name], recorded


def distill_step(run: Recording, network: ELFNetwork, compiled: bool) -> Pairs:
    """Targets, losses and every gradient of a step of progressive distillation; `network` is the teacher."""
    (sorted_run, counts), recorded = in_mode_order(run), run.settings
    attention = sorted_run["in/attention_mask"].bool()
    nothing = torch.zeros_like(attention)
    batch = LatentBatch(
        sorted_run["in/input_ids"], attention, nothing, attention, nothing[:, 0], sorted_run["in/x0"]
    )
    names = DRAW_NAMES | {"t": "student_t", "noise": "noise_unit", "inner_times": "teacher_substep_t"}
    drawn = {ours: sorted_run[f"draw/{name}"] for ours, name in names.items()}
    draws = DistillationDraws(**drawn, **counts)
    objective = ProgressiveDistillation(
        path=RectifiedPath(float(recorded["noise_scale"]), float(recorded["t_eps"])),
        decode_noise_scale=float(recorded["decoder_noise_scale"]), teacher=network,
        step_size=float(recorded["step_size"]), teacher_steps=int(recorded["teacher_steps"]),
    )  # fmt: skip
    student = copy.deepcopy(network)
    student.load_state_dict(from_official(run.group("student")))
    *_, target = objective.targets(student, KnownLatents(batch.latents, nothing), draws)
    yield target, sorted_run["out/pd_target"][draws.num_decode :]
    if compiled:
        student.compile()
    yield from losses_and_gradients(run, student, objective, batch, draws)


def sampling_run(run: Recording, network: ELFNetwork, compiled: bool) -> Pairs:
    """The whole trajectory and its tokens, from the recorded noise."""
    recorded, start = run.settings, run["in/z0"]
    settings = SamplingSettings(
        solver="sde" if recorded["method"] == "sde" else "ode", times=run["in/t_steps"].tolist(),
        gamma=float(recorded["gamma"]), guidance=float(recorded["self_cond_cfg_scale"]),
        cfg_scale=float(recorded["cfg_scale"]),
    )  # fmt: skip
    path = RectifiedPath(float(recorded["noise_scale"]), float(recorded["t_eps"]))
    mask = run.get("in/cond_seq_mask", torch.zeros_like(start[..., 0])).bool()
    ids = torch.zeros_like(mask, dtype=torch.int64)
    prompt = LatentPromptBatch(ids[:, 0], ids, mask, run.get("in/cond_seq", torch.zeros_like(start)))
    sampler = Sampler(network, path, settings, LogitNormal(), eos_id=-1, pad_id=0, compile=compiled)
    noise = iter([start, *(path.noise_scale * run.get("in/unit_noise", start[:0]))])
    steps: list[Step] = []
    with patch("elf_lightning.sampling.sampler.sequence_noise", lambda *_: lambda: next(noise)):
        result = sampler.sample(prompt, 0, on_step=steps.append)
    yield torch.stack([step.latents for step in steps]), run["out/z_trajectory"]
    yield torch.stack([step.estimate for step in steps]), run["out/x_trajectory"]
    yield result.latents, run["out/z_final"]
    yield result.tokens, shift_left(run["out/tokens"], mask.sum(dim=1), pad_id=0)


def muon_steps(run: Recording, clipping: str) -> Pairs:
    """Parameters after each step, with (`clip`) or without (`noclip`) global-norm clipping."""

    def as_linear(part: str) -> dict[str, Tensor]:
        """Recorded matrices (fan_in, fan_out) as (fan_out, fan_in), and all others, by name."""
        recorded = run.group(part).items()
        return {
            name.replace(".", "_"): one.T.contiguous() if one.ndim == 2 else one.clone()
            for name, one in recorded
        }

    module = nn.ParameterDict({name: nn.Parameter(value) for name, value in as_linear("init").items()})
    optimizer = MuonWithNesterovAdam(muon_parameter_groups(module))
    for step, rate in enumerate(run["lr"].tolist()):
        for name, grad in as_linear(f"grad/step{step}").items():
            module[name].grad = grad
        if clipping == "clip":
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        for name, recorded in as_linear(f"{clipping}/step{step}").items():
            yield module[name].detach(), recorded


def generative_perplexity(run: Recording) -> Pairs:
    """Token likelihoods, the tokens that count, and the perplexity of the corpus."""
    ids = run["input_ids"]
    nll = token_nll(run["logits"], ids)
    counted = counted_targets(ids, run["attention_mask"], int(run.settings["eos_token_id"]))
    yield nll, run["nll"]
    yield counted, run["valid"].bool()
    yield (nll[counted].double().sum() / counted.sum()).exp().float(), run["ppl"].squeeze()


def replays(network: ELFNetwork, compiled: bool = False) -> dict[str, Callable[[Recording], Pairs]]:
    """The replay of each golden file; `collate` has none, since it computes nothing on a device."""
    samplings = ("sample_ode", "sample_sde", "sample_cond_cfg", "sample_cond_sde")
    return {
        "network": lambda run: network_outputs(run, network),
        "train_uncond": lambda run: training_step(run, network, 5.0, all_count=False),
        "train_cond": lambda run: training_step(run, network, 1.0, all_count=True),
        "distill_step": lambda run: distill_step(run, network, compiled),
        **{stem: lambda run: sampling_run(run, network, compiled) for stem in samplings},
        "muon_optax": lambda run: itertools.chain(muon_steps(run, "clip"), muon_steps(run, "noclip")),
        "generative_perplexity": generative_perplexity,
    }


def max_error(pairs: Pairs) -> float:
    """The largest `|result - recorded| / (1 + |recorded|)`; infinite where whole numbers differ.

    Infinite for other shapes and for NaN as well.
    """
    worst = 0.0
    for result, recorded in pairs:
        if result.shape != recorded.shape:
            return float("inf")
        if recorded.is_floating_point():
            distance = (result - recorded).abs() / (1 + recorded.abs())
            worst = max(worst, distance.nan_to_num(float("inf")).max().item())
        elif not torch.equal(result, recorded):
            return float("inf")
    return worst
