"""Fractions that reports count up.

Share(31, 64).value  ->  0.484
"""

from dataclasses import dataclass


@dataclass
class Share:
    """A fraction: ``right`` out of ``of``."""

    right: int = 0
    of: int = 0

    def add(self, right: int | bool, of: int = 1, times: int = 1) -> None:
        """Count ``right`` among ``of`` more, as many times."""
        self.right += right * times
        self.of += of * times

    @property
    def value(self) -> float | None:
        """Return the fraction from 0 to 1; ``None`` if ``of`` is 0."""
        return self.right / self.of if self.of else None
