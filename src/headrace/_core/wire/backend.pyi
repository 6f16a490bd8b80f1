class Reader:
    """A cursor over one message body; reading past its end raises ProtocolError."""
