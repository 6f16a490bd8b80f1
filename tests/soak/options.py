"""What a run is to be: its seed, its size and its length."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """A run's options. With `seconds` there are as many epochs as fit, otherwise `epochs` of them."""

    seed: int
    actors: int = 200
    turns: int = 40
    """How many turns each actor takes in an epoch."""
    epochs: int = 3
    seconds: float | None = None
    patience: float = 60.0
    """Seconds that a turn may take before it counts as hanging: a deadlock breaker, far above what any turn needs."""

    def __post_init__(self) -> None:
        for name in ("actors", "turns", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is expected to be greater than zero, got {getattr(self, name)!r}")

    def ended(self, epochs: int, elapsed: float) -> bool:
        """Return whether a run is over after that many epochs and seconds."""
        return epochs >= self.epochs if self.seconds is None else elapsed >= self.seconds
