"""The retriever without a model: n-grams of characters."""

from shared.prompts import FewShotExample, PromptQuestion
from workers.models.lexical_retrieval import LexicalRetriever

PROBLEMS = [
    "五个人排队买票，甲在乙前面。",
    "每位老师教一门课，语文老师比数学老师年轻。",
    "五个人排队上车，丙在丁前面。",
    "Five people queue for tickets.",
]


def example(at: int, problem: str, question: str = "谁在最前面？") -> FewShotExample:
    return FewShotExample(PromptQuestion(problem, question, ("甲", "乙")), "因为如此。", "A", at)


EXAMPLES = [example(at, problem) for at, problem in enumerate(PROBLEMS)]


def nearest(asked: PromptQuestion, count: int = 2, same_problem: bool = False) -> list[int]:
    (found,) = LexicalRetriever(lambda _: EXAMPLES).nearest("d", [asked], count, same_problem)
    return [each.position for each in found]


def test_the_nearest_share_most_characters_in_order() -> None:
    assert nearest(PromptQuestion("七个人排队买票，乙在甲前面。", "谁在最前面？", ())) == [0, 2]
    assert nearest(PromptQuestion("数学老师教几门课？", "谁年轻？", ()), 1) == [1]
    assert nearest(PromptQuestion("How many people queue?", "Who is first?", ()), 1) == [3]


def test_a_question_is_never_shown_its_own_problem_unless_that_is_allowed_and_never_itself() -> None:
    itself = EXAMPLES[0].asked
    assert nearest(itself, 4) == [2, 1, 3]
    assert 0 not in nearest(itself, 4, same_problem=True)
    assert nearest(PromptQuestion(itself.problem, "谁在最后面？", ()), 1, same_problem=True) == [0]


def test_questions_without_a_problem_are_not_about_the_same_one() -> None:
    known = [PromptQuestion("", "哪一项正确？", options) for options in (("甲", "乙"), ("丙", "丁"))]
    examples = [FewShotExample(each, "因为如此。", "A", at) for at, each in enumerate(known)]
    (found,) = LexicalRetriever(lambda _: examples).nearest("d", [known[0]], 2, False)
    assert [each.position for each in found] == [1]


def test_equal_examples_come_in_the_order_of_the_file() -> None:
    twins = [example(at, "甲比乙高。") for at in range(5)]
    asked = PromptQuestion("丙比乙高。", "谁高？", ())
    (found,) = LexicalRetriever(lambda _: twins).nearest("d", [asked], 3, False)
    assert [each.position for each in found] == [0, 1, 2]


def test_without_examples_none_are_found_and_a_data_set_is_read_once() -> None:
    read: list[str] = []

    def load(digest: str) -> list[FewShotExample]:
        read.append(digest)
        return []

    retriever = LexicalRetriever(load)
    asked = [EXAMPLES[0].asked] * 2
    assert [retriever.nearest("d", asked, 2, False) for _ in range(2)] == [[[], []]] * 2
    assert read == ["d"]
