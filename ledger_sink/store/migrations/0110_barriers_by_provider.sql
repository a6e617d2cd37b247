-- A barrier is of one provider's events and has an age. NULL: of what was parked by a release before this one, whose
-- barriers wait for the raw topics of every provider.
ALTER TABLE parked ADD COLUMN provider text;
ALTER TABLE barrier ADD COLUMN raised_at timestamptz NOT NULL DEFAULT now();
