"""Counting votes and tokens while they are made."""

from workers.inference.throughput_meter import WINDOW, ThroughputMeter


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_votes_and_tokens_are_counted_while_they_are_made() -> None:
    clock = Clock()
    meter = ThroughputMeter(clock)
    counter = meter.begin("r", "q1").expect(0, 3)
    meter.begin("r", "q2").expect(0, 3)
    counter.count(0, 16, finished=False)
    counter.count(1, 20, finished=True)
    counter.count(0, 32, finished=False)
    clock.now += 10
    (now,) = meter.figures()
    assert (now.run, now.votes, now.tokens) == ("r", 1, 52)
    assert (now.votes_in_play, now.votes_under_way, now.tokens_under_way) == (1, 5, 32)
    assert now.votes_not_begun == 4
    assert now.tokens_per_second == 5.2


def test_the_time_in_which_the_first_prompts_are_read_does_not_slow_the_rate() -> None:
    clock = Clock()
    meter = ThroughputMeter(clock)
    counter = meter.begin("r", "q").expect(0, 2)
    clock.now += 60
    counter.count(0, 1, finished=False)
    assert meter.figures()[0].tokens_per_second == 0.0
    clock.now += 1
    counter.count(1, 1, finished=False)
    clock.now += 1
    counter.count(0, 21, finished=False)
    assert meter.figures()[0].tokens_per_second == 10.5


def test_a_question_whose_round_is_over_is_in_play_no_more_and_its_votes_stay_counted() -> None:
    meter = ThroughputMeter(Clock())
    counter = meter.begin("r", "q").expect(0, 2)
    counter.count(0, 10, finished=True)
    counter.count(1, 10, finished=True)
    meter.end("r", ["q", "never begun"])
    meter.end("another", ["q"])
    (now,) = meter.figures()
    assert (now.votes, now.tokens, now.votes_in_play, now.votes_under_way) == (2, 20, 0, 0)
    assert now.tokens_per_second == 0.0


def test_what_has_not_changed_is_told_once() -> None:
    clock = Clock()
    meter = ThroughputMeter(clock)
    assert meter.figures() == []
    meter.begin("r", "q").expect(0, 1).count(0, 7, finished=True)
    assert len(meter.figures()) == 1
    meter.end("r", ["q"])
    assert len(meter.figures()) == 1
    assert meter.figures() == []


def test_the_rate_looks_back_over_a_window() -> None:
    clock = Clock()
    meter = ThroughputMeter(clock)
    counter = meter.begin("r", "q").expect(0, 1)
    tokens = 0
    for second in range(120):
        clock.now += 1
        tokens += 100 if second < 60 else 10
        counter.count(0, tokens, finished=False)
        (now,) = meter.figures()
    assert now.tokens_per_second == 10.0
    assert WINDOW < 60


def test_a_pause_between_rounds_does_not_slow_the_rate() -> None:
    clock = Clock()
    meter = ThroughputMeter(clock)
    meter.begin("r", "q").expect(0, 1).count(0, 50, finished=True)
    meter.end("r", ["q"])
    meter.figures()
    clock.now += 1000
    counter = meter.begin("r", "q").expect(0, 1)
    clock.now += 2
    counter.count(0, 20, finished=False)
    assert meter.figures()[0].tokens_per_second == 10.0


def test_votes_that_are_not_needed_are_no_longer_under_way_and_their_tokens_are_given() -> None:
    meter = ThroughputMeter(Clock())
    counter = meter.begin("r", "p1").expect(0, 5)
    counter.count(0, 40, finished=True)
    counter.expect(3, 1).count(0, 10, finished=False)
    counter.expect(4, 1).count(0, 6, finished=False)
    assert counter.abort_rest() == {1: 0, 2: 0, 3: 10, 4: 6}
    (figures,) = meter.figures()
    assert (figures.votes, figures.tokens, figures.votes_under_way) == (1, 56, 0)


def test_votes_that_may_never_be_asked_for_are_not_under_way() -> None:
    meter = ThroughputMeter(Clock())
    counter = meter.begin("r", "q")
    counter.expect(0, 1).count(0, 10, finished=False)
    (figures,) = meter.figures()
    assert (figures.votes_under_way, figures.votes_not_begun) == (1, 0)
    counter.expect(2, 2)
    (figures,) = meter.figures()
    assert (figures.votes_under_way, figures.votes_not_begun) == (3, 2)
    assert counter.abort_rest() == {0: 10, 2: 0, 3: 0}
