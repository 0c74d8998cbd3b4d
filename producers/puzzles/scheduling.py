"""Scheduling puzzles: jobs with durations and dependencies, and the day on which each ends.

    “铺地板”要等“刷墙”和“布线”都完成后才能开始，需要3天。

The trace adds durations in the order of the list; the solver plays the days one by one.
"""

from dataclasses import dataclass
from random import Random

from producers.puzzles import question_types
from producers.puzzles.types import Chain, Puzzle, Query, puzzle, statement

_THEMES = (
    (
        "一个装修队接到了一批工作",
        ("拆旧墙", "铺水管", "布电线", "刷墙", "铺地板", "装门窗", "装灯", "搬家具"),
    ),
    (
        "学校要办一场晚会，有下面这些准备工作",
        ("定场地", "写节目单", "排练", "做海报", "借音响", "布置舞台", "发请柬", "彩排"),
    ),
    (
        "一个软件小组要完成下面这些任务",
        ("写需求", "画界面", "建数据库", "写接口", "写页面", "做测试", "写文档", "上线"),
    ),
    ("一家农场要做下面这些农活", ("修水渠", "翻地", "育苗", "施肥", "播种", "搭棚", "除草", "采收")),
)


@dataclass(frozen=True)
class _Job:
    name: str
    days: int
    after: tuple[int, ...]

    def fact(self, names: list[str]) -> str:
        if not self.after:
            return f"“{self.name}”需要{self.days}天，随时可以开始。"
        waits = "和".join(f"“{names[one]}”" for one in self.after)
        both = "都" if len(self.after) > 1 else ""
        return f"“{self.name}”要等{waits}{both}完成后才能开始，需要{self.days}天。"


@dataclass(frozen=True)
class _Slip:
    at: int
    earlier: bool
    off: int


def make(rng: Random, difficulty: int) -> Puzzle | None:
    """Draw jobs and ask when they are done."""
    scene, pool = rng.choice(_THEMES)
    names = rng.sample(pool, 3 + difficulty)
    jobs = [_Job(name, rng.randint(1, 6), _after(rng, place)) for place, name in enumerate(names)]
    rule = "没有先后要求的工作可以同时进行，每项工作都尽早开始，从第1天的早上开工。"
    facts = [job.fact(names) for job in jobs]
    problem = statement(rng, f"{scene}。", [*rng.sample(facts, len(facts)), rule])
    late = [place for place, job in enumerate(jobs) if job.after]
    wanted = min(rng.randint(1, 2), len(late))
    queries = [_ask(rng, jobs, names, target) for target in rng.sample(late, len(late))]
    whole = _ask(rng, jobs, names, None)
    return puzzle(problem, [*queries[: wanted - 1], whole, *queries[wanted - 1 :]], wanted)


def _after(rng: Random, place: int) -> tuple[int, ...]:
    if place == 0:
        return ()
    most = min(place, 2)
    return tuple(sorted(rng.sample(range(place), rng.randint(0 if place == 1 else 1, most))))


def _ask(rng: Random, jobs: list[_Job], names: list[str], target: int | None) -> Query | None:
    needed = _needed(jobs, target)
    slips = [_Slip(at, True, 0) for at in needed if len(jobs[at].after) > 1] * 2
    slips += [_Slip(at, False, rng.choice((-1, 1))) for at in needed]
    right = _derive(jobs, names, needed, target, None)
    wrong = [_derive(jobs, names, needed, target, slip) for slip in slips]
    done = _play(jobs)
    day = max(done) if target is None else done[target]
    if target is None:
        ask = "完成全部工作最少需要多少天？"
    else:
        ask = f"“{names[target]}”最早在第几天完成？"
        if rng.random() < 0.3:
            return question_types.claim(
                rng, f"“{names[target]}”最早在第{{}}天完成，对吗？", right, wrong, str(day)
            )
    return question_types.value(ask, right, wrong, question_types.near(rng, day), str(day))


def _needed(jobs: list[_Job], target: int | None) -> list[int]:
    if target is None:
        return list(range(len(jobs)))
    needed = {target}
    for place in range(target, -1, -1):
        if place in needed:
            needed.update(jobs[place].after)
    return sorted(needed)


def _derive(
    jobs: list[_Job], names: list[str], needed: list[int], target: int | None, slip: _Slip | None
) -> Chain:
    done: dict[int, int] = {}
    steps = []
    for at in needed:
        here = slip if slip and slip.at == at else _Slip(at, False, 0)
        days = max(jobs[at].days + here.off, 1)
        ready = [done[one] for one in jobs[at].after]
        start = (min if here.earlier else max)(ready, default=0)
        done[at] = start + days
        steps.append(_sentence(names, jobs[at], done, start, days))
    last = max(done.values()) if target is None else done[target]
    if target is None:
        steps.append(f"最晚完成的是第{last}天，所以一共要{last}天。")
    return Chain(tuple(steps), str(last))


def _sentence(names: list[str], job: _Job, done: dict[int, int], start: int, days: int) -> str:
    if not job.after:
        return f"“{job.name}”不用等，做{days}天，第{days}天完成。"
    waits = "、".join(f"“{names[one]}”第{done[one]}天完成" for one in job.after)
    later = f"，等到第{start}天" if len(job.after) > 1 else ""
    return (
        f"{waits}{later}，“{job.name}”再做{days}天，{start}+{days}={start + days}，第{start + days}天完成。"
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
