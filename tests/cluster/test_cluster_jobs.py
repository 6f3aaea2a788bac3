"""Sessions of a gateway whose engines are lost, drain and come back: no job is lost, and nothing is told twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from af3stream.cluster.cluster_jobs import NO_ENGINE, NO_ROOM
from af3stream.config import AudioConfig, ModelConfig, QuestionsConfig
from af3stream.engine.contract import AudioSegment, Completion, Text
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Failed, Job, PrefixLost, Result
from af3stream.protocol import messages as m
from tests.cluster.scripted_links import ScriptedCluster, ScriptedLink
from tests.session.conversation import SENTENCE, SILENCE, Conversation

SECOND: Final = np.zeros(16_000, np.float32)
REREAD: Final = ModelConfig(embeddings_budget_mb=1_000.0)  # so that the audio can be read again
WINDOWS: Final = tuple(AudioSegment(i * 16_000, (i + 1) * 16_000, 25) for i in range(3))
ANSWER: Final = "What? <- 1s | 1s"


class Silence:
    """Every segment is silent."""

    rereads = True

    def fetch(self, segments: Sequence[AudioSegment]) -> int:
        return len(segments)

    def read(self, segment: AudioSegment) -> np.ndarray:
        return np.zeros(segment.end - segment.start, np.float32)


class Told:
    """What a session was told of its jobs."""

    def __init__(self) -> None:
        self.results: list[tuple[Job, Result, bool]] = []
        self.resident: list[frozenset[AudioSegment]] = []

    def report(self, job: Job, result: Result, done: bool) -> None:
        self.results.append((job, result, done))

    def of(self, job: Job) -> list[Result]:
        return [result for other, result, _ in self.results if other is job]

    def text(self, job: Job) -> str:
        return "".join(result for result in self.of(job) if isinstance(result, str))

    def ends(self, job: Job) -> int:
        return sum(done for other, _, done in self.results if other is job)


def opened(cluster: ScriptedCluster, session: str = "s") -> Told:
    told = Told()
    cluster.open(session, Silence(), told.resident.append)
    return told


def caption(final: bool = True) -> CaptionJob:
    return CaptionJob(0, SECOND, None, final, 9)


def question(prefix: int = 0, instead: tuple[Any, ...] = ()) -> AnswerJob:
    return AnswerJob(WINDOWS[:2], "What?", 99, prefix=prefix, instead=instead)


def kinds(jobs: list[Job]) -> list[str]:
    return [type(job).__name__ for job in jobs]


def test_jobs_of_a_lost_engine_are_done_by_another_in_order() -> None:
    cluster = ScriptedCluster("all", "all")
    told, jobs = opened(cluster), [caption(), EncodeJob(0, WINDOWS[0], SECOND), caption()]
    for job in jobs:
        cluster.submit("s", job, told.report)
    (first,) = cluster.holding("s")
    cluster.lose(first)
    (second,) = cluster.holding("s")
    assert cluster.links[second].submitted == jobs
    cluster.run_all()
    assert [told.ends(job) for job in jobs] == [1, 1, 1]


def test_finished_job_is_not_submitted_again() -> None:
    cluster = ScriptedCluster("all", "all")
    told, job = opened(cluster), caption()
    cluster.submit("s", job, told.report)
    cluster.run_all()
    (first,) = cluster.holding("s")
    cluster.lose(first)
    (second,) = cluster.holding("s")
    assert cluster.links[second].submitted == []
    assert cluster.listener.places == [(first, "new"), (second, "failover")]


def test_cancelled_job_is_not_submitted_again() -> None:
    cluster = ScriptedCluster("all", "all")
    told, job = opened(cluster), caption()
    cluster.submit("s", job, told.report)
    cluster.cancel("s", job.id)
    (first,) = cluster.holding("s")
    cluster.lose(first)
    cluster.run_all()
    assert told.results == []


@pytest.mark.parametrize("steps", range(10))
def test_answer_goes_on_at_another_engine_and_repeats_nothing(steps: int) -> None:
    cluster = ScriptedCluster("all", "all")
    told, job = opened(cluster), question()
    cluster.submit("s", job, told.report)
    for _ in range(steps):
        cluster.step()
    cluster.lose(next(cluster.holding("s")))
    cluster.run_all()
    assert told.text(job) == ANSWER
    assert told.ends(job) == 1
    assert [result.tokens for result in told.of(job) if isinstance(result, Completion)] == [5]


@pytest.mark.parametrize("steps", range(10))
def test_answer_over_captions_goes_on_over_captions(steps: int) -> None:
    cluster = ScriptedCluster("all", "all")
    told, job = opened(cluster), question(prefix=1, instead=(Text("some words"),))
    cluster.submit("s", job, told.report)  # no window is in the KV prefix, although the session expects it
    for _ in range(steps):
        cluster.step()
    cluster.lose(next(cluster.holding("s")))
    cluster.run_all()
    assert told.text(job) == "What? <- some words"
    assert told.of(job).count(PrefixLost()) == 1


def test_prefix_is_built_again_before_a_question() -> None:
    cluster = ScriptedCluster("all", "all")
    told, extend, job = opened(cluster), ExtendJob(WINDOWS[:1], False), question(1, (Text("some words"),))
    cluster.submit("s", extend, told.report)
    cluster.run_all()
    cluster.lose(next(cluster.holding("s")))
    cluster.submit("s", job, told.report)
    (second,) = cluster.holding("s")
    assert kinds(cluster.links[second].submitted) == ["ExtendJob", "ExtendJob"]  # not urgent, then urgent
    cluster.run_all()
    assert told.text(job) == ANSWER
    assert told.ends(extend) == 1
    assert cluster.links[second].engine.counters.prefill_tokens == 1


def test_prefix_is_built_urgently_if_a_question_waits() -> None:
    cluster = ScriptedCluster("all", "all")
    told = opened(cluster)
    cluster.submit("s", ExtendJob(WINDOWS[:1], False), told.report)
    cluster.run_all()
    cluster.submit("s", question(1), told.report)
    cluster.lose(next(cluster.holding("s")))
    (restoring,) = cluster.links[next(cluster.holding("s"))].submitted
    assert isinstance(restoring, ExtendJob) and restoring.urgent


def after_failover(*jobs: Job) -> tuple[ScriptedCluster, Told, ScriptedLink]:
    """A session that read a window, asked for jobs, and lost its engine; and its new engine, which has done nothing."""
    cluster = ScriptedCluster("all", "all", rebuild_wait_s=2.0)
    told = opened(cluster)
    cluster.submit("s", ExtendJob(WINDOWS[:1], False), told.report)
    cluster.run_all()
    for job in jobs:
        cluster.submit("s", job, told.report)
    cluster.lose(next(cluster.holding("s")))
    return cluster, told, cluster.links[next(cluster.holding("s"))]


def test_question_hurries_a_prefix_that_is_being_built_again() -> None:
    cluster, told, link = after_failover()
    (slow,) = link.submitted
    assert isinstance(slow, ExtendJob) and not slow.urgent
    cluster.submit("s", question(1), told.report)
    again = link.submitted[-1]
    assert isinstance(again, ExtendJob) and again.urgent
    cluster.run_all()
    assert link.engine.counters.prefill_tokens == 1  # the first one was cancelled


def test_question_that_reads_no_prefix_does_not_wait_for_it() -> None:
    cluster, told, link = after_failover()
    job = AnswerJob((Text("some words"),), "What?", 99)
    cluster.submit("s", job, told.report)
    assert link.submitted[-1] is job


def test_question_is_answered_over_captions_if_the_prefix_takes_too_long() -> None:
    job = question(1, (Text("some words"),))
    cluster, told, link = after_failover(job)
    for now in (10.0, 11.9):
        cluster.check(now)
        assert kinds(link.submitted) == ["ExtendJob"]
    cluster.check(12.0)
    assert link.submitted[-1] is job
    cluster.run_all()
    assert told.of(job)[0] == PrefixLost()
    assert told.text(job) == "What? <- some words"
    assert told.ends(job) == 1
    assert link.engine.counters.prefill_tokens == 0  # nothing is built that the session does not use


def test_answer_that_has_begun_waits_for_its_parts_however_long() -> None:
    cluster = ScriptedCluster("all", "all", rebuild_wait_s=2.0)
    told, job = opened(cluster), question(1, (Text("some words"),))
    cluster.submit("s", ExtendJob(WINDOWS[:1], False), told.report)
    cluster.run_all()
    cluster.submit("s", job, told.report)
    while not told.text(job):
        cluster.step()
    cluster.lose(next(cluster.holding("s")))
    for now in (0.0, 100.0):
        cluster.check(now)
    cluster.run_all()
    assert told.text(job) == ANSWER
    assert PrefixLost() not in told.of(job)


def test_backlog_is_sent_as_the_link_has_room_and_in_order() -> None:
    cluster = ScriptedCluster()
    names = [f"s{i}" for i in range(4)]
    told = {name: opened(cluster, name) for name in names}
    jobs = {name: [EncodeJob(i, WINDOWS[0], SECOND) for i in range(50)] for name in names}
    for name in names:
        for job in jobs[name]:
            cluster.submit(name, job, told[name].report)
    link = ScriptedLink()
    link.job_share = 0.02  # the backlog is four times as long as the queue
    cluster.links["engine"] = link
    cluster.add("engine", "all", link)
    assert len(link.submitted) == 2
    late = caption()
    cluster.submit("s0", late, told["s0"].report)
    cluster.run_all()
    for name in names:
        mine = [job for job in link.submitted if job in jobs[name] or (job is late and name == "s0")]
        assert mine == [*jobs[name], *([late] if name == "s0" else [])]
        assert all(told[name].ends(job) == 1 for job in mine)


def test_question_is_sent_before_a_backlog() -> None:
    cluster = ScriptedCluster("all")
    told, job, link = opened(cluster), question(), cluster.links["engine-1"]
    link.job_share = 0.2
    waiting = [caption() for _ in range(9)]
    for each in waiting:
        cluster.submit("s", each, told.report)
    cluster.submit("s", job, told.report)
    assert link.submitted == [waiting[0], job]


def test_questions_of_many_sessions_do_not_overfill_a_link() -> None:
    cluster = ScriptedCluster("all")
    cluster.links["engine-1"].job_share = 0.2
    jobs = {f"s{i}": question() for i in range(9)}
    told = {name: opened(cluster, name) for name in jobs}
    for name, job in jobs.items():
        cluster.submit(name, job, told[name].report)
    cluster.run_all()
    assert all(told[name].text(job) == ANSWER for name, job in jobs.items())


def test_cancelled_and_closed_jobs_that_wait_for_room_are_never_sent() -> None:
    cluster = ScriptedCluster("all")
    link = cluster.links["engine-1"]
    link.job_share = 0.2
    told, other = opened(cluster), opened(cluster, "other")
    first, cancelled, closed = caption(), caption(), caption()
    cluster.submit("s", first, told.report)
    cluster.submit("s", cancelled, told.report)
    cluster.submit("other", closed, other.report)
    cluster.cancel("s", cancelled.id)
    cluster.close("other")
    cluster.run_all()
    assert link.submitted == [first]


def test_engine_that_comes_and_goes_does_not_prolong_the_wait_of_a_question() -> None:
    cluster = ScriptedCluster(wait_s=60.0)
    told, job = opened(cluster), question()
    cluster.submit("s", job, told.report)
    for now in (0.0, 30.0, 60.0):
        cluster.check(now)
        cluster.lose(cluster.join())
    cluster.check(61.0)
    assert told.results == [(job, Failed(NO_ENGINE, timed_out=True), True)]


def test_later_extension_waits_for_the_prefix_and_captions_do_not() -> None:
    cluster = ScriptedCluster("all", "all")
    told = opened(cluster)
    cluster.submit("s", ExtendJob(WINDOWS[:1], False), told.report)
    cluster.run_all()
    cluster.submit("s", ExtendJob(WINDOWS[:2], False), told.report)
    cluster.submit("s", caption(), told.report)
    cluster.lose(next(cluster.holding("s")))
    link = cluster.links[next(cluster.holding("s"))]
    assert kinds(link.submitted) == ["ExtendJob", "CaptionJob"]
    cluster.run_all()
    assert kinds(link.submitted) == ["ExtendJob", "CaptionJob", "ExtendJob"]
    assert link.worker._core._executor.prefix("s").held(WINDOWS) == 2


def test_session_is_told_that_no_window_is_resident() -> None:
    cluster = ScriptedCluster("all", "all")
    told = opened(cluster)
    cluster.submit("s", EncodeJob(0, WINDOWS[0], SECOND), told.report)
    cluster.run_all()
    cluster.lose(next(cluster.holding("s")))
    assert told.resident == [frozenset({WINDOWS[0]}), frozenset()]


def test_jobs_wait_for_the_first_engine() -> None:
    cluster = ScriptedCluster()
    told, job = opened(cluster), caption()
    cluster.submit("s", job, told.report)
    cluster.run_all()
    assert cluster.refusal() == NO_ENGINE
    cluster.join()
    cluster.run_all()
    assert told.ends(job) == 1
    assert cluster.refusal() is None


def test_question_fails_if_no_engine_comes_in_time() -> None:
    cluster = ScriptedCluster(wait_s=60.0)
    told, asked, heard = opened(cluster), question(), caption()
    cluster.submit("s", asked, told.report)
    cluster.submit("s", heard, told.report)
    cluster.check(0.0)
    cluster.check(60.0)
    assert told.results == []
    cluster.check(61.0)
    assert told.results == [(asked, Failed(NO_ENGINE, timed_out=True), True)]
    cluster.join()
    cluster.run_all()
    assert told.ends(heard) == 1


def test_sessions_with_questions_are_placed_first_then_those_with_a_client() -> None:
    cluster = ScriptedCluster("all")
    told = {name: opened(cluster, name) for name in ("alone", "listening", "asking")}
    cluster.detach("alone")
    cluster.submit("asking", question(), told["asking"].report)
    cluster.lose("engine-1")
    cluster.join()
    assert list(cluster.links["engine-2"].opened) == ["asking", "listening", "alone"]
    assert cluster.links["engine-2"].opened == {"asking": True, "listening": True, "alone": False}


def test_session_moves_from_an_engine_that_drains() -> None:
    cluster = ScriptedCluster("all")
    told, job = opened(cluster), caption()
    cluster.submit("s", job, told.report)
    cluster.join()
    cluster.links["engine-1"].report(draining=True)
    cluster.check(0.0)
    assert list(cluster.holding("s")) == ["engine-2"]
    cluster.run_all()
    assert told.ends(job) == 1
    assert cluster.listener.places == [("engine-1", "new"), ("engine-2", "drain")]


def test_session_that_asks_moves_from_a_draining_engine_once_it_is_answered() -> None:
    cluster = ScriptedCluster("all")
    asking, silent, job = opened(cluster, "asking"), opened(cluster, "silent"), question()
    cluster.submit("asking", job, asking.report)
    cluster.join()
    cluster.links["engine-1"].report(draining=True)
    cluster.check(0.0)
    assert list(cluster.links["engine-1"].opened) == ["asking"]
    cluster.run_all()
    assert asking.text(job) == ANSWER
    cluster.check(1.0)
    assert list(cluster.links["engine-2"].opened) == ["silent", "asking"]
    assert silent.results == []


def test_session_stays_at_a_draining_engine_while_there_is_no_other() -> None:
    cluster = ScriptedCluster("all")
    told, job = opened(cluster), caption()
    cluster.links["engine-1"].report(draining=True)
    cluster.check(0.0)
    cluster.submit("s", job, told.report)
    cluster.run_all()
    assert told.ends(job) == 1
    assert cluster.refusal() == NO_ROOM


def test_sessions_placed_between_two_reports_are_spread() -> None:
    cluster = ScriptedCluster("all", "all")
    for i in range(4):
        opened(cluster, f"s{i}")
    assert [cluster.sessions_at(name) for name in cluster.links] == [2, 2]


def test_session_returns_to_the_engine_that_another_gateway_chose() -> None:
    cluster = ScriptedCluster()
    cluster.join(kv_bytes=1_000_000)
    cluster.join()
    cluster.expect("s", 2, "engine-1")
    opened(cluster)
    assert list(cluster.holding("s")) == ["engine-1"]


def test_captioner_gets_captions_and_no_other_job() -> None:
    cluster = ScriptedCluster("answers", "captions")
    told = opened(cluster)
    jobs = [caption(), EncodeJob(0, WINDOWS[0], SECOND), question()]
    for job in jobs:
        cluster.submit("s", job, told.report)
    assert [kinds(link.submitted) for link in cluster.links.values()] == [["EncodeJob", "AnswerJob"], ["CaptionJob"]]


def test_answering_engine_captions_if_the_captioner_is_lost() -> None:
    cluster = ScriptedCluster("answers", "captions")
    told, job = opened(cluster), caption()
    cluster.submit("s", job, told.report)
    cluster.lose("engine-2")
    cluster.run_all()
    assert told.ends(job) == 1
    assert told.resident == []


def test_new_session_counts_as_much_memory_as_others_have_before_it_has_any() -> None:
    cluster = ScriptedCluster()
    cluster.join(kv_bytes=1_000, kv_limit_bytes=2_000, sessions=10, kv_sessions=10)
    cluster.join(kv_bytes=0, kv_limit_bytes=2_000, sessions=0)
    for i in range(30):
        assert cluster.refusal() is None
        opened(cluster, f"s{i}")
        link = cluster.links[next(cluster.holding(f"s{i}"))]
        link.report(sessions=link.load.sessions + 1)
    assert cluster.refusal() == NO_ROOM
    assert [link.load.sessions for link in cluster.links.values()] == [20, 20]


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 40)), min_size=1, max_size=4),
    st.data(),
)
def test_engine_is_never_given_more_sessions_than_its_memory_holds(
    engines: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    cluster = ScriptedCluster()
    for with_keys, without, room in engines:
        held = 100 * with_keys
        limit = held + 100 * without + 100 * room
        cluster.join(kv_bytes=held, kv_sessions=with_keys, sessions=with_keys + without, kv_limit_bytes=limit)
    for i in range(200):
        if cluster.refusal():
            break
        opened(cluster, f"s{i}")
        name = next(cluster.holding(f"s{i}"))
        if data.draw(st.booleans()):  # some sessions are reported at once, none has keys and values yet
            link = cluster.links[name]
            link.report(sessions=cluster.sessions_at(name) + sum(engines[int(name[-1]) - 1][:2]))
    for name, (with_keys, without, room) in zip(cluster.links, engines, strict=True):
        assert cluster.sessions_at(name) == room, (with_keys, without)


def test_engine_without_time_takes_no_new_session() -> None:
    cluster = ScriptedCluster()
    cluster.check(0.0, most_sessions=2.0)
    cluster.join(sessions=2)
    assert cluster.refusal() == NO_ROOM
    cluster.join(sessions=1)
    assert cluster.refusal() is None


def test_device_time_counts_in_proportion_to_the_sessions_of_this_gateway() -> None:
    cluster = ScriptedCluster("all")
    opened(cluster)
    cluster.links["engine-1"].report(sessions=4, due_s=8.0)
    cluster.check(0.0)
    assert cluster.due_s == 2.0


def test_engine_that_starts_again_takes_its_sessions_back() -> None:
    cluster = ScriptedCluster("all")
    told, job = opened(cluster), caption()
    cluster.submit("s", job, told.report)
    again = ScriptedLink()
    cluster.links["engine-1"] = again
    cluster.add("engine-1", "all", again)
    cluster.run_all()
    assert told.ends(job) == 1
    assert list(again.opened) == ["s"]


def test_session_that_another_gateway_took_is_superseded() -> None:
    cluster = ScriptedCluster("all")
    opened(cluster)
    cluster.links["engine-1"].supersede("s")
    cluster.links["engine-1"].supersede("another")
    assert cluster.listener.taken == ["s"]


def test_closed_session_is_told_nothing_more() -> None:
    cluster = ScriptedCluster("all")
    told, job = opened(cluster), question()
    cluster.submit("s", job, told.report)
    cluster.step()
    cluster.close("s")
    cluster.run_all()
    assert told.results == []


def test_client_of_a_closed_session_changes_nothing() -> None:
    cluster = ScriptedCluster("all")
    opened(cluster)
    cluster.close("s")
    cluster.attach("s")
    cluster.detach("s")
    assert cluster.links["engine-1"].opened == {}


QUESTIONS: Final = QuestionsConfig(per_s=1_000.0, captions_wait_s=0.0)
AUDIO: Final = AudioConfig(window_min_s=3.0)
ACTS: Final = st.lists(
    st.sampled_from([SENTENCE, SENTENCE, SILENCE * 2, "ask", "ask", "flush"]), min_size=3, max_size=8
)


def told_by(worker: Any, acts: list[str]) -> list[m.ServerMessage]:
    """Run a conversation, and return every message that its client is sent; ``worker``: runs the jobs."""
    talk = Conversation(notes="all", model=REREAD, audio=AUDIO, questions=QUESTIONS, worker=worker)
    for i, act in enumerate(acts):
        if act == "ask":
            talk.tell(m.Ask(f"q{i}", "What?"))
        elif act == "flush":
            talk.tell(m.Flush(f"f{i}"))
        else:
            talk.hear(act)
    talk.end()
    return talk.said


def words(said: list[m.ServerMessage]) -> list[tuple[Any, ...]]:
    """Every final caption, every piece of an answer, and every answer."""
    finals = [("final", s.utterance, s.text) for s in said if isinstance(s, m.Caption) and s.final]
    pieces: dict[str, str] = {}
    for s in said:
        if isinstance(s, m.AnswerDelta):
            pieces[s.id] = pieces.get(s.id, "") + s.text
    answers = [
        ("answer", s.id, s.text, s.heard_until, s.captioned_until, pieces[s.id])
        for s in said
        if isinstance(s, m.Answer)
    ]
    return [*finals, *answers, type(said[-1]).__name__]


@settings(max_examples=60)
@given(ACTS, st.lists(st.tuples(st.integers(0, 150), st.sampled_from(["lose", "drain"])), max_size=4), st.booleans())
def test_client_is_told_the_same_whatever_engines_are_lost(
    acts: list[str], faults: list[tuple[int, str]], slow: bool
) -> None:
    expected = words(told_by(None, acts))
    cluster = ScriptedCluster("all", "answers", "captions", job_share=0.1 if slow else 0.0)

    def fail(step: int) -> None:
        for _, kind in [fault for fault in faults if fault[0] == step]:
            name = next(cluster.holding("s"))
            cluster.join("answers" if name == "engine-2" else "all")
            if kind == "lose":
                cluster.lose(name)
            else:
                cluster.links[name].report(draining=True)
                cluster.check(0.0)

    cluster.faults = fail
    assert words(told_by(cluster, acts)) == expected
