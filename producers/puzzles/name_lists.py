"""Names of people and places in each language.

    rng.sample(NAMES["zh"].people, 2)  ->  ["小明", "小红"]

The lists of all languages have the same lengths, so that the same draws give the same puzzle.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """The names of one language."""

    people: tuple[str, ...]
    places: tuple[str, ...]
    men: tuple[str, ...]
    women: tuple[str, ...]


NAMES = {
    "zh": Names(
        people=("小明", "小红", "小刚", "小丽", "小强", "小芳", "小军", "小燕",
            "小杰", "小雨", "小峰", "小慧", "小龙", "小梅", "小波", "小静",
            "阿文", "阿宁", "阿东", "阿青", "阿成", "阿兰", "大山", "大伟",
            "思远", "雨晴", "子涵", "嘉怡", "志强", "晓彤"),
        places=("东湖", "西山", "南桥", "北塔", "青石", "白沙", "柳河", "桃园",
            "松岭", "竹溪", "云台", "梅村", "石井", "金滩", "长亭", "古渡"),
        men=("建国", "志明", "国强", "文斌", "海涛", "永康", "立军", "振华",
            "家辉", "俊杰", "浩然", "天宇", "子轩", "明哲", "宏伟", "少华"),
        women=("秀英", "桂兰", "淑芬", "丽华", "玉梅", "雪琴", "春燕", "晓红",
            "慧敏", "佳怡", "诗涵", "梦瑶", "雅婷", "静怡", "美玲", "若兰"),
    ),
    "en": Names(
        people=("Alice", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry",
            "Irene", "Jack", "Karen", "Leo", "Mia", "Noah", "Olivia", "Paul",
            "Quinn", "Rosa", "Sam", "Tina", "Umar", "Vera", "Walter", "Yusuf",
            "Zoe", "Anton", "Bella", "Colin", "Diana", "Ethan"),
        places=("Eastlake", "Westhill", "Southbridge", "Northgate", "Greystone", "Whitesand",
            "Millbrook", "Appleton", "Pinecrest", "Fernley", "Cloudmere", "Rosewick", "Stonewell", "Sandport",
            "Longford", "Oldferry"),
        men=("Adam", "Brian", "Carl", "Daniel", "Edward", "Felix", "George", "Harold",
            "Ian", "Jacob", "Kevin", "Liam", "Martin", "Nathan", "Oscar", "Peter"),
        women=("Amy", "Beth", "Carol", "Donna", "Ellen", "Fiona", "Gloria", "Hannah",
            "Ivy", "Julia", "Kate", "Laura", "Maria", "Nina", "Paula", "Ruth"),
    ),
}  # fmt: skip
