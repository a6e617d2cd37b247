-- Who may do what with the fraud agents' tables. Whatever is not here, nobody may; the owner and the auditor have theirs.

GRANT SELECT, INSERT, UPDATE ON fraud.snapshot, fraud.activation TO pitboss_writer;
GRANT SELECT ON fraud.activation TO pitboss_reader;
