"""Compares the Triton kernel of the token loss with the formulas of `token_loss`.

A program of its own, since Triton decides at its first import whether it compiles or interprets.
"""

from unittest.mock import patch

import torch
from torch import Tensor
from torch.testing import assert_close

from elf_lightning.network import ELFNetwork, NetworkConfig, projections
from elf_lightning.objectives import token_loss, token_loss_kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def compare(logits: Tensor, ids: Tensor) -> Tensor:
    """Losses of the kernel, after a comparison of all results."""
    found = []
    # The formulas on a CPU, where the first of equal logits is the prediction.
    for way, device in [(token_loss_kernel, DEVICE), (token_loss, "cpu")]:
        losses, correct = torch.full((len(ids),), 7.0, device=device), torch.ones_like(ids, device=device) > 0
        of_logits = logits.clone().to(device)
        gradient = way.losses_and_gradient(of_logits, ids.to(device), losses, correct)
        assert (gradient is of_logits) == (way is token_loss_kernel)
        found.append([one.cpu() for one in (losses, gradient, correct)])
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    return found[0][0]


def gradients(kernel: bool, hidden: Tensor, ids: Tensor, mask: Tensor, net: ELFNetwork) -> list[Tensor]:
    inputs = [hidden, *net.token_head.parameters()]
    with patch.object(token_loss, "by_kernel", lambda features: kernel):
        loss, correct = token_loss.token_cross_entropy(net, hidden, ids, mask, unknown_id=3)
    return [loss, correct, *torch.autograd.grad(0.3 * loss, inputs)]


torch.manual_seed(0)
token_loss.token_loss_kernel = token_loss_kernel  # which it imports only where there is a GPU
columns = token_loss_kernel.COLUMNS

for vocabulary in (1, 2, 300, columns, columns + 1, 2 * columns + 1234):
    for scale in (1.0, 30.0):
        scores = scale * torch.randn(6, vocabulary)
        tokens = torch.randint(vocabulary, (12,))[::2]  # not contiguous
        tokens[:2] = scores.argmax(1)[:2]
        compare(scores, tokens)

    # All equal, or two of them: the first is the prediction, whatever lane or round of columns it is in.
    compare(torch.ones(3, vocabulary), torch.tensor([0, vocabulary // 2, vocabulary - 1]))
    scores = torch.randn(3, vocabulary)
    scores[:, [vocabulary // 3, vocabulary - 1]] = 5.0
    compare(scores, torch.tensor([vocabulary // 3, vocabulary - 1, 0]))

    # Far apart: certain and right, then hopeless.
    scores = torch.randn(2, vocabulary) - 1e4
    scores[:, vocabulary // 2] = 3e4
    certain, hopeless = compare(scores, torch.tensor([vocabulary // 2, 0]))
    assert certain == 0
    assert vocabulary == 1 or 3.9e4 < hopeless < 4.1e4

# What is no number is no loss, wherever it is, and so is that of a token outside the vocabulary.
scores = torch.randn(6, columns + 5)
for row, column in enumerate([0, 3, columns - 1, columns + 4]):
    scores[row, column] = float("nan")
outside = torch.tensor([3, 3, 3, 3, columns + 5, -100])
numbers, right = torch.zeros(6, device=DEVICE), torch.zeros(6, device=DEVICE, dtype=torch.bool)
token_loss_kernel.losses_and_gradient(scores.to(DEVICE), outside.to(DEVICE), numbers, right)
assert numbers.isnan().all()

# The whole loss, in chunks of 7 rows of logits, or 14, and with a rest.
projections.CHUNK_LOGITS = 7 * 300 // (4 if DEVICE == "cuda" else 1)
shape = NetworkConfig(hidden_size=32, depth=1, num_heads=2, bottleneck_size=8)
model = ELFNetwork(shape, 16, 300, 12, generator=torch.Generator().manual_seed(0)).to(DEVICE)
states = torch.randn(5, 12, 32, device=DEVICE, requires_grad=True)
tokens = torch.randint(300, (5, 12), device=DEVICE)
tokens[:2] = model.token_head(states)[:2].argmax(-1)
counted = (torch.rand(5, 12, device=DEVICE) < 0.7).float()
results = [gradients(kernel, states, tokens, counted, model) for kernel in (True, False)]
assert results[0][1] > 10
for ours, theirs in zip(*results, strict=True):
    assert_close(ours, theirs, rtol=1e-4, atol=1e-6 * theirs.abs().max().item())

# Without gradient, by the formulas.
with torch.no_grad(), patch.object(token_loss, "by_kernel", lambda features: True):
    token_loss_kernel.losses_and_gradient = None
    assert_close(token_loss.token_cross_entropy(model, states, tokens, counted, 3), tuple(results[1][:2]))
