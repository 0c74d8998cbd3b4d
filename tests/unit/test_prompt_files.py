"""Prompt files: what they render, which faults are named, and that rendering ends."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import answers, prompt_files, prompts, result_reader
from shared.errors import Refused, UserError
from shared.prompt_files import PLACEHOLDERS, PromptTemplate, sandbox
from shared.prompt_files.sandbox import BadTemplateError, Template
from shared.prompts import FewShotExample, PromptQuestion
from shared.settings import Settings
from workers.program_executor import MontyExecutor

ZH, EN = (prompt_files.built_in(name) for name in ("zh", "en"))
ASKED = PromptQuestion("甲比乙高。 ", " 谁高？", ("甲 ", "乙"))
SOLVED = FewShotExample(PromptQuestion("丙比丁高。", "谁矮？", ("丙", "丁")), "丁比丙矮。\n答案是：B", "B")
# What the wording "1783896d" rendered before there were prompt files.
FORMER = (
    "你是一位逻辑推理专家。下面每道题都是单项选择题，只有一个选项正确。推理遵循闭世界假设：题目没有给出、"
    "也无法由已知条件推出的，一律视为假。请根据已知条件一步一步推理，最后一行只写“答案是：X”，"
    "X 是所选选项的字母。\n"
    "\n### 题目\n丙比丁高。\n\n### 问题\n谁矮？\nA. 丙\nB. 丁\n\n### 推理\n丁比丙矮。\n答案是：B\n"
    "\n### 题目\n甲比乙高。\n\n### 问题\n谁高？\nA. 甲\nB. 乙\n\n### 推理\n"
)
GOOD = '''head = "Think.\\n"
case = """
{{ problem }}
{{ question }}
{% for letter, text in options %}({{ letter }}) {{ text }}
{% endfor %}
"""
solution = "{{ reasoning }}\\n{{ statement }}\\n"
statement = "Answer: {{ answer }}"
stop = []
reader = "conclusion"
'''


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def parse(text: str) -> PromptTemplate:
    return PromptTemplate("my", text, "my.toml")


# Rendering


def test_the_chinese_prompt_is_byte_for_byte_that_of_older_runs() -> None:
    assert ZH.completion(ASKED, [SOLVED]) == FORMER
    assert ZH.case(ASKED) == prompts.case(ASKED)
    assert ZH.head == prompts.HEAD
    # Runs record this digest: whoever changes the file keeps the old one under another name.
    assert ZH.digest == prompt_files.digest_of("1783896d") == prompt_files.digest_of(None)


def test_the_english_prompt_has_its_own_headings_and_statement() -> None:
    prompt = EN.completion(ASKED, [SOLVED])
    assert "\n### Problem\n丙比丁高。\n\n### Question\n谁矮？\nA. 丙\nB. 丁\n" in prompt
    assert "### Reasoning\n丁比丙矮。\nThe answer is: B\n\n### Problem\n" in prompt
    assert prompt.endswith("B. 乙\n\n### Reasoning\n")


@pytest.mark.parametrize("name", ["zh", "en"])
def test_a_vote_in_a_prompts_own_form_is_read_and_ends_where_the_next_case_begins(name: str) -> None:
    prompt = prompt_files.built_in(name)
    vote = prompt.solution(SOLVED) + prompt.case(ASKED)
    text = answers.READERS[prompt.reader].cut(vote, prompt.stop)
    assert text == prompt.solution(SOLVED).strip()
    assert answers.extract(text, 2, prompt.reader) == "B"
    assert prompt.statement("B") == f"{prompt.opening}B"


@given(st.text(), st.text(), st.lists(st.text(), min_size=2, max_size=26), st.text())
def test_whatever_stands_in_a_question_is_rendered_literally(
    problem: str, question: str, options: list[str], reasoning: str
) -> None:
    asked = PromptQuestion(problem, question, tuple(options))
    for prompt in (ZH, EN):
        case = prompt.case(asked)
        assert problem.strip() in case
        assert question.strip() in case
        assert all(text.strip() in case for text in prompts.without_letters(options))
    assert ZH.case(asked) == prompts.case(asked)
    assert EN.solution(FewShotExample(asked, reasoning, "A")).endswith("\nThe answer is: A\n")


@pytest.mark.parametrize("text", ["{{ problem }}", "{% for x in y %}", "{# a #}", "<b> & </b>"])
def test_the_syntax_of_templates_has_no_meaning_in_data(text: str) -> None:
    assert f"\n{text}\n" in ZH.case(PromptQuestion(text, text, (text, "乙")))


def test_line_ends_of_windows_do_not_change_a_prompt() -> None:
    assert parse(GOOD.replace("\n", "\r\n")).digest == parse(GOOD).digest


def test_conditions_and_filters_may_be_used() -> None:
    case = """
{{ problem | trim }}{% if question %} {{ question }}{% endif %}{# no more #}
{% for letter, text in options %}{{ letter }}: {{ text }}{{ '' if loop.last else '; ' }}{% endfor %}"""
    text = changed(GOOD[GOOD.index('case = """') : GOOD.index("solution")], f'case = """{case}"""\n')
    assert parse(text).case(ASKED) == "甲比乙高。 谁高？\nA: 甲; B: 乙"


def test_the_file_in_the_documents_is_a_good_one() -> None:
    text = Path(__file__).parents[2].joinpath("docs/prompts.md").read_text("utf-8")
    prompt = PromptTemplate("docs", text.partition("```toml\n")[2].partition("```")[0])
    assert prompt.completion(ASKED, [SOLVED]).count("\n\n## Problem\n") == 2
    assert all(
        f"`{name}`" in text
        for name in (*PLACEHOLDERS["program"], *PLACEHOLDERS["reasoning"], *sandbox.FILTERS, *answers.READERS)
    )


# Programs


@pytest.mark.parametrize("name", ["zh-program", "en-program"])
def test_a_prompt_for_programs_shows_its_worked_examples_as_turns(name: str) -> None:
    prompt = prompt_files.built_in(name)
    turns = prompt.chat(ASKED)
    assert [turn.role for turn in turns] == ["user", "assistant"] * 3 + ["user"]
    assert turns[0].content.startswith(prompt.head.strip())
    assert turns[1].content.startswith("```python\ndef f(numbers):\n")
    assert turns[-1].content == prompt.case(ASKED).strip()
    assert (prompt.opening, prompt.reader, prompt.stop) == ("", "result", ())


@pytest.mark.parametrize("name", ["zh-program", "en-program"])
def test_the_worked_examples_are_solved_by_their_programs(name: str) -> None:
    executor = MontyExecutor(Settings())
    worked = prompt_files.built_in(name).worked
    read = [result_reader.read(executor.run(each.program), each.asked.options) for each in worked]
    assert read == [("C", "result"), ("B", "letter"), ("B", "result")]


def test_only_solved_questions_with_a_program_are_examples_of_programs() -> None:
    prompt, solved = (
        prompt_files.built_in("zh-program"),
        FewShotExample(ASKED, "", "A", program="print('甲')"),
    )
    assert [prompt.shows(each) for each in (SOLVED, solved)] == [False, True]
    assert ZH.shows(SOLVED)
    assert prompt.chat(ASKED, [solved])[-2].content == "```python\nprint('甲')\n```"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{{ program }}", "{{ reasoning }}", "solution: unknown placeholder 'reasoning'"),
        ("{{ program }}", "", "solution: it does not show {{ program }}"),
        ('voice = "program"', 'voice = "song"', "voice: Input should be 'reasoning' or 'program'"),
        ('voice = "program"', 'voice = "program"\nstop = []', "stop: it is no field of a prompt; the fields"),
        ("program = '''", "answer = '''", "the field 'program' of example 1 is missing"),
    ],
)
def test_a_fault_of_a_prompt_for_programs_is_named(old: str, new: str, said: str) -> None:
    text = prompt_files.built_in("zh-program").text
    assert old in text
    with pytest.raises(UserError) as raised:
        PromptTemplate("my", text.replace(old, new))
    assert said in str(raised.value)


