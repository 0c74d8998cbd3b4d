"""Retrieve the nearest solved questions from Qdrant, in memory or on a server.

    QdrantRetriever(client, embedder, "static", load).nearest("9f3c...", [asked], 2)  ->  [[solved, solved]]

The index is derived from the ledger's examples and can be deleted at any time. The payload of a point has the
digests of its problem and its question. A filter on them excludes the question's own solution, and those of
other questions about its problem unless ``same_problem`` is set.
"""

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Sequence

from qdrant_client import QdrantClient
from qdrant_client import models as qdrant
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from shared import dataset, urls
from shared.errors import Held, ServiceUnreachable
from shared.prompts import FewShotExample, PromptQuestion
from workers.models.embedding import Embedder, Vectors

log = logging.getLogger(__name__)
UPLOAD = 256
# Part of a collection's name: without these digests, filters match nothing.
PAYLOAD = ("problem_identity", "question")
# Exceptions of the client: the server is unreachable or refuses, or another service has its address.
AWAY = (ApiException, QdrantException, OSError, json.JSONDecodeError)


class QdrantRetriever:
    """Finds the nearest solved questions of a data set; builds the set's collection on first use.

    ``embedding`` names the embedder in collection names; ``load`` reads a data set's examples.
    """

    def __init__(
        self,
        client: QdrantClient,
        embedder: Embedder,
        embedding: str,
        load: Callable[[str], list[FewShotExample]],
    ) -> None:
        self._client = client
        self._embedder = embedder
        self._embedding = hashlib.sha256(":".join((embedding, *PAYLOAD)).encode()).hexdigest()[:8]
        self._load = load
        self._examples: dict[str, list[FewShotExample]] = {}
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def nearest(
        self,
        digest: str,
        asked: Sequence[PromptQuestion],
        count: int,
        same_problem: bool,
        run: str | None = None,
    ) -> list[list[FewShotExample]]:
        """Find up to ``count`` solved examples per question, nearest first, in one batched query.

        Raises:
            ServiceUnreachable: the index server does not answer.
            Held: the index has vectors of another size.
            As `Gateway.embed`, of an embedder that calls a provider.
        """
        try:
            with self._lock:
                examples = self._ensure(digest, run)
            if not examples or not count:
                return [[] for _ in asked]
            vectors = self._embedder.encode([question.text for question in asked], run)
            self._require_size(self._name(digest), len(vectors[0]))
            requests = [_request(v, q, count, same_problem) for v, q in zip(vectors, asked, strict=True)]
            replies = self._client.query_batch_points(self._name(digest), requests)
        except (*AWAY, Held) as error:
            # The index may have been deleted: the next call checks it again.
            self._examples.pop(digest, None)
            self._sizes.pop(self._name(digest), None)
            raise error if isinstance(error, Held) else _unreachable(error) from error
        return [[examples[int(point.id)] for point in reply.points] for reply in replies]

    def _name(self, digest: str) -> str:
        return f"{digest[:16]}-{self._embedding}"

    def _ensure(self, digest: str, run: str | None) -> list[FewShotExample]:
        if digest not in self._examples:
            examples = self._load(digest)
            if examples:
                self._build(self._name(digest), examples, run)
            self._examples[digest] = examples
        return self._examples[digest]

    def _build(self, name: str, examples: list[FewShotExample], run: str | None) -> None:
        exists = self._client.collection_exists(name)
        if exists and self._client.count(name).count == len(examples):
            return
        for start in range(0, len(examples), UPLOAD):
            places = range(start, min(start + UPLOAD, len(examples)))
            # An earlier call was interrupted, or another worker builds it: embeddings may be paid for.
            known = {point.id for point in self._client.retrieve(name, places, False)} if exists else set()
            missing = [(at, examples[at].asked) for at in places if at not in known]
            if not missing:
                continue
            vectors = self._embedder.encode([asked.text for _, asked in missing], run)
            if not exists:
                self._create(name, len(vectors[0]))
                exists = True
            self._require_size(name, len(vectors[0]))
            points = [
                qdrant.PointStruct(id=at, vector=vector.tolist(), payload=_payload(asked))
                for (at, asked), vector in zip(missing, vectors, strict=True)
            ]
            self._client.upsert(name, points, wait=True)
        log.info("indexed %d solved questions as %s", len(examples), name)

    def _create(self, name: str, size: int) -> None:
        parameters = qdrant.VectorParams(size=size, distance=qdrant.Distance.COSINE)
        try:
            self._client.create_collection(name, vectors_config=parameters)
        except (ApiException, ValueError):
            # Another worker has just created it; points have fixed ids, so both may fill it.
            if not self._client.collection_exists(name):
                raise

    def _require_size(self, name: str, size: int) -> None:
        if name not in self._sizes:
            vectors = self._client.get_collection(name).config.params.vectors
            self._sizes[name] = vectors.size if isinstance(vectors, qdrant.VectorParams) else size
        if size != (indexed := self._sizes[name]):
            raise Held(
                f"the model gives vectors of {size} dimensions, the index {name} has {indexed}: if it is "
                "another model now, delete this collection of Qdrant, then `votequeue resume` the run"
            )


def _payload(asked: PromptQuestion) -> dict[str, str]:
    return dict(zip(PAYLOAD, (asked.problem_identity, dataset.identity(asked.text)), strict=True))


def open_client(url: str | None, key: str | None) -> QdrantClient:
    """Open Qdrant: the server at the URL, or else an index in this process's memory.

    Raises:
        ServiceUnreachable: the server does not answer.
    """
    if url is None:
        return QdrantClient(":memory:")
    try:
        # Servers on loopback are called without the environment's proxies.
        proxied = not urls.stays_here(url)
        client = QdrantClient(url=url, api_key=key, timeout=10, check_compatibility=False, trust_env=proxied)
        client.get_collections()
    # An invalid proxy raises a ValueError; a proxy that needs a missing package, an ImportError.
    except (*AWAY, ValueError, ImportError) as error:
        raise _unreachable(error) from error
    return client


def _request(vector: Vectors, asked: PromptQuestion, count: int, same_problem: bool) -> qdrant.QueryRequest:
    key = PAYLOAD[same_problem]
    itself = qdrant.FieldCondition(key=key, match=qdrant.MatchValue(value=_payload(asked)[key]))
    return qdrant.QueryRequest(query=vector.tolist(), limit=count, filter=qdrant.Filter(must_not=[itself]))


def _unreachable(error: Exception) -> ServiceUnreachable:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ServiceUnreachable(f"Qdrant does not answer ({reason}): see VOTEQUEUE_QDRANT_URL")
