// The initial tabs of the explorer: from a test address to a redelivery.
//
// Plain data, so that a test can validate every document against the schema: each `query` and each
// `variables` is one template literal without `${…}`, backquote or backslash, and `variables` is JSON
// with `//` comments on separate lines. The operations are subsets of those in the public contract.
// A tab's title is the name of its operation.

export const tabs = [
  {
    query: `# 1. Make a test address: it answers every request and keeps it for you to read.
# Run this (the button, or Ctrl-Enter), then copy the url: the next tab needs it.
# Lost a tab? Settings (the gear, bottom left), Clear data, then reload the page.

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
    query: `# 2. Make a webhook: each new lead is sent to your test address.
# Put the inbox's url into the variables below, then run.
# The body is a Liquid template; the query webhookModels lists the models and their fields.

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
    signingSecret # shown only now; the receiver checks signatures with it
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
    "name": "New leads to my inbox",
    "model": "lead",
    "actions": ["CREATED"],
    // The url that tab CreateInbox answered.
    "url": "http://…/inbox/…",
    "bodyTemplate": "name={{ item.name | url_encode }}&phone={{ item.phone | url_encode }}"
  }
}
`,
  },
  {
    query: `# 3. Switch callback requests on, and make one, as the form on the site does.
# They become leads only while trackLeads is on.
# The webhook of tab CreateWebhook fires 5 seconds after the lead is stored.

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
    "name": "Ada Lovelace",
    "phone": "+44 20 7946 0958"
  }
}
`,
  },
  {
    query: `# 4. Fire the webhook as a test: at once, with the model's sample, active or not.
# Nothing but the test event is written. Give "item" to send an object of your own.

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
    // webhook.id, from tab CreateWebhook.
    "webhookId": "whk_…",
    "action": "CREATED"
  }
}
`,
  },
  {
    query: `# 5. Follow what happens, live; the newest line is on top.
# Run this and leave it running. Another tab of the explorer stops it, so duplicate the browser tab (the token comes along) and fire the webhook there.

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
  // null: all. One webhook: { "webhookIds": ["whk_…"] }
  "filter": null,
  // null: from now on. Or a cursor: what came after it.
  "after": null
}
`,
  },
  {
    query: `# 6. Look at one event: what was to be sent, and every attempt with its request and its answer.
# The id is in the answers of TestFireWebhook and DeliveryLog, and in the header PS-WEBHOOK_EVENT-ID that the receiver gets.

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
  // event.id, from tab TestFireWebhook or DeliveryLog.
  "id": "evt_…"
}
`,
  },
  {
    query: `# 7. Deliver an event again.
# One that waits for a retry is tried now; one that has ended starts a new round of the webhook's schedule, under the same id.

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
  // event.id, from tab TestFireWebhook, DeliveryLog or Event.
  "id": "evt_…"
}
`,
  },
];
