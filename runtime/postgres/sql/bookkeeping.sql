CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.schema_migration (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
-- Whether an earlier release works on the tables that the file leaves. NULL: applied by a release that did not say.
ALTER TABLE {schema}.schema_migration ADD COLUMN IF NOT EXISTS is_additive boolean
