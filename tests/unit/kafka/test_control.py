from __future__ import annotations

import pytest

from runtime.kafka.control import ControlCommand, read_command


@pytest.mark.parametrize("command", ControlCommand)
def test_a_command_reaches_its_component_and_every_one(command):
    assert (
        read_command(f'{{"command":"{command}","component":"ledger"}}'.encode(), "ledger")
        is command
    )
    assert read_command(f'{{"command":"{command}","component":"*"}}'.encode(), "ledger") is command
    assert read_command(f'{{"command":"{command}","component":"fraud"}}'.encode(), "ledger") is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"pause",
        b"{}",
        b'{"command":"pause"}',
        b'{"command":"stop","component":"*"}',
        b"[1]",
    ],
)
def test_what_is_no_command_is_said_to_be_none(value):
    with pytest.raises(ValueError, match=r"."):
        read_command(value, "ledger")