# Faults


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{{ question }}", "{{ questoin }}", "line 4: case: unknown placeholder 'questoin'; the"),
        ("{{ question }}\n", "", "line 3: case: it does not show {{ question }}"),
        ("({{ letter }}) {{ text }}", "{{ text }}", "line 3: case: it does not show {% for letter, text in"),
        (
            "{% for letter, text in options %}({{ letter }}) {{ text }}\n{% endfor %}",
            "{{ options[0] }}{{ options[1] }}",
            "line 3: case: it does not show {% for letter, text in",
        ),
        ("{% endfor %}", "", "line 5: case: Unexpected end of template"),
        ("{{ problem }}", "{{ problem }", "line 3: case: unexpected '}'"),
        ("{{ problem }}", "{{ problem.title.x }}", "line 3: case: "),
        ("{{ problem }}", "{{ problem | center(9) }}", "line 3: case: No filter named 'center'."),
        ("{{ statement }}", "", "line 8: solution: it does not show {{ statement }}"),
        ('"Think.\\n"', '"{{ problem }}"', "line 1: head: unknown placeholder 'problem'"),
        ('"Answer: {{ answer }}"', '"I say {{ answer }} now"', "line 9: statement: the reader 'conclusion'"),
        ("stop = []", 'stop = ["Answer: "]', "line 10: stop: 'Answer: ' is in every solution"),
        ("stop = []", 'stop = [""]', "line 10: stop: String should have at least 1 character"),
        ("stop = []", 'stop = ["1", "2", "3", "4", "5"]', "line 10: stop: List should have at most 4 items"),
        ('reader = "conclusion"', 'reader = "guess"', "line 11: reader: unknown reader; the readers are"),
        ("stop = []", "stop = []\nstops = 1", "line 11: stops: it is no field of a prompt"),
        ("stop = []\n", "", ": the field 'stop' is missing"),
        ("stop = []", "stop = [", " is not TOML: "),
        ('head = "Think.\\n"', "head = 3", "line 1: head: Input should be a valid string"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_line(old: str, new: str, said: str) -> None:
    with pytest.raises(UserError) as raised:
        parse(changed(old, new))
    assert str(raised.value).replace("my.toml line", "line").replace("my.toml", "").startswith(said)


def test_a_text_that_looks_like_a_field_does_not_mislead_the_line() -> None:
    text = changed('head = "Think.\\n"', "head = '''\nsolution = 1\n'''").replace(
        "{{ reasoning }}", "{{ x }}"
    )
    with pytest.raises(UserError, match=r"^my.toml line 10: solution: unknown placeholder 'x'"):
        parse(text)


def test_a_file_that_is_too_big_or_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        prompt_files.read(tmp_path / "none.toml")
    (tmp_path / "big.toml").write_text(GOOD + "# " + "x" * prompt_files.MAX_BYTES)
    with pytest.raises(UserError, match="too big"):
        prompt_files.read(tmp_path / "big.toml")


# Templates that would not end, or reach out of the sandbox


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(10**9) %}{% endfor %}",
        "{% for a in options %}{% for b in options %}{% endfor %}{% endfor %}",
        "{% for a in options recursive %}{{ loop(options) }}{% endfor %}",
        "{% for a in problem %}{% endfor %}",
        "{{ 'x' * 10**10 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ problem.center(10**9) }}",
        "{% set x = problem ~ problem %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include 'x' %}",
        "{% extends 'x' %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ lipsum }}",
        "{{ problem | map(attribute='__class__') }}",
        "{{ cycler }}",
        "{{ (" + "(" * 5000 + "1" + ")" * 5000 + ") }}",
        "{% if problem %}" * 200 + "{% endif %}" * 200,
        "{{ " + "not " * 20_000 + "problem }}",
    ],
    ids=lambda source: source[:30],
)
def test_a_template_that_could_run_endlessly_or_reach_out_is_refused_at_once(source: str) -> None:
    begun = time.thread_time()
    with pytest.raises(BadTemplateError):
        Template(source, PLACEHOLDERS["reasoning"]["case"]).render(
            problem="甲", question="乙", options=[("A", "丙")]
        )
    assert time.thread_time() - begun < 5


