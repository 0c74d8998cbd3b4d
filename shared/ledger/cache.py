"""Cached results of paid calls: reasonings and translations, each paid for once.

    reserve(["甲比乙高。"], Route("zh", "ja", "tencent", "TextTranslateBatch"), "host:812:9f", 60.0)
        ->  Reserved(found={}, mine=["甲比乙高。"], others=[])

A worker reserves a text while it translates it, so that no other worker pays for the same text.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from shared.ledger import engine, schema
from shared.options import Augmentation
from shared.prompts import PromptQuestion

reasonings, translations = schema.reasonings.c, schema.translations.c


def digest(*parts: object) -> str:
    """Give the sha256 of some values in hex: the key of a text or a question."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


# Reasonings


@dataclass(frozen=True)
class Wanted:
    """A requested reasoning: for a question and a letter, right (label correct) or wrong."""

    asked: PromptQuestion
    letter: str
    label: str
    provider: str
    prompt: str

    @property
    def key(self) -> dict[str, str]:
        """Give its key columns, except for the model."""
        question = digest(self.asked.problem, self.asked.question, self.asked.options)
        named = {"letter": self.letter, "label": self.label, "provider": self.provider, "prompt": self.prompt}
        return {"question": question, **named}


def find_reasoning(wanted: Wanted, models: Sequence[str]) -> tuple[str, str] | None:
    """Find an agreeing reasoning by the first of ``models`` that has one: the model and the text."""
    same = [schema.reasonings.c[name] == value for name, value in wanted.key.items()]
    query = sa.select(reasonings.model, reasonings.text).where(*same, reasonings.model.in_(models))
    with engine.reading() as connection:
        texts = {row.model: row.text for row in connection.execute(query)}
    return next(((model, texts[model]) for model in models if model in texts), None)


def have_reasonings(wanted: Sequence[Wanted], models: Sequence[str]) -> list[bool]:
    """Tell for each requested reasoning whether an agreeing one by one of ``models`` is cached."""
    keys = [tuple(one.key.values()) for one in wanted]
    columns = reasonings.question, reasonings.letter, reasonings.label, reasonings.provider, reasonings.prompt
    query = sa.select(*columns).where(
        reasonings.question.in_({key[0] for key in keys}), reasonings.model.in_(models)
    )
    with engine.reading() as connection:
        there = {tuple(row) for row in connection.execute(query)}
    return [key in there for key in keys]


def keep_reasoning(connection: sa.Connection, wanted: Wanted, model: str, text: str) -> None:
    """Store an agreeing reasoning, unless there is one already."""
    engine.insert_missing(connection, schema.reasonings, [{**wanted.key, "model": model, "text": text}])


# Translations: the translation memory


@dataclass(frozen=True)
class Route:
    """Source and target language, provider, model and prompt."""

    source: str
    target: str
    provider: str
    model: str


def routes(options: Augmentation) -> tuple[Route, Route]:
    """Give the routes of a run's texts: to the pivot language and back.

    The prompt is part of the route, since its translations differ.
    """
    language, pivot = options.language or "", options.pivot or ""
    model = f"{options.model}:{options.prompt}" if options.prompt else options.model or ""
    service = options.provider or "", model
    return Route(language, pivot, *service), Route(pivot, language, *service)


@dataclass(frozen=True)
class Reserved:
    """Cached translations, texts reserved for the caller, and texts that others have reserved."""

    found: dict[str, str]
    mine: list[str]
    others: list[str]


def find_translations(texts: Iterable[str], route: Route) -> dict[str, str]:
    """Find cached translations."""
    keys = {digest(text): text for text in texts}
    translated = {}
    with engine.reading() as connection:
        for row in connection.execute(sa.select(schema.translations).where(*_at(keys, route))):
            if row.result is not None:
                translated[keys[row.text]] = row.result
    return translated


def reserve(texts: Iterable[str], route: Route, holder: str, lease: float) -> Reserved:
    """Look up texts, and reserve the missing ones that are free for ``lease`` seconds.

    Texts that the holder has reserved already are extended to ``lease`` seconds from now.
    """
    keys = {digest(text): text for text in texts}
    translated: dict[str, str] = {}
    mine: list[str] = []
    others: list[str] = []
    with engine.writing() as connection:
        now = engine.now(connection)
        held = {"holder": holder, "until": now + lease}
        if keys:
            # In key order, so that two workers that reserve the same texts do not deadlock.
            rows = [{"text": key, **route.__dict__, **held} for key in sorted(keys)]
            engine.insert_missing(connection, schema.translations, rows)
        free = sa.or_(translations.until < now, translations.holder.is_(None), translations.holder == holder)
        connection.execute(
            schema.translations.update()
            .where(*_at(keys, route), translations.result.is_(None), free)
            .values(**held)
        )
        for row in connection.execute(sa.select(schema.translations).where(*_at(keys, route))):
            text = keys[row.text]
            if row.result is not None:
                translated[text] = row.result
            else:
                (mine if row.holder == holder else others).append(text)
    order = {text: at for at, text in enumerate(keys.values())}
    return Reserved(translated, sorted(mine, key=order.__getitem__), sorted(others, key=order.__getitem__))


def keep_translations(connection: sa.Connection, translated: Mapping[str, str], route: Route) -> None:
    """Store translations of reserved texts."""
    for text, result in translated.items():
        connection.execute(
            schema.translations.update()
            .where(*_at([digest(text)], route), translations.result.is_(None))
            .values(result=result, holder=None, until=None)
        )


def give_up(texts: Iterable[str], route: Route, holder: str) -> None:
    """Release reserved texts that could not be translated now."""
    keys = [digest(text) for text in texts]
    with engine.writing() as connection:
        connection.execute(
            schema.translations.update()
            .where(*_at(keys, route), translations.result.is_(None), translations.holder == holder)
            .values(holder=None, until=None)
        )


def _at(keys: Iterable[str], route: Route) -> list[sa.ColumnElement[bool]]:
    same = [schema.translations.c[name] == value for name, value in route.__dict__.items()]
    return [translations.text.in_(list(keys)), *same]
