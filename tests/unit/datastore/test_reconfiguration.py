"""Dialogues with the machine about who votes (R14, R15) and about planned hand-overs."""

from __future__ import annotations

from datastore import shipping, wire
from datastore.configuration import ADD_LEARNER, ADD_VOTER, DROP_LEARNER, REMOVE_VOTER, ConfigChange, changed
from datastore.ledger import SealedEntry, unseal
from datastore.model import EPOCH_NONE
from datastore.replication_steps import Append, AppendAnswer, Commit, HandedOver, Plan, Reconfigured, Send
from datastore.rows import ROWS_FORM, ConfigRow
from tests.unit.datastore.test_replication import CONFIG_ROW, ONE, TWO, Site, sends, serving

NEW = ConfigChange(ADD_LEARNER, "d", "node-d")


def configure(site: Site, change: ConfigChange, config_lsn: int = -1) -> tuple[Reconfigured, list[object]]:
    lsn = site.machine.config_lsn if config_lsn < 0 else config_lsn
    plan = site.machine.configure(change, lsn, site.now_ms)
    assert isinstance(plan.reply, Reconfigured)
    return plan.reply, site.carry_out(Plan(plan.steps))


def acknowledge(site: Site, name: str, rows_form: int = ROWS_FORM) -> list[object]:
    """Let `name` answer everything that is on its way to it; `rows_form`: what its program reads."""
    follower = site.machine._followers[name]
    if not follower.busy:
        site.now_ms += 100
        site.carry_out(site.machine.tick(site.now_ms))
    steps = site.ack(name, follower.busy, site.machine.tail.lsn, rows_form)
    return steps


def with_learner() -> Site:
    """A primary of three whose configuration has the learner d, committed by b."""
    site = serving()
    reply, _ = configure(site, NEW)
    assert reply.accepted
    acknowledge(site, "b")
    return site


def test_a_learner_is_followed_at_once_and_has_no_vote() -> None:
    """In force when appended: it is shipped to; only voters commit."""
    site = serving()
    reply, steps = configure(site, NEW)
    assert (True, 2) == (reply.accepted, reply.lsn)
    assert "d" in sends(steps) and "d" in site.machine.config.learners
    assert not [one for one in acknowledge(site, "d") if isinstance(one, Commit)]
    assert [Commit(2)] == [one for one in acknowledge(site, "b") if isinstance(one, Commit)]


def test_rows_are_of_a_form_that_every_copy_reads() -> None:
    """Whoever has not been heard in this reign may be of an older program, a learner too: it may have to lead one day."""
    site = serving()
    acknowledge(site, "b")
    assert site.machine.rows_form == 0
    acknowledge(site, "c")
    assert site.machine.rows_form == ROWS_FORM
    assert configure(site, NEW)[0].accepted
    acknowledge(site, "b")
    assert site.machine.rows_form == 0
    acknowledge(site, "d")
    assert site.machine.rows_form == ROWS_FORM
    acknowledge(site, "c", rows_form=0)
    assert site.machine.rows_form == 0
    site.now_ms += 100
    site.carry_out(site.machine.tick(site.now_ms))
    site.machine.answered("c", site.machine._followers["c"].busy, AppendAnswer("snapshot", ONE, 0, "c", ONE), site.now_ms)
    assert site.machine.rows_form == ROWS_FORM
    alone = Site(config=ConfigRow({"a": "node-a"}))
    alone.lead()
    assert alone.machine.rows_form == ROWS_FORM


def test_what_an_older_program_answers_is_taken_for_form_0() -> None:
    """It has a field less; what this program answers travels."""
    old = wire.encode(["AR", "ack", (1, "m"), 7, "b", (0, ""), 0])
    assert shipping.answer_of(wire.decode(wire.AppendReply, old)).rows_form == 0
    new = shipping.reply_of("AR", AppendAnswer("ack", ONE, 7, "b", ONE))
    assert shipping.answer_of(wire.decode(wire.AppendReply, wire.encode(new))).rows_form == ROWS_FORM


def test_a_voter_that_leaves_has_no_say_in_the_form_of_rows() -> None:
    """Nothing is decided before its removal is committed."""
    site = serving()
    acknowledge(site, "b")
    acknowledge(site, "c", rows_form=0)
    assert configure(site, ConfigChange(REMOVE_VOTER, "c"))[0].accepted
    assert not site.machine.may_propose
    acknowledge(site, "b")
    assert (True, ROWS_FORM) == (site.machine.may_propose, site.machine.rows_form)


