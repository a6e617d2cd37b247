-- What every process of this installation must be configured with alike: brands, currencies, settings of dialects, and the
-- ledger policies that follow from them. The newest row applies, the others are its history.
CREATE TABLE shared_settings (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest      text        NOT NULL,
    settings    jsonb       NOT NULL,
    accepted_by text        NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT now()
);
