-- What people did about alerts, in order: the last action of an alert says who works on it, or what they found.

CREATE TABLE fraud.case_action (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id text NOT NULL,
    kind     text NOT NULL CHECK (kind IN ('ASSIGNED', 'CLOSED')),
    -- The person it is assigned to, or the verdict.
    value    text NOT NULL,
    actor    text NOT NULL,
    reason   text NOT NULL,
    made_at  timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX case_action_alert ON fraud.case_action (alert_id, id);
