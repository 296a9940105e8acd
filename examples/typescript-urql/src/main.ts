// Test-fires a webhook whose endpoint is busy at first, and follows the delivery to its end.

import type { OperationResult } from "@urql/core";
import { client, socket } from "./clients.js";
import { CreateInboxDocument, CreateWebhookDocument, EventDocument, TestFireDocument } from "./generated.js";
import { follow } from "./log.js";

const responses = [{ statusCode: 503, body: "busy" }, { body: "thank you" }];
const made = await client.mutation(CreateInboxDocument, { input: { name: "urql", responses } });
const inbox = found(made, made.data?.createInbox?.inbox);
console.log(`inbox ${inbox.id}`);

const saved = await client.mutation(CreateWebhookDocument, {
  input: {
    name: "urql",
    model: "lead",
    actions: ["CREATED"],
    url: inbox.url,
    sendJson: true,
    retryDelaysSeconds: [0, 1],
  },
});
const webhook = found(saved, saved.data?.createWebhook?.webhook);
console.log(`webhook ${webhook.id}`);

const log = follow(client, { webhookIds: [webhook.id] });
let next = log.next();
// Over the WebSocket, where operations are taken in turn: the log is being followed before the test is fired.
const fired = await client.mutation(TestFireDocument, { input: { webhookId: webhook.id } }, { overSocket: true });
const { id } = found(fired, fired.data?.testFireWebhook?.event);
console.log(`event ${id}`);

for (let number = 1; ; number += 1, next = log.next()) {
  const { value: entry } = await next;
  console.log(`${entry.kind}: ${entry.message}`);
  if (entry.kind === "EVENT_SUCCEEDED" || entry.kind === "EVENT_FAILED") break;
  if (number === 1) socket.terminate(); // as a network would; the log goes on nevertheless
}
await socket.dispose();

const asked = await client.query(EventDocument, { id });
const event = found(asked, asked.data?.event);
console.log(`${event.status} after ${event.attempts.length} attempts`);
for (const { number, outcome, statusCode, request, response } of event.attempts) {
  console.log(`${number}. ${request?.method} ${request?.body} -> ${outcome} ${statusCode} ${response?.body}`);
}

/** What an answer must hold; throws the answer's errors when it does not. */
function found<T>({ data, error }: OperationResult, object: T | null | undefined): T {
  if (object) return object;
  throw error ?? new Error(JSON.stringify(data));
}
