"""The numbers in a text, by value: in digits, and spelt in Chinese.

    digits("４万元，-2 度和 1,000 米")  ->  Counter({Decimal(40000): 1, Decimal(-2): 1, Decimal(1000): 1})
    spelt("二十三个人，第二〇二四号")    ->  Counter({Decimal(23): 1, Decimal(2024): 1})

A spelt number may be no number (一下, 万一): what to make of one is the caller's to say.
"""

import re
import unicodedata
from collections import Counter
from decimal import Decimal

_DIGITS = re.compile(r"((?<![\dA-Za-z)\]])[-−])?(\d{1,3}(?:,\d{3})+(?!\d)|\d+)(\.\d+)?([十百千万亿]*)")
_SPELT = re.compile(r"[〇零一二两三四五六七八九十百千万亿]+")
_ONES = {character: value for value, character in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_TENS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8}


def digits(text: str) -> Counter[Decimal]:
    """Count the numbers that are written in digits, full-width ones and those before 万 included."""
    return Counter(
        Decimal(whole.replace(",", "") + part) * (-1 if sign else 1) * _unit(unit)
        for sign, whole, part, unit in _DIGITS.findall(unicodedata.normalize("NFKC", text))
    )


def spelt(text: str) -> Counter[Decimal]:
    """Count the numbers that are spelt in Chinese; those that only name a unit of digits (4万) are not."""
    plain = _DIGITS.sub(" ", unicodedata.normalize("NFKC", text))
    return Counter(Decimal(_value(run)) for run in _SPELT.findall(plain))


def _unit(units: str) -> int:
    value = 1
    for unit in units:
        value *= _TENS.get(unit) or _MYRIADS[unit]
    return value


def _value(run: str) -> int:
    if all(character in _ONES for character in run):
        return int("".join(str(_ONES[character]) for character in run))
    total = section = one = 0
    for character in run:
        if character in _ONES:
            one = _ONES[character]
        elif character in _TENS:
            # 十 alone is ten: the one before it goes without saying.
            section, one = section + (one or 1) * _TENS[character], 0
        else:
            # 亿 counts all before it, 万 only what follows the last 亿.
            section += one
            scale = _MYRIADS[character]
            if scale > 10**4:
                total, section = (total + section or 1) * scale, 0
            else:
                total, section = total + (section or 1) * scale, 0
            one = 0
    return total + section + one
