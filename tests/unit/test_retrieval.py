"""The nearest solved questions: the same from an index in memory and from one behind HTTP."""

import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient

from shared.errors import ServiceUnreachable, UserError
from shared.prompts import FewShotExample, PromptQuestion
from tests import qdrant_server, tiny
from tests.fakes import CharacterEmbedder
from tests.qdrant_server import State
from tests.valkey import free_port
from workers.models import embedding as embeddings
from workers.models import retrieval
from workers.models.retrieval import QdrantRetriever

OPTIONS = ("是", "否")


def asked(problem: str, question: str = "对吗？") -> PromptQuestion:
    return PromptQuestion(problem, question, OPTIONS)


def solved(problem: str, question: str = "对吗？") -> FewShotExample:
    return FewShotExample(asked(problem, question), f"因为{problem}", "A")


# Each shares fewer characters with "甲乙丙丁。" than the one before it.
TALL = [solved(text) for text in ("甲乙丙丁", "甲乙丙戊", "甲乙己戊", "甲庚己戊", "辛庚己戊")]
SETS = {"tall": TALL, "none": [], "one": TALL[:1], "many": [solved(f"题{at}") for at in range(600)]}
SETS["bare"] = [solved("", question) for question in ("甲乙丙丁？", "甲乙丙戊？", "辛庚己戊？")]


@pytest.fixture
def server() -> Iterator[tuple[str, State]]:
    with qdrant_server.serving() as served:
        yield served


@pytest.fixture(params=["memory", "server"])
def client(request: pytest.FixtureRequest) -> Iterator[QdrantClient]:
    url = request.getfixturevalue("server")[0] if request.param == "server" else None
    opened = retrieval.open_client(url, None)
    yield opened
    opened.close()


def retriever(client: QdrantClient, embedding: str = "characters") -> QdrantRetriever:
    return QdrantRetriever(client, CharacterEmbedder(), embedding, SETS.__getitem__)


def problems(found: list[list[FewShotExample]]) -> list[list[str]]:
    return [[one.asked.problem for one in each] for each in found]


def test_the_nearest_come_first_and_whole(client: QdrantClient) -> None:
    (found,) = retriever(client).nearest("tall", [asked("甲乙丙丁。")], 3, True)
    assert found == TALL[:3]


def test_every_question_of_a_batch_has_its_own_in_order(client: QdrantClient) -> None:
    found = retriever(client).nearest("tall", [asked("辛庚己"), asked("甲乙丙丁。")], 1, True)
    assert problems(found) == [["辛庚己戊"], ["甲乙丙丁"]]


@pytest.mark.parametrize("itself", ["甲乙丙丁", " 甲乙\n丙丁　", "甲乙丙丁\t"])
def test_a_question_is_never_shown_its_own_solution_whatever_its_white_space(
    itself: str, client: QdrantClient
) -> None:
    (found,) = retriever(client).nearest("tall", [asked(itself, " 对吗 ？")], 5, True)
    assert problems([found]) == [["甲乙丙戊", "甲乙己戊", "甲庚己戊", "辛庚己戊"]]


def test_two_copies_of_a_question_in_the_set_are_both_left_out(client: QdrantClient) -> None:
    twice = [*TALL, solved("甲乙丙丁 ")]
    index = QdrantRetriever(client, CharacterEmbedder(), "characters", lambda _: twice)
    assert problems(index.nearest("twice", [asked("甲乙丙丁")], 9, True)) == [
        ["甲乙丙戊", "甲乙己戊", "甲庚己戊", "辛庚己戊"]
    ]


@pytest.mark.parametrize(("siblings", "nearest"), [(True, "甲乙丙丁"), (False, "甲乙丙戊")])
def test_another_question_about_the_same_problem_is_an_example_only_where_siblings_are_wanted(
    siblings: bool, nearest: str, client: QdrantClient
) -> None:
    found = retriever(client).nearest("tall", [asked("甲乙丙丁 ", "不对吗？")], 1, siblings)
    assert problems(found) == [[nearest]]


def test_questions_without_a_problem_are_not_about_the_same_one(client: QdrantClient) -> None:
    found = retriever(client).nearest("bare", [SETS["bare"][0].asked], 3, False)
    assert [each.asked.question for each in found[0]] == ["甲乙丙戊？", "辛庚己戊？"]


@pytest.mark.parametrize(("digest", "count", "given"), [("tall", 9, 5), ("tall", 0, 0), ("none", 2, 0)])
def test_no_more_are_given_than_there_are_or_are_wanted(
    digest: str, count: int, given: int, client: QdrantClient
) -> None:
    found = retriever(client).nearest(digest, [asked("子"), asked("丑")], count, True)
    assert [len(each) for each in found] == [given, given]


def test_a_set_larger_than_one_upload_is_indexed_whole(client: QdrantClient) -> None:
    found = retriever(client).nearest(
        "many", [asked(f"题{at}", "对") for at in (0, 299, 511, 598)], 600, True
    )
    assert {len(each) for each in found} == {600}
    assert {one.asked.problem for one in found[0]} == {f"题{at}" for at in range(600)}


