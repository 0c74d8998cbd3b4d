"""The `translate` queue over fakes and a real ledger: what comes back, what it costs, what is paid once."""

import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from shared import dataset, prompts, settings
from shared.dataset import Entry
from shared.errors import Barred, NoReply, Refused, Throttled, Unavailable, Unreadable
from shared.jobs import Translate
from shared.ledger import cache, calls, engine, runs, schema
from shared.ledger.cache import Route
from shared.ledger.runs import Run
from shared.ledger.schema import State
from shared.options import Augmentation
from shared.providers import Limits, Price
from tests.fakes import FakeChat, FakeLimiter, FakeTranslator
from workers import task_runner, translate, wiring
from workers.augment import synonyms
from workers.augment.entry_builder import Augmented
from workers.gateway.gateway import Gateway
from workers.outcomes import NOTHING_TO_DO
from workers.ports import Interrupted

ROOT = Path(__file__).parents[2]
BATCH = Limits(characters=2000, texts=100)
MODEL = "TextTranslateBatch"
THERE, BACK = Route("zh", "ja", "tencent", MODEL), Route("ja", "zh", "tencent", MODEL)
OPTIONS = Augmentation(
    strategy="back-translation",
    provider="tencent",
    model=MODEL,
    language="zh",
    pivot="ja",
    shortest=0.4,
    longest=2.5,
)
PROBLEM = "已知：\n\n1. Alan 比 Bob 高。\n2. Bob 比 Carl 高。\n\n```\na -- b\n```\n回答问题："
fresh = itertools.count()
Open = Callable[..., str]


class Killed(BaseException):
    """The worker's process is gone: nothing that it would have written is written."""


def reword(text: str, source: str, target: str) -> str:
    """Translate so that it shows, and comes back in other words."""
    return (
        f"日{text}" if target == "ja" else text.removeprefix("日").replace("高", "高大").replace("：", "是：")
    )


class Stage:
    """A worker process whose translator and limiter are fakes."""

    def __init__(self) -> None:
        self.limiter = FakeLimiter()
        self.translator = FakeTranslator(reword, limits=BATCH)
        self.stopping = threading.Event()

    def plays(self, translator: FakeTranslator) -> FakeTranslator:
        self.translator = translator
        return translator

    def build(self, provider: str, model: str, _: settings.Settings) -> FakeTranslator:
        assert (provider, model) == (self.translator.service.provider, self.translator.service.model)
        return self.translator

    def gateway(self, _: settings.Settings, stopping: threading.Event) -> Gateway:
        self.stopping = stopping
        return Gateway(self.limiter)

    @property
    def sent(self) -> Counter[str]:
        """Count the texts that were sent, both ways."""
        return Counter(text for call in self.translator.calls for text in call.texts)


