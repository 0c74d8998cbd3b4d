"""The demo: the main job from end to end, with the real commands (`make demo`).

    [5/10] train a scorer from those votes - log: var/logs/train-1.log

Every step is a command that a person could type; this module types them. A scorer is trained from votes on a
few labelled puzzles. It helps to answer the rest only if it beat the plain majority where it was tried.
Answers and report stay in var/demo, the runs in the ledger.
"""

import sys
from typing import Any

from infra import local, scenario
from infra.scenario import Stage

# What two cores do in the time; a variable that is set already wins.
PACE = {
    "VOTEQUEUE_MAX_TOKENS": "256",
    "VOTEQUEUE_MAX_MODEL_LEN": "4096",
}
SOLVED = ("-n", "100", "--seed", "7", "--difficulty", "1", "--wrong")
LABELLED = ("-n", "8", "--seed", "9", "--difficulty", "1")
QUESTIONS = ("-n", "10", "--seed", "8", "--difficulty", "1")  # 14 questions
ROUNDS = "2"  # that a gate may ask for
STEPS = 10
NO_SCORER = "none"


def play(demo: Stage) -> None:
    """Go through the steps; the services are gone at the end, whatever happens."""
    solved, labelled, questions = (
        demo.folder / f"{name}.jsonl" for name in ("solved", "labelled", "questions")
    )
    answers, report = demo.folder / "answers.jsonl", demo.folder / "report"
    votes, judge = f"{demo.run}-votes", f"{demo.run}-scorer"
    with demo.step("get the weights"):
        demo.votequeue("weights")
    with demo.services():
        with demo.step("start broker, workers and Flower", "supervisord"):
            demo.votequeue("up", "--detach", "--reason", "0", "--translate", "0")
        with demo.step("make puzzles: solved ones to show, labelled ones to learn from, others to answer"):
            demo.votequeue("sample", *SOLVED, "-o", solved, "--force")
            demo.votequeue("sample", *LABELLED, "-o", labelled, "--force")
            demo.votequeue("sample", *QUESTIONS, "-o", questions, "--force")
        with demo.step("sample votes on the labelled puzzles", "infer-1"):
            options = ("--examples", solved, "--scorer", NO_SCORER, "--max-attempts", "1")
            demo.votequeue("enqueue", "infer", labelled, *options, "--run", votes)
            demo.votequeue("status", votes, "--watch", watched=True)
        with demo.step("train a scorer from those votes", "train-1"):
            demo.votequeue("enqueue", "train", "scorer", "--from", votes, "--no-promote", "--run", judge)
            demo.votequeue("status", judge, "--watch", watched=True)
            scorer, why = _choose_scorer(demo.query("status", judge)["result"])
            local.say(why)
        with demo.step("put the other questions into the queue", "infer-1"):
            options = ("--examples", solved, "--scorer", scorer, "--max-attempts", ROUNDS)
            demo.votequeue("enqueue", "infer", questions, *options, "--run", demo.run)
        with demo.step("collect the answers", "infer-1"):
            demo.votequeue("collect", demo.run, "-o", answers, "--wait", watched=True)
        with demo.step("report"):
            demo.votequeue("report", demo.run, "-o", report)
    demo.print_times()
    local.say(f"{why}\nanswers: {answers}\nreport:  {report}")
    local.say(f"more:    votequeue status {demo.run}; votequeue trace {demo.run} QUESTION; votequeue up")


def _choose_scorer(result: dict[str, Any] | None) -> tuple[str, str]:
    """Choose the scorer that answers, or none, by what a training has measured; say why."""
    tried = (result or {}).get("answers")
    if not result or not tried:
        return NO_SCORER, "no scorer: none could be tried on these votes, so that every readable vote counts"
    best, majority = (f"{100 * tried[name]:.0f} %" for name in ("best", "majority"))
    shares = f"on {tried['questions']} held-out questions {best} right, the plain majority {majority}"
    if tried["best"] > tried["majority"]:
        proof = "so few questions are no proof, see `make accuracy`"
        return str(result["model"]), f"the scorer is used: {shares}; {proof}"
    return NO_SCORER, f"the scorer is not used: {shares}; every readable vote counts"


if __name__ == "__main__":
    sys.exit(scenario.run_scenario("demo", PACE, STEPS, play))
