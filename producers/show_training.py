"""How far a training is and what it came to, in words.

step 120 of 300, loss 0.612, learning rate 8.2e-05; 4.2 steps/min, about 43 min left; checkpoint at step 100
"""

from producers import show, watch
from producers.course import Course
from producers.show import Rows


def status(found: Course) -> None:
    """Print how far a training is."""
    if found.step is not None and found.standing.open:
        show.text(watch.training(found))


def rows(found: Course) -> Rows:
    """Put a training's figures into words and numbers."""
    told = [("trained on", found.source)]
    if found.step is not None:
        told.append(
            ("way", watch.training(found) if found.standing.open else f"{found.step} of {found.of} steps")
        )
    told += show.result_rows(found.result or {})
    return told + show.result_rows(found.options, "options.")
