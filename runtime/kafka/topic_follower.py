"""A topic that every worker reads whole, in no group, and then follows for ever."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError, KafkaError, UnknownTopicOrPartitionError
from mode import Service

from runtime.kafka.clients import METADATA_AGE_MS, is_retriable, stop_client
from runtime.kafka.tasks import crash_on_stray_cancel
from runtime.security import BrokerAddress

RETRY_S: Final = 2.0


class TopicFollower(Service):
    """Base of the services that follow such a topic. Subclasses give `follow` and `take_as_empty`.

    While the broker is away they try again; any other error of the broker ends the process.
    """

    subject: ClassVar[str]
    """What does not reach this worker while the broker is away, for a log line."""

    def __init__(
        self,
        broker: BrokerAddress,
        topic: str,
        client_id: str,
        *,
        is_subscribed: bool = False,
        **consumer_options: Any,
    ) -> None:
        """Prepare to read a topic without connecting.

        With `is_subscribed` the consumer has all of its partitions from the start.
        """
        super().__init__()
        self._subscribed = (topic,) if is_subscribed else ()
        self._broker = broker
        self._topic = topic
        self._client_id = client_id
        self._consumer_options = consumer_options

    async def follow(self, consumer: AIOKafkaConsumer) -> None:
        """Read the topic from its start with a consumer that is connected, until stopped.

        Raises UnknownTopicOrPartitionError where it does not exist.
        """
        raise NotImplementedError

    def take_as_empty(self) -> None:
        """Go on without the topic: it does not exist."""
        raise NotImplementedError

    def lose_consumer(self) -> None:
        """Note that the consumer of `follow` is closed now."""

    @Service.task
    @crash_on_stray_cancel
    async def _listen(self) -> None:
        while not self.should_stop:
            consumer = AIOKafkaConsumer(
                *self._subscribed,
                **self._broker.aiokafka_options(),
                client_id=self._client_id,
                group_id=None,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                metadata_max_age_ms=METADATA_AGE_MS,
                **self._consumer_options,
            )
            try:
                await consumer.start()
                await self.follow(consumer)
            except ConsumerStoppedError:
                return
            except UnknownTopicOrPartitionError:
                self.take_as_empty()
                await self.sleep(RETRY_S)
            except KafkaError as error:
                if not is_retriable(error):
                    raise
                self.log.warning("no %s reach this worker: %s", self.subject, error)
                await self.sleep(RETRY_S)
            finally:
                self.lose_consumer()
                await stop_client(consumer)
