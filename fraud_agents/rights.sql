-- Rights on the fraud agents' tables. All other rights are denied, except those of the owner and the auditor.

GRANT SELECT, INSERT, UPDATE ON fraud.snapshot, fraud.activation TO pitboss_writer;
GRANT SELECT, INSERT ON fraud.case_action TO pitboss_writer;
GRANT SELECT ON fraud.activation, fraud.case_action TO pitboss_reader;
