-- A database at migration 0015_claiming, as pg_dump writes it, made by commit 2dfb28b. Left out: comments, settings of
-- the session, and the body of the function.
CREATE FUNCTION public.ringback_claim(webhooks uuid[], bound integer, events uuid[], numbers integer[], leases uuid[], moments timestamp with time zone[], present timestamp with time zone, slots_until timestamp with time zone, ends timestamp with time zone, ended uuid[], ended_leases uuid[], OUT claimed uuid[], OUT claimed_at timestamp with time zone[], OUT rooms integer[], OUT steps interval[], OUT slots timestamp with time zone[]) RETURNS record
    LANGUAGE plpgsql
    AS $$
BEGIN
END
$$;
CREATE TABLE public.customer_order (
    id uuid NOT NULL,
    number character varying(64) NOT NULL,
    status character varying(16) NOT NULL,
    comment text,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.customer_order_customer (
    id uuid NOT NULL,
    name character varying(200) NOT NULL,
    phone character varying(64),
    email character varying(254),
    order_id uuid NOT NULL
);
CREATE TABLE public.customer_order_item (
    id uuid NOT NULL,
    "position" integer NOT NULL,
    brand character varying(200) NOT NULL,
    article character varying(200) NOT NULL,
    name character varying(500) NOT NULL,
    quantity integer NOT NULL,
    price numeric(12,2) NOT NULL,
    order_id uuid NOT NULL
);
CREATE TABLE public.lead (
    id uuid NOT NULL,
    name character varying(200) NOT NULL,
    phone character varying(64) NOT NULL,
    status character varying(16) NOT NULL,
    comment text,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.ringback_api_token (
    id uuid NOT NULL,
    name character varying(200) NOT NULL,
    role character varying(16) NOT NULL,
    token_hash character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone
);
CREATE TABLE public.ringback_attempt (
    id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    number integer NOT NULL,
    started_at timestamp with time zone NOT NULL,
    duration_ms integer,
    outcome character varying(16) NOT NULL,
    error text,
    status_code integer,
    request json,
    response json,
    event_id uuid NOT NULL
);
CREATE TABLE public.ringback_change (
    id uuid NOT NULL,
    model character varying(100) NOT NULL,
    action character varying(8) NOT NULL,
    object_id character varying(255) NOT NULL,
    item json NOT NULL,
    changed_fields json NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.ringback_declared_model (
    name character varying(100) NOT NULL,
    label character varying(200) NOT NULL,
    description text NOT NULL,
    json_schema text NOT NULL,
    sample json NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.ringback_event (
    id uuid NOT NULL,
    model character varying(100) NOT NULL,
    action character varying(8) NOT NULL,
    object_id character varying(255),
    is_test boolean NOT NULL,
    test_item json,
    status character varying(12) NOT NULL,
    attempt_count integer NOT NULL,
    attempts_before_round integer NOT NULL,
    abandoned_in_a_row integer NOT NULL,
    max_attempts integer NOT NULL,
    next_attempt_at timestamp with time zone,
    due_at timestamp with time zone,
    lease uuid,
    lease_begun_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    change_id uuid,
    webhook_id uuid NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE public.ringback_idempotency_key (
    id uuid NOT NULL,
    model character varying(100) NOT NULL,
    key character varying(255) NOT NULL,
    digest character varying(64) NOT NULL,
    event_ids json NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.ringback_inbox (
    id uuid NOT NULL,
    token character varying(64) NOT NULL,
    name character varying(200),
    responses json NOT NULL,
    signing_secret text,
    request_count integer NOT NULL,
    created_at timestamp with time zone NOT NULL,
    received bigint DEFAULT 0 NOT NULL
);
CREATE TABLE public.ringback_inbox_request (
    id uuid NOT NULL,
    received_at timestamp with time zone NOT NULL,
    method character varying(32) NOT NULL,
    url text NOT NULL,
    headers json NOT NULL,
    body bytea NOT NULL,
    remote_address character varying(64),
    response_status_code integer NOT NULL,
    signature character varying(16) NOT NULL,
    event_id uuid,
    inbox_id uuid NOT NULL,
    attempt_number integer,
    number bigint DEFAULT 0 NOT NULL
);
CREATE TABLE public.ringback_installation (
    id integer NOT NULL,
    epoch uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    server character varying(64)
);
CREATE TABLE public.ringback_log (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    kind character varying(24) NOT NULL,
    message text NOT NULL,
    webhook_id uuid NOT NULL,
    event_id uuid NOT NULL,
    attempt_id uuid,
    model character varying(100) NOT NULL,
    transaction bigint DEFAULT ((pg_current_xact_id())::text)::bigint NOT NULL
);
CREATE SEQUENCE public.ringback_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.ringback_log_id_seq OWNED BY public.ringback_log.id;
CREATE TABLE public.ringback_webhook (
    id uuid NOT NULL,
    name character varying(200),
    model character varying(100) NOT NULL,
    actions json NOT NULL,
    is_active boolean NOT NULL,
    method character varying(8) NOT NULL,
    url text NOT NULL,
    send_json boolean NOT NULL,
    body_template text NOT NULL,
    content_type character varying(200),
    headers json NOT NULL,
    condition text,
    retry_delays json NOT NULL,
    timeout_seconds double precision NOT NULL,
    success_policy character varying(16) NOT NULL,
    signing_secret text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    deleted_at timestamp with time zone,
    max_concurrency integer,
    rate_limit_per_second double precision,
    last_slot_at timestamp with time zone
);
CREATE TABLE public.site_settings (
    id integer NOT NULL,
    track_leads boolean NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.tortoise_migrations (
    id integer NOT NULL,
    app character varying(255) NOT NULL,
    name character varying(255) NOT NULL,
    applied_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE public.tortoise_migrations_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.tortoise_migrations_id_seq OWNED BY public.tortoise_migrations.id;
ALTER TABLE ONLY public.ringback_log ALTER COLUMN id SET DEFAULT nextval('public.ringback_log_id_seq'::regclass);
ALTER TABLE ONLY public.tortoise_migrations ALTER COLUMN id SET DEFAULT nextval('public.tortoise_migrations_id_seq'::regclass);
INSERT INTO public.ringback_installation VALUES (1, '01a228ad-fb4b-728b-aa2d-1c27b0da01dc', '2026-11-29 19:00:20.427446+00', NULL);
INSERT INTO public.site_settings VALUES (1, false, '2026-11-29 19:00:20.427446+00');
INSERT INTO public.tortoise_migrations VALUES (1, 'ringback', '0001_initial', '2026-11-29 19:00:20.414854+00');
INSERT INTO public.tortoise_migrations VALUES (2, 'ringback', '0002_first_rows', '2026-11-29 19:00:20.43071+00');
INSERT INTO public.tortoise_migrations VALUES (3, 'ringback', '0003_inbox_attempts', '2026-11-29 19:00:20.450714+00');
INSERT INTO public.tortoise_migrations VALUES (4, 'ringback', '0004_following', '2026-11-29 19:00:20.530554+00');
INSERT INTO public.tortoise_migrations VALUES (5, 'ringback', '0005_declared_models', '2026-11-29 19:00:20.562613+00');
INSERT INTO public.tortoise_migrations VALUES (6, 'ringback', '0006_postgres', '2026-11-29 19:00:20.825008+00');
INSERT INTO public.tortoise_migrations VALUES (7, 'ringback', '0007_of_a_webhook', '2026-11-29 19:00:20.879513+00');
INSERT INTO public.tortoise_migrations VALUES (8, 'ringback', '0008_limits', '2026-11-29 19:00:20.935715+00');
INSERT INTO public.tortoise_migrations VALUES (9, 'ringback', '0009_leases', '2026-11-29 19:00:21.067541+00');
INSERT INTO public.tortoise_migrations VALUES (10, 'ringback', '0010_rare', '2026-11-29 19:00:21.131863+00');
INSERT INTO public.tortoise_migrations VALUES (11, 'ringback', '0011_waiting_of_a_webhook', '2026-11-29 19:00:21.150758+00');
INSERT INTO public.tortoise_migrations VALUES (12, 'ringback', '0012_codes', '2026-11-29 19:00:21.190534+00');
INSERT INTO public.tortoise_migrations VALUES (13, 'ringback', '0013_by_webhook', '2026-11-29 19:00:21.230512+00');
INSERT INTO public.tortoise_migrations VALUES (14, 'ringback', '0014_one_log_index', '2026-11-29 19:00:21.238602+00');
INSERT INTO public.tortoise_migrations VALUES (15, 'ringback', '0015_claiming', '2026-11-29 19:00:21.247556+00');
SELECT pg_catalog.setval('public.ringback_log_id_seq', 1, false);
SELECT pg_catalog.setval('public.tortoise_migrations_id_seq', 15, true);
ALTER TABLE ONLY public.customer_order_customer
    ADD CONSTRAINT customer_order_customer_order_id_key UNIQUE (order_id);
ALTER TABLE ONLY public.customer_order_customer
    ADD CONSTRAINT customer_order_customer_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.customer_order_item
    ADD CONSTRAINT customer_order_item_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.customer_order
    ADD CONSTRAINT customer_order_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.lead
    ADD CONSTRAINT lead_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.ringback_api_token
    ADD CONSTRAINT ringback_api_token_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.ringback_api_token
    ADD CONSTRAINT ringback_api_token_token_hash_key UNIQUE (token_hash);
ALTER TABLE ONLY public.ringback_attempt
    ADD CONSTRAINT ringback_attempt_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.ringback_change
    ADD CONSTRAINT ringback_change_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.ringback_declared_model
    ADD CONSTRAINT ringback_declared_model_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.ringback_event
    ADD CONSTRAINT ringback_event_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.ringback_idempotency_key
    ADD CONSTRAINT ringback_idempotency_key_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.ringback_inbox
    ADD CONSTRAINT ringback_inbox_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.ringback_inbox_request
    ADD CONSTRAINT ringback_inbox_request_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.ringback_inbox
    ADD CONSTRAINT ringback_inbox_token_key UNIQUE (token);
ALTER TABLE ONLY public.ringback_installation
    ADD CONSTRAINT ringback_installation_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.ringback_log
    ADD CONSTRAINT ringback_log_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.ringback_webhook
    ADD CONSTRAINT ringback_webhook_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.site_settings
    ADD CONSTRAINT site_settings_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.tortoise_migrations
    ADD CONSTRAINT tortoise_migrations_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.ringback_attempt
    ADD CONSTRAINT uid_ringback_at_event_i_9c8d7d UNIQUE (event_id, number);
ALTER TABLE ONLY public.ringback_idempotency_key
    ADD CONSTRAINT uid_ringback_id_model_b37671 UNIQUE (model, key);
ALTER TABLE ONLY public.tortoise_migrations
    ADD CONSTRAINT uid_tortoise_mi_app_3803a5 UNIQUE (app, name);
CREATE INDEX idx_ringback_at_outcome_e02d0d ON public.ringback_attempt USING btree (outcome, id);
CREATE INDEX idx_ringback_at_webhook_69fcdf ON public.ringback_attempt USING btree (webhook_id, outcome, id);
CREATE INDEX idx_ringback_ev_change__6495ac ON public.ringback_event USING btree (change_id);
CREATE INDEX idx_ringback_ev_model_19a2c3 ON public.ringback_event USING btree (model, id);
CREATE INDEX idx_ringback_ev_object__f7efec ON public.ringback_event USING btree (object_id, id);
CREATE INDEX idx_ringback_ev_status_7b5780 ON public.ringback_event USING btree (status, id);
CREATE INDEX idx_ringback_ev_webhook_b6dea8 ON public.ringback_event USING btree (webhook_id, status, id);
CREATE INDEX idx_ringback_id_created_491a36 ON public.ringback_idempotency_key USING btree (created_at);
CREATE INDEX idx_ringback_in_event_i_1149b4 ON public.ringback_inbox_request USING btree (event_id);
CREATE INDEX idx_ringback_in_inbox_i_6845a8 ON public.ringback_inbox_request USING btree (inbox_id, number);
CREATE INDEX idx_ringback_in_inbox_i_8bc753 ON public.ringback_inbox_request USING btree (inbox_id, id);
CREATE INDEX idx_ringback_we_model_4536e1 ON public.ringback_webhook USING btree (model, is_active);
CREATE INDEX ringback_attempt_codes ON public.ringback_attempt USING btree (webhook_id, status_code, id) WHERE (status_code <> 200);
CREATE INDEX ringback_attempt_odd ON public.ringback_attempt USING btree (status_code, id) WHERE ((status_code = 200) AND ((outcome)::text <> 'DELIVERED'::text));
CREATE INDEX ringback_attempt_status ON public.ringback_attempt USING btree (status_code, id) WHERE (status_code <> 200);
CREATE INDEX ringback_event_leased ON public.ringback_event USING btree (due_at) WHERE (lease IS NOT NULL);
CREATE INDEX ringback_event_tests ON public.ringback_event USING btree (id) WHERE is_test;
CREATE INDEX ringback_event_under_way ON public.ringback_event USING btree (webhook_id) WHERE (lease IS NOT NULL);
CREATE INDEX ringback_event_waiting ON public.ringback_event USING btree (status, due_at) WHERE ((lease IS NULL) AND (due_at IS NOT NULL));
CREATE INDEX ringback_event_waiting_of ON public.ringback_event USING btree (webhook_id, status, due_at) WHERE ((lease IS NULL) AND (due_at IS NOT NULL));
CREATE INDEX ringback_log_in_order ON public.ringback_log USING btree (transaction, id);
CREATE INDEX ringback_log_of_webhook ON public.ringback_log USING btree (webhook_id, transaction, id);
ALTER TABLE ONLY public.customer_order_customer
    ADD CONSTRAINT customer_order_customer_order_id_fkey FOREIGN KEY (order_id) REFERENCES public.customer_order(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.customer_order_item
    ADD CONSTRAINT customer_order_item_order_id_fkey FOREIGN KEY (order_id) REFERENCES public.customer_order(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.ringback_attempt
    ADD CONSTRAINT ringback_attempt_event_id_fkey FOREIGN KEY (event_id) REFERENCES public.ringback_event(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.ringback_event
    ADD CONSTRAINT ringback_event_change_id_fkey FOREIGN KEY (change_id) REFERENCES public.ringback_change(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.ringback_event
    ADD CONSTRAINT ringback_event_webhook_id_fkey FOREIGN KEY (webhook_id) REFERENCES public.ringback_webhook(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.ringback_inbox_request
    ADD CONSTRAINT ringback_inbox_request_inbox_id_fkey FOREIGN KEY (inbox_id) REFERENCES public.ringback_inbox(id) ON DELETE CASCADE;
