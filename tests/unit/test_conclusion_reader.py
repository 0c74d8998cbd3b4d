"""Which letter a text concludes with; in these tables it is B, unless they say otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import conclusion_reader


@pytest.mark.parametrize(
    "text",
    [
        "答案是：B",
        "甲比乙高。\n答案是:B",
        "答案是B",
        "因此，答案是 B: 第三名 第四名。",
        "答案：B",
        "答案为：B",
        "答案应为 B。",
        "答案应该是B",
        "那么答案就应该是B。",
        "答案毫无疑问是B",
        "答案选B",
        "答案（单选）：B",
        "答案=B",
        "正确答案是B",
        "最终答案：B",
        "故本题答案为B",
        "本题答案选择 B。",
        "这道题的答案是：B。",
        "我认为答案是：B",
        "应选 B",
        "本题选 B",
        "应该选B项",
        "故选B。",
        "因此选择B",
        "综上所述，选B。",
        "由此可知，应选择 B 选项。",
        "所以这道题应该选择B选项，也就是乙。",
        "因此，我选择 B。",
        "我选B，因为甲高。",
        "最终选择：B",
        "选B",
        "正确选项是B",
        "综上，正确的是B",
        "四个选项中正确的是：B。",
        "正确的选项为：B",
        "符合条件的选项是B",
        "结论：B",
        "更正：B",
        "应为B。",
        "所以，B是正确答案。",
        "選B。",
        "答案應為「B」",
        "正確答案是（B）",
        "答案無疑是B",
        "因此答案B正确。",
        "最终的答案就是B了。",
        "所以，只剩下B，故选B",
        "答えは「B」です。",
        "したがって、正解はBです。",
        "정답은 B입니다.",
    ],
)
def test_an_answer_is_stated_in_many_ways(text: str) -> None:
    assert conclusion_reader.letter(text) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "**答案是：B**",
        "**答案是**：**B**",
        "__答案是：B__",
        "答案是：`B`",
        "答案是：$B$",
        "答案是：\\boxed{B}",
        "答案是：$\\boxed{\\text{B}}$",
        "$$\\boxed{B}$$",
        "综上，\\boxed{\\text{B. 乙}}",
        "<|begin_of_box|>B<|end_of_box|>",
        "答案是：\\(B\\)",
        "答案是：\\textbf{B}",
        "答案是 $\\mathbf{B}$。",
        "答案是：{B}",
        "答案是：【B】",
        "答案是：〔B〕",
        "答案是『B』",
        "答案是：《B》",
        '答案是："B"',
        "答案是：‘B’",
        "「答案是：B」",
        "【答案】B",
        "答案：(B)。",
        "最后答案是： （ B ）",
        "答案是：——B",
        "答案是：\n\nB",
        "答案是：\n- B",
        "### 答案\nB",
        "## 最终答案\n\n**B. 乙**",
        "> 答案是：B",
        "1. 甲高。\n2. 答案：B",
        "答案是：b",
        "答案是：Ｂ．乙",
        "答案是：𝐁",
        "答案是：Ⓑ",
        "答案是：🅱",
        "答案是：⒝",
        "答\u200b案是：\ufeff\u2060B\u200b",
        "答案是:\u3000B",
        "答案是：选项B",
        "答案是选项 B：乙",
        "答案是：B选项",
        "答案是：B. 乙和丙",
        "答案是：B、乙",
        "答案是：B（乙）",
        "答案是：B - 乙",
        "答案是 B 第三名。",
        "答案是：B乙",
        "答案是：B 错误",
        "答案是：B是",
        "答案是：B正确",
        "答案：B ✅",
        "答案是：B<|im_end|>",
        "<p>答案是：<strong>B</strong></p><p>理由</p>",
        "答案是：B\r\n",
        "甲高。\\n答案是：B",
    ],
)
def test_decorations_and_words_around_the_letter_are_tolerated(text: str) -> None:
    assert conclusion_reader.letter(text) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "The answer is B.",
        "The answer is: B",
        "The correct answer is option B",
        "The correct answer is **B**.",
        "So the answer is (B) because Alice is taller.",
        "Hence the answer is B, not A.",
        "The answer, therefore, is B.",
        "The right answer is B) Bob.",
        "The correct option is B.",
        "Final answer: B",
        "**Answer:** B",
        "Answer:\nB",
        "Answer - B",
        "ANSWER: b",
        "The answer is b.",
        "The final answer is $\\boxed{B}$.",
        "I choose B.",
        "B is the correct answer.",
        "Therefore, option B is correct.",
        "<answer> B </answer>",
    ],
)
def test_english_is_read(text: str) -> None:
    assert conclusion_reader.letter(text) == "B"


@pytest.mark.parametrize(
    "text",
    [
        '{"answer": "B"}',
        '{"answer": "B. 甲"}',
        '{"final_answer": "（B）"}',
        '{"答案": "B"}',
        '{"answer": ["B"]}',
        "{'answer': 'B'}",
        '{"result": {"answer": "B"}}',
        '{"reasoning": "甲\n乙", "answer": "B"}',
        '{"answer": "B", "reasoning": "先试A。答案是：A 不行"}',
        '```json\n{"answer": "B"}\n```',
        '分析：答案是：A，不对。\n```json\n{"answer": "B", "why": "答案是：A 与条件矛盾"}\n```\n完。',
    ],
)
def test_the_answer_of_a_json_object_is_read(text: str) -> None:
    assert conclusion_reader.letter(text) == "B"


@pytest.mark.parametrize("value", ['["A", "C"]', "null", '"A或B"', '"none"', "1", '"乙"', "{}"])
def test_the_answer_of_a_json_object_may_be_no_letter(value: str) -> None:
    assert conclusion_reader.letter(f'{{"answer": {value}}}') is None


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "(B)",
        "b",
        "**B**。",
        "选项B",
        "Option B.",
        "B. 乙",
        "B，因为甲最高。",
        "B\n\n解析：甲比乙高。",
        "甲比乙高，乙比丙高。\n\n**B**",
        "推理完毕。\n\n**B. 乙**",
    ],
)
def test_a_line_that_is_the_letter_is_read(text: str) -> None:
    assert conclusion_reader.letter(text) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "A. 甲\nB. 乙\nC. 丙",
        "A\nB\nC\nD",
        "选项：A. 甲 B. 乙 C. 丙",
        "选项：\nA. 甲\nB. 乙",
        "答案是：\nA. 甲\nB. 乙",
        "甲高。\nA. 甲\nB. 乙",
        "答案是：B\n\nA",
    ],
)
def test_a_list_of_options_or_a_contradiction_is_no_answer(text: str) -> None:
    assert conclusion_reader.letter(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "先假设答案是：A，但这与条件3矛盾，所以不成立。\n\n答案是：B",
        "暂时答案是：无法确定。再看条件二……\n答案是：B",
        "答案是：A不可能，应为B。\n答案是：B",
        "答案是：A。更正：答案是：B",
        "答案是：A。更正：B",
        "答案是：A。抱歉，我弄错了，答案应该是B。",
        "初步答案是：A。最终答案是：B",
        "答案不可能是A，因为……所以答案是B。",
        '{"answer": "A"}\n更正：{"answer": "B"}',
        "~~答案是：A~~ 答案是：B",
        "最初我以为答案是A，但检查后发现答案是B。",
        "题目给出的答案是：A。但按条件推理，乙最高。答案是：B",
        "你给出的答案是：A，我认为应选B。",
        "题目说答案是：A，其实应该是B。",
        "如果选A，则矛盾；如果选C，也矛盾。所以选B。",
        "因此不能选A，应选B。",
        "不是A，答案是：B",
        "答案不是A，也不是C，答案是B。",
        "由 \\boxed{A} 与条件矛盾……答案是：B",
        "所以数值为 \\boxed{3}，答案是：B",
        "Suppose the answer is A. That fails. The answer is B.",
        "The given answer is A. However, it contradicts clue 2. The correct answer is B.",
        "The answer is A. Wait, that contradicts clue 2. The answer is B.",
        "The answer is not A. The answer is B.",
        "答案是：A\n\n### 问题分析\n重新看……\n更正：答案是：B",
    ],
)
def test_the_last_statement_counts(text: str) -> None:
    assert conclusion_reader.letter(text) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "答案是：B而不是A",
        "答案是：B；A错误",
        "答案是：B（不是A）",
        "答案是：B。选A的话会与条件2矛盾。",
        "答案是：B. 无法确定",
        "答案是：B。选项A错误，选项C不符合条件。",
        "答案是：B，因为其他选项都与条件矛盾。",
        "答案是：B，但其他选项也值得注意，它们错误在于顺序。",
        "答案是：B。这与条件一不矛盾。",
        "答案是：B。这是因为选项A错误。",
        "答案是：B。虽然A看起来对。",
        "答案是：B\n\n验证：如果答案是A，则矛盾。",
        "答案是：B\nC. 丙不对",
        "答案：B\n解析：甲比乙高，选项A错误，选项C错误。",
        "**答案是：B**\n\n---\n\n### 推理过程\n甲比乙高，乙比丙高。",
        "### 推理过程\n甲比乙高。\n\n---\n\n**答案是：B**",
        "### 题目理解\n三个人比身高。\n答案是：B",
        "### 题目\n甲乙丙。\n### 问题\n谁最高？\n### 推理\n乙最高。\n答案是：B",
        "| 甲 | 乙 |\n|---|---|\n| 1 | 2 |\n\n答案是：B",
        "答案是：B。\n\n如有疑问请告诉我。",
    ],
)
def test_what_stands_around_an_answer_does_not_change_it(text: str) -> None:
    assert conclusion_reader.letter(text) == "B"


@pytest.mark.parametrize(
    "heading",
    [
        "### 题目",
        "题目：丙丁比身高。",
        "**题目2**：丙丁比身高。",
        "下一题：",
        "第2题",
        "### 问题\n谁高？",
        "Question 2: ...",
    ],
)
def test_an_answer_to_a_next_problem_is_not_read(heading: str) -> None:
    assert conclusion_reader.letter(f"乙高。\n答案是：B\n\n{heading}\n丙比丁高。\n答案是：C") == "B"


@pytest.mark.parametrize(
    "text",
    [
        "答案是：A或B",
        "答案是：A、C",
        "答案是：AC",
        "答案是：A/B",
        "答案是：A,B",
        "答案是：A B",
        "答案是：A和B都对",
        "答案是：**A**、**C**",
        "答案是：(A)和(C)",
        "答案是：A & C",
        "答案是：A-C",
        "答案是：A（或B）",
        "答案是：A；B",
        "答案是：A\nC\n（两个都对）",
        "答案是A、B、C中的一个",
        "答案是A还是B？",
        "我认为答案是A或者B",
        "符合条件的选项是A和B",
        "因此A和B正确。",
        "选项B正确。选项C正确。",
        "\\boxed{A,C}",
        "The answer is A or B.",
        "The answer is either A or B.",
        "Answers: A, B",
        "A/B",
    ],
)
def test_two_letters_are_none(text: str) -> None:
    assert conclusion_reader.letter(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "给出的答案是：B。但按条件推理，与它不符。",
        "题目给出的答案是：B。",
        "题目提供的答案：B。经推理，它是错误的。",
        "假设答案是：A，则甲是骑士，矛盾。",
        "如果答案是A，那么甲在说谎。",
        "答案是：A吗？",
        "答案是：A？不对。",
        "答案是：A不对",
        "答案是：A，但这与条件三矛盾。",
        "这道题的答案是：B。但这与条件不符。",
        "暂时答案是：A。再看，答案是：无法确定",
        "之前说答案是A，这是错的。",
        "甲的答案是：A；乙的答案是：B。",
        "难道答案是A？",
        "不是A就是B。",
        "答案可能是A",
        "也许答案是：A",
        "既可能是A也可能是B",
        "错误的答案是A",
        "答案不是：A，而是B",
        "不能选A。",
        "因此，B选项错误。",
        "选项A正确吗？",
        "The answer is not A.",
        "The answer is A. Wait, that contradicts clue 2.",
    ],
)
def test_what_is_supposed_repeated_doubted_or_taken_back_is_no_answer(text: str) -> None:
    assert conclusion_reader.letter(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "甲最高",
        "答案是：",
        "答案是：乙",
        "答案是：1",
        "答案是：无法确定",
        "答案是：以上都不对",
        "答案是：А",  # Cyrillic
        "答案是：Α",  # Greek
        "答案是：A1",
        "答案是：A=3",
        "答案是：A > B > C",
        "答案是：A同学",
        "答案是A队",
        "答案是 A 比 B 高。",
        "答案在A和B之间",
        "选项A说甲最高，选项B说乙最高；由条件一，甲不是最高的。",
        "甲选A，乙选B。",
        "甲必须选A课程，乙必须选B课程。",
        "我们选A作为起点。",
        "把A改为B，则成立。",
        "最高的人应为B。",
        "命题A成立，命题B不成立。",
        "A比B高，B比C高。",
        "The answer is All of the above",
        "answer: none of them",
        "Answer is a mystery",
        "The answer is a",
        "The answer is A matter of taste.",
        "I think a is taller than b.",
        "It cannot be decided which of A or B is right.",
        "<think>也许答案是：A，但还要检查",
    ],
)
def test_prose_that_names_letters_is_no_answer(text: str) -> None:
    assert conclusion_reader.letter(text) is None


def test_thinking_is_not_read() -> None:
    assert conclusion_reader.letter("<think>题目说答案是：A？不对。</think>\n乙高。\n答案是：B") == "B"
    assert conclusion_reader.letter("答案是：A，再检查</think>由条件二得 \\boxed{B}") == "B"


@pytest.mark.parametrize(
    "line",
    [
        "答案是：B",
        "**答案是：B. 乙**",
        "因此，答案是:B。",
        "所以答案是：B。",
        "故选B。",
        "The answer is B.",
        "**B**",
    ],
)
def test_a_line_may_be_nothing_but_a_statement(line: str) -> None:
    assert conclusion_reader.is_statement(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "---",
        "甲比乙高。",
        "甲比乙高，答案是：B",
        "答案解析：甲比乙高。",
        "答案是：B，因为甲比乙高。",
        "答案是：B。甲比乙高，乙比丙高。",
    ],
)
def test_a_line_that_says_more_is_not(line: str) -> None:
    assert not conclusion_reader.is_statement(line)


# English


@pytest.mark.parametrize(
    "text",
    [
        "the answer is (B)",
        "Answer: (B)",
        "Answer: B",
        "**Answer: B**",
        "\\boxed{B}",
        "$\\boxed{\\text{B}$",
        "So the answer is B",
        "Therefore, the correct answer is (B).",
        "Thus the correct choice is B.",
        "The best answer is B.",
        "Option B is correct.",
        "Option (B) is the correct answer.",
        "Hence, (B) is correct.",
        "(B) is the correct answer.",
        "Choice B is correct.",
        "The correct answer is: **B**",
        "The correct answer is option (B): Bob.",
        "The answer must be B.",
        "I would choose option B.",
        "We choose (B).",
        "My answer is B.",
        "Final Answer: B",
        "### Final Answer\n\n(B)",
        "Final answer: **B) Bob**",
        "The final answer is: $\\boxed{B}$",
        "Answer: B. Alice is taller",
        "Answer:\n\nB",
        "Correct answer: B",
        "The correct option is (B).",
        "Therefore B is the answer.",
        "So B is the right answer.",
        "B.",
        "The answer is therefore B.",
        "The answer is thus (B).",
        "So our answer is B.",
        "The answer would be B.",
        "Therefore, the answer is B because A contradicts condition 3.",
        "A is wrong, C is wrong, D is wrong. The answer is B.",
        "If the answer were A, then Bob would lie. So the answer is B.",
        "Suppose the answer is A. This contradicts. Hence the answer is B.",
        "Let's check A: is the answer A? No. The answer is B.",
        "The answer is A... wait, that contradicts condition 2. The answer is B.",
        "A is a knight. The answer is B.",
        "The only option that works is B.",
        "The correct answer to this question is B.",
        "Thus, the correct answer is indeed B.",
        "The answer is clearly B.",
        "The answer is most likely B.",
        "The answer is [B].",
        'The answer is "B".',
        "Answer = B",
        "ANSWER: B",
        "Answer is B",
        "The statement that must be true is option B.",
        "Therefore, option B must be true.",
        "Therefore, the option that must be true is B.",
        "Thus, the correct option is:\n\nB) Bob",
        "Therefore, the answer is:\n(B) Bob is tall",
        "Hence the correct answer is choice B.",
        "<answer>B</answer>",
        "The letter of the correct answer is B.",
        "The correct letter is B.",
        "Selected option: B",
        "So I pick B.",
        "So we select option B.",
        "Therefore, the answer is B, which states that A is a liar.",
        "The answer is B, since A and C are false.",
        "The answer is B: A implies C.",
        "the answer is b.",
        '{"answer": "B"}',
        "Given the conditions, the answer is (B).",
        "From the given facts, the answer is B.",
        "As stated in condition 3, the answer is B.",
        "It is not possible otherwise, so the answer is B.",
        "If Bob is tall, then Carol is short, so the answer is B.",
        "The answer is simply B.",
        "The answer is, therefore, B.",
        "The answer is likely to be B.",
    ],
)
def test_an_english_conclusion_is_read(text: str) -> None:
    assert conclusion_reader.letter(text) == "B"
    assert conclusion_reader.letter(f"Alice is taller than Bob.\n{text}") == "B"


@pytest.mark.parametrize(
    "text",
    [
        "The answer is a knight.",
        "The answer is A knight or a knave.",
        "A knight always lies",
        "A is taller than B.",
        "If the answer is A, then Bob lies.",
        "The answer is not (A).",
        "The answer cannot be A.",
        "The answer can't be A.",
        "The answer isn't A.",
        "The answer isn't (A).",
        "The answer is clearly not A.",
        "The answer is certainly a knight",
        "The answer is A and B.",
        "The answer is unclear.",
        "The answer is none of the above.",
        "Is the answer A?",
        "The answer is A? No.",
        "The answer might be A.",
        "The answer may be A.",
        "The answer could be A.",
        "Perhaps the answer is A.",
        "It is not true that the answer is A.",
        "Suppose the answer is A.",
        "Assume the answer is A.",
        "Option A is incorrect.",
        "A is not correct.",
        "A is not the correct answer.",
        "Option A cannot be the correct answer.",
        "The answer A is wrong.",
        "The answer is A is wrong.",
        "The answer is A, but this contradicts condition 3.",
        "Bob's answer is A.",
        "The student answered A.",
        "The problem says the answer is A.",
        "The wrong answer is A.",
        "The incorrect option is A.",
        "Unless the answer is A",
        "The answer is a.",
        "The answer is a person",
        "Answer: A man walks",
        "The answer is I think",
        "The answer is A's brother",
        "I don't know.",
        "To find the answer, a careful analysis is needed",
        "The answer is in A's statement.",
        "The answer depends on A.",
        "We need the answer. A is first.",
        "It would be wrong to say the answer is A.",
        "I doubt that the answer is A.",
        "Whether the answer is A or not is unknown",
        "Neither A nor B is the answer",
        "Neither A nor B is the correct answer.",
        "The answer is Alice.",
        "Answer: All of them",
        "The answer is A-frame",
        "If A is the correct answer, B lies.",
        "So is A the answer?",
        "Let's see if option A is correct.",
        "It's false that the answer is A.",
        "I don't think the answer is A.",
        "We can't conclude that the answer is A.",
    ],
)
def test_an_article_a_name_a_doubt_or_a_condition_is_no_english_conclusion(text: str) -> None:
    assert conclusion_reader.letter(text) is None


STATED = [
    "The answer is: {}",
    "So the answer is ({}).",
    "**Answer: {}**",
    "Therefore, option {} is correct.",
    "\\boxed{{{}}}",
]
REFUTED = [
    "If the answer is {}, then Bob lies.",
    "The answer is not {}.",
    "The answer cannot be {}.",
    "Option {} is incorrect.",
    "Suppose the answer is {}.",
    "Bob's answer is {}.",
]


@given(
    st.sampled_from(STATED),
    st.lists(st.sampled_from(REFUTED), max_size=4),
    st.permutations("ABCDE"),
)
def test_the_letter_stated_is_read_whatever_was_supposed_or_refuted_before(
    stated: str, refuted: list[str], letters: list[str]
) -> None:
    others = [letter for letter in letters if letter != letters[-1]]
    before = [text.format(letter) for text, letter in zip(refuted, others, strict=False)]
    text = "\n".join([*before, stated.format(letters[-1])])
    assert conclusion_reader.letter(text) == letters[-1]
    assert conclusion_reader.letter("\n".join(before)) is None
