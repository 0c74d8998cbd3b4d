"""A registry: the entries of a plug point by name, ours and those of installed packages.

    PROVIDERS["tencent"]  ->  Provider("tencent", ...)

A package names an entry of its own in its metadata, as an entry point of the registry's group. Looking those
up reads the metadata of every installed package, so it waits for a name that is not ours, or for a listing.
"""

import importlib.metadata
import logging
import threading
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Protocol, TypeVar

log = logging.getLogger(__name__)


class Named(Protocol):
    """What a registry holds."""

    @property
    def name(self) -> str:
        """Name it."""


_Entry = TypeVar("_Entry", bound=Named)


class Registry(MutableMapping[str, _Entry]):
    """The entries of a plug point; ``built_in`` are ours alone, which are known without a look-up."""

    def __init__(self, group: str, kind: type[_Entry], built_in: Iterable[_Entry]) -> None:
        self.built_in = {entry.name: entry for entry in built_in}
        self._group, self._kind = group, kind
        self._entries, self._complete = dict(self.built_in), False
        # An entry point's module may look something up while it is loaded.
        self._adding = threading.RLock()

    def __getitem__(self, name: str) -> _Entry:
        if name not in self._entries:
            self._add_installed()
        return self._entries[name]

    def __setitem__(self, name: str, entry: _Entry) -> None:
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._add_installed()
        return iter(self._entries)

    def __len__(self) -> int:
        self._add_installed()
        return len(self._entries)

    def _add_installed(self) -> None:
        with self._adding:
            if not self._complete:
                self._complete = True
                for entry_point in importlib.metadata.entry_points(group=self._group):
                    self._add(entry_point)

    def _add(self, entry_point: importlib.metadata.EntryPoint) -> None:
        try:
            entry = entry_point.load()
        except Exception as error:  # noqa: BLE001  another package's fault must not stop every command
            entry = error
        if isinstance(entry, self._kind):
            # No package replaces an entry that is there.
            self._entries.setdefault(entry.name, entry)
        else:
            what = f"{self._kind.__name__.lower()} {entry_point.name}"
            log.warning("%s of an installed package cannot be loaded: %r", what, entry)
