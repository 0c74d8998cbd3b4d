"""A data worker's part, played by hand through the same claims and calls that a worker makes."""

from pathlib import Path
from typing import Any

from shared import dataset
from shared.dataset import Line
from shared.jobs import KINDS
from shared.ledger import calls, claims, runs
from shared.ledger.calls import CallPurpose
from shared.ledger.claims import Claim
from shared.ledger.runs import Run
from shared.options import Augmentation, Reasoning
from shared.providers import Usage
from tests.integration import run_fixtures

REASONING = Reasoning(
    label="correct",
    letters="next",
    provider="chat",
    models=("m1", "m2"),
    asks=3,
    max_tokens=1024,
    temperature=0.7,
    prompt="1a2b3c4d",
)
BACK = Augmentation(strategy="back-translation", provider="tencent", model="TextTranslateBatch", pivot="ja")
VARIANT = Augmentation(strategy="variant", provider="chat", model="m1", prompt="5e6f7a8b")


def reason_run(home: Path, *entries: dict[str, Any], name: str = "r", **options: Any) -> Run:
    """Record a run that asks for reasonings."""
    chosen = REASONING.model_copy(update=options)
    return _open(home, name, "reason", chosen.model_dump(mode="json"), entries)


def translate_run(home: Path, *entries: dict[str, Any], how: Augmentation = BACK, name: str = "t") -> Run:
    """Record a run that makes new entries."""
    return _open(home, name, "translate", how.model_dump(mode="json"), entries, not how.per_question)


def _open(
    home: Path,
    name: str,
    kind: str,
    options: dict[str, Any],
    entries: tuple[dict[str, Any], ...],
    per_entry: bool = False,
) -> Run:
    data = run_fixtures.write(home / f"{name}.data.jsonl", *entries)
    lines = [line for line in dataset.scan(data) if isinstance(line, Line)]
    run = Run(name, kind, str(data), dataset.digest(data), None, options)
    runs.open_run(run, lines, per_entry=per_entry, also=lambda open_: calls.put_budget(open_, name, None))
    return runs.get_run(name)


def claim(run: Run, number: int) -> Claim:
    """Claim an item."""
    return claims.claim([KINDS[run.kind](run=run.name, item=number)], "one", 60)[0]


def text(letter: str, words: str | None = None, model: str = "m1", reused: bool = False) -> dict[str, Any]:
    """Make a reasoning as a result has it."""
    words = words or f"因为如此。\n答案是：{letter}"
    maker = {"provider": "chat", "model": model, "prompt": "1a2b3c4d"}
    return {"letter": letter, "text": words, **maker, "reused": reused}


def drop(letter: str, reason: str = "chat/m1 said C, C, no letter") -> dict[str, Any]:
    """Make a dropped letter as a result has it."""
    return {"letter": letter, "reason": reason}


def explain(run: Run, number: int, *texts: dict[str, Any], dropped: tuple[dict[str, Any], ...] = ()) -> None:
    """Settle a question with its reasonings."""
    outcome = "; ".join(f"{one['letter']}: agreed" for one in texts)
    claims.complete(claim(run, number), {"texts": list(texts), "dropped": list(dropped)}, outcome)


def new_entry(source: dict[str, Any], how: Augmentation = BACK, **changes: Any) -> dict[str, Any]:
    """Make the entry that comes of another one."""
    made = {"origin": how.strategy, "provider": how.provider, "model": how.model, "prompt": how.prompt}
    questions = [
        {**question, "votequeue": {"label": "correct" if "reasoning" in question else None, **made}}
        for question in source["questions"]
    ]
    group = source.get("votequeue", {}).get("group") or dataset.identity(source["problem"])
    identity = {"id": f"{source['id']}~{how.strategy}", "problem": source["problem"]}
    return {
        **identity,
        "questions": questions,
        "votequeue": {"origin": how.strategy, "group": group},
        **changes,
    }


def translate(run: Run, number: int, entry: dict[str, Any], *dropped: tuple[int, str]) -> None:
    """Settle an item with the entry that came of it."""
    parts = [{"question": question, "reason": reason} for question, reason in dropped]
    claims.complete(claim(run, number), {"entry": entry, "dropped": parts}, "passed")


def call(
    run: Run,
    number: int | None,
    step: str,
    outcome: str | None = "ok",
    *,
    reply: str | None = None,
    detail: str | None = None,
    usage: Usage | None = None,
    cost: float = 0.0,
    model: str = "m1",
) -> int:
    """Put a call on record; ``outcome`` None: it is under way."""
    made = calls.begin(CallPurpose(run.name, number, step, "chat", model), cost)
    if outcome is not None:
        calls.finish(made, outcome, reply=reply, detail=detail, usage=usage, cost=cost)
    return made
