"""Regular expressions of the phrases that conclusions consist of, over normalised text.

    因此，答案是     ：     A        ，但这与条件3矛盾。
    context marker gap     letter   what takes it back

`conclusion_reader` says how they are put together. Repetitions are bounded or possessive, so that each
pattern takes time in proportion to the text.
"""

import re

BOX = "□"  # stands for \boxed{ and its kind


def _any(words: str) -> str:
    """Make a pattern of words, for which `_` is a space."""
    return "(?:" + "|".join(words.split()).replace("_", " ") + ")"


def _english(words: str) -> str:
    return rf"(?i:(?<![A-Za-z]){_any(words)}(?![A-Za-z]))"


# Markers. In ANSWER a group matches where a verb ties the letter to the answer; else a mark has to.

_ADVERBS = _any(
    "应该 应当 应 就 只能 必须 必定 必然 显然 当然 确实 毫无疑问 无疑 很明显 明显 "
    "也 便 即 因此 只 才 一定 肯定 所以"
)
_RIGHT = _any("正确 唯一 最佳 最合适 最恰当")
_SURELY = _any(
    "therefore thus hence then clearly indeed simply definitely certainly obviously evidently most_likely "
    "likely_to_be"
).replace(" ", "[ ]")
ANSWER = re.compile(
    rf"""
    (?: 答[ ]?案 | 正解 | 答え | 정답 | (?:{_RIGHT} | 符合\w{{0,8}}) 的?(?:选项|选择|说法|一项)
        # Not 下列说法正确的是, which repeats the question.
        | (?<!说法)(?<!选项)(?<!一项)正确的(?=[是为]) )
        (?:选项|字母|序号)? (?:\([\u4e00-\u9fff]{{1,12}}\))? [^\w\s:=。!?;]{{0,3}} \s{{0,3}}
        {_ADVERBS}{{0,3}} (?P<verb>是|为|选择?|乃|は|은|는)?
    |
    (?i: (?<![A-Za-z]) (?:(?:the|my|final|correct|right|best)[ ]?){{0,3}}
        (?: answer | ans(?=[.:]) | (?:correct|right|best|final|my|selected|chosen)[ ]?(?:option|choice|letter)
          | (?:option|choice|statement)[ ]that[ ](?:works|fits|follows|is[ ]correct|must[ ]be[ ]true)
          | choice(?=\W{{0,2}}:) )
        (?:[ ](?:option|choice|letter))? (?![A-Za-z])
        [^\w\s:=,。!?;]{{0,3}} \s{{0,3}} (?:,[ ]?(?:therefore|thus|then|hence),?[ ])?
        (?:to[ ](?:the|this)[ ](?:question|problem|puzzle)[ ]?)?
        (?P<is>(?:is|would[ ]be|must[ ]be|should[ ]be|will[ ]be)(?![A-Za-z])
            (?:,?[ ]{_SURELY}(?![A-Za-z]),?){{0,2}})?
    )
    """,
    re.VERBOSE,
)
SO = (
    _any("故 因此 所以 因而 综上所述 综上 由此可知 由此可见 由此得出 由此 于是 本题 此题 该题 这题 这道题")[
        :-1
    ]
    + rf"|(?:(?<!\w)|(?<=认为)|(?<=觉得)){_any('我们 我 最终 最后 应该 应当 应 只能 必须 则 就 改')})"
)
_SHALL = _any("我们 我 应该 应当 应 只能 可以 必须 最终 最后 正确答案 本题 此题 该题 就 便 会 要 还是")
CHOSEN = re.compile(
    rf"""
    {SO} \W{{0,2}} {_SHALL}{{0,4}} 选(?:择|取|定)? (?!项|题)
    | (?<!\w) (?:更正|纠正|修正|改正|订正|改选|改为|更改为) (?:为|成|后|一下|如下|是){{0,2}}
    | (?<!\w) (?:其实|实际上)? (?:应该?|应当)(?:是|为)
    | (?<!\w) (?:最终|最后)?结论(?:是|为)? (?=:)
    | (?i: (?<![A-Za-z]) (?:i|we|i'll|therefore|thus|hence|so) \W{{1,2}}
        (?:(?:i|we|will|would|should|must|therefore)[ ]){{0,3}} (?:choose|pick|select|go[ ]with) )
    """,
    re.VERBOSE,
)
# "选A" alone; it opens many a discussion of an option, too (选A，则……).
PICKED = re.compile(r"(?<!\w)选择?(?!项|题)")
# Of boxes in boxes, the innermost: each gap is read once.
BOXED = re.compile(rf"{BOX}(?=[^\w{BOX}]*+\w)")
_OPTION = r"(?P<letter>[A-Z]) (?![A-Za-z0-9]) [^\w\s,。;:!?]{0,3} [ ]? (?:选?项)? [ ]?"
NAMED = re.compile(
    rf"""
    (?<![A-Za-z0-9]) {_OPTION} (?:才|就)?
    (?: [是为][ ]?(?:本题|此题|该题|唯一|最终)?的?(?:正确|最终|标准|唯一)?的?(?:答案|正确选项)
    | (?i: [ ]is[ ](?:therefore[ ]|thus[ ]|clearly[ ])?the[ ]
        (?:correct[ ]|right[ ]|final[ ]|only[ ]|best[ ]){{0,2}} (?:answer|option|choice)) )
    """,
    re.VERBOSE,
)
WEAK = re.compile(
    rf"""
    (?: (?:选项|只有|仅有?|(?i:option|choice|only))[ ]? | (?<!\w)(?<!\w[ ]) )
    {_OPTION} (?:的(?:说法|描述|结论))?
    (?: [是为]?[ ]?(?:正确|对的|成立|符合) | (?i:[ ](?:is|must[ ]be)[ ](?:correct|right|true)) )
    """,
    re.VERBOSE,
)

