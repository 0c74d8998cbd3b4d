"""How far a training is and what it came to, in words.

step 120 of 300, loss 0.612, learning rate 8.2e-05; 4.2 steps/min, about 43 min left; checkpoint at step 100
"""

from typing import Any

from producers import progress, show
from producers.course import Course
from producers.show import Rows


def status(found: Course) -> None:
    """Print how far a training is."""
    if found.step is not None and found.standing.open:
        show.text(line(found))


def line(found: Course) -> str:
    """Say in one line how far a training is."""
    parts = [f"step {found.step} of {found.of}"]
    parts += [
        f"{word} {value:.3g}"
        for word, value in [
            ("loss", found.loss),
            ("learning rate", found.learning_rate),
            ("held-out AUC", found.auc),
        ]
        if value is not None
    ]
    told = ", ".join(parts)
    if found.steps_a_minute is not None:
        told += f"; {found.steps_a_minute:.1f} steps/min"
        told += f", about {progress.span(found.eta)} left" if found.eta is not None else ""
    return told + (
        f"; checkpoint at step {found.saved}" if found.saved is not None else "; no checkpoint yet"
    )


def rows(found: Course) -> Rows:
    """Put a training's figures into words and numbers."""
    told = [("trained on", found.source)]
    if found.step is not None:
        told.append(("way", line(found) if found.standing.open else f"{found.step} of {found.of} steps"))
    told += show.result_rows(_figures(found.result or {}))
    return told + show.result_rows(found.options, "options.")


def _figures(result: dict[str, Any]) -> dict[str, Any]:
    # A curve is drawn, not read.
    return {name: value for name, value in result.items() if name != "calibration"}
