"""Refusals whose reason is not clear: whether they are the question's fault or the model's.

    refusals.weigh(Unclear("400: bad request"), "题目一……", service)  ->  Unavailable: not known yet
    refusals.weigh(Unclear("400: bad request"), "题目二……", service)  ->  Barred: it refuses all alike

How a refusal is known to be unclear is not known here.
"""

import threading

from shared.errors import Barred, Unavailable, VotequeueError
from workers.ports import Service
from workers.providers import failures, parameters

ALONE = 3  # refusals of one question, with no other refused, after which it is its own fault


class Refusals:
    """What was refused for reasons that are not clear, by a model that has not answered anything yet.

    A request whose form is at fault is refused for all prompts alike: then it is the model that must be
    stopped, not one question after the other that must be set aside.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[str, int] = {}
        self._answered = False

    def forget(self) -> None:
        """Hear that the model has answered: what it refuses from now on is the prompt's own fault."""
        self._answered = True

    def weigh(self, error: failures.Unclear, prompt: str, service: Service) -> VotequeueError:
        """Say whether a refusal is the prompt's fault, the model's, or not known yet."""
        with self._lock:
            if self._answered:
                return error
            times = self._times[prompt] = self._times.get(prompt, 0) + 1
            others = len(self._times)
        if others > 1:
            mend = parameters.mend("", (), service.provider)
            why = f"it has refused {others} different questions and answered none"
            return Barred(f"{error}; {why}: {mend}, {failures.AGAIN}", whole=False)
        return (
            error
            if times > 2
            else Unavailable(f"{error} (it is not clear yet whether this question is at fault)")
        )
