"""Calibrate a finished run: learn on labelled runs how probably an answer is right, and when to abstain.

    calibrate("mine", ["own"], {"max_error": 0.2})  ->  Calibration(threshold=0.64, questions=412, ...)

``max_error`` is tested as in Learn then Test (Angelopoulos et al. 2021, arXiv:2110.01052). The null
hypothesis of a threshold is that at least this share of the answers above it is wrong. Probabilities,
thresholds and the first one to test are learned on some folds of the entries; the other folds test. From the
first one down, each threshold is tested at level 0.05, until one fails. So a wrong one passes with
probability 0.05 at most.

Questions of an entry are not independent. A test has one value an entry: ``max_error`` less the share of its
answers that is wrong, whose mean is at most 0 under the null hypothesis. Then the wealth of one who bets on
these values is a supermartingale, and reaches 1 / p with probability p at most (Waudby-Smith and Ramdas 2024,
arXiv:2010.09686).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from producers import console, run_progress
from producers.calibrated_answers import CalibratedAnswers, Case
from producers.enqueue import option_checks
from shared import dataset, json_text, options
from shared.errors import InvalidOption, UserError
from shared.ledger import runs, votes
from shared.ledger.runs import Run
from shared.options import Abstention, Calibration, Sampling
from shared.vote_weights import UNLABELLED

LEVEL = 0.05  # the probability with which a wrong threshold may pass
LEARNING = (0, 1)  # the folds that ``max_error`` learns on
NOTHING = 1.0  # the threshold where nothing is answered
_LEAST = 20  # labelled entries
_STEPS = 20  # thresholds, and bets
_RIDGE = 1.0  # penalty of the squares of coefficients of standardized features, in nats
# What does not change votes, or is compared otherwise.
_FREE = {"batch", "weights_from", "language", "seed", "model", "votes_of", "weights", "calibration"}


def calibrate(name: str, labelled: Sequence[str], chosen: Mapping[str, Any]) -> Calibration:
    """Learn a calibration of a run on ``labelled`` runs, and record it in place of an earlier one.

    ``chosen`` are options of `Abstention`.

    Raises:
        InvalidOption: an option is invalid, or contradicts another.
        UserError: a run is unfinished, or a labelled one was answered in another way or has too few labels.
    """
    abstention = option_checks.filled(Abstention, {}, chosen)
    if abstention.abstain_below is not None and abstention.max_error is not None:
        raise InvalidOption("--max-error", "it cannot be given with --abstain-below")
    run, sources = _require(name), [_require(each) for each in dict.fromkeys(labelled)]
    for source in sources:
        _require_same(run, source)
    cases = [case for source in sources for case in CalibratedAnswers(source).cases()]
    entries = len({case.unit for case in cases})
    if entries < _LEAST:
        raise UserError(
            f"--from {','.join(labelled)}: right letters are needed in at least {_LEAST} entries, and there "
            f"are {entries} (without problems that the scorer or the adapter was trained on)"
        )
    parameters, threshold = learn(cases, abstention.max_error)
    calibration = Calibration.model_validate(
        {
            **abstention.model_dump(),
            "runs": [source.name for source in sources],
            "questions": len(cases),
            "entries": entries,
            "parameters": parameters,
            "threshold": abstention.abstain_below or threshold,
        }
    )
    if calibration.threshold == NOTHING:
        console.note("no threshold passes the test, so nothing is answered: more labelled entries may help")
    runs.set_option(name, "calibration", calibration.model_dump(mode="json"))
    return calibration


def _require(name: str) -> Run:
    run = run_progress.require_questions(name)
    run_progress.require_finished(name)
    if run.options.get("redo_of"):
        raise UserError(f"run {name!r} asks selected questions again, which are no fair sample")
    return run


def _require_same(run: Run, labelled: Run) -> None:
    """Refuse a labelled run that was answered in another way than the run."""
    mine, other = _combination(run), _combination(labelled)
    if differing := [each for each in {**mine, **other} if mine.get(each) != other.get(each)]:
        shown = "; ".join(
            f"its {each} is {json_text.shown(other.get(each))}, not {json_text.shown(mine.get(each))}"
            for each in differing[:5]
        )
        raise UserError(f"--from {labelled.name}: it was answered in another way than {run.name!r}: {shown}")


def _combination(run: Run, of: str = "") -> dict[str, Any]:
    """Give what a calibration is bound to: options, examples and models, also of the runs it votes over."""
    sampling, sources = Sampling.of_record(run.options), votes.count_sources(run.name)
    models = {(each.model, each.weights, each.adapter, each.scorer) for each in sources}
    found = {
        **sampling.model_dump(mode="json", exclude=_FREE),
        "examples": run.examples,
        "models": sorted(" ".join(filter(None, each)) for each in models),
        "run weights": [*(sampling.weights or {}).values()],
    }
    found = {f"{of}{option.replace('_', '-')}": value for option, value in found.items()}
    for number, name in enumerate(sampling.combined_runs or filter(None, [sampling.votes_of]), 1):
        found |= _combination(runs.get_run(str(name)), f"{of}voting run {number}: ")
    return found


def learn(
    cases: Sequence[Case], max_error: float | None = None
) -> tuple[tuple[tuple[float, ...], ...], float]:
    """Learn parameters by fold, and the threshold."""
    by_fold = [_fit([each for each in cases if each.fold != fold]) for fold in range(UNLABELLED + 1)]
    if max_error is None:
        return tuple(by_fold), 0.0
    split, threshold = bounded(cases, max_error)
    return tuple(each if fold in LEARNING else split for fold, each in enumerate(by_fold)), threshold


def bounded(cases: Sequence[Case], max_error: float) -> tuple[tuple[float, ...], float]:
    """Learn parameters on some folds, and test on the others down to which threshold they keep the bound."""
    split = _fit([case for case in cases if case.fold in LEARNING])
    scored = [(options.logistic(split, case.features), case) for case in cases]
    known = [each for each in scored if each[1].fold in LEARNING]
    new = [each for each in scored if each[1].fold not in LEARNING]
    scores = sorted(probability for probability, _ in known)
    thresholds = sorted({0.0, *(scores[len(scores) * step // _STEPS] for step in range(1, _STEPS))})
    # The most promising one, or the lowest of them, which answers most.
    first = min(thresholds, key=lambda threshold: p_value(known, threshold, max_error))
    passed = NOTHING
    for threshold in thresholds[thresholds.index(first) :: -1]:
        if p_value(new, threshold, max_error) > LEVEL:
            break
        passed = threshold
    return split, passed


def _fit(cases: Sequence[Case]) -> tuple[float, ...]:
    """Fit a logistic regression with a ridge penalty; a right and a wrong mean case are added."""
    try:
        import numpy as np
        from scipy import optimize, special
    except ImportError:
        raise UserError("a calibration needs SciPy: pip install 'votequeue[report]'") from None
    rows = np.array([case.features for case in cases])
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale[scale < 1e-9] = 1.0
    rows = np.vstack([(rows - mean) / scale, np.zeros((2, len(mean)))])
    signs = np.array([1.0 if case.right else -1.0 for case in cases] + [1.0, -1.0])

    def loss(values: Any) -> tuple[Any, Any]:
        margins = signs * (values[0] + rows @ values[1:])
        slopes = -signs * special.expit(-margins)
        gradient = np.concatenate(([slopes.sum()], slopes @ rows + _RIDGE * values[1:]))
        return np.logaddexp(0, -margins).sum() + _RIDGE * (values[1:] ** 2).sum() / 2, gradient

    values = optimize.minimize(loss, np.zeros(len(mean) + 1), jac=True, method="L-BFGS-B").x
    coefficients = values[1:] / scale
    return (float(values[0] - coefficients @ mean), *map(float, coefficients))


def p_value(scored: Sequence[tuple[float, Case]], threshold: float, max_error: float) -> float:
    """Test that less than ``max_error`` of the answers from a threshold on is wrong; each entry counts once.

    If every entry has one question, the exact binomial test is used, which needs fewer entries.
    """
    import numpy as np
    from scipy import stats

    wrong: defaultdict[str, list[bool]] = defaultdict(list)
    for probability, case in scored:
        if probability >= threshold:
            wrong[case.unit].append(not case.right)
    if not wrong:
        return 1.0
    # In an order that does not depend on what is tested.
    shares = [sum(wrong[unit]) / len(wrong[unit]) for unit in sorted(wrong, key=dataset.identity)]
    if len({case.unit for _, case in scored}) == len(scored):
        return float(stats.binom.cdf(sum(shares), len(shares), max_error))
    # The wealth is divided among gamblers who bet different shares of theirs, and cannot lose all of it.
    bets = np.arange(1, _STEPS + 1) / (_STEPS + 1) / (1 - max_error)
    logs = np.log1p(np.outer(bets, max_error - np.array(shares))).cumsum(axis=1)
    return float(min(1.0, 1 / np.exp(np.minimum(logs, 700)).mean(axis=0).max()))
