"""The registry of augmentation strategies: how new entries are made from old ones.

    STRATEGIES["synonym"]  ->  Strategy("synonym", "workers.augment.synonyms:make", {"share": 1.0, ...})

What makes the entries is in `workers/augment`, what their making costs is worked out in `producers/enqueue`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shared import answers, prompts
from shared.registry import Registry


@dataclass(frozen=True)
class Strategy:
    """A way to make new entries from old ones.

    ``make`` names, as ``module:name``, a function of ``(services, claim, entry, options)`` that gives an
    `Augmented`; only a worker imports it. ``options`` are the fields of `shared.options.Augmentation` that it
    has a use for, with their defaults. ``ability`` is what its provider must be able to do; without one it
    calls nobody. ``per_question``: an item is one labelled question, rather than an entry with all its
    questions. ``prompt`` is the version of the prompt it asks with, of a provider that is prompted.
    ``workload`` names what works out its calls from ``(entries, options)``; only a producer imports it.
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
ENTRY_POINTS = "votequeue.strategies"  # the group in which an installed package names a `Strategy` of its own
STRATEGIES = Registry(ENTRY_POINTS, Strategy, _BUILT_IN)
