"""What becomes of a transaction that does not come to its end: a refusal, a return, and what a crash left of one.

What answers decides. The earlier release gets its requests back before anything else is done, and no slot is stopped
before the other one serves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from ..edge.haproxy import EdgeError
from ..host.errors import SlipwayError
from ..host.shown import head
from .model import Intent, TransactionError, other
from .records import MEASURED
from .sight import Sight
from .steps import Steps

# Why a transaction is brought to its end by another one.
CUT = "interrupted: what took this host there ended before it was recorded as good"


class WaysBack(Steps):
    """To the earlier release, or to whichever is well."""

    def reconcile(self) -> Optional[str]:
        """Finish or undo what a crashed transaction left; returns what was done, None where nothing was left.

        Of the two slots the one that is well serves. Where both are, the new one does once it got requests, unless the
        earlier release is wanted again. Where neither is, the earlier release is started again. So is one that made way
        for a release that got no requests yet: whether that keeps what it promises nobody has found out.

        Raises EdgeError and RuntimeFailed where it cannot be seen what serves, or be made to; nothing is stopped then.
        """
        self._try(self.store.forget_recall)
        intent = self._intent(forget=True)
        sight = self.look()
        if intent is None:
            return self._mend(sight)
        new, old = intent.slot, other(intent.slot)
        reached = intent.switched or (sight.runs(new) and sight.servers[new].enabled)
        back = intent.returning or self.request.release == intent.was != intent.release
        good = self._recorded_good(intent)
        ahead = good or (reached and not back)
        if intent.was and not (reached or good or sight.runs(old) or self._overlap(intent.release, intent.was)):
            if self._revive(old, intent.was):
                return self._undo(intent)
            sight = self.look()
        slot = self._first_well(sight, {new: intent.release, old: intent.was}, (new, old) if ahead else (old, new))
        if slot == new and intent.returning and intent.was and not sight.runs(old) and self._revive(old, intent.was):
            return self._undo(intent)
        if slot:
            return self._finish(intent) if slot == new else self._undo(intent)
        if intent.was and not sight.runs(old) and self._revive(old, intent.was):
            return self._undo(intent)
        self._try(lambda: self._record(intent, "failed", cause=f"{CUT}; neither slot is well"))
        self.store.drop_intent()
        return f"gave up the interrupted {intent.release}; neither slot is well"

    def _abandon(self, intent: Intent, error: Exception) -> SlipwayError:
        """Take the new slot away before it got a request; returns why. The old one was never touched, or made way.

        Where that has died, and the edge sees the new one well, this one serves until the old one is back, if both may
        run at once. Where it cannot be started, and the new one is well, it gets the requests.
        """
        new, old = intent.slot, other(intent.slot)
        runs = self._runs(old)
        if runs is False and intent.was and self._overlap(intent.release, intent.was) and self._answers(new):
            return self._return(intent, error)
        if runs is False and intent.was:
            runs = self._revive(old, intent.was)
            if not runs and not self.ready(new, intent.release).error:
                trouble = f"the earlier release {intent.was} could not be started again"
                return self._leave_both(intent, self._failure(intent, error), trouble)
        if intent.was and runs:
            self._try(lambda: self._keep(old, new) if self.gap() is None else self._confirm(old, new, storing=False))
            self._answered()
        return self._take_away(intent, self._failure(intent, error), dead=runs is False)

    def _return(self, intent: Intent, error: Exception) -> SlipwayError:
        """Send requests to the old slot again, then explain, then take the new one away; returns why."""
        self._try(lambda: self.store.write_intent(replace(intent, switched=True, returning=True)))
        trouble = self._phase("return", lambda: self._send_back(intent))
        failure = self._failure(intent, error)
        if trouble := trouble or self._empty(intent):
            return self._leave_both(intent, failure, trouble)
        return self._take_away(intent, failure)

    def _leave_both(self, intent: Intent, failure: SlipwayError, trouble: str) -> SlipwayError:
        """Whichever slot answers shall be asked, and the next run decides. Returns the failure with this `trouble`."""
        self._try(lambda: self._tell_edge(intent.slot, "ready"))
        self._answered()
        failure = _more(failure, f"; {trouble}, so both slots are left as they are")
        self._try(lambda: self._record(intent, "failed", cause=head(str(failure), 2000)))
        return failure

    def _send_back(self, intent: Intent, surely: bool = False) -> str:
        """Have the old slot serve, started again where it does not run; empty, or why it does not serve."""
        new, old = intent.slot, other(intent.slot)
        trouble = ""
        for _ in range(2):  # it may end while the edge is asked
            if self._runs(old) is False:
                if not intent.was:
                    return "there is no earlier release to return to"
                # The new one serves until the other one is back. Twice where a disk takes nothing: the first time sets
                # one of them, and fails to store that.
                self._try(lambda: self._keep(new, old)) or self._try(lambda: self._keep(new, old))
                if not self._revive(old, intent.was):
                    return f"the earlier release {intent.was} could not be started again"
            try:
                self._confirm(old, new, storing=False, surely=surely)
            except EdgeError as error:
                trouble = str(error)
            else:
                self._answered()
                return ""
            if self._runs(old) is not False:
                break
        return trouble

    def _empty(self, intent: Intent) -> str:
        """Wait for the requests of the new slot, and see that the old one still serves; empty, or why it does not."""
        self._phase("drain", lambda: self._wait_idle(intent.slot, other(intent.slot)))
        return self._send_back(intent, surely=True)

    def _take_away(self, intent: Intent, failure: SlipwayError, dead: bool = False) -> SlipwayError:
        """Stop the new slot and record the failure, which is returned with what kept that from being done, if anything.

        `dead` is an earlier release that could not be started again.
        """
        beside, trouble = self._only_earlier(intent, dead)
        if trouble:
            return self._leave_both(intent, failure, trouble)
        self._end_new(intent, failure, beside)
        return failure

    def _only_earlier(self, intent: Intent, dead: bool = False) -> tuple[bool, str]:
        """Have the processes of the earlier release run alone, some of which ended for those of the new one.

        That takes a while, in which the earlier release may die: it is started again then, and until it serves the new
        one does, if it can. Returns whether the processes are, and why the earlier release does not serve any more.
        """
        new, old = intent.slot, other(intent.slot)
        overlap = self._overlap(intent.release, intent.was or "")
        if not overlap:  # no process of one starts beside the other
            self._try(lambda: self.runtime.stop(new, self.request.stop_grace))
        beside = self._try(lambda: self._only_beside(old, intent.was))
        if dead or not intent.was or self._runs(old) is not False:
            return beside, ""
        # Else whoever comes after this would take the new one, which may get requests now, for one that was good.
        self._try(lambda: self.store.write_intent(replace(intent, switched=True, returning=True)))
        if overlap and self._answers(new):
            return beside, self._phase("return", lambda: self._send_back(intent)) or self._empty(intent)
        if not self._revive(old, intent.was):
            return beside, f"the earlier release {intent.was} could not be started again"
        self._try(lambda: self._confirm(old, new, storing=False))
        return beside, ""

    def _end_new(self, intent: Intent, failure: SlipwayError, beside: bool) -> None:
        """Stop the new slot and record why; what cannot be done is left to the next run, by the intent."""
        stopped = self._try(lambda: self.runtime.stop(intent.slot, self.request.stop_grace))
        cause = getattr(failure, "cause", str(failure))
        more = {name: failure.details[name] for name in MEASURED if name in failure.details}
        recorded = self._try(lambda: self._record(intent, "failed", cause=cause, **more))
        if beside and stopped and recorded:
            self._try(self.store.drop_intent)

    def _finish(self, intent: Intent) -> str:
        """Have the new release of an interrupted transaction serve alone."""
        self._switch(intent)
        self._confirm(intent.slot, other(intent.slot), surely=True)
        why = (intent.about.get("cause"), f"{CUT}; it is well and serves on")
        self._write_down(intent, cause="; ".join(str(words) for words in why if words))
        self._leave(intent)
        return f"finished the interrupted switch to {intent.release}"

    def _undo(self, intent: Intent) -> str:
        """Have the old release of an interrupted transaction serve alone."""
        trouble = self._phase("return", lambda: self._send_back(intent))
        if not trouble and self._runs(intent.slot):
            trouble = self._empty(intent)
        beside = False
        if not trouble:
            beside, trouble = self._only_earlier(intent)
        if trouble:
            self._try(lambda: self._tell_edge(intent.slot, "ready"))
            raise EdgeError(f"the interrupted release {intent.release} cannot be taken back: {trouble}")
        self._end_new(intent, TransactionError(f"{CUT}; {_serves_again(intent)}"), beside)
        return f"took back the interrupted {intent.release}"

    def _mend(self, sight: Sight) -> Optional[str]:
        """Without a transaction under way: a slot that is well gets requests, and the one that is not recorded none."""
        recorded = self._recorded_slot()
        live = sight.live(recorded)
        if live is None:
            return None
        release, beside = sight.slots[live].release, sight.slots[other(live)].release
        sick = not sight.serves(live) and sight.runs(other(live)) and not self._well(sight, live, release)
        if sick and self._well(sight, other(live), beside):
            self._confirm(other(live), live)
            self._try(self.store.drop_draining)
            return f"sent requests to slot {other(live)}, which is well, and none to {live}"
        if not sight.servers[live].enabled and self._well(sight, live, release):
            self._confirm(live, other(live))
            return f"sent requests to slot {live} again"
        if recorded == live and sight.serves(live) and sight.gets_requests(other(live)):
            self._confirm(live, other(live))
            return f"sent nothing more to slot {other(live)}"
        return None


def _serves_again(intent: Intent) -> str:
    """What is so once an interrupted release was taken back."""
    return f"{intent.was} serves again" if intent.was else "nothing served before"


def _more(failure: SlipwayError, words: str) -> SlipwayError:
    """The same failure with something to add."""
    if isinstance(failure, TransactionError):
        longer = type(failure)(failure.cause + words, failure.evidence)
        longer.details.update(failure.details)
        return longer
    return type(failure)(f"{failure}{words}", failure.details, failure.kind)
