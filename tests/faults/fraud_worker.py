"""A fraud worker that takes snapshots far more often than one in production, so that kills fall around them."""

from __future__ import annotations

import json
import logging
import sys

from fraud_agents.handler import create_app
from fraud_agents.settings import FraudSettings
from runtime.kafka.process import run_worker
from runtime.security import BrokerAddress

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    given = json.loads(sys.argv[1])
    settings = FraudSettings(**{**given, "broker": BrokerAddress(**given["broker"])})
    sys.exit(run_worker(lambda: create_app(settings)))