@pytest.fixture
def stage(on_broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Have a worker process; over SQLite, unless the test asks for any ledger."""
    made = Stage()
    monkeypatch.setattr(wiring, "gateway", made.gateway)
    monkeypatch.setattr(wiring, "translator", made.build)
    set_up(monkeypatch, linger="0.02")
    yield made
    translate.service().close()
    translate.service.cache_clear()


def set_up(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    """Start the worker process anew, with some settings changed."""
    for name, value in changes.items():
        monkeypatch.setenv(f"VOTEQUEUE_{name.upper()}", value)
    settings.load.cache_clear()
    translate.service.cache_clear()


@pytest.fixture
def open_run(home: Path) -> Open:
    """Give what opens a run of entries as the producer does."""

    def opened(*entries: dict[str, Any], budget: float | None = None, **changes: Any) -> str:
        name = f"run{next(fresh)}"
        path = home / f"{name}.jsonl"
        dataset.write(entries or (entry(),), path)
        lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
        options = {**OPTIONS.model_dump(mode="json"), **changes}
        runs.open_run(Run(name, "translate", path.name, "d", None, options), lines, per_entry=True)
        calls.set_budget(name, budget)
        return name

    return opened


def question(**changes: Any) -> dict[str, Any]:
    given = {
        "question": "选择题 1：\n谁最高？",
        "options": ["Alan 最高", "Bob", "是", "[a, b]"],
        "answer": "A",
        "reasoning": "1. Alan 比 Bob 高。\n\n所以 Alan 最高。\n\n答案是：A. Alan 最高",
    }
    return {**given, **changes}


def entry(name: str = "p0", problem: str = PROBLEM, *questions: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "problem": problem, "questions": list(questions or (question(),))}


def entries(count: int) -> list[dict[str, Any]]:
    """Make entries of which each has texts of its own."""
    words = "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳"
    return [
        entry(
            f"p{at}",
            f"{words[at]}很高，别人都比{words[at]}矮一些。",
            question(
                question=f"{words[at]}高吗？",
                options=[f"{words[at]}高", f"{words[at]}矮"],
                reasoning=f"{words[at]}高。\n答案是：A",
            ),
        )
        for at in range(count)
    ]


def work(run: str, item: int = 0) -> str:
    """Do one item, as its message does."""
    return str(translate.translate.run(run=run, item=item))


def work_all(run: str, count: int, *workers: translate.Augmenting) -> list[str]:
    """Do a run's first items at the same time, each once in every worker."""
    ended: list[str] = []
    start = threading.Barrier(count * (len(workers) or 1))

    def one(worker: translate.Augmenting, item: int) -> None:
        start.wait()
        ended.append(task_runner.run(Translate(run=run, item=item), worker.augment))

    chosen = workers or (translate.service(),)
    threads = [
        threading.Thread(target=one, args=(worker, item)) for worker in chosen for item in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def result(run: str, item: int = 0) -> dict[str, Any]:
    columns = schema.results.c
    query = sa.select(columns.value).where(columns.run == run, columns.number == item)
    with engine.reading() as connection:
        return dict(connection.execute(query).scalar_one())


def standing(run: str, number: int = 0) -> tuple[str, str | None]:
    """Give an item's state, and the reason it is dead for."""
    columns = schema.items.c
    query = sa.select(columns.state, columns.reason).where(columns.run == run, columns.number == number)
    with engine.reading() as connection:
        row = connection.execute(query).one()
    return row.state, row.reason


def outcomes(run: str) -> Counter[str | None]:
    columns = schema.calls.c
    with engine.reading() as connection:
        return Counter(connection.scalars(sa.select(columns.outcome).where(columns.run == run)))


# What comes back


def test_an_entry_comes_back_in_other_words_and_says_how_it_was_made(stage: Stage, open_run: Open) -> None:
    run = open_run()
    assert work(run) == "1 of 1 questions passed"
    made = {
        "label": "correct",
        "origin": "back-translation",
        "provider": "tencent",
        "model": MODEL,
        "prompt": None,
    }
    assert result(run) == {
        "entry": {
            "id": "p0~back-translation",
            "problem": PROBLEM.replace("高", "高大").replace("：", "是："),
            "questions": [
                {
                    "question": "选择题 1：\n谁最高大？",
                    "options": ["Alan 最高大", "Bob", "是", "[a, b]"],
                    "answer": "A",
                    "reasoning": "1. Alan 比 Bob 高大。\n\n所以 Alan 最高大。\n答案是：A",
                    "votequeue": made,
                }
            ],
            "votequeue": {"origin": "back-translation", "group": dataset.identity(PROBLEM)},
        },
        "dropped": [],
    }
    Entry.model_validate(result(run)["entry"])


def test_a_wrong_reasoning_comes_back_too_and_the_group_stays(stage: Stage, open_run: Open) -> None:
    wrong = [{"answer": "B", "reasoning": "Bob 更高。\n答案是：B"}]
    made = entry("p1~synonym", PROBLEM, question(reasoning=None, answer=None, wrong=wrong))
    made["votequeue"] = {"group": "p1"}
    run = open_run(made)
    work(run)
    got = result(run)["entry"]
    assert (got["id"], got["votequeue"]["group"]) == ("p1~synonym~back-translation", "p1")
    only = got["questions"][0]
    assert only["votequeue"]["label"] is None
    assert only["wrong"][0]["reasoning"] == "Bob 更高大。\n答案是：B"
    assert only["wrong"][0]["votequeue"]["label"] == "wrong"


def test_each_text_is_sent_once_and_what_is_no_text_not_at_all(stage: Stage, open_run: Open) -> None:
    # The reasoning quotes the problem's first premise, and two questions have the same options.
    work(open_run(entry("p0", PROBLEM, question(), question(question="谁最矮？"))))
    forth = [text for call in stage.translator.calls if call.target == "ja" for text in call.texts]
    assert sorted(forth) == sorted(
        [
            "已知：",
            "Alan 比 Bob 高。",
            "Bob 比 Carl 高。",
            "回答问题：",
            "谁最高？",
            "谁最矮？",
            "Alan 最高",
            "是",
            "所以 Alan 最高。",
        ]
    )
    assert len(stage.translator.calls) == 2


def test_options_that_are_the_same_stay_the_same(stage: Stage, open_run: Open) -> None:
    run = open_run(entry("p0", PROBLEM, question(options=["Alan 高", "Bob 高", "Carl 高", "Bob 高"])))
    work(run)
    options = result(run)["entry"]["questions"][0]["options"]
    assert options == ["Alan 高大", "Bob 高大", "Carl 高大", "Bob 高大"]


def test_a_question_that_does_not_pass_is_dropped_with_the_reason(stage: Stage, open_run: Open) -> None:
    stage.plays(FakeTranslator(lambda text, *way: reword(text.replace("第 7", "第 8"), *way), limits=BATCH))
    run = open_run(entry("p0", PROBLEM, question(), question(question="第 7 名是谁？")))
    assert work(run) == "1 of 2 questions passed"
    assert result(run)["dropped"] == [
        {"question": 2, "reason": "the question: the number 7 is gone; the question: the number 8 is new"}
    ]


def test_an_entry_whose_problem_does_not_pass_is_dead(stage: Stage, open_run: Open) -> None:
    stage.plays(FakeTranslator(lambda text, *way: reword(text.replace("Carl", "卡尔"), *way), limits=BATCH))
    run = open_run()
    work(run)
    assert standing(run) == (State.DEAD, "the problem: the name or word Carl is gone")


def test_an_entry_none_of_whose_questions_pass_is_dead_with_all_reasons(stage: Stage, open_run: Open) -> None:
    stage.plays(FakeTranslator(lambda text, *way: reword(text.replace("是", "否"), *way), limits=BATCH))
    options = ["是", "否", "丙", "丁"]
    run = open_run(entry("p0", PROBLEM, question(options=options), question(options=options)))
    work(run)
    reason = "options A and B are now the same"
    assert standing(run) == (State.DEAD, f"no question passed: 1: {reason}; 2: {reason}")


def test_what_comes_back_as_it_was_is_no_new_data(stage: Stage, open_run: Open) -> None:
    stage.plays(FakeTranslator(limits=BATCH))
    run = open_run()
    work(run)
    assert standing(run) == (State.DEAD, "no question passed: 1: nothing in it has changed")


def test_texts_longer_than_a_call_takes_go_in_parts(stage: Stage, open_run: Open) -> None:
    stage.plays(FakeTranslator(reword, limits=Limits(characters=12, texts=2)))
    run = open_run()
    work(run)
    reasoning = result(run)["entry"]["questions"][0]["reasoning"]
    assert reasoning == "1. Alan 比 Bob 高大。\n\n所以 Alan 最高大。\n答案是：A"
    for call in stage.translator.calls:
        assert sum(map(len, call.texts)) <= 12
        assert len(call.texts) <= 2


# Few calls


def test_entries_that_are_worked_on_together_share_calls(
    stage: Stage, open_run: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, linger="0.5")
    run = open_run(*entries(8))
    assert work_all(run, 8) == ["1 of 1 questions passed"] * 8
    assert len(stage.translator.calls) == 2
    assert set(stage.sent.values()) == {1}


def test_a_repeated_run_costs_nothing(stage: Stage, open_run: Open) -> None:
    work(open_run())
    before = len(stage.translator.calls)
    again = open_run()
    assert work(again) == "1 of 1 questions passed"
    assert len(stage.translator.calls) == before
    assert outcomes(again) == Counter()


def test_another_prompt_is_another_translator(stage: Stage, open_run: Open) -> None:
    work(open_run())
    before = len(stage.translator.calls)
    work(open_run(prompt=prompts.version("translating")))
    assert len(stage.translator.calls) == 2 * before


@pytest.mark.usefixtures("any_ledger")
def test_two_workers_with_the_same_texts_pay_once(stage: Stage, open_run: Open) -> None:
    runs = [open_run(*entries(6)) for _ in range(2)]
    workers = [translate.Augmenting() for _ in runs]
    threads = [
        threading.Thread(target=work_all, args=(run, 6, worker))
        for run, worker in zip(runs, workers, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(stage.sent.values()) == {1}
    assert result(runs[0], 5)["entry"] == result(runs[1], 5)["entry"]
    for worker in workers:
        worker.close()


def test_what_a_dead_worker_was_translating_is_taken_over(stage: Stage, open_run: Open) -> None:
    cache.reserve(["谁最高？", "是"], THERE, "dead:1", 0.3)
    run = open_run()
    assert work(run) == "1 of 1 questions passed"
    assert set(stage.sent.values()) == {1}


def test_a_call_that_takes_longer_than_a_lease_is_still_made_once(
    stage: Stage, open_run: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, lease="1", heartbeat="0.05")  # twenty beats a lease: a busy machine misses some
    called = threading.Event()

    def slow(text: str, source: str, target: str) -> str:
        if text == "谁最高？":
            called.set()
            time.sleep(2.0)
        return reword(text, source, target)

    stage.plays(FakeTranslator(slow, limits=BATCH))
    runs = [open_run(), open_run()]
    other = translate.Augmenting()
    first = threading.Thread(target=work, args=(runs[0],))
    first.start()
    called.wait(5.0)
    assert task_runner.run(Translate(run=runs[1], item=0), other.augment) == "1 of 1 questions passed"
    first.join()
    other.close()
    assert set(stage.sent.values()) == {1}


# What goes wrong


def test_a_crash_between_the_ways_repeats_nothing_on_record(stage: Stage, open_run: Open) -> None:
    def dies(text: str, source: str, target: str) -> str:
        if target == "zh":
            raise Killed
        return reword(text, source, target)

    stage.plays(FakeTranslator(dies, limits=BATCH))
    run = open_run()
    with pytest.raises(Killed):
        work(run)
    revive(run)
    translate.service.cache_clear()
    stage.plays(FakeTranslator(reword, limits=BATCH))
    assert work(run) == "1 of 1 questions passed"
    assert {call.target for call in stage.translator.calls} == {"zh"}


def revive(run: str) -> None:
    with engine.writing() as connection:
        connection.execute(
            schema.items.update().where(schema.items.c.run == run).values(state=State.PENDING, not_before=0.0)
        )


@pytest.mark.parametrize("error", [Unavailable("500"), NoReply("timed out")])
def test_a_call_that_fails_is_made_again_in_another_round(
    stage: Stage, open_run: Open, error: Exception
) -> None:
    stage.plays(FakeTranslator(reword, [error], BATCH))
    run = open_run()
    assert work(run).startswith("again in ")
    assert standing(run)[0] == State.PENDING
    revive(run)
    assert work(run) == "1 of 1 questions passed"
    assert len(stage.translator.calls) == 3


def test_a_call_that_fails_fails_only_the_entries_that_are_in_it(
    stage: Stage, open_run: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, linger="0.5")

    def fails(text: str, *way: str) -> str:
        if text.startswith("甲很高"):
            raise Unavailable("500")
        return reword(text, way[0], way[1])

    stage.plays(FakeTranslator(fails, limits=Limits(characters=20, texts=1)))
    run = open_run(*entries(4))
    ended = work_all(run, 4)
    assert sorted(end[:8] for end in ended) == ["1 of 1 q"] * 3 + ["again in"]
    assert standing(run, 0)[0] == State.PENDING
    reserved = cache.reserve(["甲很高，别人都比甲矮一些。"], THERE, "w", 9.0)
    assert reserved.mine, "what failed must be free for others"


def test_a_service_that_says_slow_down_is_asked_again_at_once(stage: Stage, open_run: Open) -> None:
    stage.plays(FakeTranslator(reword, [Throttled("slower", 3.0)], BATCH))
    run = open_run()
    assert work(run) == "1 of 1 questions passed"
    assert [delay for _, delay in stage.limiter.slow_downs] == [3.0]


@pytest.mark.parametrize("kind", [Refused, Unreadable])
def test_a_text_that_spoils_a_call_is_found_and_the_others_come_through(
    stage: Stage, open_run: Open, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    set_up(monkeypatch, linger="0.5")

    def fails(text: str, *way: str) -> str:
        if text == "甲高吗？":
            raise kind("not this one")
        return reword(text, way[0], way[1])

    stage.plays(FakeTranslator(fails, limits=BATCH))
    run = open_run(*entries(8))
    ended = work_all(run, 8)
    assert Counter(ended)["1 of 1 questions passed"] == 7
    state, reason = standing(run)
    if kind is Refused:
        assert state == State.DEAD
        assert reason == "no question passed: 1: the service refused a text of it: not this one"
    else:
        assert state == State.PENDING


def test_a_service_that_spoils_everything_is_not_asked_for_ever(stage: Stage, open_run: Open) -> None:
    stage.plays(FakeTranslator(reword, [Unreadable("half a reply")] * 1000, BATCH))
    run = open_run(entry("p0", "\n".join(f"{number} 号很高。" for number in range(64))))
    assert work(run).endswith("half a reply")
    assert standing(run)[0] == State.PENDING
    assert len(stage.translator.calls) == 10


def test_a_barred_account_keeps_entries_waiting(stage: Stage, open_run: Open) -> None:
    stage.plays(FakeTranslator(reword, [Barred("buy more characters")], BATCH))
    run = open_run()
    assert work(run) == "waits: buy more characters"
    assert standing(run)[0] == State.PENDING
    assert cache.reserve(["谁最高？"], THERE, "w", 9.0).mine


def test_a_budget_ends_the_run_before_it_is_passed(stage: Stage, open_run: Open) -> None:
    stage.plays(FakeTranslator(reword, limits=BATCH, price=Price(characters=1_000_000)))
    run = open_run(budget=10.0)
    assert work(run).startswith("dead: the budget of 10 would be exceeded")
    assert stage.translator.calls == []


def test_a_worker_that_is_stopped_gives_its_entry_back(stage: Stage, open_run: Open) -> None:
    run = open_run()
    cache.reserve(["谁最高？"], THERE, "another", 60.0)
    threading.Timer(0.2, lambda: translate.service().stop()).start()
    assert work(run) == "given back: the worker was stopped"
    assert standing(run)[0] == State.PENDING


def test_a_stop_while_the_limiter_has_calls_waiting_gives_all_back(stage: Stage, open_run: Open) -> None:
    def stopped() -> None:
        raise Interrupted

    stage.limiter = FakeLimiter(moment=stopped)
    run = open_run(*entries(3))
    assert work_all(run, 3) == ["given back: the worker was stopped"] * 3
    assert stage.translator.calls == []


# The queue


def test_an_item_that_is_done_is_not_done_again(stage: Stage, open_run: Open) -> None:
    run = open_run()
    work(run)
    assert work(run) == NOTHING_TO_DO


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"strategy": "magic"}, "the run's settings are of another votequeue"),
        ({"model": None}, "the run does not say what is translated by whom"),
        ({"prompt": "0"}, "the run wants prompt 0, this votequeue has"),
        ({"strategy": "variant", "provider": None}, "the run does not say which chat model writes"),
    ],
)
def test_a_run_of_another_version_is_dead_with_a_sentence(
    stage: Stage, open_run: Open, changes: dict[str, Any], reason: str
) -> None:
    run = open_run(**changes)
    assert reason in work(run)
    assert standing(run)[0] == State.DEAD


def test_synonyms_need_no_service(stage: Stage, open_run: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(entry: Entry, options: Augmentation) -> Augmented:
        return Augmented({"id": f"{entry.id}~{options.strategy}"}, [], "3 words replaced")

    monkeypatch.setattr(synonyms, "replace", replace)
    run = open_run(strategy="synonym", provider=None, model=None)
    assert work(run) == "3 words replaced"
    assert result(run) == {"entry": {"id": "p0~synonym"}, "dropped": []}
    assert stage.translator.calls == []


def test_a_variant_is_asked_of_the_runs_chat_model(
    stage: Stage, open_run: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = FakeChat(otherwise="不会")
    monkeypatch.setattr(wiring, "chat_model", lambda *_: chat)
    changes = {"samples": 5, "agree": 4, "near_copy": 0.97, "max_tokens": 50, "temperature": 0.7}
    run = open_run(strategy="variant", provider="chat", model="m", **changes)
    assert work(run).startswith("dead: no variant can be kept")
    assert chat.prompts


def test_the_queue_needs_no_model_libraries() -> None:
    heavy = "{'torch', 'transformers', 'vllm', 'sentence_transformers', 'qdrant_client', 'openai'}"
    code = f"import sys, workers.translate; print(*{heavy} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout.split() == []
