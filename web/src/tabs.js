// The tabs that the explorer opens with: a tour from a test address to a deleted webhook.
//
// Plain data, so that a test can check every document against the schema: each `query` and each
// `variables` is one template literal without `${…}`, backquote or backslash, and `variables` is JSON
// with `//` comments on lines of their own. The README's walkthrough has the same operations and data.
// A tab's title is the name of its operation.

export const tabs = [
  {
    query: `# 1. Create a test address: an inbox, which stores every request that it receives.
# Run this (the button, or Ctrl-Enter). Later tabs use the inbox's id and url.

mutation CreateInbox($input: CreateInboxInput!) {
  createInbox(input: $input) {
    inbox {
      id
      name
      url
    }
    errors {
      code
      field
      message
    }
  }
}
`,
    variables: `{
  "input": {
    "name": "My first inbox"
  }
}
`,
  },
  {
    query: `# 2. Create a webhook that sends phone and name of each new lead to the inbox.
# Set url to the one that CreateInbox returned. Later tabs use the webhook's id.

mutation CreateWebhook($input: CreateWebhookInput!) {
  createWebhook(input: $input) {
    webhook {
      id
      name
      actions
      isActive
      method
      url
      bodyTemplate
      retryDelaysSeconds
      timeoutSeconds
    }
    signingSecret # shown only once; receivers verify signatures with it
    errors {
      code
      field
      message
    }
  }
}
`,
    variables: `{
  "input": {
    "name": "New leads",
    "model": "lead",
    "actions": ["CREATED"],
    // inbox.url, from CreateInbox.
    "url": "http://…/inbox/…",
    "bodyTemplate": "phone={{ item.phone | url_encode }}&name={{ item.name | url_encode }}"
  }
}
`,
  },
  {
    query: `# 3. Follow the live log, newest entry first. The variables are optional.
# Leaving this tab stops it: duplicate the browser tab, run it there and leave it running.

subscription DeliveryLog($filter: DeliveryLogFilter, $after: String) {
  deliveryLog(filter: $filter, after: $after) {
    message
    at
    kind
    webhook {
      id
      name
    }
    event {
      id
      status
      attemptCount
      nextAttemptAt
    }
    attempt {
      id
      number
      outcome
      statusCode
      durationMs
    }
    cursor
  }
}
`,
    variables: `{
  // null: all webhooks. One webhook: { "webhookIds": ["whk_…"] }
  "filter": null,
  // null: new entries only. A cursor from an earlier entry: everything after it.
  "after": null
}
`,
  },
  {
    query: `# 4. Turn callback requests into leads, and request a callback as the form on the site does.
# The variables need no change. The webhook sends the lead to the inbox 5 seconds later.

mutation RequestCallback($settings: UpdateSiteSettingsInput!, $input: RequestCallbackInput!) {
  updateSiteSettings(input: $settings) {
    siteSettings {
      id
      trackLeads
    }
    errors {
      code
      field
      message
    }
  }
  requestCallback(input: $input) {
    accepted
    lead {
      id
      name
      phone
      status
      createdAt
    }
    errors {
      code
      field
      message
    }
  }
}
`,
    variables: `{
  "settings": {
    "trackLeads": true
  },
  "input": {
    "name": "Мария Иванова",
    "phone": "+7 900 000-00-00"
  }
}
`,
  },
  {
    query: `# 5. Read the requests that the inbox received, newest first.
# Set id to the inbox's id, from CreateInbox. The event's id is needed in the next tab.

query InboxRequests($id: ID!) {
  inbox(id: $id) {
    name
    requests(first: 10) {
      nodes {
        receivedAt
        method
        headers {
          name
          value
        }
        body
        signature
        responseStatusCode
        event {
          id
        }
      }
    }
  }
}
`,
    variables: `{
  // inbox.id, from CreateInbox.
  "id": "inb_…"
}
`,
  },
  {
    query: `# 6. Read an event: the object, and each attempt with its request and response.
# Set id to event.id, from InboxRequests. Receivers get it in the header PS-WEBHOOK_EVENT-ID.

query Event($id: ID!) {
  event(id: $id) {
    id
    webhook {
      id
      name
    }
    action
    objectId
    item
    changedFields
    status
    attemptCount
    maxAttempts
    nextAttemptAt
    createdAt
    finishedAt
    isTest
    attempts {
      id
      number
      startedAt
      durationMs
      outcome
      error
      statusCode
      request {
        method
        url
        headers {
          name
          value
        }
        body
      }
      response {
        headers {
          name
          value
        }
        body
        bodyTruncated
      }
    }
  }
}
`,
    variables: `{
  // event.id, from InboxRequests.
  "id": "evt_…"
}
`,
  },
  {
    query: `# 7. List the webhooks, newest first, each with its newest attempt.
# The variables are optional.

query Webhooks($first: Int! = 20, $filter: WebhookFilter) {
  webhooks(first: $first, filter: $filter) {
    nodes {
      id
      name
      model {
        name
      }
      actions
      isActive
      method
      url
      lastAttempt {
        id
        startedAt
        outcome
        statusCode
      }
    }
    pageInfo {
      hasNextPage
      endCursor
    }
  }
}
`,
    variables: `{
  "first": 20,
  // null: all webhooks. Some: { "search": "leads" }
  "filter": null
}
`,
  },
  {
    query: `# 8. Read the log of one webhook: its newest events and their attempts.
# Set id to the webhook's id, from CreateWebhook or Webhooks.

query WebhookLog($id: ID!) {
  webhook(id: $id) {
    name
    isActive
    events(first: 10) {
      nodes {
        id
        status
        attemptCount
        createdAt
        attempts {
          number
          outcome
          statusCode
          durationMs
          startedAt
        }
      }
    }
  }
}
`,
    variables: `{
  // webhook.id, from CreateWebhook.
  "id": "whk_…"
}
`,
  },
  {
    query: `# 9. Change the webhook: send the whole object as JSON instead of the template.
# Set id to the webhook's id, from CreateWebhook. Fields that you leave out do not change.

mutation UpdateWebhook($input: UpdateWebhookInput!) {
  updateWebhook(input: $input) {
    webhook {
      id
      name
      sendJson
      bodyTemplate
      updatedAt
    }
    errors {
      code
      field
      message
    }
  }
}
`,
    variables: `{
  "input": {
    // webhook.id, from CreateWebhook.
    "id": "whk_…",
    "sendJson": true
  }
}
`,
  },
  {
    query: `# 10. Send a test event at once, with the model's sample object. No lead is created.
# Set webhookId to the webhook's id, from CreateWebhook. The inbox receives JSON now.

mutation TestFireWebhook($input: TestFireWebhookInput!) {
  testFireWebhook(input: $input) {
    event {
      id
      status
      action
      item
      isTest
      createdAt
    }
    errors {
      code
      field
      message
    }
  }
}
`,
    variables: `{
  "input": {
    // webhook.id, from CreateWebhook.
    "webhookId": "whk_…",
    "action": "CREATED"
  }
}
`,
  },
  {
    query: `# 11. Deliver an event again, under the same id.
# Set id to event.id, from InboxRequests, WebhookLog or TestFireWebhook.

mutation RedeliverEvent($id: ID!) {
  redeliverEvent(id: $id) {
    event {
      id
      status
      attemptCount
      maxAttempts
      nextAttemptAt
    }
    errors {
      code
      field
      message
    }
  }
}
`,
    variables: `{
  // event.id, from InboxRequests, WebhookLog or TestFireWebhook.
  "id": "evt_…"
}
`,
  },
  {
    query: `# 12. Delete the webhook. Its events and attempts stay readable.
# Set id to the webhook's id, from CreateWebhook.

mutation DeleteWebhook($id: ID!) {
  deleteWebhook(id: $id) {
    deletedId
    errors {
      code
      field
      message
    }
  }
}
`,
    variables: `{
  // webhook.id, from CreateWebhook.
  "id": "whk_…"
}
`,
  },
];
