"""Results of programs and the options that they match.

read(Execution("最大的是 3.0\\n"), ["1 人", "3 人"])  ->  ("B", "result")
"""

import string
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.result_reader import Execution, read

YES_NO = ["是", "否"]
PEOPLE = ["甲", "乙", "丙"]
MATCHED = [
    # letters
    ("B", PEOPLE, "B"),
    ("（Ｂ）", PEOPLE, "B"),
    ("B.", PEOPLE, "B"),
    ("选项B", PEOPLE, "B"),
    ("答案是：B", PEOPLE, "B"),
    ("答案： B", PEOPLE, "B"),
    ("The answer is B", PEOPLE, "B"),
    ("Option C", PEOPLE, "C"),
    ("B. 乙", PEOPLE, "B"),
    ("B：乙", PEOPLE, "B"),
    ("['B']", PEOPLE, "B"),
    ("正在检查 A\nB", PEOPLE, "B"),
    # tests of each option
    ("A False\nB True\nC False", PEOPLE, "B"),
    ("A: False\nB: False\nC: True", PEOPLE, "C"),
    ("{'A': False, 'B': True, 'C': False}", PEOPLE, "B"),
    ("[('A', True), ('B', False), ('C', False)]", PEOPLE, "A"),
    # numbers
    ("3", ["1", "3"], "B"),
    ("3.0", ["1", "3"], "B"),
    ("１２", ["12", "13"], "A"),
    ("1000", ["1,000元", "100元"], "A"),
    ("12.5", ["12.5 米", "12 米"], "A"),
    ("5 km", ["5 m", "5 km"], "B"),
    ("0.13999999999999999", ["0.06", "0.14", "0.2"], "B"),
    ("2.9999999999999996", ["2", "3"], "B"),
    ("3.14159", ["3.14", "3.15"], "A"),
    ("3.14", ["3.1416", "3.2"], "A"),
    ("50.0", ["40%", "50%"], "B"),
    ("0.5", ["40%", "50%"], "B"),
    ("0.3333333333333333", ["1/3", "1/2"], "A"),
    ("1/3", ["0.33", "0.5"], "A"),
    ("-4", ["4", "-4"], "B"),
    ("1e-05", ["0.00001", "0.0001"], "A"),
    ("100000000000000000000", ["1e20", "1e21"], "A"),
    ("最多： 7 个", ["6个", "7个"], "B"),
    ("x = 5", ["4", "5"], "B"),
    # lists and sets
    ("[1, 2, 3]", ["[3, 2, 1]", "[1，2，3]"], "B"),
    ("(1, 2, 3)", ["[3, 2, 1]", "[1，2，3]"], "B"),
    ("[1.0, 2.0]", ["1、2", "2、1"], "A"),
    ("['Silvia', 'Julio', 'Pablo']", ["Julio, Silvia, Pablo", "Silvia, Julio, Pablo"], "B"),
    ("['Demoen', 'Holvoet']", ["Moens和Holvoet", "Holvoet和Demoen"], "B"),
    ("{2, 1}", ["{1，2}", "{1}"], "A"),
    ("frozenset({1, 2})", ["{1，2}", "{1}"], "A"),
    ("deque([1, 2])", ["[2, 1]", "[1, 2]"], "B"),
    ("[[1, 2], [3]]", ["[[1], [2, 3]]", "[[1，2]，[3]]"], "B"),
    ("('甲', '丙')", ["甲和乙", "甲和丙"], "B"),
    ("甲 -> 乙 -> 丙", ["丙→乙→甲", "甲→乙→丙"], "B"),
    ("第三名 第四名", ["第一名 第三名", "第三名 第四名"], "B"),
    ("1 2 3", ["1, 2, 3", "3, 2, 1"], "A"),
    ("甲\n丙", ["甲和乙", "甲和丙"], "B"),
    ("{'x': 2, 'y': 3}", ["x=3, y=2", "x=2, y=3"], "B"),
    ("[]", ["[]", "[1]"], "A"),
    ("set()", ["空集", "{1}"], "A"),
    ("[]", ["甲", "没有"], "B"),
    ("Result: ['a', 'b']", ["b, a", "a, b"], "B"),
    # yes and no
    ("True", YES_NO, "A"),
    ("False", YES_NO, "B"),
    ("no", YES_NO, "B"),
    ("是", ["错误", "正确"], "B"),
    ("不正确", ["对", "错"], "B"),
    ("True", ["No", "Yes"], "B"),
    ("True", ["不喜欢", "喜欢"], "B"),
    ("False", ["不喜欢", "喜欢"], "A"),
    ("True", ["是，因为甲比乙高", "否，因为乙比甲高", "无法判断"], "A"),
    ("Harry 是巫师： True", ["是", "不是"], "A"),
    ("不是英国人", YES_NO, "B"),
    ("没有 3 种方法", YES_NO, "B"),
    ("Not enough", ["yes", "no"], "B"),
    ("是英国人", YES_NO, "A"),
    ("可以到达", YES_NO, "A"),
    ("否", ["是的", "不是  \n\\n"], "B"),
    # texts
    ("Bob", ["Alice", "bob"], "B"),
    ("'Bob'", ["Alice", "Bob"], "B"),
    ("最高的人是 Bob", ["Alice", "Bob"], "B"),
    ("le chat sauts sur le lune", ["le chat saute sur la lune", "le chat sauts sur le lune"], "B"),
    ("乙", ["A. 甲", "B. 乙"], "B"),
    ("答案是：只有当他是军士时", ["是", "否", "只有当他是军士时"], "C"),
]
UNMATCHED = [
    ("4", ["1", "3"]),
    ("3.7", ["3", "4"]),
    ("2.5", ["2.53", "2.6"]),
    ("5 m", ["5 km", "6 m"]),
    ("D", PEOPLE),
    ("b", PEOPLE),
    ("A\nC", PEOPLE),
    ("['A', 'C']", PEOPLE),
    ("A True\nB True\nC False", PEOPLE),
    ("A False\nB False\nC False", PEOPLE),
    ("A True", PEOPLE),
    ("X: True\nY: False\nZ: False", PEOPLE),
    ("答案不是 B", PEOPLE),
    ("是否相等", YES_NO),
    ("英国人", YES_NO),
    ("不是英国人", ["是", "否", "不一定"]),
    ("The answer is not B", PEOPLE),
    # A letter that is the text of another option says nothing.
    ("C", ["C", "D", "A"]),
    # Two options match.
    ("3", ["3", "3.0"]),
    ("True", ["对", "正确", "错"]),
    ("None", ["无", "甲"]),
    ("甲", ["甲", "甲"]),
    # The last line must not be taken for the whole list.
    ("甲\n乙", ["甲", "乙", "甲和乙"]),
    ("Alice\nBob", ["Alice", "Bob"]),
    ("不知道", PEOPLE),
    ("<function f at 0x7f00>", PEOPLE),
    ("答案是：", PEOPLE),
]


