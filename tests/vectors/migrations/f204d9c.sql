-- The database of commit f204d9c (migrations 0001 to 0003, and 0001 of the fraud agents) after 20 events: by pg_dump 18
-- --no-owner --no-privileges --inserts, without its comments and its session's settings.
CREATE SCHEMA fraud;
CREATE TABLE fraud.activation (
    consumer text NOT NULL,
    topic text NOT NULL,
    part integer NOT NULL,
    from_offset bigint NOT NULL,
    rule_set text NOT NULL,
    activated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT activation_from_offset_check CHECK ((from_offset >= 0))
);
CREATE TABLE fraud.schema_migration (
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE fraud.snapshot (
    consumer text NOT NULL,
    topic text NOT NULL,
    part integer NOT NULL,
    epoch bigint DEFAULT 1 NOT NULL,
    next_offset bigint DEFAULT 0 NOT NULL,
    rule_set text,
    state bytea,
    claimed_at timestamp with time zone DEFAULT now() NOT NULL,
    saved_at timestamp with time zone,
    CONSTRAINT snapshot_check CHECK (((state IS NULL) = (rule_set IS NULL))),
    CONSTRAINT snapshot_check1 CHECK (((state IS NOT NULL) OR (next_offset = 0))),
    CONSTRAINT snapshot_next_offset_check CHECK ((next_offset >= 0)),
    CONSTRAINT snapshot_part_check CHECK ((part >= 0))
);
ALTER TABLE ONLY fraud.snapshot ALTER COLUMN state SET STORAGE EXTERNAL;
CREATE TABLE public.barrier (
    id bigint NOT NULL,
    raw_ends jsonb NOT NULL,
    log_ends jsonb
);
ALTER TABLE public.barrier ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.barrier_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.batch (
    sequence bigint NOT NULL,
    part integer NOT NULL,
    from_offset bigint NOT NULL,
    next_offset bigint NOT NULL
);
ALTER TABLE public.batch ALTER COLUMN sequence ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.batch_sequence_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.closing (
    event_id uuid NOT NULL,
    player_id text NOT NULL,
    action text NOT NULL,
    by_event_id uuid NOT NULL,
    part integer NOT NULL,
    source_offset bigint NOT NULL
);
CREATE TABLE public.entry (
    event_id uuid NOT NULL,
    decision smallint NOT NULL,
    brand text NOT NULL,
    provider text NOT NULL,
    provider_version text NOT NULL,
    region text NOT NULL,
    operation text NOT NULL,
    provider_tx_id text NOT NULL,
    kind text NOT NULL,
    player_id text,
    round_id text,
    game_id text,
    reference_event_id uuid,
    fingerprint text NOT NULL,
    attempt_topic text NOT NULL,
    attempt_part integer NOT NULL,
    attempt_offset bigint NOT NULL,
    attempt_index integer NOT NULL,
    part integer NOT NULL,
    source_offset bigint NOT NULL,
    occurred_at_ms bigint NOT NULL,
    outcome text NOT NULL,
    reason text NOT NULL,
    currency text,
    available_minor bigint,
    version bigint,
    transfers smallint NOT NULL
)
WITH (autovacuum_vacuum_insert_scale_factor='0', autovacuum_vacuum_insert_threshold='500000');
CREATE TABLE public.installation (
    only_row boolean DEFAULT true NOT NULL,
    cluster_id text NOT NULL,
    partitions integer NOT NULL,
    CONSTRAINT installation_only_row_check CHECK (only_row),
    CONSTRAINT installation_partitions_check CHECK ((partitions > 0))
);
CREATE TABLE public.parked (
    part integer NOT NULL,
    source_offset bigint NOT NULL,
    event_id uuid NOT NULL,
    reference_event_id uuid,
    body bytea NOT NULL,
    parked_at timestamp with time zone DEFAULT now() NOT NULL,
    state text DEFAULT 'WAITING'::text NOT NULL,
    player_id text,
    appended boolean DEFAULT false NOT NULL,
    barrier bigint,
    CONSTRAINT parked_state_check CHECK ((state = ANY (ARRAY['WAITING'::text, 'RESOLVED'::text, 'FINAL'::text])))
);
CREATE TABLE public.player_state (
    player_id text NOT NULL,
    is_blocked boolean NOT NULL,
    bet_limit_currency text,
    bet_limit_minor bigint,
    event_id uuid NOT NULL
);
CREATE TABLE public.repeat (
    part integer NOT NULL,
    source_offset bigint NOT NULL,
    event_id uuid NOT NULL,
    brand text NOT NULL,
    provider text NOT NULL,
    operation text NOT NULL,
    provider_tx_id text NOT NULL,
    player_id text,
    fingerprint text NOT NULL,
    attempt_topic text NOT NULL,
    attempt_part integer NOT NULL,
    attempt_offset bigint NOT NULL,
    attempt_index integer NOT NULL,
    redelivered boolean NOT NULL,
    outcome text NOT NULL,
    reason text NOT NULL,
    currency text,
    available_minor bigint,
    version bigint
);
CREATE TABLE public.schema_migration (
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.stream_position (
    consumer text NOT NULL,
    topic text NOT NULL,
    part integer NOT NULL,
    next_offset bigint DEFAULT 0 NOT NULL,
    published_offset bigint DEFAULT 0 NOT NULL,
    epoch bigint DEFAULT 0 NOT NULL,
    last_timestamp_ms bigint,
    last_checksum bigint,
    CONSTRAINT stream_position_next_offset_check CHECK ((next_offset >= 0)),
    CONSTRAINT stream_position_published_offset_check CHECK ((published_offset >= 0))
);
CREATE TABLE public.transfer (
    player_id text,
    currency text NOT NULL,
    version bigint,
    debit text NOT NULL,
    credit text NOT NULL,
    amount_minor bigint NOT NULL,
    cash_minor bigint,
    bonus_minor bigint,
    held_minor bigint,
    event_id uuid NOT NULL,
    decision smallint NOT NULL,
    part integer NOT NULL,
    source_offset bigint NOT NULL,
    occurred_at_ms bigint NOT NULL,
    CONSTRAINT transfer_amount_minor_check CHECK ((amount_minor > 0)),
    CONSTRAINT transfer_check CHECK ((debit <> credit)),
    CONSTRAINT transfer_check1 CHECK (((player_id IS NULL) OR ((version IS NOT NULL) AND (cash_minor IS NOT NULL) AND (bonus_minor IS NOT NULL) AND (held_minor IS NOT NULL))))
);
CREATE TABLE public.wallet (
    player_id text NOT NULL,
    currency text NOT NULL,
    scale smallint NOT NULL,
    cash_minor bigint NOT NULL,
    bonus_minor bigint NOT NULL,
    held_minor bigint NOT NULL,
    version bigint NOT NULL,
    event_id uuid NOT NULL,
    part integer NOT NULL,
    source_offset bigint NOT NULL,
    CONSTRAINT wallet_held_minor_check CHECK ((held_minor >= 0))
);
INSERT INTO fraud.activation VALUES ('fraud.detect', 'wallet.transactions.v1', 0, 0, 'rules-1', '2026-11-22 18:47:44.366371+00');
INSERT INTO fraud.schema_migration VALUES ('0001_fraud.sql', 'fb9f8313c04551c167c4fbd024310d5235f4adc82d96587da9698ec073b2d6f4', '2026-11-22 18:47:44.041352+00');
INSERT INTO fraud.snapshot VALUES ('fraud.detect', 'wallet.transactions.v1', 0, 1, 5, 'rules-1', '\x7374617465206f6620796573746572646179', '2026-11-22 18:47:44.366371+00', '2026-11-22 18:47:44.374614+00');
INSERT INTO public.barrier OVERRIDING SYSTEM VALUE VALUES (1, '{"raw-0": 5}', NULL);
INSERT INTO public.batch OVERRIDING SYSTEM VALUE VALUES (1, 0, 0, 6);
INSERT INTO public.batch OVERRIDING SYSTEM VALUE VALUES (2, 0, 6, 13);
INSERT INTO public.batch OVERRIDING SYSTEM VALUE VALUES (3, 1, 0, 3);
INSERT INTO public.batch OVERRIDING SYSTEM VALUE VALUES (4, 1, 3, 7);
INSERT INTO public.closing VALUES ('47a4e367-af1f-58f2-9167-400ebf921ed8', 'p-1', 'REVERSED', '1cab74e2-b4d2-5c5c-b33f-b063c46bf6a2', 0, 4);
INSERT INTO public.closing VALUES ('63229be5-55b4-5133-8dca-329677263de6', 'p-1', 'REVERSED', '6d7462e0-ff57-5aa2-a07b-7be2dbef5714', 0, 7);
INSERT INTO public.entry VALUES ('bf599a6f-447b-5c94-932f-a8f3e1368ec2', 0, 'acme', 'adyen', '1', 'MT', 'AUTHORISATION', 'd1', 'DEPOSIT', 'p-1', NULL, 'g-1', NULL, 'c2a170f8208dcdd7c07a47c8eeba5b48', 'provider.adyen.raw.v1', 0, 0, 0, 0, 0, 1790000000000, 'POSTED', 'BOOKED', 'EUR', 10000, 1, 1);
INSERT INTO public.entry VALUES ('b15776af-bddb-5f61-a90c-397ab486c50a', 0, 'acme', 'house', '1', 'MT', 'bonus.granted', 'g1', 'BONUS_GRANT', 'p-1', NULL, 'g-1', NULL, 'eeaad376840dc0a0a49e86917543e3f4', 'provider.house.raw.v1', 0, 1, 0, 0, 1, 1790000000000, 'POSTED', 'BOOKED', 'EUR', 12000, 2, 1);
INSERT INTO public.entry VALUES ('cfd11bc4-79d8-5c84-83d7-f84a2dedf1f6', 0, 'acme', 'hub88', '1', 'MT', 'bet', 'b1', 'BET', 'p-1', 'r-1', 'g-1', NULL, '6e6f67d4560c1fa460876fb134c288b1', 'provider.hub88.raw.v1', 0, 2, 0, 0, 2, 1790000000000, 'POSTED', 'BOOKED', 'EUR', 11700, 3, 1);
INSERT INTO public.entry VALUES ('9f57917f-86c3-5afb-bfce-5d4b3eda09ff', 0, 'acme', 'hub88', '1', 'MT', 'win', 'w1', 'WIN', 'p-1', 'r-1', 'g-1', 'cfd11bc4-79d8-5c84-83d7-f84a2dedf1f6', '130658fc9017f911cfa99a3013db4ffb', 'provider.hub88.raw.v1', 0, 3, 0, 0, 3, 1790000000000, 'POSTED', 'BOOKED', 'EUR', 12200, 4, 1);
INSERT INTO public.entry VALUES ('1cab74e2-b4d2-5c5c-b33f-b063c46bf6a2', 0, 'acme', 'hub88', '1', 'MT', 'rollback', 'r9', 'ROLLBACK', 'p-1', 'r-1', 'g-1', '47a4e367-af1f-58f2-9167-400ebf921ed8', '744aa421b75a2bd44b82071e3566ab87', 'provider.hub88.raw.v1', 0, 4, 0, 0, 4, 1790000000000, 'TOMBSTONED', 'REFERENCE_NOT_SEEN_YET', NULL, NULL, NULL, 0);
INSERT INTO public.entry VALUES ('47a4e367-af1f-58f2-9167-400ebf921ed8', 0, 'acme', 'hub88', '1', 'MT', 'bet', 'b9', 'BET', 'p-1', 'r-1', 'g-1', NULL, '74c29ba9a55a7286e2398bf95b34e120', 'provider.hub88.raw.v1', 0, 5, 0, 0, 5, 1790000000000, 'TOMBSTONED', 'ROLLED_BACK_BEFORE_IT_CAME', 'EUR', 12200, 4, 0);
INSERT INTO public.entry VALUES ('63229be5-55b4-5133-8dca-329677263de6', 0, 'acme', 'hub88', '1', 'MT', 'bet', 'b2', 'BET', 'p-1', 'r-1', 'g-1', NULL, '32686c52b1e0be0976f676c7502d7131', 'provider.hub88.raw.v1', 0, 6, 0, 0, 6, 1790000000000, 'POSTED', 'BOOKED', 'EUR', 11500, 5, 1);
INSERT INTO public.entry VALUES ('6d7462e0-ff57-5aa2-a07b-7be2dbef5714', 0, 'acme', 'hub88', '1', 'MT', 'rollback', 'r2', 'ROLLBACK', 'p-1', 'r-1', 'g-1', '63229be5-55b4-5133-8dca-329677263de6', '0af1da2ad9a4bd86461ebd819786996b', 'provider.hub88.raw.v1', 0, 7, 0, 0, 7, 1790000000000, 'POSTED', 'BOOKED', 'EUR', 12200, 6, 1);
INSERT INTO public.entry VALUES ('e5932a30-30e6-580b-9e7b-6da2e0b443a4', 0, 'acme', 'house', '1', 'MT', 'withdrawal.requested', 'wd1', 'WITHDRAWAL', 'p-1', NULL, 'g-1', NULL, '05d0423ed6e36574a22a9195b771b4b3', 'provider.house.raw.v1', 0, 8, 0, 0, 8, 1790000000000, 'POSTED', 'BOOKED', 'EUR', 10700, 7, 1);
INSERT INTO public.entry VALUES ('0dc31c6f-1478-5e45-9a3f-e879c272fba0', 0, 'acme', 'hub88', '1', 'MT', 'bet', 'b3', 'BET', 'p-1', 'r-1', 'g-1', NULL, '71a897c2b83faa5088716e92cfb4a5af', 'provider.hub88.raw.v1', 0, 9, 0, 0, 9, 1790000000000, 'REFUSED_FUNDS', 'NOT_ENOUGH_MONEY', 'EUR', 10700, 7, 0);
INSERT INTO public.entry VALUES ('4b301d21-34c8-52c7-b1ad-513d9745bc30', 0, 'acme', 'house', '1', 'MT', 'player.limited', 'l1', 'PLAYER_STATE', 'p-1', NULL, 'g-1', NULL, '8e0d1c4d5f97394d64feca71a66169b5', 'provider.house.raw.v1', 0, 10, 0, 0, 10, 1790000000000, 'POSTED', 'BOOKED', NULL, NULL, NULL, 0);
INSERT INTO public.entry VALUES ('2365a0f5-d3e0-5f78-9ec0-a5843d8570d5', 0, 'acme', 'hub88', '1', 'MT', 'bet', 'b4', 'BET', 'p-1', 'r-1', 'g-1', NULL, '7a581e1c94d548f5300e469f95845460', 'provider.hub88.raw.v1', 0, 11, 0, 0, 11, 1790000000000, 'REFUSED_LIMIT', 'BET_OVER_LIMIT', 'EUR', 10700, 7, 0);
INSERT INTO public.entry VALUES ('cb571327-1e11-5bb0-b857-3f5e7aae7c9f', 0, 'acme', 'adyen', '1', 'MT', 'AUTHORISATION', 'd2', 'DEPOSIT', 'p-2', NULL, 'g-1', NULL, 'baa1ee6a43610b4d4ce3b7fb6ea92e26', 'provider.adyen.raw.v1', 0, 12, 0, 1, 0, 1790000000000, 'POSTED', 'BOOKED', 'EUR', 4000, 1, 1);
INSERT INTO public.entry VALUES ('454f1b90-50b5-52d2-8f0b-ed6fec975010', 0, 'acme', 'hub88', '1', 'MT', 'bet', 'b5', 'BET', 'p-2', 'r-1', 'g-1', NULL, 'a686fd61487866ec7a6281ae11586441', 'provider.hub88.raw.v1', 0, 13, 0, 1, 1, 1790000000000, 'POSTED', 'BOOKED', 'EUR', 3900, 2, 1);
INSERT INTO public.entry VALUES ('fc092695-b6fd-5e2c-95ea-ce5e7ba239d8', 0, 'acme', 'house', '1', 'MT', 'player.blocked', 'k1', 'PLAYER_STATE', 'p-2', NULL, 'g-1', NULL, '9b2e3a87cabb59eb7170b5c5e5dc4676', 'provider.house.raw.v1', 0, 14, 0, 1, 2, 1790000000000, 'POSTED', 'BOOKED', NULL, NULL, NULL, 0);
INSERT INTO public.entry VALUES ('ea83ae39-01fb-597b-ba88-1df551b7bded', 0, 'acme', 'hub88', '1', 'MT', 'bet', 'b6', 'BET', 'p-2', 'r-1', 'g-1', NULL, 'a686fd61487866ec7a6281ae11586441', 'provider.hub88.raw.v1', 0, 15, 0, 1, 3, 1790000000000, 'REFUSED_BLOCKED', 'PLAYER_BLOCKED', 'EUR', 3900, 2, 0);
INSERT INTO public.entry VALUES ('f40fbed4-9221-5dc1-bbfc-0f1b8b11a635', 0, 'acme', 'adyen', '1', 'MT', 'AUTHORISATION', 'd3', 'DEPOSIT', 'p-3', NULL, 'g-1', NULL, '4147acd16e2be05e12beffd9654eaf1f', 'provider.adyen.raw.v1', 0, 16, 0, 1, 4, 1790000000000, 'POSTED', 'BOOKED', 'EUR', 700, 1, 1);
INSERT INTO public.entry VALUES ('52cf9275-064b-5a6e-b67e-f9a6df8933c5', 0, 'acme', 'house', '1', 'MT', 'player.limited', 'l3', 'PLAYER_STATE', 'p-3', NULL, 'g-1', NULL, '5d60dfea8a912f398eb4b0298188dcb5', 'provider.house.raw.v1', 0, 17, 0, 1, 5, 1790000000000, 'POSTED', 'BOOKED', NULL, NULL, NULL, 0);
INSERT INTO public.entry VALUES ('dcf1a686-a405-5b78-8971-23aa7497271f', 0, 'acme', 'house', '1', 'MT', 'player.blocked', 'k3', 'PLAYER_STATE', 'p-3', NULL, 'g-1', NULL, 'a95f5e91fb4a6b381c3831c791818dc4', 'provider.house.raw.v1', 0, 18, 0, 1, 6, 1790000000000, 'POSTED', 'BOOKED', NULL, NULL, NULL, 0);
INSERT INTO public.installation VALUES (true, 'cluster-of-yesterday', 2);
INSERT INTO public.parked VALUES (0, 0, '5a022c81-9b71-58db-840b-ccaac6a12ec3', 'dbe4c295-6df0-5f3d-ba9f-54e06d6f6336', '\x00000c5c114835613032326338312d396237312d353864622d383430622d6363616163366131326563330861636d650a616479656e0231044d541a415554484f5249534154494f4e0a7073702d312a70726f76696465722e616479656e2e7261772e763100260000020e4445504f534954028827040206455552000000021c6465706f7369742e6f70656e65640a6465702d3100000206672d3180b083c5986802000280b083c59868e8b783c59868406666613134636439666238383436636265363062626563363666643566306265020a56414c49440000', '2026-11-22 18:47:44.276524+00', 'WAITING', NULL, false, 1);
INSERT INTO public.parked VALUES (0, 1, 'd8e5fa44-34c7-5f1b-bbbd-2ac059d73cf1', '55560c1d-1737-5e13-96f9-b09b38237f01', '\x00000c5c114864386535666134342d333463372d356631622d626262642d3261633035396437336366310861636d650a616479656e0231044d541a415554484f5249534154494f4e0a7073702d322a70726f76696465722e616479656e2e7261772e763100280000020e4445504f53495402d028040206455552000000021c6465706f7369742e6f70656e65640a6465702d3200000206672d3180b083c5986802000280b083c59868e8b783c59868406133643334623338613263346636313734323230366439306364366231663431020a56414c49440000', '2026-11-22 18:47:44.276524+00', 'WAITING', NULL, false, 1);
INSERT INTO public.player_state VALUES ('p-1', false, 'EUR', 5000, '4b301d21-34c8-52c7-b1ad-513d9745bc30');
INSERT INTO public.player_state VALUES ('p-2', true, NULL, NULL, 'fc092695-b6fd-5e2c-95ea-ce5e7ba239d8');
INSERT INTO public.player_state VALUES ('p-3', true, 'EUR', 900, 'dcf1a686-a405-5b78-8971-23aa7497271f');
INSERT INTO public.repeat VALUES (0, 12, 'cfd11bc4-79d8-5c84-83d7-f84a2dedf1f6', 'acme', 'hub88', 'bet', 'b1', 'p-1', '6e6f67d4560c1fa460876fb134c288b1', 'provider.hub88.raw.v1', 0, 2, 0, true, 'POSTED', 'BOOKED', 'EUR', 11700, 3);
INSERT INTO public.schema_migration VALUES ('0001_ledger.sql', 'c275359cb917bc91ac465ec874f8bcad4d668138f9d46736503c2f4888f95d3c', '2026-11-22 18:47:43.82926+00');
INSERT INTO public.schema_migration VALUES ('0002_repeats_and_barriers.sql', 'ab06df481be9fd538c39b2556e5df99b362902a52b568c56b8243fdf230daa21', '2026-11-22 18:47:43.973099+00');
INSERT INTO public.schema_migration VALUES ('0003_places_in_the_log.sql', '7bdf42710ad2f24ebf58e103e489f5f5f5bcef7d5b276cfea64d0080bab476a7', '2026-11-22 18:47:44.004096+00');
INSERT INTO public.stream_position VALUES ('ledger', 'wallet.transactions.v1', 0, 13, 0, 1, 1790000000500, 8);
INSERT INTO public.stream_position VALUES ('ledger', 'wallet.transactions.v1', 1, 7, 0, 1, 1790000000500, 8);
INSERT INTO public.stream_position VALUES ('resolve', 'wallet.transactions.unresolved.v1', 0, 2, 0, 1, NULL, NULL);
INSERT INTO public.transfer VALUES ('p-1', 'EUR', 1, 'psp:adyen', 'player:p-1:cash', 10000, 10000, 0, 0, 'bf599a6f-447b-5c94-932f-a8f3e1368ec2', 0, 0, 0, 1790000000000);
INSERT INTO public.transfer VALUES ('p-1', 'EUR', 2, 'promotions:acme', 'player:p-1:bonus', 2000, 10000, 2000, 0, 'b15776af-bddb-5f61-a90c-397ab486c50a', 0, 0, 1, 1790000000000);
INSERT INTO public.transfer VALUES ('p-1', 'EUR', 3, 'player:p-1:cash', 'provider:hub88', 300, 9700, 2000, 0, 'cfd11bc4-79d8-5c84-83d7-f84a2dedf1f6', 0, 0, 2, 1790000000000);
INSERT INTO public.transfer VALUES ('p-1', 'EUR', 4, 'provider:hub88', 'player:p-1:cash', 500, 10200, 2000, 0, '9f57917f-86c3-5afb-bfce-5d4b3eda09ff', 0, 0, 3, 1790000000000);
INSERT INTO public.transfer VALUES ('p-1', 'EUR', 5, 'player:p-1:cash', 'provider:hub88', 700, 9500, 2000, 0, '63229be5-55b4-5133-8dca-329677263de6', 0, 0, 6, 1790000000000);
INSERT INTO public.transfer VALUES ('p-1', 'EUR', 6, 'provider:hub88', 'player:p-1:cash', 700, 10200, 2000, 0, '6d7462e0-ff57-5aa2-a07b-7be2dbef5714', 0, 0, 7, 1790000000000);
INSERT INTO public.transfer VALUES ('p-1', 'EUR', 7, 'player:p-1:cash', 'player:p-1:held', 1500, 8700, 2000, 1500, 'e5932a30-30e6-580b-9e7b-6da2e0b443a4', 0, 0, 8, 1790000000000);
INSERT INTO public.transfer VALUES ('p-2', 'EUR', 1, 'psp:adyen', 'player:p-2:cash', 4000, 4000, 0, 0, 'cb571327-1e11-5bb0-b857-3f5e7aae7c9f', 0, 1, 0, 1790000000000);
INSERT INTO public.transfer VALUES ('p-2', 'EUR', 2, 'player:p-2:cash', 'provider:hub88', 100, 3900, 0, 0, '454f1b90-50b5-52d2-8f0b-ed6fec975010', 0, 1, 1, 1790000000000);
INSERT INTO public.transfer VALUES ('p-3', 'EUR', 1, 'psp:adyen', 'player:p-3:cash', 700, 700, 0, 0, 'f40fbed4-9221-5dc1-bbfc-0f1b8b11a635', 0, 1, 4, 1790000000000);
INSERT INTO public.wallet VALUES ('p-1', 'EUR', 2, 8700, 2000, 1500, 7, 'e5932a30-30e6-580b-9e7b-6da2e0b443a4', 0, 8);
INSERT INTO public.wallet VALUES ('p-2', 'EUR', 2, 3900, 0, 0, 2, '454f1b90-50b5-52d2-8f0b-ed6fec975010', 1, 1);
INSERT INTO public.wallet VALUES ('p-3', 'EUR', 2, 700, 0, 0, 1, 'f40fbed4-9221-5dc1-bbfc-0f1b8b11a635', 1, 4);
SELECT pg_catalog.setval('public.barrier_id_seq', 1, true);
SELECT pg_catalog.setval('public.batch_sequence_seq', 4, true);
ALTER TABLE ONLY fraud.activation
    ADD CONSTRAINT activation_pkey PRIMARY KEY (consumer, topic, part, from_offset);
ALTER TABLE ONLY fraud.schema_migration
    ADD CONSTRAINT schema_migration_pkey PRIMARY KEY (name);
ALTER TABLE ONLY fraud.snapshot
    ADD CONSTRAINT snapshot_pkey PRIMARY KEY (consumer, topic, part);
ALTER TABLE ONLY public.barrier
    ADD CONSTRAINT barrier_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.batch
    ADD CONSTRAINT batch_pkey PRIMARY KEY (sequence);
ALTER TABLE ONLY public.closing
    ADD CONSTRAINT closing_pkey PRIMARY KEY (event_id, player_id);
ALTER TABLE ONLY public.entry
    ADD CONSTRAINT entry_pkey PRIMARY KEY (event_id, decision);
ALTER TABLE ONLY public.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);
ALTER TABLE ONLY public.parked
    ADD CONSTRAINT parked_pkey PRIMARY KEY (part, source_offset);
ALTER TABLE ONLY public.player_state
    ADD CONSTRAINT player_state_pkey PRIMARY KEY (player_id);
ALTER TABLE ONLY public.repeat
    ADD CONSTRAINT repeat_pkey PRIMARY KEY (part, source_offset);
ALTER TABLE ONLY public.schema_migration
    ADD CONSTRAINT schema_migration_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.stream_position
    ADD CONSTRAINT stream_position_pkey PRIMARY KEY (consumer, topic, part);
ALTER TABLE ONLY public.transfer
    ADD CONSTRAINT transfer_player_id_currency_version_key UNIQUE (player_id, currency, version);
ALTER TABLE ONLY public.wallet
    ADD CONSTRAINT wallet_pkey PRIMARY KEY (player_id, currency);
CREATE INDEX entry_source ON public.entry USING brin (source_offset int8_minmax_multi_ops (values_per_range='64')) WITH (pages_per_range='16');
CREATE INDEX parked_event ON public.parked USING btree (event_id);
CREATE INDEX parked_unappended ON public.parked USING btree (part, source_offset) WHERE (NOT appended);
CREATE INDEX parked_waiting ON public.parked USING btree (part, source_offset) WHERE (state = 'WAITING'::text);
CREATE INDEX repeat_attempt ON public.repeat USING btree (event_id, attempt_offset);