def test_two_sets_and_two_embeddings_do_not_mix(client: QdrantClient) -> None:
    index = retriever(client)
    assert problems(index.nearest("one", [asked("辛")], 5, True)) == [["甲乙丙丁"]]
    assert len(index.nearest("tall", [asked("辛")], 5, True)[0]) == 5
    other = retriever(client, "other")
    assert problems(other.nearest("one", [asked("辛")], 5, True)) == [["甲乙丙丁"]]
    assert len(client.get_collections().collections) == 3


# A server that is shared


def test_a_set_is_indexed_once_and_shared_by_workers(server: tuple[str, State]) -> None:
    url, state = server
    for _ in range(2):
        index = retriever(retrieval.open_client(url, None))
        for _again in range(2):
            assert len(index.nearest("tall", [asked("甲")], 2, True)[0]) == 2
    assert sum("points?wait=true" in line for line in state.seen) == 1
    assert sum("query/batch" in line for line in state.seen) == 4


def test_workers_that_build_at_once_all_find_the_whole_set(server: tuple[str, State]) -> None:
    indices = [retriever(retrieval.open_client(server[0], None)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: index.nearest("many", [asked("题7", "对")], 600, True), indices))
    assert [len(each) for (each,) in found] == [600] * 4
    assert server[1].local.count("many-" + indices[0]._embedding).count == 600


def test_a_half_built_index_is_completed(server: tuple[str, State]) -> None:
    for known in (TALL[:2], TALL):
        client = retrieval.open_client(server[0], None)
        index = QdrantRetriever(client, CharacterEmbedder(), "characters", {"set": known}.__getitem__)
        assert index.nearest("set", [asked("甲乙丙丁。")], 9, True) == [known]


def test_an_index_that_was_thrown_away_is_built_again(server: tuple[str, State]) -> None:
    url, state = server
    index = retriever(retrieval.open_client(url, None))
    index.nearest("tall", [asked("甲")], 2, True)
    for one in state.local.get_collections().collections:
        state.local.delete_collection(one.name)
    with pytest.raises(ServiceUnreachable):
        index.nearest("tall", [asked("甲")], 2, True)
    assert len(index.nearest("tall", [asked("甲")], 2, True)[0]) == 2


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection:UserWarning")
def test_the_key_goes_with_every_request(server: tuple[str, State]) -> None:
    url, state = server
    retriever(retrieval.open_client(url, "sesame")).nearest("tall", [asked("甲")], 2, True)
    assert state.keys == {"sesame"}


# A server that does not work


def test_a_server_that_is_not_there_is_said_with_its_setting() -> None:
    with pytest.raises(ServiceUnreachable, match=r"Qdrant does not answer \(.+\): see VOTEQUEUE_QDRANT_URL"):
        retrieval.open_client(f"http://127.0.0.1:{free_port()}", None)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:1", "http://", "http://[", "127.0.0.1:1"])
def test_a_url_that_is_none_is_said_with_its_setting(url: str) -> None:
    with pytest.raises(UserError, match="see VOTEQUEUE_QDRANT_URL"):
        retrieval.open_client(url, None)


@pytest.mark.parametrize(
    ("status", "headers"), [(500, {}), (401, {}), (503, {}), (429, {"Retry-After": "1"})]
)
def test_a_server_that_refuses_is_unreachable_and_works_again_when_it_does(
    status: int, headers: dict[str, str], server: tuple[str, State]
) -> None:
    url, state = server
    index = retriever(retrieval.open_client(url, None))
    for _ in range(2):
        state.refuse = (status, headers)
        with pytest.raises(ServiceUnreachable) as caught:
            index.nearest("tall", [asked("甲")], 2, True)
        assert "\n" not in str(caught.value)
        state.refuse = None
        assert len(index.nearest("tall", [asked("甲")], 2, True)[0]) == 2


def test_a_server_that_is_no_qdrant_is_unreachable() -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as page:
        threading.Thread(target=page.serve_forever, args=(0.05,), daemon=True).start()
        with pytest.raises(ServiceUnreachable, match="VOTEQUEUE_QDRANT_URL"):
            retrieval.open_client(f"http://127.0.0.1:{page.server_address[1]}", None)
        page.shutdown()


# Embeddings


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("weights"))


def test_static_embeddings_are_the_generators_token_vectors_as_unit_means(weights: Path) -> None:
    from tokenizers import Tokenizer

    text = "甲比乙高"
    (found,) = embeddings.load_embedder("static", weights).encode([text])
    table = embeddings._token_table(weights).numpy()
    ids = Tokenizer.from_file(str(weights / "tokenizer.json")).encode(text).ids
    mean = table[ids].mean(axis=0)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-5)
    assert found.dtype == np.float32


def test_static_embeddings_find_what_shares_words(weights: Path) -> None:
    index = QdrantRetriever(
        QdrantClient(":memory:"), embeddings.load_embedder("static", weights), "static", SETS.__getitem__
    )
    assert problems(index.nearest("tall", [asked("辛庚己")], 1, True)) == [["辛庚己戊"]]


def test_a_folder_without_a_model_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no token embeddings can be read from"):
        embeddings.load_embedder("static", tmp_path)
    with pytest.raises(UserError, match="VOTEQUEUE_EMBEDDING"):
        embeddings.load_embedder(str(tmp_path / "none"), tmp_path)
