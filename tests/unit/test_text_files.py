"""Small text files that people write, and what is wrong with them."""

from pathlib import Path

import pytest

from shared import text_files
from shared.errors import UserError


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("# 注释\nA=1\n".encode("utf-16"), "file is UTF-16: save"),
        ("A=1\n".encode("utf-16-le"), "file line 1 has a NUL byte"),
        (b"A=1\n# \xd7\xa2\xca\xcd\n", "file line 2 is not UTF-8"),
        (b"A=1\nB=\0\n", "file line 2 has a NUL byte"),
        (b"A" * 101, "file is too big to be such a file: it has 101 bytes"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=said):
        text_files.read(tmp_path / "file", 100)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfA=1\r\n")
    assert text_files.read(tmp_path / "file") == "A=1\r\n"


def test_a_folder_and_a_loop_are_said(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path, tmp_path / "loop", tmp_path / "missing"):
        with pytest.raises(UserError, match="cannot be read"):
            text_files.read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{\n1: 2}", "line 2 is not JSON"),
        ("[]", "holds no JSON object"),
        ("", "line 1"),
        ("[" * 10**5, "nested"),
    ],
)
def test_what_is_no_json_object_is_said(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=f"config.json.*{said}"):
        text_files.read_object(tmp_path / "config.json")
