"""What many unusable items of one record cost: dead letters, signals, bytes."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from runtime.dead_letters.sink import DETAIL_CHARACTERS_MAX, KafkaDeadLetterSink
from schemas import codec
from schemas.errors import RejectCode
from schemas.events import DeadLetter
from schemas.topics import SIGNALS, UNRESOLVED, raw_topic
from streams.normalise.batch import ITEM_LETTERS_MAX, NormalisedBatch, cap_rejections
from streams.normalise.mapping.normaliser import VALUE_MAX_BYTES, Normaliser, RejectedItem
from streams.normalise.stats import NormaliseStats
from streams.providers.registry import DIALECTS

KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
EMPTY = '{"NotificationRequestItem":{}}'
FORGED = json.dumps(
    {
        "NotificationRequestItem": {
            "eventCode": "CAPTURE",
            "success": "true",
            "pspReference": "a",
            "additionalData": {"hmacSignature": "x"},
        }
    }
)
GOOD = json.dumps(
    {
        "NotificationRequestItem": {
            "eventCode": "CHARGEBACK",
            "success": "false",
            "pspReference": "c",
            "additionalData": {
                "hmacSignature": base64.b64encode(
                    hmac.digest(bytes.fromhex(KEY), b"c::::::CHARGEBACK:false", "sha256")
                ).decode()
            },
        }
    }
)


def reject(index: int, code: RejectCode = RejectCode.BAD_FIELD) -> RejectedItem:
    return RejectedItem(code, f"detail {index}", index, f"p{index}")


def notice(items: list[str]) -> ConsumerRecord[Any, Any]:
    value = f'{{"live":"true","notificationItems":[{",".join(items)}]}}'.encode()
    headers = (("connector", b"c-1"), ("http-path", b"/" + b"x" * 190))
    return ConsumerRecord(
        raw_topic("adyen"), 0, 7, 1_790_000_000_000, 1, b"k", value, None, 1, len(value), headers
    )


def normalise(record: ConsumerRecord[Any, Any]) -> NormalisedBatch:
    batch = NormalisedBatch("adyen")
    batch.add_results(
        [(record, Normaliser(DIALECTS, {"adyen": {"hmac_hex": KEY}}).normalise(record))]
    )
    return batch


class Broker:
    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []
        self.bytes = 0

    async def send_keyed(self, topic, records) -> None:
        assert topic == raw_topic("adyen") + ".dlt"
        for key, value, headers, _ in records:
            self.bytes += (
                len(key) + len(value) + sum(len(name) + len(held) for name, held in headers)
            )
            self.letters.append(codec.decoder(DeadLetter)(value))


async def publish(batch: NormalisedBatch) -> Broker:
    broker: Any = Broker()
    await KafkaDeadLetterSink(broker, "normalise", "1").publish_all(batch.rejections)
    kept: Broker = broker
    return kept


def test_a_few_speak_for_themselves():
    items = [reject(n) for n in range(ITEM_LETTERS_MAX)]
    assert cap_rejections(items) == (None, items)


def test_of_many_one_speaks_for_the_record_and_the_first_of_each_code_stays():
    codes = [
        RejectCode.BAD_TIME,
        *[RejectCode.BAD_AMOUNT] * 1_200,
        RejectCode.BAD_TIME,
        RejectCode.BAD_CURRENCY,
    ]
    whole, few = cap_rejections([reject(n, code) for n, code in enumerate(codes)])
    assert whole == RejectedItem(
        RejectCode.BAD_AMOUNT,
        "1,203 items cannot be used, too many for a dead letter each: 2 BAD_TIME (items 0, 1201); "
        "1,200 BAD_AMOUNT (items 1, 2, 3, 4, 5, …); 1 BAD_CURRENCY (item 1202)",
        None,
        None,
    )
    assert [item.record_index for item in few] == [0, 1, 1202]


def test_with_every_code_there_are_no_more_letters_than_below_the_limit_and_the_detail_is_whole():
    of_whole_records = {RejectCode.BAD_HEADER, RejectCode.UNKNOWN_BRAND}
    codes = [code for code in RejectCode if code not in of_whole_records]
    everything = [reject(40_000 + n, code) for n, code in enumerate(codes * 2_000)]
    whole, few = cap_rejections(everything)
    assert whole is not None
    assert len(few) + 1 <= ITEM_LETTERS_MAX
    assert len(whole.detail) <= DETAIL_CHARACTERS_MAX


@pytest.mark.parametrize("count", [2, ITEM_LETTERS_MAX, ITEM_LETTERS_MAX + 1, 2_000])
async def test_the_letters_of_a_record_cost_twice_its_bytes_at_most(count):
    padding = " " * max(0, 64_000 - count * len(EMPTY))
    record = notice([EMPTY + padding, *[EMPTY] * (count - 1)])
    assert record.value is not None
    batch, stats = normalise(record), NormaliseStats()
    broker = await publish(batch)
    assert broker.bytes <= 2 * len(record.value)
    assert [letter.value for letter in broker.letters] == [
        record.value,
        *[None] * (len(broker.letters) - 1),
    ]
    batch.count_into(stats)
    assert stats.rejected == {"MISSING_FIELD": count}, "each item is counted"


@pytest.mark.parametrize("item", [EMPTY, FORGED], ids=["rubbish", "forged"])
async def test_as_many_items_as_a_record_can_hold_become_two_letters_and_one_signal(item):
    record = notice([item] * ((VALUE_MAX_BYTES - 100) // (len(item) + 1)))
    assert record.value is not None
    assert len(record.value) > 0.99 * VALUE_MAX_BYTES
    batch = normalise(record)
    broker = await publish(batch)
    assert [letter.record_index for letter in broker.letters] == [None, 0]
    assert broker.letters[0].value == record.value
    signal_bytes = sum(len(value or b"") for _, value, _, _ in batch.outgoing[SIGNALS])
    assert broker.bytes + signal_bytes < len(record.value) + 5_000
    assert len(batch.outgoing[SIGNALS]) == (item is FORGED)


async def test_what_can_be_used_of_such_a_record_goes_on():
    batch = normalise(notice([GOOD, *[EMPTY] * 40, GOOD, *[FORGED] * 3]))
    broker = await publish(batch)
    assert sum(len(events) for topic, events in batch.outgoing.items() if topic != SIGNALS) == 2
    assert UNRESOLVED in batch.outgoing
    assert [(letter.record_index, letter.code) for letter in broker.letters] == [
        (None, "MISSING_FIELD"),
        (1, "MISSING_FIELD"),
        (42, "BAD_SIGNATURE"),
    ]
    assert (
        "40 MISSING_FIELD (items 1, 2, 3, 4, 5, …); 3 BAD_SIGNATURE (items 42, 43, 44)"
        in broker.letters[0].detail
    )
