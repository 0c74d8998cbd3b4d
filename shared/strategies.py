"""The registry of augmentation strategies, which derive new entries from existing ones.

    STRATEGIES["synonym"]  ->  Strategy("synonym", "workers.augment.synonyms:make", {"share": 1.0, ...})

The strategies are implemented in `workers/augment`. Their costs are estimated in `producers/enqueue`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shared import answers, prompts
from shared.registry import Registry


@dataclass(frozen=True)
class Strategy:
    """A strategy that derives new entries from existing ones.

    ``make`` names, as ``module:name``, a function of ``(services, claim, entry, options)`` that returns an
    `Augmented`; only workers import it. ``options`` are the fields of `shared.options.Augmentation` that it
    uses, with their defaults. ``ability`` is the required ability of its provider; ``None``: it calls no
    service. ``per_question``: an item is one labelled question, not an entry with all its questions.
    ``prompt`` is the version of its prompt, for providers that are prompted. ``workload`` names the function
    that estimates its calls from ``(entries, options)``; only producers import it.
    """

    name: str
    make: str
    options: Mapping[str, Any]
    ability: Literal["chats", "translates"] | None = None
    per_question: bool = False
    prompt: str | None = None
    workload: str | None = None


_BUILT_IN = (
    Strategy(
        "back-translation",
        make="workers.augment.backtranslation:make",
        options={
            "language": "zh",
            "pivot": "ja",
            "skip": "翻译|译成|译为|[Tt]ranslat",
            "shortest": 0.4,
            "longest": 2.5,
        },
        ability="translates",
        prompt=prompts.version("translating"),
        workload="producers.enqueue.workload:translations",
    ),
    Strategy("synonym", make="workers.augment.synonyms:make", options={"share": 1.0, "seed": 42}),
    Strategy(
        "variant",
        make="workers.augment.variants:make",
        options={
            "samples": 5,
            "agree": 4,
            "near_copy": 0.97,
            "reader": answers.CONCLUSION,
            "max_tokens": 1024,
            "temperature": 0.7,
        },
        ability="chats",
        per_question=True,
        prompt=prompts.version("varying"),
        workload="producers.enqueue.workload:variants",
    ),
)
ENTRY_POINTS = "votequeue.strategies"  # group of other packages' `Strategy` entries
STRATEGIES = Registry(ENTRY_POINTS, Strategy, _BUILT_IN)
