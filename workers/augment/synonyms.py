"""The strategy `synonym`: replace words by synonyms, offline.

    "甲到达车站。乙何时到达？"  ->  "甲抵达车站。乙何时抵达？"

The puzzle must stay the same. A word is replaced everywhere in an entry. Two words never become the same
word. Text that determines a letter is not changed.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from random import Random

from shared import answers
from shared.dataset import Entry, Question
from shared.errors import Refused
from shared.ledger.claims import Claim
from shared.options import Augmentation
from workers.augment import entry_builder, thesaurus
from workers.augment.entry_builder import Augmented
from workers.augment.services import Services
from workers.augment.thesaurus import Thesaurus

DICTIONARY = "cilin"
# An unclosed opening mark quotes the rest of its line.
QUOTED = re.compile(
    # Each stops at the next mark of its kind, so that a text of opening marks takes linear time.
    r"“[^“”]*”|‘[^‘’]*’|「[^「」]*」|『[^『』]*』|《[^《》]*》|【[^【】]*】|`[^`]*`|\"[^\"\n]*(?:\"|$)|'[^'\n]*(?:'|$)",
    re.MULTILINE,
)
# The word after one of these may be a given name or a form of address: 王老师, 小聪明, 阿勤奋.
_SURNAMES = frozenset(
    "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦许何吕张孔曹严魏陶姜谢邹章苏潘葛范彭鲁韦马苗方任袁柳唐罗薛雷贺汤殷"
    "毕郝常乐齐康余顾孟黄萧尹姚邵汪毛米戴宋熊董梁杜阮蓝季贾江郭梅林钟徐邱骆高夏蔡田樊胡霍万卢丁邓龚程陆段侯"
    "武刘龙叶黎白赖乔谭欧廖石易崔曾史陶洪俞倪翁聂焦古覃莫牛向辛颜柯施尤兰关岳涂小老阿"
)


def make(services: Services, claim: Claim, entry: Entry, options: Augmentation) -> Augmented:
    """Make the new entry of an item; raises as `replace`."""
    return replace(entry, options)


def replace(entry: Entry, options: Augmentation) -> Augmented:
    """Replace ``options.share`` of an entry's replaceable words, the same everywhere.

    Raises:
        Refused: no word can be replaced.
    """
    texts = _Texts(entry, thesaurus.load())
    rng = Random(f"{options.seed} {texts.whole}")
    chosen, replaceable = _choose(texts, options.share or 1.0, rng)
    if not chosen:
        raise Refused("no word of it has a safe synonym")
    questions = [_question(question, texts, chosen) for question in entry.questions]
    by = options.model_copy(update={"provider": None, "model": DICTIONARY, "prompt": None})
    new = entry_builder.new_entry(entry, by, texts.with_words(entry.problem, chosen), questions)
    pairs = ", ".join(f"{word} to {other}" for word, other in chosen.items())
    return Augmented(new, [], f"{len(chosen)} of {replaceable} replaceable words: {pairs}")


class _Texts:
    """All texts of an entry, segmented into words."""

    def __init__(self, entry: Entry, words: Thesaurus) -> None:
        texts = list(dict.fromkeys(_all(entry)))
        self.whole = "\n".join(texts)
        self._thesaurus = words
        self._cut = {text: words.words(text) for text in texts}

    def replaceable(self) -> dict[str, list[str]]:
        """Give the words that may be replaced, in order of appearance, with their synonyms."""
        quoted = "\n".join(QUOTED.findall(self.whole))
        names = self._names()
        counts = Counter(word for cut in self._cut.values() for word, _ in cut)
        replaceable = {}
        for word, tag in dict.fromkeys(pair for cut in self._cut.values() for pair in cut):
            synonyms = [
                synonym for synonym in self._thesaurus.synonyms(word, tag) if synonym not in self.whole
            ]
            # A string that occurs more often than as a word is part of other words, which would change too.
            alone = self.whole.count(word) == counts[word]
            if synonyms and alone and word not in quoted and word not in names:
                replaceable[word] = synonyms
        return replaceable

    def _names(self) -> str:
        guessed = [
            word
            for text in self._cut
            for word, tag in self._thesaurus.words(text, names=True)
            if thesaurus.is_name(tag)
        ]
        follow = [
            word
            for cut in self._cut.values()
            for (before, _), (word, _) in itertools.pairwise(cut)
            if before in _SURNAMES
        ]
        return "\n".join(guessed + follow)

    def with_words(self, text: str, chosen: Mapping[str, str]) -> str:
        """Give a text with its words replaced."""
        return "".join(chosen.get(word, word) for word, _ in self._cut[text])

    def segments_as_expected(self, chosen: Mapping[str, str]) -> bool:
        """Tell whether the new texts are segmented into the same words, except for those replaced."""
        for cut in self._cut.values():
            expected = [chosen.get(word, word) for word, _ in cut]
            if any(word in chosen for word, _ in cut) and expected != [
                word for word, _ in self._thesaurus.words("".join(expected))
            ]:
                return False
        return True


def _choose(texts: _Texts, share: float, rng: Random) -> tuple[dict[str, str], int]:
    replaceable = texts.replaceable()
    target = max(1, round(share * len(replaceable)))
    chosen: dict[str, str] = {}
    for word in rng.sample(list(replaceable), len(replaceable)):
        if len(chosen) < target:
            # Two words with the same meaning must not become the same word.
            unused = [synonym for synonym in replaceable[word] if synonym not in chosen.values()]
            candidates = ({**chosen, word: synonym} for synonym in unused)
            chosen = next((words for words in candidates if texts.segments_as_expected(words)), chosen)
    return chosen, len(replaceable)


def _question(question: Question, texts: _Texts, chosen: Mapping[str, str]) -> Question:
    def new(text: str) -> str:
        return texts.with_words(text, chosen)

    def reworded(reasoning: str) -> str:
        count = len(question.options)
        if answers.extract(new(reasoning), count) != answers.extract(reasoning, count):
            raise Refused("with its words replaced, a reasoning reads as another letter")
        return new(reasoning)

    return question.model_copy(
        update={
            "question": new(question.question),
            "options": [new(option) for option in question.options],
            "reasoning": None if question.reasoning is None else reworded(question.reasoning),
            "wrong": [
                wrong.model_copy(update={"reasoning": reworded(wrong.reasoning)}) for wrong in question.wrong
            ],
        }
    )


def _all(entry: Entry) -> Iterator[str]:
    yield entry.problem
    for question in entry.questions:
        yield question.question
        yield from question.options
        if question.reasoning is not None:
            yield question.reasoning
        for wrong in question.wrong:
            yield wrong.reasoning
