"""Files that are no JSON Lines: one sentence says what a file is and what to do, and what it says works."""

import bz2
import json
import lzma
import pickle
import re
import sqlite3
import subprocess
import zipfile
from pathlib import Path

import pytest

from shared import dataset
from shared.dataset import BadLine, Line
from shared.errors import UserError

ENTRIES = [
    {
        "id": f"p{number}",
        "problem": "甲比乙高，乙比丙高。",
        "questions": [{"question": "最高的是？", "options": ["甲", "乙", "丙"], "answer": "A"}],
    }
    for number in range(3)
]
LINES = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in ENTRIES)
GOOD = LINES.encode()
FOREIGN = [{"passage": "x", "question": "y", "options": ["(A)1", "(B)2"], "label": "A"}] * 3


def flat(entries: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


def zipped(name: str) -> bytes:
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, GOOD)
    return out.getvalue()


KINDS: list[tuple[str, bytes, str]] = [
    (
        "a.jsonl.bz2",
        bz2.compress(GOOD),
        r"compressed with bzip2: unpack it first \(bunzip2 < F > .*/a\.jsonl\)",
    ),
    ("a.jsonl", bz2.compress(GOOD), r"compressed with bzip2: .*/a-unpacked\.jsonl\)"),
    ("a.xz", lzma.compress(GOOD), "compressed with xz"),
    ("a.zip", zipped("a.jsonl"), r"a zip archive: unpack it first \(unzip F\)"),
    ("a.xlsx", zipped("xl/workbook.xml"), "an Excel workbook: save its sheet as CSV"),
    ("a.docx", zipped("word/document.xml"), "an Office document"),
    ("a.pdf", b"%PDF-1.7\n%\xe2\xe3\n", "a PDF document"),
    ("a.html", b"<!DOCTYPE html>\n<html>\n<title>Login</title>\n", "an HTML page, perhaps a login"),
    ("a.xml", b"<?xml version='1.0'?>\n<a>\n</a>\n", "an XML document"),
    ("a.yaml", b"- id: p1\n  problem: x\n", "a YAML document"),
    ("a.pkl", pickle.dumps(ENTRIES), "a Python pickle"),
    ("a.bin", bytes(range(256)) * 20, "a binary file"),
    ("a.pkl", pickle.dumps(ENTRIES, protocol=2), "a binary file"),
    ("a.v2.jsonl.xz", lzma.compress(GOOD), r"> .*/a\.v2\.jsonl\)"),
    (
        "lfs.jsonl",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n",
        "a Git LFS pointer .*git lfs pull",
    ),
    (
        "a.json",
        json.dumps(ENTRIES[0], indent=2).encode(),
        r"JSON with its objects over several lines: .*jq -c \. F",
    ),
    (
        "a.json",
        "\n".join(json.dumps(e, indent=2) for e in ENTRIES).encode(),
        "JSON with its objects over several",
    ),
    ("a.json", LINES.replace("\n", "").encode(), "JSON with several objects on one line"),
    (
        "a.json",
        json.dumps({"data": ENTRIES}, indent=1).encode(),
        r'entries are in "data": .*jq -c \'\.\["data"\]\[\]\'',
    ),
    ("a.json", json.dumps({"data": ENTRIES}).encode(), 'entries are in "data"'),
    ("a.json", json.dumps(ENTRIES[0], indent=2).encode()[:99], "JSON over several lines, and broken at line"),
    *(
        (
            f"{name}.jsonl",
            LINES.encode(name),
            rf"text in {said}: write it as UTF-8 \(iconv -f {said} -t",
        )
        for name, said in [
            ("utf-16", "UTF-16"),
            ("utf-16-le", "UTF-16LE"),
            ("utf-16-be", "UTF-16BE"),
            ("utf-32", "UTF-32"),
            ("utf-32-le", "UTF-32LE"),
            ("utf-32-be", "UTF-32BE"),
        ]
    ),
    (
        "gbk.jsonl",
        LINES.encode("gbk"),
        r"not UTF-8 \(line 1, byte 26\), perhaps GBK: .*iconv -f GB18030 -t UTF-8",
    ),
    ("gbk.jsonl", flat(ENTRIES[:1]) + LINES.encode("gbk"), r"not UTF-8 \(line 2, byte 26\), perhaps GBK"),
    ("big5.jsonl", LINES.encode("big5"), "perhaps Big5"),
    ("latin.jsonl", '{"id": "é", "problem": "Größe, déjà vu"}\n'.encode("latin-1") * 3, "perhaps Latin-1"),
    ("mac.jsonl", GOOD.replace(b"\n", b"\r"), r"line ends of old Macs \(CR\)"),
    (
        "a.csv",
        'id,problem,answer\n1,"甲, 乙",A\n2,丙,B\n'.encode(),
        "a CSV table with the columns id, problem, answer",
    ),
    ("a.csv", b",Q,A,B,Answer\n0,x,1,2,A\n", r"a CSV table with the columns \(no name\), Q, A, B, Answer"),
    ("a.tsv", b"id\tq\ta\n1\t2\t3\n", "a TSV table with the columns id, q, a"),
    (
        "a.txt",
        b"first line\nsecond line\n",
        r"none of its 2 lines is a JSON object \(of the first one: not JSON",
    ),
    (
        "a.jsonl",
        "".join(f"{entry}\n" for entry in ENTRIES).encode(),
        "Python's own notation: write it with json.dumps",
    ),
    ("a.jsonl", LINES.replace("\n", ",\n").encode(), "take the comma after the object away"),
    ("a.jsonl", b'["p1", "x"]\n["p2", "y"]\n', "none of its 2 lines is a JSON object"),
    (
        "a.jsonl",
        flat(FOREIGN),
        "another layout: its JSON objects have the fields passage, question, options, label",
    ),
    ("a.jsonl", flat(FOREIGN[:1]), "id, problem and questions are missing"),
    (
        "a.jsonl",
        flat([{"id": i, "problem": "x", "options": ["a", "b"]} for i in range(2)]),
        "and questions is missing",
    ),
]


