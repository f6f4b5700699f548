"""Checkpoints of weights alone, with averaged weights.

Lightning asks no callback when it saves with `save_weights_only`: the average joins on the way to the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO

StateDict = dict[str, Any]


class AveragedCheckpointIO(CheckpointIO):
    """Another plugin's reading and writing; what it writes holds averaged weights.

    Args:
        inner: the plugin that does the work.
        averaged_state: a module's state dict to the same one with averaged weights.
    """

    def __init__(self, inner: CheckpointIO, averaged_state: Callable[[StateDict], StateDict]) -> None:
        self.inner = inner
        self.averaged_state = averaged_state

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint; a complete one has been through the callback and stays as it is."""
        if "state_dict" in checkpoint and "averaging_state" not in checkpoint:
            checkpoint = {**checkpoint, "state_dict": self.averaged_state(checkpoint["state_dict"])}
        self.inner.save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Reads a checkpoint, as `inner` does."""
        return self.inner.load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a checkpoint, as `inner` does."""
        self.inner.remove_checkpoint(path)

    def teardown(self) -> None:
        """Ends what `inner` has under way, such as saving in the background."""
        self.inner.teardown()
