"""Print the figures of a run's voices.

("program: votes with a letter", "188/470  40.0 %, 106 tokens each")
"""

from producers import console
from producers.reports import render
from producers.reports.render import Rows
from producers.reports.voice_figures import VoiceReport
from shared.voices import REASONING


def rows(report: VoiceReport) -> Rows:
    """Return the figures as table rows; none if all votes are reasonings."""
    if not report.voices.keys() - {REASONING}:
        return []
    rows: Rows = []
    for name, voice in report.voices.items():
        tokens = f"{voice.tokens / voice.votes:.0f} tokens each"
        rows.append((f"{name}: votes with a letter", f"{render.percent(voice.read)}, {tokens}"))
        if voice.one_vote.of:
            rows += [
                (f"{name}: right of those with a letter", render.percent(voice.right)),
                (f"{name}: one vote", render.percent(voice.one_vote)),
                (f"{name}: majority", render.percent(voice.majority)),
                (f"{name}: some vote right", render.percent(voice.some_vote_right)),
            ]
        if voice.outcomes:
            ended = ", ".join(f"{outcome} {count}" for outcome, count in voice.outcomes.most_common())
            rows.append((f"{name}: outcomes", ended))
        if voice.repaired.of:
            asked = console.count(voice.repaired.of, "vote")
            rows.append((f"{name}: asked for again", f"{asked}, {voice.repaired.right} with a letter then"))
    if report.agree.of:
        rows.append(("first votes of the voices agree: right", render.percent(report.agree)))
    return rows