def test_only_a_stores_own_awaited_answer_tells_its_form_of_rows() -> None:
    site = serving()
    acknowledge(site, "b")
    late = site.machine._followers["c"].busy
    assert late
    site.machine.answered("c", late, AppendAnswer("ack", ONE, 0, "other", ONE), site.now_ms)
    assert site.machine.rows_form == 0
    acknowledge(site, "c", rows_form=0)
    site.machine.answered("c", late, AppendAnswer("ack", ONE, 1, "c", ONE), site.now_ms)
    assert site.machine.rows_form == 0


def test_a_learner_of_an_older_program_does_not_become_a_voter() -> None:
    """What is in the log by then, it might not read, and lead."""
    site = with_learner()
    for rows_form, accepted in ((0, False), (ROWS_FORM, True)):
        acknowledge(site, "d", rows_form)
        acknowledge(site, "b")
        assert site.machine.followers(site.now_ms)["d"][2] == accepted  # So that no manager asks for it again and again.
        reply, _ = configure(site, ConfigChange(ADD_VOTER, "d"))
        assert reply.accepted == accepted and ("older" in reply.reason) == (not accepted)


def test_one_change_at_a_time_and_none_before_the_own_epoch_is_committed() -> None:
    """R15, both halves: the change before must be committed, and an entry of the own epoch."""
    site = Site()
    site.lead()
    reply, steps = configure(site, NEW)
    assert (False, []) == (reply.accepted, steps) and "own epoch" in reply.reason
    site = serving()
    assert configure(site, NEW)[0].accepted
    reply, steps = configure(site, ConfigChange(ADD_LEARNER, "e", "node-e"))
    assert (False, []) == (reply.accepted, steps) and "not committed yet" in reply.reason
    acknowledge(site, "b")
    assert configure(site, ConfigChange(ADD_LEARNER, "e", "node-e"))[0].accepted


def test_a_change_thought_of_for_another_configuration_is_refused() -> None:
    """Two managers that saw the same state cannot both take a step."""
    site = with_learner()
    reply, _ = configure(site, ConfigChange(DROP_LEARNER, "d"), config_lsn=1)
    assert not reply.accepted and "lsn 2, not of 1" in reply.reason


def test_a_learner_votes_only_when_it_has_caught_up() -> None:
    """R14: before its first round ended it is refused; afterwards it counts for what comes next."""
    site = with_learner()
    reply, _ = configure(site, ConfigChange(ADD_VOTER, "d"))
    assert not reply.accepted and "not caught up" in reply.reason
    acknowledge(site, "d")
    acknowledge(site, "b")
    assert configure(site, ConfigChange(ADD_VOTER, "d"))[0].accepted
    # Three of four are needed now: two are not enough any more.
    assert not [one for one in acknowledge(site, "b") if isinstance(one, Commit)]
    assert [one for one in acknowledge(site, "d") if isinstance(one, Commit)]


def test_a_round_that_takes_too_long_does_not_count() -> None:
    """A learner that needs over a second for what came in the meantime would slow every commit down."""
    site = with_learner()
    site.now_ms += 1_500
    acknowledge(site, "d")
    assert not site.machine.followers(site.now_ms)["d"][2]
    acknowledge(site, "d")
    assert site.machine.followers(site.now_ms)["d"][2]


def test_the_primary_never_removes_itself() -> None:
    """R15: it hands over first."""
    reply, steps = configure(serving(), ConfigChange(REMOVE_VOTER, "a"))
    assert (False, []) == (reply.accepted, steps) and "hand over first" in reply.reason


def test_a_removed_voter_hears_of_it_and_is_retired_for_good() -> None:
    """It is served until it has the entry that removes it; its identity never takes part again."""
    site = serving()
    acknowledge(site, "c")
    reply, steps = configure(site, ConfigChange(REMOVE_VOTER, "c"))
    assert reply.accepted and "c" in sends(steps)
    assert {"a", "b"} == set(site.machine.config.voters) and ["c"] == site.machine.config.retired
    acknowledge(site, "b")
    assert "c" not in site.machine.followers(site.now_ms)
    acknowledge(site, "c")
    site.now_ms += 100
    assert {"b"} == set(sends(site.carry_out(site.machine.tick(site.now_ms))))
    reply, _ = configure(site, ConfigChange(ADD_LEARNER, "c", "node-c"))
    assert not reply.accepted and "retired" in reply.reason
    other = Site("c")
    other.carry_out(other.machine.append(Append(ONE, 0, EPOCH_NONE, _entries(site), 2), 0))
    assert "retired" == other.machine.role


