class WriteBuffer:
    """A growing byte buffer that encoders write to."""

    def __len__(self) -> int: ...
