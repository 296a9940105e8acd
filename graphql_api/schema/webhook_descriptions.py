"""Descriptions of fields that the type Webhook shares with its inputs."""

NAME = "Display name, at most 200 characters."
ACTIONS = "Actions that create events. At least one."
IS_ACTIVE = "Whether the webhook is active. An inactive webhook creates no events, except by test-fire."
METHOD = "HTTP method. GET and DELETE send no body unless `bodyTemplate` is not empty or `sendJson` is true."
URL = "Target URL, http or https. May contain Liquid. Example: `https://crm.example/leads/{{ item.id }}`."
SEND_JSON = "Whether the body is the whole object as JSON. If true, `bodyTemplate` is ignored."
BODY_TEMPLATE = (
    "Liquid template of the body, at most 64 KiB. The root object is `item`. "
    "Example: `phone={{ item.phone | url_encode }}`."
)
CONTENT_TYPE = (
    "Media type of the body. Null means `application/json` with `sendJson`, otherwise "
    "`application/x-www-form-urlencoded`. The body is sent in its charset. Example: `text/xml; charset=windows-1251`."
)
HEADERS = "Headers to send in addition to Ringback's own. Values may contain Liquid."
CONDITION = (
    "Liquid condition: only changes that meet it create events. Null means every change does. "
    'Example: `item.status == "DONE"`.'
)
RETRY_DELAYS_SECONDS = (
    "Delivery schedule in seconds, one entry per attempt, at most 20: the delay before the first attempt, then from "
    "the end of each attempt to the next. Example: `[5, 240, 480]`."
)
TIMEOUT_SECONDS = "Time limit of a request in seconds, from connecting to reading the whole response. From 0.1 to 30."
SUCCESS_POLICY = "Response statuses that count as success."
MAX_CONCURRENCY = (
    "Maximum number of requests in flight, across all workers, from 1 to 1000. Null means the server's setting. "
    "Example: `10`."
)
RATE_LIMIT_PER_SECOND = (
    "Maximum number of attempts per second, evenly paced, across all workers, from 0.01 to 10000. Null means no limit. "
    "Retries, test-fires and redeliveries count too. Example: `2.5`."
)
