"""The soak: hundreds of tasks that use the driver in every way at once, while everything goes wrong.

    python -m tests.soak --seconds 600 --seed 7 --pg 18

Theory of operation. A run is a row of epochs. In an epoch every actor takes a number of turns, at the same time as all
others; a turn is one action (actions/), on one route (routes.py), with one interruption or none (interruption.py). All
of that is decided by the seed, the actor and the turn's number alone (decision.py), so a seed gives the same decisions
again; what the event loop and the server make of them is up to chance. After a given number of turns the weather
changes (weather.py): a backend is killed, a query cancelled from outside, a link cut, slowed down or sliced.

What is checked, always:

- every reply is its caller's: it carries the token that this one call sent (turn.py);
- every error is excused by what was done to that route, or asked for by the action (excuses.py);
- everything that is awaited settles: the watchdog shows the stack of what does not (watchdog.py).

And after each epoch, when all actors have finished their turns and nothing is under way (accounts.py, ledger.py):

- what was acknowledged stands in the table exactly once, what was refused or rolled back never, and what nobody knows
  about at most once, a batch as a whole or not at all;
- the server has the backends of the pools' idle connections and no other, none of them in a transaction;
- no task, no descriptor and no object of the driver's is left over, and memory stays level.

Nothing is asserted about time. Counts end a run, or the clock where `--seconds` asks for it.
"""