@pytest.mark.parametrize(("name", "content", "said"), KINDS)
def test_another_kind_of_file_is_one_sentence(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(dataset.scan(path))
    sentence = str(caught.value)
    assert re.search(said, sentence.replace(str(path), "F", 2).replace("F ", "", 1))
    assert sentence.startswith(str(path))
    assert "\n" not in sentence


def test_a_database_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE t (a)")
    made.close()
    with pytest.raises(UserError, match="an SQLite database"):
        list(dataset.scan(path))


def test_no_file_is_lost_by_what_the_sentence_says_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "a.json").write_text(json.dumps(ENTRIES[0], indent=2))
    with pytest.raises(UserError, match=r"> .*/a-converted\.jsonl\)"):
        list(dataset.scan(tmp_path / "a.json"))


def run_advice(sentence: str) -> None:
    command = sentence[sentence.index("(", sentence.rindex(": ")) + 1 : -1]
    subprocess.run(command, shell=True, check=True, cwd="/")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a b.jsonl.xz", lzma.compress(GOOD)),
        ("a.jsonl", bz2.compress(GOOD)),
        ("a.jsonl", LINES.encode("utf-16")),
        ("a.jsonl", LINES.encode("utf-32-le")),
        ("甲's.jsonl", LINES.encode("gbk")),
        ("a.jsonl", LINES.encode("big5")),
        ("a.jsonl", GOOD.replace(b"\n", b"\r")),
    ],
)
def test_what_the_sentence_says_to_do_makes_a_good_file(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(dataset.scan(path))
    run_advice(str(caught.value))
    (new,) = (other for other in tmp_path.iterdir() if other != path)
    assert [line.entry.id for line in dataset.scan(new) if isinstance(line, Line)] == ["p0", "p1", "p2"]


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (GOOD[:-40], 3, "not JSON, it breaks off: the file was cut short"),
        (GOOD[:100], 1, "not JSON, it breaks off: the file was cut short"),
        (GOOD + b"\0" * 500, 4, "it has NUL bytes, as a crash or a full disk leaves them"),
        (GOOD.replace("乙".encode(), b"\xd2\xd2", 1), 1, "not UTF-8 (byte 32): save the file as UTF-8"),
        (b"# mine\n" + GOOD, 1, "not JSON: Expecting value at column 1, found '# mine'"),
        (b"hello\n", 1, "not JSON: Expecting value at column 1, found 'hello'"),
        (b'["p1"]\n', 1, 'found ["p1"], expected a JSON object'),
    ],
)
def test_a_damaged_file_of_ours_has_bad_lines(content: bytes, line: int, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    (bad,) = (found for found in dataset.scan(path) if isinstance(found, BadLine))
    assert bad.line == line
    assert said in bad.problem


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_an_empty_file_is_said_to_be_empty(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(UserError, match="is empty: it should hold one JSON object a line"):
        list(dataset.scan(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbf" + GOOD, GOOD.replace(b"\n", b"\r\n"), GOOD.rstrip(), GOOD.splitlines()[0] + b"\r"],
)
def test_byte_order_marks_and_line_ends_do_not_matter(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    assert all(isinstance(line, Line) for line in dataset.scan(tmp_path / "a.jsonl"))


def test_a_folder_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder: name the JSON Lines file in it"):
        list(dataset.scan(tmp_path))
