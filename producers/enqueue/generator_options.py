"""Options of `enqueue infer` that depend on the generator, and their checks.

    fitted(Sampling(generator="openai", provider="local"), {"generator": "openai", ...})
        ->  Sampling(generator="openai", provider="local", model="Qwen2.5-...", scorer="none", ...)

As in `option_checks`, no service is called here.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from producers.enqueue import option_checks
from shared import model_store, prompt_files, settings
from shared.errors import InvalidOption
from shared.generators import GENERATORS, LEXICAL, STATIC, Generator
from shared.ledger import models
from shared.options import Sampling
from shared.providers import PROVIDERS, embedding_service
from shared.voices import VOICES

if TYPE_CHECKING:
    from shared.ledger.runs import Run

_TRAINED = {
    "scorer": "score the votes of the finished run with `votequeue enqueue infer RUN --scorer NAME`",
    "lora": "serve the adapter as a model, and name it with --model",
}
_DEPENDENT = ("provider", "model", "retriever", "scorer", "lora")


def fitted(sampling: Sampling, given: Mapping[str, Any]) -> Sampling:
    """Fill in the options that depend on the generator; ``given`` are those that the user chose.

    Raises:
        InvalidOption: an option does not apply to the generator, or is missing.
    """
    generator = GENERATORS[sampling.generator]
    _check_vote_budget(sampling)
    if sampling.first_wave is not None and sampling.stop != "exact" and sampling.vote_budget is None:
        raise InvalidOption("--first-wave", "it needs --stop exact or --vote-budget")
    if sampling.examples_per == "entry" and sampling.same_problem:
        raise InvalidOption(
            "--examples-per", "entry needs --no-same-problem: examples of an entry could be its own questions"
        )
    if sampling.vary == "examples" and not sampling.num_examples:
        raise InvalidOption("--vary", "examples needs solved examples in the prompts: --num-examples 2")
    _check_retriever(sampling.retriever or "")
    changes = _called(sampling) if generator.calls_provider else _uncalled(generator, given)
    _check_voices(sampling, given)
    if not generator.torch:
        changes |= _without_torch(generator, sampling, given)
    elif sampling.prompt_style == prompt_files.CHAT:
        _require_chat_template(sampling, "--prompt-style", "use completion")
    return sampling.model_copy(update=changes)


def _check_voices(sampling: Sampling, given: Mapping[str, Any]) -> None:
    asked = [VOICES[name] for name in sampling.votes_by_voice]
    if given.get("repair") and not any(voice.executor for voice in asked):
        raise InvalidOption("--repair", "it needs votes that are programs: --voices program=2")
    if sampling.stop.startswith("agreement") and (len(asked) < 2 or not _knows_agreement(sampling)):
        raise InvalidOption(
            "--stop",
            "an agreement needs two voices or more, and --weights-from RUN or a scorer of such votes",
        )
    for voice in asked:
        voice.require_package()
        if voice.chats and GENERATORS[sampling.generator].torch:
            _require_chat_template(sampling, "--voices", f"leave out {voice.name}")


def _knows_agreement(sampling: Sampling) -> bool:
    """Tell whether it was learned how often agreeing first votes are right, from runs or with the scorer."""
    return sampling.weights_from is not None or models.weighed(sampling).agreement is not None


def _check_vote_budget(sampling: Sampling) -> None:
    budget, most = sampling.vote_budget or 0.0, sampling.votes
    if (sampling.vote_budget is None) != (sampling.budget_from is None):
        raise InvalidOption("--vote-budget", "it needs --budget-from RUN, and --budget-from needs it")
    if not budget:
        return
    if budget >= most:
        problem = f"it must be below the most votes per question and round, {most}"
        raise InvalidOption("--vote-budget", problem)
    if (sampling.first_wave or 1) > budget:
        raise InvalidOption("--first-wave", f"it exceeds the vote budget, {budget:g}")
    if sampling.stop != "never":
        raise InvalidOption("--stop", "--vote-budget ends rounds by itself: leave it out")
    if sampling.scorer == models.FOLLOW:
        raise InvalidOption("--scorer", "--vote-budget is learned for one scorer: name it")


def changes(origin: Mapping[str, Any], chosen: Sampling, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give what differs from the recorded options of a run whose questions are asked again.

    The run's generator, provider, model and retriever are kept, unless they are ``given``. Another
    generator takes its provider from ``chosen``, as in a new run.

    Raises:
        InvalidOption: as `fitted`.
    """
    before = Sampling.of_record(origin)
    update = {name: getattr(chosen, name) for name in given}
    if {"votes", "voices"} & given.keys():
        update |= {"votes": chosen.votes, "voices": chosen.voices}
    if chosen.generator != before.generator and "generator" in given:
        update |= {name: getattr(chosen, name) for name in ("provider", "model")}
        if before.retriever == STATIC:
            update.setdefault("retriever", None)
    elif chosen.provider != before.provider and "provider" in given:
        update.setdefault("model", None)
    sampling = fitted(before.model_copy(update=update), given)
    return update | {name: getattr(sampling, name) for name in _DEPENDENT}


def check_budget(run: "Run", budget: float | None) -> None:
    """Refuse a budget for a run that costs nothing.

    Raises:
        InvalidOption: its generator calls no provider.
    """
    if budget is not None and not run.calls_services:
        raise InvalidOption("--budget", f"generator {run.options['generator']} costs nothing")


def _require_chat_template(sampling: Sampling, option: str, instead: str) -> None:
    """Refuse a chat with a model whose tokenizer is on this machine and has no chat template."""
    loaded = settings.load()
    model = sampling.model or loaded.model
    folder = model_store.find_tokenizer(model, loaded.cache)
    if folder is not None and not model_store.has_chat_template(folder):
        raise InvalidOption(option, f"{model} has no chat template: {instead}")


def _called(sampling: Sampling) -> dict[str, Any]:
    able = [name for name, provider in PROVIDERS.items() if provider.samples]
    if sampling.provider not in able:
        problem = f"{sampling.provider!r} samples no votes; " if sampling.provider else ""
        raise InvalidOption("--provider", f"{problem}choose one of: {', '.join(able)}")
    loaded = settings.load()
    model = loaded.model if "model" in loaded.model_fields_set else None  # as workers do
    return {"model": sampling.model or model or option_checks.default_model(sampling.provider, "chats")}


def _uncalled(generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
    if "provider" in given:
        raise InvalidOption(
            "--provider", f"generator {generator.name} calls no provider: use --generator openai"
        )
    return {"provider": None}


def _check_retriever(name: str) -> None:
    service = embedding_service(name)
    if service and not (PROVIDERS[service[0]].embedder and service[1]):
        able = " or ".join(f"{name}:MODEL" for name, provider in PROVIDERS.items() if provider.embedder)
        raise InvalidOption("--retriever", f"{name} names no model with embeddings: use {able}")


def _without_torch(generator: Generator, sampling: Sampling, given: Mapping[str, Any]) -> dict[str, Any]:
    reason = f"needs torch, which workers with generator {generator.name} do not have"
    for name, instead in _TRAINED.items():
        if given.get(name, models.NONE) != models.NONE:
            raise InvalidOption(f"--{name}", f"a {name} {reason}: {instead}")
    if sampling.retriever == STATIC:
        raise InvalidOption("--retriever", f"{STATIC} {reason}: use {LEXICAL}")
    return {"scorer": models.NONE, "lora": models.NONE, "retriever": sampling.retriever or LEXICAL}
