"""The demo: an end-to-end run with the real commands (`make demo`, in English `make demo LANGUAGE=en`).

    [5/10] train a scorer from those votes - log: var/logs/train-1.log

Every step is a real command. A scorer is trained from votes on a few labelled puzzles, and used for the other
puzzles only if it beats the plain majority on held-out questions. Answers and report stay in var/demo, the
runs in the ledger.
"""

import argparse
import sys
from functools import partial
from typing import Any

from infra import local, scenario
from infra.scenario import Stage

# Settings for two cores and a few minutes; existing variables take precedence.
PACE = {
    "VOTEQUEUE_MAX_TOKENS": "256",
    "VOTEQUEUE_MAX_MODEL_LEN": "4096",
}
SOLVED = ("-n", "100", "--seed", "7", "--difficulty", "1", "--wrong")
LABELLED = ("-n", "8", "--seed", "9", "--difficulty", "1")
QUESTIONS = ("-n", "10", "--seed", "8", "--difficulty", "1")  # 14 questions
VOICES = ("--voices", "reasoning=3,program=2")  # more right answers and fewer tokens than five reasonings
ROUNDS = "2"  # maximum rounds with a gate
STEPS = 10
LANGUAGE = "zh"
NO_SCORER = "none"


def play(demo: Stage, language: str = LANGUAGE) -> None:
    """Run all steps on puzzles in a language; the services are always stopped at the end."""
    solved, labelled, questions = (
        demo.folder / f"{name}.jsonl" for name in ("solved", "labelled", "questions")
    )
    answers, report = demo.folder / "answers.jsonl", demo.folder / "report"
    votes, judge = f"{demo.run}-votes", f"{demo.run}-scorer"
    # First, because a language without puzzles must be refused before anything is downloaded.
    with demo.step("generate puzzles: few-shot examples, training data, and questions to answer"):
        for file, size in ((solved, SOLVED), (labelled, LABELLED), (questions, QUESTIONS)):
            demo.votequeue("sample", *size, "--language", language, "-o", file, "--force")
    with demo.step("get the weights"):
        demo.votequeue("weights")
    with demo.services():
        with demo.step("start broker, workers and Flower", "supervisord"):
            demo.votequeue("up", "--detach", "--reason", "0", "--translate", "0")
        with demo.step("sample votes on the labelled puzzles", "infer-1"):
            options = ("--examples", solved, "--scorer", NO_SCORER, "--max-attempts", "1")
            demo.votequeue("enqueue", "infer", labelled, *VOICES, *options, "--run", votes)
            demo.votequeue("status", votes, "--watch", watched=True)
        with demo.step("train a scorer from those votes", "train-1"):
            demo.votequeue("enqueue", "train", "scorer", "--from", votes, "--no-promote", "--run", judge)
            demo.votequeue("status", judge, "--watch", watched=True)
            scorer, why = _choose_scorer(demo.query("status", judge)["result"])
            local.say(why)
        with demo.step("enqueue the other questions", "infer-1"):
            options = ("--examples", solved, "--scorer", scorer, "--max-attempts", ROUNDS)
            demo.votequeue("enqueue", "infer", questions, *VOICES, *options, "--run", demo.run)
        with demo.step("collect the answers", "infer-1"):
            demo.votequeue("collect", demo.run, "-o", answers, "--wait", watched=True)
        with demo.step("report"):
            demo.votequeue("report", demo.run, "-o", report)
    demo.print_times()
    local.say(f"{why}\nanswers: {answers}\nreport:  {report}")
    local.say(f"more:    votequeue status {demo.run}; votequeue trace {demo.run} QUESTION; votequeue up")


def _choose_scorer(result: dict[str, Any] | None) -> tuple[str, str]:
    """Choose the scorer, or none, by its held-out accuracy; return it with the reason."""
    tried = (result or {}).get("answers")
    if not result or not tried:
        return NO_SCORER, "no scorer: too few votes for a held-out test; every readable vote counts"
    best, majority = (f"{100 * tried[name]:.0f} %" for name in ("best", "majority"))
    shares = f"on {tried['questions']} held-out questions {best} right, the plain majority {majority}"
    if tried["best"] > tried["majority"]:
        proof = "too few questions for a reliable comparison, see `make accuracy`"
        return str(result["model"]), f"the scorer is used: {shares}; {proof}"
    return NO_SCORER, f"the scorer is not used: {shares}; every readable vote counts"


def main() -> int:
    """Run the demo in the language of the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.demo", description="Run everything once.")
    parser.add_argument("--language", default=LANGUAGE, help="language of the puzzles (default: %(default)s)")
    language = parser.parse_args().language
    return scenario.run_scenario("demo", PACE, STEPS, partial(play, language=language))


if __name__ == "__main__":
    sys.exit(main())
