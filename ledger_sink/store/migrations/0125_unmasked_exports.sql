-- Who took personal or secret fields of a topic out of the installation, and why: a row when it begins, before a
-- record is read, and another when the result is complete. Rows are only ever inserted.
CREATE TABLE unmasked_export (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    login    text        NOT NULL DEFAULT session_user,
    operator text        NOT NULL,
    stage    text        NOT NULL,
    topic    text        NOT NULL,
    request  jsonb       NOT NULL,
    reason   text        NOT NULL,
    rows     bigint,
    sha256   text
);
