#!/usr/bin/env bash
# Test-fires a webhook whose endpoint is busy at first, follows the delivery to its end by Server-Sent Events, and
# verifies the signature of what arrived.
set -euo pipefail

url="${RINGBACK_URL:-http://127.0.0.1:8000}/graphql"
authorization="Authorization: Bearer ${RINGBACK_TOKEN:?Set RINGBACK_TOKEN to an API token.}"

request() { # request DOCUMENT VARIABLES: the body of a request
    jq -n --arg query "$1" --argjson variables "$2" '{$query, $variables}'
}

graphql() { # graphql DOCUMENT VARIABLES FILTER: what jq's filter picks from the data; fails with the answer when that is null
    local answer
    answer=$(request "$1" "$2" | curl -sS "$url" -H "$authorization" -H "Content-Type: application/json" -d @-) &&
        [[ -n $answer ]] || { echo "Ringback does not answer at $url. Is it running?" >&2 && return 1; }
    jq -er ".data | $3" <<<"$answer" || { echo "$answer" >&2 && return 1; }
}

follow() { # follow CURSOR: the stream of the webhook's log behind a cursor, or from now on when it is empty
    exec curl -sSNf "$url" -H "$authorization" -H "Content-Type: application/json" -H "Accept: text/event-stream" \
        -d "$(request 'subscription ($filter: DeliveryLogFilter, $after: String) {
            deliveryLog(filter: $filter, after: $after) { cursor kind message } }' \
            "$(jq -n --arg webhook "$webhook" --arg after "$1" \
                '{filter: {webhookIds: [$webhook]}, after: (if $after == "" then null else $after end)}')")"
}

inbox=$(graphql 'mutation ($input: CreateInboxInput!) {
    createInbox(input: $input) { inbox { id url } errors { field message } } }' \
    '{"input": {"name": "curl", "responses": [{"statusCode": 503, "body": "busy"}, {"body": "thank you"}]}}' \
    .createInbox.inbox)
echo "inbox $(jq -r .id <<<"$inbox")"

created=$(graphql 'mutation ($input: CreateWebhookInput!) {
    createWebhook(input: $input) { webhook { id } signingSecret errors { field message } } }' \
    "$(jq '{input: {name: "curl", model: "lead", actions: ["CREATED"], url, sendJson: true, retryDelaysSeconds: [0, 1]}}' \
        <<<"$inbox")" \
    '.createWebhook | select(.webhook)')
webhook=$(jq -r .webhook.id <<<"$created")
echo "webhook $webhook"

# The log without a gap and without a repetition: whatever ends a stream, the next one goes on behind the last cursor.
cursor="" event="" kind=""
until [[ $kind == EVENT_SUCCEEDED || $kind == EVENT_FAILED ]]; do
    exec {stream}< <(follow "$cursor")
    follower=$!
    while read -r -u "$stream" line; do
        if [[ -z $event ]]; then # the first line says that the stream is open
            event=$(graphql 'mutation ($input: TestFireWebhookInput!) {
                testFireWebhook(input: $input) { event { id } errors { field message } } }' \
                "$(jq -n --arg id "$webhook" '{input: {webhookId: $id}}')" '.testFireWebhook.event.id')
            echo "event $event"
        fi
        [[ $line == "data: "* ]] || continue
        entry=${line#data: }
        case $(jq -r '.errors[0].extensions.code // "OK"' <<<"$entry") in
            OK) ;;
            CURSOR_BEHIND) break ;; # this script was too slow, so the server ended the subscription
            *) echo "$entry" >&2 && exit 1 ;;
        esac
        cursor=$(jq -r .data.deliveryLog.cursor <<<"$entry")
        kind=$(jq -r .data.deliveryLog.kind <<<"$entry")
        echo "$kind: $(jq -r .data.deliveryLog.message <<<"$entry")"
        case $kind in
            EVENT_RECORDED) break ;; # leave this stream on purpose, as a network would; the next one misses nothing
            EVENT_SUCCEEDED | EVENT_FAILED) break ;;
        esac
    done
    kill "$follower" 2>/dev/null || true
    wait "$follower" || [[ $? != 22 ]] # 22: the server refused the request, and will do so again
    exec {stream}<&-
    sleep 0.5
done

graphql 'query ($id: ID!) { event(id: $id) {
    status attempts { number outcome statusCode request { method body } response { body } } } }' \
    "$(jq -n --arg id "$event" '{$id}')" \
    '.event | "\(.status) after \(.attempts | length) attempts", (.attempts[] |
        "\(.number). \(.request.method) \(.request.body) -> \(.outcome) \(.statusCode) \(.response.body)")'

# Standard Webhooks: the signature is an HMAC of id, timestamp and body with the bytes of the secret.
received=$(graphql 'query ($id: ID!) {
    inbox(id: $id) { requests(first: 1) { nodes { headers { name value } bodyBase64 } } } }' \
    "$(jq '{id}' <<<"$inbox")" '.inbox.requests.nodes[0]')
header() { jq -r --arg name "$1" '.headers[] | select(.name == $name).value' <<<"$received"; }
key=$(jq -r '.signingSecret | ltrimstr("whsec_")' <<<"$created" | base64 -d | od -An -v -tx1 | tr -d ' \n')
signature=$({ printf '%s.%s.' "$(header webhook-id)" "$(header webhook-timestamp)" &&
    jq -r .bodyBase64 <<<"$received" | base64 -d; } |
    openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)
[[ $(header webhook-signature) == "v1,$signature" ]]
echo "signature verified"
