from typing import final

@final
class Outbox:
    """The queues on either side of the wire, and the bytes between them."""
