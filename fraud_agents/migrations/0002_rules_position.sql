-- The rules are data: the changes of risk.rules.v1 below this offset, over the rules of the release, judge from here on.

ALTER TABLE fraud.activation
    ADD COLUMN rules_position bigint NOT NULL DEFAULT 0 CHECK (rules_position >= 0);
