"""The consumer that Faust asks for and that never runs.

Streams of an app look at `app.consumer` even where nothing is read through it, and making one makes
a thread service with an event loop that only its start and stop would close. Ours borrows the app's
loop instead.
"""

from __future__ import annotations

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport


class IdleConsumer(Consumer):
    """Connects to nothing: the app's boot strategy never starts it."""

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return AIOKafkaConsumerThread(
            self, loop=self.loop, thread_loop=self.loop, beacon=self.beacon
        )


class IdleTransport(Transport):
    """Faust's Kafka transport, with a consumer that never runs."""

    Consumer = IdleConsumer
