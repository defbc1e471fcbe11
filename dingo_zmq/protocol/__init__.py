"""
The deciders: what callers and nodes say to each other, and what they make of it.

Nothing here knows a socket, a clock, a thread, randomness or a log.  Time comes in as `now` (monotonic
seconds), chance as the doer's dice, and what is to be done goes out as actions.  Bodies are opaque bytes.
"""
