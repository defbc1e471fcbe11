"""What a node makes of what callers send and workers finish."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from dingo_zmq.errors import UsageError
from dingo_zmq.events import EventCode, Level
from dingo_zmq.model import Status, check_part, counted
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.guest_link import CALLERS_MOST, GuestLink, Usage
from dingo_zmq.protocol.guests import Guest, Guests
from dingo_zmq.protocol.intake import (
    ASKING_SECONDS,
    DEAF_SECONDS,
    LATER,
    NEVER,
    QUEUED,
    RUNNING,
    Bounds,
    Function,
    Held,
    Link,
)
from dingo_zmq.protocol.publisher import (
    Action,
    Identity,
    Interrupt,
    Note,
    Overrun,
    Publish,
    Publisher,
    Resume,
    Start,
    refs_of,
)
from dingo_zmq.protocol.refusals import Refusals
from dingo_zmq.protocol.starter import Bundle, Starter

__all__ = ["Action", "Identity", "Interrupt", "Node", "Note", "Overrun", "Publish", "Resume", "Start"]

FORGET_SECONDS = 60.0
KEEP_SECONDS, KEEP_BYTES = 600.0, 256 * 1024 * 1024
"""how long links of silent callers with a journal are kept instead, and how many bytes of answers for all"""
PULSE_SECONDS = 1.0
BURIED_MOST = 4096
RESTART_SECONDS = 2.0
"""a process that is to be started anew waits so long at most until its last words are heard"""


class Node:
    """
    A node: takes tasks in, has them started, keeps answers until they are heard.

    Args:
        identity: who it is.
        functions: what it serves; `Function.pool` names one of `pools`.
        pools: number of workers of each pool.
        now: when it started.

    `bounds` says how much it keeps, for how many callers; to be set before the first one comes.
    Every method takes `now`, monotonic seconds, last.  What is to be done is appended to `out`; the doer
    takes it with `take()`.
    """

    def __init__(
        self, identity: Identity, functions: Iterable[Function], pools: Mapping[str, int], now: float
    ) -> None:
        self.identity = identity
        self.functions = {function.name: function for function in functions}
        self.starter = Starter(dict(pools))
        self.bounds = Bounds()
        self._was_full = False
        self.links: dict[bytes, Link] = {}
        self.by_caller: dict[str, Link] = {}
        self._publisher = Publisher(identity, self.functions, self.starter, self.links, now)
        self.out, self._watches = self._publisher.out, self._publisher.watches
        self._next_pulse = self._ticked = now
        self._restart_at = LATER
        self._given_up: set[tuple[bytes, str, int]] = set()  # what ran when it was to restart: base of link, ref
        self._dirty: dict[Link, None] = {}
        self._owed: dict[Link, None] = {}  # links whose credit has risen without a report that tells
        self._buried: dict[bytes, None] = {}  # links that were forgotten: a late HELLO must not begin them anew
        self._lives: dict[str, int] = {}  # the latest of each caller with a journal
        self._refusals = Refusals()
        self.guests = Guests()
        self._usages: dict[str, Usage] = {}  # of guests, by the names of their callers
        self._handlers: dict[type, Callable[[Link, Any, float], None]] = {
            m.Beat: self._beat,
            m.Taken: self._taken,
            m.Cancel: self._cancel,
            m.Recall: self._recall,
            m.Go: self._go,
            m.Bye: self._bye,
        }

    # ------------------------------------------------------------------ for the doer

    def take(self) -> list[Action]:
        """Return what is to be done, in order."""
        out = self.out[:]
        self.out.clear()
        return out

    @property
    def draining(self) -> bool:
        """Whether it takes no more tasks."""
        return self._publisher.draining

    @property
    def wakeup(self) -> float:
        """The next moment at which `tick` would do something."""
        if self._owed:
            return NEVER  # at once
        reclaim = self.starter.wakeup
        soonest = min(self._next_pulse, self._restart_at)
        return soonest if reclaim is None else min(soonest, reclaim)

    @property
    def held(self) -> int:
        """How many tasks it holds in all."""
        return self._publisher.held

    @property
    def drained(self) -> bool:
        """Whether nothing runs and nothing is kept."""
        alive = self._ticked - DEAF_SECONDS  # nobody will hear what is kept for a caller silent for longer
        return not self.starter.active and not any(k.kept and k.touched >= alive for k in self.links.values())

    @property
    def restarting(self) -> bool:
        """Whether its process is to end, since a thread of it cannot be ended alone."""
        return self._restart_at != LATER

    @property
    def over(self) -> bool:
        """Whether it is restarting and nothing is left to be heard, or time is up: the process is to end now."""
        return self.restarting and (self.drained or self._ticked >= self._restart_at)

    def received(self, message: Any, buffers: tuple[Any, ...], now: float) -> None:
        """A caller sent a message (as `wire.decode_caller` returns it)."""
        if type(message) is m.Hello:
            self._hello(message, now)
            return
        link = self.links.get(message.link)
        if link is None:
            known = type(message) is m.Tasks or type(message) is m.Beat
            if known and not self.guests.is_stranger(message.caller):
                what = m.REFUSED_UNKNOWN, "this node knows no such link"
                with suppress(UsageError):  # whoever has no name that can be a topic is not told either
                    self._publisher.refuse(check_part("caller", message.caller), message.link, *what)
            return
        link.touched = now
        link.proved = True
        if type(message) is m.Tasks:
            self._tasks(link, message, buffers, now)
        else:
            self._handlers[type(message)](link, message, now)
        self._start(now)

    def subscribed(self, caller: str, now: float) -> None:
        """A caller's subscription has arrived: say again what it may have missed."""
        link = self.by_caller.get(caller)
        if link is not None and not link.proved:
            self._publisher.welcome(link, link.hello, now)

    def watch(self, prefix: bytes, wanted: bool) -> None:
        """Somebody subscribes to (or leaves) a prefix of the topics `watch/...`."""
        self._publisher.watch(prefix, wanted)

    def finished(
        self,
        bundle: Bundle,
        answers: list[tuple[Held, int, bytes, tuple[Any, ...]]],
        seconds: float,
        ended: bool,
        now: float,
    ) -> None:
        """
        A worker has finished tasks of its bundle.

        Args:
            bundle: as it came with `Start`.
            answers: task, status (SUCCESS or FAIL), body and buffers of each.
            seconds: what they took together.
            ended: whether the worker is free again.
        """
        dirty = self._dirty
        for held, status, body, buffers in answers:
            link = held.link
            link.answer(held, status, body, buffers)
            dirty[link] = None
        if answers:
            self._publisher.done += len(answers)
            self.starter.progressed(bundle, len(answers), seconds, now)
        if ended:
            self.starter.ended(bundle)
            self._start(now)

    def overran(self, bundle: Bundle, held: Held, body: bytes, now: float, *, restart: bool) -> None:
        """
        A task has run for too long: it ends with FAIL, and its worker is taken for lost.

        Args:
            bundle, held: as they came with `Overrun`.
            body: the failure.
            restart: whether the process has to end for it.  Then what has not started is given back, and what
                runs is given up; its callers count no loss.
        """
        self.finished(bundle, [(held, int(Status.FAIL), body, ())], now - bundle.since, False, now)
        self.starter.ended(bundle)
        if restart:
            self.restart(now)
        self._start(now)
        self.flush(now)

    def restart(self, now: float) -> None:
        """
        The process has to end for a task that nothing else can end; it is `over` soon.

        What has not started is given back, and what runs is given up; its callers count no loss.  A node that
        drains ends anyway.
        """
        if self.draining:
            return
        self._restart_at = now + RESTART_SECONDS
        self.drain(now)
        for link in self.links.values():
            running = list(link.all_held())  # the rest was given back
            for held in running:
                link.drop(held)
                link.running -= 1
                self._given_up.add((link.base, held.lane.function.name, held.number))
            if running:
                self._publisher.tell(link, m.Recalled(link.token, refs_of(running), m.RESTARTING))
        for bundle in list(self.starter.active):
            self.starter.ended(bundle)

    def resize(self, pool: str, slots: int, now: float) -> None:
        """A pool has another number of workers; a grant made before stands, and runs out as tasks finish."""
        self.starter.pools[pool].resize(slots)
        for function in self.functions.values():
            if function.pool == pool:
                function.resize(slots)
        for link in self.links.values():
            self._publisher.welcome(link, link.hello, now)
            self._owed[link] = None
        self._start(now)

    def admit(self, guests: Iterable[Guest], now: float) -> None:
        """
        These are the guests from now on.

        Of one who is none any more nothing is left here: what has not started is dropped, what runs is told to
        cancel, and nothing more is said to it.
        """
        self.guests.replace(guests)
        changed = {}
        for name, usage in list(self._usages.items()):
            guest = self.guests.of_caller(name)
            if guest is None:
                del self._usages[name]
                for link in usage.links.copy():
                    self._forget(link)
                    self.out.append(Note(f"forgotten: guest {usage.guest.name} is none any more", link.caller))
            elif guest != usage.guest:
                changed[usage] = usage.guest = guest
        for usage in changed:
            for link in usage.links:
                self._give_back(link, link.renew(self.functions), usage.forbidden)
                self._publisher.welcome(link, link.hello, now)
                self._owed[link] = None

    def progressed(self, held: Held, body: bytes, now: float) -> None:
        """A function told of its progress."""
        if not held.link.dead and held.state is RUNNING:
            self._publisher.told(held, Status.PROGRESS, body)

    def yielded(self, held: Held, body: bytes, buffers: tuple[Any, ...], now: float) -> None:
        """A function yielded a value; it goes out with the next flush."""
        link = held.link
        if not link.dead and held.state is RUNNING and not held.cancelled:
            link.value(held, body, buffers)
            self._dirty[link] = None

    def refused(self, held: Held, reason: str, now: float) -> None:
        """
        Whoever was to run a task has refused it unstarted: it goes back to its caller.

        Its worker hands it in as finished all the same, with FAIL; that is not kept.
        """
        if not held.link.dead and held.state is RUNNING and not held.cancelled:
            held.cancelled = True
            self._publisher.tell(held.link, m.Recalled(held.link.token, refs_of([held]), reason[: m.TEXT_MOST]))

    def flush(self, now: float) -> None:
        """Publish the answers that are ready; called once per round of the I/O loop."""
        dirty, self._dirty = self._dirty, {}
        for link in dirty:
            if not link.pending:  # nobody waits for what was cancelled
                self._owed[link] = None
            self._publisher.reports(link, now)

    def unpublished(self, refused: Publish) -> None:
        """The socket refused a message: what it carried counts as not published."""
        for answer in refused.answers:
            answer.at = NEVER
        if refused.topic.startswith(b"watch/"):
            caller = refused.topic.decode().split("/")[1]
            text = "a copy of a report was dropped, since somebody who watches is too slow"
            self.out.append(Note(text, caller, Level.DEBUG, EventCode.DROPPED))

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._ticked = now
        self.starter.reclaim(now)
        for bundle in self.starter.overdue(now):
            for held in bundle.all:
                if held.state is RUNNING:
                    self.out.append(Overrun(bundle, held))
        if now >= self._next_pulse:
            self._next_pulse = now + PULSE_SECONDS
            self._forget_the_silent(now)
            self._look_at_bounds()
            self.out += self._refusals.tick(now)
            self.out += self.guests.tick(now)
            self._publisher.pulse(now)
        self._start(now)
        if self._owed:
            self._give_credit(now)

    def _forget_the_silent(self, now: float) -> None:
        silent = [link for link in self.links.values() if now - link.touched > FORGET_SECONDS]
        away = []  # those whose journals may be opened again
        for link in silent:
            if link.life and now - link.touched <= KEEP_SECONDS:
                away.append(link)
                continue
            seconds = KEEP_SECONDS if link.life else FORGET_SECONDS
            self._forget(link)
            self.out.append(Note(f"forgotten after {seconds:.0f} s of silence", link.caller, code=EventCode.LOST))
        if any(link.kept for link in away):
            self._bound_those_away(away)

    def _bound_those_away(self, away: list[Link]) -> None:
        """Answers to callers that are away may fill half of what is kept for all, the rest is for those here."""
        away.sort(key=lambda link: link.touched)
        bounds = (
            (KEEP_BYTES, "bytes", [link.kept_bytes for link in away]),
            (self.bounds.kept // 2, "answers (half of max_kept)", [len(link.kept) for link in away]),
            (self.bounds.kept_bytes // 2, "bytes (half of max_kept_bytes)", [link.large_bytes for link in away]),
        )
        for most, what, sizes in bounds:
            left = sum(sizes)
            for link, size in zip(away, sizes, strict=True):
                if left <= most:
                    break
                left -= size
                if link.dead:
                    continue
                text = f"forgotten before its journal is opened again: over {most:,} {what} are kept for such"
                self._forget(link)
                self.out.append(Note(text, link.caller, Level.WARNING, EventCode.LOST))

    def _look_at_bounds(self) -> None:
        """Take no more tasks while too many answers are kept, and take some again after that."""
        bounds = self.bounds
        kept = sum([len(link.kept) for link in self.links.values()])
        bounds.crowded = kept > bounds.kept
        if bounds.full == self._was_full:
            return
        self._was_full = bounds.full
        if bounds.full:
            text = (
                f"keeps {counted(kept, 'answer')} that callers have not heard, {bounds.taken:,} bytes in large "
                "ones: no more tasks are taken until they have"
            )
            self.out.append(Note(text, "", Level.WARNING, EventCode.GENERIC))
        else:
            self._owed.update(dict.fromkeys(self.links.values()))

    def drain(self, now: float) -> None:
        """Take no more tasks, give back what has not started, and let the rest finish."""
        if self.draining:
            return
        self._publisher.draining = True
        self.starter.reclaim_all()
        for link in self.links.values():
            self._give_back(link, list(link.all_held()), m.DRAINING)
            self._publisher.credit(link, 0, now)

    # ------------------------------------------------------------------ messages

    def _hello(self, hello: m.Hello, now: float) -> None:
        try:
            check_part("caller", hello.caller)
        except UsageError as exc:
            self.out += self._refusals.refused("", "caller", str(exc), now)
            return
        if self.guests.is_stranger(hello.caller):
            self.out += self.guests.refused("", f"hello as {hello.caller}", now)
            return
        link = self.links.get(hello.link)
        refusal = self._objection(hello, link)
        if refusal:
            self._publisher.refuse(hello.caller, hello.link, *refusal)
            self.out += self._refusals.refused(hello.caller, *refusal, now)
            return
        if link is None:
            link = self._new_link(hello, now)
            if link is None:
                return
        link.touched = now
        link.hello = max(link.hello, hello.number)
        self._publisher.welcome(link, hello.number, now)

    def _new_link(self, hello: m.Hello, now: float) -> Link | None:
        """Return the link that a HELLO opens or takes over; None where there is no room, or a newer one."""
        older = self.by_caller.get(hello.caller)
        if hello.life:
            self._lives.pop(hello.caller, None)
            self._lives[hello.caller] = hello.life
            if len(self._lives) > BURIED_MOST:
                del self._lives[next(iter(self._lives))]
        if older is not None:
            if hello.life > older.life > 0:
                self._take_over(older, hello)
                return older
            if hello.number <= older.hello:
                return None
            self._forget(older)
        usage = self._usage(hello.caller, now)
        if usage is not None and not self._has_room(usage.links, CALLERS_MOST, now):
            what = f"a caller beyond the {CALLERS_MOST} that a guest may have at a time"
            self.out += self.guests.refused(usage.guest.name, what, now)
            return None
        if not self._has_room(self.links.values(), self.bounds.callers, now):
            text = f"no more than {counted(len(self.links), 'caller')} at a time; hint: max_callers"
            self.out += self._refusals.refused(hello.caller, "callers", text, now)
            return None  # it says HELLO again
        about = hello.link, hello.caller, self.functions.values(), now, self.bounds, hello.life
        link = Link(*about) if usage is None else GuestLink(usage, *about)
        self.links[link.token] = self.by_caller[link.caller] = link
        return link

    def _take_over(self, link: Link, hello: m.Hello) -> None:
        del self.links[link.token]
        self._bury(link.token)
        link.taken_over(hello.link, hello.life)
        self.links[link.token] = link
        held = sum(len(lane.held) for lane in link.lanes.values())
        text = f"its journal was opened again: {counted(held, 'task')} held, {len(link.kept)} answers kept"
        self.out.append(Note(text, link.caller, code=EventCode.FOUND))

    def _has_room(self, links: Collection[Link], most: int, now: float) -> bool:
        """Return whether one more caller may come; one that is silent and has nothing here makes room."""
        if len(links) < most:
            return True
        for link in links:
            if link.touched < now - DEAF_SECONDS and not link.kept and not any(link.all_held()):
                self._forget(link)
                return True
        return False

    def _usage(self, caller: str, now: float) -> Usage | None:
        """Return what the guest has here whose caller this is, None for a caller that is no guest's."""
        guest = self.guests.of_caller(caller)
        if guest is None:
            return None
        usage = self._usages.get(guest.caller)
        if usage is None:
            usage = self._usages[guest.caller] = Usage(guest, now)
        return usage

    def _objection(self, hello: m.Hello, link: Link | None) -> tuple[str, str] | None:
        me = self.identity
        if hello.life < self._lives.get(hello.caller, 0):
            return m.REFUSED_LIFE, "another program has opened the journal of this caller since"
        if m.VERSION not in hello.versions:
            return m.REFUSED_VERSION, f"{me.name} speaks protocol version {m.VERSION}, not {hello.versions}"
        if hello.mesh != me.mesh:
            return m.REFUSED_MESH, f"{me.name} belongs to mesh {me.mesh!r}, not {hello.mesh!r}"
        believed = hello.incarnation
        if (believed and (link is None or believed != me.incarnation)) or hello.link in self._buried:
            return m.REFUSED_UNKNOWN, "this node knows no such link"
        return None

    def _tasks(self, link: Link, tasks: m.Tasks, buffers: tuple[Any, ...], now: float) -> None:
        link.heard(tasks.heard)
        for name, wanted in tasks.wanted.items():
            lane = link.lanes.get(name)
            if lane is not None and wanted:
                lane.wants_until = now + ASKING_SECONDS
        taken, refused = link.accept(tasks.items, buffers)
        for reason, refs in refused.items():
            self._publisher.tell(link, m.Recalled(link.token, refs, reason))
            if isinstance(link, GuestLink) and reason == link.usage.forbidden:
                what = f"tasks of functions that it may not run ({', '.join(refs)})"
                self.out += self.guests.refused(link.usage.guest.name, what, now)
        if len(taken) < len(tasks.items):
            self._tell_repeats(link, len(tasks.items) - len(taken), refused)
        if self.draining:
            self._give_back(link, taken, m.DRAINING)
            return
        self.starter.add(taken, now)
        for held in taken:
            if held.options.monitor_progress or self._watches:
                self._publisher.told(held, Status.SENT, b"")

    def _beat(self, link: Link, beat: m.Beat, now: float) -> None:
        if beat.incarnation != self.identity.incarnation:
            self._publisher.refuse(link.caller, link.token, m.REFUSED_UNKNOWN, "the link is another incarnation's")
            return
        link.heard(beat.heard)
        link.previous_beat, link.last_beat = link.last_beat, now
        for name, (last, _, wanted) in beat.lanes.items():
            lane = link.lanes.get(name)
            if lane is not None:
                lane.seen = max(lane.seen, last)
                lane.wants_until = now + ASKING_SECONDS if wanted else NEVER
        missing, left = link.lost_and_left(beat.lanes, beat.open)
        for held in left:
            self._stop(held)
        for answer in link.stale_answers():
            self._publisher.publish(link, [answer], now)
        if missing:
            self._tell_missing(link, missing)
        if beat.taken:
            self._resume(link, beat.taken)
        self._publisher.credit(link, beat.number, now)

    def _taken(self, link: Link, message: m.Taken, now: float) -> None:
        link.heard(message.heard)
        self._resume(link, message.taken)

    def _resume(self, link: Link, taken: m.Totals) -> None:
        """Tell those who run streams how far their readers are; what does not run yet hears it later."""
        for name, totals in taken.items():
            for number, total in totals:
                for held in link.find({name: [number]}):
                    # A caller with a journal takes values before it may say that it has heard them.
                    known = min(total, link.values_heard(held)) if link.life else total
                    self.out.append(Resume(held, known))

    def _cancel(self, link: Link, cancel: m.Cancel, now: float) -> None:
        found = link.find(cancel.refs)
        if cancel.tell:
            self._give_back(link, found, m.CANCELLED)
        for held in found:
            # what is cancelled without having been awaited was refused, and went back
            held.awaited = cancel.tell and (held.awaited or not held.cancelled)
            self._stop(held)

    def _recall(self, link: Link, recall: m.Recall, now: float) -> None:
        self._give_back(link, link.find(recall.refs), m.GIVEN_BACK)

    def _go(self, link: Link, go: m.Go, now: float) -> None:
        for held in link.find(go.refs):
            if held.state is QUEUED:
                self.starter.go(held)

    def _bye(self, link: Link, bye: m.Bye, now: float) -> None:
        self._forget(link)

    # ------------------------------------------------------------------ inside

    def _start(self, now: float) -> None:
        starter = self.starter
        if starter.agenda.items:
            self._expire(now)
        self._claim(now)
        for bundle in starter.start(now):
            self.out.append(Start(bundle))
            for held in bundle.all:
                if not held.told and (held.options.monitor_progress or self._watches):
                    held.told = True
                    self._publisher.told(held, Status.PROGRESS, b"")
        if starter.passed:
            self._claim(now)

    def _claim(self, now: float) -> None:
        for held in self.starter.claims(now):
            self._publisher.tell(held.link, m.Claim(held.link.token, refs_of([held])))

    def _expire(self, now: float) -> None:
        """Give back what has not started in time."""
        for held in self.starter.expired(now):
            self._give_back(held.link, [held], m.EXPIRED)

    def _stop(self, held: Held) -> None:
        if held.state is QUEUED:
            self.starter.forget(held)
            held.link.drop(held)
            self._owed[held.link] = None
        elif held.state is RUNNING and not held.cancelled:
            held.cancelled = True
            self.out.append(Interrupt(held))

    def _give_back(self, link: Link, tasks: list[Held], reason: str) -> None:
        back = [held for held in tasks if held.state is QUEUED]
        for held in back:
            self._stop(held)
        if back:
            self._publisher.tell(link, m.Recalled(link.token, refs_of(back), reason))

    def _tell_repeats(self, link: Link, untaken: int, refused: dict[str, m.Refs]) -> None:
        repeats = untaken - sum([len(numbers) for refs in refused.values() for numbers in refs.values()])
        if repeats:
            text = f"{counted(repeats, 'task')} came twice or too late: dropped"
            self.out.append(Note(text, link.caller, Level.DEBUG, EventCode.REPEATED))

    def _tell_missing(self, link: Link, refs: dict[str, list[int]]) -> None:
        """Say of tasks that they will never start here or, where that is the truth, that they were given up."""
        missing: dict[str, list[int]] = {}
        given_up: dict[str, list[int]] = {}
        for name, numbers in refs.items():
            for number in numbers:
                where = given_up if (link.base, name, number) in self._given_up else missing
                where.setdefault(name, []).append(number)
        if missing:
            self._publisher.tell(link, m.Missing(link.token, missing))
        if given_up:
            self._publisher.tell(link, m.Recalled(link.token, given_up, m.RESTARTING))

    def _forget(self, link: Link) -> None:
        self.links.pop(link.token, None)
        self._bury(link.token)
        if self.by_caller.get(link.caller) is link:
            del self.by_caller[link.caller]
        for held in link.bury():
            self._stop(held)

    def _bury(self, token: bytes) -> None:
        self._buried[token] = None
        if len(self._buried) > BURIED_MOST:
            del self._buried[next(iter(self._buried))]

    def _give_credit(self, now: float) -> None:
        """Tell the callers whose tasks were cancelled or given back that there is room again."""
        owed, self._owed = self._owed, {}
        for link in owed:
            if not link.dead and not self.draining and link.has_room(now):
                self._publisher.credit(link, 0, now)