# The gap from a marker to the letter, and the letter, letters or Latin word there

_MARKS = r"[^\w。!?;]*+"
_WORDS = (
    rf"(?:{_any('是 为 选项 选择 选 应为 应是 第 字母 序号')}|(?i:(?:options?|choices?|letter)(?![A-Za-z])))"
)
TAIL = re.compile(rf"(?P<gap>{_MARKS}(?:{_WORDS}{_MARKS}){{0,3}})(?P<run>[A-Za-z]{{1,20}}(?![A-Za-z0-9]))?")
# In a gap, these tie the letter to the marker.
FIRM = frozenset(":=→>\n【[(「『《<{\"“'|—-" + BOX)
NONE = re.compile(
    _any("无法 不能 难以 不确定 未知 无解 没有 都不 均不 以上 不存在")
    + r"|无(?!\w)|"
    + _english("none neither unknown unclear undetermined all both either")
    # "The answer cannot be A" refutes A only.
    + r"|(?i:cannot|can't)(?! be \W{0,4}[A-Z](?![A-Za-z]))"
)

# The context: what stands in the sentence before a marker, from its last "so" or "but" on

ENDS = re.compile(r"[。!?;\n]|\.(?=\s|$)")
THEN = re.compile(
    _any("所以 因此 因而 故 综上 可知 可得 得出 但 不过 然而 其实 实际上 发现")
    + "|"
    + _english("therefore thus hence so but however")
)
CONDITION = re.compile(
    _any(
        "如果 假如 假设 假定 假使 倘若 要是 若(?!干) 万一 除非 即使 以为 "
        "起初 最初 一开始 原先 先前 暂时 初步 之前(?:说|认为|给)"
    )
    + "|"
    + _english(r"if suppose assum\w{0,3} unless whether even_though")
)
# Of the last clause: a negation, a doubt, somebody else's word.
UNSURE = re.compile(
    rf"""
    [不非未勿]\W{{0,2}}$ | (?:不能|无法|难以|未必|不会)(?:说|得出|确定|断定|判断|认为)
    | (?<!最)(?<!最有)可能 | 也许 | 或许 | (?:错误|不正确|不对|错)的?$
    | {_any("给出 给定 所给 提供 声称 宣称")}(?:了|的|我们|我)?(?:正确|参考)?的?$
    | [甲乙丙丁]的$
    | {_any("题目 题 题干 题中 提示 原文 用户 你 他 她 有人")}[^,]{{0,6}}(?:说|称|写|给|认为)[^,]{{0,4}}$
    | (?i: (?:maybe|perhaps|possibly|might|not|given|provided|stated|claimed|suggested|wrong|incorrect)
        \W{{0,2}} (?:that[ ]|the[ ])?$
    | (?:not|n't|cannot)[ ](?:be[ ])?(?:true|correct|right|certain|sure|clear|think|believe|say|know|conclude)
        [ ](?:that[ ])?$
    | (?:doubt|deny|false|wrong|incorrect|impossible|unlikely)[ ](?:to[ ]say[ ])?(?:that[ ])?$
    | (?:you|question|prompt|problem|user)[ ](?:gave|says?|said|states?|stated|claims?|claimed)[ ]
        (?:that[ ])?(?:the[ ])?$ )
    | \b(?!(?:Here|There|This|That|It|Let|What|Today)')[A-Z][a-z]{{1,20}}'s[ ]$
    """,
    re.VERBOSE,
)
SOLE = re.compile(rf"{THEN.pattern}|只有|仅|(?i:only)")

# What follows a letter

