class Plan:
    """The codecs of one statement's parameters and columns, and the parts of Bind that are alike for all executions."""

    @property
    def name(self) -> bytes: ...
