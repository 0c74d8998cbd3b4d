"""Scheduling puzzles: jobs with durations and dependencies, and the day on which each ends.

    “铺地板”要等“刷墙”和“布线”都完成后才能开始，需要3天。

The trace adds durations in the order of the list; the solver plays the days one by one.
"""

from dataclasses import dataclass
from random import Random

from producers.puzzles import question_types
from producers.puzzles.languages import Count, Language
from producers.puzzles.types import Chain, Puzzle, Query, puzzle, statement


@dataclass(frozen=True)
class _Texts:
    themes: tuple[tuple[str, tuple[str, ...]], ...]
    job: str
    both: str
    and_then: str
    free: str
    waiting: str
    rule: str
    total: str
    day: str
    claim: str
    at_once: str
    finished: str
    then: str
    then_late: str
    in_all: str


_TEXTS = {
    "zh": _Texts(
        themes=(
            ("一个装修队接到了一批工作。",
             ("拆旧墙", "铺水管", "布电线", "刷墙", "铺地板", "装门窗", "装灯", "搬家具")),
            ("学校要办一场晚会，有下面这些准备工作。",
             ("定场地", "写节目单", "排练", "做海报", "借音响", "布置舞台", "发请柬", "彩排")),
            ("一个软件小组要完成下面这些任务。",
             ("写需求", "画界面", "建数据库", "写接口", "写页面", "做测试", "写文档", "上线")),
            ("一家农场要做下面这些农活。",
             ("修水渠", "翻地", "育苗", "施肥", "播种", "搭棚", "除草", "采收")),
        ),
        job="“{name}”",
        both="和",
        and_then="、",
        free="{job}需要{days}天，随时可以开始。",
        waiting="{job}要等{waits}{n:|都}完成后才能开始，需要{days}天。",
        rule="没有先后要求的工作可以同时进行，每项工作都尽早开始，从第1天的早上开工。",
        total="完成全部工作最少需要多少天？",
        day="{job}最早在第几天完成？",
        claim="{job}最早在第{claimed}天完成，对吗？",
        at_once="{job}不用等，做{days}天，第{days}天完成。",
        finished="{job}第{day}天完成",
        then="{waits}，{job}再做{days}天，{start}+{days}={end}，第{end}天完成。",
        then_late="{waits}，等到第{start}天，{job}再做{days}天，{start}+{days}={end}，第{end}天完成。",
        in_all="最晚完成的是第{day}天，所以一共要{day}天。",
    ),
    "en": _Texts(
        themes=(
            ("A team of builders has been given several jobs.",
             ("Pull down the wall", "Lay the pipes", "Lay the cables", "Paint the walls",
              "Lay the floor", "Fit the doors", "Install the lamps", "Move the furniture")),
            ("A school is preparing an evening show, with the following jobs to do.",
             ("Book the hall", "Write the programme", "Rehearse", "Make the posters",
              "Borrow the speakers", "Set up the stage", "Send the invitations", "Try on the costumes")),
            ("A software team has the following jobs to do.",
             ("Collect the requirements", "Draw the screens", "Build the database", "Write the interface",
              "Write the pages", "Run the tests", "Write the manual", "Go live")),
            ("A farm has the following jobs to do.",
             ("Repair the ditches", "Plough the field", "Raise the seedlings", "Spread the manure",
              "Sow the seeds", "Put up the shelter", "Pull the weeds", "Gather the harvest")),
        ),
        job="“{name}”",
        both=" and ",
        and_then=" and ",
        free="{job} takes {days:# day|# days} and can start at any time.",
        waiting="{job} can start only when {waits} {n:is|are both} finished, and takes {days:# day|# days}.",
        rule="Jobs that do not have to wait for each other can be done at the same time; every job starts "
        "as early as possible, and work begins on the morning of day 1.",
        total="What is the smallest number of days in which all jobs can be finished?",
        day="On which day can {job} be finished at the earliest?",
        claim="Someone says that {job} can be finished on day {claimed} at the earliest. Is that true?",
        at_once="{job} does not have to wait, takes {days:# day|# days} and is finished on day {days}.",
        finished="{job} is finished on day {day}",
        then="{waits}; {job} then takes {days:# day|# days}, {start}+{days}={end}, and is finished "
        "on day {end}.",
        then_late="{waits}, so we wait until the end of day {start}; {job} then takes {days:# day|# days}, "
        "{start}+{days}={end}, and is finished on day {end}.",
        in_all="the last job is finished on day {day}, so {day:# day is|# days are} needed in all.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class _Job:
    name: str
    days: int
    after: tuple[int, ...]

    def fact(self, texts: _Texts, jobs: "list[_Job]") -> str:
        return (texts.waiting if self.after else texts.free).format(
            job=self.name,
            days=Count(self.days),
            waits=texts.both.join(jobs[one].name for one in self.after),
            n=Count(len(self.after)),
        )


@dataclass(frozen=True)
class _Slip:
    at: int
    earlier: bool
    off: int


def make(rng: Random, difficulty: int, language: Language) -> Puzzle | None:
    """Draw jobs and ask when they are done."""
    texts = _TEXTS[language.code]
    scene, pool = rng.choice(texts.themes)
    names = [texts.job.format(name=name) for name in rng.sample(pool, 3 + difficulty)]
    jobs = [_Job(name, rng.randint(1, 6), _after(rng, place)) for place, name in enumerate(names)]
    facts = [job.fact(texts, jobs) for job in jobs]
    problem = statement(rng, language, scene, [*rng.sample(facts, len(facts)), texts.rule])
    late = [place for place, job in enumerate(jobs) if job.after]
    wanted = min(rng.randint(1, 2), len(late))
    queries = [_ask(rng, language, jobs, target) for target in rng.sample(late, len(late))]
    whole = _ask(rng, language, jobs, None)
    return puzzle(problem, [*queries[: wanted - 1], whole, *queries[wanted - 1 :]], wanted)


def _after(rng: Random, place: int) -> tuple[int, ...]:
    if place == 0:
        return ()
    most = min(place, 2)
    return tuple(sorted(rng.sample(range(place), rng.randint(0 if place == 1 else 1, most))))


def _ask(rng: Random, language: Language, jobs: list[_Job], target: int | None) -> Query | None:
    texts, after = _TEXTS[language.code], [job.after for job in jobs]
    needed = list(range(len(jobs))) if target is None else question_types.needed(after, target)
    slips = [_Slip(at, True, 0) for at in needed if len(jobs[at].after) > 1] * 2
    slips += [_Slip(at, False, rng.choice((-1, 1))) for at in needed]
    right = _derive(texts, jobs, needed, target, None)
    wrong = [_derive(texts, jobs, needed, target, slip) for slip in slips]
    done = _play(jobs)
    day = max(done) if target is None else done[target]
    job = "" if target is None else jobs[target].name
    if job and rng.random() < 0.3:
        return question_types.claim(rng, language, texts.claim, {"job": job}, right, wrong, str(day))
    ask = texts.day.format(job=job) if job else texts.total
    return question_types.value(ask, right, wrong, question_types.near(rng, day), str(day))


def _derive(
    texts: _Texts, jobs: list[_Job], needed: list[int], target: int | None, slip: _Slip | None
) -> Chain:
    done: dict[int, int] = {}
    steps = []
    for at in needed:
        here = slip if slip and slip.at == at else _Slip(at, False, 0)
        days = max(jobs[at].days + here.off, 1)
        ready = [done[one] for one in jobs[at].after]
        start = (min if here.earlier else max)(ready, default=0)
        done[at] = start + days
        steps.append(_sentence(texts, jobs, at, done, start))
    last = max(done.values()) if target is None else done[target]
    if target is None:
        steps.append(texts.in_all.format(day=Count(last)))
    return Chain(tuple(steps), str(last))


def _sentence(texts: _Texts, jobs: list[_Job], at: int, done: dict[int, int], start: int) -> str:
    job, end = jobs[at], done[at]
    days = end - start
    if not job.after:
        return texts.at_once.format(job=job.name, days=Count(days))
    finished = [texts.finished.format(job=jobs[one].name, day=done[one]) for one in job.after]
    return (texts.then_late if len(finished) > 1 else texts.then).format(
        waits=texts.and_then.join(finished), job=job.name, days=Count(days), start=start, end=end
    )


def _play(jobs: list[_Job]) -> list[int]:
    """Work day by day until every job is done; return the day each is done."""
    days_left = [job.days for job in jobs]
    done = [0] * len(jobs)
    day = 0
    while not all(done):
        day += 1
        free = [all(0 < done[one] < day for one in job.after) for job in jobs]
        for at in (at for at in range(len(jobs)) if free[at] and not done[at]):
            days_left[at] -= 1
            done[at] = day if days_left[at] == 0 else 0
    return done
