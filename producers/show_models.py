"""Trained models in words.

    * scorer-3f9c01ab12cd  scorer  judge  AUC 0.73, 51.2 % (majority 46.3 %)  gate 0.42

What is in use has a star.
"""

from collections.abc import Sequence
from typing import Any

from producers import show
from producers.catalogue import Listed


def listing(found: Sequence[Listed]) -> None:
    """Print all models."""
    if not found:
        show.text("no models yet: `votequeue enqueue train scorer` or `... lora` trains one")
        return
    rows = [
        [
            "*" if model.in_use else "",
            model.name,
            model.run or "-",
            show.clock(model.created_at),
            figures(model.metrics),
            rule(model),
            model.source if model.here else f"{model.source} (its files are not here)",
        ]
        for model in found
    ]
    show.table(rows, ["", "model", "run", "made", "held out", "use", "trained on"])


def figures(metrics: dict[str, Any]) -> str:
    """Say in a few words what a model was measured to do."""
    parts = []
    if metrics.get("auc") is not None:
        parts.append(f"AUC {metrics['auc']:.3f}")
    if (accuracy := metrics.get("answers")) is not None:
        parts.append(f"{100 * accuracy['best']:.1f} % right (majority {100 * accuracy['majority']:.1f} %)")
    if "loss_before" in metrics:
        parts.append(f"loss {metrics['loss_before']:.3f} -> {metrics['loss']:.3f}")
    return ", ".join(parts) or "-"


def rule(model: Listed) -> str:
    """Say how a scorer's scores are used."""
    if model.use is None or model.threshold is None:
        return "-"
    return f"{model.use} from {model.threshold:.2f}" if "gate" in model.use else model.use


def one(found: Listed) -> None:
    """Print all that is known of a model."""
    rows = [
        ("kind", found.kind),
        ("in use", "yes" if found.in_use else "no"),
        ("files", "here" if found.here else "not below this machine's folder of trained models"),
        ("made", show.clock(found.created_at)),
        ("by run", found.run or "-"),
        ("trained on", found.source),
        ("digest of that", found.digest),
        ("base", found.base),
        ("code", found.code or "-"),
        ("use", rule(found)),
        *show.result_rows(found.metrics, "metrics."),
        *show.result_rows(found.options, "options."),
    ]
    show.table(rows, [found.name, ""])
