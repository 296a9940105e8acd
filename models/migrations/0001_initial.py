from tortoise import migrations
from tortoise.migrations import operations as ops
from orjson import loads
from ringback.models.access import Role
from ringback.models.ids import new_key
from ringback.models.inbox import SignatureCheck
from ringback.models.lead import LeadStatus
from ringback.models.log import LogKind
from ringback.models.order import OrderStatus
from ringback.models.states import EventStatus, OutcomeName
from ringback.models.webhook import Action, HttpMethod, SuccessPolicy, default_retry_delays
from tortoise.fields.base import OnDelete
from tortoise.fields.data import JSON_DUMPS
from tortoise import fields
from tortoise.indexes import Index


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="ApiToken",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_key, unique=True, db_index=True)),
                ("name", fields.CharField(max_length=200)),
                ("role", fields.CharEnumField(description="ADMIN: ADMIN", enum_type=Role, max_length=16)),
                ("token_hash", fields.CharField(unique=True, max_length=64)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("expires_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("last_used_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("revoked_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "ringback_api_token",
                "app": "ringback",
                "pk_attr": "id",
                "table_description": "A bearer token, its secret is shown once and kept as a SHA-256 hash.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Change",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_key, unique=True, db_index=True)),
                ("model", fields.CharField(max_length=100)),
                (
                    "action",
                    fields.CharEnumField(
                        description="CREATED: CREATED\nUPDATED: UPDATED\nDELETED: DELETED",
                        enum_type=Action,
                        max_length=8,
                    ),
                ),
                ("object_id", fields.CharField(max_length=255)),
                ("item", fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
                ("changed_fields", fields.JSONField(default=list, encoder=JSON_DUMPS, decoder=loads)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "ringback_change",
                "app": "ringback",
                "pk_attr": "id",
                "table_description": "One committed create, update or delete of one object, with its snapshot.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="CustomerOrder",
            fields=[
                (
                    "id",
                    fields.UUIDField(
                        primary_key=True,
                        default=new_key,
                        unique=True,
                        db_index=True,
                        description="The order's id, ord_….",
                    ),
                ),
                ("number", fields.CharField(description="The order's number as the shop writes it.", max_length=64)),
                (
                    "status",
                    fields.CharEnumField(
                        default=OrderStatus.NEW,
                        description="NEW, IN_PROGRESS, DONE or CANCELLED.",
                        enum_type=OrderStatus,
                        max_length=16,
                    ),
                ),
                (
                    "comment",
                    fields.TextField(
                        null=True, description="A remark on the order, null while there is none.", unique=False
                    ),
                ),
                (
                    "created_at",
                    fields.DatetimeField(description="When the order was placed.", auto_now=False, auto_now_add=True),
                ),
                (
                    "updated_at",
                    fields.DatetimeField(
                        description="When the order itself was last saved.", auto_now=True, auto_now_add=False
                    ),
                ),
            ],
            options={
                "table": "customer_order",
                "app": "ringback",
                "pk_attr": "id",
                "table_description": "A customer's order.",
            },
            bases=["Tracked"],
        ),
        ops.CreateModel(
            name="Inbox",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_key, unique=True, db_index=True)),
                ("token", fields.CharField(unique=True, max_length=64)),
                ("name", fields.CharField(null=True, max_length=200)),
                (
                    "responses",
                    fields.JSONField(
                        description="{status_code, body, content_type, delay_ms}, the n-th for the n-th request, the last one repeats.",
                        encoder=JSON_DUMPS,
                        decoder=loads,
                    ),
                ),
                (
                    "signing_secret",
                    fields.TextField(
                        null=True,
                        description="Encrypted (models.secrets), null when the inbox has none of its own.",
                        unique=False,
                    ),
                ),
                (
                    "request_count",
                    fields.IntField(default=0, description="Requests received since the inbox was made or cleared."),
                ),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "ringback_inbox",
                "app": "ringback",
                "pk_attr": "id",
                "table_description": "A test address.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="InboxRequest",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_key, unique=True, db_index=True)),
                (
                    "inbox",
                    fields.ForeignKeyField(
                        "ringback.Inbox",
                        source_field="inbox_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="requests",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("received_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("method", fields.CharField(max_length=32)),
                ("url", fields.TextField(description="Path and query as received.", unique=False)),
                ("headers", fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
                ("body", fields.BinaryField()),
                ("remote_address", fields.CharField(null=True, max_length=64)),
                ("response_status_code", fields.IntField()),
                (
                    "signature",
                    fields.CharEnumField(
                        description="VALID: VALID\nINVALID: INVALID\nABSENT: ABSENT\nNOT_CHECKED: NOT_CHECKED",
                        enum_type=SignatureCheck,
                        max_length=16,
                    ),
                ),
                (
                    "event_id",
                    fields.UUIDField(
                        null=True, description="The event that PS-WEBHOOK_EVENT-ID names, when it is one of ours."
                    ),
                ),
            ],
            options={
                "table": "ringback_inbox_request",
                "app": "ringback",
                "indexes": [Index(fields=["inbox_id", "id"]), Index(fields=["event_id"])],
                "pk_attr": "id",
                "table_description": "One request as an inbox received it.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Installation",
            fields=[
                ("id", fields.IntField(generated=False, primary_key=True, unique=True, db_index=True)),
                ("epoch", fields.UUIDField()),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "ringback_installation",
                "app": "ringback",
                "pk_attr": "id",
                "table_description": "The one row that tells this database from every other.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Lead",
            fields=[
                (
                    "id",
                    fields.UUIDField(
                        primary_key=True,
                        default=new_key,
                        unique=True,
                        db_index=True,
                        description="The lead's id, lead_….",
                    ),
                ),
                ("name", fields.CharField(description="Name as entered in the form.", max_length=200)),
                ("phone", fields.CharField(description="Phone number as entered in the form.", max_length=64)),
                (
                    "status",
                    fields.CharEnumField(
                        default=LeadStatus.NEW,
                        description="NEW, IN_PROGRESS or DONE.",
                        enum_type=LeadStatus,
                        max_length=16,
                    ),
                ),
                (
                    "comment",
                    fields.TextField(
                        null=True, description="What the manager noted, null while there is nothing.", unique=False
                    ),
                ),
                (
                    "created_at",
                    fields.DatetimeField(
                        description="When the callback was requested.", auto_now=False, auto_now_add=True
                    ),
                ),
                (
                    "updated_at",
                    fields.DatetimeField(
                        description="When the lead was last saved.", auto_now=True, auto_now_add=False
                    ),
                ),
            ],
            options={
                "table": "lead",
                "app": "ringback",
                "pk_attr": "id",
                "table_description": "A callback request that became a lead.",
            },
            bases=["Tracked"],
        ),
        ops.CreateModel(
            name="LogEntry",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                (
                    "kind",
                    fields.CharEnumField(
                        description="EVENT_RECORDED: EVENT_RECORDED\nATTEMPT_FINISHED: ATTEMPT_FINISHED\nRETRY_SCHEDULED: RETRY_SCHEDULED\nEVENT_SUCCEEDED: EVENT_SUCCEEDED\nEVENT_FAILED: EVENT_FAILED\nEVENT_CANCELLED: EVENT_CANCELLED",
                        enum_type=LogKind,
                        max_length=24,
                    ),
                ),
                ("message", fields.TextField(unique=False)),
                ("webhook_id", fields.UUIDField()),
                ("event_id", fields.UUIDField()),
                ("attempt_id", fields.UUIDField(null=True)),
                (
                    "model",
                    fields.CharField(
                        description="The tracked model's name, so that the log can be followed by model.",
                        max_length=100,
                    ),
                ),
            ],
            options={
                "table": "ringback_log",
                "app": "ringback",
                "pk_attr": "id",
                "table_description": "One transition of one event.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="OrderCustomer",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_key, unique=True, db_index=True)),
                (
                    "order",
                    fields.OneToOneField(
                        "ringback.CustomerOrder",
                        source_field="order_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="customer",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("name", fields.CharField(description="The customer's name.", max_length=200)),
                (
                    "phone",
                    fields.CharField(null=True, description="The customer's phone number, if known.", max_length=64),
                ),
                (
                    "email",
                    fields.CharField(null=True, description="The customer's e-mail address, if known.", max_length=254),
                ),
            ],
            options={
                "table": "customer_order_customer",
                "app": "ringback",
                "pk_attr": "id",
                "table_description": "Who placed the order.",
            },
            bases=["Recorded"],
        ),
        ops.CreateModel(
            name="OrderItem",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_key, unique=True, db_index=True)),
                (
                    "order",
                    fields.ForeignKeyField(
                        "ringback.CustomerOrder",
                        source_field="order_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="items",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("position", fields.IntField(description="The line's place in the order, from 0.")),
                ("brand", fields.CharField(description="The part's brand.", max_length=200)),
                ("article", fields.CharField(description="The part's article number.", max_length=200)),
                ("name", fields.CharField(description="The part's name.", max_length=500)),
                ("quantity", fields.IntField(description="How many pieces.")),
                ("price", fields.DecimalField(description="The price of one piece.", max_digits=12, decimal_places=2)),
            ],
            options={
                "table": "customer_order_item",
                "app": "ringback",
                "pk_attr": "id",
                "table_description": "What was ordered, line by line.",
            },
            bases=["Recorded"],
        ),
        ops.CreateModel(
            name="SiteSettings",
            fields=[
                ("id", fields.IntField(generated=False, primary_key=True, unique=True, db_index=True)),
                (
                    "track_leads",
                    fields.BooleanField(
                        default=False, description="Whether callback requests become leads (rule 10 of the design)."
                    ),
                ),
                ("updated_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "site_settings",
                "app": "ringback",
                "pk_attr": "id",
                "table_description": "What an administrator decides for the whole site.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Webhook",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_key, unique=True, db_index=True)),
                ("name", fields.CharField(null=True, max_length=200)),
                ("model", fields.CharField(max_length=100)),
                ("actions", fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
                ("is_active", fields.BooleanField(default=True)),
                (
                    "method",
                    fields.CharEnumField(
                        default=HttpMethod.POST,
                        description="GET: GET\nPOST: POST\nPUT: PUT\nPATCH: PATCH\nDELETE: DELETE",
                        enum_type=HttpMethod,
                        max_length=8,
                    ),
                ),
                ("url", fields.TextField(unique=False)),
                ("send_json", fields.BooleanField(default=False)),
                ("body_template", fields.TextField(default="", unique=False)),
                ("content_type", fields.CharField(null=True, max_length=200)),
                (
                    "headers",
                    fields.JSONField(
                        default=list,
                        description="Pairs of name and value, in the order given.",
                        encoder=JSON_DUMPS,
                        decoder=loads,
                    ),
                ),
                ("condition", fields.TextField(null=True, unique=False)),
                (
                    "retry_delays",
                    fields.JSONField(
                        default=default_retry_delays,
                        description="Seconds, one entry an attempt.",
                        encoder=JSON_DUMPS,
                        decoder=loads,
                    ),
                ),
                ("timeout_seconds", fields.FloatField(default=3.0)),
                (
                    "success_policy",
                    fields.CharEnumField(
                        default=SuccessPolicy.STATUS_200,
                        description="STATUS_200: STATUS_200\nANY_2XX: ANY_2XX",
                        enum_type=SuccessPolicy,
                        max_length=16,
                    ),
                ),
                ("signing_secret", fields.TextField(description="Encrypted (models.secrets).", unique=False)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("updated_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("deleted_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "ringback_webhook",
                "app": "ringback",
                "indexes": [Index(fields=["model", "is_active"])],
                "pk_attr": "id",
                "table_description": "A webhook as an administrator configured it.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Event",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_key, unique=True, db_index=True)),
                (
                    "webhook",
                    fields.ForeignKeyField(
                        "ringback.Webhook",
                        source_field="webhook_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="events",
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "change",
                    fields.ForeignKeyField(
                        "ringback.Change",
                        source_field="change_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name="events",
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("model", fields.CharField(max_length=100)),
                (
                    "action",
                    fields.CharEnumField(
                        description="CREATED: CREATED\nUPDATED: UPDATED\nDELETED: DELETED",
                        enum_type=Action,
                        max_length=8,
                    ),
                ),
                ("object_id", fields.CharField(null=True, max_length=255)),
                ("is_test", fields.BooleanField(default=False)),
                (
                    "test_item",
                    fields.JSONField(
                        null=True,
                        description="What a test-fire sends, a real event has its change's snapshot.",
                        encoder=JSON_DUMPS,
                        decoder=loads,
                    ),
                ),
                (
                    "status",
                    fields.CharEnumField(
                        default=EventStatus.PENDING,
                        description="PENDING: PENDING\nRETRYING: RETRYING\nSUCCEEDED: SUCCEEDED\nFAILED: FAILED\nCANCELLED: CANCELLED",
                        enum_type=EventStatus,
                        max_length=12,
                    ),
                ),
                ("attempt_count", fields.IntField(default=0, description="The number of the last attempt on record.")),
                (
                    "attempts_before_round",
                    fields.IntField(
                        default=0,
                        description="Attempts that the present round of the schedule does not count: earlier rounds, and abandoned ones.",
                    ),
                ),
                (
                    "abandoned_in_a_row",
                    fields.IntField(
                        default=0,
                        description="Attempts in a row that died between sending and recording, five end the event (rule 6).",
                    ),
                ),
                ("max_attempts", fields.IntField()),
                ("next_attempt_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("due_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("lease", fields.UUIDField(null=True, description="Who delivers it now, null while nobody does.")),
                (
                    "lease_begun_at",
                    fields.DatetimeField(
                        null=True,
                        description="When the worker that holds the lease began, from when on its death may lie between sending and recording.",
                        auto_now=False,
                        auto_now_add=False,
                    ),
                ),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("finished_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "ringback_event",
                "app": "ringback",
                "indexes": [
                    Index(fields=["due_at"]),
                    Index(fields=["webhook_id", "id"]),
                    Index(fields=["change_id"]),
                    Index(fields=["status", "id"]),
                    Index(fields=["model", "id"]),
                    Index(fields=["object_id", "id"]),
                ],
                "pk_attr": "id",
                "table_description": "One firing of one webhook, its id is the PS-WEBHOOK_EVENT-ID that the receiver sees.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Attempt",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_key, unique=True, db_index=True)),
                (
                    "event",
                    fields.ForeignKeyField(
                        "ringback.Event",
                        source_field="event_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="attempts",
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "webhook_id",
                    fields.UUIDField(
                        description="The event's webhook, so that a webhook's attempts are listed without a join."
                    ),
                ),
                ("number", fields.IntField()),
                ("started_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("duration_ms", fields.IntField(null=True)),
                (
                    "outcome",
                    fields.CharEnumField(
                        description="DELIVERED: DELIVERED\nREJECTED: REJECTED\nTIMED_OUT: TIMED_OUT\nUNREACHABLE: UNREACHABLE\nTLS_FAILED: TLS_FAILED\nBLOCKED: BLOCKED\nBAD_RESPONSE: BAD_RESPONSE\nRENDER_FAILED: RENDER_FAILED\nABANDONED: ABANDONED",
                        enum_type=OutcomeName,
                        max_length=16,
                    ),
                ),
                ("error", fields.TextField(null=True, unique=False)),
                ("status_code", fields.IntField(null=True)),
                (
                    "request",
                    fields.JSONField(
                        null=True,
                        description="{method, url, headers: [[name, value]], body}, secrets masked, null when nothing was sent.",
                        encoder=JSON_DUMPS,
                        decoder=loads,
                    ),
                ),
                (
                    "response",
                    fields.JSONField(
                        null=True,
                        description="{headers: [[name, value]], body, body_truncated}, null when there was no answer.",
                        encoder=JSON_DUMPS,
                        decoder=loads,
                    ),
                ),
            ],
            options={
                "table": "ringback_attempt",
                "app": "ringback",
                "unique_together": (("event_id", "number"),),
                "indexes": [
                    Index(fields=["webhook_id", "id"]),
                    Index(fields=["outcome", "id"]),
                    Index(fields=["status_code", "id"]),
                ],
                "pk_attr": "id",
                "table_description": "One try to deliver an event: what was sent, what came back, how long it took.",
            },
            bases=["Model"],
        ),
    ]
