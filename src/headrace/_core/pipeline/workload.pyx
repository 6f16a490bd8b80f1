"""The work of a connection: claims in flight, and how long the server is expected to take for them.

The cost of a text is the server's time alone, as measured by the session: neither the network nor the event loop's own
delays count. It is learnt for each text, since one text runs much the same plan each time.
"""

# Weight of the newest execution in the moving mean.
cdef double WEIGHT = 0.125


cdef class Cost:
    """How long the server takes for one text, learnt from its executions."""

    cdef int learn(self, double seconds) except -1:
        """Take in one more execution."""
        cdef:
            double leaving = self._recent[self._next]
            int at
        self._recent[self._next] = seconds
        self._next = (self._next + 1) % RECENT
        if self.measured == 0:
            self.mean = self.slowest = seconds
        else:
            self.mean += (seconds - self.mean) * WEIGHT
            if seconds >= self.slowest:
                self.slowest = seconds
            elif leaving >= self.slowest:
                self.slowest = 0
                for at in range(RECENT):
                    if self._recent[at] > self.slowest:
                        self.slowest = self._recent[at]
        self.measured += 1
        return 0

    cdef double expected(self) noexcept:
        """Seconds to expect: the larger of the mean and the slowest of the last sixteen; -1 before any execution."""
        if self.measured == 0:
            return -1
        return self.mean if self.mean > self.slowest else self.slowest

    def note(self, double seconds) -> None:
        """Take in one more execution."""
        self.learn(seconds)

    @property
    def seconds(self) -> float:
        """Seconds to expect of the next execution; -1 if the text has never been executed."""
        return self.expected()


cdef class Claim:
    """One caller's claim to a connection: it waits for one, or is in flight on one."""

    cdef int release(self) except -1:
        """The connection has done with it."""
        if self.work is not None:
            self.work.remove(self)
        return 0

    def finish(self) -> None:
        """The connection has done with it."""
        self.release()


cdef int link(Claim claim, Claim last) except -1:
    """Have a claim follow the last of a list."""
    claim.before = <void *>last if last is not None else NULL
    claim.behind = None
    return 0


cdef int unlink(Claim claim) except -1:
    """Take a claim out of its list, whose ends are its owner's."""
    cdef Claim before = claim_before(claim), behind = claim.behind
    if before is not None:
        before.behind = behind
    if behind is not None:
        behind.before = claim.before
    claim.before = NULL
    claim.behind = None
    return 0


cdef Claim claim_before(Claim claim):
    """The claim ahead of this one in its list, or None."""
    return <Claim>claim.before if claim.before != NULL else None


cdef class Workload:
    """The claims that one connection has in flight; the oldest first."""

    def __iter__(self):
        cdef Claim claim = self.first
        while claim is not None:
            yield claim
            claim = claim.behind

    cdef int add(self, Claim claim) except -1:
        """Take a claim on."""
        cdef double expected = claim.cost.expected() if claim.cost is not None else -1
        claim.expected = expected
        claim.work = self
        link(claim, self.last)
        if self.last is None:
            self.first = claim
        else:
            self.last.behind = claim
        self.last = claim
        self.count += 1
        if expected < 0:
            self.unmeasured += 1
        else:
            self.expected += expected
        return 0

    cdef Claim head(self):
        """Return the claim that the server works on, or None.

        It may not be the first: a claim that is sent once more goes behind those that were in flight meanwhile.
        """
        return self.begun if self.begun is not None else self.first

    cdef int remove(self, Claim claim) except -1:
        """A claim has ended, or goes elsewhere."""
        if self.begun is claim:
            self.begun = None
        if self.first is claim:
            self.first = claim.behind
        if self.last is claim:
            self.last = claim_before(claim)
        unlink(claim)
        claim.work = None
        self.count -= 1
        if claim.expected < 0:
            self.unmeasured -= 1
        else:
            self.expected -= claim.expected
        if self.count == 0:
            # Rounding errors must not add up.
            self.expected = 0
            self.overrun = False
        return 0
