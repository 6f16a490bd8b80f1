"""The type catalogues of a pool: one for each server and database that its connections have reached.

An OID means something on one server alone, and a pool may reach several: another cluster after a switch, a restored
backup on the same address, several hosts. So a connection learns alone until the server has told which one it is
(introspection.IDENTITY); then it joins the connections that have reached the same server and database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace._core.codecs.typemap import TypeCatalogue

if TYPE_CHECKING:
    from headrace._core.codecs.introspection import ServerIdentity
    from headrace._core.codecs.typemap import TypeMap

__all__ = ["Catalogues"]


class Catalogues:
    """The types that the connections of a pool have learnt, in one generation of its connections.

    A connection keeps the Catalogues that it was opened with. A pool that replaces its connections begins with new
    ones, so nothing that an earlier generation has learnt, or is about to learn, reaches a later one.
    """

    def __init__(self) -> None:
        self._by_server: dict[ServerIdentity, TypeCatalogue] = {}
        self._only = TypeCatalogue()

    def for_connection(self, types: TypeMap) -> None:
        """Have a new connection learn together with all that have reached the same server.

        Nothing is asked for it now. A connection whose operator has said that there is one server (`single_server`)
        joins the others at once; one that is behind a pooler goes on alone.
        """
        if types.single_server:
            types.share(self._only)
        else:
            types.find_in(self)

    def of(self, server: ServerIdentity) -> TypeCatalogue:
        """Return the catalogue of a server and database, a new one if none of the connections has met it."""
        catalogue = self._by_server.get(server)
        if catalogue is None:
            self._by_server = {known: kept for known, kept in self._by_server.items() if kept.in_use}
            catalogue = self._by_server[server] = TypeCatalogue()
        return catalogue
