from __future__ import annotations

import logging

from runtime.kafka.process import LogThrottle


def record(
    name: str = "aiokafka.client", message: str = "no broker %s", *args: object
) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, args or ("x",), None)


def test_alike_messages_pass_once_in_a_while_and_are_counted(monkeypatch):
    now = 100.0
    monkeypatch.setattr("runtime.kafka.process.time.monotonic", lambda: now)
    throttle = LogThrottle(every_s=10)
    assert [throttle.filter(record("aiokafka.client", "no broker %s", n)) for n in range(5)] == [
        True
    ] + [False] * 4
    assert throttle.filter(record(message="another %s")), "what is not alike passes"
    assert throttle.filter(record("aiokafka.conn")), "another logger's passes, too"
    now = 111.0
    again = record("aiokafka.client", "no broker %s", 9)
    assert throttle.filter(again)
    assert again.getMessage() == "no broker 9 (and 4 alike)"


def test_our_own_messages_always_pass():
    throttle = LogThrottle()
    assert all(throttle.filter(record("runtime.kafka.intake.intake")) for _ in range(3))


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("runtime.kafka.process.LOG_TEMPLATES_MAX", 10)
    throttle = LogThrottle()
    for number in range(100):
        assert throttle.filter(record(message=f"message {number} %s"))
    assert len(throttle._last) <= 10


def test_librdkafka_has_one_template_for_all_events():
    throttle = LogThrottle()

    def event(name: str) -> logging.LogRecord:
        return record("librdkafka", "%s [%s] %s", name, "worker#consumer-1", "refused")

    passed = [throttle.filter(event(name)) for name in ("FAIL", "FAIL", "REQTMOUT", "FAIL")]
    assert passed == [True, False, True, False]
