"""Stored forms: what another version wrote is read, and what this one writes can be read by another."""

from __future__ import annotations

import json
from types import SimpleNamespace

from tasks.contract.job import Job
from tasks.contract.result import Usage
from tasks.ledger import Kept, PartRecord
from tasks.ledger.jobs import NEWER, Jobs, _fingerprint
from tasks.ledger.stored import (
    RESULT_FIELDS,
    digest,
    read_claim,
    read_job,
    read_result,
    write_kept,
    write_record,
    write_usage,
)

DECISION = '{"route": "r", "classifier": "c", "confidence": 1.0, "strategy": "s"}'
#: As the first version wrote them.
OLD_RECORD = '{"in":3,"out":4,"usd":0.5,"latency_s":1.0,"wait_s":0.1,"sim":false,"error":null,"reasoning":2}'
OLD_SPEC = '{"schema_version":1,"id":"01jzq3v5k8w9x0y1z2a3b4c5d6","kind":"single","labels":{"a":"b"}}'


def result_of(record, outputs, **job):
    fields = {"state": "succeeded", "kind": "single", "n": "1", "decision": DECISION, "accepted_at": "1", **job}
    parts = {"0:state": "succeeded", "0:model": "fast", "0:record": record, "0:attempts": "1"}
    return read_result("j", [{"spec": OLD_SPEC, **fields}.get(name) for name in RESULT_FIELDS], parts, outputs)


def claim_reply(**more):
    words = {
        "word": "go", "attempt": 1, "model": "fast", "spec": OLD_SPEC, "text": '{"text": "x"}', "decision": DECISION,
        "title": "", "queued_at": "1000", "now": "2000", "accepted_at": "1000", "tried": "[]", "first_at": "1000",
        "extras": "", "n": "1", "base": "0", "used": "", "kept": "",
    }  # fmt: skip
    return list((words | more).values())


def test_record_of_an_earlier_version_is_read_without_the_newer_fields():
    result = result_of(OLD_RECORD, {"0": "yes"})
    assert (result.output, result.finish_reason, result.truncated) == ("yes", None, False)
    (part,) = result.parts
    assert part.usage == Usage(input_tokens=3, output_tokens=4, reasoning_tokens=2)
    assert (part.finish_reason, part.truncated, part.reasoning) == (None, False, None)
    joined = result_of(OLD_RECORD, {}, kind="vote", output="no")
    assert (joined.output, joined.finish_reason, joined.truncated) == ("no", "stop", False)


def test_record_is_read_back_and_keeps_the_names_of_earlier_versions():
    usage = Usage(input_tokens=1, output_tokens=2, cached_tokens=3, reasoning_tokens=4)
    written = write_record(PartRecord(usage=usage, finish_reason="length", cost_usd=0.5))
    stored = json.loads(written)
    assert {name: stored[name] for name in ("in", "out", "cached", "reasoning", "usd", "sim")} == {
        "in": 1, "out": 2, "cached": 3, "reasoning": 4, "usd": 0.5, "sim": False,
    }  # fmt: skip
    (part,) = result_of(written, {"0": "ye", "r0": "thoughts"}).parts
    assert (part.usage, part.finish_reason, part.truncated, part.reasoning) == (usage, "length", True, "thoughts")


def test_record_of_a_later_version_is_read_without_what_is_not_known():
    decision = json.loads(DECISION) | {"new": 1, "candidates": [{"model": "fast", "newer": 2}]}
    record = json.loads(OLD_RECORD) | {"new": 1, "tried": [{"model": "fast", "attempts": 2, "new": 3}]}
    result = result_of(json.dumps(record), {"0": "yes", "new": "x"}, decision=json.dumps(decision))
    assert result.routing.candidates[0].model == "fast"
    assert result.parts[0].tried[0].attempts == 2
    spec = json.dumps(json.loads(OLD_SPEC) | {"new": {"x": 1}})
    tried, kept = '[{"model": "a", "new": 1}]', '{"text": "so far", "new": 1}'
    claim = read_claim(0, claim_reply(spec=spec, tried=tried, kept=kept, used='{"in": 5, "new": 1}'))
    assert (claim.job.labels, claim.tried[0].model, claim.kept) == ({"a": "b"}, "a", Kept("so far"))
    assert claim.used == Usage(input_tokens=5)


def test_claim_of_a_part_without_anything_kept_begins_anew():
    claim = read_claim(0, claim_reply())
    assert (claim.used, claim.kept, claim.job.on_truncated, claim.job.reasoning) == (Usage(), Kept(), None, None)
    kept = Kept("text", "thoughts", 2, {"fast": 7})
    used = Usage(input_tokens=1, cached_tokens=2)
    claim = read_claim(0, claim_reply(kept=write_kept(kept), used=write_usage(used)))
    assert (claim.kept, claim.used, write_kept(Kept())) == (kept, used, "")


#: The fields that every stored job has had from the first version on.
FIRST_FIELDS = {
    "schema_version", "id", "kind", "split_options", "join_options", "join_model", "policy", "early_stop", "prefer",
    "model", "priority", "labels", "metadata",
}  # fmt: skip


def test_job_without_the_newer_fields_is_stored_and_marked_as_ever():
    job = Job(id="01jzq3v5k8w9x0y1z2a3b4c5d6", text="x")
    spec = {}

    def step(*_, **arguments):
        spec.update(json.loads(arguments["spec"]))

    Jobs(SimpleNamespace(step=step)).accept(job, keep_seconds=1)
    assert spec.keys() == FIRST_FIELDS
    assert _fingerprint(job) == digest(job.model_dump_json(exclude={"id", *NEWER}))
    assert _fingerprint(job) != _fingerprint(job.model_copy(update={"on_truncated": "fail"}))
    assert read_job(OLD_SPEC, '{"text": "x"}').text == "x"
