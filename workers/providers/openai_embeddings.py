"""Embed texts at any OpenAI-compatible endpoint: vLLM, Ollama, llama.cpp, a cloud account.

    OpenAIEmbeddings(service, "http://127.0.0.1:11434/v1", None, 120.0).embed(["甲比乙高。"])
        ->  Embedded([[0.013, -0.021, ...]], Usage(7, 0))

Floats are asked for, since not every server knows ``base64``; some send it nevertheless.
"""

import base64
import math
from collections.abc import Sequence
from typing import Any, Self

from shared.errors import Unreadable
from shared.settings import Settings
from workers.ports import Embedded, Prompt, Service
from workers.providers import error_details, openai
from workers.providers.error_details import ErrorAnswer
from workers.providers.openai import OpenAIChat


class OpenAIEmbeddings(OpenAIChat):
    """A model at an OpenAI-compatible endpoint, as a `ports.EmbeddingModel`."""

    @classmethod
    def of_chat(cls, service: Service, settings: Settings) -> Self:
        """Build a client of provider chat; the extra fields in the settings are those of chats."""
        return cls(service, settings.chat_base_url or "", settings.chat_api_key, settings.call_timeout)

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed texts, in one request."""
        text = "\n".join(texts)

        def read(body: dict[str, Any], _: dict[str, Any]) -> Embedded:
            return Embedded(self._vectors(body, len(texts)), openai.usage(body.get("usage"), text, ""))

        request = self._request({"input": list(texts), "encoding_format": "float"})
        return self._call(request, Prompt(text, 0, 0.0), read)

    def _resource(self, request: dict[str, Any]) -> Any:
        return self._client.embeddings

    def _read(self, answer: ErrorAnswer, request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        body = self._body(answer)
        if body.get("error") or ("data" not in body and error_details.is_error(body)):
            raise self._map_error(answer, request)
        return body, {}

    def _vectors(self, body: dict[str, Any], count: int) -> list[list[float]]:
        data = body.get("data")
        items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
        if len(items) != count:
            raise Unreadable(f"{self._host} gives {len(items)} vectors for {count} texts")
        # The index may be missing, but where it is given, it counts.
        items.sort(key=lambda item: item["index"] if isinstance(item.get("index"), int) else 0)
        vectors = [_vector(item.get("embedding")) for item in items]
        if not all(vectors) or len({len(vector) for vector in vectors}) > 1:
            raise Unreadable(f"{self._host} gives vectors that are no numbers or of different dimensions")
        return vectors


def _vector(value: object) -> list[float]:
    """Read a vector: numbers, or 32-bit floats in base64; what is neither is empty."""
    try:
        if isinstance(value, str):
            numbers = list(memoryview(base64.b64decode(value, validate=True)).cast("f"))
        else:
            numbers = [float(number) for number in value] if isinstance(value, list) else []
    except (ValueError, TypeError):
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
