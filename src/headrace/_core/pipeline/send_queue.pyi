from typing import final

@final
class SendQueue:
    """The queues on either side of the wire, and the bytes between them."""