@pytest.mark.parametrize(("output", "options", "letter"), MATCHED)
def test_what_is_printed_last_matches_one_option(output: str, options: list[str], letter: str) -> None:
    assert read(Execution(f"{output}\n"), options)[0] == letter


@pytest.mark.parametrize(("output", "options"), UNMATCHED)
def test_a_result_of_no_or_several_options_has_no_letter(output: str, options: list[str]) -> None:
    assert read(Execution(f"{output}\n"), options) == (None, "no option")


@pytest.mark.parametrize(
    ("execution", "read_as"),
    [
        (Execution("B\n"), ("B", "letter")),
        (Execution("乙\n"), ("B", "result")),
        (Execution(""), (None, "silent")),
        (Execution("\n  \n"), (None, "silent")),
        (Execution("B\n", "NameError", "name 'x' is not defined"), (None, "NameError")),
        (Execution("B\n", "time"), (None, "time")),
    ],
)
def test_a_reading_says_how_the_program_ended(execution: Execution, read_as: tuple[str | None, str]) -> None:
    assert read(execution, PEOPLE) == read_as


NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3))
)
NAMES = st.text("甲乙丙丁戊己庚辛" + string.ascii_lowercase, min_size=2, max_size=6)
LISTS = st.lists(NAMES, min_size=2, max_size=5, unique=True)
SEPARATORS, BRACKETS = (
    st.sampled_from([", ", "，", "、", "，  ", "; "]),
    st.sampled_from(["[]", "()", "（）", "{}", "【】", ("", "")]),
)


@given(st.lists(NUMBERS, min_size=2, max_size=5, unique=True), st.data())
def test_any_printed_number_is_the_option_that_it_equals(numbers: list[float], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(numbers) - 1))
    assume(all(abs(number - numbers[at]) > 0.01 for number in numbers if number != numbers[at]))
    unit = data.draw(st.sampled_from(["", "元", " 米", "km"]))
    letter, outcome = read(Execution(f"{float(numbers[at])}\n"), [f"{number}{unit}" for number in numbers])
    assert (letter, outcome) == ("ABCDE"[at], "result")


@given(st.lists(LISTS, min_size=2, max_size=4), st.data(), SEPARATORS, BRACKETS)
def test_any_printed_list_is_the_option_with_its_items(
    lists: list[list[str]], data: st.DataObject, separator: str, brackets: str
) -> None:
    assume(len({tuple(sorted(each)) for each in lists}) == len(lists))
    options = [f"{brackets[0]}{separator.join(each)}{brackets[1]}" for each in lists]
    at = data.draw(st.integers(0, len(lists) - 1))
    assert read(Execution(f"{lists[at]}\n"), options)[0] == "ABCD"[at]
    assert read(Execution(f"{data.draw(st.permutations(lists[at]))}\n"), options)[0] in ("ABCD"[at], None)


@given(st.text(max_size=200), st.lists(st.text(max_size=30), min_size=2, max_size=5))
def test_any_output_gives_a_letter_of_the_options_or_none(output: str, options: list[str]) -> None:
    letter, outcome = read(Execution(output), options)
    assert letter is None or letter in "ABCDE"[: len(options)]
    assert (letter is None) == (outcome in ("silent", "no option"))


@given(st.text(max_size=50), st.lists(st.text(max_size=30), min_size=2, max_size=5))
def test_a_failed_program_never_gives_a_letter(output: str, options: list[str]) -> None:
    assert read(Execution(output, "time"), options) == (None, "time")


@pytest.mark.parametrize(
    "piece", ["(", "[[", "是", "A", "1,", "A: True ", " ", "：", "和", "1.", "set(", "答案是"]
)
def test_the_time_grows_no_faster_than_the_output(piece: str) -> None:
    begun = time.process_time()
    read(Execution(piece * 10_000), [piece * 500, "1", "甲"])
    assert time.process_time() - begun < 5
