"""Names of people and places, drawn without repeats."""

from random import Random

_PEOPLE = (
    "小明", "小红", "小刚", "小丽", "小强", "小芳", "小军", "小燕",
    "小杰", "小雨", "小峰", "小慧", "小龙", "小梅", "小波", "小静",
    "阿文", "阿宁", "阿东", "阿青", "阿成", "阿兰", "大山", "大伟",
    "思远", "雨晴", "子涵", "嘉怡", "志强", "晓彤",
)  # fmt: skip
_PLACES = (
    "东湖", "西山", "南桥", "北塔", "青石", "白沙", "柳河", "桃园",
    "松岭", "竹溪", "云台", "梅村", "石井", "金滩", "长亭", "古渡",
)  # fmt: skip
MEN = (
    "建国", "志明", "国强", "文斌", "海涛", "永康", "立军", "振华",
    "家辉", "俊杰", "浩然", "天宇", "子轩", "明哲", "宏伟", "少华",
)  # fmt: skip
WOMEN = (
    "秀英", "桂兰", "淑芬", "丽华", "玉梅", "雪琴", "春燕", "晓红",
    "慧敏", "佳怡", "诗涵", "梦瑶", "雅婷", "静怡", "美玲", "若兰",
)  # fmt: skip


def people(rng: Random, count: int) -> list[str]:
    """Draw distinct people."""
    return rng.sample(_PEOPLE, count)


def places(rng: Random, count: int) -> list[str]:
    """Draw distinct places."""
    return rng.sample(_PLACES, count)
