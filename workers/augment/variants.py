"""The strategy `variant`: a chat model writes a new question similar to an old one.

    Variants(gateway, chat_model, near_copies).write(claim, entry, options)
        ->  Augmented({"id": "p1#2~variant", ...}, [], "written once, 4 of 5 answers agree, nearest 0.91")

Models may write a wrong answer. So the same model answers the new question several times without its letter,
and the question is kept only if enough of those answers agree.
"""

from dataclasses import dataclass

from shared import answers, prompts
from shared.dataset import Entry, key
from shared.errors import Refused
from shared.jobs import Job
from shared.ledger import runs
from shared.ledger.claims import Claim
from shared.options import WRITES, Augmentation
from shared.prompts import FewShotExample, PromptQuestion
from workers.augment import entry_builder, variant_parser
from workers.augment.deduplication import NearCopies
from workers.augment.entry_builder import Augmented
from workers.augment.services import Services
from workers.augment.variant_parser import ParsedVariant, Unfit
from workers.gateway.gateway import Gateway
from workers.ports import ChatModel, Prompt


@dataclass(frozen=True)
class _Checked:
    """How many of the ``asked`` answers agree with a question's letter."""

    agree: int
    asked: int


def make(services: Services, claim: Claim, entry: Entry, options: Augmentation) -> Augmented:
    """Make the new entry of an item; raises as `Variants.write`."""
    if not (options.provider and options.model):
        raise Refused("the run does not say which chat model writes: enqueue it again")
    chat_model = services.chat_model(options.provider, options.model)
    return Variants(services.gateway, chat_model, services.near_copies).write(claim, entry, options)


class Variants:
    """Writes variants with one chat model; ``near_copies`` keeps the embeddings of runs."""

    def __init__(self, gateway: Gateway, chat_model: ChatModel, near_copies: NearCopies) -> None:
        self._gateway = gateway
        self._model = chat_model
        self._near_copies = near_copies

    def write(self, claim: Claim, entry: Entry, options: Augmentation) -> Augmented:
        """Write a variant of the question that a claim is for.

        Raises:
            Refused: no written variant can be kept; the message has the reasons.
            As `Gateway.chat`, except that a refused answer counts as disagreement.
        """
        gold = entry.questions[claim.question].answer
        if gold is None:
            raise Refused(
                f"{key(entry.id, claim.question)} has no answer, so no variant of it can be written"
            )
        task = _Task(claim.job, options, FewShotExample(runs.asked(entry, claim.question), "", gold))
        reasons = []
        # At temperature 0, a prompt gives the same reply again.
        for number in range(1, WRITES + 1 if task.temperature > 0 else 2):
            try:
                new, line = self._write(task, number)
            except Unfit as error:
                reasons.append(str(error))
                continue
            except Refused as error:
                reasons.append(str(error))
                break
            built = entry_builder.new_entry(entry, options, new.problem, [new.question], claim.question)
            return Augmented(built, [], f"written {'once' if number == 1 else f'{number} times'}, {line}")
        raise Refused("no variant can be kept: " + "; ".join(reasons))

    def _write(self, task: "_Task", number: int) -> tuple[ParsedVariant, str]:
        text = self._gateway.chat(
            task.job, f"variant:{number}", self._model, task.prompt(prompts.varying(task.solved))
        )
        new = variant_parser.read(text, task.reader)
        question = PromptQuestion(new.problem, new.question.question, tuple(new.question.options))
        # Checked before the answers, which cost more.
        near = self._near_copies.nearest(task.job.run, task.job.item, question)
        if near >= task.near_copy:
            raise Unfit(f"it is nearly a copy of an existing question (similarity {near:.3f})")
        checked = self._check(task, number, question, new.question.answer)
        if checked.agree < task.agree:
            raise Unfit(f"{checked.agree} of {checked.asked} answers gave its letter {new.question.answer}")
        return new, f"{checked.agree} of {checked.asked} answers agree, nearest {near:.3f}"

    def _check(self, task: "_Task", number: int, asked: PromptQuestion, letter: str | None) -> _Checked:
        prompt, agree, answered = task.prompt(prompts.answering(asked)), 0, 0
        while agree < task.agree <= agree + task.samples - answered:
            answered += 1
            step = f"check:{number}:{answered}"
            agree += self._letter(task, step, prompt, len(asked.options)) == letter
        return _Checked(agree, answered)

    def _letter(self, task: "_Task", step: str, prompt: Prompt, options: int) -> str | None:
        try:
            return answers.extract(
                self._gateway.chat(task.job, step, self._model, prompt), options, task.reader
            )
        except Refused:
            return None


class _Task:
    """The question that a variant is written from, and the run's options."""

    def __init__(self, job: Job, options: Augmentation, solved: FewShotExample) -> None:
        self.job = job
        self.solved = solved
        self.samples, self.agree = options.samples or 1, options.agree or 1
        self.near_copy = options.near_copy or 1.0
        self.reader = options.reader or answers.REFERENCE  # runs of older versions lack this option
        self.temperature = options.temperature or 0.0
        self._max_tokens = options.max_tokens or 1

    def prompt(self, text: str) -> Prompt:
        """Make a message with the run's temperature and length."""
        return Prompt(text, self._max_tokens, self.temperature)