def _entries(site: Site) -> list[SealedEntry]:
    return [unseal(data) for data in site.store.entries(1, 10, 10**6)]


def test_a_truncated_change_is_as_if_it_had_never_been() -> None:
    """A replica that loses the entry again goes back to the configuration before."""
    site = Site("b")
    leader = serving()
    configure(leader, NEW)
    site.carry_out(site.machine.append(Append(ONE, 0, EPOCH_NONE, _entries(leader), 1), 0))
    assert "d" in site.machine.config.learners
    rival = Site("c")
    rival.carry_out(rival.machine.append(Append(ONE, 0, EPOCH_NONE, _entries(leader)[:1], 1), 0))
    rival.lead(TWO)
    site.carry_out(site.machine.append(Append(TWO, 1, ONE, _entries(rival)[1:], 1), 0))
    assert site.machine.config == CONFIG_ROW and 1 == site.machine.config_lsn


def test_steps_lead_from_one_configuration_to_the_next() -> None:
    """No step moves more than one voter, and what cannot be is said in words."""
    config = changed(CONFIG_ROW, NEW)
    assert isinstance(config, ConfigRow)
    assert "learns first" in str(changed(CONFIG_ROW, ConfigChange(ADD_VOTER, "d")))
    assert "takes part already" in str(changed(config, NEW))
    assert "no voter" in str(changed(config, ConfigChange(REMOVE_VOTER, "d")))
    assert "last voter" in str(changed(ConfigRow({"a": "n"}), ConfigChange(REMOVE_VOTER, "a")))
    dropped = changed(config, ConfigChange(DROP_LEARNER, "d"))
    assert isinstance(dropped, ConfigRow) and ["d"] == dropped.retired


# --- hand-over ----------------------------------------------------------------------------------------------------


def ask(site: Site, heir: str = "b", pause_ms: int = 1_000) -> HandedOver:
    return site.machine.hand_over(site.machine.epoch, heir, pause_ms, site.now_ms)


def test_a_hand_over_is_ready_when_the_heir_has_everything() -> None:
    """Nothing new is taken meanwhile; what is in flight is committed and shipped first."""
    site = serving()
    steps = site.propose()
    assert HandedOver("waiting", 2) == ask(site)
    site.ack("c", sends(steps)["c"].seq if "c" in sends(steps) else site.machine._followers["c"].busy, 2)
    assert 2 == site.machine.commit_lsn and "waiting" == ask(site).status
    acknowledge(site, "b")
    assert HandedOver("ready", 2) == ask(site)
    assert not site.machine.may_propose
    # A promise takes the role, as always; the heir is as far as any.
    site.carry_out(site.machine.promise(TWO, site.now_ms))
    assert not site.machine.is_primary


def test_a_hand_over_that_nobody_finishes_ends_by_itself() -> None:
    """The manager died: after the pause the primary goes on; and it can be given up at once."""
    site = serving()
    assert "ready" == ask(site, pause_ms=300).status
    for _ in range(4):
        site.now_ms += 100
        site.carry_out(site.machine.tick(site.now_ms))
    assert site.machine.may_propose
    ask(site)
    assert not site.machine.may_propose
    assert "refused" == ask(site, pause_ms=0).status
    assert site.machine.may_propose


def test_a_hand_over_is_refused_where_it_would_take_long() -> None:
    """Not to a stranger, not under another epoch, not to one that is far behind or silent; callers go on undisturbed."""
    site = serving()
    assert "none of the other voters" in ask(site, "x").reason
    assert "does not lead" in site.machine.hand_over(TWO, "b", 1_000, 0).reason
    for _ in range(120):
        site.propose()
        site.ack("b", site.machine._followers["b"].busy, site.machine.tail.lsn)
    assert "entries behind" in ask(site, "c").reason and site.machine.may_propose
    assert "refused" == Site().machine.hand_over(ONE, "b", 1_000, 0).status


def test_reads_go_on_during_a_hand_over() -> None:
    """Only what would be written waits."""
    site = serving()
    ask(site)
    _, plan = site.machine.read(site.now_ms)
    assert [one for one in plan.steps if isinstance(one, Send)]
