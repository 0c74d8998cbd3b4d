"""Read small text files that a person writes: UTF-8, or an error with file and line.

    read(Path(".env"))  ->  UserError(".env line 3 is not UTF-8 (GBK, perhaps): save the file as UTF-8")

Data sets are read by `dataset`.
"""

import codecs
import json
from pathlib import Path
from typing import Any

from shared.errors import UserError

MOST = 16 << 20  # bytes
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read(path: Path, most: int = MOST) -> str:
    """Read a file of at most so many bytes; a byte order mark is left out.

    Raises:
        UserError: it cannot be read, is too big, or is no UTF-8.
    """
    try:
        size = path.stat().st_size
        raw = b"" if size > most else path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if size > most:
        raise UserError(f"{path} is too big to be such a file: it has {size} bytes, and may have {most}")
    if raw.startswith(_UTF16):
        raise UserError(f"{path} is UTF-16: save the file as UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} line {line} is not UTF-8 (GBK, perhaps): save the file as UTF-8") from None
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise UserError(f"{path} line {line} has a NUL byte (UTF-16, perhaps): save the file as UTF-8")
    return text


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        UserError: it cannot be read, or holds none.
    """
    try:
        value = json.loads(read(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} line {error.lineno} is not JSON ({error.msg}): mend the file") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply to be read") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object: mend the file")
    return value
