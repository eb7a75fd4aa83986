"""How long, how hard and how closely watched a run is."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainConfig:
    """How long, how hard and how closely watched a run is.

    Attributes:
        num_training_steps: length of the run in optimizer updates, >= 1.
        seed: of the dropout stream (each process has its own); the data order belongs to the loader.
        max_grad_norm: gradients are clipped to this global L2 norm; None leaves them as they are.
        evaluate_every: updates between evaluations; the last update is always followed by one. None: only that one.
        checkpoint_every: updates between checkpoints; None makes none.
        checkpoint_dir: folder of the checkpoints; training goes on from the newest one found there.
        update_statistics_every: updates between measurements of the update's size; the first 100 are all measured.
            0 measures none.
        max_nonfinite_steps: a run ends, as diverged, after this many non-finite updates on end.
        read_every: updates between two looks at what the device has computed. With 1 the host waits for each update;
            with more it runs ahead, and records come that many at a time. Then it is the optimizer that leaves out
            non-finite updates, for which it must be a fused one; the schedule counts these like all others.
    """

    num_training_steps: int
    seed: int = 0
    max_grad_norm: float | None = 1.0
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    checkpoint_dir: Path | None = None
    update_statistics_every: int = 1
    max_nonfinite_steps: int = 5
    read_every: int = 1

    def __post_init__(self) -> None:
        for name in ("num_training_steps", "evaluate_every", "checkpoint_every", "max_nonfinite_steps", "read_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive, got {self.max_grad_norm}; None turns clipping off.")
        if self.checkpoint_every is not None and self.checkpoint_dir is None:
            raise ValueError("checkpoint_every needs checkpoint_dir: where should the checkpoints go?")
