"""Which programs compute something, and which only print what is written in them."""

import pytest

from workers import program_replies


@pytest.mark.parametrize(
    ("program", "constant"),
    [
        ("print('B')", True),
        ("# 甲最高。\nprint(['甲', '乙'])", True),
        ("answer = 'B'\nprint(f'答案是：{answer}')", True),
        ("'B'", True),
        ("print(2 + 3)", False),
        ("print(max(['甲', '乙']))", False),
        ("print(sorted({'甲': 3}, key=len)[0])", False),
        ("for name in ['甲', '乙']:\n    print(name)", False),
        ("x = 3\nprint('A' if x > 2 else 'B')", False),
        ("print([name for name in '甲乙'])", False),
        ("print(", False),
    ],
)
def test_a_program_without_a_computation_is_a_constant(program: str, constant: bool) -> None:
    assert program_replies.is_constant(program) == constant


@pytest.mark.parametrize("program", ["(" * 10_000 + ")" * 10_000, "-" * 100_000 + "1", "print('\0')"])
def test_a_program_that_python_cannot_parse_is_no_constant(program: str) -> None:
    assert not program_replies.is_constant(program)
