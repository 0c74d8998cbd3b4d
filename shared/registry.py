"""A registry: implementations by name, our own and those of installed packages.

    PROVIDERS["tencent"]  ->  Provider("tencent", ...)

A package provides an entry as an entry point of the registry's group. The search reads the metadata of all
installed packages. So it starts only for an unknown name or a listing.
"""

import functools
import importlib.metadata
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

log = logging.getLogger(__name__)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Entry = TypeVar("_Entry", bound=_Named)


class Registry(Mapping[str, _Entry]):
    """Entries of one kind by name; ``built_in`` are our own."""

    def __init__(self, group: str, kind: type[_Entry], built_in: Iterable[_Entry]) -> None:
        self.built_in = {entry.name: entry for entry in built_in}
        self._group, self._kind = group, kind

    @functools.cached_property
    def entries(self) -> dict[str, _Entry]:
        """All entries; a package cannot replace a built-in one."""
        return {entry.name: entry for entry in self._installed()} | self.built_in

    def __getitem__(self, name: str) -> _Entry:
        return self.built_in[name] if name in self.built_in else self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def _installed(self) -> Iterator[_Entry]:
        for entry_point in importlib.metadata.entry_points(group=self._group):
            try:
                entry = entry_point.load()
            except Exception as error:  # noqa: BLE001  a fault in another package must not stop every command
                entry = error
            if isinstance(entry, self._kind):
                yield entry
            else:
                what = f"{self._kind.__name__.lower()} {entry_point.name}"
                log.warning("%s of an installed package cannot be loaded: %r", what, entry)
