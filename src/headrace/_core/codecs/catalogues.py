"""The type catalogues of a pool: one for each server and database that its connections have reached.

An OID is valid on one server only, and a pool may reach several: another cluster after a switch, a restored backup on
the same address, several hosts. So a connection keeps a catalogue of its own until the server has identified itself
(introspection.IDENTITY). Then it shares the catalogue of the connections to the same server and database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace._core.codecs.typemap import TypeCatalogue

if TYPE_CHECKING:
    from headrace._core.codecs.introspection import ServerIdentity
    from headrace._core.codecs.typemap import TypeMap

__all__ = ["Catalogues"]


class Catalogues:
    """The types that one generation of a pool's connections has looked up.

    A connection keeps the Catalogues that it was opened with. A pool that replaces its connections begins with new
    ones, so a later generation never uses types that an earlier one has looked up.
    """

    def __init__(self) -> None:
        self._by_server: dict[ServerIdentity, TypeCatalogue] = {}
        self._only = TypeCatalogue()

    def for_connection(self, types: TypeMap) -> None:
        """Have a new connection share its catalogue with all connections to the same server.

        This sends no query. With `single_server`, by which the user says that there is one server, the connection joins
        the others at once. A connection behind a pooler keeps its own catalogue.
        """
        if types.single_server:
            types.share(self._only)
        else:
            types.find_in(self)

    def of(self, server: ServerIdentity) -> TypeCatalogue:
        """Return the catalogue of a server and database; a new one if no connection has reached it yet."""
        catalogue = self._by_server.get(server)
        if catalogue is None:
            self._by_server = {known: kept for known, kept in self._by_server.items() if kept.in_use}
            catalogue = self._by_server[server] = TypeCatalogue()
        return catalogue
