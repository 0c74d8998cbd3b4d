"""A ledger that cannot be opened is said in a sentence that has no part of its password."""

from pathlib import Path

import pytest

from tests import valkey
from tests.conftest import Command, forget


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:S3c%23ret@127.0.0.1:{port}/d", "the ledger at 127.0.0.1"),
        ("postgresql://127.0.0.1:{port}/d?user=me&password=S3cret", "the ledger at 127.0.0.1"),
        ("postgresql://me:S3cret@127.0.0.1:{port}/d?nonsense=S3cret", "an option unknown to PostgreSQL"),
        ("postgresql://me:S3cret@127.0.0.1:{port}/d?sslmode=nonsense", "the ledger at 127.0.0.1"),
        ("postgresql://me:S3c@ret@127.0.0.1:{port}/d", "write @ as %40"),
        ("sqlite:////dev/null/ledger.db", "cannot make the ledger's folder"),
    ],
)
def test_it_is_one_line_without_a_secret(
    url: str, said: str, home: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_LEDGER_URL", url.format(port=valkey.free_port()))
    forget()
    ended = votequeue("status")
    assert ended.code == 1
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not any(piece in ended.out + ended.err for piece in ("S3", "ret@", "%23ret"))
