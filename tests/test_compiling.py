"""A run that cannot compile is refused at once."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from elf_lightning import compiling
from elf_lightning.compiling import MAX_GRAPHS, can_compile, require_compiler, room_for_graphs
from elf_lightning.errors import UserError
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.sampling import Sampler, SamplingSettings
from elf_lightning.training import ELFModule

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SHAPE = NetworkConfig(hidden_size=16, depth=1, num_heads=2, bottleneck_size=8)


def gpu_with_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiling, "find_spec", lambda name: name)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: name)
    monkeypatch.setattr(compiling, "_has_python_header", lambda: True)


def test_a_cpu_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", sys.executable)
    require_compiler("compile", CPU)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"^compile needs a C\+\+ compiler on a CPU, and no-such-c"):
        require_compiler("compile", CPU)


@pytest.mark.parametrize(("platform", "compiler"), [("linux", "g++"), ("darwin", "clang++"), ("win32", "cl")])
def test_compilers_are_those_that_torch_calls(
    monkeypatch: pytest.MonkeyPatch, platform: str, compiler: str
) -> None:
    looked_for: list[str] = []
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(compiling.shutil, "which", looked_for.append)
    with pytest.raises(UserError, match="environment variable CXX"):
        require_compiler("compile", CPU)
    assert looked_for == [compiler]


def test_a_gpu_needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    gpu_with_compilers(monkeypatch)
    require_compiler("compile", GPU)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(
        UserError, match=r"^compile needs a C compiler on a GPU, .* gcc or clang was not found"
    ):
        require_compiler("compile", GPU)
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^compile needs Triton on a GPU: `pip install triton`, or leave"):
        require_compiler("compile", GPU)


def test_a_gpu_needs_the_header_files_of_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    has_python_header = compiling._has_python_header
    gpu_with_compilers(monkeypatch)
    monkeypatch.setattr(compiling, "_has_python_header", has_python_header)
    monkeypatch.setattr(compiling, "get_path", lambda *names: str(tmp_path / "none"))
    monkeypatch.setattr(sys, "platform", "linux")
    for variable in ("CPATH", "C_INCLUDE_PATH"):
        monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(UserError, match=r"^compile needs Python's header files on a GPU, .* python3-dev`"):
        require_compiler("compile", GPU)
    assert not can_compile(GPU)
    (tmp_path / "Python.h").touch()
    assert can_compile(GPU)


def test_who_asks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    module = ELFModule(8, 20, 6, eos_id=1, pad_id=0, network=SHAPE, compile=True)
    module.trainer = Trainer(accelerator="cpu", logger=False)
    with pytest.raises(UserError, match=r"^model\.compile needs a C\+\+ compiler"):
        module.setup("fit")
    network = ELFNetwork(SHAPE, 8, 20, 6)
    sampler = partial(
        Sampler, network, RectifiedPath(), SamplingSettings(), LogitNormal(), eos_id=1, pad_id=0
    )
    sampler()
    with pytest.raises(UserError, match=r"^compile=True needs a C\+\+ compiler"):
        sampler(compile=True)


@pytest.mark.parametrize(("device", "compiled"), [(CPU, False), (GPU, True)])
def test_without_a_choice_networks_are_compiled_on_a_gpu_alone(
    device: torch.device, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_with_compilers(monkeypatch)
    calls: list[ELFNetwork] = []
    monkeypatch.setattr(ELFNetwork, "compile", lambda network: calls.append(network))
    module = ELFModule(8, 20, 6, eos_id=1, pad_id=0, network=SHAPE, compile=None)
    module.trainer = Trainer(accelerator="cpu", logger=False)
    monkeypatch.setattr(type(module.trainer.strategy), "root_device", device)
    module.setup("fit")
    module.setup("test")
    assert calls == [module.network] * compiled


def test_a_gpu_without_compilers_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    assert not can_compile(GPU)


def test_room_for_graphs_is_never_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, recompile_limit=None: model)
    limit = torch._dynamo.config.recompile_limit
    assert room_for_graphs() == {"recompile_limit": MAX_GRAPHS}
    assert torch._dynamo.config.recompile_limit == limit
    with torch._dynamo.config.patch(recompile_limit=1000):
        assert room_for_graphs() == {"recompile_limit": 1000}


def test_older_torch_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, backend: model)
    with torch._dynamo.config.patch(recompile_limit=8):
        assert room_for_graphs() == {}
        assert torch._dynamo.config.recompile_limit == MAX_GRAPHS
