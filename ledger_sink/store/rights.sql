-- The rights on the ledger's tables and those of the dead letters. What is not granted here is denied; the owner has
-- every right, and the auditor may read already. A migration that makes a table adds its line here.

-- Booked rows are never changed.
GRANT SELECT, INSERT ON entry, repeat, transfer, seal, batch, proposal, opened_deposit, installation, raw_topics,
    unmasked_export, shared_settings TO pitboss_writer;

-- Current state: projections of booked rows, positions, events that wait for their player.
GRANT SELECT, INSERT, UPDATE ON wallet, closing, player_state, stream_position, parked TO pitboss_writer;
GRANT SELECT, UPDATE ON crossing TO pitboss_writer;
GRANT SELECT, INSERT, UPDATE ON archive_file TO pitboss_writer;
GRANT SELECT, INSERT, UPDATE ON recovery TO pitboss_writer;
GRANT SELECT, INSERT ON log_mapping TO pitboss_writer;
GRANT SELECT ON month_away TO pitboss_writer;
GRANT SELECT, INSERT, UPDATE ON operator_limit TO pitboss_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON barrier, open_item TO pitboss_writer;

GRANT SELECT, INSERT, UPDATE (is_done, to_part, to_offset) ON dead_letters.action TO pitboss_writer;
GRANT SELECT, INSERT, UPDATE ON dead_letters.jam, dead_letters.parked TO pitboss_writer;
-- An index, which is cut with its topics.
GRANT SELECT, INSERT, UPDATE, DELETE ON dead_letters.letter, dead_letters.letter_position TO pitboss_writer;

-- Not: positions of workers, and the bytes of events that wait for their player.
GRANT SELECT ON entry, repeat, transfer, seal, batch, proposal, opened_deposit, installation TO pitboss_reader;
GRANT SELECT ON wallet, closing, player_state, month_away, raw_topics, unmasked_export, archive_file, shared_settings,
    open_item, operator_limit, recovery, log_mapping
    TO pitboss_reader;
GRANT SELECT ON dead_letters.action, dead_letters.jam, dead_letters.parked TO pitboss_reader;
GRANT SELECT ON dead_letters.letter, dead_letters.letter_position TO pitboss_reader;