def test_a_text_that_grows_too_long_is_cut_short() -> None:
    template = Template("{{ problem }}" * 4000, ["problem"])
    with pytest.raises(BadTemplateError, match="more than 1000000 characters"):
        template.render(problem="甲" * 100_000)
    assert len(template.render(problem="甲" * 200)) == 800_000


def test_a_template_that_fails_for_one_question_is_refused_with_its_line() -> None:
    text = changed("{{ question }}", "{{ question }}\n{% if loop_no %}{% endif %}")
    with pytest.raises(UserError, match="line 5: case: unknown placeholder 'loop_no'"):
        parse(text)
    prompt = parse(
        changed("{{ question }}", "{{ question }}\n{% if options|length > 2 %}{{ options[9] }}{% endif %}")
    )
    assert prompt.case(ASKED)
    with pytest.raises(Refused, match=r"prompt my: case, line 3: .*has no element 9"):
        prompt.case(PromptQuestion("题", "谁？", ("甲", "乙", "丙")))


def test_no_filter_makes_a_text_longer() -> None:
    text = "ab cd 甲乙" * 10
    for name in set(sandbox.FILTERS) - {"length", "default"}:
        assert len(Template(f"{{{{ problem | {name} }}}}", ["problem"]).render(problem=text)) <= len(text)
