"""The whole of votequeue once, with the real commands: `make demo`.

    [4/8] train the scorer - log: var/logs/train-1.log

Every step is a command that a person could type; this module types them. Answers and report stay in var/demo,
the run in the ledger.
"""

import sys

from infra import local, stage
from infra.stage import Stage

# What two cores do in the time; a variable that is set already wins.
PACE = {
    "VOTEQUEUE_MAX_TOKENS": "256",
    "VOTEQUEUE_MAX_MODEL_LEN": "4096",
}
TRAINING = ("-n", "100", "--seed", "7", "--difficulty", "1", "--wrong")
QUESTIONS = ("-n", "17", "--seed", "8", "--difficulty", "1")  # 25 questions
STEPS = 8


def play(demo: Stage) -> None:
    """Go through the steps; the services are gone at the end, whatever happens."""
    training, questions = demo.folder / "train.jsonl", demo.folder / "questions.jsonl"
    answers, report = demo.folder / "answers.jsonl", demo.folder / "report"
    judge = f"{demo.run}-scorer"
    with demo.step("get the weights"):
        demo.votequeue("weights")
    with demo.services():
        with demo.step("start broker, workers and Flower", "supervisord"):
            demo.votequeue("up", "--detach", "--reason", "0", "--translate", "0")
        with demo.step("make puzzles: some with reasoning to learn from, others to answer"):
            demo.votequeue("sample", *TRAINING, "-o", training, "--force")
            demo.votequeue("sample", *QUESTIONS, "-o", questions, "--force")
        with demo.step("train the scorer", "train-1"):
            demo.votequeue("enqueue", "train", "scorer", "--data", training, "--run", judge)
            demo.votequeue("status", judge, "--watch", watched=True)
        with demo.step("put the questions into the queue", "infer-1"):
            shown = ("--examples", training, "--scorer", demo.trained(judge))
            demo.votequeue("enqueue", "infer", questions, *shown, "--run", demo.run)
        with demo.step("collect the answers", "infer-1"):
            demo.votequeue("collect", demo.run, "-o", answers, "--wait", watched=True)
        with demo.step("report"):
            demo.votequeue("report", demo.run, "-o", report)
    demo.tell()
    local.say(f"answers: {answers}\nreport:  {report}")
    local.say(f"more:    votequeue status {demo.run}; votequeue explain {demo.run} QUESTION; votequeue up")


if __name__ == "__main__":
    sys.exit(stage.played("demo", PACE, STEPS, play))