_CLOSE = r"(?:[\s\"'”’)\]}】」』》$]{0,6})"
_OPEN = rf"(?:[\s\"'“‘(\[{{【「『《<${BOX}]{{0,6}}(?:选项|(?i:option))?[ ]?)"
_AND = rf"(?:[、/&|~]|{_any('和 与 及 以及 或者 或是 或 还是 跟 (?i:and|n?or)')})"
_LETTER = r"[A-Z](?![A-Za-z0-9])"
_AFTER = rf"{_CLOSE}[,。.;:!…\s]{{0,6}}"
_WRONG = (
    r"(?:(?<!不)(?<!无)(?<!没有)矛盾"
    r"|不成立|不对|不符|不一致|错误|错的|错了|弄错|不正确|有误|不可能|排除|不行"
    r"|(?i:wrong|incorrect|contradict|not (?:correct|right|true|consistent)|inconsistent|impossible|fails))"
)
ALSO = re.compile(
    rf"{_CLOSE}\(?{_AND}{_OPEN}{_LETTER}"
    rf"|{_CLOSE}[,;+]{_OPEN}{_LETTER}{_CLOSE}(?=[,。;.!?、]|$|都|均|皆|两|{_AND})"
    rf"| {{1,3}}{_LETTER}[^\w\n]{{0,2}}(?:$|[\n。,.])"
)
ALSO_BELOW = re.compile(
    r"[.、:)][^\n]{0,80}\n\s{0,4}(?P<next>[A-Z])[.、:)]|\s{0,2}\n\s{0,4}(?P<bare>[A-Z])\s{0,4}(?:\n|$)"
)
ALSO_BEFORE = re.compile(rf"[A-Z]{_CLOSE}{_AND}{_OPEN}$")
OPERATOR = re.compile(r" ?(?:[=≠≤≥×÷^∧∨¬±%]|(?:[<>→+-]|->) ?[A-Z0-9](?![a-z]))")
REJECTED = re.compile(
    rf"(?:选?项)?是?{_any('不可能 不对 不成立 不正确 错误 错了 有误 被排除 不符 不行 矛盾')}"
    r"|(?i: (?:is|seems) (?:wrong|incorrect|not|impossible)| can(?:not|'t))"
    rf"|{_AFTER}{_any('但是 但 然而 不过 可是 (?i:but|however|yet)')}"
    rf"(?![^。\n]{{0,30}}(?:其他|其余|别的|选项|(?i:other)))[^。\n]{{0,40}}?{_WRONG}"
    rf"|{_AFTER}(?:这|此|该|它|那|(?i:this|that|it))[^。,;\n因由选其]{{0,14}}?{_WRONG}"
    rf"|{_AFTER}(?:不对|不,|错了|等等|等一下|慢着|且慢|重新|(?i:wait|hold on|no,|hmm|actually))"
)
ASKED = re.compile(rf"{_CLOSE}(?:吗|么|呢|对吗|是吗)?\??(?<=[?吗么呢])|的话|时|的情况")
# The letter is a part of a name, or the subject of a sentence.
NAME = re.compile(
    _any(
        "同学 先生 小姐 女士 老师 队 组 班 校 厂 店 岛 村 市 城 国 镇 县 区 点 型 级 类 楼 房 车 公司 大学 课"
    )
    + r"|['’]s [a-z]|-[a-z]| ?比|[在说]|是(?!正确|对的|唯一|最|\W|$)"
)
_NO_NOUN = _any("because since as_ which is_ by_ for_ from due given based and_ but_ so_ that_")
ARTICLE = re.compile(rf" (?!{_NO_NOUN})[a-z]")
END = re.compile(
    rf"{_CLOSE}(?:$|[^\w\s]|\n| [a-z\u4e00-\u9fff]"
    r"|选?项|这|即|因|由|而|对应|是?正确|成立|了|です|だ|입니다|이다)"
)
STOP = re.compile(rf"(?:选?项)?{_CLOSE}(?:$|[。.!;\n]|是?正确)")

# Lines

BARE = re.compile(
    r"[^\w=?+]*+(?:(?:选项|(?i:option|choice)(?![A-Za-z]))[^\w=?+]*+)?"
    r"([A-Za-z])[^\w=?+<>]*+(?:选?项[^\w]*+)?"
)
OPTION = re.compile(r"\W{0,6}([A-Z])(?:[.、:)]|,? ?(?:因为|because ))(?!.*[A-Z][.、:)])")
NEXT_PROBLEM = re.compile(
    r"""
    ^ [^\w\n]{0,6} (?:
        下一?[道个]?题 | 新题 | 第[ ]?\w{1,3}[ ]?题
        | (?:题目|问题|例题|例) (?:[ ]?[\d一二三四五六七八九十]{1,3})? (?=\s{0,3}[:.、]|[^\S\n]{0,3}$)
        | (?i: (?:next[ ])?(?:question|problem)(?:[ ]\d{1,3})? (?=[:.]|$) )
    )
    """,
    re.VERBOSE | re.MULTILINE,
)
# What may stand before and after a statement in a line of its own
LEAD = re.compile(rf"(?:\W|的|{SO}|(?i:so|therefore|thus|hence|the|final|correct|right))*+")
SHORT = re.compile(r"(?!.*(?:因为|由于|理由|推理|(?i:because|since)))[^。!?;]*+[。!;]?[\W]*+")
KEY = re.compile(
    r"(?i:(?:final|correct|right|selected|my|the)?[ _-]?(?:answer|choice|option)(?:[ _-]?letter)?)"
    r"|(?:正确|最终)?(?:答案|选项|选择)"
)
